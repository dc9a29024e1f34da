// Package servertest starts a server for the tests of this module. The test controls the clock and the random numbers and can read the log;
// at the end of the test, no secret may be in any log or file. Tests of other modules use qrjumptest.
package servertest

import (
	"bytes"
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

// Began is the default time at which a test's server starts.
var Began = time.Date(2026, 1, 15, 10, 0, 0, 0, time.FixedZone("", 8*3600))

// AdminToken is the admin token of every test's server.
const AdminToken = "qra_the-admin-token-of-a-test"

// Options say what differs from "qrjump serve --dev" on a loopback port.
type Options struct {
	Seed        string // YAML; "" = the demo seed
	Data        string // "" = a new folder
	Guarded     bool   // without --dev
	Emulator    bool
	Config      func(*server.Config)
	Began       time.Time // zero = Began
	Outbound    *safehttp.Client
	BodyTimeout time.Duration
	// LanePatience is the time that the scan listener waits for the rest of a request before net/http gets it; 0 = the default.
	LanePatience time.Duration
	// NoLane makes that listener one of net/http alone, as a yardstick.
	NoLane bool
	// Connections is the maximum number of connections of all listeners but the admin's, RefusedTime the time that one may be idle
	// after a refused key; 0 = the default.
	Connections int
	RefusedTime time.Duration
	// ScanListener gives the scan API a listener of its own; requests to /scan/ go there.
	ScanListener bool
	// Undeclared lets calls answer codes that their endpoint's line does not name.
	Undeclared bool
}

// Server is a running server.
type Server struct {
	*server.Server
	// Clock is the real time of the server; it moves by Step only.
	Clock *Clock

	t       testing.TB
	chance  *chance
	seeded  func() map[string]string // the secrets of the seed's accounts and platforms, by AppID
	options Options
	logs    *log
	mu      sync.Mutex
	secrets []string
	tokens  map[string]string
	stop    sync.Once
}

// Clock is a real time that a test moves.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Step moves the time on.
func (c *Clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// chance is a seeded source that many may read. Every start in a new folder has the same one; a start in a folder that was used must not
// draw again what is there already.
type chance struct {
	mu     sync.Mutex
	source *rand.ChaCha8
}

var restarts atomic.Int64

// Reseed makes what is drawn from now on independent of what the start drew.
func (s *Server) Reseed() {
	s.chance.mu.Lock()
	defer s.chance.mu.Unlock()
	s.chance.source.Seed([32]byte{2})
}

func (c *chance) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.source.Read(b)
}

type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Start starts a server that stops at the end of the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Try(t, o)
	require.NoErrorf(t, err, "starting the server")
	return s
}

// Try is Start for a start that may fail.
func Try(t testing.TB, o Options) (*Server, error) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "data")
	if o.Data == "" {
		o.Data = folder
	}
	if o.Data == folder {
		require.NoError(t, os.Mkdir(folder, 0o700))
		storetest.Copies.Embedded(t, folder)
	}
	c := server.Default()
	c.Data, c.Listen, c.Dev, c.Emulator, c.AdminToken = o.Data, "127.0.0.1:0", !o.Guarded, o.Emulator, AdminToken
	c.SeedAllow = server.Loopback
	if o.Seed != "" {
		c.Seed = filepath.Join(t.TempDir(), "seed.yaml")
		require.NoError(t, os.WriteFile(c.Seed, []byte(o.Seed), 0o600))
	}
	if o.ScanListener {
		c.ScanListen = "localhost:0" // spelled otherwise than Listen, so another one
	}
	if o.Config != nil {
		o.Config(&c)
	}
	if o.Began.IsZero() {
		o.Began = Began
	}
	s := &Server{Clock: &Clock{now: o.Began}, t: t, options: o, logs: &log{}, tokens: map[string]string{}}
	s.seeded = sync.OnceValue(func() map[string]string { return seededSecrets(t, o.Seed) })
	s.secrets = []string{AdminToken, "secret0001", "secret0002", "secret0003", "c0ffee00000000000000000000000001",
		"c0ffee00000000000000000000000002", "c0ffee00000000000000000000000003", "0123456789abcdef",
		"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}
	for _, found := range secretInSeed.FindAllStringSubmatch(o.Seed, -1) {
		s.secrets = append(s.secrets, found[1])
	}
	seed := [32]byte{1}
	if o.Data != folder {
		seed[1] = byte(restarts.Add(1))
	}
	s.chance = &chance{source: rand.NewChaCha8(seed)}
	var err error
	s.Server, err = server.Start(context.Background(), c, s.logs, server.TestHooks{
		RealNow: s.Clock.Now, Random: s.chance, Outbound: o.Outbound, BodyTimeout: o.BodyTimeout, LanePatience: o.LanePatience,
		NoLane: o.NoLane, Connections: o.Connections, RefusedTime: o.RefusedTime, PassphraseWork: 4,
	})
	if err != nil {
		return nil, err
	}
	testdiag.Log(t, "the server", s.Log)
	t.Cleanup(func() {
		s.NothingLeaked()
		s.Stop()
	})
	return s, nil
}

// Renew brings the emulator back to the seed, for the next row of a table, whose faults are from now on those of t.
func (s *Server) Renew(t testing.TB) {
	t.Helper()
	s.t = t
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

// Log is everything that was logged so far.
func (s *Server) Log() string { return s.logs.String() }

// Exec changes the database behind the server's back: a state that its calls would reach in minutes.
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

// Hide adds a text that must not occur in the log.
func (s *Server) Hide(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
}

// reached are the rows of the table of behaviours that calls of this process's servers met.
var reached sync.Map

// Reached reports whether a call of any server so far met a row.
func Reached(id string) bool {
	_, met := reached.Load(id)
	return met
}

var (
	secretInSeed = regexp.MustCompile(`(?:secret|marketcode_key|aes_key): *([^,}\s]+)`)

	refusal = regexp.MustCompile(` errcode=[1-9][0-9]* `)
	rows    = regexp.MustCompile(` behaviours="?\[([a-z_. ]+)\]`)
)

// everyRefusalHasARow fails the test if a call was refused by no row of the table of behaviours, and notes those that were met.
func (s *Server) everyRefusalHasARow(text string) {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, " msg=call ") {
			continue
		}
		found := rows.FindStringSubmatch(line)
		if found == nil {
			assert.True(s.t, !refusal.MatchString(line), "no row of the table of behaviours refused this: %s", line)
			continue
		}
		for id := range strings.FieldsSeq(found[1]) {
			reached.Store(id, true)
		}
	}
}

// NothingLeaked fails the test if a secret or token stands in the log, or an endpoint answered a code that its line does not name.
func (s *Server) NothingLeaked() {
	s.t.Helper()
	text := s.Log()
	s.everyRefusalHasARow(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.secrets {
		if i := strings.Index(text, secret); i >= 0 {
			s.t.Errorf("%q stands in the log: …%s…", secret, text[max(0, i-200):min(len(text), i+len(secret)+20)])
		}
	}
	if i := strings.Index(text, "undeclared="); i >= 0 && !s.options.Undeclared {
		s.t.Errorf("an endpoint's line does not name a code that it answered: %s", text[max(0, i-300):i])
	}
}

// Answer is the response to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Path   string // of the request
}

// JSON reads the answer into a value.
func (a Answer) JSON(t testing.TB, dst any) {
	t.Helper()
	err := json.Unmarshal([]byte(a.Body), dst)
	require.NoErrorf(t, err, "%v: %.500s", err, a.Body)
}

// Decode reads an answer into a new value.
func Decode[V any](t testing.TB, a Answer) (v V) {
	t.Helper()
	a.JSON(t, &v)
	return v
}

// Text returns a member of the answer that is a text; "" if the answer lacks it.
func (a Answer) Text(t testing.TB, name string) string {
	t.Helper()
	return member[string](t, a, name)
}

// Number returns a member of the answer that is a number; 0 if the answer lacks it.
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

// Code returns the errcode of the answer; 0 where it has none.
func (a Answer) Code(t testing.TB) int {
	t.Helper()
	var e struct{ ErrCode int }
	a.JSON(t, &e)
	return e.ErrCode
}

// WantCode fails the test if the answer has another errcode; the format says what was asked.
func (a Answer) WantCode(t testing.TB, want int, format string, args ...any) {
	t.Helper()
	assert.True(t, a.Code(t) == want, "%s: %s answers %.500s, want errcode %d", fmt.Sprintf(format, args...), a.Path, a.Body, want)
}

// WantStatus fails the test if the answer has another status; the format says what was asked.
func (a Answer) WantStatus(t testing.TB, want int, format string, args ...any) {
	t.Helper()
	assert.True(t, a.Status == want, "%s: %s answers %d %.500s, want %d", fmt.Sprintf(format, args...), a.Path, a.Status, a.Body, want)
}

// RID returns the request id at the end of an error's text.
func (a Answer) RID(t testing.TB) string {
	t.Helper()
	var e struct{ ErrMsg string }
	a.JSON(t, &e)
	_, rid, found := strings.Cut(e.ErrMsg, " rid: ")
	require.True(t, found, "no request id in %s", a.Body)
	return rid
}

// Send sends one request on a connection of its own and fails the test if no answer comes.
func (s *Server) Send(r *http.Request) Answer {
	s.t.Helper()
	a, err := s.TrySend(r)
	require.NoError(s.t, err)
	return a
}

// TrySend is Send for a connection that may break. It has a connection of its own, because net/http repeats some requests on an old one.
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

// Request makes a request; header lines are "Name: value".
func (s *Server) Request(method, path, body string, header ...string) *http.Request {
	s.t.Helper()
	var send io.Reader
	if body != "" {
		send = strings.NewReader(body)
	}
	url := s.URL
	if strings.HasPrefix(path, "/scan/") {
		url = s.ScanURL
	}
	r, err := http.NewRequest(method, url+path, send)
	require.NoError(s.t, err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	return r
}

// Do sends a request.
func (s *Server) Do(method, path, body string, header ...string) Answer {
	s.t.Helper()
	return s.Send(s.Request(method, path, body, header...))
}

// Admin makes a call of the admin API with its token; anything but 200 fails the test.
func (s *Server) Admin(method, path, body string) Answer {
	s.t.Helper()
	a := s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+AdminToken, "Content-Type: application/json")
	require.True(s.t, a.Status/100 == 2, "%s %s %s: %d %s", method, path, body, a.Status, a.Body)
	return a
}

// NewKey creates a key: an admin key at /admin-keys, a key of the scan API at /scan-keys.
func (s *Server) NewKey(path, body string) string {
	s.t.Helper()
	return s.secret(s.Admin("POST", path, body), "key")
}

// Advance moves the emulator's clock.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	s.Admin("PUT", "/emulator/clock", `{"advance":"`+d.String()+`"}`)
}

// secretOf returns the AppSecret of an account or a platform: the seed's, or else "the-secret-of-" and its AppID.
func (s *Server) secretOf(appid string) string {
	return cmp.Or(s.seeded()[appid], "the-secret-of-"+appid)
}

// seededSecrets returns the secrets in a seed, and those of the demo seed.
func seededSecrets(t testing.TB, text string) map[string]string {
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

// Token returns an account's access token, fetched at its first use.
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

// NewToken fetches an access token.
func (s *Server) NewToken(appid string) string {
	s.t.Helper()
	a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+url.QueryEscape(s.secretOf(appid)), "")
	token := s.secret(a, "access_token")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[appid] = token
	return token
}

// Rule makes a call of the jump-rule family as an account: Rule("shop", "add", …).
func (s *Server) Rule(appid, call, body string) Answer {
	s.t.Helper()
	return s.Do("POST", "/cgi-bin/wxopen/qrcodejump"+call+"?access_token="+s.Token(appid), body, "Content-Type: application/json")
}

// OK is Rule for a call that must succeed.
func (s *Server) OK(appid, call, body string) Answer {
	s.t.Helper()
	a := s.Rule(appid, call, body)
	require.True(s.t, a.Code(s.t) == 0, "%s as %s: %s", call, appid, a.Body)
	return a
}
