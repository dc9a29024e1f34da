package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Snippet is a call as the page of the guide shows it for an SDK.
type Snippet struct {
	Page  string // such as "qrcodejumpadd"
	Setup string // makes what calls, from the page about the five SDKs
	Code  string

	path   string
	before string // commands that ask for what the call needs
}

// Name is the page's name as a program can write it.
func (s Snippet) Name() string {
	return "call_" + regexp.MustCompile(`\W`).ReplaceAllString(s.Page, "_")
}

// Variables are what the snippets use and do not make: text, but for application, which is a number.
// Their values are in the environment, by the names of the page's commands.
var Variables = map[string]string{"application": "APPLICATION", "code": "CODE", "jsCode": "JS_CODE", "openid": "OPENID",
	"refresh": "REFRESH", "rid": "RID", "ticket": "TICKET"}

// Snippets reads what the English pages show for an SDK: the lines of import, and each call.
func Snippets(t *testing.T, sdk string) (imports string, list []Snippet) {
	t.Helper()
	dir := filepath.Join(repository(t), "docs", "en", "calls")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name+".md"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	about := section(read("sdks"), "## "+sdk)
	imports = block(about)
	names, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		page := strings.TrimSuffix(filepath.Base(name), ".md")
		if page == "sdks" || page == "every-call" || page == "not-offered" {
			continue
		}
		text := read(page)
		calls := section(text, "## The same call in five SDKs")
		kind := regexp.MustCompile(`under "([^"]+)"`).FindStringSubmatch(calls)
		path := regexp.MustCompile(`(?:GET|POST) https://SERVER([^\s?]+)`).FindStringSubmatch(text)
		if kind == nil || path == nil {
			t.Fatalf("the page %s says not what makes the call, or not where it goes", page)
		}
		example := block(section(text, "## Example"))
		s := Snippet{Page: page, Setup: block(section(about, "### "+kind[1])), Code: block(section(calls, "### "+sdk)), path: path[1]}
		if last := strings.LastIndex("\n"+example, "\ncurl -s "); last > 0 {
			s.before = example[:last]
		}
		if s.Setup == "" || s.Code == "" || example == "" {
			t.Fatalf("the page %s has no example for %s", page, sdk)
		}
		list = append(list, s)
	}
	if imports == "" || len(list) < 30 {
		t.Fatalf("%s: %d calls", sdk, len(list))
	}
	return imports, list
}

// section is what stands under a heading, with the headings below it.
func section(text, heading string) string {
	_, after, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		return ""
	}
	level, _, _ := strings.Cut(heading, " ")
	end := regexp.MustCompile(fmt.Sprintf(`\n#{2,%d} `, len(level))).FindStringIndex(after)
	if end == nil {
		return after
	}
	return after[:end[0]]
}

// block is the text of the first block.
func block(text string) string {
	_, after, _ := strings.Cut(text, "\n```")
	_, after, _ = strings.Cut(after, "\n")
	inside, _, _ := strings.Cut(after, "\n```")
	if inside == "" {
		return ""
	}
	return inside + "\n"
}

// apart runs a script where api.weixin.qq.com and mp.weixin.qq.com are a server of its own: the names lead to it, and port 443 is its.
const apart = `set -u
mount --bind hosts /etc/hosts && ip link set lo up || exit 90
"$PROGRAM" serve --dev --tls-dev --listen 127.0.0.1:443 --data data >ready 2>server.log &
server=$!
trap 'kill $server; wait $server' EXIT
until grep -q ready ready; do kill -0 $server || { cat server.log; exit 91; }; read -t 0.05 <> <(:) || :; done
export CA=$PWD/data/tls/ca.pem
export CURL_CA_BUNDLE=$CA SSL_CERT_FILE=$CA NODE_EXTRA_CA_CERTS=$CA REQUESTS_CA_BUNDLE=$CA
export APPLICATION=0 CODE= JS_CODE= OPENID= REFRESH= RID= TICKET=
calls() { curl -sf "https://localhost/admin/v1/emulator/calls?limit=1000&path=$1"; }
`

// PlaySnippets runs each snippet on a server that begins anew and in a folder of its own, where some libraries keep
// their token: by command, a line of bash that gets the snippet's name behind it. The code calls the platform's own
// address and knows nothing of the server. Each must end well, and the server must have answered its call with 0.
// The command prepare is run once, when the server's certificate is there.
func PlaySnippets(t *testing.T, prepare, command string, list []Snippet, environ ...string) {
	t.Helper()
	dir := t.TempDir()
	hosts, err := os.ReadFile("/etc/hosts")
	if err == nil {
		hosts = append(hosts, "\n127.0.0.1 api.weixin.qq.com mp.weixin.qq.com\n"...)
		err = os.WriteFile(filepath.Join(dir, "hosts"), hosts, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	try := exec.Command("unshare", "-rmn", "sh", "-c", "mount --bind /etc/hosts /etc/hosts && ip link set lo up")
	if out, err := try.CombinedOutput(); err != nil {
		t.Skipf("not run: a process cannot have hosts and a network of its own here: %v: %s", err, out)
	}
	var script strings.Builder
	script.WriteString(apart + prepare + "\n")
	for _, s := range list {
		fmt.Fprintf(&script, "(\n(\nset -eu -o pipefail\ncurl -sf -o reset.json -X POST https://localhost/admin/v1/emulator/reset\n%s\n"+
			"calls %s >%s.before\nmkdir %s\ncd %s\n%s %s\n) >%s.out 2>&1\necho $? >%s.status\ncalls %s >%s.after\n)\n",
			strings.ReplaceAll(s.before, "http://127.0.0.1:8080", "https://localhost"), s.path, s.Page, s.Page, s.Page, command, s.Name(),
			s.Page, s.Page, s.path, s.Page)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// A file, because an argument has 128 KiB at most, and each line of Java names all libraries.
	file := filepath.Join(t.TempDir(), "snippets.sh")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	play := exec.CommandContext(ctx, "unshare", "-rmn", "bash", file)
	play.Dir = dir
	play.Cancel = func() error { return play.Process.Signal(os.Interrupt) }
	play.WaitDelay = time.Minute
	play.Env = slices.Concat(foreignEnviron(), environ,
		[]string{"PROGRAM=" + binary(t, t.TempDir()), "HOME=" + dir, "NO_PROXY=*", "no_proxy=*"})
	if out, err := play.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return text
	}
	for _, s := range list {
		status := strings.TrimSpace(string(read(s.Page + ".status")))
		answered := func(calls []byte) (all, well int) {
			return bytes.Count(calls, []byte(`"errcode":`)), len(regexp.MustCompile(`"errcode":0\b`).FindAll(calls, -1))
		}
		all, well := answered(read(s.Page + ".before"))
		allNow, wellNow := answered(read(s.Page + ".after"))
		if status != "0" || wellNow <= well || allNow-all != wellNow-well {
			t.Errorf("the call of the page %s ends with %s, and the server answered %d of its %d calls of %s well:\n%s\n%s", s.Page, status,
				wellNow-well, allNow-all, s.path, read(s.Page+".out"), s.Code)
		}
	}
}

// GoProgram builds a program of snippets in Go, in the folder of the test, whose module knows the SDK: the first argument
// names the snippet. It returns the program.
func GoProgram(t *testing.T, imports string, list []Snippet) string {
	t.Helper()
	var code strings.Builder
	code.WriteString("package main\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\n" + imports + "\n")
	for name, variable := range Variables {
		if name != "application" {
			fmt.Fprintf(&code, "var %s = os.Getenv(%q)\n", name, variable)
		}
	}
	code.WriteString("var application, _ = strconv.Atoi(os.Getenv(\"APPLICATION\"))\n\nfunc main() {\n\tswitch os.Args[1] {\n")
	for _, s := range list {
		fmt.Fprintf(&code, "\tcase %q:\n\t\t%s()\n", s.Name(), s.Name())
	}
	code.WriteString("\t}\n}\n")
	for _, s := range list {
		// A setup whose app the call does not use is not an error of the page.
		fmt.Fprintf(&code, "\nfunc %s() {\n%s_ = app\n%s}\n", s.Name(), s.Setup, s.Code)
	}
	return GoBuild(t, code.String())
}

// GoBuild builds a program of one file in the folder of the test, whose module knows the SDK, and returns the program.
func GoBuild(t *testing.T, code string) string {
	t.Helper()
	dir, err := os.MkdirTemp(".", "snippets")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "snippets")
	if out, err := exec.Command("go", "build", "-o", program, "./"+dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, code)
	}
	return program
}
