package qrjumptest_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// TestClientExamples_Output runs each example of package client, which is a separate module without dependencies, on a new server.
func TestClientExamples_Output(t *testing.T) {
	examples := filepath.Join(t.TempDir(), "examples")
	run := func(t *testing.T, url, name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(cmd.Environ(), "QRJUMP_SERVER="+url)
		out, err := cmd.CombinedOutput()
		require.NoErrorf(t, err, "%s %s: %s", name, args, out)
		return string(out)
	}
	run(t, "", "go", "test", "-c", "-o", examples, "github.com/qrjump/qrjump/client")
	names := strings.Fields(run(t, "none", examples, "-test.list", "^Example"))
	require.True(t, len(names) > 10, "examples of the client: %q", names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := run(t, qrjumptest.Start(t).URL, examples, "-test.v", "-test.run", "^"+name+"$")
			assert.True(t, strings.Contains(out, "--- PASS: "+name+" "), "%s", out)
		})
	}
}
