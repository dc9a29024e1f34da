package stream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var begin = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// anEvent is the nth of a row of different events.
func anEvent(n int64) scanlog.Event {
	at := begin.Add(time.Duration(n) * 10 * time.Millisecond)
	e := scanlog.Event{ID: idAt(at, n), OccurredAt: at, Source: "scan", Client: "app/1.2", Action: "open_mini_program", Kind: "rule",
		App:     "wxminiprogram0001",
		Version: "release", RuleID: n, Text: fmt.Sprintf("https://coffee.example/t/%d", n)}
	if n%3 != 0 {
		e.User, e.Network = scanlog.UserHash{byte(n % 11), 1}, netip.MustParsePrefix("203.0.113.0/24")
	}
	return e
}

func idAt(at time.Time, n int64) (id scanlog.ScanID) {
	for i := range 6 {
		id[i] = byte(at.UnixMilli() >> (8 * (5 - i)))
	}
	for i := range 8 {
		id[8+i] = byte(n >> (8 * (7 - i)))
	}
	return id
}

// events are the events from one to before another.
func events(from, to int64) (list []scanlog.Event) {
	for n := from; n < to; n++ {
		list = append(list, anEvent(n))
	}
	return list
}

// Append publishes events of no journal.
func (l *Log) Append(ctx context.Context, events []scanlog.Event) error {
	if err := l.Ready(ctx); err != nil {
		return err
	}
	entries := make([]scanlog.Entry, len(events))
	for i := range events {
		entries[i].Event = events[i]
	}
	_, _, err := l.append(ctx, 0, entries)
	return err
}

func seeded(n uint64) io.Reader { return rand.NewChaCha8([32]byte{byte(n)}) }

// openJournal opens the journal in a folder and closes it after the test.
func openJournal(t testing.TB, dir string, o scanlog.JournalOptions) *scanlog.Journal {
	t.Helper()
	o.Random = seeded(1)
	j, err := scanlog.OpenJournal(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

// wantRun wants the events from one to before another, at positions from one on.
func wantRun(t testing.TB, got []scanlog.Entry, from, position, to int64) {
	t.Helper()
	require.True(t, int64(len(got)) == to-from, "%d events, want %d", len(got), to-from)
	for i, e := range got {
		e.From = scanlog.Origin{}
		want := (scanlog.Entry{Position: position + int64(i), Event: anEvent(from + int64(i))})
		require.True(t, e == want, "entry %d:\n got %+v\nwant %+v", i, e, want)
	}
}
