package console_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// certifiedProvider is the program in testdata/openid with the packages of its lock file, which npm fetches once.
type certifiedProvider struct {
	Issuer string
	lines  *bufio.Scanner
	in     io.Writer
}

func startCertifiedProvider(t *testing.T, people string) *certifiedProvider {
	t.Helper()
	lock := require.Value(os.ReadFile("testdata/openid/package-lock.json"))(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip("no folder for what npm fetches: ", err)
	}
	sum := sha256.Sum256(lock)
	folder := filepath.Join(cache, "qrjump-tests", "openid-"+hex.EncodeToString(sum[:8]))
	require.NoError(t, os.MkdirAll(folder, 0o755))
	for _, name := range []string{"package.json", "package-lock.json", "provider.mjs"} {
		text, err := os.ReadFile(filepath.Join("testdata/openid", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), text, 0o644)
		}
		require.NoError(t, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", ".package-lock.json")); err != nil {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries", "1")
		npm.Dir = folder
		if output, err := npm.CombinedOutput(); err != nil {
			t.Skipf("the provider cannot be fetched: %v: %.300s", err, output)
		}
	}
	node := exec.CommandContext(t.Context(), "node", "provider.mjs")
	node.Dir, node.Env = folder, append(os.Environ(), "SECRET="+clientSecret, "PEOPLE="+people)
	in := require.Value(node.StdinPipe())(t)
	out := require.Value(node.StdoutPipe())(t)
	require.NoError(t, node.Start())
	t.Cleanup(func() { in.Close(); _ = node.Wait() })
	p := &certifiedProvider{in: in, lines: bufio.NewScanner(out)}
	p.Issuer = p.line(t, "http://")
	return p
}

func (p *certifiedProvider) line(t *testing.T, prefix string) string {
	t.Helper()
	for p.lines.Scan() {
		if strings.HasPrefix(p.lines.Text(), prefix) {
			return p.lines.Text()
		}
	}
	t.Fatalf("the output of the provider ended before a line with %q", prefix)
	return ""
}

// TestOIDC_CertifiedProvider signs in with a browser at a certified provider on another site, whose roles are in the user information,
// returns to the requested page, and signs out. A person who loses the role must get an error and be signed out of all sessions.
func TestOIDC_CertifiedProvider(t *testing.T) {
	testscope.RequireComplete(t, "the same steps are taken at a provider of this package's own")
	people := filepath.Join(t.TempDir(), "people.json")
	setPeople := func(text string) { require.NoError(t, os.WriteFile(people, []byte(text), 0o600)) }
	setPeople(`{"alice": {"roles": ["staff", "qrjump:operator"]}}`)
	p := startCertifiedProvider(t, people)
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Began: time.Now(), Config: func(c *server.Config) {
		c.OIDC = server.OIDC{Issuer: p.Issuer, ClientID: "console", ClientSecret: clientSecret, RolesClaim: "roles"}
	}})
	s.RegisterSecret(clientSecret)
	fmt.Fprintln(p.in, s.AdminURL+"/console/login/callback")
	p.line(t, "ready")
	page := browsertest.Start(t, "~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost")
	click := func(selector string) string {
		return fmt.Sprintf(`(e => !!e && (e.click(), true))(document.querySelector(%q))`, selector)
	}
	require.NoError(t, chromedp.Do(page, chromedp.Navigate(s.AdminURL+"/console/operate")))
	browsertest.Await(t, page, click(`a[href^="/console/login/provider"]`))
	browsertest.Await(t, page, `(f => !!f && (f.login.value = "alice", f.password.value = "any", f.querySelector("[type=submit]").click(), true))(
		location.hostname === "localhost" && [...document.forms].find(f => f.login))`)
	browsertest.Await(t, page, `location.hostname === "localhost" && !document.forms[0]?.login && `+click(`[type=submit]`)) // consent page
	browsertest.Await(t, page, `location.pathname === "/console/operate" && location.hostname === "127.0.0.1"`)
	name := browsertest.Run(t, page, chromedp.Evaluate[string](`document.querySelector('a[href="/console/self"]').textContent`))
	assert.Contains(t, name, "alice", "name of the signed-in person")
	log := s.Admin("GET", "/changes?kind=person&newest=true", "").Body
	assert.True(t, strings.Contains(log, `"key":"alice"`) && strings.Contains(log, `"role":"operator"`), "audit log = %s", log)
	browsertest.Await(t, page, click(`form[action="/console/logout"] button`))
	browsertest.Await(t, page, `!!document.querySelector('a[href*="/session/end?client_id=console"]')`)
	require.NoError(t, chromedp.Do(page, chromedp.Navigate(s.AdminURL+"/console/operate")))
	browsertest.Await(t, page, `location.pathname === "/console/login"`)
	// The session of the provider remains: one click signs in, and the role is read again.
	setPeople(`{"alice": {"roles": ["staff"]}}`)
	browsertest.Await(t, page, click(`a[href^="/console/login/provider"]`))
	browsertest.Await(t, page, `location.pathname === "/console/login/callback" &&
		!!document.querySelector('[role=alert]')?.innerText.includes("staff")`)
	list := s.Admin("GET", "/people", "").Body
	assert.True(t, !strings.Contains(list, "alice"), "people = %s, want alice removed", list)
}
