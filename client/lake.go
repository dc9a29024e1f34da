package client

import (
	"context"
	"time"
)

// LakeVerification compares the scan lake (serve --lake) with the scan log.
type LakeVerification struct {
	Days  []LakeDay  `json:"days" doc:"days of which the ledger forgot something are left out"`
	Nodes []LakeNode `json:"nodes"`
}

// LakeDay compares one day of the scan log with the same day in the lake.
type LakeDay struct {
	Date       string `json:"date"`
	Ledger     int64  `json:"ledger" doc:"scans in the ledger"`
	Lake       int64  `json:"lake" doc:"rows in the lake"`
	Missing    int64  `json:"missing" doc:"scans that the lake should have and has not"`
	Pending    int64  `json:"pending" doc:"scans of the last minute that the lake has not yet"`
	Duplicates int64  `json:"duplicates" doc:"further rows of a scan"`
	Unexpected int64  `json:"unexpected" doc:"scans that the ledger has not"`
	Named      int64  `json:"named" doc:"rows that name a user who was erased"`
}

// Right reports whether the lake matches the scan log on this day.
func (d LakeDay) Right() bool { return d.Missing+d.Duplicates+d.Unexpected+d.Named == 0 }

// LakeNode is the time up to which a node has written its scans to the lake.
type LakeNode struct {
	Node          string    `json:"node"`
	CompleteUntil time.Time `json:"complete_until" doc:"every scan that the node recorded before is in the lake"`
}

// Verify compares the lake with the scan log, from one day to another; if from and to are "", the last seven days. If the server
// writes no lake, the result is a *Problem with status 404.
func (c LakeService) Verify(ctx context.Context, from, to string) (LakeVerification, error) {
	return get[LakeVerification](ctx, c.transport, withQuery("lake/verification", params{"from": from, "to": to}))
}
