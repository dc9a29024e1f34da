package accounts_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// openEnvelope verifies and decrypts an envelope as the contract describes it and returns the message and the length of the padding.
// Contract: rules 3.2.
func openEnvelope(t *testing.T, appid string, query url.Values, body []byte) (string, int) {
	t.Helper()
	var outer struct {
		XMLName xml.Name `xml:"xml"`
		AppID   string   `xml:"AppId"`
		Encrypt string
	}
	require.NoErrorf(t, xml.Unmarshal(body, &outer), "%s", body)
	assertEqual(t, "AppId", outer.AppID, appid)
	assertEqual(t, "encrypt_type", query.Get("encrypt_type"), "aes")
	for name, list := range map[string][]string{
		"signature":     {"tok", query.Get("timestamp"), query.Get("nonce")},
		"msg_signature": {"tok", query.Get("timestamp"), query.Get("nonce"), outer.Encrypt},
	} {
		slices.Sort(list)
		sum := sha1.Sum([]byte(strings.Join(list, "")))
		assertEqual(t, name, query.Get(name), hex.EncodeToString(sum[:]))
	}
	key := require.Value(base64.StdEncoding.DecodeString(aesKey + "="))(t)
	plain, err := base64.StdEncoding.DecodeString(outer.Encrypt)
	require.True(t, err == nil && len(plain)%32 == 0, "%d bytes, %v", len(plain), err)
	block := require.Value(aes.NewCipher(key))(t)
	cipher.NewCBCDecrypter(block, key[:16]).CryptBlocks(plain, plain)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > 32 || strings.Trim(string(plain[len(plain)-padding:]), string(plain[len(plain)-1:])) != "" {
		t.Fatalf("padding % x", plain[len(plain)-32:])
	}
	plain = plain[:len(plain)-padding]
	n := binary.BigEndian.Uint32(plain[16:20])
	message, end := plain[20:20+n], plain[20+n:]
	assertEqual(t, "AppID at the end", string(end), appid)
	return string(message), padding
}

func TestPushEnvelope_Format(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for n := range 200 {
		message := strings.Repeat("消", n/3) + strings.Repeat("x", n%3)
		sealed := require.Value(accounts.Envelope{AppID: "wxc", Token: "tok", AESKey: aesKey}.Seal(rand.Reader, at, []byte(message)))(t)
		got, _ := openEnvelope(t, "wxc", sealed.Query, sealed.Body)
		assertEqual(t, "message", got, message)
		assertEqual(t, "timestamp", sealed.Query.Get("timestamp"), "1800000000")
	}
	_, err := (accounts.Envelope{AppID: "wxc", AESKey: "short"}).Seal(rand.Reader, at, nil)
	assert.True(t, err != nil, "Seal with a short key succeeded, want an error")
}

// receivedPush is a push as the receiver gets it.
type receivedPush struct {
	at      time.Time
	query   url.Values
	message string
	padding int
	fields  map[string]string
}

// receiver is the event URL of a platform, with the pusher.
type receiver struct {
	*fixture
	mutex    sync.Mutex
	received []receivedPush
	status   int
	body     string
	err      error
}

// newSender returns a Sender of the outbox of w.
func newSender(w *fixture, p outbox.Policy, post func(context.Context, safehttp.Request) (safehttp.Answer, error)) *outbox.Sender {
	return outbox.New(p, w.store, outbox.Options{Post: post, Now: w.Now, RealNow: time.Now,
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))})
}

// startPusher runs a pusher with the clock of the synctest bubble.
func startPusher(t *testing.T, interval time.Duration) *receiver {
	r := &receiver{fixture: newFixture(t), status: 200, body: "success"}
	r.Now = time.Now
	ctx, stop := context.WithCancel(t.Context())
	p := newSender(r.fixture, r.PushPolicy(), func(_ context.Context, request safehttp.Request) (safehttp.Answer, error) {
		u := require.Value(url.Parse(request.URL))(t)
		s := receivedPush{at: time.Now(), query: u.Query(), fields: map[string]string{}}
		appid := strings.Trim(u.Path, "/")
		s.message, s.padding = openEnvelope(t, appid, s.query, request.Body)
		var inner struct {
			Elements []struct {
				XMLName xml.Name
				Text    string `xml:",chardata"`
			} `xml:",any"`
		}
		require.NoError(t, xml.Unmarshal([]byte(s.message), &inner))
		for _, e := range inner.Elements {
			s.fields[e.XMLName.Local] = e.Text
		}
		assertEqual(t, "AppId inside", s.fields["AppId"], appid)
		assertEqual(t, "timestamp", s.query.Get("timestamp"), fmt.Sprint(time.Now().Unix()))
		r.mutex.Lock()
		defer r.mutex.Unlock()
		r.received = append(r.received, s)
		return safehttp.Answer{Status: r.status, Body: []byte(r.body)}, r.err
	})
	r.Wake = p.Wake
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx, interval) }()
	t.Cleanup(func() { stop(); <-done })
	return r
}

// receive waits for d and returns the pushes received since the last call.
func (r *receiver) receive(d time.Duration) []receivedPush {
	time.Sleep(d)
	synctest.Wait()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	received := r.received
	r.received = nil
	return received
}

// respond sets the response of the receiver.
func (r *receiver) respond(status int, body string, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.status, r.body, r.err = status, body, err
}

func infoTypes(list []receivedPush) string {
	var names []string
	for _, s := range list {
		names = append(names, s.fields["InfoType"])
	}
	return strings.Join(names, " ")
}

func TestTicketPush_EveryTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		isv := r.addPlatform("wxc", "http://isv.example/wxc?a=b")
		r.addPlatform("silent", "")
		tens := testscope.Select(6, 2)
		got := r.receive(time.Duration(tens)*10*time.Minute + 5*time.Second)
		assertEqual(t, "tickets in that time", len(got), tens+1)
		seen := map[string]bool{}
		for i, s := range got {
			assertEqual(t, "InfoType", s.fields["InfoType"], "component_verify_ticket")
			assertEqual(t, "CreateTime", s.fields["CreateTime"], fmt.Sprint(s.at.Unix()))
			assertEqual(t, "parameter of the event URL", s.query.Get("a"), "b")
			ticket := s.fields["ComponentVerifyTicket"]
			assert.True(t, !seen[ticket] && strings.HasPrefix(ticket, "ticket@@@"), "ticket %q", ticket)
			seen[ticket] = true
			if i > 0 {
				assert.Equal(t, s.at.Sub(got[i-1].at).Round(2*time.Second), 10*time.Minute, "time since the previous ticket")
			}
			// Every ticket is valid.
			require.Value(r.PlatformToken(t.Context(), isv, ticket))(t)
		}
		require.NoError(t, r.StartPushingTickets(t.Context(), isv))
		assertEqual(t, "push on request", infoTypes(r.receive(0)), "component_verify_ticket")
		assertEqual(t, "pushes within ten minutes", len(r.receive(9*time.Minute+50*time.Second)), 0)
		assertEqual(t, "pushes after ten minutes", len(r.receive(15*time.Second)), 1)
	})
}

// Contract: clients: a padding of at most 16 bytes is right for every reader.
func TestPushPadding_BothBlockSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.addMiniProgram("wxa")
		for n := 1; n <= 32; n++ {
			appid := strings.Repeat("c", n)
			r.addPlatform(appid, "http://isv.example/"+appid)
			r.mustAuthorize(appid, "wxa", 33)
			r.mustAuthorize(appid, "wxa", 34)
			require.NoError(t, r.Revoke(t.Context(), appid, "wxa"))
		}
		got := r.receive(3 * time.Second)
		assertEqual(t, "messages", len(got), 4*32)
		for _, s := range got {
			assert.True(t, s.padding >= 1 && s.padding <= 16,
				"%s of %s: padding of %d bytes", s.fields["InfoType"], s.fields["AppId"], s.padding)
		}
	})
}

// Behaviour(consent.same).
func TestPushEvents_AuthorizationChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.addMiniProgram("wxa")
		r.addPlatform("wxc", "http://isv.example/wxc")
		r.addPlatform("wxd", "http://isv.example/wxd")
		r.receive(2 * time.Second)
		pre := require.Value(r.CreatePreAuthCode(t.Context(), "wxc"))(t)
		code := require.Value(r.Agree(t.Context(),
			accounts.Agreement{Component: "wxc", PreAuthCode: pre.Text, AppID: "wxa", Sets: []int{18, 33}}))(t)
		got := r.receive(0)
		assertEqual(t, "events", infoTypes(got), "authorized")
		f := got[0].fields
		assertEqual(t, "AuthorizerAppid", f["AuthorizerAppid"], "wxa")
		assertEqual(t, "AuthorizationCode", f["AuthorizationCode"], code.Text)
		assertEqual(t, "PreAuthCode", f["PreAuthCode"], pre.Text)
		assertEqual(t, "AuthorizationCodeExpiredTime", f["AuthorizationCodeExpiredTime"], fmt.Sprint(time.Now().Add(10*time.Minute).Unix()))

		r.mustAuthorize("wxc", "wxa", 33, 18)
		assertEqual(t, "an update that changes nothing", infoTypes(r.receive(time.Second)), "")
		r.mustAuthorize("wxc", "wxa", 18, 33, 46)
		assertEqual(t, "an update", infoTypes(r.receive(0)), "updateauthorized")
		require.NoError(t, assert.ErrorOf(r.authorize("wxd", "wxa", true, 18)))
		got = r.receive(0)
		slices.SortFunc(got, func(a, b receivedPush) int { return strings.Compare(a.fields["AppId"], b.fields["AppId"]) })
		assertEqual(t, "a move", infoTypes(got), "updateauthorized authorized")
		// The code of the update is valid.
		require.Value(r.TradeAuthCode(t.Context(), "wxc", got[0].fields["AuthorizationCode"]))(t)
		require.NoError(t, r.Revoke(t.Context(), "wxd", "wxa"))
		got = r.receive(0)
		assertEqual(t, "a revocation", infoTypes(got), "unauthorized")
		assertEqual(t, "account", got[0].fields["AuthorizerAppid"], "wxa")
		_, ok := got[0].fields["AuthorizationCode"]
		assert.True(t, !ok, "revocation with an authorization code, want none")
	})
}

func TestPush_RetryBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.addMiniProgram("wxa")
		r.addPlatform("wxc", "http://isv.example/wxc")
		r.receive(2 * time.Second)
		for _, fault := range []struct {
			status int
			body   string
			err    error
		}{{500, "success", nil}, {200, "", nil}, {200, "fail", nil}, {200, "successful", nil}, {204, "", nil},
			{0, "", errors.New("connection refused")}} {
			r.respond(fault.status, fault.body, fault.err)
			r.mustAuthorize("wxc", "wxa", 33)
			events := func(d time.Duration) int { return strings.Count(infoTypes(r.receive(d)), "authorized") }
			assertEqual(t, "first attempt", events(0), 1)
			assertEqual(t, "within 4 s", events(4*time.Second), 0)
			assertEqual(t, "after 5 s", events(2*time.Second), 1)
			assertEqual(t, "within the next 13 s", events(13*time.Second), 0)
			assertEqual(t, "after 15 s", events(4*time.Second), 1)
			r.respond(200, " \r\nsuccess\n", nil)
			assertEqual(t, "after 30 s", events(32*time.Second), 1)
			assertEqual(t, "after the acknowledgement", events(5*time.Minute), 0)
			list := require.Value(r.Pushes(t.Context(), "wxc", 100))(t)
			i := slices.IndexFunc(list, func(p outbox.Row) bool { return p.Event == accounts.AuthorizedPush })
			p := list[i]
			assertEqual(t, "attempts", p.Attempts, 4)
			assert.True(t, p.State() == outbox.Delivered && p.NextAt.IsZero() && p.Body == "" && p.Error == "" && p.Status == 200,
				"push = %+v, want it delivered", p)
			for _, secret := range []string{"queryauthcode@@@", "preauthcode@@@", "ticket@@@"} {
				assert.True(t, !strings.Contains(fmt.Sprint(list), secret), "list of pushes contains %s", secret)
			}
			require.NoError(t, r.Revoke(t.Context(), "wxc", "wxa"))
			r.receive(time.Minute)
		}
	})
}

func TestPush_DroppedAfterMaxRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Minute)
		r.addMiniProgram("wxa")
		r.addPlatform("wxc", "http://isv.example/wxc")
		r.receive(2 * time.Second)
		r.respond(503, "success", nil)
		r.mustAuthorize("wxc", "wxa", 33)
		got := strings.Count(infoTypes(r.receive(24*time.Hour)), "authorized")
		assertEqual(t, "attempts before the dead letter", got, 13)
		r.respond(200, "success", nil)
		got = strings.Count(infoTypes(r.receive(testscope.Select[time.Duration](40, 5)*time.Hour)), "authorized")
		assertEqual(t, "attempts after the dead letter", got, 0)
		list := require.Value(r.Pushes(t.Context(), "wxc", 1000))(t)
		assert.True(t, len(list) <= 202, "%d pushes are kept, want at most 202", len(list))
	})
}

func TestPush_EchoedResponseNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.respond(200, "got \x00\xff ticket@@@abc", nil)
		r.addPlatform("wxc", "http://isv.example/wxc")
		r.receive(time.Second)
		p := require.Value(r.Pushes(t.Context(), "wxc", 1))(t)[0]
		assertEqual(t, "response", p.Response, "got  [masked]")
	})
}

// TestTicketPush_SupersededByNext verifies that an undelivered ticket is dropped when the next one is created.
func TestTicketPush_SupersededByNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.respond(500, "success", nil)
		r.addPlatform("wxc", "http://isv.example/wxc")
		r.receive(10*time.Minute + 2*time.Second)
		r.respond(200, "success", nil)
		got := r.receive(10 * time.Second)
		tickets := map[string]bool{}
		for _, s := range got {
			tickets[s.fields["ComponentVerifyTicket"]] = true
		}
		assertEqual(t, "tickets", len(tickets), 1)
	})
}

func TestPush_NoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.addMiniProgram("wxa")
		isv := r.addPlatform("wxc", "")
		r.mustAuthorize("wxc", "wxa", 33)
		require.NoError(t, r.StartPushingTickets(t.Context(), isv))
		assertEqual(t, "pushes", len(r.receive(testscope.Select(time.Hour, 11*time.Minute))), 0)
		assertEqual(t, "records", len(require.Value(r.Pushes(t.Context(), "wxc", 10))(t)), 0)
	})
}

// TestPush_LeaseBlocksOtherNode verifies that a second node does not send a push during the response time of the receiver, which may be
// longer than the first retry delay.
func TestPush_LeaseBlocksOtherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.Now = time.Now
		w.addPlatform("wxc", "http://isv.example/wxc")
		var started, finished atomic.Int64
		send := func(context.Context, safehttp.Request) (safehttp.Answer, error) {
			started.Add(1)
			time.Sleep(8 * time.Second)
			finished.Add(1)
			return safehttp.Answer{Status: 200, Body: []byte("success")}, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		var nodes sync.WaitGroup
		for range 2 {
			p := newSender(w, w.PushPolicy(), send)
			nodes.Go(func() { p.Run(ctx, time.Second) })
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.Equal(t, started.Load(), 1, "sends started")
		assert.Equal(t, finished.Load(), 1, "sends finished")
		p := require.Value(w.Pushes(t.Context(), "wxc", 1))(t)[0]
		assert.True(t, p.State() == outbox.Delivered && p.Attempts == 1 && p.Body == "", "push = %+v, want it delivered once", p)
		stop()
		nodes.Wait()
	})
}
