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

// A Snippet is the code for an SDK on the page of an endpoint in the guide.
type Snippet struct {
	Page  string // such as "qrcodejumpadd"
	Setup string // creates the client, from the page about the five SDKs
	Code  string

	path     string // of the endpoint
	commands string // provide the arguments of the call
}

// Name returns the page's name as an identifier.
func (s Snippet) Name() string {
	return "call_" + regexp.MustCompile(`\W`).ReplaceAllString(s.Page, "_")
}

// Variables are the variables that snippets use and do not define: strings, except application, which is a number.
// Their values are in environment variables, with the names in the page's commands.
var Variables = map[string]string{"application": "APPLICATION", "code": "CODE", "jsCode": "JS_CODE", "openid": "OPENID",
	"refresh": "REFRESH", "rid": "RID", "ticket": "TICKET"}

// Snippets returns the code for an SDK from the English pages: the import lines, and each call.
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
	sdkPage := section(read("sdks"), "## "+sdk)
	imports = block(sdkPage)
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
			t.Fatalf("the page %s does not name the client or the URL of the call", page)
		}
		example := block(section(text, "## Example"))
		s := Snippet{Page: page, Setup: block(section(sdkPage, "### "+kind[1])), Code: block(section(calls, "### "+sdk)), path: path[1]}
		if last := strings.LastIndex("\n"+example, "\ncurl -s "); last > 0 {
			s.commands = example[:last]
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

// section returns the text under a heading, including its subheadings.
func section(text, heading string) string {
	_, body, found := strings.Cut(text, "\n"+heading+"\n")
	if !found {
		return ""
	}
	level, _, _ := strings.Cut(heading, " ")
	end := regexp.MustCompile(fmt.Sprintf(`\n#{2,%d} `, len(level))).FindStringIndex(body)
	if end == nil {
		return body
	}
	return body[:end[0]]
}

// block returns the text of the first code block.
func block(text string) string {
	_, rest, _ := strings.Cut(text, "\n```")
	_, rest, _ = strings.Cut(rest, "\n")
	code, _, _ := strings.Cut(rest, "\n```")
	if code == "" {
		return ""
	}
	return code + "\n"
}

// isolationScript starts a server as api.weixin.qq.com and mp.weixin.qq.com: the names resolve to it, and it listens on port 443.
const isolationScript = `set -u
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

// PlaySnippets runs each snippet against a server after a reset, in a new folder, where some libraries store their token.
// command is a line of bash; the snippet's name is appended. The code calls api.weixin.qq.com without configuration for
// qrjump. It must exit with 0, and the server must answer with errcode 0. prepare runs once, when the certificate exists.
func PlaySnippets(t *testing.T, prepare, command string, list []Snippet, variables ...string) {
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
	probe := exec.Command("unshare", "-rmn", "sh", "-c", "mount --bind /etc/hosts /etc/hosts && ip link set lo up")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("not run: this machine does not allow separate mount and network namespaces: %v: %s", err, out)
	}
	var script strings.Builder
	script.WriteString(isolationScript + prepare + "\n")
	for _, s := range list {
		fmt.Fprintf(&script, "(\n(\nset -eu -o pipefail\ncurl -sf -o reset.json -X POST https://localhost/admin/v1/emulator/reset\n%s\n"+
			"calls %s >%s.before\nmkdir %s\ncd %s\n%s %s\n) >%s.out 2>&1\necho $? >%s.status\ncalls %s >%s.after\n)\n",
			strings.ReplaceAll(s.commands, "http://127.0.0.1:8080", "https://localhost"), s.path, s.Page, s.Page, s.Page, command, s.Name(),
			s.Page, s.Page, s.path, s.Page)
	}
	ctx, cancel := context.WithTimeout(t.Context(), serverTimeout)
	defer cancel()
	// A file: an argument has at most 128 KiB, and each Java command line names all libraries.
	file := filepath.Join(t.TempDir(), "snippets.sh")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "unshare", "-rmn", "bash", file)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Env = slices.Concat(environ(), variables,
		[]string{"PROGRAM=" + binary(t, t.TempDir()), "HOME=" + dir, "NO_PROXY=*", "no_proxy=*"})
	if out, err := cmd.CombinedOutput(); err != nil {
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
		countCalls := func(calls []byte) (total, succeeded int) {
			return bytes.Count(calls, []byte(`"errcode":`)), len(regexp.MustCompile(`"errcode":0\b`).FindAll(calls, -1))
		}
		totalBefore, succeededBefore := countCalls(read(s.Page + ".before"))
		total, succeeded := countCalls(read(s.Page + ".after"))
		total, succeeded = total-totalBefore, succeeded-succeededBefore
		if status != "0" || succeeded <= 0 || total != succeeded {
			t.Errorf("page %s: exit status %s; %d of %d calls of %s succeeded:\n%s\n%s", s.Page, status, succeeded, total, s.path,
				read(s.Page+".out"), s.Code)
		}
	}
}

// GoProgram builds a Go program from snippets and returns its path. The first argument of the program is the snippet's name.
// The test's module must require the SDK.
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
		// A page may show a setup whose app the call does not use.
		fmt.Fprintf(&code, "\nfunc %s() {\n%s_ = app\n%s}\n", s.Name(), s.Setup, s.Code)
	}
	return GoBuild(t, code.String())
}

// GoBuild builds a program of one file in the folder of the test, whose module must require the SDK, and returns its path.
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
