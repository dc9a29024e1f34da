package client

import (
	"context"
	"net/http"
	"time"
)

// Drill is the result of a restore drill of an archive.
type Drill struct {
	OK      bool       `json:"ok"`
	Problem string     `json:"problem,omitempty" answer:"optional" maxLength:"1000"` // what went wrong; "" where nothing did
	Archive *time.Time `json:"archive,omitempty" answer:"optional"`                  // when it was made; nil: not known
	Rows    int64      `json:"rows,omitempty" answer:"optional" minimum:"0"`         // restored
	Rules   int64      `json:"rules,omitempty" answer:"optional" minimum:"0"`
	Codes   int64      `json:"codes,omitempty" answer:"optional" minimum:"0"` // made, read and found again
}

// RecordDrill notes in the audit log what a drill found, so that the console and doctor
// say when the last one was.
func (c ArchiveService) RecordDrill(ctx context.Context, d Drill) error {
	return c.admin(ctx, http.MethodPost, "drills", d, &d)
}
