package scanlog

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// memorySharedLog is an in-memory SharedLog.
type memorySharedLog struct {
	sync.Mutex
	marks       map[string]Offset
	events      []Event
	unavailable bool
	ships       int // number of calls of Ship
	erased      []Erasure
}

var errUnavailable = errors.New("unavailable")

func (p *memorySharedLog) Shipped(_ context.Context, node string) (Offset, error) {
	p.Lock()
	defer p.Unlock()
	if p.unavailable {
		return Offset{}, errUnavailable
	}
	return p.marks[node], nil
}

func (p *memorySharedLog) Ship(_ context.Context, node string, from, to Offset, entries []Entry) error {
	p.Lock()
	defer p.Unlock()
	p.ships++
	if p.unavailable {
		return errUnavailable
	}
	if p.marks[node] != from {
		return ErrNotThere
	}
	p.marks[node] = to
	for _, e := range entries {
		p.events = append(p.events, e.Event)
	}
	return nil
}

func (p *memorySharedLog) Erased(_ context.Context, after int64) (list []Erasure, err error) {
	p.Lock()
	defer p.Unlock()
	for _, e := range p.erased {
		if e.ErasedAt > after {
			list = append(list, e)
		}
	}
	return list, nil
}

// blockedSharedLog is a memorySharedLog whose Ship blocks until proceed is closed.
type blockedSharedLog struct {
	*memorySharedLog
	proceed chan struct{}
}

func (s blockedSharedLog) Ship(ctx context.Context, node string, from, to Offset, entries []Entry) error {
	<-s.proceed
	return s.memorySharedLog.Ship(ctx, node, from, to, entries)
}

// TestShipper_WaitTimeout verifies that Flush returns at the deadline of its context while another Flush waits for the shared log.
func TestShipper_WaitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, err := OpenJournal("scans", JournalOptions{disk: newBrokenDisk(rand.New(rand.NewPCG(1, 1))), Random: newRandom(1)})
		require.NoError(t, err)
		defer j.Close()
		to := blockedSharedLog{&memorySharedLog{marks: map[string]Offset{}}, make(chan struct{})}
		s := &Shipper{Journal: j, To: to, Node: "n", Random: newRandom(2), Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		require.NoError(t, j.Append(t.Context(), events(0, 5)))
		first := make(chan error)
		go func() { first <- s.Flush(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, s.Flush(ctx), context.DeadlineExceeded, "Flush() with a deadline")
		close(to.proceed)
		err = <-first
		assert.True(t, err == nil && s.Backlog() == 0, "Flush() = %v with backlog %d, want no error and 0", err, s.Backlog())
	})
}

// TestShipper_Lifecycle verifies that a shipper ships new events, retries while the shared log is unavailable, erases users, removes
// shipped events, and stops.
func TestShipper_Lifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := require.Value(OpenJournal("scans", JournalOptions{disk: newBrokenDisk(rand.New(rand.NewPCG(1, 1))), Random: newRandom(1)}))(t)
		var logs strings.Builder
		p := &memorySharedLog{marks: map[string]Offset{}}
		s := &Shipper{Journal: j, To: p, Node: "n", Random: newRandom(2), Now: time.Now, Log: slog.New(slog.NewTextHandler(&logs, nil)),
			Batch: 10}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		defer func() { <-done }()
		defer cancel()
		go func() {
			defer close(done)
			s.Run(ctx)
		}()
		now := time.Now()
		add := func(from, to int64) {
			list := events(from, to)
			for i := range list {
				list[i].OccurredAt = now
				list[i].ID = newScanID(now, from+int64(i))
			}
			require.NoError(t, j.Append(t.Context(), list))
		}
		add(0, 25)
		time.Sleep(time.Second)
		synctest.Wait()
		p.Lock()
		require.True(t, len(p.events) == 25 && s.Backlog() == 0, "%d events shipped, backlog %d, want 25 and 0", len(p.events), s.Backlog())
		p.unavailable = true
		ships := p.ships
		p.Unlock()
		add(25, 60)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		p.Lock()
		assert.True(t, s.Backlog() == 35 && s.last != nil, "backlog = %d, error %v with the log unavailable, want 35", s.Backlog(), s.last)
		assert.True(t, p.ships-ships <= 200, "%d attempts in ten minutes, want at most 200", p.ships-ships)
		p.unavailable = false
		p.erased = []Erasure{{UserHash{1, 1}, now.UnixMilli() + 1}}
		p.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		p.Lock()
		assert.True(t, len(p.events) == 60 && s.Backlog() == 0 && s.last == nil,
			"%d events were shipped, backlog %d, error %v, want 60, 0 and none", len(p.events), s.Backlog(), s.last)
		p.Unlock()
		time.Sleep(2 * time.Minute)
		for e := range j.Read(t.Context(), 0) {
			require.True(t, e.User != (UserHash{1, 1}), "the event at position %d has an erased user, want none", e.Position)
		}
		assert.True(t, strings.Count(logs.String(), "\n") == 2, "want two log lines: %s", logs.String())
		assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 60, "number of events in the journal before an hour")
		time.Sleep(2 * time.Hour)
		assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 0, "number of events in the journal after two hours")
		add(60, 61)
		time.Sleep(time.Second)
		synctest.Wait()
		p.Lock()
		defer p.Unlock()
		assert.Equal(t, len(p.events), 61, "number of shipped events after the journal was emptied")
		cancel()
	})
}
