package ledger

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// TestMain makes this binary the recorder that TestKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LEDGER_RECORD_INTO"); dir != "" {
		recordForEver(dir)
	}
	os.Exit(m.Run())
}

// recordForEver records scans of eight clients and prints each once it is durable.
func recordForEver(dir string) {
	first, err := strconv.ParseInt(os.Getenv("LEDGER_RECORD_FROM"), 10, 64)
	if err != nil {
		panic(err)
	}
	j, err := OpenJournal(dir, JournalOptions{Random: seeded(1), SegmentSize: 8000})
	if err != nil {
		panic(err)
	}
	r := NewRecorder(j, RecorderOptions{})
	var out sync.Mutex
	var wg sync.WaitGroup
	for c := range int64(8) {
		wg.Go(func() {
			for n := first + c; ; n += 8 {
				e := anEvent(n)
				g, err := r.Enqueue(&e)
				if err == nil {
					err = g.Wait(context.Background())
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
}

// TestKilled kills a process that records scans, at any instant: what it
// acknowledged is there once, whole, and positions go on. JOURNAL_KILLS chooses
// how often.
func TestKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "scans")
	acked := map[int64]bool{}
	given := map[int64]int64{}
	first := int64(0)
	for round := range rounds(t, "JOURNAL_KILLS", 30) {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "LEDGER_RECORD_INTO="+dir, fmt.Sprint("LEDGER_RECORD_FROM=", first))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if number, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil { // the last line may be cut
				acked[number] = true
				first = max(first, number+8)
			}
			if n == 37*round%301 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		j, err := OpenJournal(dir, JournalOptions{SegmentSize: 8000})
		if err != nil {
			t.Fatal(err)
		}
		have := map[int64]bool{}
		last := int64(0)
		for _, e := range collect(t, j.Read(t.Context(), 0)) {
			n := e.Index + e.RuleID
			if e.Event != anEvent(n) || e.Position != last+1 || have[n] {
				t.Fatalf("round %d: position %d after %d holds %+v", round, e.Position, last, e.Event)
			}
			if was, ok := given[e.Position]; ok && was != n {
				t.Fatalf("round %d: position %d was given to %d, now to %d", round, e.Position, was, n)
			}
			last, have[n], given[e.Position] = e.Position, true, n
			first = max(first, n+8)
		}
		if j.Damaged() > 0 {
			t.Fatalf("round %d: damage", round)
		}
		for n := range acked {
			if !have[n] {
				t.Fatalf("round %d: the acknowledged scan %d is lost", round, n)
			}
		}
		first += 8 - first%8
		j.Close()
	}
	t.Logf("%d acknowledged scans, none lost", len(acked))
}
