package chaos_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// TestPowerCut_AcknowledgedWritesSurvive is TestServerKill_AcknowledgedWritesSurvive with the power gone instead: of what the embedded
// database wrote and did not sync any part survives, blocks torn, in any
// order. The next start must find a whole database with everything that was
// acknowledged. Every run goes on with what the one before left.
//
//	POWER_CUTS=1000 QRJUMP_TEST_SEED=1 go test -run 'TestPowerCut_AcknowledgedWritesSurvive$' -timeout 60m ./chaos
func TestPowerCut_AcknowledgedWritesSurvive(t *testing.T) {
	seed := testdiag.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := newChaos(t, "", seed)
	c.again = func() *process {
		afterCut(t, c.child)
		c.child.PowerCut = &powerCut{At: 1 + rnd.IntN([]int{60, 600, 4000}[rnd.IntN(3)]), Seed: rnd.Uint64(), Into: imageOf(c.child)}
		return start(t, c.child)
	}
	require.NoError(t, os.Mkdir(imageOf(c.child), 0o700))
	c.child.PowerCut = &powerCut{At: 500, Seed: seed, Into: imageOf(c.child)}
	// The kill after so many writes never comes: the cut does.
	c.writes = func() int { return math.MaxInt32 }
	c.run(another(t, "POWER_CUTS", amount(12, 4), 10))
}

// TestFirstStart_PowerCutAtEachWrite cuts the power of a server's very first start at any
// of its writes: while it makes its tables, its keys and its seed. The next
// start goes on from there, or begins anew.
func TestFirstStart_PowerCutAtEachWrite(t *testing.T) {
	seed := testdiag.Seed(t)
	more, runs := another(t, "POWER_STARTS", amount(5, 2), 3), 0
	rnd := rand.New(rand.NewPCG(seed, 2))
	furthest := 64
	for ; more(runs); runs++ {
		c := newChaos(t, "", seed)
		require.NoError(t, os.Mkdir(imageOf(c.child), 0o700))
		c.child.PowerCut = &powerCut{Starting: 1 + rnd.IntN(furthest), Seed: rnd.Uint64(), Into: imageOf(c.child)}
		p, ready := try(t, c.child)
		if ready {
			p.stop() // it needs fewer writes
			continue
		}
		require.True(t, p.ProcessState.String() == "signal: killed", "%v\n%s", p.ProcessState, p.lastLog())
		furthest = max(furthest, 2*c.child.PowerCut.Starting)
		afterCut(t, c.child)
		c.child.PowerCut = nil
		c.server = start(t, c.child)
		for _, w := range c.writers {
			wire := must{connect(t, c.server.URL, ""), t}
			w.token = wire.token(w.account)
		}
		c.check()
		c.server.stop()
	}
	t.Logf("%d starts, cut at up to %d writes", runs, furthest)
}

func imageOf(child childConfig) string { return filepath.Join(filepath.Dir(child.Data), "image") }

// afterCut puts in place what the disk held when the power went, and wants it
// to be a whole database.
func afterCut(t *testing.T, child childConfig) {
	t.Helper()
	if child.PowerCut == nil {
		return // killed by hand: the files are as the process left them
	}
	for _, name := range append([]string{"qrjump.db-shm"}, sqliteFiles...) {
		if err := os.Remove(filepath.Join(child.Data, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		err := os.Rename(filepath.Join(imageOf(child), name), filepath.Join(child.Data, name))
		require.True(t, err == nil || os.IsNotExist(err), "%v", err)
	}
	// On a copy: looking takes the log in.
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
	var said string
	if err := db.QueryRowContext(context.Background(), `PRAGMA integrity_check`).Scan(&said); err != nil || said != "ok" {
		t.Errorf("%s after the cut at operation %d, seed %d: %s %v", "integrity_check", child.PowerCut.At, child.PowerCut.Seed, said, err)
		t.Log(fmt.Sprint("the files are in ", child.Data))
	}
}
