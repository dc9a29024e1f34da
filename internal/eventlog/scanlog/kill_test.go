package scanlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestMain makes this binary the processes that tests kill.
func TestMain(m *testing.M) {
	proctest.Roles{"recorder": proctest.Role(recordForEver), "eraser": proctest.Role(eraseForEver)}.Play()
	os.Exit(m.Run())
}

// recording says into which folder a process records, and from which number on.
type recording struct {
	Dir   string
	First int64
}

// recordForEver records scans of eight clients and prints each once it is durable.
func recordForEver(ctx context.Context, o recording) error {
	j, err := OpenJournal(o.Dir, JournalOptions{Random: seeded(1), SegmentSize: 8000})
	if err != nil {
		return err
	}
	r := NewRecorder(j, RecorderOptions{})
	var out sync.Mutex
	var wg sync.WaitGroup
	for c := range int64(8) {
		wg.Go(func() {
			for n := o.First + c; ; n += 8 {
				e := anEvent(n)
				g, err := r.Enqueue(&e)
				if err == nil {
					err = g.Wait(ctx)
				}
				if err != nil {
					panic(err)
				}
				out.Lock()
				fmt.Println(n)
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// TestJournal_ProcessKilled kills a process that records scans, at any instant: what it acknowledged is there once, whole, and positions go
// on. JOURNAL_KILLS chooses how often.
func TestJournal_ProcessKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	acked := map[int64]bool{}
	given := map[int64]int64{}
	first := int64(0)
	for round := range rounds(t, "JOURNAL_KILLS", 30) {
		p := proctest.Start(t, proctest.Command("recorder", recording{dir, first}))
		n := 0
		for line, more := p.Line(); more; line, more = p.Line() {
			number, err := strconv.ParseInt(line, 10, 64)
			require.True(t, err == nil, "it says %q", line)
			acked[number] = true
			first = max(first, number+8)
			if n == 37*round%301 {
				p.Process.Kill()
			}
			n++
		}
		p.Wait()
		j, err := OpenJournal(dir, JournalOptions{SegmentSize: 8000})
		require.NoError(t, err)
		have := map[int64]bool{}
		last := int64(0)
		for _, e := range require.All(t, j.Read(t.Context(), 0)) {
			n := e.Index + e.RuleID
			require.True(t, e.Event == anEvent(n) && e.Position == last+1 && !have[n],
				"round %d: position %d after %d holds %+v", round, e.Position, last, e.Event)
			was, ok := given[e.Position]
			require.True(t, !ok || was == n, "round %d: position %d was given to %d, now to %d", round, e.Position, was, n)
			last, have[n], given[e.Position] = e.Position, true, n
			first = max(first, n+8)
		}
		require.True(t, j.Damaged() <= 0, "round %d: damage", round)
		for n := range acked {
			require.True(t, have[n], "round %d: the acknowledged scan %d is lost", round, n)
		}
		first += 8 - first%8
		j.Close()
	}
	t.Logf("%d acknowledged scans, none lost", len(acked))
}
