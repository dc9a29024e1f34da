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

// Each row is whole: a name of its own, a sentence in both languages, a section that the contract has, and evidence as its mark wants.
func TestBehaviourRows_Complete(t *testing.T) {
	t.Parallel()
	contract := map[string]string{}
	for _, name := range []string{"rules", "marketcode", "clients"} {
		text, err := os.ReadFile("../../../docs/contract/" + name + ".md")
		require.NoError(t, err)
		contract[name] = string(text)
	}
	form, date := regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`), regexp.MustCompile(`^20\d\d(-\d\d(-\d\d)?)?$`)
	seen := map[string]bool{}
	for _, b := range behaviour.All() {
		document, number, _ := strings.Cut(b.Section, " ")
		heading := regexp.MustCompile(`(?m)^(#+ ` + regexp.QuoteMeta(number) + `\.? |\| ` + regexp.QuoteMeta(number) + ` \|)`)
		switch {
		case !form.MatchString(b.ID) || seen[b.ID]:
			t.Errorf("%q is no name, or another row's", b.ID)
		case !slices.Contains(behaviour.EvidenceLevels, b.Evidence):
			t.Errorf("%s has the mark %q", b.ID, b.Evidence)
		case !strings.HasSuffix(b.Description().English(), ".") || !strings.HasSuffix(b.Description().Chinese(), "。"):
			t.Errorf("%s: want a sentence in each language", b.ID)
		case !heading.MatchString(contract[document]):
			t.Errorf("%s: the contract has no section %q", b.ID, b.Section)
		case (b.Source == "") != (b.Evidence == behaviour.Assumed):
			t.Errorf("%s is a %s by the evidence %q", b.ID, b.Evidence, b.Source)
		case date.MatchString(b.Date) != (b.Evidence == behaviour.Observed || b.Evidence == behaviour.Documented):
			t.Errorf("%s is %s on the date %q", b.ID, b.Evidence, b.Date)
		}
		seen[b.ID] = true
		row, ok := behaviour.ByID(b.ID)
		assert.True(t, ok && row.String() == b.ID && row.Get() == b, "%s is not found by its id", b.ID)
	}
	row, ok := behaviour.ByID("rules.nothing")
	assert.True(t, !ok, "found %s", row)
}

// Each deviation is whole: its row is in the table once, its mark is one, it advises
// in both languages, and what strict refuses by it is a refusal.
func TestDeviationRows_Complete(t *testing.T) {
	t.Parallel()
	seen := map[behaviour.Row]bool{}
	for _, d := range behaviour.Deviations() {
		switch {
		case d.Row == behaviour.NoRow || seen[d.Row]:
			t.Errorf("%s is there twice, or no row", d.Row)
		case !slices.Contains(behaviour.EvidenceLevels, d.Minds):
			t.Errorf("%s has the mark %q", d.Row, d.Minds)
		case !strings.HasSuffix(d.Advice().English(), ".") || !strings.HasSuffix(d.Advice().Chinese(), "。"):
			t.Errorf("%s: want advice in each language", d.Row)
		case d.Refusal != 0 && d.Refusal < 40000:
			t.Errorf("%s is refused by %d", d.Row, d.Refusal)
		}
		seen[d.Row] = true
		found, ok := d.Row.Deviation()
		assert.True(t, ok && found == d, "%s: found %+v", d.Row, found)
	}
	_, ok := behaviour.CodesGrant.Deviation()
	assert.True(t, !ok, "a refusal is no deviation")
}

// Every choice and inference in the code names its row, every row is named by a
// decision point, and a row that only a comment names is named by a test.
func TestBehaviourRows_HaveDecisionPoint(t *testing.T) {
	t.Parallel()
	named, err := behaviourrefs.Read("../../..")
	require.NoError(t, err)
	for _, fault := range named.Faults {
		t.Error(fault)
	}
	list, err := os.ReadFile("testdata/unnoted.txt") // the rows that no call can record in its Notes, each with the reason
	require.NoError(t, err)
	reasons := map[string]string{}
	for line := range strings.Lines(string(list)) {
		id, reason, _ := strings.Cut(line, ": ")
		_, known := behaviour.ByID(id)
		assert.True(t, known && reason != "", "testdata/unnoted.txt: %q is no row with a reason", line)
		reasons[id] = reason
	}
	for _, b := range behaviour.All() {
		switch reason := reasons[b.ID]; {
		case named.Recorded[b.ID] != "" && reason != "":
			t.Errorf("%s names %s, which has a reason why no call carries it: %s", named.Recorded[b.ID], b.ID, reason)
		case named.Recorded[b.ID] != "":
		case reason == "":
			t.Errorf("no code notes %s, and the table has no reason why", b.ID)
		case named.Said[b.ID] == "":
			t.Errorf("no decision point names %s", b.ID)
		case named.Tested[b.ID] == "":
			t.Errorf("no test says Behaviour(%s), which %s decides", b.ID, named.Said[b.ID])
		}
	}
}

// A call's notes have each row once, in the order of the table, whoever adds.
func TestNotes_UniqueInTableOrder(t *testing.T) {
	t.Parallel()
	var n behaviour.Notes
	assert.True(t, n.Rows() == nil, "nothing noted: %v", n.Rows())
	ctx := behaviour.Noting(t.Context(), &n)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			behaviour.Note(ctx, behaviour.WireNumberText)
			behaviour.Note(ctx, behaviour.CodesGrant)
			n.Add(0)
		})
	}
	all.Wait()
	got, want := n.Rows(), []behaviour.Row{behaviour.CodesGrant, behaviour.WireNumberText}
	assert.True(t, slices.Equal(got, want), "noted %v, want %v", got, want)
	behaviour.Note(context.Background(), behaviour.CodesGrant)
	(*behaviour.Notes)(nil).Add(behaviour.CodesGrant)
}

// A call that meets nothing of note pays for no memory.
func TestNotes_EmptyNoAllocation(t *testing.T) {
	var n behaviour.Notes
	ctx := behaviour.Noting(t.Context(), &n)
	allocated := testing.AllocsPerRun(100, func() {
		behaviour.Note(ctx, behaviour.WireNumberText)
		n.Add(behaviour.CodesGrant)
	})
	assert.True(t, allocated == 0, "a note allocates %v times", allocated)
}

func TestMarks_OrderAndAge(t *testing.T) {
	t.Parallel()
	assert.True(t, behaviour.Observed.Surer(behaviour.Documented) && !behaviour.Assumed.Surer(behaviour.Inferred) &&
		behaviour.Documented.Surer(behaviour.Documented), "the marks are out of order")
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for date, want := range map[string]bool{"": false, "2023-03-01": false, "2023-02-28": true, "2023": true, "2024": false} {
		assert.Equal(t, (behaviour.Behaviour{Date: date}).Stale(at), want, "evidence of %q is old", date)
	}
}
