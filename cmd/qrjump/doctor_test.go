package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 16: the name of each thing that doctor looks at has its Chinese, and each measure its words. The rest of what it says
// TestTranslations_KeysAndArgumentsMatch finds.
func TestDoctor_ChineseTranslations(t *testing.T) {
	named := regexp.MustCompile(`\b(?:Pass|Warn|Fail|FailError)\("(\w+)"|About: "(\w+)"`)
	abouts := 0
	for _, file := range []string{"doctor.go", "../../internal/server/preflight.go"} {
		code, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range named.FindAllStringSubmatch(string(code), -1) {
			abouts++
			name := found[1] + found[2]
			assert.True(t, catalog.Has("about."+name), "%s: %q has no name in the book", file, name)
		}
	}
	require.True(t, abouts >= 40, "only %d things were found", abouts)
	for _, g := range gauges {
		assert.True(t, catalog.Has("about."+g.about) && catalog.Has("doctor."+g.name) && catalog.Has("doctor."+g.name+".next"),
			"%s has no words", g.name)
	}
}

// Numbers stand where Chinese has them, and words within words are said in Chinese.
func TestDoctor_ChinesePlaceholders(t *testing.T) {
	chinese := reader("zh")
	for want, text := range map[string]i18n.Message{
		"共检查 12 项，其中 1 项有问题":   msg("doctor.wrong", 1, msg("count.check", 12)),
		"http://a：没有响应：x":      msg("doctor.of", "http://a", msg("doctor.node.silent", "x")),
		"已知 2 个节点，最落后的差 1 次扫码": msg("doctor.nodes", msg("count.node", 2), msg("count.scan", 1)),
		"请指明目录：--backups DIR；请做一份：qrjump export FILE --passphrase-file FILE": msg("doctor.backup.where.next",
			msg("doctor.backup.next")),
	} {
		assert.Equal(t, chinese.msg(text), want, "chinese.say")
	}
}

// Whoever is sent a report learns no secret of the seed, nor the operator's token, nor one that a failed call carried.
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
	const carried = "secret-of-a-failed-call"
	for _, path := range []string{
		"/cgi-bin/token?grant_type=client_credential&appid=shop&secret=" + carried,
		"/wxa/" + carried + "?access_token=" + carried,
		"/cgi-bin/token?grant_type=client_credential&appid=nobody&secret=first-secret-of-the-seed",
	} {
		s.Do("GET", path, "")
	}
	file := filepath.Join(t.TempDir(), "report.json")
	code, _, errs := command(t.Context(), "doctor", "--server", s.URL, "--admin-token", servertest.AdminToken, "--report", file)
	require.True(t, code == exitDone || code == exitFailed, "exit %d: %s", code, errs)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, wanted := range []string{`"checks": [`, `"rule_rate_limit"`, `4321`, `"errcode": 40125`, `"not_known": []`,
		`"goroutine profile: total `, "net/http.(*Server).Serve", `"slow_statements": [`} {
		assert.True(t, strings.Contains(string(text), wanted), "the report lacks %s:\n%s", wanted, text)
	}
	for _, secret := range []string{"first-secret-of-the-seed", "second-secret-of-the-seed", "third-secret-of-the-seed", "key-of-the-seed1",
		"token-of-the-seed", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE", servertest.AdminToken, carried} {
		assert.True(t, !strings.Contains(string(text), secret), "the report has %s:\n%s", secret, text)
	}
}

// Issue 42, 6 and 8: an order that was agreed to a minute ago and has no codes is a fault, and so is a change that no node can read.
func TestDoctor_StuckOrdersAndUnreadableChanges(t *testing.T) {
	t.Parallel()
	order := func(isv string, ago time.Duration) string {
		return fmt.Sprintf(`{"account":"brand","isv_application_id":%q,"state":"generating","revision":"r",`+
			`"decided_by":"person:bob","decided_at":%q}`,
			isv, time.Now().Add(-ago).Format(time.RFC3339))
	}
	answers := map[string]string{
		"/readyz":                      "ready\nunreadable: 1 committed changes, one of them of batch 5: damaged\n",
		"/admin/v1/orders?making=true": `{"orders":[` + order("fresh", 0) + `,` + order("stuck", 2*time.Minute) + `]}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, answers[r.URL.String()]) }))
	defer s.Close()
	d := serverProbe{s: &session{ctx: t.Context()}, base: s.URL, http: s.Client()}
	v := walk{}
	v.ready(d)
	v.orders(d)
	var wrong []string
	for _, f := range v.List {
		if !f.OK {
			wrong = append(wrong, f.About+": "+reader("en").msg(f.Detail))
		}
	}
	assert.True(t, len(wrong) == 2 && strings.Contains(wrong[0], "lag: unreadable: 1") &&
		strings.Contains(wrong[1], "orders: order stuck of brand"), "doctor reports %q, want the change and the order that is stuck", wrong)
}

// A server that answered, and is gone before it was ready, is waited for no longer.
func TestHealthWait_ServerExited(t *testing.T) {
	var starting *httptest.Server
	starting = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "rules are being read", http.StatusServiceUnavailable)
		starting.Listener.Close()
	}))
	defer starting.Close()
	var out, says bytes.Buffer
	code := run(session{ctx: t.Context(), out: &out, err: &says}, []string{"health", "--server", starting.URL, "--wait", "10m"})
	assert.True(t, code == exitUnreachable && strings.Contains(says.String(), "the server exited before it was ready: no server responds"),
		"it ends with %d: %s%s", code, out.String(), says.String())
}
