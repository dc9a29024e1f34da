package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestComponentGrants_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		code := filled[accounts.GrantCode](t)
		code.ExpiresAt, code.UsedAt = at, at.Add(time.Second)
		fresh := accounts.GrantCode{Hash: "h", Kind: accounts.AuthCode, Component: "wxc", ExpiresAt: at.Add(time.Hour)}
		grant := filled[accounts.Grant](t)
		grant.GrantedAt = at
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.accounts().PutGrantCode(ctx, code), tx.accounts().PutGrantCode(ctx, fresh),
				tx.accounts().PutGrant(ctx, "wxc", grant), tx.accounts().PutGrant(ctx, "wxb", accounts.Grant{AppID: grant.AppID}),
				tx.accounts().PutVerifyTicket(ctx, accounts.VerifyTicket{Component: "wxc", Hash: "t", IssuedAt: at}),
				tx.accounts().PutVerifyTicket(ctx, accounts.VerifyTicket{Component: "wxc", Hash: "u", IssuedAt: at.Add(time.Minute)}))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, c := range []accounts.GrantCode{code, fresh} {
				got, err := tx.accounts().GrantCode(ctx, c.Hash)
				if err != nil {
					return err
				}
				want(t, "code", got, c)
			}
			got, err := tx.accounts().Grant(ctx, "wxc", grant.AppID)
			if err != nil {
				return err
			}
			want(t, "grant", got, grant)
			holders, err := tx.accounts().Holders(ctx, grant.AppID)
			if err != nil {
				return err
			}
			want(t, "holders", []string{holders[0].Component, holders[1].Component}, []string{"wxb", "wxc"})
			want(t, "grant of a holder", holders[1].Grant, grant)
			ticket, err := tx.accounts().VerifyTicket(ctx, "wxc", "t")
			if err != nil {
				return err
			}
			want(t, "ticket", ticket, accounts.VerifyTicket{Component: "wxc", Hash: "t", IssuedAt: at})
			latest, err := tx.accounts().LatestVerifyTicket(ctx, "wxc")
			want(t, "latest", latest, at.Add(time.Minute))
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().VerifyTicket(ctx, "wxd", "t")), accounts.ErrNoTicket, "another's ticket")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().GrantCode(ctx, "nothing")), accounts.ErrNoCode, "no code")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Grant(ctx, "wxd", grant.AppID)), accounts.ErrNoGrant, "no grant")
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.accounts().ForgetVerifyTickets(ctx, "wxc", at.Add(time.Second)),
				tx.accounts().ForgetGrantCodes(ctx, at.Add(time.Second)), tx.accounts().DeleteGrant(ctx, "wxc", grant.AppID))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().VerifyTicket(ctx, "wxc", "t")), accounts.ErrNoTicket, "a forgotten ticket")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().GrantCode(ctx, code.Hash)), accounts.ErrNoCode, "a forgotten code")
			assert.NoErrorf(t, assert.ErrorOf(tx.accounts().Grant(ctx, "wxb", grant.AppID)), "another's grant")
			n, err := tx.accounts().CountGrants(ctx, "wxc")
			want(t, "grants", n, 0)
			return err
		})
	})
}

func TestComponentTicket_DueAfterInterval(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, name := range []string{"ahead", "fresh", "never", "old", "silent"} {
				c := accounts.Component{AppID: name, EventURL: "http://isv.example/"}
				if name == "silent" {
					c.EventURL = ""
				}
				if err := tx.accounts().PutComponent(ctx, c); err != nil {
					return err
				}
			}
			for name, issued := range map[string]time.Time{"fresh": at, "old": at.Add(-10 * time.Minute), "ahead": at.Add(time.Hour)} {
				if err := tx.accounts().PutVerifyTicket(ctx, accounts.VerifyTicket{Component: name, Hash: name,
					IssuedAt: issued}); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			due, err := tx.accounts().TicketsDue(ctx, at.Add(-10*time.Minute), at, 10)
			want(t, "due", due, []string{"ahead", "never", "old"})
			return err
		})
	})
}

func TestComponentTokens_RevokedByAccount(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, k := range []accounts.Token{
				{Hash: "own", AppID: "wxa", Kind: accounts.Plain},
				{Hash: "c", AppID: "wxa", Component: "wxc", Kind: accounts.Authorizer},
				{Hash: "d", AppID: "wxa", Component: "wxd", Kind: accounts.Authorizer},
				{Hash: "b", AppID: "wxb", Component: "wxc", Kind: accounts.Authorizer},
			} {
				k.IssuedAt, k.ExpiresAt = at, at.Add(time.Hour)
				if err := tx.accounts().PutToken(ctx, k); err != nil {
					return err
				}
			}
			return tx.accounts().ShortenAuthorizerTokens(ctx, "wxc", "wxa", at)
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, hash := range []string{"own", "b", "c", "d"} {
				k, err := tx.accounts().Token(ctx, hash)
				if err != nil {
					return err
				}
				want(t, hash+" is cut", !k.SupersededAt.IsZero(), hash == "c")
			}
			return nil
		})
	})
}

// directories are the accounts as two nodes see them.
func directories(t *testing.T, nodes [2]*Store) (d [2]*accounts.Service) {
	t.Helper()
	key, err := sealer.NewKey([]byte("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	for i, s := range nodes {
		d[i] = &accounts.Service{Store: s, Key: key, Settings: settings.NewLive(settings.Defaults()), Random: rand.Reader,
			Now: func() time.Time { return at }}
	}
	return d
}

const someKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"

// Contract: rules 3.3. A hundred times, on two nodes.
func TestComponentGrants_ExclusiveSetRace(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		d := directories(t, nodes)
		ctx := t.Context()
		miniProgram(t, nodes[0], "wxa")
		names := [2]string{"wxc", "wxd"}
		for _, name := range names {
			require.NoError(t, d[0].PutComponent(ctx, accounts.Component{AppID: name, EventURL: "http://isv.example/"}, "s", "tok",
				someKey))
		}
		for round := range 100 {
			var pre [2]string
			for i, name := range names {
				code, err := d[i].CreatePreAuthCode(ctx, name)
				require.NoError(t, err)
				pre[i] = code.Text
			}
			// In odd rounds the person takes it along.
			move := round%2 == 1
			errs := race(2, func(i int) error {
				_, err := d[i].Agree(ctx, accounts.Agreement{Component: names[i], PreAuthCode: pre[i], AppID: "wxa", Sets: []int{18},
					ForceExclusive: move})
				return err
			})
			var have []string
			for i, name := range names {
				a, err := d[1-i].Authorization(ctx, name, "wxa")
				if err == nil && slices.Contains(a.Sets, 18) {
					have = append(have, name)
				}
				_, taken := errors.AsType[accounts.ExclusiveConflict](errs[i])
				require.True(t, errs[i] == nil || taken && !move, "round %d: %s: %v", round, name, errs[i])
			}
			require.True(t, len(have) == 1, "round %d: %v have it", round, have)
			require.NoError(t, d[round%2].Revoke(ctx, have[0], "wxa"))
		}
	})
}

// meanwhile lets something happen elsewhere before the first lock is taken.
type meanwhile struct {
	*Store
	happens func()
}

func (m meanwhile) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	if m.engine.name == "sqlite" { // one writer: nothing happens within a transaction
		m.happens()
		return m.Store.UpdateAccounts(ctx, f)
	}
	return m.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error { return f(beforeLock{tx, m.happens}) })
}

type beforeLock struct {
	accounts.Tx
	happens func()
}

func (b beforeLock) LockAccount(ctx context.Context, appid string) error {
	b.happens()
	return b.Tx.LockAccount(ctx, appid)
}

// An operator's list of grants ends those that are not on it, also one that
// came while the list waited: it is told, and no old token of it comes back.
func TestComponentGrants_ListRevokesConcurrentGrant(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		d := directories(t, nodes)
		ctx := t.Context()
		miniProgram(t, nodes[0], "wxa")
		isv := accounts.Component{AppID: "wxc", EventURL: "http://isv.example/"}
		require.NoError(t, d[0].PutComponent(ctx, isv, "s", "tok", someKey))
		agree := func() accounts.Authorization {
			t.Helper()
			pre, err := d[1].CreatePreAuthCode(ctx, "wxc")
			require.NoError(t, err)
			code, err := d[1].Agree(ctx, accounts.Agreement{Component: "wxc", PreAuthCode: pre.Text, AppID: "wxa", Sets: []int{18}})
			require.NoError(t, err)
			a, err := d[1].TradeAuthCode(ctx, "wxc", code.Text)
			require.NoError(t, err)
			return a
		}
		var meant accounts.Authorization
		d[0].Store = meanwhile{nodes[0], sync.OnceFunc(func() { meant = agree() })}
		isv.Grants = []accounts.Grant{}
		require.NoError(t, d[0].PutComponent(ctx, isv, "", "", ""))
		assert.ErrorIs(t, assert.ErrorOf(d[1].Authorization(ctx, "wxc", "wxa")), errcode.NotAuthorizing, "the grant")
		pushes, err := d[1].Pushes(ctx, "wxc", 1)
		require.NoError(t, err)
		want(t, "told last", pushes[0].Event, accounts.UnauthorizedPush)
		agree()
		assert.ErrorIs(t, assert.ErrorOf(d[1].Identify(ctx, meant.Token.Text)), errcode.InvalidCredential, "the token of the ended grant")
	})
}

func TestComponentTicket_OnePerInterval(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		d := directories(t, nodes)
		for i := range 20 {
			component := accounts.Component{AppID: fmt.Sprintf("wx%02d", i), EventURL: "http://isv.example/"}
			require.NoError(t, d[0].PutComponent(t.Context(), component, "s", "tok", someKey))
		}
		for i, err := range race(8, func(i int) error { return d[i%2].PushTickets(t.Context()) }) {
			assert.True(t, err == nil, "%d: %v", i, err)
		}
		want(t, "tickets", number(t, nodes[0], `SELECT COUNT(*) FROM component_tickets`), 20)
		want(t, "pushes", number(t, nodes[0], `SELECT COUNT(*) FROM pushes WHERE next_attempt_at > 0`), 20)
	})
}
