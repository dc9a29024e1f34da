package vocabulary_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/vocabulary"
)

// named are declared names that stay although they are function words, by the reason.
var named = map[string][]string{
	"a test that makes a call in an account's name reads as a sentence": {"qrjumptest/client.go As"},
}

// concepts are the field's words for what is implemented; each leads a search to its declaration.
var concepts = []string{"semaphore", "group commit", "rotation", "middleware", "dead letter", "hyperloglog", "dedup", "backfill",
	"precondition", "throttle", "idempotent", "evicted", "replica", "staleness", "fast path", "fence", "lease", "outbox", "localizer",
	"catalog", "checkpoint", "aggregator", "granularity", "sketch", "unmatched", "redact", "revoke", "fixture", "probe", "dry run",
	"journal", "offset", "backlog"}

// TestVocabulary_NamesAndCommentsAreTheFieldsOwn counts what the style guide forbids in names and comments.
func TestVocabulary_NamesAndCommentsAreTheFieldsOwn(t *testing.T) {
	c, err := vocabulary.Count("../../..", "internal", "cmd", "client", "qrjumptest", "docs", "demo", "deploy", "chaos")
	require.NoError(t, err)
	require.True(t, c.Docs >= 5000 && c.Locals >= 10_000,
		"%d doc comments and %d locals were read: the folders are not those of the project", c.Docs, c.Locals)
	above := func(what string, found []vocabulary.Place, all int, perThousand int) {
		t.Logf("%s: %d of %d, at most %d of 1,000", what, len(found), all, perThousand)
		if len(found)*1000 > all*perThousand {
			for _, p := range found {
				t.Errorf("%s:%d: %s: %s", p.File, p.Line, what, p.Text)
			}
		}
	}
	above("doc comments that define by a relative clause", c.Definitions, c.Docs, 5)
	above("locals that are function words", c.Words, c.Locals, 20)
	above("comments with a person as the subject", c.Persons, 1, 0)
	var exceptions []string
	for _, list := range named {
		exceptions = append(exceptions, list...)
	}
	rest, unused := vocabulary.Except(c.Declared, exceptions)
	above("declared names that are function words", rest, 1, 0)
	for _, key := range unused {
		t.Errorf("%s: no such name: remove the exception", key)
	}
	for _, term := range concepts {
		assert.True(t, c.Declares(term), "no declared name has %q", term)
	}
}
