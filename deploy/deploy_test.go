// Package deploy holds what operators put beside the server.
package deploy

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestUnits_Hardened wants every unit to have an exposure of at most 2.0 of 10.
func TestUnits_Hardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	units, err := filepath.Glob("cluster/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range append(units, "systemd/qrjump.service") {
		out, err := exec.Command("systemd-analyze", "--no-pager", "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
		assert.True(t, err == nil, "%s: %v\n%s", unit, err, out)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
}
