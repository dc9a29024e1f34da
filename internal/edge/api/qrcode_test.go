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

// createQRCodeBody returns the request body of qrcode/create.
func createQRCodeBody(action, scene, more string) string {
	return fmt.Sprintf(`{"action_name":%q,"action_info":{"scene":{%s}}%s}`, action, scene, more)
}

// qrCode is the response of qrcode/create.
type qrCode struct {
	Ticket        string
	ExpireSeconds *int `json:"expire_seconds"`
	URL           string
}

// createQRCode creates a code and verifies the form of the response.
func createQRCode(t *testing.T, s *servertest.Server, appid, body string) qrCode {
	t.Helper()
	a := post(s, appid, createPath, body)
	fields := servertest.Decode[map[string]json.RawMessage](t, a)
	code := servertest.Decode[qrCode](t, a)
	// Contract: clients 6: one client treats any errmsg as a failure.
	want := 2
	if fields["expire_seconds"] != nil {
		want = 3
	}
	require.True(t, len(fields) == want && code.Ticket != "", "qrcode/create of %s = %s, want a ticket in %d fields", body, a.Body, want)
	assert.True(t, regexp.MustCompile(`^http://weixin\.qq\.com/q/02[0-9A-Za-z_-]{20}$`).MatchString(code.URL), "url %s", code.URL)
	assert.True(t, regexp.MustCompile(`^gQ[0-9A-Za-z_-]{94}$`).MatchString(code.Ticket), "ticket %s", code.Ticket)
	return code
}

// decodeQRCode returns the text of the QR code in a JPEG image.
func decodeQRCode(t *testing.T, picture string) string {
	t.Helper()
	m := require.Value(jpeg.Decode(strings.NewReader(picture)))(t)
	b := m.Bounds()
	assert.True(t, b.Dx() == 430 && b.Dy() == 430, "image of %d×%d pixels, want 430×430", b.Dx(), b.Dy())
	return require.Value(symbol.FindQR(m))(t)
}

// TestQRCodeCreate_AllFourKinds verifies the lifetime of each kind of code, that only permanent codes are the same on a second call, and
// that the image shows the URL. Contract: rules 3.5.
func TestQRCodeCreate_AllFourKinds(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	urls := map[string]bool{}
	for _, c := range []struct {
		name, body string
		seconds    int // lifetime; 0 = permanent
	}{
		{"a number", createQRCodeBody("QR_SCENE", `"scene_id":123`, `,"expire_seconds":604800`), 604800},
		{"a number without a life", createQRCodeBody("QR_SCENE", `"scene_id":123`, ""), 30},
		{"a number and a life as texts", createQRCodeBody("QR_SCENE", `"scene_id":"4294967295"`, `,"expire_seconds":"2592000"`), 2592000},
		{"a text", createQRCodeBody("QR_STR_SCENE", `"scene_str":"test"`, `,"expire_seconds":1`), 1},
		{"a text as a number", createQRCodeBody("QR_STR_SCENE", `"scene_str":7`, `,"expire_seconds":null`), 30},
		{"a text with a scene_id as well", createQRCodeBody("QR_STR_SCENE", `"scene_str":"test","scene_id":"none"`, ""), 30},
		{"a permanent number", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":100000`, ""), 0},
		{"a permanent number with a life", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":1`, `,"expire_seconds":99999999`), 0},
		{"a permanent text", createQRCodeBody("QR_LIMIT_STR_SCENE", `"scene_str":"`+strings.Repeat("码", 64)+`"`, ""), 0},
		{"a permanent text of a digit", createQRCodeBody("QR_LIMIT_STR_SCENE", `"scene_str":"1"`, ""), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			code := createQRCode(t, s, "svc", c.body)
			assert.True(t, (code.ExpireSeconds != nil) == (c.seconds > 0) && (c.seconds <= 0 || *code.ExpireSeconds == c.seconds),
				"expire_seconds = %v, want %d", code.ExpireSeconds, c.seconds)
			assert.True(t, !urls[code.URL], "URL %s belongs to another code", code.URL)
			urls[code.URL] = true
			second := createQRCode(t, s, "svc", c.body)
			same := second.URL == code.URL && second.Ticket == code.Ticket
			assert.True(t, same == (c.seconds == 0), "created twice: %+v, %+v, want the same if permanent", code, second)
			assert.True(t, createQRCode(t, s, "svc2", c.body).URL != code.URL, "two accounts share the code %s", code.URL)
			a := s.Do("GET", showPath+"?ticket="+code.Ticket, "")
			require.True(t, a.Status == 200 && a.Header.Get("Content-Type") == "image/jpeg",
				"showqrcode = %d %v, want a JPEG", a.Status, a.Header)
			assert.Equal(t, decodeQRCode(t, a.Body), code.URL, "text of the image")
		})
	}
}

func TestShowQRCode_PublicUntilExpiry(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t,
		servertest.Options{Seed: "accounts: [{appid: svc, kind: service_account, secret: the-secret-of-svc, certified: true}]",
			Guarded: true, Emulator: true})
	short := createQRCode(t, s, "svc", createQRCodeBody("QR_STR_SCENE", `"scene_str":"x"`, `,"expire_seconds":60`))
	permanent := createQRCode(t, s, "svc", createQRCodeBody("QR_LIMIT_STR_SCENE", `"scene_str":"x"`, ""))
	show := func(ticket, host string) servertest.Answer {
		t.Helper()
		return s.Do("GET", showPath+"?ticket="+ticket, "", "Host: "+host)
	}
	// Contract: clients 15, showqrcode: on another host name, with the ticket encoded or not.
	for _, ticket := range []string{short.Ticket, url.QueryEscape(short.Ticket)} {
		a := show(ticket, "mp.weixin.qq.com")
		assert.True(t, a.Status == 200 && decodeQRCode(t, a.Body) == short.URL && a.Header.Get("Cache-Control") == "public, max-age=60",
			"showqrcode of %s = %d %v, want its image for 60 seconds", ticket, a.Status, a.Header)
	}
	a := show(permanent.Ticket, "api.weixin.qq.com")
	assert.True(t, a.Status == 200 && a.Header.Get("Cache-Control") == "public, max-age=86400", "permanent code: %d %v", a.Status, a.Header)
	for _, ticket := range []string{"", "x", "%00", "%ff", strings.Repeat("x", 10_000), short.Ticket + "x", strings.ToLower(short.Ticket)} {
		if a := show(ticket, "mp.weixin.qq.com"); a.Status != 404 || strings.HasPrefix(a.Header.Get("Content-Type"), "image/") {
			t.Errorf("showqrcode of %.20s = %d %v, want 404", ticket, a.Status, a.Header)
		}
	}
	s.Do("GET", showPath, "").WantStatus(t, 404, "without a ticket")
	s.Advance(59 * time.Second)
	a = show(short.Ticket, "mp.weixin.qq.com")
	assert.True(t, a.Status == 200 && a.Header.Get("Cache-Control") == "public, max-age=1", "in the last second: %d %v", a.Status, a.Header)
	s.Advance(time.Second)
	assert.Equal(t, show(short.Ticket, "mp.weixin.qq.com").Status, 404, "status after expiry")
	s.Advance(100 * 24 * time.Hour)
	assert.Equal(t, show(permanent.Ticket, "mp.weixin.qq.com").Status, 200, "status of a permanent code after 100 days")
}

// TestShowQRCode_RateLimitPerAddress verifies that images above qrcode_image_rate_limit a second return 429. Behaviour(qrcode.show.rate).
func TestShowQRCode_RateLimitPerAddress(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", `{"qrcode_image_rate_limit":2}`)
	code := createQRCode(t, s, "svc", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":1`, ""))
	for i, want := range []int{200, 200, 429, 429} {
		s.Do("GET", showPath+"?ticket="+code.Ticket, "").WantStatus(t, want, "image %d", i+1)
	}
	s.Clock.Step(time.Second)
	s.Do("GET", showPath+"?ticket="+code.Ticket, "").WantStatus(t, 200, "a second later")
}

// eventReceiver is the server behind an account's message_url.
type eventReceiver struct {
	*httptest.Server
	messages chan message // as received
}

type message struct {
	query url.Values
	body  string
}

// newEventReceiver starts a receiver that responds with 500 to the first messages.
func newEventReceiver(t *testing.T, failures int) *eventReceiver {
	r := &eventReceiver{messages: make(chan message, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		if failures--; failures >= 0 { // the sender uses one connection at a time
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(w, "success")
		r.messages <- message{req.URL.Query(), string(b)}
	}))
	t.Cleanup(r.Close)
	return r
}

// setMessageURL sets the message_url of svc.
func setMessageURL(s *servertest.Server, address string) {
	s.Admin("PUT", "/accounts/svc", `{"kind":"service_account","certified":true,"message_url":`+quoteJSON(address)+`}`)
}

func resolveScan(s *servertest.Server, user, text string) servertest.Answer {
	return s.Do("POST", "/scan/v1/resolve", `{"user":`+quoteJSON(user)+`,"text":`+quoteJSON(text)+`}`)
}

var eventShape = regexp.MustCompile(
	`^<xml><ToUserName><!\[CDATA\[(gh_[0-9a-f]{12})\]\]></ToUserName><FromUserName><!\[CDATA\[(o[0-9A-Za-z_-]{27})\]\]></FromUserName>` +
		`<CreateTime>([0-9]+)</CreateTime><MsgType><!\[CDATA\[event\]\]></MsgType><Event><!\[CDATA\[(.*)\]\]></Event><EventKey><!\[CDATA\[(.*)\]\]></EventKey><Ticket><!\[CDATA\[(.*)\]\]></Ticket></xml>$`)

// wantEvent receives the next event and verifies its fields and signature.
// Behaviour(message.signature).
func wantEvent(t *testing.T, s *servertest.Server, r *eventReceiver, user, event, key, ticket string) {
	t.Helper()
	var m message
	select {
	case m = <-r.messages:
	case <-time.After(time.Minute):
		t.Fatalf("no event in a minute, want %s %s of %s", event, key, user)
	}
	got := eventShape.FindStringSubmatch(m.body)
	require.True(t, got != nil, "malformed event %s", m.body)
	follower := servertest.Decode[struct{ OpenID string }](t, s.Admin("GET", "/users/"+user+"/openid?appid=svc", ""))
	if got[2] != follower.OpenID || got[4] != event || got[5] != key || got[6] != ticket {
		t.Errorf("got %q\nwant %s %s %s %s", got[1:], follower.OpenID, event, key, ticket)
	}
	parts := []string{"", m.query.Get("timestamp"), m.query.Get("nonce")}
	slices.Sort(parts)
	want := fmt.Sprintf("%x", sha1.Sum([]byte(strings.Join(parts, ""))))
	assert.True(t, m.query.Get("signature") == want && parts[1] != "", "query %v, want a timestamp and the signature %s", m.query, want)
}

// TestQRCodeScan_SubscribeAndScanEvents verifies that a scan sends subscribe for a new follower and SCAN for an existing one, and that
// scans of other texts, expired codes and codes with a rule send nothing. Contract: rules 3.5.
// Behaviour(qrcode.event).
func TestQRCodeScan_SubscribeAndScanEvents(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	r := newEventReceiver(t, 0)
	setMessageURL(s, r.URL+"/wx?of=svc")
	number := createQRCode(t, s, "svc", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":123`, ""))
	text := createQRCode(t, s, "svc", createQRCodeBody("QR_STR_SCENE", `"scene_str":"a b"`, `,"expire_seconds":60`))

	a := resolveScan(s, "u-1", number.URL)
	d := servertest.Decode[struct{ Action, URL string }](t, a)
	assert.True(t, d.Action == "open_url" && d.URL == number.URL, "scan of a code = %s, want open_url", a.Body)
	wantEvent(t, s, r, "u-1", "subscribe", "qrscene_123", number.Ticket)
	resolveScan(s, "u-1", number.URL)
	wantEvent(t, s, r, "u-1", "SCAN", "123", number.Ticket)
	resolveScan(s, "u-1", text.URL)
	wantEvent(t, s, r, "u-1", "SCAN", "a b", text.Ticket)
	resolveScan(s, "u-2", text.URL)
	wantEvent(t, s, r, "u-2", "subscribe", "qrscene_a b", text.Ticket)

	// None of these scans sends an event: the next event is that of the last scan.
	resolveScan(s, "", number.URL)
	resolveScan(s, "u-3", number.URL+"?x=1")
	resolveScan(s, "u-3", strings.Replace(number.URL, "http://", "https://", 1))
	resolveScan(s, "u-3", codeURLPrefix+"02"+strings.Repeat("x", 20))
	s.Do("POST", "/scan/v1/explain", `{"user":"u-3","text":`+quoteJSON(number.URL)+`}`)
	published := createQRCode(t, s, "svc", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":9`, ""))
	s.OK("svc", "add", `{"appid":"shop","path":"pages/index/index","is_edit":0,"prefix":`+quoteJSON(published.URL)+`}`)
	s.OK("svc", "publish", prefixBody(published.URL))
	opened := resolveScan(s, "u-3", published.URL)
	assert.True(t, strings.Contains(opened.Body, `"open_mini_program"`),
		"scan of a code with a rule = %s, want open_mini_program", opened.Body)
	s.Advance(time.Minute)
	resolveScan(s, "u-3", text.URL) // expired
	foreign := createQRCode(t, s, "svc2", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":9`, ""))
	resolveScan(s, "u-3", foreign.URL) // an account without a message URL
	resolveScan(s, "u-3", number.URL)
	wantEvent(t, s, r, "u-3", "subscribe", "qrscene_123", number.Ticket)

	// A user that followed while there was no message URL is an existing follower.
	setMessageURL(s, "")
	resolveScan(s, "u-4", number.URL)
	setMessageURL(s, r.URL)
	resolveScan(s, "u-4", number.URL)
	wantEvent(t, s, r, "u-4", "SCAN", "123", number.Ticket)

	// Scans of a stream send events as well.
	s.Do("POST", "/scan/v1/resolve", `{"user":"u-5","text":`+quoteJSON(number.URL)+"}\n", "Content-Type: application/x-ndjson")
	wantEvent(t, s, r, "u-5", "subscribe", "qrscene_123", number.Ticket)
}

// TestQRCodeEvent_RetryUntilAccepted verifies that an event is resent after errors, and not after its success.
func TestQRCodeEvent_RetryUntilAccepted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	r := newEventReceiver(t, 2)
	setMessageURL(s, r.URL)
	code := createQRCode(t, s, "svc", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":1`, ""))
	resolveScan(s, "u-1", code.URL)
	for range 2 {
		wantEvent(t, s, r, "u-1", "subscribe", "qrscene_1", code.Ticket)
		// The next attempt is due by the server's clock, whether or not the response to this one is recorded.
		s.Advance(time.Hour)
	}
	wantEvent(t, s, r, "u-1", "subscribe", "qrscene_1", code.Ticket)
	resolveScan(s, "u-1", code.URL)
	wantEvent(t, s, r, "u-1", "SCAN", "1", code.Ticket)
}

// TestQRCodeEvent_AfterRestart verifies that the event of a scan is durable: it is sent after a restart.
func TestQRCodeEvent_AfterRestart(t *testing.T) {
	t.Parallel()
	r := newEventReceiver(t, 0)
	data := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: data})
	setMessageURL(s, "http://127.0.0.1:1/") // refuses connections
	code := createQRCode(t, s, "svc", createQRCodeBody("QR_LIMIT_SCENE", `"scene_id":1`, ""))
	resolveScan(s, "u-1", code.URL)
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: town, Data: data})
	setMessageURL(s, r.URL)
	s.Advance(time.Hour)
	wantEvent(t, s, r, "u-1", "subscribe", "qrscene_1", code.Ticket)
}
