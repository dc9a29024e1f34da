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

// ridReply is the response of rid/get.
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

// getCall returns the response of rid/get to the owner of a token; the call must be found.
func getCall(t *testing.T, s *servertest.Server, token, rid string) ridReply {
	t.Helper()
	a := s.Do("POST", ridGetPath+"?access_token="+token, fmt.Sprintf(`{"rid":%q}`, rid))
	reply := servertest.Decode[ridReply](t, a)
	require.True(t, a.Code(t) == 0, "rid/get of %s = %s, want errcode 0", rid, a.Body)
	return reply
}

// TestCallLog_FindByRequestID verifies that rid/get finds a call immediately, before it is stored, with and without the emulator, and
// rejects other accounts. Contract: rules 3.1.
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
			rid := a.RID(t)
			got := getCall(t, s, token, rid).Request
			assert.True(t, got.InvokeTime == servertest.Began.Unix() && got.CostInMS == 0 && got.ClientIP == "203.0.113.9" &&
				got.ResponseBody == a.Body && got.RequestBody == `{"prefix":"https://shop.example/<none>/&"}` &&
				got.RequestURL == "access_token=%5Bmasked%5D&x=%E6%89%AB", "rid/get of %s = %+v", rid, got)
			// The rejected call is logged as well, without the content of the requested one.
			other := s.Do("POST", ridGetPath+"?access_token="+s.Token("rival"), fmt.Sprintf(`{"rid":%q}`, rid))
			checkText(t, other, 76003, "could not query this rid,no permission")
			rejected := getCall(t, s, s.Token("rival"), other.RID(t)).Request
			assert.True(t, strings.Contains(rejected.RequestBody, rid) && !strings.Contains(rejected.ResponseBody, "shop.example"),
				"logged call of the other account = %+v", rejected)
		})
	}
}

// TestCallLog_Bounded verifies that the log keeps the latest call_log_max_rows calls, and none with 0.
func TestCallLog_Bounded(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	s.Admin("PUT", "/settings", `{"call_log_max_rows":10}`)
	var rids []string
	for range 25 {
		rids = append(rids, post(s, "shop", publishPath, prefixBody("https://shop.example/none/")).RID(t))
	}
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	s.Admin("PUT", "/settings", `{"call_log_max_rows":1000}`) // room for the calls of rid/get, which are logged as well
	for i, rid := range rids {
		want := 0
		if i < 15 {
			want = 76001
		}
		post(s, "shop", ridGetPath, fmt.Sprintf(`{"rid":%q}`, rid)).WantCode(t, want, "call %d", i+1)
	}
	// 0 disables the log; stored calls stay until they expire.
	s.Admin("PUT", "/settings", `{"call_log_max_rows":0}`)
	rid := post(s, "shop", publishPath, prefixBody("https://shop.example/none/")).RID(t)
	checkText(t, post(s, "shop", ridGetPath, fmt.Sprintf(`{"rid":%q}`, rid)), 76001, "rid not found, please check")
}

// TestCallLog_StoresNoCredentials makes every call with a secret in its request or response, and searches the call log and the database
// file for each of these secrets.
func TestCallLog_StoresNoCredentials(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: agency, Data: folder, Undeclared: true})
	secrets := []string{"secret-shop", "secret-svc", "secret-isv"}
	hide := func(values ...string) {
		for _, secret := range values {
			require.True(t, len(secret) >= 9, "secret %q has fewer than 9 bytes", secret)
			secrets = append(secrets, secret)
			s.RegisterSecret(secret)
		}
	}
	hide(s.Token("shop"), s.Token("svc"))
	stable := s.Do("POST", stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"secret-shop","force_refresh":true}`)
	hide(stable.Text(t, "access_token"))
	s.Do("POST", "/cgi-bin/clear_quota/v2?appid=shop&appsecret=secret-shop", "")
	s.Do("POST", "/cgi-bin/clear_quota/v2", `{"appid":"shop","appsecret":"secret-shop"}`)
	ticket := s.Ticket("isv")
	platform := s.ComponentToken("isv")
	hide(ticket, platform)
	s.Do("POST", componentPath+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
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
	require.True(t, granted.Info.Access != "", "api_query_auth = %s, want tokens", a.Body)
	hide(granted.Info.Access, granted.Info.Refresh)
	refreshed := s.Component(platform, "api_authorizer_token",
		fmt.Sprintf(`{"component_appid":"isv","authorizer_appid":"shop","authorizer_refresh_token":%q}`, granted.Info.Refresh))
	fresh := refreshed.Text(t, "authorizer_access_token")
	hide(fresh)
	s.Do("POST", getPath+"?access_token="+fresh, "{}")

	id := s.Apply("svc", "one", 10_000)
	buffer := mustCallCode(t, s, "svc", "applycodedownload", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":9999}`, id)).Buffer
	hide(buffer[:40])
	mustCallCode(t, s, "svc", "codeactive", activationBody(id, 0, 9999))
	text, original := lookupCode(t, s, id, 7)
	hide(text, original)
	mustCallCode(t, s, "svc", "codeactivequery", fmt.Sprintf(`{"code_url":%s}`, quoteJSON(text)))
	mustCallCode(t, s, "svc", "codeactivequery", fmt.Sprintf(`{"code":%q}`, original))
	mustCallCode(t, s, "svc", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":7}`, id))
	codeTicket := scanForTicket(t, s, "u", text)
	hide(codeTicket)
	mustCallCode(t, s, "svc", "tickettocode", fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openIDOf(t, s, "u", "shop"), codeTicket))
	js := login(t, s, "u", "shop")
	hide(js)
	session := s.Do("GET", sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code="+js, "")
	hide(session.Text(t, "session_key"))

	// Secrets in bodies that are not JSON, and in fields that the endpoint does not read.
	token := s.Token("shop")
	for _, body := range []string{
		`{'secret':'hush-hush-1'}`, `{"secret":"hush-hush-1`, `{"secret":["hush-hush-1"]}`, `{"a":[{"AppSecret":{"b":"hush-hush-1"}}]}`,
		`secret=hush-hush-1&a=b`, `{"my_new_token":"hush-hush-1"}`, `{"\u0073ecret":"hush-hush-1"}`, "{\"secret\":\"hush-hush-1\"}\x00\xff",
	} {
		s.Do("POST", getPath+"?access_token="+token+"&secret=hush-hush-1", body)
	}
	hide("hush-hush-1")
	s.Stop()

	db := require.Value(sql.Open("sqlite", filepath.Join(folder, "qrjump.db")))(t)
	defer db.Close()
	rows := require.Value(db.QueryContext(t.Context(), `SELECT text FROM call_blocks`))(t)
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
				assert.True(t, !strings.Contains(line, secret), "call log contains %q:\n%s", secret, line)
			}
		}
	}
	require.NoError(t, rows.Err())
	for _, path := range []string{
		tokenPath, stablePath, clearQuotaV2Path, "/cgi-bin/component/clear_quota/v2", sessionPath, getPath, ticketToCodePath,
		marketcodePath + "codeactivequery", marketcodePath + "applycodedownload", componentPath + "api_start_push_ticket",
		componentPath + "api_component_token", componentPath + "api_create_preauthcode", componentPath + "api_query_auth",
		componentPath + "api_authorizer_token",
	} {
		assert.True(t, paths[path] != 0, "call log has no call of %s: %v", path, paths)
	}
	// In the database file, secrets that are only compared are hashed, and those that are needed again are sealed.
	raw := require.Value(os.ReadFile(filepath.Join(folder, "qrjump.db")))(t)
	for _, secret := range secrets {
		assert.True(t, !strings.Contains(string(raw), secret), "database file contains %q", secret)
	}
}

// TestCallLog_SevenDayRetention verifies that calls older than seven days, by the server's clock, are deleted from the database.
func TestCallLog_SevenDayRetention(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := servertest.Start(t, servertest.Options{Seed: town, Data: folder})
	post(s, "shop", getPath, "{}")
	s.Advance(7*24*time.Hour + time.Second)
	post(s, "shop", getPath, "{}") // 42001: belongs to no account
	s.NewToken("shop")
	post(s, "shop", getPath, "{}")
	s.Stop()
	db := require.Value(sql.Open("sqlite", filepath.Join(folder, "qrjump.db")))(t)
	defer db.Close()
	var all, old int
	require.NoError(t, db.QueryRowContext(t.Context(),
		`SELECT SUM(calls), COALESCE(SUM(CASE WHEN second < $1 THEN calls ELSE 0 END), 0) FROM call_blocks`,
		servertest.Began.Add(time.Hour).Unix()).Scan(&all, &old))
	assert.True(t, all == 2 && old == 0, "call log has %d calls, %d of them older than seven days, want 2 and 0", all, old)
}

// TestErrorText_LastDayOfTheHint verifies that errors have a hint as of the last day of the hint, and a request id from the next day.
// Contract: rules, corrections of 2026-11-23. Behaviour(wire.answer.hint_alone).
func TestErrorText_LastDayOfTheHint(t *testing.T) {
	t.Parallel()
	for day, want := range map[string]string{"2020-08-10": " hint: [", "2020-08-11": " rid: ", "2020-08-12": " rid: "} {
		s := servertest.Start(t, servertest.Options{Seed: town, Config: func(c *server.Config) { c.AsOf = day }})
		a := s.Do("GET", "/cgi-bin/token", "")
		assert.True(t, strings.Contains(a.Body, want), "/cgi-bin/token as of %s = %s, want one with %q", day, a.Body, want)
	}
}
