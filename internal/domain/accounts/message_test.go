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

// addServiceAccount registers a service account with a message URL and returns a QR code of it.
func (w *fixture) addServiceAccount(address string) accounts.QRCode {
	w.t.Helper()
	a := certified
	a.MessageURL = address
	require.NoError(w.t, w.Put(w.t.Context(), accounts.Registration{Account: a}))
	return require.Value(w.CreateQRCode(w.t.Context(), a, accounts.QRDraft{Action: accounts.QRTextForEver, Text: new("x")}))(w.t)
}

// scanCode scans a QR code as user.
func (w *fixture) scanCode(q accounts.QRCode, user string) {
	w.t.Helper()
	require.NoError(w.t, w.ScannedCode(w.t.Context(), q.URL(), func(string) string { return user }, w.Now()))
}

// events returns the queued events, newest first.
func (w *fixture) events() (list []outbox.Row) {
	w.t.Helper()
	require.NoError(w.t, w.store.ViewOutbox(w.t.Context(), func(tx outbox.Tx) (err error) {
		list, err = tx.Rows(w.t.Context(), outbox.Messages, outbox.Query{Limit: 1000})
		return err
	}))
	return list
}

// TestMessageEvents_DroppedAfterLastRetry verifies that an event is sent five times with growing delays and then dropped.
func TestMessageEvents_DroppedAfterLastRetry(t *testing.T) {
	w := newFixture(t)
	q := w.addServiceAccount("http://h.example/?a=b")
	w.scanCode(q, "o1")
	sends, respond := 0, func() (int, error) { return 0, errors.New("refused") }
	s := newSender(w, w.MessagePolicy(), func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
		sends++
		assert.True(t, strings.HasPrefix(r.URL, "http://h.example/?a=b&") && strings.Contains(string(r.Body), q.Ticket),
			"sent to %s: %s", r.URL, r.Body)
		status, err := respond()
		return safehttp.Answer{Status: status}, err
	})
	for n, pause := range []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute} {
		s.RunOnce(t.Context())
		assertEqual(t, "sends", sends, n+1)
		assertEqual(t, "attempts", w.events()[0].Attempts, n+1)
		assertEqual(t, "the next", w.events()[0].NextAt.Sub(w.Now()), pause)
		w.setTime(w.Now().Add(pause - time.Millisecond))
		s.RunOnce(t.Context())
		assertEqual(t, "sends before it is due", sends, n+1)
		w.setTime(w.Now().Add(time.Millisecond))
	}
	s.RunOnce(t.Context())
	assertEqual(t, "sends", sends, 5)
	assertEqual(t, "waiting", len(w.events()), 0)

	// A send that a server stop interrupts is not a failed attempt.
	w.scanCode(q, "o1")
	stopping, stop := context.WithCancel(t.Context())
	respond = func() (int, error) { stop(); return 0, stopping.Err() }
	s.RunOnce(stopping)
	assertEqual(t, "attempts after a stop", w.events()[0].Attempts, 0)
	respond = func() (int, error) { return 500, nil }
	s.RunOnce(t.Context())
	assertEqual(t, "attempts after another", w.events()[0].Attempts, 1)

	// A failed read of the account does not drop a message. The account is read again because its first read was slow.
	open, reads, slow := s.Open, 0, time.Duration(0)
	s.RealNow = func() time.Time { return time.Now().Add(slow) }
	s.Open = func(ctx context.Context, account string) (func(*outbox.Row) (safehttp.Request, error), error) {
		if reads++; reads == 2 {
			return open(stopping, account)
		}
		slow += 2 * time.Second
		return open(ctx, account)
	}
	w.setTime(w.Now().Add(time.Minute))
	s.RunOnce(t.Context())
	assert.True(t, reads == 2 && sends == 7 && len(w.events()) == 1, "after %d reads: %d sends and %d events, want 7 and 1", reads, sends,
		len(w.events()))
	s.Open = open

	// Messages of an account without a message URL are dropped.
	w.addServiceAccount("")
	w.setTime(w.Now().Add(time.Hour))
	s.RunOnce(t.Context())
	assertEqual(t, "sends", sends, 7)
	assertEqual(t, "waiting", len(w.events()), 0)
}

// TestMessageEvents_OrderedPerAccount verifies that the events of an account arrive in order: after a failed send, later events wait on
// every node.
func TestMessageEvents_OrderedPerAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.Now = time.Now
		q := w.addServiceAccount("http://h.example/")
		var mu sync.Mutex
		var delivered []string
		busy, failures := 0, 0
		ctx, stop := context.WithCancel(t.Context())
		var nodes sync.WaitGroup
		for range 3 {
			s := newSender(w, w.MessagePolicy(), func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
				mu.Lock()
				busy++
				assert.True(t, busy <= 1, "%d concurrent sends, want at most 1", busy)
				mu.Unlock()
				time.Sleep(700 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				busy--
				if failures++; failures%4 == 0 {
					return safehttp.Answer{Status: 500}, nil
				}
				_, user, _ := strings.Cut(string(r.Body), "<FromUserName><![CDATA[")
				delivered = append(delivered, user[:3])
				return safehttp.Answer{Status: 200}, nil
			})
			nodes.Go(func() { s.Run(ctx, time.Second) })
		}
		var want []string
		for n := range 30 {
			want = append(want, fmt.Sprintf("o%02d", n))
			w.scanCode(q, want[n])
		}
		time.Sleep(10 * time.Minute)
		stop()
		nodes.Wait()
		assertEqual(t, "order", strings.Join(delivered, " "), strings.Join(want, " "))
	})
}

// TestMessageEvents_OutboxBounded verifies that at most MaxWaiting events are queued for an unreachable message URL.
func TestMessageEvents_OutboxBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.Now = time.Now
		q := w.addServiceAccount("http://gone.example/")
		s := newSender(w, w.MessagePolicy(), func(context.Context, safehttp.Request) (safehttp.Answer, error) {
			time.Sleep(5 * time.Second)
			return safehttp.Answer{}, errors.New("timeout")
		})
		s.MaxWaiting = 10
		ctx, stop := context.WithCancel(t.Context())
		var node sync.WaitGroup
		node.Go(func() { s.Run(ctx, time.Second) })
		for n := range 100 {
			w.scanCode(q, fmt.Sprint("o", n))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		assertEqual(t, "at most ten queued", len(w.events()) <= 10, true)
		assertEqual(t, "more than five queued", len(w.events()) > 5, true)
		stop()
		node.Wait()
	})
}
