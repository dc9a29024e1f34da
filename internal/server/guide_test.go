package server_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/docs"
	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

func TestEvidence_RowsAndCounts(t *testing.T) {
	rows, numbers, found := strings.Cut(docgen.Evidence(), "\n## ")
	require.True(t, found, "Evidence() has one section, want two:\n%s", rows)
	var dates []string
	for _, row := range regexp.MustCompile("(?m)^\\| (\\S+) \\| `([^`]+)`").FindAllStringSubmatch(rows, -1) {
		dates = append(dates, row[1])
		known, ok := behaviour.ByID(row[2])
		assert.True(t, ok && known.Get().Date == row[1], "Evidence() dates %s %s, want %q", row[2], row[1], known.Get().Date)
	}
	dated := slices.DeleteFunc(slices.Clone(behaviour.All()), func(b behaviour.Behaviour) bool { return b.Date == "" })
	assert.True(t, len(dates) == len(dated) && slices.IsSorted(dates),
		"Evidence() lists %d behaviours, sorted by date: %v; want %d, sorted", len(dates), slices.IsSorted(dates), len(dated))
	for _, code := range errcode.All() {
		assert.Equal(t, strings.Contains(numbers, "\n| "+strconv.Itoa(code.Number)+" |"), code.Evidence != behaviour.Observed,
			"Evidence() lists %d among the numbers without a live answer", code.Number)
	}
}

// TestGuide_MatchingTablesVerified runs each example in the tables of the page about matching on a server.
func TestGuide_MatchingTablesVerified(t *testing.T) {
	quoted := regexp.MustCompile("`([^`]+)`(?:\\s*[(（](unpublished|未发布)[)）])?")
	srv := qrjumptest.Start(t, qrjumptest.Seed("accounts: [{appid: A,kind: mini_program,secret: a,certified: true,versions: [release]}]"))
	for _, language := range []string{"en", "zh"} {
		page := require.Value(docs.Pages.ReadFile(language + "/matching.md"))(t)
		tried := 0
		for line := range bytes.Lines(page) {
			cells := strings.Split(string(line), "|")
			if len(cells) != 6 || !strings.Contains(cells[2], "`") {
				continue
			}
			tried++
			var seed strings.Builder
			seed.WriteString("rules:\n")
			for _, rule := range quoted.FindAllStringSubmatch(cells[1], -1) {
				seed.WriteString(fmt.Sprintf("  - {owner: A, prefix: %q, path: pages/p, published: %v}\n", rule[1], rule[2] == ""))
			}
			link := quoted.FindStringSubmatch(cells[2])[1]
			srv.Reset()
			done, err := srv.Operator().Emulator.Seed(t.Context(), seed.String())
			require.True(t, err == nil && done.Applied, "%s: applied %v, %v\n%s", language, done.Applied, err, &seed)
			d := srv.Scan(link)
			want := quoted.FindStringSubmatch(cells[3])
			switch {
			case want == nil && (d.Action != "open_url" || d.URL != link):
				t.Errorf("%s: %s opens %+v, want the web page", language, link, d)
			case want != nil && (d.Action != "open_mini_program" || d.Matched.Prefix != want[1]):
				t.Errorf("%s: %s opens %+v, want %s", language, link, d, want[1])
			}
		}
		assert.True(t, tried >= 15, "%s: %d examples, want at least 15", language, tried)
	}
}
