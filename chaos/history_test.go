package chaos_test

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The guarantees of several nodes, as two models against which porcupine checks a history (docs/decisions/0019):
//
//   - ruleHistoryModel: add, publish, delete, get and the quota of an owner are linearizable, whichever nodes are called;
//   - scanHistoryModel: a scan on a node returns a state that the rule had, never an older one than an earlier scan on that node returned.
//     After a write that this node acknowledged it returns at least that write, unless the database failed in between: then from the
//     moment at which the node is ready again. After a start it returns at least what was acknowledged before the start.

// entry is a call and its result.
type entry struct {
	call, back  int64 // nanoseconds; back = noResponse for a call without a response
	id          int64 // of a write
	action      string
	owner       string
	prefix      int
	path        string
	incarnation int64 // the process that responded

	// code is the errcode, or lost for a call without a response or with -1: it may take effect at any time after the call.
	code       int
	rules      [chaosPrefixes]ruleState // of get
	left       int                      // of get: publishes left
	openedPage string                   // of scan: the opened page, "" for none
}

const (
	// lost is the code of a call whose outcome is unknown.
	lost       = math.MinInt
	noResponse = math.MaxInt64
	// chaosPrefixes is the number of prefixes of an owner.
	chaosPrefixes = 3
	chaosQuota    = 12
)

type ruleState struct {
	Exists, Published bool
	Path              string
}

// history collects the entries of all clients.
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

// allowLateReads marks the time of a fault. A node that could not read its own commit meanwhile may see it late, until every node is ready
// again.
func (h *history) allowLateReads(from, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.entries {
		if e := &h.entries[i]; e.action == "seen" && e.call <= to && e.back >= from {
			e.back = max(e.back, to)
		}
	}
}

// The errcodes in a history.
const (
	done          = 0
	noSuchRule    = 40097
	duplicateRule = 85071
	quotaExceeded = 886000
)

// accountState is an owner's rules and the number of publishes in this month.
type accountState struct {
	Rules     [chaosPrefixes]ruleState
	Publishes int
}

// step returns the state after a call, and whether the call may return its result.
func (s accountState) step(e entry) (bool, accountState) {
	r := &s.Rules[e.prefix]
	before := s
	if e.code == lost {
		// It takes effect here if possible; a call that never took effect is placed after all other calls.
		switch {
		case e.action == "add" && !r.Exists:
			*r = ruleState{Exists: true, Path: e.path}
		case e.action == "publish" && r.Exists && !r.Published && s.Publishes < chaosQuota:
			r.Published = true
			s.Publishes++
		case e.action == "delete" && r.Exists:
			*r = ruleState{}
		}
		return true, s
	}
	switch e.action {
	case "add":
		if r.Exists {
			return e.code == duplicateRule, before
		}
		*r = ruleState{Exists: true, Path: e.path}
		return e.code == done, s
	case "publish":
		switch {
		case !r.Exists:
			return e.code == noSuchRule, before
		case r.Published:
			return e.code == done, before
		case s.Publishes >= chaosQuota:
			return e.code == quotaExceeded, before
		}
		r.Published = true
		s.Publishes++
		return e.code == done, s
	case "delete":
		if !r.Exists {
			return e.code == noSuchRule, before
		}
		*r = ruleState{}
		return e.code == done, s
	case "get":
		return e.code == done && e.rules == s.Rules && e.left == chaosQuota-s.Publishes, before
	}
	return false, before
}

func (e entry) String() string {
	result := strconv.Itoa(e.code)
	if e.code == lost {
		result = "no response"
	}
	return fmt.Sprintf("%s of prefix %d on %d, page %q, opened %q, rules %v, %d left: %s",
		e.action, e.prefix, e.incarnation, e.path, e.openedPage, e.rules, e.left, result)
}

var ruleHistoryModel = porcupine.Model{
	Init: func() any { return accountState{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(accountState).step(input.(entry))
		return ok, next
	},
	DescribeOperation: func(input, _ any) string { return input.(entry).String() },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

// scanState is a rule, all pages that scans could open so far, and the position of each node in them.
type scanState struct {
	rule  ruleState
	shown []string
	// acknowledged has the positions in shown of completed writes, until their node has seen them.
	acknowledged []position
	nodes        []position
}

// position is an index in scanState.shown.
type position struct {
	key   int64 // a write or an incarnation
	index int
}

func searchPosition(list []position, key int64) (i int, ok bool) {
	return slices.BinarySearchFunc(list, key, func(p position, key int64) int { return cmp.Compare(p.key, key) })
}

// indexOf returns the index of a key; -1 if it has none.
func indexOf(list []position, key int64) int {
	if i, ok := searchPosition(list, key); ok {
		return list[i].index
	}
	return -1
}

// withPosition returns a copy of list with the index of a key.
func withPosition(list []position, key int64, index int) []position {
	i, ok := searchPosition(list, key)
	list = slices.Clone(list)
	if ok {
		list[i].index = index
		return list
	}
	return slices.Insert(list, i, position{key, index})
}

// step returns the state after a call, and whether the call may return its result.
func (s scanState) step(e entry) (bool, scanState) {
	newest := len(s.shown) - 1
	setPage := func(page string) {
		s.shown = append(slices.Clone(s.shown), page)
		newest++
	}
	switch e.action {
	case "add":
		if !s.rule.Exists {
			s.rule = ruleState{Exists: true, Path: e.path}
		} else if e.code != lost {
			return false, s
		}
	case "publish":
		if s.rule.Exists && !s.rule.Published {
			s.rule.Published = true
			setPage(s.rule.Path)
		} else if e.code != lost && !s.rule.Exists {
			return false, s
		}
	case "delete":
		if s.rule.Exists {
			if s.rule.Published {
				setPage("")
			}
			s.rule = ruleState{}
		} else if e.code != lost {
			return false, s
		}
	case "seen":
		index := indexOf(s.acknowledged, e.id)
		if index < 0 {
			return false, s // not completed
		}
		s.nodes = withPosition(s.nodes, e.incarnation, max(index, indexOf(s.nodes, e.incarnation)))
		s.acknowledged = slices.DeleteFunc(slices.Clone(s.acknowledged), func(p position) bool { return p.key == e.id })
		return true, s
	case "start":
		s.nodes = withPosition(s.nodes, e.incarnation, newest)
		return true, s
	case "scan":
		// The oldest possible state restricts later scans the least.
		for i := max(0, indexOf(s.nodes, e.incarnation)); i <= newest; i++ {
			if s.shown[i] == e.openedPage {
				s.nodes = withPosition(s.nodes, e.incarnation, i)
				return true, s
			}
		}
		return false, s
	}
	if e.code != lost {
		s.acknowledged = withPosition(s.acknowledged, e.id, newest)
	}
	return true, s
}

var scanHistoryModel = porcupine.Model{
	Init: func() any { return scanState{shown: []string{""}} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(scanState).step(input.(entry))
		return ok, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(scanState), b.(scanState)
		return x.rule == y.rule && slices.Equal(x.shown, y.shown) && slices.Equal(x.acknowledged, y.acknowledged) &&
			slices.Equal(x.nodes, y.nodes)
	},
	DescribeOperation: func(input, _ any) string { return input.(entry).String() },
	DescribeState: func(state any) string {
		s := state.(scanState)
		return fmt.Sprintf("%v shown %q, nodes at %v", s.rule, s.shown, s.nodes)
	},
}

// check returns the violations of a history, and the number of checked calls. Pictures of the violations are written to dir unless it is
// "".
func (h *history) check(dir string) (violations []string, calls int) {
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
		switch e.action {
		case "start":
			starts = append(starts, operation(e))
		case "scan":
			byRule[key] = append(byRule[key], operation(e))
		case "seen":
			byRule[key] = append(byRule[key], operation(e))
			continue
		default:
			byOwner[e.owner] = append(byOwner[e.owner], operation(e))
			if e.action != "get" && (e.code == done || e.code == lost) {
				byRule[key] = append(byRule[key], operation(e))
			}
		}
		calls++
	}
	checkModel := func(what string, m porcupine.Model, operations []porcupine.Operation) {
		result, info := porcupine.CheckOperationsVerbose(m, operations, 10*time.Minute)
		if result == porcupine.Ok {
			return
		}
		violation := fmt.Sprintf("%s: %d calls, %s", what, len(operations), result)
		if dir != "" {
			file := filepath.Join(dir, strings.NewReplacer(" ", "-", "/", "-").Replace(what)+".html")
			if f, err := os.Create(file); err == nil {
				if porcupine.Visualize(m, info, f) == nil {
					violation += ", see " + file
				}
				f.Close()
			}
		}
		violations = append(violations, violation)
	}
	for owner, operations := range byOwner {
		checkModel("the rules of "+owner, ruleHistoryModel, operations)
	}
	for key, operations := range byRule {
		checkModel(fmt.Sprintf("scans of rule %d of %s", key.prefix, key.owner), scanHistoryModel, append(slices.Clone(starts),
			operations...))
	}
	slices.Sort(violations)
	return violations, calls
}

// TestHistoryChecker_DetectsPlantedBugs adds one fault at a time to a correct history; the checker must report each of them.
func TestHistoryChecker_DetectsPlantedBugs(t *testing.T) {
	now := int64(0)
	tick := func() int64 { now += 10; return now }
	e := func(action string, incarnation int64, more func(*entry)) entry {
		e := entry{call: tick(), back: tick(), action: action, owner: "shop", incarnation: incarnation, id: now}
		if more != nil {
			more(&e)
		}
		return e
	}
	page := func(text string) func(*entry) { return func(e *entry) { e.path = text } }
	opens := func(text string) func(*entry) { return func(e *entry) { e.openedPage = text } }
	holds := func(spent int, r ruleState) func(*entry) {
		return func(e *entry) { e.rules[0], e.left = r, chaosQuota-spent }
	}
	seen := func(write entry) entry {
		return entry{call: write.call, back: write.back, action: "seen", owner: write.owner, prefix: write.prefix,
			incarnation: write.incarnation, id: write.id}
	}
	// Two nodes, 1 and 2; node 2 restarts as 3.
	correctHistory := func() []entry {
		now = 0
		list := []entry{e("start", 1, nil), e("start", 2, nil), e("add", 1, page("a")), e("scan", 1, opens("")), e("publish", 1, nil)}
		list = append(list, seen(list[4]),
			e("scan", 1, opens("a")),
			e("scan", 2, opens("")), // replica lags
			e("get", 2, holds(1, ruleState{true, true, "a"})),
			e("scan", 2, opens("a")),
			e("publish", 2, nil), // free
			e("delete", 2, nil))
		list = append(list, seen(list[11]), e("scan", 2, opens("")), e("scan", 1, opens("a")), e("start", 3, nil), e("scan", 3, opens("")),
			e("add", 3, page("b")), e("publish", 3, nil))
		list[18].code, list[18].back = lost, noResponse
		return append(list, e("scan", 1, opens("")), e("scan", 1, opens("b")), e("scan", 3, opens("")),
			e("get", 1, holds(2, ruleState{true, true, "b"})),
			e("publish", 1, nil), e("delete", 1, nil), e("publish", 1, func(e *entry) { e.code = noSuchRule }))
	}
	check := func(entries []entry) []string {
		h := &history{began: time.Now().Add(-time.Second), entries: entries}
		violations, _ := h.check("")
		return violations
	}
	require.Equal(t, len(check(correctHistory())), 0, "violations of a correct history")
	for name, bug := range map[string]func([]entry){
		"a publish is counted twice":                          func(h []entry) { h[8].left-- },
		"a publish is not counted":                            func(h []entry) { h[8].left++ },
		"an acknowledged publish is lost":                     func(h []entry) { h[8].rules[0].Published = false },
		"an acknowledged add is lost":                         func(h []entry) { h[8].rules[0] = ruleState{} },
		"a rule has the page of another rule":                 func(h []entry) { h[8].rules[0].Path = "b" },
		"a prefix is added twice":                             func(h []entry) { h[10].action, h[10].path = "add", "c" },
		"a publish is refused before the quota is spent":      func(h []entry) { h[4].code = quotaExceeded },
		"a deleted rule is published":                         func(h []entry) { h[25].code = done },
		"a scan after the acknowledgement opens the old page": func(h []entry) { h[6].openedPage = "" },
		"a scan opens a page that never existed":              func(h []entry) { h[7].openedPage = "b" },
		"a scan opens an unpublished rule":                    func(h []entry) { h[3].openedPage = "a" },
		"a node returns to an older state":                    func(h []entry) { h[7].openedPage, h[9].openedPage = "a", "" },
		"a node forgets its own delete":                       func(h []entry) { h[13].openedPage = "a" },
		"a restarted node returns an older state":             func(h []entry) { h[16].openedPage = "a" },
	} {
		t.Run(name, func(t *testing.T) {
			h := correctHistory()
			bug(h)
			if violations := check(h); len(violations) == 0 {
				t.Error("the checker found no violation")
			}
		})
	}
}
