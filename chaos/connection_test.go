package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// connection is one keep-alive connection to a server.
type connection struct {
	base   string
	bearer string // of the scan and admin APIs
	// secretOf is the AppSecret of an account.
	secretOf func(appid string) string
	http     *http.Client
	// ended is how many connections the server ended.
	ended atomic.Int64
}

// connect makes a connection that is dialled with the first call.
func connect(t testing.TB, base, bearer string) *connection {
	c := &connection{base: base, bearer: bearer, secretOf: secretOf}
	transport := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return watched{conn, &c.ended}, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c.http = &http.Client{Transport: transport}
	return c
}

// watched counts when the other side ends it.
type watched struct {
	net.Conn
	ended *atomic.Int64
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		w.ended.Add(1)
	}
	return n, err
}

// ruleView is a rule of qrcodejumpget.
type ruleView struct {
	Prefix        string   `json:"prefix"`
	Path          string   `json:"path"`
	State         int      `json:"state"`
	PermitSubRule int      `json:"permit_sub_rule"`
	OpenVersion   int      `json:"open_version"`
	DebugURL      []string `json:"debug_url"`
}

// reply is any answer of the wire.
type reply struct {
	ErrCode            int        `json:"errcode"`
	ErrMsg             string     `json:"errmsg"`
	AccessToken        string     `json:"access_token"`
	RuleList           []ruleView `json:"rule_list"`
	TotalCount         int        `json:"total_count"`
	QRCodeJumpPubQuota int        `json:"qrcodejump_pub_quota"`
	ApplicationID      int64      `json:"application_id"`
}

// decision is what a scan opens.
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

func (d decision) String() string {
	if d.opens() {
		return fmt.Sprintf("opens %s of %s by %s %q", d.Path, d.AppID, d.Matched.Kind, d.Matched.Prefix)
	}
	return d.Action + d.Error
}

// do makes one call; an error means that no whole answer came.
func (c *connection) do(method, path string, body, into any) error {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, c.base+path, send)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, b)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(b, into)
}

// wire calls an endpoint of the wire with a JSON body.
func (c *connection) wire(call, token string, body any) (reply, error) {
	var r reply
	err := c.do(http.MethodPost, "/cgi-bin/wxopen/"+call+"?access_token="+url.QueryEscape(token), body, &r)
	return r, err
}

// codes calls an endpoint of the code family.
func (c *connection) codes(call, token string, body any) (r reply, err error) {
	err = c.do(http.MethodPost, "/intp/marketcode/"+call+"?access_token="+url.QueryEscape(token), body, &r)
	return r, err
}

// token fetches a token of /cgi-bin/token.
func (c *connection) token(appid string) (string, error) {
	var r reply
	err := c.do(http.MethodGet, "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+url.QueryEscape(c.secretOf(appid)),
		nil, &r)
	if err == nil && r.AccessToken == "" {
		err = fmt.Errorf("token of %s: %d %s", appid, r.ErrCode, r.ErrMsg)
	}
	return r.AccessToken, err
}

// stableToken fetches a token of /cgi-bin/stable_token.
func (c *connection) stableToken(appid string) (string, error) {
	var r reply
	err := c.do(http.MethodPost, "/cgi-bin/stable_token",
		map[string]any{"grant_type": "client_credential", "appid": appid, "secret": c.secretOf(appid)}, &r)
	if err == nil && r.AccessToken == "" {
		err = fmt.Errorf("stable token of %s: %d %s", appid, r.ErrCode, r.ErrMsg)
	}
	return r.AccessToken, err
}

func (c *connection) scan(text string) (decision, error) {
	var d decision
	err := c.do(http.MethodPost, "/scan/v1/resolve", map[string]any{"text": text}, &d)
	return d, err
}

func secretOf(appid string) string { return "the AppSecret of " + appid }

// The calls of a test's own goroutine: anything unexpected ends the test.

type must struct {
	*connection
	t testing.TB
}

func (m must) token(appid string) string {
	m.t.Helper()
	text, err := m.connection.token(appid)
	m.check(err)
	return text
}

// stableToken fetches a token of /cgi-bin/stable_token.
func (m must) stableToken(appid string) string {
	m.t.Helper()
	text, err := m.connection.stableToken(appid)
	m.check(err)
	return text
}

// scanKey creates a key of the scan API.
func (m must) scanKey(name string) string {
	m.t.Helper()
	var made struct{ Key string }
	m.check(m.do(http.MethodPost, "/admin/v1/scan-keys", map[string]any{"name": name}, &made))
	return made.Key
}

// apply applies for codes and returns the application_id.
func (m must) apply(token, order string, count int64) int64 {
	m.t.Helper()
	r, err := m.codes("applycode", token, map[string]any{"code_count": count, "isv_application_id": order})
	m.check(err)
	require.True(m.t, r.ErrCode == 0 && r.ApplicationID != 0, "applycode of %s: %+v", order, r)
	return r.ApplicationID
}

// activate activates the first count codes of an application for a page of appid.
func (m must) activate(token string, application, count int64, appid string) {
	m.t.Helper()
	r, err := m.codes("codeactive", token, activation(application, 0, count-1, appid))
	m.check(err)
	require.Equal(m.t, r.ErrCode, 0, "errcode of codeactive: %s", r.ErrMsg)
}

// codeText returns the text of a code.
func (m must) codeText(application, index int64) string {
	m.t.Helper()
	var found struct {
		CodeURL string `json:"code_url"`
	}
	m.check(m.do(http.MethodPost, "/admin/v1/codes/lookup", map[string]any{"application_id": application, "code_index": index}, &found))
	return found.CodeURL
}

// ok makes a call of the wire that must succeed.
func (m must) ok(call, token string, body any) reply {
	m.t.Helper()
	r := m.code(call, token, body)
	require.True(m.t, r.ErrCode == 0, "%s %v: %d %s", call, body, r.ErrCode, r.ErrMsg)
	return r
}

// code makes a call of the wire that must be answered.
func (m must) code(call, token string, body any) reply {
	m.t.Helper()
	r, err := m.wire(call, token, body)
	m.check(err)
	return r
}

func (m must) scan(text string) decision {
	m.t.Helper()
	d, err := m.connection.scan(text)
	m.check(err)
	return d
}

func (m must) check(err error) {
	m.t.Helper()
	require.NoError(m.t, err)
}

// now is the server's time.
func (m must) now() time.Time {
	m.t.Helper()
	var clock struct{ Now time.Time }
	m.check(m.do(http.MethodGet, "/admin/v1/emulator/clock", nil, &clock))
	return clock.Now
}

// setClock moves the server's clock, and stops it there if it shall.
func (m must) setClock(now time.Time, freeze bool) {
	m.t.Helper()
	m.check(m.do(http.MethodPut, "/admin/v1/emulator/clock", map[string]any{"now": now, "freeze": freeze}, nil))
}

// add is the body of qrcodejumpadd for a new ordinary rule.
func add(prefix, path string) map[string]any {
	return map[string]any{"prefix": prefix, "path": path, "permit_sub_rule": 1, "open_version": 3, "is_edit": 0}
}

// activation is the body of codeactive for the codes from the first to the last.
func activation(application, first, last int64, appid string) map[string]any {
	return map[string]any{"application_id": application, "code_start": first, "code_end": last, "activity_name": "a", "product_brand": "b",
		"product_title": "c", "product_code": "d", "wxa_appid": appid, "wxa_path": "pages/index"}
}

func prefixOnly(prefix string) map[string]any { return map[string]any{"prefix": prefix} }
