package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

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
