package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/unsupported"
)

type callsCommand struct {
	operator
	Account   string `placeholder:"APPID"`
	Path      string `placeholder:"PATH"`
	ErrCode   int    `name:"errcode" placeholder:"NUMBER"`
	Failed    bool
	RID       string `name:"rid" placeholder:"RID"`
	Bodies    bool   `short:"b"`
	Limit     int    `default:"50" placeholder:"N"`
	Persisted bool
	Errors    bool
	Before    int64         `placeholder:"NUMBER"`
	Follow    bool          `short:"f"`
	Every     time.Duration `default:"500ms" hidden:""`
}

// Run lists the latest calls, newest last; JSON output has one call per line.
func (c *callsCommand) Run(s *session, qrjump *client.Client) error {
	if c.Persisted || c.Errors || c.Before != 0 {
		return c.printStored(s, qrjump)
	}
	query := client.CallQuery{RID: c.RID, Account: c.Account, Path: c.Path, ErrCode: c.ErrCode, Failed: c.Failed, Limit: c.Limit}
	if c.Follow {
		query.Limit = 1
	}
	page, err := qrjump.Calls.List(s.ctx, query)
	if err != nil {
		if w, ok := errors.AsType[*client.WrongServer](err); ok && w.NoSuchCall {
			return c.printStored(s, qrjump) // without the emulator, read the call log
		}
		return emulated(tr("calls.list_calls"), err)
	}
	if c.Follow {
		query.Limit, query.After = 1000, page.Next
		return c.follow(s, func() ([]client.RecordedCall, bool, error) {
			page, err := qrjump.Calls.List(s.ctx, query)
			if err != nil {
				return nil, false, emulated(tr("calls.follow_calls"), err)
			}
			if page.Missed > 0 {
				printMsg(s.err, "calls.dropped", counted(int(page.Missed), "call"))
			}
			query.After = page.Next
			return page.Calls, len(page.Calls) == query.Limit, nil
		})
	}
	if len(page.Calls) == 0 && c.RID != "" {
		return absent(hintError{error: fault("calls.list_calls_none_of_the", c.RID), next: tr("calls.the_log_of_the_last") + c.RID})
	}
	if err := emptyFor(s, qrjump, tr("calls.list_calls_of"), c.Account, len(page.Calls), nil); err != nil {
		return err
	}
	if len(page.Calls) == 0 && c.isTable() {
		_, err := printMsg(s.err, "calls.none")
		return err
	}
	slices.Reverse(page.Calls)
	return c.lines(s, page.Calls, true)
}

// printStored lists calls, or with --errors a summary of failed calls, from the call log. printStored also prints the searched time range,
// so that the user can search further in older calls.
func (c *callsCommand) printStored(s *session, qrjump *client.Client) error {
	if c.Follow && (c.Errors || c.Before != 0) {
		return misused("calls.follow_prints_what_comes_leave")
	}
	if c.Follow {
		return c.followKept(s, qrjump)
	}
	if c.Errors {
		list, err := qrjump.Calls.ListErrors(s.ctx, c.Account, c.Path, c.ErrCode, c.Before)
		return c.print(s, list, wrapped("calls.list_errors_of_calls", err), func(w io.Writer) {
			if len(list.Errors) == 0 {
				printMsg(s.err, "calls.no_call_failed")
			} else {
				heads := []string{"COUNT", "CODE", "ENDPOINT", "LAST", "RID", "REASON"}
				printRows(w, heads, list.Errors, func(e client.CallError) []string {
					return []string{strconv.Itoa(e.Count), strconv.Itoa(e.ErrCode), e.Endpoint, formatTime(e.LastAt), e.LastRID,
						orDash(e.Detail)}
				})
			}
			printSearched(s.err, list.SearchRange)
		})
	}
	page, err := qrjump.Calls.ListPersisted(s.ctx, client.CallLogQuery{RID: c.RID, Failed: c.Failed, Limit: min(c.Limit, 100),
		CallSearch: client.CallSearch{Account: c.Account, Path: c.Path, ErrCode: c.ErrCode, Before: c.Before}})
	if err != nil {
		return fault("calls.list_calls_2", err)
	}
	if c.isJSON() {
		return c.print(s, page, nil, nil)
	}
	slices.Reverse(page.Calls)
	if len(page.Calls) == 0 {
		printMsg(s.err, "calls.none")
	} else if err := c.lines(s, recorded(page.Calls), true); err != nil {
		return err
	}
	printSearched(s.err, page.SearchRange)
	return nil
}

// printSearched prints which part of the log was searched, and how to search further.
func printSearched(w io.Writer, looked client.SearchRange) {
	if looked.Since != nil {
		printMsg(w, "calls.searched", counted(looked.Examined, "call"), formatTime(*looked.Since), formatTime(*looked.Until))
	}
	if looked.Next != 0 {
		printMsg(w, "calls.older_ones_the_same_with", looked.Next)
	}
}

// recorded converts calls from the call log to the type for printing; the HTTP method stays empty, because the log does not store it.
func recorded(kept []client.Call) []client.RecordedCall {
	return mapped(kept, func(call client.Call) client.RecordedCall {
		return client.RecordedCall{RID: call.RID, OccurredAt: call.OccurredAt, Account: call.Account, IP: call.IP,
			URL: call.Endpoint + textIf(call.Query != "", "?"+call.Query), Request: call.Request, Response: call.Response,
			ErrCode: call.ErrCode, Detail: call.Detail, Duration: call.Duration}
	})
}

// follow prints the calls that next returns, until the command is interrupted. next is called again after a pause, or immediately if there
// are more calls.
func (c *callsCommand) follow(s *session, next func() (calls []client.RecordedCall, more bool, err error)) error {
	for began := false; ; {
		calls, more, err := next()
		if err != nil {
			if s.ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := c.lines(s, calls, !began); err != nil {
			return err
		}
		began = began || len(calls) > 0
		if !more && pause(s.ctx, c.Every) != nil {
			return nil
		}
	}
}

// followKept prints new calls from the call log of all nodes; calls of other nodes appear up to a second late.
func (c *callsCommand) followKept(s *session, qrjump *client.Client) error {
	if c.RID != "" {
		return misused("calls.follow_and_rid_a_call")
	}
	query := client.CallLogQuery{Failed: c.Failed, Limit: 1,
		CallSearch: client.CallSearch{Account: c.Account, Path: c.Path, ErrCode: c.ErrCode}}
	return c.follow(s, func() ([]client.RecordedCall, bool, error) {
		first, newest := query.Limit == 1, query.After
		var come []client.Call
		for query.Before = 0; ; {
			page, err := qrjump.Calls.ListPersisted(s.ctx, query)
			if err != nil {
				return nil, false, fault("calls.follow_calls_2", err)
			}
			newest = max(newest, page.Newest)
			if query.Before = page.Next; first { // the first page has only calls from before this command started
				break
			}
			if come = append(come, page.Calls...); page.Next == 0 {
				break
			}
		}
		query.After, query.Limit = newest, 100
		slices.Reverse(come)
		return recorded(come), false, nil
	})
}

// lines prints one call per line.
func (c *callsCommand) lines(s *session, calls []client.RecordedCall, header bool) error {
	if c.isJSON() {
		e := json.NewEncoder(s.out)
		e.SetEscapeHTML(false)
		for _, call := range calls {
			if err := e.Encode(complete(call)); err != nil {
				return err
			}
		}
		return nil
	}
	const form = "%-25s  %-26s  %-18s  %-6s  %-8s  %s"
	if header && len(calls) > 0 && !withoutHeads {
		fmt.Fprintf(s.out, form+"\n", "TIME", "RID", "ACCOUNT", "CODE", "DURATION", "CALL")
	}
	for _, call := range calls {
		line := fmt.Sprintf(form, formatTime(call.OccurredAt), call.RID, orDash(call.Account), fmt.Sprint(call.ErrCode),
			call.Duration.Round(10*time.Microsecond), strings.TrimSpace(call.Method+" "+callPath(call.URL)))
		if call.Detail != "" {
			line += "  " + call.Detail
		}
		fmt.Fprintln(s.out, plain(line))
		if c.Bodies {
			if _, query, asked := strings.Cut(call.URL, "?"); asked {
				fmt.Fprintln(s.out, plain("  query     "+query))
			}
			c.body(s.out, "sent", call.Request)
			c.body(s.out, "answered", call.Response)
		}
	}
	return nil
}

func (c *callsCommand) body(w io.Writer, kind, text string) {
	if text != "" {
		fmt.Fprintf(w, "  %-9s %s\n", kind, plain(text))
	}
}

// callPath returns the path of a call without its query string.
func callPath(address string) string {
	path, _, _ := strings.Cut(address, "?")
	if readable, err := url.PathUnescape(path); err == nil {
		return readable
	}
	return path
}

// printNotOffered explains a call of an unknown path. For a path of a platform API, printNotOffered describes the API and an alternative.
func printNotOffered(w io.Writer, r reader, call client.Call) {
	if call.ErrCode != errcode.InvalidURL.Number {
		return
	}
	if family, known := unsupported.Lookup(call.Endpoint); known {
		printMsg(w, "why.not_offered", r.msg(family.Is()), r.msg(family.Do()))
		return
	}
	printMsg(w, "why.no_such_path")
}

// evidenceText describes the evidence for a behaviour.
func evidenceText(b client.Behaviour) string {
	words := localizeOr("why.evidence."+b.EvidenceLevel, b.EvidenceLevel)
	if b.Date != "" {
		words += ", " + b.Date
	}
	if b.Old {
		words += tr("why.older_than_three_years")
	}
	return words
}
