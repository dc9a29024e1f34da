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
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

func TestComponentGrants_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		code := newFilled[accounts.GrantCode](t)
		code.ExpiresAt, code.UsedAt = t0, t0.Add(time.Second)
		fresh := accounts.GrantCode{Hash: "h", Kind: accounts.AuthCode, Component: "wxc", ExpiresAt: t0.Add(time.Hour)}
		grant := newFilled[accounts.Grant](t)
		grant.GrantedAt = t0
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.accounts().PutGrantCode(ctx, code), tx.accounts().PutGrantCode(ctx, fresh),
				tx.accounts().PutGrant(ctx, "wxc", grant), tx.accounts().PutGrant(ctx, "wxb", accounts.Grant{AppID: grant.AppID}),
				tx.accounts().PutVerifyTicket(ctx, accounts.VerifyTicket{Component: "wxc", Hash: "t", IssuedAt: t0}),
				tx.accounts().PutVerifyTicket(ctx, accounts.VerifyTicket{Component: "wxc", Hash: "u", IssuedAt: t0.Add(time.Minute)}))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, c := range []accounts.GrantCode{code, fresh} {
				got, err := tx.accounts().GrantCode(ctx, c.Hash)
				if err != nil {
					return err
				}
				check(t, "code", got, c)
			}
			got, err := tx.accounts().Grant(ctx, "wxc", grant.AppID)
			if err != nil {
				return err
			}
			check(t, "grant", got, grant)
			holders, err := tx.accounts().Holders(ctx, grant.AppID)
			if err != nil {
				return err
			}
			check(t, "holders", []string{holders[0].Component, holders[1].Component}, []string{"wxb", "wxc"})
			check(t, "grant of a holder", holders[1].Grant, grant)
			ticket, err := tx.accounts().VerifyTicket(ctx, "wxc", "t")
			if err != nil {
				return err
			}
			check(t, "ticket", ticket, accounts.VerifyTicket{Component: "wxc", Hash: "t", IssuedAt: t0})
			latest, err := tx.accounts().LatestVerifyTicket(ctx, "wxc")
			check(t, "latest", latest, t0.Add(time.Minute))
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().VerifyTicket(ctx, "wxd", "t")), accounts.ErrNoTicket, "another's ticket")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().GrantCode(ctx, "nothing")), accounts.ErrNoCode, "no code")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Grant(ctx, "wxd", grant.AppID)), accounts.ErrNoGrant, "no grant")
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.accounts().ForgetVerifyTickets(ctx, "wxc", t0.Add(time.Second)),
				tx.accounts().ForgetGrantCodes(ctx, t0.Add(time.Second)), tx.accounts().DeleteGrant(ctx, "wxc", grant.AppID))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().VerifyTicket(ctx, "wxc", "t")), accounts.ErrNoTicket, "a forgotten ticket")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().GrantCode(ctx, code.Hash)), accounts.ErrNoCode, "a forgotten code")
			assert.NoErrorf(t, assert.ErrorOf(tx.accounts().Grant(ctx, "wxb", grant.AppID)), "another's grant")
			n, err := tx.accounts().CountGrants(ctx, "wxc")
			check(t, "grants", n, 0)
			return err
		})
	})
}

func TestComponentTicket_DueAfterInterval(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
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
			for name, issued := range map[string]time.Time{"fresh": t0, "old": t0.Add(-10 * time.Minute), "ahead": t0.Add(time.Hour)} {
				if err := tx.accounts().PutVerifyTicket(ctx, accounts.VerifyTicket{Component: name, Hash: name,
					IssuedAt: issued}); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			due, err := tx.accounts().TicketsDue(ctx, t0.Add(-10*time.Minute), t0, 10)
			check(t, "due", due, []string{"ahead", "never", "old"})
			return err
		})
	})
}

func TestComponentTokens_RevokedByAccount(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, k := range []accounts.Token{
				{Hash: "own", AppID: "wxa", Kind: accounts.Plain},
				{Hash: "c", AppID: "wxa", Component: "wxc", Kind: accounts.Authorizer},
				{Hash: "d", AppID: "wxa", Component: "wxd", Kind: accounts.Authorizer},
				{Hash: "b", AppID: "wxb", Component: "wxc", Kind: accounts.Authorizer},
			} {
				k.IssuedAt, k.ExpiresAt = t0, t0.Add(time.Hour)
				if err := tx.accounts().PutToken(ctx, k); err != nil {
					return err
				}
			}
			k := accounts.Token{AppID: "wxa", Component: "wxc", Kind: accounts.Authorizer, IssuedAt: t0}
			return tx.accounts().ShortenTokens(ctx, k, t0)
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, hash := range []string{"own", "b", "c", "d"} {
				k, err := tx.accounts().Token(ctx, hash)
				if err != nil {
					return err
				}
				check(t, hash+" is superseded", !k.SupersededAt.IsZero(), hash == "c")
			}
			return nil
		})
	})
}

func newAccountService(t *testing.T, s accounts.Store) *accounts.Service {
	t.Helper()
	key := require.Value(sealer.NewKey([]byte("0123456789abcdef0123456789abcdef")))(t)
	return &accounts.Service{Store: s, Key: key, Settings: settings.NewLive(settings.Defaults()), Random: rand.Reader,
		Now: func() time.Time { return t0 }}
}

func newAccountServices(t *testing.T, nodes [2]*Store) [2]*accounts.Service {
	t.Helper()
	return [2]*accounts.Service{newAccountService(t, nodes[0]), newAccountService(t, nodes[1])}
}

const testAESKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"

// Contract: rules 3.3. The test grants an exclusive permission set to two components concurrently, on two nodes.
func TestComponentGrants_ExclusiveSetRace(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		d := newAccountServices(t, nodes)
		ctx := t.Context()
		addMiniProgram(t, nodes[0], "wxa")
		names := [2]string{"wxc", "wxd"}
		for _, name := range names {
			require.NoError(t, d[0].PutComponent(ctx, accounts.Component{AppID: name, EventURL: "http://isv.example/"}, "s", "tok",
				testAESKey))
		}
		for round := range testscope.Select(100, 16) {
			var pre [2]string
			for i, name := range names {
				code := require.Value(d[i].CreatePreAuthCode(ctx, name))(t)
				pre[i] = code.Text
			}
			// In odd rounds the user moves the set to the new component.
			force := round%2 == 1
			errs := race(2, func(i int) error {
				_, err := d[i].Agree(ctx, accounts.Agreement{Component: names[i], PreAuthCode: pre[i], AppID: "wxa", Sets: []int{18},
					ForceExclusive: force})
				return err
			})
			var holders []string
			for i, name := range names {
				a, err := d[1-i].Authorization(ctx, name, "wxa")
				if err == nil && slices.Contains(a.Sets, 18) {
					holders = append(holders, name)
				}
				_, conflict := errors.AsType[accounts.ExclusiveConflict](errs[i])
				require.True(t, errs[i] == nil || conflict && !force, "round %d: Agree() for %s = %v", round, name, errs[i])
			}
			require.True(t, len(holders) == 1, "round %d: the exclusive set is granted to %v, want one component", round, holders)
			require.NoError(t, d[round%2].Revoke(ctx, holders[0], "wxa"))
		}
	})
}

// accountHooks is a store that calls functions before a transaction takes a lock.
type accountHooks struct {
	*Store
	beforeLock func() // before LockAccount; on SQLite, which has one writer, before the transaction
	beforeShow func() // before the accounts of an import become visible
}

func (s accountHooks) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	if s.beforeLock != nil && s.engine.name == "sqlite" {
		s.beforeLock()
		s.beforeLock = nil
	}
	return s.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error { return f(accountHooksTx{tx, s}) })
}

type accountHooksTx struct {
	accounts.Tx
	hooks accountHooks
}

func (tx accountHooksTx) LockAccount(ctx context.Context, appid string) error {
	if tx.hooks.beforeLock != nil {
		tx.hooks.beforeLock()
	}
	return tx.Tx.LockAccount(ctx, appid)
}

func (tx accountHooksTx) LockAccountsForShow(ctx context.Context) error {
	if tx.hooks.beforeShow != nil {
		tx.hooks.beforeShow()
	}
	return tx.Tx.LockAccountsForShow(ctx)
}

// TestComponentGrants_ListRevokesConcurrentGrant replaces the grants of a component while another node adds one. The added grant is
// revoked, an event is queued for it, and its tokens stay invalid after a later grant.
func TestComponentGrants_ListRevokesConcurrentGrant(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		d := newAccountServices(t, nodes)
		ctx := t.Context()
		addMiniProgram(t, nodes[0], "wxa")
		isv := accounts.Component{AppID: "wxc", EventURL: "http://isv.example/"}
		require.NoError(t, d[0].PutComponent(ctx, isv, "s", "tok", testAESKey))
		agree := func() accounts.Authorization {
			t.Helper()
			pre := require.Value(d[1].CreatePreAuthCode(ctx, "wxc"))(t)
			code, err := d[1].Agree(ctx, accounts.Agreement{Component: "wxc", PreAuthCode: pre.Text, AppID: "wxa", Sets: []int{18}})
			require.NoError(t, err)
			return require.Value(d[1].TradeAuthCode(ctx, "wxc", code.Text))(t)
		}
		var revoked accounts.Authorization
		d[0].Store = accountHooks{Store: nodes[0], beforeLock: sync.OnceFunc(func() { revoked = agree() })}
		isv.Grants = []accounts.Grant{}
		require.NoError(t, d[0].PutComponent(ctx, isv, "", "", ""))
		assert.ErrorIs(t, assert.ErrorOf(d[1].Authorization(ctx, "wxc", "wxa")), errcode.NotAuthorizing, "the grant")
		pushes := require.Value(d[1].Pushes(ctx, "wxc", 1))(t)
		check(t, "event of the last push", pushes[0].Event, accounts.UnauthorizedPush)
		agree()
		assert.ErrorIs(t, assert.ErrorOf(d[1].Identify(ctx, revoked.Token.Text)), errcode.InvalidCredential,
			"the token of the revoked grant")
	})
}

func TestComponentTicket_OnePerInterval(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		d := newAccountServices(t, nodes)
		for i := range 20 {
			component := accounts.Component{AppID: fmt.Sprintf("wx%02d", i), EventURL: "http://isv.example/"}
			require.NoError(t, d[0].PutComponent(t.Context(), component, "s", "tok", testAESKey))
		}
		for i, err := range race(8, func(i int) error { return d[i%2].PushTickets(t.Context()) }) {
			assert.NoErrorf(t, err, "PushTickets() %d", i)
		}
		check(t, "tickets", queryInt(t, nodes[0], `SELECT COUNT(*) FROM component_tickets`), 20)
		check(t, "pushes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM pushes WHERE next_attempt_at > 0`), 20)
	})
}
