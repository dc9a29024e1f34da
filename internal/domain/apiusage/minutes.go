package apiusage

import (
	"context"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// Minutes counts the calls of a key in the current minute. The zero value of Minutes is ready to use.
type Minutes struct {
	// Shared counts a call of a key over all nodes and reports whether the count is within limit; nil = there is only one node.
	Shared func(ctx context.Context, key string, limit int) (bool, error)

	local ratelimit.FixedWindow[string] // of this node
}

// Allow counts a call and reports whether the number of calls in the minute of now is within limit. A rejected call is not counted. If the
// calls on this node alone exceed the limit, Shared is not called.
func (m *Minutes) Allow(ctx context.Context, key string, limit int, now time.Time) (bool, error) {
	if !m.local.Allow(key, limit, now) {
		return false, nil
	}
	if m.Shared == nil {
		return true, nil
	}
	return m.Shared(ctx, fmt.Sprintf("minute %d: %s", now.Unix()/60, key), limit)
}

// Reset discards the counts of this node.
func (m *Minutes) Reset() { m.local.Forget() }
