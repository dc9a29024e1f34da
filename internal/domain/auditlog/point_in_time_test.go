package auditlog_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

var began = time.Date(2026, 1, 31, 15, 59, 0, 0, time.UTC)

// world is a history and how it is made again step by step.
type world struct {
	t      *testing.T
	store  *store.Store
	press  *codes.Service
	random *rand.Rand
	now    time.Time
	model  model
	steps  []step // in the order of commits
	batch  []codes.Batch
}

// step is what one commit did to the model.
type step struct {
	at time.Time
	do func(*model)
}

// model is the definition of what is true at a moment.
type model struct {
	rules    map[string]rules.Rule
	accounts map[string]accounts.Account
	links    map[string]bool
}

func newModel() model {
	return model{map[string]rules.Rule{}, map[string]accounts.Account{}, map[string]bool{}}
}

// Matching implements scan.Finder by looking at every rule.
func (m model) Matching(link rules.Link) (list []rules.Rule) {
	for _, r := range m.rules {
		if r.Prefix.Matches(link) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b rules.Rule) int { return cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)) })
	return list
}

// Governing implements scan.Finder. Contract: rules 2.9.
func (m model) Governing(text string) (rules.Match, bool) {
	link, ok := rules.ParseLink(text)
	if !ok {
		return rules.Match{}, false
	}
	hidden := map[string]bool{}
	for _, r := range m.Matching(link) {
		if r.Published && !hidden[r.Owner] {
			return rules.Match{RuleInfo: rules.RuleInfo{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text},
				Page: r.Path}, true
		}
		hidden[r.Owner] = true
	}
	return rules.Match{}, false
}

// Testing implements scan.Finder.
func (m model) Testing(text string) (list []rules.Rule) {
	for _, r := range m.rules {
		if slices.Contains(r.TestLinks, text) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b rules.Rule) int {
		return cmp.Or(cmp.Compare(len(b.Prefix.Key), len(a.Prefix.Key)), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Account and Linked implement scan.Accounts.
func (m model) Account(appid string) (accounts.Account, bool) {
	a, ok := m.accounts[appid]
	return a, ok
}

func (m model) Linked(service, miniProgram string) bool { return m.links[service+" "+miniProgram] }

// modelCodes is what a text opened as a code, asked with rising times.
type modelCodes struct {
	press *codes.Service
	made  map[string]codes.Batch // by text of its codes
	at    *time.Time
}

// Scan implements scan.Codes.
func (m modelCodes) Scan(text, user string, account func(string) (accounts.Account, bool)) (codes.Scanned, bool) {
	if b, ok := m.made[text]; ok && b.CreatedAt.After(*m.at) {
		return codes.Scanned{Reason: codes.UnknownCode}, true
	}
	return m.press.Scan(text, user, account)
}

func secret(n byte) []byte {
	b := make([]byte, sealer.KeySize)
	for i := range b {
		b[i] = n
	}
	return b
}

func newWorld(t *testing.T, target store.Target, seed uint64) *world {
	t.Helper()
	s, err := store.Open(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	w := &world{t: t, store: s, random: rand.New(rand.NewPCG(seed, 1)), now: began, model: newModel()}
	s.ConfigureChangeLog(func() time.Time { return w.now }, nil)
	key, err := sealer.NewKey(secret(1))
	require.NoError(t, err)
	code, err := codes.NewCodeKey(secret(2))
	require.NoError(t, err)
	text, err := codes.NewTextKey(secret(3))
	require.NoError(t, err)
	w.press = &codes.Service{Store: s, Memory: codes.NewMemory(s),
		Keys:  codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion},
		Vault: key, OpenIDs: accounts.NewOpenIDs(secret(4)), Settings: settings.NewLive(settings.Defaults()),
		Now:    func() time.Time { return w.now },
		Random: zeros{}, Prefix: "https://c.example/"}
	return w
}

type zeros struct{}

var _ io.Reader = zeros{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (w *world) pick(n int) int { return w.random.IntN(n) }

var (
	programs = []string{"wxa", "wxb", "wxc"}
	services = []string{"wxs", "wxt"}
	people   = []string{"", "ann", "bob"}
)

// prefixes are few, so that rules follow one another.
func (w *world) prefix() string {
	hosts := []string{"https://h.example/", "http://h.example/", "https://i.example/"}
	var text strings.Builder
	text.WriteString(hosts[w.pick(len(hosts))])
	for range w.pick(3) {
		text.WriteString(string("ab"[w.pick(2)]) + "/")
	}
	switch w.pick(6) {
	case 0:
		text.WriteString("page")
	case 1:
		text.WriteString("?k=" + string("12"[w.pick(2)]))
	}
	return text.String()
}

func (w *world) text() string {
	switch w.pick(12) {
	case 0:
		return fmt.Sprint("http://weixin.qq.com/q/", w.pick(3))
	case 1, 2, 3:
		if len(w.batch) > 0 {
			b := w.batch[w.pick(len(w.batch))]
			return w.press.Text(b, int64(w.pick(6)))
		}
	case 4:
		return "plain text"
	}
	text := w.prefix()
	if w.pick(2) == 0 {
		text += string("ab"[w.pick(2)]) + "/x"
	}
	return text
}

// update makes one commit at the present moment, and the step of it.
func (w *world) update(f func(ctx context.Context, s *store.Store) (func(*model), error)) {
	w.t.Helper()
	var do func(*model)
	require.NoError(w.t, w.store.InTx(w.t.Context(), func(s *store.Store) (err error) {
		do, err = f(w.t.Context(), s)
		return err
	}))
	w.steps = append(w.steps, step{w.now, do})
	do(&w.model)
}

// one makes something happen.
func (w *world) one() {
	if w.pick(4) > 0 { // several in one millisecond
		w.now = w.now.Add(time.Duration(w.pick(5000)) * time.Millisecond)
	}
	switch w.pick(12) {
	case 0, 1:
		w.account()
	case 2:
		service, program := services[w.pick(2)], programs[w.pick(3)]
		name, linked := service+" "+program, w.pick(3) > 0
		w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
			err := s.UpdateAccounts(ctx, func(tx accounts.Tx) error {
				switch {
				case linked && w.pick(2) == 0:
					return tx.PutLink(ctx, service, program, w.now)
				case linked:
					return tx.SaveLink(ctx, accounts.Link{Service: service, MiniProgram: program, Status: accounts.LinkDone})
				case w.pick(2) == 0:
					return tx.SaveLink(ctx, accounts.Link{Service: service, MiniProgram: program, Status: accounts.LinkRefused})
				}
				return tx.DeleteLink(ctx, service, program)
			})
			return func(m *model) { m.links[name] = linked }, err
		})
	case 3, 4:
		w.codes()
	default:
		w.rule()
	}
}

func (w *world) account() {
	appid, kind := programs[w.pick(3)], accounts.MiniProgram
	if w.pick(3) == 0 {
		appid, kind = services[w.pick(2)], accounts.ServiceAccount
	}
	if _, known := w.model.accounts[appid]; known && w.pick(8) == 0 {
		w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
			return func(m *model) {
				delete(m.accounts, appid)
				for _, s := range services {
					for _, p := range programs {
						if s == appid || p == appid {
							delete(m.links, s+" "+p)
						}
					}
				}
			}, s.UpdateAccounts(ctx, func(tx accounts.Tx) error { return tx.DeleteAccount(ctx, appid) })
		})
		return
	}
	a := accounts.Account{AppID: appid, Kind: kind, JumpOpen: w.pick(5) > 0, Members: map[string]accounts.Role{}}
	for _, v := range []accounts.Version{accounts.Release, accounts.Trial, accounts.Development} {
		if w.pick(4) > 0 {
			a.Versions = append(a.Versions, v)
		}
	}
	for _, user := range people[1:] {
		if w.pick(2) == 0 {
			a.Members[user] = []accounts.Role{accounts.Developer, accounts.TrialUser, accounts.Admin}[w.pick(3)]
		}
	}
	w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
		return func(m *model) { m.accounts[appid] = a }, s.UpdateAccounts(ctx, func(tx accounts.Tx) error { return tx.PutAccount(ctx, a) })
	})
}

func (w *world) rule() {
	kind, text := rules.Ordinary, w.prefix()
	owner := programs[w.pick(3)]
	target := owner
	if w.pick(5) == 0 {
		kind, text, owner, target = rules.KindService, fmt.Sprint("http://weixin.qq.com/q/", w.pick(3)), services[w.pick(2)],
			programs[w.pick(3)]
	}
	prefix, err := rules.ParsePrefix(text, kind, true)
	require.NoError(w.t, err)
	key := prefix.Key
	did := rules.ChangeMeta{At: w.now}
	have, exists := w.model.rules[key]
	w.update(func(ctx context.Context, s *store.Store) (do func(*model), err error) {
		err = s.UpdateRules(ctx, func(tx rules.Tx) (err error) {
			switch {
			case exists && w.pick(4) == 0:
				did.Action = []string{"delete", "force_delete"}[w.pick(2)]
				do = func(m *model) { delete(m.rules, key) }
				return tx.DeleteRule(ctx, have, did)
			case exists:
				did.Action = "edit"
				have.Path, have.Published = fmt.Sprint("p", w.pick(100)), w.pick(3) > 0
				w.testLinks(&have)
				do = func(m *model) { m.rules[key] = have }
				return tx.PutRule(ctx, have, did)
			}
			did.Action = "add"
			r := rules.Rule{Kind: kind, Owner: owner, Target: target, Prefix: prefix, Path: "p", Published: w.pick(2) == 0, OpenVersion: 1 +
				w.pick(3)}
			w.testLinks(&r)
			r, err = tx.AddRule(ctx, r, did)
			do = func(m *model) { m.rules[key] = r }
			return err
		})
		return do, err
	})
}

func (w *world) testLinks(r *rules.Rule) {
	r.TestLinks = nil
	if link, ok := rules.ParseLink(r.Prefix.Text + "a/x"); ok && r.Kind == rules.Ordinary && w.pick(3) == 0 && r.Prefix.Matches(link) {
		r.TestLinks = []string{r.Prefix.Text + "a/x"}
	}
}

func (w *world) codes() {
	if len(w.batch) < 3 && w.pick(4) == 0 || len(w.batch) == 0 {
		w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
			err := s.UpdateCodes(ctx, func(tx codes.Tx) error {
				b, err := tx.AddBatch(ctx, codes.Batch{Account: "wxs", ISV: strconv.Itoa(len(w.batch)), Count: 10,
					Start: uint64(1000 * (1 + len(w.batch))), Prefix: w.press.Prefix,
					Version: codes.FirstVersion, Segment: 10000, CreatedAt: w.now})
				w.batch = append(w.batch, b)
				return err
			})
			return func(*model) {}, err
		})
		return
	}
	b := w.batch[w.pick(len(w.batch))]
	e := codes.Event{Batch: b.ID, Action: []codes.EventType{codes.Activate, codes.Activate, codes.Deactivate, codes.Freeze,
		codes.Unfreeze, codes.Void,
		codes.Redeem}[w.pick(7)], OccurredAt: w.now, From: w.now, Actor: "admin"}
	from := int64(w.pick(6))
	e.Codes = codes.NewSet(codes.Range{From: from, To: from + int64(w.pick(4))})
	if w.pick(4) == 0 {
		e.Codes = codes.NewSet(codes.Range{From: 0, To: b.Count - 1})
	}
	if e.Action == codes.Void && w.pick(4) > 0 {
		e.Action = codes.Unfreeze
	}
	if e.Action == codes.Activate {
		e.Binding = codes.Binding{ActivityName: "a", WxaAppID: programs[w.pick(3)], WxaPath: fmt.Sprint("c", w.pick(100)),
			WxaType: w.pick(3)}
		if w.pick(3) == 0 {
			e.From = w.now.Add(time.Duration(w.pick(60000)) * time.Millisecond)
		}
	}
	w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
		return func(*model) {}, s.UpdateCodes(ctx, func(tx codes.Tx) error {
			_, err := tx.AddEvent(ctx, e)
			return err
		})
	})
}

type question struct {
	req scan.Request
	n   int
}

// What did it open at time t? The answer made from the log of changes is that of a replay of the history by the definition.
func TestAuditThen_EqualsReplay(t *testing.T) {
	target := store.Target{Dir: storetest.Folder(t)}
	if url := os.Getenv("HISTORY_POSTGRES"); url != "" {
		target.URL = url // a database of its own
	}
	n := testscope.Choose(20_000, 2_000)
	if text := os.Getenv("HISTORY_QUESTIONS"); text != "" { // how many questions are asked in all
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	events := testscope.Choose(1500, 600)
	w := newWorld(t, target, 7)
	for range events {
		w.one()
	}
	span := w.now.Add(time.Minute).Sub(began)
	all := make([]question, n)
	for i := range all {
		at := began.Add(time.Duration(w.random.Int64N(int64(span))) - time.Second).Truncate(time.Millisecond)
		if w.pick(3) == 0 { // the very millisecond of a change
			at = w.steps[w.pick(len(w.steps))].at
		}
		all[i] = question{scan.Request{Text: w.text(), User: people[w.pick(3)], At: at}, i}
	}
	slices.SortStableFunc(all, func(a, b question) int { return a.req.At.Compare(b.req.At) })
	then := auditlog.PointInTime{Store: w.store, Codes: w.press}
	m, next := newModel(), 0
	var at time.Time
	called := &calledBy{Store: w.store, at: &at}
	for e, err := range w.store.Events(t.Context(), 0, 0) {
		require.NoError(t, err)
		called.events = append(called.events, e)
	}
	// A memory that reads what was called, as it was called.
	w.press.Memory = codes.NewMemory(called)
	require.NoError(t, w.press.Memory.Load(t.Context()))
	read := 0
	w.press.Now = func() time.Time { return at }
	made := map[string]codes.Batch{}
	for _, b := range w.batch {
		for i := range b.Count {
			made[w.press.Text(b, i)] = b
		}
	}
	resolver := scan.Resolver{Finder: &m, Accounts: &m, Codes: modelCodes{press: w.press, made: made, at: &at}}
	seen := map[string]int{}
	for _, q := range all {
		at = q.req.At
		for ; next < len(w.steps) && !w.steps[next].at.After(at); next++ {
			w.steps[next].do(&m)
		}
		for ; read < len(called.events) && !called.events[read].OccurredAt.After(at); read++ {
			require.NoError(t, w.press.Memory.Changed(t.Context(), called.events[read].Batch))
		}
		want := resolver.Resolve(q.req)
		got, err := then.Resolve(t.Context(), q.req)
		require.NoError(t, err)
		seen[string(want.Action)+" "+string(want.Kind)+" "+string(want.Reason)]++
		// The replay's events are pointers into its memory.
		diff := gocmp.Diff(want, got.Decision, cmpopts.IgnoreFields(codes.Found{}, "State"), cmpopts.EquateEmpty())
		require.Equal(t, diff, "", "question %d: %+v (-want +got)", q.n, q.req)
	}
	t.Logf("%d questions, %v", n, seen)
	for _, kind := range []string{"open_mini_program rule ", "open_mini_program service_rule ", "open_mini_program test_link ",
		"open_mini_program code ", "open_url  ", "show_text  ",
		"show_message  frozen", "show_message  not_active", "show_message  no_release", "show_message  unknown_code",
		"show_message  void"} {
		assert.True(t, seen[kind] != 0, "nothing was ever %q: the test says nothing of it", kind)
	}
}

// calledBy is a store as it was at a moment, of what happened to codes.
type calledBy struct {
	codes.Store
	events []codes.Event
	at     *time.Time
}

func (c *calledBy) Events(_ context.Context, batch, after int64) iter.Seq2[codes.Event, error] {
	return func(yield func(codes.Event, error) bool) {
		for _, e := range c.events {
			if e.Seq > after && (batch == 0 || e.Batch == batch) && !e.OccurredAt.After(*c.at) && !yield(e, nil) {
				return
			}
		}
	}
}
