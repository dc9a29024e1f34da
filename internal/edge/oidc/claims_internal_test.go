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

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestOIDC_RolesClaim(t *testing.T) {
	for name, c := range map[string]struct {
		claim, token string
		role         adminroute.Role
		accounts     []string
		why          DenyReason
	}{
		"a list":                              {"roles", `{"roles":["staff","operator"]}`, "operator", nil, ""},
		"one text":                            {"roles", `{"roles":"staff,operator"}`, "operator", nil, ""},
		"the names of an object":              {"urn:roles", `{"urn:roles":{"viewer":{"org":"x"}}}`, "viewer", nil, ""},
		"a name that is false, or nothing":    {"g", `{"g":{"admin":false,"operator":null,"viewer":true}}`, "viewer", nil, ""},
		"a path":                              {"access.q.roles", `{"access":{"q":{"roles":["rules-editor"]}}}`, "rules-editor", nil, ""},
		"a name with dots":                    {"https://x.example/roles", `{"https://x.example/roles":["viewer"]}`, "viewer", nil, ""},
		"the role that covers the others":     {"g", `{"g":["viewer","marketer","operator"]}`, "operator", nil, ""},
		"AppIDs":                              {"g", `{"g":["rules-editor:b","rules-editor:a","rules-editor:b","viewer"]}`, "rules-editor", []string{"a", "b"}, ""},
		"all AppIDs beside one":               {"g", `{"g":["rules-editor:a","rules-editor"]}`, "rules-editor", nil, ""},
		"those of others do not count":        {"g", `{"g":["admin","qrjump:viewer"]}`, "viewer", nil, ""},
		"an AppID among those of others":      {"g", `{"g":["operator","qrjump:rules-editor:wx1"]}`, "rules-editor", []string{"wx1"}, ""},
		"no claim":                            {"g", `{}`, "", nil, Absent},
		"an empty list":                       {"g", `{"g":[]}`, "", nil, NoRole},
		"no role of ours":                     {"g", `{"g":["staff","Admin","superadmin"]}`, "", nil, NoRole},
		"a limit without an AppID is no role": {"g", `{"g":["operator:"]}`, "", nil, NoRole},
		"numbers are no roles":                {"g", `{"g":[1,null,{"admin":true}]}`, "", nil, NoRole},
		"neither covers the other":            {"g", `{"g":["rules-editor","marketer"]}`, "", nil, Two},
		"one that covers both":                {"g", `{"g":["rules-editor","marketer","operator"]}`, "operator", nil, ""},
		"an admin of one AppID":               {"g", `{"g":["admin:a"]}`, "", nil, Limited},
	} {
		t.Run(name, func(t *testing.T) {
			var all map[string]any
			require.NoError(t, json.Unmarshal([]byte(c.token), &all))
			role, accounts, err := (&Provider{RolesClaim: c.claim}).role(all)
			refusal, _ := errors.AsType[*Denial](err)
			refused := (err != nil) != (c.why != "") || refusal != nil && refusal.Reason != c.why
			assert.True(t, role == c.role && slices.Equal(accounts, c.accounts) && !refused, "%q for %q, %v", role, accounts, err)
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
