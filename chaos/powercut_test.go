package chaos_test

import (
	"context"
	"database/sql"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// TestPowerCut_AcknowledgedWritesSurvive is TestServerKill_AcknowledgedWritesSurvive with a power failure: of the writes of SQLite that
// were not synced, any part survives, in any order and with torn blocks. The next start must find a consistent database with everything
// that was acknowledged. Each run continues with the data of the previous one.
//
//	POWER_CUTS=1000 QRJUMP_TEST_SEED=1 go test -run 'TestPowerCut_AcknowledgedWritesSurvive$' -timeout 60m ./chaos
func TestPowerCut_AcknowledgedWritesSurvive(t *testing.T) {
	seed := testdiag.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := newKillTest(t, "", seed)
	c.beforeRestart = func() {
		restoreImage(t, c.child)
		c.child.PowerCut = &powerCut{At: 1 + rnd.IntN([]int{60, 600, 4000}[rnd.IntN(3)]), Seed: rnd.Uint64(), Into: imageDir(c.child)}
	}
	require.NoError(t, os.Mkdir(imageDir(c.child), 0o700))
	c.child.PowerCut = &powerCut{At: 500, Seed: seed, Into: imageDir(c.child)}
	c.killAfter = math.MaxInt32 // the power failure comes first
	c.run(moreRounds(t, "POWER_CUTS", choose(12, 4), 10))
}

// TestFirstStart_PowerCutAtEachWrite simulates a power failure at random writes of a server's first start, while it creates its tables, its
// keys and its seed. The next start must continue or begin again.
func TestFirstStart_PowerCutAtEachWrite(t *testing.T) {
	seed := testdiag.Seed(t)
	more, runs := moreRounds(t, "POWER_STARTS", choose(5, 2), 3), 0
	rnd := rand.New(rand.NewPCG(seed, 2))
	furthest := 64
	for ; more(runs); runs++ {
		c := newKillTest(t, "", seed)
		require.NoError(t, os.Mkdir(imageDir(c.child), 0o700))
		c.child.PowerCut = &powerCut{Starting: 1 + rnd.IntN(furthest), Seed: rnd.Uint64(), Into: imageDir(c.child)}
		p, ready := tryStart(t, c.child)
		if ready {
			p.stop() // the start needs fewer writes
			continue
		}
		require.Equal(t, p.ProcessState.String(), "signal: killed", "the end of the process\n%s", p.logTail())
		furthest = max(furthest, 2*c.child.PowerCut.Starting)
		restoreImage(t, c.child)
		c.child.PowerCut = nil
		c.server = start(t, c.child)
		for _, w := range c.writers {
			w.token = c.admin().token(w.account)
		}
		c.check()
		c.server.stop()
	}
	t.Logf("%d starts, cut at up to %d writes", runs, furthest)
}

// imageDir returns the directory for the files that survive a power failure.
func imageDir(child childConfig) string { return filepath.Join(filepath.Dir(child.Data), "image") }

// restoreImage replaces the files of the database with those that survived the power failure, and checks the integrity of the database.
func restoreImage(t *testing.T, child childConfig) {
	t.Helper()
	if child.PowerCut == nil {
		return // killed by the test: the files are those of the process
	}
	for _, name := range append([]string{"qrjump.db-shm"}, sqliteFiles...) {
		if err := os.Remove(filepath.Join(child.Data, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		err := os.Rename(filepath.Join(imageDir(child), name), filepath.Join(child.Data, name))
		require.True(t, err == nil || os.IsNotExist(err), "%v", err)
	}
	// Checks a copy, because opening a database replays its WAL.
	dir := t.TempDir()
	for _, name := range sqliteFiles {
		text, err := os.ReadFile(filepath.Join(child.Data, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		require.True(t, err == nil || os.IsNotExist(err), "%v", err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "qrjump.db"))
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	defer db.Close()
	var result string
	err = db.QueryRowContext(context.Background(), `PRAGMA integrity_check`).Scan(&result)
	assert.True(t, err == nil && result == "ok",
		"integrity_check after the power failure at operation %d, seed %d = %s, %v, want ok; files in %s",
		child.PowerCut.At, child.PowerCut.Seed, result, err, child.Data)
}
