package stats

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// erasures is a queue of erasures that wait for their turn.
type erasures struct {
	running semaphore.Semaphore // one goroutine erases users at a time
	mu      sync.Mutex
	waiting []*erasing
}

// enqueue adds erasures to the queue.
func (w *erasures) enqueue(list ...*erasing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, list...)
}

// remove removes an erasure whose caller has given up.
func (w *erasures) remove(x *erasing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(have *erasing) bool { return have == x })
}

// dequeue empties the queue and returns its erasures.
func (w *erasures) dequeue() []*erasing {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.waiting
	w.waiting = nil
	return all
}

// Erase anonymizes the scans of a user that were acknowledged before the call, and returns the number of these scans. Counts do not change:
// if a user was stored as a hash, a meaningless number replaces the hash. Erasures that arrive during another erasure are executed together
// after it. Counting and queries about users are blocked only while Erase processes the events that arrived during its pass over the scan
// log.
func (c *Aggregator) Erase(ctx context.Context, user scanlog.UserHash) (int64, error) {
	if user == (scanlog.UserHash{}) {
		return 0, nil
	}
	request := &erasing{user: user}
	c.erasures.enqueue(request)
	release, err := c.erasures.running.Acquire(ctx, 1, 0)
	if err != nil {
		c.erasures.remove(request)
		return 0, err
	}
	defer release()
	if !request.done {
		all := c.erasures.dequeue()
		err := c.erase(ctx, all)
		var remaining []*erasing
		for _, x := range all {
			if err != nil && ctx.Err() != nil && x != request {
				remaining = append(remaining, x) // only this call was cancelled: the erasures of other callers go back to the queue
				continue
			}
			x.done, x.err = true, err
		}
		c.erasures.enqueue(remaining...)
	}
	return request.scans, request.err
}

// erasing is a pending erasure of a user, with its result.
type erasing struct {
	user  scanlog.UserHash
	done  bool
	scans int64
	err   error
}

// counted lists the sketches and codes in which a user may have been counted.
type counted struct {
	keys  map[UsersKey]bool
	names map[alarms.CodeName]bool
	known map[scanlog.ScanID]bool
}

// round is a combined erasure of several users.
type round struct {
	offset  int64
	rezoned bool // the users of some days were counted by the days of another time zone
	users   scanlog.Users
	byUser  map[scanlog.UserHash]*counted
}

// erase erases all users of a list in one pass over the scan log.
func (c *Aggregator) erase(ctx context.Context, all []*erasing) error {
	r := &round{users: scanlog.Users{}, byUser: map[scanlog.UserHash]*counted{}}
	for _, x := range all {
		r.users[x.user] = true
		r.byUser[x.user] = &counted{map[UsersKey]bool{}, map[alarms.CodeName]bool{}, map[scanlog.ScanID]bool{}}
	}
	logs := append([]scanlog.Log{c.Log}, c.Earlier...)
	// The erasure is announced first: events that arrive later are anonymous, so all events to erase are in the logs already.
	for _, log := range logs {
		for user := range r.users {
			if err := log.Announce(ctx, user); err != nil {
				return err
			}
		}
	}
	if c.Announce != nil {
		for user := range r.users {
			if err := c.Announce(ctx, user); err != nil {
				return err
			}
		}
	}
	if err := c.CatchUp(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	log, end := c.state.LogID, c.state.CountedOffset
	r.offset, r.rezoned = c.state.Offset, !c.state.ZoneChangedAt.IsZero()
	c.mu.Unlock()
	upTo := func(n int) int64 { // the counted scans of the current log, and all scans of earlier logs
		if n == 0 {
			return end
		}
		return math.MaxInt64
	}
	for n, log := range logs {
		if err := r.read(ctx, c, log, 0, upTo(n)); err != nil {
			return err
		}
	}
	var err error
	end, err = c.forgetUsers(ctx, r, log, end)
	for errors.Is(err, errMoved) && ctx.Err() == nil {
		// Another node has counted in the meantime, so catch up and try again.
		if err = c.CatchUp(ctx); err == nil {
			end, err = c.forgetUsers(ctx, r, log, end)
		}
	}
	if err != nil {
		return err
	}
	for n, log := range logs {
		if _, err := log.Erase(ctx, r.users, upTo(n)); err != nil {
			return fmt.Errorf("anonymizing the scans of a user: %w", err)
		}
	}
	for _, x := range all {
		x.scans = int64(len(r.byUser[x.user].known))
	}
	return nil
}

// read collects the scans of the users between two positions of a log.
func (r *round) read(ctx context.Context, c *Aggregator, log scanlog.Log, start, upTo int64) error {
	for e, err := range log.ForUsers(ctx, r.users, start) {
		if err != nil {
			return fmt.Errorf("finding the scans of a user: %w", err)
		}
		if e.Position > upTo {
			return nil
		}
		item := r.byUser[e.User]
		t, err := c.Tuple(ctx, &e.Event)
		if err != nil {
			return err
		}
		if t.Owner, err = c.Owner(ctx, e.RuleID, e.Batch); err != nil {
			return err
		}
		hour, west, east := timebucket.Hour(e.OccurredAt), r.offset, r.offset
		if r.rezoned {
			west, east = westmost, eastmost
		}
		for day := timebucket.Day(hour, west); day <= timebucket.Day(hour, east); day++ {
			for d := range Dims {
				item.keys[UsersKey{day, d, t.Value(d)}] = true
				item.keys[UsersKey{MonthSketches + timebucket.Month(day), d, t.Value(d)}] = true
			}
		}
		if e.IdentifiesCode() {
			item.names[alarms.CodeName{Batch: e.Batch, Index: e.Index}] = true
		}
		item.known[e.ID] = true
	}
	return nil
}

// forgetUsers pauses counting, reads the scans after the position start, and removes the users from all sketches and codes. forgetUsers
// returns the position up to which the users are removed.
func (c *Aggregator) forgetUsers(ctx context.Context, r *round, log string, start int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return start, errMoved
	}
	if err := c.saveAll(ctx, true); err != nil {
		return start, err
	}
	if c.state.LogID != log || c.state.Offset != r.offset {
		return 0, errors.New("the scan log or the time zone was changed during the erasure of a user: erase the user again")
	}
	end := c.state.CountedOffset
	if end > start {
		if err := r.read(ctx, c, c.Log, start, end); err != nil {
			return 0, err
		}
	}
	for user, item := range r.byUser {
		var b [8]byte
		if _, err := io.ReadFull(cmp.Or(c.Random, rand.Reader), b[:]); err != nil {
			return 0, fmt.Errorf("generating a random number: %w", err)
		}
		if err := c.replace(ctx, item.keys, item.names, user, binary.BigEndian.Uint64(b[:])); err != nil {
			return 0, fmt.Errorf("removing a user from the counts: %w", err)
		}
	}
	return end, nil
}

// replace replaces a user by a meaningless number in the sketches with the given keys, and erases the user in the data of the given codes.
func (c *Aggregator) replace(ctx context.Context, keys map[UsersKey]bool, names map[alarms.CodeName]bool, user scanlog.UserHash,
	step uint64) error {
	_, err := c.change(ctx, func(tx Tx, _ *State) error {
		for usersKeys := range slices.Chunk(slices.SortedFunc(maps.Keys(keys), UsersKey.Compare), usersAtOnce) {
			have, err := tx.UsersRows(ctx, usersKeys)
			if err != nil {
				return err
			}
			var changed []UsersRow
			for _, row := range have {
				s, err := row.Merged()
				if err != nil {
					return err
				}
				if s.Replace(user, step) {
					row.Users, row.Sketch, row.Erased = s.Count(), s.Encode(), row.Erased+1
					changed = append(changed, row)
				}
			}
			if err := tx.PutUsers(ctx, changed); err != nil {
				return err
			}
		}
		return alarms.Erase(ctx, tx, slices.SortedFunc(maps.Keys(names), alarms.CodeName.Compare), user, step)
	})
	return err
}
