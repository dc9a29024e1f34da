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

// crooked is a provider that a test makes answer what no good one would: those are in compat/openid, and real.
type crooked struct {
	*httptest.Server
	t     *testing.T
	key   *rsa.PrivateKey
	clock func() time.Time

	mu       sync.Mutex
	asked    url.Values     // the request that a browser came with
	claims   map[string]any // of the next token, instead of the right ones
	info     map[string]any
	basic    bool   // the client must send its secret in the header
	document string // instead of the right one
	unkeyed  int    // status of the answer instead of the keys
	failing  bool   // the token endpoint is overloaded
}

func crookedProvider(t *testing.T) *crooked {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c := &crooked{t: t, key: key, basic: true}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// says makes the next token have other claims; nil takes one away.
func (c *crooked) says(claims map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = claims
}

func (c *crooked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
		if c.unkeyed != 0 {
			w.WriteHeader(c.unkeyed)
			return
		}
		(&oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: c.key.Public(), KeyID: "k", Algorithm: "RS256"}}}).ServeHTTP(w, r)
	case "/me":
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(c.info)
	case "/token":
		if c.failing {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":"temporarily_unavailable"}`)
			return
		}
		id, secret, _ := r.BasicAuth()
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if id != "console" || secret != clientSecret || r.PostFormValue("code") != "good" ||
			r.PostFormValue("redirect_uri") != c.asked.Get("redirect_uri") ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != c.asked.Get("code_challenge") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		claims := map[string]any{"iss": c.URL, "sub": "u1", "aud": "console", "exp": c.clock().Add(time.Minute).Unix(),
			"iat": c.clock().Unix(), "nonce": c.asked.Get("nonce"), "preferred_username": "alice", "roles": []string{"viewer"}}
		maps.Copy(claims, c.claims)
		maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
		text, err := json.Marshal(claims)
		assert.NoError(c.t, err)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": "at", "token_type": "Bearer",
			"id_token": oidctest.SignIDToken(c.key, "k", "RS256", string(text))})
	default:
		http.NotFound(w, r)
	}
}

// with starts a server whose people sign in at the provider.
func (c *crooked) with(t *testing.T, o servertest.Options) *servertest.Server {
	if o.Seed == "" {
		o.Seed = shop
	}
	more := o.Config
	o.Config = func(config *server.Config) {
		if more != nil {
			more(config)
		}
		config.OIDC = server.OIDC{Issuer: c.URL, ClientID: "console"}
		require.NoError(t, os.MkdirAll(config.Data, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(config.Data, "oidc-client-secret"), []byte(clientSecret+"\n"), 0o600))
	}
	s := servertest.Start(t, o)
	s.Hide(clientSecret)
	c.clock = s.Clock.Now
	return s
}

// sent goes to the provider and returns what it is asked.
func (c *crooked) sent(v *visitor) url.Values {
	v.t.Helper()
	p := v.get("/console/login/provider?next=/console/rules", "Sec-Fetch-Site: same-origin")
	to, err := url.Parse(p.Header.Get("Location"))
	require.True(v.t, err == nil && p.Status == http.StatusSeeOther && strings.HasPrefix(to.String(), c.URL+"/auth?"),
		"to the provider: %d %s %s", p.Status, p.Header.Get("Location"), p.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = to.Query()
	return c.asked
}

// back comes back from it by the form that the page has.
func back(v *visitor, answer url.Values) page {
	v.t.Helper()
	p := v.get("/console/login/callback?"+answer.Encode(), "Sec-Fetch-Site: cross-site")
	require.True(v.t, p.Status == http.StatusOK && strings.Contains(p.Body, `id="goes-on"`) && p.Header.Get("Set-Cookie") == "",
		"the page to come back to: %d %s", p.Status, p.Body)
	return v.post("/console/login/callback", answer, "Sec-Fetch-Site: same-origin")
}

func (c *crooked) signIn(v *visitor) page {
	v.t.Helper()
	asked := c.sent(v)
	return back(v, url.Values{"code": {"good"}, "state": {asked.Get("state")}, "iss": {c.URL}})
}

// ASVS 10.1.2, 10.2.1, 10.5.1, 10.5.4: an answer counts in the browser that asked for it, once, within ten minutes; a token
// is for this sign-in, this client and now.
func TestOIDC_TokenValidation(t *testing.T) {
	t.Parallel()
	c := crookedProvider(t)
	s := c.with(t, servertest.Options{Guarded: true})
	v := request(t, s)
	asked := c.sent(v)
	for name, want := range map[string]string{"response_type": "code", "client_id": "console", "code_challenge_method": "S256",
		"scope": "openid profile roles", "redirect_uri": s.AdminURL + "/console/login/callback"} {
		assert.Equal(t, asked.Get(name), want, "%s", name)
	}
	first := c.sent(v)
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		assert.True(t, len(first.Get(name)) == 43 && first.Get(name) != asked.Get(name),
			"%s: %q, then %q", name, asked.Get(name), first.Get(name))
	}
	refused := func(name, says string, p page) {
		t.Helper()
		assert.True(t, p.Status == http.StatusForbidden && strings.Contains(p.Body, says) && strings.Contains(p.Body, `id="password"`),
			"%s: %d, and not %q: %s", name, p.Status, says, p.Body)
		assert.True(t, v.get("/console/rules").Status == http.StatusSeeOther, "%s: signed in", name)
	}
	const notBegun = "was started in another browser"
	good := func(v *visitor) url.Values {
		return url.Values{"code": {"good"}, "state": {c.sent(v).Get("state")}, "iss": {c.URL}}
	}
	with := func(answer url.Values, name, value string) url.Values { answer.Set(name, value); return answer }
	refused("another state", notBegun, back(v, with(good(v), "state", "x")))
	refused("no state", notBegun, back(v, with(good(v), "state", "")))
	refused("another browser's", notBegun, back(v, good(request(t, s))))
	late := good(v)
	s.Clock.Step(10 * time.Minute)
	refused("ten minutes later", notBegun, back(v, late))
	refused("another issuer's", "does not belong to this sign-in", back(v, with(good(v), "iss", "https://evil.example")))
	refused("another code", "invalid_grant", back(v, with(good(v), "code", "stolen")))
	refused("an error", "access_denied&lt;b&gt;", back(v, with(good(v), "error", "access_denied<b>")))
	now := s.Clock.Now()
	for name, claims := range map[string]map[string]any{"nonce": {"nonce": "x"}, "no nonce": {"nonce": nil}, "audience": {"aud": "other"},
		"authorized party": {"aud": []string{"console", "other"}}, "azp": {"azp": "other"}, "issuer": {"iss": "https://evil.example"},
		"expiry": {"exp": now.Add(-time.Minute).Unix()}, "issued in the future": {"exp": now.Add(time.Hour * 2).Unix(),
			"iat": now.Add(time.Hour).Unix()}, "no subject": {"sub": nil}, "a long subject": {"sub": strings.Repeat("x", 256)}} {
		s.Clock.Step(time.Minute) // the limit of wrong answers is another test's
		claims := maps.Clone(claims)
		c.says(claims)
		refused(name, "does not belong to this sign-in", c.signIn(v))
	}
	c.says(nil)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	strong := c.key
	c.key = weak
	refused("RSA key of 1,024 bits", "fewer than 2048 bits", c.signIn(v))
	c.key = strong
	answer := good(v)
	p := back(v, answer)
	require.True(t, p.Status == http.StatusSeeOther && p.Header.Get("Location") == "/console/rules", "signing in: %d %s", p.Status, p.Body)
	refusedBefore := v.get("/console/rules")
	assert.Equal(t, refusedBefore.Status, http.StatusOK, "signed in")
	v = request(t, s)
	refused("the same answer in another browser", notBegun, back(v, answer))
	// A page of another origin cannot begin it, nor end it.
	p = v.get("/console/login/provider", "Sec-Fetch-Site: cross-site")
	assert.True(t, strings.HasPrefix(p.Header.Get("Location"), "/console/login?"),
		"begun by a page of another origin: %s", p.Header.Get("Location"))
	p = v.post("/console/login/callback", answer, "Sec-Fetch-Site: cross-site")
	assert.Equal(t, p.Status, http.StatusForbidden, "ended by a page of another origin")
	for range 2 * 20 {
		v.post("/console/login/callback", url.Values{"state": {"x"}})
	}
	p = v.post("/console/login/callback", url.Values{"state": {"x"}})
	assert.Equal(t, p.Status, http.StatusTooManyRequests, "after forty wrong answers")
}

// Who somebody is and what they may do is the provider's word, at every sign-in.
func TestOIDC_RolesAtEachSignIn(t *testing.T) {
	t.Parallel()
	c := crookedProvider(t)
	s := c.with(t, servertest.Options{Guarded: true})
	person(s, "alice", adminroute.Admin) // not the provider's
	v, other := request(t, s), request(t, s)
	chosen := "chosen-by-a-stranger-chosen-by-a-stranger-x"
	p := func() page {
		asked := c.sent(v)
		v.http.Jar.SetCookies(&url.URL{Scheme: "http", Host: strings.TrimPrefix(s.AdminURL, "http://"), Path: "/"},
			[]*http.Cookie{{Name: "qrjump_session", Value: chosen}})
		return back(v, url.Values{"code": {"good"}, "state": {asked.Get("state")}})
	}()
	require.True(t, p.Status == http.StatusSeeOther && !strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), " "), chosen),
		"signing in, with a session that a stranger chose: %d", p.Status)
	list := s.Admin("GET", "/people", "").Body
	if !strings.Contains(list, fmt.Sprintf(`"role":"viewer","accounts":[],"has_password":false,"second_factor":false,"provider":%q`, c.URL)) ||
		!strings.Contains(list, `"name":"alice-`) {
		t.Errorf("people: %s", list)
	}
	assert.Equal(t, v.get("/console/people").Status, http.StatusForbidden, "a viewer who is called as an admin of this server is")
	var all struct {
		People []struct{ Name, Provider string }
	}
	s.Admin("GET", "/people", "").JSON(t, &all)
	theirs := all.People[1].Name
	for path, body := range map[string]string{"PATCH /people/" + theirs: `{"role":"admin"}`,
		"POST /login-links": `{"name":"` + theirs + `"}`} {
		method, path, _ := strings.Cut(path, " ")
		a := s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == http.StatusUnprocessableEntity && strings.Contains(a.Body, c.URL), "%s: %d %s", path, a.Status, a.Body)
	}
	require.Equal(t, c.signIn(other).Status, http.StatusSeeOther, "a second browser")
	c.says(map[string]any{"roles": []string{"rules-editor:shop"}, "preferred_username": "admin"}) // another role, and a new name
	require.Equal(t, c.signIn(other).Status, http.StatusSeeOther, "with another role")
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "the session with the former role")
	assert.Equal(t, other.get("/console/accounts/shop").Status, http.StatusOK, "the role with its AppID")
	log := s.Admin("GET", "/changes?kind=person&newest=true", "").Body
	assert.True(t, strings.Contains(log, `"actor":"provider"`) && strings.Count(log, theirs) == 2, "the log of changes: %s", log)
	// ASVS 7.6.1: an hour, then the provider is asked again.
	s.Clock.Step(59 * time.Minute)
	assert.Equal(t, other.get("/console/rules").Status, http.StatusOK, "after 59 minutes")
	c.says(map[string]any{"roles": []string{"staff"}})
	if p := c.signIn(v); p.Status != http.StatusForbidden || !strings.Contains(p.Body, "&#34;staff&#34;") {
		t.Errorf("the role is taken away: %d %s", p.Status, p.Body)
	}
	assert.Equal(t, other.get("/console/rules").Status, http.StatusSeeOther, "the session of who has no role any more")
	for claims, says := range map[string]string{`{"roles":null}`: "” is missing",
		`{"roles":["rules-editor","marketer"]}`: "neither includes the other", `{"roles":["admin:shop"]}`: "cannot be limited"} {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(claims), &m))
		c.says(m)
		c.info = map[string]any{"sub": "u1"}
		p := c.signIn(v)
		assert.True(t, p.Status == http.StatusForbidden && strings.Contains(p.Body, says), "%s: %d %s", claims, p.Status, p.Body)
	}
	c.says(map[string]any{"roles": nil})
	for sub, want := range map[string]int{"u1": http.StatusSeeOther, "u2": http.StatusForbidden} {
		c.info = map[string]any{"sub": sub, "roles": "operator"}
		assert.Equal(t, c.signIn(v).Status, want, "roles in the information of %s", sub)
	}
	c.says(nil)
	c.signIn(v)
	s.Clock.Step(time.Hour)
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "after an hour")
	c.signIn(v)
	out := v.post("/console/logout", nil)
	p = v.get(out.Header.Get("Location"))
	assert.Contains(t, p.Body, c.URL+"/end?client_id=console", "signed out here, and no word of the provider")
	assert.Equal(t, v.get("/console/rules").Status, http.StatusSeeOther, "signed out")
}

// A provider that is down, or that is another one, lets nobody in and keeps nobody out.
func TestOIDC_ProviderUnavailable(t *testing.T) {
	t.Parallel()
	c := crookedProvider(t)
	s := c.with(t, servertest.Options{Guarded: true})
	person(s, "bob", adminroute.Viewer)
	v := request(t, s)
	answer := url.Values{"code": {"good"}, "state": {c.sent(v).Get("state")}}
	down := func(name string, p page) {
		t.Helper()
		assert.True(t, p.Status == http.StatusServiceUnavailable && strings.Contains(p.Body, "is not reachable"),
			"%s: %d %s", name, p.Status, p.Body)
	}
	right := func() string {
		return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q,"jwks_uri":%q}`, c.URL, c.URL+"/auth", c.URL+"/token",
			c.URL+"/keys")
	}
	for name, document := range map[string]string{
		"another issuer":                         strings.Replace(right(), c.URL, "https://evil.example", 1), // ASVS 10.5.3
		"a token endpoint that others listen to": strings.Replace(right(), c.URL+"/token", "http://login.example/token", 1),
		"user information that others change":    strings.Replace(right(), "{", `{"userinfo_endpoint":"http://login.example/me",`, 1),
		"no JSON":                                "<html>", "endless": strings.Repeat(" ", 2<<20)} {
		s.Clock.Step(time.Minute)
		c.document = document
		down(name, v.get("/console/login/provider"))
	}
	s.Clock.Step(time.Minute)
	c.document = ""
	// Keys or tokens that cannot be had are no failed attempts, however many.
	for i := range 3 * 20 {
		c.unkeyed, c.failing = http.StatusServiceUnavailable, i%2 == 0
		down("keys or tokens that cannot be had", c.signIn(v))
	}
	c.unkeyed, c.failing = 0, false
	answer = url.Values{"code": {"good"}, "state": {c.sent(v).Get("state")}}
	c.Close()
	down("down when somebody comes back", v.post("/console/login/callback", answer))
	s.Clock.Step(time.Minute)
	down("down before", v.get("/console/login/provider"))
	assert.Equal(t, v.signIn("bob", password, "").Status, http.StatusSeeOther, "a name and password of this server")
	assert.True(t, strings.Contains(s.Log(), "sign-in at the identity provider failed"), "the log does not say that the provider is down")
}

// A configuration that cannot be is refused at the start, in one line.
func TestOIDC_InvalidConfiguration(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]server.OIDC{
		"--oidc-issuer and --oidc-client-id": {Issuer: "https://login.example"}, "belong together": {ClientSecret: "x"},
		"want https://": {Issuer: "http://login.example", ClientID: "c"}, "as in its discovery": {Issuer: "login", ClientID: "c"}} {
		c := server.Default()
		c.OIDC = o
		err := c.Check()
		assert.True(t, err != nil && strings.Contains(err.Error(), want), "%+v: %v", o, err)
	}
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop}) // none
	v := request(t, s)
	for _, p := range []page{v.get("/console/login/provider"), v.get("/console/login/callback"), v.post("/console/login/callback", nil)} {
		assert.Equal(t, p.Status, http.StatusNotFound, "without a provider")
	}
}

// Issue 17: a form that waits survives a sign-in at the provider, an address too long for a cookie loses no sign-in, and a link of a
// stranger ends none that is under way.
func TestOIDC_KeepsPendingForm(t *testing.T) {
	t.Parallel()
	c := crookedProvider(t)
	s := c.with(t, servertest.Options{Guarded: true})
	c.says(map[string]any{"roles": []string{"rules-editor"}})
	v := request(t, s)
	p := c.signIn(v)
	require.True(t, p.Status == http.StatusSeeOther, "signing in: %d %s", p.Status, p.Body)
	s.Clock.Step(30 * 24 * time.Hour)
	form := url.Values{"owner": {"shop"}, "prefix": {"https://shop.example/kept/"}, "path": {"pages/x"}, "links": {""}}
	p = v.post("/console/rules/new", form)
	kept := regexp.MustCompile(`name="kept" value="([^"]*)"`).FindStringSubmatch(p.Body)
	require.True(t, p.Status == http.StatusUnauthorized && kept != nil && strings.Contains(p.Body, `target="_blank"`),
		"an expired session: %d %s", p.Status, p.Body)
	goOn := func() page {
		t.Helper()
		return v.post("/console/login", url.Values{"kept": {html.UnescapeString(kept[1])}, "did": {"on"}})
	}
	if p := goOn(); p.Status != http.StatusUnauthorized || !strings.Contains(p.Body, `name="kept" value="`+kept[1]) {
		t.Errorf("before the sign-in: %d", p.Status)
	}
	c.signIn(v) // in another tab
	p = goOn()
	require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, `action="/console/rules/new"`) &&
		strings.Contains(p.Body, "https://shop.example/kept/"), "after it: %d %s", p.Status, p.Body)

	v = request(t, s)
	for _, next := range []string{"/console/rules?prefix=" + strings.Repeat("%26", 2000), "/console/rules/" + strings.Repeat("x", 5000)} {
		p := v.get("/console/login/provider?next="+url.QueryEscape(next), "Sec-Fetch-Site: same-origin")
		cookie := p.Header.Get("Set-Cookie")
		require.True(t, p.Status == http.StatusSeeOther && cookie != "" && len(cookie) <= 4000,
			"a long way: %d, a cookie of %d bytes", p.Status, len(cookie))
		to, err := url.Parse(p.Header.Get("Location"))
		require.NoError(t, err)
		c.mu.Lock()
		c.asked = to.Query()
		c.mu.Unlock()
		for range 3 { // of a stranger, who knows no state
			p := back(v, url.Values{"code": {"x"}, "state": {"x"}})
			set := p.Header.Get("Set-Cookie")
			require.True(t, p.Status == http.StatusForbidden && set == "", "a stranger's link: %d %q", p.Status, set)
		}
		p = back(v, url.Values{"code": {"good"}, "state": {to.Query().Get("state")}, "iss": {c.URL}})
		if at := p.Header.Get("Location"); p.Status != http.StatusSeeOther || !strings.HasPrefix(at, "/console/") || len(at) > 100 {
			t.Errorf("after a long way: %d %s %s", p.Status, at, p.Body)
		}
	}
}
