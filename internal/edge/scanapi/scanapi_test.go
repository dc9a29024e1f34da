package scanapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const scanTown = `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, versions: [release, trial, development], members: {dev: developer, tri: trial, adm: admin}}
  - {appid: rival, kind: mini_program, secret: the-secret-of-rival, versions: [release], members: {dev: developer}}
  - {appid: draft, kind: mini_program, secret: the-secret-of-draft, versions: [trial], members: {dev: developer, tri: trial}}
  - {appid: off, kind: mini_program, secret: the-secret-of-off, versions: [release], jump_open: false, members: {dev: developer}}
  - {appid: svc, kind: service_account, secret: the-secret-of-svc, certified: true, linked: [shop, draft]}
rules:
  - {owner: shop, prefix: "https://shop.example/t/", path: pages/t, published: true}
  - {owner: shop, prefix: "https://shop.example/q", path: "pages/q?from=code", published: true}
  - {owner: shop, prefix: "https://shop.example/test1", path: pages/test, open_version: 1, test_links: ["https://shop.example/test1?a=1"]}
  - {owner: shop, prefix: "https://shop.example/test2", path: pages/test, open_version: 2, test_links: ["https://shop.example/test2?a=1"]}
  - {owner: shop, prefix: "https://shop.example/test3", path: pages/test, open_version: 3, published: true, test_links: ["https://shop.example/test3?a=1"]}
  - {owner: draft, prefix: "https://draft.example/", path: pages/d, published: true, open_version: 1, test_links: ["https://draft.example/dev"]}
  - {owner: draft, prefix: "https://draft.example/trial/", path: pages/d, open_version: 2, test_links: ["https://draft.example/trial/x"]}
  - {owner: off, prefix: "https://off.example/", path: pages/o, published: true, test_links: ["https://off.example/x"]}
  - {owner: shop, prefix: "https://both.example/", path: pages/wide, published: true}
  - {owner: shop, prefix: "https://both.example/a/", path: pages/shop}
  - {owner: rival, prefix: "https://both.example/a/b/", path: pages/rival, published: true}
  - {owner: draft, prefix: "https://both.example/a/b/c/", path: pages/none, published: true}
  - {owner: svc, prefix: "http://weixin.qq.com/q/shop", appid: shop, path: pages/svc, published: true}
  - {owner: svc, prefix: "http://weixin.qq.com/q/draft", appid: draft, path: pages/svc, published: true}
  - {owner: svc, prefix: "http://weixin.qq.com/q/new", appid: shop, path: pages/svc}
settings: {verification: trust, rule_rate_limit: null}
`

// onBoth runs a test on the listener that everything shares, which is net/http,
// and on one for scans alone, which is the lane.
func onBoth(t *testing.T, test func(t *testing.T, own bool)) {
	t.Parallel()
	t.Run("shared", func(t *testing.T) { t.Parallel(); test(t, false) })
	t.Run("own", func(t *testing.T) { t.Parallel(); test(t, true) })
}

type decided struct {
	ScanID  string `json:"scan_id"`
	Action  string
	AppID   string
	Version string
	Path    string
	Scene   int
	URL     string
	Text    *string
	Matched struct{ Kind, Prefix string }
	Steps   []struct {
		Prefix, Owner, Verdict, En, Zh string
		Behaviour, Date                string
		EvidenceLevel                  string `json:"evidence_level"`
		EvidenceEn                     string `json:"evidence_en"`
		EvidenceZh                     string `json:"evidence_zh"`
	}
	Error string
}

func (d decided) short() string {
	switch d.Action {
	case "open_mini_program":
		return fmt.Sprintf("%s %s %s", d.AppID, d.Version, d.Matched.Kind)
	case "show_text":
		if d.Text == nil {
			return "show_text without text"
		}
	}
	return d.Action
}

func ask(t *testing.T, s *servertest.Server, call, body string) decided {
	t.Helper()
	a := s.Do("POST", "/scan/v1/"+call, body)
	if a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%.200s: %d %s %s", body, a.Status, a.Header.Get("Content-Type"), a.Body)
	}
	var d decided
	a.JSON(t, &d)
	return d
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// Contract: rules 2.6, 2.9, 2.10; explain decides as resolve does.
// Behaviour(scan.order.others) Behaviour(scan.blocked) Behaviour(scan.test.role)
// Behaviour(scan.test.anonymous).
func TestScanAPI_ResolveDecisions(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown})
		for _, c := range []struct{ name, user, text, want string }{
			{"a published rule", "", "https://shop.example/t/7", "shop release rule"},
			{"nothing", "", "https://shop.example/none", "open_url"},
			{"another host", "", "https://none.example/", "open_url"},
			{"an unpublished rule", "", "https://shop.example/test1?a=1", "open_url"},
			{"the owner's unpublished longer rule hides", "", "https://both.example/a/x", "open_url"},
			{"another's longer rule opens", "", "https://both.example/a/b/x", "rival release rule"},
			{"the longest has no release: never another owner's shorter one", "", "https://both.example/a/b/c/x", "open_url"},
			{"no release", "", "https://draft.example/x", "open_url"},
			{"switched off", "", "https://off.example/x", "open_url"},

			{"test range 1: a developer", "dev", "https://shop.example/test1?a=1", "shop development test_link"},
			{"test range 1: a trial user", "tri", "https://shop.example/test1?a=1", "open_url"},
			{"test range 1: an administrator", "adm", "https://shop.example/test1?a=1", "open_url"},
			{"test range 2: a developer", "dev", "https://shop.example/test2?a=1", "open_url"},
			{"test range 2: a trial user", "tri", "https://shop.example/test2?a=1", "shop trial test_link"},
			{"test range 2: an administrator", "adm", "https://shop.example/test2?a=1", "shop trial test_link"},
			{"test range 3: a developer", "dev", "https://shop.example/test3?a=1", "shop release test_link"},
			{"test range 3: a trial user", "tri", "https://shop.example/test3?a=1", "shop release test_link"},
			{"test range 3: an administrator", "adm", "https://shop.example/test3?a=1", "shop release test_link"},
			{"test range 3, published: anybody", "bob", "https://shop.example/test3?a=1", "shop release rule"},
			{"somebody else", "bob", "https://shop.example/test1?a=1", "open_url"},
			{"another Mini Program's developer", "dev2", "https://shop.example/test1?a=1", "open_url"},
			{"a link that is not listed", "dev", "https://shop.example/test1?a=2", "open_url"},
			{"a listed link in capitals is another text", "dev", "HTTPS://shop.example/test1?a=1", "open_url"},
			{"the wanted version does not exist: ordinary matching", "dev", "https://draft.example/dev", "open_url"},
			{"a trial version of a Mini Program without release", "tri", "https://draft.example/trial/x", "draft trial test_link"},
			{"a test link of one that is switched off", "dev", "https://off.example/x", "open_url"},

			{"a service account's code", "", "http://weixin.qq.com/q/shop", "shop release service_rule"},
			{"in capitals", "", "HTTP://WEIXIN.QQ.COM/q/shop", "shop release service_rule"},
			{"the code in capitals is another", "", "http://weixin.qq.com/q/SHOP", "open_url"},
			{"with parameters", "", "http://weixin.qq.com/q/shop?a", "open_url"},
			{"https", "", "https://weixin.qq.com/q/shop", "open_url"},
			{"unpublished", "", "http://weixin.qq.com/q/new", "open_url"},
			{"target without release", "", "http://weixin.qq.com/q/draft", "open_url"},

			{"plain text", "", "hello", "show_text"},
			{"nothing at all", "", "", "show_text"},
			{"ftp", "", "ftp://shop.example/t/7", "show_text"},
			{"javascript", "", "javascript:alert(1)//https://shop.example/t/", "show_text"},
			{"not trimmed", "", " https://shop.example/t/7", "show_text"},
			{"white space behind", "", "https://shop.example/t/7 ", "shop release rule"},
			{"a control character", "", "https://shop.example/t/7\n", "show_text"},
			{"NUL", "", "https://shop.example/t/\x00", "show_text"},
			{"delete", "", "https://shop.example/t/\x7f", "show_text"},
			{"a control character of Latin-1", "", "https://shop.example/t/\u0085", "show_text"},
			{"exactly 4 KiB", "", "https://shop.example/t/" + strings.Repeat("x", 4096-len("https://shop.example/t/")),
				"shop release rule"},
			{"one byte more", "", "https://shop.example/t/" + strings.Repeat("x", 4097-len("https://shop.example/t/")), "show_text"},
			{"letters of another script", "", "https://shop.example/t/食堂", "shop release rule"},
			{"no host", "", "https:///t/", "show_text"},
			{"a port", "", "https://shop.example:443/t/7", "open_url"},
			{"a final dot", "", "https://shop.example./t/7", "open_url"},
			{"user information", "", "https://me@shop.example/t/7", "open_url"},
		} {
			t.Run(c.name, func(t *testing.T) {
				body := asJSON(t, map[string]string{"text": c.text, "user": c.user})
				d := ask(t, s, "resolve", body)
				assert.Equal(t, d.short(), c.want, "d.short")
				assert.True(t, (d.Action != "open_url" || d.URL == c.text) && (d.Action != "show_text" || *d.Text == c.text),
					"the text did not come back: %+v", d)
				assert.True(t, len(d.ScanID) == 32, "scan id %q", d.ScanID)
				e := ask(t, s, "explain", body)
				if e.short() != c.want || e.Path != d.Path || e.URL != d.URL || e.ScanID != "" || e.Steps == nil {
					t.Errorf("explain says %s, and a scan id %q", e.short(), e.ScanID)
				}
			})
		}

		t.Run("invalid UTF-8", func(t *testing.T) {
			for _, body := range []string{"{\"text\":\"https://shop.example/t/\xff\"}",
				"{\"text\":\"https://shop.example/t/7\",\"client\":\"\xff\"}"} {
				assert.Equal(t, ask(t, s, "resolve", body).short(), "show_text", "%q", body)
				assert.Equal(t, ask(t, s, "explain", body).short(), "show_text", "explain %q", body)
			}
		})
		t.Run("a service account that is no longer linked", func(t *testing.T) {
			s.Admin("DELETE", "/accounts/svc/links/shop", "")
			if d := ask(t, s, "resolve", `{"text":"http://weixin.qq.com/q/shop"}`); d.short() != "open_url" {
				t.Errorf("got %s", d.short())
			}
			s.Admin("PUT", "/accounts/svc/links/shop", "")
			assert.Equal(t, ask(t, s, "resolve", `{"text":"http://weixin.qq.com/q/shop"}`).short(), "shop release service_rule",
				"linked again")
		})
		t.Run("a change is seen by the next scan", func(t *testing.T) {
			open := func(want string) {
				t.Helper()
				if d := ask(t, s, "resolve", `{"text":"https://shop.example/now/1"}`); d.short() != want {
					t.Errorf("got %s, want %s", d.short(), want)
				}
			}
			open("open_url")
			s.OK("shop", "add", `{"prefix":"https://shop.example/now/","path":"p","permit_sub_rule":1,"open_version":3,"is_edit":0}`)
			open("open_url")
			s.OK("shop", "publish", `{"prefix":"https://shop.example/now/"}`)
			open("shop release rule")
			s.Admin("PUT", "/accounts/shop/jump", `{"open":false}`)
			open("open_url")
			s.Admin("PUT", "/accounts/shop/jump", `{"open":true}`)
			s.Admin("PUT", "/accounts/shop/versions", `{"versions":["trial"]}`)
			open("open_url")
			s.Admin("PUT", "/accounts/shop/versions", `{"versions":["release"]}`)
			open("shop release rule")
			s.OK("shop", "delete", `{"prefix":"https://shop.example/now/"}`)
			open("open_url")
		})
	})
}

// Contract: rules 2.8.
// Behaviour(scan.page) Behaviour(scan.encoding) Behaviour(scan.scene).
func TestScanAPI_PagePathAndQuery(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown})
		for _, c := range []struct{ body, path string }{
			{`{"text":"https://shop.example/t/7?a=1&b=2 c"}`,
				"pages/t?q=https%3A%2F%2Fshop.example%2Ft%2F7%3Fa%3D1%26b%3D2%20c&scancode_time=1768442400"},
			{`{"text":"https://shop.example/q?x"}`, "pages/q?from=code&q=https%3A%2F%2Fshop.example%2Fq%3Fx&scancode_time=1768442400"},
			{`{"text":"https://shop.example/t/食-_.!~*'()%41"}`,
				"pages/t?q=https%3A%2F%2Fshop.example%2Ft%2F%E9%A3%9F-_.!~*'()%2541&scancode_time=1768442400"},
			{`{"text":"http://weixin.qq.com/q/shop"}`, "pages/svc?q=http%3A%2F%2Fweixin.qq.com%2Fq%2Fshop&scancode_time=1768442400"},
			{`{"text":"https://shop.example/t/7","at":"2026-01-01T00:00:00Z"}`,
				"pages/t?q=https%3A%2F%2Fshop.example%2Ft%2F7&scancode_time=1767225600"},
		} {
			if d := ask(t, s, "resolve", c.body); d.Path != c.path || d.Scene != 1011 {
				t.Errorf("%s\ngot  %s %d\nwant %s 1011", c.body, d.Path, d.Scene, c.path)
			}
		}
		for source, scene := range map[string]int{"scan": 1011, "press": 1012, "album": 1013} {
			assert.Equal(t, ask(t, s, "resolve", `{"text":"https://shop.example/t/7","source":"`+source+`"}`).Scene, scene, "%s", source)
		}
		first := ask(t, s, "resolve", `{"text":"x"}`).ScanID
		s.Advance(time.Minute)
		if second := ask(t, s, "resolve", `{"text":"x"}`).ScanID; second <= first {
			t.Errorf("scan ids sort by time: %s, a minute later %s", first, second)
		}
	})
}

func TestScanAPI_ProblemResponses(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown})
		assume := func(n int) string {
			return `{"text":"x","assume":[` + strings.Repeat(`{"owner":"shop","prefix":"https://x.example/"},`, n-1) +
				`{"owner":"shop","prefix":"https://x.example/"}]}`
		}
		for _, c := range []struct {
			name, method, call, body string
			want                     int
		}{
			{"no body", "POST", "resolve", "", 400},
			{"no JSON", "POST", "resolve", "hello", 400},
			{"an array", "POST", "resolve", "[]", 400},
			{"two objects", "POST", "resolve", `{"text":"x"}{}`, 400},
			{"text is a number", "POST", "resolve", `{"text":7}`, 400},
			{"at is no time", "POST", "resolve", `{"text":"x","at":"today"}`, 400},
			{"null", "POST", "resolve", "null", 422},
			{"no text", "POST", "resolve", `{"user":"u"}`, 422},
			{"text null", "POST", "resolve", `{"text":null}`, 422},
			{"an unknown source", "POST", "resolve", `{"text":"x","source":"nfc"}`, 422},
			{"a user of 513 bytes", "POST", "resolve", `{"text":"x","user":"` + strings.Repeat("u", 513) + `"}`, 422},
			{"a user that is half a pair", "POST", "resolve", `{"text":"x","user":"u\ud800"}`, 422},
			{"a user with another second half", "POST", "resolve", `{"text":"x","user":"\ud83d\u0041"}`, 422},
			{"a user with two first halves", "POST", "resolve", `{"text":"x","user":"\ud83d\ud83d\ude00"}`, 422},
			{"a user that is half a pair, in capitals and null after it", "POST", "resolve",
				`{"text":"x","USER":"\ud800","user":null}`, 422},
			{"a user that is half a pair beside a true U+FFFD", "POST", "resolve", `{"text":"\ufffd","user":"\ufffd\udc00"}`, 422},
			{"a user of invalid UTF-8", "POST", "resolve", "{\"text\":\"x\",\"user\":\"\xff\"}", 422},
			{"explain a user that is half a pair", "POST", "explain", `{"text":"x","user":"\ud800"}`, 422},
			{"login of a user of invalid UTF-8", "POST", "login", "{\"appid\":\"shop\",\"user\":\"\xff\"}", 422},
			{"above 16 KiB", "POST", "resolve", `{"text":"` + strings.Repeat("x", 16<<10) + `"}`, 413},
			{"explain above 1 MiB", "POST", "explain", `{"text":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
			{"explain without text", "POST", "explain", `{}`, 422},
			{"assume an unknown owner", "POST", "explain", `{"text":"x","assume":[{"owner":"nobody","prefix":"https://x.example/"}]}`, 422},
			{"assume no prefix", "POST", "explain", `{"text":"x","assume":[{"owner":"shop","prefix":"x"}]}`, 422},
			{"assume a code for a Mini Program", "POST", "explain",
				`{"text":"x","assume":[{"owner":"shop","prefix":"http://weixin.qq.com/q/a"}]}`, 422},
			{"assume 1,001 rules", "POST", "explain", assume(1001), 422},
			{"GET", "GET", "resolve", "", 405},
			{"an unknown call", "POST", "login2", "{}", 404},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := s.Do(c.method, "/scan/v1/"+c.call, c.body)
				checkProblem(t, a, c.want)
			})
		}
		s.Do("POST", "/scan/v1/explain", assume(1000)).WantStatus(t, 200, "1,000 assumed rules")
		// U+FFFD that the caller sent is a character like any other.
		for _, user := range []string{`\ufffd`, "\ufffd", `\\ud800\ufffd`, `\ud83d\ude00\ufffd`} {
			for _, call := range []string{"resolve", "explain"} {
				s.Do("POST", "/scan/v1/"+call, `{"text":"x","user":"`+user+`"}`).WantStatus(t, 200, "%s user %s", call, user)
			}
		}
		if a := s.Do("GET", "/scan/v1/resolve", ""); a.Header.Get("Allow") != "POST" {
			t.Errorf("Allow is %q", a.Header.Get("Allow"))
		}
		s.Do("POST", "/scan/v1/resolve", `{"text":"x"}`, "Origin: https://evil.example",
			"Sec-Fetch-Site: cross-site").WantStatus(t, 403, "a page of another origin")
	})
}

// checkProblem checks a problem document (RFC 9457).
func checkProblem(t *testing.T, a servertest.Answer, status int) {
	t.Helper()
	var p struct {
		Title, Detail string
		Status        int
	}
	if a.Status != status || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %s %.300s, want %d", a.Status, a.Header.Get("Content-Type"), a.Body, status)
	}
	a.JSON(t, &p)
	assert.True(t, p.Status == status && p.Title == http.StatusText(status) && p.Detail != "", "got %s", a.Body)
}

func TestScanKeys_Lifecycle(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown, Guarded: true})
		scan := func(header ...string) servertest.Answer {
			return s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/t/7"}`, header...)
		}
		key := func(name string) string {
			var made struct{ Name, Key string }
			s.Admin("POST", "/scan-keys", `{"name":"`+name+`","namespace":"ns"}`).JSON(t, &made)
			s.Hide(made.Key)
			return "Authorization: Bearer " + made.Key
		}
		refused := func(header ...string) {
			t.Helper()
			a := scan(header...)
			checkProblem(t, a, 401)
			assert.Equal(t, a.Header.Get("WWW-Authenticate"), "Bearer", "WWW-Authenticate")
		}
		refused()
		refused("Authorization: Bearer ")
		refused("Authorization: Bearer qrs_wrong")
		refused("Authorization: Bearer " + strings.Repeat("x", 300))
		refused("Authorization: Basic eDp5")
		refused("Authorization: Bearer " + servertest.AdminToken)
		first := key("app")
		if a := scan(first); a.Status != 200 {
			t.Fatalf("with a key: %d %s", a.Status, a.Body)
		}
		// The same name again replaces the key; a deleted one ends at once.
		second, other := key("app"), key("other")
		refused(first)
		s.Do("GET", "/admin/v1/settings", "", second).WantStatus(t, 401, "a scan key opens the admin API")
		list := s.Admin("GET", "/scan-keys", "").Body
		assert.True(t, strings.Contains(list, `"name":"app","namespace":"ns"`) && !strings.Contains(list, "qrs_"),
			"the list of keys: %s", list)
		s.Admin("DELETE", "/scan-keys/app", "")
		refused(second)
		if a := scan(other); a.Status != 200 {
			t.Errorf("the other key: %d %s", a.Status, a.Body)
		}
		// Replays are the emulator's.
		a := s.Do("POST", "/scan/v1/resolve", `{"text":"x","at":"2026-01-01T00:00:00Z"}`, other)
		checkProblem(t, a, 422)
		checkProblem(t, s.Do("POST", "/scan/v1/explain", `{"text":"x"}`), 401)
		checkProblem(t, s.Do("POST", "/scan/v1/resolve", "{}\n", "Content-Type: application/x-ndjson"), 401)
	})
}

func TestScanAPI_Stream(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown})
		sized := func(n int) string {
			const open, end = `{"text":"`, `"}`
			return open + strings.Repeat("x", n-len(open)-len(end)) + end
		}
		shop, text := `{"text":"https://shop.example/t/7"}`, `{"text":"hello"}`
		for _, c := range []struct{ name, body, want string }{
			{"order", shop + "\n" + text + "\n" + shop + "\n", "shop release rule|show_text|shop release rule"},
			{"no final newline", shop + "\n" + text, "shop release rule|show_text"},
			{"one line", text, "show_text"},
			{"nothing", "", ""},
			{"empty lines", "\n\n" + text + "\n \t\n\r\n" + text + "\n\n", "show_text|show_text"},
			{"CRLF", text + "\r\n" + text + "\r\n", "show_text|show_text"},
			{"a bad line goes on", "{\n" + text + "\n[]\n{\"text\":7}\nnull\n{\"source\":\"nfc\",\"text\":\"\"}\n" + shop,
				"error|show_text|error|error|error|error|shop release rule"},
			{"exactly 16 KiB", sized(16<<10) + "\n" + text, "show_text|show_text"},
			{"exactly 16 KiB, CRLF", sized(16<<10) + "\r\n" + text, "show_text|show_text"},
			{"exactly 16 KiB at the end", sized(16 << 10), "show_text"},
			{"one byte more", sized(16<<10+1) + "\n" + text, "error|show_text"},
			{"two bytes more", sized(16<<10+2) + "\n" + text, "error|show_text"},
			{"three bytes more", sized(16<<10+3) + "\n" + text, "error|show_text"},
			{"much more", sized(100<<10) + "\n" + text, "error|show_text"},
			{"much more at the end", text + "\n" + sized(100<<10), "show_text|error"},
			{"invalid UTF-8", "{\"text\":\"https://shop.example/t/\xff\"}\n" + text, "show_text|show_text"},
			{"a thousand lines", strings.Repeat(shop+"\n"+text+"\n", 500),
				strings.TrimSuffix(strings.Repeat("shop release rule|show_text|", 500), "|")},
		} {
			t.Run(c.name, func(t *testing.T) {
				a := s.Do("POST", "/scan/v1/resolve", c.body, "Content-Type: application/x-ndjson; charset=utf-8")
				if a.Status != 200 || a.Header.Get("Content-Type") != "application/x-ndjson" {
					t.Fatalf("%d %s", a.Status, a.Header.Get("Content-Type"))
				}
				var got []string
				for line := range strings.Lines(a.Body) {
					var d decided
					require.NoErrorf(t, json.Unmarshal([]byte(line), &d), "%q", line)
					if d.Error != "" {
						d.Action = "error"
					}
					got = append(got, d.short())
				}
				if strings.Join(got, "|") != c.want {
					t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), c.want)
				}
			})
		}
	})
}

// design 4: one test for each verdict.
func TestScanAPI_Verdicts(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown})
		for _, c := range []struct{ text, prefix, verdict, action string }{
			{"https://shop.example/t/7", "https://shop.example/t/", "opens", "open_mini_program"},
			{"https://both.example/a/b/x", "https://both.example/a/b/", "opens", "open_mini_program"},
			{"https://both.example/a/b/x", "https://both.example/", "matches_but_shorter", "open_mini_program"},
			{"https://both.example/a/x", "https://both.example/a/", "unpublished_hides", "open_url"},
			{"https://shop.example/test1?b", "https://shop.example/test1", "unpublished", "open_url"},
			{"http://shop.example/t/7", "https://shop.example/t/", "scheme_differs", "open_url"},
			{"https://www.shop.example/t/", "https://shop.example/t/", "host_differs", "open_url"},
			{"https://shop.example/t", "https://shop.example/t/", "not_sub_path", "open_url"},
			{"https://shop.example/q/1", "https://shop.example/q", "not_sub_path", "open_url"},
			{"https://param.example/a/z?id=1", "https://param.example/a/b?id=1", "path_differs", "open_url"},
			{"https://param.example/a/b?id=2", "https://param.example/a/b?id=1", "parameters_differ", "open_url"},
			{"https://draft.example/x", "https://draft.example/", "no_release", "open_url"},
			{"https://off.example/x", "https://off.example/", "owner_switched_off", "open_url"},
			{"http://weixin.qq.com/q/draft", "http://weixin.qq.com/q/draft", "no_release", "open_url"},
			{"http://weixin.qq.com/q/new", "http://weixin.qq.com/q/new", "unpublished", "open_url"},
		} {
			t.Run(c.verdict+" "+c.text, func(t *testing.T) {
				body := `{"text":"` + c.text + `"}`
				if strings.HasPrefix(c.prefix, "https://param.") {
					body = `{"text":"` + c.text + `","assume":[{"owner":"shop","prefix":"` + c.prefix + `","path":"p"}]}`
				}
				e := ask(t, s, "explain", body)
				assert.True(t, e.Action == c.action, "it does %s, want %s", e.Action, c.action)
				for _, step := range e.Steps {
					if step.Prefix != c.prefix {
						continue
					}
					row, known := behaviour.ByID(step.Behaviour)
					sure := row.Get().Known(servertest.Began)
					assert.True(t, known && step.EvidenceLevel == string(row.Get().Evidence) && step.Date == row.Get().Date &&
						step.EvidenceEn == sure.English() &&
						step.EvidenceZh == sure.Chinese(), "how sure it is: %+v", step)
					assert.True(t, step.Verdict == c.verdict && strings.HasSuffix(step.En, ".") && strings.HasSuffix(step.Zh, "。") &&
						step.Owner != "", "got %+v, want %s", step, c.verdict)
					return
				}
				t.Errorf("no step for %s in %+v", c.prefix, e.Steps)
			})
		}

		t.Run("nearest first", func(t *testing.T) {
			e := ask(t, s, "explain", `{"text":"https://both.example/a/b/c/x"}`)
			var got []string
			for _, step := range e.Steps {
				got = append(got, step.Verdict)
			}
			assert.Equal(t, strings.Join(got, " "), "no_release matches_but_shorter unpublished_hides matches_but_shorter", "strings.Join")
		})
		t.Run("at most 50", func(t *testing.T) {
			var assume []map[string]any
			for n := range 80 {
				assume = append(assume, map[string]any{"owner": "shop", "prefix": fmt.Sprintf("https://many.example/a/%d", n)})
			}
			e := ask(t, s, "explain", asJSON(t, map[string]any{"text": "https://many.example/a/x", "assume": assume}))
			assert.Equal(t, len(e.Steps), 50, "steps")
		})
		t.Run("a service account that is no longer linked", func(t *testing.T) {
			s.Admin("DELETE", "/accounts/svc/links/shop", "")
			e := ask(t, s, "explain", `{"text":"http://weixin.qq.com/q/shop"}`)
			assert.True(t, len(e.Steps) != 0 && e.Steps[0].Verdict == "owner_switched_off" && strings.Contains(e.Steps[0].En, "linked"),
				"got %+v", e.Steps)
		})
	})
}

func TestScanAPI_AssumedRules(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		s := servertest.Start(t, servertest.Options{ScanListener: own, Seed: scanTown})
		for _, c := range []struct{ name, body, want string }{
			{"as if published", `{"text":"https://shop.example/test1?b","assume_published":true}`, "shop release rule"},
			{"as if published: what hid opens", `{"text":"https://both.example/a/x","assume_published":true}`, "shop release rule"},
			{"as if published: a code", `{"text":"http://weixin.qq.com/q/new","assume_published":true}`, "shop release service_rule"},
			{"as if published: no release stays", `{"text":"https://draft.example/x","assume_published":true}`, "open_url"},
			{"a rule that is not there",
				`{"text":"https://new.example/1","assume":[{"owner":"rival","prefix":"https://new.example/","path":"p"}]}`,
				"rival release rule"},
			{"not published", `{"text":"https://new.example/1","assume":[{"owner":"rival","prefix":"https://new.example/","published":false}]}`,
				"open_url"},
			{"not published, as if published",
				`{"text":"https://new.example/1","assume":[{"owner":"rival","prefix":"https://new.example/","published":false}],"assume_published":true}`, "rival release rule"},
			{"in place of a stored one",
				`{"text":"https://shop.example/t/7","assume":[{"owner":"shop","prefix":"https://shop.example/t/","published":false}]}`,
				"open_url"},
			{"a longer one of another",
				`{"text":"https://shop.example/t/7","assume":[{"owner":"rival","prefix":"https://shop.example/t/7","path":"p"}]}`,
				"rival release rule"},
			{"a code",
				`{"text":"http://weixin.qq.com/q/x","assume":[{"owner":"svc","prefix":"http://weixin.qq.com/q/x","appid":"shop","path":"p"}]}`,
				"shop release service_rule"},
			{"a code for one that is not linked",
				`{"text":"http://weixin.qq.com/q/x","assume":[{"owner":"svc","prefix":"http://weixin.qq.com/q/x","appid":"rival","path":"p"}]}`,
				"open_url"},
			{"a test link",
				`{"text":"https://new.example/1","user":"dev","assume":[{"owner":"shop","prefix":"https://new.example/","path":"p","published":false,"open_version":1,"test_links":["https://new.example/1"]}]}`, "shop development test_link"},
		} {
			t.Run(c.name, func(t *testing.T) {
				if e := ask(t, s, "explain", c.body); e.short() != c.want {
					t.Errorf("got %s, want %s: %+v", e.short(), c.want, e.Steps)
				}
			})
		}
		// Nothing of it is kept.
		assert.Equal(t, ask(t, s, "resolve", `{"text":"https://new.example/1"}`).short(), "open_url", "an assumed rule opens")
		assert.Equal(t, ask(t, s, "resolve", `{"text":"https://shop.example/t/7"}`).short(), "shop release rule", "a stored rule went away")
	})
}
