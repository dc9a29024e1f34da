package scanlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var begin = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// newEvent returns event n, which differs from the events with other numbers.
func newEvent(n int64) Event {
	now := begin.Add(time.Duration(n) * 10 * time.Millisecond)
	e := Event{ID: newScanID(now, n), OccurredAt: now, Source: "scan", Client: "app/1.2", Action: "open_mini_program", Kind: "code",
		App: "wxminiprogram0001", Version: "release", Batch: 1 + n%7, Index: n, Activation: n % 5, Region: "CN-31"}
	if n%3 != 0 {
		e.User = UserHash{byte(n % 11), 1}
		e.Network = netip.MustParsePrefix("203.0.113.0/24")
	}
	if n%5 == 0 {
		e.Kind, e.RuleID, e.Batch, e.Index, e.Activation, e.Text = "rule", n, 0, 0, 0, fmt.Sprintf("https://coffee.example/t/%d", n)
		e.Network = netip.MustParsePrefix("2001:db8:7::/48")
	}
	return e
}

// newScanID returns the ID of scan n at a time.
func newScanID(now time.Time, n int64) (id ScanID) {
	binary.BigEndian.PutUint64(id[:], uint64(now.UnixMilli())<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// scanNumber returns the number n of newScanID.
func scanNumber(id ScanID) int64 { return int64(binary.BigEndian.Uint64(id[8:])) }

// events returns the events with the numbers from to to-1.
func events(from, to int64) (list []Event) {
	for n := from; n < to; n++ {
		list = append(list, newEvent(n))
	}
	return list
}

func newRandom(n uint64) io.Reader {
	return rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
}

// openJournal opens the journal in a folder and closes it after the test.
func openJournal(t testing.TB, dir string, o JournalOptions) *Journal {
	t.Helper()
	if o.Random == nil {
		o.Random = newRandom(1)
	}
	j := require.Value(OpenJournal(dir, o))(t)
	t.Cleanup(func() { j.Close() })
	return j
}

// checkEntries checks that entries are the events with the numbers from to to-1, at consecutive positions that begin at position.
func checkEntries(t testing.TB, got []Entry, from, position, to int64) {
	t.Helper()
	require.True(t, int64(len(got)) == to-from, "%d events, want %d", len(got), to-from)
	for i, e := range got {
		want := (Entry{Position: position + int64(i), Event: newEvent(from + int64(i))})
		require.True(t, e == want, "entry %d:\n got %+v\nwant %+v", i, e, want)
	}
}

func TestJournal_OrderAfterReopen(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentSize: 20_000})
	n := int64(0)
	for i := range 60 {
		size := int64(i%7*i%40 + 1)
		require.NoError(t, j.Append(t.Context(), events(n, n+size)))
		n += size
	}
	check := func(j *Journal) {
		t.Helper()
		end, err := j.End(t.Context())
		require.True(t, err == nil && end == n, "End() = %d, %v, want %d", end, err, n)
		for _, after := range []int64{0, 1, n / 3, n / 2, n - 1, n, n + 5} {
			checkEntries(t, require.All(t, j.Read(t.Context(), after)), min(after, n), after+1, n)
		}
		for i := int64(0); i < n; i += 13 {
			p, err := j.Find(t.Context(), newEvent(i).ID)
			require.True(t, err == nil && p == i+1, "Find(scan %d) = %d, %v, want %d", i, p, err, i+1)
		}
		assert.ErrorIs(t, assert.ErrorOf(j.Find(t.Context(), newScanID(begin, 77))), ErrNoScan, "Find() of an unknown ID")
	}
	check(j)
	id := j.ID()
	require.NoError(t, j.Close())
	check(j) // a closed journal can be read
	assert.ErrorIs(t, j.Append(t.Context(), events(0, 1)), ErrClosed, "Append() to a closed journal")
	j = openJournal(t, dir, JournalOptions{SegmentSize: 20_000})
	check(j)
	assert.Equal(t, j.ID(), id, "ID() after the journal is opened again")
	require.NoError(t, j.Append(t.Context(), events(n, n+3)))
	n += 3
	check(j)
}

func TestJournal_TruncatedTail(t *testing.T) {
	skipWithShort(t)
	for cut := range 80 {
		dir := t.TempDir()
		j := openJournal(t, dir, JournalOptions{})
		for i := range int64(10) {
			require.NoError(t, j.Append(t.Context(), events(i, i+1)))
		}
		name := filepath.Join(dir, segmentName(1))
		content, err := os.ReadFile(name) // without a footer, as after a crash
		require.NoError(t, err)
		j.Close()
		require.NoError(t, os.WriteFile(name, content[:len(content)-1-cut], 0o600))
		j = openJournal(t, dir, JournalOptions{})
		require.NoError(t, j.Append(t.Context(), events(9, 12)))
		checkEntries(t, require.All(t, j.Read(t.Context(), 0)), 0, 1, 12)
	}
}

func TestJournal_CorruptMiddle(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		dir := t.TempDir()
		j := openJournal(t, dir, JournalOptions{})
		for i := range int64(30) {
			require.NoError(t, j.Append(t.Context(), events(10*i, 10*i+10)))
		}
		name := filepath.Join(dir, segmentName(1))
		b, _ := os.ReadFile(name)
		size := j.segments[0].size
		j.Close()
		if sealed {
			b, _ = os.ReadFile(name)
		}
		b[size/2] ^= 4
		require.NoError(t, os.WriteFile(name, b, 0o600))
		var logs bytes.Buffer
		j = openJournal(t, dir, JournalOptions{Log: slog.New(slog.NewTextHandler(&logs, nil))})
		got := require.All(t, j.Read(t.Context(), 0))
		assert.True(t, len(got) == 290 && got[289] == Entry{Position: 300, Event: newEvent(299)},
			"sealed %v: %d events, the last at %d, want 290 and 300", sealed, len(got), got[len(got)-1].Position)
		for _, e := range got {
			require.Equal(t, e.Event, newEvent(e.Position-1), "event at position %d", e.Position)
		}
		require.All(t, j.Read(t.Context(), 0))
		assert.True(t, j.Damaged() == 10 && strings.Count(logs.String(), "is corrupted") == 1 && strings.Contains(logs.String(), name) &&
			strings.Contains(logs.String(), "offset="), "sealed %v: Damaged() = %d, want 10; log: %s", sealed, j.Damaged(), logs.String())
	}
}

func TestJournal_ForgetKeepsPosition(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentSize: 5_000})
	for i := range int64(50) {
		require.NoError(t, j.Append(t.Context(), events(10*i, 10*i+10)))
	}
	require.NoError(t, j.Forget(t.Context(), newEvent(250).OccurredAt))
	got := require.All(t, j.Read(t.Context(), 0))
	first := got[0].Position
	assert.True(t, first >= 150 && first <= 251, "position of the first remaining event = %d, want 150 to 251", first)
	checkEntries(t, got, got[0].Position-1, got[0].Position, 500)
	require.NoError(t, j.Forget(t.Context(), newEvent(10_000).OccurredAt))
	for range 3 {
		assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 0, "number of remaining events")
		end, _ := j.End(t.Context())
		assert.Equal(t, end, 500, "End()")
		assert.Equal(t, j.Missing(500), 0, "Missing(500), which does not include removed events,")
		j.Close()
		j = openJournal(t, dir, JournalOptions{})
	}
	require.NoError(t, j.Append(t.Context(), events(500, 501)))
	checkEntries(t, require.All(t, j.Read(t.Context(), 0)), 500, 501, 501)
}

func TestJournal_EraseUser(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentSize: 5_000})
	for i := range int64(50) {
		require.NoError(t, j.Append(t.Context(), events(10*i, 10*i+10)))
	}
	user := UserHash{4, 1}
	want := int64(0)
	for n := range int64(500) {
		if newEvent(n).User == user {
			want++
		}
	}
	n, err := j.Erase(t.Context(), Users{user: true}, math.MaxInt64)
	require.True(t, err == nil && n == want, "Erase() = %d, %v, want %d", n, err, want)
	check := func() {
		t.Helper()
		got := require.All(t, j.Read(t.Context(), 0))
		require.Equal(t, len(got), 500, "number of events")
		for i, e := range got {
			event := newEvent(int64(i))
			if event.User == user {
				event = *Anonymous(&event)
			}
			require.Equal(t, e, Entry{Position: int64(i) + 1, Event: event}, "event %d", i)
		}
	}
	check()
	n, err = j.Erase(t.Context(), Users{user: true}, math.MaxInt64)
	assert.True(t, err == nil && n == 0, "second Erase() = %d, %v, want 0", n, err)
	j.Close()
	j = openJournal(t, dir, JournalOptions{SegmentSize: 5_000})
	check()
	assert.Equal(t, j.Damaged(), 0, "Damaged() after the erasure")
	hash := string(user[:])
	names, _ := filepath.Glob(dir + "/*")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		assert.True(t, !strings.Contains(string(b), hash), "%s contains the hash of the erased user, want none", name)
	}
}

// TestJournal_EraseCutoffTime verifies that an erasure reaches the user's events up to its cutoff time only, and changes no file if all
// events are newer.
func TestJournal_EraseCutoffTime(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentSize: 5_000})
	for i := range int64(50) {
		require.NoError(t, j.Append(t.Context(), events(10*i, 10*i+10)))
	}
	files := func() string {
		names, _ := filepath.Glob(dir + "/*")
		return strings.Join(names, " ")
	}
	before := files()
	users := map[UserHash]int64{{4, 1}: begin.UnixMilli() - 1, {7, 1}: begin.UnixMilli() - 1}
	n, err := j.eraseAll(t.Context(), users, math.MaxInt64)
	assert.True(t, n == 0 && err == nil && files() == before, "eraseAll() before all events = %d, %v, want 0 and unchanged files", n, err)
	users = map[UserHash]int64{{4, 1}: newEvent(200).OccurredAt.UnixMilli(), {7, 1}: newEvent(300).OccurredAt.UnixMilli(),
		{8, 1}: begin.UnixMilli() - 1}
	want := int64(0)
	wantEvent := func(n int64) Event {
		e := newEvent(n)
		if upTo, ok := users[e.User]; ok && e.OccurredAt.UnixMilli() <= upTo {
			return *Anonymous(&e)
		}
		return e
	}
	for n := range int64(500) {
		if wantEvent(n) != newEvent(n) {
			want++
		}
	}
	n, err = j.eraseAll(t.Context(), users, math.MaxInt64)
	assert.True(t, err == nil && n == want && want >= 10, "eraseAll() = %d, %v, want %d", n, err, want)
	for i, e := range require.All(t, j.Read(t.Context(), 0)) {
		require.Equal(t, e, (Entry{Position: int64(i) + 1, Event: wantEvent(int64(i))}), "event %d", i)
	}
}

func TestJournal_RejectsForeignFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for i, dir := range []string{dir, other} {
		j := openJournal(t, dir, JournalOptions{Random: newRandom(uint64(i))})
		require.NoError(t, j.Append(t.Context(), events(0, 3)))
		j.Close()
	}
	b, _ := os.ReadFile(filepath.Join(other, segmentName(1)))
	os.WriteFile(filepath.Join(dir, segmentName(1)), b, 0o600)
	_, err := OpenJournal(dir, JournalOptions{})
	assert.True(t, err != nil && strings.Contains(err.Error(), "belongs to the scan log"), "OpenJournal() = %v, want an error", err)
	// A folder without an ID file has the ID of its segments.
	os.Remove(filepath.Join(dir, ledgerFile))
	j := openJournal(t, dir, JournalOptions{})
	checkEntries(t, require.All(t, j.Read(context.Background(), 0)), 0, 1, 3)
}
