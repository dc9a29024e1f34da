package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Revised is part of every thing that the admin API can show alone.
type Revised struct {
	// Revision differs as soon as the thing changed.
	Revision string `json:"revision" doc:"another as soon as the thing is another, and not by what is merely counted of it; the ETag of an answer that shows it alone"`
}

// ETag returns the revision of the webhook.
func (w WebhookAdded) ETag() string { return w.Webhook.Revision }

type revisionKey struct{}

// IfMatch returns a context with which calls change a thing only if it has one of these revisions.
// Else they change nothing, and ChangedMeanwhile finds the *Problem in the error. Without a
// revision, or with empty ones, calls change a thing whatever its revision is; "*" is any, where the
// thing exists.
//
// A call takes the revision of what it changes, or adds to: Rules.Create and Orders.Create take the account's. Calls
// that compare none fail with a *Problem of status 400, apart from those that are a GET. docs/admin.md has both
// for each method, and the OpenAPI document the header at each operation that takes it.
func IfMatch(ctx context.Context, revisions ...string) context.Context {
	var tags []string
	for _, revision := range revisions {
		if revision != "" {
			tags = append(tags, `"`+revision+`"`)
		}
	}
	return context.WithValue(ctx, revisionKey{}, http.Header{"If-Match": tags})
}

// IfNone returns a context with which a call makes a new thing, and fails as with IfMatch where it
// exists.
func IfNone(ctx context.Context) context.Context {
	return context.WithValue(ctx, revisionKey{}, http.Header{"If-None-Match": {"*"}})
}

// matching puts the headers of IfMatch or IfNone into a call that changes something.
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

// ProblemChanged is the type of the problem that refuses a change because its thing changed since
// the caller saw it.
const ProblemChanged = "urn:qrjump:problem:precondition-failed"

// ThingChange is a change of a thing, as the audit log has it.
type ThingChange struct {
	Seq        int64     `json:"seq" doc:"its number in the audit log"`
	OccurredAt time.Time `json:"occurred_at"`
	Actor      string    `json:"actor" doc:"an AppID, admin, seed, server, person:NAME or key:NAME"`
	Via        string    `json:"via,omitempty" doc:"the third-party platform that called for the actor"`
	RID        string    `json:"rid,omitempty" doc:"the request id of the call"`
	Action     string    `json:"action" doc:"add, edit, put, delete, …"`
	Fields     []string  `json:"fields" doc:"the fields that it changed"`
}

// ChangedMeanwhile returns the problem in an error that says that a thing changed since the caller
// saw it: Current has the thing as it is now, Changes its last changes. It returns nil for every
// other error.
func ChangedMeanwhile(err error) *Problem {
	if p, is := errors.AsType[*Problem](err); is && p.Type == ProblemChanged {
		return p
	}
	return nil
}

// Revision returns the revision of the thing as it is now; "" = it does not exist.
func (p *Problem) Revision() string {
	var currentRevised Revised
	_ = json.Unmarshal(p.Current, &currentRevised) // a thing that does not exist has none
	return currentRevised.Revision
}
