package client

import (
	"context"
	"time"
)

// LakeVerification compares the scan lake (serve --lake) with the scan log.
type LakeVerification struct {
	Days  []LakeDay  `json:"days" doc:"results by day; days whose scans were partly removed from the ledger are omitted"`
	Nodes []LakeNode `json:"nodes"`
}

// LakeDay compares one day of the scan log with the same day in the lake.
type LakeDay struct {
	Date       string `json:"date"`
	ScanLog    int64  `json:"scan_log" doc:"scans in the ledger"`
	Lake       int64  `json:"lake" doc:"rows in the data lake"`
	Missing    int64  `json:"missing" doc:"scans that are overdue in the data lake"`
	Pending    int64  `json:"pending" doc:"scans of the last minute that are not in the data lake yet"`
	Duplicates int64  `json:"duplicates" doc:"additional rows of scans that are in the data lake more than once"`
	Unexpected int64  `json:"unexpected" doc:"rows without a scan in the ledger"`
	NotErased  int64  `json:"not_erased" doc:"rows with the hash of an erased user"`
}

// Consistent reports whether the lake matches the scan log on this day.
func (d LakeDay) Consistent() bool { return d.Missing+d.Duplicates+d.Unexpected+d.NotErased == 0 }

// LakeNode is the time up to which a node has written its scans to the lake.
type LakeNode struct {
	Node          string    `json:"node"`
	CompleteUntil time.Time `json:"complete_until" doc:"time before which the data lake has every scan that the node recorded"`
}

// Verify compares the lake with the scan log for the days from "from" to "to"; if both are "", for the last seven days. If the server
// writes no lake, the result is a *Problem with status 404.
func (c LakeService) Verify(ctx context.Context, from, to string) (LakeVerification, error) {
	return get[LakeVerification](ctx, c.transport, withQuery("lake/verification", params{"from": from, "to": to}))
}
