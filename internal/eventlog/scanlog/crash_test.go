package scanlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// world is what a test knows of a ledger: what must be in it, and what may be.
type world struct {
	t      *testing.T
	what   string
	disk   *brokenDisk
	chance *rand.Rand
	logs   *bytes.Buffer

	given     map[int64]ScanID // positions that were given out
	acked     map[int64]bool
	next      int64 // number of the next event
	forgotten int64 // events before this one may be gone
	gone      int64 // positions up to here are
	erased    map[UserHash]bool
	erasing   map[UserHash]bool
}

func newWorld(t *testing.T, what string, chance *rand.Rand) *world {
	return &world{t: t, what: what, disk: newBrokenDisk(chance), chance: chance, logs: &bytes.Buffer{},
		given: map[int64]ScanID{}, acked: map[int64]bool{}, erased: map[UserHash]bool{}, erasing: map[UserHash]bool{}}
}

func (w *world) open() (*Journal, error) {
	return OpenJournal("scans", JournalOptions{disk: w.disk, Random: seeded(1), SegmentSize: 3000,
		Log: slog.New(slog.NewTextHandler(w.logs, nil))})
}

// work does something to a journal. A call that fails is fine; one that lies is not.
func (w *world) work(j *Journal) {
	switch n := w.chance.IntN(40); {
	case n == 0:
		before := w.next - int64(w.chance.IntN(60))
		w.forgotten = max(w.forgotten, before)
		j.Forget(w.t.Context(), anEvent(before).OccurredAt)
	case n == 1:
		user := UserHash{byte(w.chance.IntN(11)), 1}
		w.erasing[user] = true
		if _, err := j.Erase(w.t.Context(), Users{user: true}, math.MaxInt64); err == nil {
			w.erased[user] = true
		}
	case n < 5:
		w.look(j, false)
	default:
		size := int64(w.chance.IntN(8) + 1)
		list := events(w.next, w.next+size)
		for i := range list {
			if w.erased[list[i].User] || w.erasing[list[i].User] {
				list[i].User = UserHash{}
			}
		}
		w.next += size
		before, _ := j.End(w.t.Context())
		err := j.Append(w.t.Context(), list)
		if err != nil {
			return
		}
		end, _ := j.End(w.t.Context())
		require.True(w.t, end == before+size, "%s: %d events moved the end from %d to %d", w.what, size, before, end)
		for i := range list {
			w.give(before+1+int64(i), list[i].ID)
			w.acked[before+1+int64(i)] = true
		}
	}
}

func (w *world) give(position int64, id ScanID) {
	was, ok := w.given[position]
	require.True(w.t, !ok || was == id, "%s: position %d was given to %s, now to %s\n%s", w.what, position, was, id, w.logs)
	w.given[position] = id
}

// look reads everything and compares.
func (w *world) look(j *Journal, sure bool) {
	have := map[int64]bool{}
	last := int64(0)
	for e, err := range j.Read(w.t.Context(), 0) {
		if err != nil {
			require.True(w.t, !sure, "%s: %v", w.what, err)
			return
		}
		require.True(w.t, e.Position > last, "%s: position %d after %d", w.what, e.Position, last)
		last = e.Position
		w.give(e.Position, e.ID)
		have[e.Position] = true
		n := int64(e.ID[8])<<56 | int64(e.ID[9])<<48 | int64(e.ID[10])<<40 | int64(e.ID[11])<<32 | int64(e.ID[12])<<24 | int64(
			e.ID[13])<<16 | int64(e.ID[14])<<8 | int64(e.ID[15])
		want := anEvent(n)
		if e.User == (UserHash{}) || w.erased[e.User] {
			if w.erased[want.User] || w.erasing[want.User] || want.User == (UserHash{}) {
				require.True(w.t, e.User == (UserHash{}),
					"%s: an erased user is back: event %d at %d, next %d\n%s", w.what, n, e.Position, w.next, w.logs)
				want.User, want.Client, want.Network = e.User, e.Client, e.Network
			}
		}
		require.True(w.t, e.Event == want, "%s: position %d holds %+v, want %+v", w.what, e.Position, e.Event, want)
	}
	if !sure {
		return
	}
	for position := range have { // what was read once has to stay
		w.acked[position] = true
	}
	end, _ := j.End(w.t.Context())
	for position := range w.acked {
		if !have[position] && position > w.gone {
			id := w.given[position]
			require.True(w.t, !id.Time().After(anEvent(w.forgotten).OccurredAt) && id.Time().Before(anEvent(w.forgotten).OccurredAt),
				"%s: the acknowledged event at %d is lost; the end is %d\n%s", w.what, position, end, w.logs)
		}
		require.True(w.t, position <= end, "%s: the end is %d, and %d was acknowledged", w.what, end, position)
	}
	require.True(w.t, j.Damaged() <= 0, "%s: a crash alone left damage\n%s", w.what, w.logs)
}

// inOneGoroutine leaves a long test out under -short, with which the race detector is run: neither a journal nor these tests
// start a goroutine, so it has nothing to watch there. Without -short, as in every run of all tests, they play whole.
func inOneGoroutine(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("one goroutine alone plays this test: a run without -short has it whole")
	}
}

func rounds(t *testing.T, name string, usual int) int {
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		require.NoErrorf(t, err, "%s", name)
		return n
	}
	return usual
}

// TestJournal_PowerLoss: whatever a power cut leaves of what was not flushed, every acknowledged event is there, and no position is given
// out twice. JOURNAL_SEEDS chooses how many times.
func TestJournal_PowerLoss(t *testing.T) {
	inOneGoroutine(t)
	for seed := range rounds(t, "JOURNAL_SEEDS", testscope.Choose(1000, 150)) {
		chance := rand.New(rand.NewPCG(uint64(seed), 7))
		w := newWorld(t, fmt.Sprintf("seed %d", seed), chance)
		for range 4 {
			w.disk.crashAt = w.disk.ops + 1 + chance.IntN(300)
			if chance.IntN(2) == 0 {
				w.disk.flaky = 0.03
			}
			j, err := w.open()
			for err != nil && w.disk.ops < w.disk.crashAt {
				j, err = w.open()
			}
			for w.disk.ops < w.disk.crashAt && err == nil {
				w.work(j)
			}
			if err == nil && chance.IntN(4) == 0 { // a flush fails, and the process is killed over it
				w.disk.crashAt, w.disk.flaky = 0, 0
				w.disk.failAt, w.disk.failFor, w.disk.with = w.disk.ops+2, 1, syscall.EIO
				if err := j.Append(t.Context(), []Event{anEvent(3 * w.next), anEvent(3*w.next + 3)}); err == nil {
					w.disk.failAt = 0
				}
				w.next = 3*w.next + 4
				w.disk = w.disk.killed()
				if j, err = w.open(); err != nil {
					t.Fatalf("%s: %v", w.what, err)
				}
				w.look(j, true)
				w.disk = w.disk.crashed()
			} else if chance.IntN(3) == 0 {
				w.disk = w.disk.killed()
			} else {
				w.disk = w.disk.crashed()
			}
			if chance.IntN(2) == 0 { // it may happen while a start repairs
				w.disk.crashAt = chance.IntN(20) + 1
				w.open()
				w.disk = w.disk.crashed()
			}
			if j, err = w.open(); err != nil {
				t.Fatalf("%s: %v", w.what, err)
			}
			w.look(j, true)
			j.Close()
		}
	}
}

// TestJournal_DiskFaults lets each operation on the disk (make test: every third) fail
// once, and from each on for a while: nothing that was acknowledged is lost, and it goes on by itself.
func TestJournal_DiskFaults(t *testing.T) {
	inOneGoroutine(t)
	for _, c := range []struct {
		with error
		long int
	}{{syscall.EIO, 1}, {syscall.ENOSPC, 1}, {syscall.ENOSPC, 40}, {syscall.EIO, 3}} {
		for n := 1; ; n += testscope.Choose(1, 3) {
			chance := rand.New(rand.NewPCG(uint64(n), 3))
			w := newWorld(t, fmt.Sprintf("operation %d fails (%v, for %d)", n, c.with, c.long), chance)
			w.disk.failAt, w.disk.failFor, w.disk.with = n, c.long, c.with
			j, err := w.open()
			for range c.long + 1 {
				if err != nil {
					j, err = w.open()
				}
			}
			require.NoErrorf(t, err, "%s", w.what)
			for range 60 {
				w.work(j)
			}
			hit := w.disk.ops >= n
			for w.disk.ops < n+c.long {
				w.work(j)
			}
			require.NoErrorf(t, j.Append(t.Context(), []Event{anEvent(3 * w.next)}), "%s: it does not recover", w.what)
			w.disk.failAt = 0
			w.look(j, true)
			if chance.IntN(2) == 0 {
				j.Close()
			}
			w.disk = w.disk.crashed()
			if j, err = w.open(); err != nil {
				t.Fatalf("%s: %v", w.what, err)
			}
			w.look(j, true)
			if !hit {
				break
			}
		}
	}
}

// TestJournal_FailedFlushNotAcknowledged: also not when the next one succeeds.
func TestJournal_FailedFlushNotAcknowledged(t *testing.T) {
	d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
	j, err := OpenJournal("scans", JournalOptions{disk: d, Random: seeded(1)})
	require.NoError(t, err)
	require.NoError(t, j.Append(t.Context(), events(0, 5)))
	r := NewRecorder(j, RecorderOptions{})
	enqueue := func(n int64) error {
		e := anEvent(n)
		g, err := r.Enqueue(&e)
		require.NoError(t, err)
		return g.Wait(t.Context())
	}
	d.mu.Lock()
	d.failAt, d.failFor, d.with = d.ops+2, 1, syscall.EIO // the flush after the write
	d.mu.Unlock()
	require.ErrorIs(t, enqueue(5), syscall.EIO, "the flush failed, the answer")
	assert.True(t, r.IsLate() && r.LastError() != nil && r.Lost() == 1, "the recorder knows nothing of it")
	end, _ := j.End(t.Context())
	assert.Equal(t, end, 5, "the end")
	require.NoError(t, enqueue(6))
	assert.True(t, !r.IsLate(), "the disk is well again, the recorder late")
	assert.True(t, len(j.segments) == 2, "it went on in the same file")
	r.Close()
	j, err = OpenJournal("scans", JournalOptions{disk: d.crashed(), Random: seeded(1)})
	require.NoError(t, err)
	got := require.All(t, j.Read(t.Context(), 0))
	if len(got) != 6 || got[5] != (Entry{Position: 6, Event: anEvent(6)}) {
		t.Errorf("left: %+v", got[5:])
	}
}
