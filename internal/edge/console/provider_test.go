package console_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const clientSecret = "the-secret-of-the-client"

// fakeProvider is an OpenID provider with faults that a test sets. TestOIDC_CertifiedProvider and compat/openid use real providers.
type fakeProvider struct {
	*httptest.Server
	t     *testing.T
	key   *rsa.PrivateKey
	clock func() time.Time

	mu         sync.Mutex
	request    url.Values     // parameters of the last authorization request
	claims     map[string]any // override those of the next token
	info       map[string]any
	document   string // replaces the discovery document
	keysStatus int    // status of the answer instead of the keys; 0 = keys
	overloaded bool   // the token endpoint is overloaded
}

func newFakeProvider(t *testing.T) *fakeProvider {
	key := require.Value(rsa.GenerateKey(rand.Reader, 2048))(t)
	c := &fakeProvider{t: t, key: key}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// setClaims overrides claims of the next token; nil removes a claim.
func (c *fakeProvider) setClaims(claims map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = claims
}

func (c *fakeProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if c.document != "" {
			io.WriteString(w, c.document)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": c.URL, "authorization_endpoint": c.URL + "/auth",
			"token_endpoint": c.URL + "/token",
			"jwks_uri":       c.URL + "/keys", "userinfo_endpoint": c.URL + "/me", "end_session_endpoint": c.URL + "/end",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "scopes_supported": []string{"openid", "profile", "roles"}})
	case "/keys":
		if c.keysStatus != 0 {
			w.WriteHeader(c.keysStatus)
			return
		}
		(&oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: c.key.Public(), KeyID: "k", Algorithm: "RS256"}}}).ServeHTTP(w, r)
	case "/me":
		json.NewEncoder(w).Encode(c.info)
	case "/token":
		if c.overloaded {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":"temporarily_unavailable"}`)
			return
		}
		id, secret, _ := r.BasicAuth()
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if id != "console" || secret != clientSecret || r.PostFormValue("code") != "good" ||
			r.PostFormValue("redirect_uri") != c.request.Get("redirect_uri") ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != c.request.Get("code_challenge") {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		claims := map[string]any{"iss": c.URL, "sub": "u1", "aud": "console", "exp": c.clock().Add(time.Minute).Unix(),
			"iat": c.clock().Unix(), "nonce": c.request.Get("nonce"), "preferred_username": "alice", "roles": []string{"viewer"}}
		maps.Copy(claims, c.claims)
		maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
		text, err := json.Marshal(claims)
		assert.NoError(c.t, err)
		json.NewEncoder(w).Encode(map[string]any{"access_token": "at", "token_type": "Bearer",
			"id_token": oidctest.SignIDToken(c.key, "k", "RS256", string(text))})
	default:
		http.NotFound(w, r)
	}
}

// startServer starts a server that uses the provider.
func (c *fakeProvider) startServer(t *testing.T, o servertest.Options) *servertest.Server {
	if o.Seed == "" {
		o.Seed = shop
	}
	configure := o.Config
	o.Config = func(config *server.Config) {
		if configure != nil {
			configure(config)
		}
		config.OIDC = server.OIDC{Issuer: c.URL, ClientID: "console"}
		require.NoError(t, os.MkdirAll(config.Data, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(config.Data, "oidc-client-secret"), []byte(clientSecret+"\n"), 0o600))
	}
	s := servertest.Start(t, o)
	s.RegisterSecret(clientSecret)
	c.clock = s.Clock.Now
	return s
}

// beginSignIn starts a sign-in and returns the parameters of the authorization request.
func (c *fakeProvider) beginSignIn(v *visitor) url.Values {
	v.t.Helper()
	p := v.get("/console/login/provider?next=/console/rules", "Sec-Fetch-Site: same-origin")
	target, err := url.Parse(p.Header.Get("Location"))
	require.True(v.t, err == nil && p.Status == http.StatusSeeOther && strings.HasPrefix(target.String(), c.URL+"/auth?"),
		"start of the sign-in: status %d, Location %s, want a redirect to the provider: %s", p.Status, p.Header.Get("Location"), p.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request = target.Query()
	return c.request
}

// returnFromProvider opens the callback with the answer of the provider and submits the form of that page.
func returnFromProvider(v *visitor, answer url.Values) page {
	v.t.Helper()
	p := v.get("/console/login/callback?"+answer.Encode(), "Sec-Fetch-Site: cross-site")
	require.True(v.t, p.Status == http.StatusOK && strings.Contains(p.Body, `id="goes-on"`) && p.Header.Get("Set-Cookie") == "",
		"the page to come back to: status %d, want 200: %s", p.Status, p.Body)
	return v.post("/console/login/callback", answer, "Sec-Fetch-Site: same-origin")
}

func (c *fakeProvider) signIn(v *visitor) page {
	v.t.Helper()
	request := c.beginSignIn(v)
	return returnFromProvider(v, url.Values{"code": {"good"}, "state": {request.Get("state")}, "iss": {c.URL}})
}

// TestOIDC_TokenValidation verifies that an answer is valid once, within ten minutes, in the browser that requested it, and that a token
// must be issued for this sign-in, this client and this time (ASVS 10.1.2, 10.2.1, 10.5.1, 10.5.4).
func TestOIDC_TokenValidation(t *testing.T) {
	t.Parallel()
	c := newFakeProvider(t)
	s := c.startServer(t, servertest.Options{Guarded: true})
	v := newVisitor(t, s)
	request := c.beginSignIn(v)
	for name, want := range map[string]string{"response_type": "code", "client_id": "console", "code_challenge_method": "S256",
		"scope": "openid profile roles", "redirect_uri": s.AdminURL + "/console/login/callback"} {
		assert.Equal(t, request.Get(name), want, "parameter %s", name)
	}
	first := c.beginSignIn(v)
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		assert.True(t, len(first.Get(name)) == 43 && first.Get(name) != request.Get(name),
			"%s = %q, then %q; want different values of 43 characters", name, request.Get(name), first.Get(name))
	}
	checkRefused := func(name, want string, p page) {
		t.Helper()
		assert.True(t, p.Status == http.StatusForbidden && strings.Contains(p.Body, want) && strings.Contains(p.Body, `id="password"`),
			"%s: status %d, want 403 with %q: %s", name, p.Status, want, p.Body)
		assert.True(t, v.get("/console/rules").Status == http.StatusSeeOther, "%s: the visitor is signed in", name)
	}
	const otherBrowser = "was started in another browser"
	newAnswer := func(v *visitor) url.Values {
		return url.Values{"code": {"good"}, "state": {c.beginSignIn(v).Get("state")}, "iss": {c.URL}}
	}
	withField := func(answer url.Values, name, value string) url.Values { answer.Set(name, value); return answer }
	checkRefused("another state", otherBrowser, returnFromProvider(v, withField(newAnswer(v), "state", "x")))
	checkRefused("no state", otherBrowser, returnFromProvider(v, withField(newAnswer(v), "state", "")))
	checkRefused("another browser's", otherBrowser, returnFromProvider(v, newAnswer(newVisitor(t, s))))
	lateAnswer := newAnswer(v)
	s.Clock.Step(10 * time.Minute)
	checkRefused("ten minutes later", otherBrowser, returnFromProvider(v, lateAnswer))
	checkRefused("another issuer's", "does not belong to this sign-in",
		returnFromProvider(v, withField(newAnswer(v), "iss", "https://evil.example")))
	checkRefused("another code", "invalid_grant", returnFromProvider(v, withField(newAnswer(v), "code", "stolen")))
	checkRefused("an error", "access_denied&lt;b&gt;", returnFromProvider(v, withField(newAnswer(v), "error", "access_denied<b>")))
	now := s.Clock.Now()
	for name, claims := range map[string]map[string]any{"nonce": {"nonce": "x"}, "no nonce": {"nonce": nil}, "audience": {"aud": "other"},
		"authorized party": {"aud": []string{"console", "other"}}, "azp": {"azp": "other"}, "issuer": {"iss": "https://evil.example"},
		"expiry": {"exp": now.Add(-time.Minute).Unix()}, "issued in the future": {"exp": now.Add(time.Hour * 2).Unix(),
			"iat": now.Add(time.Hour).Unix()}, "no subject": {"sub": nil}, "a long subject": {"sub": strings.Repeat("x", 256)}} {
		s.Clock.Step(time.Minute) // stays below the limit of failed attempts
		claims := maps.Clone(claims)
		c.setClaims(claims)
		checkRefused(name, "does not belong to this sign-in", c.signIn(v))
	}
	c.setClaims(nil)
	weak := require.Value(rsa.GenerateKey(rand.Reader, 1024))(t)
	strong := c.key
	c.key = weak
	checkRefused("RSA key of 1,024 bits", "fewer than 2048 bits", c.signIn(v))
	c.key = strong
	answer := newAnswer(v)
	p := returnFromProvider(v, answer)
	require.True(t, p.Status == http.StatusSeeOther && p.Header.Get("Location") == "/console/rules",
		"sign-in: status %d, want 303: %s", p.Status, p.Body)
	assert.Equal(t, v.get("/console/rules").Status, http.StatusOK, "page after the sign-in")
	v = newVisitor(t, s)
	checkRefused("the same answer in another browser", otherBrowser, returnFromProvider(v, answer))
	// A page of another origin can neither start nor complete a sign-in.
	p = v.get("/console/login/provider", "Sec-Fetch-Site: cross-site")
	assert.True(t, strings.HasPrefix(p.Header.Get("Location"), "/console/login?"),
		"start by a page of another origin: Location %s, want the sign-in page", p.Header.Get("Location"))
	p = v.post("/console/login/callback", answer, "Sec-Fetch-Site: cross-site")
	assert.Equal(t, p.Status, http.StatusForbidden, "callback by a page of another origin")
	for range 2 * 20 {
		v.post("/console/login/callback", url.Values{"state": {"x"}})
	}
	p = v.post("/console/login/callback", url.Values{"state": {"x"}})
	assert.Equal(t, p.Status, http.StatusTooManyRequests, "callback after forty failed attempts")
}

// TestOIDC_RolesAtEachSignIn verifies that each sign-in takes the identity and the role from the provider.
func TestOIDC_RolesAtEachSignIn(t *testing.T) {
	t.Parallel()
	c := newFakeProvider(t)
	s := c.startServer(t, servertest.Options{Guarded: true})
	createPerson(s, "alice", adminroute.Admin) // a local person of the same name
	v, other := newVisitor(t, s), newVisitor(t, s)
	planted := "chosen-by-a-stranger-chosen-by-a-stranger-x"
	p := func() page {
		request := c.beginSignIn(v)
		v.http.Jar.SetCookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(s.AdminURL, "http://"), Path: "/"},
			[]*http.Cookie{{Name: "qrjump_session", Value: planted}})
		return returnFromProvider(v, url.Values{"code": {"good"}, "state": {request.Get("state")}})
	}()
	require.True(t, p.Status == http.StatusSeeOther && !strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), " "), planted),
		"sign-in with a planted session: status %d, want 303", p.Status)
	list := s.Admin("GET", "/people", "").Body
	if !strings.Contains(list, fmt.Sprintf(`"role":"viewer","accounts":[],"has_password":false,"second_factor":false,"provider":%q`, c.URL)) ||
		!strings.Contains(list, `"name":"alice-`) {
		t.Errorf("people = %s, want a viewer of the provider next to the local alice", list)
	}
	assert.Equal(t, v.get("/console/people").Status, http.StatusForbidden,
		"people, as the provider's viewer with the name of a local admin")
	var people struct {
		People []struct{ Name, Provider string }
	}
	s.Admin("GET", "/people", "").JSON(t, &people)
	name := people.People[1].Name
	for path, body := range map[string]string{"PATCH /people/" + name: `{"role":"admin"}`,
		"POST /login-links": `{"name":"` + name + `"}`} {
		method, path, _ := strings.Cut(path, " ")
		a := s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == http.StatusUnprocessableEntity && strings.Contains(a.Body, c.URL),
			"%s: status %d, want 422: %s", path, a.Status, a.Body)
	}
	require.Equal(t, c.signIn(other).Status, http.StatusSeeOther, "sign-in in a second browser")
	c.setClaims(map[string]any{"roles": []string{"rules-editor:shop"}, "preferred_username": "admin"}) // another role, and a new name
	require.Equal(t, c.signIn(other).Status, http.StatusSeeOther, "sign-in with another role")
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "session with the former role")
	assert.Equal(t, other.get("/console/accounts/shop").Status, http.StatusOK, "account of the new role")
	log := s.Admin("GET", "/changes?kind=person&newest=true", "").Body
	assert.True(t, strings.Contains(log, `"actor":"provider"`) && strings.Count(log, name) == 2, "audit log = %s", log)
	// ASVS 7.6.1: a session lasts an hour, then the provider is asked again.
	s.Clock.Step(59 * time.Minute)
	assert.Equal(t, other.get("/console/rules").Status, http.StatusOK, "after 59 minutes")
	c.setClaims(map[string]any{"roles": []string{"staff"}})
	if p := c.signIn(v); p.Status != http.StatusForbidden || !strings.Contains(p.Body, "&#34;staff&#34;") {
		t.Errorf("sign-in without a role: status %d, want 403: %s", p.Status, p.Body)
	}
	assert.Equal(t, other.get("/console/rules").Status, http.StatusSeeOther, "session after the role was removed")
	for claims, want := range map[string]string{`{"roles":null}`: "” is missing",
		`{"roles":["rules-editor","marketer"]}`: "neither includes the other", `{"roles":["admin:shop"]}`: "cannot be limited"} {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(claims), &m))
		c.setClaims(m)
		c.info = map[string]any{"sub": "u1"}
		p := c.signIn(v)
		assert.True(t, p.Status == http.StatusForbidden && strings.Contains(p.Body, want),
			"%s: status %d, want 403: %s", claims, p.Status, p.Body)
	}
	c.setClaims(map[string]any{"roles": nil})
	for sub, want := range map[string]int{"u1": http.StatusSeeOther, "u2": http.StatusForbidden} {
		c.info = map[string]any{"sub": sub, "roles": "operator"}
		assert.Equal(t, c.signIn(v).Status, want, "sign-in with roles in the user information of %s", sub)
	}
	c.setClaims(nil)
	c.signIn(v)
	s.Clock.Step(time.Hour)
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "session after an hour")
	c.signIn(v)
	out := v.post("/console/logout", nil)
	p = v.get(out.Header.Get("Location"))
	assert.Contains(t, p.Body, c.URL+"/end?client_id=console", "sign-out page")
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "page after the sign-out")
}

// TestOIDC_ProviderUnavailable verifies that an unreachable or inconsistent provider signs in no person, and that local passwords
// still work.
func TestOIDC_ProviderUnavailable(t *testing.T) {
	t.Parallel()
	c := newFakeProvider(t)
	s := c.startServer(t, servertest.Options{Guarded: true})
	createPerson(s, "bob", adminroute.Viewer)
	v := newVisitor(t, s)
	answer := url.Values{"code": {"good"}, "state": {c.beginSignIn(v).Get("state")}}
	checkUnavailable := func(name string, p page) {
		t.Helper()
		assert.True(t, p.Status == http.StatusServiceUnavailable && strings.Contains(p.Body, "is not reachable"),
			"%s: status %d, want 503: %s", name, p.Status, p.Body)
	}
	validDocument := func() string {
		return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"jwks_uri":%q}`, c.URL, c.URL+"/auth", c.URL+"/token",
			c.URL+"/keys")
	}
	for name, document := range map[string]string{
		"another issuer":                   strings.Replace(validDocument(), c.URL, "https://evil.example", 1), // ASVS 10.5.3
		"a token endpoint over plain HTTP": strings.Replace(validDocument(), c.URL+"/token", "http://login.example/token", 1),
		"user information over plain HTTP": strings.Replace(validDocument(), "{", `{"userinfo_endpoint":"http://login.example/me",`, 1),
		"no JSON":                          "<html>", "endless": strings.Repeat(" ", 2<<20)} {
		s.Clock.Step(time.Minute)
		c.document = document
		checkUnavailable(name, v.get("/console/login/provider"))
	}
	s.Clock.Step(time.Minute)
	c.document = ""
	// Unavailable keys or tokens do not count as failed attempts.
	for i := range 3 * 20 {
		c.keysStatus, c.overloaded = http.StatusServiceUnavailable, i%2 == 0
		checkUnavailable("unavailable keys or tokens", c.signIn(v))
	}
	c.keysStatus, c.overloaded = 0, false
	answer = url.Values{"code": {"good"}, "state": {c.beginSignIn(v).Get("state")}}
	c.Close()
	checkUnavailable("provider down at the callback", v.post("/console/login/callback", answer))
	s.Clock.Step(time.Minute)
	checkUnavailable("provider down at the start", v.get("/console/login/provider"))
	assert.Equal(t, v.signIn("bob", password, "").Status, http.StatusSeeOther, "sign-in with a local password")
	assert.True(t, strings.Contains(s.Log(), "sign-in at the identity provider failed"), "the log has no error of the provider")
}

// TestOIDC_InvalidConfiguration verifies that an invalid configuration is rejected at the start with one line.
func TestOIDC_InvalidConfiguration(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]server.OIDC{
		"--oidc-issuer and --oidc-client-id": {Issuer: "https://login.example"}, "belong together": {ClientSecret: "x"},
		"want https://": {Issuer: "http://login.example", ClientID: "c"}, "as in its discovery": {Issuer: "login", ClientID: "c"}} {
		c := server.Default()
		c.OIDC = o
		err := c.Check()
		assert.True(t, err != nil && strings.Contains(err.Error(), want), "Check of %+v = %v, want an error with %q", o, err, want)
	}
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop}) // no provider
	v := newVisitor(t, s)
	for _, p := range []page{v.get("/console/login/provider"), v.get("/console/login/callback"), v.post("/console/login/callback", nil)} {
		assert.Equal(t, p.Status, http.StatusNotFound, "server without a provider")
	}
}

// TestOIDC_KeepsPendingForm verifies that a pending form survives a sign-in at the provider, that a path too long for a cookie does not
// break the sign-in, and that a forged callback does not cancel a sign-in in progress.
func TestOIDC_KeepsPendingForm(t *testing.T) {
	t.Parallel()
	c := newFakeProvider(t)
	s := c.startServer(t, servertest.Options{Guarded: true})
	c.setClaims(map[string]any{"roles": []string{"rules-editor"}})
	v := newVisitor(t, s)
	p := c.signIn(v)
	p.wantStatus(t, http.StatusSeeOther, "signing in")
	s.Clock.Step(30 * 24 * time.Hour)
	form := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/kept/"}, "path": {"pages/x"}, "links": {""}}
	p = v.post("/console/rules/new", form)
	sealed := regexp.MustCompile(`name="kept" value="([^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, p.Status == http.StatusUnauthorized && sealed != nil && strings.Contains(p.Body, `target="_blank"`),
		"form after the session expired: status %d, want 401: %s", p.Status, p.Body)
	continueSignIn := func() page {
		t.Helper()
		return v.post("/console/login", url.Values{"kept": {html.UnescapeString(sealed[1])}, "did": {"on"}})
	}
	if p := continueSignIn(); p.Status != http.StatusUnauthorized || !strings.Contains(p.Body, `name="kept" value="`+sealed[1]) {
		t.Errorf("continuation before the sign-in: status %d, want 401", p.Status)
	}
	c.signIn(v) // in another tab
	p = continueSignIn()
	require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, `action="/console/rules/new"`) &&
		strings.Contains(p.Body, "https://shop.example/kept/"), "continuation after the sign-in: status %d, want 200: %s", p.Status, p.Body)

	v = newVisitor(t, s)
	for _, next := range []string{"/console/rules?prefix=" + strings.Repeat("%26", 2000), "/console/rules/" + strings.Repeat("x", 5000)} {
		p := v.get("/console/login/provider?next="+url.QueryEscape(next), "Sec-Fetch-Site: same-origin")
		cookie := p.Header.Get("Set-Cookie")
		require.True(t, p.Status == http.StatusSeeOther && cookie != "" && len(cookie) <= 4000,
			"long next path: status %d, cookie of %d bytes, want at most 4000", p.Status, len(cookie))
		to := require.Value(url.Parse(p.Header.Get("Location")))(t)
		c.mu.Lock()
		c.request = to.Query()
		c.mu.Unlock()
		for range 3 { // forged callbacks without the state
			p := returnFromProvider(v, url.Values{"code": {"x"}, "state": {"x"}})
			cookies := p.Header.Get("Set-Cookie")
			require.True(t, p.Status == http.StatusForbidden && cookies == "",
				"forged callback: status %d, want 403, Set-Cookie %q, want none", p.Status, cookies)
		}
		p = returnFromProvider(v, url.Values{"code": {"good"}, "state": {to.Query().Get("state")}, "iss": {c.URL}})
		location := p.Header.Get("Location")
		if p.Status != http.StatusSeeOther || !strings.HasPrefix(location, "/console/") || len(location) > 100 {
			t.Errorf("sign-in with a long next path: status %d, Location %s, want a path of the console: %s", p.Status, location, p.Body)
		}
	}
}
