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

// pier is a harbour in memory.
type pier struct {
	sync.Mutex
	marks  map[string]Offset
	events []Event
	away   bool
	ships  int
	erased []Erasure
}

func (p *pier) Shipped(_ context.Context, node string) (Offset, error) {
	p.Lock()
	defer p.Unlock()
	if p.away {
		return Offset{}, errors.New("away")
	}
	return p.marks[node], nil
}

func (p *pier) Ship(_ context.Context, node string, from, to Offset, entries []Entry) error {
	p.Lock()
	defer p.Unlock()
	p.ships++
	if p.away {
		return errors.New("away")
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

func (p *pier) Erased(_ context.Context, after int64) (list []Erasure, err error) {
	p.Lock()
	defer p.Unlock()
	for _, e := range p.erased {
		if e.ErasedAt > after {
			list = append(list, e)
		}
	}
	return list, nil
}

// stuck is a pier that takes nothing until it is let.
type stuck struct {
	*pier
	let chan struct{}
}

func (s stuck) Ship(ctx context.Context, node string, from, to Offset, entries []Entry) error {
	<-s.let
	return s.pier.Ship(ctx, node, from, to, entries)
}

// While a commit waits for a replica, whoever wants everything to be shipped leaves when it has no more time.
func TestShipper_WaitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, err := OpenJournal("scans", JournalOptions{disk: newBrokenDisk(rand.New(rand.NewPCG(1, 1))), Random: seeded(1)})
		require.NoError(t, err)
		defer j.Close()
		to := stuck{&pier{marks: map[string]Offset{}}, make(chan struct{})}
		s := &Shipper{Journal: j, To: to, Node: "n", Random: seeded(2), Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		require.NoError(t, j.Append(t.Context(), events(0, 5)))
		first := make(chan error)
		go func() { first <- s.Flush(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, s.Flush(ctx), context.DeadlineExceeded, "one who has no more time")
		close(to.let)
		err = <-first
		assert.True(t, err == nil && s.Backlog() == 0, "the one who ships: %v, %d are behind", err, s.Backlog())
	})
}

// A shipper ships new events, waits while the stream accepts none, forgets accepted events, and stops.
func TestShipper_Lifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, err := OpenJournal("scans", JournalOptions{disk: newBrokenDisk(rand.New(rand.NewPCG(1, 1))), Random: seeded(1)})
		require.NoError(t, err)
		var logs strings.Builder
		p := &pier{marks: map[string]Offset{}}
		s := &Shipper{Journal: j, To: p, Node: "n", Random: seeded(2), Now: time.Now, Log: slog.New(slog.NewTextHandler(&logs, nil)),
			Batch: 10}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		defer func() { <-done }()
		defer cancel()
		go func() { defer close(done); s.Run(ctx) }()
		now := time.Now()
		add := func(from, to int64) {
			list := events(from, to)
			for i := range list {
				list[i].OccurredAt = now
				list[i].ID = idAt(now, from+int64(i))
			}
			require.NoError(t, j.Append(t.Context(), list))
		}
		add(0, 25)
		time.Sleep(time.Second)
		synctest.Wait()
		p.Lock()
		require.True(t, len(p.events) == 25 && s.Backlog() == 0, "%d events were shipped, %d are behind", len(p.events), s.Backlog())
		p.away = true
		ships := p.ships
		p.Unlock()
		add(25, 60)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		p.Lock()
		assert.True(t, s.Backlog() == 35 && s.last != nil, "while nobody takes them: %d behind, %v", s.Backlog(), s.last)
		assert.True(t, p.ships-ships <= 200, "it tried %d times in ten minutes", p.ships-ships)
		p.away = false
		p.erased = []Erasure{{UserHash{1, 1}, now.UnixMilli() + 1}}
		p.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		p.Lock()
		assert.True(t, len(p.events) == 60 && s.Backlog() == 0 && s.last == nil,
			"afterwards: %d events, %d behind, %v", len(p.events), s.Backlog(), s.last)
		p.Unlock()
		time.Sleep(2 * time.Minute)
		for e := range j.Read(t.Context(), 0) {
			require.True(t, e.User != (UserHash{1, 1}), "a user who was erased is still in the journal")
		}
		assert.True(t, strings.Count(logs.String(), "\n") == 2, "the log says: %s", logs.String())
		assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 60, "events are in the journal before the hour is over")
		time.Sleep(2 * time.Hour)
		assert.Equal(t, len(require.All(t, j.Read(t.Context(), 0))), 0, "events are in the journal for ever")
		add(60, 61)
		time.Sleep(time.Second)
		synctest.Wait()
		p.Lock()
		defer p.Unlock()
		assert.Equal(t, len(p.events), 61, "after all was forgotten, nothing is shipped")
		cancel()
	})
}
