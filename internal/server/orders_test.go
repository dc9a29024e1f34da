package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// orders is a server with calls about code orders of the account svc.
type orders struct {
	*servertest.Server
	t *testing.T
}

func (o orders) post(path, body string, want int) (order client.Order, text string) {
	o.t.Helper()
	a := o.TryAdmin("POST", "/accounts/svc/orders"+path, body)
	require.True(o.t, a.Status == want, "POST orders%s %s = %d %s, want %d", path, body, a.Status, a.Body, want)
	_ = json.Unmarshal([]byte(a.Body), &order) // an error response has no order
	return order, a.Body
}

// create orders codes with a text template; "" = prefix and secret.
func (o orders) create(text string) client.Order {
	o.t.Helper()
	order, _ := o.post("", fmt.Sprintf(`{"code_count":10000,"isv_application_id":"a","text":%q}`, text), 200)
	return order
}

// interrupt puts an order into the state after a crash between its approval and the generation of its codes.
func (o orders) interrupt(name string) {
	o.t.Helper()
	var order map[string]any
	text, err := server.Meta(o.t.Context(), o.Server.Server, name)
	if err == nil {
		err = json.Unmarshal([]byte(text), &order)
	}
	require.NoError(o.t, err)
	order["decided_by"], order["decided_at"] = "person:bob", order["created_at"]
	changed, err := json.Marshal(order)
	if err == nil {
		err = server.PutMeta(o.t.Context(), o.Server.Server, name, string(changed))
	}
	require.NoError(o.t, err)
}

// TestOrders_ApprovalOfARevision verifies that an approval requires the current revision of the order, and that an approved order whose
// generation was interrupted is completed by a retry or by the next start.
func TestOrders_ApprovalOfARevision(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		o := orders{p.start(t, servertest.Options{Seed: brand}), t}
		o.Admin("PUT", "/settings", `{"order_approval_required":true}`)
		bob := newAdminKey(t, o.Server, `{"name":"bob","role":"marketer"}`)
		decide := func(body string) servertest.Answer {
			t.Helper()
			return bob("POST", "/accounts/svc/orders/decisions", body)
		}
		approve := func(revision string) servertest.Answer {
			t.Helper()
			return decide(`{"isv_application_id":"a","approve":true,"revision":"` + revision + `"}`)
		}

		read := o.create("")
		o.post("/decisions", `{"isv_application_id":"a","approve":false}`, 200) // the requester cancels it
		weak := o.create("https://weak.example/{digits:20}")
		for name, a := range map[string]servertest.Answer{"a canceled order": approve(read.Revision), "no revision": approve("")} {
			assert.True(t, a.Status == http.StatusConflict && strings.Contains(a.Body, "revision"),
				"approving %s: %d %s, want 409", name, a.Status, a.Body)
		}
		assert.True(t, weak.State == "pending_approval" && weak.Revision != read.Revision,
			"the order with another text: %+v, the first: %+v", weak, read)
		o.post("/decisions", `{"isv_application_id":"a","approve":true,"revision":"`+weak.Revision+`"}`, 409) // its requester

		// The server crashed between the approval and the generation of the codes.
		o.interrupt("order/svc/a")
		decide(`{"isv_application_id":"a","approve":false}`).WantStatus(t, http.StatusConflict, "rejecting an approved order")
		list := servertest.Decode[client.OrderList](t, o.Admin("GET", "/orders?making=true", ""))
		assert.True(t, len(list.Orders) == 1 && list.Orders[0].State == "generating", "interrupted orders: %+v, want one", list)
		if again := o.create("https://weak.example/{digits:20}"); again.State != "generated" || again.DecidedBy != "person:bob" {
			t.Errorf("the repeated order: %+v, want state generated", again)
		}
		_, text := o.post("", `{"code_count":20000,"isv_application_id":"a"}`, 409)
		assert.Contains(t, text, "another count", "the same number with another count")

		o.post("", `{"code_count":10000,"isv_application_id":"b"}`, 200)
		o.interrupt("order/svc/b")
		o.Stop()
		again := p.start(t, servertest.Options{Seed: brand})
		eventually(t, "the interrupted order is completed after a start", func() bool {
			again.Admin("GET", "/orders", "").JSON(t, &list)
			return slices.ContainsFunc(list.Orders, func(o client.Order) bool { return o.ISV == "b" && o.State == "generated" })
		})
		batches := servertest.Decode[struct{ Batches []client.Batch }](t, again.Admin("GET", "/batches", ""))
		assert.True(t, len(batches.Batches) == 2, "%d applications, want one for each order", len(batches.Batches))
	})
}
