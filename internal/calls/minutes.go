package calls

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Minutes counts the calls of a key in the minute that it is. Its zero value is ready.
type Minutes struct {
	// Shared counts a call of a key over all nodes and reports whether it is one of at
	// most limit; nil = there is one node.
	Shared func(ctx context.Context, key string, limit int) (bool, error)

	mu     sync.Mutex // guards what follows
	minute int64
	calls  map[string]int // of this node
}

// Allow counts a call and reports whether it is within the limit of its minute. A
// refused call counts for nothing, and of a key that used up its minute here, nobody
// asks the others.
func (m *Minutes) Allow(ctx context.Context, key string, limit int, now time.Time) (bool, error) {
	minute := now.Unix() / 60
	if !m.allow(key, limit, minute) {
		return false, nil
	}
	if m.Shared == nil {
		return true, nil
	}
	return m.Shared(ctx, fmt.Sprintf("minute %d: %s", minute, key), limit)
}

func (m *Minutes) allow(key string, limit int, minute int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if minute != m.minute || m.calls == nil {
		m.minute, m.calls = minute, map[string]int{}
	}
	if m.calls[key] >= limit {
		return false
	}
	m.calls[key]++
	return true
}

// Forget forgets what this node counted.
func (m *Minutes) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = nil
}
