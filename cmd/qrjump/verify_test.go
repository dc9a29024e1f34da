package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 16, 5: a verification file is walked as the platform does it, and every step says what is wrong and what to do.
func TestVerify_EachStepFault(t *testing.T) {
	environment(t, nil)
	t.Setenv("QRJUMP_CONTEXTS", filepath.Join(t.TempDir(), "none.yaml"))
	var asked atomic.Int64
	plainType := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/a/F.txt", func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); plainType(w, "content\n") })
	mux.HandleFunc("/untyped/F.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "content")
	})
	mux.HandleFunc("/other/F.txt", func(w http.ResponseWriter, _ *http.Request) { plainType(w, "something else") })
	mux.HandleFunc("/long/F.txt", func(w http.ResponseWriter, _ *http.Request) { plainType(w, strings.Repeat("<html>", 100)) })
	mux.Handle("/moved/F.txt", http.RedirectHandler("https://elsewhere.example/F.txt", http.StatusFound))
	mux.HandleFunc("/closed/F.txt", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	secure := httptest.NewTLSServer(mux)
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, text, 0o600))

	const private = " --allow-private"
	for name, test := range map[string]struct {
		words string
		exit  int
		out   string // of every line in order
		errs  string
	}{
		"the file": {web.URL + "/a/F.txt --content content" + private, 0,
			`(?s)ok  address .*\n\?   public  +port \d+: .*the platform does not go there\n` +
				`ok  connect .*\nok  TLS  +none.*\nok  redirect none\nok  status  +200\nok  type  +text/plain\nok  size  +8 bytes\n` +
				`ok  content  as it must be\nthe file is in place\n$`, ``},
		"a prefix, and the name of the file": {web.URL + "/a/b --name F.txt --content content" + private, 0,
			`/a/F\.txt\n(?s).*the file is in place\n$`, ``},
		"for programs": {web.URL + "/a/F.txt --output json --content content" + private, 0, `(?s)"ok": true.*"action": "status"`, ``},
		"no type":      {web.URL + "/untyped/F.txt --content content" + private, 0, `(?m)^\?   type  +none\n +send Content-Type`, ``},
		"something else": {web.URL + "/other/F.txt --content content" + private, 1, `no  content `,
			`want exactly "content": write the file anew`},
		"a page":     {web.URL + "/long/F.txt --content content" + private, 1, `no  size `, `the file holds one short line`},
		"a redirect": {web.URL + "/moved/F.txt --content content" + private, 1, `no  redirect status 302`, `at this very address`},
		"nothing there": {web.URL + "/none/F.txt --content content" + private, 1, `no  status  +404, want 200`,
			`put the file into the folder`},
		"no entry": {web.URL + "/closed/F.txt --content content" + private, 1, `no  status  +403`, `let strangers read`},
		"nobody listens": {"http://127.0.0.1:1/F.txt --content content" + private, 1, `no  connect `,
			`start the web server of 127\.0\.0\.1, `},
		"a strange issuer":  {secure.URL + "/a/F.txt --content content" + private, 1, `no  TLS `, `--host-ca-file$`},
		"a known issuer":    {secure.URL + "/a/F.txt --content content --host-ca-file " + ca + private, 0, `ok  TLS  +TLS 1\.3`, ``},
		"no such host":      {"http://nowhere.invalid/F.txt --content content", 1, `no  DNS `, `add a DNS record for nowhere\.invalid`},
		"a port":            {"http://shop.example:8080/F.txt --content content", 1, `no  address `, `--allow-private`},
		"nothing to expect": {web.URL + "/a/F.txt", 2, `^$`, `missing expected content`},
		"no web address":    {"ftp://shop.example/F.txt --content content", 2, `^$`, `expected http:// or https://`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(session{ctx: t.Context(), in: strings.NewReader(""), out: &out, err: &errs},
				append([]string{"verification", "check"}, strings.Fields(test.words)...))
			assert.True(t, code == test.exit && regexp.MustCompile(test.out).MatchString(out.String()) &&
				regexp.MustCompile(test.errs).MatchString(strings.TrimSpace(errs.String())) && (code == 0) == (errs.Len() == 0),
				"exit %d, want %d, and %s; %s\n%s%s", code, test.exit, test.out, test.errs, &out, &errs)
		})
	}

	// Nothing private is contacted unasked.
	before := asked.Load()
	var out, errs bytes.Buffer
	for _, address := range []string{web.URL, "http://127.0.0.1", "http://localhost"} {
		words := []string{"verification", "check", address + "/a/F.txt", "--content", "content"}
		code := run(session{ctx: t.Context(), out: &out, err: &errs}, words)
		assert.True(t, code == 1, "%s: exit %d, want 1\n%s", address, code, &out)
	}
	assert.Equal(t, asked.Load(), before, "a private address was contacted")
}
