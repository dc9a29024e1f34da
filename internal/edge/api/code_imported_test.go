package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Behaviour(codes.query.name) Behaviour(codes.download.elsewhere).
func TestImportedCodes_WireCalls(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	own := applied(t, s, "brand", "own", 10_000)
	_, code := printed(t, s, own, 7)
	var batch struct {
		ID int64 `json:"application_id"`
	}
	s.Admin("POST", "/accounts/brand/imported-batches",
		`{"isv_application_id":"old","code_count":1,"prefix":"P.URL.CN/"}`).JSON(t, &batch)
	refused(t, "before its codes are here", codeCall(s, "brand", "codeactive", binding(batch.ID, 0, 0)), 80308, "")
	text := "P.URL.CN/0ALL$V2QCNVRHYPO:K3"
	a := s.Do("PUT", fmt.Sprintf("/admin/v1/batches/%d/imported-codes", batch.ID),
		fmt.Sprintf("%s %s 0 %s\n", strings.Repeat("1", 361), code, text),
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: text/plain")
	require.True(t, a.Status == 200, "%v", a.Body)
	works(t, s, "brand", "codeactive", binding(batch.ID, 0, 0))
	refused(t, "nine characters of two codes", codeCall(s, "brand", "codeactivequery", fmt.Sprintf(`{"code":%q}`, code)), 40097,
		"2 applications have a code with these characters")
	got := works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"code":%q,"application_id":%d}`, code, batch.ID))
	assert.True(t, got.ApplicationID == batch.ID, "%+v", got)
	got = works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"code_url":"HTTPS://%s"}`, text))
	assert.True(t, got.Code == code && got.WxaAppID == "shop", "%+v", got)
	refused(t, "a download", codeCall(s, "brand", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":0}`, batch.ID)), 80309, "")
	refused(t, "another account", codeCall(s, "rival", "codeactivequery", fmt.Sprintf(`{"code_url":%q}`, text)), 80301, "")
}
