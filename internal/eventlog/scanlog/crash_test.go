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

// model runs random operations on a journal, and records which events the journal must contain and which it may contain.
type model struct {
	t      *testing.T
	name   string
	disk   *brokenDisk
	chance *rand.Rand
	logs   *bytes.Buffer

	assigned  map[int64]ScanID // position to scan
	acked     map[int64]bool   // positions of acknowledged events
	next      int64            // number of the next event
	forgotten int64            // events before this one may be removed
	erased    map[UserHash]bool
	erasing   map[UserHash]bool
}

func newModel(t *testing.T, name string, chance *rand.Rand) *model {
	return &model{t: t, name: name, disk: newBrokenDisk(chance), chance: chance, logs: &bytes.Buffer{},
		assigned: map[int64]ScanID{}, acked: map[int64]bool{}, erased: map[UserHash]bool{}, erasing: map[UserHash]bool{}}
}

func (m *model) open() (*Journal, error) {
	return OpenJournal("scans", JournalOptions{disk: m.disk, Random: newRandom(1), SegmentSize: 3000,
		Log: slog.New(slog.NewTextHandler(m.logs, nil))})
}

// reopen opens the journal and checks all its events.
func (m *model) reopen() *Journal {
	j, err := m.open()
	require.NoErrorf(m.t, err, "%s", m.name)
	m.check(j, true)
	return j
}

// step runs a random operation. The operation may fail, but a result without an error must be correct.
func (m *model) step(j *Journal) {
	switch n := m.chance.IntN(40); {
	case n == 0:
		before := m.next - int64(m.chance.IntN(60))
		m.forgotten = max(m.forgotten, before)
		j.Forget(m.t.Context(), newEvent(before).OccurredAt)
	case n == 1:
		user := UserHash{byte(m.chance.IntN(11)), 1}
		m.erasing[user] = true
		if _, err := j.Erase(m.t.Context(), Users{user: true}, math.MaxInt64); err == nil {
			m.erased[user] = true
		}
	case n < 5:
		m.check(j, false)
	default:
		size := int64(m.chance.IntN(8) + 1)
		list := events(m.next, m.next+size)
		for i := range list {
			if m.erased[list[i].User] || m.erasing[list[i].User] {
				list[i].User = UserHash{}
			}
		}
		m.next += size
		before, _ := j.End(m.t.Context())
		err := j.Append(m.t.Context(), list)
		if err != nil {
			return
		}
		end, _ := j.End(m.t.Context())
		require.True(m.t, end == before+size, "%s: End() = %d after %d events at %d, want %d", m.name, end, size, before, before+size)
		for i := range list {
			m.assign(before+1+int64(i), list[i].ID)
			m.acked[before+1+int64(i)] = true
		}
	}
}

func (m *model) assign(position int64, id ScanID) {
	previous, ok := m.assigned[position]
	require.True(m.t, !ok || previous == id, "%s: scan at position %d = %s, want %s as before\n%s", m.name, position, id, previous, m.logs)
	m.assigned[position] = id
}

// check compares all events with the model. If strict is set, reading must succeed and no acknowledged event may be missing.
func (m *model) check(j *Journal, strict bool) {
	have := map[int64]bool{}
	last := int64(0)
	for e, err := range j.Read(m.t.Context(), 0) {
		if err != nil {
			require.True(m.t, !strict, "%s: Read() = %v, want success", m.name, err)
			return
		}
		require.True(m.t, e.Position > last, "%s: position %d follows %d, want ascending positions", m.name, e.Position, last)
		last = e.Position
		m.assign(e.Position, e.ID)
		have[e.Position] = true
		n := scanNumber(e.ID)
		want := newEvent(n)
		if e.User == (UserHash{}) || m.erased[e.User] {
			if m.erased[want.User] || m.erasing[want.User] || want.User == (UserHash{}) {
				require.True(m.t, e.User == (UserHash{}),
					"%s: event %d at %d has an erased user, want none; next event %d\n%s", m.name, n, e.Position, m.next, m.logs)
				want.User, want.Client, want.Network = e.User, e.Client, e.Network
			}
		}
		require.True(m.t, e.Event == want, "%s: event at position %d = %+v, want %+v", m.name, e.Position, e.Event, want)
	}
	if !strict {
		return
	}
	for position := range have { // an event that was read once must not disappear
		m.acked[position] = true
	}
	end, _ := j.End(m.t.Context())
	for position := range m.acked {
		if !have[position] {
			require.True(m.t, m.assigned[position].Time().Before(newEvent(m.forgotten).OccurredAt),
				"%s: the acknowledged event at %d is missing; the end is %d\n%s", m.name, position, end, m.logs)
		}
		require.True(m.t, position <= end, "%s: End() = %d, want at least the acknowledged %d", m.name, end, position)
	}
	require.True(m.t, j.Damaged() <= 0, "%s: Damaged() = %d after a crash, want 0\n%s", m.name, j.Damaged(), m.logs)
}

// skipWithShort skips a long test under -short, which is used with the race detector: neither a journal nor these tests start a
// goroutine.
func skipWithShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("one goroutine alone plays this test: a run without -short has it whole")
	}
}

// rounds returns the number in an environment variable, or n if the variable is not set.
func rounds(t *testing.T, variable string, n int) int {
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		require.NoErrorf(t, err, "%s", variable)
		return n
	}
	return n
}

// TestJournal_PowerLoss cuts the power of a disk that loses unflushed writes at random. Every acknowledged event must be in the journal,
// and no position may be assigned twice. JOURNAL_SEEDS chooses how many times.
func TestJournal_PowerLoss(t *testing.T) {
	skipWithShort(t)
	for seed := range rounds(t, "JOURNAL_SEEDS", testscope.Select(1000, 150)) {
		chance := rand.New(rand.NewPCG(uint64(seed), 7))
		m := newModel(t, fmt.Sprintf("seed %d", seed), chance)
		for range 4 {
			m.disk.crashAt = m.disk.ops + 1 + chance.IntN(300)
			if chance.IntN(2) == 0 {
				m.disk.flaky = 0.03
			}
			j, err := m.open()
			for err != nil && m.disk.ops < m.disk.crashAt {
				j, err = m.open()
			}
			for m.disk.ops < m.disk.crashAt && err == nil {
				m.step(j)
			}
			if err == nil && chance.IntN(4) == 0 { // a flush fails and the process is killed
				m.disk.crashAt, m.disk.flaky = 0, 0
				m.disk.failAt, m.disk.failFor, m.disk.with = m.disk.ops+2, 1, syscall.EIO
				if err := j.Append(t.Context(), []Event{newEvent(3 * m.next), newEvent(3*m.next + 3)}); err == nil {
					m.disk.failAt = 0
				}
				m.next = 3*m.next + 4
				m.disk = m.disk.afterKill()
				m.reopen()
				m.disk = m.disk.afterPowerLoss()
			} else if chance.IntN(3) == 0 {
				m.disk = m.disk.afterKill()
			} else {
				m.disk = m.disk.afterPowerLoss()
			}
			if chance.IntN(2) == 0 { // another power cut during the recovery
				m.disk.crashAt = chance.IntN(20) + 1
				m.open()
				m.disk = m.disk.afterPowerLoss()
			}
			m.reopen().Close()
		}
	}
}

// TestJournal_DiskFaults lets each disk operation (in make test every third) fail once, or begin a series of failures. No acknowledged
// event may be lost, and the journal must recover without a restart.
func TestJournal_DiskFaults(t *testing.T) {
	skipWithShort(t)
	for _, c := range []struct {
		err   error
		count int
	}{{syscall.EIO, 1}, {syscall.ENOSPC, 1}, {syscall.ENOSPC, 40}, {syscall.EIO, 3}} {
		for n := 1; ; n += testscope.Select(1, 3) {
			chance := rand.New(rand.NewPCG(uint64(n), 3))
			m := newModel(t, fmt.Sprintf("%d operations from %d on fail with %v", c.count, n, c.err), chance)
			m.disk.failAt, m.disk.failFor, m.disk.with = n, c.count, c.err
			j, err := m.open()
			for range c.count + 1 {
				if err != nil {
					j, err = m.open()
				}
			}
			require.NoErrorf(t, err, "%s", m.name)
			for range 60 {
				m.step(j)
			}
			hit := m.disk.ops >= n
			for m.disk.ops < n+c.count {
				m.step(j)
			}
			require.NoErrorf(t, j.Append(t.Context(), []Event{newEvent(3 * m.next)}), "%s: Append() after the failures", m.name)
			m.disk.failAt = 0
			m.check(j, true)
			if chance.IntN(2) == 0 {
				j.Close()
			}
			m.disk = m.disk.afterPowerLoss()
			m.reopen()
			if !hit {
				break
			}
		}
	}
}

// TestJournal_FailedFlushNotAcknowledged verifies that an event whose flush fails is not acknowledged, also if the next flush succeeds.
func TestJournal_FailedFlushNotAcknowledged(t *testing.T) {
	d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
	j, err := OpenJournal("scans", JournalOptions{disk: d, Random: newRandom(1)})
	require.NoError(t, err)
	require.NoError(t, j.Append(t.Context(), events(0, 5)))
	r := NewRecorder(j, RecorderOptions{})
	enqueue := func(n int64) error {
		e := newEvent(n)
		g := require.Value(r.Enqueue(&e))(t)
		return g.Wait(t.Context())
	}
	d.mu.Lock()
	d.failAt, d.failFor, d.with = d.ops+2, 1, syscall.EIO // the flush after the write
	d.mu.Unlock()
	require.ErrorIs(t, enqueue(5), syscall.EIO, "Wait() after a failed flush")
	assert.True(t, r.IsLate() && r.LastError() != nil && r.Lost() == 1, "recorder: late %v, error %v, lost %d, want late, an error and 1",
		r.IsLate(), r.LastError(), r.Lost())
	end, _ := j.End(t.Context())
	assert.Equal(t, end, 5, "End() after a failed flush")
	require.NoError(t, enqueue(6))
	assert.True(t, !r.IsLate(), "IsLate() after a successful flush = true, want false")
	assert.Equal(t, len(j.segments), 2, "number of segments after a failed flush")
	r.Close()
	j = require.Value(OpenJournal("scans", JournalOptions{disk: d.afterPowerLoss(), Random: newRandom(1)}))(t)
	got := require.All(t, j.Read(t.Context(), 0))
	assert.True(t, len(got) == 6 && got[5] == Entry{Position: 6, Event: newEvent(6)}, "events from 5 on = %+v, want event 6", got[5:])
}
