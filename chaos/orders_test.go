package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestOrderApproval_KillDuringApprove kills a server while orders of codes are approved and rejected. After a restart and a repeated call,
// every approved order has its codes once, and a rejected order has none.
//
//	ORDER_ROUNDS=72 go test -run 'TestOrderApproval_KillDuringApprove$' -timeout 60m ./chaos
func TestOrderApproval_KillDuringApprove(t *testing.T) {
	seed := testdiag.Seed(t)
	const roundOrders = 6 // the last order of a round is rejected
	runOnEachBackend(t, func(t *testing.T, database string) {
		more := moreRounds(t, "ORDER_ROUNDS", choose(24, 6), 3)
		chance := rand.New(rand.NewPCG(seed, 0))
		child := newChild(t, database, spaceSeed)
		child.Emulator, child.CodePrefix = false, "C.EXAMPLE/"
		s := start(t, child)
		clientAs := func(token string) *api.Client {
			c, err := api.New(s.URL, api.Options{AdminToken: token})
			require.NoError(t, err)
			return c
		}
		admin := mustConnect(t, s.URL, adminToken)
		admin.check(admin.do("PUT", "/admin/v1/settings", map[string]any{"order_approval_required": true}, nil))
		bob, err := clientAs(adminToken).AdminKeys.Create(t.Context(), api.AdminKeyPut{Name: "bob", Role: "marketer"})
		require.NoError(t, err)
		place := func(isv string) api.Order {
			o, err := clientAs(adminToken).Orders.Create(t.Context(), "brand", api.OrderPut{ISV: isv, Count: 10_000})
			require.NoErrorf(t, err, "order %s", isv)
			return o
		}
		state := func(isv string) string {
			list, err := clientAs(adminToken).Orders.List(t.Context(), "brand", 0, 100)
			require.NoError(t, err)
			n := slices.IndexFunc(list.Orders, func(o api.Order) bool { return o.ISV == isv })
			require.True(t, n >= 0, "order %s is missing", isv)
			return list.Orders[n].State
		}
		rounds, orders, undecided, rejected, interrupted := 0, 0, 0, 0, int64(0)
		for ; rounds < 120 && more(rounds); rounds++ { // the platform allows an account 1,000 applications a day
			var placed []api.Order
			for n := range roundOrders {
				placed = append(placed, place(fmt.Sprintf("round%d-%d", rounds, n)))
			}
			orders += roundOrders
			var left atomic.Int64 // responses until the kill, which interrupts the other calls
			left.Store(int64(chance.IntN(roundOrders)))
			approved := make([]bool, roundOrders)
			var clients sync.WaitGroup
			if left.Load() == 0 {
				clients.Go(s.kill)
			}
			for n, o := range placed {
				clients.Go(func() {
					_, err := clientAs(bob.Key).Orders.Decide(t.Context(), "brand",
						api.OrderDecision{ISV: o.ISV, Approve: n < roundOrders-1, Revision: o.Revision})
					approved[n] = err == nil
					if err == nil && left.Add(-1) == 0 {
						s.kill()
					}
				})
			}
			clients.Wait()
			s.wait()
			terminateSessions(t, database)
			interrupted += dbtest.QueryInt(t, child.databaseURL(), `SELECT COUNT(*) FROM meta WHERE name LIKE 'order/%'
				AND value LIKE '%"decided_by":%' AND value NOT LIKE '%"rejected":true%' AND value NOT LIKE '%,"application_id":%'`)
			s = start(t, child)
			for n, o := range placed {
				last := n == roundOrders-1
				now := state(o.ISV)
				switch {
				case approved[n] && !last && now != "generated", approved[n] && last && now != "rejected":
					t.Errorf("%s is %s, want the acknowledged decision", o.ISV, now)
				case last && now == "rejected":
					rejected++
					continue
				case now == "pending_approval":
					undecided++
					if last {
						continue
					}
					if _, err := clientAs(bob.Key).Orders.Decide(t.Context(), "brand",
						api.OrderDecision{ISV: o.ISV, Approve: true, Revision: place(o.ISV).Revision}); err != nil {
						t.Errorf("repeated approval of %s: %v", o.ISV, err)
					}
				}
				if repeated := place(o.ISV); repeated.State != "generated" || repeated.ApplicationID == 0 {
					t.Errorf("%s was %s after the restart, and is %s after a repeated call, want generated", o.ISV, now, repeated.State)
				}
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		var stuck api.OrderList
		admin = mustConnect(t, s.URL, adminToken)
		if admin.get("/admin/v1/orders?making=true", &stuck); len(stuck.Orders) > 0 {
			t.Errorf("%d orders are stuck, want none", len(stuck.Orders))
		}
		applications := map[string]int{}
		for query := (api.BatchQuery{Account: "brand"}); ; {
			page, err := clientAs(adminToken).Batches.List(t.Context(), query)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			for _, b := range page {
				applications[b.ISV]++
				query.After = b.ID
			}
		}
		for round := range rounds {
			for n := range roundOrders {
				isv := fmt.Sprintf("round%d-%d", round, n)
				if want := min(1, roundOrders-1-n); applications[isv] != want {
					t.Errorf("%s has %d applications, want %d", isv, applications[isv], want)
				}
			}
		}
		t.Logf("%d kills while %d orders were decided: %d were undecided afterwards, %d interrupted, %d rejected; none stuck", rounds,
			orders, undecided,
			interrupted, rejected)
		s.stop()
	})
}
