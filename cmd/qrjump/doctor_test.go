package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestDoctor_ChineseTranslations verifies that each check and each gauge of doctor has its texts in the catalog.
// TestTranslations_KeysAndArgumentsMatch covers the other texts.
func TestDoctor_ChineseTranslations(t *testing.T) {
	checkName := regexp.MustCompile(`\b(?:Pass|Warn|Fail|FailError)\("(\w+)"|About: "(\w+)"`)
	checks := 0
	for _, file := range []string{"doctor.go", "../../internal/server/preflight.go"} {
		code := require.Value(os.ReadFile(file))(t)
		for _, match := range checkName.FindAllStringSubmatch(string(code), -1) {
			checks++
			name := match[1] + match[2]
			assert.True(t, catalog.Has("about."+name), "%s: the catalog lacks about.%s", file, name)
		}
	}
	require.True(t, checks >= 40, "%d checks in the source, want at least 40", checks)
	for _, g := range gauges {
		assert.True(t, catalog.Has("about."+g.about) && catalog.Has("doctor."+g.name) && catalog.Has("doctor."+g.name+".next"),
			"the catalog lacks about.%s, doctor.%s or doctor.%s.next", g.about, g.name, g.name)
	}
}

// TestDoctor_ChinesePlaceholders verifies the positions of numbers in Chinese messages and the translation of nested messages.
func TestDoctor_ChinesePlaceholders(t *testing.T) {
	chinese := reader("zh")
	for want, text := range map[string]i18n.Message{
		"共检查 12 项，其中 1 项有问题":   msg("doctor.wrong", 1, msg("count.check", 12)),
		"http://a：没有响应：x":      msg("doctor.of", "http://a", msg("doctor.node.silent", "x")),
		"已知 2 个节点，最落后的差 1 次扫码": msg("doctor.nodes", msg("count.node", 2), msg("count.scan", 1)),
		"请指明目录：--backups DIR；请做一份：qrjump export FILE --passphrase-file FILE": msg("doctor.backup.where.next",
			msg("doctor.backup.next")),
	} {
		assert.Equal(t, chinese.msg(text), want, "chinese.msg")
	}
}

// TestDoctorReport_NoSecrets verifies that a report contains no secret of the seed, no operator's token and no secret of a failed call.
func TestDoctorReport_NoSecrets(t *testing.T) {
	t.Parallel()
	const seed = `accounts:
  - {appid: shop, kind: mini_program, secret: first-secret-of-the-seed, certified: true, versions: [release]}
  - {appid: brand, kind: service_account, secret: second-secret-of-the-seed, certified: true, features: [marketcode],
     marketcode_key: key-of-the-seed1, linked: [shop]}
components:
  - {appid: isv, secret: third-secret-of-the-seed, message_token: token-of-the-seed,
     encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
settings: {verification: trust, rule_rate_limit: 4321}
`
	s := servertest.Start(t, servertest.Options{Seed: seed})
	const failedSecret = "secret-of-a-failed-call"
	for _, path := range []string{
		"/cgi-bin/token?grant_type=client_credential&appid=shop&secret=" + failedSecret,
		"/wxa/" + failedSecret + "?access_token=" + failedSecret,
		"/cgi-bin/token?grant_type=client_credential&appid=nobody&secret=first-secret-of-the-seed",
	} {
		s.Do("GET", path, "")
	}
	file := filepath.Join(t.TempDir(), "report.json")
	code, _, errs := command(t.Context(), "doctor", "--server", s.URL, "--admin-token", servertest.AdminToken, "--report", file)
	require.True(t, code == exitDone || code == exitFailed, "exit %d: %s", code, errs)
	text := require.Value(os.ReadFile(file))(t)
	for _, want := range []string{`"checks": [`, `"rule_rate_limit"`, `4321`, `"errcode": 40125`, `"not_known": []`,
		`"goroutine profile: total `, "net/http.(*Server).Serve", `"slow_statements": [`} {
		assert.Contains(t, string(text), want, "the report")
	}
	for _, secret := range []string{"first-secret-of-the-seed", "second-secret-of-the-seed", "third-secret-of-the-seed", "key-of-the-seed1",
		"token-of-the-seed", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE", servertest.AdminToken, failedSecret} {
		assert.True(t, !strings.Contains(string(text), secret), "the report contains the secret %s:\n%s", secret, text)
	}
}

// TestDoctor_StuckOrdersAndUnreadableChanges verifies that doctor reports an order without codes two minutes after its approval, and a
// change that no node can read. It does not report an order that was approved now.
func TestDoctor_StuckOrdersAndUnreadableChanges(t *testing.T) {
	t.Parallel()
	order := func(isv string, ago time.Duration) string {
		return fmt.Sprintf(`{"account":"brand","isv_application_id":%q,"state":"generating","revision":"r",`+
			`"decided_by":"person:bob","decided_at":%q}`,
			isv, time.Now().Add(-ago).Format(time.RFC3339))
	}
	responses := map[string]string{
		"/readyz":                      "ready\nunreadable: 1 committed changes, one of them of batch 5: damaged\n",
		"/admin/v1/orders?making=true": `{"orders":[` + order("fresh", 0) + `,` + order("stuck", 2*time.Minute) + `]}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, responses[r.URL.String()]) }))
	defer s.Close()
	d := serverProbe{s: &session{ctx: t.Context()}, base: s.URL, http: s.Client()}
	v := walk{}
	v.ready(d)
	v.orders(d)
	var failures []string
	for _, f := range v.List {
		if !f.OK {
			failures = append(failures, f.About+": "+reader("en").msg(f.Detail))
		}
	}
	assert.True(t, len(failures) == 2 && strings.Contains(failures[0], "lag: unreadable: 1") &&
		strings.Contains(failures[1], "orders: order stuck of brand"), "doctor reports %q, want the change and the stuck order", failures)
}

func TestReport_NextStep(t *testing.T) {
	expired := &client.Unreachable{URL: "https://127.0.0.1:1", Err: x509.CertificateInvalidError{Reason: x509.Expired}}
	assert.Contains(t, report(expired)[0], "renew the certificate", "the report of an expired certificate")
	denied := fmt.Errorf("reading the master key: %w", &fs.PathError{Op: "open", Path: "master.key", Err: fs.ErrPermission})
	assert.Contains(t, report(denied)[0], "(chown)", "the report of a file of another user")
}

// TestHealthWait_ServerExited verifies that health --wait stops waiting when a server that responded exits before it is ready.
func TestHealthWait_ServerExited(t *testing.T) {
	var starting *httptest.Server
	starting = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "rules are being read", http.StatusServiceUnavailable)
		starting.Listener.Close()
	}))
	defer starting.Close()
	code, out, errs := command(t.Context(), "health", "--server", starting.URL, "--wait", "10m")
	assert.True(t, code == exitUnreachable && strings.Contains(errs, "the server exited before it was ready: no server responds"),
		"health --wait: exit %d, want %d: %s%s", code, exitUnreachable, out, errs)
}
