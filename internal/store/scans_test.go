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

// aScan is the nth of a row of different scans, one a minute.
func aScan(n int64) scanlog.Event {
	e := scanlog.Event{OccurredAt: at.Add(time.Duration(n) * time.Minute), Source: "scan", Client: fmt.Sprintf("扫码/%d \"<&>\\", n%3),
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
		e.OccurredAt = e.OccurredAt.Add(-36 * time.Hour) // it was late
	}
	return e
}

func someScans(from, to int64) (list []scanlog.Event) {
	for n := from; n < to; n++ {
		list = append(list, aScan(n))
	}
	return list
}

func chance() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func openJournal(t *testing.T, dir string) *scanlog.Journal {
	t.Helper()
	j, err := scanlog.OpenJournal(dir, scanlog.JournalOptions{Random: chance(), SegmentSize: 10_000})
	require.NoError(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

func openScans(t *testing.T, s *Store) *Scans {
	t.Helper()
	l, err := s.OpenScans(t.Context(), ScansOptions{Random: chance(), Now: func() time.Time { return at.Add(30 * 24 * time.Hour) },
		Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return l
}

// appended is a log that needs no shipper.
type appended interface {
	scanlog.Log
	Append(ctx context.Context, events []scanlog.Event) error
}

// eachLog runs f on each kind of ledger.
func eachLog(t *testing.T, f func(t *testing.T, l appended)) {
	t.Run("journal", func(t *testing.T) { f(t, openJournal(t, filepath.Join(t.TempDir(), "scans"))) })
	t.Run("postgres", func(t *testing.T) { f(t, openScans(t, open(t, newPostgres(t)))) })
}

func eventsOf(list []scanlog.Entry) (events []scanlog.Event) {
	for _, e := range list {
		events = append(events, e.Event)
	}
	return events
}

func wantEvents(t *testing.T, what string, got, want []scanlog.Event) {
	t.Helper()
	require.Equal(t, len(got), len(want), "%s", what)
	for i := range got {
		require.True(t, got[i] == want[i], "%s: event %d is\n%+v, want\n%+v", what, i, got[i], want[i])
	}
}

func TestScanLedger_TotalOrder(t *testing.T) {
	eachLog(t, func(t *testing.T, l appended) {
		ctx := t.Context()
		end, err := l.End(ctx)
		require.True(t, err == nil && end == 0, "an empty ledger ends at %d, %v", end, err)
		require.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "an empty ledger")
		for n := int64(0); n < 12_000; n += 1500 {
			require.NoError(t, l.Append(ctx, someScans(n, n+1500)))
		}
		got := require.All(t, l.Read(ctx, 0))
		wantEvents(t, "all", eventsOf(got), someScans(0, 12_000))
		for i := 1; i < len(got); i++ {
			require.True(t, got[i].Position > got[i-1].Position, "position %d after %d", got[i].Position, got[i-1].Position)
		}
		end, err = l.End(ctx)
		assert.True(t, err == nil && end >= got[len(got)-1].Position, "the end is %d, %v", end, err)
		for _, i := range []int{0, 1, 4999, 5000, 7321, 11_999} {
			position, err := l.Find(ctx, got[i].ID)
			assert.True(t, err == nil && position == got[i].Position,
				"scan %d is found at %d, %v; it is at %d", i, position, err, got[i].Position)
			wantEvents(t, "what comes after it", eventsOf(require.All(t, l.Read(ctx, position))), someScans(int64(i)+1, 12_000))
		}
		forged := got[5].ID
		forged[15] ^= 1
		assert.ErrorIs(t, assert.ErrorOf(l.Find(ctx, forged)), scanlog.ErrNoScan, "a forged id")
		for range l.Read(ctx, 0) {
			break // a reader may leave
		}
	})
}

func TestScanLedger_FieldsRoundTrip(t *testing.T) {
	eachLog(t, func(t *testing.T, l appended) {
		odd := aScan(1)
		odd.Client = "a\x00b\xff" + strings.Repeat("界", 40)
		odd.Text = "https://h.example/" + strings.Repeat("x", 600)
		odd.App = strings.Repeat("名", 32)
		odd.OccurredAt = odd.OccurredAt.Add(123456 * time.Nanosecond)
		odd.Network = netip.MustParsePrefix("192.0.2.77/24")
		require.NoError(t, l.Append(t.Context(), []scanlog.Event{odd}))
		got := require.All(t, l.Read(t.Context(), 0))[0].Event
		wantEvents(t, "odd", []scanlog.Event{got}, []scanlog.Event{odd.Sanitized()})
		assert.True(t, len(got.Client) <= 64 && strings.HasPrefix(got.Client, "a b�界") && len(got.Text) == 512 && got.App == odd.App &&
			got.Network.String() == "192.0.2.0/24", "kept %+v", got)
	})
}

// A reader of scans after a moment reads few older ones.
func TestScanLedger_ReadSince(t *testing.T) {
	eachLog(t, func(t *testing.T, l appended) {
		ctx := t.Context()
		p, err := l.PositionBefore(ctx, at)
		assert.True(t, err == nil && p == 0, "of nothing: %d, %v", p, err)
		var all []scanlog.Event
		for n := int64(0); n < 5000; n += 100 { // three and a half days
			all = append(all, someScans(n, n+100)...)
			require.NoError(t, l.Append(ctx, all[n:]))
		}
		for _, since := range []time.Duration{-time.Hour, 0, time.Hour, 30 * time.Hour, 49 * time.Hour, 80 * time.Hour, 1000 * time.Hour} {
			p, err := l.PositionBefore(ctx, at.Add(since))
			require.NoError(t, err)
			var want, got []scanlog.Event
			for _, e := range all {
				if !e.OccurredAt.Before(at.Add(since)) {
					want = append(want, e)
				}
			}
			read := eventsOf(require.All(t, l.Read(ctx, p)))
			for _, e := range read {
				if !e.OccurredAt.Before(at.Add(since)) {
					got = append(got, e)
				}
			}
			wantEvents(t, fmt.Sprint("since ", since), got, want)
			assert.True(t, since < 49*time.Hour || len(read) != len(all), "since %s: everything was read", since)
			want, got = nil, nil
			until := at.Add(since + 2*time.Hour)
			within := func(e scanlog.Event) bool { return !e.OccurredAt.Before(at.Add(since)) && e.OccurredAt.Before(until) }
			for _, e := range all {
				if within(e) {
					want = append(want, e)
				}
			}
			read = eventsOf(require.All(t, l.ListRange(ctx, 0, at.Add(since), until)))
			for _, e := range read {
				if within(e) {
					got = append(got, e)
				}
			}
			wantEvents(t, fmt.Sprint("two hours since ", since), got, want)
			assert.True(t, len(read) <= len(all)/2, "two hours since %s: %d of %d were read", since, len(read), len(all))
		}
	})
}

// Of a time, the days around it are read, however many there are.
func TestScanLedger_TimeRangePartitions(t *testing.T) {
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	const scans = 14_400 // ten days
	for n := int64(0); n < scans; n += 1_800 {
		require.NoError(t, l.Append(t.Context(), someScans(n, n+1_800)))
	}
	require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), `ANALYZE scan_events`)))
	from := someScans(scans/2, scans/2+1)[0].OccurredAt
	to := from.Add(2 * time.Hour)
	end, err := l.End(t.Context())
	require.NoError(t, err)
	if looked := rowsLooked(t, s.read, scansBetween, betweenArgs(0, end, from, to)); looked < 100 || looked > 5*24*60 {
		t.Errorf("%v rows were read for two hours; %d are in five days, %d in all", looked, 5*24*60, scans)
	}
}

func TestScanLedger_ForgetAndErase(t *testing.T) {
	eachLog(t, func(t *testing.T, l appended) {
		ctx := t.Context()
		for n := int64(0); n < 5000; n += 100 { // three and a half days
			require.NoError(t, l.Append(ctx, someScans(n, n+100)))
		}
		user := scanlog.UserHash{2, 1}
		var left []scanlog.Event
		want := int64(0)
		for n := range int64(5000) {
			e := aScan(n)
			if e.User == user {
				e.User, e.Client, e.Network = scanlog.UserHash{}, "", netip.Prefix{}
				want++
			}
			left = append(left, e)
		}
		n, err := l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
		require.True(t, err == nil && n == want, "erased %d, %v; want %d", n, err, want)
		wantEvents(t, "after the erasure", eventsOf(require.All(t, l.Read(ctx, 0))), left)
		n, err = l.Erase(ctx, scanlog.Users{user: true}, math.MaxInt64)
		assert.True(t, err == nil && n == 0, "erased again: %d, %v", n, err)
		end, _ := l.End(ctx)
		before := at.Add(48 * time.Hour)
		require.NoError(t, l.Forget(ctx, before))
		got := eventsOf(require.All(t, l.Read(ctx, 0)))
		require.True(t, len(got) != 0 && len(got) <= 5000-10, "%d events are left", len(got))
		wantEvents(t, "after forgetting", got, left[5000-len(got):])
		assert.True(t, left[5000-len(got)-1].OccurredAt.Before(before), "a younger one was forgotten")
		require.NoError(t, l.Forget(ctx, at.Add(1000*time.Hour)))
		assert.Equal(t, len(require.All(t, l.Read(ctx, 0))), 0, "events are left")
		now, _ := l.End(ctx)
		assert.Equal(t, now, end, "the end was %d and", end)
		require.NoError(t, l.Append(ctx, someScans(5000, 5001)))
		if got := require.All(t, l.Read(ctx, 0)); len(got) != 1 || got[0].Position <= end {
			t.Errorf("a later event: %+v", got)
		}
	})
}

// Numbers are given out in the order of the commits: who reads what comes after the last one seen misses nothing, while many write.
func TestScanLedger_NoGapsForReader(t *testing.T) {
	eachLog(t, func(t *testing.T, l appended) {
		const writers, each, size = 4, 12, 25
		var wg sync.WaitGroup
		for w := range int64(writers) {
			wg.Go(func() {
				for i := range int64(each) {
					from := (w*each + i) * size
					if err := l.Append(t.Context(), someScans(from, from+size)); err != nil {
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
				require.True(t, !seen[e.ID], "a scan came twice")
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

// lossy is a harbour whose answers are lost, before or after they took.
type lossy struct {
	scanlog.SharedLog
	random *rand.Rand
	ships  int
}

var errLost = errors.New("the connection is lost")

func (h *lossy) Ship(ctx context.Context, node string, from, to scanlog.Offset, events []scanlog.Entry) error {
	h.ships++
	n := h.random.IntN(3)
	if n == 0 {
		return errLost
	}
	if err := h.SharedLog.Ship(ctx, node, from, to, events); err != nil || n == 1 {
		return errors.Join(errLost, err)
	}
	return nil
}

func shipper(j *scanlog.Journal, to scanlog.SharedLog) *scanlog.Shipper {
	node, err := j.NodeID(rand.NewChaCha8([32]byte{byte(j.ID()[0]), 9}))
	if err != nil {
		panic(err)
	}
	return &scanlog.Shipper{Journal: j, To: to, Node: node, Random: rand.NewChaCha8([32]byte{7}), Now: func() time.Time { return at },
		Log: slog.New(slog.DiscardHandler), Batch: 70}
}

func TestScanLedger_JournalShippedOnce(t *testing.T) {
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	dir := filepath.Join(t.TempDir(), "scans")
	harbour := &lossy{SharedLog: l, random: rand.New(rand.NewPCG(1, 1))}
	for round := range int64(10) {
		j := openJournal(t, dir)
		require.NoError(t, j.Append(t.Context(), someScans(200*round, 200*round+200)))
		ship := shipper(j, harbour) // as after a crash: it knows nothing
		for n := 0; ; n++ {
			err := ship.Flush(t.Context())
			if err == nil {
				break
			}
			require.True(t, errors.Is(err, errLost) && n <= 100, "%v", err)
			if n == 1 && round%2 == 0 {
				break // the process ends here
			}
		}
		j.Close()
	}
	j := openJournal(t, dir)
	ship := shipper(j, l)
	err := ship.Flush(t.Context())
	require.True(t, err == nil && ship.Backlog() == 0, "%v %v", err, ship.Backlog())
	wantEvents(t, "shipped", eventsOf(require.All(t, l.Read(t.Context(), 0))), someScans(0, 2000))
	assert.True(t, harbour.ships >= 40, "only %d ships", harbour.ships)

	// Two copies of a folder: the second gets a name of its own, and nothing is lost.
	require.NoError(t, j.Append(t.Context(), someScans(2000, 2100)))
	copied := openJournal(t, filepath.Join(t.TempDir(), "scans"))
	require.NoError(t, copied.Append(t.Context(), append(someScans(0, 2000), someScans(3000, 3050)...)))
	twin := shipper(copied, l)
	twin.Node = ship.Node
	for _, one := range []*scanlog.Shipper{ship, twin} {
		require.NoError(t, one.Flush(t.Context()))
	}
	assert.True(t, twin.Node != ship.Node, "two nodes have one name")
	require.NoError(t, j.Append(t.Context(), someScans(2100, 2200)))
	require.NoError(t, ship.Flush(t.Context()))
	want := append(append(someScans(0, 2100), someScans(3000, 3050)...), someScans(2100, 2200)...)
	wantEvents(t, "of both", eventsOf(require.All(t, l.Read(t.Context(), 0))), want)
}

// A COPY that is cut off may say that its connection is closed, which says nothing of why.
func TestScanLedger_CanceledCopyReturnsCause(t *testing.T) {
	l := openScans(t, open(t, newPostgres(t)))
	gone := errors.New("the node stops")
	for name, f := range map[string]func(ctx context.Context, leave func()) error{
		"in the middle": func(ctx context.Context, leave func()) error {
			return l.insert(ctx, someScans(0, 10), func(pgx.Tx) error {
				leave()
				return nil
			})
		},
		"with the connection": func(ctx context.Context, leave func()) error {
			return l.raw(ctx, func(c *pgx.Conn) error {
				leave()
				if err := c.Close(t.Context()); err != nil {
					return err
				}
				_, err := c.Exec(t.Context(), `SELECT 1`)
				return err
			})
		},
		"beforehand": func(ctx context.Context, leave func()) error {
			leave()
			return l.Append(ctx, someScans(0, 10))
		},
	} {
		ctx, leave := context.WithCancelCause(t.Context())
		assert.ErrorIs(t, f(ctx, func() { leave(gone) }), gone, "%s", name)
	}
	assert.Equal(t, len(require.All(t, l.Read(t.Context(), 0))), 0, "scans were stored")
}

func TestScanLedger_ErasureDuringShipping(t *testing.T) {
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	j := openJournal(t, filepath.Join(t.TempDir(), "scans"))
	require.NoError(t, j.Append(t.Context(), someScans(0, 300)))
	if n, err := l.Erase(t.Context(), scanlog.Users{aScan(1).User: true}, math.MaxInt64); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	require.NoError(t, shipper(j, l).Flush(t.Context()))
	for _, e := range require.All(t, l.Read(t.Context(), 0)) {
		require.True(t, e.User != aScan(1).User, "an erased user came with a later ship")
	}
	erased, err := l.Erased(t.Context(), 0)
	assert.True(t, err == nil && len(erased) == 1 && erased[0].User == aScan(1).User, "erased: %+v, %v", erased, err)
}

// A user who is erased by a node whose clock is behind stays erased up to when the other one said.
func TestScanLedger_ErasureWithSlowerClock(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		user := aScan(1).User
		for _, upTo := range []int64{1000, 900, 1000, 950} {
			require.NoError(t, s.AddErasure(t.Context(), scanlog.Erasure{User: user, ErasedAt: upTo}))
		}
		all, err := s.Erasures(t.Context(), 0)
		require.NoError(t, err)
		want(t, "erased", all, []scanlog.Erasure{{User: user, ErasedAt: 1000}})
	})
}

// A long read of the scan log delays the creation of the next partition until the read has ended.
func TestScanLedger_PartitionRetriedAfterLock(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	l := openScans(t, s)
	now := l.now()
	l.now = func() time.Time { return now }
	scans := func(n int64) []scanlog.Event {
		e := aScan(n)
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
	made := func() []string {
		return texts(t, s,
			`SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relispartition AND relkind = 'r' AND relname LIKE 'scan_events_d%'`)
	}
	want(t, "partitions while somebody reads", len(made()), 0)
	now = now.Add(time.Minute)
	require.NoError(t, l.Append(t.Context(), scans(2)))
	want(t, "partitions a minute later", len(made()), 0)
	now = now.Add(partitionRetryDelay)
	require.NoError(t, l.Append(t.Context(), scans(3)))
	// The scans of today lie elsewhere by now.
	want(t, "partitions then", made(), []string{dayName(now.UnixMilli()/millisOfDay + 1)})
	want(t, "scans", number(t, s, `SELECT COUNT(*) FROM scan_events`), 3)
}

// An archive has the same rows whether the ledger is in files or in a table, and each makes the other again.
func TestScanLedger_ArchiveFileAndTable(t *testing.T) {
	postgres := open(t, newPostgres(t))
	l := openScans(t, postgres)
	for n := int64(0); n < 3000; n += 500 {
		// Scans that come again leave gaps between the numbers.
		require.NoError(t, l.Append(t.Context(), someScans(max(0, n-20), n+500)))
	}
	require.NoError(t, l.Append(t.Context(), someScans(0, 7)))
	first := rowsOf(t, postgres)

	dir := t.TempDir()
	sqlite := open(t, Target{Dir: dir})
	sqlite.ScansDestination(scanlog.RestoreInto(filepath.Join(dir, "scans"), chance()))
	require.NoError(t, load(t, sqlite, first))
	j := openJournal(t, filepath.Join(dir, "scans"))
	assert.Equal(t, j.ID(), l.ID(), "the ledger was %s and", l.ID())
	require.NoError(t, sqlite.SetLocalScanLog(t.Context(), j))
	want(t, "rows of the files", rowsOf(t, sqlite), first)
	require.NoError(t, j.Append(t.Context(), someScans(4000, 4100)))
	assert.Equal(t, j.Damaged(), 0, "gaps count as damage")
	second := rowsOf(t, sqlite)

	again := open(t, newPostgres(t))
	require.NoError(t, load(t, again, second))
	want(t, "rows of the table", rowsOf(t, again), second)
	table := openScans(t, again)
	require.NoError(t, table.Append(t.Context(), someScans(5000, 5001)))
	wantEvents(t, "all", eventsOf(require.All(t, table.Read(t.Context(), 0))),
		append(append(someScans(0, 3000), someScans(4000, 4100)...), someScans(5000, 5001)...))

	// Not over scans that are there.
	dir2 := t.TempDir()
	full := openJournal(t, filepath.Join(dir2, "scans"))
	require.NoError(t, full.Append(t.Context(), someScans(0, 5)))
	full.Close()
	other := open(t, Target{Dir: dir2})
	other.ScansDestination(scanlog.RestoreInto(filepath.Join(dir2, "scans"), chance()))
	assert.ErrorIs(t, load(t, other, first), ErrNotEmpty, "imported over scans")
	broken := rowsOf(t, again)
	broken["scan_events"] = strings.Replace(broken["scan_events"], `"id":"0`, `"id":"x`, 1)
	dir3 := t.TempDir()
	third := open(t, Target{Dir: dir3})
	third.ScansDestination(scanlog.RestoreInto(filepath.Join(dir3, "scans"), chance()))
	err := load(t, third, broken)
	assert.True(t, err != nil && strings.Contains(err.Error(), "row 1 of scan_events"), "a broken id: %v", err)
	names, _ := filepath.Glob(filepath.Join(dir3, "scans*"))
	assert.True(t, len(names) == 0, "a failed import left %v", names)
}
