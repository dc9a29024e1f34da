package console

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type ordersView struct {
	client.OrderList
	Pager pager
	New   orderForm
}

// orderForm is the form of an order.
type orderForm struct {
	Account string `json:"account"`
	client.OrderPut
}

func (pages codePages) orders(v *request) error {
	data := ordersView{New: orderForm{v.Account(), client.OrderPut{Count: 10_000}}}
	offset, wrong := v.number("offset")
	list, err := v.api.Orders.List(v.ctx(), v.r.URL.Query().Get("account"), int(offset), pageRows)
	data.OrderList, data.Pager = list, v.pages(offset, len(list.Orders), list.Total)
	return v.page("orders", data, cmp.Or(wrong, err))
}

// changeOrders creates, approves or rejects an order of codes.
func (pages codePages) changeOrders(v *request) error {
	var put orderForm
	faults := v.decode(&put, "account code_count isv_application_id text gtin fixed_digits allow_guessable")
	account := put.Account
	var order client.Order
	var err error
	switch v.r.FormValue("did") {
	case "ask":
		for name, typed := range map[string]string{"account": account, "isv_application_id": put.ISV} {
			if typed == "" {
				faults[name] = v.say("packages.wanted")
			}
		}
		if put.Count <= 0 || put.Count%10_000 != 0 {
			faults["code_count"] = v.say("orders.count.wrong")
		}
		if err = v.showInvalid(faults); err == nil && put.Text+put.GTIN+put.FixedDigits != "" {
			err = pages.confirmText(v, account, put.OrderPut)
		}
		if err == nil {
			order, err = pages.create(v, account, put.OrderPut)
		}
	case "approve", "refuse":
		order, err = v.api.Orders.Decide(v.ctx(), account, client.OrderDecision{ISV: put.ISV, Revision: v.r.FormValue("read"),
			Approve: v.r.FormValue("did") == "approve"})
	default:
		return v.reject("fault.form")
	}
	if v.r.FormValue("did") == "ask" && order.ApplicationID > 0 {
		return v.done(fmt.Sprintf("%s/codes/%d?done=order.%s#activate", Root, order.ApplicationID, order.State), err)
	}
	return v.done(fmt.Sprintf("%s/orders?done=order.%s", Root, order.State), err)
}

// confirmText shows sample texts of a template and how hard they are to guess; it returns nil if the visitor confirmed the template.
func (pages codePages) confirmText(v *request, account string, put client.OrderPut) error {
	weak := put.AllowGuessable
	put.DryRun, put.AllowGuessable = true, true // the dry run also accepts weak templates, to show how weak they are
	tried, err := pages.create(v, account, put)
	if said, is := refused(err, http.StatusUnprocessableEntity); is {
		return v.refuse(said.Status, "text", v.problemText(said))
	}
	if err != nil {
		return err
	}
	if tried.Guessable && !weak {
		return v.refuse(http.StatusUnprocessableEntity, "allow_guessable", v.say("orders.text.weak", tried.TextBits))
	}
	key := "orders.text.sure"
	if tried.Guessable {
		key = "orders.text.sure.weak"
	}
	return v.confirmed(v.say(key, strings.ReplaceAll(tried.Sample, "\n", " ⏎ "), tried.TextBits), put.ISV, nil)
}

// create orders codes. If the account does not exist, create shows the form with the error.
func (pages codePages) create(v *request, account string, put client.OrderPut) (client.Order, error) {
	order, err := v.api.Orders.Create(v.ctx(), account, put)
	if _, is := refused(err, http.StatusNotFound); is {
		err = v.refuse(http.StatusNotFound, "account", v.say("orders.account.wrong"))
	}
	return order, err
}
