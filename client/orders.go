package client

import (
	"context"
	"time"
)

// Order is a person's order for codes, with its state.
type Order struct {
	Account   string `json:"account"`
	ISV       string `json:"isv_application_id"`
	Count     int64  `json:"code_count"`
	Text      string `json:"text,omitempty" doc:"template of the code texts; empty = prefix and secret"`
	TextBits  int    `json:"text_bits" doc:"entropy of a code text in bits"`
	Guessable bool   `json:"guessable,omitempty" doc:"whether a code text has less than 40 bits of entropy, so that it never shows that a product is genuine"`
	Sample    string `json:"sample,omitempty" doc:"example of a code text, for a dry run; it opens nothing"`
	HasRevision
	State         string     `json:"state" enum:"dry_run,pending_approval,rejected,generating,generated"`
	RequestedBy   string     `json:"requested_by"`
	CreatedAt     time.Time  `json:"created_at"`
	DecidedBy     string     `json:"decided_by,omitempty"`
	DecidedAt     *time.Time `json:"decided_at,omitempty"`
	ApplicationID int64      `json:"application_id,omitempty" doc:"application_id, after the codes are generated"`
	Active        int64      `json:"active" doc:"number of active codes, counted in the first 1,000 runs"`
	Packages      int64      `json:"packages" doc:"number of printers' packages, at most 1,000"`
	Downloaded    int64      `json:"downloaded_packages" doc:"number of these packages that were downloaded"`
}

// OrderList are orders.
type OrderList struct {
	Orders []Order `json:"orders"`
	Total  int     `json:"total" doc:"number of orders on all pages"`
}

// OrderPut is a request for codes.
type OrderPut struct {
	Count          int64  `json:"code_count" doc:"number of codes, a multiple of 10,000"`
	ISV            string `json:"isv_application_id" minLength:"1" maxLength:"128" doc:"idempotency key chosen by the account"`
	Text           string `json:"text,omitempty" maxLength:"2048" doc:"template of the code texts, which cannot change later: {prefix}, {gtin}, {given:N}, {serial}, {number:FIRST}, and one of {secret} and {digits:N}; {digits:4} to {digits:8} give each code a PIN under a scratch layer; default: {prefix}{secret}"`
	GTIN           string `json:"gtin,omitempty" maxLength:"14" doc:"value of {gtin}: 8, 12, 13 or 14 digits, padded to 14"`
	FixedDigits    string `json:"fixed_digits,omitempty" maxLength:"64" doc:"N digits for {given:N}"`
	AllowGuessable bool   `json:"allow_guessable,omitempty" doc:"accept code texts with less than 40 bits of entropy, which never show that a product is genuine"`
	DryRun         bool   `json:"dry_run,omitempty" doc:"if true, creates no order and returns an example of a code text with its entropy"`
}

// OrderDecision approves or rejects an order.
type OrderDecision struct {
	ISV     string `json:"isv_application_id" minLength:"1" maxLength:"128"`
	Approve bool   `json:"approve"`
	// Revision is the revision of the order that the caller read.
	Revision string `json:"revision,omitempty" maxLength:"64" doc:"revision of the order that was read; 409 if the order has changed or if an approval omits it"`
}

// OrderQuery selects orders, newest first.
type OrderQuery struct {
	Account string `query:"account" maxLength:"128"`
	Making  bool   `query:"making" doc:"only approved orders whose codes are not generated yet, at most 1,000"`
	Offset  int    `query:"offset" minimum:"0" maximum:"1000000000" doc:"number of orders to skip"`
	Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// List lists orders of an account, or of all accounts if account is "", newest first. List skips offset orders and returns at most
// limit orders, or the server's default page size if limit is 0.
func (c OrdersService) List(ctx context.Context, account string, offset, limit int) (OrderList, error) {
	return OpListOrders.call(ctx, c.transport, OrderQuery{Account: account, Offset: offset, Limit: limit})
}

// Create orders codes; the server produces them immediately, unless the setting order_approval_required requires the approval of a
// second person. If the account has a different order with the same ISV number, the result is a *Problem with status 409.
func (c OrdersService) Create(ctx context.Context, account string, p OrderPut) (Order, error) {
	return OpCreateOrder.call(ctx, c.transport, p, account)
}

// Decide approves or rejects an order. A *Problem with status 409 means that the order has been decided already, that it has
// changed since it was read, or that its author may not approve it.
func (c OrdersService) Decide(ctx context.Context, account string, d OrderDecision) (Order, error) {
	return OpDecideOrder.call(ctx, c.transport, d, account)
}
