package sealer

import (
	"encoding/hex"
	"strings"
	"sync"
	"testing"
)

func TestAHasherHashesAsTheKeyDoes(t *testing.T) {
	key := newKey(t, counting(1, 32))
	h := key.Hasher("purpose")
	var all sync.WaitGroup
	for _, parts := range [][]string{{}, {""}, {"a"}, {"a", "b"}, {"namespace", "\x00", "user"}} {
		all.Go(func() {
			for range 100 {
				var whole strings.Builder
				for _, part := range parts {
					whole.WriteString(part)
				}
				sum := h.Sum(parts...)
				if got := hex.EncodeToString(sum[:]); got != key.Hash("purpose", whole.String()) {
					t.Errorf("%q: %s", parts, got)
				}
			}
		})
	}
	all.Wait()
}
