// Package oidc signs people in with an OpenID Connect provider and maps its claims to roles.
package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// Provider signs in people without a local password: OpenID Connect authorization code flow with PKCE, state and nonce.
type Provider struct {
	Issuer, ClientID string
	ClientSecret     string // "" = public client
	RolesClaim       string // name of the claim with the roles, or a dotted path into nested objects
	Vault            *sealer.Key
	Now              func() time.Time
	Random           io.Reader

	asking semaphore.Semaphore // limits concurrent code exchanges with the provider

	mu        sync.Mutex
	found     *found
	failed    error
	fetchedAt time.Time
}

// found is the cached discovery document of the provider.
type found struct {
	*oidc.Provider
	config oauth2.Config
	more   metadata
}

// metadata contains the fields of the discovery document that go-oidc does not expose.
type metadata struct {
	Scopes      []string `json:"scopes_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	SigningAlgs []string `json:"id_token_signing_alg_values_supported"`
	JWKS        string   `json:"jwks_uri"`
	EndSession  string   `json:"end_session_endpoint"`
}

const (
	// FlowTime is the maximum time for a sign-in at the provider.
	FlowTime = 10 * time.Minute
	// foundTime is the time for which the discovery document is cached; an outage of the provider may stay unnoticed for this time.
	// failedTime is the time for which a failed discovery is cached, so that clients cannot trigger frequent requests.
	foundTime  = time.Minute
	failedTime = 5 * time.Second
	// askedAtOnce is the maximum number of concurrent code exchanges with the provider.
	askedAtOnce = 8
	// askTime is the timeout of each request to the provider, and maxResponse the maximum size of a response.
	askTime     = 10 * time.Second
	maxResponse = 1 << 20
)

// ErrDown reports that the provider is unreachable or returns an invalid response.
var ErrDown = errors.New("the identity provider is unavailable")

// unavailable returns ErrDown with its cause, truncated for the log because the cause may contain a whole external page.
func unavailable(cause error) error { return fmt.Errorf("%w: %s", ErrDown, plain(cause.Error())) }

// ErrNotBegun reports that this browser did not start this sign-in within the last ten minutes.
var ErrNotBegun = errors.New("this sign-in was not started in this browser, or more than ten minutes ago")

// Denial is the error for a rejected response of the provider.
type Denial struct {
	Reason DenyReason
	Detail string // the offending value; "" = none
}

// DenyReason is the reason of a Denial.
type DenyReason string

const (
	Rejected DenyReason = "said"    // the provider rejected the sign-in; Detail is its error code
	Token    DenyReason = "token"   // the token does not belong to this sign-in; Detail describes the error
	Absent   DenyReason = "absent"  // the claim with the roles is absent
	NoRole   DenyReason = "none"    // the claim contains no role of this server; Detail is the content of the claim
	Two      DenyReason = "two"     // the claim names two roles, neither of which includes the other
	Limited  DenyReason = "limited" // the claim limits an admin to AppIDs, which is invalid
)

func (r *Denial) Error() string { return "refused by " + string(r.Reason) + ": " + r.Detail }

// CheckIssuer returns an error if a text is not a valid issuer URL. Plain HTTP is allowed only for a provider on this machine.
func CheckIssuer(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("want the issuer URL of a provider, as in its discovery document: https://login.example")
	case !private(u):
		return errors.New("want https://, or http:// with a loopback address")
	}
	return nil
}

// private reports whether a URL uses HTTPS or points to this machine.
func private(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// Host returns the host name of the provider for display.
func (p *Provider) Host() string {
	u, err := url.Parse(p.Issuer)
	if err != nil {
		return p.Issuer
	}
	return u.Host
}

// client is the HTTP client for requests to the provider. The client follows no redirects and limits the size of responses.
var client = &http.Client{Timeout: askTime, Transport: bounded{http.DefaultTransport},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	w, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		w.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(w.Body, maxResponse), w.Body}
	}
	return w, err
}

// discover returns the provider's current discovery document, or ErrDown.
func (p *Provider) discover(ctx context.Context) (*found, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.Now()
	if age := now.Sub(p.fetchedAt); p.failed != nil && age < failedTime {
		return nil, p.failed
	} else if p.found != nil && age < foundTime {
		return p.found, nil
	}
	f, err := p.fetchDocument(context.WithoutCancel(ctx)) // other callers wait for this request
	p.found, p.failed, p.fetchedAt = f, nil, now
	if err != nil {
		p.failed = unavailable(err)
	}
	return p.found, p.failed
}

func (p *Provider) fetchDocument(ctx context.Context) (*found, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), p.Issuer)
	if err != nil {
		return nil, err
	}
	f := &found{Provider: provider, config: oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: provider.Endpoint(),
		Scopes: []string{oidc.ScopeOpenID, "profile"}}}
	if err := provider.Claims(&f.more); err != nil {
		return nil, err
	}
	f.more.SigningAlgs = slices.DeleteFunc(f.more.SigningAlgs, func(name string) bool { return !slices.Contains(signingAlgs, name) })
	for name, text := range map[string]string{"authorization_endpoint": f.config.Endpoint.AuthURL,
		"token_endpoint": f.config.Endpoint.TokenURL, "jwks_uri": f.more.JWKS, "userinfo_endpoint": provider.UserInfoEndpoint()} {
		if text == "" && name == "userinfo_endpoint" {
			continue // this endpoint is optional: without it, the ID token contains all claims
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || !private(u) {
			return nil, fmt.Errorf("its %s is not an https URL", name)
		}
	}
	// Some providers include a claim of groups or roles only if the scope of the same name is requested.
	if slices.Contains(f.more.Scopes, p.RolesClaim) {
		f.config.Scopes = append(f.config.Scopes, p.RolesClaim)
	}
	f.config.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.ClientSecret == "" || len(f.more.AuthMethods) > 0 && !slices.Contains(f.more.AuthMethods, "client_secret_basic") {
		f.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return f, nil
}

// flow contains the state of a started sign-in. The browser stores the state in encrypted form.
type flow struct {
	State, Nonce, Verifier string
	Redirect, Next         string
	Until                  time.Time
}

const flowPlace = "login_flow"

func (p *Provider) text() (string, error) {
	var raw [32]byte
	_, err := io.ReadFull(p.Random, raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:]), err
}

// Begin returns the provider's sign-in address and, in kept, the encrypted flow. The browser stores kept until the provider sends the
// browser back to the URL in redirect; next is the page to show afterwards. The error may be ErrDown.
func (p *Provider) Begin(ctx context.Context, redirect, next string) (address, kept string, err error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", "", err
	}
	f := flow{Redirect: redirect, Next: next, Until: p.Now().Add(FlowTime)}
	for _, text := range []*string{&f.State, &f.Nonce, &f.Verifier} {
		if *text, err = p.text(); err != nil {
			return "", "", fmt.Errorf("generating a secret: %w", err)
		}
	}
	written, err := json.Marshal(f)
	if err != nil {
		return "", "", err
	}
	config := found.config
	config.RedirectURL = redirect
	return config.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), p.Vault.Seal(flowPlace, written), nil
}

// Finish verifies the stored value of a browser and the parameters of the provider's redirect, and returns the person and the next
// page. The error is ErrNotBegun, ErrDown or a Denial; with a Denial, user is the person if the identity is proven.
func (p *Provider) Finish(ctx context.Context, kept string, came url.Values) (user iam.FederatedUser, next string, err error) {
	var f flow
	text, err := p.Vault.Open(flowPlace, kept)
	if err != nil || json.Unmarshal(text, &f) != nil || !p.Now().Before(f.Until) ||
		subtle.ConstantTimeCompare([]byte(f.State), []byte(came.Get("state"))) != 1 {
		return user, "", ErrNotBegun
	}
	next = f.Next
	// RFC 9207: the iss parameter, if present, must name this provider.
	if iss := came.Get("iss"); iss != "" && iss != p.Issuer {
		return user, next, &Denial{Token, "the issuer of the response is wrong"}
	}
	if code := came.Get("error"); code != "" {
		return user, next, &Denial{Rejected, plain(code)}
	}
	found, err := p.discover(ctx)
	if err != nil {
		return user, next, err
	}
	claims, err := p.exchange(oidc.ClientContext(ctx, client), found, f, came.Get("code"))
	if err != nil {
		return user, next, err
	}
	user = iam.FederatedUser{Issuer: p.Issuer, Subject: claims.subject, Names: claims.names()}
	role, appids, err := p.role(claims.all)
	user.Role, user.Accounts = string(role), appids
	return user, next, err
}

// exchange exchanges an authorization code for the claims. The ID token is valid for this sign-in: signed by the provider, issued
// to this client, not expired, with the right nonce.
func (p *Provider) exchange(ctx context.Context, found *found, f flow, code string) (c claims, err error) {
	// Anyone can send invented codes, so the number of concurrent exchanges is limited and further exchanges wait.
	done, err := p.asking.Acquire(ctx, askedAtOnce, 0)
	if err != nil {
		return c, unavailable(err)
	}
	defer done()
	config := found.config
	config.RedirectURL = f.Redirect
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	// Only a 4xx response rejects the sign-in: an overloaded provider may return an error code with a 5xx status.
	if said, ok := errors.AsType[*oauth2.RetrieveError](err); ok && said.ErrorCode != "" && said.Response.StatusCode/100 == 4 {
		return c, &Denial{Rejected, plain(said.ErrorCode)}
	} else if err != nil {
		return c, unavailable(err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return c, &Denial{Token, "the response has no ID token"}
	}
	keys, weak, err := found.publicKeys(ctx)
	if err != nil {
		return c, unavailable(err)
	}
	id, err := oidc.NewVerifier(p.Issuer, &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{ClientID: p.ClientID, Now: p.Now,
		SupportedSigningAlgs: found.more.SigningAlgs}).Verify(ctx, raw)
	switch {
	case err != nil && weak > 0:
		return c, &Denial{Token, plain(fmt.Sprintf("%v; ignored RSA keys with fewer than %d bits: %d", err, minRSABits, weak))}
	case err != nil:
		return c, &Denial{Token, plain(err.Error())}
	case id.IssuedAt.After(p.Now().Add(clockSkew)):
		return c, &Denial{Token, "it was issued in the future: " + id.IssuedAt.UTC().Format(time.RFC3339)}
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 {
		return c, &Denial{Token, "wrong nonce"}
	}
	c = claims{subject: id.Subject}
	if err := id.Claims(&c.all); err != nil {
		return c, &Denial{Token, err.Error()}
	}
	if azp, _ := c.all["azp"].(string); azp != p.ClientID && (azp != "" || len(id.Audience) > 1) {
		return c, &Denial{Token, "it was issued for another client"}
	}
	if c.subject == "" || len(c.subject) > maxSubject {
		return c, &Denial{Token, "its subject is empty or too long"}
	}
	if _, exists := p.claim(c.all); exists || found.UserInfoEndpoint() == "" {
		return c, nil
	}
	// Some providers put only the subject into the token, and the other claims into the UserInfo response.
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return c, unavailable(err)
	}
	if info.Subject != c.subject {
		return c, &Denial{Token, "the subject of the userinfo response is wrong"}
	}
	claims := map[string]any{}
	if err := info.Claims(&claims); err != nil {
		return c, &Denial{Token, err.Error()}
	}
	for name, value := range claims {
		if _, known := c.all[name]; !known {
			c.all[name] = value
		}
	}
	return c, nil
}

// signingAlgs lists the accepted signature algorithms, all with public keys. If a provider names none of the algorithms in
// signingAlgs, RS256 is assumed.
var signingAlgs = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.EdDSA}

const (
	// minRSABits is the minimum size of an RSA key according to section 3.3 of RFC 7518.
	minRSABits = 2048
	// clockSkew is how far the provider's clock may be ahead of this machine's clock.
	clockSkew = time.Minute
)

// publicKeys fetches the provider's current signing keys; weak counts the ignored RSA keys with fewer than minRSABits bits.
func (f *found) publicKeys(ctx context.Context) (keys []crypto.PublicKey, weak int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.more.JWKS, nil)
	if err != nil {
		return nil, 0, err
	}
	w, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer w.Body.Close()
	var set struct{ Keys []json.RawMessage }
	if w.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("its jwks_uri returned %s", w.Status)
	} else if err := json.NewDecoder(w.Body).Decode(&set); err != nil {
		return nil, 0, fmt.Errorf("its jwks_uri returned no valid keys: %w", err)
	}
	for _, text := range set.Keys {
		var jsonWebKey jose.JSONWebKey
		if jsonWebKey.UnmarshalJSON(text) != nil {
			continue // RFC 7517, section 5: ignore keys of unknown types
		}
		switch key := jsonWebKey.Key.(type) {
		case *rsa.PublicKey:
			if key.N.BitLen() < minRSABits {
				weak++
				continue
			}
			keys = append(keys, key)
		case *ecdsa.PublicKey, ed25519.PublicKey:
			keys = append(keys, key)
		}
	}
	return keys, weak, nil
}

// maxSubject is the maximum length of a subject according to section 2 of OpenID Connect Core.
const maxSubject = 255

// EndSession returns the provider's sign-out address; "" = the provider has none, or its discovery document is not loaded yet.
func (p *Provider) EndSession() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		return ""
	}
	u, err := url.Parse(p.found.more.EndSession)
	if err != nil || u.Host == "" || !private(u) {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.ClientID)
	u.RawQuery = q.Encode()
	return u.String()
}
