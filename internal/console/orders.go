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
	client.OrderList
	Pager          pager
	Account, Count string // as the form begins
}

func (c *Console) orders(v *visit) {
	data := ordersView{Account: v.account(), Count: "10000"}
	offset, ok := v.number("offset")
	if !ok || v.failed(into(&data.OrderList)(v.api.Orders(v.ctx(), v.r.URL.Query().Get("account"), int(offset), pageRows))) {
		return
	}
	data.Pager = v.pages(offset, len(data.Orders), data.Total)
	v.show(http.StatusOK, "orders", data)
}

// changeOrders asks for codes, agrees to an order or refuses it.
func (c *Console) changeOrders(v *visit) {
	text := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	account, isv := text("account"), text("isv")
	count, wrong := strconv.ParseInt(text("count"), 10, 64)
	var one client.Order
	var err error
	switch v.r.FormValue("did") {
	case "ask":
		faults := map[string]string{}
		for name, typed := range map[string]string{"account": account, "isv": isv} {
			if typed == "" {
				faults[name] = v.say("packages.wanted")
			}
		}
		if wrong != nil || count <= 0 || count%10_000 != 0 {
			faults["count"] = v.say("orders.count.wrong")
		}
		if v.wrong(faults) {
			return
		}
		one, err = v.api.PlaceOrder(v.ctx(), account, client.OrderPut{Count: count, ISV: isv})
		if _, is := refused(err, http.StatusNotFound); is {
			v.refuse(http.StatusNotFound, "account", v.say("orders.account.wrong"))
			return
		}
	case "agree", "refuse":
		one, err = v.api.DecideOrder(v.ctx(), account, client.OrderDecision{ISV: isv, Count: count, Agree: v.r.FormValue("did") == "agree"})
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if !v.failed(err) {
		v.redirect(fmt.Sprintf("%s/orders?done=order.%s", Root, one.State))
	}
}
