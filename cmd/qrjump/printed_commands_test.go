package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// printedText is a text that the program says, with where it stands: a key of a catalog, or a file.
type printedText struct{ at, text string }

// printedTexts are all texts that the program says in a language: those of the catalogs, and the literals of its code.
func printedTexts(t *testing.T, language string) (list []printedText) {
	t.Helper()
	list = nil
	var catalogs, sources []string
	for _, pattern := range []string{"locale", "../../internal/*/locale", "../../internal/*/*/locale"} {
		for _, name := range []string{language + ".json", "*." + language + ".json"} {
			found, _ := filepath.Glob(filepath.Join(pattern, name))
			catalogs = append(catalogs, found...)
		}
	}
	for _, pattern := range []string{"*.go", "../../internal/*/*.go", "../../internal/*/*/*.go"} {
		found, _ := filepath.Glob(pattern)
		sources = append(sources, found...)
	}
	require.True(t, len(catalogs) >= 10 && len(sources) >= 300, "%d catalogs and %d files were found", len(catalogs), len(sources))
	for _, name := range catalogs {
		text, err := os.ReadFile(name)
		book := map[string]string{}
		if err == nil {
			err = json.Unmarshal(text, &book)
		}
		require.NoErrorf(t, err, "%v", name)
		for key, text := range book {
			list = append(list, printedText{key, text})
		}
	}
	for _, name := range sources {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "test/") || !strings.Contains(string(text), "qrjump ") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if l, is := n.(*ast.BasicLit); is && l.Kind == token.STRING {
				if tr, err := strconv.Unquote(l.Value); err == nil {
					list = append(list, printedText{filepath.Base(name), tr})
				}
			}
			return true
		})
	}
	slices.SortFunc(list, func(a, b printedText) int { return strings.Compare(a.at+a.text, b.at+b.text) })
	return list
}

// An argument of a printed command: a flag, a placeholder, a number, an address, something in quotes, or one of these words.
var printedArgument = regexp.MustCompile(`^(--?[a-z][a-z0-9-]*(=.*)?|\[--.*\]|-|--|[A-Z][A-Z0-9_:.,…-]*|%.*|[0-9].*|'.*'|` +
	`https?://.*|[./].*|wx.*|all|on|release|reset|true|bash|tea\.example|age1…|[a-z_]+=.*|[a-z]+[A-Z][A-Za-z]+|\+[0-9].*|[a-z]+/[a-z/]+|\{.*\}|[a-z]+_links)$`)

// commandsIn returns the commands that a text prints, each as far as it goes.
func commandsIn(root *kong.Node, text string) (list []string) {
	for i, rest := range strings.Split(text, "qrjump ") {
		if i == 0 {
			continue
		}
		node, words, flag, helps := root, []string{"qrjump"}, (*kong.Flag)(nil), (*kong.Node)(nil)
		for more := true; more && rest != ""; {
			var word string
			word, rest, more = nextWord(rest)
			switch next := childNamed(node, (word)); {
			case word == "":
				more = false
			case next != nil:
				if node, words = next, append(words, word); node.Name == "help" {
					helps = root
				}
			case node == root, len(node.Children) > 0 && node.DefaultCmd == nil:
				node, more = root, false
			case flag != nil, printedArgument.MatchString(word), words[len(words)-1] == "--":
				words, flag = append(words, word), nil
				if i := slices.IndexFunc(node.Flags, func(f *kong.Flag) bool { return "--"+f.Name == word && !f.IsBool() }); i >= 0 {
					flag = node.Flags[i] // the next word is its value
				}
			case helps != nil && (childNamed(helps, word) != nil || slices.Contains(topics, word)):
				words, helps = append(words, word), childNamed(helps, word)
			default:
				more = false
			}
		}
		if node != root && (len(node.Children) == 0 || node.DefaultCmd != nil) {
			list = append(list, strings.Join(words, " "))
		}
	}
	return list
}

// nextWord cuts a word of a shell off; more is false where the command ends with it.
func nextWord(text string) (word, rest string, more bool) {
	quoted := false
	for i, r := range text {
		switch {
		case r == '\'':
			quoted = !quoted
		case quoted:
		case r == ' ':
			word, rest = text[:i], text[i+1:]
			if trimmed := strings.TrimRight(word, ".,;:)"); trimmed != word {
				return trimmed, rest, false
			}
			return word, rest, true
		case r == '\n':
			return strings.TrimRight(text[:i], ".,;:)"), "", false
		case r == '`' || r == '"' || r != '…' && (unicode.Is(unicode.Han, r) || unicode.IsPunct(r) && r > unicode.MaxLatin1):
			return text[:i], "", false
		}
	}
	return strings.TrimRight(text, ".,;:)"), "", false
}

const mini, service, fresh = "wxc0ffee0000000001", "wxc0ffee0000000002", "wxfresh0000000001"

// printedTables are what testdata/printed_commands.txt says of printed commands.
type printedTables struct {
	completed  map[string]string // commands whose text leaves something to its reader, as they are typed
	formats    map[string]string // what the verbs of formats stand for, by the verb of the command line
	unexecuted map[string]string // commands that are not run, with the reason
	expected   map[string]string // commands that do not end with 0 here: their code, and the reason
	places     *strings.Replacer // what stands for something, and what only a reader has, by what is there in the test
}

// endless are the verbs that go on until they are stopped.
var endless = regexp.MustCompile(`^qrjump (serve|listen|cassette (record|replay))\b| --follow\b`)

var formatVerb = regexp.MustCompile(`%(\[[0-9]+\])?(\.0)?[a-z]`)

// listens are addresses of listeners, which are others in a test.
var listens = regexp.MustCompile(`--listen \S+`)

// asTyped returns a printed command as its reader types it.
func (c *copyist) asTyped(m manual, line string) string {
	full, is := c.completed[line]
	node, n, typed := m.Node, 0, strings.Fields(line)[1:]
	for ; n < len(typed) && childNamed(node, typed[n]) != nil; n++ {
		node = childNamed(node, typed[n])
	}
	if !is {
		full = line
		if wants := func(p *kong.Positional) bool { return p.Required }; n == len(typed) &&
			(slices.ContainsFunc(node.Positional, wants) ||
				slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Required })) {
			return c.asTyped(m, m.example(node)) // the verb alone is named
		}
		values := strings.Fields(c.formats[node.Path()])
		full = formatVerb.ReplaceAllStringFunc(line, func(one string) string {
			if strings.Contains(one, ".0") || len(values) == 0 {
				return ""
			}
			value := values[0]
			values = values[1:]
			return value
		})
		if slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == "yes" }) && !strings.Contains(full, " --yes") &&
			!strings.Contains(full, " --dry-run") {
			full += " --yes" // whoever types it is asked
		}
	}
	if full = listens.ReplaceAllString(c.places.Replace(full), "--listen 127.0.0.1:0"); !strings.Contains(full, " --listen ") &&
		regexp.MustCompile("^qrjump cassette (record|replay) ").MatchString(full) {
		full += " --listen 127.0.0.1:0"
	}
	var found []string // replaced in one pass, because a random value may contain another key of c.found
	for _, place := range slices.Backward(slices.Sorted(maps.Keys(c.found))) {
		found = append(found, place, c.found[place])
	}
	return strings.NewReplacer(found...).Replace(full)
}

// split returns the words of a line without anything that only a shell does; false where a shell is needed.
func split(line string) (words []string, ok bool) {
	word, quoted, begun := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case quoted || !strings.ContainsRune(" |<>$&;*\"\\", r):
			word, begun = word+string(r), true
		case r != ' ':
			return nil, false
		case begun:
			words, word, begun = append(words, word), "", false
		}
	}
	return words, true
}

// findings are what commands of the kit say of what they made, by what stands for it.
var findings = map[string]*regexp.Regexp{"KEYID": regexp.MustCompile(`"id": "([0-9a-f]{16})",\n +"key"`),
	"OPENID":   regexp.MustCompile(`(?m)^openid +(o\S{27})$`),
	"REVISION": regexp.MustCompile(`batch approve \S+ (\S+) --isv`),
	"ADMINKEY": regexp.MustCompile(`"key": "(\S+)"`)}

// kit makes what printed commands name, in the folder and on the server; each command gets both as they are then.
func (c *copyist) kit() {
	c.t.Helper()
	for name, text := range map[string]string{"key.txt": "0123456789abcdef\n", "passphrase.txt": "correct-Horse-7-stapler\n",
		"identity.txt": "AGE-SECRET-KEY-10VA2HVRXKKZH90XTLGUWM8U8P64JHUS3WE8LVCLY5M5NT2D3L0ASUR8FU9\n",
		"printer.pub":  "age1sv0ftrwthysqg9y4p7nfatzwmpvt2lc93x6sv9hhyaryjd7jy9xqqvxfvz\n",
		"rules.yaml":   "rules:\n  - {prefix: 'https://tea.example/t/', path: pages/t/t}\n",
		"links.yaml":   "links: {}\n", "shop.yaml": "accounts:\n  - {appid: wxseeded, kind: mini_program}\n",
		"faults.yaml": "faults:\n  - {path: /x, response: {status: 200}}\n",
		"cells.yaml":  "default: a\ncells: {a: {}}\n", "labels.yaml": "batch: 500000001\nrange: 0-39\nout: labels.pdf\n",
		"serials.csv": "serial,index\nA1,0\n", "calls.ndjson": aCassette, "qrjump.yaml": "dev: true\n",
		mini + ".secret": secretOf(mini) + "\n", service + ".secret": secretOf(service) + "\n"} {
		c.writes(name, text)
	}
	authority := filepath.Join(c.dir, "authority")
	require.NoError(c.t, assert.ErrorOf(certificates.OpenAuthority(authority, []string{"localhost"}, time.Now)))
	for name, made := range map[string]string{"tls.crt": "ca.pem", "tls.key": "ca.key"} {
		text, err := os.ReadFile(filepath.Join(authority, "tls", made))
		require.NoError(c.t, err)
		c.writes(name, string(text))
	}
	fill := strings.NewReplacer("MINI", mini, "SERVICE", service, "FRESH", fresh, "HOOK", c.hook(), "SERVER-URL", c.found["URL"])
	for _, row := range testtable.Rows(c.t, "testdata/prepared.txt", 1) {
		line := fill.Replace(row[0])
		out := c.works(strings.ReplaceAll(line, "ADMINKEY", c.found["ADMINKEY"]), c.as(line)...)
		for place, pattern := range findings {
			if found := pattern.FindStringSubmatch(out); found != nil {
				c.found[place] = found[1]
			}
		}
	}
}

// hook is the address of a receiver of webhooks.
func (c *copyist) hook() string {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	c.t.Cleanup(receiver.Close)
	return receiver.URL + "/hook"
}

func secretOf(appid string) string { return "c0ffee000000000000000000000000" + appid[len(appid)-2:] }

// as is the environment that says whose account a command is for.
func (c *copyist) as(line string) []string {
	account := mini
	if strings.HasPrefix(line, "qrjump serve") {
		return []string{"QRJUMP_DATA=served", "QRJUMP_LISTEN=127.0.0.1:0", "QRJUMP_SHUTDOWN_DELAY=0s"}
	}
	if regexp.MustCompile(`^qrjump (batch|code|label|symbol [0-9]|start codes)`).MatchString(line) {
		account = service
	}
	return []string{"QRJUMP_APPID=" + account, "QRJUMP_SECRET=" + secretOf(account)}
}

// finds makes what stands in a command for something that ends with its first use, or with a new state of the server.
func (c *copyist) finds(line string) string {
	made := map[string]func() string{
		"RID": func() string {
			_, _, says := c.types("qrjump rule publish https://none.example/", c.as("")...)
			return regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{8}){2}`).FindString(says)
		},
		"pre_auth_code=CODE": func() string { return "pre_auth_code=" + c.preAuthCode() },
		"pre-auth-code CODE": func() string { return "pre-auth-code " + c.preAuthCode() },
		"undo 17": func() string {
			c.works("qrjump rule edit https://coffee.example/t/ --occupy", c.as("")...)
			list, err := c.operator.Rules.ListChanges(c.t.Context(), "https://coffee.example/t/")
			require.NoError(c.t, err)
			newest := slices.MaxFunc(list, func(a, b client.RuleChange) int { return int(a.Seq - b.Seq) })
			return fmt.Sprint("undo ", newest.Seq)
		},
		"undo 42": func() string {
			c.works("qrjump gs1 set 01/09506000134352 --href 'https://coffee.example/q/{01}' --title Beans")
			list, err := c.operator.AuditLog.List(c.t.Context(), client.ChangesQuery{Kind: "gs1"})
			require.NoError(c.t, err)
			return fmt.Sprint("undo ", list[len(list)-1].Seq)
		},
		"SCANID": func() string {
			d, err := c.operator.Scans.Resolve(c.t.Context(), client.ScanRequest{Text: "https://coffee.example/t/7"})
			require.NoError(c.t, err)
			return d.ScanID
		},
		"TICKET": func() string {
			text, _, _ := strings.Cut(c.read("rows.txt"), "\n")
			d, err := c.operator.Scans.Resolve(c.t.Context(), client.ScanRequest{Text: text[strings.LastIndex(text, " ")+1:],
				User: "alice"})
			require.NoError(c.t, err)
			return regexp.MustCompile(`[0-9a-f]{32}`).FindString(d.Path)
		},
	}
	for place, make := range made {
		if strings.Contains(line, place) {
			line = strings.ReplaceAll(line, place, make())
		}
	}
	return line
}

// wire calls the wire and returns a field of the answer.
func (c *copyist) wire(call string, body map[string]string, field string) string {
	text, err := json.Marshal(body)
	require.NoError(c.t, err)
	answer, err := http.Post(c.found["URL"]+"/cgi-bin/"+call, "application/json", bytes.NewReader(text))
	require.NoError(c.t, err)
	defer answer.Body.Close()
	tr := map[string]any{}
	err = json.NewDecoder(answer.Body).Decode(&tr)
	require.True(c.t, err == nil && tr[field] != nil, "%v %v %v", call, tr, err)
	return fmt.Sprint(tr[field])
}

// preAuthCode is a code with which an account authorizes a third-party platform.
func (c *copyist) preAuthCode() string {
	const platform = "wxc0ffee0000000003"
	ticket, err := c.operator.Emulator.CreateTicket(c.t.Context(), platform)
	require.NoError(c.t, err)
	token := c.wire("component/api_component_token", map[string]string{"component_appid": platform,
		"component_appsecret":     secretOf(platform),
		"component_verify_ticket": ticket}, "component_access_token")
	return c.wire("component/api_create_preauthcode?component_access_token="+token, map[string]string{"component_appid": platform},
		"pre_auth_code")
}

// inKit runs a printed command where it finds what it names.
func (c *copyist) inKit(line string) (code int, out, says string) {
	c.t.Helper()
	at := *c
	at.dir = c.t.TempDir()
	c.t.Chdir(at.dir)
	// The server begins with the state of the kit: a snapshot, and what is in none.
	ctx := c.t.Context()
	_, err := c.operator.Emulator.LoadSnapshot(ctx, "base")
	if strings.Contains(line, "snapshot ") && err == nil {
		_, err = c.operator.Emulator.SaveSnapshot(ctx, "checkout")
	}
	if strings.Contains(line, "alice") && err == nil {
		_, _ = c.operator.People.Delete(ctx, "alice")
		if !strings.Contains(line, "person add") {
			person := client.PersonPut{Name: "alice", Role: "rules-editor", Password: "correct-Horse-7-stapler"}
			_, err = c.operator.People.Create(ctx, person)
		}
	}
	if strings.Contains(line, "scan-key ") && err == nil {
		_ = c.operator.ScanKeys.Delete(ctx, "till")
		if !strings.Contains(line, "scan-key add") {
			_, err = c.operator.ScanKeys.Create(ctx, client.ScanKey{Name: "till"})
		}
	}
	require.NoError(c.t, err)
	names, err := os.ReadDir(c.dir)
	for _, one := range names {
		if err == nil && one.Type().IsRegular() {
			err = os.Link(filepath.Join(c.dir, one.Name()), one.Name())
		} else if err == nil {
			err = os.Symlink(filepath.Join(c.dir, one.Name()), one.Name())
		}
	}
	require.NoError(c.t, err)
	line = c.finds(line)
	env := c.as(line)
	words, plain := split(line)
	switch {
	case endless.MatchString(line):
		return at.interruptibleReader(words, env)
	case !plain || words[1] == "help": // the help ends the process
		return at.types(line, env...)
	}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		c.t.Setenv(name, value)
	}
	var stdout, stderr bytes.Buffer
	in := "correct-Horse-7-stapler\n"
	if strings.Contains(line, "--secret -") {
		in = secretOf(mini)
	}
	code = run(session{ctx: c.t.Context(), in: strings.NewReader(in), out: &stdout, err: &stderr}, words[1:])
	return code, stdout.String(), stderr.String()
}

// interruptibleReader runs a command that goes on, until it says its first line: then it is interrupted.
func (c *copyist) interruptibleReader(words, env []string) (code int, out, says string) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.Env = c.dir, append(slices.Clone(c.env), env...)
	child := proctest.Start(c.t, cmd)
	first := make(chan string)
	go func() {
		line, _ := child.Line()
		first <- line
	}()
	for {
		select {
		case out = <-first:
			_ = cmd.Process.Signal(os.Interrupt)
			rest, _ := io.ReadAll(child.Out)
			_ = cmd.Wait()
			if code = cmd.ProcessState.ExitCode(); code == exitInterrupted {
				code = 0
			}
			return code, out + string(rest), child.Log()
		default: // something happens that it can tell
			_, _ = c.operator.Scans.Resolve(c.t.Context(), client.ScanRequest{Text: "https://coffee.example/t/7"})
			if answer, err := http.Get(c.found["URL"] + "/cgi-bin/token?grant_type=client_credential&appid=none"); err == nil {
				_ = answer.Body.Close()
			}
		}
	}
}

var argumentIndex = regexp.MustCompile(`%\[\d+\]`)

// Both languages print the same commands, so that make test runs only those of the English texts.
func TestEveryPrintedCommand_SameInBothLanguages(t *testing.T) {
	printed := map[string][]string{}
	for _, language := range []string{"en", "zh"} {
		m := reader(language).manual((&session{}).fullManual().Application)
		for _, text := range printedTexts(t, language) {
			lines := commandsIn(m.Node, argumentIndex.ReplaceAllString(text.text, "%"))
			slices.Sort(lines)
			key := language + " " + text.at
			printed[key] = append(printed[key], lines...)
		}
	}
	for key, lines := range printed {
		language, place, _ := strings.Cut(key, " ")
		translation := map[string]string{"en": "zh ", "zh": "en "}[language] + place
		assert.True(t, strings.HasSuffix(place, ".go") || strings.HasSuffix(place, ".one") || slices.Equal(lines, printed[translation]),
			"%s prints %q, want %q as %s does", key, lines, printed[translation], translation)
	}
}

// Every command that a text of the program names is run as it is printed. A new one is run as soon as a text has it.
func TestEveryPrintedCommand_Works(t *testing.T) {
	needs(t, "bash", "cut", "grep", "head", "script", "sed", "tr", "wc")
	archive, err := txtar.ParseFile(filepath.Join("testdata", "printed_commands.txt"))
	require.NoError(t, err)
	files := map[string]map[string]string{}
	var places []string
	for _, file := range archive.Files {
		table := map[string]string{}
		for line := range strings.Lines(string(file.Data)) {
			printed, means, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
			require.True(t, ok, "%s: %q has no =>", file.Name, line)
			if table[printed] = means; file.Name == "places" {
				places = append(places, printed, means)
			}
		}
		files[file.Name] = table
	}
	tables := printedTables{files["completed"], files["formats"], files["unexecuted"], files["expected"], strings.NewReplacer(places...)}
	met := map[string]bool{}
	for _, language := range testscope.Choose([]string{"en", "zh"}, []string{"en"}) {
		t.Run(language, func(t *testing.T) {
			environment(t, nil)
			c := newCopyist(t, language)
			c.printedTables = tables
			c.env = append(c.env, "QRJUMP_CONTEXTS=contexts.yaml", "QRJUMP_PASSPHRASE=correct-Horse-7-stapler") // which a terminal asks for
			for _, entry := range c.env {
				name, value, _ := strings.Cut(entry, "=")
				if strings.HasPrefix(name, "QRJUMP_") {
					t.Setenv(name, value)
				}
				if name == "QRJUMP_SERVER" {
					c.found = map[string]string{"URL": value, "http://127.0.0.1:8080": value}
				}
			}
			c.kit()
			m := reader(language).manual((&session{}).fullManual().Application)
			done := map[string]bool{}
			for _, one := range printedTexts(t, language) {
				lines := commandsIn(m.Node, one.text)
				if strings.HasPrefix(one.at, "help.") && strings.Contains(one.at[5:], ".example") {
					lines = []string{one.text}
				}
				for _, line := range lines {
					full := c.asTyped(m, line)
					met[line] = true
					if done[full] || c.unexecuted[line] != "" {
						continue
					}
					done[full] = true
					code, _, says := c.inKit(full)
					want, _, _ := strings.Cut(c.expected[line], " ")
					if got := strconv.Itoa(code); got != cmp.Or(want, "0") {
						t.Errorf("%s: %s: %s = %s %s, want %s", one.at, line, full, got, says, cmp.Or(want, "0"))
					}
				}
			}
		})
	}
	for _, table := range []map[string]string{tables.completed, tables.unexecuted, tables.expected} {
		for line := range table {
			assert.True(t, met[line], "no text has %s: remove it from the tables", line)
		}
	}
	assert.True(t, len(met) >= 300, "only %d commands were found", len(met))
}
