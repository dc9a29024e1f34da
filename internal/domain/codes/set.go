package codes

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Set is a set of indexes: sorted ranges that neither overlap nor touch. A set of ten thousand scattered codes takes about thirty
// kilobytes when stored.
type Set []Range

// NewSet sorts ranges and merges ranges that overlap or touch.
func NewSet(ranges ...Range) Set {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	var s Set
	for _, r := range sorted {
		if n := len(s); n > 0 && r.From <= s[n-1].To+1 {
			s[n-1].To = max(s[n-1].To, r.To)
			continue
		}
		s = append(s, r)
	}
	return s
}

// Contains reports whether an index is in the set.
func (s Set) Contains(index int64) bool {
	i, found := slices.BinarySearchFunc(s, index, func(r Range, index int64) int {
		switch {
		case r.To < index:
			return -1
		case r.From > index:
			return 1
		}
		return 0
	})
	return found && i < len(s)
}

// String returns the first ten ranges as text, such as "0-4999, 7000-7999".
func (s Set) String() string {
	var text []string
	for i, r := range s {
		if i == 10 {
			text = append(text, "…")
			break
		}
		text = append(text, fmt.Sprintf("%d-%d", r.From, r.To))
	}
	return cmp.Or(strings.Join(text, ", "), "none")
}

// Subtract returns the indexes of s that are not in o.
func (s Set) Subtract(o Set) (rest Set) {
	for _, r := range s {
		for _, taken := range o {
			if taken.To < r.From || taken.From > r.To {
				continue
			}
			if taken.From > r.From {
				rest = append(rest, Range{r.From, taken.From - 1})
			}
			r.From = taken.To + 1
		}
		if r.From <= r.To {
			rest = append(rest, r)
		}
	}
	return rest
}

// Len returns the number of indexes.
func (s Set) Len() (n int64) {
	for _, r := range s {
		n += r.To - r.From + 1
	}
	return n
}

// Bounds returns the range from the first to the last index of a non-empty set.
func (s Set) Bounds() Range { return Range{s[0].From, s[len(s)-1].To} }

// Encode encodes the set as gaps and lengths in variable-length numbers, in Base64.
func (s Set) Encode() string {
	var b []byte
	next := int64(0)
	for _, r := range s {
		b = binary.AppendUvarint(b, uint64(r.From-next))
		b = binary.AppendUvarint(b, uint64(r.To-r.From))
		next = r.To + 1
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// DecodeSet decodes the output of Encode.
func DecodeSet(text string) (Set, error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("codes: a stored set is corrupted: %w", err)
	}
	var s Set
	next := int64(0)
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("codes: a stored set is corrupted")
		}
		length, m := binary.Uvarint(b[n:])
		const most = 1 << 40 // above every index
		if m <= 0 || gap > most || length > most || next > most {
			return nil, fmt.Errorf("codes: a stored set is corrupted")
		}
		b = b[n+m:]
		r := Range{next + int64(gap), next + int64(gap) + int64(length)}
		next = r.To + 1
		s = append(s, r)
	}
	return s, nil
}

// first returns the lowest indexes of the set, at most "limit", and whether the set has more indexes.
func (s Set) first(limit int64) (head Set, hasMore bool) {
	for _, r := range s {
		if limit == 0 {
			return head, true
		}
		n := min(limit, r.To-r.From+1)
		head, limit = append(head, Range{r.From, r.From + n - 1}), limit-n
		hasMore = r.From+n-1 < r.To
	}
	return head, hasMore
}
