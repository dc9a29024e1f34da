package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// decidedBy fails the test unless the log of a server says that a call met a row.
func decidedBy(t *testing.T, s *servertest.Server, row string) {
	t.Helper()
	for line := range strings.Lines(s.Log()) {
		if _, rows, ok := strings.Cut(line, " behaviours="); ok && strings.Contains(rows, row) {
			return
		}
	}
	t.Errorf("no call met %s", row)
}

// The log says which row refused a call, and what a call that worked met.
func TestCallLog_NamesBehaviourRows(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	as("shop", publishPath, `{"prefix":"https://none.example/"}`)(s)
	decidedBy(t, s, "rules.prefix.unknown")
	as("shop", getPath, `{"get_type":"2","page_num":"1","page_size":"10"}`)(s)
	decidedBy(t, s, "wire.number.text")
	before := strings.Count(s.Log(), " behaviours=")
	s.Rule("shop", "get", `{"get_type":0}`)
	assert.Equal(t, strings.Count(s.Log(), " behaviours="), before, "a plain call met a row")
}

// Contract: marketcode 1: 48001 until the operator has a prefix of his own.
func TestApplyCode_NoPrefixConfigured(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.ReplaceAll(factory, "secret: secret-", "secret: secret-of-sixteen-and-more-"),
		Guarded: true})
	checkText(t, codeCall(s, "brand", "applycode", `{"code_count":10000,"isv_application_id":"x"}`), 48001, "api unauthorized")
	decidedBy(t, s, "codes.prefix")
}

// A caller that closes in the middle of its body is answered 47001.
func TestWireBody_Truncated(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s?access_token=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"prefix\":", addPath,
		s.Token("shop"))
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && strings.Contains(string(body), `{"errcode":47001`), "%s, %v", body, err)
	decidedBy(t, s, "wire.body.broken")
}

// Whoever guesses secrets is answered 45011 for the rest of the minute.
func TestSecretGuessing_Throttled(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	const guess = tokenPath + "?grant_type=client_credential&appid=shop&secret=wrong"
	for range accounts.GuessesPerMinute {
		a := s.Do("GET", guess, "")
		require.True(t, a.Code(t) == 40125, "%v", a.Body)
	}
	checkText(t, s.Do("GET", guess, ""), 45011, "api minute-quota reach limit, must slower, retry next minute")
	decidedBy(t, s, "token.secret.guessing")
}
