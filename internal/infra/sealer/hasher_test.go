package sealer

import (
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestHasher_MatchesKeyHash(t *testing.T) {
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
				assert.Equal(t, hex.EncodeToString(sum[:]), key.Hash("purpose", whole.String()), "%q", parts)
			}
		})
	}
	all.Wait()
}
