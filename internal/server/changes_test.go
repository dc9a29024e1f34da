package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

type loggedChange struct {
	Seq                                int64
	OccurredAt                         time.Time
	Kind, Key, Actor, Via, RID, Action string
	Detail                             json.RawMessage
}

func changesAfter(t *testing.T, s *servertest.Server, seq int64) []loggedChange {
	t.Helper()
	var list struct{ Changes []loggedChange }
	s.Admin("GET", fmt.Sprintf("/changes?after=%d&limit=1000", seq), "").JSON(t, &list)
	return list.Changes
}

const everything = brand + `
rules:
  - {owner: shop, prefix: "https://shop.example/seeded/", path: p, published: true}
`

// Every call that changes something leaves a change that names what, by whom
// and through which call, and never a secret. All that a call leaves is by one
// author: "server" would be that of a change whose context names none. An
// endpoint that is not in one of the tables fails the test: say what it leaves,
// or why nothing.
func TestAuditLog_EveryMutationLogged(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: everything})
	last := int64(0)
	read := func() []loggedChange {
		t.Helper()
		list := changesAfter(t, s, last)
		if len(list) > 0 {
			last = list[len(list)-1].Seq
		}
		return list
	}
	seeded := map[string]bool{}
	for _, c := range read() {
		assert.Equal(t, c.Actor, "seed", "change %d of %s %s", c.Seq, c.Kind, c.Key)
		seeded[c.Kind] = true
	}
	for _, kind := range []string{"account", "link", "component", "grant", "rule", "meta", "seed"} {
		assert.True(t, seeded[kind], "the seed left no change of kind %s", kind)
	}
	token, service, platform := s.Token("shop"), s.Token("svc"), s.ComponentToken("isv")
	authorizer, _ := s.AuthorizerToken(platform, "isv", "shop")
	s.Authorize(platform, "isv", "svc", "[1]") // for the option of a service account
	read()
	var batch struct {
		ID int64 `json:"application_id"`
	}
	imported := batch
	var key struct{ ID, Key string }
	var shared struct{ ID string }
	scene := 0
	wire := func(token, path, body string) func() servertest.Answer {
		return func() servertest.Answer { return s.Do("POST", path+"?access_token="+token, body) }
	}
	admin := func(method, path, body string) func() servertest.Answer {
		return func() servertest.Answer {
			return s.Admin(method, strings.ReplaceAll(path, "BATCH", fmt.Sprint(batch.ID)), body)
		}
	}
	rule := `{"prefix":"https://shop.example/a/","path":"p","is_edit":%d,"permit_sub_rule":1,"open_version":3}`
	steps := []struct {
		name string // of the endpoint: path of the wire, operation of the admin API
		do   func() servertest.Answer
		want string // kind, key, did, actor
	}{
		{"/cgi-bin/wxopen/qrcodejumpadd", wire(token, "/cgi-bin/wxopen/qrcodejumpadd", fmt.Sprintf(rule, 0)),
			"rule https://shop.example/a/ add shop"},
		{"/cgi-bin/wxopen/qrcodejumpadd", wire(authorizer, "/cgi-bin/wxopen/qrcodejumpadd", fmt.Sprintf(rule, 1)),
			"rule https://shop.example/a/ edit shop via isv"},
		{"/cgi-bin/wxopen/qrcodejumppublish", wire(token, "/cgi-bin/wxopen/qrcodejumppublish", `{"prefix":"https://shop.example/a/"}`),
			"rule https://shop.example/a/ publish shop"},
		{"undoRuleChange", func() servertest.Answer { return s.Admin("POST", fmt.Sprintf("/rules/changes/%d/undo", last), "") },
			"rule https://shop.example/a/ edit admin"},
		{"/cgi-bin/wxopen/qrcodejumpdelete", wire(token, "/cgi-bin/wxopen/qrcodejumpdelete", `{"prefix":"https://shop.example/a/"}`),
			"rule https://shop.example/a/ delete shop"},
		{"addRule", admin("POST", "/accounts/shop/rules", `{"prefix":"https://shop.example/own/","path":"p"}`),
			"rule https://shop.example/own/ add admin"},
		{"editRule", admin("PUT", "/accounts/shop/rules", `{"prefix":"https://shop.example/own/","path":"q"}`),
			"rule https://shop.example/own/ edit admin"},
		{"publishRule", admin("POST", "/accounts/shop/rules/publish", `{"prefix":"https://shop.example/own/"}`),
			"rule https://shop.example/own/ publish admin"},
		{"deleteRule", admin("DELETE", "/accounts/shop/rules?prefix=https://shop.example/own/", ``),
			"rule https://shop.example/own/ delete admin"},
		{"forceDeleteRules", admin("POST", "/rules/force-delete", `{"prefix":"https://shop.example/seeded/","reason":"sold"}`),
			"rule https://shop.example/seeded/ release admin"},
		{"/cgi-bin/qrcode/create", func() servertest.Answer {
			scene++
			return wire(service, "/cgi-bin/qrcode/create",
				fmt.Sprintf(`{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":%d}}}`, scene))()
		}, "qrcode add svc"},
		{"/intp/marketcode/applycode", func() servertest.Answer {
			a := wire(service, "/intp/marketcode/applycode", `{"code_count":10000,"isv_application_id":"order"}`)()
			a.JSON(t, &batch)
			return a
		}, "batch add svc"},
		{"createOrder", admin("POST", "/accounts/svc/orders", `{"code_count":10000,"isv_application_id":"wish"}`),
			"meta order/svc/wish put admin"},
		{"decideOrder", func() servertest.Answer {
			admin("PUT", "/settings", `{"order_approval_required":true}`)()
			admin("POST", "/accounts/svc/orders", `{"code_count":10000,"isv_application_id":"other"}`)()
			return admin("POST", "/accounts/svc/orders/decisions", `{"isv_application_id":"other","approve":false}`)()
		}, "meta order/svc/other put admin"},
		{"shareChart", func() servertest.Answer {
			a := admin("POST", "/statistics/shared", `{"question":"by=day","days":7}`)()
			a.JSON(t, &shared)
			return a
		}, "meta put admin"},
		{"revokeSharedChart", func() servertest.Answer { return admin("DELETE", "/statistics/shared/"+shared.ID, "")() },
			"meta put admin"},
		{"/intp/marketcode/codeactive", func() servertest.Answer {
			return wire(service, "/intp/marketcode/codeactive", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":99,"activity_name":"a","product_brand":"b","product_title":"t",
				"product_code":"4006381333931","wxa_appid":"shop","wxa_path":"p"}`, batch.ID))()
		}, "codes activate svc"},
		{"activateCodes", admin("POST", "/batches/BATCH/activations",
			`{"code_start":100,"code_end":109,"binding":{"activity_name":"a","product_brand":"b","product_title":"t","product_code":"4006381333931","wxa_appid":"shop","wxa_path":"p"}}`), "codes activate admin"},
		{"retargetCodes", admin("POST", "/batches/BATCH/retarget",
			`{"code_start":0,"code_end":9,"wxa_appid":"shop","wxa_path":"other","actor":"eve"}`), "codes activate eve"},
		{"putBatchAlarm", admin("PUT", "/batches/BATCH/alarm", `{"threshold":150}`), "alarm threshold admin"},
		{"changeCodes", admin("POST", "/batches/BATCH/states", `{"action":"freeze","all":true}`), "codes freeze admin"},
		{"changeCodes", admin("POST", "/batches/BATCH/states", `{"action":"unfreeze","all":true,"actor":"till"}`), "codes unfreeze till"},
		{"bindSerials", admin("PUT", "/batches/BATCH/serials", `{"serials":[{"code_index":7,"serial":"a-secret-word"}],"actor":"eve"}`),
			"serials bind eve"},
		{"createImport", func() servertest.Answer {
			a := s.Admin("POST", "/accounts/svc/imported-batches",
				`{"isv_application_id":"old","code_count":1,"prefix":"P.URL.CN/","actor":"eve"}`)
			a.JSON(t, &imported)
			return a
		}, "batch import eve"},
		{"importCodes", func() servertest.Answer {
			return s.Do("PUT", fmt.Sprintf("/admin/v1/batches/%d/imported-codes?actor=eve", imported.ID),
				strings.Repeat("0", 361)+" 044GZ*J10 0 P.URL.CN/0ALL$V2QCNVRHYPO:K3\n", "Authorization: Bearer "+servertest.AdminToken,
				"Content-Type: text/plain")
		}, "codes import eve"},
		{"undoImport", func() servertest.Answer {
			return s.Admin("POST", fmt.Sprintf("/batches/%d/undo-import", imported.ID), `{"code_start":0,"code_end":0,"actor":"eve"}`)
		}, "batch take-back eve"},
		{"createPackage", admin("POST", "/batches/BATCH/packages",
			`{"code_start":5000,"code_end":5999,"printer":"p","recipients":["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"],"actor":"eve"}`),
			"package 1 make eve"},
		{"downloadPackage", admin("POST", "/packages/1/file", `{}`), "package 1 send admin"},
		{"markCodesSpoiled", admin("POST", "/packages/1/spoiled", `{"ranges":[{"from":5000,"to":5001}]}`), "codes void admin"},
		{"recallPackage", admin("POST", "/packages/1/recall", `{"actor":"eve"}`), "codes freeze eve"},
		{"deactivateCodes", admin("POST", "/batches/BATCH/deactivations", `{"all":true,"actor":"eve"}`), "codes withdraw eve"},
		{"putAccount", admin("PUT", "/accounts/new", `{"kind":"mini_program","secret":"a-very-secret-word"}`), "account new add admin"},
		{"putAccount", admin("PUT", "/accounts/new", `{"kind":"mini_program","secret":"another-secret-word"}`), "account new edit admin"},
		{"revokeTokens", admin("DELETE", "/accounts/new/tokens", ``), "tokens new end admin"},
		{"setVersions", admin("PUT", "/accounts/new/versions", `{"versions":["release"]}`), "account new edit admin"},
		{"setRulesEnabled", admin("PUT", "/accounts/new/jump", `{"open":false}`), "account new edit admin"},
		{"putMember", admin("PUT", "/accounts/new/members/u", `{"role":"trial"}`), "account new edit admin"},
		{"deleteMember", admin("DELETE", "/accounts/new/members/u", ``), "account new edit admin"},
		{"putAppearance", admin("PUT", "/accounts/new/appearance", `{"accent":"#0b6b45","help":"https://help.example/"}`),
			"appearance new put admin"},
		{"addGS1Links", admin("POST", "/gs1/links", `{"key":"01/09506000134352","links":[]}`), "gs1 01/09506000134352 put admin"},
		{"putGS1Links", admin("PUT", "/gs1/links/01/09506000134352", `{"links":[],"archived":true}`), "gs1 01/09506000134352 put admin"},
		{"deleteGS1Links", admin("DELETE", "/gs1/links/01/09506000134352", ``), "gs1 01/09506000134352 delete admin"},
		{"undoGS1Change", func() servertest.Answer { return s.Admin("POST", fmt.Sprintf("/gs1/changes/%d/undo", last), "") },
			"gs1 01/09506000134352 put admin"},
		{"transferGS1", admin("POST", "/gs1/transfer", `{"key":"01/09506000134352","to":"shop"}`), "gs1 01/09506000134352 put admin"},
		{"importGS1Links", func() servertest.Answer {
			return s.Send(s.Request("POST", "/admin/v1/import/gs1", `{"key":"01/09506000134369","links":[]}`,
				"Content-Type: application/x-ndjson"))
		}, "gs1 01/09506000134369 put admin"},
		{"putLink", admin("PUT", "/accounts/svc/links/new", ``), "link svc new put admin"},
		{"deleteLink", admin("DELETE", "/accounts/svc/links/new", ``), "link svc new delete admin"},
		{"putSettings", admin("PUT", "/settings", `{"link_approval_required":true,"behaviours":{"link.own_token_taken":"allow"},"webhook_retry_days":2}`), "meta settings put admin"},
		{"resetSetting", admin("DELETE", "/settings/webhook_retry_days", ``), "meta settings put admin"},
		{"/cgi-bin/wxopen/wxamplink", wire(service, "/cgi-bin/wxopen/wxamplink", `{"appid":"new","notify_users":0,"show_profile":0}`),
			"link svc new put svc"},
		{"confirmLink", admin("POST", "/accounts/svc/links/new/confirm", `{"side":"account","approve":true}`), "link svc new put admin"},
		{"/cgi-bin/wxopen/wxampunlink", wire(service, "/cgi-bin/wxopen/wxampunlink", `{"appid":"new"}`), "link svc new delete svc"},
		{"deleteAccount", admin("DELETE", "/accounts/new", ``), "account new delete admin"},
		{"putDomain", admin("PUT", "/domains/h.example", `{"status":"denied"}`), "domain h.example put admin"},
		{"deleteDomain", admin("DELETE", "/domains/h.example", ``), "domain h.example delete admin"},
		{"createScanKey", func() servertest.Answer {
			a := admin("POST", "/scan-keys", `{"name":"app"}`)()
			var made struct{ Key string }
			a.JSON(t, &made)
			s.Hide(made.Key)
			return a
		}, "scan_key app put admin"},
		{"deleteScanKey", admin("DELETE", "/scan-keys/app", ``), "scan_key app delete admin"},
		{"createPerson", admin("POST", "/people", `{"name":"alice","role":"rules-editor","password":"a very secret-word of alice"}`),
			"person alice add admin"},
		{"updatePerson", admin("PATCH", "/people/alice", `{"role":"viewer","accounts":["shop"]}`), "person alice edit admin"},
		{"deleteSessions", admin("DELETE", "/people/alice/sessions", ``), "person alice sign_out admin"},
		{"deletePerson", admin("DELETE", "/people/alice", ``), "person alice delete admin"},
		{"createAdminKey", func() servertest.Answer {
			a := admin("POST", "/admin-keys", `{"name":"till","role":"marketer"}`)()
			a.JSON(t, &key)
			s.Hide(key.Key)
			return a
		}, "admin_key add admin"},
		{"deleteAdminKey", func() servertest.Answer { return s.Admin("DELETE", "/admin-keys/"+key.ID, ``) }, "admin_key delete admin"},
		{"createWebhook", func() servertest.Answer {
			a := admin("POST", "/webhooks", `{"url":"https://receiver.example/?key=a-secret-word","alarms":true}`)()
			var made struct{ Secret string }
			a.JSON(t, &made)
			s.Hide(made.Secret)
			return a
		}, "webhook 1 put admin"},
		{"putWebhook", admin("PUT", "/webhooks/1", `{"url":"https://receiver.example/","alarms":true,"enabled":false}`),
			"webhook 1 put admin"},
		{"deleteWebhook", admin("DELETE", "/webhooks/1", ``), "webhook 1 delete admin"},
		{"/cgi-bin/component/api_set_authorizer_option", func() servertest.Answer {
			return s.Component(platform, "api_set_authorizer_option",
				`{"component_appid":"isv","authorizer_appid":"svc","option_name":"voice_recognize","option_value":"1"}`)
		}, "account svc edit isv"},
		{"/cgi-bin/component/set_authorizer_option", func() servertest.Answer {
			return s.Component(platform, "set_authorizer_option",
				`{"component_appid":"isv","authorizer_appid":"svc","option_name":"voice_recognize","option_value":"0"}`)
		}, "account svc edit isv"},
		{"revokeAuthorization", admin("DELETE", "/components/isv/authorizations/shop", ``), "grant isv shop delete admin"},
		{"authorize", func() servertest.Answer {
			s.Authorize(platform, "isv", "shop", "[18]")
			return servertest.Answer{Status: 200}
		}, "grant isv shop put admin"},
		{"revokeAccountAuthorization", admin("DELETE", "/accounts/shop/authorizations/isv", ``), "grant isv shop delete admin"},
		{"putComponent", admin("PUT", "/components/isv", `{"redirect_hosts":["isv.example"]}`), "component isv edit admin"},
		{"grantAuthorization", func() servertest.Answer {
			link := "/cgi-bin/componentloginpage?component_appid=isv&redirect_uri=https://isv.example/&pre_auth_code=" +
				s.PreAuthCode(platform, "isv")
			return admin("POST", "/authorizations", fmt.Sprintf(`{"reference":%q,"appid":"shop","permission_sets":[33]}`, link))()
		}, "grant isv shop put admin"},
		{"deleteComponent", admin("DELETE", "/components/isv", ``), "component isv delete admin"},
		{"eraseUser", admin("DELETE", "/users/u/scans", ``), "scans erase admin"},
		{"importRules", func() servertest.Answer {
			return s.Send(s.Request("POST", "/admin/v1/import/rules",
				`{"owner":"shop","prefix":"https://shop.example/brought/","path":"p"}`, "Content-Type: application/x-ndjson"))
		}, "rule https://shop.example/brought/ add admin"},
		{"importAccounts", func() servertest.Answer {
			return s.Send(s.Request("POST", "/admin/v1/import/accounts",
				`{"appid":"brought","kind":"mini_program","secret":"a-very-secret-word"}`, "Content-Type: application/x-ndjson"))
		}, "account brought add admin"},
		{"exportAll", admin("POST", "/export", `{"passphrase":"a passphrase of a test"}`), "export export admin"},
		{"recordDrill", admin("POST", "/drills", `{"ok":true,"rows":7,"rules":1}`), "drill restored admin"},
		{"setClock", admin("PUT", "/emulator/clock", `{"advance":"1h"}`), "meta emulator.clock put admin"},
		{"applySeed", admin("POST", "/emulator/seed",
			`{"seed":"accounts:\n  - {appid: planted, kind: mini_program, secret: a-very-secret-word}\n"}`), "account planted add admin"},
		{"loadSnapshot", func() servertest.Answer {
			admin("PUT", "/emulator/snapshots/base", ``)()
			return admin("POST", "/emulator/snapshots/base/load", ``)()
		}, "reset load admin"},
		{"resetEmulator", admin("POST", "/emulator/reset", ``), "reset reset admin"},
	}
	done := map[string]bool{}
	for _, c := range steps {
		a := c.do()
		done[c.name] = true
		if a.Status/100 != 2 || strings.HasPrefix(c.name, "/") && a.Code(t) != 0 {
			t.Errorf("%s: %d %s", c.name, a.Status, a.Body)
			continue
		}
		list := read()
		found := false
		for _, e := range list {
			who := e.Actor
			if e.Via != "" {
				who += " via " + e.Via
			}
			text := strings.Join(strings.Fields(e.Kind+" "+e.Key+" "+e.Action+" "+who), " ")
			short := strings.Join(strings.Fields(e.Kind+" "+e.Action+" "+who), " ")
			found = found || text == c.want || short == c.want
			if reseeded := c.name == "resetEmulator" && who == "seed"; !reseeded && !strings.HasSuffix(c.want, " "+who) {
				t.Errorf("%s: change %d (%s) is by %s, want the author of %q", c.name, e.Seq, text, who, c.want)
			}
			assert.True(t, !strings.HasPrefix(c.name, "/") || e.RID != "", "%s: change %d does not name its call", c.name, e.Seq)
			assert.True(t, !strings.Contains(string(e.Detail), "secret-word"), "%s: change %d has a secret: %s", c.name, e.Seq, e.Detail)
		}
		assert.True(t, found, "%s: want %q in %v", c.name, c.want, list)
	}
	// Operations that change nothing, or that count, issue and use up at a high rate. An endpoint of the wire says so in its line.
	none := strings.Fields(`explain login resolve lookupCode checkRule createTicket recountStatistics replayPlan verifyAudit
		saveSnapshot deleteSnapshot addFault clearFaults testWebhook replayDelivery reverifyNow resetDeviations createLoginLink lookupAuthorization`)
	// Leaves a change, but not without what this test has not: an alarm, another node.
	none = append(none, "acknowledgeAlarm", "dismissAlarm", "deleteScanNode")
	for _, e := range api.Describe() {
		if done[e.Path] == e.Reads {
			t.Errorf("%s: a step of this test is %v, and reads in its line of api/endpoints.go %v: wanted one of the two", e.Path, done[e.Path], e.Reads)
		}
	}
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	s.Do("GET", "/openapi.json", "").JSON(t, &document)
	for path, methods := range document.Paths {
		for method, op := range methods {
			assert.True(t, method == "get" || done[op.OperationID] || slices.Contains(none, op.OperationID),
				"%s (%s %s) is in no table of this test", op.OperationID, method, path)
		}
	}
	var verified struct {
		Changes int64
		Fault   any
	}
	s.Admin("POST", "/audit/verify", "").JSON(t, &verified)
	assert.True(t, verified.Fault == nil && verified.Changes != 0, "%+v", verified)
}
