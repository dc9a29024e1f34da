package oidc

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

func TestOIDC_RolesClaim(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/roles_claims.txt", 6) {
		t.Run(c[0], func(t *testing.T) {
			var claims map[string]any
			require.NoError(t, json.Unmarshal([]byte(c[2]), &claims))
			role, accounts, err := (&Provider{RolesClaim: c[1]}).role(claims)
			denial, _ := errors.AsType[*Denial](err)
			errOK := (err != nil) == (c[5] != "") && (denial == nil || string(denial.Reason) == c[5])
			assert.True(t, string(role) == c[3] && slices.Equal(accounts, testtable.List(c[4])) && errOK,
				"role(%s) = %q, %q, %v, want %q, %q, %q", c[2], role, accounts, err, c[3], c[4], c[5])
		})
	}
}

// TestOIDC_ProviderErrorTruncated verifies that the error for an unexpected response is one short line, so that it cannot fill the log.
func TestOIDC_ProviderErrorTruncated(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, strings.Repeat("<p>not\nours</p>", 10_000))
	}))
	defer proxy.Close()
	_, _, err := (&Provider{Issuer: proxy.URL, Now: time.Now}).Begin(t.Context(), "", "")
	assert.True(t, errors.Is(err, ErrDown) && len(err.Error()) <= 300 && !strings.Contains(err.Error(), "\n"),
		"Begin = %.300q of %d bytes, want ErrDown on one line of at most 300", err, len(err.Error()))
}

func TestOIDC_IssuerRequiresTLS(t *testing.T) {
	for text, want := range map[string]bool{"https://login.example": true, "https://login.example/realms/a": true,
		"http://127.0.0.1:9000": true, "http://localhost:9000/": true, "http://[::1]:1": true, "http://login.example": false,
		"login.example": false, "https://u:p@login.example": false, "https://login.example?a=b": false, "https://login.example#a": false,
		"ftp://localhost": false, "": false, "http://127.0.0.1.evil.example": false} {
		assert.Equal(t, CheckIssuer(text) == nil, want, "CheckIssuer(%q) succeeds", text)
	}
}
