package server_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// Each content is applied once, so what was deleted later stays deleted.
func TestSeed_AppliedOnce(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop})
	s.OK("shop", "delete", `{"prefix":"https://shop.example/t/"}`)
	s.Admin("PUT", "/settings", `{"rule_limit":5}`)
	s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","name":"Renamed"}`)
	s.Stop()
	restart := func(seed string, wantRules int, wantName string) {
		t.Helper()
		s := servertest.Start(t, servertest.Options{Data: data, Seed: seed})
		a := s.Admin("GET", "/rules", "")
		assert.True(t, strings.Count(a.Body, `"prefix"`) == wantRules, "%d rules wanted: %s", wantRules, a.Body)
		assert.Contains(t, s.Admin("GET", "/accounts/shop", "").Body, `"name":"`+wantName+`"`, "want the name %q", wantName)
		assert.Contains(t, s.Admin("GET", "/settings", "").Body, `"rule_limit":5`, "a setting that the seed does not name")
		s.Token("shop") // the secret is still the one of the seed
		s.Stop()
	}
	restart(shop, 0, "Renamed")
	// Another content is another seed: it wins over what there is.
	restart(shop+"# changed\n", 1, "")
	restart(shop, 1, "")
}

func TestSeed_RejectsInvalid(t *testing.T) {
	t.Parallel()
	const account = "accounts:\n  - {appid: a, kind: mini_program}\n"
	for _, c := range testtable.Rows(t, "testdata/invalid_seeds.txt", 3) {
		t.Run(c[0], func(t *testing.T) {
			t.Parallel()
			_, err := servertest.Try(t, servertest.Options{Seed: c[1]})
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error()+":", "seed.yaml, "+c[2]+":") &&
				!strings.Contains(err.Error(), "\n"), "got %v, want one line with %q", err, c[2])
		})
	}
	for _, fine := range []string{"", "# nothing\n", "accounts: []\nrules:\nsettings:\n", account} {
		servertest.Start(t, servertest.Options{Seed: fine + "\n"}).Stop()
	}
}

func TestSeed_DemoContents(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	a := s.Admin("GET", "/rules?owner=wxc0ffee0000000001", "")
	assert.True(t, strings.Count(a.Body, `"prefix":`) == 2, "the rules of the tour: %s", a.Body)
	for body, want := range map[string]string{
		`{"text":"https://coffee.example/t/7"}`:                         "pages/table/table?q=",
		`{"text":"http://weixin.qq.com/q/02AAAAAAAAAAAAAA"}`:            "pages/index/index?q=",
		`{"text":"https://coffee.example/menu?draft=1","user":"bob"}`:   `"version":"trial"`,
		`{"text":"https://coffee.example/menu?draft=1","user":"alice"}`: "open_url",
	} {
		assert.Contains(t, s.Do("POST", "/scan/v1/resolve", body).Body, want, "%s", body)
	}
	// Without --dev there is no demo.
	s = servertest.Start(t, servertest.Options{Guarded: true})
	assert.Contains(t, s.Admin("GET", "/accounts", "").Body, `"accounts":[]`, "accounts of a fresh server")
}

// A seed with a fault leaves nothing behind: neither its settings nor its accounts.
func TestSeed_RejectedRollsBack(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	bad := "accounts:\n  - {appid: left, kind: mini_program, secret: s}\nsettings: {verification: trust, rule_rate_limit: null}\nrules:\n  - {owner: left, prefix: nonsense, path: p}\n"
	_, err := servertest.Try(t, servertest.Options{Data: data, Seed: bad})
	require.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "line 5"),
		"want a refusal that names line 5, got %v", err)
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop})
	a := s.Admin("GET", "/settings", "")
	assert.True(t, !strings.Contains(a.Body, `"rule_rate_limit":null`) || strings.Contains(shop, "rule_rate_limit: null"),
		"the refused seed left its settings: %s", a.Body)
	a = s.Admin("GET", "/accounts", "")
	assert.True(t, !strings.Contains(a.Body, `"left"`), "the refused seed left an account: %s", a.Body)
}

// The demo accounts' secrets are public, so their database serves nobody else.
func TestStart_RejectsDemoDatabaseInProduction(t *testing.T) {
	t.Parallel()
	c := server.Default()
	c.Data, c.Listen, c.Dev = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", true
	start := func() error {
		s, err := server.Start(t.Context(), c, t.Output(), server.TestHooks{})
		if err != nil {
			return err
		}
		return s.Close()
	}
	require.NoError(t, start())
	c.Dev = false
	if err := start(); !errors.Is(err, server.ErrUsage) || !strings.Contains(err.Error(), "demo accounts") {
		t.Errorf("without --dev: %v, want a refusal that names the demo accounts", err)
	}
	c.Dev = true
	assert.NoErrorf(t, start(), "with --dev again")
}

// Without --dev, an AppSecret that can be guessed is rejected; one that is stored already keeps working.
func TestAppSecret_MinLength(t *testing.T) {
	t.Parallel()
	const why = "secret has 15 characters: without --dev it needs at least 16"
	account := func(secret string) string {
		return "accounts:\n  - {appid: far, kind: mini_program}\n  - {appid: near, kind: mini_program, secret: " + secret + "}\n"
	}
	platform := func(secret string) string {
		return "components:\n  - {appid: isv, secret: " + secret + ", message_token: tok, encoding_aes_key: " + platformKey + "}\n"
	}
	for seed, where := range map[string]string{account("fifteen-letters"): "line 3: account near: ",
		platform("fifteen-letters"): "line 2: component isv: "} {
		_, err := servertest.Try(t, servertest.Options{Seed: seed, Guarded: true, Emulator: true})
		assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), where+why), "%v, want %s%s", err, where, why)
	}
	data, seed := filepath.Join(t.TempDir(), "data"), account("fifteen-letters")+platform("stored-platform")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: seed})
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","secret":"short-as-can-be"}`)
	s.Hide("short-as-can-be")
	s.Stop()

	// Another seed with the secrets that are stored.
	seed = account("short-as-can-be") + platform("stored-platform") + "# one line more\n"
	s = servertest.Start(t, servertest.Options{Data: data, Seed: seed, Guarded: true, Emulator: true})
	bring := func(kind, secret, query string) *http.Request {
		return s.Request("POST", "/admin/v1/import/accounts"+query, `{"appid":"`+kind+`","kind":"mini_program","secret":"`+secret+`"}`,
			"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/x-ndjson")
	}
	put := func(path, body string) *http.Request {
		return s.Request("PUT", "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
	}
	works := func(secret string) {
		t.Helper()
		var issued struct {
			Token string `json:"access_token"`
		}
		a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=near&secret="+secret, "")
		a.JSON(t, &issued)
		require.True(t, issued.Token != "", "%s", a.Body)
		s.Hide(issued.Token)
	}
	for _, c := range []struct {
		name, want string
		call       func(secret string) *http.Request
	}{
		{"an account", "account near: " + why, func(secret string) *http.Request {
			return put("/accounts/near", `{"kind":"mini_program","secret":"`+secret+`"}`)
		}},
		{"a new account", "account new: " + why, func(secret string) *http.Request {
			return put("/accounts/new", `{"kind":"mini_program","secret":"`+secret+`"}`)
		}},
		{"a platform", "component isv: " + why, func(secret string) *http.Request {
			return put("/components/isv", `{"secret":"`+secret+
				`"}`)
		}},
		{"an import", "account brought: " + why, func(secret string) *http.Request { return bring("brought", secret, "") }},
		{"an import that only checks", "account dry: " + why,
			func(secret string) *http.Request { return bring("dry", secret, "?dry_run=true") }},
	} {
		a := s.Send(c.call("fifteen-letters"))
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, c.want), "%s: %d %s, want %s", c.name, a.Status, a.Body, c.want)
		works("short-as-can-be")
	}
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","name":"Near","secret":"short-as-can-be"}`)
	s.Admin("PUT", "/components/isv", `{"secret":"stored-platform"}`)
	s.Send(bring("near", "short-as-can-be", "")).WantStatus(t, 200, "an import of the stored secret")
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","name":"Near"}`)
	works("short-as-can-be")
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","secret":"sixteen-letters."}`)
	s.Hide("sixteen-letters.")
	works("sixteen-letters.")
	s.Admin("PUT", "/components/isv", `{"secret":"sixteen-letters."}`)
}
