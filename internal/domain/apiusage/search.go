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
)

// Search chooses calls of the log. Its zero value chooses all.
type Search struct {
	Account, Path string // "" = any
	RID           string // "" = any
	ErrCode       int    // 0 = any
	Failed        bool   // only calls that were answered with another number than 0
	Before        int64  // only calls with a smaller number; 0 = from the newest on
	After         int64  // only calls with a greater number
}

// Searched describes the part of the log that was examined for an answer.
type Searched struct {
	Calls int       // how many
	Since time.Time // the second in which the oldest came; zero where there was none
	Until time.Time // likewise the newest
	Next  int64     // the Before by which an answer goes on with older ones; 0 = there are none
	// Newest is the number of the newest that was looked at, the After of later ones; 0 = there was none. Numbers are given
	// in the order of commits, so none with a smaller number comes later.
	Newest int64
}

// An answer looks at so much at most: a search that finds nothing must not read seven
// days at once.
const (
	searchedBlocks = 2000
	searchedBytes  = 8 << 20 // and one step more
	// searchedStep is the maximum number of blocks that are read together; the first steps are smaller.
	searchedStep = 32
)

// List returns at most limit calls of the log, the newest first: in the order in which
// nodes wrote them, which is that of their times but for a Window. It may return fewer,
// or none, where Searched.Next says that older ones were not looked at. What this
// process has not written yet it writes first; other nodes may be a Window behind.
func (b *Book) List(ctx context.Context, s Search, limit int) ([]Call, Searched, error) {
	if s.RID != "" {
		return b.listOne(ctx, s)
	}
	found := []Call{}
	looked, err := b.search(ctx, s, func(c Call) bool {
		found = append(found, c)
		return len(found) < limit
	})
	return found, looked, err
}

// listOne returns the list where the request id is said, which says where to look.
func (b *Book) listOne(ctx context.Context, s Search) ([]Call, Searched, error) {
	c, err := b.find(ctx, s.RID)
	switch {
	case errors.Is(err, ErrNoCall):
		return []Call{}, Searched{}, nil
	case err != nil:
		return nil, Searched{}, err
	}
	looked := Searched{Calls: 1, Since: c.OccurredAt, Until: c.OccurredAt}
	if !s.wants(c) {
		return []Call{}, looked, nil
	}
	return []Call{c}, looked, nil
}

// Failure is an errcode other than 0 that calls of one endpoint received.
type Failure struct {
	Path    string
	ErrCode int
	Times   int
	Last    Call // the newest of them
}

// Failures groups the calls that failed by endpoint and number, the most frequent first,
// of as many calls as one answer looks at.
func (b *Book) Failures(ctx context.Context, s Search) ([]Failure, Searched, error) {
	type kind struct {
		path    string
		errcode int
	}
	s.Failed = true
	counts, list := map[kind]int{}, []Failure{}
	looked, err := b.search(ctx, s, func(c Call) bool {
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

// search gives take what s wants, newest first, until take says that it is enough or so
// much was read that another answer shall go on.
func (b *Book) search(ctx context.Context, s Search, take func(Call) (hasMore bool)) (looked Searched, err error) {
	if s.Before == 0 {
		if err := b.flushCalls(ctx); err != nil {
			return looked, err
		}
	}
	prev, hint := s.Before, s.hint()
	blocks, size := 0, 0
	for step := 2; ; step = min(2*step, searchedStep) {
		var list []Block
		err := b.Store.ViewCalls(ctx, func(tx Tx) (err error) {
			list, err = tx.NewestCalls(ctx, prev, step)
			return err
		})
		if err != nil {
			return looked, err
		}
		for _, block := range list {
			lines := slices.Collect(strings.Lines(block.Text))
			for i := len(lines) - 1; i >= block.Gone; i-- {
				n := block.Last - int64(len(lines)-1-i)
				if prev != 0 && n >= prev {
					continue
				}
				if n <= s.After {
					return looked, nil
				}
				prev, looked.Newest = n, max(looked.Newest, n)
				looked.see(block.Second)
				if lines[i] == "\n" || !hint.in(lines[i]) { // the line of an account that was reset is empty
					continue
				}
				var c Call
				if err := json.Unmarshal([]byte(lines[i]), &c); err != nil {
					return looked, fmt.Errorf("reading the log of calls: %w", err)
				}
				if s.wants(c) && !take(c) {
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

// see notes that a call of a second was looked at.
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

// wants reports whether a call is one that is looked for.
func (s Search) wants(c Call) bool {
	return (s.Account == "" || c.Account == s.Account) && (s.Path == "" || c.Path == s.Path) &&
		(s.ErrCode == 0 || c.ErrCode == s.ErrCode) && (!s.Failed || c.ErrCode != 0)
}

// hint are texts without which a line is none that is looked for: most need not be read as JSON.
type hint []string

func (s Search) hint() hint {
	var texts hint
	field := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			panic(fmt.Errorf("a text or a number: %w", err))
		}
		if !strings.Contains(string(text), `\`) { // else there are several ways to write it
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
	for _, text := range h {
		if !strings.Contains(line, text) {
			return false
		}
	}
	return true
}
