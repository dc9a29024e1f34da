package client

import (
	"context"
	"time"
)

// Person is a user of the console.
type Person struct {
	Name         string     `json:"name"`
	Role         string     `json:"role"`          // Role is viewer, marketer, rules-editor, operator or admin.
	Accounts     []string   `json:"accounts"`      // AppIDs of the accounts to which the role is limited; empty means all accounts.
	HasPassword  bool       `json:"has_password"`  // If HasPassword is false, the person can sign in only with login links.
	SecondFactor bool       `json:"second_factor"` // SecondFactor means that signing in also requires a code from an authenticator app.
	Provider     string     `json:"provider,omitempty" doc:"issuer of the OpenID Connect provider that manages the person's rights"`
	CreatedAt    time.Time  `json:"created_at"`
	LastSeenAt   *time.Time `json:"last_seen_at,omitempty" doc:"time of the last sign-in"` // Time of the last sign-in; nil means never.
	HasRevision
}

// PersonList is the list of all users of the console.
type PersonList struct {
	People []Person `json:"people"`
}

// PersonPut is a request for a new person. A password has at least 12 characters and must not be a commonly used password. A person
// without a password can sign in only with login links.
type PersonPut struct {
	Name         string   `json:"name" maxLength:"40"`
	Role         string   `json:"role"`
	Accounts     []string `json:"accounts,omitempty"`
	Password     string   `json:"password,omitempty"`
	SecondFactor string   `json:"second_factor,omitempty" enum:",new" doc:"new: generate and return a second factor"`
	InviteDays   int      `json:"invite_days,omitempty" minimum:"0" maximum:"30" doc:"days for which the invitation is valid; the response contains a link for choosing a password once"`
}

// PersonChange holds the changes of a person; a nil field remains unchanged.
type PersonChange struct {
	Role         *string   `json:"role,omitempty"`
	Accounts     *[]string `json:"accounts,omitempty"`
	Password     *string   `json:"password,omitempty" doc:"new password; empty = disable sign-in by password"`
	SecondFactor *string   `json:"second_factor,omitempty" enum:"new,off"`
	InviteDays   int       `json:"invite_days,omitempty" minimum:"0" maximum:"30" doc:"days for which the invitation is valid; the response contains a link for choosing a password once"`
}

// CreatedPerson is a new or changed person, with the credentials that the server returns only once.
type CreatedPerson struct {
	Person
	FactorURI     string   `json:"factor_uri,omitempty" doc:"URI of the new second factor for an authenticator app; returned only once"`
	RecoveryCodes []string `json:"recovery_codes,omitempty" doc:"codes that replace the second factor once each; returned only once"`

	Invitation *LoginLink `json:"invitation,omitempty" doc:"invitation, which works once and revokes earlier ones; returned only once"`
}

// AdminKey describes a credential with which a program calls the admin API. Only CreatedAdminKey contains the credential itself.
type AdminKey struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Role       string     `json:"role"`
	Accounts   []string   `json:"accounts"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	LastSeenAt *time.Time `json:"last_seen_at,omitempty" doc:"time of the last use, to the minute"`
}

// AdminKeyList is the list of all admin keys.
type AdminKeyList struct {
	Keys []AdminKey `json:"keys"`
}

// AdminKeyPut is a request for a new admin key; if ExpiresAt is nil, the key does not expire.
type AdminKeyPut struct {
	Name      string     `json:"name" maxLength:"40"`
	Role      string     `json:"role"`
	Accounts  []string   `json:"accounts,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// CreatedAdminKey is a new admin key. Key is shown only in this response.
type CreatedAdminKey struct {
	ID  string `json:"id"`
	Key string `json:"key" doc:"secret key; returned only once"`
}

// LoginLink is a link that signs a person in once.
type LoginLink struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// List lists the users of the console, sorted by name.
func (c PeopleService) List(ctx context.Context) ([]Person, error) {
	reply, err := OpListPeople.call(ctx, c.transport, Empty{})
	return reply.People, err
}

// Create creates a person; if the name is taken, the result is a *Problem with status 409.
func (c PeopleService) Create(ctx context.Context, p PersonPut) (CreatedPerson, error) {
	return OpCreatePerson.call(ctx, c.transport, p)
}

// Update changes a person, and ends all their sessions.
func (c PeopleService) Update(ctx context.Context, name string, p PersonChange) (CreatedPerson, error) {
	return OpUpdatePerson.call(ctx, c.transport, p, name)
}

// Delete deletes a person and returns the remaining people.
func (c PeopleService) Delete(ctx context.Context, name string) ([]Person, error) {
	reply, err := OpDeletePerson.call(ctx, c.transport, Empty{}, name)
	return reply.People, err
}

// SignOut ends all sessions of a person without deleting the person.
func (c PeopleService) SignOut(ctx context.Context, name string) (Person, error) {
	return OpDeleteSessions.call(ctx, c.transport, Empty{}, name)
}

// List lists the admin keys, oldest first, but not the secret keys.
func (c AdminKeysService) List(ctx context.Context) ([]AdminKey, error) {
	reply, err := OpListAdminKeys.call(ctx, c.transport, Empty{})
	return reply.Keys, err
}

// Create creates an admin key.
func (c AdminKeysService) Create(ctx context.Context, k AdminKeyPut) (CreatedAdminKey, error) {
	return OpCreateAdminKey.call(ctx, c.transport, k)
}

// Delete revokes an admin key immediately and returns the remaining keys.
func (c AdminKeysService) Delete(ctx context.Context, id string) ([]AdminKey, error) {
	reply, err := OpDeleteAdminKey.call(ctx, c.transport, Empty{}, id)
	return reply.Keys, err
}

// LoginLinkRequest is a request for a login link.
type LoginLinkRequest struct {
	Name string `json:"name,omitempty" maxLength:"40" doc:"name of the person; default: a session with all rights of the admin token"`
}

// CreateLoginLink creates a link that signs a person in to the console once, within ten minutes. If name is "", the link grants all
// rights of the admin token.
func (c PeopleService) CreateLoginLink(ctx context.Context, name string) (LoginLink, error) {
	return OpCreateLoginLink.call(ctx, c.transport, LoginLinkRequest{name})
}

// FailedAuthentication is an invalid credential that was sent several times, with the address that sent it.
type FailedAuthentication struct {
	// Kind is the kind of credential; admin keys count as admin_token.
	Kind    string    `json:"kind" enum:"admin_token,app_secret,scan_key,person,login_link,provider" doc:"kind of credential"`
	Name    string    `json:"name,omitempty" doc:"account or person of the credential, name of an expired admin key, or start of an unknown key"`
	IP      string    `json:"ip" doc:"client address"`
	Count   int64     `json:"count" doc:"number of failures since the first"`
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
}

// FailedAuthenticationList lists the credentials that were rejected in the last 24 hours.
type FailedAuthenticationList struct {
	Credentials []FailedAuthentication `json:"credentials"`
}

// ListFailed lists the invalid credentials that the responding node received in the last 24 hours, most frequent first. The list
// of invalid credentials shows, for example, a program that still uses an old key. A node loses its list of invalid credentials
// when the node stops.
func (c AdminKeysService) ListFailed(ctx context.Context) ([]FailedAuthentication, error) {
	reply, err := OpListFailedAuthentications.call(ctx, c.transport, Empty{})
	return reply.Credentials, err
}
