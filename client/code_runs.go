package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// CodeRun is a run of codes that are in the same state.
type CodeRun struct {
	CodeRange
	Active     bool         `json:"active"`
	Frozen     bool         `json:"frozen"`
	Void       bool         `json:"void"`
	Redeemed   bool         `json:"redeemed"`
	Activation int64        `json:"activation,omitempty" answer:"optional" doc:"seq of the event that governs them"`
	Binding    *CodeBinding `json:"binding,omitempty" answer:"optional"` // nil: they are not active
	Alarmed    []int64      `json:"alarmed,omitempty" answer:"optional" doc:"which of them have an alarm that nobody dismissed"`
}

// CodeRuns are the states of the codes of a range.
type CodeRuns struct {
	Runs []CodeRun `json:"runs" doc:"in order, without gaps"`
	More bool      `json:"more" doc:"the range has others: go on after the last"`
}

func rangeQuery(r CodeRange) url.Values {
	query := url.Values{"from": {strconv.FormatInt(r.From, 10)}}
	if r.To > 0 {
		query.Set("to", strconv.FormatInt(r.To, 10))
	}
	return query
}

// ListRuns returns the states of the codes of a range now; a To of 0 is the end of the application. It returns
// at most limit runs, 0 = as many as the server likes to give, and More where there are further ones.
func (c CodesService) ListRuns(ctx context.Context, id int64, r CodeRange, limit int) (runs CodeRuns, err error) {
	query := rangeQuery(r)
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	err = c.admin(ctx, http.MethodGet, batchPath(id, "runs")+"?"+query.Encode(), nil, &runs)
	return runs, err
}

// Export writes the codes of a range to w as CSV, 50,000 at most: index, code and code text.
// After an error what was written is incomplete.
func (c CodesService) Export(ctx context.Context, id int64, r CodeRange, w io.Writer) error {
	query := url.Values{"from": {strconv.FormatInt(r.From, 10)}, "to": {strconv.FormatInt(r.To, 10)}}
	return c.pour(ctx, request{method: http.MethodGet, path: "/admin/v1/" + batchPath(id, "codes"), query: query,
		bearer: c.options.AdminToken}, "text/csv", w)
}
