package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/listen.yaml
var listenSeed string

// TestListen_Secret: a receiver written to the guide answers 200 with the secret that is printed, or with the one that it has.
func TestListen_Secret(t *testing.T) {
	t.Parallel()
	const own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for name, args := range map[string][]string{"printed": nil, "receiver's": {"--secret", own}} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{Seed: listenSeed, Began: time.Now()})
			type came struct {
				header http.Header
				body   []byte
			}
			received := make(chan came, 1)
			target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				assert.True(t, err == nil, "%v", err)
				received <- came{r.Header, body}
			}))
			defer target.Close()
			_, _, stop := serving(t, append([]string{"listen", "--forward-to", target.URL, "--server", s.URL, "--admin-token",
				servertest.AdminToken,
				"--output=json"}, args...)...)
			a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/1","user":"alice"}`)
			require.True(t, a.Status == http.StatusOK, "%v %v", a.Status, a.Body)
			got := <-received
			_, told := stop()
			secret := own
			if args == nil {
				secret = regexp.MustCompile(`whsec_[0-9A-Za-z+/]+=*`).FindString(told)
			} else if strings.Contains(told, own) {
				t.Errorf("listen --secret prints the secret: %s", told)
			}
			hook, err := standardwebhooks.NewWebhook(secret)
			if err == nil {
				err = hook.Verify(got.body, got.header)
			}
			assert.True(t, err == nil, "what is handed on is not signed with %q: %v; listen says %s", secret, err, told)
		})
	}
	code, _, told := command(t.Context(), "listen", "--forward-to", "http://127.0.0.1:1", "--secret", "nonsense")
	assert.True(t, code == 2 && strings.Contains(told, "whsec_"), "listen --secret nonsense = %d, %s, want exit 2", code, told)
}

// What the server sends reaches a program at another address as it was signed, and what that one answers is printed and is the answer
// to the server. What somebody else sends is shown and not handed on. At the end everything is as before.
func TestListen_ForwardsSignedDeliveries(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: listenSeed})
	type got struct {
		path, id, token string
		body            []byte
	}
	received := make(chan got, 10)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.True(t, err == nil, "%v", err)
		received <- got{r.URL.Path, r.Header.Get("Webhook-Id"), r.URL.Query().Get("msg_signature"), body}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "success")
	}))
	defer target.Close()
	here, out, stop := serving(t, "listen", "--forward-to", target.URL+"/hook?mine=1", "--server", s.URL,
		"--admin-token", servertest.AdminToken, "--output=json", "--component", "isv", "--message-token", "tok",
		"--encoding-aes-key", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE")
	decoder := json.NewDecoder(out)
	// next is what is said next of a kind, and what the program got then; the server may push other things by itself.
	next := func(kind string) (m forwarded, r got) {
		t.Helper()
		for {
			m, r = forwarded{}, got{}
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
		"the server tells %+v, want one webhook with the rule", hooks)
	a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/1","user":"alice"}`)
	require.True(t, a.Status == http.StatusOK, "%v %v", a.Status, a.Body)
	m, r := next("scan.recorded")
	assert.True(t, m.Signature && m.Status == http.StatusAccepted && m.Response == "success", "of a scan it says %+v", m)
	assert.True(t, r.path == "/hook" && r.id == m.ID && string(r.body) == m.Message, "the program got %+v of %+v", r, m)

	a = s.Admin("POST", "/emulator/ticket", `{"component":"isv"}`)
	require.True(t, a.Status == http.StatusOK, "%v %v", a.Status, a.Body)
	m, r = next("component_verify_ticket")
	assert.True(t, m.Signature && m.Status == http.StatusAccepted &&
		strings.Contains(m.Message, "<ComponentVerifyTicket>"), "of a ticket it says %+v", m)
	assert.True(t, r.token != "" && bytes.Contains(r.body, []byte("<Encrypt>")),
		"the program got %+v, want the envelope with its signature", r)

	for _, forged := range []struct{ kind, path, body string }{
		{"scan.recorded", "/webhook", `{"type":"scan.recorded","data":{}}`},
		{"", "/push?msg_signature=0000", `<xml><AppId>isv</AppId><Encrypt>MDEyMzQ1Njc4OWFiY2RlZg==</Encrypt></xml>`},
	} {
		answer := make(chan int, 1)
		go func() {
			a, err := http.Post(here+forged.path, "text/plain", strings.NewReader(forged.body))
			if err != nil {
				t.Error(err)
				answer <- 0
				return
			}
			a.Body.Close()
			answer <- a.StatusCode
		}()
		m, _ := next(forged.kind)
		if status := <-answer; m.Signature || m.Status != 0 || status != http.StatusUnauthorized {
			t.Errorf("of a forged %s it says %+v, and %d to its sender", forged.path, m, status)
		}
	}
	code, errs := stop()
	assert.True(t, code == exitDone && len(received) == 0, "exit %d, and %d forged ones were handed on: %s", code, len(received), errs)
	assert.Contains(t, s.Admin("GET", "/webhooks", "").Body, `"webhooks":[]`, "left behind")
	assert.Contains(t, s.Admin("GET", "/components/isv", "").Body, `"event_url":""`, "its events go elsewhere now")
}

func TestListen_InvalidArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"--forward-to ftp://127.0.0.1/hook", "expected an http or https URL"},
		{"--forward-to 127.0.0.1:9000", "expected an http or https URL"},
		{"--forward-to file:///etc/passwd", "expected an http or https URL"},
		{"--forward-to http://", "expected an http or https URL"},
		{"--forward-to http://me:word@127.0.0.1/", "without a password"},
		{"--forward-to http://127.0.0.1:9/ --component isv", "specify both"},
		{"--forward-to http://127.0.0.1:9/ --component isv --message-token tok --encoding-aes-key short", "specify both"},
	} {
		code, out, errs := command(t.Context(), append([]string{"listen", "--lang", "en"}, strings.Fields(c.args)...)...)
		assert.True(t, code == exitMisused && out == "" && strings.Contains(errs, c.says) && strings.Count(errs, "\n") == 1,
			"%s: exit %d, %q, %q", c.args, code, out, errs)
	}
}
