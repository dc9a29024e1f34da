// Package oidc signs people in by an OpenID Connect provider and maps its claims to roles.
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

// Provider signs in people without a local password: the code flow of OpenID Connect with PKCE, state and nonce.
type Provider struct {
	Issuer, ClientID string
	ClientSecret     string // "" = a public client
	RolesClaim       string // the claim that names roles; a path with dots into an object
	Vault            *sealer.Key
	Now              func() time.Time
	Random           io.Reader

	asking semaphore.Semaphore // the provider whose codes they are

	mu     sync.Mutex
	found  *found
	failed error
	asked  time.Time
}

// found is the provider's discovery document.
type found struct {
	*oidc.Provider
	config oauth2.Config
	more   metadata
}

// metadata holds the fields of the discovery document that go-oidc has no name for.
type metadata struct {
	Scopes      []string `json:"scopes_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	SigningAlgs []string `json:"id_token_signing_alg_values_supported"`
	JWKS        string   `json:"jwks_uri"`
	EndSession  string   `json:"end_session_endpoint"`
}

const (
	// FlowTime is the time that a sign-in at the provider may take.
	FlowTime = 10 * time.Minute
	// foundTime is the lifetime of a discovery: a provider that is down is noticed after it. failedTime is that of a failure:
	// strangers cannot make this server ask often.
	foundTime  = time.Minute
	failedTime = 5 * time.Second
	// askedAtOnce bounds how many codes the provider is asked for at once.
	askedAtOnce = 8
	// askTime and mostAnswer bound each request to the provider.
	askTime    = 10 * time.Second
	mostAnswer = 1 << 20
)

// ErrDown: the provider cannot be asked, or answers what no provider does.
var ErrDown = errors.New("the provider cannot be asked")

// down returns ErrDown with its cause, which may hold a whole foreign page: a log gets the beginning.
func down(cause error) error { return fmt.Errorf("%w: %s", ErrDown, plain(cause.Error())) }

// ErrNotBegun: this browser did not begin this sign-in within ten minutes.
var ErrNotBegun = errors.New("this sign-in was not begun in this browser, or more than ten minutes ago")

// Denial is the reason for which a provider's answer was rejected.
type Denial struct {
	Why    DenyReason
	Detail string // what was found instead; "" = nothing to say
}

// DenyReason is the reason of a refusal.
type DenyReason string

const (
	Said    DenyReason = "said"    // the provider refuses: Detail is its error code
	Token   DenyReason = "token"   // its token is not for this sign-in: Detail says what is wrong
	Absent  DenyReason = "absent"  // there is no claim of roles
	NoRole  DenyReason = "none"    // the claim names no role of this server: Detail is what it names
	Two     DenyReason = "two"     // it names two roles of which neither covers the other
	Limited DenyReason = "limited" // it limits an admin to AppIDs
)

func (r *Denial) Error() string { return "refused by " + string(r.Why) + ": " + r.Detail }

// CheckIssuer says why a text is no issuer; "" = it is one. By plain HTTP a provider
// is on this machine only.
func CheckIssuer(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "want the address of a provider, as its discovery document names it: https://login.example"
	case !private(u):
		return "want https://, or http:// with a loopback address"
	}
	return ""
}

// private reports whether the way to an address is encrypted or local.
func private(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// Host returns the provider as people know it.
func (p *Provider) Host() string {
	u, err := url.Parse(p.Issuer)
	if err != nil {
		return p.Issuer
	}
	return u.Host
}

// client asks the provider. It follows no redirect, and reads so much.
var client = &http.Client{Timeout: askTime, Transport: bounded{http.DefaultTransport},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	w, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		w.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(w.Body, mostAnswer), w.Body}
	}
	return w, err
}

// discover returns the provider's current discovery document. ErrDown.
func (p *Provider) discover(ctx context.Context) (*found, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.Now()
	if age := now.Sub(p.asked); p.failed != nil && age < failedTime {
		return nil, p.failed
	} else if p.found != nil && age < foundTime {
		return p.found, nil
	}
	f, err := p.ask(context.WithoutCancel(ctx)) // others wait for it
	p.found, p.failed, p.asked = f, nil, now
	if err != nil {
		p.failed = down(err)
	}
	return p.found, p.failed
}

func (p *Provider) ask(ctx context.Context) (*found, error) {
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
			continue // what it would say is in the token
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || !private(u) {
			return nil, fmt.Errorf("its %s is not https", name)
		}
	}
	// Some give a claim of groups or roles only to those that ask for the scope of its name.
	if slices.Contains(f.more.Scopes, p.RolesClaim) {
		f.config.Scopes = append(f.config.Scopes, p.RolesClaim)
	}
	f.config.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.ClientSecret == "" || len(f.more.AuthMethods) > 0 && !slices.Contains(f.more.AuthMethods, "client_secret_basic") {
		f.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return f, nil
}

// flow is a sign-in that was begun. The browser keeps it, sealed.
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

// Begin returns the address of the sign-in, and the value that the browser has to keep until it comes back to redirect; next is the
// page to go to afterwards. ErrDown.
func (p *Provider) Begin(ctx context.Context, redirect, next string) (address, kept string, err error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", "", err
	}
	f := flow{Redirect: redirect, Next: next, Until: p.Now().Add(FlowTime)}
	for _, text := range []*string{&f.State, &f.Nonce, &f.Verifier} {
		if *text, err = p.text(); err != nil {
			return "", "", fmt.Errorf("drawing a secret: %w", err)
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

// Finish verifies the value that a browser kept and the parameters it came back with, and returns the person and the page to go to.
// ErrNotBegun, ErrDown; a Refusal, with who it is if that is proven.
func (p *Provider) Finish(ctx context.Context, kept string, came url.Values) (user iam.FederatedUser, next string, err error) {
	var f flow
	text, err := p.Vault.Open(flowPlace, kept)
	if err != nil || json.Unmarshal(text, &f) != nil || !p.Now().Before(f.Until) ||
		subtle.ConstantTimeCompare([]byte(f.State), []byte(came.Get("state"))) != 1 {
		return user, "", ErrNotBegun
	}
	next = f.Next
	// RFC 9207: an answer that names who gives it is this provider's.
	if iss := came.Get("iss"); iss != "" && iss != p.Issuer {
		return user, next, &Denial{Token, "the answer is another issuer's"}
	}
	if code := came.Get("error"); code != "" {
		return user, next, &Denial{Said, plain(code)}
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

// exchange gets the claims for a code. The token is that of this sign-in: signed by the
// provider, for this client, in time, with the nonce.
func (p *Provider) exchange(ctx context.Context, found *found, f flow, code string) (c claims, err error) {
	// Strangers may come with codes that they made up: so many at once are asked for, and the others wait.
	done, err := p.asking.Acquire(ctx, askedAtOnce, 0)
	if err != nil {
		return c, down(err)
	}
	defer done()
	config := found.config
	config.RedirectURL = f.Redirect
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	// A provider that is overloaded may name an error code, too.
	if said, ok := errors.AsType[*oauth2.RetrieveError](err); ok && said.ErrorCode != "" && said.Response.StatusCode/100 == 4 {
		return c, &Denial{Said, plain(said.ErrorCode)}
	} else if err != nil {
		return c, down(err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return c, &Denial{Token, "there is no ID token"}
	}
	keys, weak, err := found.publicKeys(ctx)
	if err != nil {
		return c, down(err)
	}
	id, err := oidc.NewVerifier(p.Issuer, &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{ClientID: p.ClientID, Now: p.Now,
		SupportedSigningAlgs: found.more.SigningAlgs}).Verify(ctx, raw)
	switch {
	case err != nil && weak > 0:
		return c, &Denial{Token, plain(fmt.Sprintf("%v; RSA keys with fewer than %d bits that do not count: %d", err, minRSABits, weak))}
	case err != nil:
		return c, &Denial{Token, plain(err.Error())}
	case id.IssuedAt.After(p.Now().Add(clockSkew)):
		return c, &Denial{Token, "it was issued in the future: " + id.IssuedAt.UTC().Format(time.RFC3339)}
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 {
		return c, &Denial{Token, "the nonce is another one"}
	}
	c = claims{subject: id.Subject}
	if err := id.Claims(&c.all); err != nil {
		return c, &Denial{Token, err.Error()}
	}
	if azp, _ := c.all["azp"].(string); azp != p.ClientID && (azp != "" || len(id.Audience) > 1) {
		return c, &Denial{Token, "it was made for another client"}
	}
	if c.subject == "" || len(c.subject) > mostSubject {
		return c, &Denial{Token, "its subject is empty or too long"}
	}
	if _, exists := p.claim(c.all); exists || found.UserInfoEndpoint() == "" {
		return c, nil
	}
	// Some say no more in the token than who it is.
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return c, down(err)
	}
	if info.Subject != c.subject {
		return c, &Denial{Token, "the user's information is of somebody else"}
	}
	moreVs := map[string]any{}
	if err := info.Claims(&moreVs); err != nil {
		return c, &Denial{Token, err.Error()}
	}
	for name, value := range moreVs {
		if _, known := c.all[name]; !known {
			c.all[name] = value
		}
	}
	return c, nil
}

// signingAlgs are the algorithms with a public key. Where a provider names none of them, RS256 is taken.
var signingAlgs = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.EdDSA}

const (
	// minRSABits is the least that RFC 7518 3.3 wants of an RSA key.
	minRSABits = 2048
	// clockSkew is the amount by which the provider's clock may be ahead of this machine's.
	clockSkew = time.Minute
)

// publicKeys gets the keys with which the provider signs now. weak counts the RSA keys with fewer than minRSABits, which are left out.
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
		return nil, 0, fmt.Errorf("its jwks_uri answers %s", w.Status)
	} else if err := json.NewDecoder(w.Body).Decode(&set); err != nil {
		return nil, 0, fmt.Errorf("its jwks_uri answers no keys: %w", err)
	}
	for _, text := range set.Keys {
		var jsonWebKey jose.JSONWebKey
		if jsonWebKey.UnmarshalJSON(text) != nil {
			continue // RFC 7517 5: ignore keys of types that are not understood
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

// mostSubject is the maximum length of a subject: OpenID Connect Core 2.
const mostSubject = 255

// EndSession returns the address of the sign-out at the provider; "" = it has none, or was not asked yet.
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
