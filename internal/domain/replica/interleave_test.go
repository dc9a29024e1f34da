package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// These tests check how Replica follows a store. After a change is acknowledged (committed, and RefreshRule returned), readers see no older
// state unless Ready reports it, and after a reader saw a state, no reader sees an older one. The store is a fake with atomic commits, so
// that 100,000 interleavings take seconds; package chaos tests the real stores.

// The items that change.
const (
	ruleItem = iota
	serviceRuleItem
	accountItem
	itemCount
)

var names = [itemCount]string{"https://shop.example/t/", "http://weixin.qq.com/q/code", "shop"}

var prefixes = func() (list [itemCount]rules.Prefix) {
	for item, kind := range map[int]rules.Kind{ruleItem: rules.Ordinary, serviceRuleItem: rules.KindService} {
		var err error
		if list[item], err = rules.ParsePrefix(names[item], kind, false); err != nil {
			panic(err)
		}
	}
	return list
}()

// state is the version of each item. A commit increments the version of an item.
type state [itemCount]int

// isAbsent reports whether the item does not exist in a version: in version 0 and in every third version.
func isAbsent(version int) bool { return version%3 == 0 }

// rule returns the current version of a rule. Its path is the version.
func (s state) rule(item int) (rules.Rule, error) {
	if isAbsent(s[item]) {
		return rules.Rule{}, rules.ErrNoRule
	}
	kind := rules.Ordinary
	if item == serviceRuleItem {
		kind = rules.KindService
	}
	return rules.Rule{ID: 1, Kind: kind, Owner: "owner", Target: "owner", Prefix: prefixes[item], Path: strconv.Itoa(s[item]),
		Published: true}, nil
}

// account returns the current version of the account. Its name is the version.
func (s state) account() (accounts.Account, error) {
	if isAbsent(s[accountItem]) {
		return accounts.Account{}, accounts.ErrNoAccount
	}
	return accounts.Account{AppID: names[accountItem], Name: strconv.Itoa(s[accountItem])}, nil
}

// fakeStore is a store with a state and the log of changes.
type fakeStore struct {
	mu  sync.Mutex
	now state
	log []int // the changed items
	// step is called within a view: before its state is read ("begin"), after that ("taken"), and before the view ends ("end"). The view
	// returns its error.
	step func(ctx context.Context, name string) error
}

// commit stores the next version of an item.
func (f *fakeStore) commit(item int) (version int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now[item]++
	f.log = append(f.log, item)
	return f.now[item]
}

func (f *fakeStore) latest() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakeStore) view(ctx context.Context, read func(state) error) error {
	if err := f.step(ctx, "begin"); err != nil {
		return err
	}
	s := f.latest()
	if err := f.step(ctx, "taken"); err != nil {
		return err
	}
	if err := read(s); err != nil {
		return err
	}
	return f.step(ctx, "end")
}

func (f *fakeStore) ChangeHead(context.Context) (int64, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.log)), hashOf(len(f.log)), nil
}

func hashOf(seq int) string {
	if seq == 0 {
		return ""
	}
	return strconv.Itoa(seq)
}

func (f *fakeStore) ChangesFrom(ctx context.Context, from int64, _ int) (list []Change, err error) {
	err = f.view(ctx, func(s state) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := 0 // number of log entries at the time of the view
		for _, version := range s {
			n += version
		}
		for i := max(from, 1); int(i) <= n; i++ {
			change := Change{Seq: i, Hash: hashOf(int(i)), Kind: RuleChange, Key: names[f.log[i-1]]}
			if f.log[i-1] == accountItem {
				change.Kind = AccountChange
			} else if r, err := s.rule(f.log[i-1]); err == nil {
				change.Rule = &r
			}
			list = append(list, change)
		}
		return nil
	})
	return list, err
}

func (f *fakeStore) Updates() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.log))
}

func (*fakeStore) Listen(context.Context) (Notifier, error) { return nil, errStore }

type rulesTx struct {
	rules.Tx
	state
}

func (tx rulesTx) Rule(_ context.Context, key string) (rules.Rule, error) {
	return tx.rule(slices.Index(names[:], key))
}

func (tx rulesTx) RulesAt(ctx context.Context, keys []string) (list []rules.Rule, err error) {
	for _, key := range keys {
		if r, err := tx.Rule(ctx, key); err == nil {
			list = append(list, r)
		}
	}
	return list, nil
}

type accountsTx struct {
	accounts.Tx
	state
}

func (tx accountsTx) AccountsAt(context.Context, []string) (list []accounts.Account, err error) {
	if a, err := tx.account(); err == nil {
		list = append(list, a)
	}
	return list, nil
}

func (accountsTx) LinksAt(context.Context, []string) (map[string][]string, error) {
	return map[string][]string{"owner": {"owner"}}, nil
}

func (tx accountsTx) Accounts(_ context.Context, after string, _ int) (list []accounts.Account, err error) {
	if after != "" {
		return nil, nil
	}
	// The owner of the rules, which never changes.
	list = []accounts.Account{{AppID: "owner", Versions: []accounts.Version{accounts.Release}, JumpOpen: true}}
	if a, err := tx.account(); err == nil {
		list = append(list, a)
	}
	return list, nil
}

func (f *fakeStore) ViewRules(ctx context.Context, read func(rules.Tx) error) error {
	return f.view(ctx, func(s state) error { return read(rulesTx{state: s}) })
}

func (f *fakeStore) ViewAccounts(ctx context.Context, read func(accounts.Tx) error) error {
	return f.view(ctx, func(s state) error { return read(accountsTx{state: s}) })
}

func (f *fakeStore) AllRules(ctx context.Context) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		err := f.view(ctx, func(s state) error {
			for item := range itemCount {
				if r, err := s.rule(item); item != accountItem && err == nil && !yield(r, nil) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(rules.Rule{}, err)
		}
	}
}

func (*fakeStore) ChangeRules(context.Context, string, string, func(rules.Tx) error) error {
	panic("not used")
}
func (*fakeStore) UpdateRules(context.Context, func(rules.Tx) error) error       { panic("not used") }
func (*fakeStore) Reserve(context.Context, int) (accounts.SeqRange, error)       { panic("not used") }
func (*fakeStore) UpdateAccounts(context.Context, func(accounts.Tx) error) error { panic("not used") }

// protocol is a way to follow a store: that of Replica, except for the functions that a test replaces.
type protocol struct {
	*Replica
	refresh func(ctx context.Context, item int) // is called after a commit
	reload  func(ctx context.Context) error
	retries func() []func(context.Context) // returns the calls of Retry, one for each missed change
	ready   func() error
	// concurrent means that several changes can be read at the same time.
	concurrent bool
}

// newProtocol returns the protocol of a single node.
func newProtocol(store *fakeStore) *protocol { return newProtocolOf(&Replica{History: store}, store) }

// newSharedProtocol returns the protocol of one of several nodes, with a log that is not empty.
func newSharedProtocol(store *fakeStore) *protocol {
	store.commit(accountItem)
	return newProtocolOf(&Replica{Changes: store}, store)
}

func newProtocolOf(c *Replica, store *fakeStore) *protocol {
	c.Rules, c.Accounts, c.RuleStore, c.AccountStore, c.Log = index.New(), NewAccounts(), store, store, slog.New(slog.DiscardHandler)
	if err := c.Load(context.Background()); err != nil {
		panic(err)
	}
	c.midway = func(ctx context.Context) {
		if a, ok := ctx.Value(actorKey{}).(*actor); ok {
			a.pause("refresh")
			a.outside = false
		}
	}
	p := &protocol{Replica: c, reload: c.Load}
	p.ready = func() error {
		_, _, unreadable := c.Unreadable() // /readyz reports it
		return errors.Join(c.Ready(), unreadable)
	}
	p.refresh = func(ctx context.Context, item int) {
		if item == accountItem {
			c.RefreshAccounts(ctx, names[item])
		} else {
			c.RefreshRule(ctx, names[item])
		}
	}
	p.retries = func() (calls []func(context.Context)) {
		missing := c.missing()
		for _, name := range slices.Sorted(maps.Keys(missing)) {
			calls = append(calls, func(ctx context.Context) {
				if a, ok := ctx.Value(actorKey{}).(*actor); ok {
					if a.outside = name == "everything"; !a.outside {
						a.pause("refresh")
					}
				}
				_ = missing[name].retry(ctx)
			})
		}
		return calls
	}
	return p
}

// set stores a version of an item in the replica.
func (p *protocol) set(s state, item int) {
	if item == accountItem {
		if a, err := s.account(); err != nil {
			p.Accounts.Remove(names[item])
		} else {
			p.Accounts.Set(a, nil)
		}
		return
	}
	if r, err := s.rule(item); err != nil {
		p.Rules.Remove(names[item])
	} else {
		p.Rules.Set(r)
	}
}

// read returns the version of an item that a scan sees. ok is false if the scan sees none.
func (p *protocol) read(item int) (version int, ok bool) {
	text := ""
	if item == accountItem {
		a, found := p.Accounts.Account(names[item])
		text, ok = a.Name, found
	} else {
		d := scan.Resolver{Finder: p.Rules, Accounts: p.Accounts}.Resolve(scan.Request{Text: names[item]})
		ok = d.Action == scan.OpenMiniProgram
		text, _, _ = strings.Cut(d.Path, "?")
	}
	version, _ = strconv.Atoi(text)
	return version, ok
}

// observation holds the knowledge of readers about an item: the last acknowledged version and the last version that a reader saw.
type observation struct{ acknowledged, seen int }

// check returns the version that a reader sees. stale means that it is older than an acknowledged change, older that it is older than a
// version that was seen before. latest is the version in the store after the read; ready means that the replica claims to be complete.
func (w observation) check(version int, ok, ready bool, latest int) (now int, stale, older bool) {
	if ok {
		return version, version < w.acknowledged, version < w.seen
	}
	// A reader cannot distinguish the versions in which the item is absent: assume the first possible one.
	firstAbsent := func(version int) int { return (version + 2) / 3 * 3 }
	now = firstAbsent(w.seen)
	stale = firstAbsent(max(w.seen, w.acknowledged)) > latest
	if ready && !stale {
		now = firstAbsent(max(w.seen, w.acknowledged))
	}
	return now, stale, now > latest
}

// schedule is one random interleaving of actors.
type schedule struct {
	rnd      *rand.Rand
	store    *fakeStore
	protocol *protocol
	paused   chan *actor
	actors   []*actor
	// blocked waits for the lock that another actor holds. At most one actor does, so that the schedule determines the order.
	blocked      *actor
	observations [itemCount]observation
	trace        []step
}

// step is a step of an actor.
type step struct {
	actor int
	name  string
	fails bool
}

// actor is a goroutine that pauses before every step until the schedule resumes it.
type actor struct {
	*schedule
	name   int
	step   string
	fault  error // result of the step
	resume chan struct{}
	// The last commit of a writer.
	item, version int
	outside       bool // the actor reads without the lock
}

type actorKey struct{}

func (a *actor) pause(step string) error {
	if a.outside && step != "refresh" {
		step = "outside " + step
	}
	a.step, a.fault = step, nil
	a.paused <- a
	<-a.resume
	return a.fault
}

// isReading reports whether the actor is inside a view and holds the lock.
func (a *actor) isReading() bool { return a.step == "begin" || a.step == "taken" || a.step == "end" }

// write commits changes and refreshes the replica after each.
func (a *actor) write(ctx context.Context, changes []int) {
	for _, a.item = range changes {
		a.pause("commit")
		a.version = a.store.commit(a.item)
		a.pause("refresh")
		a.protocol.refresh(ctx, a.item)
		a.pause("acknowledged")
	}
}

// retry runs one round of Retry.
func (a *actor) retry(ctx context.Context) {
	a.pause("retry")
	for _, retry := range a.protocol.retries() {
		retry(ctx)
	}
}

// reload reads everything, without the lock until the replica is swapped.
func (a *actor) reload(ctx context.Context) {
	a.pause("reload")
	a.outside = true
	_ = a.protocol.reload(ctx)
}

// start starts an actor, up to its first step.
func (s *schedule) start(run func(a *actor, ctx context.Context)) {
	a := &actor{schedule: s, name: len(s.actors), resume: make(chan struct{})}
	go func() {
		run(a, context.WithValue(context.Background(), actorKey{}, a))
		a.step = "done"
		s.paused <- a
	}()
	s.actors = append(s.actors, <-s.paused)
}

var errStore = errors.New("the store is unavailable")

// runInterleaving runs the interleaving of a seed and returns the first violation; "" means none.
func runInterleaving(seed uint64, newProtocol func(*fakeStore) *protocol) (violation string, trace []step) {
	s := &schedule{rnd: rand.New(rand.NewPCG(seed, 0)), paused: make(chan *actor)}
	s.store = &fakeStore{step: func(ctx context.Context, name string) error {
		if a, ok := ctx.Value(actorKey{}).(*actor); ok {
			return a.pause(name)
		}
		return nil
	}}
	s.protocol = newProtocol(s.store)
	focus := s.rnd.IntN(itemCount) // most changes are of one item
	for range 2 + s.rnd.IntN(2) {
		changes := []int{focus, focus}[:1+s.rnd.IntN(2)]
		if s.rnd.IntN(3) == 0 {
			changes[0] = s.rnd.IntN(itemCount)
		}
		s.start(func(a *actor, ctx context.Context) { a.write(ctx, changes) })
	}
	s.start((*actor).retry)
	if s.rnd.IntN(2) == 0 {
		s.start((*actor).reload)
	}
	for len(s.actors) > 0 {
		s.next()
		if violation == "" { // after a violation the actors only end
			violation = s.check()
		}
	}
	if violation == "" {
		violation = s.checkEnd()
	}
	return violation, s.trace
}

// next resumes a random actor until its next step.
func (s *schedule) next() {
	locked := slices.ContainsFunc(s.actors, func(a *actor) bool { return a != s.blocked && a.isReading() })
	runnable := make([]*actor, 0, 4)
	for _, a := range s.actors {
		if s.blocked == nil || a != s.blocked && a.step != "refresh" {
			runnable = append(runnable, a)
		}
	}
	a := runnable[s.rnd.IntN(len(runnable))]
	holder, blocks := a.isReading(), a.step == "refresh" && locked && !s.protocol.concurrent
	if (holder || a.outside) && s.rnd.IntN(12) == 0 {
		a.fault = errStore
	}
	s.trace = append(s.trace, step{a.name, a.step, a.fault != nil})
	a.resume <- struct{}{}
	if blocks {
		s.blocked = a
		return
	}
	first := <-s.paused
	if s.blocked != nil && holder && (first != a || !a.isReading()) {
		// The holder released the lock, and the blocked actor acquired it. The two pause in any order.
		second := <-s.paused
		s.blocked = nil
		s.handlePause(second)
	}
	s.handlePause(first)
}

// handlePause records the step before which an actor paused.
func (s *schedule) handlePause(a *actor) {
	switch a.step {
	case "acknowledged":
		w := &s.observations[a.item]
		w.acknowledged = max(w.acknowledged, a.version)
	case "done":
		s.actors = slices.DeleteFunc(s.actors, func(other *actor) bool { return other == a })
	}
}

// check scans all items and returns a violation, or "".
func (s *schedule) check() string {
	latest := s.store.latest()
	for item := range itemCount {
		if latest[item] == 0 {
			continue
		}
		w := &s.observations[item]
		version, ok := s.protocol.read(item)
		ready := s.protocol.ready() == nil
		now, stale, older := w.check(version, ok, ready, latest[item])
		switch {
		case older:
			return fmt.Sprintf("%s: version = %d, %v after version %d was seen, want no older one", names[item], version, ok, w.seen)
		case stale && ready:
			return fmt.Sprintf("%s: version = %d, %v after %d was acknowledged, want Ready to report an error", names[item], version, ok,
				w.acknowledged)
		}
		w.seen = now
	}
	return ""
}

// checkEnd retries with an available store, after which the replica must be complete.
func (s *schedule) checkEnd() string {
	for _, retry := range s.protocol.retries() {
		retry(context.Background())
	}
	if err := s.protocol.ready(); err != nil {
		return fmt.Sprintf("Ready() after a retry = %v, want nil", err)
	}
	for item, latest := range s.store.latest() {
		if version, ok := s.protocol.read(item); ok == isAbsent(latest) || ok && version != latest {
			return fmt.Sprintf("%s: version at the end = %d, %v, want %d", names[item], version, ok, latest)
		}
	}
	if err := s.protocol.CatchUp(context.Background()); err != nil {
		return fmt.Sprintf("CatchUp() at the end = %v, want nil", err)
	}
	return ""
}

func TestReplica_Interleavings(t *testing.T) {
	interleavings := testscope.Select(200_000, 10_000)
	if testing.Short() {
		interleavings = 1_000 // one actor runs at a time, so that the race detector finds no more in the others
	}
	// One actor runs at a time, and waking another thread for it takes time.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for n := range uint64(interleavings) {
		violation, trace := runInterleaving(n, []func(*fakeStore) *protocol{newProtocol, newSharedProtocol}[n%2])
		require.True(t, violation == "", "interleaving %d: %s\n%v", n, violation, trace)
	}
}

// TestReplica_InterleavingsDetectFaults follows a store with faulty protocols. The interleavings must detect the fault of each.
func TestReplica_InterleavingsDetectFaults(t *testing.T) {
	for name, newProtocol := range map[string]func(*fakeStore) *protocol{
		"refresh applies the committed value instead of the stored one": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			p.refresh = func(ctx context.Context, item int) {
				p.reading.Lock()
				defer p.reading.Unlock()
				var s state
				s[item] = ctx.Value(actorKey{}).(*actor).version
				p.set(s, item)
			}
			return p
		},
		"refresh reads before it acquires the lock": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			p.concurrent = true
			p.refresh = func(ctx context.Context, item int) {
				var read state
				err := store.view(ctx, func(s state) error {
					read = s
					return nil
				})
				p.reading.Lock()
				defer p.reading.Unlock()
				if err == nil {
					p.set(read, item)
				}
			}
			return p
		},
		"refresh shares a read that began before the commit": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			p.concurrent = true
			refresh := p.refresh
			var running atomic.Bool
			p.refresh = func(ctx context.Context, item int) {
				if running.CompareAndSwap(false, true) {
					refresh(ctx, item)
					running.Store(false)
				}
			}
			p.retries = func() []func(context.Context) { return nil }
			return p
		},
		"refresh forgets a change that cannot be read": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			refresh := p.refresh
			p.refresh = func(ctx context.Context, item int) {
				refresh(ctx, item)
				p.mu.Lock()
				defer p.mu.Unlock()
				clear(p.missed)
			}
			return p
		},
		// A former fault of Replica: the list of missed changes was cleared before they were read.
		"retry is ready before it has read": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			retries := p.retries
			p.retries = func() []func(context.Context) {
				calls := retries()
				p.mu.Lock()
				defer p.mu.Unlock()
				clear(p.missed)
				return calls
			}
			return p
		},
		"reload swaps without applying later changes": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			p.reload = func(ctx context.Context) error {
				fresh := index.New()
				if err := fresh.Load(store.AllRules(ctx)); err != nil {
					return err
				}
				p.midway(ctx)
				p.reading.Lock()
				defer p.reading.Unlock()
				return store.view(ctx, func(state) error {
					p.Rules.Adopt(fresh)
					return nil
				})
			}
			return p
		},
		"reload applies later changes before it acquires the lock": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			p.reload = func(ctx context.Context) error {
				fresh := memory{rules: index.New()}
				var pos position
				if _, err := p.page(context.Background(), fresh, &pos); err != nil && !errors.Is(err, errOtherLog) {
					return err
				}
				p.midway(ctx)
				p.reading.Lock()
				defer p.reading.Unlock()
				return store.view(ctx, func(state) error {
					p.Rules.Adopt(fresh.rules)
					return nil
				})
			}
			return p
		},
		"refresh assumes that it read commits that ended while it ran": func(store *fakeStore) *protocol {
			p := newSharedProtocol(store)
			refresh := p.refresh
			p.refresh = func(ctx context.Context, item int) {
				refresh(ctx, item)
				if p.reading.TryLock() { // without waiting, because the schedule does not know this lock
					p.updates = store.Updates()
					p.reading.Unlock()
				}
			}
			return p
		},
		"only retry reads a change": func(store *fakeStore) *protocol {
			p := newProtocol(store)
			p.refresh = func(context.Context, int) {}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := range uint64(10_000) {
				if violation, _ := runInterleaving(n, newProtocol); violation != "" {
					t.Logf("detected by interleaving %d: %s", n, violation)
					return
				}
			}
			t.Error("10,000 interleavings detect no violation, want one")
		})
	}
}

// TestFollow_ConcurrentRace runs all goroutines without a schedule, for the race detector: only the code under test synchronizes the
// accesses to the replica.
func TestFollow_ConcurrentRace(t *testing.T) {
	t.Run("one node", func(t *testing.T) { runConcurrently(t, newProtocol) })
	t.Run("several nodes", func(t *testing.T) { runConcurrently(t, newSharedProtocol) })
}

// runConcurrently runs writers, readers and reloads until all changes are written, and checks what readers see.
func runConcurrently(t *testing.T, newProtocol func(*fakeStore) *protocol) {
	const writers, readers, changes = 4, 2, 1_000
	store := &fakeStore{step: func(context.Context, string) error {
		if rand.IntN(4) == 0 {
			runtime.Gosched()
		}
		return nil
	}}
	p := newProtocol(store)
	var acknowledged, seen [itemCount]atomic.Int64
	storeMax := func(to *atomic.Int64, version int) {
		for {
			now := to.Load()
			if now >= int64(version) || to.CompareAndSwap(now, int64(version)) {
				return
			}
		}
	}
	var writing, reading sync.WaitGroup
	var stop atomic.Bool
	for range writers {
		writing.Go(func() {
			for range changes {
				item := rand.IntN(itemCount)
				version := store.commit(item)
				p.refresh(context.Background(), item)
				storeMax(&acknowledged[item], version)
			}
		})
	}
	reading.Go(func() {
		for !stop.Load() {
			assert.NoError(t, p.reload(context.Background()))
		}
	})
	for range readers {
		reading.Go(func() {
			for !stop.Load() && !t.Failed() {
				item := rand.IntN(itemCount)
				w := observation{int(acknowledged[item].Load()), int(seen[item].Load())}
				version, ok := p.read(item)
				now, stale, older := w.check(version, ok, true, store.latest()[item])
				assert.True(t, !stale && !older, "%s: version = %d, %v, want at least the acknowledged %d and the seen %d", names[item],
					version, ok, w.acknowledged, w.seen)
				storeMax(&seen[item], now)
				runtime.Gosched()
			}
		})
	}
	writing.Wait()
	stop.Store(true)
	reading.Wait()
}

// TestReplicaRetry_HealsReady verifies that Ready reports changes that cannot be read, also during a retry, until Retry reads them from the
// available store.
func TestReplicaRetry_HealsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var attempts atomic.Int64
		store := &fakeStore{}
		var p *protocol
		store.step = func(context.Context, string) error {
			assert.True(t, attempts.Load() <= 0 || p.Ready() != nil, "Ready() during a retry = nil, want an error")
			if down.Load() {
				attempts.Add(1)
				return errStore
			}
			return nil
		}
		p = newProtocol(store)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go p.Retry(ctx, time.Second)

		down.Store(true)
		for item := range itemCount {
			store.commit(item)
			p.refresh(ctx, item)
			p.refresh(ctx, item) // a second refresh counts as the same change
		}
		err := p.Ready()
		assert.True(t, err != nil && strings.Contains(err.Error(), "3 changes behind"), "Ready() = %v, want 3 changes behind", err)
		time.Sleep(10*time.Second + time.Millisecond)
		got := attempts.Load()
		assert.True(t, got == 2*itemCount+10*2*itemCount && p.Ready() != nil,
			"%d attempts in ten seconds, Ready() = %v, want %d and an error", got, p.Ready(), 2*itemCount+10*2*itemCount)
		down.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.NoErrorf(t, p.Ready(), "Ready() with an available store")
		for item := range itemCount {
			version, ok := p.read(item)
			assert.True(t, ok && version == 1, "%s: version after the retry = %d, %v, want 1", names[item], version, ok)
		}
	})
}

// TestReplicaLoad_FailureNotReady verifies that a replica is not ready after a failed Load, and that Retry loads it.
func TestReplicaLoad_FailureNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		store := &fakeStore{step: func(context.Context, string) error {
			if down.Load() {
				return errStore
			}
			return nil
		}}
		store.commit(ruleItem)
		p := newProtocol(store)
		down.Store(true)
		err := p.Load(t.Context())
		require.True(t, errors.Is(err, errStore) && p.Ready() != nil, "Load() = %v, Ready() = %v, want errors", err, p.Ready())
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go p.Retry(ctx, time.Second)
		down.Store(false)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		assert.True(t, p.Rules.Len() == 1 && p.Ready() == nil, "%d rules after a retry, Ready() = %v, want 1", p.Rules.Len(), p.Ready())
	})
}
