package console

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
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

// listPage returns the rows of this page of a list and the address of the next page, "" = last page; s is the word of List for pages.
func (v view) listPage(s spec, list reflect.Value) (rows reflect.Value, next string) {
	parameter, n := s.Key[1:], list.Len()
	switch {
	case s.Name == "offset":
		from, _ := strconv.Atoi(v.Q(parameter))
		from = min(max(from, 0), n)
		if list = list.Slice(from, min(from+pageRows, n)); from+pageRows < n {
			next = strconv.Itoa(from + pageRows)
		}
	case n == pageRows:
		last, _ := fieldOf(list.Index(n-1), s.Name)
		next = fmt.Sprint(last)
	}
	return list, wordIf(next, v.WithQuery(parameter, next)+s.Options[0])
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
	limit, points := max(1, slices.Max(list)), []byte(nil)
	for i, n := range list {
		points = strconv.AppendFloat(points, 1+70*float64(i)/float64(len(list)-1), 'f', 1, 64)
		points = append(strconv.AppendFloat(append(points, ','), 18.5-17*float64(n)/float64(limit), 'f', 1, 64), ' ')
	}
	return string(bytes.TrimSpace(points))
}

// numbered returns a handler that passes a number in the path of the page to serve, or shows an error page without a number.
func numbered(name string, serve func(*request, int64) error) handler {
	return func(v *request) error {
		if n, err := strconv.ParseInt(v.r.PathValue(name), 10, 64); err == nil && n > 0 {
			return serve(v, n)
		}
		return v.nowhere()
	}
}
