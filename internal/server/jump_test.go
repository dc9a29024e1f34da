package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// app is what a scanning app and the servers of its accounts do on a node.
type app struct {
	*servertest.Server
	key string
}

// visit scans a code; the answer has the ticket.
func (a app) visit(t *testing.T, user, text string) (ticket string) {
	t.Helper()
	got := a.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":%q}`, text, user), "Authorization: Bearer "+a.key)
	_, ticket, found := strings.Cut(got.Body, "code_ticket=")
	require.True(t, found, "no ticket: %s", got.Body)
	a.Hide(ticket[:32])
	return ticket[:32]
}

func (a app) login(t *testing.T, user string) (code string) {
	t.Helper()
	var made struct {
		Code string `json:"js_code"`
	}
	a.Do("POST", "/scan/v1/login", fmt.Sprintf(`{"user":%q,"appid":"shop"}`, user), "Authorization: Bearer "+a.key).JSON(t, &made)
	a.Hide(made.Code)
	return made.Code
}

// trades says what becomes of a ticket and of a js_code.
func (a app) trades(t *testing.T, user, ticket, code string) (byTicket, byCode int) {
	t.Helper()
	openid := servertest.Decode[struct{ OpenID string }](t, a.Admin("GET", "/users/"+user+"/openid?appid=shop", ""))
	byTicket = codesCall(t, a.Server, a.Token("svc"), "tickettocode",
		fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid.OpenID, ticket)).Code(t)
	byCode = a.Do("GET", "/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code="+code, "").Code(t)
	return byTicket, byCode
}

func (a app) get(t *testing.T, token string) int {
	t.Helper()
	return a.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t)
}

// Issue 12, 2: on a node whose clock is 25 hours ahead one scan of a code, one login and one token remove nothing that other nodes gave
// out; and what it gave out ends with its jump.
func TestClockJump_OneNodeKeepsOthersData(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p := where(t)
		one := app{Server: p.start(t, servertest.Options{Seed: brand})}
		made := one.NewKey("/scan-keys", `{"name":"app"}`)
		one.key = made
		batch := apply(t, one.Server, one.Token("svc"), "order-1", 10_000)
		activated := codesCall(t, one.Server, one.Token("svc"), "codeactive", activation(batch, 9999, "p"))
		require.Equal(t, activated.Code(t), 0, "%s", activated.Body)
		_, text, _ := look(t, one.Server, batch, 7)
		// Beside the embedded database it is one node, whose clock is repaired later.
		two := one
		if p.database != "" {
			two = app{p.secondOf(t).start(t, servertest.Options{Seed: brand}), one.key}
		}
		const each = 10
		var tickets, codes [each]string
		for n := range each {
			user := fmt.Sprint("u-", n)
			tickets[n], codes[n] = one.visit(t, user, text), one.login(t, user)
		}
		stable := stableToken(t, one.Server)
		two.Clock.Step(25 * time.Hour)
		lateTicket, lateCode := two.visit(t, "late", text), two.login(t, "late")
		lateStable, latePlain := stableToken(t, two.Server), two.NewToken("shop")
		assert.True(t, lateStable != stable, "to a clock that is ahead the stable token has ended, and it was answered")
		if _, code := two.trades(t, "late", lateTicket, two.login(t, "late")); code != 0 || two.get(t, latePlain) != 0 {
			t.Errorf("while the clock is ahead, what it gave out does not work: js_code %d", code)
		}
		// The next start has the right time, and remembers no ticket by heart.
		one.Stop()
		one = app{p.start(t, servertest.Options{Seed: brand}), one.key}
		for n := range each {
			a, b := one.trades(t, fmt.Sprint("u-", n), tickets[n], codes[n])
			assert.True(t, a == 0 && b == 0, "%d: ticket %d, js_code %d", n, a, b)
		}
		a, b := one.trades(t, "late", lateTicket, lateCode)
		assert.True(t, a == 40097 && b == 40029, "what the clock that was ahead gave out: ticket %d, js_code %d", a, b)
		for name, token := range map[string]string{"stable": lateStable, "plain": latePlain} {
			assert.Equal(t, one.get(t, token), 42001, "the %s token of the clock that was ahead", name)
		}
		next := stableToken(t, one.Server)
		code := one.get(t, next)
		assert.True(t, code == 0 && next != lateStable, "the next stable token: %d", code)
		assert.Equal(t, stableToken(t, one.Server), next, "and it does not stay")
	})
}

// Issue 12, 2: a clock that is 400 days ahead gives nobody another day or month
// of calls, and takes neither what was spent nor the log of calls with it.
func TestClockJump_QuotasNotReset(t *testing.T) {
	t.Parallel()
	const get, month = "/cgi-bin/wxopen/qrcodejumpget", 400 * 24 * time.Hour
	const clear = "/cgi-bin/clear_quota/v2?appid=shop&appsecret=the-secret-of-shop"
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p := where(t)
		s := p.start(t, servertest.Options{Seed: brand})
		s.Admin("PUT", "/settings", fmt.Sprintf(`{"token_daily_limit":3,"publish_quota":1,"daily_limits":{%q:2}}`, get))
		token := s.Token("shop")
		for n := range 10 {
			a := s.Do("POST", clear, "")
			require.True(t, a.Code(t) == 0, "clear %d: %s", n, a.Body)
		}
		for s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=svc&secret=the-secret-of-svc", "").Code(t) != 45009 {
		}
		for _, prefix := range []string{"https://a.example/", "https://b.example/"} {
			s.OK("shop", "add", fmt.Sprintf(`{"prefix":%q,"path":"p","permit_sub_rule":1,"open_version":3,"is_edit":0}`, prefix))
		}
		s.OK("shop", "publish", `{"prefix":"https://a.example/"}`)
		first := s.Rule("shop", "get", `{"get_type":9}`)
		require.True(t, s.Rule("shop", "get", `{}`).Code(t) == 0 && s.Rule("shop", "get", `{}`).Code(t) == 45009,
			"the day's calls are not spent")
		rid := first.RID(t)
		spent := func(when string, s *servertest.Server) {
			t.Helper()
			var issued struct {
				Token string `json:"access_token"`
			}
			s.Do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"shop","secret":"the-secret-of-shop"}`).JSON(t,
				&issued)
			s.Hide(issued.Token)
			wire := func(call, body string) int { return s.Do("POST", call+"?access_token="+issued.Token, body).Code(t) }
			assert.Equal(t, wire(get, "{}"), 45009, "%s: a call above the day's limit", when)
			assert.Equal(t, s.Do("POST", clear, "").Code(t), 48006, "%s: an eleventh clear", when)
			assert.Equal(t, s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=svc&secret=the-secret-of-svc",
				"").Code(t), 45009, "%s: a token above the day's", when)
			assert.Equal(t, wire("/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://b.example/"}`), 886000,
				"%s: a publish above the month's", when)
			assert.Equal(t, wire("/cgi-bin/openapi/rid/get", fmt.Sprintf(`{"rid":%q}`, rid)), 0, "%s: a call of the log", when)
		}
		spent("before", s)
		s.Clock.Step(month)
		spent("ahead", s)
		s.Stop() // writes what is left
		s = p.start(t, servertest.Options{Seed: brand, Began: servertest.Began.Add(month)})
		spent("started ahead", s)
		s.Stop()
		s = p.start(t, servertest.Options{Seed: brand})
		s.Hide(token)
		spent("repaired", s)
		s.Stop()
		// An emulated clock is moved to begin another day.
		s = p.start(t, servertest.Options{Seed: brand, Emulator: true, Config: func(c *server.Config) { c.Emulator = true }})
		s.Advance(month)
		assert.Equal(t, s.Do("POST", clear, "").Code(t), 0, "after the emulator's clock was moved")
	})
}
