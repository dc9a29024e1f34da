package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// narrowed returns the AppID for a list of a single account: the AppID in the URL, or the first account that the visitor may see.
func (v *request) narrowed(name string) string {
	asked := cmp.Or(strings.TrimSpace(v.r.URL.Query().Get(name)), v.Account())
	if asked != "" || len(v.caller.Accounts) == 0 {
		return asked
	}
	return v.caller.Accounts[0]
}

const pageRows = 50

// shown returns the rows of one page of a list, starting at the offset in a query parameter; next is the offset of the next page,
// "" = last page.
func shown[T any](v *request, field string, list []T) (items []T, next string) {
	from, _ := strconv.Atoi(v.r.URL.Query().Get(field))
	from = min(max(from, 0), len(list))
	to := min(from+pageRows, len(list))
	if to < len(list) {
		next = strconv.Itoa(to)
	}
	return list[from:to], next
}

// lastKey returns the key of the last row, after which the next page starts, or the zero value if the rows do not fill a page.
func lastKey[T, K any](list []T, key func(T) K) (last K) {
	if len(list) == pageRows {
		last = key(list[pageRows-1])
	}
	return last
}

// pager contains the links to the previous and next page of a list.
type pager struct {
	From, To, All int64  // the numbers of the first and last shown row, counted from 1, and the total; All 0 = unknown
	Earlier       string // address of the previous page; "" = this page is the first
	Later         string
}

// pages returns the pager of a list that is paged by offset.
func (v *request) pages(offset int64, shown, all int) pager {
	p, last := pager{From: offset + 1, To: offset + int64(shown), All: int64(all)}, int64(all)
	if offset > 0 {
		p.Earlier = view{request: v}.WithQuery("offset", nonzero(max(offset-pageRows, 0)))
	}
	if p.To < last && shown > 0 {
		p.Later = view{request: v}.WithQuery("offset", strconv.FormatInt(p.To, 10))
	}
	return p
}

// nonzero formats a number, with "" for 0.
func nonzero(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// spark returns the SVG points of a 72 by 20 sparkline whose top is the maximum of the numbers.
func spark(list []int64) string {
	if len(list) < 2 {
		return ""
	}
	limit, b := max(1, slices.Max(list)), strings.Builder{}
	for i, n := range list {
		fmt.Fprintf(&b, "%.1f,%.1f ", 1+70*float64(i)/float64(len(list)-1), 18.5-17*float64(n)/float64(limit))
	}
	return strings.TrimSpace(b.String())
}

// numbered returns a handler that passes a number in the path of the page to serve, or shows an error page without a number.
func numbered(name string, serve func(*request, int64)) func(*request) {
	return func(v *request) {
		if n, err := strconv.ParseInt(v.r.PathValue(name), 10, 64); err == nil && n > 0 {
			serve(v, n)
		} else {
			v.fail(http.StatusNotFound, v.say("fault.nowhere"))
		}
	}
}
