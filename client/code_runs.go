package client

import (
	"context"
	"io"
	"net/http"
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
	OpenAlarms []int64      `json:"open_alarms,omitempty" answer:"optional" doc:"which of them have an alarm that nobody dismissed"`
}

// CodeRuns are the states of the codes of a range.
type CodeRuns struct {
	Runs []CodeRun `json:"runs" doc:"in order, without gaps"`
	More bool      `json:"more" doc:"the range has others: go on after the last"`
}

// ListRuns returns the states of the codes of a range now; a To of 0 is the end of the application. It returns
// at most limit runs, 0 = as many as the server likes to give, and More where there are further ones.
func (c CodesService) ListRuns(ctx context.Context, id int64, r CodeRange, limit int) (CodeRuns, error) {
	return get[CodeRuns](ctx, c.transport, withQuery(batchPath(id, "runs"), params{"from": r.From, "to": r.To, "limit": limit}))
}

// Export writes the codes of a range to w as CSV, 50,000 at most: index, code and code text.
// After an error what was written is incomplete.
func (c CodesService) Export(ctx context.Context, id int64, r CodeRange, w io.Writer) error {
	return c.pour(ctx, request{method: http.MethodGet, path: "/admin/v1/" + batchPath(id, "codes"),
		query: params{"from": r.From, "to": r.To}.values(), bearer: c.options.AdminToken}, "text/csv", w)
}
