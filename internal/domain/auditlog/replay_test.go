package auditlog_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// linkLog is a log of scans that cycle through links. Only reads of a time range without a start position succeed: the first scan of a log
// may be the newest one if a clock was wrong, so that positions do not follow times.
type linkLog struct {
	scanlog.Log
	links []string
	scans int
}

func (s linkLog) ListRange(_ context.Context, after int64, from, to time.Time) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		if after != 0 || !from.Equal(began.Add(-time.Hour)) || to.Before(began.AddDate(100, 0, 0)) {
			yield(scanlog.Entry{}, fmt.Errorf("scans after position %d, from %s to %s", after, from, to))
			return
		}
		old := scanlog.Event{OccurredAt: from.Add(-time.Minute), Text: s.links[0]} // ListRange may yield scans outside of the range
		for i := range s.scans + 1 {
			e := scanlog.Event{OccurredAt: began, Text: s.links[i%len(s.links)]}
			if i == s.scans {
				e = old
			}
			if !yield(scanlog.Entry{Position: int64(i + 1), Event: e}, nil) {
				return
			}
		}
	}
}

// openAccounts are accounts that allow everything.
type openAccounts struct{}

func (openAccounts) Account(appid string) (accounts.Account, bool) {
	return accounts.Account{AppID: appid, JumpOpen: true, Versions: []accounts.Version{accounts.Release}}, true
}

func (openAccounts) Linked(string, string) bool { return true }

// countingFinder counts its calls.
type countingFinder struct {
	scan.Finder
	calls int
}

func (f *countingFinder) Governing(text string) (rules.Match, bool) {
	f.calls++
	return f.Finder.Governing(text)
}

func (f *countingFinder) Matching(link rules.Link) []rules.Rule {
	f.calls++
	return f.Finder.Matching(link)
}

func (f *countingFinder) Testing(text string) []rules.Rule {
	f.calls++
	return f.Finder.Testing(text)
}

// TestAuditReplay_EachLinkOnce verifies that a replay resolves each link once per rule set, although a log has many scans of a link.
func TestAuditReplay_EachLinkOnce(t *testing.T) {
	// Each link of the log matches a rule that the plan changes.
	const n = 1000
	current, plan := index.New(), map[string]*rules.Rule{}
	log := linkLog{links: make([]string, n), scans: 20_000}
	for i := range n {
		p := require.Value(rules.ParsePrefix(fmt.Sprintf("https://h%d.example/a/%d/", i%50, i), rules.Ordinary, false))(t)
		r := rules.Rule{ID: int64(i + 1), Kind: rules.Ordinary, Owner: "wx1", Target: "wx1", Prefix: p, Path: "p",
			OpenVersion: rules.OpenRelease, Published: true}
		current.Set(r)
		r.Published = false
		plan[p.Key] = &r
		log.links[i] = fmt.Sprintf("https://h%d.example/a/%d/page?x=%d", i%50, i, i)
	}
	finder := &countingFinder{Finder: current}
	r, err := auditlog.Replay(t.Context(), log, scan.Resolver{Finder: finder, Accounts: openAccounts{}},
		auditlog.ReplayQuery{Plan: plan, Since: began.Add(-time.Hour), MaxScans: auditlog.MaxReplayed})
	assert.True(t, err == nil && r.Scans == 20_000 && r.Examined == 20_000 && r.Changed == 20_000, "%+v, %v, want 20000", r, err)
	assert.True(t, finder.calls <= 2*n, "%d calls of the finder for 1,000 links, want at most 2,000", finder.calls)
}
