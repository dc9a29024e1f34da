package store

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	slowAfter         = 100 * time.Millisecond
	maxSlowStatements = 100
)

// SlowStatement counts the runs of an SQL statement that took 100 ms or longer on this node since its start.
type SlowStatement struct {
	Query        string    `json:"query"` // SQL text, without the values of the parameters
	Count        int64     `json:"count"`
	TotalSeconds float64   `json:"total_seconds"`
	MaxSeconds   float64   `json:"max_seconds"`
	LastAt       time.Time `json:"last_at"`
}

// slowStatements collects the slow statements of a node. Only the maxSlowStatements statements with the slowest single run are kept.
type slowStatements struct {
	after time.Duration // 0 = slowAfter
	mu    sync.Mutex
	rows  map[string]*SlowStatement
}

// add records a statement that began at a time and has just returned its first row or failed.
func (s *slowStatements) add(query string, began time.Time) {
	if took := time.Since(began); s != nil && took >= cmp.Or(s.after, slowAfter) {
		s.record(query, took, time.Now().UTC())
	}
}

func (s *slowStatements) record(query string, took time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := s.rows[query]
	if row == nil {
		if len(s.rows) >= maxSlowStatements {
			fastest := slices.MinFunc(slices.Collect(maps.Values(s.rows)), func(a, b *SlowStatement) int {
				return cmp.Compare(a.MaxSeconds, b.MaxSeconds)
			})
			if fastest.MaxSeconds >= took.Seconds() {
				return
			}
			delete(s.rows, fastest.Query)
		}
		if s.rows == nil {
			s.rows = map[string]*SlowStatement{}
		}
		row = &SlowStatement{Query: query}
		s.rows[query] = row
	}
	row.Count++
	row.TotalSeconds += took.Seconds()
	row.MaxSeconds, row.LastAt = max(row.MaxSeconds, took.Seconds()), now
}

// SlowStatements returns the slow statements of this node, the longest total time first.
func (s *Store) SlowStatements() []SlowStatement {
	s.slow.mu.Lock()
	defer s.slow.mu.Unlock()
	list := make([]SlowStatement, 0, len(s.slow.rows))
	for _, row := range s.slow.rows {
		list = append(list, *row)
	}
	slices.SortFunc(list, func(a, b SlowStatement) int { return cmp.Compare(b.TotalSeconds, a.TotalSeconds) })
	return list
}
