package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A wrong admin token is never told to wait, so outside --dev no start takes a short one: neither from the flag, which
// the environment and --config fill too, nor from the file in the data folder. The line that refuses it shows none of it.
func TestAdminToken_MinLength(t *testing.T) {
	t.Parallel()
	const nineteen, twenty = "a-token-of-19-chars", "a-token-of-20-chars!"
	for _, c := range []struct {
		name, flag, file string
		dev              bool
		want             string // in the one line that refuses the start; "" = it starts
	}{
		{"flag", nineteen, "", false, "the admin token (--admin-token) has 19 characters: without --dev it needs 20 at least"},
		{"one character", "x", "", false, "(--admin-token) has 1 characters"},
		{"characters, not bytes", strings.Repeat("茶", 19), "", false, "(--admin-token) has 19 characters"},
		{"file", "", nineteen + "\n", false, "admin-token) has 19 characters: without --dev it needs 20 at least"},
		{"the flag stands above the file", nineteen, twenty, false, "(--admin-token) has 19 characters"},
		{"enough by flag", twenty, "", false, ""},
		{"enough by file", "", twenty + "\n", false, ""},
		{"the file is not read", twenty, nineteen, false, ""},
		{"--dev by flag", nineteen, "", true, ""},
		{"--dev by file", "", nineteen, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := servertest.Try(t, servertest.Options{Guarded: !c.dev, Config: func(config *server.Config) {
				if config.AdminToken = c.flag; c.file == "" {
					return
				}
				require.NoError(t, os.WriteFile(filepath.Join(config.Data, "admin-token"), []byte(c.file), 0o600))
			}})
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v, want a start", err)
			case c.want != "" && (!errors.Is(err, server.ErrUsage) || !strings.Contains(err.Error(), c.want) ||
				strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), nineteen)):
				t.Errorf("%v, want one line with %q", err, c.want)
			}
		})
	}
}

// A new AppSecret ends the tokens that were got with the old one, and one call
// ends all of an account. Issue 12, 10.
func TestAccessToken_Revocation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: everything})
	code := func(token string) int {
		t.Helper()
		return s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t)
	}
	stable := func(secret string) string {
		t.Helper()
		var issued struct {
			Token string `json:"access_token"`
		}
		s.Do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"shop","secret":"`+secret+`"}`).JSON(t, &issued)
		s.Hide(issued.Token)
		return issued.Token
	}
	platform := s.ComponentToken("isv")
	first, plain, kept := s.NewToken("shop"), s.NewToken("shop"), stable("the-secret-of-shop")
	authorizer, _ := s.AuthorizerToken(platform, "isv", "shop")
	other := s.Token("svc")
	put := func(body string) {
		s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","versions":["release"],`+body+`}`)
	}
	check := func(when string, want map[string]int) {
		t.Helper()
		for name, token := range map[string]string{"first": first, "plain": plain, "stable": kept, "authorizer": authorizer} {
			assert.Equal(t, code(token), want[name], "%s: the %s token", when, name)
		}
		assert.Equal(t, s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+other, "{}").Code(t), 0,
			"%s: another account's token", when)
	}
	check("before", nil)
	put(`"name":"New name"`)
	check("without a secret", nil)
	put(`"secret":"the-secret-of-shop"`)
	check("with the same secret", nil)
	put(`"secret":"the-secret-of-shop-2"`)
	s.Hide("the-secret-of-shop-2")
	check("with a new secret", map[string]int{"first": 40001, "plain": 40001, "stable": 40001})
	if again := stable("the-secret-of-shop-2"); again == kept || code(again) != 0 {
		t.Errorf("the stable token of the new secret: %d, the same %v", code(again), again == kept)
	}
	kept = stable("the-secret-of-shop-2")
	s.Send(s.Request("POST", "/admin/v1/import/accounts?dry_run=true",
		`{"appid":"shop","kind":"mini_program","secret":"the-secret-of-shop-3"}`, "Content-Type: application/x-ndjson"))
	check("an import that only checks", map[string]int{"first": 40001, "plain": 40001})
	s.Send(s.Request("POST", "/admin/v1/import/accounts",
		`{"appid":"shop","kind":"mini_program","versions":["release"],"secret":"the-secret-of-shop-3"}`,
		"Content-Type: application/x-ndjson"))
	s.Hide("the-secret-of-shop-3")
	check("a new secret by an import", map[string]int{"first": 40001, "plain": 40001, "stable": 40001})
	kept = stable("the-secret-of-shop-3")
	s.Admin("DELETE", "/accounts/shop/tokens", "")
	check("all were ended", map[string]int{"first": 40001, "plain": 40001, "stable": 40001, "authorizer": 40001})
	kept = stable("the-secret-of-shop-3")
	check("a new one", map[string]int{"first": 40001, "plain": 40001, "authorizer": 40001})
	s.Do("DELETE", "/admin/v1/accounts/nobody/tokens", "", "Authorization: Bearer "+servertest.AdminToken).WantStatus(t, 404,
		"nobody's tokens")

	preAuth := func() int {
		t.Helper()
		return s.Component(platform, "api_create_preauthcode", `{"component_appid":"isv"}`).Code(t)
	}
	s.Admin("PUT", "/components/isv", `{"redirect_hosts":["isv.example"]}`)
	assert.Equal(t, preAuth(), 0, "a platform's token after a change without a secret")
	s.Admin("PUT", "/components/isv", `{"redirect_hosts":["isv.example"],"secret":"the-secret-of-isv-2"}`)
	s.Hide("the-secret-of-isv-2")
	assert.Equal(t, preAuth(), 40001, "a platform's token after a new secret")
}
