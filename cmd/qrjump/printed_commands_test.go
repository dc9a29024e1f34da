package main

import (
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

// programText is a text that the program prints. Its source is a key of a catalog, or a file.
type programText struct{ source, text string }

// programTexts returns all texts that the program prints in a language: those of the catalogs, and the literals in the code.
func programTexts(t *testing.T, language string) (list []programText) {
	t.Helper()
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
	require.True(t, len(catalogs) >= 10 && len(sources) >= 300, "found %d catalogs and %d files, want at least 10 and 300",
		len(catalogs), len(sources))
	for _, name := range catalogs {
		text, err := os.ReadFile(name)
		messages := map[string]string{}
		if err == nil {
			err = json.Unmarshal(text, &messages)
		}
		require.NoErrorf(t, err, "%v", name)
		for key, text := range messages {
			list = append(list, programText{key, text})
		}
	}
	for _, name := range sources {
		text := require.Value(os.ReadFile(name))(t)
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "test/") || !strings.Contains(string(text), "qrjump ") {
			continue
		}
		file := require.Value(parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution))(t)
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					list = append(list, programText{filepath.Base(name), text})
				}
			}
			return true
		})
	}
	slices.SortFunc(list, func(a, b programText) int { return strings.Compare(a.source+a.text, b.source+b.text) })
	return list
}

// printedArgument matches an argument of a printed command: a flag, a placeholder, a number, an address, a quoted text, or a known word.
var printedArgument = regexp.MustCompile(`^(--?[a-z][a-z0-9-]*(=.*)?|\[--.*\]|-|--|[A-Z][A-Z0-9_:.,…-]*|%.*|[0-9].*|'.*'|` +
	`https?://.*|[./].*|wx.*|all|on|release|reset|true|bash|tea\.example|age1…|[a-z_]+=.*|[a-z]+[A-Z][A-Za-z]+|\+[0-9].*|` +
	`[a-z]+/[a-z/]+|\{.*\}|[a-z]+_links)$`)

// findCommands returns the commands in a text, each with its arguments.
func findCommands(root *kong.Node, text string) (list []string) {
	for i, rest := range strings.Split(text, "qrjump ") {
		if i == 0 {
			continue
		}
		node, words, flag, helpNode := root, []string{"qrjump"}, (*kong.Flag)(nil), (*kong.Node)(nil)
		for more := true; more && rest != ""; {
			var word string
			word, rest, more = cutWord(rest)
			switch next := childNamed(node, word); {
			case word == "":
				more = false
			case next != nil:
				if node, words = next, append(words, word); node.Name == "help" {
					helpNode = root
				}
			case node == root, len(node.Children) > 0 && node.DefaultCmd == nil:
				node, more = root, false
			case flag != nil, printedArgument.MatchString(word), words[len(words)-1] == "--":
				words, flag = append(words, word), nil
				if i := slices.IndexFunc(node.Flags, func(f *kong.Flag) bool { return "--"+f.Name == word && !f.IsBool() }); i >= 0 {
					flag = node.Flags[i] // the next word is its value
				}
			case helpNode != nil && (childNamed(helpNode, word) != nil || slices.Contains(topics, word)):
				words, helpNode = append(words, word), childNamed(helpNode, word)
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

// cutWord returns the first shell word of a text and the rest. more is false if the command ends after the word.
func cutWord(text string) (word, rest string, more bool) {
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

// printedTables are the tables of testdata/printed_commands.txt.
type printedTables struct {
	completed  map[string]string // incomplete commands, completed as a user types them
	formats    map[string]string // values for formatting verbs, by command
	unexecuted map[string]string // commands that are not run, with the reason
	expected   map[string]string // commands with an exit code other than 0, with the code and the reason
	places     *strings.Replacer // placeholders, with their values in the test
}

// longRunning matches commands that run until they are stopped.
var longRunning = regexp.MustCompile(`^qrjump (serve|listen|cassette (record|replay))\b| --follow\b`)

var formatVerb = regexp.MustCompile(`%(\[[0-9]+\])?(\.0)?[a-z]`)

// listenFlag matches the address of a listener: a test uses a free port.
var listenFlag = regexp.MustCompile(`--listen \S+`)

// completeLine returns a printed command as a user types it.
func (c *shell) completeLine(m manual, line string) string {
	full, ok := c.completed[line]
	node, n, typed := m.Node, 0, strings.Fields(line)[1:]
	for ; n < len(typed) && childNamed(node, typed[n]) != nil; n++ {
		node = childNamed(node, typed[n])
	}
	if !ok {
		full = line
		if n == len(typed) && (slices.ContainsFunc(node.Positional, func(p *kong.Positional) bool { return p.Required }) ||
			slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Required })) {
			return c.completeLine(m, m.example(node)) // the text has only the name of the command
		}
		values := strings.Fields(c.formats[node.Path()])
		full = formatVerb.ReplaceAllStringFunc(line, func(verb string) string {
			if strings.Contains(verb, ".0") || len(values) == 0 {
				return ""
			}
			value := values[0]
			values = values[1:]
			return value
		})
		if slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == "yes" }) && !strings.Contains(full, " --yes") &&
			!strings.Contains(full, " --dry-run") {
			full += " --yes" // a user confirms at the terminal
		}
	}
	if full = listenFlag.ReplaceAllString(c.places.Replace(full), "--listen 127.0.0.1:0"); !strings.Contains(full, " --listen ") &&
		regexp.MustCompile("^qrjump cassette (record|replay) ").MatchString(full) {
		full += " --listen 127.0.0.1:0"
	}
	var pairs []string // replaced in one pass, because a random value may contain another key of c.vars
	for _, place := range slices.Backward(slices.Sorted(maps.Keys(c.vars))) {
		pairs = append(pairs, place, c.vars[place])
	}
	return strings.NewReplacer(pairs...).Replace(full)
}

// splitWords splits a line into words. ok is false if the line needs a shell.
func splitWords(line string) (words []string, ok bool) {
	word, quoted, inWord := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, inWord = !quoted, true
		case quoted || !strings.ContainsRune(" |<>$&;*\"\\", r):
			word, inWord = word+string(r), true
		case r != ' ':
			return nil, false
		case inWord:
			words, word, inWord = append(words, word), "", false
		}
	}
	return words, true
}

// outputPatterns match values of placeholders in the output of the commands of createFixture, by placeholder.
var outputPatterns = map[string]*regexp.Regexp{"KEYID": regexp.MustCompile(`"id": "([0-9a-f]{16})",\n +"key"`),
	"OPENID":   regexp.MustCompile(`(?m)^openid +(o\S{27})$`),
	"REVISION": regexp.MustCompile(`batch approve \S+ (\S+) --isv`),
	"ADMINKEY": regexp.MustCompile(`"key": "(\S+)"`)}

// createFixture creates the files and server objects that printed commands name. Every printed command starts from this state.
func (c *shell) createFixture() {
	c.t.Helper()
	for name, text := range map[string]string{"key.txt": "0123456789abcdef\n", "passphrase.txt": "correct-Horse-7-stapler\n",
		"identity.txt": "AGE-SECRET-KEY-10VA2HVRXKKZH90XTLGUWM8U8P64JHUS3WE8LVCLY5M5NT2D3L0ASUR8FU9\n",
		"printer.pub":  "age1sv0ftrwthysqg9y4p7nfatzwmpvt2lc93x6sv9hhyaryjd7jy9xqqvxfvz\n",
		"rules.yaml":   "rules:\n  - {prefix: 'https://tea.example/t/', path: pages/t/t}\n",
		"links.yaml":   "gs1: []\n", "shop.yaml": "accounts:\n  - {appid: wxseeded, kind: mini_program}\n",
		"faults.yaml": "faults:\n  - {path: /x, response: {status: 200}}\n",
		"cells.yaml":  "default: a\ncells: {a: {}}\n", "labels.yaml": "batch: 500000001\nrange: 0-39\nout: labels.pdf\n",
		"serials.csv": "serial,index\nA1,0\n", "calls.ndjson": sampleCassette, "qrjump.yaml": "dev: true\n",
		mini + ".secret": secretFor(mini) + "\n", service + ".secret": secretFor(service) + "\n"} {
		c.writeFile(name, text)
	}
	authority := filepath.Join(c.dir, "authority")
	require.NoError(c.t, assert.ErrorOf(certificates.OpenAuthority(authority, []string{"localhost"}, time.Now)))
	for name, source := range map[string]string{"tls.crt": "ca.pem", "tls.key": "ca.key"} {
		text := require.Value(os.ReadFile(filepath.Join(authority, "tls", source)))(c.t)
		c.writeFile(name, string(text))
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) // of webhooks
	c.t.Cleanup(receiver.Close)
	fill := strings.NewReplacer("MINI", mini, "SERVICE", service, "FRESH", fresh, "HOOK", receiver.URL+"/hook", "SERVER-URL", c.vars["URL"])
	for _, row := range testtable.Rows(c.t, "testdata/prepared.txt", 1) {
		line := fill.Replace(row[0])
		out := c.mustRun(strings.ReplaceAll(line, "ADMINKEY", c.vars["ADMINKEY"]), c.accountEnv(line)...)
		for place, pattern := range outputPatterns {
			if match := pattern.FindStringSubmatch(out); match != nil {
				c.vars[place] = match[1]
			}
		}
	}
}

func secretFor(appid string) string { return "c0ffee000000000000000000000000" + appid[len(appid)-2:] }

// accountEnv returns the environment of a command, with the credentials of its account.
func (c *shell) accountEnv(line string) []string {
	account := mini
	if strings.HasPrefix(line, "qrjump serve") {
		return []string{"QRJUMP_DATA=served", "QRJUMP_LISTEN=127.0.0.1:0", "QRJUMP_SHUTDOWN_DELAY=0s"}
	}
	if regexp.MustCompile(`^qrjump (batch|code|label|symbol [0-9]|start codes)`).MatchString(line) {
		account = service
	}
	return []string{"QRJUMP_APPID=" + account, "QRJUMP_SECRET=" + secretFor(account)}
}

// resolvePlaceholders replaces placeholders for objects that can be used once, or that a reset of the server deletes. It creates them.
func (c *shell) resolvePlaceholders(line string) string {
	create := map[string]func() string{
		"RID": func() string {
			_, _, errs := c.run("qrjump rule publish https://none.example/", c.accountEnv("")...)
			return regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{8}){2}`).FindString(errs)
		},
		"pre_auth_code=CODE": func() string { return "pre_auth_code=" + c.preAuthCode() },
		"pre-auth-code CODE": func() string { return "pre-auth-code " + c.preAuthCode() },
		"undo 17": func() string {
			c.mustRun("qrjump rule edit https://coffee.example/t/ --occupy", c.accountEnv("")...)
			list := require.Value(c.operator.Rules.ListChanges(c.t.Context(), "https://coffee.example/t/"))(c.t)
			newest := slices.MaxFunc(list, func(a, b client.RuleChange) int { return int(a.Seq - b.Seq) })
			return fmt.Sprint("undo ", newest.Seq)
		},
		"undo 42": func() string {
			c.mustRun("qrjump gs1 set 01/09506000134352 --href 'https://coffee.example/q/{01}' --title Beans")
			list := require.Value(c.operator.AuditLog.List(c.t.Context(), client.ChangesQuery{Kind: "gs1"}))(c.t)
			return fmt.Sprint("undo ", list[len(list)-1].Seq)
		},
		"SCANID": func() string {
			d := require.Value(c.operator.Scans.Resolve(c.t.Context(), client.ScanRequest{Text: "https://coffee.example/t/7"}))(c.t)
			return d.ScanID
		},
		"TICKET": func() string {
			text, _, _ := strings.Cut(c.readFile("rows.txt"), "\n")
			d := require.Value(c.operator.Scans.Resolve(c.t.Context(), client.ScanRequest{Text: text[strings.LastIndex(text, " ")+1:],
				User: "alice"}))(c.t)
			return regexp.MustCompile(`[0-9a-f]{32}`).FindString(d.Path)
		},
	}
	for place, value := range create {
		if strings.Contains(line, place) {
			line = strings.ReplaceAll(line, place, value())
		}
	}
	return line
}

// preAuthCode returns a code with which an account authorizes a third-party platform.
func (c *shell) preAuthCode() string {
	const platform = "wxc0ffee0000000003"
	ticket := require.Value(c.operator.Emulator.CreateTicket(c.t.Context(), platform))(c.t)
	return requestPreAuthCode(c.t, c.vars["URL"], platform, secretFor(platform), ticket)
}

// runInFixture runs a printed command in the state of createFixture: in a copy of the folder, on a server with its objects.
func (c *shell) runInFixture(line string) (code int, out, errs string) {
	c.t.Helper()
	sub := *c
	sub.dir = c.t.TempDir()
	c.t.Chdir(sub.dir)
	// A snapshot restores the objects of the server, except people and scan keys, which no snapshot contains.
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
	for _, entry := range names {
		if err == nil && entry.Type().IsRegular() {
			err = os.Link(filepath.Join(c.dir, entry.Name()), entry.Name())
		} else if err == nil {
			err = os.Symlink(filepath.Join(c.dir, entry.Name()), entry.Name())
		}
	}
	require.NoError(c.t, err)
	line = c.resolvePlaceholders(line)
	env := c.accountEnv(line)
	words, ok := splitWords(line)
	switch {
	case longRunning.MatchString(line):
		return sub.runUntilOutput(words, env)
	case !ok || words[1] == "help": // the help ends the process
		return sub.run(line, env...)
	}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		c.t.Setenv(name, value)
	}
	input := "correct-Horse-7-stapler\n"
	if strings.Contains(line, "--secret -") {
		input = secretFor(mini)
	}
	return commandWithInput(c.t.Context(), input, words[1:]...)
}

// runUntilOutput runs a command and interrupts it after its first line of output. Meanwhile it makes scans and calls, which a command may
// print. The exit code of an interruption counts as 0.
func (c *shell) runUntilOutput(words, env []string) (code int, out, errs string) {
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
		default:
			_, _ = c.operator.Scans.Resolve(c.t.Context(), client.ScanRequest{Text: "https://coffee.example/t/7"})
			if resp, err := http.Get(c.vars["URL"] + "/cgi-bin/token?grant_type=client_credential&appid=none"); err == nil {
				_ = resp.Body.Close()
			}
		}
	}
}

var argumentIndex = regexp.MustCompile(`%\[\d+\]`)

// TestEveryPrintedCommand_SameInBothLanguages verifies that both languages print the same commands, because make test runs only the English
// ones.
func TestEveryPrintedCommand_SameInBothLanguages(t *testing.T) {
	printed := map[string][]string{}
	for _, language := range []string{"en", "zh"} {
		m := reader(language).manual((&session{}).fullManual().Application)
		for _, text := range programTexts(t, language) {
			lines := findCommands(m.Node, argumentIndex.ReplaceAllString(text.text, "%"))
			slices.Sort(lines)
			key := language + " " + text.source
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

// TestEveryPrintedCommand_Works runs every command in a text of the program as it is printed, with values for its placeholders.
func TestEveryPrintedCommand_Works(t *testing.T) {
	requirePrograms(t, "bash", "cut", "grep", "head", "script", "sed", "tr", "wc")
	archive := require.Value(txtar.ParseFile(filepath.Join("testdata", "printed_commands.txt")))(t)
	files := map[string]map[string]string{}
	var places []string
	for _, file := range archive.Files {
		table := map[string]string{}
		for line := range strings.Lines(string(file.Data)) {
			printed, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
			require.True(t, ok, "%s: %q has no =>", file.Name, line)
			if table[printed] = value; file.Name == "places" {
				places = append(places, printed, value)
			}
		}
		files[file.Name] = table
	}
	tables := printedTables{files["completed"], files["formats"], files["unexecuted"], files["expected"], strings.NewReplacer(places...)}
	seen := map[string]bool{}
	for _, language := range testscope.Select([]string{"en", "zh"}, []string{"en"}) {
		t.Run(language, func(t *testing.T) {
			setEnvironment(t, nil)
			c := newShell(t, language)
			c.printedTables = tables
			c.env = append(c.env, "QRJUMP_CONTEXTS=contexts.yaml", "QRJUMP_PASSPHRASE=correct-Horse-7-stapler") // asked on a terminal
			for _, entry := range c.env {
				name, value, _ := strings.Cut(entry, "=")
				if strings.HasPrefix(name, "QRJUMP_") {
					t.Setenv(name, value)
				}
				if name == "QRJUMP_SERVER" {
					c.vars = map[string]string{"URL": value, "http://127.0.0.1:8080": value}
				}
			}
			c.createFixture()
			m := reader(language).manual((&session{}).fullManual().Application)
			done := map[string]bool{}
			for _, text := range programTexts(t, language) {
				lines := findCommands(m.Node, text.text)
				if strings.HasPrefix(text.source, "help.") && strings.Contains(text.source[5:], ".example") {
					lines = []string{text.text}
				}
				for _, line := range lines {
					full := c.completeLine(m, line)
					seen[line] = true
					if done[full] || c.unexecuted[line] != "" {
						continue
					}
					done[full] = true
					code, _, errs := c.runInFixture(full)
					want, _, _ := strings.Cut(c.expected[line], " ")
					if got := strconv.Itoa(code); got != cmp.Or(want, "0") {
						t.Errorf("%s: %s: %s: exit %s, want %s: %s", text.source, line, full, got, cmp.Or(want, "0"), errs)
					}
				}
			}
		})
	}
	for _, table := range []map[string]string{tables.completed, tables.unexecuted, tables.expected} {
		for line := range table {
			assert.True(t, seen[line], "no text has %s: remove it from printed_commands.txt", line)
		}
	}
	assert.True(t, len(seen) >= 300, "the texts have %d commands, want at least 300", len(seen))
}
