package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Revised is part of every thing that the admin API shows by itself.
type Revised struct {
	// Revision is another as soon as the thing is another; "" from an older server.
	Revision string `json:"revision" answer:"optional" doc:"another as soon as the thing is another, and not by what is merely counted of it; the ETag of an answer that shows it alone"`
}

// ETag is the revision of the webhook.
func (w WebhookAdded) ETag() string { return w.Webhook.Revision }

type revisionKey struct{}

// IfMatch returns a context with which calls change a thing only while it has one of
// these revisions. Else nothing is changed, and the error is a *Problem whose
// ChangedMeanwhile is true. Without a revision, or with empty ones, calls change what is
// there, whatever it is.
func IfMatch(ctx context.Context, revisions ...string) context.Context {
	var tags []string
	for _, one := range revisions {
		if one != "" {
			tags = append(tags, `"`+one+`"`)
		}
	}
	return context.WithValue(ctx, revisionKey{}, http.Header{"If-Match": tags})
}

// IfNone returns a context with which a call makes a thing only where there is none; else
// it is as with IfMatch.
func IfNone(ctx context.Context) context.Context {
	return context.WithValue(ctx, revisionKey{}, http.Header{"If-None-Match": {"*"}})
}

// matching puts what IfMatch or IfNone said into a call that changes something.
func matching(ctx context.Context, r *http.Request) {
	said, _ := ctx.Value(revisionKey{}).(http.Header)
	if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/admin/v1/") {
		return
	}
	for name, values := range said {
		if len(values) > 0 {
			r.Header.Set(name, strings.Join(values, ", "))
		}
	}
}

// ProblemChanged is the type of the problem of a change whose thing is another than the
// one that the caller saw.
const ProblemChanged = "urn:qrjump:problem:changed-meanwhile"

// ThingChange is a change of a thing, as the audit log has it.
type ThingChange struct {
	Seq   int64     `json:"seq" doc:"its number in the audit log"`
	At    time.Time `json:"at"`
	Actor string    `json:"actor" doc:"an AppID, admin, seed, server, person:NAME or key:NAME"`
	Via   string    `json:"via,omitempty" doc:"the third-party platform that called for the actor"`
	RID   string    `json:"rid,omitempty" doc:"the request id of the call"`
	Did   string    `json:"did" doc:"add, edit, put, delete, …"`
	What  []string  `json:"what" doc:"the fields that it changed"`
}

// ChangedMeanwhile returns the problem of a change whose thing is another than the one that
// the caller saw: how it is now is in Current, its last changes in Changes. nil for every
// other error.
func ChangedMeanwhile(err error) *Problem {
	if p, is := errors.AsType[*Problem](err); is && p.Type == ProblemChanged {
		return p
	}
	return nil
}

// Revision is that of the thing as it is now; "" = it is gone.
func (p *Problem) Revision() string {
	var now Revised
	_ = json.Unmarshal(p.Current, &now) // what is gone has none
	return now.Revision
}
