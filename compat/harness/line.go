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

// A Client is a program that calls the platform's own address, by an HTTP client or an SDK, and knows nothing of the server.
type Client struct {
	Language, Name, Version string
	SDK                     bool

	Command []string // prints a token and, unless it is an SDK, what qrcodejumpget answers
	Prints  string   // what it prints instead, where it cannot do that
	Line    string   // the line that leads the client where it asks no proxy or trusts roots of its own
	ByLine  []string // Command with the line
}

// A row is what docs/clients.ndjson states of a client; the guide's page "HTTP clients and SDKs" is made of it.
type row struct {
	Language string `json:"language"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	SDK      bool   `json:"sdk,omitempty"`
	Result   string `json:"result"`
	Line     string `json:"line,omitempty"`
}

func (r row) key() string { return fmt.Sprint(r.SDK, "\t", r.Language, "\t", r.Name) }

// The places of a line are where nothing but the line leads a program to the server: a network of its own that has no way
// out, and the machine's own hosts file.
const (
	asUser = `ip link set lo up && exec unshare --user --map-user=1000 --map-group=1000 "$@"`
	asRoot = `ip link set lo up && exec "$@"`
)

// Lines runs the clients in the folder dir by `qrjump run`, as the guide's page "Test my SDK" says: each as any user, those that do
// not reach the server so as root and with --isolate, and those with a line also with it. What comes of it must be what
// docs/clients.ndjson states; with QRJUMP_UPDATE the file is changed instead.
func Lines(t *testing.T, dir string, clients ...Client) {
	t.Helper()
	try := exec.Command("unshare", "-rn", "sh", "-c", asUser, "sh", "true")
	if out, err := try.CombinedOutput(); err != nil {
		t.Skipf("not run: a process cannot have a network of its own here: %v: %s", err, out)
	}
	commands, later, byLine := make([][]string, len(clients)), make([][]string, len(clients)), make([][]string, len(clients))
	for i, c := range clients {
		commands[i], byLine[i] = c.Command, c.ByLine
	}
	user := runLine(t, dir, asUser, nil, clients, commands)
	for i, c := range clients {
		if user[i] != nil {
			t.Logf("%s as any user: %v", c.Name, user[i])
			later[i] = c.Command
		}
	}
	root := runLine(t, dir, asRoot, nil, clients, later)
	isolated := runLine(t, dir, asUser, []string{"--isolate"}, clients, later)
	line := runLine(t, dir, asUser, nil, clients, byLine)
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
			t.Errorf("%s does not reach the server.\nAs any user: %v\nAs root: %v\nWith --isolate: %v", c.Name, user[i], root[i], isolated[i])
			continue
		}
		if line[i] != nil {
			t.Errorf("%s does not reach the server by its line: %v", c.Name, line[i])
			continue
		}
		rows = append(rows, r)
	}
	checkRows(t, rows)
}

// runLine runs the commands, each nil or that of a client, by one `qrjump run`, and returns why each did not reach the server.
func runLine(t *testing.T, dir, place string, flags []string, clients []Client, commands [][]string) []error {
	t.Helper()
	found := make([]error, len(commands))
	const end = "\n-- the client's status: "
	var script strings.Builder
	for _, command := range commands {
		if command == nil {
			continue
		}
		script.WriteString("timeout 60")
		for _, word := range command {
			script.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
		}
		fmt.Fprintf(&script, " </dev/null 2>&1; printf '%s%%s\\n' $?\n", strings.ReplaceAll(end, "'", `'\''`))
	}
	if script.Len() == 0 {
		return found
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := append([]string{"-rn", "sh", "-c", place, "sh", binary(t, t.TempDir()), "run", "--set", "rule_rate_limit=unlimited"}, flags...)
	cmd := exec.CommandContext(ctx, "unshare", append(args, "--", "sh", "-c", script.String())...)
	cmd.Dir = dir
	cmd.Env = append(foreignEnviron(), "HOME="+t.TempDir())
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
		said, rest, _ := strings.Cut(text, end)
		status, rest, _ := strings.Cut(rest, "\n")
		text = rest
		ok := status == "0" && token.MatchString(said) && (clients[i].SDK || strings.Contains(said, `"qrcodejump_open":1`))
		if want := clients[i].Prints; want != "" {
			ok = strings.Contains(said, want)
		}
		if !ok {
			found[i] = fmt.Errorf("status %s: %s", status, said)
		}
	}
	return found
}

// token matches an access token, which a program can have from the server alone.
var token = regexp.MustCompile(`\b[0-9]+_[\w-]{100,}`)

// checkRows compares rows with those of docs/clients.ndjson, versions aside: they may be those of this machine.
func checkRows(t *testing.T, rows []row) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(repository(t), "docs/clients.ndjson"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil { // other libraries run at once
		t.Fatal(err)
	}
	stated := map[string]row{}
	for lines := json.NewDecoder(f); lines.More(); {
		var r row
		if err := lines.Decode(&r); err != nil {
			t.Fatal(err)
		}
		stated[r.key()] = r
	}
	for _, r := range rows {
		have := stated[r.key()]
		if os.Getenv("QRJUMP_UPDATE") == "" && (have.Result != r.Result || have.Line != r.Line) {
			t.Errorf("%s: %q %s, want %q %s as docs/clients.ndjson states; QRJUMP_UPDATE=1 changes it, then go run ./docs/print",
				r.Name, r.Result, r.Line, have.Result, have.Line)
		}
		stated[r.key()] = r
	}
	if os.Getenv("QRJUMP_UPDATE") == "" {
		return
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	for _, key := range slices.Sorted(maps.Keys(stated)) {
		if err := encoder.Encode(stated[key]); err != nil {
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
