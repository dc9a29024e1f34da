package auditlog_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
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

// generator commits random changes to a store, and records the steps to replay them on a model.
type generator struct {
	t       *testing.T
	store   *store.Store
	codes   *codes.Service
	random  *rand.Rand
	now     time.Time
	model   model
	steps   []step // in the order of commits
	batches []codes.Batch
}

// step is the effect of a commit on the model.
type step struct {
	committedAt time.Time
	apply       func(*model)
}

// model is the reference implementation of the state at a time.
type model struct {
	rules    map[string]rules.Rule
	accounts map[string]accounts.Account
	links    map[string]bool
}

func newModel() model {
	return model{map[string]rules.Rule{}, map[string]accounts.Account{}, map[string]bool{}}
}

// Matching implements scan.Finder with a loop over all rules.
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

// Account implements scan.Accounts.
func (m model) Account(appid string) (accounts.Account, bool) {
	a, ok := m.accounts[appid]
	return a, ok
}

// Linked implements scan.Accounts.
func (m model) Linked(service, miniProgram string) bool { return m.links[service+" "+miniProgram] }

// modelCodes implements scan.Codes at the time now, which must not decrease.
type modelCodes struct {
	codes   *codes.Service
	batches map[string]codes.Batch // by text of a code
	now     *time.Time
}

func (m modelCodes) Scan(text, user string, account func(string) (accounts.Account, bool)) (codes.Scanned, bool) {
	if b, ok := m.batches[text]; ok && b.CreatedAt.After(*m.now) {
		return codes.Scanned{Reason: codes.UnknownCode}, true
	}
	return m.codes.Scan(text, user, account)
}

// secret returns a key whose bytes are n.
func secret(n byte) []byte { return bytes.Repeat([]byte{n}, sealer.KeySize) }

func newGenerator(t *testing.T, target store.Target, seed uint64) *generator {
	t.Helper()
	s := require.Value(store.Open(t.Context(), target))(t)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	w := &generator{t: t, store: s, random: rand.New(rand.NewPCG(seed, 1)), now: began, model: newModel()}
	s.ConfigureChangeLog(func() time.Time { return w.now }, nil)
	key := require.Value(sealer.NewKey(secret(1)))(t)
	code := require.Value(codes.NewCodeKey(secret(2)))(t)
	text := require.Value(codes.NewTextKey(secret(3)))(t)
	w.codes = &codes.Service{Store: s, Memory: codes.NewMemory(s),
		Keys:  codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion},
		Vault: key, OpenIDs: accounts.NewOpenIDs(secret(4)), Settings: settings.NewLive(settings.Defaults()),
		Now: func() time.Time { return w.now }, Random: zeroReader{}, Prefix: "https://c.example/"}
	return w
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (w *generator) pick(n int) int { return w.random.IntN(n) }

var (
	programs = []string{"wxa", "wxb", "wxc"}
	services = []string{"wxs", "wxt"}
	users    = []string{"", "ann", "bob"}
)

// randomPrefix returns one of a few prefixes, so that later rules replace earlier ones.
func (w *generator) randomPrefix() string {
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

// randomText returns a link, the text of a code or a plain text.
func (w *generator) randomText() string {
	switch w.pick(12) {
	case 0:
		return fmt.Sprint("http://weixin.qq.com/q/", w.pick(3))
	case 1, 2, 3:
		if len(w.batches) > 0 {
			b := w.batches[w.pick(len(w.batches))]
			return w.codes.Text(b, int64(w.pick(6)))
		}
	case 4:
		return "plain text"
	}
	text := w.randomPrefix()
	if w.pick(2) == 0 {
		text += string("ab"[w.pick(2)]) + "/x"
	}
	return text
}

// update runs f in a transaction at the current time, and records the step that f returns.
func (w *generator) update(f func(ctx context.Context, s *store.Store) (func(*model), error)) {
	w.t.Helper()
	var apply func(*model)
	require.NoError(w.t, w.store.InTx(w.t.Context(), func(s *store.Store) (err error) {
		apply, err = f(w.t.Context(), s)
		return err
	}))
	w.steps = append(w.steps, step{w.now, apply})
	apply(&w.model)
}

// change commits a random change.
func (w *generator) change() {
	if w.pick(4) > 0 { // otherwise in the same millisecond as the previous change
		w.now = w.now.Add(time.Duration(w.pick(5000)) * time.Millisecond)
	}
	switch w.pick(12) {
	case 0, 1:
		w.changeAccount()
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
		w.changeCodes()
	default:
		w.changeRule()
	}
}

func (w *generator) changeAccount() {
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
	for _, user := range users[1:] {
		if w.pick(2) == 0 {
			a.Members[user] = []accounts.Role{accounts.Developer, accounts.TrialUser, accounts.Admin}[w.pick(3)]
		}
	}
	w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
		return func(m *model) { m.accounts[appid] = a }, s.UpdateAccounts(ctx, func(tx accounts.Tx) error { return tx.PutAccount(ctx, a) })
	})
}

func (w *generator) changeRule() {
	kind, text := rules.Ordinary, w.randomPrefix()
	owner := programs[w.pick(3)]
	target := owner
	if w.pick(5) == 0 {
		kind, text, owner, target = rules.KindService, fmt.Sprint("http://weixin.qq.com/q/", w.pick(3)), services[w.pick(2)],
			programs[w.pick(3)]
	}
	prefix := require.Value(rules.ParsePrefix(text, kind, true))(w.t)
	key := prefix.Key
	meta := rules.ChangeMeta{At: w.now}
	r, exists := w.model.rules[key]
	w.update(func(ctx context.Context, s *store.Store) (apply func(*model), err error) {
		err = s.UpdateRules(ctx, func(tx rules.Tx) (err error) {
			switch {
			case exists && w.pick(4) == 0:
				meta.Action = []string{"delete", "force_delete"}[w.pick(2)]
				apply = func(m *model) { delete(m.rules, key) }
				return tx.DeleteRule(ctx, r, meta)
			case exists:
				meta.Action = "edit"
				r.Path, r.Published = fmt.Sprint("p", w.pick(100)), w.pick(3) > 0
				w.setTestLinks(&r)
				apply = func(m *model) { m.rules[key] = r }
				return tx.PutRule(ctx, r, meta)
			}
			meta.Action = "add"
			r = rules.Rule{Kind: kind, Owner: owner, Target: target, Prefix: prefix, Path: "p", Published: w.pick(2) == 0, OpenVersion: 1 +
				w.pick(3)}
			w.setTestLinks(&r)
			r, err = tx.AddRule(ctx, r, meta)
			apply = func(m *model) { m.rules[key] = r }
			return err
		})
		return apply, err
	})
}

// setTestLinks sets a random test link, or none.
func (w *generator) setTestLinks(r *rules.Rule) {
	r.TestLinks = nil
	if link, ok := rules.ParseLink(r.Prefix.Text + "a/x"); ok && r.Kind == rules.Ordinary && w.pick(3) == 0 && r.Prefix.Matches(link) {
		r.TestLinks = []string{r.Prefix.Text + "a/x"}
	}
}

func (w *generator) changeCodes() {
	if len(w.batches) < 3 && w.pick(4) == 0 || len(w.batches) == 0 {
		w.update(func(ctx context.Context, s *store.Store) (func(*model), error) {
			err := s.UpdateCodes(ctx, func(tx codes.Tx) error {
				b, err := tx.AddBatch(ctx, codes.Batch{Account: "wxs", ISV: strconv.Itoa(len(w.batches)), Count: 10,
					Start: uint64(1000 * (1 + len(w.batches))), Prefix: w.codes.Prefix,
					Version: codes.FirstVersion, Segment: 10000, CreatedAt: w.now})
				w.batches = append(w.batches, b)
				return err
			})
			return func(*model) {}, err
		})
		return
	}
	b := w.batches[w.pick(len(w.batches))]
	action := []codes.EventType{codes.Activate, codes.Activate, codes.Deactivate, codes.Freeze, codes.Unfreeze, codes.Void,
		codes.Redeem}[w.pick(7)]
	e := codes.Event{Batch: b.ID, Action: action, OccurredAt: w.now, From: w.now, Actor: "admin"}
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

type query struct {
	req scan.Request
	n   int
}

// TestAuditThen_EqualsReplay verifies that a point-in-time query, which reads the change log, has the result of the reference model after a
// replay of all steps up to that time.
func TestAuditThen_EqualsReplay(t *testing.T) {
	target := store.Target{Dir: storetest.Folder(t)}
	if url := os.Getenv("HISTORY_POSTGRES"); url != "" {
		target.URL = url // a separate database
	}
	n := testscope.Select(20_000, 2_000)
	if text := os.Getenv("HISTORY_QUESTIONS"); text != "" { // total number of queries
		n = require.Value(strconv.Atoi(text))(t)
	}
	events := testscope.Select(1500, 600)
	w := newGenerator(t, target, 7)
	for range events {
		w.change()
	}
	span := w.now.Add(time.Minute).Sub(began)
	queries := make([]query, n)
	for i := range queries {
		asOf := began.Add(time.Duration(w.random.Int64N(int64(span))) - time.Second).Truncate(time.Millisecond)
		if w.pick(3) == 0 { // the millisecond of a change
			asOf = w.steps[w.pick(len(w.steps))].committedAt
		}
		queries[i] = query{scan.Request{Text: w.randomText(), User: users[w.pick(3)], At: asOf}, i}
	}
	slices.SortStableFunc(queries, func(a, b query) int { return a.req.At.Compare(b.req.At) })
	pointInTime := auditlog.PointInTime{Store: w.store, Codes: w.codes}
	m, next := newModel(), 0
	var now time.Time
	past := &pastEvents{Store: w.store, now: &now}
	for e, err := range w.store.Events(t.Context(), 0, 0) {
		require.NoError(t, err)
		past.events = append(past.events, e)
	}
	w.codes.Memory = codes.NewMemory(past)
	require.NoError(t, w.codes.Memory.Load(t.Context()))
	read := 0
	w.codes.Now = func() time.Time { return now }
	batches := map[string]codes.Batch{}
	for _, b := range w.batches {
		for i := range b.Count {
			batches[w.codes.Text(b, i)] = b
		}
	}
	resolver := scan.Resolver{Finder: &m, Accounts: &m, Codes: modelCodes{codes: w.codes, batches: batches, now: &now}}
	seen := map[string]int{}
	for _, q := range queries {
		now = q.req.At
		for ; next < len(w.steps) && !w.steps[next].committedAt.After(now); next++ {
			w.steps[next].apply(&m)
		}
		for ; read < len(past.events) && !past.events[read].OccurredAt.After(now); read++ {
			require.NoError(t, w.codes.Memory.Changed(t.Context(), past.events[read].Batch))
		}
		want := resolver.Resolve(q.req)
		got := require.Value(pointInTime.Resolve(t.Context(), q.req))(t)
		seen[string(want.Action)+" "+string(want.Kind)+" "+string(want.Reason)]++
		// State points to events in the memory of the replay.
		diff := gocmp.Diff(want, got.Decision, cmpopts.IgnoreFields(codes.Found{}, "State"), cmpopts.EquateEmpty())
		require.Equal(t, diff, "", "result of query %d: %+v (-want +got)", q.n, q.req)
	}
	for _, kind := range []string{"open_mini_program rule ", "open_mini_program service_rule ", "open_mini_program test_link ",
		"open_mini_program code ", "open_url  ", "show_text  ",
		"show_message  frozen", "show_message  not_active", "show_message  no_release", "show_message  unknown_code",
		"show_message  void"} {
		assert.True(t, seen[kind] != 0, "%d queries have no result %q, want at least one", n, kind)
	}
}

// pastEvents is a store that returns the events of codes up to the time now.
type pastEvents struct {
	codes.Store
	events []codes.Event
	now    *time.Time
}

func (c *pastEvents) Events(_ context.Context, batch, after int64) iter.Seq2[codes.Event, error] {
	return func(yield func(codes.Event, error) bool) {
		for _, e := range c.events {
			if e.Seq > after && (batch == 0 || e.Batch == batch) && !e.OccurredAt.After(*c.now) && !yield(e, nil) {
				return
			}
		}
	}
}
