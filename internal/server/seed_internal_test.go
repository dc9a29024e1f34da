package server

import (
	"errors"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 28: an error of the store while a seed is planted is told as such, not as a fault of the seed,
// which an operator would look for in vain.
func TestSeed_StoreErrorReported(t *testing.T) {
	t.Parallel()
	f := &seedFile{name: "that was sent", data: []byte("accounts:\n  - {appid: a, kind: mini_program}\n")}
	require.NoError(t, f.parse())
	away := &errcode.Unavailable{Condition: "is read-only", Err: errors.New("attempt to write a readonly database")}
	for err, own := range map[error]bool{away: false, fmt.Errorf("inserting: %w", away): false, errors.New("disk I/O error"): false,
		accounts.Invalid("secret: too short"): true, fmt.Errorf("link: %w", accounts.ErrNoAccount): true, errcode.PrefixAdded: true} {
		got := f.planted("accounts", 0, err)
		assert.True(t, errors.Is(got, ErrUsage) == own && (own || errors.Is(got, err)), "%v is told as %v", err, got)
	}
}
