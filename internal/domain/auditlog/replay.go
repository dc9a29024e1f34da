package auditlog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// The outcome is the page that a link opens, as one line of text.
type outcome string

func outcomeOf(d scan.Decision) outcome {
	if d.Action != scan.OpenMiniProgram {
		return outcome(d.Action)
	}
	return outcome(fmt.Sprintf("%s %s %s %s", d.Action, d.AppID, d.Matched.Prefix, pageOf(d.Path)))
}

// pageOf returns a path as it is in the rule: without the parameters that a scan appends for the link and the time.
func pageOf(path string) string {
	if i := max(strings.LastIndex(path, "?q="), strings.LastIndex(path, "&q=")); i >= 0 {
		return path[:i]
	}
	return path
}

// Limits of a replay.
const (
	maxChanges  = 100
	maxExamples = 3
	// MaxReplayed is the maximum number of scans that one replay reads.
	MaxReplayed = 20_000_000
	// maxCachedLinks is the number of links whose outcome a replay caches.
	maxCachedLinks = 50_000
)

// endOfTime is later than any scan, including scans of a node with a wrong clock.
var endOfTime = time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)

// ReplayQuery holds the parameters of a replay.
type ReplayQuery struct {
	Plan     map[string]*rules.Rule
	Since    time.Time
	MaxScans int64 // maximum number of scans to read, at most MaxReplayed
	// Owners limits the result to scans of rules of these accounts; empty = all accounts.
	Owners []string
}

// outcomes returns the page that a link opens now, and the page that it would open under the plan. If q.Owners is set, only scans of these
// owners are shown, and pages of other owners are hidden. A scan belongs to the owner of the current rule or, without a current rule, of
// the planned rule. For other owners' scans, the result is the zero outcomePair.
func (q ReplayQuery) outcomes(oldDecision, newDecision scan.Decision) outcomePair {
	pair := outcomePair{outcomeOf(oldDecision), outcomeOf(newDecision)}
	if len(q.Owners) == 0 {
		return pair
	}
	if !slices.Contains(q.Owners, cmp.Or(oldDecision.Matched.Owner, newDecision.Matched.Owner)) {
		return outcomePair{}
	}
	if owner := newDecision.Matched.Owner; owner != "" && !slices.Contains(q.Owners, owner) {
		pair.after = outcome(newDecision.Action)
	}
	return pair
}

type outcomePair struct{ before, after outcome }

// Replay simulates the effect of a plan on the logged scans since a point in time: each scanned link is resolved with the current
// rules and with the planned rules.
func Replay(ctx context.Context, log scanlog.Log, live scan.Resolver, q ReplayQuery) (client.ReplayResult, error) {
	since, read := q.Since, int64(0)
	done := client.ReplayResult{Since: since, Anonymous: true, Changes: []client.OutcomeChange{}}
	live.Codes = nil // the scan log does not contain the texts of codes
	finder := scan.Overlay{Base: live.Finder, Rules: q.Plan}
	planned := live
	planned.Finder = finder
	changes := map[outcomePair]*client.OutcomeChange{}
	// Outcomes are cached by link: without a user the outcome depends only on the link, and a few links account for most scans.
	cache := map[string]outcomePair{}
	for e, err := range log.ListRange(ctx, 0, since, endOfTime) {
		if err != nil {
			return done, fmt.Errorf("reading the scan log: %w", err)
		}
		if read == q.MaxScans {
			done.Truncated = true
			break
		}
		read++
		if e.OccurredAt.Before(since) || e.Text == "" {
			continue
		}
		done.Scans++
		pair, is := cache[e.Text]
		if !is {
			if link, ok := rules.ParseLink(e.Text); ok && finder.Touches(link) {
				req := scan.Request{Text: e.Text, At: e.OccurredAt}
				pair = q.outcomes(live.Resolve(req), planned.Resolve(req))
			}
			if len(cache) == maxCachedLinks {
				clear(cache)
			}
			cache[e.Text] = pair
		}
		if pair == (outcomePair{}) { // no planned rule can match the link, or the scan belongs to another owner
			continue
		}
		done.Examined++
		if pair.before == pair.after {
			continue
		}
		done.Changed++
		t := changes[pair]
		if t == nil {
			t = &client.OutcomeChange{Before: string(pair.before), After: string(pair.after)}
			changes[pair] = t
		}
		t.Scans++
		if len(t.Examples) < maxExamples && !slices.Contains(t.Examples, e.Text) {
			t.Examples = append(t.Examples, e.Text)
		}
	}
	for _, t := range slices.SortedFunc(maps.Values(changes), func(a, b *client.OutcomeChange) int {
		return cmp.Or(cmp.Compare(b.Scans, a.Scans), cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After))
	}) {
		done.Changes = append(done.Changes, *t)
	}
	done.Changes = done.Changes[:min(len(done.Changes), maxChanges)]
	if len(q.Owners) > 0 { // the number of other accounts' scans is confidential
		done.Scans = done.Examined
	}
	return done, nil
}
