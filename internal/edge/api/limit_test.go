package api

import (
	"strconv"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestLimiter_KeysBounded(t *testing.T) {
	var l limiter
	now := time.Unix(1_800_000_000, 0)
	for n := range 3 * maxKeys {
		l.allow(strconv.Itoa(n), 5, now)
	}
	assert.Equal(t, len(l.calls), maxKeys, "keys of %d callers", 3*maxKeys)
	now = now.Add(2 * time.Second)
	l.allow("one", 1, now)
	assert.Equal(t, len(l.calls), 1, "keys after all others expired")
	assert.True(t, !l.allow("one", 1, now), "the second call within a second was allowed")
}
