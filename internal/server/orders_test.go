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

// orders makes calls about orders of codes as two people do.
type orders struct {
	*servertest.Server
	t *testing.T
}

func (o orders) post(path, body string, want int) (one client.Order, text string) {
	o.t.Helper()
	a := o.Do("POST", "/admin/v1/accounts/svc/orders"+path, body, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
	require.True(o.t, a.Status == want, "POST orders%s %s = %d %s, want %d", path, body, a.Status, a.Body, want)
	_ = json.Unmarshal([]byte(a.Body), &one) // a refusal is no order
	return one, a.Body
}

// place orders codes with a text; "" = prefix and secret.
func (o orders) place(text string) client.Order {
	o.t.Helper()
	one, _ := o.post("", fmt.Sprintf(`{"code_count":10000,"isv_application_id":"a","text":%q}`, text), 200)
	return one
}

// interrupt leaves an approved order as a process does that is killed before its codes are made.
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

// Issue 42, 6: an approval counts for the order that was read, and an approved order is completed.
func TestOrders_ApprovalOfARevision(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p := where(t)
		o := orders{p.start(t, servertest.Options{Seed: brand}), t}
		o.Admin("PUT", "/settings", `{"order_approval_required":true}`)
		_, bob := adminKey(t, o.Server, `{"name":"bob","role":"marketer"}`)
		decide := func(body string) servertest.Answer {
			t.Helper()
			return bob("POST", "/accounts/svc/orders/decisions", body)
		}
		agree := func(revision string) servertest.Answer {
			t.Helper()
			return decide(`{"isv_application_id":"a","approve":true,"revision":"` + revision + `"}`)
		}

		read := o.place("")
		o.post("/decisions", `{"isv_application_id":"a","approve":false}`, 200) // the requester cancels it
		weak := o.place("https://weak.example/{digits:20}")
		for what, a := range map[string]servertest.Answer{"the order that was cancelled": agree(read.Revision), "no revision": agree("")} {
			assert.True(t, a.Status == http.StatusConflict && strings.Contains(a.Body, "revision"),
				"agreeing to %s: %d %s, want 409", what, a.Status, a.Body)
		}
		assert.True(t, weak.State == "pending_approval" && weak.Revision != read.Revision,
			"the order with another text: %+v, the first: %+v", weak, read)
		o.post("/decisions", `{"isv_application_id":"a","approve":true,"revision":"`+weak.Revision+`"}`, 409) // its requester

		// A process that approved it ended before it made the codes.
		o.interrupt("order/svc/a")
		a := decide(`{"isv_application_id":"a","approve":false}`)
		assert.True(t, a.Status == http.StatusConflict, "rejecting an approved order: %d %s, want 409", a.Status, a.Body)
		list := servertest.Decode[client.OrderList](t, o.Admin("GET", "/orders?making=true", ""))
		assert.True(t, len(list.Orders) == 1 && list.Orders[0].State == "generating", "interrupted orders: %+v, want one", list)
		if again := o.place("https://weak.example/{digits:20}"); again.State != "generated" || again.DecidedBy != "person:bob" {
			t.Errorf("the same again: %+v, want its codes made", again)
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
