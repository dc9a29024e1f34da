// Package servertest starts a server for the tests of this module. The test controls the clock and the random numbers and can read the log.
// The test fails at its end if the log contains a secret. Tests of other modules use qrjumptest.
package servertest

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// Began is the default start time of the server's clock.
var Began = time.Date(2026, 1, 15, 10, 0, 0, 0, time.FixedZone("", 8*3600))

// AdminToken is the admin token of every server that a test starts.
const AdminToken = "qra_the-admin-token-of-a-test"

// Options are the differences to "qrjump serve --dev" on a loopback port.
type Options struct {
	Seed        string // YAML; "" = the demo seed
	Data        string // "" = a new directory
	Guarded     bool   // without --dev
	Emulator    bool
	Config      func(*server.Config)
	Began       time.Time // zero = Began
	Outbound    *safehttp.Client
	BodyTimeout time.Duration
	// FastPathTimeout is the time that the fast path waits for the rest of a request before it hands the connection to net/http; 0 = the
	// default.
	FastPathTimeout time.Duration
	// NoFastPath serves the scan listener by net/http without the fast path, as the reference for comparisons.
	NoFastPath bool
	// Connections is the maximum number of connections of all listeners except the admin listener, RejectedKeyIdleTime the idle timeout of
	// a connection after a rejected key; 0 = the default.
	Connections         int
	RejectedKeyIdleTime time.Duration
	// ScanListener gives the scan API a separate listener; requests to /scan/ go there.
	ScanListener bool
	// Undeclared permits error codes that the endpoint's row does not declare.
	Undeclared bool
}

// Server is a running server.
type Server struct {
	*server.Server
	// Clock is the real time of the server; only Step moves it.
	Clock *Clock

	t           testing.TB
	random      *randomSource
	seedSecrets func() map[string]string // AppSecrets of the seed's accounts and platforms, by AppID
	options     Options
	logs        testdiag.Buffer
	mu          sync.Mutex
	secrets     []string
	tokens      map[string]string
	stop        sync.Once
}

// Clock is a clock that only the test moves. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the current time of the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Step moves the clock by d.
func (c *Clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// randomSource is a seeded io.Reader for concurrent use. Every start in a new directory has the same seed. A restart in a used directory
// has another one, so that ids and tokens in the directory are not generated a second time.
type randomSource struct {
	mu  sync.Mutex
	rng *rand.ChaCha8
}

var restarts atomic.Int64

// Reseed makes later random numbers independent of how many the start consumed.
func (s *Server) Reseed() {
	s.random.mu.Lock()
	defer s.random.mu.Unlock()
	s.random.rng.Seed([32]byte{2})
}

func (c *randomSource) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.Read(b)
}

// Start starts a server that stops at the end of the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := TryStart(t, o)
	require.NoErrorf(t, err, "starting the server")
	return s
}

// TryStart is Start for a start that may fail. It returns the error of server.Start.
func TryStart(t testing.TB, o Options) (*Server, error) {
	t.Helper()
	newDir := filepath.Join(t.TempDir(), "data")
	if o.Data == "" {
		o.Data = newDir
	}
	if o.Data == newDir {
		require.NoError(t, os.Mkdir(newDir, 0o700))
		storetest.Copies.Embedded(t, newDir)
	}
	c := server.Default()
	c.Data, c.Listen, c.Dev, c.Emulator, c.AdminToken = o.Data, "127.0.0.1:0", !o.Guarded, o.Emulator, AdminToken
	c.SeedAllow = server.Loopback
	if o.Seed != "" {
		c.Seed = filepath.Join(t.TempDir(), "seed.yaml")
		require.NoError(t, os.WriteFile(c.Seed, []byte(o.Seed), 0o600))
	}
	if o.ScanListener {
		c.ScanListen = "localhost:0" // differs from the text of Listen, so the server opens a second listener
	}
	if o.Config != nil {
		o.Config(&c)
	}
	if o.Began.IsZero() {
		o.Began = Began
	}
	s := &Server{Clock: &Clock{now: o.Began}, t: t, options: o, tokens: map[string]string{}}
	s.seedSecrets = sync.OnceValue(func() map[string]string { return parseSeedSecrets(t, o.Seed) })
	s.secrets = []string{AdminToken, "secret0001", "secret0002", "secret0003", "c0ffee00000000000000000000000001",
		"c0ffee00000000000000000000000002", "c0ffee00000000000000000000000003", "0123456789abcdef",
		"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}
	for _, found := range seedSecretPattern.FindAllStringSubmatch(o.Seed, -1) {
		s.secrets = append(s.secrets, found[1])
	}
	seed := [32]byte{1}
	if o.Data != newDir {
		seed[1] = byte(restarts.Add(1))
	}
	s.random = &randomSource{rng: rand.NewChaCha8(seed)}
	var err error
	s.Server, err = server.Start(context.Background(), c, &s.logs, server.TestHooks{
		RealNow: s.Clock.Now, Random: s.random, Outbound: o.Outbound, BodyTimeout: o.BodyTimeout, FastPathTimeout: o.FastPathTimeout,
		NoFastPath: o.NoFastPath, Connections: o.Connections, RejectedKeyIdleTime: o.RejectedKeyIdleTime, PassphraseWork: 4,
	})
	if err != nil {
		return nil, err
	}
	testdiag.Log(t, "the server", s.Log)
	t.Cleanup(func() {
		s.CheckLeaks()
		s.Stop()
	})
	return s, nil
}

// For reports later failures to t.
func (s *Server) For(t testing.TB) { s.t = t }

// Reset resets the emulator to the seed for the next row of a table test. Later failures are reported to t.
func (s *Server) Reset(t testing.TB) {
	t.Helper()
	s.For(t)
	s.Admin("POST", "/emulator/reset", "")
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// Stop stops the server before the test ends.
func (s *Server) Stop() {
	s.t.Helper()
	s.stop.Do(func() { assert.NoErrorf(s.t, s.Close(), "stopping the server") })
}

// Log returns the log of the server up to now.
func (s *Server) Log() string { return s.logs.String() }

// Exec runs a statement on the embedded database without the server, for a state that API calls would take minutes to reach.
func (s *Server) Exec(query string) {
	s.t.Helper()
	path := (&url.URL{Path: filepath.Join(s.options.Data, "qrjump.db")}).EscapedPath()
	db, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=10000")
	if err == nil {
		_, err = db.ExecContext(s.t.Context(), query)
		db.Close()
	}
	require.NoError(s.t, err)
}

// RegisterSecret registers a secret: the test fails if the log contains it.
func (s *Server) RegisterSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
}

// reachedBehaviours contains the ids of the behaviours that decided calls to any server of this process.
var reachedBehaviours sync.Map

// BehaviourReached reports whether a behaviour decided a call to any server of this process.
func BehaviourReached(id string) bool {
	_, ok := reachedBehaviours.Load(id)
	return ok
}

var (
	seedSecretPattern = regexp.MustCompile(`(?:secret|marketcode_key|aes_key): *([^,}\s]+)`)

	errorPattern      = regexp.MustCompile(` errcode=[1-9][0-9]* `)
	behavioursPattern = regexp.MustCompile(` behaviours="?\[([a-z_. ]+)\]`)
)

// checkBehaviours fails the test if the log has a rejected call without a row of the table of behaviours. It records the rows in the log
// for BehaviourReached.
func (s *Server) checkBehaviours(text string) {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, " msg=call ") {
			continue
		}
		found := behavioursPattern.FindStringSubmatch(line)
		if found == nil {
			assert.True(s.t, !errorPattern.MatchString(line), "rejected call without a row of the table of behaviours: %s", line)
			continue
		}
		for id := range strings.FieldsSeq(found[1]) {
			reachedBehaviours.Store(id, true)
		}
	}
}

// CheckLeaks fails the test if the log contains a secret or token, or an error code that the endpoint's row does not declare.
func (s *Server) CheckLeaks() {
	s.t.Helper()
	text := s.Log()
	s.checkBehaviours(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.secrets {
		if i := strings.Index(text, secret); i >= 0 {
			s.t.Errorf("the log contains the secret %q: …%s…", secret, text[max(0, i-200):min(len(text), i+len(secret)+20)])
		}
	}
	if i := strings.Index(text, "undeclared="); i >= 0 && !s.options.Undeclared {
		s.t.Errorf("an endpoint returned an error code that its row does not declare: %s", text[max(0, i-300):i])
	}
}

// Answer is the response to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Path   string // of the request
}

// JSON decodes the body into dst.
func (a Answer) JSON(t testing.TB, dst any) {
	t.Helper()
	err := json.Unmarshal([]byte(a.Body), dst)
	require.NoErrorf(t, err, "%v: %.500s", err, a.Body)
}

// Decode decodes the body of a into a new value.
func Decode[V any](t testing.TB, a Answer) (v V) {
	t.Helper()
	a.JSON(t, &v)
	return v
}

// Text returns a string member of the body; "" if it is absent.
func (a Answer) Text(t testing.TB, name string) string {
	t.Helper()
	return member[string](t, a, name)
}

// Number returns an integer member of the body; 0 if it is absent.
func (a Answer) Number(t testing.TB, name string) int64 {
	t.Helper()
	return member[int64](t, a, name)
}

func member[V any](t testing.TB, a Answer, name string) (v V) {
	t.Helper()
	if raw := Decode[map[string]json.RawMessage](t, a)[name]; raw != nil {
		require.NoErrorf(t, json.Unmarshal(raw, &v), "%s of %.500s", name, a.Body)
	}
	return v
}

// Code returns the errcode of the body; 0 if it is absent.
func (a Answer) Code(t testing.TB) int {
	t.Helper()
	var e struct{ ErrCode int }
	a.JSON(t, &e)
	return e.ErrCode
}

// WantCode fails the test unless the errcode is want; format and args describe the call.
func (a Answer) WantCode(t testing.TB, want int, format string, args ...any) {
	t.Helper()
	assert.True(t, a.Code(t) == want, "%s: %s = %.500s, want errcode %d", fmt.Sprintf(format, args...), a.Path, a.Body, want)
}

// WantStatus fails the test unless the status is want; format and args describe the call.
func (a Answer) WantStatus(t testing.TB, want int, format string, args ...any) {
	t.Helper()
	assert.True(t, a.Status == want, "%s: %s = %d %.500s, want %d", fmt.Sprintf(format, args...), a.Path, a.Status, a.Body, want)
}

// RID returns the request id at the end of errmsg.
func (a Answer) RID(t testing.TB) string {
	t.Helper()
	var e struct{ ErrMsg string }
	a.JSON(t, &e)
	_, rid, found := strings.Cut(e.ErrMsg, " rid: ")
	require.True(t, found, "no request id in %s", a.Body)
	return rid
}

// Send sends a request on a new connection and fails the test if there is no response.
func (s *Server) Send(r *http.Request) Answer {
	s.t.Helper()
	a := require.Value(s.TrySend(r))(s.t)
	return a
}

// TrySend is Send for a connection that may break. It opens a new connection, because net/http retries some requests on a reused one.
func (s *Server) TrySend(r *http.Request) (Answer, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body), Path: r.URL.Path}, err
}

// Request returns a request to the server; header lines are "Name: value".
func (s *Server) Request(method, path, body string, header ...string) *http.Request {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	url := s.URL
	if strings.HasPrefix(path, "/scan/") {
		url = s.ScanURL
	}
	r := require.Value(http.NewRequest(method, url+path, reader))(s.t)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	return r
}

// Do sends a request on a new connection; header lines are "Name: value".
func (s *Server) Do(method, path, body string, header ...string) Answer {
	s.t.Helper()
	return s.Send(s.Request(method, path, body, header...))
}

// Admin calls the admin API with AdminToken and fails the test unless the status is 2xx.
func (s *Server) Admin(method, path, body string) Answer {
	s.t.Helper()
	a := s.TryAdmin(method, path, body)
	require.True(s.t, a.Status/100 == 2, "%s %s %s: %d %s", method, path, body, a.Status, a.Body)
	return a
}

// TryAdmin is Admin for a call that may fail.
func (s *Server) TryAdmin(method, path, body string) Answer {
	s.t.Helper()
	return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+AdminToken, "Content-Type: application/json")
}

// NewKey creates a key and returns it: an admin key at /admin-keys, a scan key at /scan-keys.
func (s *Server) NewKey(path, body string) string {
	s.t.Helper()
	return s.secret(s.Admin("POST", path, body), "key")
}

// Advance moves the emulator's clock.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.Admin("PUT", "/emulator/clock", `{"advance":"`+d.String()+`"}`)
}

// appSecret returns the AppSecret of an account or a platform: the one of the seed, otherwise "the-secret-of-" and the AppID.
func (s *Server) appSecret(appid string) string {
	return cmp.Or(s.seedSecrets()[appid], "the-secret-of-"+appid)
}

// parseSeedSecrets returns the AppSecrets in a seed and in the demo seed, by AppID.
func parseSeedSecrets(t testing.TB, text string) map[string]string {
	t.Helper()
	secrets := map[string]string{"wxminiprogram0001": "secret0001", "wxserviceacct0001": "secret0002"}
	var seed struct {
		Accounts, Components []struct{ AppID, Secret string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(text), &seed))
	for _, entry := range slices.Concat(seed.Accounts, seed.Components) {
		if entry.Secret != "" {
			secrets[entry.AppID] = entry.Secret
		}
	}
	return secrets
}

// Token returns the access token of an account. The first call requests it.
func (s *Server) Token(appid string) string {
	s.t.Helper()
	s.mu.Lock()
	token := s.tokens[appid]
	s.mu.Unlock()
	if token == "" {
		token = s.NewToken(appid)
	}
	return token
}

// NewToken requests an access token of an account.
func (s *Server) NewToken(appid string) string {
	s.t.Helper()
	a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+url.QueryEscape(s.appSecret(appid)), "")
	token := s.secret(a, "access_token")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[appid] = token
	return token
}

// Rule calls an endpoint of the rule API as an account: Rule("shop", "add", …) calls qrcodejumpadd.
func (s *Server) Rule(appid, call, body string) Answer {
	s.t.Helper()
	return s.Do("POST", "/cgi-bin/wxopen/qrcodejump"+call+"?access_token="+s.Token(appid), body, "Content-Type: application/json")
}

// OK is Rule for a call that must return errcode 0.
func (s *Server) OK(appid, call, body string) Answer {
	s.t.Helper()
	a := s.Rule(appid, call, body)
	require.True(s.t, a.Code(s.t) == 0, "%s as %s: %s", call, appid, a.Body)
	return a
}
