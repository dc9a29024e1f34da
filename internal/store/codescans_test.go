package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestFirstScan_WrittenOnce(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		first := codes.FirstScan{Batch: 500_000_001, Index: 1_999_999_999, At: at, Scan: "scan" + spice, User: "user" + spice}
		again := first
		again.At, again.Scan, again.User = at.Add(time.Hour), "other", "other"
		neighbour := codes.FirstScan{Batch: 500_000_001, Index: 0, At: at, Scan: "n"}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.codes().AddFirstScans(ctx, []codes.FirstScan{first})
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.codes().AddFirstScans(ctx, []codes.FirstScan{neighbour, again})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, f := range []codes.FirstScan{first, neighbour} {
				got, err := tx.codes().FirstScan(ctx, f.Batch, f.Index)
				if err != nil {
					return err
				}
				want(t, "first scan", got, f)
			}
			assert.ErrorIs(t, assert.ErrorOf(tx.codes().FirstScan(ctx, first.Batch, 7)), codes.ErrNoFirstScan, "none")
			return nil
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().EraseFirstScans(ctx, first.User) })
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().EraseFirstScans(ctx, "") })
		want(t, "erased", number(t, s, `SELECT COUNT(*) FROM code_scans WHERE first_user = ''`), 2)
	})
}

// Rows with the openids of a user go, and those of others stay.
func TestEraseUser_ByOpenID(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		mine := func(account string) string { return "o_" + account + spice }
		update(t, s, func(ctx context.Context, tx *Tx) error {
			var tickets []codes.Ticket
			for n := range 3 * chunk {
				k := codes.Ticket{Hash: fmt.Sprint("h", n), OwnerID: "o", AppID: fmt.Sprint("app", n%7), ScannedAt: at, ExpiresAt: at}
				if k.AppUserID = "another"; n%2 == 0 {
					k.AppUserID = mine(k.AppID)
				}
				tickets = append(tickets, k)
			}
			err := tx.codes().PutTickets(ctx, tickets)
			for _, account := range []string{"app1", "svc" + spice} {
				for _, user := range []string{mine(account), "another"} {
					_, follows := tx.accounts().AddFollower(ctx, account, user, at)
					err = errors.Join(err, follows,
						tx.codes().PutLogin(ctx, codes.Login{Hash: account + user, AppID: account, OpenID: user, ExpiresAt: at}),
						accounts.QueueMessage(ctx, tx.webhooks(), account, "<FromUserName><![CDATA["+user+"]]>", at, at))
				}
			}
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().EraseOpenIDs(ctx, mine) })
		for query, left := range map[string]int64{
			`SELECT COUNT(*) FROM tickets WHERE app_user_id <> 'another'`:   0,
			`SELECT COUNT(*) FROM tickets WHERE app_user_id = 'another'`:    3 * chunk / 2,
			`SELECT COUNT(*) FROM logins WHERE openid <> 'another'`:         0,
			`SELECT COUNT(*) FROM logins`:                                   2,
			`SELECT COUNT(*) FROM followers WHERE openid <> 'another'`:      0,
			`SELECT COUNT(*) FROM followers`:                                2,
			`SELECT COUNT(*) FROM messages WHERE body NOT LIKE '%another%'`: 0,
			`SELECT COUNT(*) FROM messages`:                                 2,
		} {
			want(t, query, number(t, s, query), left)
		}
	})
}

// Any number of rows goes into one transaction.
func TestFirstScan_LargeTransaction(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		total := int64(0)
		for _, n := range []int{0, 1, 2, 3, 127, 128, 129, 256} {
			var firsts []codes.FirstScan
			var tickets []codes.Ticket
			for i := range n {
				firsts = append(firsts, codes.FirstScan{Batch: int64(n), Index: int64(i), At: at, Scan: "s", User: "u"})
				tickets = append(tickets, codes.Ticket{Hash: fmt.Sprint(n, "-", i), Batch: int64(n), Index: int64(i), OwnerID: "o",
					AppID: "a", AppUserID: "p", ScannedAt: at, ExpiresAt: at.Add(time.Duration(i))})
			}
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return errors.Join(tx.codes().AddFirstScans(ctx, firsts), tx.codes().PutTickets(ctx, tickets))
			})
			total += int64(n)
		}
		want(t, "first scans", number(t, s, `SELECT COUNT(*) FROM code_scans`), total)
		want(t, "tickets", number(t, s, `SELECT COUNT(*) FROM tickets`), total)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().Ticket(ctx, "129-128")
			want(t, "index", got.Index, 128)
			return err
		})
	})
}

// Two nodes write the scans of the same codes at once: of each code one was the first, and none waits for another in a circle.
func TestFirstScan_ConcurrentOnTwoNodes(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const rounds, size = 20, 50
		var all sync.WaitGroup
		for n, node := range nodes {
			for writer := range 4 {
				all.Go(func() {
					for round := range rounds {
						var group []codes.FirstScan
						for i := range size {
							group = append(group, codes.FirstScan{Batch: int64(round), Index: int64(i), At: at,
								Scan: fmt.Sprintf("node %d writer %d", n, writer)})
						}
						assert.NoError(t, node.UpdateCodes(t.Context(),
							func(tx codes.Tx) error { return tx.AddFirstScans(t.Context(), group) }))
					}
				})
			}
		}
		all.Wait()
		want(t, "first scans", number(t, nodes[0], `SELECT COUNT(*) FROM code_scans`), rounds*size)
	})
}
