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
			var all map[string]any
			require.NoError(t, json.Unmarshal([]byte(c[2]), &all))
			role, accounts, err := (&Provider{RolesClaim: c[1]}).role(all)
			refusal, _ := errors.AsType[*Denial](err)
			refused := (err != nil) != (c[5] != "") || refusal != nil && string(refusal.Reason) != c[5]
			assert.True(t, string(role) == c[3] && slices.Equal(accounts, testtable.List(c[4])) && !refused, "%q for %q, %v", role,
				accounts, err)
		})
	}
}

// What somebody else answers in the provider's place does not fill the log.
func TestOIDC_ProviderErrorTruncated(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, strings.Repeat("<p>not\nours</p>", 10_000))
	}))
	defer other.Close()
	_, _, err := (&Provider{Issuer: other.URL, Now: time.Now}).Begin(t.Context(), "", "")
	assert.True(t, errors.Is(err, ErrDown) && len(err.Error()) <= 300 && !strings.Contains(err.Error(), "\n"),
		"%.300q of %d bytes", err, len(err.Error()))
}

func TestOIDC_IssuerRequiresTLS(t *testing.T) {
	for text, good := range map[string]bool{"https://login.example": true, "https://login.example/realms/a": true,
		"http://127.0.0.1:9000": true, "http://localhost:9000/": true, "http://[::1]:1": true, "http://login.example": false,
		"login.example": false, "https://u:p@login.example": false, "https://login.example?a=b": false, "https://login.example#a": false,
		"ftp://localhost": false, "": false, "http://127.0.0.1.evil.example": false} {
		assert.Equal(t, CheckIssuer(text) == nil, good, "%q", text)
	}
}
