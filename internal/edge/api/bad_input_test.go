package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestWireAPI_BadInput sends malformed bodies, queries and tokens to every kind of endpoint. Each must be answered without a secret in
// the response, the emulator's calls or the log, and the next call must succeed.
func TestWireAPI_BadInput(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	secret := "hushhushhush"
	s.RegisterSecret(secret)
	tokens := s.Token("shop")
	for _, body := range []string{
		"\x00", "\xff\xfe{}", "{", "[", `"`, "{}{}", "null", "-", "1e999", "{\"a\":\x01}", `{"prefix":"\ud800"}`,
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 5_000) + strings.Repeat("}", 5_000),
		`{"prefix":` + strings.Repeat("9", 100_000) + `}`,
		`{"prefix":"` + strings.Repeat("x", 1<<20-20) + `"}`, strings.Repeat(" ", 1<<20) + "{}",
		`{"prefix":"https://a.example/` + strings.Repeat("%00", 300) + `","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1}`,
		`{"prefix":"https://a.example/\u202e","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1}`,
		`{'secret':'` + secret + `'}`, `{"secret":"` + secret, `{"secret":["` + secret + `"]}`, `{"secret":{"a":"` + secret + `"}}`,
		`{"appid":"isv","secret":"` + secret + `\u0000"}`,
		`<xml><secret>` + secret + `</secret></xml>`, `grant_type=client_credential&secret=` + secret, `["` + secret + `"]`, secret,
		`{"\u0073ecret":"` + secret + `"}`, `{"SECRET":"` + secret + `","access_token":"` + tokens + `"}`, `{"x":[{"js_code":"` + secret +
			`"}]}`,
		`{"grant_type":"client_credential","appid":"shop","secret":"` + secret + `"}`,
	} {
		for _, path := range []string{addPath, getPath, publishPath, deletePath, downloadPath, stablePath, tokenPath, "/cgi-bin/nothing"} {
			a, err := s.TrySend(s.Request("POST", path+"?access_token="+tokens, body))
			if err != nil && len(body) > 256<<10 && path != addPath {
				continue // refused unread: net/http closes while the client still sends
			}
			require.NoError(t, err)
			assert.True(t, a.Status == http.StatusOK && strings.HasPrefix(a.Body, `{"errcode":`),
				"POST %s %.60q = %d %s, want 200 with an errcode", path, body, a.Status, a.Body)
			for _, hidden := range []string{secret, tokens} {
				assert.True(t, !strings.Contains(a.Body, hidden), "response of %s contains the secret %s: %s", path, hidden, a.Body)
			}
		}
		var calls struct {
			Calls []struct{ URL, Request, Detail string }
		}
		s.Admin("GET", "/emulator/calls?limit=1000", "").JSON(t, &calls)
		// A value without a known field name is masked only on endpoints that take secrets.
		unnamed := strings.HasPrefix(body, "<xml>") || strings.HasPrefix(body, "[") || body == secret
		for _, c := range calls.Calls {
			logged := c.URL + c.Request + c.Detail
			assert.True(t, (!strings.Contains(logged, secret) || unnamed && strings.HasPrefix(c.URL, "/cgi-bin/wxopen/")) &&
				!strings.Contains(logged, tokens), "/emulator/calls contains a secret: %.300s", logged)
		}
		s.Admin("POST", "/emulator/reset", "")
		tokens = s.NewToken("shop")
	}
	for _, query := range []string{"?access_token=%00", "?access_token=%ff", "?access_token=1_%00" + strings.Repeat("x", 64),
		"?access_token=" + strings.Repeat("1", 30_000), "?%zz", "?a;b"} {
		a := s.Do("POST", getPath+query, "{}")
		assert.True(t, a.Code(t) != 0 && a.Code(t) != -1, "%.60s = %s, want an errcode other than 0 and -1", query, a.Body)
	}
	for query, want := range map[string]int{
		"appid=%00&secret=x": 40097, "appid=%ff&secret=x": 40013, "appid=" + strings.Repeat("x", 30_000) + "&secret=x": 40013,
		"appid=shop&appid=isv&secret=secret-shop": 0, "appid=shop&secret=%00": 40097,
	} {
		if a := s.Do("GET", tokenPath+"?grant_type=client_credential&"+query, ""); a.Code(t) != want {
			t.Errorf("%.60s = %s, want errcode %d", query, a.Body, want)
		} else if want == 0 {
			s.RegisterSecret(strings.Split(a.Body, `"`)[3])
		}
	}
	for line := range strings.SplitSeq(s.Log(), "\n") {
		assert.True(t, len(line) <= 4000, "log line of %d bytes, want at most 4000: %.200s", len(line), line)
		assert.True(t, !strings.Contains(line, "level=ERROR"), "bad input is logged as a server error: %.300s", line)
	}
	s.OK("shop", "get", "{}")
}

// TestWireBody_StalledTimeout sends half of a body to endpoints that read it and to paths that do not. The server must respond after
// BodyTimeout and close the connection; without a response the test hangs.
func TestWireBody_StalledTimeout(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town, BodyTimeout: 20 * time.Millisecond})
	for _, c := range []struct{ path, auth, want string }{
		{addPath + "?access_token=" + s.Token("shop"), "", `{"errcode":47001`},
		{addPath, "", `{"errcode":41001`},
		{"/cgi-bin/nothing", "", `{"errcode":40066`},
		{"/scan/v1/resolve", "", `"status":408`},
		{"/scan/v1/nothing", "", `"status":404`},
		{"/admin/v1/settings", "wrong", `"status":401`},
		{"/healthz", "", "errcode"},
	} {
		for _, framing := range []string{"Content-Length: 1000\r\n\r\n{\"prefix\":", "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"prefix\""} {
			conn := require.Value(net.Dial("tcp", strings.TrimPrefix(s.URL, "http://")))(t)
			defer conn.Close()
			auth := ""
			if c.auth != "" {
				auth = "Authorization: Bearer " + c.auth + "\r\n"
			}
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s", c.path, auth, framing)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoErrorf(t, err, "response of %s", c.path)
			body, err := io.ReadAll(resp.Body)
			assert.True(t, err == nil && strings.Contains(string(body), c.want), "%s = %s, %v, want %s", c.path, body, err, c.want)
			assert.True(t, resp.Close, "%s: connection is kept alive after half a body, want close", c.path)
		}
	}
	s.OK("shop", "get", "{}")
}
