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
	forEachBackend(t, func(t *testing.T, s *Store) {
		first := codes.FirstScan{Batch: 500_000_001, Index: 1_999_999_999, At: t0, Scan: "scan" + special, User: "user" + special}
		later := first
		later.At, later.Scan, later.User = t0.Add(time.Hour), "other", "other"
		second := codes.FirstScan{Batch: 500_000_001, Index: 0, At: t0, Scan: "n"}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.codes().AddFirstScans(ctx, []codes.FirstScan{first})
		})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.codes().AddFirstScans(ctx, []codes.FirstScan{second, later})
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, f := range []codes.FirstScan{first, second} {
				got, err := tx.codes().FirstScan(ctx, f.Batch, f.Index)
				if err != nil {
					return err
				}
				check(t, "first scan", got, f)
			}
			assert.ErrorIs(t, assert.ErrorOf(tx.codes().FirstScan(ctx, first.Batch, 7)), codes.ErrNoFirstScan, "a code without a scan")
			return nil
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().EraseFirstScans(ctx, first.User) })
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().EraseFirstScans(ctx, "") })
		check(t, "first scans without a user", queryInt(t, s, `SELECT COUNT(*) FROM code_scans WHERE first_user = ''`), 2)
	})
}

// TestEraseUser_ByOpenID verifies that the rows with the OpenIDs of a user are deleted, and those of other users are not.
func TestEraseUser_ByOpenID(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		openID := func(account string) string { return "o_" + account + special }
		update(t, s, func(ctx context.Context, tx *Tx) error {
			var tickets []codes.Ticket
			for n := range 3 * chunk {
				k := codes.Ticket{Hash: fmt.Sprint("h", n), OwnerID: "o", AppID: fmt.Sprint("app", n%7), ScannedAt: t0, ExpiresAt: t0}
				if k.AppUserID = "another"; n%2 == 0 {
					k.AppUserID = openID(k.AppID)
				}
				tickets = append(tickets, k)
			}
			err := tx.codes().PutTickets(ctx, tickets)
			for _, account := range []string{"app1", "svc" + special} {
				for _, user := range []string{openID(account), "another"} {
					_, errFollower := tx.accounts().AddFollower(ctx, account, user, t0)
					err = errors.Join(err, errFollower,
						tx.codes().PutLogin(ctx, codes.Login{Hash: account + user, AppID: account, OpenID: user, ExpiresAt: t0}),
						accounts.QueueMessage(ctx, tx.webhooks(), account, "<FromUserName><![CDATA["+user+"]]>", t0, t0))
				}
			}
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().EraseOpenIDs(ctx, openID) })
		for query, remaining := range map[string]int64{
			`SELECT COUNT(*) FROM tickets WHERE app_user_id <> 'another'`:   0,
			`SELECT COUNT(*) FROM tickets WHERE app_user_id = 'another'`:    3 * chunk / 2,
			`SELECT COUNT(*) FROM logins WHERE openid <> 'another'`:         0,
			`SELECT COUNT(*) FROM logins`:                                   2,
			`SELECT COUNT(*) FROM followers WHERE openid <> 'another'`:      0,
			`SELECT COUNT(*) FROM followers`:                                2,
			`SELECT COUNT(*) FROM messages WHERE body NOT LIKE '%another%'`: 0,
			`SELECT COUNT(*) FROM messages`:                                 2,
		} {
			check(t, query, queryInt(t, s, query), remaining)
		}
	})
}

// TestFirstScan_LargeTransaction writes numbers of rows around the size of a statement in one transaction.
func TestFirstScan_LargeTransaction(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		total := int64(0)
		for _, n := range []int{0, 1, 2, 3, 127, 128, 129, 256} {
			var firsts []codes.FirstScan
			var tickets []codes.Ticket
			for i := range n {
				firsts = append(firsts, codes.FirstScan{Batch: int64(n), Index: int64(i), At: t0, Scan: "s", User: "u"})
				tickets = append(tickets, codes.Ticket{Hash: fmt.Sprint(n, "-", i), Batch: int64(n), Index: int64(i), OwnerID: "o",
					AppID: "a", AppUserID: "p", ScannedAt: t0, ExpiresAt: t0.Add(time.Duration(i))})
			}
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return errors.Join(tx.codes().AddFirstScans(ctx, firsts), tx.codes().PutTickets(ctx, tickets))
			})
			total += int64(n)
		}
		check(t, "first scans", queryInt(t, s, `SELECT COUNT(*) FROM code_scans`), total)
		check(t, "tickets", queryInt(t, s, `SELECT COUNT(*) FROM tickets`), total)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().Ticket(ctx, "129-128")
			check(t, "index", got.Index, 128)
			return err
		})
	})
}

// TestFirstScan_ConcurrentOnTwoNodes writes scans of the same codes on two nodes concurrently. Each code gets one first scan, and no
// deadlock occurs.
func TestFirstScan_ConcurrentOnTwoNodes(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const rounds, size = 20, 50
		var all sync.WaitGroup
		for n, node := range nodes {
			for writer := range 4 {
				all.Go(func() {
					for round := range rounds {
						var group []codes.FirstScan
						for i := range size {
							group = append(group, codes.FirstScan{Batch: int64(round), Index: int64(i), At: t0,
								Scan: fmt.Sprintf("node %d writer %d", n, writer)})
						}
						assert.NoError(t, node.UpdateCodes(t.Context(),
							func(tx codes.Tx) error { return tx.AddFirstScans(t.Context(), group) }))
					}
				})
			}
		}
		all.Wait()
		check(t, "first scans", queryInt(t, nodes[0], `SELECT COUNT(*) FROM code_scans`), rounds*size)
	})
}
