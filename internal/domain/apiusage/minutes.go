package apiusage

import (
	"context"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/infra/ratelimit"
)

// Minutes counts the calls of a key in the minute that it is. Its zero value is ready.
type Minutes struct {
	// Shared counts a call of a key over all nodes and reports whether it is one of at
	// most limit; nil = there is one node.
	Shared func(ctx context.Context, key string, limit int) (bool, error)

	here ratelimit.FixedWindow[string] // of this node
}

// Allow counts a call and reports whether it is within the limit of its minute. A refused call is not counted, and once a key has
// used up its minute on this node, the other nodes are not asked.
func (m *Minutes) Allow(ctx context.Context, key string, limit int, now time.Time) (bool, error) {
	if !m.here.Allow(key, limit, now) {
		return false, nil
	}
	if m.Shared == nil {
		return true, nil
	}
	return m.Shared(ctx, fmt.Sprintf("minute %d: %s", now.Unix()/60, key), limit)
}

// Forget forgets what this node counted.
func (m *Minutes) Forget() { m.here.Forget() }
