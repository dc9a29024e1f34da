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

// Rule changes that wait on this node share one transaction (group commit), and are acknowledged after its commit, so the newest
// entry of the audit log is locked only once for all these changes. Decision 57.

// togetherMost is the maximum number of changes in one transaction, and togetherTime is the timeout of this transaction. Before a
// group of changes locks the newest entry of the audit log, the group waits for no lock of another change: decidingTime is ample,
// and a longer wait means a dead connection.
const (
	togetherMost = 64
	togetherTime = 20 * time.Second
	decidingTime = 3 * time.Second
)

// togetherWait is the time that a change waits for its turn; afterwards the change runs in its own transaction, unless
// mostImpatient changes already do. If all waiting changes ran alone, they would block each other while more arrive.
var togetherWait = time.Second

const mostImpatient = 4

// aloneTime is the time for which changes of an owner run alone after a conflict with an import: such a conflict makes the whole
// group fail and delays each of its changes.
const aloneTime = 10 * time.Second

// errAlone reports that a change must run in its own transaction.
var errAlone = errors.New("this change goes alone")

// ChangeRules implements rules.Store.
func (s *Store) ChangeRules(ctx context.Context, owner, origin string, f func(rules.Tx) error) error {
	_, contained := ctx.Value(oneKey{}).(*Tx)
	// On SQLite a transaction is always alone. A change with a precondition must itself lock the newest entry of the audit log,
	// with which the precondition is compared.
	if !contained && s.engine.sharesRows() && auditlog.PreconditionFromContext(ctx) == nil {
		m := &pendingChange{parts: [2]string{ownerPart(owner), originPart(origin)}, begins: make(chan *queryBatch, 1),
			ends: make(chan error, 1)}
		if err := s.together.make(ctx, s, m, f); !errors.Is(err, errAlone) {
			return s.trouble.remember(s.outage(err))
		}
		defer s.together.made(m)
	}
	err := s.UpdateRules(ctx, f)
	if errors.Is(err, errBeingImported) {
		s.together.keepAlone(owner)
	}
	return err
}

// groupCommitter groups the rule changes that wait on a node.
type groupCommitter struct {
	mu        sync.Mutex
	waiting   []*pendingChange
	running   bool
	impatient int                  // number of changes that run alone because they waited too long
	alone     map[string]time.Time // owners whose changes run alone, with the end of this period

	wait, deciding time.Duration // set by tests; 0 = togetherWait, decidingTime
}

// keepAlone makes the changes of an owner run alone for a while.
func (g *groupCommitter) keepAlone(owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(g.alone, func(_ string, until time.Time) bool { return until.Before(now) })
	if g.alone == nil {
		g.alone = map[string]time.Time{}
	}
	g.alone[ownerPart(owner)] = now.Add(aloneTime)
}

// made is called when a change that ran alone has ended.
func (g *groupCommitter) made(m *pendingChange) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.impatient {
		g.impatient--
	}
}

// pendingChange is one of several changes that share a transaction.
type pendingChange struct {
	parts  [2]string        // the parts that this change locks
	begins chan *queryBatch // receives the query batch when the change may begin; receives nil if the change must run alone
	ends   chan error       // of the transaction

	in        *queryBatch
	alone     bool // the change needs an operation that a group does not support
	impatient bool // the change runs alone because it waited too long
	locked    bool // another transaction holds a lock of the change
	author    context.Context
	adds      []added
	writes    []statement
	noted     []change
}

// added is a new rule without its number, which depends on the newest entry of the audit log.
type added struct {
	rule rules.Rule
	deed rules.ChangeMeta
}

// queryBatch collects the queries of the changes in a group, which are sent in one round trip.
type queryBatch struct{ events chan event }

// event is the next action of a running change in a group: queries, or its end.
type event struct {
	of       *pendingChange
	asks     []*question
	answered chan error // receives the error of the queries; nil = the change has ended
}

// make returns errAlone if no change was made and the caller must run the change alone.
func (g *groupCommitter) make(ctx context.Context, s *Store, m *pendingChange, f func(rules.Tx) error) error {
	g.mu.Lock()
	if time.Now().Before(g.alone[m.parts[0]]) {
		g.mu.Unlock()
		return errAlone
	}
	g.waiting = append(g.waiting, m)
	if !g.running {
		g.running = true
		go g.run(s)
	}
	g.mu.Unlock()
	patience := time.NewTicker(cmp.Or(g.wait, togetherWait))
	defer patience.Stop()
	for begun := false; !begun; {
		select {
		case m.in = <-m.begins:
			begun = true
		case <-ctx.Done():
			if g.left(m) {
				return context.Cause(ctx)
			}
			m.in, begun = <-m.begins, true
		case <-patience.C:
			if g.goesAlone(m) {
				return errAlone
			}
		}
	}
	if m.in == nil {
		return errAlone
	}
	if err := m.decide(ctx, s, f); err != nil || m.alone {
		if m.alone {
			err = errAlone
		}
		return err // no part of the change was written
	}
	return <-m.ends
}

// goesAlone takes a change that waited too long out of the queue of the group, unless mostImpatient changes already run alone; it
// reports whether the change runs alone.
func (g *groupCommitter) goesAlone(m *pendingChange) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.impatient < mostImpatient && g.takeBack(m) {
		m.impatient = true
		g.impatient++
	}
	return m.impatient
}

// left removes a pending change that has not started from the queue.
func (g *groupCommitter) left(m *pendingChange) bool {
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

// decide runs a pending change on the goroutine of its caller, so that a panic reaches the caller.
func (m *pendingChange) decide(ctx context.Context, s *Store, f func(rules.Tx) error) error {
	decided := false
	defer func() {
		if !decided || m.alone {
			m.adds, m.writes, m.noted = nil, nil, nil
		}
		m.in.events <- event{}
	}()
	m.author = context.WithoutCancel(ctx)
	tx := &Tx{engine: s.engine, keeping: s.keeping, member: m}
	err := f(tx.rules())
	if decided = err == nil; decided {
		m.noted = tx.noted
	}
	return err
}

// run processes the queue until it is empty.
func (g *groupCommitter) run(s *Store) {
	for {
		g.mu.Lock()
		var taken, laterChanges []*pendingChange
		locked := map[string]bool{}
		for _, m := range g.waiting {
			// Two changes that need the same lock run one after the other.
			if len(taken) == togetherMost || locked[m.parts[0]] || locked[m.parts[1]] {
				laterChanges = append(laterChanges, m)
				continue
			}
			locked[m.parts[0]], locked[m.parts[1]] = true, true
			taken = append(taken, m)
		}
		g.waiting = laterChanges
		if g.running = len(taken) > 0; !g.running {
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		s.makeTogether(taken)
	}
}

// makeTogether runs several pending changes in one transaction. If the transaction fails before its commit, each change runs alone.
func (s *Store) makeTogether(all []*pendingChange) {
	ctx, cancel := context.WithTimeout(context.Background(), togetherTime)
	defer cancel()
	var begun []*pendingChange
	earlyParent, cancelFunc := context.WithTimeout(ctx, cmp.Or(s.together.deciding, decidingTime))
	defer cancelFunc()
	var locked error // the newest entry of the audit log was locked, so running each change alone would not help
	err := safely(func() error {
		return s.run(ctx, s.write, false, func(tx *Tx) error {
			begun = all
			all = nil
			err := tx.gather(earlyParent, begun)
			for _, m := range begun {
				if m.locked {
					m.ends <- errAlone
				}
			}
			begun = slices.DeleteFunc(begun, func(m *pendingChange) bool { return m.locked })
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(begun, func(m *pendingChange) bool { return len(m.adds)+len(m.writes)+len(m.noted) > 0 }) {
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
	sendAlone(all)
	c, is := err.(*sessionLostError)
	switch {
	case err == nil:
		s.trouble.remember(nil)
	case locked != nil:
		err = locked
	case !is || !c.sent:
		err = errAlone
	}
	for _, m := range begun {
		m.ends <- err
	}
}

func sendAlone(all []*pendingChange) {
	for _, m := range all {
		m.begins <- nil
	}
}

// safely converts a panic to an error, so that it does not affect callers or other changes.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("changes together: %v", p)
		}
	}()
	return f()
}

// freeLocks is the query that takes the free locks of all pending changes, with a row that says for each change whether its locks were
// free; it never blocks, so that no change waits for another owner.
func freeLocks(all []*pendingChange) *question {
	owners, origins := make([]int64, len(all)), make([]int64, len(all))
	for i, m := range all {
		owners[i], origins[i] = lockNumber(m.parts[0]), lockNumber(m.parts[1])
	}
	const query = `SELECT pg_try_advisory_xact_lock_shared($1) AND pg_try_advisory_xact_lock(owner)
		AND pg_try_advisory_xact_lock(origin) FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS m(owner, origin, i) ORDER BY i`
	return &question{statement: statement{query: query, args: []any{lockNumber(allRules), owners, origins}}}
}

// gather runs the pending changes until each of them is decided. A change whose locks are not free is marked and gets errAlone. When
// each pending change waits for results or is decided, the collected queries are sent in one round trip, the first of them after the
// locks. Every query gets a result or an error. A table lock applies to all changes in the transaction.
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
			if e := <-in.events; e.answered != nil {
				asked, waiting[e.of] = append(asked, e.asks...), e.answered
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
				answered <- errAlone
			} else {
				answered <- err
			}
		}
	}
	return err
}

// writeAll writes the pending changes of a group. The caller must hold the lock on the newest entry of the audit log.
func (t *Tx) writeAll(ctx context.Context, begun []*pendingChange) error {
	var rows [][]any
	for _, m := range begun {
		for _, a := range m.adds {
			a.rule.ID = t.head.seq + int64(len(t.noted)) + 1
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
		t.noted = append(t.noted, m.noted...)
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

// askAll sends queries of a pending change and waits for the results.
func (m *pendingChange) askAll(asked []*question) error {
	if m.alone {
		return errAlone
	}
	e := event{of: m, asks: asked, answered: make(chan error)}
	m.in.events <- e
	err := <-e.answered
	if err != nil && !isLocked(err) {
		return m.goAlone()
	}
	return err
}

// goAlone returns the error for operations that a group does not support.
func (m *pendingChange) goAlone() error {
	m.alone = true
	return errAlone
}
