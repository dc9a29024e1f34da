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

// scanned is a log of scans of some links, one after the other, again and again. It is read by their time alone:
// the first scan of a log may be its youngest, as when a clock was wrong, and then the order of the log helps nobody.
type scanned struct {
	scanlog.Log
	links []string
	scans int
}

func (s scanned) ListRange(_ context.Context, after int64, from, to time.Time) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		if after != 0 || !from.Equal(began.Add(-time.Hour)) || to.Before(began.AddDate(100, 0, 0)) {
			yield(scanlog.Entry{}, fmt.Errorf("scans after position %d, from %s to %s", after, from, to))
			return
		}
		old := scanlog.Event{OccurredAt: from.Add(-time.Minute), Text: s.links[0]} // others may be among them
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

// opened are accounts that open everything.
type opened struct{}

func (opened) Account(appid string) (accounts.Account, bool) {
	return accounts.Account{AppID: appid, JumpOpen: true, Versions: []accounts.Version{accounts.Release}}, true
}

func (opened) Linked(string, string) bool { return true }

// asking counts what is asked of rules.
type asking struct {
	scan.Finder
	asked int
}

func (a *asking) Governing(text string) (rules.Match, bool) {
	a.asked++
	return a.Finder.Governing(text)
}

func (a *asking) Matching(link rules.Link) []rules.Rule {
	a.asked++
	return a.Finder.Matching(link)
}

func (a *asking) Testing(text string) []rules.Rule {
	a.asked++
	return a.Finder.Testing(text)
}

// Issue 14: each scan was decided twice, and a link is scanned again and again.
func TestAuditReplay_EachLinkOnce(t *testing.T) {
	// Each link of the log falls on one of the rules that the plan changes.
	const n = 1000
	there, plan := index.New(), map[string]*rules.Rule{}
	log := scanned{links: make([]string, n), scans: 20_000}
	for i := range n {
		p, err := rules.ParsePrefix(fmt.Sprintf("https://h%d.example/a/%d/", i%50, i), rules.Ordinary, false)
		require.NoError(t, err)
		r := rules.Rule{ID: int64(i + 1), Kind: rules.Ordinary, Owner: "wx1", Target: "wx1", Prefix: p, Path: "p",
			OpenVersion: rules.OpenRelease, Published: true}
		there.Set(r)
		r.Published = false
		plan[p.Key] = &r
		log.links[i] = fmt.Sprintf("https://h%d.example/a/%d/page?x=%d", i%50, i, i)
	}
	finder := &asking{Finder: there}
	done, err := auditlog.Replay(t.Context(), log, scan.Resolver{Finder: finder, Accounts: opened{}},
		auditlog.ReplayQuery{Plan: plan, Since: began.Add(-time.Hour), MaxScans: auditlog.MaxReplayed})
	assert.True(t, err == nil && done.Scans == 20_000 && done.Examined == 20_000 && done.Changed == 20_000, "%+v, %v", done, err)
	assert.True(t, finder.asked <= 2*n, "rules were asked %d times about 1,000 links", finder.asked)
}
