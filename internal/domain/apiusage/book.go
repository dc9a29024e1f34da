// Package apiusage knows what accounts do with the wire: how many calls a day they
// made to each interface and how many are left, how often they cleared these
// counts, what they deviated in, and the log of calls that a request id is looked up
// in. It knows neither what a call means nor how it is read.
//
// Counts and log are kept in memory and written in groups, so that no answer
// waits for a write: see Window for what a crash may cost.
package apiusage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
)

// Window is the interval at which counts and logged calls are written. A process that is killed loses what came after its last
// write: at most the calls of this long and of the one write that was under way. A process that stops in order loses nothing.
const Window = time.Second

// Store is the persistence interface of Book.
type Store interface {
	// UpdateCalls runs f in one transaction. It may run f again after a conflict,
	// so f must not keep state between runs.
	UpdateCalls(ctx context.Context, f func(Tx) error) error
	// ViewCalls runs f on a consistent state that f does not change.
	ViewCalls(ctx context.Context, f func(Tx) error) error
}

// ErrNoCall is returned for a request id that is not in the log.
var ErrNoCall = errors.New("calls: no such call")

// Tx is one transaction on counts and the log.
type Tx interface {
	// Count returns how often something was counted on a day.
	Count(ctx context.Context, appid, what string, day int64) (int, error)
	// AddCounts counts n times more and returns the new number.
	AddCounts(ctx context.Context, appid, what string, day int64, n int) (int, error)
	// ClearCount makes a number 0.
	ClearCount(ctx context.Context, appid, what string, day int64) error
	// ForgetCounts removes the counts of the days before one.
	ForgetCounts(ctx context.Context, before int64) error

	// Calls returns the blocks of a second, without those of which all is forgotten.
	Calls(ctx context.Context, second int64) ([]Block, error)
	// NewestCalls returns at most limit blocks with calls of a smaller number than before,
	// 0 = of any, the newest first.
	NewestCalls(ctx context.Context, before int64, limit int) ([]Block, error)
	// AddCalls appends to the log and returns the number of the newest call.
	AddCalls(ctx context.Context, blocks []Block) (newest int64, err error)
	// ForgetCalls forgets calls with a number up to upTo, and blocks of before a
	// second. Of these it removes at most limit of each, oldest first.
	ForgetCalls(ctx context.Context, upTo, second int64, limit int) error

	// AddDeviations counts deviations on, in their order.
	AddDeviations(ctx context.Context, list []Deviation) error
	// Deviations lists those of an account, "" = of all, by account, endpoint and behaviour.
	Deviations(ctx context.Context, account string, limit int) ([]Deviation, error)
	// ForgetDeviations removes those of an account, "" = all.
	ForgetDeviations(ctx context.Context, account string) error
}

// Book counts the calls of this process and keeps its part of the log. Its
// zero value with the fields set is ready; Run writes what it holds.
type Book struct {
	Store    Store
	Settings *settings.Live
	// Now is the server's clock, by whose days and months calls are counted.
	Now func() time.Time
	// ClockBelieved reports whether what is old by Now may be removed; nil = always.
	ClockBelieved func() bool
	Log           *slog.Logger
	// Exact are the interfaces whose calls their own transactions count, with
	// their limits.
	Exact map[string]func(settings.Settings) int
	// Interfaces are the paths that a clear sets to 0.
	Interfaces []string
	// Alone says that no other process counts calls in the same store.
	Alone bool
	// Minutes counts calls of a minute.
	Minutes Minutes

	meter      meter
	calls      queue
	deviations deviations
	strangers  anonymous
}

// Run writes every Window, and sooner when much is waiting, until ctx ends. Calls
// that are left then are for Flush.
func (b *Book) Run(ctx context.Context) {
	tick := time.NewTicker(Window)
	defer tick.Stop()
	failing := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			err = b.Flush(ctx)
		case <-b.calls.filling():
			err = b.flushCalls(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != failing { // one line when it begins, one when it ends
			failing = err != nil
			if failing {
				b.Log.WarnContext(ctx, "counts of calls and the log of calls cannot be written; they wait in memory", "error", err)
			} else {
				b.Log.InfoContext(ctx, "counts of calls and the log of calls are written again")
			}
		}
		if failing {
			// A full queue must not make this a busy loop.
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// mayForget reports whether what is old may be removed.
func (b *Book) mayForget() bool { return b.ClockBelieved == nil || b.ClockBelieved() }

// Flush writes everything that was counted and logged before it was called.
func (b *Book) Flush(ctx context.Context) error {
	if err := b.flushCounts(ctx); err != nil {
		return fmt.Errorf("writing the counts of calls: %w", err)
	}
	if err := b.flushCalls(ctx); err != nil {
		return err
	}
	return b.flushDeviations(ctx)
}

// ResetAccounts runs f, which empties accounts in the store, while nothing is written, and forgets what is in memory of
// these. What was called before is in the store by then.
func (b *Book) ResetAccounts(ctx context.Context, appids []string, f func() error) error {
	if err := b.Flush(ctx); err != nil {
		return err
	}
	b.meter.writing.Lock()
	defer b.meter.writing.Unlock()
	b.calls.writing.Lock()
	defer b.calls.writing.Unlock()
	b.deviations.writing.Lock()
	defer b.deviations.writing.Unlock()
	if err := f(); err != nil {
		b.meter.doubt()
		return err
	}
	b.meter.forgetOf(appids)
	b.deviations.forgetOf(appids)
	b.Minutes.here.DeleteFunc(func(key string) bool {
		appid, _, _ := strings.Cut(key, " ")
		return slices.Contains(appids, appid)
	})
	return nil
}

// Reset runs f, which empties the store, while nothing is written, and forgets
// what is in memory (the emulator's reset).
func (b *Book) Reset(f func() error) error {
	b.meter.writing.Lock()
	defer b.meter.writing.Unlock()
	b.calls.writing.Lock()
	defer b.calls.writing.Unlock()
	b.deviations.writing.Lock()
	defer b.deviations.writing.Unlock()
	if err := f(); err != nil {
		b.meter.doubt()
		return err
	}
	b.meter.forget()
	b.calls.forget()
	b.deviations.forget()
	b.strangers.forget()
	return nil
}

// waker wakes one who waits and never blocks who pokes.
type waker struct {
	once sync.Once
	c    chan struct{}
}

func (n *waker) wait() chan struct{} {
	n.once.Do(func() { n.c = make(chan struct{}, 1) })
	return n.c
}

func (n *waker) poke() {
	select {
	case n.wait() <- struct{}{}:
	default:
	}
}
