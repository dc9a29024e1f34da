package harness

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// sandbox is where nothing but the line leads a program to the server: without root, with a network of its own that has
// no way out, and with the machine's own hosts file.
const sandbox = `ip link set lo up && exec unshare --user --map-user=1000 --map-group=1000 "$@"`

// Line runs a command by `qrjump run`, as the guide's page "Test my SDK" says, in the folder dir. It must end well and
// print a token, which it can have from the server alone.
func Line(t *testing.T, dir string, command ...string) {
	t.Helper()
	try := exec.Command("unshare", "-rn", "sh", "-c", sandbox, "sh", "true")
	if out, err := try.CombinedOutput(); err != nil {
		t.Skipf("not run: a process cannot have a network of its own here: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line := append([]string{"-rn", "sh", "-c", sandbox, "sh", binary(t, t.TempDir()), "run", "--"}, command...)
	cmd := exec.CommandContext(ctx, "unshare", line...)
	cmd.Dir = dir
	cmd.Env = append(foreignEnviron(), "HOME="+t.TempDir())
	for _, variable := range Variables {
		cmd.Env = append(cmd.Env, variable+"=0")
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil || !regexp.MustCompile(`\b[0-9]+_[\w-]{100,}`).Match(out) {
		t.Errorf("qrjump run -- %q: %v, and it printed no token:\n%s", command, err, out)
	}
}
