package faultfs

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestFaultDisk_LosesUnsyncedWrites verifies that a power failure keeps synced data, and that it loses unsynced writes completely,
// partially or not at all.
func TestFaultDisk_LosesUnsyncedWrites(t *testing.T) {
	kept, lost, torn := 0, 0, 0
	for seed := range uint64(100) {
		d := &Disk{CutAt: 4}
		unsynced := strings.Repeat("b", 4*sector)
		for _, err := range []error{d.Write("f", []byte("aa"), 0), d.Sync("f"), d.Write("f", []byte(unsynced), 2)} {
			require.NoError(t, err)
		}
		if err := d.Sync("f"); !errors.Is(err, ErrNoPower) {
			t.Fatalf("the fourth operation: %v, want ErrNoPower", err)
		}
		dir := t.TempDir()
		require.NoError(t, d.Image(dir, rand.New(rand.NewPCG(seed, 0))))
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || !strings.HasPrefix("aa"+unsynced, string(got)) || len(got) < 2 {
			t.Fatalf("the file is %q, %v, want a prefix of the writes with the synced one", got, err)
		}
		switch len(got) {
		case 2:
			lost++
		case 2 + len(unsynced):
			kept++
		default:
			torn++
		}
	}
	if kept == 0 || lost == 0 || torn == 0 {
		t.Errorf("%d kept, %d lost, %d torn, want each of them at least once", kept, lost, torn)
	}
}
