package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// HasRevision is embedded in all objects that the admin API can return individually.
type HasRevision struct {
	// Revision changes whenever the object changes.
	Revision string `json:"revision" doc:"revision, which changes with the object but not with its counts; equal to the ETag of a single object's response"`
}

// ETag returns the revision of the added webhook.
func (w CreatedWebhook) ETag() string { return w.Webhook.Revision }

type revisionKey struct{}

// IfMatch returns a context with which calls change an object only if the object has one of the given revisions. If the object has
// another revision, the call changes nothing, and PreconditionFailed returns the *Problem from the error. Without a revision, or with
// empty revisions, calls change an object unconditionally; "*" matches any revision of an existing object.
//
// The revision must be that of the object that the call changes or extends; for Rules.Create and Orders.Create, this is the
// account. GET calls ignore IfMatch; other calls that do not compare revisions return a *Problem with status 400. docs/admin.md
// lists the calls that compare revisions, and the OpenAPI document contains the header If-Match in their operations.
func IfMatch(ctx context.Context, revisions ...string) context.Context {
	var tags []string
	for _, revision := range revisions {
		if revision != "" {
			tags = append(tags, `"`+revision+`"`)
		}
	}
	return context.WithValue(ctx, revisionKey{}, http.Header{"If-Match": tags})
}

// IfNoneMatch returns a context with which a call only creates objects. If the object exists, the call fails as described for IfMatch.
func IfNoneMatch(ctx context.Context) context.Context {
	return context.WithValue(ctx, revisionKey{}, http.Header{"If-None-Match": {"*"}})
}

// matching adds the headers of IfMatch or IfNoneMatch to a call that changes an object.
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

// ProblemPreconditionFailed is the Type of a *Problem that rejects a change because the object has changed since the caller read it.
const ProblemPreconditionFailed = "urn:qrjump:problem:precondition-failed"

// ObjectChange is a change of an object, from the audit log.
type ObjectChange struct {
	Seq        int64     `json:"seq" doc:"number in the audit log"`
	OccurredAt time.Time `json:"occurred_at"`
	Actor      string    `json:"actor" doc:"AppID, admin, seed, server, person:NAME or key:NAME"`
	Via        string    `json:"via,omitempty" doc:"AppID of the third-party platform that called on behalf of the actor"`
	RID        string    `json:"rid,omitempty" doc:"request ID of the call"`
	Action     string    `json:"action" doc:"add, edit, put, delete, …"`
	Fields     []string  `json:"fields" doc:"names of the changed fields"`
}

// PreconditionFailed returns the problem from an error about an object that changed since the caller read it: Current is the object's
// current state, and Changes lists its latest changes. PreconditionFailed returns nil for an error that does not report a changed object.
func PreconditionFailed(err error) *Problem {
	if p, is := errors.AsType[*Problem](err); is && p.Type == ProblemPreconditionFailed {
		return p
	}
	return nil
}

// Revision returns the current revision of the object; "" means that the object does not exist.
func (p *Problem) Revision() string {
	var currentRevised HasRevision
	_ = json.Unmarshal(p.Current, &currentRevised) // If the object does not exist, the revision stays empty.
	return currentRevised.Revision
}
