package console

import (
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

func (pages codePages) orders(v *request) {
	data := ordersView{New: orderForm{v.Account(), client.OrderPut{Count: 10_000}}}
	offset, ok := v.number("offset")
	if !ok || v.failed(storeResult(&data.OrderList)(v.api.Orders.List(v.ctx(), v.r.URL.Query().Get("account"), int(offset), pageRows))) {
		return
	}
	data.Pager = v.pages(offset, len(data.Orders), data.Total)
	v.show(http.StatusOK, "orders", data)
}

// changeOrders creates, approves or rejects an order of codes.
func (pages codePages) changeOrders(v *request) {
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
		if v.showInvalid(faults) {
			return
		}
		if put.Text+put.GTIN+put.FixedDigits != "" && !pages.agreedOnText(v, account, put.OrderPut) {
			return
		}
		order, err = v.api.Orders.Create(v.ctx(), account, put.OrderPut)
		if pages.noAccount(v, err) {
			return
		}
	case "approve", "refuse":
		order, err = v.api.Orders.Decide(v.ctx(), account, client.OrderDecision{ISV: put.ISV, Revision: v.r.FormValue("read"),
			Approve: v.r.FormValue("did") == "approve"})
	default:
		v.fail(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	switch {
	case v.failed(err):
	case v.r.FormValue("did") == "ask" && order.ApplicationID > 0:
		v.redirect(fmt.Sprintf("%s/codes/%d?done=order.%s#activate", Root, order.ApplicationID, order.State))
	default:
		v.redirect(fmt.Sprintf("%s/orders?done=order.%s", Root, order.State))
	}
}

// agreedOnText shows sample texts of a template and how hard they are to guess, and reports whether the visitor confirmed the template.
func (pages codePages) agreedOnText(v *request, account string, put client.OrderPut) bool {
	weak := put.AllowGuessable
	put.DryRun, put.AllowGuessable = true, true // the dry run also accepts weak templates, to show how weak they are
	tried, err := v.api.Orders.Create(v.ctx(), account, put)
	if pages.noAccount(v, err) {
		return false
	}
	if said, is := refused(err, http.StatusUnprocessableEntity); is {
		v.refuse(said.Status, "text", v.problemText(said))
		return false
	}
	if v.failed(err) {
		return false
	}
	if tried.Guessable && !weak {
		v.refuse(http.StatusUnprocessableEntity, "allow_guessable", v.say("orders.text.weak", tried.TextBits))
		return false
	}
	key := "orders.text.sure"
	if tried.Guessable {
		key = "orders.text.sure.weak"
	}
	return v.confirmedText(v.say(key, strings.ReplaceAll(tried.Sample, "\n", " ⏎ "), tried.TextBits), put.ISV)
}

// noAccount reports whether err means that the account of an order does not exist; if so, noAccount shows an error.
func (pages codePages) noAccount(v *request, err error) bool {
	_, is := refused(err, http.StatusNotFound)
	if is {
		v.refuse(http.StatusNotFound, "account", v.say("orders.account.wrong"))
	}
	return is
}
