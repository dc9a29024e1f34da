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
	"sync/atomic"
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
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

var began = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// memoryLog is an in-memory scan log with the positions 10, 20, 30 and so on.
type memoryLog struct {
	mu   sync.Mutex
	list []scanlog.Event
}

func (s *memoryLog) add(events ...scanlog.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		n := len(s.list) + 1
		e.ID = scanlog.ScanID{14: byte(n >> 8), 15: byte(n)}
		s.list = append(s.list, e)
	}
}

func (s *memoryLog) ID() string { return "" }

func (s *memoryLog) End(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.list)) * 10, nil
}

func (s *memoryLog) Read(_ context.Context, after int64) iter.Seq2[scanlog.Entry, error] {
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

func codeScan(batch, index int64) scanlog.Event {
	return scanlog.Event{OccurredAt: began, Source: "scan", Action: "open_mini_program", Kind: "code", Batch: batch, Index: index}
}

func ruleScan(id int64) scanlog.Event {
	return scanlog.Event{OccurredAt: began, Source: "scan", Action: "open_mini_program", Kind: "rule", RuleID: id, App: "shop",
		Text: "https://coffee.example/<t>/1"}
}

// message is a message that a receiver got.
type message struct {
	url, id, body string
}

// publisher is a webhook service with its sender and an in-memory receiver.
type publisher struct {
	*outbox.Sender
	t       *testing.T
	db      *store.Store
	scanLog *memoryLog
	service *webhooks.Service
	now     time.Time
	logs    bytes.Buffer

	mu       sync.Mutex
	respond  func(message) (int, error)
	received []message
	alarms   []webhooks.Event
	secrets  map[string]string // by URL
}

// respondWith returns a receiver that always responds with status.
func respondWith(status int) func(message) (int, error) {
	return func(message) (int, error) { return status, nil }
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	return newPublisherOn(t, scantest.OpenStore(t, store.Target{Dir: storetest.Folder(t)}), &memoryLog{})
}

func newPublisherOn(t *testing.T, s *store.Store, log *memoryLog) *publisher {
	t.Helper()
	key := require.Value(sealer.NewKey(bytes.Repeat([]byte{7}, 32)))(t)
	p := &publisher{t: t, db: s, scanLog: log, now: began, respond: respondWith(204), secrets: map[string]string{}}
	p.service = &webhooks.Service{Store: s.Webhooks(), Vault: key, Now: func() time.Time { return p.now }, Random: rand.Reader,
		Log: p.scanLog, Life: func() time.Duration { return 72 * time.Hour },
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
	// The reference library rejects timestamps that differ from the real time by more than some minutes. RealNow is constant, because
	// a sending round ends after half a minute of it.
	real := time.Now()
	p.service.RealNow = func() time.Time { return real }
	post := func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
		p.verify(r.URL, r.Header, r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		m := message{r.URL, r.Header.Get("webhook-id"), string(r.Body)}
		p.received = append(p.received, m)
		status, err := p.respond(m)
		return safehttp.Answer{Status: status}, err
	}
	p.Sender = outbox.New(p.service.Policy(), s, outbox.Options{Post: post, Now: p.service.Now, RealNow: p.service.RealNow,
		Log: slog.New(slog.NewTextHandler(&p.logs, nil))})
	return p
}

// verify checks a delivery as a receiver does, with the reference implementation of the specification.
func (p *publisher) verify(url string, header http.Header, body []byte) {
	p.mu.Lock()
	secret := p.secrets[url]
	p.mu.Unlock()
	w, err := reference.NewWebhook(secret)
	if err != nil {
		p.t.Errorf("secret %q: %v", secret, err)
		return
	}
	err = w.Verify(body, header)
	assert.NoErrorf(p.t, err, "%s: %v: %v", url, err, header)
	assert.True(p.t, w.Verify(append(slices.Clone(body), ' '), header) != nil, "Verify() accepts an altered body, want an error")
}

func (p *publisher) add(url string, w webhooks.Filter) webhooks.Webhook {
	p.t.Helper()
	hook, secret, err := p.service.Add(p.t.Context(), url, w)
	require.NoError(p.t, err)
	assert.True(p.t, !strings.Contains(hook.Secret, secret), "the stored secret contains the plain secret, want it sealed")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets[url] = secret
	return hook
}

// step sends until no delivery is due.
func (p *publisher) step() {
	for range 20 {
		p.RunOnce(p.t.Context())
	}
}

func (p *publisher) events(url string) (list []string) {
	for _, m := range p.received {
		if m.url == url {
			list = append(list, m.id)
		}
	}
	return list
}

func id(n int) string { return fmt.Sprintf("scan_%032x", n) }

func TestWebhooks_EventFilter(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	p.scanLog.add(codeScan(1, 5), ruleScan(3)) // before the webhooks exist
	const codes, rules, alarms = "https://codes.example/", "https://rules.example/", "https://alarms.example/"
	p.add(codes, webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, From: 5, To: 6}, {Batch: 2, From: 9, To: -1}}})
	p.add(rules, webhooks.Filter{Rules: []int64{3, 4}, Alarms: true})
	p.scanLog.add(codeScan(1, 4), codeScan(1, 5), codeScan(1, 6), codeScan(1, 7), codeScan(2, 8), codeScan(2, 1_000_000), ruleScan(3),
		ruleScan(5), ruleScan(4), scanlog.Event{OccurredAt: began, Action: "show_text"})
	p.alarms = append(p.alarms, webhooks.Event{Number: 1, Type: webhooks.AlarmRaised, At: began, Data: map[string]int{"score": 120}})
	p.step()
	if got := slices.Sorted(slices.Values(p.events(codes))); !slices.Equal(got, []string{id(4), id(5), id(8)}) {
		t.Errorf("events of the codes webhook = %v, want scans 4, 5 and 8", got)
	}
	if got := slices.Sorted(slices.Values(p.events(rules))); !slices.Equal(got, []string{"alarm_1", id(9), id(11)}) {
		t.Errorf("events of the rules webhook = %v, want alarm 1 and scans 9 and 11", got)
	}
	want := `{"type":"scan.recorded","timestamp":"2026-01-15T02:00:00Z","data":{"scan_id":"00000000000000000000000000000009","occurred_at":"2026-01-15T02:00:00Z","source":"scan","action":"open_mini_program","kind":"rule","appid":"shop","rule_id":3,"text":"https://coffee.example/\u003ct\u003e/1"}}`
	i := slices.IndexFunc(p.received, func(m message) bool { return m.id == id(9) })
	assert.True(t, i >= 0 && p.received[i].body == want, "messages = %v, want one with the body %s", p.received, want)
	// A webhook gets only events from after its creation.
	p.add(alarms, webhooks.Filter{Alarms: true})
	p.scanLog.add(ruleScan(3))
	p.alarms = append(p.alarms, webhooks.Event{Number: 2, Type: webhooks.AlarmRaised, At: began, Data: 1})
	p.step()
	got := p.events(alarms)
	assert.True(t, slices.Equal(got, []string{"alarm_2"}), "events of the alarms webhook = %v, want alarm_2", got)
	assert.Equal(t, len(p.events(rules)), 5, "number of events of the rules webhook")
}

func TestWebhooks_RetryFailedDelivery(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	const url = "https://a.example/"
	hook := p.add(url, webhooks.Filter{Rules: []int64{1}})
	p.scanLog.add(ruleScan(1))
	for _, respond := range []func(message) (int, error){
		respondWith(500),
		func(message) (int, error) { return 0, errors.New("timeout: the time for the whole\nrequest is over") },
		respondWith(302),
	} {
		p.respond = respond
		n := len(p.received)
		p.step()
		require.True(t, len(p.received) == n+1, "%d attempts before the retry is due, want 1", len(p.received)-n)
		list, err := p.service.Deliveries(t.Context(), outbox.Query{Limit: 10})
		require.True(t, err == nil && len(list) == 1 && list[0].State() == "pending" && list[0].Attempts == n+1 && list[0].Error != "" &&
			!strings.Contains(list[0].Error, "\n"), "%+v %v", list, err)
		pause := list[0].NextAt.Sub(p.now)
		base := []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute}[n]
		assert.True(t, pause >= base*8/10 && pause <= base*12/10, "pause after attempt %d = %v, want about %v", n+1, pause, base)
		p.now = list[0].NextAt.Add(-time.Millisecond)
		p.step()
		assert.True(t, len(p.received) == n+1, "attempt before the retry is due, want none")
		p.now = list[0].NextAt
	}
	p.respond = respondWith(200)
	p.step()
	p.now = p.now.Add(time.Hour)
	p.step()
	got := p.events(url)
	assert.True(t, len(got) == 4 && got[0] == got[3], "events = %v, want four attempts of one event", got)
	// An operator replays the delivery.
	list, err := p.service.Deliveries(t.Context(), outbox.Query{Receiver: fmt.Sprint(hook.ID), State: "delivered", Limit: 10})
	require.True(t, err == nil && len(list) == 1, "%+v %v", list, err)
	require.NoError(t, assert.ErrorOf(p.service.Replay(t.Context(), list[0].ID)))
	p.step()
	assert.Equal(t, len(p.events(url)), 5, "number of messages after Replay()")
	assert.ErrorIs(t, assert.ErrorOf(p.service.Replay(t.Context(), 99)), webhooks.ErrNoDelivery, "Replay(99)")
}

func TestWebhooks_DeadAfterMaxRetries(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.scanLog.add(ruleScan(1))
	p.respond = respondWith(503)
	for range 200 {
		p.RunOnce(t.Context())
		p.now = p.now.Add(30 * time.Minute)
	}
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "failed", Limit: 10})
	require.True(t, err == nil && len(list) == 1 && list[0].Attempts == len(p.received) && len(p.received) >= 8 && len(p.received) <= 10,
		"%d attempts, deliveries = %+v, %v; want one failed delivery after 8 to 10 attempts", len(p.received), list, err)
	p.now = p.now.Add(7 * 24 * time.Hour)
	p.RunOnce(t.Context())
	list, err = p.service.Deliveries(t.Context(), outbox.Query{Limit: 10})
	assert.True(t, err == nil && len(list) == 0, "deliveries after a week = %+v, %v, want none", list, err)
}

func TestWebhooks_UnreachableReceiverBackoff(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	const down, up = "https://down.example/", "https://up.example/"
	p.add(down, webhooks.Filter{Rules: []int64{1}})
	p.add(up, webhooks.Filter{Rules: []int64{1}})
	for range 100 {
		p.scanLog.add(ruleScan(1))
	}
	p.respond = func(m message) (int, error) {
		if m.url == down {
			return 0, errors.New("connect_failed")
		}
		return 200, nil
	}
	p.RunOnce(t.Context())
	assert.Equal(t, len(p.events(down)), 3, "attempts to reach the unreachable receiver")
	p.step()
	got := p.events(up)
	assert.True(t, len(got) == 100 && len(slices.Compact(slices.Sorted(slices.Values(got)))) == 100,
		"events of the reachable receiver = %v, want 100 different ones", got)
}

func TestWebhooks_DeletedReceiver(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	hook := p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.scanLog.add(ruleScan(1), ruleScan(1))
	p.respond = respondWith(410)
	p.step()
	p.scanLog.add(ruleScan(1)) // not delivered: status 410 disables the webhook
	p.now = p.now.Add(time.Hour)
	p.step()
	assert.True(t, len(p.received) == 1 && strings.Contains(p.logs.String(), "status 410"),
		"messages = %v, want one; log, want status 410: %s", p.received, p.logs.String())
	p.respond = respondWith(200)
	_, err := p.service.Change(t.Context(), hook.ID, func(w *webhooks.Webhook) error { w.Enabled = true; return nil })
	require.NoError(t, err)
	p.step()
	got := p.events("https://a.example/")
	assert.True(t, slices.Equal(got, []string{id(1), id(1), id(2)}), "events = %v, want scans 1, 1 and 2", got)
}

func TestWebhooks_Validation(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	filter := webhooks.Filter{Rules: []int64{1}}
	for name, test := range map[string]struct {
		url    string
		filter webhooks.Filter
	}{
		"empty filter":           {"https://a.example/", webhooks.Filter{}},
		"private address":        {"http://10.0.0.1/", filter},
		"scheme ftp":             {"ftp://a.example/", filter},
		"rule 0":                 {"https://a.example/", webhooks.Filter{Rules: []int64{0}}},
		"range ends before from": {"https://a.example/", webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, From: 5, To: 4}}}},
		"codes without a batch":  {"https://a.example/", webhooks.Filter{Codes: []webhooks.Codes{{From: 5, To: 6}}}},
		"too many rules":         {"https://a.example/", webhooks.Filter{Rules: make([]int64, 1001)}},
	} {
		_, _, err := p.service.Add(t.Context(), test.url, test.filter)
		_, ok := errors.AsType[accounts.Invalid](err)
		assert.True(t, ok, "%s: Add() = %v, want accounts.Invalid", name, err)
	}
	hook := p.add("https://a.example/", filter)
	assert.True(t, assert.ErrorOf(p.service.Change(t.Context(), hook.ID, func(w *webhooks.Webhook) error {
		w.URL = "http://10.0.0.1/"
		return nil
	})) != nil, "Change() to a private address succeeds, want an error")
	require.NoError(t, assert.ErrorOf(p.service.SendTest(t.Context(), hook.ID)))
	p.scanLog.add(ruleScan(1))
	require.NoError(t, p.service.Delete(t.Context(), hook.ID))
	p.step()
	assert.True(t, len(p.received) == 0, "messages of a deleted webhook = %v, want none", p.received)
	assert.ErrorIs(t, p.service.Delete(t.Context(), hook.ID), webhooks.ErrNoWebhook, "a second Delete()")
}

// TestWebhooks_ReplacedLedgerFromEnd verifies that the reader continues at the end of a scan log that replaces the previous one.
func TestWebhooks_ReplacedLedgerFromEnd(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	for range 10 {
		p.scanLog.add(ruleScan(1))
	}
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.step()
	*p.scanLog = memoryLog{}
	p.scanLog.add(ruleScan(1), ruleScan(1))
	p.step()
	p.scanLog.add(ruleScan(1))
	p.step()
	got := p.events("https://a.example/")
	assert.True(t, slices.Equal(got, []string{id(3)}), "events = %v, want scan 3", got)
}

// staleLog is a scan log whose first result of End is outdated when End returns, because afterEnd runs before the return.
type staleLog struct {
	*memoryLog
	afterEnd func()
}

func (l *staleLog) End(ctx context.Context) (int64, error) {
	end, err := l.memoryLog.End(ctx)
	if f := l.afterEnd; f != nil {
		l.afterEnd = nil
		f()
	}
	return end, err
}

// TestWebhookCollector_OvertakenByOtherNode lets another node collect while one node reads the end of the scan log. The collector must
// not mistake the larger position for a replaced log, and a webhook must not get scans from before its creation.
func TestWebhookCollector_OvertakenByOtherNode(t *testing.T) {
	t.Parallel()
	other := newPublisher(t)
	one := newPublisherOn(t, other.db, other.scanLog)
	one.secrets = other.secrets
	other.add("https://b.example/", webhooks.Filter{Rules: []int64{1}})
	one.service.Log = &staleLog{other.scanLog, func() {
		other.scanLog.add(ruleScan(1), ruleScan(1))
		other.step()
		other.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	}}
	one.step()
	other.scanLog.add(ruleScan(1))
	one.step()
	other.step()
	for url, want := range map[string][]string{"https://a.example/": {id(3)}, "https://b.example/": {id(1), id(2), id(3)}} {
		got := slices.Sorted(slices.Values(append(one.events(url), other.events(url)...)))
		assert.True(t, slices.Equal(got, want), "events of %s = %v, want %v", url, got, want)
	}
}

func TestWebhooks_ShutdownNotCountedAsFailure(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.scanLog.add(ruleScan(1), ruleScan(1))
	ctx, stop := context.WithCancel(t.Context())
	p.respond = func(message) (int, error) {
		stop()
		return 0, ctx.Err()
	}
	p.RunOnce(ctx)
	list, err := p.service.Deliveries(t.Context(), outbox.Query{Limit: 10})
	require.True(t, err == nil && len(list) == 2, "%+v %v", list, err)
	for _, d := range list {
		assert.True(t, d.Attempts == 0 && d.NextAt.Equal(began), "delivery = %+v, want no attempt and NextAt unchanged", d)
	}
	var body map[string]any
	assert.NoError(t, json.Unmarshal([]byte(list[0].Body), &body))
}

// TestWebhooks_SlowReceiversFairness verifies that each receiver gets an attempt although all receivers fail.
func TestWebhooks_SlowReceiversFairness(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	const receivers = 40 // more than the sender calls concurrently
	for n := range receivers {
		p.add(fmt.Sprintf("https://%02d.example/", n), webhooks.Filter{Rules: []int64{1}})
	}
	for range 20 {
		p.scanLog.add(ruleScan(1))
	}
	p.respond = respondWith(503)
	for range 3 {
		p.RunOnce(t.Context())
	}
	for n := range receivers {
		url := fmt.Sprintf("https://%02d.example/", n)
		assert.True(t, len(p.events(url)) != 0, "no attempt to reach %s in three rounds", url)
	}
}

// TestDeliveries_InFlight verifies that a receiver gets up to 8 deliveries concurrently after its first success, and that the deliveries
// of one code are sent sequentially and in order.
func TestDeliveries_InFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t)
		p.add("https://slow.example/", webhooks.Filter{Codes: []webhooks.Codes{{Batch: 1, To: -1}}, Rules: []int64{1}})
		const codes, each = 4, 10
		for range each {
			for index := range int64(codes) {
				p.scanLog.add(codeScan(1, index))
			}
			p.scanLog.add(ruleScan(1))
		}
		var mu sync.Mutex
		inFlight, highest := map[int64]int{}, 0
		last, total := map[int64]string{}, 0
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
			inFlight[index]++
			total++
			highest = max(highest, total)
			assert.True(t, index < 0 || inFlight[index] <= 1 && m.Data.ScanID > last[index],
				"code %d: %s is sent after %s, %d in flight, want in order and one at a time", index, m.Data.ScanID, last[index],
				inFlight[index])
			last[index] = m.Data.ScanID
			mu.Unlock()
			time.Sleep(200 * time.Millisecond) // of the bubble
			mu.Lock()
			inFlight[index]--
			total--
			mu.Unlock()
			return safehttp.Answer{Status: 204}, nil
		}
		began := time.Now()
		p.step()
		assert.True(t, highest == 8 && len(last) == codes+1,
			"deliveries in flight = %d, want 8; %d codes and rules, want %d; %v", highest, len(last), codes+1, time.Since(began))
	})
}

// TestWebhooks_ChangedDuringBatch verifies that a webhook that is deleted, disabled or changed while a batch of its deliveries is sent
// gets no further deliveries of the batch at its old URL.
func TestWebhooks_ChangedDuringBatch(t *testing.T) {
	t.Parallel()
	const oldURL, newURL = "https://old.example/", "https://new.example/"
	for _, c := range []struct {
		name   string
		change func(*webhooks.Webhook) // nil = deleted
		moved  int                     // deliveries to the new URL
	}{
		{name: "deleted"},
		{name: "disabled", change: func(w *webhooks.Webhook) { w.Enabled = false }},
		{name: "another URL", change: func(w *webhooks.Webhook) { w.URL = newURL }, moved: 19},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			hook := p.add(oldURL, webhooks.Filter{Rules: []int64{1}})
			p.secrets[newURL] = p.secrets[oldURL]
			for range 20 {
				p.scanLog.add(ruleScan(1))
			}
			var waited atomic.Int64
			real := p.RealNow()
			p.RealNow = func() time.Time { return real.Add(time.Duration(waited.Load())) }
			p.respond = func(message) (int, error) {
				if waited.Swap(int64(2*time.Second)) > 0 {
					return 204, nil
				}
				if c.change == nil {
					return 204, p.service.Delete(t.Context(), hook.ID)
				}
				_, err := p.service.Change(t.Context(), hook.ID, func(w *webhooks.Webhook) error { c.change(w); return nil })
				return 204, err
			}
			p.step()
			assert.Equal(t, len(p.events(oldURL)), 1, "deliveries to the old URL")
			assert.Equal(t, len(p.events(newURL)), c.moved, "deliveries to the new URL")
		})
	}
}

// TestWebhooks_GoneInParallel verifies that several concurrent responses with status 410 disable the webhook once.
func TestWebhooks_GoneInParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t)
		p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
		for range 20 {
			p.scanLog.add(ruleScan(1))
		}
		before, _, err := p.db.ChangeHead(t.Context())
		require.NoError(t, err)
		status := 204
		p.Post = func(context.Context, safehttp.Request) (safehttp.Answer, error) {
			p.mu.Lock()
			answer := safehttp.Answer{Status: status}
			status = 410
			p.mu.Unlock()
			time.Sleep(200 * time.Millisecond) // simulated: all requests in flight get a 410 after it
			return answer, nil
		}
		p.step()
		after, _, err := p.db.ChangeHead(t.Context())
		assert.True(t, err == nil && after == before+1, "entries in the audit log = %d, %v, want 1", after-before, err)
	})
}

// newBackloggedPublisher returns a publisher with 120 events for a receiver that rejected the first attempts.
func newBackloggedPublisher(t *testing.T, url string) *publisher {
	t.Helper()
	p := newPublisher(t)
	p.add(url, webhooks.Filter{Rules: []int64{1}})
	for range 120 {
		p.scanLog.add(ruleScan(1))
	}
	p.respond = respondWith(503)
	p.RunOnce(t.Context())
	return p
}

// TestWebhookQueue_ExpiresUnsent verifies that the events of a receiver that stays unreachable are dropped after their lifetime.
func TestWebhookQueue_ExpiresUnsent(t *testing.T) {
	t.Parallel()
	const url = "https://a.example/"
	p := newBackloggedPublisher(t, url)
	attempts := len(p.received)
	p.now = p.now.Add(11 * 24 * time.Hour)
	p.scanLog.add(ruleScan(1))
	p.respond = respondWith(204)
	p.step()
	got := p.events(url)[attempts:]
	assert.True(t, len(got) == 1 && got[0] == id(121), "events after the expiry = %v, want scan 121", got)
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "pending", Limit: 1000})
	assert.True(t, err == nil && len(list) == 0, "%d pending deliveries, %v, want none", len(list), err)
	assert.Contains(t, p.logs.String(), "rows=120", "log")
}

// TestWebhookQueue_ClockJumpAhead verifies that a clock jump of a year expires no event: all events are delivered, and rejected
// deliveries are retried.
func TestWebhookQueue_ClockJumpAhead(t *testing.T) {
	t.Parallel()
	p := newBackloggedPublisher(t, "https://a.example/")
	p.service.ClockBelieved = func() bool { return false }
	p.now = p.now.Add(365 * 24 * time.Hour)
	p.step()
	p.respond = respondWith(204)
	p.now = p.now.Add(24 * time.Hour)
	p.step()
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "delivered", Limit: 1000})
	assert.True(t, err == nil && len(list) == 120, "%d delivered events, %v, want 120", len(list), err)
	assert.True(t, !strings.Contains(p.logs.String(), "deliveries dropped"), "log = %v, want no dropped deliveries", p.logs.String())
}

// TestWebhookQueue_ClockRepaired verifies that a retry that was scheduled by a clock years ahead is sent once the clock is correct.
func TestWebhookQueue_ClockRepaired(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	p.add("https://a.example/", webhooks.Filter{Rules: []int64{1}})
	p.scanLog.add(ruleScan(1))
	p.respond = respondWith(503)
	p.service.ClockBelieved = func() bool { return false }
	p.now = p.now.AddDate(10, 0, 0)
	p.step()
	p.respond = respondWith(204)
	p.now = p.now.AddDate(-10, 0, 0)
	p.step()
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "delivered", Limit: 10})
	assert.True(t, err == nil && len(list) == 1, "%d delivered events, %v, want 1", len(list), err)
}

// TestWebhookQueue_FullDropsOldest verifies that a full queue drops its oldest events and logs their number once a minute.
func TestWebhookQueue_FullDropsOldest(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	p.MaxWaiting = 20
	real := time.Now()
	p.RealNow = func() time.Time { return real }
	p.respond = respondWith(500)
	p.add("https://away.example/", webhooks.Filter{Rules: []int64{3}})
	round := func(events int) {
		for range events {
			p.scanLog.add(ruleScan(3))
		}
		p.RunOnce(t.Context())
	}
	round(20)
	assert.True(t, !strings.Contains(p.logs.String(), "deliveries dropped"), "log = %s, want no dropped deliveries", p.logs.String())
	round(7)
	round(2)
	for state, want := range map[string]int{"pending": 20, "failed": 9} {
		list, err := p.service.Deliveries(t.Context(), outbox.Query{State: state, Limit: 100})
		assert.True(t, err == nil && len(list) == want, "%d deliveries are %s, %v, want %d", len(list), state, err, want)
		last := list[len(list)-1]
		assert.True(t, state != "failed" || last.Event == id(1) && strings.Contains(last.Error, "more than 20"),
			"last failed delivery = %+v, want scan 1 with the limit of 20 as error", last)
	}
	checkLog := func(want string, n int) {
		t.Helper()
		got := strings.Count(p.logs.String(), "deliveries dropped")
		assert.True(t, got == n && strings.Contains(p.logs.String(), want), "%d log lines, want %d, %q: %s", got, n, want, p.logs.String())
	}
	checkLog("receiver=1 rows=7", 1)
	real = real.Add(time.Minute)
	round(0)
	checkLog("receiver=1 rows=2", 2)
}

func TestWebhookQueue_DeliveredDuringDrop(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	other := newPublisherOn(t, p.db, p.scanLog)
	p.MaxWaiting, other.MaxWaiting, other.secrets = 2, 2, p.secrets
	p.add("https://slow.example/", webhooks.Filter{Rules: []int64{3}})
	p.scanLog.add(ruleScan(3), ruleScan(3))
	p.respond = func(m message) (int, error) {
		if m.id == id(1) {
			p.scanLog.add(ruleScan(3), ruleScan(3))
			other.RunOnce(t.Context())
		}
		return 204, nil
	}
	p.step()
	list, err := p.service.Deliveries(t.Context(), outbox.Query{State: "delivered", Limit: 100})
	assert.True(t, err == nil && len(list) == 4, "deliveries = %+v, %v, want 4", list, err)
}

func TestWebhooks_CountLimit(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	for n := range webhooks.MaxWebhooks {
		p.add(fmt.Sprintf("https://h%d.example/", n), webhooks.Filter{Alarms: true})
	}
	_, _, err := p.service.Add(t.Context(), "https://more.example/", webhooks.Filter{Alarms: true})
	_, ok := errors.AsType[accounts.Invalid](err)
	assert.True(t, ok, "Add() beyond the limit = %v, want accounts.Invalid", err)
	list, err := p.service.List(t.Context())
	assert.True(t, err == nil && len(list) == webhooks.MaxWebhooks, "%d webhooks, %v, want %d", len(list), err, webhooks.MaxWebhooks)
}

// TestWebhooks_PackageReminderQueuedOnce lets two nodes collect package reminders concurrently. Each reminder must be queued once, also
// if one node read its position earlier.
func TestWebhooks_PackageReminderQueuedOnce(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, w *cluster) {
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
				assert.NoError(t, assert.ErrorOf(w.service.Collect(t.Context())))
			})
		}
		nodes.Wait()
		w.step()
		got := slices.Sorted(slices.Values(w.events(receiver)))
		assert.Equal(t, fmt.Sprint(got), "[package_not_activated_3 package_not_downloaded_2 package_not_downloaded_3]", "events")
	})
}
