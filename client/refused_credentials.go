package client

import (
	"context"
	"time"
)

// RefusedCredential is an invalid credential that was sent several times, with the address that sent it.
type RefusedCredential struct {
	// Kind is the kind of credential; admin keys count as admin_token.
	Kind    string    `json:"kind" enum:"admin_token,app_secret,scan_key,person,login_link,provider" doc:"kind of credential"`
	Name    string    `json:"name,omitempty" doc:"account or person of the credential, name of an expired admin key, or start of an unknown key"`
	IP      string    `json:"ip" doc:"client address"`
	Count   int64     `json:"count" doc:"number of failures since the first"`
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
	reply, err := get[RefusedCredentialList](ctx, c.transport, "failed-authentications")
	return reply.Credentials, err
}
