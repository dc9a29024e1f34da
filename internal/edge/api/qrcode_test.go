package api_test

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const (
	createPath = "/cgi-bin/qrcode/create"
	showPath   = "/cgi-bin/showqrcode"
)

// wanted is the body of a call that makes a code.
func wanted(action, scene, more string) string {
	return fmt.Sprintf(`{"action_name":%q,"action_info":{"scene":{%s}}%s}`, action, scene, more)
}

type madeCode struct {
	Ticket        string
	ExpireSeconds *int `json:"expire_seconds"`
	URL           string
}

// create makes a code and checks the form of the answer.
func create(t *testing.T, s *servertest.Server, appid, body string) madeCode {
	t.Helper()
	a := as(appid, createPath, body)(s)
	fields := servertest.Decode[map[string]json.RawMessage](t, a)
	made := servertest.Decode[madeCode](t, a)
	// Contract: clients 6: one client takes any errmsg for a failure.
	want := 2 + len(fields["expire_seconds"])/max(1, len(fields["expire_seconds"]))
	require.True(t, len(fields) == want && made.Ticket != "", "%s: %s", body, a.Body)
	assert.True(t, regexp.MustCompile(`^http://weixin\.qq\.com/q/02[0-9A-Za-z_-]{20}$`).MatchString(made.URL), "url %s", made.URL)
	assert.True(t, regexp.MustCompile(`^gQ[0-9A-Za-z_-]{94}$`).MatchString(made.Ticket), "ticket %s", made.Ticket)
	return made
}

// read is what a phone reads in a picture.
func read(t *testing.T, picture string) string {
	t.Helper()
	m, err := jpeg.Decode(strings.NewReader(picture))
	require.NoError(t, err)
	b := m.Bounds()
	assert.True(t, b.Dx() == 430 && b.Dy() == 430, "the picture has %d×%d pixels", b.Dx(), b.Dy())
	text, err := symbol.FindQR(m)
	require.NoError(t, err)
	return text
}

// Contract: rules 3.5.
func TestQRCodeCreate_AllFourKinds(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	urls := map[string]bool{}
	for _, c := range []struct {
		name, body string
		life       int // 0 = permanent
	}{
		{"a number", wanted("QR_SCENE", `"scene_id":123`, `,"expire_seconds":604800`), 604800},
		{"a number without a life", wanted("QR_SCENE", `"scene_id":123`, ""), 30},
		{"a number and a life as texts", wanted("QR_SCENE", `"scene_id":"4294967295"`, `,"expire_seconds":"2592000"`), 2592000},
		{"a text", wanted("QR_STR_SCENE", `"scene_str":"test"`, `,"expire_seconds":1`), 1},
		{"a text as a number", wanted("QR_STR_SCENE", `"scene_str":7`, `,"expire_seconds":null`), 30},
		{"a text with the other scene beside it", wanted("QR_STR_SCENE", `"scene_str":"test","scene_id":"none"`, ""), 30},
		{"a permanent number", wanted("QR_LIMIT_SCENE", `"scene_id":100000`, ""), 0},
		{"a permanent number with a life", wanted("QR_LIMIT_SCENE", `"scene_id":1`, `,"expire_seconds":99999999`), 0},
		{"a permanent text", wanted("QR_LIMIT_STR_SCENE", `"scene_str":"`+strings.Repeat("码", 64)+`"`, ""), 0},
		{"a permanent text of a digit", wanted("QR_LIMIT_STR_SCENE", `"scene_str":"1"`, ""), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := create(t, s, "svc", c.body)
			assert.True(t, (made.ExpireSeconds != nil) == (c.life > 0) && (c.life <= 0 || *made.ExpireSeconds == c.life),
				"expire_seconds is %v, want %d", made.ExpireSeconds, c.life)
			assert.True(t, !urls[made.URL], "the URL %s is of another code", made.URL)
			urls[made.URL] = true
			again := create(t, s, "svc", c.body)
			same := again.URL == made.URL && again.Ticket == made.Ticket
			assert.True(t, same == (c.life == 0), "asked for again: %+v, %+v", made, again)
			assert.True(t, create(t, s, "svc2", c.body).URL != made.URL, "two accounts have one code")
			a := s.Do("GET", showPath+"?ticket="+made.Ticket, "")
			require.True(t, a.Status == 200 && a.Header.Get("Content-Type") == "image/jpeg", "%d %v", a.Status, a.Header)
			assert.Equal(t, read(t, a.Body), made.URL, "the picture says")
		})
	}
}

func TestShowQRCode_PublicUntilExpiry(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t,
		servertest.Options{Seed: "accounts: [{appid: svc, kind: service_account, secret: the-secret-of-svc, certified: true}]",
			Guarded: true, Emulator: true})
	short := create(t, s, "svc", wanted("QR_STR_SCENE", `"scene_str":"x"`, `,"expire_seconds":60`))
	forEver := create(t, s, "svc", wanted("QR_LIMIT_STR_SCENE", `"scene_str":"x"`, ""))
	show := func(ticket, host string) servertest.Answer {
		t.Helper()
		return s.Do("GET", showPath+"?ticket="+ticket, "", "Host: "+host)
	}
	// Contract: clients 15, showqrcode: another host name, encoded or not.
	for _, ticket := range []string{short.Ticket, url.QueryEscape(short.Ticket)} {
		a := show(ticket, "mp.weixin.qq.com")
		assert.True(t, a.Status == 200 && read(t, a.Body) == short.URL && a.Header.Get("Cache-Control") == "public, max-age=60",
			"%s: %d %v", ticket, a.Status, a.Header)
	}
	a := show(forEver.Ticket, "api.weixin.qq.com")
	assert.True(t, a.Status == 200 && a.Header.Get("Cache-Control") == "public, max-age=86400", "%d %v", a.Status, a.Header)
	for _, ticket := range []string{"", "x", "%00", "%ff", strings.Repeat("x", 10_000), short.Ticket + "x", strings.ToLower(short.Ticket)} {
		if a := show(ticket, "mp.weixin.qq.com"); a.Status != 404 || strings.HasPrefix(a.Header.Get("Content-Type"), "image/") {
			t.Errorf("%.20s: %d %v", ticket, a.Status, a.Header)
		}
	}
	s.Do("GET", showPath, "").WantStatus(t, 404, "without a ticket")
	s.Advance(59 * time.Second)
	a = show(short.Ticket, "mp.weixin.qq.com")
	assert.True(t, a.Status == 200 && a.Header.Get("Cache-Control") == "public, max-age=1", "in the last second: %d %v", a.Status, a.Header)
	s.Advance(time.Second)
	assert.Equal(t, show(short.Ticket, "mp.weixin.qq.com").Status, 404, "after its life")
	s.Advance(100 * 24 * time.Hour)
	assert.Equal(t, show(forEver.Ticket, "mp.weixin.qq.com").Status, 200, "a permanent one")
}

// Behaviour(qrcode.show.rate).
func TestShowQRCode_RateLimitPerAddress(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", `{"qrcode_image_rate_limit":2}`)
	made := create(t, s, "svc", wanted("QR_LIMIT_SCENE", `"scene_id":1`, ""))
	for i, want := range []int{200, 200, 429, 429} {
		s.Do("GET", showPath+"?ticket="+made.Ticket, "").WantStatus(t, want, "picture %d", i+1)
	}
	s.Clock.Step(time.Second)
	s.Do("GET", showPath+"?ticket="+made.Ticket, "").WantStatus(t, 200, "a second later")
}

// receiver is an account's own server: what it was told, in order.
type receiver struct {
	*httptest.Server
	got    chan message
	status func(n int) int
}

type message struct {
	query url.Values
	body  string
}

func newReceiver(t *testing.T, status func(n int) int) *receiver {
	r := &receiver{got: make(chan message, 100), status: status}
	n := 0
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		n++ // one connection at a time comes from the server
		w.WriteHeader(r.status(n))
		io.WriteString(w, "success")
		r.got <- message{req.URL.Query(), string(b)}
	}))
	t.Cleanup(r.Close)
	return r
}

func always(status int) func(int) int { return func(int) int { return status } }

// tell gives svc a message URL.
func tell(s *servertest.Server, address string) {
	s.Admin("PUT", "/accounts/svc", `{"kind":"service_account","certified":true,"message_url":`+quoted(address)+`}`)
}

func scanBy(s *servertest.Server, user, text string) servertest.Answer {
	return s.Do("POST", "/scan/v1/resolve", `{"user":`+quoted(user)+`,"text":`+quoted(text)+`}`)
}

var eventShape = regexp.MustCompile(
	`^<xml><ToUserName><!\[CDATA\[(gh_[0-9a-f]{12})\]\]></ToUserName><FromUserName><!\[CDATA\[(o[0-9A-Za-z_-]{27})\]\]></FromUserName>` +
		`<CreateTime>([0-9]+)</CreateTime><MsgType><!\[CDATA\[event\]\]></MsgType><Event><!\[CDATA\[(.*)\]\]></Event><EventKey><!\[CDATA\[(.*)\]\]></EventKey><Ticket><!\[CDATA\[(.*)\]\]></Ticket></xml>$`)

// wantEvent takes the next event and compares it.
// Behaviour(message.signature).
func wantEvent(t *testing.T, s *servertest.Server, r *receiver, user, event, key, ticket string) {
	t.Helper()
	var m message
	select {
	case m = <-r.got:
	case <-time.After(time.Minute):
		t.Fatalf("%s got no event %s %s", user, event, key)
	}
	got := eventShape.FindStringSubmatch(m.body)
	require.True(t, got != nil, "the event is %s", m.body)
	known := servertest.Decode[struct{ OpenID string }](t, s.Admin("GET", "/users/"+user+"/openid?appid=svc", ""))
	if got[2] != known.OpenID || got[4] != event || got[5] != key || got[6] != ticket {
		t.Errorf("got %q\nwant %s %s %s %s", got[1:], known.OpenID, event, key, ticket)
	}
	parts := []string{"", m.query.Get("timestamp"), m.query.Get("nonce")}
	slices.Sort(parts)
	want := fmt.Sprintf("%x", sha1.Sum([]byte(strings.Join(parts, ""))))
	assert.True(t, m.query.Get("signature") == want && parts[1] != "", "the query is %v", m.query)
}

// Contract: rules 3.5: subscribe for a new follower, SCAN for an old one.
// Behaviour(qrcode.event).
func TestQRCodeScan_SubscribeAndScanEvents(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	r := newReceiver(t, always(200))
	tell(s, r.URL+"/wx?of=svc")
	number := create(t, s, "svc", wanted("QR_LIMIT_SCENE", `"scene_id":123`, ""))
	text := create(t, s, "svc", wanted("QR_STR_SCENE", `"scene_str":"a b"`, `,"expire_seconds":60`))

	a := scanBy(s, "u-1", number.URL)
	d := servertest.Decode[struct{ Action, URL string }](t, a)
	assert.True(t, d.Action == "open_url" && d.URL == number.URL, "the app gets %s", a.Body)
	wantEvent(t, s, r, "u-1", "subscribe", "qrscene_123", number.Ticket)
	scanBy(s, "u-1", number.URL)
	wantEvent(t, s, r, "u-1", "SCAN", "123", number.Ticket)
	scanBy(s, "u-1", text.URL)
	wantEvent(t, s, r, "u-1", "SCAN", "a b", text.Ticket)
	scanBy(s, "u-2", text.URL)
	wantEvent(t, s, r, "u-2", "subscribe", "qrscene_a b", text.Ticket)

	// None of these tells anybody anything: the event after them is the next one.
	scanBy(s, "", number.URL)
	scanBy(s, "u-3", number.URL+"?x=1")
	scanBy(s, "u-3", strings.Replace(number.URL, "http://", "https://", 1))
	scanBy(s, "u-3", q+"02"+strings.Repeat("x", 20))
	s.Do("POST", "/scan/v1/explain", `{"user":"u-3","text":`+quoted(number.URL)+`}`)
	published := create(t, s, "svc", wanted("QR_LIMIT_SCENE", `"scene_id":9`, ""))
	s.OK("svc", "add", code(published.URL, "shop"))
	s.OK("svc", "publish", prefix(published.URL))
	opened := scanBy(s, "u-3", published.URL)
	assert.True(t, strings.Contains(opened.Body, `"open_mini_program"`), "the code's rule does not open: %s", opened.Body)
	s.Advance(time.Minute)
	scanBy(s, "u-3", text.URL) // expired
	foreign := create(t, s, "svc2", wanted("QR_LIMIT_SCENE", `"scene_id":9`, ""))
	scanBy(s, "u-3", foreign.URL) // an account without a message URL
	scanBy(s, "u-3", number.URL)
	wantEvent(t, s, r, "u-3", "subscribe", "qrscene_123", number.Ticket)

	// A user that followed unnoticed is no new follower later.
	tell(s, "")
	scanBy(s, "u-4", number.URL)
	tell(s, r.URL)
	scanBy(s, "u-4", number.URL)
	wantEvent(t, s, r, "u-4", "SCAN", "123", number.Ticket)

	// A stream of scans tells as well.
	s.Do("POST", "/scan/v1/resolve", `{"user":"u-5","text":`+quoted(number.URL)+"}\n", "Content-Type: application/x-ndjson")
	wantEvent(t, s, r, "u-5", "subscribe", "qrscene_123", number.Ticket)
}

func TestQRCodeEvent_RetryUntilAccepted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	r := newReceiver(t, func(n int) int { return map[bool]int{true: 500, false: 200}[n <= 2] })
	tell(s, r.URL)
	made := create(t, s, "svc", wanted("QR_LIMIT_SCENE", `"scene_id":1`, ""))
	scanBy(s, "u-1", made.URL)
	for range 2 {
		wantEvent(t, s, r, "u-1", "subscribe", "qrscene_1", made.Ticket)
		// The next try is due by the server's clock, whether or not the answer to this one is noted yet.
		s.Advance(time.Hour)
	}
	wantEvent(t, s, r, "u-1", "subscribe", "qrscene_1", made.Ticket)
	scanBy(s, "u-1", made.URL)
	wantEvent(t, s, r, "u-1", "SCAN", "1", made.Ticket)
}

// A scan is durable before the app hears of it.
func TestQRCodeEvent_AfterRestart(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, always(200))
	data := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: data})
	tell(s, "http://127.0.0.1:1/") // nobody is there
	made := create(t, s, "svc", wanted("QR_LIMIT_SCENE", `"scene_id":1`, ""))
	scanBy(s, "u-1", made.URL)
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: town, Data: data})
	tell(s, r.URL)
	s.Advance(time.Hour)
	wantEvent(t, s, r, "u-1", "subscribe", "qrscene_1", made.Ticket)
}
