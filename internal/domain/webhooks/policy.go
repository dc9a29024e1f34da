package webhooks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

const (
	// parallel is the maximum number of concurrent deliveries of one webhook.
	parallel = 8
	// retention is the time for which deliveries are kept, in addition to the time for which they are retried.
	retention = 7 * 24 * time.Hour
	// forgetStep is the number of deliveries that one transaction deletes.
	forgetStep = 1000
)

// Policy returns the delivery policy of webhooks.
func (s *Service) Policy() outbox.Policy {
	return outbox.Policy{Kind: outbox.Deliveries, Batch: 50, Lease: 2 * time.Minute, MaxWaiting: MaxWaiting, Open: s.open,
		Parallel:    parallel,
		NextAttempt: s.nextAttempt,
		OnGone:      s.switchOff,
		Before: func(ctx context.Context) (bool, error) {
			collected, err := s.Collect(ctx)
			forgot, err2 := s.deleteOld(ctx)
			return collected || forgot, errors.Join(err, outbox.WrapTask("old deliveries", err2))
		},
		// Only the status decides whether the delivery succeeded, even if the response body is too long, compressed or truncated.
		Refusal: func(_ *outbox.Row, a safehttp.Answer, err error) string {
			switch {
			case a.Status/100 == 2:
				return ""
			case err != nil && a.Status != http.StatusGone:
				return err.Error()
			}
			return fmt.Sprintf("the response status is %d, want 2xx", a.Status)
		},
	}
}

// orderKey returns the application and index of the code in a delivery's body; "" if the body contains no code.
func orderKey(body string) string {
	var told struct {
		Data struct {
			ApplicationID int64  `json:"application_id"`
			CodeIndex     *int64 `json:"code_index"`
		}
	}
	if json.Unmarshal([]byte(body), &told) != nil || told.Data.CodeIndex == nil {
		return ""
	}
	return fmt.Sprint(told.Data.ApplicationID, " ", *told.Data.CodeIndex)
}

// deleteOld deletes expired deliveries, a limited number at a time.
func (s *Service) deleteOld(ctx context.Context) (hasMore bool, err error) {
	// Expired deliveries are counted first, because a write transaction is more expensive than a count.
	before := s.Now().Add(-retention - s.life())
	old, err := accounts.Transact(ctx, s.Store.View, func(tx Tx) (int, error) { return tx.CountForgettable(ctx, before) })
	if err != nil || old == 0 {
		return false, err
	}
	err = s.Store.Update(ctx, func(tx Tx) error {
		n, err := tx.ForgetDeliveries(ctx, before, forgetStep)
		hasMore = n == forgetStep
		return err
	})
	return hasMore, err
}

// life returns Life(), or 200 years if the clock is not reliable, so that no delivery is given up because the clock is ahead.
func (s *Service) life() time.Duration {
	if s.ClockBelieved != nil && !s.ClockBelieved() {
		return 200 * 365 * 24 * time.Hour
	}
	return s.Life()
}

// open returns a function that prepares the requests to a webhook. A delivery that was not sent within its life is given up,
// because otherwise the queue of an unreachable receiver would grow without limit.
func (s *Service) open(ctx context.Context, receiver string) (func(*outbox.Row) (safehttp.Request, error), error) {
	id, err := strconv.ParseInt(receiver, 10, 64)
	if err != nil {
		return nil, err
	}
	w, err := accounts.Transact(ctx, s.Store.View, func(tx Tx) (Webhook, error) { return tx.Webhook(ctx, id) })
	if errors.Is(err, ErrNoWebhook) || err == nil && !w.Enabled {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	secret, err := s.Vault.Open(secretPurpose(id), w.Secret)
	if err != nil {
		return nil, fmt.Errorf("the secret of webhook %d cannot be decrypted: %w", id, err)
	}
	return func(r *outbox.Row) (safehttp.Request, error) {
		if s.Now().Sub(r.CreatedAt) > s.life()+retention {
			return safehttp.Request{}, outbox.ErrSkip("expired before it could be sent")
		}
		r.URL = w.URL
		return safehttp.Request{Method: http.MethodPost, URL: w.URL, Header: signed(r.Event, s.RealNow(), []byte(r.Body), secret),
			Body:    []byte(r.Body),
			Timeout: 15 * time.Second, MaxBody: 64 << 10}, nil
	}, nil
}

// switchOff disables a webhook whose receiver responded 410, unless the webhook was deleted or its URL changed in the meantime.
func (s *Service) switchOff(ctx context.Context, r outbox.Row) error {
	return s.update(ctx, func(tx Tx) error {
		id, err := strconv.ParseInt(r.Receiver, 10, 64)
		if err != nil {
			return err
		}
		w, err := tx.Webhook(ctx, id)
		if errors.Is(err, ErrNoWebhook) || err == nil && (w.URL != r.URL || !w.Enabled) {
			return nil
		}
		if err != nil {
			return err
		}
		w.Enabled = false
		return tx.PutWebhook(ctx, w)
	})
}

// pauses lists the delays after each failed attempt of a delivery; the last delay is repeated. The delays between attempts are
// those proposed by the Standard Webhooks specification.
var pauses = []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour,
	14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

// nextAttempt returns the time of the next attempt. The delay is randomized by up to a fifth in either direction, so that
// deliveries that failed together are not retried together.
func (s *Service) nextAttempt(r outbox.Row, _, ended time.Time) time.Time {
	pause := pauses[min(r.Attempts, len(pauses))-1]
	var raw [4]byte
	if _, err := io.ReadFull(s.Random, raw[:]); err == nil {
		share := float64(binary.BigEndian.Uint32(raw[:])) / (1 << 32)
		pause = time.Duration(float64(pause) * (0.8 + 0.4*share))
	}
	if next := ended.Add(pause); !next.After(r.CreatedAt.Add(s.life())) {
		return next
	}
	return time.Time{}
}

// signed returns the headers of a message: its ID, the time of sending, and a signature of the ID, the time and the body, made with
// the secret. (Standard Webhooks 1.0.)
func signed(id string, now time.Time, body, secret []byte) http.Header {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"qrjump (webhook)"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {timestamp},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
}
