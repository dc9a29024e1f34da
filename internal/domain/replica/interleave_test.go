package replica

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
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

// These tests check how Current follows a store. After a change is acknowledged (committed, and RuleChanged returned), readers see no older
// state unless Ready reports it, and after a reader saw a state, no reader sees an older one. The store is a fake with atomic commits, so
// that 100,000 interleavings take seconds; package chaos tests the real stores.

// The things that change.
const (
	aRule = iota
	aServiceRule
	anAccount
	things
)

var names = [things]string{"https://shop.example/t/", "http://weixin.qq.com/q/code", "shop"}

var prefixes = func() (list [things]rules.Prefix) {
	for thing, kind := range map[int]rules.Kind{aRule: rules.Ordinary, aServiceRule: rules.KindService} {
		var err error
		if list[thing], err = rules.ParsePrefix(names[thing], kind, false); err != nil {
			panic(err)
		}
	}
	return list
}()

// A state is the version of each thing: one more with each commit.
type state [things]int

// absent: in version 0 and in every third one the thing does not exist.
func absent(version int) bool { return version%3 == 0 }

// rule is a version of one of the rules; the version is its page.
func (s state) rule(thing int) (rules.Rule, error) {
	if absent(s[thing]) {
		return rules.Rule{}, rules.ErrNoRule
	}
	kind := rules.Ordinary
	if thing == aServiceRule {
		kind = rules.KindService
	}
	return rules.Rule{ID: 1, Kind: kind, Owner: "owner", Target: "owner", Prefix: prefixes[thing], Path: strconv.Itoa(s[thing]),
		Published: true}, nil
}

// account is a version of the account; the version is its name.
func (s state) account() (accounts.Account, error) {
	if absent(s[anAccount]) {
		return accounts.Account{}, accounts.ErrNoAccount
	}
	return accounts.Account{AppID: names[anAccount], Name: strconv.Itoa(s[anAccount])}, nil
}

// fakeStore is a store that keeps nothing but a state and the log of changes.
type fakeStore struct {
	mu  sync.Mutex
	now state
	log []int // the things that changed
	// step is called within a view: before its state is taken, after that, and before it ends. An error is the view's.
	step func(ctx context.Context, name string) error
}

// commit makes the next version of a thing.
func (f *fakeStore) commit(thing int) (version int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now[thing]++
	f.log = append(f.log, thing)
	return f.now[thing]
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
		n := 0 // entries at the moment of the view
		for _, version := range s {
			n += version
		}
		for i := max(from, 1); int(i) <= n; i++ {
			change := Change{Seq: i, Hash: hashOf(int(i)), Kind: RuleChange, Key: names[f.log[i-1]]}
			if f.log[i-1] == anAccount {
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
	// Whose rules these are; never changed.
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
			for thing := range things {
				if r, err := s.rule(thing); thing != anAccount && err == nil && !yield(r, nil) {
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

// protocol is a way to follow a store.
type protocol struct {
	*Replica // what scans see; its own way unless a field below says otherwise
	changed  func(ctx context.Context, thing int)
	reload   func(ctx context.Context) error
	// again is what Retry does: one call for each missed change.
	again func() []func(context.Context)
	ready func() error
	// crowded: more than one change can be followed at a time.
	crowded bool
}

func follow(store *fakeStore) *protocol { return followWith(&Replica{History: store}, store) }

// followShared is the protocol of this package on one of several nodes, with a log that is not empty.
func followShared(store *fakeStore) *protocol {
	store.commit(anAccount)
	return followWith(&Replica{Changes: store}, store)
}

func followWith(c *Replica, store *fakeStore) *protocol {
	c.Rules, c.Accounts, c.RuleStore, c.AccountStore, c.Log = index.New(), NewAccounts(), store, store, slog.New(slog.DiscardHandler)
	if err := c.Load(context.Background()); err != nil {
		panic(err)
	}
	c.midway = func(ctx context.Context) {
		if a, ok := ctx.Value(actorKey{}).(*actor); ok {
			a.pause("tell")
			a.beside = false
		}
	}
	p := &protocol{Replica: c, reload: c.Load}
	p.ready = func() error {
		_, _, unreadable := c.Unreadable() // /readyz names it
		return errors.Join(c.Ready(), unreadable)
	}
	p.changed = func(ctx context.Context, thing int) {
		if thing == anAccount {
			c.RefreshAccounts(ctx, names[thing])
		} else {
			c.RefreshRule(ctx, names[thing])
		}
	}
	p.again = func() (calls []func(context.Context)) {
		behind := c.missing()
		for _, what := range slices.Sorted(maps.Keys(behind)) {
			calls = append(calls, func(ctx context.Context) {
				if a, ok := ctx.Value(actorKey{}).(*actor); ok {
					if a.beside = what == "everything"; !a.beside {
						a.pause("tell")
					}
				}
				_ = behind[what].retry(ctx)
			})
		}
		return calls
	}
	return p
}

// set puts a version of a thing into the memory.
func (p *protocol) set(s state, thing int) {
	if thing == anAccount {
		if a, err := s.account(); err != nil {
			p.Accounts.Remove(names[thing])
		} else {
			p.Accounts.Set(a, nil)
		}
		return
	}
	if r, err := s.rule(thing); err != nil {
		p.Rules.Remove(names[thing])
	} else {
		p.Rules.Set(r)
	}
}

// see is the version of a thing that a scan sees; ok is false where it sees none.
func (p *protocol) see(thing int) (version int, ok bool) {
	text := ""
	if thing == anAccount {
		a, found := p.Accounts.Account(names[thing])
		text, ok = a.Name, found
	} else {
		d := scan.Resolver{Finder: p.Rules, Accounts: p.Accounts}.Resolve(scan.Request{Text: names[thing]})
		ok = d.Action == scan.OpenMiniProgram
		text, _, _ = strings.Cut(d.Path, "?")
	}
	version, _ = strconv.Atoi(text)
	return version, ok
}

// witness judges what is seen of one thing.
type witness struct{ acknowledged, seen int }

// judge returns the version that a reader sees. behind: it is older than an acknowledged change; older: it is older than a version that was
// seen before. latest is the version in the store after the read; ready reports whether memory claims to be complete.
func (w witness) judge(version int, ok, ready bool, latest int) (now int, behind, older bool) {
	if ok {
		return version, version < w.acknowledged, version < w.seen
	}
	// Which of the absences it is cannot be seen: the first that can be.
	first := func(least int) int { return (least + 2) / 3 * 3 }
	now = first(w.seen)
	behind = first(max(w.seen, w.acknowledged)) > latest
	if ready && !behind {
		now = first(max(w.seen, w.acknowledged))
	}
	return now, behind, now > latest
}

// schedule is one interleaving, drawn step by step.
type schedule struct {
	rnd      *rand.Rand
	store    *fakeStore
	protocol *protocol
	parked   chan *actor
	actors   []*actor
	// knocking waits for the lock that another holds. It is at most one, so that the order is the schedule's and not the lock's.
	knocking  *actor
	witnesses [things]witness
	trace     []step
}

// step is what an actor did when the schedule let it.
type step struct {
	actor int
	name  string
	fails bool
}

// actor is a goroutine that stops at every step until the schedule lets it go on.
type actor struct {
	*schedule
	name   int
	step   string
	fault  error // of the step, when it goes on
	resume chan struct{}
	// The last commit of a writer.
	thing, version int
	beside         bool // it reads outside the line
}

type actorKey struct{}

func (a *actor) pause(step string) error {
	if a.beside && step != "tell" {
		step = "beside " + step
	}
	a.step, a.fault = step, nil
	a.parked <- a
	<-a.resume
	return a.fault
}

// following: the actor is inside a view.
func (a *actor) following() bool { return a.step == "begin" || a.step == "taken" || a.step == "end" }

// write commits changes and follows each.
func (a *actor) write(ctx context.Context, changes []int) {
	for _, a.thing = range changes {
		a.pause("commit")
		a.version = a.store.commit(a.thing)
		a.pause("tell")
		a.protocol.changed(ctx, a.thing)
		a.pause("acknowledged")
	}
}

// retry does once what Retry does every interval.
func (a *actor) retry(ctx context.Context) {
	a.pause("retry")
	for _, again := range a.protocol.again() {
		again(ctx)
	}
}

// reload reads everything again, beside the line up to its end.
func (a *actor) reload(ctx context.Context) {
	a.pause("reload")
	a.beside = true
	_ = a.protocol.reload(ctx)
}

// begin starts an actor, up to its first step.
func (s *schedule) begin(run func(a *actor, ctx context.Context)) {
	a := &actor{schedule: s, name: len(s.actors), resume: make(chan struct{})}
	go func() {
		run(a, context.WithValue(context.Background(), actorKey{}, a))
		a.step = "done"
		s.parked <- a
	}()
	s.actors = append(s.actors, <-s.parked)
}

var errStore = errors.New("the store does not answer")

// play plays one interleaving and returns what was wrong; "" = nothing.
func play(seed uint64, under func(*fakeStore) *protocol) (wrong string, trace []step) {
	s := &schedule{rnd: rand.New(rand.NewPCG(seed, 0)), parked: make(chan *actor)}
	s.store = &fakeStore{step: func(ctx context.Context, name string) error {
		if a, ok := ctx.Value(actorKey{}).(*actor); ok {
			return a.pause(name)
		}
		return nil
	}}
	s.protocol = under(s.store)
	focus := s.rnd.IntN(things) // most changes are of one thing
	for range 2 + s.rnd.IntN(2) {
		changes := []int{focus, focus}[:1+s.rnd.IntN(2)]
		if s.rnd.IntN(3) == 0 {
			changes[0] = s.rnd.IntN(things)
		}
		s.begin(func(a *actor, ctx context.Context) { a.write(ctx, changes) })
	}
	s.begin((*actor).retry)
	if s.rnd.IntN(2) == 0 {
		s.begin((*actor).reload)
	}
	for len(s.actors) > 0 {
		s.next()
		if wrong == "" { // after a fault the rest only ends
			wrong = s.look()
		}
	}
	if wrong == "" {
		wrong = s.end()
	}
	return wrong, s.trace
}

// next lets one actor go on to its next step.
func (s *schedule) next() {
	held := slices.ContainsFunc(s.actors, func(a *actor) bool { return a != s.knocking && a.following() })
	free := make([]*actor, 0, 4)
	for _, a := range s.actors {
		if s.knocking == nil || a != s.knocking && a.step != "tell" {
			free = append(free, a)
		}
	}
	a := free[s.rnd.IntN(len(free))]
	holder, knocks := a.following(), a.step == "tell" && held && !s.protocol.crowded
	if (holder || a.beside) && s.rnd.IntN(12) == 0 {
		a.fault = errStore
	}
	s.trace = append(s.trace, step{a.name, a.step, a.fault != nil})
	a.resume <- struct{}{}
	if knocks {
		s.knocking = a
		return
	}
	first := <-s.parked
	if s.knocking != nil && holder && (first != a || !a.following()) {
		// The holder left, so the one that knocked came in. Which of the two says so first does not matter.
		second := <-s.parked
		s.knocking = nil
		s.arrive(second)
	}
	s.arrive(first)
}

func (s *schedule) arrive(a *actor) {
	switch a.step {
	case "acknowledged":
		w := &s.witnesses[a.thing]
		w.acknowledged = max(w.acknowledged, a.version)
	case "done":
		s.actors = slices.DeleteFunc(s.actors, func(other *actor) bool { return other == a })
	}
}

// look scans everything and says what is wrong.
func (s *schedule) look() string {
	latest := s.store.latest()
	for thing := range things {
		if latest[thing] == 0 {
			continue
		}
		w := &s.witnesses[thing]
		version, ok := s.protocol.see(thing)
		ready := s.protocol.ready() == nil
		now, behind, older := w.judge(version, ok, ready, latest[thing])
		switch {
		case older:
			return fmt.Sprintf("%s: version %d (there: %v) after version %d", names[thing], version, ok, w.seen)
		case behind && ready:
			return fmt.Sprintf("%s: version %d (there: %v) after %d was acknowledged, and Ready says nothing", names[thing], version, ok,
				w.acknowledged)
		}
		w.seen = now
	}
	return ""
}

// end retries while the store answers: then nothing may be missing.
func (s *schedule) end() string {
	for _, again := range s.protocol.again() {
		again(context.Background())
	}
	if err := s.protocol.ready(); err != nil {
		return fmt.Sprintf("after a retry Ready still says: %v", err)
	}
	for thing, latest := range s.store.latest() {
		if version, ok := s.protocol.see(thing); ok == absent(latest) || ok && version != latest {
			return fmt.Sprintf("%s: version %d (there: %v) in the end, %d is stored", names[thing], version, ok, latest)
		}
	}
	if err := s.protocol.CatchUp(context.Background()); err != nil {
		return fmt.Sprintf("following the log at the end: %v", err)
	}
	return ""
}

func TestReplica_Interleavings(t *testing.T) {
	interleavings := testscope.Choose(200_000, 10_000)
	if testing.Short() {
		interleavings = 1_000 // one actor moves at a time: the race detector learns no more from the rest
	}
	// One actor moves at a time: waking another thread for it only takes time.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	different := map[uint64]struct{}{}
	faults := 0
	seed := maphash.MakeSeed()
	for n := range uint64(interleavings) {
		wrong, trace := play(n, []func(*fakeStore) *protocol{follow, followShared}[n%2])
		require.True(t, wrong == "", "interleaving %d: %s\n%v", n, wrong, trace)
		var h maphash.Hash
		h.SetSeed(seed)
		for _, step := range trace {
			maphash.WriteComparable(&h, step)
			if step.fails {
				faults++
			}
		}
		different[h.Sum64()] = struct{}{}
	}
	t.Logf("%d interleavings, %d of them different, with %d failed reads", interleavings, len(different), faults)
}

// TestReplica_InterleavingsDetectFaults follows a store in ways that are wrong: the interleavings must find each.
func TestReplica_InterleavingsDetectFaults(t *testing.T) {
	for name, under := range map[string]func(*fakeStore) *protocol{
		"the value of the commit is applied, not what is stored": func(store *fakeStore) *protocol {
			p := follow(store)
			p.changed = func(ctx context.Context, thing int) {
				p.reading.Lock()
				defer p.reading.Unlock()
				var s state
				s[thing] = ctx.Value(actorKey{}).(*actor).version
				p.set(s, thing)
			}
			return p
		},
		"it is read before its turn comes": func(store *fakeStore) *protocol {
			p := follow(store)
			p.crowded = true
			p.changed = func(ctx context.Context, thing int) {
				var read state
				err := store.view(ctx, func(s state) error { read = s; return nil })
				p.reading.Lock()
				defer p.reading.Unlock()
				if err == nil {
					p.set(read, thing)
				}
			}
			return p
		},
		"a read that is under way is taken for one's own": func(store *fakeStore) *protocol {
			p := follow(store)
			p.crowded = true
			own := p.changed
			var under atomic.Bool
			p.changed = func(ctx context.Context, thing int) {
				if under.CompareAndSwap(false, true) {
					own(ctx, thing)
					under.Store(false)
				}
			}
			p.again = func() []func(context.Context) { return nil }
			return p
		},
		"a change that cannot be read is forgotten": func(store *fakeStore) *protocol {
			p := follow(store)
			own := p.changed
			p.changed = func(ctx context.Context, thing int) {
				own(ctx, thing)
				p.mu.Lock()
				defer p.mu.Unlock()
				clear(p.missed)
			}
			return p
		},
		// Found in Current itself: the list was emptied, then read again.
		"a retry calls itself ready before it has read": func(store *fakeStore) *protocol {
			p := follow(store)
			own := p.again
			p.again = func() []func(context.Context) {
				calls := own()
				p.mu.Lock()
				defer p.mu.Unlock()
				clear(p.missed)
				return calls
			}
			return p
		},
		"what was read beside takes the place of the living as it is": func(store *fakeStore) *protocol {
			p := follow(store)
			p.reload = func(ctx context.Context) error {
				fresh := index.New()
				if err := fresh.Load(store.AllRules(ctx)); err != nil {
					return err
				}
				p.midway(ctx)
				p.reading.Lock()
				defer p.reading.Unlock()
				return store.view(ctx, func(state) error { p.Rules.Adopt(fresh); return nil })
			}
			return p
		},
		"what was read beside follows the log before its turn comes": func(store *fakeStore) *protocol {
			p := follow(store)
			p.reload = func(ctx context.Context) error {
				fresh := memory{rules: index.New()}
				var at position
				if _, err := p.page(context.Background(), fresh, &at); err != nil && !errors.Is(err, errOtherLog) {
					return err
				}
				p.midway(ctx)
				p.reading.Lock()
				defer p.reading.Unlock()
				return store.view(ctx, func(state) error { p.Rules.Adopt(fresh.rules); return nil })
			}
			return p
		},
		"a read is taken for the commits that ended while it ran": func(store *fakeStore) *protocol {
			p := followShared(store)
			refresh := p.changed
			p.changed = func(ctx context.Context, thing int) {
				refresh(ctx, thing)
				if p.reading.TryLock() { // the schedule knows only the locks of the protocol
					p.updates = store.Updates()
					p.reading.Unlock()
				}
			}
			return p
		},
		"a change is only read by the next retry": func(store *fakeStore) *protocol {
			p := follow(store)
			p.changed = func(context.Context, int) {}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := range uint64(10_000) {
				if wrong, _ := play(n, under); wrong != "" {
					t.Logf("found by interleaving %d: %s", n, wrong)
					return
				}
			}
			t.Error("10,000 interleavings found nothing")
		})
	}
}

// TestFollow_ConcurrentRace runs all goroutines without a schedule, for the race detector: only the code under test orders the accesses to
// the memory.
func TestFollow_ConcurrentRace(t *testing.T) {
	t.Run("one node", func(t *testing.T) { raceUnder(t, follow) })
	t.Run("several nodes", func(t *testing.T) { raceUnder(t, followShared) })
}

func raceUnder(t *testing.T, under func(*fakeStore) *protocol) {
	const writers, readers, changes = 4, 2, 1_000
	store := &fakeStore{step: func(context.Context, string) error {
		if rand.IntN(4) == 0 {
			runtime.Gosched()
		}
		return nil
	}}
	p := under(store)
	var acknowledged, seen [things]atomic.Int64
	raise := func(to *atomic.Int64, version int) {
		for {
			now := to.Load()
			if now >= int64(version) || to.CompareAndSwap(now, int64(version)) {
				return
			}
		}
	}
	var writing, reading sync.WaitGroup
	var stop atomic.Bool
	var looks atomic.Int64
	for range writers {
		writing.Go(func() {
			for range changes {
				thing := rand.IntN(things)
				version := store.commit(thing)
				p.changed(context.Background(), thing)
				raise(&acknowledged[thing], version)
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
				thing := rand.IntN(things)
				w := witness{int(acknowledged[thing].Load()), int(seen[thing].Load())}
				version, ok := p.see(thing)
				now, behind, older := w.judge(version, ok, true, store.latest()[thing])
				if behind || older {
					t.Errorf("%s: version %d (there: %v), acknowledged %d, seen %d", names[thing], version, ok, w.acknowledged, w.seen)
				}
				raise(&seen[thing], now)
				looks.Add(1)
				runtime.Gosched()
			}
		})
	}
	writing.Wait()
	stop.Store(true)
	reading.Wait()
	t.Logf("%d changes, %d looks", writers*changes, looks.Load())
}

// TestReplicaRetry_HealsReady: what cannot be read is said by Ready, also while it is tried
// again, and is healed by Retry once the store answers.
func TestReplicaRetry_HealsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var tries atomic.Int64
		store := &fakeStore{}
		var p *protocol
		store.step = func(context.Context, string) error {
			assert.True(t, tries.Load() <= 0 || p.Ready() != nil, "ready in the middle of a retry")
			if down.Load() {
				tries.Add(1)
				return errStore
			}
			return nil
		}
		p = follow(store)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go p.Retry(ctx, time.Second)

		down.Store(true)
		for thing := range things {
			store.commit(thing)
			p.changed(ctx, thing)
			p.changed(ctx, thing) // counts once
		}
		err := p.Ready()
		assert.True(t, err != nil && strings.Contains(err.Error(), "3 changes behind"), "Ready says %v", err)
		time.Sleep(10*time.Second + time.Millisecond)
		got := tries.Load()
		assert.True(t, got == 2*things+10*2*things && p.Ready() != nil, "%d tries in ten seconds, Ready says %v", got, p.Ready())
		down.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.NoErrorf(t, p.Ready(), "the store answers again, but Ready says")
		for thing := range things {
			if version, ok := p.see(thing); !ok || version != 1 {
				t.Errorf("%s: version %d (there: %v) after the retry", names[thing], version, ok)
			}
		}
	})
}

// TestReplicaLoad_FailureNotReady: a memory that was emptied and could not be filled again is not ready, and Retry fills it.
func TestReplicaLoad_FailureNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		store := &fakeStore{step: func(context.Context, string) error {
			if down.Load() {
				return errStore
			}
			return nil
		}}
		store.commit(aRule)
		p := follow(store)
		down.Store(true)
		err := p.Load(t.Context())
		require.True(t, errors.Is(err, errStore) && p.Ready() != nil, "Load: %v, Ready says %v", err, p.Ready())
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go p.Retry(ctx, time.Second)
		down.Store(false)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		assert.True(t, p.Rules.Len() == 1 && p.Ready() == nil, "after a retry there are %d rules, Ready says %v", p.Rules.Len(), p.Ready())
	})
}
