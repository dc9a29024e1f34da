package apiusage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Search selects calls of the call log. The zero value of Search selects all calls.
type Search struct {
	Account, Path string // "" = any
	RID           string // "" = any
	ErrCode       int    // 0 = any
	Failed        bool   // only calls that returned an error code other than 0
	Before        int64  // only calls with a smaller call number; 0 = start from the newest call
	After         int64  // only calls with a greater call number
}

// Searched describes the part of the log that was searched.
type Searched struct {
	Calls int       // number of searched calls
	Since time.Time // time of the oldest searched call, in whole seconds; zero = no call was searched
	Until time.Time // time of the newest searched call, in whole seconds; zero = no call was searched
	Next  int64     // the Before value that continues the search with older calls; 0 = no older calls
	// Newest is the number of the newest searched call, to be used as After to find later calls; 0 = no call was searched. Numbers are
	// assigned in the order of commits, so all later calls have greater numbers.
	Newest int64
}

// One search reads a limited number of blocks and bytes: otherwise a search without results would read the calls of seven days at once.
const (
	searchedBlocks = 2000
	searchedBytes  = 8 << 20 // limit in bytes of one search; the last step may exceed the limit
	// searchedStep is the maximum number of blocks that are read in one step; the first steps are smaller.
	searchedStep = 32
)

// List returns at most limit calls of the log. The calls are in the order in which they were written, newest first; the order of their
// times can differ by up to a Window. If Searched.Next is not 0, older calls were not searched, and List may return fewer calls than limit,
// or none. List first writes the waiting calls of this process; calls of other nodes may be missing for up to a Window.
func (s *Service) List(ctx context.Context, q Search, limit int) ([]Call, Searched, error) {
	if q.RID != "" {
		return s.listOne(ctx, q)
	}
	found := []Call{}
	looked, err := s.search(ctx, q, func(c Call) bool {
		found = append(found, c)
		return len(found) < limit
	})
	return found, looked, err
}

// listOne returns the list for a search by request ID. listOne reads only the blocks of the second that the request ID contains.
func (s *Service) listOne(ctx context.Context, q Search) ([]Call, Searched, error) {
	c, err := s.Get(ctx, q.RID)
	switch {
	case errors.Is(err, ErrNoCall):
		return []Call{}, Searched{}, nil
	case err != nil:
		return nil, Searched{}, err
	}
	looked := Searched{Calls: 1, Since: c.OccurredAt, Until: c.OccurredAt}
	if !q.wants(c) {
		return []Call{}, looked, nil
	}
	return []Call{c}, looked, nil
}

// Failure is a group of calls of one endpoint that returned the same error code other than 0.
type Failure struct {
	Path    string
	ErrCode int
	Times   int
	Last    Call // the newest call of the group
}

// Failures groups the failed calls by endpoint and error code, the most frequent first; it searches a limited number of calls.
func (s *Service) Failures(ctx context.Context, q Search) ([]Failure, Searched, error) {
	type kind struct {
		path    string
		errcode int
	}
	q.Failed = true
	counts, list := map[kind]int{}, []Failure{}
	looked, err := s.search(ctx, q, func(c Call) bool {
		i, known := counts[kind{c.Path, c.ErrCode}]
		if !known {
			i = len(list)
			counts[kind{c.Path, c.ErrCode}], list = i, append(list, Failure{Path: c.Path, ErrCode: c.ErrCode, Last: c})
		}
		list[i].Times++
		return true
	})
	slices.SortFunc(list, func(a, b Failure) int {
		return cmp.Or(b.Times-a.Times, strings.Compare(a.Path, b.Path), a.ErrCode-b.ErrCode)
	})
	return list, looked, err
}

// search passes matching calls to take, newest first, until take returns false or the limit of blocks or bytes per search is reached.
func (s *Service) search(ctx context.Context, q Search, take func(Call) (hasMore bool)) (looked Searched, err error) {
	if q.Before == 0 {
		if err := s.flushCalls(ctx); err != nil {
			return looked, err
		}
	}
	prev, hint := q.Before, q.hint()
	blocks, size := 0, 0
	for step := 2; ; step = min(2*step, searchedStep) {
		list, err := accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]Block, error) { return tx.NewestCalls(ctx, prev, step) })
		if err != nil {
			return looked, err
		}
		for _, block := range list {
			lines := slices.Collect(strings.Lines(block.Text))
			for i := len(lines) - 1; i >= block.Deleted; i-- {
				n := block.Last - int64(len(lines)-1-i)
				if prev != 0 && n >= prev {
					continue
				}
				if n <= q.After {
					return looked, nil
				}
				prev, looked.Newest = n, max(looked.Newest, n)
				looked.see(block.Second)
				if lines[i] == "\n" || !hint.in(lines[i]) { // the line of a call is empty after its account was reset
					continue
				}
				var c Call
				if err := json.Unmarshal([]byte(lines[i]), &c); err != nil {
					return looked, fmt.Errorf("reading the call log: %w", err)
				}
				if q.wants(c) && !take(c) {
					looked.Next = n
					return looked, nil
				}
			}
			blocks, size = blocks+1, size+len(block.Text)
		}
		if len(list) < step {
			return looked, nil
		}
		if blocks >= searchedBlocks || size >= searchedBytes {
			looked.Next = prev
			return looked, nil
		}
	}
}

// see records that a call of the given second was searched.
func (l *Searched) see(second int64) {
	t := time.Unix(second, 0).UTC()
	if l.Calls == 0 || t.Before(l.Since) {
		l.Since = t
	}
	if l.Calls == 0 || t.After(l.Until) {
		l.Until = t
	}
	l.Calls++
}

// wants reports whether a call matches the search.
func (s Search) wants(c Call) bool {
	return (s.Account == "" || c.Account == s.Account) && (s.Path == "" || c.Path == s.Path) &&
		(s.ErrCode == 0 || c.ErrCode == s.ErrCode) && (!s.Failed || c.ErrCode != 0)
}

// hint lists texts that every matching line contains, so that most lines need no JSON parsing.
type hint []string

func (s Search) hint() hint {
	var texts hint
	field := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			panic(fmt.Errorf("a text or a number: %w", err))
		}
		if !strings.Contains(string(text), `\`) { // JSON can spell a text with a backslash in several ways
			texts = append(texts, `"`+name+`":`+string(text))
		}
	}
	if s.Account != "" {
		field("account", s.Account)
	}
	if s.Path != "" {
		field("path", s.Path)
	}
	switch {
	case s.ErrCode != 0:
		field("errcode", s.ErrCode)
	case s.Failed:
		texts = append(texts, `"errcode":`)
	}
	return texts
}

func (h hint) in(line string) bool {
	return !slices.ContainsFunc(h, func(text string) bool { return !strings.Contains(line, text) })
}
