package vocabulary_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/vocabulary"
)

// exceptions are declared names that are function words and that stay, by the reason.
var exceptions = map[string][]string{
	"srv.As(account) reads as a sentence in a test that makes calls for an account": {"qrjumptest/client.go As"},
}

// concepts are standard terms for implemented features. A search for each must find a declaration.
var concepts = []string{"semaphore", "group commit", "rotation", "middleware", "dead letter", "hyperloglog", "dedup", "backfill",
	"precondition", "throttle", "idempotent", "evicted", "replica", "staleness", "fast path", "fence", "lease", "outbox", "localizer",
	"catalog", "checkpoint", "aggregator", "granularity", "sketch", "unmatched", "redact", "revoke", "fixture", "probe", "dry run",
	"journal", "offset", "backlog"}

// TestVocabulary_NamesAndCommentsAreTheFieldsOwn counts violations of the style guide in names and comments, of tests and of the rest.
func TestVocabulary_NamesAndCommentsAreTheFieldsOwn(t *testing.T) {
	var keys []string
	for _, list := range exceptions {
		keys = append(keys, list...)
	}
	for _, tests := range []bool{false, true} {
		c, err := vocabulary.Count("../../..", tests, "internal", "cmd", "client", "qrjumptest", "docs", "demo", "deploy", "chaos")
		require.NoError(t, err)
		require.True(t, c.Docs >= map[bool]int{false: 5000, true: 2000}[tests] && c.Locals >= 10_000,
			"read only %d doc comments and %d locals", c.Docs, c.Locals)
		checkShare := func(kind string, found []vocabulary.Place, total int, perThousand int) {
			t.Logf("%s: %d of %d, at most %d of 1,000", kind, len(found), total, perThousand)
			if len(found)*1000 > total*perThousand {
				for _, p := range found {
					t.Errorf("%s:%d: %s: %s", p.File, p.Line, kind, p.Text)
				}
			}
		}
		checkShare("doc comments that define by a relative clause", c.Definitions, c.Docs, 5)
		checkShare("locals that are function words", c.Words, c.Locals, 20)
		checkShare("comments with a person as the subject", c.Persons, 1, 0)
		rest, unused := vocabulary.Except(c.Declared, keys)
		checkShare("declared names that are function words", rest, 1, 0)
		for _, key := range unused {
			assert.True(t, strings.Contains(key, "_test.go ") != tests, "exceptions has %s, want an existing name: remove it", key)
		}
		for _, term := range concepts {
			assert.True(t, tests || c.Declares(term), "no declared name contains %q, want one", term)
		}
	}
}
