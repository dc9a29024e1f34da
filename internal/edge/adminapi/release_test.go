package adminapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// A domain has changed hands: its new owner may add what its old owner had.
// Behaviour(message.released).
func TestReleasePrefix_NewOwnerAdds(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	told := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		told <- string(b)
	}))
	t.Cleanup(receiver.Close)
	s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","name":"Shop","versions":["release"],"message_url":"`+receiver.URL+`"}`)
	wire := func(appid, call, body string) string {
		t.Helper()
		return s.Do("POST", "/cgi-bin/wxopen/"+call+"?access_token="+s.Token(appid), body).Body
	}
	rule := func(prefix string) string {
		return `{"prefix":"` + prefix + `","path":"pages/a","permit_sub_rule":2,"open_version":3,"is_edit":0}`
	}
	for _, prefix := range []string{"https://sold.example/", "https://sold.example/t/", "https://sold.example0/"} {
		wire("shop", "qrcodejumpadd", rule(prefix))
		wire("shop", "qrcodejumppublish", `{"prefix":"`+prefix+`"}`)
	}
	if a := wire("rival", "qrcodejumpadd", rule("https://sold.example/t/")); !strings.Contains(a, "85072") {
		t.Fatalf("before: %s", a)
	}
	for _, c := range []struct {
		body, want string
		status     int
	}{
		{`{"prefix":"https://sold.example/","reason":""}`, "reason", 422},
		{`{"prefix":"https://sold.example/","reason":"` + strings.Repeat("x", 501) + `"}`, "reason", 422},
		{`{"prefix":"sold.example","reason":"sold"}`, "link", 422},
		{`{"prefix":"https://sold.example/t","below":true,"reason":"sold"}`, "ends in /", 422},
		{`{"prefix":"https://sold.example/t","reason":"sold"}`, "no rule", 404},
		{`{"prefix":"https://sold.example/","reason":"sold"}`, `"owner":"shop"`, 200},
		{`{"prefix":"https://sold.example/","reason":"sold"}`, "no rule", 404},
		{`{"prefix":"https://sold.example/","below":true,"reason":"sold 已转让"}`, `"prefix":"https://sold.example/t/"`, 200},
	} {
		if a := call(t, s, "POST", "/rules/force-delete", c.body); a.Status != c.status || !strings.Contains(a.Body, c.want) {
			t.Errorf("%s: %d %s", c.body, a.Status, a.Body)
		}
	}

	// Gone at once, free at once, and what was spent is spent.
	if a := s.Do("POST", "/scan/v1/resolve", `{"text":"https://sold.example/t/1"}`).Body; !strings.Contains(a, "open_url") {
		t.Errorf("a scan after the release: %s", a)
	}
	if a := wire("rival", "qrcodejumpadd", rule("https://sold.example/t/")); !strings.Contains(a, `"errcode":0`) {
		t.Errorf("the new owner: %s", a)
	}
	if a := wire("shop", "qrcodejumpget", "{}"); !strings.Contains(a, "https://sold.example0/") ||
		strings.Contains(a, "https://sold.example/") || !strings.Contains(a, `"qrcodejump_pub_quota":97`) {
		t.Errorf("the old owner: %s", a)
	}

	// Written down, and told.
	if a := call(t, s, "GET", "/rules/history?prefix=https://sold.example/t/", "").Body; !strings.Contains(a,
		`"actor":"admin","action":"release"`) || !strings.Contains(a, `"reason":"sold 已转让"`) {
		t.Errorf("the history: %s", a)
	}
	if a := call(t, s, "GET", "/accounts/shop/notifications", "").Body; strings.Count(a, `"kind":"prefix_released"`) != 2 ||
		!strings.Contains(a, `"prefix":"https://sold.example/t/","reason":"sold 已转让"`) {
		t.Errorf("the notices: %s", a)
	}
	if a := call(t, s, "GET", "/accounts/rival/notifications", "").Body; !strings.Contains(a, `{"notifications":[]}`) {
		t.Errorf("notices of the new owner: %s", a)
	}
	for _, prefix := range []string{"https://sold.example/", "https://sold.example/t/"} {
		select {
		case event := <-told:
			assert.True(t, strings.Contains(event, "<Event><![CDATA[qrcodejump_prefix_released]]></Event><Prefix><![CDATA["+prefix+
				"]]></Prefix><Reason><![CDATA[sold"), "the event of %s: %s", prefix, event)
		case <-time.After(5 * time.Minute): // so long that no busy machine needs it
			t.Fatalf("no event for %s", prefix)
		}
	}
}
