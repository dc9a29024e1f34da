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
// entry of the audit log is locked only once for all these changes. Decisions 57 and 87.

// togetherMost is the maximum number of changes in one transaction, and togetherTime is the timeout of this transaction. A group locks
// the newest entry of the audit log first, and afterwards waits for locks for lockedTime only: all other changes wait for the group.
const (
	togetherMost = 64
	togetherTime = 13 * time.Second
	lockedTime   = 3 * time.Second
)

// togetherWait is the time that a change waits for its turn; afterwards the change runs in its own transaction, unless
// mostImpatient changes already do. If all waiting changes ran alone, they would block each other while more arrive.
var togetherWait = 5 * time.Second

const mostImpatient = 4

// mostBlocking is the maximum number of groups that wait for locks of other transactions.
const mostBlocking = 8

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
		for blocks := false; ; blocks = true {
			m := &pendingChange{parts: [2]string{ownerPart(owner), originPart(origin)}, blocks: blocks, begins: make(chan *queryBatch, 1),
				ends: make(chan error, 1)}
			if err := s.together.make(ctx, s, m, f); !errors.Is(err, errAlone) {
				return s.trouble.remember(s.outage(err))
			}
			if !m.locked {
				defer s.together.made(m)
				break
			}
		}
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
	blocking  map[[2]string]bool   // locks for which a group waits
	impatient int                  // number of changes that run alone because they waited too long
	alone     map[string]time.Time // owners whose changes run alone, with the end of this period

	wait, locked time.Duration // set by tests; 0 = togetherWait, lockedTime
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
	blocks    bool // the change waits for its locks
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

// queryBatch collects the queries of independent changes in a group, which are sent in one round trip.
type queryBatch struct {
	events chan event
	err    error // the group failed before the change began
}

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
	if m.in.err != nil {
		return m.in.err
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
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.author = context.WithoutCancel(ctx)
	tx := &Tx{engine: s.engine, keeping: s.keeping, member: m}
	err := f(tx.rules())
	if decided = err == nil; decided {
		m.noted = tx.noted
	}
	return err
}

// run processes the queue until it is empty, or until its changes wait for groups that wait for locks.
func (g *groupCommitter) run(s *Store) {
	for {
		g.mu.Lock()
		taken := g.take(func(m *pendingChange) bool { return !m.blocks && !g.blocking[m.parts] })
		for _, m := range slices.Clone(g.waiting) {
			if m.blocks && !g.blocking[m.parts] && len(g.blocking) < mostBlocking {
				g.block(s, m.parts)
			}
		}
		g.running = len(taken) > 0
		g.mu.Unlock()
		if len(taken) == 0 {
			return
		}
		s.makeTogether(taken)
	}
}

// take removes the first pending changes that match from the queue. The caller must hold g.mu.
func (g *groupCommitter) take(matches func(*pendingChange) bool) (taken []*pendingChange) {
	g.waiting = slices.DeleteFunc(g.waiting, func(m *pendingChange) bool {
		ok := len(taken) < togetherMost && matches(m)
		if ok {
			taken = append(taken, m)
		}
		return ok
	})
	return taken
}

// block runs the pending changes of one owner and origin as a group that waits for their locks first, like a change that runs alone. The
// caller must hold g.mu.
func (g *groupCommitter) block(s *Store, parts [2]string) {
	taken := g.take(func(m *pendingChange) bool { return m.parts == parts })
	for _, m := range taken {
		m.blocks = true
	}
	if g.blocking == nil {
		g.blocking = map[[2]string]bool{}
	}
	g.blocking[parts] = true
	go func() {
		s.makeTogether(taken)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.blocking, parts)
		if !g.running {
			g.running = true
			go g.run(s)
		}
	}()
}

// steps divides changes into steps of independent changes. A change is in a later step than all earlier changes that have a lock in
// common with it.
func steps(all []*pendingChange) (steps [][]*pendingChange) {
	next := map[string]int{}
	for _, m := range all {
		n := max(next[m.parts[0]], next[m.parts[1]])
		if n == len(steps) {
			steps = append(steps, nil)
		}
		steps[n] = append(steps[n], m)
		next[m.parts[0]], next[m.parts[1]] = n+1, n+1
	}
	return steps
}

// errUnchanged ends a transaction that wrote nothing, without the flush of a commit.
var errUnchanged = errors.New("no change of the group wrote anything")

// makeTogether runs several pending changes in one transaction. The queries of a step are sent together with the writes of the step
// before, and see these writes. If the transaction fails before its commit, each change runs alone.
func (s *Store) makeTogether(all []*pendingChange) {
	ctx, cancel := context.WithTimeout(context.Background(), togetherTime)
	defer cancel()
	later := steps(all)
	var begun []*pendingChange
	var locked error // the newest entry of the audit log was locked, so running each change alone would not help
	err := safely(func() error {
		return s.run(ctx, s.write, false, func(tx *Tx) error {
			wrote, first := false, tx.openGroup(all, cmp.Or(s.together.locked, lockedTime))
			for len(later) > 0 {
				step := slices.DeleteFunc(later[0], func(m *pendingChange) bool {
					if m.locked {
						m.begins <- nil
					}
					return m.locked
				})
				later, begun = later[1:], append(begun, step...)
				if err := tx.gather(ctx, step, first); err != nil {
					if tx.head == nil && isLocked(err) && !tx.pipe.idle() {
						locked = err
					}
					return err
				}
				for _, m := range step {
					wrote = wrote || len(m.adds)+len(m.writes)+len(m.noted) > 0
				}
				if err := tx.writeAll(ctx, step); err != nil {
					return err
				}
				first = nil
			}
			if !wrote {
				return errUnchanged
			}
			return tx.execQueued(ctx, nil, defaultLockTimeout)
		})
	})
	c, is := err.(*sessionLostError)
	switch {
	case err == nil, errors.Is(err, errUnchanged):
		err = nil
		s.trouble.remember(nil)
	case locked != nil:
		err = locked
	case !is || !c.sent:
		err = errAlone
	}
	for _, m := range slices.Concat(later...) {
		m.begins <- &queryBatch{err: cmp.Or(locked, errAlone)}
	}
	for _, m := range begun {
		if m.locked {
			m.ends <- errAlone
		} else {
			m.ends <- err
		}
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

// groupOpening are the first statements of a group. They lock the newest entry of the audit log and take the free locks of all pending
// changes: a group waits for no lock of another transaction afterwards, so that no deadlock occurs. The changes of a group that blocks have
// one owner and origin, for whose locks the group waits first.
type groupOpening struct {
	all         []*pendingChange
	head, locks *question
	settings    []*question
}

func (t *Tx) openGroup(all []*pendingChange, patience time.Duration) *groupOpening {
	owners, origins := make([]int64, len(all)), make([]int64, len(all))
	for i, m := range all {
		owners[i], origins[i] = lockNumber(m.parts[0]), lockNumber(m.parts[1])
	}
	ask := func(query string, args ...any) *question {
		return &question{statement: statement{query: query, args: args}}
	}
	o := &groupOpening{all: all, head: ask(t.engine.headQuery()),
		locks: ask(`SELECT pg_try_advisory_xact_lock_shared($1) AND pg_try_advisory_xact_lock(owner)
			AND pg_try_advisory_xact_lock(origin)
			FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS m(owner, origin, i) ORDER BY i`,
			lockNumber(allRules), owners, origins),
		settings: []*question{ask(`SELECT set_config('lock_timeout', $1, true)`, fmt.Sprint(patience.Milliseconds())),
			ask(shortLockTimeout)}}
	if query := t.engine.holding(); query != "" {
		o.settings = append(o.settings, ask(query))
	}
	if all[0].blocks {
		o.locks = ask(`SELECT pg_advisory_xact_lock_shared($1), pg_advisory_xact_lock($2), pg_advisory_xact_lock($3)`, lockNumber(allRules),
			owners[0], origins[0])
	}
	return o
}

// questions returns the statements in their order; nil without an opening.
func (o *groupOpening) questions() []*question {
	if o == nil {
		return nil
	}
	if o.all[0].blocks {
		return append([]*question{o.locks, o.head}, o.settings...)
	}
	return append(append([]*question{o.head}, o.settings...), o.locks)
}

// taken stores the results: the newest entry of the audit log in t, and for each pending change whether another transaction holds
// one of its locks.
func (o *groupOpening) taken(t *Tx) error {
	if o == nil || t.head != nil || len(o.head.rows) == 0 {
		return nil
	}
	for i, row := range o.locks.rows {
		o.all[i].locked = !o.all[i].blocks && row[0] != true
	}
	t.head = &head{}
	return o.head.rows[0].Scan(&t.head.seq, &t.head.hash)
}

// gather runs independent pending changes until each of them is decided. A change whose locks are not free is marked and gets
// errAlone. When each pending change waits for results or is decided, the collected queries are sent in one round trip, the first of
// them after the opening of the group. Every query gets a result or an error.
func (t *Tx) gather(ctx context.Context, step []*pendingChange, open *groupOpening) (err error) {
	in := &queryBatch{events: make(chan event)}
	for _, m := range step {
		m.begins <- in
	}
	asked := open.questions()
	for running := len(step); running > 0; asked = nil {
		waiting := map[*pendingChange]chan error{}
		for range running {
			if e := <-in.events; e.answered != nil {
				asked, waiting[e.of] = append(asked, e.asks...), e.answered
			}
		}
		running = len(waiting)
		if err == nil && len(asked) > 0 {
			err = outageOf(t.engine, safely(func() error { return t.pipe.answer(ctx, asked...) }))
			err = errors.Join(err, open.taken(t))
			if t.head != nil && isLocked(err) {
				err = fmt.Errorf("%w: %v", errAlone, err) // a table is locked
			}
		}
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
	// A prefix that an import is writing is an error of this statement, so that COMMIT can be sent together with it.
	query, args := t.insertRows(insertRule, rows)
	return t.execQueued(ctx, nil, query, args...)
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
