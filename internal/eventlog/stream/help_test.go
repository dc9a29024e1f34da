package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var begin = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// newEvent returns event n, which differs from the events with other numbers.
func newEvent(n int64) scanlog.Event {
	now := begin.Add(time.Duration(n) * 10 * time.Millisecond)
	e := scanlog.Event{ID: newScanID(now, n), OccurredAt: now, Source: "scan", Client: "app/1.2", Action: "open_mini_program",
		Kind: "rule", App: "wxminiprogram0001", Version: "release", RuleID: n, Text: fmt.Sprintf("https://coffee.example/t/%d", n)}
	if n%3 != 0 {
		e.User, e.Network = scanlog.UserHash{byte(n % 11), 1}, netip.MustParsePrefix("203.0.113.0/24")
	}
	return e
}

// newScanID returns the ID of scan n at a time.
func newScanID(now time.Time, n int64) (id scanlog.ScanID) {
	binary.BigEndian.PutUint64(id[:], uint64(now.UnixMilli())<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// events returns the events with the numbers from to to-1.
func events(from, to int64) (list []scanlog.Event) {
	for n := from; n < to; n++ {
		list = append(list, newEvent(n))
	}
	return list
}

// Append publishes events without a journal.
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

func newRandom(n uint64) io.Reader { return rand.NewChaCha8([32]byte{byte(n)}) }

// openJournal opens the journal in a folder and closes it after the test.
func openJournal(t testing.TB, dir string) *scanlog.Journal {
	t.Helper()
	j := require.Value(scanlog.OpenJournal(dir, scanlog.JournalOptions{Random: newRandom(1)}))(t)
	t.Cleanup(func() { j.Close() })
	return j
}

// newOptions returns options for a server, with an empty folder for the files of a node.
func newOptions(t testing.TB, address string) Options {
	t.Helper()
	o := require.Value(Parse(address))(t)
	o.Marks, o.Patience = t.TempDir(), time.Hour
	return o
}

// openLog opens a log and closes it after the test.
func openLog(t testing.TB, o Options) *Log {
	t.Helper()
	l := require.Value(Open(o))(t)
	t.Cleanup(func() { l.Close() })
	return l
}

// beginLog tells a log that its journal has no earlier scans.
func beginLog(t testing.TB, l *Log) {
	t.Helper()
	require.NoError(t, l.Begin(func() (scanlog.Offset, error) { return scanlog.Offset{}, nil }))
}

func newShipper(l *Log, j *scanlog.Journal) *scanlog.Shipper {
	return &scanlog.Shipper{Journal: j, To: l, Node: "n", Random: newRandom(3), Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// checkEntries checks that entries are the events with the numbers from to to-1, at consecutive positions that begin at position.
func checkEntries(t testing.TB, got []scanlog.Entry, from, position, to int64) {
	t.Helper()
	require.True(t, int64(len(got)) == to-from, "%d events, want %d", len(got), to-from)
	for i, e := range got {
		e.From = scanlog.Origin{}
		want := (scanlog.Entry{Position: position + int64(i), Event: newEvent(from + int64(i))})
		require.True(t, e == want, "entry %d:\n got %+v\nwant %+v", i, e, want)
	}
}
