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

// wantBehaviour fails the test unless the log of s has a call that recorded the behaviour row.
func wantBehaviour(t *testing.T, s *servertest.Server, row string) {
	t.Helper()
	for line := range strings.Lines(s.Log()) {
		if _, rows, ok := strings.Cut(line, " behaviours="); ok && strings.Contains(rows, row) {
			return
		}
	}
	t.Errorf("no logged call has the behaviour %s", row)
}

// TestCallLog_NamesBehaviourRows verifies that the log names the row that rejected a call and the rows that a successful call
// depended on, and none for a call without special behaviour.
func TestCallLog_NamesBehaviourRows(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	post(s, "shop", publishPath, `{"prefix":"https://none.example/"}`)
	wantBehaviour(t, s, "rules.prefix.unknown")
	post(s, "shop", getPath, `{"get_type":"2","page_num":"1","page_size":"10"}`)
	wantBehaviour(t, s, "wire.number.text")
	before := strings.Count(s.Log(), " behaviours=")
	s.Rule("shop", "get", `{"get_type":0}`)
	assert.Equal(t, strings.Count(s.Log(), " behaviours="), before, "log entries with behaviours after a plain call")
}

// Contract: marketcode 1: 48001 until the operator has configured a prefix.
func TestApplyCode_NoPrefixConfigured(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.ReplaceAll(factory, "secret: secret-", "secret: secret-of-sixteen-and-more-"),
		Guarded: true})
	checkText(t, s.CodeCall("brand", "applycode", `{"code_count":10000,"isv_application_id":"x"}`), 48001, "api unauthorized")
	wantBehaviour(t, s, "codes.prefix")
}

// TestWireBody_Truncated verifies that a client that closes its side in the middle of the body receives 47001.
func TestWireBody_Truncated(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	conn := require.Value(net.Dial("tcp", strings.TrimPrefix(s.URL, "http://")))(t)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s?access_token=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"prefix\":", addPath,
		s.Token("shop"))
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	resp := require.Value(http.ReadResponse(bufio.NewReader(conn), nil))(t)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && strings.Contains(string(body), `{"errcode":47001`), "body %s, %v, want errcode 47001", body, err)
	wantBehaviour(t, s, "wire.body.broken")
}

// TestSecretGuessing_Throttled verifies that GuessesPerMinute wrong secrets are followed by 45011 until the minute ends.
func TestSecretGuessing_Throttled(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	const guess = tokenPath + "?grant_type=client_credential&appid=shop&secret=wrong"
	for range accounts.GuessesPerMinute {
		s.Do("GET", guess, "").WantCode(t, 40125, "a wrong secret")
	}
	checkText(t, s.Do("GET", guess, ""), 45011, "api minute-quota reach limit, must slower, retry next minute")
	wantBehaviour(t, s, "token.secret.guessing")
}
