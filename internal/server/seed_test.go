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

// TestSeed_AppliedOnce verifies that a restart does not apply an unchanged seed again, so that later changes and deletions remain.
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
		assert.True(t, strings.Count(a.Body, `"prefix"`) == wantRules, "rules = %s, want %d", a.Body, wantRules)
		assert.Contains(t, s.Admin("GET", "/accounts/shop", "").Body, `"name":"`+wantName+`"`, "the account shop")
		assert.Contains(t, s.Admin("GET", "/settings", "").Body, `"rule_limit":5`, "a setting that the seed does not name")
		s.Token("shop") // the secret of the seed remains valid
		s.Stop()
	}
	restart(shop, 0, "Renamed")
	// A changed seed is applied again and overwrites existing values.
	restart(shop+"# changed\n", 1, "")
	restart(shop, 1, "")
}

func TestSeed_RejectsInvalid(t *testing.T) {
	t.Parallel()
	const account = "accounts:\n  - {appid: a, kind: mini_program}\n"
	for _, c := range testtable.Rows(t, "testdata/invalid_seeds.txt", 3) {
		t.Run(c[0], func(t *testing.T) {
			t.Parallel()
			_, err := servertest.TryStart(t, servertest.Options{Seed: c[1]})
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error()+":", "seed.yaml, "+c[2]+":") &&
				!strings.Contains(err.Error(), "\n"), "got %v, want one line with %q", err, c[2])
		})
	}
	for _, valid := range []string{"", "# nothing\n", "accounts: []\nrules:\nsettings:\n", account} {
		servertest.Start(t, servertest.Options{Seed: valid + "\n"}).Stop()
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
	// Without --dev there are no demo accounts.
	s = servertest.Start(t, servertest.Options{Guarded: true})
	assert.Contains(t, s.Admin("GET", "/accounts", "").Body, `"accounts":[]`, "accounts of a fresh server")
}

// TestSeed_RejectedRollsBack verifies that an invalid seed changes neither settings nor accounts.
func TestSeed_RejectedRollsBack(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	bad := "accounts:\n  - {appid: left, kind: mini_program, secret: s}\nsettings: {verification: trust, rule_rate_limit: null}\nrules:\n  - {owner: left, prefix: nonsense, path: p}\n"
	_, err := servertest.TryStart(t, servertest.Options{Data: data, Seed: bad})
	require.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "line 5"),
		"start = %v, want an error with line 5", err)
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop})
	a := s.Admin("GET", "/settings", "")
	assert.True(t, !strings.Contains(a.Body, `"rule_rate_limit":null`) || strings.Contains(shop, "rule_rate_limit: null"),
		"settings after the rejected seed: %s, want the defaults", a.Body)
	a = s.Admin("GET", "/accounts", "")
	assert.True(t, !strings.Contains(a.Body, `"left"`), "accounts after the rejected seed: %s, want no account left", a.Body)
}

// TestStart_RejectsDemoDatabaseInProduction verifies that a database with demo accounts, whose secrets are public, starts only with --dev.
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
		t.Errorf("without --dev: %v, want an error that names the demo accounts", err)
	}
	c.Dev = true
	assert.NoErrorf(t, start(), "with --dev again")
}

// TestAppSecret_MinLength verifies that without --dev a short AppSecret is rejected, but one that is already stored remains valid.
func TestAppSecret_MinLength(t *testing.T) {
	t.Parallel()
	const reason = "secret has 15 characters: without --dev it needs at least 16"
	account := func(secret string) string {
		return "accounts:\n  - {appid: far, kind: mini_program}\n  - {appid: near, kind: mini_program, secret: " + secret + "}\n"
	}
	platform := func(secret string) string {
		return "components:\n  - {appid: isv, secret: " + secret + ", message_token: tok, encoding_aes_key: " + platformKey + "}\n"
	}
	for seed, location := range map[string]string{account("fifteen-letters"): "line 3: account near: ",
		platform("fifteen-letters"): "line 2: component isv: "} {
		_, err := servertest.TryStart(t, servertest.Options{Seed: seed, Guarded: true, Emulator: true})
		assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), location+reason), "%v, want %s%s", err,
			location, reason)
	}
	data, seed := filepath.Join(t.TempDir(), "data"), account("fifteen-letters")+platform("stored-platform")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: seed})
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","secret":"short-as-can-be"}`)
	s.RegisterSecret("short-as-can-be")
	s.Stop()

	// A changed seed with the stored secrets.
	seed = account("short-as-can-be") + platform("stored-platform") + "# one line more\n"
	s = servertest.Start(t, servertest.Options{Data: data, Seed: seed, Guarded: true, Emulator: true})
	importAccount := func(kind, secret, query string) *http.Request {
		return s.Request("POST", "/admin/v1/import/accounts"+query, `{"appid":"`+kind+`","kind":"mini_program","secret":"`+secret+`"}`,
			"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/x-ndjson")
	}
	put := func(path, body string) *http.Request {
		return s.Request("PUT", "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
	}
	wantAccepted := func(secret string) {
		t.Helper()
		var issued struct {
			Token string `json:"access_token"`
		}
		a := s.Do("GET", "/cgi-bin/token?grant_type=client_credential&appid=near&secret="+secret, "")
		a.JSON(t, &issued)
		require.True(t, issued.Token != "", "%s", a.Body)
		s.RegisterSecret(issued.Token)
	}
	for _, c := range []struct {
		name, want string
		call       func(secret string) *http.Request
	}{
		{"an account", "account near: " + reason, func(secret string) *http.Request {
			return put("/accounts/near", `{"kind":"mini_program","secret":"`+secret+`"}`)
		}},
		{"a new account", "account new: " + reason, func(secret string) *http.Request {
			return put("/accounts/new", `{"kind":"mini_program","secret":"`+secret+`"}`)
		}},
		{"a platform", "component isv: " + reason, func(secret string) *http.Request {
			return put("/components/isv", `{"secret":"`+secret+
				`"}`)
		}},
		{"an import", "account brought: " + reason, func(secret string) *http.Request { return importAccount("brought", secret, "") }},
		{"an import that only checks", "account dry: " + reason,
			func(secret string) *http.Request { return importAccount("dry", secret, "?dry_run=true") }},
	} {
		a := s.Send(c.call("fifteen-letters"))
		assert.True(t, a.Status == 422 && strings.Contains(a.Body, c.want), "%s: %d %s, want %s", c.name, a.Status, a.Body, c.want)
		wantAccepted("short-as-can-be")
	}
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","name":"Near","secret":"short-as-can-be"}`)
	s.Admin("PUT", "/components/isv", `{"secret":"stored-platform"}`)
	s.Send(importAccount("near", "short-as-can-be", "")).WantStatus(t, 200, "an import of the stored secret")
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","name":"Near"}`)
	wantAccepted("short-as-can-be")
	s.Admin("PUT", "/accounts/near", `{"kind":"mini_program","secret":"sixteen-letters."}`)
	s.RegisterSecret("sixteen-letters.")
	wantAccepted("sixteen-letters.")
	s.Admin("PUT", "/components/isv", `{"secret":"sixteen-letters."}`)
}
