package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// service registers a service account with a message URL, and returns a code of it.
func (w *world) service(address string) accounts.QRCode {
	w.t.Helper()
	a := certified
	a.MessageURL = address
	require.NoError(w.t, w.Put(w.t.Context(), accounts.Registration{Account: a}))
	return must[accounts.QRCode](w.t)(w.CreateQRCode(w.t.Context(), a, accounts.QRDraft{Action: accounts.QRTextForEver, Text: new("x")}))
}

// scanned is a scan of a code by a user.
func (w *world) scanned(q accounts.QRCode, user string) {
	w.t.Helper()
	require.NoError(w.t, w.ScannedCode(w.t.Context(), q.URL(), func(string) string { return user }, w.Now()))
}

// events are those that wait, newest first.
func (w *world) events() (list []outbox.Row) {
	w.t.Helper()
	require.NoError(w.t, w.store.ViewOutbox(w.t.Context(), func(tx outbox.Tx) (err error) {
		list, err = tx.Rows(w.t.Context(), outbox.Messages, outbox.Query{Limit: 1000})
		return err
	}))
	return list
}

// An event is sent five times, later and later, and then given up.
func TestMessageEvents_DroppedAfterLastRetry(t *testing.T) {
	w := newWorld(t)
	q := w.service("http://h.example/?a=b")
	w.scanned(q, "o1")
	sends, answer := 0, func() (int, error) { return 0, errors.New("refused") }
	s := sender(w, w.MessagePolicy(), func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
		sends++
		assert.True(t, strings.HasPrefix(r.URL, "http://h.example/?a=b&") && strings.Contains(string(r.Body), q.Ticket),
			"sent to %s: %s", r.URL, r.Body)
		status, err := answer()
		return safehttp.Answer{Status: status}, err
	})
	for n, pause := range []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute} {
		s.RunOnce(t.Context())
		same(t, "sends", sends, n+1)
		same(t, "attempts", w.events()[0].Attempts, n+1)
		same(t, "the next", w.events()[0].NextAt.Sub(w.Now()), pause)
		w.set(w.Now().Add(pause - time.Millisecond))
		s.RunOnce(t.Context())
		same(t, "sends before it is due", sends, n+1)
		w.set(w.Now().Add(time.Millisecond))
	}
	s.RunOnce(t.Context())
	same(t, "sends", sends, 5)
	same(t, "waiting", len(w.events()), 0)

	// A stop of the server is no failure of the receiver.
	w.scanned(q, "o1")
	stopping, stop := context.WithCancel(t.Context())
	answer = func() (int, error) { stop(); return 0, stopping.Err() }
	s.RunOnce(stopping)
	same(t, "attempts after a stop", w.events()[0].Attempts, 0)
	answer = func() (int, error) { return 500, nil }
	s.RunOnce(t.Context())
	same(t, "attempts after another", w.events()[0].Attempts, 1)

	// Messages that nobody wants any more are dropped.
	w.service("")
	w.set(w.Now().Add(time.Hour))
	s.RunOnce(t.Context())
	same(t, "sends", sends, 7)
	same(t, "waiting", len(w.events()), 0)
}

// The events of an account arrive in their order: those behind one that was not taken wait, on every node, and other accounts do not.
func TestMessageEvents_OrderedPerAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Now = time.Now
		q := w.service("http://h.example/")
		var mu sync.Mutex
		var took []string
		busy, failures := 0, 0
		ctx, stop := context.WithCancel(t.Context())
		var nodes sync.WaitGroup
		for range 3 {
			s := sender(w, w.MessagePolicy(), func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
				mu.Lock()
				busy++
				assert.True(t, busy <= 1, "two are on their way")
				mu.Unlock()
				time.Sleep(700 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				busy--
				if failures++; failures%4 == 0 {
					return safehttp.Answer{Status: 500}, nil
				}
				_, user, _ := strings.Cut(string(r.Body), "<FromUserName><![CDATA[")
				took = append(took, user[:3])
				return safehttp.Answer{Status: 200}, nil
			})
			nodes.Go(func() { s.Run(ctx, time.Second) })
		}
		var want []string
		for n := range 30 {
			want = append(want, fmt.Sprintf("o%02d", n))
			w.scanned(q, want[n])
		}
		time.Sleep(10 * time.Minute)
		stop()
		nodes.Wait()
		same(t, "order", strings.Join(took, " "), strings.Join(want, " "))
	})
}

// A message URL that is gone keeps no more than so many events waiting.
func TestMessageEvents_OutboxBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Now = time.Now
		q := w.service("http://gone.example/")
		s := sender(w, w.MessagePolicy(), func(context.Context, safehttp.Request) (safehttp.Answer, error) {
			time.Sleep(5 * time.Second)
			return safehttp.Answer{}, errors.New("timeout")
		})
		s.MaxWaiting = 10
		ctx, stop := context.WithCancel(t.Context())
		var node sync.WaitGroup
		node.Go(func() { s.Run(ctx, time.Second) })
		for n := range 100 {
			w.scanned(q, fmt.Sprint("o", n))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		same(t, "at most ten wait", len(w.events()) <= 10, true)
		same(t, "some wait", len(w.events()) > 5, true)
		stop()
		node.Wait()
	})
}
