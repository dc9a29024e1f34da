package client

import (
	"context"
	"time"
)

// RefusedCredential is a wrong credential that was shown several times, and from where.
type RefusedCredential struct {
	// The kind of credential; admin keys count as admin_token.
	Kind    string    `json:"kind" enum:"admin_token,app_secret,scan_key,person,login_link,provider" doc:"what it should be"`
	Name    string    `json:"name,omitempty" doc:"the account or person whose it should be, the admin key that expired, or how a wrong key begins"`
	IP      string    `json:"ip" doc:"the address that it comes from"`
	Count   int64     `json:"count" doc:"how often, since it was first seen"`
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
}

// RefusedCredentialList are those of the last day.
type RefusedCredentialList struct {
	Credentials []RefusedCredential `json:"credentials"`
}

// ListRefused lists the wrong credentials that the answering node saw within the last day, the most frequent
// first. A program with an old key shows up here. A node forgets them when it ends.
func (c AdminKeysService) ListRefused(ctx context.Context) ([]RefusedCredential, error) {
	reply, err := get[RefusedCredentialList](ctx, c.transport, "refused-credentials")
	return reply.Credentials, err
}
