package api_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// ridReply is what a call looked like.
type ridReply struct {
	Request struct {
		InvokeTime   int64  `json:"invoke_time"`
		CostInMS     int64  `json:"cost_in_ms"`
		RequestURL   string `json:"request_url"`
		RequestBody  string `json:"request_body"`
		ResponseBody string `json:"response_body"`
		ClientIP     string `json:"client_ip"`
	}
}

// asked is what rid/get shows to an account; the call must be found.
func asked(t *testing.T, s *servertest.Server, token, rid string) ridReply {
	t.Helper()
	a := s.Do("POST", ridOfCall+"?access_token="+token, fmt.Sprintf(`{"rid":%q}`, rid))
	reply := servertest.Decode[ridReply](t, a)
	require.True(t, a.Code(t) == 0, "%s: %s", rid, a.Body)
	return reply
}

// Contract: rules 3.1. Without the emulator as well, and at once: nobody waits
// until a call is written.
func TestCallLog_FindByRequestID(t *testing.T) {
	t.Parallel()
	for name, guarded := range map[string]bool{"with the emulator": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{Seed: strings.ReplaceAll(town, "secret: secret-", "secret: the-secret-of-"),
				Guarded: guarded, Config: func(c *server.Config) { c.TrustedProxy = []string{"127.0.0.0/8"} }})
			token := s.Token("shop")
			r := s.Request("POST", publishPath+"?access_token="+token+"&x=%E6%89%AB", `{"prefix":"https://shop.example/<none>/&"}`,
				"X-Forwarded-For: 203.0.113.9")
			a := s.Send(r)
			rid := ridOf(a)
			got := asked(t, s, token, rid).Request
			assert.True(t, got.InvokeTime == servertest.Began.Unix() && got.CostInMS == 0 && got.ClientIP == "203.0.113.9" &&
				got.ResponseBody == a.Body && got.RequestBody == `{"prefix":"https://shop.example/<none>/&"}` &&
				got.RequestURL == "access_token=%5Bmasked%5D&x=%E6%89%AB", "%s: %+v", rid, got)
			// The call that asked is in the log too, and shows no more.
			other := s.Do("POST", ridOfCall+"?access_token="+s.Token("rival"), fmt.Sprintf(`{"rid":%q}`, rid))
			checkText(t, other, 76003, "could not query this rid,no permission")
			again := asked(t, s, s.Token("rival"), ridOf(other)).Request
			assert.True(t, strings.Contains(again.RequestBody, rid) && !strings.Contains(again.ResponseBody, "shop.example"),
				"what the other saw: %+v", again)
		})
	}
}

// The log keeps as many calls as the setting says, the latest.
func TestCallLog_Bounded(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	s.Admin("PUT", "/settings", `{"call_log_max_rows":10}`)
	var rids []string
	for range 25 {
		rids = append(rids, ridOf(as("shop", publishPath, prefix("https://shop.example/none/"))(s)))
	}
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	s.Admin("PUT", "/settings", `{"call_log_max_rows":1000}`) // what asks is in the log as well, and takes nobody's place
	for i, rid := range rids {
		want := 0
		if i < 15 {
			want = 76001
		}
		as("shop", ridOfCall, fmt.Sprintf(`{"rid":%q}`, rid))(s).WantCode(t, want, "call %d", i+1)
	}
	// 0 is no log at all; what was there stays until it is too old.
	s.Admin("PUT", "/settings", `{"call_log_max_rows":0}`)
	rid := ridOf(as("shop", publishPath, prefix("https://shop.example/none/"))(s))
	checkText(t, as("shop", ridOfCall, fmt.Sprintf(`{"rid":%q}`, rid))(s), 76001, "rid not found, please check")
}

// Nothing in the stored log lets anybody in: every call that carries or
// answers something secret is made, and the database is searched for all of it.
func TestCallLog_StoresNoCredentials(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: agency, Data: folder, Undeclared: true})
	secrets := []string{"secret-shop", "secret-svc", "secret-isv"}
	hide := func(list ...string) {
		for _, text := range list {
			require.True(t, len(text) >= 9, "%q is no secret", text)
			secrets = append(secrets, text)
			s.Hide(text)
		}
	}
	hide(s.Token("shop"), s.Token("svc"))
	stable := tokenOf(t,
		s.Do("POST", stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"secret-shop","force_refresh":true}`))
	hide(stable)
	s.Do("POST", "/cgi-bin/clear_quota/v2?appid=shop&appsecret=secret-shop", "")
	s.Do("POST", "/cgi-bin/clear_quota/v2", `{"appid":"shop","appsecret":"secret-shop"}`)
	ticket := s.Ticket("isv")
	platform := s.ComponentToken("isv")
	hide(ticket, platform)
	s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
	s.Do("POST", "/cgi-bin/component/clear_quota/v2", `{"component_appid":"isv","appsecret":"secret-isv"}`)
	pre := s.PreAuthCode(platform, "isv")
	hide(pre)
	code := s.Authorize(platform, "isv", "shop", "[18,33]")
	hide(code)
	var granted struct {
		Info struct {
			Access  string `json:"authorizer_access_token"`
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	a := s.Component(platform, "api_query_auth", fmt.Sprintf(`{"component_appid":"isv","authorization_code":%q}`, code))
	a.JSON(t, &granted)
	require.True(t, granted.Info.Access != "", "no authorisation: %s", a.Body)
	hide(granted.Info.Access, granted.Info.Refresh)
	refreshed := s.Component(platform, "api_authorizer_token",
		fmt.Sprintf(`{"component_appid":"isv","authorizer_appid":"shop","authorizer_refresh_token":%q}`, granted.Info.Refresh))
	fresh := refreshed.Text(t, "authorizer_access_token")
	hide(fresh)
	s.Do("POST", getPath+"?access_token="+fresh, "{}")

	id := applied(t, s, "svc", "one", 10_000)
	buffer := works(t, s, "svc", "applycodedownload", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":9999}`, id)).Buffer
	hide(buffer[:40])
	works(t, s, "svc", "codeactive", binding(id, 0, 9999))
	text, original := printed(t, s, id, 7)
	hide(text, original)
	works(t, s, "svc", "codeactivequery", fmt.Sprintf(`{"code_url":%s}`, quoted(text)))
	works(t, s, "svc", "codeactivequery", fmt.Sprintf(`{"code":%q}`, original))
	works(t, s, "svc", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":7}`, id))
	scanTicket := ticketOf(t, s, "u", text)
	hide(scanTicket)
	works(t, s, "svc", "tickettocode", trade(openid(t, s, "u", "shop"), scanTicket))
	js := login(t, s, "u", "shop")
	hide(js)
	session := s.Do("GET", sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code="+js, "")
	hide(tellOf(t, session).SessionKey)

	// In bodies that are no JSON, or have it where nobody reads it.
	token := s.Token("shop")
	for _, body := range []string{
		`{'secret':'hush-hush-1'}`, `{"secret":"hush-hush-1`, `{"secret":["hush-hush-1"]}`, `{"a":[{"AppSecret":{"b":"hush-hush-1"}}]}`,
		`secret=hush-hush-1&a=b`, `{"my_new_token":"hush-hush-1"}`, `{"\u0073ecret":"hush-hush-1"}`, "{\"secret\":\"hush-hush-1\"}\x00\xff",
	} {
		s.Do("POST", getPath+"?access_token="+token+"&secret=hush-hush-1", body)
	}
	hide("hush-hush-1")
	s.Stop()

	db, err := sql.Open("sqlite", filepath.Join(folder, "qrjump.db"))
	require.NoError(t, err)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT text FROM call_blocks`)
	require.NoError(t, err)
	defer rows.Close()
	paths := map[string]int{}
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		for line := range strings.Lines(text) {
			var call struct{ Path string }
			require.NoErrorf(t, json.Unmarshal([]byte(line), &call), "%s", line)
			paths[call.Path]++
			for _, secret := range secrets {
				assert.True(t, !strings.Contains(line, secret), "%q is in the log of calls:\n%s", secret, line)
			}
		}
	}
	require.NoError(t, rows.Err())
	for _, path := range []string{
		tokenPath, stablePath, clearBySecret, "/cgi-bin/component/clear_quota/v2", sessionPath, getPath, tradePath, codeFamily +
			"codeactivequery", codeFamily + "applycodedownload",
		family + "api_start_push_ticket", family + "api_component_token", family + "api_create_preauthcode", family + "api_query_auth",
		family + "api_authorizer_token",
	} {
		assert.True(t, paths[path] != 0, "no call of %s is in the log: %v", path, paths)
	}
	// Nor in the file behind it, whatever table it is in: what is only compared is hashed, what is used again is sealed.
	raw, err := os.ReadFile(filepath.Join(folder, "qrjump.db"))
	require.NoError(t, err)
	for _, secret := range secrets {
		assert.True(t, !strings.Contains(string(raw), secret), "%q is in the database", secret)
	}
}

// The log follows the clock: what is older than seven days is not only not found, it is gone.
func TestCallLog_SevenDayRetention(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	as("shop", getPath, "{}")(s)
	s.Advance(7*24*time.Hour + time.Second)
	as("shop", getPath, "{}")(s) // 42001: it is no call of shop's, but of nobody
	s.NewToken("shop")
	as("shop", getPath, "{}")(s)
	s.Stop()
	db, err := sql.Open("sqlite", filepath.Join(folder, "qrjump.db"))
	require.NoError(t, err)
	defer db.Close()
	var all, old int
	require.NoError(t, db.QueryRowContext(t.Context(),
		`SELECT SUM(calls), COALESCE(SUM(CASE WHEN second < $1 THEN calls ELSE 0 END), 0) FROM call_blocks`,
		servertest.Began.Add(time.Hour).Unix()).Scan(&all, &old))
	assert.True(t, all == 2 && old == 0, "%d calls are in the log, %d of them too old; want the two of today", all, old)
}

// Contract: rules, corrections of 2026-11-23. Behaviour(wire.answer.hint_alone).
func TestErrorText_LastDayOfTheHint(t *testing.T) {
	t.Parallel()
	for day, want := range map[string]string{"2020-08-10": " hint: [", "2020-08-11": " rid: ", "2020-08-12": " rid: "} {
		s := servertest.Start(t, servertest.Options{Seed: town, Config: func(c *server.Config) { c.AsOf = day }})
		a := s.Do("GET", "/cgi-bin/token", "")
		assert.True(t, strings.Contains(a.Body, want), "/cgi-bin/token as of %s = %s, want one with %q", day, a.Body, want)
	}
}
