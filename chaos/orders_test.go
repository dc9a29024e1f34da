package chaos_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestOrderApproval_KillDuringApprove kills a server while orders of codes are approved and rejected. After a start and the same order
// once more every approved order has its codes, once, and a rejected one has none.
//
//	ORDER_ROUNDS=72 go test -run 'TestOrderApproval_KillDuringApprove$' -timeout 60m ./chaos
func TestOrderApproval_KillDuringApprove(t *testing.T) {
	seed := testdiag.Seed(t)
	const together = 6 // orders of a round; the last one is rejected
	eachBackend(t, func(t *testing.T, database string) {
		more := another(t, "ORDER_ROUNDS", amount(24, 6), 3)
		chance := rand.New(rand.NewPCG(seed, 0))
		child := newChild(t, database, spaceSeed)
		child.Emulator, child.CodePrefix = false, "C.EXAMPLE/"
		s := start(t, child)
		as := func(token string) *api.Client {
			c, err := api.New(s.URL, api.Options{AdminToken: token})
			require.NoError(t, err)
			return c
		}
		admin := must{connect(t, s.URL, adminToken), t}
		admin.check(admin.do("PUT", "/admin/v1/settings", map[string]any{"order_approval_required": true}, nil))
		bob, err := as(adminToken).AdminKeys.Create(t.Context(), api.AdminKeyPut{Name: "bob", Role: "marketer"})
		require.NoError(t, err)
		place := func(isv string) api.Order {
			o, err := as(adminToken).Orders.Create(t.Context(), "brand", api.OrderPut{ISV: isv, Count: 10_000})
			require.NoErrorf(t, err, "order %s", isv)
			return o
		}
		state := func(isv string) string {
			list, err := as(adminToken).Orders.List(t.Context(), "brand", 0, 100)
			require.NoError(t, err)
			n := slices.IndexFunc(list.Orders, func(o api.Order) bool { return o.ISV == isv })
			require.True(t, n >= 0, "order %s is lost", isv)
			return list.Orders[n].State
		}
		rounds, orders, undecided, rejected, interrupted := 0, 0, 0, 0, 0
		for ; rounds < 120 && more(rounds); rounds++ { // an account applies for codes 1,000 times a day
			var placed []api.Order
			for n := range together {
				placed = append(placed, place(fmt.Sprintf("round%d-%d", rounds, n)))
			}
			orders += together
			var left atomic.Int64 // answers until the kill, which finds the others anywhere
			left.Store(int64(chance.IntN(together)))
			approved := make([]bool, together)
			var all sync.WaitGroup
			if left.Load() == 0 {
				all.Go(s.kill)
			}
			for n, o := range placed {
				all.Go(func() {
					_, err := as(bob.Key).Orders.Decide(t.Context(), "brand",
						api.OrderDecision{ISV: o.ISV, Approve: n < together-1, Revision: o.Revision})
					approved[n] = err == nil
					if err == nil && left.Add(-1) == 0 {
						s.kill()
					}
				})
			}
			all.Wait()
			s.gone()
			endSessions(t, database)
			interrupted += interruptedOrders(t, child)
			s = start(t, child)
			for n, o := range placed {
				last := n == together-1
				now := state(o.ISV)
				switch {
				case approved[n] && !last && now != "generated", approved[n] && last && now != "rejected":
					t.Errorf("%s is %s after its decision was acknowledged", o.ISV, now)
				case last && now == "rejected":
					rejected++
					continue
				case now == "pending_approval":
					undecided++
					if last {
						continue
					}
					if _, err := as(bob.Key).Orders.Decide(t.Context(), "brand",
						api.OrderDecision{ISV: o.ISV, Approve: true, Revision: place(o.ISV).Revision}); err != nil {
						t.Errorf("%s once more: %v", o.ISV, err)
					}
				}
				if again := place(o.ISV); again.State != "generated" || again.ApplicationID == 0 {
					t.Errorf("%s was %s after the start, and is %s when it is sent again", o.ISV, now, again.State)
				}
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		var stuck api.OrderList
		admin = must{connect(t, s.URL, adminToken), t}
		if admin.check(admin.do("GET", "/admin/v1/orders?making=true", nil, &stuck)); len(stuck.Orders) > 0 {
			t.Errorf("%d orders are stuck", len(stuck.Orders))
		}
		made := map[string]int{}
		for query := (api.BatchQuery{Account: "brand"}); ; {
			page, err := as(adminToken).Batches.List(t.Context(), query)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			for _, b := range page {
				made[b.ISV]++
				query.After = b.ID
			}
		}
		for round := range rounds {
			for n := range together {
				isv := fmt.Sprintf("round%d-%d", round, n)
				if want := min(1, together-1-n); made[isv] != want {
					t.Errorf("%s has %d applications, want %d", isv, made[isv], want)
				}
			}
		}
		t.Logf("%d kills while %d orders were decided: %d were undecided afterwards, %d interrupted, %d rejected; 0 stuck", rounds, orders, undecided,
			interrupted, rejected)
		s.stop()
	})
}

// interruptedOrders counts the orders in a database without a server that are approved and have no codes.
func interruptedOrders(t *testing.T, c childConfig) (n int) {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(c.Data, "qrjump.db")
	if c.Database != "" {
		driver, source = "pgx", c.Database
	}
	db, err := sql.Open(driver, source)
	if err == nil {
		defer db.Close()
		err = db.QueryRow(`SELECT COUNT(*) FROM meta WHERE name LIKE 'order/%' AND value LIKE '%"decided_by":%'
			AND value NOT LIKE '%"rejected":true%' AND value NOT LIKE '%,"application_id":%'`).Scan(&n)
	}
	require.NoError(t, err)
	return n
}
