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
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[accounts.Link](t)
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().SaveLink(ctx, full) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.accounts().Link(ctx, full.Service, full.MiniProgram)
			wantSame(t, "link", got, full)
			return err
		})
		changed := accounts.Link{Service: full.Service, MiniProgram: full.MiniProgram, Status: accounts.LinkDone, CreatedAt: at}
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().SaveLink(ctx, changed) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.accounts().LinksOf(ctx, full.Service)
			want(t, "links", got, []accounts.Link{changed})
			if err != nil {
				return err
			}
			_, err = tx.accounts().Link(ctx, full.Service, "other")
			assert.ErrorIs(t, err, accounts.ErrNoLink, "a link that is not there")
			return nil
		})
	})
}

// Contract: rules 3.4: only status 1 is linked.
func TestAccountLink_OnlyStatusOneLinked(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		states := []accounts.LinkStatus{accounts.LinkDone, accounts.LinkAwaitsMiniProgram, accounts.LinkRefused, accounts.LinkAwaitsAccount}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for i, status := range states {
				l := accounts.Link{Service: "wxs", MiniProgram: fmt.Sprintf("wx%d", status), Status: status,
					CreatedAt: at.Add(time.Duration(i) * time.Second)}
				if err := tx.accounts().SaveLink(ctx, l); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, status := range states {
				linked, err := tx.accounts().Linked(ctx, "wxs", fmt.Sprintf("wx%d", status))
				want(t, fmt.Sprint("linked in state ", status), linked, status == accounts.LinkDone)
				if err != nil {
					return err
				}
			}
			done, err := tx.accounts().Links(ctx, "wxs")
			want(t, "links", done, []string{"wx1"})
			if err != nil {
				return err
			}
			all, err := tx.accounts().LinksOf(ctx, "wxs")
			want(t, "links in any state", len(all), 4)
			if err != nil {
				return err
			}
			n, err := tx.accounts().CountLinks(ctx, "wxs")
			want(t, "links of the account that count", n, 3)
			if err != nil {
				return err
			}
			n, err = tx.accounts().CountLinks(ctx, "wx12")
			want(t, "links of the Mini Program that count", n, 1)
			return err
		})
		// The operator's and the seed's link is done, whatever it was.
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().PutLink(ctx, "wxs", "wx3", at.Add(time.Hour))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			l, err := tx.accounts().Link(ctx, "wxs", "wx3")
			want(t, "link", l, accounts.Link{Service: "wxs", MiniProgram: "wx3", Status: accounts.LinkDone,
				CreatedAt: at.Add(2 * time.Second)})
			return err
		})
	})
}
