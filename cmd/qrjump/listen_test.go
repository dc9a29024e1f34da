package main

import (
	"bufio"
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/listen.yaml
var listenSeed string

// TestListen_Secret verifies that listen signs forwarded messages with the secret that it prints, or with that of --secret, which it does
// not print.
func TestListen_Secret(t *testing.T) {
	t.Parallel()
	const receiverSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for name, args := range map[string][]string{"printed": nil, "receiver's": {"--secret", receiverSecret}} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{Seed: listenSeed, Began: time.Now()})
			type message struct {
				header http.Header
				body   []byte
			}
			received := make(chan message, 1)
			target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				received <- message{r.Header, body}
			}))
			defer target.Close()
			_, _, stop := startServing(t, append([]string{"listen", "--forward-to", target.URL, "--server", s.URL, "--admin-token",
				servertest.AdminToken, "--output=json"}, args...)...)
			a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/1","user":"alice"}`)
			require.True(t, a.Status == http.StatusOK, "resolve = %d %s, want 200", a.Status, a.Body)
			got := <-received
			_, errs := stop()
			secret := receiverSecret
			if args == nil {
				secret = regexp.MustCompile(`whsec_[0-9A-Za-z+/]+=*`).FindString(errs)
			} else if strings.Contains(errs, receiverSecret) {
				t.Errorf("listen --secret prints the secret: %s", errs)
			}
			hook, err := standardwebhooks.NewWebhook(secret)
			if err == nil {
				err = hook.Verify(got.body, got.header)
			}
			assert.True(t, err == nil, "the forwarded message is not signed with %q: %v; listen prints %s", secret, err, errs)
		})
	}
	code, _, errs := command(t.Context(), "listen", "--forward-to", "http://127.0.0.1:1", "--secret", "nonsense")
	assert.True(t, code == 2 && strings.Contains(errs, "whsec_"), "listen --secret nonsense: exit %d, want 2: %s", code, errs)
}

// TestListen_ForwardsSignedDeliveries verifies that listen forwards signed messages of the server unchanged, prints the response of the
// target and returns it to the server. It prints a forged message, does not forward it, and returns 401 to its sender. When it ends, it
// restores the server's webhooks and event URL.
func TestListen_ForwardsSignedDeliveries(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: listenSeed})
	type request struct {
		path, id, token string
		body            []byte
	}
	received := make(chan request, 10)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		received <- request{r.URL.Path, r.Header.Get("Webhook-Id"), r.URL.Query().Get("msg_signature"), body}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "success")
	}))
	defer target.Close()
	listenURL, out, stop := startServing(t, "listen", "--forward-to", target.URL+"/hook?mine=1", "--server", s.URL,
		"--admin-token", servertest.AdminToken, "--output=json", "--component", "isv", "--message-token", "tok",
		"--encoding-aes-key", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE")
	decoder := json.NewDecoder(out)
	// next returns the next printed message of a kind, and the request to the target if it was forwarded. It ignores other messages, which
	// the server may push at any time.
	next := func(kind string) (m forwarded, r request) {
		t.Helper()
		for {
			m, r = forwarded{}, request{}
			require.NoError(t, decoder.Decode(&m))
			if m.Signature {
				r = <-received
			}
			if m.Kind == kind {
				return m, r
			}
		}
	}

	var hooks struct {
		Webhooks []struct {
			ID    int64
			Rules []int64
		}
	}
	s.Admin("GET", "/webhooks", "").JSON(t, &hooks)
	require.True(t, len(hooks.Webhooks) == 1 && len(hooks.Webhooks[0].Rules) == 1,
		"GET /webhooks = %+v, want one webhook with the rule", hooks)
	a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/1","user":"alice"}`)
	require.True(t, a.Status == http.StatusOK, "resolve = %d %s, want 200", a.Status, a.Body)
	m, r := next("scan.recorded")
	assert.True(t, m.Signature && m.Status == http.StatusAccepted && m.Response == "success", "scan.recorded printed as %+v", m)
	assert.True(t, r.path == "/hook" && r.id == m.ID && string(r.body) == m.Message, "the target received %+v, want %+v", r, m)

	a = s.Admin("POST", "/emulator/ticket", `{"component":"isv"}`)
	require.True(t, a.Status == http.StatusOK, "POST /emulator/ticket = %d %s, want 200", a.Status, a.Body)
	m, r = next("component_verify_ticket")
	assert.True(t, m.Signature && m.Status == http.StatusAccepted &&
		strings.Contains(m.Message, "<ComponentVerifyTicket>"), "component_verify_ticket printed as %+v", m)
	assert.True(t, r.token != "" && bytes.Contains(r.body, []byte("<Encrypt>")),
		"the target received %+v, want the encrypted envelope with its signature", r)

	for _, forged := range []struct{ kind, path, body string }{
		{"scan.recorded", "/webhook", `{"type":"scan.recorded","data":{}}`},
		{"", "/push?msg_signature=0000", `<xml><AppId>isv</AppId><Encrypt>MDEyMzQ1Njc4OWFiY2RlZg==</Encrypt></xml>`},
	} {
		sent := make(chan int, 1)
		go func() {
			resp, err := http.Post(listenURL+forged.path, "text/plain", strings.NewReader(forged.body))
			if err != nil {
				t.Error(err)
				sent <- 0
				return
			}
			resp.Body.Close()
			sent <- resp.StatusCode
		}()
		m, _ := next(forged.kind)
		if status := <-sent; m.Signature || m.Status != 0 || status != http.StatusUnauthorized {
			t.Errorf("forged POST %s = %d, printed as %+v, want 401 and no forwarding", forged.path, status, m)
		}
	}
	code, errs := stop()
	assert.True(t, code == exitDone && len(received) == 0, "exit %d, want 0; %d forged messages forwarded: %s", code, len(received), errs)
	assert.Contains(t, s.Admin("GET", "/webhooks", "").Body, `"webhooks":[]`, "webhooks after the end")
	assert.Contains(t, s.Admin("GET", "/components/isv", "").Body, `"event_url":""`, "component after the end")
}

// TestListen_EndsWithTerminal verifies that listen deletes its webhook and restores the event URL if its terminal or its output
// is closed.
func TestListen_EndsWithTerminal(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // so that the command does not inherit the ignored signal of nohup
	defer signal.Stop(hangups)
	for _, output := range []string{"", "--output=table", "--output=json"} {
		s := servertest.Start(t, servertest.Options{Seed: listenSeed})
		cmd := exec.CommandContext(t.Context(), "qrjump", "listen", "--forward-to", target.URL, "--server", s.URL, "--admin-token",
			servertest.AdminToken, cmp.Or(output, "--output=table"), "--component", "isv", "--message-token", "tok",
			"--encoding-aes-key", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE")
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		require.NoError(t, assert.ErrorOf(bufio.NewReader(stdout).ReadString('\n')))
		if output == "" {
			assert.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
		} else {
			assert.NoError(t, stdout.Close())
			s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/1","user":"alice"}`)
		}
		err = cmd.Wait()
		assert.True(t, (err == nil) == (output == ""), "listen %s ended with %v, want an error only after closed output", output, err)
		assert.Contains(t, s.Admin("GET", "/webhooks", "").Body, `"webhooks":[]`, "webhooks after the end")
		assert.Contains(t, s.Admin("GET", "/components/isv", "").Body, `"event_url":""`, "component after the end")
	}
}

func TestListen_InvalidArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"--forward-to ftp://127.0.0.1/hook", "expected an http or https URL"},
		{"--forward-to 127.0.0.1:9000", "expected an http or https URL"},
		{"--forward-to file:///etc/passwd", "expected an http or https URL"},
		{"--forward-to http://", "expected an http or https URL"},
		{"--forward-to http://me:word@127.0.0.1/", "without a password"},
		{"--forward-to http://127.0.0.1:9/ --component isv", "specify both"},
		{"--forward-to http://127.0.0.1:9/ --component isv --message-token tok --encoding-aes-key short", "specify both"},
	} {
		code, out, errs := command(t.Context(), append([]string{"listen", "--lang", "en"}, strings.Fields(c.args)...)...)
		assert.True(t, code == exitMisused && out == "" && strings.Contains(errs, c.want) && strings.Count(errs, "\n") == 1,
			"listen %s: exit %d, want %d and %q: %q, %q", c.args, code, exitMisused, c.want, out, errs)
	}
}
