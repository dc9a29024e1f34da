package adminapi_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const deletable = `
accounts:
  - {appid: mini, kind: mini_program, secret: the-secret-of-mini, versions: [release]}
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, versions: [release]}
  - {appid: brand, kind: service_account, secret: the-secret-of-brand, certified: true, linked: [mini], features: [marketcode],
     marketcode_key: 0123456789abcdef}
components:
  - {appid: isv, secret: the-secret-of-isv, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE,
     authorizations: [{appid: shop, permission_sets: [18]}]}
settings: {verification: trust, rule_rate_limit: null}
`

// An account goes with what nobody scans; what is printed, and rules and codes that open it, keep it until they are gone.
func TestDeleteAccount_Dependents(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: deletable})
	text := func(method, path, body string) string {
		t.Helper()
		a := call(t, s, method, path, body)
		assert.True(t, a.Status/100 == 2, "%s %s: %d %s", method, path, a.Status, a.Body)
		return a.Body
	}
	deletion := func(path string, status int) (d client.Deletion) {
		t.Helper()
		a := call(t, s, "DELETE", path, "")
		require.True(t, a.Status == status && (status != 200 || json.Unmarshal([]byte(a.Body), &d) == nil),
			"%s: %d %s", path, a.Status, a.Body)
		return d
	}
	amounts := func(list []client.Amount) string {
		words, _ := json.Marshal(list)
		return strings.NewReplacer(`{"kind":"`, "", `","count":`, " ", "}", "").Replace(string(words))
	}
	deletion("/accounts/nobody", 404)
	deletion("/components/nobody", 404)
	token := s.Token("mini")

	// Each thing keeps the account until it is gone.
	text("POST", "/accounts/mini/rules", `{"prefix":"https://mini.example/","path":"p"}`)
	text("POST", "/accounts/brand/rules", `{"prefix":"http://weixin.qq.com/q/a","path":"p","appid":"mini"}`)
	text("PUT", "/gs1/links/01/09506000134352", `{"owner":"mini","links":[]}`)
	text("POST", "/accounts/brand/orders", `{"code_count":10000,"isv_application_id":"first"}`)
	var batches client.BatchList
	call(t, s, "GET", "/batches?account=brand", "").JSON(t, &batches)
	batch := "/batches/" + strconv.FormatInt(batches.Batches[0].ID, 10)
	text("POST", batch+"/activations", `{"code_start":0,"code_end":9,"binding":{"activity_name":"a","product_brand":"b",
		"product_title":"t","product_code":"4006381333931","wxa_appid":"mini","wxa_path":"p"}}`)
	if got, want := amounts(deletion("/accounts/mini?dry_run=true", 200).BlockedBy),
		`[rules 1,rules_that_open_it 1,gs1_keys 1,active_codes 10]`; got != want {
		t.Errorf("mini is kept by %s, want %s", got, want)
	}
	if a := call(t, s, "DELETE", "/accounts/mini", ""); a.Status != 409 || !strings.Contains(a.Body, "rules 1") {
		t.Errorf("an account in use: %d %s", a.Status, a.Body)
	}
	if got := amounts(deletion("/accounts/brand?dry_run=true", 200).BlockedBy); got != `[rules 1,applications 1]` {
		t.Errorf("brand is kept by %s", got)
	}
	text("DELETE", "/accounts/mini/rules?prefix=https://mini.example/", "")
	text("DELETE", "/accounts/brand/rules?prefix=http://weixin.qq.com/q/a&appid=mini", "")
	text("DELETE", "/gs1/links/01/09506000134352", "")
	deletion("/accounts/mini", 409)
	text("POST", batch+"/deactivations", `{"all":true}`)
	deletion("/accounts/brand", 409)

	d := deletion("/accounts/mini?dry_run=true", 200)
	assert.True(t, !d.Deleted && len(d.BlockedBy) == 0 && amounts(d.Deletes) == `[links 1,tokens 1]`, "the last question: %+v", d)
	if a := s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}"); a.Code(t) != 0 {
		t.Fatalf("before: %s", a.Body)
	}
	if d = deletion("/accounts/mini", 200); !d.Deleted || d.AppID != "mini" {
		t.Errorf("deleted: %+v", d)
	}
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").WantCode(t, 40001, "a token of an account that is gone")
	deletion("/accounts/mini", 404)
	if got := text("GET", "/accounts/brand", ""); !strings.Contains(got, `"linked":[]`) {
		t.Errorf("the other side of its link: %s", got)
	}
}

// A platform goes with what accounts granted it.
func TestDeletePlatform_RemovesGrants(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: deletable})
	platform := s.ComponentToken("isv")
	authorizer, _ := s.AuthorizerToken(platform, "isv", "shop")
	list := "/cgi-bin/wxopen/qrcodejumpget?access_token=" + authorizer
	if a := s.Do("POST", list, "{}"); a.Code(t) != 0 {
		t.Fatalf("before: %s", a.Body)
	}
	var would client.Deletion
	call(t, s, "DELETE", "/components/isv?dry_run=true", "").JSON(t, &would)
	assert.True(t, !would.Deleted && len(would.Deletes) == 1 && would.Deletes[0].Kind == "authorizations", "would go: %+v", would)
	if a := call(t, s, "DELETE", "/components/isv", ""); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	s.Do("POST", list, "{}").WantCode(t, 40001, "a token of a platform that is gone")
	if a := call(t, s, "GET", "/accounts/shop/authorizations", ""); !strings.Contains(a.Body, `[]`) {
		t.Errorf("what shop granted: %s", a.Body)
	}
	if a := call(t, s, "GET", "/components/isv", ""); a.Status != 404 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
