package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Rule changes that callers make on this node at the same time share one transaction (group commit), so that the newest entry of
// the audit log is locked once for the whole group; each change is acknowledged after the commit of the group. Decision 57.

// maxGroupSize is the maximum number of changes in a group, and groupTimeout is the timeout of the group's transaction. decidingTime is the
// timeout of the queries that the changes make before the group locks the newest entry of the audit log: these queries wait for no lock, so
// a query that takes longer means that the connection is dead.
const (
	maxGroupSize = 64
	groupTimeout = 20 * time.Second
	decidingTime = 3 * time.Second
)

// groupWait is the time for which a change waits for a group before it runs in a separate transaction. At most maxImpatient such separate
// transactions run at the same time, because a larger number would block each other while new changes arrive.
var groupWait = time.Second

const maxImpatient = 4

// ungroupedTime is the time for which an owner's changes run in separate transactions after a conflict with a bulk import, because a
// conflict of one change would make the transaction of a whole group fail.
const ungroupedTime = 10 * time.Second

// errUngrouped reports that a group did not make a change, which must now run in a separate transaction.
var errUngrouped = errors.New("this change goes alone")

// ChangeRules implements rules.Store.
func (s *Store) ChangeRules(ctx context.Context, owner, origin string, f func(rules.Tx) error) error {
	// On SQLite there are no groups, because only one transaction writes at a time. A change with a precondition runs in a separate
	// transaction, because it must lock the newest entry of the audit log to check the precondition.
	if s.tx == nil && s.engine.sharesRows && auditlog.PreconditionFromContext(ctx) == nil {
		m := &pendingChange{parts: [2]string{ownerPart(owner), originPart(origin)}, begins: make(chan *queryBatch, 1),
			ends: make(chan error, 1)}
		if err := s.committer.join(ctx, s, m, f); !errors.Is(err, errUngrouped) {
			return s.health.record(s.outage(err))
		}
		defer s.committer.finishSeparate(m)
	}
	err := s.UpdateRules(ctx, f)
	if errors.Is(err, errBeingImported) {
		s.committer.ungroupOwner(owner)
	}
	return err
}

// groupCommitter collects the rule changes that callers make on this node, and runs them in groups.
type groupCommitter struct {
	mu        sync.Mutex
	waiting   []*pendingChange
	running   bool
	impatient int                  // number of changes that run in separate transactions because they waited too long
	separate  map[string]time.Time // owners whose changes run in separate transactions until the given time

	wait, deciding time.Duration // set by tests in place of groupWait and decidingTime; 0 = not set
}

// ungroupOwner makes the changes of an owner run in separate transactions for ungroupedTime.
func (g *groupCommitter) ungroupOwner(owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(g.separate, func(_ string, until time.Time) bool { return until.Before(now) })
	if g.separate == nil {
		g.separate = map[string]time.Time{}
	}
	g.separate[ownerPart(owner)] = now.Add(ungroupedTime)
}

// finishSeparate must be called when a change that ran in a separate transaction has ended.
func (g *groupCommitter) finishSeparate(m *pendingChange) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.impatient {
		g.impatient--
	}
}

// pendingChange is a rule change that waits for a group or runs in a group.
type pendingChange struct {
	parts  [2]string        // names of the owner and the origin that this change locks
	begins chan *queryBatch // receives the query batch when the group starts; nil if the change must run separately
	ends   chan error       // receives the result of the transaction

	in          *queryBatch
	unsupported bool // the change used an operation that a group does not support
	impatient   bool // the change runs in a separate transaction because it waited too long
	locked      bool // another transaction has locked the owner or the origin of the change
	author      context.Context
	adds        []added
	writes      []statement
	queued      []change
}

// added is a new rule whose id is assigned after the newest entry of the audit log is locked, because the id is a sequence number.
type added struct {
	rule rules.Rule
	deed rules.ChangeMeta
}

// queryBatch collects the queries of the changes in a group, which are sent in one round trip.
type queryBatch struct{ events chan event }

// event is sent by a running change of a group when it needs the results of queries, and when it has ended.
type event struct {
	change    *pendingChange
	questions []*question
	results   chan error // receives nil or the error of the queries; if the channel is nil, the event is the end of the change
}

// join runs a change in a group, or returns errUngrouped if the caller must run it in a separate transaction.
func (g *groupCommitter) join(ctx context.Context, s *Store, m *pendingChange, f func(rules.Tx) error) error {
	g.mu.Lock()
	if time.Now().Before(g.separate[m.parts[0]]) {
		g.mu.Unlock()
		return errUngrouped
	}
	g.waiting = append(g.waiting, m)
	if !g.running {
		g.running = true
		go g.run(s)
	}
	g.mu.Unlock()
	patience := time.NewTicker(cmp.Or(g.wait, groupWait))
	defer patience.Stop()
	for begun := false; !begun; {
		select {
		case m.in = <-m.begins:
			begun = true
		case <-ctx.Done():
			if g.removePending(m) {
				return context.Cause(ctx)
			}
			m.in, begun = <-m.begins, true
		case <-patience.C:
			if g.leavesQueue(m) {
				return errUngrouped
			}
		}
	}
	if m.in == nil {
		return errUngrouped
	}
	if err := m.decide(ctx, s, f); err != nil || m.unsupported {
		if m.unsupported {
			err = errUngrouped
		}
		return err // the group writes nothing of this change
	}
	return <-m.ends
}

// leavesQueue takes a change that waited too long out of the queue, unless maxImpatient such changes already run in separate
// transactions, and reports whether the change has left the queue.
func (g *groupCommitter) leavesQueue(m *pendingChange) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.impatient < maxImpatient && g.takeBack(m) {
		m.impatient = true
		g.impatient++
	}
	return m.impatient
}

// removePending removes a pending change from the queue; it returns false if the change is no longer in the queue.
func (g *groupCommitter) removePending(m *pendingChange) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.takeBack(m)
}

func (g *groupCommitter) takeBack(m *pendingChange) bool {
	i := slices.Index(g.waiting, m)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return i >= 0
}

// decide runs f, which determines the statements of a change, on the goroutine of ChangeRules, so that a panic in f reaches its caller.
func (m *pendingChange) decide(ctx context.Context, s *Store, f func(rules.Tx) error) error {
	decided := false
	defer func() {
		if !decided || m.unsupported {
			m.adds, m.writes, m.queued = nil, nil, nil
		}
		m.in.events <- event{}
	}()
	m.author = context.WithoutCancel(ctx)
	tx := &Tx{engine: s.engine, keeping: s.keeping, groupChange: m}
	err := f(tx.rules())
	if decided = err == nil; decided {
		m.queued = tx.queued
	}
	return err
}

// run makes the queued changes in groups, until the queue is empty.
func (g *groupCommitter) run(s *Store) {
	for {
		g.mu.Lock()
		var group, later []*pendingChange
		locked := map[string]bool{}
		for _, m := range g.waiting {
			// Two changes that lock the same owner or origin run in different groups, one after the other.
			if len(group) == maxGroupSize || locked[m.parts[0]] || locked[m.parts[1]] {
				later = append(later, m)
				continue
			}
			locked[m.parts[0]], locked[m.parts[1]] = true, true
			group = append(group, m)
		}
		g.waiting = later
		if g.running = len(group) > 0; !g.running {
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		s.runGroup(group)
	}
}

// runGroup runs pending changes in one transaction. After a failure before COMMIT, each change gets errUngrouped or a lock timeout.
func (s *Store) runGroup(all []*pendingChange) {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	var begun []*pendingChange
	gathering, stopGathering := context.WithTimeout(ctx, cmp.Or(s.committer.deciding, decidingTime))
	defer stopGathering()
	var locked error // lock timeout for the newest audit log entry; the changes would also time out in separate transactions
	err := safely(func() error {
		return s.run(ctx, s.write, false, func(tx *Tx) error {
			begun = all
			all = nil
			err := tx.gather(gathering, begun)
			for _, m := range begun {
				if m.locked {
					m.ends <- errUngrouped
				}
			}
			begun = slices.DeleteFunc(begun, func(m *pendingChange) bool { return m.locked })
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(begun, func(m *pendingChange) bool { return len(m.adds)+len(m.writes)+len(m.queued) > 0 }) {
				return nil
			}
			if err := tx.lockHead(ctx); err != nil {
				if isLocked(s.outage(err)) {
					locked = err
				}
				return err
			}
			return tx.writeAll(ctx, begun)
		})
	})
	runUngrouped(all)
	c, is := err.(*sessionLostError)
	switch {
	case err == nil: // all changes are committed
	case locked != nil:
		err = locked
	case !is || !c.sent:
		err = errUngrouped
	}
	for _, m := range begun {
		m.ends <- err
	}
}

func runUngrouped(all []*pendingChange) {
	for _, m := range all {
		m.begins <- nil
	}
}

// safely runs f and returns a panic of f as an error, so that the panic ends neither the process nor the goroutine that runs the groups.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("changes together: %v", p)
		}
	}()
	return f()
}

// freeLocks returns a query that tries to lock the owner and the origin of each pending change. The query does not wait for locks, so that
// no change delays its group. The result has one row per change: true if the locks of the change were acquired.
func freeLocks(all []*pendingChange) *question {
	owners, origins := make([]int64, len(all)), make([]int64, len(all))
	for i, m := range all {
		owners[i], origins[i] = lockNumber(m.parts[0]), lockNumber(m.parts[1])
	}
	const query = `SELECT pg_try_advisory_xact_lock_shared($1) AND pg_try_advisory_xact_lock(owner)
		AND pg_try_advisory_xact_lock(origin) FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS m(owner, origin, i) ORDER BY i`
	return &question{statement: statement{query: query, args: []any{lockNumber(allRules), owners, origins}}}
}

// gather runs the pending changes until all of them have ended. Whenever each change either waits for query results or has ended, gather
// sends the collected queries in one round trip; the first round trip begins with the query freeLocks. Each waiting change then receives
// the results of its queries or an error, which is errUngrouped if the change did not get its locks.
func (t *Tx) gather(ctx context.Context, all []*pendingChange) (err error) {
	in := &queryBatch{events: make(chan event)}
	for _, m := range all {
		m.begins <- in
	}
	locks := freeLocks(all)
	asked := []*question{locks}
	for running := len(all); running > 0; asked = nil {
		waiting := map[*pendingChange]chan error{}
		for range running {
			if e := <-in.events; e.results != nil {
				asked, waiting[e.change] = append(asked, e.questions...), e.results
			}
		}
		running = len(waiting)
		if err == nil && len(asked) > 0 {
			err = outageOf(t.engine, safely(func() error { return t.pipe.answer(ctx, asked...) }))
		}
		for i, row := range locks.rows {
			all[i].locked = row[0] != true
		}
		locks.rows = nil
		for m, answered := range waiting {
			if m.locked {
				answered <- errUngrouped
			} else {
				answered <- err
			}
		}
	}
	return err
}

// writeAll queues the statements and the audit log entries of a group's changes. The caller must have locked the newest entry of the log.
func (t *Tx) writeAll(ctx context.Context, begun []*pendingChange) error {
	var rows [][]any
	for _, m := range begun {
		for _, a := range m.adds {
			a.rule.ID = t.head.seq + int64(len(t.queued)) + 1
			rows = append(rows, ruleArgs(&a.rule))
			if err := t.rules().noteRule(m.author, a.rule, a.deed); err != nil {
				return err
			}
		}
		for _, w := range m.writes {
			if err := t.execQueued(ctx, w.check, w.query, w.args...); err != nil {
				return err
			}
		}
		t.queued = append(t.queued, m.queued...)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := t.execQueued(ctx, nil, shortLockTimeout); err != nil {
		return err
	}
	all := func(n int64) error {
		if n != int64(len(rows)) {
			return rules.ErrPrefixTaken
		}
		return nil
	}
	if err := t.execQueued(ctx, all, insertRule+` VALUES `+t.rowMarks(len(rows), len(rows[0]))+freeKey,
		slices.Concat(rows...)...); err != nil {
		return err
	}
	return t.execQueued(ctx, nil, defaultLockTimeout)
}

// askAll passes queries of a pending change to the group and waits for the results.
func (m *pendingChange) askAll(asked []*question) error {
	if m.unsupported {
		return errUngrouped
	}
	e := event{change: m, questions: asked, results: make(chan error)}
	m.in.events <- e
	err := <-e.results
	if err != nil && !isLocked(err) {
		return m.rejectGrouping()
	}
	return err
}

// rejectGrouping returns errUngrouped for an operation that a group does not support, so that the change runs in a separate transaction.
func (m *pendingChange) rejectGrouping() error {
	m.unsupported = true
	return errUngrouped
}
