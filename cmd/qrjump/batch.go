package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// aboutBatch adds to an error the failed action and the id of the batch of codes (on the wire API: the application).
func aboutBatch(did string, id int64, err error) error {
	return aboutCodes(doing(did, number(id)), err)
}

// aboutStored adds to the error of an operator's command the action, the batch id and, if the batch does not exist, a similar id.
func aboutStored(s *session, operator *client.Client, did string, id int64, err error) error {
	return aboutStoredCodes(s, operator, doing(did, number(id)), id, err)
}

// aboutStoredCodes adds advice to the error of an operator's command about the codes of a batch; id is 0 if the command names no batch.
func aboutStoredCodes(s *session, operator *client.Client, did string, id int64, err error) error {
	if id == 0 || !isNotFound(err) {
		return aboutCodes(did, err)
	}
	list, listErr := operator.Batches.List(s.ctx, client.BatchQuery{Limit: 1000})
	storedNumbers := mapped(list, func(b client.Batch) int64 { return b.ID })
	if listErr != nil || slices.Contains(storedNumbers, id) {
		return aboutCodes(did, err) // no suggestion if the list cannot be read, or if the application exists and another object is missing
	}
	return hintError{error: fault("batch.of", did, err, nearNumber(id, storedNumbers)), next: tr("batch.see_qrjump_batch_list")}
}

// aboutCodes adds advice to the error of a call about codes; in a call about rules, the same errcode can have other advice.
func aboutCodes(did string, err error) error {
	if err == nil {
		return nil
	}
	happened := fault("batch.of_2", did, err)
	if isNotFound(err) {
		return hintError{error: happened, next: tr("batch.see_qrjump_batch_list")}
	}
	w, ok := errors.AsType[*client.WireError](err)
	if !ok {
		return happened
	}
	switch w.Code {
	case errcode.InvalidArgs.Number:
		return hintError{error: happened} // the error message is specific enough
	case errcode.NoApplication.Number, errcode.NotOwnApplication.Number:
		return hintError{error: happened, next: tr("batch.this_account_has_no_such")}
	case errcode.Unauthorized.Number:
		return hintError{error: happened, next: tr("batch.codes_want_a_certified_service") + w.RID}
	}
	if key := "next.codes." + strconv.Itoa(w.Code); catalog.Has(key) {
		return hintError{error: happened, next: tr(key)}
	}
	return happened
}

// If the operator's API is available, unauthorized adds to an error with errcode 48001 the condition that the account does not meet.
func (m member) unauthorized(s *session, admin adminFlags, err error) error {
	w, ok := errors.AsType[*client.WireError](err)
	if !ok || w.Code != errcode.Unauthorized.Number || w.RID == "" {
		return err
	}
	operator, opErr := m.asOperator(admin)
	if opErr != nil {
		return err
	}
	// This call only adds detail to the error; if the call fails, the original error is returned unchanged.
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	if call, callErr := operator.Calls.Get(ctx, w.RID); callErr == nil && call.Detail != "" {
		return hintError{error: err, next: call.Detail}
	}
	return err
}

// wxaTypes maps each version of a Mini Program that codes can open to its number in the wire API.
var wxaTypes = map[string]int{"release": 0, "development": 1, "trial": 2}

func wxaTypeName(number int) string {
	for name, n := range wxaTypes {
		if n == number {
			return name
		}
	}
	return strconv.Itoa(number)
}

func countedCodes(n int64) string { return counted(int(n), "code") }

type batchApply struct {
	member
	adminFlags
	Count       int64  `arg:""`
	ISV         string `name:"isv" required:"" placeholder:"ID"`
	ForApproval bool
	templateFlags
}

// templateFlags holds the flags for the template from which the server makes the code texts of an order.
type templateFlags struct {
	Text           string `placeholder:"TEMPLATE"`
	GTIN           string `name:"gtin" placeholder:"GTIN"`
	FixedDigits    string `placeholder:"DIGITS"`
	AllowGuessable bool
	DryRun         bool
}

// Run applies for codes.
func (c *batchApply) Run(s *session) error {
	if c.ForApproval || c.templateFlags != (templateFlags{}) {
		return c.order(s)
	}
	wire, err := c.client(s)
	if err != nil {
		return err
	}
	id, err := wire.Wire.ApplyCodes(s.ctx, c.Count, c.ISV)
	return c.outcome(s, map[string]any{"application_id": id, "isv_application_id": c.ISV},
		c.unauthorized(s, c.adminFlags, aboutCodes(tr("batch.apply_for")+countedCodes(c.Count), err)),
		"batch.progress", id, id)
}

// order places an order through the admin API: another person may have to approve the order, and only the admin API accepts text templates.
func (c *batchApply) order(s *session) error {
	if c.AppID == "" {
		return misused("batch.missing_account")
	}
	operator, err := c.asOperator(c.adminFlags)
	if err != nil {
		return err
	}
	return c.place(s, c.outputFlags, operator, c.AppID, client.OrderPut{Count: c.Count, ISV: c.ISV})
}

// place orders codes with the text template from the flags; with --dry-run, place only prints a sample text.
func (f templateFlags) place(s *session, o outputFlags, operator *client.Client, appid string, put client.OrderPut) error {
	put.Text, put.GTIN, put.FixedDigits, put.AllowGuessable, put.DryRun = f.Text, f.GTIN, f.FixedDigits, f.AllowGuessable, f.DryRun
	order, err := operator.Orders.Create(s.ctx, appid, put)
	switch {
	case err != nil:
		return failed(tr("batch_order.order_codes_for"), appid, err)
	case f.DryRun:
		return o.outcome(s, order, nil, "batch.text_would_look_like", order.Sample, order.TextBits)
	case f.Text == "":
		return o.outcome(s, order, nil, "plain", orderState(order))
	}
	return o.outcome(s, order, nil, "batch.text_costs_bits", orderState(order), order.Text, order.TextBits)
}

type batchShow struct {
	member
	adminFlags
	ID  int64  `arg:"" optional:"" name:"id"`
	ISV string `name:"isv" placeholder:"ID"`
}

// Run shows the progress of an application for codes, and its downloads.
func (c *batchShow) Run(s *session, wire *client.Client) error {
	if c.ID == 0 && c.ISV == "" {
		return misused("batch.which_application_give_its_id")
	}
	a, err := wire.Wire.GetApplication(s.ctx, client.ApplicationKey{ID: c.ID, ISV: c.ISV})
	if err != nil && c.ID == 0 {
		return aboutCodes(doing("show", c.ISV), err)
	}
	if err != nil {
		return aboutBatch("show", c.ID, err)
	}
	form, known := c.textOf(s, a.ID)
	shown := struct {
		client.Application
		Text     string `json:"text,omitempty"`
		TextBits int    `json:"text_bits,omitempty"`
	}{a, form.Text, form.TextBits}
	return c.print(s, shown, nil, func(w io.Writer) {
		var ready int64
		rows := [][]string{}
		for _, r := range a.Segments {
			ready += r.Len()
			rows = append(rows, []string{number(r.From), number(r.To), number(r.Len())})
		}
		printFields(w, [2]string{"application", number(a.ID)}, [2]string{"isv", a.ISV}, [2]string{"status", a.Status},
			[2]string{"ready", countedCodes(ready) + " in " + counted(len(a.Segments), "segment")},
			[2]string{"created", formatTime(a.CreatedAt)}, [2]string{"updated", formatTime(a.UpdatedAt)})
		if known {
			printFields(w, [2]string{"text", strconv.Quote(cmp.Or(form.Text, "{prefix}{secret}"))},
				[2]string{"guess", fmt.Sprintf("%d bits", form.TextBits)})
		}
		if len(rows) > 0 {
			fmt.Fprintln(w)
			printTable(w, []string{"FROM", "TO", "CODES"}, rows)
		}
	})
}

// textOf reads the batch, which contains the template of the code texts, from the operator's API. If the API is unavailable or the codes
// are imported, known is false, and the caller omits the template.
func (c *batchShow) textOf(s *session, id int64) (b client.Batch, known bool) {
	if isPlatform(c.Server) && c.AdminServer == "" {
		return b, false
	}
	operator, err := c.asOperator(c.adminFlags)
	if err != nil {
		return b, false
	}
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	b, err = operator.Batches.Get(ctx, id)
	return b, err == nil && !b.Imported
}

type batchList struct {
	operator
	Account string `placeholder:"APPID"`
}

// Run lists all applications, page by page.
func (c *batchList) Run(s *session, qrjump *client.Client) error {
	const page = 1000
	all, err := everyPage(page, func(lastBatch client.Batch) ([]client.Batch, error) {
		return qrjump.Batches.List(s.ctx, client.BatchQuery{Account: c.Account, After: lastBatch.ID, Limit: page})
	})
	return listing[client.Batch]{name: "batches", none: tr("batch.no_applications_the_first_qrjump"),
		heads: []string{"ID", "ACCOUNT", "ISV", "STATUS", "CREATED", "PREFIX", "CODES", "FROZEN", "VOID", "REDEEMED"},
		row: func(b client.Batch) []string {
			return []string{number(b.ID), b.Account, b.ISV, b.Status, formatTime(b.CreatedAt), b.Prefix, number(b.Count), number(b.Frozen),
				number(b.Void), number(b.Redeemed)}
		}}.print(s, c.outputFlags, all, emptyFor(s, qrjump, tr("batch.list_applications_of"), c.Account, len(all),
		failed("list", "applications", err)))
}

// codePage is the page that activated codes open.
type codePage struct {
	Target string `required:"" placeholder:"APPID"`
	Path   string `required:"" placeholder:"PAGE"`
	Type   string `enum:"release,development,trial" default:"release" placeholder:"release|development|trial"`
}

type batchActivate struct {
	member
	adminFlags
	ID    int64    `arg:"" name:"id"`
	Range []string `arg:"" name:"range"`
	bindingFlags
}

// Run binds a range of codes to a page.
func (c *batchActivate) Run(s *session, wire *client.Client) error {
	r, all, err := parseRange(c.Range)
	if err != nil {
		return err
	}
	if all {
		if r, err = wholeOf(s, wire, c.ID); err != nil {
			return aboutBatch("activate", c.ID, err)
		}
	}
	if err := wire.Wire.ActivateCodes(s.ctx, c.ID, r, c.binding()); err != nil {
		return aboutBatch("activate "+rangeText(r)+" of", c.ID, err)
	}
	answer := map[string]any{"application_id": c.ID, "action": "activate", "codes": r.Len()}
	closed, err := c.closed(s, r)
	known := err == nil
	if known {
		answer["opens"], answer["void"], answer["frozen"], answer["recalled"] = r.Len()-closed.all(), closed.void, closed.frozen,
			closed.recalled
	}
	return c.print(s, answer, nil, func(w io.Writer) {
		fmt.Fprint(w, tr("batch.activated_of", countedCodes(r.Len()), c.ID))
		switch {
		case !known:
			printMsg(w, "batch.those_that_are_not_void", plain(c.Path), plain(c.Target))
		case closed.all() == 0:
			printMsg(w, "batch.all_of_them_open_of", plain(c.Path), plain(c.Target))
		default:
			printMsg(w, "batch.open_of_stay_void_frozen",
				r.Len()-closed.all(), plain(c.Path), plain(c.Target), closed.void, closed.frozen, closed.recalled)
		}
	})
}

// closedCodes counts the activated codes of a range that still open nothing.
type closedCodes struct{ void, frozen, recalled int64 }

func (c closedCodes) all() int64 { return c.void + c.frozen + c.recalled }

// closed asks the operator's API for the numbers of codes that open nothing: void codes, frozen codes, and codes of recalled packages.
func (c *batchActivate) closed(s *session, r client.CodeRange) (n closedCodes, err error) {
	operator, err := c.asOperator(c.adminFlags)
	if err != nil {
		return n, err
	}
	// a failure of this call is tolerated, because the codes are already activated
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	list, err := everyPackage(ctx, operator, client.PackageQuery{ApplicationID: c.ID})
	if err != nil {
		return n, err
	}
	var recalled []codes.Range
	for _, p := range list {
		if p.RecalledAt != nil {
			recalled = append(recalled, codes.Range{From: p.From, To: p.To})
		}
	}
	byRecall := codes.NewSet(recalled...)
	for from := r.From; from <= r.To; {
		runs, err := operator.Codes.ListRuns(ctx, c.ID, client.CodeRange{From: from, To: r.To}, 0)
		if err != nil {
			return n, err
		}
		for _, run := range runs.Runs {
			// a run can end after r.To: ListRuns takes the range 0-0 for the whole batch
			from, run.To = run.To+1, min(run.To, r.To)
			switch {
			case run.Void:
				n.void += run.Len()
			case run.Frozen:
				for pos := run.From; pos <= run.To; pos++ {
					if byRecall.Contains(pos) {
						n.recalled++
					} else {
						n.frozen++
					}
				}
			}
		}
		if !runs.More || len(runs.Runs) == 0 {
			break
		}
	}
	return n, nil
}

type batchRetarget struct {
	operator
	ID    int64    `arg:"" name:"id"`
	Range []string `arg:"" name:"range"`
	Actor string   `placeholder:"WHO"`
	codePage
}

// Run changes the page that the active codes of a range open.
func (c *batchRetarget) Run(s *session, qrjump *client.Client) error {
	r, err := rangeOf(s, qrjump, c.ID, c.Range, "retarget")
	if err != nil {
		return err
	}
	page := client.CodeBinding{WxaAppID: c.Target, WxaPath: c.Path, WxaType: wxaTypes[c.Type]}
	done, err := qrjump.Codes.Retarget(s.ctx, c.ID, r, page, c.Actor)
	return c.print(s, map[string]any{"application_id": c.ID, "action": "retarget", "activations": done.Activations, "codes": done.Codes,
		"changed": done.Changed}, aboutStored(s, qrjump, "retarget "+rangeText(r)+" of", c.ID, err), func(w io.Writer) {
		if done.Activations == 0 {
			printMsg(w, "batch.nothing_is_active_in_of", rangeText(r), c.ID)
			return
		}
		opens := textOr(done.Changed != done.Codes, tr("batch.of_open", done.Changed, countedCodes(done.Codes)),
			tr("batch.each_code_opens"))
		printMsg(w, "batch.renewed_of_of", counted(done.Activations, "activation"), c.ID, opens, plain(c.Path), plain(c.Target))
	})
}

// orderState describes the state of an order, and the next step.
func orderState(o client.Order) string {
	switch o.State {
	case "pending_approval":
		return tr("batch_order.waiting_for_approval", o.ISV, o.Account, o.Account, o.Revision, shellWord(o.ISV))
	case "rejected":
		return tr("batch_order.refused_order_of", o.DecidedBy, o.ISV, o.Account)
	case "generating":
		return tr("batch_order.approved_without_codes", o.ISV, o.Account)
	}
	return tr("batch_order.application_next_qrjump_batch_schedule", o.ApplicationID)
}

// orderDecision holds the arguments of approve and reject, including the revision of the order that the user has read.
type orderDecision struct {
	operator
	AppID    string `arg:"" name:"appid"`
	Revision string `arg:""`
	ISV      string `name:"isv" required:"" placeholder:"ID"`
}

// Run approves the order, so that its codes are made, or rejects it, as the name of the command says.
func (c *orderDecision) Run(s *session, qrjump *client.Client, chosen *kong.Context) error {
	order, err := qrjump.Orders.Decide(s.ctx, c.AppID, client.OrderDecision{ISV: c.ISV, Revision: c.Revision,
		Approve: chosen.Selected().Name == "approve"})
	return c.outcome(s, order, failed(tr("batch_order.decide_order")+c.ISV+" of", c.AppID, err), "plain", orderState(order))
}

type batchOrders struct {
	operator
	Account string `placeholder:"APPID"`
}

// Run lists orders with their states.
func (c *batchOrders) Run(s *session, qrjump *client.Client) error {
	all := []client.Order{}
	for hasMore := true; hasMore; {
		page, err := qrjump.Orders.List(s.ctx, c.Account, len(all), 1000)
		if err != nil {
			return failed("list", "orders", err)
		}
		all = append(all, page.Orders...)
		hasMore = len(page.Orders) > 0 && len(all) < page.Total
	}
	return listing[client.Order]{name: "orders", none: tr("batch_order.none"), newestFirst: true,
		heads: []string{"ACCOUNT", "ISV", "CODES", "TEXT", "REQUESTED BY", "STATE", "REVISION", "DECIDED BY", "APPLICATION",
			"ACTIVE", "PACKAGES", "DOWNLOADED"},
		row: func(o client.Order) []string {
			return []string{o.Account, o.ISV, number(o.Count), orDash(o.Text), o.RequestedBy, o.State, o.Revision,
				orDash(o.DecidedBy), numberOrNone(o.ApplicationID), number(o.Active), number(o.Packages), number(o.Downloaded)}
		}}.print(s, c.outputFlags, all, nil)
}
