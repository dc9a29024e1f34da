package auditlog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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

// pageOf returns a path as written in the rule, without the query parameters for link and time that a scan appends.
func pageOf(path string) string {
	if i := max(strings.LastIndex(path, "?q="), strings.LastIndex(path, "&q=")); i >= 0 {
		return path[:i]
	}
	return path
}

// OutcomeChange is a group of scans whose outcome changes in the same way.
type OutcomeChange struct {
	Before   string   `json:"before" doc:"what they open now: the action, the Mini Program, the rule and the page"`
	After    string   `json:"after" doc:"what they would open"`
	Scans    int64    `json:"scans"`
	Examples []string `json:"examples" doc:"links of them"`
}

// Replayed is the result of a replay: the effect that a plan would have had on the scans of a past period.
type Replayed struct {
	Since     time.Time       `json:"since"`
	Scans     int64           `json:"scans" doc:"of links, in that time"`
	Examined  int64           `json:"examined" doc:"of them, scans that a planned rule could have to do with"`
	Changed   int64           `json:"changed" doc:"of them, scans that would open something else"`
	Changes   []OutcomeChange `json:"changes" doc:"the most frequent first, at most 100"`
	Truncated bool            `json:"truncated,omitempty" doc:"there were more scans than are replayed at once: these are the oldest"`
	Anonymous bool            `json:"anonymous" doc:"true: all are replayed as scans of nobody in particular, because the log of scans names no users; who scans test links sees them as before"`
}

// Limits of a replay.
const (
	turnsShown    = 100
	examplesShown = 3
	// MostReplayed is the maximum number of scans that one replay reads.
	MostReplayed = 20_000_000
	// linksKnown is the number of links whose outcome a replay caches.
	linksKnown = 50_000
)

// endOfTime is later than any scan, including scans of a node with a wrong clock.
var endOfTime = time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)

// Question holds the parameters of a replay.
type Question struct {
	Plan  map[string]*rules.Rule
	Since time.Time
	Most  int64 // maximum number of scans to read, at most MostReplayed
	// Owners limits the result to scans of rules of these accounts; empty = all accounts.
	Owners []string
}

// way returns the page that a link opens now and the page that the link would open under the plan, limited to what the owners of
// the request may see. The owner of a scan is that of the current rule or, without a current rule, of the planned rule. way returns
// the zero turn for a scan of another owner's rules.
func (q Question) way(oldDecision, newDecision scan.Decision) turn {
	known := turn{outcomeOf(oldDecision), outcomeOf(newDecision)}
	if len(q.Owners) == 0 {
		return known
	}
	if !slices.Contains(q.Owners, cmp.Or(oldDecision.Matched.Owner, newDecision.Matched.Owner)) {
		return turn{}
	}
	if owner := newDecision.Matched.Owner; owner != "" && !slices.Contains(q.Owners, owner) {
		known.after = outcome(newDecision.Action)
	}
	return known
}

type turn struct{ before, after outcome }

// Replay simulates the effect of a plan on the logged scans since a point in time: each scanned link is resolved with the current
// rules and with the planned rules.
func Replay(ctx context.Context, log scanlog.Log, live scan.Resolver, q Question) (Replayed, error) {
	since, read := q.Since, int64(0)
	done := Replayed{Since: since, Anonymous: true, Changes: []OutcomeChange{}}
	live.Codes = nil // the scan log does not contain the texts of codes
	finder := scan.Overlay{Under: live.Finder, Rules: q.Plan}
	pastResolver := live
	pastResolver.Finder = finder
	turns := map[turn]*OutcomeChange{}
	// Without a user the outcome depends only on the link, and most scans are of few links, so outcomes are cached by link.
	known := map[string]turn{}
	for e, err := range log.ListRange(ctx, 0, since, endOfTime) {
		if err != nil {
			return done, fmt.Errorf("reading the log of scans: %w", err)
		}
		if read == q.Most {
			done.Truncated = true
			break
		}
		if read++; e.At.Before(since) || e.Text == "" {
			continue
		}
		done.Scans++
		way, is := known[e.Text]
		if !is {
			if link, ok := rules.ParseLink(e.Text); ok && finder.Touches(link) {
				req := scan.Request{Text: e.Text, At: e.At}
				way = q.way(live.Resolve(req), pastResolver.Resolve(req))
			}
			if len(known) == linksKnown {
				clear(known)
			}
			known[e.Text] = way
		}
		if way == (turn{}) { // no planned rule can match the link, or its rule belongs to another owner
			continue
		}
		done.Examined++
		if way.before == way.after {
			continue
		}
		done.Changed++
		t := turns[way]
		if t == nil {
			t = &OutcomeChange{Before: string(way.before), After: string(way.after)}
			turns[way] = t
		}
		t.Scans++
		if len(t.Examples) < examplesShown && !slices.Contains(t.Examples, e.Text) {
			t.Examples = append(t.Examples, e.Text)
		}
	}
	for _, t := range slices.SortedFunc(maps.Values(turns), func(a, b *OutcomeChange) int {
		return cmp.Or(cmp.Compare(b.Scans, a.Scans), cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After))
	}) {
		done.Changes = append(done.Changes, *t)
	}
	done.Changes = done.Changes[:min(len(done.Changes), turnsShown)]
	if len(q.Owners) > 0 { // the number of other accounts' scans is confidential
		done.Scans = done.Examined
	}
	return done, nil
}
