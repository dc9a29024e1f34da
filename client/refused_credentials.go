package client

import (
	"context"
	"time"
)

// RefusedCredential is an invalid credential that was sent several times, with the address that sent it.
type RefusedCredential struct {
	// Kind is the kind of credential; admin keys count as admin_token.
	Kind    string    `json:"kind" enum:"admin_token,app_secret,scan_key,person,login_link,provider" doc:"what it should be"`
	Name    string    `json:"name,omitempty" doc:"the account or person whose it should be, the admin key that expired, or how a wrong key begins"`
	IP      string    `json:"ip" doc:"the address that it comes from"`
	Count   int64     `json:"count" doc:"how often, since it was first seen"`
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
}

// RefusedCredentialList lists the credentials that were rejected in the last 24 hours.
type RefusedCredentialList struct {
	Credentials []RefusedCredential `json:"credentials"`
}

// ListRefused lists the invalid credentials that the responding node received in the last 24 hours, most frequent first. The list
// of invalid credentials shows, for example, a program that still uses an old key. A node loses its list of invalid credentials
// when the node stops.
func (c AdminKeysService) ListRefused(ctx context.Context) ([]RefusedCredential, error) {
	reply, err := get[RefusedCredentialList](ctx, c.transport, "refused-credentials")
	return reply.Credentials, err
}
