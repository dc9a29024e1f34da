package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Rule changes that callers make on this node at the same time share one transaction (group commit), so that the newest entry of
// the audit log is locked once for the whole group; each change is acknowledged after the commit of the group. Decision 57.

// maxGroupSize is the maximum number of changes in a group, and groupTimeout is the timeout of the group's transaction. A group locks
// the newest entry of the audit log first, and then waits for a lock for at most groupLockTimeout: all other changes wait for the group.
const (
	maxGroupSize     = 64
	groupTimeout     = 20 * time.Second
	groupLockTimeout = 3 * time.Second
)

// groupWait is the time for which a change waits for a group before it runs in a separate transaction. At most maxImpatient such separate
// transactions run at the same time, because a larger number would block each other while new changes arrive.
var groupWait = 5 * time.Second

const maxImpatient = 4

// maxFreeTries is the number of groups that a change joins without waiting for the locks of its owner and origin. A transaction that holds
// such a lock usually waits only for the newest entry of the audit log, and has ended when the next group gets this entry.
const maxFreeTries = 3

// maxSteps is the maximum number of steps of the changes that a group takes at once. Each step is a round trip for which all other changes
// wait.
const maxSteps = 16

// maxBlocking is the maximum number of groups of a node that wait for locks of other transactions.
const maxBlocking = 8

// ungroupedTime is the time for which an owner's changes run in separate transactions after a conflict with a bulk import, because a
// conflict of one change would make the transaction of a whole group fail.
const ungroupedTime = 10 * time.Second

// errUngrouped reports that a group did not make a change, which must now run in a separate transaction.
var errUngrouped = errors.New("the change needs a separate transaction")

// errLockedOut reports to a change of a group that another transaction holds a lock of the change.
var errLockedOut = fmt.Errorf("%w: the owner or origin is locked", errUngrouped)

// ChangeRules implements rules.Store.
func (s *Store) ChangeRules(ctx context.Context, owner, origin string, f func(rules.Tx) error) error {
	// On SQLite there are no groups, because only one transaction writes at a time. A change with a precondition runs in a separate
	// transaction, because it must lock the newest entry of the audit log to check the precondition.
	if s.tx == nil && s.engine.sharesRows && auditlog.PreconditionFromContext(ctx) == nil {
		for tries := 1; ; tries++ {
			m := &pendingChange{parts: [2]string{ownerPart(owner), originPart(origin)}, blocks: tries > maxFreeTries,
				begins: make(chan *queryBatch, 1), ends: make(chan error, 1)}
			if err := s.committer.join(ctx, s, m, f); !errors.Is(err, errUngrouped) {
				return s.health.record(s.outage(err))
			}
			if !m.lockedOut {
				defer s.committer.finishSeparate(m)
				break
			}
		}
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
	blocking  map[[2]string]bool   // owners and origins for whose locks a group waits
	impatient int                  // number of changes that run in separate transactions because they waited too long
	separate  map[string]time.Time // owners whose changes run in separate transactions until the given time

	wait, lockTimeout time.Duration // set by tests in place of groupWait and groupLockTimeout; 0 = not set
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
	begins chan *queryBatch // receives the query batch when the change may start; nil if the change must run separately
	ends   chan error       // receives the result of the transaction

	in            *queryBatch
	unsupported   bool // the change used an operation that a group does not support
	impatient     bool // the change runs in a separate transaction because it waited too long
	locked        bool // another transaction has locked the owner or the origin of the change; only for the goroutine of the group
	lockedOut     bool // the change did not begin, or was not answered, because it is locked; only for the goroutine of the change
	blocks        bool // the group of the change waits for the locks of the owner and the origin
	dependent     bool // the queries of the change see uncommitted writes of earlier changes in the group
	author        context.Context
	adds          []added
	confirmations [][]any // rows of table domain_verifications
	writes        []statement
	queued        []change
}

// added is a new rule whose id is assigned after the newest entry of the audit log is locked, because the id is a sequence number.
type added struct {
	rule rules.Rule
	deed rules.ChangeMeta
}

// queryBatch collects the queries of independent changes in a group, which are sent in one round trip.
type queryBatch struct {
	events chan event
	err    error // the group failed before the change began
}

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
		m.lockedOut = true
		return errUngrouped
	}
	if m.in.err != nil {
		return m.in.err
	}
	refusal := m.decide(ctx, s, f) // the group writes nothing of a refused change
	switch {
	case m.unsupported, m.lockedOut:
		return errUngrouped
	case refusal != nil && !m.dependent:
		return refusal
	}
	// A refusal that depends on writes of earlier changes is valid only if these writes are committed.
	return cmp.Or(<-m.ends, refusal)
}

// leavesQueue takes a change that waited too long out of the queue, unless maxImpatient such changes already run in separate
// transactions, and reports whether the change has left the queue.
func (g *groupCommitter) leavesQueue(m *pendingChange) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.impatient < maxImpatient && g.remove(m) {
		m.impatient = true
		g.impatient++
	}
	return m.impatient
}

// removePending removes a pending change from the queue; it returns false if the change is no longer in the queue.
func (g *groupCommitter) removePending(m *pendingChange) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.remove(m)
}

func (g *groupCommitter) remove(m *pendingChange) bool {
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
		if !decided || m.unsupported || m.lockedOut {
			m.adds, m.confirmations, m.writes, m.queued = nil, nil, nil, nil
		}
		m.in.events <- event{}
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.author = context.WithoutCancel(ctx)
	tx := &Tx{engine: s.engine, keeping: s.keeping, groupChange: m}
	err := f(tx.rules())
	if decided = err == nil; decided {
		m.queued = tx.queued
	}
	return err
}

// run makes the queued changes in groups, until the queue is empty or its changes wait for groups that wait for locks.
func (g *groupCommitter) run(s *Store) {
	for {
		g.mu.Lock()
		group := g.takeFree(maxGroupSize)
		for _, m := range slices.Clone(g.waiting) {
			if m.blocks && !g.blocking[m.parts] && len(g.blocking) < maxBlocking {
				g.block(s, m.parts)
			}
		}
		g.running = len(group) > 0
		g.mu.Unlock()
		if len(group) == 0 {
			return
		}
		s.runGroup(group)
	}
}

// takeFree removes the first pending changes, at most limit, that need not wait for the locks of their owner and origin. The caller must
// hold g.mu.
func (g *groupCommitter) takeFree(limit int) []*pendingChange {
	depth := map[string]int{} // steps of the owner or the origin
	return g.take(limit, func(m *pendingChange) bool {
		n := 1 + max(depth[m.parts[0]], depth[m.parts[1]])
		if m.blocks || g.blocking[m.parts] || n > maxSteps {
			return false
		}
		depth[m.parts[0]], depth[m.parts[1]] = n, n
		return true
	})
}

// take removes the first pending changes that match, at most limit, from the queue. The caller must hold g.mu.
func (g *groupCommitter) take(limit int, matches func(*pendingChange) bool) (group []*pendingChange) {
	g.waiting = slices.DeleteFunc(g.waiting, func(m *pendingChange) bool {
		ok := len(group) < limit && matches(m)
		if ok {
			group = append(group, m)
		}
		return ok
	})
	return group
}

// block runs the pending changes of an owner and an origin in a group that waits for their locks. The caller must hold g.mu.
func (g *groupCommitter) block(s *Store, parts [2]string) {
	group := g.take(maxGroupSize, func(m *pendingChange) bool { return m.parts == parts })
	for _, m := range group {
		m.blocks = true
	}
	if g.blocking == nil {
		g.blocking = map[[2]string]bool{}
	}
	g.blocking[parts] = true
	go func() {
		s.runGroup(group)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.blocking, parts)
		if !g.running {
			g.running = true
			go g.run(s)
		}
	}()
}

// steps divides changes into steps of independent changes. A change is in a later step than all earlier changes with the same owner or
// origin.
func steps(all []*pendingChange) (steps [][]*pendingChange) {
	next := map[string]int{}
	for _, m := range all {
		n := max(next[m.parts[0]], next[m.parts[1]])
		if n == len(steps) {
			steps = append(steps, nil)
		}
		m.dependent = n > 0
		steps[n] = append(steps[n], m)
		next[m.parts[0]], next[m.parts[1]] = n+1, n+1
	}
	return steps
}

// errUnchanged ends a transaction that wrote nothing with a rollback, which needs no flush of the disk.
var errUnchanged = errors.New("no change of the group wrote anything")

// runGroup runs pending changes in one transaction. The queries of a step are sent together with the writes of the step before, and see
// these writes. After a failure before COMMIT, each change gets errUngrouped or a lock timeout.
func (s *Store) runGroup(all []*pendingChange) {
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	later := steps(all)
	var begun []*pendingChange
	var locked error // lock timeout for the newest audit log entry; the changes would also time out in separate transactions
	err := safely(func() error {
		return s.run(ctx, s.write, false, func(tx *Tx) error {
			tx.pipe.lastWithCommit = true
			wrote, opening := false, tx.openGroup(all, cmp.Or(s.committer.lockTimeout, groupLockTimeout))
			for len(later) > 0 {
				step := slices.DeleteFunc(later[0], func(m *pendingChange) bool {
					if m.locked {
						m.begins <- nil
					}
					return m.locked
				})
				later, begun = later[1:], append(begun, step...)
				if err := tx.gather(ctx, step, opening); err != nil {
					if tx.head == nil && isLocked(err) && !tx.pipe.idle() {
						locked = err
					}
					return err
				}
				first := opening != nil && opening.head != nil
				if opening = nil; first && !all[0].blocks {
					opening = s.committer.openLate(len(all))
					later = append(later, opening.steps()...)
				}
				for _, m := range step {
					wrote = wrote || len(m.adds)+len(m.confirmations)+len(m.writes)+len(m.queued) > 0
				}
				if err := tx.writeAll(ctx, step); err != nil {
					return err
				}
			}
			if !wrote {
				return errUnchanged
			}
			return tx.execQueued(ctx, nil, defaultLockTimeout)
		})
	})
	c, is := err.(*sessionLostError)
	switch {
	case err == nil, errors.Is(err, errUnchanged): // all changes are committed, or there is nothing to commit
		err = nil
	case locked != nil:
		err = locked
	case !is || !c.sent:
		err = errUngrouped
	}
	for _, m := range slices.Concat(later...) {
		m.begins <- &queryBatch{err: cmp.Or(locked, errUngrouped)}
	}
	for _, m := range begun {
		if m.locked {
			m.ends <- errUngrouped
		} else {
			m.ends <- err
		}
	}
}

// safely runs f and returns a panic of f as an error, so that the panic ends neither the process nor the goroutine that runs the groups.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a group commit: %v", p)
		}
	}()
	return f()
}

// groupOpening is the first statements of a group. They lock the newest entry of the audit log, and then take the locks of the changes
// that are free. So a group with the newest entry locked waits for no lock of an owner or an origin, and no deadlock occurs. A group that
// blocks, whose changes have the same owner and origin, first waits for their locks.
type groupOpening struct {
	all         []*pendingChange
	head, locks *question // head is nil for changes that join the group late
	statements  []*question
}

func (t *Tx) openGroup(all []*pendingChange, lockTimeout time.Duration) *groupOpening {
	ask := func(query string, args ...any) *question {
		return &question{statement: statement{query: query, args: args}}
	}
	o := &groupOpening{all: all, head: ask(t.engine.headQuery)}
	if all[0].blocks {
		o.locks = ask(`SELECT pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock($2), pg_advisory_xact_lock($3)`,
			lockNumber(allRules), lockNumber(all[0].parts[0]), lockNumber(all[0].parts[1]))
		o.statements = append(o.statements, o.locks)
	}
	// The statements of a group use the same indexes for all values, so one plan serves all of them.
	o.statements = append(o.statements, o.head, ask(`SELECT set_config('lock_timeout', $1, true), `+onePlan,
		fmt.Sprint(lockTimeout.Milliseconds())), ask(shortLockTimeout))
	if t.engine.holding != "" {
		o.statements = append(o.statements, ask(t.engine.holding))
	}
	if o.locks == nil {
		o.locks = tryLocks(all)
		o.statements = append(o.statements, o.locks)
	}
	return o
}

// tryLocks returns a query that takes the locks of the owners and origins of changes, and tells for each change whether both were free.
func tryLocks(all []*pendingChange) *question {
	owners, origins := make([]int64, len(all)), make([]int64, len(all))
	for i, m := range all {
		owners[i], origins[i] = lockNumber(m.parts[0]), lockNumber(m.parts[1])
	}
	return &question{statement: statement{query: `SELECT pg_try_advisory_xact_lock_shared($1) AND pg_try_advisory_xact_lock(owner)
		AND pg_try_advisory_xact_lock(origin)
		FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS m(owner, origin, i) ORDER BY i`,
		args: []any{lockNumber(allRules), owners, origins}}}
}

// openLate takes the changes that began to wait while a group of so many changes waited for the newest entry of the audit log, and returns
// the statements that take their locks; nil = no change waits.
func (g *groupCommitter) openLate(size int) *groupOpening {
	g.mu.Lock()
	late := g.takeFree(maxGroupSize - size)
	g.mu.Unlock()
	if len(late) == 0 {
		return nil
	}
	locks := tryLocks(late)
	return &groupOpening{all: late, locks: locks, statements: []*question{locks}}
}

// steps returns the steps of late changes, which see the writes of the earlier changes of the group.
func (o *groupOpening) steps() [][]*pendingChange {
	if o == nil {
		return nil
	}
	late := steps(o.all)
	for _, m := range o.all {
		m.dependent = true
	}
	return late
}

// opened stores the newest entry of the audit log in t, and marks the changes whose locks another transaction holds.
func (t *Tx) opened(o *groupOpening) error {
	for i, row := range o.locks.rows { // none if the statements failed
		o.all[i].locked = !o.all[i].blocks && row[0] != true
	}
	if t.head != nil || len(o.head.rows) == 0 {
		return nil
	}
	t.head = &head{}
	return o.head.rows[0].Scan(&t.head.seq, &t.head.hash)
}

// gather runs the changes of a step until all of them have ended. Whenever each change either waits for query results or has ended, gather
// sends the collected queries in one round trip; the first round trip begins with the opening (nil = none). Each waiting change then
// receives the results of its queries or an error, which is errLockedOut if the change did not get its locks.
func (t *Tx) gather(ctx context.Context, step []*pendingChange, opening *groupOpening) (err error) {
	in := &queryBatch{events: make(chan event)}
	for _, m := range step {
		m.begins <- in
	}
	var asked []*question
	if opening != nil {
		asked = opening.statements
	}
	for running := len(step); running > 0 || len(asked) > 0; asked = nil {
		waiting := map[*pendingChange]chan error{}
		for range running {
			if e := <-in.events; e.results != nil {
				asked, waiting[e.change] = append(asked, e.questions...), e.results
			}
		}
		running = len(waiting)
		if err == nil && len(asked) > 0 {
			merged, distribute := mergeQueries(asked)
			err = outageOf(t.engine, safely(func() error { return t.pipe.answer(ctx, merged...) }))
			if err == nil {
				distribute()
			}
			if opening != nil {
				err = errors.Join(err, t.opened(opening))
				opening = nil
			}
			if t.head != nil && isLocked(err) {
				err = fmt.Errorf("%w: %v", errUngrouped, err) // a row or a table is locked
			}
		}
		for m, answered := range waiting {
			if m.locked {
				answered <- errLockedOut
			} else {
				answered <- err
			}
		}
	}
	return err
}

// mergeQueries returns fewer queries with the same results: queries of the same text become one query, because the server needs longer to
// start a query than to read a few rows. The caller runs the merged queries and then calls distribute, which stores the rows in the
// original queries.
func mergeQueries(asked []*question) (merged []*question, distribute func()) {
	byText := map[string][]*question{}
	for _, q := range asked {
		byText[q.query] = append(byText[q.query], q)
	}
	parts := map[*question][]*question{}
	for _, q := range asked {
		same := byText[q.query]
		delete(byText, q.query)
		if all := mergedQuery(same); all != nil {
			merged, parts[all] = append(merged, all), same
		} else {
			merged = append(merged, same...)
		}
	}
	return merged, func() {
		for all, same := range parts {
			for _, row := range all.rows {
				part := same[row[0].(int64)-1]
				part.rows = append(part.rows, row[1:])
			}
		}
	}
}

// mergedQuery returns a query whose rows begin with the number of a query of the same text, counted from 1; nil = the queries cannot be
// merged. OFFSET 0 keeps the planner from reading a whole table for the join.
func mergedQuery(same []*question) *question {
	if len(same) < 2 || !strings.HasPrefix(same[0].query, "SELECT ") || strings.Contains(same[0].query, "LIMIT") {
		return nil
	}
	rows := make([][]any, len(same))
	for i, q := range same {
		rows[i] = q.args
		for n, arg := range q.args {
			kind, first := reflect.ValueOf(arg).Kind(), reflect.ValueOf(same[0].args[n]).Kind()
			if kind != first || kind != reflect.String && kind != reflect.Int64 {
				return nil
			}
		}
	}
	query, names := same[0].query, make([]string, len(rows[0]))
	for i := len(names) - 1; i >= 0; i-- {
		names[i] = fmt.Sprint("a", i)
		query = strings.ReplaceAll(query, fmt.Sprint("$", i+1), "q."+names[i])
	}
	unnested, args := unnest(rows)
	return &question{statement: statement{args: args, query: `SELECT q.i, r.* FROM ` + unnested + ` WITH ORDINALITY AS q(` +
		strings.Join(append(names, "i"), ", ") + `), LATERAL (` + query + ` OFFSET 0) AS r`}}
}

// writeAll queues the statements and the audit log entries of a group's changes. The caller must have locked the newest entry of the log.
func (t *Tx) writeAll(ctx context.Context, begun []*pendingChange) error {
	var rows, confirmations [][]any
	for _, m := range begun {
		confirmations = append(confirmations, m.confirmations...)
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
	if len(confirmations) > 0 {
		if err := t.putConfirmations(ctx, confirmations); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		return nil
	}
	// If a prefix is taken, because an import is writing it, this statement fails and each change runs in a separate transaction.
	query, args := t.insertRows(insertRule, rows)
	return t.execQueued(ctx, nil, query, args...)
}

// askAll passes queries of a pending change to the group and waits for the results.
func (m *pendingChange) askAll(asked []*question) error {
	if m.unsupported || m.lockedOut {
		return errUngrouped
	}
	e := event{change: m, questions: asked, results: make(chan error)}
	m.in.events <- e
	err := <-e.results
	switch {
	case errors.Is(err, errLockedOut):
		m.lockedOut = true
	case err != nil && !isLocked(err):
		return m.rejectGrouping()
	}
	return err
}

// rejectGrouping returns errUngrouped for an operation that a group does not support, so that the change runs in a separate transaction.
func (m *pendingChange) rejectGrouping() error {
	m.unsupported = true
	return errUngrouped
}
