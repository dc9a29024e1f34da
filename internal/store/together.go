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

// Changes of rules that wait on this node are made by one transaction, and answered after
// its commit: the head of the log of changes is held once for all of them. Decision 57.

// togetherMost is the maximum number of changes in one transaction, and togetherTime its maximum duration. Until it wants the end
// of the log it waits for no lock of another change: decidingTime is much, and more is a connection that says nothing.
const (
	togetherMost = 64
	togetherTime = 20 * time.Second
	decidingTime = 3 * time.Second
)

// togetherWait is the time that a change waits for its turn: then it goes alone, if no more than mostImpatient do. All of those
// that wait would be in each other's way for as long as more come.
var togetherWait = time.Second

const mostImpatient = 4

// aloneTime is for how long the changes of an owner go alone that added what an import was writing: the transaction of several
// fails for that, and each of them would wait.
const aloneTime = 10 * time.Second

// errAlone says that a change is to be made in a transaction of its own.
var errAlone = errors.New("this change goes alone")

// ChangeRules implements rules.Store.
func (s *Store) ChangeRules(ctx context.Context, owner, origin string, f func(rules.Tx) error) error {
	_, contained := ctx.Value(oneKey{}).(*Tx)
	// On SQLite a transaction is alone already. A change that expects something to be as it
	// was is compared with the log under a head of its own.
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

// groupCommitter are the changes that wait on a node.
type groupCommitter struct {
	mu        sync.Mutex
	waiting   []*pendingChange
	running   bool
	impatient int                  // changes that go alone because they waited for long
	alone     map[string]time.Time // owners whose changes go alone until then

	wait, deciding time.Duration // of a test; 0 = togetherWait, decidingTime
}

// keepAlone lets the changes of an owner go alone for a while.
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

// made is called when a change that went alone has ended.
func (g *groupCommitter) made(m *pendingChange) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.impatient {
		g.impatient--
	}
}

// pendingChange is one change of several in a transaction.
type pendingChange struct {
	parts  [2]string        // that it has locked
	begins chan *queryBatch // nil = it goes alone
	ends   chan error       // of the transaction

	in        *queryBatch
	alone     bool // it asked for what a member cannot have
	impatient bool // it is one of those that waited for long
	author    context.Context
	adds      []added
	writes    []statement
	noted     []change
}

// added is a rule without its number, which the head of the log gives it.
type added struct {
	rule rules.Rule
	deed rules.ChangeMeta
}

// queryBatch collects what the members ask, so that it goes out in one round trip.
type queryBatch struct{ events chan event }

// event is the next action of a running member: it asks, or it has ended.
type event struct{ asks *question }

// make returns errAlone where nothing was done, and the caller has to do it alone.
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
		return err // nothing of it is written
	}
	return <-m.ends
}

// goesAlone takes a member out of the line that waited for long, unless enough of them are out.
func (g *groupCommitter) goesAlone(m *pendingChange) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.impatient < mostImpatient && g.takeBack(m) {
		m.impatient = true
		g.impatient++
	}
	return m.impatient
}

// left takes a member back that has not begun.
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

// decide runs the change of a member on the goroutine of its caller, which gets its panic.
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

// run makes what waits until nothing does.
func (g *groupCommitter) run(s *Store) {
	for {
		g.mu.Lock()
		var taken, laterChanges []*pendingChange
		locked := map[string]bool{}
		for _, m := range g.waiting {
			// Two that would wait for each other are made one after the other.
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

// makeTogether makes the changes of members in one transaction. Where it fails before its
// commit, each is made alone.
func (s *Store) makeTogether(all []*pendingChange) {
	ctx, cancel := context.WithTimeout(context.Background(), togetherTime)
	defer cancel()
	var begun []*pendingChange
	earlyParent, cancelFunc := context.WithTimeout(ctx, cmp.Or(s.together.deciding, decidingTime))
	defer cancelFunc()
	var locked error // the head was not free: alone it would not be either
	err := safely(func() error {
		return s.run(ctx, s.write, false, func(tx *Tx) error {
			free, err := tx.begin(earlyParent, all)
			if err != nil {
				return err
			}
			begun, all = free, slices.DeleteFunc(all, func(m *pendingChange) bool { return slices.Contains(free, m) })
			sendAlone(all)
			all = nil
			if err := tx.gather(earlyParent, begun); err != nil {
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

// safely makes an error of a panic: it is no caller's, and ends no other change.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("changes together: %v", p)
		}
	}()
	return f()
}

// begin takes the locks of all members that are free, and returns these members: it never blocks, so that no member waits for the
// owner of another.
func (t *Tx) begin(ctx context.Context, all []*pendingChange) (begun []*pendingChange, err error) {
	owners, origins := make([]int64, len(all)), make([]int64, len(all))
	for i, m := range all {
		owners[i], origins[i] = lockNumber(m.parts[0]), lockNumber(m.parts[1])
	}
	free := &question{statement: statement{query: `SELECT pg_try_advisory_xact_lock_shared($1) AND pg_try_advisory_xact_lock(owner)
		AND pg_try_advisory_xact_lock(origin) FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS m(owner, origin, i) ORDER BY i`,
		args: []any{lockNumber(allRules), owners, origins}}}
	err = t.pipe.answer(ctx, free)
	for i, row := range free.rows {
		if row[0] == true && err == nil {
			begun = append(begun, all[i])
		}
	}
	return begun, err
}

// gather lets the members decide. Once each of them waits for an answer, or has decided,
// their questions go out in one round trip. They are answered in any case. A table that is locked is for each of them.
func (t *Tx) gather(ctx context.Context, begun []*pendingChange) (err error) {
	in := &queryBatch{events: make(chan event)}
	for _, m := range begun {
		m.begins <- in
	}
	for running := len(begun); running > 0; {
		var asked []*question
		for range running {
			if e := <-in.events; e.asks != nil {
				asked = append(asked, e.asks)
			}
		}
		running = len(asked)
		if err == nil && running > 0 {
			err = outageOf(t.engine, safely(func() error { return t.pipe.answer(ctx, asked...) }))
		}
		for _, q := range asked {
			q.err = err
			close(q.answered)
		}
	}
	return err
}

// writeAll writes what the members decided. The head of the log is locked.
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
	if err := t.execQueued(ctx, all, insertRule+` VALUES `+t.rowMarks(len(rows), len(rows[0]))+freeKey, slices.Concat(rows...)...); err != nil {
		return err
	}
	return t.execQueued(ctx, nil, defaultLockTimeout)
}

// ask waits for the answer to a question of a member.
func (m *pendingChange) ask(query string, args []any) (*question, error) {
	q := &question{statement: statement{query: query, args: sanitizeText(args)}, answered: make(chan struct{})}
	if m.alone {
		return q, errAlone
	}
	m.in.events <- event{q}
	<-q.answered
	if isLocked(q.err) {
		return q, q.err
	}
	if q.err != nil {
		return q, m.goAlone()
	}
	return q, nil
}

// goAlone returns the error of all that a member cannot have.
func (m *pendingChange) goAlone() error {
	m.alone = true
	return errAlone
}
