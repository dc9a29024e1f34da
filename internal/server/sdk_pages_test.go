package server_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/api"
)

// sdkText is an SDK of docs/sdk.yaml.
type sdkText struct {
	Name, Code, Imports string
	Version, Pinned     string // Pinned is the file that names the version which compat runs
	Setup, Post, Own    map[string]string
	Get                 string
}

type sdkSetup struct {
	kind string
	name []string
}

// sdkSetups are the kinds of app that the calls are made with, and what each is.
var sdkSetups = []sdkSetup{
	{"mini", []string{"A Mini Program", "小程序"}},
	{"service", []string{"A service account", "服务号"}},
	{"platform", []string{"A third-party platform", "第三方平台"}},
	{"component", []string{"A third-party platform with its ticket", "已有 ticket 的第三方平台"}},
	{"authorizer", []string{"A service account that authorised a platform", "已授权第三方平台的服务号"}},
}

// setup is the kind of app that makes the call.
func (c callText) setup() string { return cmp.Or(c.SDK, c.Token, "mini") }

// snippet is the call as a user of the SDK writes it.
func (s sdkText) snippet(t *testing.T, c callText, method string) string {
	code := s.Own[c.Page]
	if code == "" && method == "GET" {
		code = s.Get
	}
	if code == "" {
		kind := cmp.Or(c.Token, "none")
		code = cmp.Or(s.Post[kind], s.Post["mini"])
	}
	code = strings.NewReplacer("{path}", c.Path, "{rest}", strings.TrimPrefix(c.Path, "/")).Replace(code)
	if before, after, has := strings.Cut(code, "{body}"); has {
		line, _, _ := strings.Cut(before[strings.LastIndex(before, "\n")+1:]+after, "\n")
		code = before + s.literal(t, c.Body, 125-len(line)) + after
	}
	return code
}

// sdkVariable is a value that an earlier answer gave, such as "$JS_CODE".
var sdkVariable = regexp.MustCompile(`"?\$([A-Z_]+)"?`)

// variableName is the name that code gives to $NAME: jsCode for $JS_CODE.
func variableName(shell string) string {
	words := strings.Split(strings.ToLower(shell), "_")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}

// literal is a JSON body as the SDK's language writes it, on one line where that has room.
func (s sdkText) literal(t *testing.T, body string, room int) string {
	if s.Code == "java" {
		return javaText(body)
	}
	marked := sdkVariable.ReplaceAllStringFunc(body, func(found string) string {
		return `"` + "\x00" + variableName(strings.Trim(found, `"$`)) + `"`
	})
	decoder := json.NewDecoder(strings.NewReader(strings.ReplaceAll(marked, "\x00", `\u0000`)))
	decoder.UseNumber()
	forms := map[string]literalForm{
		"js":     {open: "{ ", end: " }", list: "[", listEnd: "]", quote: "'", bareKeys: true, indent: "  "},
		"python": {open: "{", end: "}", list: "[", listEnd: "]", quote: `"`, indent: "    "},
	}
	form, known := forms[s.Code]
	if !known {
		kind := "map[string]any"
		if strings.Contains(s.Imports, "/object\"") {
			kind = "&object.HashMap"
		}
		form = literalForm{open: kind + "{", end: "}", list: "[]string{", listEnd: "}", quote: `"`, indent: "\t"}
	}
	form.room = room
	text, err := form.value(decoder, 0)
	if err != nil {
		t.Errorf("%s: %v", body, err)
	}
	return text
}

// javaText is a body as a text block, into which variables are put.
func javaText(body string) string {
	var names []string
	text := sdkVariable.ReplaceAllStringFunc(body, func(found string) string {
		names = append(names, variableName(strings.Trim(found, `"$`)))
		if strings.HasPrefix(found, `"`) {
			return `"%s"`
		}
		return "%s"
	})
	lines := ""
	width := 0
	for part := range strings.SplitSeq(text, ",\"") {
		if lines != "" {
			lines += ","
			if width+len(part) > 90 {
				lines += "\n     "
				width = 0
			}
			part = "\"" + part
		}
		lines += part
		width += len(part)
	}
	text = "\"\"\"\n    " + lines + "\"\"\""
	if len(names) > 0 {
		text += ".formatted(" + strings.Join(names, ", ") + ")"
	}
	return text
}

// literalForm is how a language writes objects and lists.
type literalForm struct {
	open, end, list, listEnd, quote, indent string
	bareKeys                                bool
	room                                    int
}

func (f literalForm) value(d *json.Decoder, depth int) (string, error) {
	token, err := d.Token()
	if err != nil {
		return "", err
	}
	switch token := token.(type) {
	case json.Delim:
		return f.members(d, token, depth)
	case string:
		if name, is := strings.CutPrefix(token, "\x00"); is {
			return name, nil
		}
		return f.quote + token + f.quote, nil
	default:
		return fmt.Sprint(token), nil
	}
}

// members are those of an object or a list, on one line where they fit.
func (f literalForm) members(d *json.Decoder, kind json.Delim, depth int) (string, error) {
	var parts []string
	for d.More() {
		key := ""
		if kind == '{' {
			token, err := d.Token()
			if err != nil {
				return "", err
			}
			key = token.(string) + ": "
			if !f.bareKeys {
				key = f.quote + token.(string) + f.quote + ": "
			}
		}
		one, err := f.value(d, depth+1)
		if err != nil {
			return "", err
		}
		parts = append(parts, key+one)
	}
	if _, err := d.Token(); err != nil {
		return "", err
	}
	if kind == '[' {
		return f.list + strings.Join(parts, ", ") + f.listEnd, nil
	}
	if len(parts) == 0 {
		return strings.TrimSpace(f.open) + strings.TrimSpace(f.end), nil
	}
	line := strings.Join(parts, ", ")
	if depth > 0 || len(f.open)+len(line)+len(f.end) < min(f.room, 80) {
		return f.open + line + f.end, nil
	}
	var text strings.Builder
	text.WriteString(strings.TrimRight(f.open, " ") + "\n")
	for i := 0; i < len(parts); {
		row := f.indent
		for first := true; i < len(parts) && (first || len(row)+len(parts[i]) < 100); first = false {
			if !first {
				row += " "
			}
			row += parts[i] + ","
			i++
		}
		text.WriteString(row + "\n")
	}
	return text.String() + strings.TrimSpace(f.end), nil
}

// sdkSection is the part of a call's page that shows the call in each SDK.
func sdkSection(t *testing.T, l tongue, c callText, e api.Description, sdks []sdkText) string {
	var b strings.Builder
	setup := sdkSetups[slices.IndexFunc(sdkSetups, func(one sdkSetup) bool { return one.kind == c.setup() })].name
	fmt.Fprintf(&b, "\n## %s\n\n%s\n", l.say("The same call in five SDKs", "五种 SDK 的写法"),
		l.say("`app` is made as [Five SDKs](sdks.md) shows under \""+setup[0]+"\".",
			"`app` 的创建见[五种 SDK](sdks.md)中的“"+setup[1]+"”。"))
	var names []string
	for _, found := range sdkVariable.FindAllStringSubmatch(c.Body+c.parameters(), -1) {
		if name := "`" + variableName(found[1]) + "`"; found[1] != "TOKEN" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch c.setup() {
	case "component":
		names = append(names, "`ticket`")
	case "authorizer":
		names = append(names, "`ticket`", "`refresh`")
	}
	if len(names) > 0 {
		fmt.Fprintf(&b, "%s\n", l.say(strings.Join(names, ", ")+": what the example above asked for before.",
			strings.Join(names, "、")+"：上面示例中先取得的值。"))
	}
	for _, s := range sdks {
		fmt.Fprintf(&b, "\n### %s\n\n```%s\n%s```\n", s.Name, s.Code, s.snippet(t, c, e.Method))
	}
	return b.String()
}

// sdksPage shows how the app of each SDK is made.
func sdksPage(t *testing.T, l tongue, sdks []sdkText) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# %s\n\n%s\n%s\n", l.say("Five SDKs", "五种 SDK"),
		l.say("The pages of calls show each call in five SDKs. This page shows how each of them makes the `app` that calls.",
			"各接口页面给出五种 SDK 的写法，本页说明如何创建其中的 `app`。"),
		l.say("Where an SDK has no method for a call, its general request is shown.", "SDK 没有对应方法的接口，给出其通用请求的写法。"))
	p("%s\n", l.say("The code calls the platform's own address. [Test my SDK](../how/sdk.md) says how that name is led to your server.",
		"代码使用平台的正式域名；如何让该域名指向您的服务器，见[测试我的 SDK](../how/sdk.md)。这些代码都由本项目的测试这样运行过。"))
	for _, s := range sdks {
		if pins, err := os.ReadFile("../../" + s.Pinned); err != nil || !strings.Contains(string(pins), s.Version) {
			t.Errorf("docs/sdk.yaml has %s %s, and %s another version: %v", s.Name, s.Version, s.Pinned, err)
		}
		p("\n## %s\n\n%s\n\n```%s\n%s```\n", s.Name, l.say("Run with version "+s.Version+".", "运行版本："+s.Version+"。"), s.Code,
			s.Imports)
		for _, one := range sdkSetups {
			p("\n### %s\n\n```%s\n%s```\n", l.of(one.name), s.Code, s.Setup[one.kind])
		}
	}
	return b.String()
}
