package api

import (
	"strconv"
	"testing"
	"time"
)

func TestTheLimiterRemembersSoManyKeysAndNoMore(t *testing.T) {
	var l limiter
	now := time.Unix(1_800_000_000, 0)
	for n := range 3 * maxKeys {
		l.allow(strconv.Itoa(n), 5, now)
	}
	if len(l.calls) != maxKeys {
		t.Errorf("%d keys are remembered", len(l.calls))
	}
	now = now.Add(2 * time.Second)
	l.allow("one", 1, now)
	if len(l.calls) != 1 {
		t.Errorf("%d keys are remembered when all but one are quiet", len(l.calls))
	}
	if l.allow("one", 1, now) {
		t.Error("the second call within a second was allowed")
	}
}
