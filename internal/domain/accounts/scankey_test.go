package accounts_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// shelf is a store of keys that counts what it is asked, and may be away.
type shelf struct {
	mu    sync.Mutex
	keys  []accounts.ScanKey
	reads int
	away  error
}

func (s *shelf) ScanKey(context.Context, string) (accounts.ScanKey, error) {
	panic("a check asks no store")
}

func (s *shelf) ScanKeys(context.Context) ([]accounts.ScanKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return slices.Clone(s.keys), s.away
}

func (s *shelf) PutScanKey(ctx context.Context, k accounts.ScanKey) error {
	_ = s.DeleteScanKey(ctx, k.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	return nil
}

func (s *shelf) DeleteScanKey(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(k accounts.ScanKey) bool { return k.Name == name })
	return nil
}

func newKeys(t *testing.T, s *shelf) *accounts.ScanKeys {
	t.Helper()
	return &accounts.ScanKeys{Store: s, Vault: newKey(t), Now: time.Now, Random: rand.Reader}
}

func TestScanKeys_CheckedInMemory(t *testing.T) {
	s := &shelf{}
	one, other := newKeys(t, s), newKeys(t, s) // two nodes
	text, err := one.Create(t.Context(), "app", "ns")
	require.NoError(t, err)
	opens := func(k *accounts.ScanKeys, text, namespace string) {
		t.Helper()
		got, err := k.Check(t.Context(), text)
		valid, unknown := err == nil && got.Namespace == namespace, errors.Is(err, accounts.ErrNoScanKey)
		assert.True(t, namespace == "" && unknown || namespace != "" && valid,
			"got %+v %v, want %q", got, err, namespace)
	}
	opens(one, text, "ns")
	opens(other, text, "ns")
	reads := s.reads
	for range 100 {
		opens(one, text, "ns")
		opens(one, text+"x", "")
		opens(other, text, "ns")
	}
	assert.True(t, s.reads == reads, "checks read the store %d times", s.reads-reads)
	// A key of the same name replaces it, at once here, and elsewhere with the next Load.
	second, err := one.Create(t.Context(), "app", "")
	require.NoError(t, err)
	opens(one, text, "")
	opens(one, second, accounts.DefaultNamespace)
	opens(other, text, "ns")
	require.NoError(t, other.Load(t.Context()))
	opens(other, text, "")
	opens(other, second, accounts.DefaultNamespace)
	// While the store is away keys go on, but one that ended does not.
	third, err := one.Create(t.Context(), "third", "")
	require.NoError(t, err)
	s.away = errors.New("away")
	assert.ErrorIs(t, one.Load(t.Context()), s.away, "a Load")
	opens(one, second, accounts.DefaultNamespace)
	assert.ErrorIs(t, one.Delete(t.Context(), "app"), s.away, "a Delete that cannot be read back")
	opens(one, second, "")
	opens(one, third, accounts.DefaultNamespace)
}

// A check while keys come and go never opens with one that ended before.
func TestScanKeys_RevokedDuringChanges(t *testing.T) {
	s := &shelf{}
	k := newKeys(t, s)
	var loads sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 2 {
		loads.Go(func() {
			for ctx.Err() == nil {
				_ = k.Load(ctx)
			}
		})
	}
	for range 200 {
		text, err := k.Create(t.Context(), "app", "")
		require.NoError(t, err)
		require.NoErrorf(t, assert.ErrorOf(k.Check(t.Context(), text)), "a new key")
		require.NoError(t, k.Delete(t.Context(), "app"))
		require.ErrorIs(t, assert.ErrorOf(k.Check(t.Context(), text)), accounts.ErrNoScanKey, "a key that ended")
	}
	stop()
	loads.Wait()
}
