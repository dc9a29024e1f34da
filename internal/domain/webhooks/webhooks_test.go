package webhooks_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	reference "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

var began = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// scans is a ledger in memory.
type scans struct {
	mu   sync.Mutex
	list []scanlog.Event
}

func (s *scans) add(events ...scanlog.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		n := len(s.list) + 1
		e.ID = scanlog.ScanID{14: byte(n >> 8), 15: byte(n)}
		s.list = append(s.list, e)
	}
}

func (s *scans) ID() string { return "" }

func (s *scans) End(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.list)) * 10, nil
}

func (s *scans) Read(_ context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
	s.mu.Lock()
	list := slices.Clone(s.list)
	s.mu.Unlock()
	return func(yield func(scanlog.Entry, error) bool) {
		for i, e := range list {
			if p := int64(i+1) * 10; p > after && !yield(scanlog.Entry{Position: p, Event: e}, nil) {
				return
			}
		}
	}
}

func ofCode(batch, index int64) scanlog.Event {
	return scanlog.Event{OccurredAt: began, Source: "scan", Action: "open_mini_program", Kind: "code", Batch: batch, Index: index}
}

func ofRule(id int64) scanlog.Event {
	return scanlog.Event{OccurredAt: began, Source: "scan", Action: "open_mini_program", Kind: "rule", RuleID: id, App: "shop",
		Text: "https://coffee.example/<t>/1"}
}

// got is one message as it arrived.
type got struct {
	url, id, body string
}

// post is an office with a receiver behind it.
type post struct {
	*outbox.Sender
	t       *testing.T
	db      *store.Store
	ledger  *scans
	service *webhooks.Service
	now     time.Time
	logs    bytes.Buffer

	mu     sync.Mutex
	answer func(got) (int, error)
	came   []got
	alarms []webhooks.Event
	secret map[string]string // by URL
}

func open(t *testing.T) *post {
	t.Helper()
	s, err := store.Open(t.Context(), store.Target{Dir: storetest.Folder(t)})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return office(t, s, &scans{})
}

func office(t *testing.T, s *store.Store, ledger *scans) *post {
	t.Helper()
	key, err := sealer.NewKey(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	p := &post{t: t, db: s, ledger: ledger, now: began, answer: func(got) (int, error) { return 204, nil }, secret: map[string]string{}}
	p.service = &webhooks.Service{Store: s.Webhooks(), Vault: key, Now: func() time.Time { return p.now }, Random: rand.Reader,
		Log: p.ledger, Life: func() time.Duration { return 72 * time.Hour },
		Check: func(_ context.Context, url string) error {
			if strings.Contains(url, "10.0.0.1") {
				return accounts.Invalid("the address is inside the network")
			}
			return accounts.ValidCallback(url)
		},
		Alarms: func(_ context.Context, after int64, limit int) (list []webhooks.Event, err error) {
			for _, a := range p.alarms {
				if a.Number > after && len(list) < limit {
					list = append(list, a)
				}
			}
			return list, nil
		},
		LastAlarm: func(context.Context) (int64, error) { return int64(len(p.alarms)), nil },
	}
	// The reference library compares the moment of sending with the real one, and
	// lets it be minutes old. It stands still: a hand ends after half a minute.
	real := time.Now()
	p.service.RealNow = func() time.Time { return real }
	post := func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
		p.verify(r.URL, r.Header, r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		m := got{r.URL, r.Header.Get("webhook-id"), string(r.Body)}
		p.came = append(p.came, m)
		status, err := p.answer(m)
		return safehttp.Answer{Status: status}, err
	}
	p.Sender = outbox.New(p.service.Policy(), s, outbox.Options{Post: post, Now: p.service.Now, RealNow: p.service.RealNow,
		Log: slog.New(slog.NewTextHandler(&p.logs, nil))})
	return p
}

// verify checks a delivery as a receiver does, with the reference implementation of the specification.
func (p *post) verify(url string, header http.Header, body []byte) {
	p.mu.Lock()
	secret := p.secret[url]
	p.mu.Unlock()
	w, err := reference.NewWebhook(secret)
	if err != nil {
		p.t.Errorf("secret %q: %v", secret, err)
		return
	}
	err = w.Verify(body, header)
	assert.NoErrorf(p.t, err, "%s: %v: %v", url, err, header)
	assert.True(p.t, w.Verify(append(slices.Clone(body), ' '), header) != nil, "an altered body has a good signature")
}

func (p *post) add(url string, w webhooks.Filter) webhooks.Webhook {
	p.t.Helper()
	hook, secret, err := p.service.Add(p.t.Context(), url, w)
	require.NoError(p.t, err)
	assert.True(p.t, !strings.Contains(hook.Secret, secret), "the secret is not sealed")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secret[url] = secret
	return hook
}

// step makes rounds until nothing is due.
func (p *post) step() {
	for range 20 {
		p.RunOnce(p.t.Context())
	}
}

func (p *post) events(url string) (list []string) {
	for _, m := range p.came {
		if m.url == url {
			list = append(list, m.id)
		}
	}
	return list
}

func id(n int) string { return fmt.Sprintf("scan_%032x", n) }

func TestWebhooks_EventFilter(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.ledger.add(ofCode(1, 5), ofRule(3)) // before anybody asked
	const codes, rules, alarms = "https://codes.example/", "https://rules.example/", "https://alarms.example/"
	p.add(codes, webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, From: 5, To: 6}, {Batch: 2, From: 9, To: -1}}})
	p.add(rules, webhooks.Filter{Rules: []int64{3, 4}, Alarms: true})
	p.ledger.add(ofCode(1, 4), ofCode(1, 5), ofCode(1, 6), ofCode(1, 7), ofCode(2, 8), ofCode(2, 1_000_000), ofRule(3), ofRule(5),
		ofRule(4), scanlog.Event{OccurredAt: began, Action: "show_text"})
	p.alarms = append(p.alarms, webhooks.Event{Number: 1, Type: webhooks.AlarmRaised, At: began, Data: map[string]int{"score": 120}})
	p.step()
	if got := slices.Sorted(slices.Values(p.events(codes))); !slices.Equal(got, []string{id(4), id(5), id(8)}) {
		t.Errorf("codes: %v", got)
	}
	if got := slices.Sorted(slices.Values(p.events(rules))); !slices.Equal(got, []string{"alarm_1", id(9), id(11)}) {
		t.Errorf("rules: %v", got)
	}
	want := `{"type":"scan.recorded","timestamp":"2026-01-15T02:00:00Z","data":{"scan_id":"00000000000000000000000000000009","occurred_at":"2026-01-15T02:00:00Z","source":"scan","action":"open_mini_program","kind":"rule","appid":"shop","rule_id":3,"text":"https://coffee.example/\u003ct\u003e/1"}}`
	i := slices.IndexFunc(p.came, func(m got) bool { return m.id == id(9) })
	assert.True(t, i >= 0 && p.came[i].body == want, "%v", p.came)
	// A receiver that comes later is told of what comes later.
	p.add(alarms, webhooks.Filter{Alarms: true})
	p.ledger.add(ofRule(3))
	p.alarms = append(p.alarms, webhooks.Event{Number: 2, Type: webhooks.AlarmRaised, At: began, Data: 1})
	p.step()
	got := p.events(alarms)
	assert.True(t, slices.Equal(got, []string{"alarm_2"}), "alarms: %v", got)
	assert.Equal(t, len(p.events(rules)), 5, "rules")
}

func TestWebhooks_RetryFailedDelivery(t *testing.T) {
	t.Parallel()
	p := open(t)
	const url = "https://a.example/"
	hook := p.add(url, webhooks.Filter{Rules: []int64{1}})
	p.ledger.add(ofRule(1))
	for _, answer := range []func(got) (int, error){
		func(got) (int, error) { return 500, nil },
		func(got) (int, error) { return 0, errors.New("timeout: the time for the whole\nrequest is over") },
		func(got) (int, error) { return 302, nil },
	} {
		p.answer = answer
		n := len(p.came)
		p.step()
		require.True(t, len(p.came) == n+1, "%d tries at once", len(p.came)-n)
		list, err := p.service.Deliveries(t.Context(), outbox.Query{Limit: 10})
		require.True(t, err == nil && len(list) == 1 && list[0].State() == "pending" && list[0].Attempts == n+1 && list[0].Error != "" &&
			!strings.Contains(list[0].Error, "\n"), "%+v %v", list, err)
		pause := list[0].NextAt.Sub(p.now)
		base := []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute}[n]
		assert.True(t, pause >= base*8/10 && pause <= base*12/10, "try %d: pause %v, want about %v", n+1, pause, base)
		p.now = list[0].NextAt.Add(-time.Millisecond)
		p.step()
		assert.True(t, len(p.came) == n+1, "tried too early")
		p.now = list[0].NextAt
	}
	p.answer = func(got) (int, error) { return 200, nil }
	p.step()
	p.now = p.now.Add(time.Hour)
	p.step()
	got := p.events(url)
	assert.True(t, len(got) == 4 && got[0] == got[3], "%v", got)
	// The operator sends it again.
	list, err := p.service.Deliveries(t.Context(), outbox.Query{Receiver: fmt.Sprint(hook.ID), State: "delivered", Limit: 10})
	require.True(t, err == nil && len(list) == 1, "%+v %v", list, err)
	require.NoError(t, assert.ErrorOf(p.service.Replay(t.Context(), list[0].ID)))
	p.step()
	assert.Equal(t, len(p.events(url)), 5, "len(p.events(url))")
	_, err = p.service.Replay(t.Context(), 99)
	assert.True(t, errors.Is(err, webhooks.ErrNoDelivery), "%v", err)
}

func TestWebhooks_DeadAfterMaxRetries(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.ledger.add(ofRule(1))
	p.answer = func(got) (int, error) { return 503, nil }
	for range 200 {
		p.RunOnce(t.Context())
		p.now = p.now.Add(30 * time.Minute)
	}
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "failed", Limit: 10})
	require.True(t, err == nil && len(list) == 1 && list[0].Attempts == len(p.came) && len(p.came) >= 8 && len(p.came) <= 10,
		"%d tries, %+v %v", len(p.came), list, err)
	p.now = p.now.Add(7 * 24 * time.Hour)
	p.RunOnce(t.Context())
	list, err = p.service.Deliveries(t.Context(), outbox.Query{Limit: 10})
	assert.True(t, err == nil && len(list) == 0, "still there: %+v %v", list, err)
}

func TestWebhooks_UnreachableReceiverBackoff(t *testing.T) {
	t.Parallel()
	p := open(t)
	const down, up = "https://down.example/", "https://up.example/"
	p.add(down, webhooks.Filter{Rules: []int64{1}})
	p.add(up, webhooks.Filter{Rules: []int64{1}})
	for range 100 {
		p.ledger.add(ofRule(1))
	}
	p.answer = func(m got) (int, error) {
		if m.url == down {
			return 0, errors.New("connect_failed")
		}
		return 200, nil
	}
	p.RunOnce(t.Context())
	assert.Equal(t, len(p.events(down)), 3, "tries of the one that is away")
	p.step()
	got := p.events(up)
	assert.True(t, len(got) == 100 && len(slices.Compact(slices.Sorted(slices.Values(got)))) == 100, "%d came: %v", len(got), got)
}

func TestWebhooks_DeletedReceiver(t *testing.T) {
	t.Parallel()
	p := open(t)
	hook := p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.ledger.add(ofRule(1), ofRule(1))
	p.answer = func(got) (int, error) { return 410, nil }
	p.step()
	p.ledger.add(ofRule(1)) // of this it does not want to know
	p.now = p.now.Add(time.Hour)
	p.step()
	assert.True(t, len(p.came) == 1 && strings.Contains(p.logs.String(), "status 410"), "%v %s", p.came, p.logs.String())
	p.answer = func(got) (int, error) { return 200, nil }
	_, err := p.service.Change(t.Context(), hook.ID, func(w *webhooks.Webhook) error { w.Enabled = true; return nil })
	require.NoError(t, err)
	p.step()
	got := p.events("https://a.example/")
	assert.True(t, slices.Equal(got, []string{id(1), id(1), id(2)}), "%v", got)
}

func TestWebhooks_Validation(t *testing.T) {
	t.Parallel()
	p := open(t)
	one := webhooks.Filter{Rules: []int64{1}}
	for what, c := range map[string]struct {
		url string
		w   webhooks.Filter
	}{
		"nothing wanted":          {"https://a.example/", webhooks.Filter{}},
		"inside the network":      {"http://10.0.0.1/", one},
		"no address":              {"ftp://a.example/", one},
		"no rule":                 {"https://a.example/", webhooks.Filter{Rules: []int64{0}}},
		"a range that ends early": {"https://a.example/", webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, From: 5, To: 4}}}},
		"no application":          {"https://a.example/", webhooks.Filter{Codes: []webhooks.Codes{{From: 5, To: 6}}}},
		"too many":                {"https://a.example/", webhooks.Filter{Rules: make([]int64, 1001)}},
	} {
		if _, _, err := p.service.Add(t.Context(), c.url, c.w); err == nil {
			t.Errorf("%s was taken", what)
		} else if _, ok := errors.AsType[accounts.Invalid](err); !ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	hook := p.add("https://a.example/", one)
	assert.True(t, assert.ErrorOf(p.service.Change(t.Context(), hook.ID,
		func(w *webhooks.Webhook) error { w.URL = "http://10.0.0.1/"; return nil })) != nil, "an address inside the network was taken")
	require.NoError(t, assert.ErrorOf(p.service.SendTest(t.Context(), hook.ID)))
	p.ledger.add(ofRule(1))
	require.NoError(t, p.service.Delete(t.Context(), hook.ID))
	p.step()
	assert.True(t, len(p.came) == 0, "%v came after the end", p.came)
	err := p.service.Delete(t.Context(), hook.ID)
	assert.True(t, errors.Is(err, webhooks.ErrNoWebhook), "%v", err)
}

// A ledger that was replaced by an older or another one is followed from its own end.
func TestWebhooks_ReplacedLedgerFromEnd(t *testing.T) {
	t.Parallel()
	p := open(t)
	for range 10 {
		p.ledger.add(ofRule(1))
	}
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.step()
	*p.ledger = scans{}
	p.ledger.add(ofRule(1), ofRule(1))
	p.step()
	p.ledger.add(ofRule(1))
	p.step()
	got := p.events("https://a.example/")
	assert.True(t, slices.Equal(got, []string{id(3)}), "%v", got)
}

// passed is a ledger whose end is known late: meanwhile something happens, once.
type passed struct {
	*scans
	meanwhile func()
}

func (s *passed) End(ctx context.Context) (int64, error) {
	end, err := s.scans.End(ctx)
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
	return end, err
}

// Another node collects on while one asks where the ledger ends: that is no
// other ledger, and nobody is told of what came before they asked to be.
func TestWebhookCollector_OvertakenByOtherNode(t *testing.T) {
	t.Parallel()
	other := open(t)
	one := office(t, other.db, other.ledger)
	one.secret = other.secret
	other.add("https://b.example/", webhooks.Filter{Rules: []int64{1}})
	one.service.Log = &passed{other.ledger, func() {
		other.ledger.add(ofRule(1), ofRule(1))
		other.step()
		other.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	}}
	one.step()
	other.ledger.add(ofRule(1))
	one.step()
	other.step()
	for url, want := range map[string][]string{"https://a.example/": {id(3)}, "https://b.example/": {id(1), id(2), id(3)}} {
		got := slices.Sorted(slices.Values(append(one.events(url), other.events(url)...)))
		assert.True(t, slices.Equal(got, want), "%s: %v", url, got)
	}
}

func TestWebhooks_ShutdownNotCountedAsFailure(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.ledger.add(ofRule(1), ofRule(1))
	ctx, stop := context.WithCancel(t.Context())
	p.answer = func(got) (int, error) {
		stop()
		return 0, ctx.Err()
	}
	p.RunOnce(ctx)
	list, err := p.service.Deliveries(t.Context(), outbox.Query{Limit: 10})
	require.True(t, err == nil && len(list) == 2, "%+v %v", list, err)
	for _, d := range list {
		assert.True(t, d.Attempts == 0 && d.NextAt.Equal(began), "%+v", d)
	}
	var body map[string]any
	assert.NoError(t, json.Unmarshal([]byte(list[0].Body), &body))
}

// However many receivers are slow, the others have their turn.
func TestWebhooks_SlowReceiversFairness(t *testing.T) {
	t.Parallel()
	p := open(t)
	const receivers = 40 // more than are sent to at once
	for n := range receivers {
		p.add(fmt.Sprintf("https://%02d.example/", n), webhooks.Filter{Rules: []int64{1}})
	}
	for range 20 {
		p.ledger.add(ofRule(1))
	}
	p.answer = func(got) (int, error) { return 503, nil }
	for range 3 {
		p.RunOnce(t.Context())
	}
	for n := range receivers {
		url := fmt.Sprintf("https://%02d.example/", n)
		assert.True(t, len(p.events(url)) != 0, "%s had no turn", url)
	}
}

// TestDeliveries_InFlight: a receiver that took one delivery gets several at once, those of one code one after the other.
func TestDeliveries_InFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := open(t)
		p.add("https://slow.example/", webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, To: -1}}, Rules: []int64{1}})
		const codes, each = 4, 10
		for range each {
			for index := range int64(codes) {
				p.ledger.add(ofCode(1, index))
			}
			p.ledger.add(ofRule(1))
		}
		var mu sync.Mutex
		underWay, highest := map[int64]int{}, 0
		last, all := map[int64]string{}, 0
		p.Post = func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
			var m struct {
				Data struct {
					ScanID    string `json:"scan_id"`
					CodeIndex *int64 `json:"code_index"`
				}
			}
			assert.NoError(t, json.Unmarshal(r.Body, &m))
			index := int64(-1)
			if m.Data.CodeIndex != nil {
				index = *m.Data.CodeIndex
			}
			mu.Lock()
			underWay[index]++
			all++
			highest = max(highest, all)
			assert.True(t, index < 0 || underWay[index] <= 1 && m.Data.ScanID > last[index],
				"code %d: %s is sent after %s, %d under way, want in order and one at a time", index, m.Data.ScanID, last[index],
				underWay[index])
			last[index] = m.Data.ScanID
			mu.Unlock()
			time.Sleep(200 * time.Millisecond) // of the bubble
			mu.Lock()
			underWay[index]--
			all--
			mu.Unlock()
			return safehttp.Answer{Status: 204}, nil
		}
		began := time.Now()
		p.step()
		if passed := time.Since(began); highest != 8 || len(last) != codes+1 {
			t.Errorf("deliveries in flight = %d, want 8; %d codes and rules, want %d; %v", highest, len(last), codes+1, passed)
		} else {
			t.Logf("%d deliveries in %v: %.0f a second", codes*each+each, passed, float64(codes*each+each)/passed.Seconds())
		}
	})
}

// queued is a post with 120 events for a receiver that took none at its first turn.
func queued(t *testing.T, url string) *post {
	t.Helper()
	p := open(t)
	p.add(url, webhooks.Filter{Rules: []int64{1}})
	for range 120 {
		p.ledger.add(ofRule(1))
	}
	p.answer = func(got) (int, error) { return 503, nil }
	p.RunOnce(t.Context())
	return p
}

// A queue behind a receiver that stays away ends.
func TestWebhookQueue_ExpiresUnsent(t *testing.T) {
	t.Parallel()
	const url = "https://a.example/"
	p := queued(t, url)
	tried := len(p.came)
	p.now = p.now.Add(11 * 24 * time.Hour)
	p.ledger.add(ofRule(1))
	p.answer = func(got) (int, error) { return 204, nil }
	p.step()
	got := p.events(url)[tried:]
	assert.True(t, len(got) == 1 && got[0] == id(121), "sent %v", got)
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "pending", Limit: 1000})
	assert.True(t, err == nil && len(list) == 0, "%d wait, %v", len(list), err)
	assert.True(t, strings.Contains(p.logs.String(), "rows=120"), "%v", p.logs.String())
}

// A clock that jumps ahead by a year expires no event: all events are sent, and those that the receiver rejects are sent again.
func TestWebhookQueue_ClockJumpAhead(t *testing.T) {
	t.Parallel()
	p := queued(t, "https://a.example/")
	p.service.ClockBelieved = func() bool { return false }
	p.now = p.now.Add(365 * 24 * time.Hour)
	p.step()
	p.answer = func(got) (int, error) { return 204, nil }
	p.now = p.now.Add(24 * time.Hour)
	p.step()
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "delivered", Limit: 1000})
	assert.True(t, err == nil && len(list) == 120, "%d were delivered, %v", len(list), err)
	assert.True(t, !strings.Contains(p.logs.String(), "deliveries dropped"), "%v", p.logs.String())
}

// A delivery that was put off by a clock that was years ahead is sent when it is repaired, and not in years.
func TestWebhookQueue_ClockRepaired(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.ledger.add(ofRule(1))
	p.answer = func(got) (int, error) { return 503, nil }
	p.service.ClockBelieved = func() bool { return false }
	p.now = p.now.AddDate(10, 0, 0)
	p.step()
	p.answer = func(got) (int, error) { return 204, nil }
	p.now = p.now.AddDate(-10, 0, 0)
	p.step()
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "delivered", Limit: 10})
	assert.True(t, err == nil && len(list) == 1, "%d were delivered, %v", len(list), err)
}

// A receiver that is away fills nothing: the oldest events are given up, and the log says how many, once a minute.
func TestWebhookQueue_FullDropsOldest(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.MaxWaiting = 20
	real := time.Now()
	p.RealNow = func() time.Time { return real }
	p.answer = func(got) (int, error) { return 500, nil }
	p.add("https://away.example/", webhooks.Filter{Rules: []int64{3}})
	round := func(events int) {
		for range events {
			p.ledger.add(ofRule(3))
		}
		p.RunOnce(t.Context())
	}
	round(20)
	assert.True(t, !strings.Contains(p.logs.String(), "deliveries dropped"), "%s", p.logs.String())
	round(7)
	round(2)
	for state, want := range map[string]int{"pending": 20, "failed": 9} {
		list, err := p.service.Deliveries(t.Context(), outbox.Query{State: state, Limit: 100})
		assert.True(t, err == nil && len(list) == want, "%d are %s, want %d: %v", len(list), state, want, err)
		last := list[len(list)-1]
		assert.True(t, state != "failed" || last.Event == id(1) && strings.Contains(last.Error, "more than 20"), "%+v", last)
	}
	said := func(want string, n int) {
		t.Helper()
		got := strings.Count(p.logs.String(), "deliveries dropped")
		assert.True(t, got == n && strings.Contains(p.logs.String(), want), "said %d times, not %q: %s", got, want, p.logs.String())
	}
	said("receiver=1 rows=7", 1)
	real = real.Add(time.Minute)
	round(0)
	said("receiver=1 rows=2", 2)
}

func TestWebhookQueue_DeliveredDuringDrop(t *testing.T) {
	t.Parallel()
	p := open(t)
	other := office(t, p.db, p.ledger)
	p.MaxWaiting, other.MaxWaiting, other.secret = 2, 2, p.secret
	p.add("https://slow.example/", webhooks.Filter{Rules: []int64{3}})
	p.ledger.add(ofRule(3), ofRule(3))
	p.answer = func(m got) (int, error) {
		if m.id == id(1) {
			p.ledger.add(ofRule(3), ofRule(3))
			other.RunOnce(t.Context())
		}
		return 204, nil
	}
	p.step()
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "delivered", Limit: 100})
	assert.True(t, err == nil && len(list) == 4, "%+v %v", list, err)
}

func TestWebhooks_CountLimit(t *testing.T) {
	t.Parallel()
	p := open(t)
	for n := range webhooks.MaxWebhooks {
		p.add(fmt.Sprintf("https://h%d.example/", n), webhooks.Filter{Alarms: true})
	}
	_, _, err := p.service.Add(t.Context(), "https://more.example/", webhooks.Filter{Alarms: true})
	_, ok := errors.AsType[accounts.Invalid](err)
	assert.True(t, ok, "%v", err)
	list, err := p.service.List(t.Context())
	assert.True(t, err == nil && len(list) == webhooks.MaxWebhooks, "%d webhooks: %v", len(list), err)
}

// Two nodes examine the packages at the same time: each reminder is queued once, also if the position of one node was read earlier.
func TestWebhooks_PackageReminderQueuedOnce(t *testing.T) {
	t.Parallel()
	eachTown(t, func(t *testing.T, w *town) {
		w.add(receiver, webhooks.Filter{Alarms: true})
		w.service.Packages = func(_ context.Context, kind string, after int64) (list []webhooks.Event, err error) {
			for n, kinds := range []string{"", webhooks.PackageNotDownloaded, "package.not_downloaded package.not_activated"} {
				e := webhooks.Event{Number: int64(n + 1), At: began.Add(time.Hour)}
				if strings.Contains(kinds, kind) {
					e.Type = kind
				}
				if e.Number > after {
					list = append(list, e, webhooks.Event{Number: e.Number, Type: kind, At: began.AddDate(0, 0, -1)})
				}
			}
			return list, nil
		}
		var nodes sync.WaitGroup
		for range 2 {
			nodes.Go(func() {
				assert.NoErrorf(t, assert.ErrorOf(w.service.Collect(t.Context())), "collecting fails")
			})
		}
		nodes.Wait()
		w.step()
		got := slices.Sorted(slices.Values(w.events(receiver)))
		assert.Equal(t, fmt.Sprint(got), "[package_not_activated_3 package_not_downloaded_2 package_not_downloaded_3]", "events")
	})
}
