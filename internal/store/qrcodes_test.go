package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestParametricCode_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[accounts.QRCode](t)
		permanent := accounts.QRCode{Code: "c", Ticket: "t", Account: "wxs", Action: accounts.QRTextForEver, Scene: " Scene ",
			CreatedAt: t0}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.accounts().AddQRCode(ctx, full), tx.accounts().AddQRCode(ctx, permanent))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.accounts().QRCode(ctx, full.Code)
			checkList(t, "QRCode()", got, full)
			if err != nil {
				return err
			}
			got, err = tx.accounts().QRCodeByTicket(ctx, full.Ticket)
			checkList(t, "QRCodeByTicket()", got, full)
			if err != nil {
				return err
			}
			got, err = tx.accounts().PermanentQRCode(ctx, "wxs", accounts.QRTextForEver, " Scene ")
			check(t, "PermanentQRCode()", got, permanent)
			if err != nil {
				return err
			}
			n, err := tx.accounts().CountPermanentQRCodes(ctx, "wxs")
			check(t, "permanent codes", n, 1)
			for name, lookup := range map[string]func() (accounts.QRCode, error){
				"code in another case": func() (accounts.QRCode, error) { return tx.accounts().QRCode(ctx, "C") },
				"ticket":               func() (accounts.QRCode, error) { return tx.accounts().QRCodeByTicket(ctx, "c") },
				"ticket with NUL":      func() (accounts.QRCode, error) { return tx.accounts().QRCodeByTicket(ctx, "\x00") },
				"scene in another case": func() (accounts.QRCode, error) {
					return tx.accounts().PermanentQRCode(ctx, "wxs", accounts.QRTextForEver, " scene ")
				},
				"scene of another action": func() (accounts.QRCode, error) {
					return tx.accounts().PermanentQRCode(ctx, "wxs", accounts.QRNumberForEver, " Scene ")
				},
				"temporary code by its scene": func() (accounts.QRCode, error) {
					return tx.accounts().PermanentQRCode(ctx, full.Account, full.Action, full.Scene)
				},
			} {
				assert.ErrorIs(t, assert.ErrorOf(lookup()), accounts.ErrNoQRCode, "%s", name)
			}
			return err
		})
	})
}

func TestParametricCode_ExpiredRemoved(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		code := func(name, account string, expiresAt time.Time) accounts.QRCode {
			return accounts.QRCode{Code: name, Ticket: name, Account: account, Action: accounts.QRText, Scene: "same", CreatedAt: t0,
				ExpiresAt: expiresAt}
		}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, q := range []accounts.QRCode{
				code("early", "wxs", t0.Add(time.Second)), code("late", "wxs", t0.Add(time.Minute)), code("never", "wxs", time.Time{}),
				code("other", "wxt", t0.Add(time.Second)),
			} {
				if err := tx.accounts().AddQRCode(ctx, q); err != nil {
					return err
				}
			}
			return tx.accounts().ForgetQRCodes(ctx, "wxs", t0.Add(time.Minute))
		})
		check(t, "codes", queryColumn[string](t, s, `SELECT code FROM qrcodes ORDER BY code`), []string{"late", "never", "other"})
	})
}

// TestPermanentCode_ConcurrentSameScene creates permanent codes concurrently. Calls with the same scene create one code, and the limit
// holds.
func TestPermanentCode_ConcurrentSameScene(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		errs := race(16, func(i int) error {
			return nodes[i%2].update(t.Context(), func(tx *Tx) error {
				if err := tx.LockAccount(t.Context(), "wxs"); err != nil {
					return err
				}
				scene := fmt.Sprint(i / 4)
				if _, err := tx.accounts().PermanentQRCode(t.Context(), "wxs", accounts.QRNumberForEver, scene); !errors.Is(err,
					accounts.ErrNoQRCode) {
					return err
				}
				if n, err := tx.accounts().CountPermanentQRCodes(t.Context(), "wxs"); err != nil || n >= 3 {
					return err
				}
				name := fmt.Sprint("code ", i)
				return tx.accounts().AddQRCode(t.Context(), accounts.QRCode{Code: name, Ticket: name, Account: "wxs",
					Action: accounts.QRNumberForEver, Scene: scene, CreatedAt: t0})
			})
		})
		assert.NoError(t, errors.Join(errs...))
		check(t, "scenes", queryInt(t, nodes[0], `SELECT COUNT(DISTINCT scene) FROM qrcodes`), 3)
		check(t, "codes", queryInt(t, nodes[0], `SELECT COUNT(*) FROM qrcodes`), 3)
	})
}

func TestAddFollower_ConcurrentOnce(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		var added [8]bool
		errs := race(len(added), func(i int) error {
			return nodes[i%2].update(t.Context(), func(tx *Tx) (err error) {
				added[i], err = tx.accounts().AddFollower(t.Context(), "wxs", "o1", t0)
				return err
			})
		})
		assert.NoError(t, errors.Join(errs...))
		n := 0
		for _, ok := range added {
			if ok {
				n++
			}
		}
		check(t, "new followers", n, 1)
		view(t, nodes[0], func(ctx context.Context, tx *Tx) error {
			for openid, follows := range map[string]bool{"o1": true, "O1": false} {
				got, err := tx.accounts().Follower(ctx, "wxs", openid)
				check(t, openid, got, follows)
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}
