package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A Client is a program that calls api.weixin.qq.com with an HTTP client or an SDK, without configuration for qrjump.
type Client struct {
	Language, Name, Version string
	SDK                     bool

	Command []string // prints a token and, unless it is an SDK, the response of qrcodejumpget
	Prints  string   // the expected output of a client that cannot print those
	Line    string   // the extra line of code that a client needs if it ignores the proxy or has built-in root certificates
	ByLine  []string // Command with the extra line
}

// A row is a line of docs/clients.ndjson, from which the guide's page "HTTP clients and SDKs" is generated.
type row struct {
	Language string `json:"language"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	SDK      bool   `json:"sdk,omitempty"`
	Result   string `json:"result"`
	Line     string `json:"line,omitempty"`
}

func (r row) key() string { return fmt.Sprint(r.SDK, "\t", r.Language, "\t", r.Name) }

// Scripts for a network namespace without external access, with the hosts file of the machine: only `qrjump run` or the
// extra line can redirect a program to the server.
const (
	userScript = `ip link set lo up && exec unshare --user --map-user=1000 --map-group=1000 "$@"`
	rootScript = `ip link set lo up && exec "$@"`
)

// Lines runs the clients in the folder dir with `qrjump run`, as described on the guide's page "Test my SDK": each as an ordinary
// user, those that do not reach the server also as root and with --isolate, and those with an extra line also with it. The
// results must be equal to docs/clients.ndjson; with QRJUMP_UPDATE the file is updated instead.
func Lines(t *testing.T, dir string, clients ...Client) {
	t.Helper()
	probe := exec.Command("unshare", "-rn", "sh", "-c", userScript, "sh", "true")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("not run: this machine does not allow a separate network namespace: %v: %s", err, out)
	}
	commands, retries, byLine := make([][]string, len(clients)), make([][]string, len(clients)), make([][]string, len(clients))
	for i, c := range clients {
		commands[i], byLine[i] = c.Command, c.ByLine
	}
	user := runLine(t, dir, userScript, nil, clients, commands)
	for i, c := range clients {
		if user[i] != nil {
			t.Logf("%s as an ordinary user: %v", c.Name, user[i])
			retries[i] = c.Command
		}
	}
	root := runLine(t, dir, rootScript, nil, clients, retries)
	isolated := runLine(t, dir, userScript, []string{"--isolate"}, clients, retries)
	line := runLine(t, dir, userScript, nil, clients, byLine)
	var rows []row
	for i, c := range clients {
		r := row{Language: c.Language, Name: c.Name, Version: c.Version, SDK: c.SDK, Line: c.Line}
		switch {
		case user[i] == nil:
			r.Result = "works"
		case root[i] == nil && isolated[i] == nil:
			r.Result = "works as root"
		case c.Line != "":
			r.Result = "needs a line"
		default:
			t.Errorf("%s does not reach the server.\nAs a user: %v\nAs root: %v\nWith --isolate: %v", c.Name, user[i], root[i], isolated[i])
			continue
		}
		if line[i] != nil {
			t.Errorf("%s does not reach the server with its extra line: %v", c.Name, line[i])
			continue
		}
		rows = append(rows, r)
	}
	checkRows(t, rows)
}

// runLine runs the non-nil commands with one `qrjump run`, and returns an error for each that did not reach the server.
func runLine(t *testing.T, dir, shell string, flags []string, clients []Client, commands [][]string) []error {
	t.Helper()
	errs := make([]error, len(commands))
	const separator = "\n-- the client's status: "
	var script strings.Builder
	for _, command := range commands {
		if command == nil {
			continue
		}
		script.WriteString("timeout 60")
		for _, word := range command {
			script.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
		}
		fmt.Fprintf(&script, " </dev/null 2>&1; printf '%s%%s\\n' $?\n", strings.ReplaceAll(separator, "'", `'\''`))
	}
	if script.Len() == 0 {
		return errs
	}
	ctx, cancel := context.WithTimeout(t.Context(), serverTimeout)
	defer cancel()
	args := append([]string{"-rn", "sh", "-c", shell, "sh", binary(t, t.TempDir()), "run", "--set", "rule_rate_limit=unlimited"}, flags...)
	cmd := exec.CommandContext(ctx, "unshare", append(args, "--", "sh", "-c", script.String())...)
	cmd.Dir = dir
	cmd.Env = append(environ(), "HOME="+t.TempDir())
	for _, variable := range Variables {
		cmd.Env = append(cmd.Env, variable+"=0")
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("qrjump run %q: %v\n%s", flags, err, out)
	}
	text := string(out)
	for i, command := range commands {
		if command == nil {
			continue
		}
		output, rest, _ := strings.Cut(text, separator)
		status, rest, _ := strings.Cut(rest, "\n")
		text = rest
		ok := status == "0" && token.MatchString(output) && (clients[i].SDK || strings.Contains(output, `"qrcodejump_open":1`))
		if want := clients[i].Prints; want != "" {
			ok = strings.Contains(output, want)
		}
		if !ok {
			errs[i] = fmt.Errorf("status %s: %s", status, output)
		}
	}
	return errs
}

// token matches an access token, which a program can get only from the server.
var token = regexp.MustCompile(`\b[0-9]+_[\w-]{100,}`)

// checkRows compares rows with docs/clients.ndjson, except for the versions, which depend on the machine.
func checkRows(t *testing.T, rows []row) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(repository(t), "docs/clients.ndjson"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil { // other libraries run concurrently
		t.Fatal(err)
	}
	recorded := map[string]row{}
	for lines := json.NewDecoder(f); lines.More(); {
		var r row
		if err := lines.Decode(&r); err != nil {
			t.Fatal(err)
		}
		recorded[r.key()] = r
	}
	for _, r := range rows {
		want := recorded[r.key()]
		if os.Getenv("QRJUMP_UPDATE") == "" && (want.Result != r.Result || want.Line != r.Line) {
			t.Errorf("%s: %q %s, want %q %s as in docs/clients.ndjson; QRJUMP_UPDATE=1 updates it, then run go run ./docs/print",
				r.Name, r.Result, r.Line, want.Result, want.Line)
		}
		recorded[r.key()] = r
	}
	if os.Getenv("QRJUMP_UPDATE") == "" {
		return
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	for _, key := range slices.Sorted(maps.Keys(recorded)) {
		if err := encoder.Encode(recorded[key]); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b.Bytes(), 0); err != nil {
		t.Fatal(err)
	}
}
