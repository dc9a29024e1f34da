package emulator_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const shop = `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, versions: [release]}
  - {appid: rival, kind: mini_program, secret: the-secret-of-rival, versions: [release]}
rules:
  - {owner: shop, prefix: "https://shop.example/t/", path: p, published: true}
settings: {verification: trust, rule_rate_limit: null}
`

const (
	get     = "/cgi-bin/wxopen/qrcodejumpget"
	add     = "/cgi-bin/wxopen/qrcodejumpadd"
	newRule = `{"prefix":"https://shop.example/new/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`
)

func start(t *testing.T) *servertest.Server {
	return servertest.Start(t, servertest.Options{Seed: shop, Undeclared: true})
}

// control calls the control API of the emulator.
func control(s *servertest.Server, method, path, body string) servertest.Answer {
	return s.Do(method, "/admin/v1/emulator"+path, body, "Content-Type: application/json")
}

// clock sets the clock of the emulator, unless body is empty, and returns its state.
func clock(t *testing.T, s *servertest.Server, body string) (now time.Time, frozen bool) {
	t.Helper()
	method := "PUT"
	if body == "" {
		method = "GET"
	}
	a := control(s, method, "/clock", body)
	require.True(t, a.Status == 200, "%s: %d %s", body, a.Status, a.Body)
	var c struct {
		Now    time.Time
		Frozen bool
	}
	a.JSON(t, &c)
	return c.Now, c.Frozen
}

func TestEmulator_Clock(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Seed: shop, Data: data})
	checkClock := func(want time.Time, wantFrozen bool) {
		t.Helper()
		now, frozen := clock(t, s, "")
		assert.True(t, now.Equal(want) && frozen == wantFrozen, "clock = %s, frozen %v, want %s, %v", now, frozen, want, wantFrozen)
	}
	at := servertest.Began
	checkClock(at, false)
	clock(t, s, `{"advance":"36h"}`)
	at = at.Add(36 * time.Hour)
	checkClock(at, false)
	s.Clock.Step(time.Minute) // the clock runs at real speed
	at = at.Add(time.Minute)
	checkClock(at, false)
	clock(t, s, `{"now":"2026-03-01T00:00:00+08:00"}`)
	at = time.Date(2026, 3, 1, 0, 0, 0, 0, at.Location())
	checkClock(at, false)
	clock(t, s, `{"now":"2026-03-02T00:00:00+08:00","advance":"1s","freeze":true}`)
	at = at.Add(24*time.Hour + time.Second)
	s.Clock.Step(time.Hour)
	checkClock(at, true)
	clock(t, s, `{"advance":"1h"}`) // the clock stays frozen
	at = at.Add(time.Hour)
	checkClock(at, true)
	rid := s.Do("GET", get, "").RID(t)
	assert.True(t, strings.HasPrefix(rid, fmt.Sprintf("%08x-", at.Unix())), "rid = %s, want one of the emulated time", rid)

	for _, body := range []string{`{"now":"2026-03-01T00:00:00+08:00"}`, `{"advance":"-1ns"}`, `{"now":"1970-01-01T00:00:00Z"}`,
		`{"now":"2106-01-01T00:00:01Z"}`, `{"advance":"2562047h"}`} {
		a := control(s, "PUT", "/clock", body)
		assert.True(t, a.Status == http.StatusConflict, "%s: %d %s", body, a.Status, a.Body)
	}
	for _, body := range []string{`{}`, `{"advance":"tomorrow"}`, `{"advance":36}`, `{"now":"noon"}`, `{"freeze":"yes"}`,
		`{"advanc":"1h"}`} {
		a := control(s, "PUT", "/clock", body)
		assert.True(t, a.Status == http.StatusUnprocessableEntity, "%s: %d %s", body, a.Status, a.Body)
	}
	checkClock(at, true)

	// A restart keeps the clock, frozen or running.
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: shop, Data: data})
	checkClock(at, true)
	_, frozen := clock(t, s, `{"freeze":false}`)
	assert.True(t, !frozen, "frozen = true after freeze: false, want a running clock")
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: shop, Data: data})
	checkClock(at, false)
	s.Admin("POST", "/emulator/reset", "")
	checkClock(servertest.Began, false)
	s.Stop()

	// Without the emulator the server uses the real time, and logs a warning.
	s = servertest.Start(t, servertest.Options{Seed: shop, Data: data, Emulator: true, Guarded: true})
	s.Advance(time.Hour)
	s.Stop()
	s = servertest.Start(t, servertest.Options{Seed: shop, Data: data, Guarded: true})
	rid = s.Do("GET", get, "").RID(t)
	assert.True(t, strings.HasPrefix(rid, fmt.Sprintf("%08x-", servertest.Began.Unix())), "rid = %s, want one of the real time", rid)
	assert.Contains(t, s.Log(), "emulated clock", "log")
	s.Do("GET", "/admin/v1/emulator/clock", "", "Authorization: Bearer "+servertest.AdminToken).WantStatus(t, 404,
		"the emulator's control API without --emulator")
}

// TestClock_NodesShareState moves the clocks of two nodes. The moves must add up, and a clock must freeze at the stored time.
func TestClock_NodesShareState(t *testing.T) {
	t.Parallel()
	real, stored := servertest.Began, ""
	var clock *emulator.Clock
	for i, m := range []emulator.Move{{Advance: time.Hour}, {Advance: time.Hour}, {Freeze: new(true)}} {
		if i < 2 {
			clock = &emulator.Clock{Real: func() time.Time { return real }, Update: func(change func(string) (string, error)) (err error) {
				assert.True(t, !clock.Frozen(), "the clock is frozen before the move is stored")
				stored, err = change(stored)
				real = real.Add(time.Second)
				return err
			}}
		}
		require.NoError(t, clock.Apply(m))
	}
	assert.Equal(t, clock.Now(), servertest.Began.Add(2*time.Hour+2*time.Second), "time of the frozen clock")
}

func addFaults(t *testing.T, s *servertest.Server, faults ...string) {
	t.Helper()
	for _, body := range faults {
		a := control(s, "POST", "/faults", body)
		require.True(t, a.Status == 200, "%s: %d %s, want 200", body, a.Status, a.Body)
	}
}

func TestEmulator_Faults(t *testing.T) {
	t.Parallel()
	s := start(t)
	codes := func(appid string, n int) (list []int) {
		for range n {
			list = append(list, s.Rule(appid, "get", "{}").Code(t))
		}
		return list
	}
	for _, c := range []struct {
		name  string
		fault string
		appid string
		want  string
	}{
		{"twice", `{"path":"` + get + `","errcode":-1,"remaining":2}`, "shop", "[-1 -1 0 0]"},
		{"unlimited", `{"path":"` + get + `","errcode":45009}`, "shop", "[45009 45009 45009 45009]"},
		{"an unknown code", `{"path":"` + get + `","errcode":12345,"remaining":1}`, "shop", "[12345 0 0 0]"},
		{"of one account", `{"path":"` + get + `","errcode":-1,"appid":"shop"}`, "shop", "[-1 -1 -1 -1]"},
		{"of another account", `{"path":"` + get + `","errcode":-1,"appid":"shop"}`, "rival", "[0 0 0 0]"},
		{"of another endpoint", `{"path":"` + add + `","errcode":-1}`, "shop", "[0 0 0 0]"},
		{"a delay and then the call", `{"path":"` + get + `","delay":"1ms","remaining":1}`, "shop", "[0 0 0 0]"},
		{"a delay and then a code", `{"path":"` + get + `","delay":"1ms","errcode":-1,"remaining":1}`, "shop", "[-1 0 0 0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Reset(t)
			addFaults(t, s, c.fault)
			assert.Equal(t, fmt.Sprint(codes(c.appid, 4)), c.want, "codes of four calls")
		})
	}

	t.Run("the same seed, the same sequence", func(t *testing.T) {
		sequence := func() string {
			s.Reset(t)
			addFaults(t, s, `{"path":"`+get+`","errcode":-1,"probability":0.5}`)
			return fmt.Sprint(codes("shop", 24))
		}
		first := sequence()
		second := sequence()
		assert.True(t, second == first && strings.Contains(first, "-1") && strings.Contains(first, "0 0"),
			"sequences = %s and %s, want the same random one", first, second)
		other := start(t)
		addFaults(t, other, `{"path":"`+get+`","errcode":-1,"probability":0.5}`)
		var list []int
		for range 24 {
			list = append(list, other.Rule("shop", "get", "{}").Code(t))
		}
		assert.Equal(t, fmt.Sprint(list), first, "sequence of another server")
	})

	t.Run("a custom text", func(t *testing.T) {
		s.Reset(t)
		addFaults(t, s, `{"path":"`+get+`","errcode":85072,"errmsg":"something \"else\""}`)
		a := s.Rule("shop", "get", "{}")
		assert.True(t, strings.HasPrefix(a.Body, `{"errcode":85072,"errmsg":"something \"else\" rid: `), "got %s", a.Body)
	})

	t.Run("of the token endpoints, by the appid asked for", func(t *testing.T) {
		s.Reset(t)
		s.Token("rival")
		addFaults(t, s, `{"path":"/cgi-bin/token","errcode":-1,"appid":"shop"}`)
		addFaults(t, s, `{"path":"/cgi-bin/stable_token","errcode":-1,"appid":"shop"}`)
		s.NewToken("rival")
		a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "")
		assert.True(t, a.Code(t) == -1, "got %s", a.Body)
		a = s.Do("POST", "/cgi-bin/stable_token", `{"appid":"shop"}`)
		assert.True(t, a.Code(t) == -1, "got %s", a.Body)
	})

	checkRules := func(want int) {
		t.Helper()
		var l struct {
			Total int `json:"total_count"`
		}
		s.OK("shop", "get", "{}").JSON(t, &l)
		assert.Equal(t, l.Total, want, "number of rules")
	}
	for _, c := range []struct {
		name, fault string
		rules       int
	}{
		{"drop: no response and no effect", `{"path":"` + add + `","drop":true,"remaining":1}`, 1},
		{"drop_after: no response, but the effect", `{"path":"` + add + `","drop_after":true,"remaining":1}`, 2},
		{"drop after a delay", `{"path":"` + add + `","drop":true,"delay":"1ms","remaining":1}`, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Reset(t)
			token := s.Token("shop")
			addFaults(t, s, c.fault)
			a, err := s.TrySend(s.Request("POST", add+"?access_token="+token, newRule))
			assert.True(t, err != nil, "response = %s, want a closed connection", a.Body)
			checkRules(c.rules)
			var calls struct {
				Calls []struct{ Detail, Request string }
			}
			control(s, "GET", "/calls?limit=2", "").JSON(t, &calls)
			assert.True(t, calls.Calls[1].Request != "", "recorded calls = %+v, want the dropped call", calls)
		})
	}

	// Observed on the platform: add returned -1, and the rule existed afterwards.
	t.Run("after: the code, and the effect", func(t *testing.T) {
		s.Reset(t)
		addFaults(t, s, `{"path":"`+add+`","errcode":-1,"after":true,"remaining":1}`)
		a := s.Rule("shop", "add", newRule)
		assert.True(t, strings.HasPrefix(a.Body, `{"errcode":-1,"errmsg":"system error rid: `), "got %s", a.Body)
		checkRules(2)
		s.Rule("shop", "add", newRule).WantCode(t, 85071, "a retry of the client")
		calls := servertest.Decode[struct{ Calls []struct{ Detail string } }](t, control(s, "GET", "/calls?limit=3", ""))
		assert.Equal(t, calls.Calls[2].Detail, "injected by a fault after the call was done", "recorded detail")
	})
	t.Run("after: a call that is rejected anyway", func(t *testing.T) {
		s.Reset(t)
		addFaults(t, s, `{"path":"`+add+`","errcode":-1,"errmsg":"busy","after":true,"delay":"1ms","remaining":1}`)
		a := s.Rule("shop", "add", "{}")
		assert.True(t, strings.HasPrefix(a.Body, `{"errcode":-1,"errmsg":"busy rid: `), "got %s", a.Body)
		checkRules(1)
		calls := servertest.Decode[struct{ Calls []struct{ Detail string } }](t, control(s, "GET", "/calls?limit=2", ""))
		got := calls.Calls[1].Detail
		assert.True(t, strings.HasPrefix(got, "injected by a fault; without the fault the call was rejected: 40097 invalid args"),
			"recorded detail = %q, want the fault and the rejection", got)
	})
	t.Run("after: a token that is not returned replaces the previous one", func(t *testing.T) {
		s.Reset(t)
		old := s.Token("shop")
		addFaults(t, s, `{"path":"/cgi-bin/token","errcode":-1,"after":true,"remaining":1}`)
		a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "")
		assert.True(t, a.Code(t) == -1 && !strings.Contains(a.Body, "expires_in"), "got %s", a.Body)
		s.Advance(5 * time.Minute)
		s.Do("POST", get+"?access_token="+old, "{}").WantCode(t, 40001, "the previous token")
		s.NewToken("shop")
	})

	t.Run("invalid faults", func(t *testing.T) {
		s.Reset(t)
		for _, body := range []string{
			`{"path":"` + get + `"}`, `{"path":"/cgi-bin/nothing","errcode":-1}`, `{"errcode":-1}`, `{"path":"` + get + `","errcode":0}`,
			`{"path":"` + get + `","errcode":-1,"probability":0}`, `{"path":"` + get + `","errcode":-1,"appid":"nobody"}`,
			`{"path":"` + get + `","drop":true,"drop_after":true}`,
			`{"path":"` + get + `","errcode":-1,"remaining":0}`, `{"path":"` + get + `","errcode":-1,"remaining":-1}`, `{"path":"` + get +
				`","errcode":-1,"probability":1.1}`,
			`{"path":"` + get + `","errcode":-1,"probability":-0.1}`, `{"path":"` + get + `","delay":"soon"}`, `{"path":"` + get +
				`","delay":"-1s"}`,
			`{"path":"` + get + `","delay":"61s"}`, `{"path":"` + get + `","errcode":-1,"drop":true}`, `{"path":"` + get +
				`","errcode":"-1"}`, `{"path":"` + get + `","errcod":-1}`,
			`{"path":"` + get + `","after":true}`, `{"path":"` + get + `","after":true,"delay":"1s"}`, `{"path":"` + get +
				`","after":true,"drop":true}`,
			`{"path":"` + get + `","after":true,"drop_after":true}`, `{"path":"` + get + `","errcode":-1,"after":true,"drop_after":true}`,
			`{"path":"` + get + `","errcode":0,"after":true}`, `{"path":"` + get + `","errcode":-1,"after":"yes"}`,
		} {
			a := control(s, "POST", "/faults", body)
			assert.True(t, a.Status == 422, "%s: %d %s, want 422", body, a.Status, a.Body)
		}
		assert.Equal(t, control(s, "GET", "/faults", "").Body, `{"faults":[]}`+"\n", "active faults")
	})
}

// TestEmulator_FaultsOfPlatform verifies that the faults of a third-party platform affect the calls with its own token.
func TestEmulator_FaultsOfPlatform(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Undeclared: true, Seed: shop + `
components:
  - {appid: isv, secret: isv-secret-0123456789, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG}
`})
	token := s.ComponentToken("isv")
	for path, body := range map[string]string{
		"/cgi-bin/get_api_domain_ip":                   "{}",
		"/cgi-bin/component/api_create_preauthcode":    `{"component_appid":"isv","appid":"shop"}`,
		"/cgi-bin/component/api_get_authorizer_option": `{"component_appid":"isv","authorizer_appid":"shop","option_name":"x"}`,
	} {
		addFaults(t, s, `{"path":"`+path+`","errcode":-1,"appid":"isv"}`)
		name := "access_token="
		if strings.Contains(path, "component") {
			name = "component_access_token="
		}
		s.Do("POST", path+"?"+name+token, body).WantCode(t, -1, "%s", path)
	}
}

func TestEmulator_Reset(t *testing.T) {
	t.Parallel()
	s := start(t)
	token := s.Token("shop")
	s.NewKey("/scan-keys", `{"name":"app"}`)
	s.OK("shop", "add", newRule)
	s.OK("shop", "publish", `{"prefix":"https://shop.example/new/"}`)
	s.OK("shop", "delete", `{"prefix":"https://shop.example/t/"}`)
	s.Admin("PUT", "/settings", `{"rule_limit":7}`)
	s.Admin("PUT", "/domains/evil.example", `{"status":"denied"}`)
	s.Admin("PUT", "/accounts/new", `{"kind":"mini_program"}`)
	s.Advance(time.Hour)
	addFaults(t, s, `{"path":"`+add+`","errcode":-1}`)
	s.Admin("POST", "/emulator/reset", "")

	s.Do("POST", get+"?access_token="+token, "").WantCode(t, 40001, "a token from before the reset")
	s.NewToken("shop")
	a := s.OK("shop", "get", "{}")
	assert.Contains(t, a.Body, `"prefix":"https://shop.example/t/","path":"p","state":2`, "rules after the reset")
	assert.Contains(t, a.Body, `"qrcodejump_pub_quota":100,"total_count":1`, "rules after the reset")
	a = s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/t/7"}`)
	assert.Contains(t, a.Body, "open_mini_program", "a scan after the reset")
	a = s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/new/7"}`)
	assert.Contains(t, a.Body, "open_url", "a scan of the link of an added rule")
	for path, want := range map[string]string{"/settings": `"rule_limit":100`, "/domains": `"domains":[]`,
		"/emulator/faults": `"faults":[]`, "/scan-keys": `"name":"app"`} {
		a := s.Admin("GET", path, "")
		assert.True(t, strings.Contains(a.Body, want), "%s: %s, want %s", path, a.Body, want)
	}
	s.Do("GET", "/admin/v1/accounts/new", "").WantStatus(t, 404, "an account that is missing from the seed")
}

func TestEmulator_ResetWithoutSeed(t *testing.T) {
	t.Parallel()
	var seed string
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { seed = c.Seed }})
	require.NoError(t, os.Remove(seed))
	a := control(s, "POST", "/reset", "")
	assert.True(t, a.Status == 500 && strings.Contains(a.Body, "seed"), "reset without a seed file = %d %s, want 500", a.Status, a.Body)
	assert.Contains(t, s.OK("shop", "get", "{}").Body, `"total_count":1`, "rules after the failed reset")
}

func TestEmulator_Calls(t *testing.T) {
	t.Parallel()
	s := start(t)
	token := s.Token("shop")
	s.Do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"shop","secret":"the-secret-of-shop"}`)
	a := s.Rule("shop", "publish", `{"prefix":"https://none.example/","x":"&<>"}`)
	var calls struct {
		Calls []struct {
			RID, Account, IP, Method, URL, Request, Response, Detail string
			ErrCode                                                  int
		}
	}
	list := control(s, "GET", "/calls", "")
	list.JSON(t, &calls)
	require.Equal(t, len(calls.Calls), 3, "calls")
	last := calls.Calls[0]
	assert.True(t, last.RID == a.RID(t) && last.Account == "shop" && last.IP == "127.0.0.1" && last.Method == "POST" &&
		last.ErrCode == 40097 && last.URL == "/cgi-bin/wxopen/qrcodejumppublish?access_token=%5Bmasked%5D" && last.Response == a.Body &&
		strings.Contains(last.Detail, "none.example"), "the last call: %+v", last)
	for n, want := range []string{`{"prefix":"https://none.example/","x":"`, `"secret":"[masked]"`} {
		assert.True(t, strings.Contains(calls.Calls[n].Request, want), "call %d: %s, want %s", n, calls.Calls[n].Request, want)
	}
	assert.True(t, strings.Contains(calls.Calls[1].Response, `"access_token":"[masked]"`) &&
		strings.Contains(calls.Calls[2].URL, "secret=%5Bmasked%5D"), "calls = %+v, want masked secrets", calls.Calls)
	for _, secret := range []string{token, "the-secret-of-shop"} {
		assert.True(t, !strings.Contains(list.Body, secret), "the list of calls contains the secret %s", secret)
	}
	control(s, "GET", "/calls?rid="+a.RID(t), "").JSON(t, &calls)
	assert.True(t, len(calls.Calls) == 1 && calls.Calls[0].RID == a.RID(t), "calls?rid=%s = %+v, want one call", a.RID(t), calls)
	assert.Equal(t, control(s, "GET", "/calls?limit=0", "").Status, 422, "status of limit=0")
	// The number of recorded calls is limited.
	for range 1001 {
		s.Do("GET", "/cgi-bin/token", "")
	}
	control(s, "GET", "/calls?limit=1000", "").JSON(t, &calls)
	assert.True(t, len(calls.Calls) == 1000 && calls.Calls[999].URL == "/cgi-bin/token", "%d calls, want 1000", len(calls.Calls))
}
