package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// connection is a keep-alive connection to a server.
type connection struct {
	base   string
	bearer string // of the scan and admin APIs
	http   *http.Client
	// ended is the number of connections that the server closed.
	ended atomic.Int64
}

// connect returns a connection that is dialled by the first call.
func connect(t testing.TB, base, bearer string) *connection {
	c := &connection{base: base, bearer: bearer}
	transport := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return countingConn{conn, &c.ended}, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c.http = &http.Client{Transport: transport}
	return c
}

// countingConn counts closes by the peer.
type countingConn struct {
	net.Conn
	ended *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.ended.Add(1)
	}
	return n, err
}

// clientGroup runs clients until they are stopped.
type clientGroup struct {
	t       testing.TB
	stopped atomic.Bool
	clients sync.WaitGroup
}

// run starts a client that calls f repeatedly until stop is called or the test fails.
func (g *clientGroup) run(f func()) {
	g.clients.Go(func() {
		for !g.stopped.Load() && !g.t.Failed() {
			f()
		}
	})
}

// stop stops all clients and waits for their last calls.
func (g *clientGroup) stop() {
	g.stopped.Store(true)
	g.clients.Wait()
}

// response is a complete HTTP response.
type response struct {
	status int
	header http.Header
	body   string
}

// send makes a request; an empty contentType or bearer sends no such header. An error means that no complete response arrived.
func send(client *http.Client, method, address, contentType, body, bearer string) (response, error) {
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(text)}, err
}

// mustSend is send with the default client; an error ends the test.
func mustSend(t testing.TB, method, address, contentType, body, bearer string) response {
	t.Helper()
	r, err := send(http.DefaultClient, method, address, contentType, body, bearer)
	require.NoError(t, err)
	return r
}

// ruleView is a rule in the response of qrcodejumpget.
type ruleView struct {
	Prefix        string   `json:"prefix"`
	Path          string   `json:"path"`
	State         int      `json:"state"`
	PermitSubRule int      `json:"permit_sub_rule"`
	OpenVersion   int      `json:"open_version"`
	DebugURL      []string `json:"debug_url"`
}

// reply has the fields of all responses of the platform API.
type reply struct {
	ErrCode            int        `json:"errcode"`
	ErrMsg             string     `json:"errmsg"`
	AccessToken        string     `json:"access_token"`
	RuleList           []ruleView `json:"rule_list"`
	TotalCount         int        `json:"total_count"`
	QRCodeJumpPubQuota int        `json:"qrcodejump_pub_quota"`
	ApplicationID      int64      `json:"application_id"`
}

// decision is the response to a scan.
type decision struct {
	ScanID  string `json:"scan_id"`
	Action  string `json:"action"`
	AppID   string `json:"appid"`
	Path    string `json:"path"`
	Error   string `json:"error"`
	Matched struct {
		Kind   string `json:"kind"`
		Prefix string `json:"prefix"`
	} `json:"matched"`
}

func (d decision) opens() bool { return d.Action == "open_mini_program" }

// ticket returns the ticket of a code scan; "" if there is none.
func (d decision) ticket() string {
	_, ticket, _ := strings.Cut(d.Path, "code_ticket=")
	ticket, _, _ = strings.Cut(ticket, "&")
	return ticket
}

func (d decision) String() string {
	if d.opens() {
		return fmt.Sprintf("opens %s of %s by %s %q", d.Path, d.AppID, d.Matched.Kind, d.Matched.Prefix)
	}
	return d.Action + d.Error
}

// do makes a call with a JSON body, and decodes the response. An error means no response or a status other than 200.
func (c *connection) do(method, path string, body, into any) error {
	contentType, text := "", []byte(nil)
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
		contentType = "application/json"
	}
	r, err := send(c.http, method, c.base+path, contentType, string(text), c.bearer)
	switch {
	case err != nil:
		return err
	case r.status != http.StatusOK:
		return fmt.Errorf("%s %s: %d %.500s", method, path, r.status, r.body)
	case into == nil:
		return nil
	}
	return json.Unmarshal([]byte(r.body), into)
}

// wire calls an endpoint of the platform's rule API.
func (c *connection) wire(call, token string, body any) (r reply, err error) {
	err = c.do(http.MethodPost, "/cgi-bin/wxopen/"+call+"?access_token="+url.QueryEscape(token), body, &r)
	return r, err
}

// codes calls an endpoint of the platform's code API.
func (c *connection) codes(call, token string, body any) (r reply, err error) {
	err = c.do(http.MethodPost, "/intp/marketcode/"+call+"?access_token="+url.QueryEscape(token), body, &r)
	return r, err
}

// token returns a token of /cgi-bin/token.
func (c *connection) token(appid string) (string, error) {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {appid}, "secret": {secretOf(appid)}}
	return c.fetchToken(http.MethodGet, "/cgi-bin/token?"+query.Encode(), nil)
}

// stableToken returns a token of /cgi-bin/stable_token.
func (c *connection) stableToken(appid string) (string, error) {
	body := map[string]any{"grant_type": "client_credential", "appid": appid, "secret": secretOf(appid)}
	return c.fetchToken(http.MethodPost, "/cgi-bin/stable_token", body)
}

func (c *connection) fetchToken(method, path string, body any) (string, error) {
	var r reply
	err := c.do(method, path, body, &r)
	if err == nil && r.AccessToken == "" {
		err = fmt.Errorf("%s: %d %s", path, r.ErrCode, r.ErrMsg)
	}
	return r.AccessToken, err
}

func (c *connection) scan(text string) (decision, error) { return c.scanAs(text, "") }

// scanAs scans a text for a user.
func (c *connection) scanAs(text, user string) (d decision, err error) {
	body := map[string]any{"text": text}
	if user != "" {
		body["user"] = user
	}
	err = c.do(http.MethodPost, "/scan/v1/resolve", body, &d)
	return d, err
}

func secretOf(appid string) string { return "the AppSecret of " + appid }

// mustConnection is a connection for the test's goroutine: its methods end the test on an unexpected result.
type mustConnection struct {
	*connection
	t testing.TB
}

func mustConnect(t testing.TB, base, bearer string) mustConnection {
	return mustConnection{connect(t, base, bearer), t}
}

func (m mustConnection) token(appid string) string {
	m.t.Helper()
	v, err := m.connection.token(appid)
	m.check(err)
	return v
}

func (m mustConnection) stableToken(appid string) string {
	m.t.Helper()
	v, err := m.connection.stableToken(appid)
	m.check(err)
	return v
}

func (m mustConnection) scan(text string) decision {
	m.t.Helper()
	v, err := m.connection.scan(text)
	m.check(err)
	return v
}

// code makes a call of the rule API and returns any reply.
func (m mustConnection) code(call, token string, body any) reply {
	m.t.Helper()
	v, err := m.wire(call, token, body)
	m.check(err)
	return v
}

// ok makes a call of the rule API that must return errcode 0.
func (m mustConnection) ok(call, token string, body any) reply {
	m.t.Helper()
	r := m.code(call, token, body)
	require.True(m.t, r.ErrCode == 0, "%s(%v) = %d %s, want 0", call, body, r.ErrCode, r.ErrMsg)
	return r
}

func (m mustConnection) check(err error) {
	m.t.Helper()
	require.NoError(m.t, err)
}

// get decodes the response to a GET.
func (m mustConnection) get(path string, into any) {
	m.t.Helper()
	m.check(m.do(http.MethodGet, path, nil, into))
}

// post decodes the response to a POST.
func (m mustConnection) post(path string, body, into any) {
	m.t.Helper()
	m.check(m.do(http.MethodPost, path, body, into))
}

// scanKey creates a key of the scan API.
func (m mustConnection) scanKey(name string) string {
	m.t.Helper()
	var created struct{ Key string }
	m.post("/admin/v1/scan-keys", map[string]any{"name": name}, &created)
	return created.Key
}

// apply applies for codes and returns the application_id.
func (m mustConnection) apply(token, order string, count int64) int64 {
	m.t.Helper()
	r, err := m.codes("applycode", token, map[string]any{"code_count": count, "isv_application_id": order})
	m.check(err)
	require.True(m.t, r.ErrCode == 0 && r.ApplicationID != 0, "applycode(%s) = %+v, want an application_id", order, r)
	return r.ApplicationID
}

// activate activates the first count codes of an application for a page of appid.
func (m mustConnection) activate(token string, application, count int64, appid string) {
	m.t.Helper()
	r, err := m.codes("codeactive", token, activation(application, 0, count-1, appid))
	m.check(err)
	require.Equal(m.t, r.ErrCode, 0, "errcode of codeactive: %s", r.ErrMsg)
}

// codeText returns the text of a code.
func (m mustConnection) codeText(application, index int64) string {
	m.t.Helper()
	var code struct {
		CodeURL string `json:"code_url"`
	}
	m.post("/admin/v1/codes/lookup", map[string]any{"application_id": application, "code_index": index}, &code)
	return code.CodeURL
}

// openID returns the OpenID of a user for an account.
func (m mustConnection) openID(appid, user string) string {
	m.t.Helper()
	var id struct {
		OpenID string `json:"openid"`
	}
	m.get("/admin/v1/users/"+user+"/openid?appid="+appid, &id)
	return id.OpenID
}

// adminClient returns a client of the admin API.
func adminClient(t testing.TB, base string) *api.Client {
	t.Helper()
	c, err := api.New(base, api.Options{AdminToken: adminToken})
	require.NoError(t, err)
	return c
}

// rules returns the rules of an account by prefix.
func (m mustConnection) rules(token string) map[string]ruleView {
	m.t.Helper()
	rules := map[string]ruleView{}
	for page := 1; ; page++ {
		list := m.ok("qrcodejumpget", token, map[string]any{"get_type": 2, "page_num": page, "page_size": 200}).RuleList
		for _, r := range list {
			rules[r.Prefix] = r
		}
		if len(list) == 0 {
			return rules
		}
	}
}

// now returns the server's time.
func (m mustConnection) now() time.Time {
	m.t.Helper()
	var clock struct{ Now time.Time }
	m.get("/admin/v1/emulator/clock", &clock)
	return clock.Now
}

// freezeClock sets the server's clock and stops it.
func (m mustConnection) freezeClock(now time.Time) {
	m.t.Helper()
	m.check(m.do(http.MethodPut, "/admin/v1/emulator/clock", map[string]any{"now": now, "freeze": true}, nil))
}

// freezeNextMonth stops the server's clock on the 15th of the next month, so that the end of a real day or month cannot fall into the test.
func (m mustConnection) freezeNextMonth(hour int) time.Time {
	m.t.Helper()
	now := m.now()
	now = time.Date(now.Year(), now.Month()+1, 15, hour, 0, 0, 0, time.UTC)
	m.freezeClock(now)
	return now
}

// add returns the body of qrcodejumpadd for a new ordinary rule.
func add(prefix, path string) map[string]any {
	return map[string]any{"prefix": prefix, "path": path, "permit_sub_rule": 1, "open_version": 3, "is_edit": 0}
}

// activation returns the body of codeactive for the codes from first to last.
func activation(application, first, last int64, appid string) map[string]any {
	return map[string]any{"application_id": application, "code_start": first, "code_end": last, "activity_name": "a", "product_brand": "b",
		"product_title": "c", "product_code": "d", "wxa_appid": appid, "wxa_path": "pages/index"}
}

func prefixOnly(prefix string) map[string]any { return map[string]any{"prefix": prefix} }
