package main

import (
	"encoding/pem"
	"fmt"
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
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// TestVerify_EachStepFault verifies that verification check checks a file in the same steps as the platform, and that each step reports
// its error and the next step of the user. It contacts private addresses only if they are allowed.
func TestVerify_EachStepFault(t *testing.T) {
	setEnvironment(t, nil)
	t.Setenv("QRJUMP_CONTEXTS", filepath.Join(t.TempDir(), "none.yaml"))
	var requests atomic.Int64
	plainType := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/a/F.txt", func(w http.ResponseWriter, _ *http.Request) { requests.Add(1); plainType(w, "content\n") })
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

	fill := strings.NewReplacer("WEB", web.URL, "SECURE", secure.URL, "AUTHORITY", ca)
	for _, c := range testtable.Rows(t, "testdata/verifications.txt", 5) {
		t.Run(c[0], func(t *testing.T) {
			code, out, errs := command(t.Context(), append([]string{"verification", "check"}, strings.Fields(fill.Replace(c[1]))...)...)
			assert.True(t, fmt.Sprint(code) == c[2] && regexp.MustCompile(c[3]).MatchString(out) &&
				regexp.MustCompile(c[4]).MatchString(strings.TrimSpace(errs)) && (code == 0) == (errs == ""),
				"exit %d, want %q\n%s%s", code, c[2:], out, errs)
		})
	}

	// Without a flag, the command does not contact private addresses.
	before := requests.Load()
	for _, address := range []string{web.URL, "http://127.0.0.1", "http://localhost"} {
		code, out, _ := command(t.Context(), "verification", "check", address+"/a/F.txt", "--content", "content")
		assert.True(t, code == 1, "verification check of %s: exit %d, want 1\n%s", address, code, out)
	}
	assert.Equal(t, requests.Load(), before, "requests to a private address")
}
