package client

import (
	"context"
	"io"
	"net/http"
)

// CodeRun is a range of consecutive codes with the same state.
type CodeRun struct {
	CodeRange
	Active     bool         `json:"active"`
	Frozen     bool         `json:"frozen"`
	Void       bool         `json:"void"`
	Redeemed   bool         `json:"redeemed"`
	Activation int64        `json:"activation,omitempty" answer:"optional" doc:"seq of the activation event that applies to the run"`
	Binding    *CodeBinding `json:"binding,omitempty" answer:"optional"` // Binding is nil if the codes are not active.
	OpenAlarms []int64      `json:"open_alarms,omitempty" answer:"optional" doc:"indexes of the codes with an open alarm, that is, not dismissed"`
}

// CodeRuns contains the states of the codes in a range.
type CodeRuns struct {
	Runs []CodeRun `json:"runs" doc:"runs in index order, without gaps"`
	More bool      `json:"more" doc:"whether the range has more runs; continue after the last index"`
}

// ListRuns returns the current states of the codes in a range; a To of 0 means the end of the application. ListRuns returns at most
// limit ranges (CodeRun), and sets More if ranges are left over; limit 0 selects the server's default page size.
func (c CodesService) ListRuns(ctx context.Context, id int64, r CodeRange, limit int) (CodeRuns, error) {
	return get[CodeRuns](ctx, c.transport, withQuery(batchPath(id, "runs"), params{"from": r.From, "to": r.To, "limit": limit}))
}

// Export writes the codes of a range, at most 50,000, to w as CSV: index, code and code text. After an error, the CSV is incomplete.
func (c CodesService) Export(ctx context.Context, id int64, r CodeRange, w io.Writer) error {
	return c.pour(ctx, request{method: http.MethodGet, path: "/admin/v1/" + batchPath(id, "codes"),
		query: params{"from": r.From, "to": r.To}.values(), bearer: c.options.AdminToken}, "text/csv", w)
}
