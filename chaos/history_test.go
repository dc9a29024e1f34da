package chaos_test

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The common promises of three nodes, as two models that porcupine checks a
// history against (docs/decisions/0019):
//
//   - books: add, publish, delete, get and the quota of an owner are
//     linearizable, whichever nodes are called;
//   - views: a scan on a node shows a state that the rule had, never an older
//     one than a scan on that node showed before; after a write that this very
//     node acknowledged, at least that write, unless the database broke off in
//     between: then from the moment at which the node is ready again; after a
//     start, at least what was acknowledged before the start.

// entry is one call and what came of it.
type entry struct {
	call, back int64 // nanoseconds; back = never for a call without an answer
	id         int64 // of a write
	did        string
	owner      string
	prefix     int
	path       string
	life       int64 // which start of which node answered

	// The answer: errcode, or lost for a call that was not answered or
	// answered -1: it may have happened, at any time after the call.
	code  int
	rules [chaosPrefixes]ruleState // of get
	left  int                      // of get: publishes left
	shows string                   // of scan: the page that opens, "" for none
}

const (
	// lost is the code of a call whose outcome is not known.
	lost  = math.MinInt
	never = math.MaxInt64
	// chaosPrefixes is how many prefixes an owner has in a history.
	chaosPrefixes = 3
	chaosQuota    = 12
)

type ruleState struct {
	Living, Published bool
	Path              string
}

// history collects entries from many clients.
type history struct {
	began   time.Time
	mu      sync.Mutex
	entries []entry
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

func (h *history) add(e entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries = append(h.entries, e)
}

// storm notes when something was down. A node that could not read back what it
// committed meanwhile may see it late, until every node is ready again.
func (h *history) storm(from, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.entries {
		if e := &h.entries[i]; e.did == "seen" && e.call <= to && e.back >= from {
			e.back = max(e.back, to)
		}
	}
}

// The codes that the calls of a history answer.
const (
	done       = 0
	noSuchRule = 40097
	addedTwice = 85071
	quotaSpent = 886000
)

// bookState is an owner's rules and what was published this month.
type bookState struct {
	Rules [chaosPrefixes]ruleState
	Spent int
}

// step is what a call does to the books, and whether it may answer so.
func (s bookState) step(e entry) (bool, bookState) {
	r := &s.Rules[e.prefix]
	before := s
	if e.code == lost {
		// It happened here, if it could; a call that never happened is one that
		// happens after everything else.
		switch {
		case e.did == "add" && !r.Living:
			*r = ruleState{Living: true, Path: e.path}
		case e.did == "publish" && r.Living && !r.Published && s.Spent < chaosQuota:
			r.Published = true
			s.Spent++
		case e.did == "delete" && r.Living:
			*r = ruleState{}
		}
		return true, s
	}
	switch e.did {
	case "add":
		if r.Living {
			return e.code == addedTwice, before
		}
		*r = ruleState{Living: true, Path: e.path}
		return e.code == done, s
	case "publish":
		switch {
		case !r.Living:
			return e.code == noSuchRule, before
		case r.Published:
			return e.code == done, before
		case s.Spent >= chaosQuota:
			return e.code == quotaSpent, before
		}
		r.Published = true
		s.Spent++
		return e.code == done, s
	case "delete":
		if !r.Living {
			return e.code == noSuchRule, before
		}
		*r = ruleState{}
		return e.code == done, s
	case "get":
		return e.code == done && e.rules == s.Rules && e.left == chaosQuota-s.Spent, before
	}
	return false, before
}

func (e entry) String() string {
	what := e.did
	switch {
	case e.did == "scan":
		return fmt.Sprintf("scan on %d: %q", e.life, e.shows)
	case e.did == "get":
		what += fmt.Sprintf(" %v, %d left", e.rules, e.left)
	case e.did == "seen", e.did == "start":
		return fmt.Sprintf("%s on %d", e.did, e.life)
	default:
		what += fmt.Sprintf(" %d %s", e.prefix, e.path)
	}
	if e.code == lost {
		return what + ": no answer"
	}
	return fmt.Sprintf("%s: %d on %d", what, e.code, e.life)
}

var books = porcupine.Model{
	Init: func() any { return bookState{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(bookState).step(input.(entry))
		return ok, next
	},
	DescribeOperation: func(input, _ any) string { return input.(entry).String() },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

// viewState is one rule, everything that scans could show of it so far, and
// how far each node's memory is known to be.
type viewState struct {
	rule  ruleState
	shown []string
	// acknowledged are writes that were done, and where in shown they are,
	// until their node is known to have seen them.
	acknowledged []position
	nodes        []position
}

type position struct {
	key int64 // a write, or a life of a node
	at  int
}

func at(list []position, key int64) int {
	i, ok := slices.BinarySearchFunc(list, key, func(p position, key int64) int { return cmp.Compare(p.key, key) })
	if !ok {
		return -1
	}
	return list[i].at
}

// put returns a copy with one position set.
func put(list []position, key int64, where int) []position {
	i, ok := slices.BinarySearchFunc(list, key, func(p position, key int64) int { return cmp.Compare(p.key, key) })
	if ok {
		list = slices.Clone(list)
		list[i].at = where
		return list
	}
	return slices.Insert(slices.Clone(list), i, position{key, where})
}

func (s viewState) step(e entry) (bool, viewState) {
	newest := len(s.shown) - 1
	becomes := func(page string) {
		s.shown = append(slices.Clone(s.shown), page)
		newest++
	}
	switch e.did {
	case "add":
		if !s.rule.Living {
			s.rule = ruleState{Living: true, Path: e.path}
		} else if e.code != lost {
			return false, s
		}
	case "publish":
		if s.rule.Living && !s.rule.Published {
			s.rule.Published = true
			becomes(s.rule.Path)
		} else if e.code != lost && !s.rule.Living {
			return false, s
		}
	case "delete":
		if s.rule.Living {
			if s.rule.Published {
				becomes("")
			}
			s.rule = ruleState{}
		} else if e.code != lost {
			return false, s
		}
	case "seen":
		where := at(s.acknowledged, e.id)
		if where < 0 {
			return false, s // not done yet
		}
		s.nodes = put(s.nodes, e.life, max(where, at(s.nodes, e.life)))
		s.acknowledged = slices.DeleteFunc(slices.Clone(s.acknowledged), func(p position) bool { return p.key == e.id })
		return true, s
	case "start":
		s.nodes = put(s.nodes, e.life, newest)
		return true, s
	case "scan":
		// The oldest state that it can have been leaves the most possible.
		for i := max(0, at(s.nodes, e.life)); i <= newest; i++ {
			if s.shown[i] == e.shows {
				s.nodes = put(s.nodes, e.life, i)
				return true, s
			}
		}
		return false, s
	}
	if e.code != lost {
		s.acknowledged = put(s.acknowledged, e.id, newest)
	}
	return true, s
}

var views = porcupine.Model{
	Init: func() any { return viewState{shown: []string{""}} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(viewState).step(input.(entry))
		return ok, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(viewState), b.(viewState)
		return x.rule == y.rule && slices.Equal(x.shown, y.shown) && slices.Equal(x.acknowledged, y.acknowledged) &&
			slices.Equal(x.nodes, y.nodes)
	},
	DescribeOperation: func(input, _ any) string { return input.(entry).String() },
	DescribeState: func(state any) string {
		s := state.(viewState)
		return fmt.Sprintf("%v shown %q at %v", s.rule, s.shown, s.nodes)
	},
}

// check returns what is wrong with a history, and how many calls were compared.
// pictures of what is wrong go to a folder, if one is named.
func (h *history) check(pictures string) (wrong []string, calls int) {
	type rule struct {
		owner  string
		prefix int
	}
	byOwner, byRule := map[string][]porcupine.Operation{}, map[rule][]porcupine.Operation{}
	var starts []porcupine.Operation
	last := h.now()
	operation := func(e entry) porcupine.Operation {
		return porcupine.Operation{Input: e, Call: e.call, Return: min(e.back, last+1)}
	}
	for _, e := range h.entries {
		key := rule{e.owner, e.prefix}
		switch e.did {
		case "start":
			starts = append(starts, operation(e))
		case "scan":
			byRule[key] = append(byRule[key], operation(e))
		case "seen":
			byRule[key] = append(byRule[key], operation(e))
			continue
		default:
			byOwner[e.owner] = append(byOwner[e.owner], operation(e))
			if e.did != "get" && (e.code == done || e.code == lost) {
				byRule[key] = append(byRule[key], operation(e))
			}
		}
		calls++
	}
	judge := func(what string, m porcupine.Model, operations []porcupine.Operation) {
		result, info := porcupine.CheckOperationsVerbose(m, operations, 10*time.Minute)
		if result == porcupine.Ok {
			return
		}
		said := fmt.Sprintf("%s: %d calls, %s", what, len(operations), result)
		if pictures != "" {
			file := filepath.Join(pictures, strings.NewReplacer(" ", "-", "/", "-").Replace(what)+".html")
			if f, err := os.Create(file); err == nil {
				if porcupine.Visualize(m, info, f) == nil {
					said += ", see " + file
				}
				f.Close()
			}
		}
		wrong = append(wrong, said)
	}
	for owner, operations := range byOwner {
		judge("the books of "+owner, books, operations)
	}
	for key, operations := range byRule {
		judge(fmt.Sprintf("what scans show of rule %d of %s", key.prefix, key.owner), views, append(slices.Clone(starts), operations...))
	}
	slices.Sort(wrong)
	return wrong, calls
}

// TestHistoryChecker_DetectsPlantedBugs plants one bug after the other into a history that is
// right, and the checker must find each of them.
func TestHistoryChecker_DetectsPlantedBugs(t *testing.T) {
	at := int64(0)
	tick := func() int64 { at += 10; return at }
	e := func(did string, life int64, more func(*entry)) entry {
		e := entry{call: tick(), back: tick(), did: did, owner: "shop", life: life, id: at}
		if more != nil {
			more(&e)
		}
		return e
	}
	page := func(text string) func(*entry) { return func(e *entry) { e.path = text } }
	shows := func(text string) func(*entry) { return func(e *entry) { e.shows = text } }
	holds := func(spent int, r ruleState) func(*entry) {
		return func(e *entry) { e.rules[0], e.left = r, chaosQuota-spent }
	}
	seen := func(write entry) entry {
		return entry{call: write.call, back: write.back, did: "seen", owner: write.owner, prefix: write.prefix, life: write.life,
			id: write.id}
	}
	// Two nodes, 1 and 2; node 2 starts again as 3.
	right := func() []entry {
		at = 0
		list := []entry{e("start", 1, nil), e("start", 2, nil), e("add", 1, page("a")), e("scan", 1, shows("")), e("publish", 1, nil)}
		list = append(list, seen(list[4]),
			e("scan", 1, shows("a")),
			e("scan", 2, shows("")), // has not followed yet
			e("get", 2, holds(1, ruleState{true, true, "a"})),
			e("scan", 2, shows("a")),
			e("publish", 2, nil), // free
			e("delete", 2, nil))
		list = append(list, seen(list[11]), e("scan", 2, shows("")), e("scan", 1, shows("a")), e("start", 3, nil), e("scan", 3, shows("")),
			e("add", 3, page("b")), e("publish", 3, nil))
		list[18].code, list[18].back = lost, never
		return append(list, e("scan", 1, shows("")), e("scan", 1, shows("b")), e("scan", 3, shows("")),
			e("get", 1, holds(2, ruleState{true, true, "b"})),
			e("publish", 1, nil), e("delete", 1, nil), e("publish", 1, func(e *entry) { e.code = noSuchRule }))
	}
	judge := func(entries []entry) []string {
		h := &history{began: time.Now().Add(-time.Second), entries: entries}
		wrong, _ := h.check("")
		return wrong
	}
	require.Equal(t, len(judge(right())), 0, "a history that is right")
	for what, bug := range map[string]func([]entry){
		"a publish is counted twice":                       func(h []entry) { h[8].left-- },
		"a publish is not counted":                         func(h []entry) { h[8].left++ },
		"an acknowledged publish is lost":                  func(h []entry) { h[8].rules[0].Published = false },
		"an acknowledged add is lost":                      func(h []entry) { h[8].rules[0] = ruleState{} },
		"a page is another rule's":                         func(h []entry) { h[8].rules[0].Path = "b" },
		"a prefix is added twice":                          func(h []entry) { h[10].did, h[10].path = "add", "c" },
		"a publish is refused before the quota is spent":   func(h []entry) { h[4].code = quotaSpent },
		"a deleted rule is published":                      func(h []entry) { h[25].code = done },
		"a scan after the acknowledgement shows the old":   func(h []entry) { h[6].shows = "" },
		"a scan shows what never was":                      func(h []entry) { h[7].shows = "b" },
		"a scan shows the state before an unpublished add": func(h []entry) { h[3].shows = "a" },
		"a node goes back":                                 func(h []entry) { h[7].shows, h[9].shows = "a", "" },
		"a node forgets its own delete":                    func(h []entry) { h[13].shows = "a" },
		"a started node shows what was before it":          func(h []entry) { h[16].shows = "a" },
	} {
		t.Run(what, func(t *testing.T) {
			h := right()
			bug(h)
			if wrong := judge(h); len(wrong) == 0 {
				t.Error("the checker found nothing")
			}
		})
	}
}
