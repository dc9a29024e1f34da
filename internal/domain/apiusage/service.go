// Package apiusage records the use of the platform API by accounts: the number of calls per day and API path and the remaining
// quota, the resets of these counts, the deviations, and the call log, which is searched by request ID. The package depends neither on the
// meaning of a call nor on the format of requests.
//
// Counts and log entries are buffered in memory and written in groups, so that no response waits for a write; Window describes the
// possible loss in a crash.
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
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Window is the interval at which counts and logged calls are written to the store. A process that is killed loses the calls since
// its last write: at most the calls of one Window and of one write in progress. A process that shuts down normally loses nothing.
const Window = time.Second

// ErrNoCall is returned for a request ID that is not in the call log.
var ErrNoCall = errors.New("apiusage: no such call")

// Tx is one transaction on call counts and the call log.
type Tx interface {
	// Count returns the value of a daily counter of an account.
	Count(ctx context.Context, appid, what string, day int64) (int, error)
	// AddCounts adds n to a daily counter of an account and returns the new value.
	AddCounts(ctx context.Context, appid, what string, day int64, n int) (int, error)
	// ClearCount sets a daily counter of an account to 0.
	ClearCount(ctx context.Context, appid, what string, day int64) error
	// ForgetCounts deletes the counts of days before the given day.
	ForgetCounts(ctx context.Context, before int64) error

	// Calls returns the blocks of a second, except blocks whose calls are all deleted.
	Calls(ctx context.Context, second int64) ([]Block, error)
	// NewestCalls returns at most limit blocks that contain calls with a number below the argument before (0 = any), newest first.
	NewestCalls(ctx context.Context, before int64, limit int) ([]Block, error)
	// AddCalls appends blocks to the call log and returns the number of the newest call.
	AddCalls(ctx context.Context, blocks []Block) (newest int64, err error)
	// ForgetCalls deletes calls with a number up to upTo, and blocks that are older than the given second. ForgetCalls deletes at most
	// limit blocks by number and at most limit blocks by age, oldest first.
	ForgetCalls(ctx context.Context, upTo, second int64, limit int) error

	// AddDeviations increments the counts of deviations, in the order of the list.
	AddDeviations(ctx context.Context, list []Deviation) error
	// Deviations lists the deviations of an account ("" = all accounts), sorted by account, endpoint and behaviour.
	Deviations(ctx context.Context, account string, limit int) ([]Deviation, error)
	// ForgetDeviations deletes the deviations of an account; "" = all accounts.
	ForgetDeviations(ctx context.Context, account string) error
}

// Service counts the API calls of this process and buffers its part of the call log. A zero Service with its fields set is ready to use;
// Run writes the buffered data.
type Service struct {
	Store    accounts.Transactions[Tx]
	Settings *settings.Live
	// Now returns the server's time, which defines the days and months of call counts.
	Now func() time.Time
	// ClockBelieved reports whether Now is reliable enough to delete old rows; nil = always.
	ClockBelieved func() bool
	Log           *slog.Logger
	// Exact maps API paths to daily limits; a call of such a path is counted in the transaction that executes the call.
	Exact map[string]func(settings.Settings) int
	// Interfaces lists the API paths whose counts a quota reset sets to 0.
	Interfaces []string
	// SingleNode reports whether this is the only process that counts calls in the store.
	SingleNode bool
	// Minutes counts calls per minute.
	Minutes Minutes

	meter      meter
	calls      queue
	deviations deviations
	rejected   anonymous
}

// Run writes buffered data every Window, and sooner when many calls are waiting, until ctx is done. Calls that are still buffered
// after Run ends must be written by Flush.
func (s *Service) Run(ctx context.Context) {
	tick := time.Tick(Window)
	failing := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-tick:
			err = s.Flush(ctx)
		case <-s.calls.nudge.wait():
			err = s.flushCalls(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != failing { // logs once when writes begin to fail, and once when they succeed again
			failing = err != nil
			if failing {
				s.Log.WarnContext(ctx, "call counts and call log not writable; kept in memory", "error", err)
			} else {
				s.Log.InfoContext(ctx, "call counts and call log writable again")
			}
		}
		if failing {
			// A full queue must not cause a busy loop.
			select {
			case <-ctx.Done():
				return
			case <-tick:
			}
		}
	}
}

// mayForget reports whether old rows may be deleted.
func (s *Service) mayForget() bool { return s.ClockBelieved == nil || s.ClockBelieved() }

// Flush writes everything that was counted and logged before Flush was called.
func (s *Service) Flush(ctx context.Context) error {
	if err := s.flushCounts(ctx); err != nil {
		return fmt.Errorf("storing counts of calls: %w", err)
	}
	if err := s.flushCalls(ctx); err != nil {
		return err
	}
	return s.flushDeviations(ctx)
}

// pauseWrites waits until the running writes end, and blocks new writes until the caller calls resume.
func (s *Service) pauseWrites() (resume func()) {
	s.meter.writing.Lock()
	s.calls.writing.Lock()
	s.deviations.writing.Lock()
	return func() {
		s.deviations.writing.Unlock()
		s.calls.writing.Unlock()
		s.meter.writing.Unlock()
	}
}

// ResetAccounts pauses writes, runs f to delete the data of accounts in the store, and then discards the buffered data of the accounts.
// Calls made before ResetAccounts are in the store when f runs.
func (s *Service) ResetAccounts(ctx context.Context, appids []string, f func() error) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	defer s.pauseWrites()()
	if err := f(); err != nil {
		s.meter.doubt()
		return err
	}
	s.meter.forgetOf(appids)
	s.deviations.forgetOf(appids)
	s.Minutes.local.DeleteFunc(func(key string) bool {
		appid, _, _ := strings.Cut(key, " ")
		return slices.Contains(appids, appid)
	})
	return nil
}

// Reset pauses writes, runs f to empty the store, and then discards all buffered data (used by the emulator's reset).
func (s *Service) Reset(f func() error) error {
	defer s.pauseWrites()()
	if err := f(); err != nil {
		s.meter.doubt()
		return err
	}
	s.meter.reset()
	s.calls.reset()
	s.deviations.reset()
	s.rejected.reset()
	return nil
}

// waker wakes a waiting goroutine and never blocks the caller of wake.
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
