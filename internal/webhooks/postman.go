package webhooks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Postman collects what happened and sends what is due. It keeps nothing that
// a restart could lose.
type Postman struct {
	Book *Book
	// Send posts a body and returns the status of the answer.
	Send func(ctx context.Context, url string, header http.Header, body []byte) (status int, err error)
	// RealNow is the time in a signature, which receivers compare with theirs.
	RealNow func() time.Time
	// Life is how long a delivery is tried.
	Life func() time.Duration
	// ClockBelieved reports whether what is old may be given up and removed;
	// nil = always.
	ClockBelieved func() bool
	// Sent is told of every try.
	Sent func(delivered bool)
	Log  *slog.Logger

	awake chan struct{}
	mu    sync.Mutex
	busy  map[int64]bool
	last  int64 // the webhook that was started last
	wait  sync.WaitGroup
	given map[int64]givenUp // by webhook
}

// givenUp is how many deliveries were given up since that was last said.
type givenUp struct {
	n    int
	said time.Time
}

const (
	// maxReceivers is how many webhooks are sent to at once.
	maxReceivers = 32
	// claimed is how many deliveries one hand takes, for how long nobody else
	// takes them, and after how long it puts the rest back.
	claimed  = 50
	lease    = 2 * time.Minute
	handTime = 30 * time.Second
	// patience is how many failures in a row end a hand: the receiver is away.
	patience = 3
	// kept is how long what waits for nothing is kept for a look, beside the
	// time that deliveries live.
	kept = 7 * 24 * time.Hour
	// forgetStep is how many deliveries are forgotten in one transaction.
	forgetStep = 1000
	// Farthest is beyond what any try is put off for: what is due later was set by
	// a clock that was ahead, and is due now.
	Farthest = 48 * time.Hour
	// sayAgain is how often it is said that deliveries were given up.
	sayAgain = time.Minute
)

// NewPostman returns a postman whom the book wakes.
func NewPostman(b *Book, log *slog.Logger) *Postman {
	p := &Postman{Book: b, Log: log, awake: make(chan struct{}, 1), busy: map[int64]bool{}, given: map[int64]givenUp{}}
	b.Wake, b.GaveUp = p.wake, p.gaveUp
	return p
}

func (p *Postman) wake() {
	select {
	case p.awake <- struct{}{}:
	default: // awake already
	}
}

func (p *Postman) gaveUp(id int64, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.given[id]
	one.n += n
	p.given[id] = one
}

// sayGivenUp says what was given up, once a minute for each webhook.
func (p *Postman) sayGivenUp(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.RealNow()
	for id, one := range p.given {
		if passed := now.Sub(one.said); passed >= 0 && passed < sayAgain {
			continue
		}
		if one.n == 0 {
			delete(p.given, id)
			continue
		}
		p.Log.WarnContext(ctx, "events for a webhook were given up, the oldest first: too many wait, its receiver is away or too slow; repair it or switch the webhook off",
			"webhook", id, "events", one.n)
		p.given[id] = givenUp{said: now}
	}
}

// Run works until ctx ends, and returns when nothing is on its way any more.
// What is due is asked of the server's clock, which may jump; it is looked at
// every interval of real time.
func (p *Postman) Run(ctx context.Context, interval time.Duration) {
	defer p.wait.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		p.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.awake:
		}
	}
}

func (p *Postman) round(ctx context.Context) {
	more, err := p.Book.Collect(ctx)
	if err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "events for webhooks could not be collected; they are collected when it works again", "error", err)
	}
	if more {
		p.wake()
	}
	p.sayGivenUp(ctx)
	var due []int64
	err = p.Book.Store.ViewWebhooks(ctx, func(tx Tx) (err error) {
		due, err = tx.Due(ctx, p.Book.Now(), 1000)
		return err
	})
	if err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "deliveries to webhooks could not be read", "error", err)
	}
	// The next after the one that was started last is the first: receivers that
	// are slow must not keep the others from ever having a turn.
	first, _ := slices.BinarySearch(due, p.last+1)
	for i := range due {
		p.start(ctx, due[(first+i)%len(due)])
	}
	if err := p.forget(ctx); err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "old deliveries to webhooks could not be removed", "error", err)
	}
}

// forget removes what is old, a little at a time.
func (p *Postman) forget(ctx context.Context) error {
	// A look is cheap, a transaction that writes is not.
	before, old := p.Book.Now().Add(-kept-p.life()), 0
	err := p.Book.Store.ViewWebhooks(ctx, func(tx Tx) (err error) {
		old, err = tx.CountForgettable(ctx, before)
		return err
	})
	if err != nil || old == 0 {
		return err
	}
	return p.Book.Store.UpdateWebhooks(ctx, func(tx Tx) error {
		n, err := tx.ForgetDeliveries(ctx, before, forgetStep)
		if n == forgetStep {
			p.wake()
		}
		return err
	})
}

// life is Life where the clock may be believed, and else longer than any clock
// is ahead.
func (p *Postman) life() time.Duration {
	if p.ClockBelieved != nil && !p.ClockBelieved() {
		return 200 * 365 * 24 * time.Hour
	}
	return p.Life()
}

// start sends to a webhook, one hand at a time.
func (p *Postman) start(ctx context.Context, id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[id] || len(p.busy) >= maxReceivers {
		return
	}
	p.busy[id], p.last = true, id
	p.wait.Go(func() {
		more, err := p.hand(ctx, id)
		if err != nil && ctx.Err() == nil {
			p.Log.ErrorContext(ctx, "deliveries to a webhook could not be stored; some may be sent again", "webhook", id, "error", err)
		}
		p.mu.Lock()
		delete(p.busy, id)
		p.mu.Unlock()
		if more && err == nil {
			p.wake()
		}
	})
}

// hand takes some deliveries, sends them in order, and notes what came back.
func (p *Postman) hand(ctx context.Context, id int64) (more bool, err error) {
	w, list, late, err := p.claim(ctx, id)
	if err != nil || len(list) == 0 {
		return late > 0, err
	}
	secret, err := p.Book.Vault.Open(secretPlace(w.ID), w.Secret)
	if err != nil {
		return false, fmt.Errorf("the secret of webhook %d cannot be opened: %w", w.ID, err)
	}
	began, failures, gone := p.RealNow(), 0, false
	for i := range list {
		d := &list[i]
		if ctx.Err() != nil || gone || failures == patience || p.RealNow().Sub(began) > handTime {
			// Not tried: due as before.
			d.NextAt = d.was
			continue
		}
		gone = p.send(ctx, w, secret, &d.Delivery)
		switch {
		case !d.DeliveredAt.IsZero():
			failures = 0
		case ctx.Err() != nil:
			// Cut off by our own end: not the receiver's fault.
			d.Attempts, d.NextAt = d.Attempts-1, d.was
		default:
			failures++
		}
	}
	// They were sent: that is worth noting even while the server stops.
	ctx = context.WithoutCancel(ctx)
	err = p.Book.Store.UpdateWebhooks(ctx, func(tx Tx) error {
		for _, d := range list {
			ok, err := tx.SaveDelivery(ctx, d.Delivery, d.leased)
			if err == nil && !ok && !d.DeliveredAt.IsZero() {
				// Given up while it was on its way: it arrived all the same.
				_, err = tx.SaveDelivery(ctx, d.Delivery, time.Time{})
			}
			if err != nil {
				return err
			}
		}
		if !gone {
			return nil
		}
		now, err := tx.Webhook(ctx, id)
		if err != nil || now.URL != w.URL {
			return nil // removed or moved meanwhile
		}
		now.Enabled = false
		return tx.PutWebhook(ctx, now)
	})
	if gone {
		p.Log.WarnContext(ctx, "a receiver answered 410 and its webhook is switched off: enable it when the receiver is back", "webhook", id)
	}
	return !gone && failures < patience, err
}

// taken is a delivery in hand.
type taken struct {
	Delivery
	was    time.Time // when it was due
	leased time.Time // until when it is ours
}

// claim takes the oldest deliveries that are due and sets when they are tried
// again, so that neither a crash loses them nor another node sends them at
// the same time. What had no turn in all its time is given up: behind a
// receiver that stays away a queue would grow for ever. late counts that.
func (p *Postman) claim(ctx context.Context, id int64) (w Webhook, list []taken, late int, err error) {
	err = p.Book.Store.UpdateWebhooks(ctx, func(tx Tx) (err error) {
		list, late = nil, 0
		if w, err = tx.Webhook(ctx, id); err != nil || !w.Enabled {
			return err
		}
		now := p.Book.Now()
		due, err := tx.DueOf(ctx, id, now, claimed)
		if err != nil {
			return err
		}
		for _, d := range due {
			one := taken{Delivery: d, was: d.NextAt, leased: now.Add(lease)}
			one.NextAt = one.leased
			over := now.Sub(d.CreatedAt) > p.life()+kept
			if over {
				one.NextAt, one.Fault = time.Time{}, "its time was over before its turn came"
			}
			ok, err := tx.SaveDelivery(ctx, one.Delivery, one.was)
			switch {
			case err != nil:
				return err
			case over:
				late++
			case ok:
				list = append(list, one)
			}
		}
		return nil
	})
	if late > 0 && err == nil {
		p.Log.WarnContext(ctx, "events for a webhook were given up: its receiver is away or too slow", "webhook", id, "events", late)
	}
	return w, list, late, err
}

// send sends one delivery and decides what becomes of it; gone = the receiver
// wants nothing more.
func (p *Postman) send(ctx context.Context, w Webhook, secret []byte, d *Delivery) (gone bool) {
	header := signed(d.Event, p.RealNow(), []byte(d.Body), secret)
	status, err := p.Send(ctx, w.URL, header, []byte(d.Body))
	now := p.Book.Now()
	d.Attempts++
	d.SentAt, d.Status, d.Fault = now, status, ""
	switch {
	case err != nil:
		d.Fault = keep(err.Error())
	case status < 200 || status > 299:
		d.Fault = fmt.Sprintf("the answer's status is %d, not 2xx", status)
	default:
		d.DeliveredAt, d.NextAt = now, time.Time{}
	}
	delivered := !d.DeliveredAt.IsZero()
	if p.Sent != nil {
		p.Sent(delivered)
	}
	if delivered {
		return false
	}
	if d.NextAt = now.Add(p.pause(d.Attempts)); d.NextAt.After(d.CreatedAt.Add(p.life())) {
		d.NextAt = time.Time{}
	}
	if ctx.Err() != nil {
		return false
	}
	p.Log.WarnContext(ctx, "a webhook did not take an event", "webhook", w.ID, "delivery", d.ID, "event", d.Event, "attempt", d.Attempts,
		"status", status, "reason", d.Fault, "again", !d.NextAt.IsZero())
	return err == nil && status == http.StatusGone
}

// pauses are how long is waited after each failed try, then the last again.
// They are those that the specification proposes.
var pauses = []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

// pause is how long to wait after a number of tries: up to a fifth more or
// less, so that receivers that were away are not all asked at once.
func (p *Postman) pause(attempts int) time.Duration {
	pause := pauses[min(attempts, len(pauses))-1]
	var raw [4]byte
	if _, err := io.ReadFull(p.Book.Random, raw[:]); err != nil {
		return pause
	}
	share := float64(binary.BigEndian.Uint32(raw[:])) / (1 << 32)
	return time.Duration(float64(pause) * (0.8 + 0.4*share))
}

// signed is the header of a message: its id, the moment of sending, and what
// only who knows the secret can make of both and the body. (Standard Webhooks
// 1.0.)
func signed(id string, now time.Time, body, secret []byte) http.Header {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return http.Header{
		"Content-Type":      {"application/json"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {timestamp},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
}

// keep is one bounded line of a fault.
func keep(fault string) string {
	line := strings.Join(strings.Fields(strings.ToValidUTF8(fault, "")), " ")
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, line)
	return strings.ToValidUTF8(line[:min(len(line), 300)], "")
}
