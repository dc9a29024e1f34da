package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newScan returns scan n of a sequence of different scans, one a minute.
func newScan(n int64) scanlog.Event {
	e := scanlog.Event{OccurredAt: t0.Add(time.Duration(n) * time.Minute), Source: "scan", Client: fmt.Sprintf("扫码/%d \"<&>\\", n%3),
		Action: "open_mini_program", Kind: "code",
		App: "wxminiprogram0001", Version: "release", Region: "CN-31", Batch: 1 + n%7, Index: n, Activation: n % 5}
	ms := e.OccurredAt.UnixMilli()
	for i := range 6 {
		e.ID[i] = byte(ms >> (8 * (5 - i)))
	}
	for i := range 8 {
		e.ID[8+i] = byte(n >> (8 * (7 - i)))
	}
	if n%3 != 0 {
		e.User = scanlog.UserHash{byte(n % 5), 1}
		e.Network = netip.MustParsePrefix("203.0.113.0/24")
	}
	if n%4 == 0 {
		e.Kind, e.RuleID, e.Batch, e.Index, e.Text = "rule", n, 0, 0, fmt.Sprintf("https://coffee.example/t/%d?q=\u2028", n)
		e.Network = netip.MustParsePrefix("2001:db8:7::/48")
		e.OccurredAt = e.OccurredAt.Add(-36 * time.Hour) // the scan arrives late
	}
	return e
}

func newScans(from, to int64) (list []scanlog.Event) {
	for n := from; n < to; n++ {
		list = append(list, newScan(n))
	}
	return list
}

func newRandom() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func openJournal(t *testing.T, dir string) *scanlog.Journal {
	t.Helper()
	j := require.Value(scanlog.OpenJournal(dir, scanlog.JournalOptions{Random: newRandom(), SegmentSize: 10_000}))(t)
	t.Cleanup(func() { j.Close() })
	return j
}

func openScans(t *testing.T, s *Store) *Scans {
	t.Helper()
	l, err := s.OpenScans(t.Context(), ScansOptions{Random: newRandom(), Now: func() time.Time { return t0.Add(30 * 24 * time.Hour) },
		Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return l
}

// appendLog is a scan log to which events are appended without a shipper.
type appendLog interface {
	scanlog.Log
	Append(ctx context.Context, events []scanlog.Event) error
}

// forEachScanLog runs f with a scan log in files and one in PostgreSQL.
func forEachScanLog(t *testing.T, f func(t *testing.T, l appendLog)) {
	t.Run("journal", func(t *testing.T) { f(t, openJournal(t, filepath.Join(t.TempDir(), "scans"))) })
	t.Run("postgres", func(t *testing.T) { f(t, openScans(t, open(t, newPostgres(t)))) })
}

func entryEvent(e scanlog.Entry) scanlog.Event { return e.Event }

func checkEvents(t *testing.T, name string, got, want []scanlog.Event) {
	t.Helper()
	require.Equal(t, len(got), len(want), "number of %s", name)
	for i := range got {
		require.True(t, got[i] == want[i], "%s: event %d is\n%+v, want\n%+v", name, i, got[i], want[i])
	}
}

func TestScanLedger_TotalOrder(t *testing.T) {
	forEachScanLog(t, func(t *testing.T, l appendLog) {
		ctx := t.Context()
		end, err := l.End(ctx)
		require.True(t, err == nil && end == 0, "End() of an empty log = %d, %v, want 0", end, err)
		require.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "events of an empty log")
		for n := int64(0); n < 12_000; n += 1500 {
			require.NoError(t, l.Append(ctx, newScans(n, n+1500)))
		}
		got := require.All(t, l.Read(ctx, 0))
		checkEvents(t, "all events", mapSlice(got, entryEvent), newScans(0, 12_000))
		for i := 1; i < len(got); i++ {
			require.True(t, got[i].Position > got[i-1].Position, "position %d follows %d", got[i].Position, got[i-1].Position)
		}
		end, err = l.End(ctx)
		assert.True(t, err == nil && end >= got[len(got)-1].Position, "End() = %d, %v, want at least the last position", end, err)
		for _, i := range []int{0, 1, 4999, 5000, 7321, 11_999} {
			position, err := l.Find(ctx, got[i].ID)
			assert.True(t, err == nil && position == got[i].Position,
				"Find() of scan %d = %d, %v, want %d", i, position, err, got[i].Position)
			checkEvents(t, "events after it", mapSlice(require.All(t, l.Read(ctx, position)), entryEvent), newScans(int64(i)+1, 12_000))
		}
		altered := got[5].ID
		altered[15] ^= 1
		assert.ErrorIs(t, assert.ErrorOf(l.Find(ctx, altered)), scanlog.ErrNoScan, "an altered ID")
		for range l.Read(ctx, 0) {
			break // a reader may stop early
		}
	})
}

func TestScanLedger_FieldsRoundTrip(t *testing.T) {
	forEachScanLog(t, func(t *testing.T, l appendLog) {
		e := newScan(1)
		e.Client = "a\x00b\xff" + strings.Repeat("界", 40)
		e.Text = "https://h.example/" + strings.Repeat("x", 600)
		e.App = strings.Repeat("名", 32)
		e.OccurredAt = e.OccurredAt.Add(123456 * time.Nanosecond)
		e.Network = netip.MustParsePrefix("192.0.2.77/24")
		require.NoError(t, l.Append(t.Context(), []scanlog.Event{e}))
		got := require.All(t, l.Read(t.Context(), 0))[0].Event
		checkEvents(t, "sanitized events", []scanlog.Event{got}, []scanlog.Event{e.Sanitized()})
		assert.True(t, len(got.Client) <= 64 && strings.HasPrefix(got.Client, "a b�界") && len(got.Text) == 512 && got.App == e.App &&
			got.Network.String() == "192.0.2.0/24", "event = %+v, want truncated texts and network", got)
	})
}

// TestScanLedger_ReadSince verifies that reads by time return all scans of the time and few older ones.
func TestScanLedger_ReadSince(t *testing.T) {
	forEachScanLog(t, func(t *testing.T, l appendLog) {
		ctx := t.Context()
		p, err := l.PositionBefore(ctx, t0)
		assert.True(t, err == nil && p == 0, "PositionBefore() of an empty log = %d, %v, want 0", p, err)
		var all []scanlog.Event
		for n := int64(0); n < 5000; n += 100 { // three and a half days
			all = append(all, newScans(n, n+100)...)
			require.NoError(t, l.Append(ctx, all[n:]))
		}
		for _, since := range []time.Duration{-time.Hour, 0, time.Hour, 30 * time.Hour, 49 * time.Hour, 80 * time.Hour, 1000 * time.Hour} {
			p := require.Value(l.PositionBefore(ctx, t0.Add(since)))(t)
			var want, got []scanlog.Event
			for _, e := range all {
				if !e.OccurredAt.Before(t0.Add(since)) {
					want = append(want, e)
				}
			}
			read := mapSlice(require.All(t, l.Read(ctx, p)), entryEvent)
			for _, e := range read {
				if !e.OccurredAt.Before(t0.Add(since)) {
					got = append(got, e)
				}
			}
			checkEvents(t, fmt.Sprint("events since ", since), got, want)
			assert.True(t, since < 49*time.Hour || len(read) != len(all), "since %s: all %d events are read", since, len(all))
			want, got = nil, nil
			until := t0.Add(since + 2*time.Hour)
			inRange := func(e scanlog.Event) bool {
				return !e.OccurredAt.Before(t0.Add(since)) && e.OccurredAt.Before(until)
			}
			for _, e := range all {
				if inRange(e) {
					want = append(want, e)
				}
			}
			read = mapSlice(require.All(t, l.ListRange(ctx, 0, t0.Add(since), until)), entryEvent)
			for _, e := range read {
				if inRange(e) {
					got = append(got, e)
				}
			}
			checkEvents(t, fmt.Sprint("events of two hours since ", since), got, want)
			assert.True(t, len(read) <= len(all)/2,
				"two hours since %s: %d of %d events are read, want at most half", since, len(read), len(all))
		}
	})
}

// TestScanLedger_TimeRangePartitions verifies that a query by time reads the partitions of the days around it only.
func TestScanLedger_TimeRangePartitions(t *testing.T) {
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	const scans = 14_400 // ten days
	for n := int64(0); n < scans; n += 1_800 {
		require.NoError(t, l.Append(t.Context(), newScans(n, n+1_800)))
	}
	mustExec(t, s, `ANALYZE scan_events`)
	from := newScans(scans/2, scans/2+1)[0].OccurredAt
	to := from.Add(2 * time.Hour)
	end := require.Value(l.End(t.Context()))(t)
	if n := countRowsScanned(t, s, scansBetween, betweenArgs(0, end, from, to)...); n < 100 || n > 5*24*60 {
		t.Errorf("%v of %d rows are read for two hours, want at most %d, the rows of five days", n, scans, 5*24*60)
	}
}

func TestScanLedger_ForgetAndErase(t *testing.T) {
	forEachScanLog(t, func(t *testing.T, l appendLog) {
		ctx := t.Context()
		for n := int64(0); n < 5000; n += 100 { // three and a half days
			require.NoError(t, l.Append(ctx, newScans(n, n+100)))
		}
		user := scanlog.UserHash{2, 1}
		var anonymized []scanlog.Event
		want := int64(0)
		for n := range int64(5000) {
			e := newScan(n)
			if e.User == user {
				e.User, e.Client, e.Network = scanlog.UserHash{}, "", netip.Prefix{}
				want++
			}
			anonymized = append(anonymized, e)
		}
		n, err := l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
		require.True(t, err == nil && n == want, "Erase() = %d, %v, want %d", n, err, want)
		checkEvents(t, "events after Erase", mapSlice(require.All(t, l.Read(ctx, 0)), entryEvent), anonymized)
		n, err = l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
		assert.True(t, err == nil && n == 0, "second Erase() = %d, %v, want 0", n, err)
		end, _ := l.End(ctx)
		before := t0.Add(48 * time.Hour)
		require.NoError(t, l.Forget(ctx, before))
		got := mapSlice(require.All(t, l.Read(ctx, 0)), entryEvent)
		require.True(t, len(got) != 0 && len(got) <= 5000-10, "%d events remain, want 1 to 4990", len(got))
		checkEvents(t, "events after Forget", got, anonymized[5000-len(got):])
		assert.True(t, anonymized[5000-len(got)-1].OccurredAt.Before(before), "Forget(%v) deleted a later event", before)
		require.NoError(t, l.Forget(ctx, t0.Add(1000*time.Hour)))
		assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "events after Forget of all")
		now, _ := l.End(ctx)
		assert.Equal(t, now, end, "end of the log after Forget, which was %d,", end)
		require.NoError(t, l.Append(ctx, newScans(5000, 5001)))
		if got := require.All(t, l.Read(ctx, 0)); len(got) != 1 || got[0].Position <= end {
			t.Errorf("events after Append = %+v, want one after position %d", got, end)
		}
	})
}

// TestScanLedger_NoGapsForReader appends concurrently while a reader reads from its last position. Positions are in commit order, so that
// the reader gets each event once.
func TestScanLedger_NoGapsForReader(t *testing.T) {
	forEachScanLog(t, func(t *testing.T, l appendLog) {
		const writers, each, size = 4, 12, 25
		var wg sync.WaitGroup
		for w := range int64(writers) {
			wg.Go(func() {
				for i := range int64(each) {
					from := (w*each + i) * size
					if err := l.Append(t.Context(), newScans(from, from+size)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		seen := map[scanlog.ScanID]bool{}
		after := int64(0)
		for last := false; ; {
			for _, e := range require.All(t, l.Read(t.Context(), after)) {
				require.True(t, !seen[e.ID], "scan %v is read twice", e.ID)
				seen[e.ID], after = true, e.Position
			}
			if last {
				break
			}
			select {
			case <-done:
				last = true
			default:
			}
		}
		assert.Equal(t, len(seen), writers*each*size, "events")
	})
}

// lossySharedLog is a shared log whose requests or responses are lost at random.
type lossySharedLog struct {
	scanlog.SharedLog
	random *rand.Rand
	ships  int
}

var errLost = errors.New("the connection is lost")

func (l *lossySharedLog) Ship(ctx context.Context, node string, from, to scanlog.Offset, events []scanlog.Entry) error {
	l.ships++
	n := l.random.IntN(3)
	if n == 0 {
		return errLost
	}
	if err := l.SharedLog.Ship(ctx, node, from, to, events); err != nil || n == 1 {
		return errors.Join(errLost, err)
	}
	return nil
}

func newShipper(j *scanlog.Journal, to scanlog.SharedLog) *scanlog.Shipper {
	node, err := j.NodeID(rand.NewChaCha8([32]byte{byte(j.ID()[0]), 9}))
	if err != nil {
		panic(err)
	}
	return &scanlog.Shipper{Journal: j, To: to, Node: node, Random: rand.NewChaCha8([32]byte{7}), Now: func() time.Time { return t0 },
		Log: slog.New(slog.DiscardHandler), Batch: 70}
}

func TestScanLedger_JournalShippedOnce(t *testing.T) {
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	dir := filepath.Join(t.TempDir(), "scans")
	lossy := &lossySharedLog{SharedLog: l, random: rand.New(rand.NewPCG(1, 1))}
	for round := range int64(10) {
		j := openJournal(t, dir)
		require.NoError(t, j.Append(t.Context(), newScans(200*round, 200*round+200)))
		ship := newShipper(j, lossy) // a new process, without state
		for n := 0; ; n++ {
			err := ship.Flush(t.Context())
			if err == nil {
				break
			}
			require.True(t, errors.Is(err, errLost) && n <= 100, "%v", err)
			if n == 1 && round%2 == 0 {
				break // as if the process ended here
			}
		}
		j.Close()
	}
	j := openJournal(t, dir)
	ship := newShipper(j, l)
	err := ship.Flush(t.Context())
	require.True(t, err == nil && ship.Backlog() == 0, "Flush() = %v with a backlog of %v, want 0", err, ship.Backlog())
	checkEvents(t, "shipped events", mapSlice(require.All(t, l.Read(t.Context(), 0)), entryEvent), newScans(0, 2000))
	assert.True(t, lossy.ships >= 40, "%d requests, want at least 40", lossy.ships)

	// Of two copies of a data directory, the second gets a new node ID, and no scan is lost.
	require.NoError(t, j.Append(t.Context(), newScans(2000, 2100)))
	copyOfJournal := openJournal(t, filepath.Join(t.TempDir(), "scans"))
	require.NoError(t, copyOfJournal.Append(t.Context(), append(newScans(0, 2000), newScans(3000, 3050)...)))
	copied := newShipper(copyOfJournal, l)
	copied.Node = ship.Node
	require.NoError(t, ship.Flush(t.Context()))
	require.NoError(t, copied.Flush(t.Context()))
	assert.True(t, copied.Node != ship.Node, "two nodes have the ID %s", ship.Node)
	require.NoError(t, j.Append(t.Context(), newScans(2100, 2200)))
	require.NoError(t, ship.Flush(t.Context()))
	want := append(append(newScans(0, 2100), newScans(3000, 3050)...), newScans(2100, 2200)...)
	checkEvents(t, "events of both", mapSlice(require.All(t, l.Read(t.Context(), 0)), entryEvent), want)
}

// TestScanLedger_CanceledCopyReturnsCause cancels a COPY, whose own error may only say that the connection is closed.
func TestScanLedger_CanceledCopyReturnsCause(t *testing.T) {
	l := openScans(t, open(t, newPostgres(t)))
	cause := errors.New("the node stops")
	for name, f := range map[string]func(ctx context.Context, cancel func()) error{
		"in the middle": func(ctx context.Context, cancel func()) error {
			return l.insert(ctx, newScans(0, 10), func(pgx.Tx) error {
				cancel()
				return nil
			})
		},
		"with the connection": func(ctx context.Context, cancel func()) error {
			return l.raw(ctx, func(c *pgx.Conn) error {
				cancel()
				if err := c.Close(t.Context()); err != nil {
					return err
				}
				_, err := c.Exec(t.Context(), `SELECT 1`)
				return err
			})
		},
		"beforehand": func(ctx context.Context, cancel func()) error {
			cancel()
			return l.Append(ctx, newScans(0, 10))
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		assert.ErrorIs(t, f(ctx, func() { cancel(cause) }), cause, "%s", name)
	}
	assert.Equal(t, len(require.All(t, l.Read(t.Context(), 0))), 0, "scans stored by canceled calls")
}

func TestScanLedger_ErasureDuringShipping(t *testing.T) {
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	j := openJournal(t, filepath.Join(t.TempDir(), "scans"))
	require.NoError(t, j.Append(t.Context(), newScans(0, 300)))
	if n, err := l.Erase(t.Context(), scanlog.Users{newScan(1).User: true}, math.MaxInt64); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	require.NoError(t, newShipper(j, l).Flush(t.Context()))
	for _, e := range require.All(t, l.Read(t.Context(), 0)) {
		require.True(t, e.User != newScan(1).User, "an erased user is stored by a later shipment")
	}
	erased, err := l.Erased(t.Context(), 0)
	assert.True(t, err == nil && len(erased) == 1 && erased[0].User == newScan(1).User, "Erased() = %+v, %v, want one user", erased, err)
}

// TestScanLedger_ErasureWithSlowerClock erases a user on nodes whose clocks differ. The latest time counts.
func TestScanLedger_ErasureWithSlowerClock(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		user := newScan(1).User
		for _, upTo := range []int64{1000, 900, 1000, 950} {
			require.NoError(t, s.AddErasure(t.Context(), scanlog.Erasure{User: user, ErasedAt: upTo}))
		}
		all := require.Value(s.Erasures(t.Context(), 0))(t)
		check(t, "erasures", all, []scanlog.Erasure{{User: user, ErasedAt: 1000}})
	})
}

// TestScanLedger_PartitionRetriedAfterLock verifies that a long read of the scan log delays the creation of the next partition until a
// retry after the read.
func TestScanLedger_PartitionRetriedAfterLock(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	now := l.now()
	l.now = func() time.Time { return now }
	scans := func(n int64) []scanlog.Event {
		e := newScan(n)
		e.ID = scanlog.ScanID{}
		binary.BigEndian.PutUint64(e.ID[:], uint64(now.UnixMilli())<<16)
		binary.BigEndian.PutUint64(e.ID[8:], uint64(n))
		return []scanlog.Event{e}
	}
	reading, read := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.view(t.Context(), func(tx *Tx) error {
			var n int
			err := tx.row(t.Context(), `SELECT COUNT(*) FROM scan_events`).Scan(&n)
			close(reading)
			<-read
			return err
		})
	}()
	<-reading
	assert.NoError(t, l.Append(t.Context(), scans(1)))
	close(read)
	require.NoError(t, <-done)
	partitions := func() []string {
		return queryColumn[string](t, s, `SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace
			AND relispartition AND relkind = 'r' AND relname LIKE 'scan_events_d%'`)
	}
	check(t, "partitions during the read", len(partitions()), 0)
	now = now.Add(time.Minute)
	require.NoError(t, l.Append(t.Context(), scans(2)))
	check(t, "partitions a minute later", len(partitions()), 0)
	now = now.Add(partitionRetryDelay)
	require.NoError(t, l.Append(t.Context(), scans(3)))
	// The scans of today are in the default partition, so that the partition of the next day is created.
	check(t, "partitions after the retry", partitions(), []string{dayName(now.UnixMilli()/millisOfDay + 1)})
	check(t, "scans", queryInt(t, s, `SELECT COUNT(*) FROM scan_events`), 3)
}

// TestScanLedger_ArchiveFileAndTable exports the scan log from a table, restores it into files, and the reverse. The archives are equal.
func TestScanLedger_ArchiveFileAndTable(t *testing.T) {
	postgres := open(t, newPostgres(t))
	l := openScans(t, postgres)
	for n := int64(0); n < 3000; n += 500 {
		// Repeated scans leave gaps between the positions.
		require.NoError(t, l.Append(t.Context(), newScans(max(0, n-20), n+500)))
	}
	require.NoError(t, l.Append(t.Context(), newScans(0, 7)))
	fromTable := exportTables(t, postgres)

	dir := t.TempDir()
	sqlite := open(t, Target{Dir: dir})
	sqlite.ScansDestination(scanlog.RestoreInto(filepath.Join(dir, "scans"), newRandom()))
	require.NoError(t, loadTables(t, sqlite, fromTable))
	j := openJournal(t, filepath.Join(dir, "scans"))
	assert.Equal(t, j.ID(), l.ID(), "ID of the restored log")
	require.NoError(t, sqlite.SetLocalScanLog(t.Context(), j))
	check(t, "rows of the files", exportTables(t, sqlite), fromTable)
	require.NoError(t, j.Append(t.Context(), newScans(4000, 4100)))
	assert.Equal(t, j.Damaged(), 0, "Damaged() of a journal with gaps")
	fromFiles := exportTables(t, sqlite)

	restored := open(t, newPostgres(t))
	require.NoError(t, loadTables(t, restored, fromFiles))
	check(t, "rows of the table", exportTables(t, restored), fromFiles)
	table := openScans(t, restored)
	require.NoError(t, table.Append(t.Context(), newScans(5000, 5001)))
	checkEvents(t, "all events", mapSlice(require.All(t, table.Read(t.Context(), 0)), entryEvent),
		append(append(newScans(0, 3000), newScans(4000, 4100)...), newScans(5000, 5001)...))

	// A restore is rejected if there are scans, and leaves no files if it fails.
	dir2 := t.TempDir()
	full := openJournal(t, filepath.Join(dir2, "scans"))
	require.NoError(t, full.Append(t.Context(), newScans(0, 5)))
	full.Close()
	notEmpty := open(t, Target{Dir: dir2})
	notEmpty.ScansDestination(scanlog.RestoreInto(filepath.Join(dir2, "scans"), newRandom()))
	assert.ErrorIs(t, loadTables(t, notEmpty, fromTable), ErrNotEmpty, "restore over existing scans")
	broken := exportTables(t, restored)
	broken["scan_events"] = strings.Replace(broken["scan_events"], `"id":"0`, `"id":"x`, 1)
	dir3 := t.TempDir()
	third := open(t, Target{Dir: dir3})
	third.ScansDestination(scanlog.RestoreInto(filepath.Join(dir3, "scans"), newRandom()))
	err := loadTables(t, third, broken)
	assert.True(t, err != nil && strings.Contains(err.Error(), "row 1 of scan_events"),
		"restore of an invalid ID: error = %v, want row 1", err)
	names, _ := filepath.Glob(filepath.Join(dir3, "scans*"))
	assert.True(t, len(names) == 0, "a failed restore left %v", names)
}
