package iam

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// SharedLink is a link to a chart. Until the link expires, it shows the chart with the permissions of the person or key that shared it.
type SharedLink struct {
	ID        string    `json:"id"`
	Hash      string    `json:"hash"` // hash of the link's secret
	Title     string    `json:"title,omitempty"`
	Question  string    `json:"question"`           // query string of the statistics page
	CreatedBy string    `json:"created_by"`         // Caller.Actor of the person or key that shared the chart
	Accounts  []string  `json:"accounts,omitempty"` // AppIDs that the sharing actor was limited to; empty = all
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Revoked   bool      `json:"revoked,omitempty"` // true = the link was ended before it expired
}

// ErrNoShared reports that a shared chart does not exist or has ended.
var ErrNoShared = errors.New("shared chart not found or expired")

// MaxShared is the maximum number of shared charts of one actor.
const MaxShared = 200

const sharedPurpose = "shared_chart"

// SharedCharts stores each shared chart as a separate named value of the server, so that the audit log records each chart.
type SharedCharts struct {
	*Service
	// Get returns the value that Put stored; "" = none.
	Get func(ctx context.Context, id string) (string, error)
	Put func(ctx context.Context, id, value string) error
	// Newest returns at most limit values, those that were stored most recently.
	Newest func(ctx context.Context, limit int) ([]string, error)
}

// Share creates a link to a chart and returns its secret part, which is shown only once. Share returns accounts.Invalid if the
// actor already shares too many charts.
func (d *SharedCharts) Share(ctx context.Context, link SharedLink, lasts time.Duration) (SharedLink, string, error) {
	links, err := d.List(ctx, func(c SharedLink) bool { return c.CreatedBy == link.CreatedBy })
	if err != nil {
		return link, "", err
	}
	if len(links) >= MaxShared {
		return link, "", accounts.Invalid(fmt.Sprintf("you share %d charts, the maximum: revoke one first", len(links)))
	}
	if link.ID, err = d.newID(); err != nil {
		return link, "", err
	}
	secret, err := d.newSecret("")
	if err != nil {
		return link, "", err
	}
	link.Hash, link.CreatedAt = d.Vault.Hash(sharedPurpose, secret), d.Now().UTC()
	link.ExpiresAt = link.CreatedAt.Add(lasts)
	return link, link.ID + "." + secret, d.put(ctx, link)
}

func (d *SharedCharts) put(ctx context.Context, link SharedLink) error {
	value, err := json.Marshal(link)
	if err != nil {
		return err
	}
	return d.Put(ctx, link.ID, string(value))
}

// List returns the currently shared charts that a caller may see, newest first.
func (d *SharedCharts) List(ctx context.Context, sees func(SharedLink) bool) (list []SharedLink, err error) {
	values, err := d.Newest(ctx, 10*MaxShared)
	for _, value := range values {
		link, err := d.parse(value)
		if err == nil && sees(link) {
			list = append(list, link)
		} else if err != nil && !errors.Is(err, ErrNoShared) {
			return nil, err
		}
	}
	return list, err
}

// parse returns the chart that Put stored as value, or ErrNoShared if the chart is no longer shared.
func (d *SharedCharts) parse(value string) (link SharedLink, err error) {
	if err := json.Unmarshal([]byte(value), &link); err != nil {
		return link, fmt.Errorf("reading a shared chart: %w", err)
	}
	if now := d.Now(); link.Revoked || !now.Before(link.ExpiresAt) || accounts.IssuedInFuture(link.CreatedAt, now) {
		return link, ErrNoShared
	}
	return link, nil
}

// running returns a chart that is currently shared, or ErrNoShared.
func (d *SharedCharts) running(ctx context.Context, id string) (link SharedLink, err error) {
	value, err := d.Get(ctx, id)
	if err != nil {
		return link, err
	}
	if value == "" {
		return link, ErrNoShared
	}
	return d.parse(value)
}

// End ends a shared chart that the caller may see, or returns ErrNoShared.
func (d *SharedCharts) End(ctx context.Context, id string, sees func(SharedLink) bool) (SharedLink, error) {
	link, err := d.running(ctx, id)
	if err != nil {
		return link, err
	}
	if !sees(link) {
		return link, ErrNoShared
	}
	link.Revoked = true
	return link, d.put(ctx, link)
}

// Open returns the chart behind a link, and a Caller with the current rights of the person who shared the chart. Open returns
// ErrNoShared if the link is invalid, the chart has ended, or the person who shared it was removed.
func (d *SharedCharts) Open(ctx context.Context, text string) (SharedLink, Caller, error) {
	id, secret, ok := strings.Cut(text, ".")
	if !ok || len(text) > 100 {
		return SharedLink{}, Caller{}, ErrNoShared
	}
	link, err := d.running(ctx, id)
	if err != nil {
		return link, Caller{}, err
	}
	if subtle.ConstantTimeCompare([]byte(link.Hash), []byte(d.Vault.Hash(sharedPurpose, secret))) != 1 {
		return SharedLink{}, Caller{}, ErrNoShared
	}
	caller, err := d.actor(ctx, link)
	return link, caller, err
}

// actor returns the current permissions of the person or key that shared a chart, limited to the accounts allowed when it was shared; the
// error is ErrNoShared if the person or key was removed.
func (d *SharedCharts) actor(ctx context.Context, link SharedLink) (c Caller, err error) {
	c = Caller{Actor: link.CreatedBy, Role: "admin"} // rights of the admin token
	kind, name, named := strings.Cut(link.CreatedBy, ":")
	since := time.Time{}
	err = d.Store.View(ctx, func(tx Tx) error {
		switch {
		case !named:
		case kind == "person":
			p, err := tx.Person(ctx, name)
			c.Role, c.Accounts, since = p.Role, p.Accounts, p.CreatedAt
			return err
		default:
			keys, err := tx.AdminKeys(ctx)
			i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name && !k.expired(d.Now()) })
			if i < 0 {
				return errors.Join(err, ErrNoShared)
			}
			c.Role, c.Accounts, since = keys[i].Role, keys[i].Accounts, keys[i].CreatedAt
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrNoPerson) || err == nil && since.After(link.CreatedAt): // the name now belongs to a different person or key
		return Caller{}, ErrNoShared
	case err != nil:
		return Caller{}, err
	case len(link.Accounts) > 0 && len(c.Accounts) == 0:
		c.Accounts = link.Accounts
	case len(link.Accounts) > 0:
		c.Accounts = slices.DeleteFunc(slices.Clone(c.Accounts), func(a string) bool { return !slices.Contains(link.Accounts, a) })
		if len(c.Accounts) == 0 {
			return Caller{}, ErrNoShared
		}
	}
	return c, nil
}
