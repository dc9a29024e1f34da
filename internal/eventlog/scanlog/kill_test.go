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

// TestMain runs this binary as a recorder or eraser process for the tests that kill it.
func TestMain(m *testing.M) {
	proctest.Roles{"recorder": proctest.Role(recordScans), "eraser": proctest.Role(eraseUsers)}.Run()
	os.Exit(m.Run())
}

// recorderOptions are the options of the recorder process.
type recorderOptions struct {
	Dir   string
	First int64 // number of the first scan
}

// recordScans records scans of eight clients until the process is killed, and prints each durable scan.
func recordScans(ctx context.Context, o recorderOptions) error {
	j, err := OpenJournal(o.Dir, JournalOptions{Random: newRandom(1), SegmentSize: 8000})
	if err != nil {
		return err
	}
	r := NewRecorder(j, RecorderOptions{})
	var out sync.Mutex
	var wg sync.WaitGroup
	for c := range int64(8) {
		wg.Go(func() {
			for n := o.First + c; ; n += 8 {
				e := newEvent(n)
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

// TestJournal_ProcessKilled kills a process that records scans at different moments. Each acknowledged scan must be in the journal once and
// unchanged, and positions must have no gaps. JOURNAL_KILLS chooses how often.
func TestJournal_ProcessKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scans")
	acked := map[int64]bool{}
	assigned := map[int64]int64{}
	first := int64(0)
	for round := range rounds(t, "JOURNAL_KILLS", 30) {
		p := proctest.Start(t, proctest.Command("recorder", recorderOptions{dir, first}))
		n := 0
		for line, more := p.Line(); more; line, more = p.Line() {
			number, err := strconv.ParseInt(line, 10, 64)
			require.NoErrorf(t, err, "output line %q of the recorder", line)
			acked[number] = true
			first = max(first, number+8)
			if n == 37*round%301 {
				p.Process.Kill()
			}
			n++
		}
		p.Wait()
		j := require.Value(OpenJournal(dir, JournalOptions{SegmentSize: 8000}))(t)
		have := map[int64]bool{}
		last := int64(0)
		for _, e := range require.All(t, j.Read(t.Context(), 0)) {
			n := e.Index + e.RuleID
			require.True(t, e.Event == newEvent(n) && e.Position == last+1 && !have[n],
				"round %d: event at position %d after %d = %+v, want event %d once", round, e.Position, last, e.Event, n)
			previous, ok := assigned[e.Position]
			require.True(t, !ok || previous == n, "round %d: scan at position %d = %d, want %d as before", round, e.Position, n, previous)
			last, have[n], assigned[e.Position] = e.Position, true, n
			first = max(first, n+8)
		}
		require.True(t, j.Damaged() <= 0, "round %d: Damaged() = %d, want 0", round, j.Damaged())
		for n := range acked {
			require.True(t, have[n], "round %d: the acknowledged scan %d is missing", round, n)
		}
		first += 8 - first%8
		j.Close()
	}
}
