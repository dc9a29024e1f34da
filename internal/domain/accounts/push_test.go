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

// opened undoes an envelope step by step as the contract says, and returns the message and the padding. Contract: rules 3.2.
func opened(t *testing.T, appid string, query url.Values, body []byte) (string, int) {
	t.Helper()
	var outer struct {
		XMLName xml.Name `xml:"xml"`
		AppID   string   `xml:"AppId"`
		Encrypt string
	}
	err := xml.Unmarshal(body, &outer)
	require.True(t, err == nil, "%v: %s", err, body)
	same(t, "AppId", outer.AppID, appid)
	same(t, "encrypt_type", query.Get("encrypt_type"), "aes")
	for name, list := range map[string][]string{
		"signature":     {"tok", query.Get("timestamp"), query.Get("nonce")},
		"msg_signature": {"tok", query.Get("timestamp"), query.Get("nonce"), outer.Encrypt},
	} {
		slices.Sort(list)
		sum := sha1.Sum([]byte(strings.Join(list, "")))
		same(t, name, query.Get(name), hex.EncodeToString(sum[:]))
	}
	key, err := base64.StdEncoding.DecodeString(aesKey + "=")
	require.NoError(t, err)
	plain, err := base64.StdEncoding.DecodeString(outer.Encrypt)
	require.True(t, err == nil && len(plain)%32 == 0, "%d bytes, %v", len(plain), err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	cipher.NewCBCDecrypter(block, key[:16]).CryptBlocks(plain, plain)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > 32 || strings.Trim(string(plain[len(plain)-padding:]), string(plain[len(plain)-1:])) != "" {
		t.Fatalf("padding % x", plain[len(plain)-32:])
	}
	plain = plain[:len(plain)-padding]
	n := binary.BigEndian.Uint32(plain[16:20])
	message, end := plain[20:20+n], plain[20+n:]
	same(t, "AppID at the end", string(end), appid)
	return string(message), padding
}

func TestPushEnvelope_Format(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for n := range 200 {
		message := strings.Repeat("消", n/3) + strings.Repeat("x", n%3)
		sealed, err := accounts.Envelope{AppID: "wxc", Token: "tok", AESKey: aesKey}.Seal(rand.Reader, at, []byte(message))
		require.NoError(t, err)
		got, _ := opened(t, "wxc", sealed.Query, sealed.Body)
		same(t, "message", got, message)
		same(t, "timestamp", sealed.Query.Get("timestamp"), "1800000000")
	}
	_, err := (accounts.Envelope{AppID: "wxc", AESKey: "short"}).Seal(rand.Reader, at, nil)
	assert.True(t, err != nil, "a short key was taken")
}

// sent is one push as the receiver sees it.
type sent struct {
	at      time.Time
	query   url.Values
	message string
	padding int
	fields  map[string]string
}

// receiver is a platform's event URL without a network, and the pusher.
type receiver struct {
	*world
	mutex  sync.Mutex
	got    []sent
	status int
	answer string
	err    error
}

// sender is what sends rows of a world.
func sender(w *world, p outbox.Policy, post func(context.Context, safehttp.Request) (safehttp.Answer, error)) *outbox.Sender {
	return outbox.New(p, w.store, outbox.Options{Post: post, Now: w.Now, RealNow: time.Now,
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))})
}

// startPusher runs a pusher in a bubble, where the clock is the bubble's.
func startPusher(t *testing.T, interval time.Duration) *receiver {
	r := &receiver{world: newWorld(t), status: 200, answer: "success"}
	r.Now = time.Now
	ctx, stop := context.WithCancel(t.Context())
	p := sender(r.world, r.PushPolicy(), func(_ context.Context, request safehttp.Request) (safehttp.Answer, error) {
		u, err := url.Parse(request.URL)
		require.NoError(t, err)
		s := sent{at: time.Now(), query: u.Query(), fields: map[string]string{}}
		appid := strings.Trim(u.Path, "/")
		s.message, s.padding = opened(t, appid, s.query, request.Body)
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
		same(t, "AppId inside", s.fields["AppId"], appid)
		same(t, "timestamp", s.query.Get("timestamp"), fmt.Sprint(time.Now().Unix()))
		r.mutex.Lock()
		defer r.mutex.Unlock()
		r.got = append(r.got, s)
		return safehttp.Answer{Status: r.status, Body: []byte(r.answer)}, r.err
	})
	r.Wake = p.Wake
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx, interval) }()
	t.Cleanup(func() { stop(); <-done })
	return r
}

// take waits and returns what arrived meanwhile.
func (r *receiver) take(d time.Duration) []sent {
	time.Sleep(d)
	synctest.Wait()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	got := r.got
	r.got = nil
	return got
}

// answers says what the receiver answers from now on.
func (r *receiver) answers(status int, answer string, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.status, r.answer, r.err = status, answer, err
}

func types(list []sent) string {
	var names []string
	for _, s := range list {
		names = append(names, s.fields["InfoType"])
	}
	return strings.Join(names, " ")
}

func TestTicketPush_EveryTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		isv := r.platform("wxc", "http://isv.example/wxc?a=b")
		r.platform("silent", "")
		tens := testscope.Choose(6, 2)
		got := r.take(time.Duration(tens)*10*time.Minute + 5*time.Second)
		same(t, "tickets in that time", len(got), tens+1)
		seen := map[string]bool{}
		for i, s := range got {
			same(t, "InfoType", s.fields["InfoType"], "component_verify_ticket")
			same(t, "CreateTime", s.fields["CreateTime"], fmt.Sprint(s.at.Unix()))
			same(t, "own parameter of the URL", s.query.Get("a"), "b")
			ticket := s.fields["ComponentVerifyTicket"]
			assert.True(t, !seen[ticket] && strings.HasPrefix(ticket, "ticket@@@"), "ticket %q", ticket)
			seen[ticket] = true
			if i > 0 {
				assert.Equal(t, s.at.Sub(got[i-1].at).Round(2*time.Second), 10*time.Minute, "the time since the ticket before")
			}
			// Every one of them works.
			must[accounts.Issued](t)(r.PlatformToken(t.Context(), isv, ticket))
		}
		require.NoError(t, r.StartPushingTickets(t.Context(), isv))
		same(t, "at once on request", types(r.take(0)), "component_verify_ticket")
		same(t, "then after ten minutes", len(r.take(9*time.Minute+50*time.Second)), 0)
		same(t, "then after ten minutes", len(r.take(15*time.Second)), 1)
	})
}

// Contract: clients: a padding of at most 16 bytes is right for every reader.
func TestPushPadding_BothBlockSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.mini("wxa")
		for n := 1; n <= 32; n++ {
			appid := strings.Repeat("c", n)
			r.platform(appid, "http://isv.example/"+appid)
			r.agreed(appid, "wxa", 33)
			r.agreed(appid, "wxa", 34)
			require.NoError(t, r.Revoke(t.Context(), appid, "wxa"))
		}
		got := r.take(3 * time.Second)
		same(t, "messages", len(got), 4*32)
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
		r.mini("wxa")
		r.platform("wxc", "http://isv.example/wxc")
		r.platform("wxd", "http://isv.example/wxd")
		r.take(2 * time.Second)
		pre := must[accounts.Issued](t)(r.CreatePreAuthCode(t.Context(), "wxc"))
		code := must[accounts.Issued](t)(r.Agree(t.Context(),
			accounts.Agreement{Component: "wxc", PreAuthCode: pre.Text, AppID: "wxa", Sets: []int{18, 33}}))
		got := r.take(0)
		same(t, "events", types(got), "authorized")
		f := got[0].fields
		same(t, "AuthorizerAppid", f["AuthorizerAppid"], "wxa")
		same(t, "AuthorizationCode", f["AuthorizationCode"], code.Text)
		same(t, "PreAuthCode", f["PreAuthCode"], pre.Text)
		same(t, "AuthorizationCodeExpiredTime", f["AuthorizationCodeExpiredTime"], fmt.Sprint(time.Now().Add(10*time.Minute).Unix()))

		r.agreed("wxc", "wxa", 33, 18)
		same(t, "an update that changes nothing", types(r.take(time.Second)), "")
		r.agreed("wxc", "wxa", 18, 33, 46)
		same(t, "an update", types(r.take(0)), "updateauthorized")
		require.NoError(t, assert.ErrorOf(r.agree("wxd", "wxa", true, 18)))
		got = r.take(0)
		slices.SortFunc(got, func(a, b sent) int { return strings.Compare(a.fields["AppId"], b.fields["AppId"]) })
		same(t, "a move", types(got), "updateauthorized authorized")
		// The code of the update is good.
		must[accounts.Authorization](t)(r.TradeAuthCode(t.Context(), "wxc", got[0].fields["AuthorizationCode"]))
		require.NoError(t, r.Revoke(t.Context(), "wxd", "wxa"))
		got = r.take(0)
		same(t, "a revocation", types(got), "unauthorized")
		same(t, "account", got[0].fields["AuthorizerAppid"], "wxa")
		_, has := got[0].fields["AuthorizationCode"]
		assert.True(t, !has, "a revocation carries a code")
	})
}

func TestPush_RetryBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.mini("wxa")
		r.platform("wxc", "http://isv.example/wxc")
		r.take(2 * time.Second)
		for _, fault := range []struct {
			status int
			answer string
			err    error
		}{{500, "success", nil}, {200, "", nil}, {200, "fail", nil}, {200, "successful", nil}, {204, "", nil},
			{0, "", errors.New("nobody listens")}} {
			r.answers(fault.status, fault.answer, fault.err)
			r.agreed("wxc", "wxa", 33)
			events := func(d time.Duration) int { return strings.Count(types(r.take(d)), "authorized") }
			same(t, "at once", events(0), 1)
			same(t, "within 4 s", events(4*time.Second), 0)
			same(t, "after 5 s", events(2*time.Second), 1)
			same(t, "within the next 13 s", events(13*time.Second), 0)
			same(t, "after 15 s", events(4*time.Second), 1)
			r.answers(200, " \r\nsuccess\n", nil)
			same(t, "after 30 s", events(32*time.Second), 1)
			same(t, "once it was answered", events(5*time.Minute), 0)
			list := must[[]outbox.Row](t)(r.Pushes(t.Context(), "wxc", 100))
			i := slices.IndexFunc(list, func(p outbox.Row) bool { return p.Event == accounts.AuthorizedPush })
			p := list[i]
			same(t, "attempts", p.Attempts, 4)
			assert.True(t, p.State() == outbox.Delivered && p.NextAt.IsZero() && p.Body == "" && p.Error == "" && p.Status == 200,
				"got %+v", p)
			for _, secret := range []string{"queryauthcode@@@", "preauthcode@@@", "ticket@@@"} {
				assert.True(t, !strings.Contains(fmt.Sprint(list), secret), "a list of pushes shows %s", secret)
			}
			require.NoError(t, r.Revoke(t.Context(), "wxc", "wxa"))
			r.take(time.Minute)
		}
	})
}

func TestPush_DroppedAfterMaxRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Minute)
		r.mini("wxa")
		r.platform("wxc", "http://isv.example/wxc")
		r.take(2 * time.Second)
		r.answers(503, "success", nil)
		r.agreed("wxc", "wxa", 33)
		got := strings.Count(types(r.take(24*time.Hour)), "authorized")
		same(t, "attempts until it is given up", got, 13)
		r.answers(200, "success", nil)
		got = strings.Count(types(r.take(testscope.Choose[time.Duration](40, 5)*time.Hour)), "authorized")
		same(t, "after that", got, 0)
		list := must[[]outbox.Row](t)(r.Pushes(t.Context(), "wxc", 1000))
		assert.True(t, len(list) <= 202, "%d pushes are kept", len(list))
	})
}

func TestPush_EchoedResponseNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.answers(200, "got \x00\xff ticket@@@abc", nil)
		r.platform("wxc", "http://isv.example/wxc")
		r.take(time.Second)
		p := must[[]outbox.Row](t)(r.Pushes(t.Context(), "wxc", 1))[0]
		same(t, "answer", p.Response, "got  [masked]")
	})
}

// A ticket is worth nothing once the next one is there.
func TestTicketPush_SupersededByNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.answers(500, "success", nil)
		r.platform("wxc", "http://isv.example/wxc")
		r.take(10*time.Minute + 2*time.Second)
		r.answers(200, "success", nil)
		got := r.take(10 * time.Second)
		tickets := map[string]bool{}
		for _, s := range got {
			tickets[s.fields["ComponentVerifyTicket"]] = true
		}
		same(t, "tickets", len(tickets), 1)
	})
}

func TestPush_NoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startPusher(t, time.Second)
		r.mini("wxa")
		isv := r.platform("wxc", "")
		r.agreed("wxc", "wxa", 33)
		require.NoError(t, r.StartPushingTickets(t.Context(), isv))
		same(t, "pushes", len(r.take(testscope.Choose(time.Hour, 11*time.Minute))), 0)
		same(t, "records", len(must[[]outbox.Row](t)(r.Pushes(t.Context(), "wxc", 10))), 0)
	})
}

// The time that a receiver may take to answer is longer than the first pause.
func TestPush_LeaseBlocksOtherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Now = time.Now
		w.platform("wxc", "http://isv.example/wxc")
		var mutex sync.Mutex
		begun, answered := 0, 0
		send := func(context.Context, safehttp.Request) (safehttp.Answer, error) {
			mutex.Lock()
			begun++
			mutex.Unlock()
			time.Sleep(8 * time.Second)
			mutex.Lock()
			defer mutex.Unlock()
			answered++
			return safehttp.Answer{Status: 200, Body: []byte("success")}, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		var nodes sync.WaitGroup
		for range 2 {
			p := sender(w, w.PushPolicy(), send)
			nodes.Go(func() { p.Run(ctx, time.Second) })
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		mutex.Lock()
		assert.True(t, begun == 1 && answered == 1, "it was sent %d times, answered %d times", begun, answered)
		mutex.Unlock()
		p := must[[]outbox.Row](t)(w.Pushes(t.Context(), "wxc", 1))[0]
		assert.True(t, p.State() == outbox.Delivered && p.Attempts == 1 && p.Body == "", "got %+v", p)
		stop()
		nodes.Wait()
	})
}
