package scan

import (
	"sync"

	"github.com/qrjump/qrjump/internal/rules"
)

// Finder finds the rules that a scan can fall on. It is all that a resolve
// needs to know of how rules are kept in memory.
type Finder interface {
	// Matching returns the rules that match a link, longest prefix first: for
	// a service account's code at most the one rule of that code.
	Matching(link rules.Link) []rules.Rule
	// Testing returns the rules that list a text as one of their test links,
	// longest prefix first, then oldest first.
	Testing(text string) []rules.Rule
}

// Index keeps every rule in memory. A change is visible to every Find that
// begins after Set or Remove returned.
type Index struct {
	mu    sync.RWMutex
	rules map[string]rules.Rule          // by key
	tests map[string]map[string]struct{} // test link -> keys of the rules that list it
}

// NewIndex is empty.
func NewIndex() *Index {
	return &Index{rules: map[string]rules.Rule{}, tests: map[string]map[string]struct{}{}}
}

// Len is how many rules there are.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.rules)
}

// Set adds or replaces the rule with its key.
func (x *Index) Set(r rules.Rule) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(r.Prefix.Key)
	x.rules[r.Prefix.Key] = r
	for _, text := range r.TestLinks {
		if x.tests[text] == nil {
			x.tests[text] = map[string]struct{}{}
		}
		x.tests[text][r.Prefix.Key] = struct{}{}
	}
}

// Remove forgets the rule with a key.
func (x *Index) Remove(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key)
}

func (x *Index) remove(key string) {
	for _, text := range x.rules[key].TestLinks {
		delete(x.tests[text], key)
		if len(x.tests[text]) == 0 {
			delete(x.tests, text)
		}
	}
	delete(x.rules, key)
}

// Clear forgets every rule.
func (x *Index) Clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.rules)
	clear(x.tests)
}

// Matching implements Finder: it probes the map only where a rule can end.
func (x *Index) Matching(link rules.Link) []rules.Rule {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if link.IsService() {
		if r, ok := x.rules[link.Key]; ok {
			return []rules.Rule{r}
		}
		return nil
	}
	var found []rules.Rule
	for _, key := range link.Ends() {
		if r, ok := x.rules[key]; ok && r.Prefix.Matches(link) {
			found = append(found, r)
		}
	}
	return found
}

// Testing implements Finder.
func (x *Index) Testing(text string) []rules.Rule {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.tests[text]) == 0 {
		return nil
	}
	found := make([]rules.Rule, 0, len(x.tests[text]))
	for key := range x.tests[text] {
		found = append(found, x.rules[key])
	}
	sortTesting(found)
	return found
}
