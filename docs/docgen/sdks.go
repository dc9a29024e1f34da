package docgen

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/edge/guide"
)

// sdkText is the entry of an SDK in docs/sdk.yaml.
type sdkText struct {
	Name, Code, Imports string
	Version, Pinned     string // Pinned is the file that specifies the SDK version in the compatibility tests.
	Setup, Post, Own    map[string]string
	Get                 string
}

// sdkSetups lists the kinds of apps that make the calls.
var sdkSetups = []string{"mini", "service", "platform", "component", "authorizer"}

// setupOf returns the kind of app that makes a call.
func setupOf(c guide.Call) string { return cmp.Or(c.SDK, c.Token, "mini") }

// snippet returns the call as source code for the SDK.
func (s sdkText) snippet(c guide.Call, method string) (string, error) {
	code := s.Own[c.Page]
	if code == "" && method == "GET" {
		code = s.Get
	}
	if code == "" {
		kind := cmp.Or(c.Token, "none")
		code = cmp.Or(s.Post[kind], s.Post["mini"])
	}
	code = strings.NewReplacer("{path}", c.Path, "{rest}", strings.TrimPrefix(c.Path, "/")).Replace(code)
	if prev, cursor, has := strings.Cut(code, "{body}"); has {
		line, _, _ := strings.Cut(prev[strings.LastIndex(prev, "\n")+1:]+cursor, "\n")
		body, err := s.literal(c.Body, 125-len(line))
		return prev + body + cursor, err
	}
	return code, nil
}

// sdkVariable matches a value from an earlier response, such as "$JS_CODE".
var sdkVariable = regexp.MustCompile(`"?\$([A-Z_]+)"?`)

// variableName returns the variable name for $NAME in source code: jsCode for $JS_CODE.
func variableName(shell string) string {
	words := strings.Split(strings.ToLower(shell), "_")
	for i := 1; i < len(words); i++ {
		words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
	}
	return strings.Join(words, "")
}

// literal returns a JSON body as a literal in the SDK's language, on one line if the line has room.
func (s sdkText) literal(body string, room int) (string, error) {
	if s.Code == "java" {
		return javaText(body), nil
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
	return form.value(decoder, 0)
}

// javaText returns a body as a Java text block with placeholders for variables.
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

// literalForm is the syntax of object and list literals in a language.
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

// members returns the members of an object or a list, on one line if they fit.
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
		name, err := f.value(d, depth+1)
		if err != nil {
			return "", err
		}
		parts = append(parts, key+name)
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

// snippet is example code for an SDK.
type snippet struct{ Name, Code, Text string }

// sdkSection is the part of a call's page that shows the call in each SDK.
type sdkSection struct {
	Setup string   // The kind of app that makes the call.
	Names []string // The names of values from earlier responses.
	Calls []snippet
}

func (p *press) sdkSection(l language, c guide.Call) (s sdkSection) {
	s.Setup = l.says("sdk." + setupOf(c))
	for _, found := range sdkVariable.FindAllStringSubmatch(c.Body+parameters(c), -1) {
		if name := "`" + variableName(found[1]) + "`"; found[1] != "TOKEN" && !slices.Contains(s.Names, name) {
			s.Names = append(s.Names, name)
		}
	}
	switch setupOf(c) {
	case "component":
		s.Names = append(s.Names, "`ticket`")
	case "authorizer":
		s.Names = append(s.Names, "`ticket`", "`refresh`")
	}
	for _, sdk := range p.sdks {
		text, err := sdk.snippet(c, p.endpoints[c.Path].Method)
		if err != nil {
			p.reportMissing("the body of %s for %s: %w", c.Page, sdk.Name, err)
		}
		s.Calls = append(s.Calls, snippet{sdk.Name, sdk.Code, text})
	}
	return s
}

// sdksPage shows how to create an app with each SDK.
func (p *press) sdksPage(l language) any {
	type shown struct {
		sdkText
		Setups []snippet
	}
	var page []shown
	for _, s := range p.sdks {
		if pins, err := os.ReadFile(filepath.Join(p.root, s.Pinned)); err != nil || !strings.Contains(string(pins), s.Version) {
			p.reportMissing("docs/sdk.yaml has %s %s, and %s another version: %w", s.Name, s.Version, s.Pinned, err)
		}
		thisShown := shown{sdkText: s}
		for _, kind := range sdkSetups {
			thisShown.Setups = append(thisShown.Setups, snippet{l.says("sdk." + kind), s.Code, s.Setup[kind]})
		}
		page = append(page, thisShown)
	}
	return page
}

// clientRow is a line of docs/clients.ndjson, which the compatibility tests write.
type clientRow struct {
	Language, Name, Version, Result, Line string
	SDK                                   bool
}

// clientsPage lists the HTTP clients and the SDKs that were tested under qrjump run.
func (p *press) clientsPage(language) any {
	var page struct {
		Clients, SDKs []clientRow
		Count         map[string]int // Number of HTTP clients per result.
	}
	page.Count = map[string]int{}
	text, err := os.ReadFile(filepath.Join(p.root, "docs/clients.ndjson"))
	for rows := json.NewDecoder(bytes.NewReader(text)); err == nil && rows.More(); {
		var c clientRow
		err = rows.Decode(&c)
		if c.SDK {
			page.SDKs = append(page.SDKs, c)
		} else {
			page.Clients = append(page.Clients, c)
			page.Count[c.Result]++
		}
	}
	if err != nil {
		p.reportMissing("docs/clients.ndjson: %w", err)
	}
	return page
}
