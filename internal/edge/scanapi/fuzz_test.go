package scanapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// shop is a set of accounts that contains only shop.
type shop struct{}

func (shop) Account(appid string) (accounts.Account, bool) {
	return accounts.Account{AppID: "shop", Kind: accounts.MiniProgram, JumpOpen: true, Versions: released}, appid == "shop"
}

var released = []accounts.Version{accounts.Release}

func (shop) Linked(string, string) bool { return false }

// newTestAPI returns an API with one rule of shop.
func newTestAPI(t testing.TB) *API {
	index := index.New()
	p := require.Value(rules.ParsePrefix("https://shop.example/t/", rules.Ordinary, false))(t)
	index.Set(rules.Rule{ID: 1, Kind: rules.Ordinary, Owner: "shop", Target: "shop", Prefix: p, Path: "p", OpenVersion: 3, Published: true})
	return &API{Resolver: scan.Resolver{Finder: index, Accounts: shop{}}, Now: time.Now, Random: rand.Reader, BodyTimeout: time.Minute,
		Log:  slog.New(slog.DiscardHandler),
		Near: func(context.Context, rules.Link) ([]rules.Rule, error) { return nil, nil }}
}

var requests = []string{`{"text":"https://shop.example/t/7"}`, `{"text":5}`, `[]`, ``,
	`{"text":"a","source":"album","at":"2026-01-01T00:00:00Z"}`, `{"text":"\ud800"}`,
	"{\"text\":\"\xff\"}", `{"text":"x","ip":"zz"}`,
	`{"text":"https://a.example/","assume":[{"owner":"shop","prefix":"https://a.example/","open_version":7}]}`, `{"text":"a"}{}`}

// FuzzResolveBody verifies that any body yields a decision or a problem with a detail that shows nothing of Go.
func FuzzResolveBody(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r))
	}
	a := newTestAPI(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := a.answer(t.Context(), accounts.DefaultNamespace, body, nil)
		if err != nil {
			checkProblem(t, body, err)
			return
		}
		var d Decision
		err = json.Unmarshal(answer, &d)
		require.True(t, err == nil && d.Action != "" && len(d.ScanID) == 32, "response to %q = %s, %v, want a decision", body, answer, err)
	})
}

func checkProblem(t *testing.T, body []byte, err error) {
	p, ok := errors.AsType[problem](err)
	require.True(t, ok && p.status/100 == 4 && p.detail != "" && !strings.Contains(p.detail, "Go "),
		"response to %q = %v, want a 4xx problem with a detail", body, err)
}

// FuzzExplainBody verifies the same for explain.
func FuzzExplainBody(f *testing.F) {
	for _, r := range requests {
		f.Add([]byte(r))
	}
	a := newTestAPI(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := a.newExplanation(httptest.NewRecorder(), httptest.NewRequest("POST", "/scan/v1/explain", bytes.NewReader(body)),
			accounts.DefaultNamespace)
		if err != nil {
			checkProblem(t, body, err)
			return
		}
		require.True(t, e.Action != "", "explanation of %q = %+v, want an action", body, e)
	})
}

// TestExplain_StoreUnavailable verifies that explain returns 503 while the store is unavailable.
func TestExplain_StoreUnavailable(t *testing.T) {
	t.Parallel()
	a := newTestAPI(t)
	for _, cause := range []error{errors.New("reading rules: unexpected EOF"), context.DeadlineExceeded,
		&errcode.Unavailable{Condition: "does not answer"}} {
		a.Near = func(context.Context, rules.Link) ([]rules.Rule, error) { return nil, cause }
		w := httptest.NewRecorder()
		a.explain(w, httptest.NewRequest("POST", "/scan/v1/explain", strings.NewReader(requests[0])), accounts.DefaultNamespace)
		assert.True(t, w.Code == 503 && strings.Contains(w.Body.String(), "try again"),
			"explain with %v = %d %s, want 503", cause, w.Code, w.Body)
	}
}

// FuzzStream verifies that any NDJSON stream gets one JSON response for each line that is not empty.
func FuzzStream(f *testing.F) {
	f.Add([]byte(strings.Join(requests, "\n")))
	f.Add([]byte("\n\r\n \n"))
	f.Add([]byte(strings.Repeat("x", MaxRequest+3) + "\n{}"))
	a := newTestAPI(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", "/scan/v1/resolve", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/x-ndjson")
		w := httptest.NewRecorder()
		a.resolve(w, r, accounts.DefaultNamespace)
		want := 0
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			if len(bytes.TrimSpace(line)) > 0 {
				want++
			}
		}
		answers := bytes.Count(w.Body.Bytes(), []byte("\n"))
		require.True(t, answers == want, "%d responses, want %d", answers, want)
		for line := range bytes.Lines(w.Body.Bytes()) {
			require.True(t, json.Valid(line), "response %q, want JSON", line)
		}
	})
}
