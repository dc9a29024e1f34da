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

func scanAs(t *testing.T, s *servertest.Server, user, text string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"text": text, "user": user})
	require.NoError(t, err)
	a := s.Do("POST", "/scan/v1/resolve", string(body))
	require.True(t, a.Status == 200, "%v", a.Body)
}

// tables are the rows of an export that have a text in them, by table.
func tables(t *testing.T, s *servertest.Server, text string) (with []string) {
	t.Helper()
	a := call(t, s, "POST", "/export", `{"passphrase":"correct horse battery"}`)
	z, err := gzip.NewReader(strings.NewReader(a.Body))
	require.NoError(t, err)
	for members := tar.NewReader(z); ; {
		h, err := members.Next()
		if err == io.EOF {
			return with
		}
		require.NoError(t, err)
		b, err := io.ReadAll(members)
		require.NoError(t, err)
		if strings.Contains(strings.ToUpper(string(b)), strings.ToUpper(text)) {
			with = append(with, h.Name)
		}
	}
}

// An erased user is in no export any more: not in the ledger, and not as the first one who scanned a code.
func TestEraseUser_NoTableHoldsUser(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	scanAs(t, s, "u", codeText(t, s, aBatch(t, s), 1))
	p := servertest.Decode[feedPage](t, call(t, s, "GET", "/scans", ""))
	require.True(t, len(p.Scans) == 1 && len(tables(t, s, p.Scans[0].User)) != 0, "%+v is in no table", p)
	a := call(t, s, "DELETE", "/users/u/scans", "")
	assert.True(t, a.Body == `{"scans":1}`+"\n", "%v", a.Body)
	left := tables(t, s, p.Scans[0].User)
	assert.True(t, len(left) == 0, "the user is still in %v", left)
}

// Neither does anything stand there by his openids any more: no ticket, no
// login, nothing of an account that he follows. Others keep theirs.
func TestEraseUser_NoTableHoldsOpenID(t *testing.T) {
	t.Parallel()
	// Nobody listens there, so that events wait.
	seed := strings.NewReplacer("rule_rate_limit: null", "rule_rate_limit: null, allow_private_hosts: true", "marketcode_key:",
		`message_url: "http://127.0.0.1:1/", marketcode_key:`).Replace(cafe)
	s := servertest.Start(t, servertest.Options{Seed: seed})
	var made struct{ URL string }
	s.Do("POST", "/cgi-bin/qrcode/create?access_token="+s.Token("maker"),
		`{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":7}}}`).JSON(t, &made)
	code, link := codeText(t, s, aBatch(t, s), 1), made.URL
	for _, user := range []string{"u", "other"} {
		scanAs(t, s, user, code)
		scanAs(t, s, user, link)
		a := s.Do("POST", "/scan/v1/login", `{"user":"`+user+`","appid":"cafe"}`)
		require.True(t, a.Status == 200, "%v", a.Body)
	}
	of := func(user, appid string) string {
		got := servertest.Decode[struct{ OpenID string }](t, call(t, s, "GET", "/users/"+user+"/openid?appid="+appid, ""))
		return got.OpenID
	}
	for _, appid := range []string{"cafe", "maker"} {
		require.True(t, len(tables(t, s, of("u", appid))) != 0, "the user is in no table under %s", appid)
	}
	call(t, s, "DELETE", "/users/u/scans", "")
	for _, appid := range []string{"cafe", "maker"} {
		left := tables(t, s, of("u", appid))
		assert.True(t, len(left) == 0, "the user is still in %v under %s", left, appid)
		assert.True(t, len(tables(t, s, of("other", appid))) != 0, "another user is gone under %s", appid)
	}
}

// No code is in what is kept of scans, whatever stood around it.
func TestLedger_WithholdsCodes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	text := codeText(t, s, aBatch(t, s), 1)
	tail := text[strings.LastIndexByte(text, '/')+1:]
	for _, link := range []string{"https://" + text + "?from=scan", "https://" + text + "/", "https://" + text + "/a/b", "https://" + text +
		" ", "https://cafe.example/t/" + tail} {
		scanAs(t, s, "u", link)
	}
	call(t, s, "GET", "/statistics?wait=true", "")
	for _, path := range []string{"/scans", "/scans/export", "/scans/export?format=parquet", "/statistics/unmatched"} {
		if a := call(t, s, "GET", path, ""); a.Status != 200 || strings.Contains(strings.ToUpper(a.Body), strings.ToUpper(tail)) {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	with := tables(t, s, tail)
	assert.True(t, len(with) == 0, "the code is in %v", with)
}
