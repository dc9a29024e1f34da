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

// app is a node with the calls of a scanner app and of the app's accounts.
type app struct {
	*servertest.Server
	key string
}

// scan scans a code and returns its ticket.
func (a app) scan(t *testing.T, user, text string) (ticket string) {
	t.Helper()
	got := a.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":%q}`, text, user), "Authorization: Bearer "+a.key)
	_, ticket, found := strings.Cut(got.Body, "code_ticket=")
	require.True(t, found, "no ticket: %s", got.Body)
	a.RegisterSecret(ticket[:32])
	return ticket[:32]
}

func (a app) login(t *testing.T, user string) (code string) {
	t.Helper()
	var issued struct {
		Code string `json:"js_code"`
	}
	a.Do("POST", "/scan/v1/login", fmt.Sprintf(`{"user":%q,"appid":"shop"}`, user), "Authorization: Bearer "+a.key).JSON(t, &issued)
	a.RegisterSecret(issued.Code)
	return issued.Code
}

// exchange returns the errcodes of exchanging a ticket and a js_code.
func (a app) exchange(t *testing.T, user, ticket, code string) (byTicket, byCode int) {
	t.Helper()
	openid := servertest.Decode[struct{ OpenID string }](t, a.Admin("GET", "/users/"+user+"/openid?appid=shop", ""))
	byTicket = callCodes(t, a.Server, a.Token("svc"), "tickettocode",
		fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid.OpenID, ticket)).Code(t)
	byCode = a.Do("GET", "/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code="+code, "").Code(t)
	return byTicket, byCode
}

func (a app) get(t *testing.T, token string) int {
	t.Helper()
	return a.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t)
}

// TestClockJump_OneNodeKeepsOthersData verifies that a node with a clock 25 hours ahead deletes no tickets, logins or tokens that other
// nodes issued, and that those that it issued are invalid for nodes with the right clock.
func TestClockJump_OneNodeKeepsOthersData(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		first := app{Server: p.start(t, servertest.Options{Seed: brand})}
		key := first.NewKey("/scan-keys", `{"name":"app"}`)
		first.key = key
		batch := applyForCodes(t, first.Server, first.Token("svc"), "order-1", 10_000)
		activated := callCodes(t, first.Server, first.Token("svc"), "codeactive", activation(batch, 9999, "p"))
		require.Equal(t, activated.Code(t), 0, "%s", activated.Body)
		_, text, _ := lookupCode(t, first.Server, batch, 7)
		// With the embedded database there is one node, whose clock is corrected later.
		second := first
		if p.database != "" {
			second = app{p.addNode(t).start(t, servertest.Options{Seed: brand}), first.key}
		}
		const users = 10
		var tickets, codes [users]string
		for n := range users {
			user := fmt.Sprint("u-", n)
			tickets[n], codes[n] = first.scan(t, user, text), first.login(t, user)
		}
		stable := stableToken(t, first.Server)
		second.Clock.Step(25 * time.Hour)
		lateTicket, lateCode := second.scan(t, "late", text), second.login(t, "late")
		lateStable, latePlain := stableToken(t, second.Server), second.NewToken("shop")
		assert.True(t, lateStable != stable, "the node that is ahead returned the expired stable token, want a new one")
		if _, code := second.exchange(t, "late", lateTicket, second.login(t, "late")); code != 0 || second.get(t, latePlain) != 0 {
			t.Errorf("js_code and token of the node that is ahead, on that node: js_code %d, want 0 for both", code)
		}
		// The restarted node has the right time and no tickets in memory.
		first.Stop()
		first = app{p.start(t, servertest.Options{Seed: brand}), first.key}
		for n := range users {
			a, b := first.exchange(t, fmt.Sprint("u-", n), tickets[n], codes[n])
			assert.True(t, a == 0 && b == 0, "user %d: ticket %d, js_code %d, want 0 for both", n, a, b)
		}
		a, b := first.exchange(t, "late", lateTicket, lateCode)
		assert.True(t, a == 40097 && b == 40029, "of the node that was ahead: ticket %d, js_code %d, want 40097 and 40029", a, b)
		for name, token := range map[string]string{"stable": lateStable, "plain": latePlain} {
			assert.Equal(t, first.get(t, token), 42001, "the %s token of the node that was ahead", name)
		}
		next := stableToken(t, first.Server)
		code := first.get(t, next)
		assert.True(t, code == 0 && next != lateStable, "the next stable token: errcode %d, want 0 and a new token", code)
		assert.Equal(t, stableToken(t, first.Server), next, "the stable token after that")
	})
}

// TestClockJump_QuotasNotReset verifies that a clock 400 days ahead resets no daily or monthly quota and deletes nothing of the call log,
// before and after its correction. The emulator's clock, in contrast, begins a new day.
func TestClockJump_QuotasNotReset(t *testing.T) {
	t.Parallel()
	const get, jump = "/cgi-bin/wxopen/qrcodejumpget", 400 * 24 * time.Hour
	const clearQuota = "/cgi-bin/clear_quota/v2?appid=shop&appsecret=the-secret-of-shop"
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		s := p.start(t, servertest.Options{Seed: brand})
		s.Admin("PUT", "/settings", fmt.Sprintf(`{"token_daily_limit":3,"publish_quota":1,"daily_limits":{%q:2}}`, get))
		token := s.Token("shop")
		for n := range 10 {
			a := s.Do("POST", clearQuota, "")
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
			"the daily limit did not reject the third call")
		rid := first.RID(t)
		wantSpent := func(when string, s *servertest.Server) {
			t.Helper()
			var issued struct {
				Token string `json:"access_token"`
			}
			s.Do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"shop","secret":"the-secret-of-shop"}`).JSON(t,
				&issued)
			s.RegisterSecret(issued.Token)
			wire := func(call, body string) int { return s.Do("POST", call+"?access_token="+issued.Token, body).Code(t) }
			assert.Equal(t, wire(get, "{}"), 45009, "%s: a call above the daily limit", when)
			assert.Equal(t, s.Do("POST", clearQuota, "").Code(t), 48006, "%s: an eleventh clear", when)
			assert.Equal(t, s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=svc&secret=the-secret-of-svc",
				"").Code(t), 45009, "%s: a token above the day's", when)
			assert.Equal(t, wire("/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://b.example/"}`), 886000,
				"%s: a publish above the month's", when)
			assert.Equal(t, wire("/cgi-bin/openapi/rid/get", fmt.Sprintf(`{"rid":%q}`, rid)), 0, "%s: a call of the log", when)
		}
		wantSpent("before", s)
		s.Clock.Step(jump)
		wantSpent("ahead", s)
		s.Stop() // flushes the call log
		s = p.start(t, servertest.Options{Seed: brand, Began: servertest.Began.Add(jump)})
		wantSpent("started ahead", s)
		s.Stop()
		s = p.start(t, servertest.Options{Seed: brand})
		s.RegisterSecret(token)
		wantSpent("repaired", s)
		s.Stop()
		// Users move the emulator's clock to begin another day.
		s = p.start(t, servertest.Options{Seed: brand, Emulator: true, Config: func(c *server.Config) { c.Emulator = true }})
		s.Advance(jump)
		assert.Equal(t, s.Do("POST", clearQuota, "").Code(t), 0, "after the emulator's clock was moved")
	})
}
