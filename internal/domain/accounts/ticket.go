package accounts

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Contract: rules §3.2.
const (
	// TicketEvery is the interval at which a component receives a new verify ticket.
	TicketEvery = 10 * time.Minute
	// TicketLife is the lifetime of a ticket.
	TicketLife = 12 * time.Hour
	// onItsWay is the time allowed for a ticket to arrive and to be stored by the receiver.
	onItsWay = time.Minute
)

// VerifyTicket is a component_verify_ticket as stored.
type VerifyTicket struct {
	Component string
	Hash      string
	IssuedAt  time.Time
}

// Check returns 61005 once the ticket is older than twelve hours.
func (t VerifyTicket) Check(now time.Time) error {
	if !now.Before(t.IssuedAt.Add(TicketLife)) || IssuedInFuture(t.IssuedAt, now) {
		return errcode.TicketExpired.WithDetail(behaviour.ComponentTicketExpired, "the ticket of %s belongs to %s", t.Component,
			t.IssuedAt.Format(time.RFC3339))
	}
	return nil
}

func ticketPurpose(component string) string { return "component_verify_ticket/" + component }

// newTicketText returns a new ticket: the prefix "ticket@@@" and n random characters.
func newTicketText(random io.Reader, n int) (string, error) {
	raw := make([]byte, n)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("generating a verify ticket: %w", err)
	}
	return "ticket@@@" + base64.RawURLEncoding.EncodeToString(raw)[:n], nil
}

// ticketLength is the minimum length of a ticket, without its prefix.
const ticketLength = 80

// newTicket creates a verify ticket for a component. The length of the ticket is chosen so that the padding of the message that contains it
// is at most 16 bytes. Contract: clients.
func (d *Service) newTicket(ctx context.Context, tx Tx, c Component, now time.Time) (string, error) {
	r := outbox.Row{Receiver: c.AppID, Event: TicketPush, URL: c.EventURL, CreatedAt: now}
	body := func(ticket string) []element {
		return []element{{name: "ComponentVerifyTicket", text: ticket, secret: true}}
	}
	sample := message(append(header(r), body("ticket@@@"+strings.Repeat("x", ticketLength))...), false)
	text, err := newTicketText(d.Random, ticketLength+Envelope{AppID: c.AppID}.spare(len(sample)))
	if err != nil {
		return "", err
	}
	if d.canDeleteExpired() {
		if err := tx.ForgetVerifyTickets(ctx, c.AppID, now.Add(-tokenMemory)); err != nil {
			return "", err
		}
	}
	if err := tx.PutVerifyTicket(ctx, VerifyTicket{Component: c.AppID, Hash: d.Key.Hash(ticketPurpose(c.AppID), text),
		IssuedAt: now}); err != nil {
		return "", err
	}
	if c.EventURL == "" {
		return text, nil
	}
	// Earlier tickets that still wait for delivery are obsolete.
	lateRows, err := tx.Rows(ctx, outbox.Pushes, outbox.Query{Receiver: c.AppID, Event: TicketPush,
		State: outbox.Pending, Limit: keptPushes})
	if err != nil {
		return "", err
	}
	for _, old := range lateRows {
		previous := old.NextAt
		old.NextAt = time.Time{}
		old.Error = cmp.Or(old.Error, "a newer ticket was created before this one was sent")
		if _, err := tx.SaveRow(ctx, outbox.Pushes, old, previous); err != nil {
			return "", err
		}
	}
	return text, d.addPush(ctx, tx, r, body(text))
}

// PushTickets creates and queues a ticket for every component that has an event URL and whose last ticket is at least ten minutes old.
func (d *Service) PushTickets(ctx context.Context) error {
	for {
		now := d.Now()
		due, err := Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]string, error) {
			return tx.TicketsDue(ctx, now.Add(-TicketEvery), now, 100)
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for _, appid := range due {
			err := d.inAccount(ctx, appid, func(tx Tx) error {
				// The age of the last ticket is checked again: another node may have created a ticket before this transaction got the lock.
				now := d.Now()
				latest, err := tx.LatestVerifyTicket(ctx, appid)
				if err != nil || latest.After(now.Add(-TicketEvery)) && !latest.After(now) {
					return err
				}
				c, err := tx.ComponentWithoutGrants(ctx, appid)
				if err != nil {
					return err
				}
				_, err = d.newTicket(ctx, tx, c, now)
				return err
			})
			if err != nil {
				return err
			}
		}
		if len(due) < 100 {
			return nil
		}
	}
}

// StartPushingTickets implements api_start_push_ticket: it pushes a ticket at once, unless the component has no event URL. Contract: rules
// 3.2.
func (d *Service) StartPushingTickets(ctx context.Context, c PlatformCredentials) error {
	if err := d.CheckPlatform(ctx, c, c.AppID); err != nil {
		return err
	}
	_, err := d.NewTicket(ctx, c.AppID)
	return err
}

// NewTicket creates a verify ticket and pushes it to the component. ErrNoComponent.
func (d *Service) NewTicket(ctx context.Context, component string) (string, error) {
	var text string
	err := d.push(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, component); err != nil {
			return err
		}
		c, err := tx.ComponentWithoutGrants(ctx, component)
		if err != nil {
			return err
		}
		text, err = d.newTicket(ctx, tx, c, d.Now())
		return err
	})
	return text, err
}

// PlatformCredentials prove the identity of a component in requests without a token.
type PlatformCredentials struct {
	AppID  string
	Secret string
	IP     netip.Addr
}

// checkPlatform validates the credentials of a request with a component's secret, in the order of the platform. Contract: rules §3.2.
func (d *Service) checkPlatform(ctx context.Context, tx Tx, c PlatformCredentials) error {
	if c.AppID == "" {
		return errcode.ComponentMissing.WithRow(behaviour.CallerPlatformMissing)
	}
	p, err := tx.ComponentWithoutGrants(ctx, c.AppID)
	if errors.Is(err, ErrNoComponent) {
		return noPlatform(ctx, tx, c.AppID)
	}
	switch {
	case err != nil:
		return err
	case c.Secret == "":
		return errcode.SecretMissing.WithRow(behaviour.TokenSecretMissing)
	}
	if err := d.secretOf(c.AppID, c.Secret, p.SecretHash, c.IP); err != nil {
		return err
	}
	return d.Reached(ctx, Caller{Component: p.AppID, addrs: p.IPAllowlist}, c.IP)
}

// noPlatform returns the error for an AppID that belongs to no component: 61011 if it belongs to an account, otherwise 40013.
func noPlatform(ctx context.Context, tx Tx, appid string) error {
	if _, err := tx.Account(ctx, appid); err == nil {
		return errcode.InvalidComponent.WithDetail(behaviour.CallerPlatformAccount, "%s is an account, not a platform", appid)
	} else if !errors.Is(err, ErrNoAccount) {
		return err
	}
	return errcode.InvalidAppID.WithDetail(behaviour.CallerPlatformUnknown, "no platform has the AppID %q", appid)
}

// PlatformToken implements api_component_token: it exchanges a verify ticket for a component_access_token; the previous token stays
// valid for five more minutes. Contract: rules §3.2.
func (d *Service) PlatformToken(ctx context.Context, c PlatformCredentials, ticket string) (Issued, error) {
	var issued Issued
	check := func(tx Tx) error {
		if err := d.checkPlatform(ctx, tx, c); err != nil {
			return err
		}
		t, err := tx.VerifyTicket(ctx, c.AppID, d.Key.Hash(ticketPurpose(c.AppID), ticket))
		if errors.Is(err, ErrNoTicket) {
			return errcode.TicketInvalid.WithDetail(behaviour.ComponentTicketUnknown, "no such ticket was issued to %s", c.AppID)
		}
		if err != nil {
			return err
		}
		if err := t.Check(d.Now()); err != nil {
			return err
		}
		latest, err := tx.LatestVerifyTicket(ctx, c.AppID)
		if err == nil && latest.After(t.IssuedAt) && d.Now().Sub(latest) > onItsWay {
			behaviour.Note(ctx, behaviour.ComponentTicketOlder)
		}
		return err
	}
	if err := d.Store.ViewAccounts(ctx, check); err != nil {
		return Issued{}, err
	}
	err := d.inAccount(ctx, c.AppID, func(tx Tx) error {
		if err := check(tx); err != nil {
			return err
		}
		now, s := d.Now(), d.Settings.Get()
		used, err := tx.AddCount(ctx, c.AppID, "/cgi-bin/component/api_component_token", s.Day(d.countNow()))
		if err != nil {
			return err
		}
		row := s.Exceeds(ctx, used, s.TokenDailyLimit, settings.Platform.TokenDailyLimit, behaviour.ComponentDay)
		if row != behaviour.NoRow {
			return errcode.DailyLimit.WithDetail(row, "%s fetched %d tokens today", c.AppID, used-1)
		}
		issued, err = d.issue(ctx, tx, Token{AppID: c.AppID, Kind: Platform}, now, now.Add(TokenOverlap))
		return err
	})
	return issued, err
}
