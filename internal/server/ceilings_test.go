package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/testkit/ceilings"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCeilings_WithinLimits limits the size of the project. The test of the same name in cmd/qrjump limits commands and flags,
// TestSource_MaxLineLength the length of lines.
func TestCeilings_WithinLimits(t *testing.T) {
	size := require.Value(docgen.MeasureSize("../.."))(t)
	ceilings.Check(t, "product lines", size.Product)
	ceilings.Check(t, "test lines", size.Tests)
	ceilings.Check(t, "packages", size.Packages)
	t.Logf("%s has the most methods", size.Type)
	ceilings.Check(t, "methods of a type", size.Methods)
	ceilings.Check(t, "operations", len((&adminapi.Admin{}).Operations())+len((&emulator.Control[api.Record]{}).Operations()))
	ceilings.Check(t, "settings", len(settings.Table))
	ceilings.Check(t, "metrics", countText(t, "../../docs/en/metrics.md", "\n| `qrjump_"))
	ceilings.Check(t, "tables", countText(t, "../store/migrations/*.sql", "CREATE TABLE "))
}

// countText returns how often text occurs in the files that match pattern.
func countText(t *testing.T, pattern, text string) (n int) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.True(t, err == nil && len(files) != 0, "%s: %d files, %v", pattern, len(files), err)
	for _, name := range files {
		content := require.Value(os.ReadFile(name))(t)
		n += strings.Count(string(content), text)
	}
	return n
}
