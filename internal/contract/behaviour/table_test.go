package behaviour_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/behaviourrefs"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestBehaviourRows_Complete verifies that each row has a unique id, a sentence in both languages, an existing section of the contract, and
// the source and date that its evidence level requires.
func TestBehaviourRows_Complete(t *testing.T) {
	t.Parallel()
	contract := map[string]string{}
	for _, name := range []string{"rules", "marketcode", "clients"} {
		text := require.Value(os.ReadFile("../../../docs/contract/" + name + ".md"))(t)
		contract[name] = string(text)
	}
	idForm, date := regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`), regexp.MustCompile(`^20\d\d(-\d\d(-\d\d)?)?$`)
	seen := map[string]bool{}
	for _, b := range behaviour.All() {
		document, number, _ := strings.Cut(b.Section, " ")
		heading := regexp.MustCompile(`(?m)^(#+ ` + regexp.QuoteMeta(number) + `\.? |\| ` + regexp.QuoteMeta(number) + ` \|)`)
		switch {
		case !idForm.MatchString(b.ID) || seen[b.ID]:
			t.Errorf("id %q is malformed or repeated", b.ID)
		case !slices.Contains(behaviour.EvidenceLevels, b.Evidence):
			t.Errorf("%s has the unknown evidence level %q", b.ID, b.Evidence)
		case !strings.HasSuffix(b.Description().English(), ".") || !strings.HasSuffix(b.Description().Chinese(), "。"):
			t.Errorf("%s: want a sentence in each language", b.ID)
		case !heading.MatchString(contract[document]):
			t.Errorf("%s names the section %q, which the contract lacks", b.ID, b.Section)
		case (b.Source == "") != (b.Evidence == behaviour.Assumed):
			t.Errorf("%s is %s with the source %q, want a source unless assumed", b.ID, b.Evidence, b.Source)
		case date.MatchString(b.Date) != (b.Evidence == behaviour.Observed || b.Evidence == behaviour.Documented):
			t.Errorf("%s is %s with the date %q, want a date if observed or documented", b.ID, b.Evidence, b.Date)
		}
		seen[b.ID] = true
		row, ok := behaviour.ByID(b.ID)
		assert.True(t, ok && row.String() == b.ID && row.Get() == b, "ByID(%s) = %s, %v", b.ID, row, ok)
	}
	row, ok := behaviour.ByID("rules.nothing")
	assert.True(t, !ok, "ByID(rules.nothing) = %s, want none", row)
}

// TestDeviationRows_Complete verifies that each deviation has a row of its own, a known evidence level, advice in both languages, and a
// valid error number if strict mode rejects it.
func TestDeviationRows_Complete(t *testing.T) {
	t.Parallel()
	seen := map[behaviour.Row]bool{}
	for _, d := range behaviour.Deviations() {
		switch {
		case d.Row == behaviour.NoRow || seen[d.Row]:
			t.Errorf("deviation %s is repeated or has no row", d.Row)
		case !slices.Contains(behaviour.EvidenceLevels, d.Minds):
			t.Errorf("%s has the unknown evidence level %q", d.Row, d.Minds)
		case !strings.HasSuffix(d.Advice().English(), ".") || !strings.HasSuffix(d.Advice().Chinese(), "。"):
			t.Errorf("%s: want advice in each language", d.Row)
		case d.Refusal != 0 && d.Refusal < 40000:
			t.Errorf("%s is rejected with %d, want an error number", d.Row, d.Refusal)
		}
		seen[d.Row] = true
		found, ok := d.Row.Deviation()
		assert.True(t, ok && found == d, "Deviation() of %s = %+v, want %+v", d.Row, found, d)
	}
	_, ok := behaviour.CodesGrant.Deviation()
	assert.True(t, !ok, "CodesGrant, a rejection, has a deviation")
}

// TestBehaviourRows_HaveDecisionPoint verifies that every choice and inference in the source names its row, that the source records every
// row or unnoted.txt has a reason, and that a row that only a comment names is also named by a test.
func TestBehaviourRows_HaveDecisionPoint(t *testing.T) {
	t.Parallel()
	named := require.Value(behaviourrefs.Read("../../.."))(t)
	for _, fault := range named.Faults {
		t.Error(fault)
	}
	list, err := os.ReadFile("testdata/unnoted.txt") // rows that no call can record in its Notes, each with the reason
	require.NoError(t, err)
	reasons := map[string]string{}
	for line := range strings.Lines(string(list)) {
		id, reason, _ := strings.Cut(line, ": ")
		_, ok := behaviour.ByID(id)
		assert.True(t, ok && reason != "", "testdata/unnoted.txt: %q, want a row with a reason", line)
		reasons[id] = reason
	}
	for _, b := range behaviour.All() {
		switch reason := reasons[b.ID]; {
		case named.Recorded[b.ID] != "" && reason != "":
			t.Errorf("%s records %s, which unnoted.txt lists with %q", named.Recorded[b.ID], b.ID, reason)
		case named.Recorded[b.ID] != "":
		case reason == "":
			t.Errorf("no code records %s, and unnoted.txt has no reason", b.ID)
		case named.Said[b.ID] == "":
			t.Errorf("no comment names %s", b.ID)
		case named.Tested[b.ID] == "":
			t.Errorf("no test names Behaviour(%s), which %s decides", b.ID, named.Said[b.ID])
		}
	}
}

// TestNotes_UniqueInTableOrder verifies that concurrent additions to the notes of a call leave each row once, in the order of the table.
func TestNotes_UniqueInTableOrder(t *testing.T) {
	t.Parallel()
	var n behaviour.Notes
	assert.True(t, n.Rows() == nil, "Rows() of empty notes = %v, want nil", n.Rows())
	ctx := behaviour.Noting(t.Context(), &n)
	var adding sync.WaitGroup
	for range 8 {
		adding.Go(func() {
			behaviour.Note(ctx, behaviour.WireNumberText)
			behaviour.Note(ctx, behaviour.CodesGrant)
			n.Add(0)
		})
	}
	adding.Wait()
	got, want := n.Rows(), []behaviour.Row{behaviour.CodesGrant, behaviour.WireNumberText}
	assert.True(t, slices.Equal(got, want), "Rows() = %v, want %v", got, want)
	behaviour.Note(context.Background(), behaviour.CodesGrant)
	(*behaviour.Notes)(nil).Add(behaviour.CodesGrant)
}

func TestNotes_EmptyNoAllocation(t *testing.T) {
	var n behaviour.Notes
	ctx := behaviour.Noting(t.Context(), &n)
	allocs := testing.AllocsPerRun(100, func() {
		behaviour.Note(ctx, behaviour.WireNumberText)
		n.Add(behaviour.CodesGrant)
	})
	assert.Equal(t, allocs, 0, "allocations of adding a row")
}

func TestMarks_OrderAndAge(t *testing.T) {
	t.Parallel()
	assert.True(t, behaviour.Observed.Surer(behaviour.Documented) && !behaviour.Assumed.Surer(behaviour.Inferred) &&
		behaviour.Documented.Surer(behaviour.Documented), "evidence levels are not ordered by certainty")
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for date, want := range map[string]bool{"": false, "2023-03-01": false, "2023-02-28": true, "2023": true, "2024": false} {
		assert.Equal(t, (behaviour.Behaviour{Date: date}).Stale(now), want, "evidence of %q is stale", date)
	}
}
