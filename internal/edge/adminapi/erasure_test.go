package adminapi_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func resolveScan(t *testing.T, s *servertest.Server, user, text string) {
	t.Helper()
	body := require.Value(json.Marshal(map[string]string{"text": text, "user": user}))(t)
	s.Do("POST", "/scan/v1/resolve", string(body)).WantStatus(t, 200, "a scan of %s", text)
}

// exportedTables returns the tables of a backup export that contain a text.
func exportedTables(t *testing.T, s *servertest.Server, text string) (tables []string) {
	t.Helper()
	a := call(t, s, "POST", "/export", `{"passphrase":"correct horse battery"}`)
	z := require.Value(gzip.NewReader(strings.NewReader(a.Body)))(t)
	for members := tar.NewReader(z); ; {
		h, err := members.Next()
		if err == io.EOF {
			return tables
		}
		require.NoError(t, err)
		b := require.Value(io.ReadAll(members))(t)
		if strings.Contains(strings.ToUpper(string(b)), strings.ToUpper(text)) {
			tables = append(tables, h.Name)
		}
	}
}

// TestEraseUser_NoTableHoldsUser verifies that an export after the erasure of a user has the user in no table, neither in the scan log nor
// as the first scanner of a code.
func TestEraseUser_NoTableHoldsUser(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	resolveScan(t, s, "u", codeText(t, s, newActivatedBatch(t, s), 1))
	p := servertest.Decode[struct{ Scans []struct{ User string } }](t, call(t, s, "GET", "/scans", ""))
	require.True(t, len(p.Scans) == 1 && len(exportedTables(t, s, p.Scans[0].User)) != 0,
		"the user of %+v is in no table before the erasure", p)
	assert.Equal(t, call(t, s, "DELETE", "/users/u/scans", "").Body, `{"scans":1}`+"\n", "response to the erasure")
	tables := exportedTables(t, s, p.Scans[0].User)
	assert.True(t, len(tables) == 0, "erased user is in the tables %v", tables)
}

// TestEraseUser_NoTableHoldsOpenID verifies that the erasure also removes tickets, logins and follows under the user's openids, and keeps
// those of another user.
func TestEraseUser_NoTableHoldsOpenID(t *testing.T) {
	t.Parallel()
	// The message URL refuses connections, so that events stay in the outbox.
	seed := strings.NewReplacer("rule_rate_limit: null", "rule_rate_limit: null, allow_private_hosts: true", "marketcode_key:",
		`message_url: "http://127.0.0.1:1/", marketcode_key:`).Replace(cafe)
	s := servertest.Start(t, servertest.Options{Seed: seed})
	link := s.Do("POST", "/cgi-bin/qrcode/create?access_token="+s.Token("maker"),
		`{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":7}}}`).Text(t, "url")
	code := codeText(t, s, newActivatedBatch(t, s), 1)
	for _, user := range []string{"u", "other"} {
		resolveScan(t, s, user, code)
		resolveScan(t, s, user, link)
		s.Do("POST", "/scan/v1/login", `{"user":"`+user+`","appid":"cafe"}`).WantStatus(t, 200, "login of %s", user)
	}
	tablesWithOpenID := func(user, appid string) []string {
		return exportedTables(t, s, call(t, s, "GET", "/users/"+user+"/openid?appid="+appid, "").Text(t, "openid"))
	}
	for _, appid := range []string{"cafe", "maker"} {
		require.True(t, len(tablesWithOpenID("u", appid)) != 0, "openid of u under %s is in no table before the erasure", appid)
	}
	call(t, s, "DELETE", "/users/u/scans", "")
	for _, appid := range []string{"cafe", "maker"} {
		tables := tablesWithOpenID("u", appid)
		assert.True(t, len(tables) == 0, "openid of the erased user under %s is in the tables %v", appid, tables)
		assert.True(t, len(tablesWithOpenID("other", appid)) != 0, "openid of the other user under %s is in no table", appid)
	}
}

// TestLedger_WithholdsCodes verifies that stored scans contain no code, whatever text surrounds it in the link.
func TestLedger_WithholdsCodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	text := codeText(t, s, newActivatedBatch(t, s), 1)
	tail := text[strings.LastIndexByte(text, '/')+1:]
	for _, link := range []string{"https://" + text + "?from=scan", "https://" + text + "/", "https://" + text + "/a/b", "https://" + text +
		" ", "https://cafe.example/t/" + tail} {
		resolveScan(t, s, "u", link)
	}
	call(t, s, "GET", "/statistics?wait=true", "")
	for _, path := range []string{"/scans", "/scans/export", "/scans/export?format=parquet", "/statistics/unmatched"} {
		if a := call(t, s, "GET", path, ""); a.Status != 200 || strings.Contains(strings.ToUpper(a.Body), strings.ToUpper(tail)) {
			t.Errorf("GET %s = %d %s, want 200 without the code", path, a.Status, a.Body)
		}
	}
	tables := exportedTables(t, s, tail)
	assert.True(t, len(tables) == 0, "code is in the tables %v", tables)
}
