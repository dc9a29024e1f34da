package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// orderPages are the page on which codes are ordered, with how far each order is.
func (c *Console) orderPages() map[string]func(*visit) {
	return map[string]func(*visit){"GET /console/orders": c.orders, "POST /console/orders": c.changeOrders}
}

type ordersView struct {
	Orders              []client.Order
	Account, ISV, Count string            // as they were typed
	Faults              map[string]string // by field
	Fault               string
}

func (c *Console) orders(v *visit) {
	v.showOrders(http.StatusOK, ordersView{Account: v.narrowed("account"), Count: "10000"})
}

func (v *visit) showOrders(status int, data ordersView) {
	if !v.failed(into(&data.Orders)(v.api.Orders(v.ctx(), "", pageRows))) {
		v.show(status, "orders", data)
	}
}

// changeOrders asks for codes, agrees to an order or refuses it.
func (c *Console) changeOrders(v *visit) {
	text := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	data := ordersView{Account: text("account"), ISV: text("isv"), Count: text("count"), Faults: map[string]string{}}
	var one client.Order
	var err error
	switch v.r.FormValue("did") {
	case "ask":
		for name, typed := range map[string]string{"account": data.Account, "isv": data.ISV} {
			if typed == "" {
				data.Faults[name] = v.say("packages.wanted")
			}
		}
		count, wrong := strconv.ParseInt(data.Count, 10, 64)
		if wrong != nil || count <= 0 || count%10_000 != 0 {
			data.Faults["count"] = v.say("orders.count.wrong")
		}
		if len(data.Faults) > 0 {
			v.showOrders(http.StatusUnprocessableEntity, data)
			return
		}
		one, err = v.api.PlaceOrder(v.ctx(), data.Account, client.OrderPut{Count: count, ISV: data.ISV})
	case "agree", "refuse":
		seen, _ := strconv.ParseInt(data.Count, 10, 64)
		one, err = v.api.DecideOrder(v.ctx(), data.Account, client.OrderDecision{ISV: data.ISV, Count: seen,
			Agree: v.r.FormValue("did") == "agree"})
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if said, is := refused(err, http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity); is {
		data.Fault = said.Detail
		switch {
		case said.Status == http.StatusNotFound && v.r.FormValue("did") == "ask":
			data.Faults["account"], data.Fault = v.say("orders.account.wrong"), ""
		case strings.HasPrefix(said.Detail, "code_count"):
			data.Faults["count"], data.Fault = said.Detail, ""
		}
		v.showOrders(said.Status, data)
		return
	}
	if !v.failed(err) {
		v.redirect(fmt.Sprintf("%s/orders?done=order.%s", Root, one.State))
	}
}
