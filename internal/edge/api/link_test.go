package api_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const (
	linkPath     = "/cgi-bin/wxopen/wxamplink"
	linkListPath = "/cgi-bin/wxopen/wxamplinkget"
	unlinkPath   = "/cgi-bin/wxopen/wxampunlink"
)

// askFor is the body of a call that asks for a link, as the platform's table has it.
func askFor(appid string) string {
	return fmt.Sprintf(`{"appid":%q,"notify_users":0,"show_profile":1}`, appid)
}

func sameSets(appid string) string { return fmt.Sprintf(`{"appid":%q}`, appid) }

// byThemselves lets accounts link with tokens of their own.
var byThemselves = set("/settings", `{"behaviours":{"link.own_token_taken":"allow"}}`)

// held makes links wait for both administrators.
var held = set("/settings", `{"behaviours":{"link.own_token_taken":"allow"},"link_approval_required":true}`)

// confirm is the answer of one side's administrator.
func confirm(service, mini, side string, agree bool) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Admin("POST", "/accounts/"+service+"/links/"+mini+"/confirm", fmt.Sprintf(`{"side":%q,"approve":%t}`, side, agree))
	}
}

// linkState is the state of one link on the wire; 0 = there is none.
func linkState(t *testing.T, s *servertest.Server, service, mini string) int {
	t.Helper()
	a := as(service, linkListPath, "")(s)
	var got struct {
		ErrCode int
		Wxopens struct {
			Items []struct {
				AppID  string
				Status int
			}
		}
	}
	if a.JSON(t, &got); got.ErrCode != 0 {
		t.Fatal(a.Body)
	}
	for _, item := range got.Wxopens.Items {
		if item.AppID == mini {
			return item.Status
		}
	}
	return 0
}

// opens reports whether a scan of a text opens a Mini Program.
func opens(t *testing.T, s *servertest.Server, text string) bool {
	t.Helper()
	var d struct{ Action string }
	s.Do("POST", "/scan/v1/resolve", `{"text":`+quoted(text)+`}`).JSON(t, &d)
	return d.Action == "open_mini_program"
}

func mustLink(t *testing.T, s *servertest.Server, calls ...how) {
	t.Helper()
	for _, call := range calls {
		if a := call(s); a.Status != 200 || a.Code(t) != 0 {
			t.Fatal(a.Body)
		}
	}
}

func wantState(t *testing.T, s *servertest.Server, mini string, want int) {
	t.Helper()
	require.Equal(t, linkState(t, s, "svc", mini), want, "svc with %s", mini)
}

// Contract: rules 3.4: 12, 2, 1; only a link that is done carries a rule.
func TestLinkCall_PendingUntilBothAgree(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	mustLink(t, s, held, as("svc", linkPath, askFor("third")))
	wantState(t, s, "third", 12)
	// The Mini Program's administrator is asked after the account's.
	a := s.Do("POST", "/admin/v1/accounts/svc/links/third/confirm", `{"side":"mini_program","approve":true}`,
		"Content-Type: application/json")
	assert.True(t, a.Status == 422, "the wrong side: %d %s", a.Status, a.Body)
	wantState(t, s, "third", 12)
	mustLink(t, s, confirm("svc", "third", "account", true))
	wantState(t, s, "third", 2)
	as("svc", addPath, code(q+"x", "third"))(s).WantCode(t, 40166, "a rule on a link that waits")
	mustLink(t, s, confirm("svc", "third", "mini_program", true))
	wantState(t, s, "third", 1)
	mustLink(t, s, as("svc", addPath, code(q+"x", "third")), as("svc", publishPath, prefix(q+"x")))
	assert.True(t, opens(t, s, q+"x"), "a scan does not open")

	// The end is held too; meanwhile the link carries its rules.
	mustLink(t, s, as("svc", unlinkPath, sameSets("third")))
	wantState(t, s, "third", 1)
	assert.True(t, opens(t, s, q+"x"), "a scan does not open while the end waits")
	mustLink(t, s, confirm("svc", "third", "account", false))
	wantState(t, s, "third", 1)
	mustLink(t, s, as("svc", unlinkPath, sameSets("third")), confirm("svc", "third", "account", true))
	wantState(t, s, "third", 0)
	assert.True(t, !opens(t, s, q+"x"), "a scan opens without the link")

	// Refused, asked for again, and withdrawn.
	mustLink(t, s, as("svc", linkPath, askFor("third")), confirm("svc", "third", "account", true),
		confirm("svc", "third", "mini_program", false))
	wantState(t, s, "third", 3)
	mustLink(t, s, as("svc", linkPath, askFor("third")))
	wantState(t, s, "third", 12)
	mustLink(t, s, as("svc", unlinkPath, sameSets("third")), as("svc", unlinkPath, sameSets("third")))
	wantState(t, s, "third", 0)

	// The operator links at once, whatever waits.
	mustLink(t, s, as("svc", linkPath, askFor("third")))
	s.Admin("PUT", "/accounts/svc/links/third", "")
	wantState(t, s, "third", 1)
}

// Behaviour(link.at_once).
func TestLinkCall_ImmediateByDefault(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	mustLink(t, s, byThemselves, as("svc2", addPath, code(q+"y", "shop")))
	for _, body := range []string{
		`{"appid":"third","notify_users":1,"show_profile":1}`, // gmars, as captured
		`{"appid":"rival","notify_users":"1","show_profile":"0"}`,
		`{"appid":"draft","show_profile":"1","neededText":""}`,
	} {
		mustLink(t, s, as("svc2", linkPath, body))
	}
	mustLink(t, s, as("svc2", addPath, code(q+"z", "third")), as("svc2", publishPath, prefix(q+"z")))
	assert.True(t, opens(t, s, q+"z"), "a scan does not open")
	mustLink(t, s, as("svc2", unlinkPath, sameSets("third")))
	assert.True(t, !opens(t, s, q+"z"), "a scan opens without the link")
	// Contract: clients 12: a call that is repeated does not fail.
	mustLink(t, s, as("svc2", unlinkPath, sameSets("third")))
}

// Contract: rules 3.4, clients: func_info beside func_infos.
// Behaviour(message.user_name).
func TestLinkList_AllFields(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: `
accounts:
  - {appid: mini, kind: mini_program, name: Coffee, certified: true, secret: secret-mini, versions: [release]}
  - {appid: young, kind: mini_program, name: Tea, secret: secret-young, versions: [trial]}
  - {appid: svc, kind: service_account, secret: secret-svc, certified: true, linked: [mini]}
settings: {behaviours: {link.own_token_taken: allow}, rule_rate_limit: null}
`})
	s.Clock.Step(1e9)
	mustLink(t, s, as("svc", linkPath, `{"appid":"young","notify_users":0,"show_profile":1}`))
	abilities := func(certified float64) []any {
		return []any{map[string]any{"id": 1., "status": certified, "name": "微信认证"}, map[string]any{"id": 2., "status": 0., "name": "微信支付"}}
	}
	item := func(appid, name string, selected, released, certified float64) map[string]any {
		return map[string]any{"status": 1., "appid": appid, "source": "SOURCE_NORMAL", "nickname": name, "selected": selected,
			"nearby_display_status": 0.,
			"released":              released, "headimg_url": "", "func_infos": abilities(certified), "func_info": abilities(certified),
			"copy_verify_status": 0., "email": ""}
	}
	var got struct {
		Wxopens struct{ Items []map[string]any }
	}
	as("svc", linkListPath, `{}`)(s).JSON(t, &got)
	names := map[any]bool{}
	for _, i := range got.Wxopens.Items {
		name, _ := i["username"].(string)
		assert.True(t, len(name) == 15 && name[:3] == "gh_" && !names[name], "username %q", name)
		names[name] = true
		delete(i, "username")
	}
	if want := []map[string]any{item("mini", "Coffee", 0, 1, 1), item("young", "Tea", 1, 0, 0)}; !reflect.DeepEqual(got.Wxopens.Items,
		want) {
		t.Errorf("got  %v\nwant %v", got.Wxopens.Items, want)
	}
}

func TestLinkList_OperatorAllStates(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	mustLink(t, s, held, as("svc2", linkPath, askFor("third")), as("svc2", unlinkPath, sameSets("shop")))
	var got struct {
		Links []struct {
			MiniProgram string `json:"mini_program"`
			Status      int
			Unlinking   bool
			ShowProfile bool `json:"show_profile"`
		}
	}
	s.Admin("GET", "/accounts/svc2/links", "").JSON(t, &got)
	assert.True(t, len(got.Links) == 2 && got.Links[0].Status == 1 && got.Links[0].Unlinking && got.Links[1].Status == 12 &&
		got.Links[1].ShowProfile, "got %+v", got.Links)
	var one struct{ Linked []string }
	if s.Admin("GET", "/accounts/svc2", "").JSON(t, &one); !reflect.DeepEqual(one.Linked, []string{"shop"}) {
		t.Errorf("linked: %v", one.Linked)
	}
	for path, want := range map[string]int{"/nobody/links": 404, "/svc2/links/nobody/confirm": 404, "/svc2/links/rival/confirm": 422,
		"/svc2/links/third/confirm": 422} {
		method, body := "POST", `{"side":"both","approve":true}`
		switch path {
		case "/nobody/links":
			method, body = "GET", ""
		case "/svc2/links/nobody/confirm", "/svc2/links/rival/confirm":
			body = `{"side":"account","approve":true}`
		}
		s.Do(method, "/admin/v1/accounts"+path, body, "Content-Type: application/json").WantStatus(t, want, "%s %s", method, path)
	}
}

// Contract: rules 3.3: set 33 for links, set 3 for parametric codes.
func TestPlatformCalls_LinksAndParametricCodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	token := s.ComponentToken("isv")
	svc, _ := s.AuthorizerToken(token, "isv", "svc") // [3, 46]
	shop, _ := s.AuthorizerToken(token, "isv", "shop")
	is := func(with, path, body string, want int) {
		t.Helper()
		s.Do("POST", path+"?access_token="+with, body).WantCode(t, want, "%s", path)
	}
	making := wanted("QR_LIMIT_SCENE", `"scene_id":1`, "")
	for path, body := range map[string]string{linkPath: askFor("rival"), linkListPath: `{}`, unlinkPath: sameSets("rival")} {
		is(svc, path, body, 61007)
		is(shop, path, body, 48001) // granted, but a Mini Program has no links of its own
	}
	is(shop, createPath, making, 61007)
	is(svc, createPath, making, 0)
	s.Authorize(token, "isv", "svc", "[33]")
	is(svc, createPath, making, 40001) // the authorisation ended it
	svc, _ = s.AuthorizerToken(token, "isv", "svc")
	is(svc, createPath, making, 61007)
	is(svc, linkPath, askFor("rival"), 0)
	is(svc, linkPath, askFor("rival"), 89015)
	is(svc, linkListPath, "", 0)
	is(svc, unlinkPath, sameSets("rival"), 0)
}
