package client

import (
	"context"
	"time"
)

// Order is an order of codes by a person, with its state.
type Order struct {
	Account  string `json:"account"`
	ISV      string `json:"isv_application_id"`
	Count    int64  `json:"code_count"`
	Text     string `json:"text,omitempty" doc:"how its texts are written; none = prefix and secret"`
	TextBits int    `json:"text_bits" doc:"what such a text costs to guess, in bits"`
	Weak     bool   `json:"weak,omitempty" doc:"that is less than 40, so the text never shows that a product is genuine"`
	Sample   string `json:"sample,omitempty" doc:"of a dry run: what a text looks like; it opens nothing"`
	Revised
	State         string     `json:"state" enum:"tried,waits,refused,making,made" doc:"tried: of a dry run"`
	RequestedBy   string     `json:"requested_by"`
	CreatedAt     time.Time  `json:"created_at"`
	DecidedBy     string     `json:"decided_by,omitempty"`
	DecidedAt     *time.Time `json:"decided_at,omitempty"`
	ApplicationID int64      `json:"application_id,omitempty" doc:"once its codes are made"`
	Active        int64      `json:"active" doc:"codes that are active now, of the first 1,000 runs"`
	Packages      int64      `json:"packages" doc:"packages for printers, of the first 1,000"`
	Fetched       int64      `json:"fetched" doc:"of these, packages whose file was fetched"`
}

// OrderList are orders.
type OrderList struct {
	Orders []Order `json:"orders"`
	Total  int     `json:"total" doc:"on all pages"`
}

// OrderPut is a request for codes.
type OrderPut struct {
	Count  int64  `json:"code_count" doc:"a multiple of 10,000"`
	ISV    string `json:"isv_application_id" minLength:"1" maxLength:"128" doc:"a number of the account's own: the same again is the same order"`
	Text   string `json:"text,omitempty" maxLength:"2048" doc:"how the texts of the codes are written, fixed for ever: {prefix}, {gtin}, {given:N}, {serial}, {number:FIRST}, and one of {secret} and {digits:N}; none = {prefix}{secret}"`
	GTIN   string `json:"gtin,omitempty" maxLength:"14" doc:"for {gtin}: 8, 12, 13 or 14 digits, padded to 14"`
	Given  string `json:"given,omitempty" maxLength:"64" doc:"for {given:N}: N digits"`
	Weak   bool   `json:"weak,omitempty" doc:"take a text that costs less than 40 bits to guess: it never shows that a product is genuine"`
	DryRun bool   `json:"dry_run,omitempty" doc:"ask for nothing: the answer says what a text looks like and what it costs to guess"`
}

// OrderDecision approves or rejects an order.
type OrderDecision struct {
	ISV   string `json:"isv_application_id" minLength:"1" maxLength:"128"`
	Agree bool   `json:"agree"`
	// Revision is the revision of the order that the caller read.
	Revision string `json:"revision,omitempty" maxLength:"64" doc:"of the order that was read: 409 where the order is another meanwhile, and where who agrees leaves it out"`
}

// List lists the orders of an account, or of all accounts if account is "", newest first, after the first offset orders; at most
// limit, or the server's default page size if limit is 0.
func (c OrdersService) List(ctx context.Context, account string, offset, limit int) (OrderList, error) {
	return get[OrderList](ctx, c.transport, withQuery("orders", params{"account": account, "offset": offset, "limit": limit}))
}

// Create orders codes; the server produces them immediately, unless the setting order_approval_required requires the approval of a
// second person. If another order has the number already, the result is a *Problem with status 409.
func (c OrdersService) Create(ctx context.Context, account string, p OrderPut) (Order, error) {
	return post[Order](ctx, c.transport, accountPath(account, "orders"), p)
}

// Decide approves or rejects an order. A *Problem with status 409 means that the order has been decided already, that it has
// changed since it was read, or that its author may not approve it.
func (c OrdersService) Decide(ctx context.Context, account string, d OrderDecision) (Order, error) {
	return post[Order](ctx, c.transport, accountPath(account, "orders", "decisions"), d)
}
