package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestAccountLink_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[accounts.Link](t)
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().SaveLink(ctx, full) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.accounts().Link(ctx, full.Service, full.MiniProgram)
			checkList(t, "link", got, full)
			return err
		})
		changed := accounts.Link{Service: full.Service, MiniProgram: full.MiniProgram, Status: accounts.LinkDone, CreatedAt: t0}
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().SaveLink(ctx, changed) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.accounts().LinksOf(ctx, full.Service)
			check(t, "links", got, []accounts.Link{changed})
			if err != nil {
				return err
			}
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Link(ctx, full.Service, "other")), accounts.ErrNoLink, "an unknown link")
			return nil
		})
	})
}

// Contract: rules 3.4: only status 1 is linked.
func TestAccountLink_OnlyStatusOneLinked(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		states := []accounts.LinkStatus{accounts.LinkDone, accounts.LinkAwaitsMiniProgram, accounts.LinkRefused, accounts.LinkAwaitsAccount}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for i, status := range states {
				l := accounts.Link{Service: "wxs", MiniProgram: fmt.Sprintf("wx%d", status), Status: status,
					CreatedAt: t0.Add(time.Duration(i) * time.Second)}
				if err := tx.accounts().SaveLink(ctx, l); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, status := range states {
				linked, err := tx.accounts().Linked(ctx, "wxs", fmt.Sprintf("wx%d", status))
				check(t, fmt.Sprint("linked in state ", status), linked, status == accounts.LinkDone)
				if err != nil {
					return err
				}
			}
			done, err := tx.accounts().Links(ctx, "wxs")
			check(t, "links", done, []string{"wx1"})
			if err != nil {
				return err
			}
			all, err := tx.accounts().LinksOf(ctx, "wxs")
			check(t, "links in any state", len(all), 4)
			if err != nil {
				return err
			}
			n, err := tx.accounts().CountLinks(ctx, "wxs")
			check(t, "CountLinks() of the account", n, 3)
			if err != nil {
				return err
			}
			n, err = tx.accounts().CountLinks(ctx, "wx12")
			check(t, "CountLinks() of the Mini Program", n, 1)
			return err
		})
		// PutLink, which operators and seeds use, sets the status to done.
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().PutLink(ctx, "wxs", "wx3", t0.Add(time.Hour))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			l, err := tx.accounts().Link(ctx, "wxs", "wx3")
			check(t, "link", l, accounts.Link{Service: "wxs", MiniProgram: "wx3", Status: accounts.LinkDone,
				CreatedAt: t0.Add(2 * time.Second)})
			return err
		})
	})
}
