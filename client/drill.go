package client

import (
	"context"
	"net/http"
	"time"
)

// Drill is the result of a restore drill of an archive.
type Drill struct {
	OK      bool       `json:"ok"`
	Problem string     `json:"problem,omitempty" answer:"optional" maxLength:"1000"` // The error; "" if the drill succeeded.
	Archive *time.Time `json:"archive,omitempty" answer:"optional"`                  // Creation time of the archive; nil if unknown.
	Rows    int64      `json:"rows,omitempty" answer:"optional" minimum:"0"`         // restored
	Rules   int64      `json:"rules,omitempty" answer:"optional" minimum:"0"`
	// Number of codes that were generated, read and looked up again.
	Codes int64 `json:"codes,omitempty" answer:"optional" minimum:"0"`
}

// RecordDrill records the result of a drill in the audit log, so that the console and the command doctor can show the last drill.
func (c ArchiveService) RecordDrill(ctx context.Context, d Drill) error {
	return c.admin(ctx, http.MethodPost, "drills", d, &d)
}
