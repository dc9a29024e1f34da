package scanlog

import (
	"bytes"
	"context"
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

// anEvent is the nth of a row of different events.
func anEvent(n int64) Event {
	at := begin.Add(time.Duration(n) * 10 * time.Millisecond)
	e := Event{ID: idAt(at, n), OccurredAt: at, Source: "scan", Client: "app/1.2", Action: "open_mini_program", Kind: "code",
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

func idAt(at time.Time, n int64) (id ScanID) {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	for i := range 8 {
		id[8+i] = byte(n >> (8 * (7 - i)))
	}
	return id
}

// events are the events from one to before another.
func events(from, to int64) []Event {
	var list []Event
	for n := from; n < to; n++ {
		list = append(list, anEvent(n))
	}
	return list
}

func seeded(n uint64) io.Reader {
	return rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
}

// openJournal opens the journal in a folder and closes it after the test.
func openJournal(t testing.TB, dir string, o JournalOptions) *Journal {
	t.Helper()
	if o.Random == nil {
		o.Random = seeded(1)
	}
	j, err := OpenJournal(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

// wantRun checks that entries are the events of a row, from a number and position on.
func wantRun(t testing.TB, got []Entry, from, position, to int64) {
	t.Helper()
	require.True(t, int64(len(got)) == to-from, "%d events, want %d", len(got), to-from)
	for i, e := range got {
		e.From = Origin{} // a stream says it, a journal does not
		want := (Entry{Position: position + int64(i), Event: anEvent(from + int64(i))})
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
		require.True(t, err == nil && end == n, "the end is %d, %v; want %d", end, err, n)
		for _, after := range []int64{0, 1, n / 3, n / 2, n - 1, n, n + 5} {
			wantRun(t, require.All(t, j.Read(t.Context(), after)), min(after, n), after+1, n)
		}
		for i := int64(0); i < n; i += 13 {
			p, err := j.Find(t.Context(), anEvent(i).ID)
			require.True(t, err == nil && p == i+1, "scan %d is found at %d, %v", i, p, err)
		}
		assert.ErrorIs(t, assert.ErrorOf(j.Find(t.Context(), idAt(begin, 77))), ErrNoScan, "a forged id")
	}
	check(j)
	id := j.ID()
	require.NoError(t, j.Close())
	check(j) // what is closed can still be read
	assert.ErrorIs(t, j.Append(t.Context(), events(0, 1)), ErrClosed, "appending to a closed journal")
	j = openJournal(t, dir, JournalOptions{SegmentSize: 20_000})
	check(j)
	assert.Equal(t, j.ID(), id, "the ledger's id was %s and", id)
	require.NoError(t, j.Append(t.Context(), events(n, n+3)))
	n += 3
	check(j)
}

func TestJournal_TruncatedTail(t *testing.T) {
	inOneGoroutine(t)
	for cut := range 80 {
		dir := t.TempDir()
		j := openJournal(t, dir, JournalOptions{})
		for i := range int64(10) {
			require.NoError(t, j.Append(t.Context(), events(i, i+1)))
		}
		name := filepath.Join(dir, segmentName(1))
		whole, err := os.ReadFile(name) // as a crash leaves it: without a footer
		require.NoError(t, err)
		j.Close()
		require.NoError(t, os.WriteFile(name, whole[:len(whole)-1-cut], 0o600))
		j = openJournal(t, dir, JournalOptions{})
		require.NoError(t, j.Append(t.Context(), events(9, 12)))
		wantRun(t, require.All(t, j.Read(t.Context(), 0)), 0, 1, 12)
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
		if len(got) != 290 || got[289] != (Entry{Position: 300, Event: anEvent(299)}) {
			t.Errorf("sealed %v: %d events are left of 300, the last at %d", sealed, len(got), got[len(got)-1].Position)
		}
		for _, e := range got {
			require.True(t, e.Event == anEvent(e.Position-1), "at %d stands another event", e.Position)
		}
		require.All(t, j.Read(t.Context(), 0))
		assert.True(t, j.Damaged() == 10 && strings.Count(logs.String(), "is corrupted") == 1 && strings.Contains(logs.String(), name) &&
			strings.Contains(logs.String(), "offset="), "sealed %v: %d lost; log: %s", sealed, j.Damaged(), logs.String())
	}
}

func TestJournal_ForgetKeepsPosition(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentSize: 5_000})
	for i := range int64(50) {
		require.NoError(t, j.Append(t.Context(), events(10*i, 10*i+10)))
	}
	require.NoError(t, j.Forget(t.Context(), anEvent(250).OccurredAt))
	got := require.All(t, j.Read(t.Context(), 0))
	first := got[0].Position
	assert.True(t, first >= 150 && first <= 251, "the first event left is %d", first)
	wantRun(t, got, got[0].Position-1, got[0].Position, 500)
	require.NoError(t, j.Forget(t.Context(), anEvent(10_000).OccurredAt))
	for range 3 {
		assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 0, "events are left")
		end, _ := j.End(t.Context())
		assert.Equal(t, end, 500, "the end")
		if n := j.Missing(500); n != 0 { // what was forgotten is not missing
			t.Errorf("%d are missing", n)
		}
		j.Close()
		j = openJournal(t, dir, JournalOptions{})
	}
	require.NoError(t, j.Append(t.Context(), events(500, 501)))
	wantRun(t, require.All(t, j.Read(t.Context(), 0)), 500, 501, 501)
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
		if anEvent(n).User == user {
			want++
		}
	}
	n, err := j.Erase(t.Context(), Users{user: true}, math.MaxInt64)
	require.True(t, err == nil && n == want, "erased %d, %v; want %d", n, err, want)
	check := func() {
		t.Helper()
		got := require.All(t, j.Read(t.Context(), 0))
		require.Equal(t, len(got), 500, "events")
		for i, e := range got {
			was := anEvent(int64(i))
			if was.User == user {
				was = *Anonymous(&was)
			}
			require.True(t, e == (Entry{Position: int64(i) + 1, Event: was}), "event %d: %+v, want %+v", i, e, was)
		}
	}
	check()
	n, err = j.Erase(t.Context(), Users{user: true}, math.MaxInt64)
	assert.True(t, err == nil && n == 0, "erased again: %d, %v", n, err)
	j.Close()
	j = openJournal(t, dir, JournalOptions{SegmentSize: 5_000})
	check()
	assert.Equal(t, j.Damaged(), 0, "an erasure damaged the file")
	hash := string(user[:])
	names, _ := filepath.Glob(dir + "/*")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		assert.True(t, !strings.Contains(string(b), hash), "%s still holds the user", name)
	}
}

// Erasures are of a moment: who comes back afterwards is known again. A journal in which nothing is so old is left alone.
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
	assert.True(t, n == 0 && err == nil && files() == before, "nothing is so old: %d were erased, %v", n, err)
	users = map[UserHash]int64{{4, 1}: anEvent(200).OccurredAt.UnixMilli(), {7, 1}: anEvent(300).OccurredAt.UnixMilli(),
		{8, 1}: begin.UnixMilli() - 1}
	want := int64(0)
	left := func(n int64) Event {
		e := anEvent(n)
		if upTo, ok := users[e.User]; ok && e.OccurredAt.UnixMilli() <= upTo {
			return *Anonymous(&e)
		}
		return e
	}
	for n := range int64(500) {
		if left(n) != anEvent(n) {
			want++
		}
	}
	n, err = j.eraseAll(t.Context(), users, math.MaxInt64)
	assert.True(t, err == nil && n == want && want >= 10, "erased %d, %v; want %d", n, err, want)
	for i, e := range require.All(t, j.Read(t.Context(), 0)) {
		require.Equal(t, e, (Entry{Position: int64(i) + 1, Event: left(int64(i))}), "event %d", i)
	}
}

func TestJournal_RejectsForeignFiles(t *testing.T) {
	one, other := t.TempDir(), t.TempDir()
	for i, dir := range []string{one, other} {
		j := openJournal(t, dir, JournalOptions{Random: seeded(uint64(i))})
		require.NoError(t, j.Append(t.Context(), events(0, 3)))
		j.Close()
	}
	b, _ := os.ReadFile(filepath.Join(other, segmentName(1)))
	os.WriteFile(filepath.Join(one, segmentName(1)), b, 0o600)
	_, err := OpenJournal(one, JournalOptions{})
	assert.True(t, err != nil && strings.Contains(err.Error(), "belongs to the scan log"), "opened: %v", err)
	// Without its id, a folder is what its files say.
	os.Remove(filepath.Join(one, ledgerFile))
	j := openJournal(t, one, JournalOptions{})
	wantRun(t, require.All(t, j.Read(context.Background(), 0)), 0, 1, 3)
}
