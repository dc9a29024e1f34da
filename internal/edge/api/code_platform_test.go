package api_test

import (
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Contract: marketcode 1, 11.1: a third-party platform calls for an account
// under permission set 46, which all six calls want.
func TestCodeCalls_PlatformPermissionSet(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory + `
components:
  - appid: isv
    secret: secret-isv
    message_token: tok
    encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE
    authorizations:
      - {appid: brand, permission_sets: [46]}
      - {appid: rival, permission_sets: [3, 33]}
      - {appid: nofeature, permission_sets: [46]}
`})
	token := s.ComponentToken("isv")
	call := func(appid, name, body string) servertest.Answer {
		access, _ := s.AuthorizerToken(token, "isv", appid)
		return s.Do("POST", codeFamily+name+"?access_token="+access, body)
	}
	id := tellOf(t, call("brand", "applycode", `{"code_count":10000,"isv_application_id":"x"}`)).ApplicationID
	require.True(t, id != 0, "the platform cannot apply")
	// The scope of an order number is the account, not the platform.
	if own := applied(t, s, "brand", "x", 10_000); own != id {
		t.Errorf("the account's own call made %d beside %d", own, id)
	}
	theirs := applied(t, s, "rival", "x", 10_000)
	bodies := map[string]string{
		"applycodequery":    fmt.Sprintf(`{"application_id":%d}`, id),
		"applycodedownload": fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":0}`, id), "codeactive": binding(id, 0, 9),
		"codeactivequery": fmt.Sprintf(`{"application_id":%d,"code_index":0}`, id),
		"applycode":       `{"code_count":10000,"isv_application_id":"x"}`,
	}
	// In this order: a code that is not activated yet cannot be asked for.
	for _, name := range []string{"applycode", "applycodequery", "applycodedownload", "codeactive", "codeactivequery"} {
		call("brand", name, bodies[name]).WantCode(t, 0, "%s with set 46", name)
	}
	text, _ := printed(t, s, id, 0)
	bodies["tickettocode"] = trade(openid(t, s, "alice", "shop"), ticketOf(t, s, "alice", text))
	call("brand", "tickettocode", bodies["tickettocode"]).WantCode(t, 0, "tickettocode with set 46")
	for name, body := range bodies {
		refused(t, name+" without set 46", call("rival", name, body), 61007, "")
		refused(t, name+" for an account without the feature", call("nofeature", name, body), 48001, "")
		refused(t, name+" with the platform's own token", s.Do("POST", codeFamily+name+"?access_token="+token, body), 48001, "")
	}
	refused(t, "another account's application", call("brand", "applycodequery", fmt.Sprintf(`{"application_id":%d}`, theirs)), 80301, "")
}
