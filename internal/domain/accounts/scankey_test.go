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

// scanKeyStore is a store of keys in memory that counts list reads and fails them with err.
type scanKeyStore struct {
	mu    sync.Mutex
	keys  []accounts.ScanKey
	reads int
	err   error
}

func (s *scanKeyStore) ScanKey(context.Context, string) (accounts.ScanKey, error) {
	panic("Check must not read the store")
}

func (s *scanKeyStore) ScanKeys(context.Context) ([]accounts.ScanKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return slices.Clone(s.keys), s.err
}

func (s *scanKeyStore) PutScanKey(ctx context.Context, k accounts.ScanKey) error {
	_ = s.DeleteScanKey(ctx, k.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	return nil
}

func (s *scanKeyStore) DeleteScanKey(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(k accounts.ScanKey) bool { return k.Name == name })
	return nil
}

func newScanKeys(t *testing.T, s *scanKeyStore) *accounts.ScanKeys {
	t.Helper()
	return &accounts.ScanKeys{Store: s, Vault: newKey(t), Now: time.Now, Random: rand.Reader}
}

func TestScanKeys_CheckedInMemory(t *testing.T) {
	s := &scanKeyStore{}
	first, second := newScanKeys(t, s), newScanKeys(t, s) // two nodes
	text := require.Value(first.Create(t.Context(), "app", "ns"))(t)
	check := func(k *accounts.ScanKeys, text, namespace string) {
		t.Helper()
		got, err := k.Check(t.Context(), text)
		valid, unknown := err == nil && got.Namespace == namespace, errors.Is(err, accounts.ErrNoScanKey)
		assert.True(t, namespace == "" && unknown || namespace != "" && valid,
			"Check = %+v, %v, want namespace %q", got, err, namespace)
	}
	check(first, text, "ns")
	check(second, text, "ns")
	reads := s.reads
	for range 100 {
		check(first, text, "ns")
		check(first, text+"x", "")
		check(second, text, "ns")
	}
	assert.Equal(t, s.reads-reads, 0, "store reads of Check")
	// A key of the same name replaces the first: immediately on this node, on the other after its next Load.
	replacement := require.Value(first.Create(t.Context(), "app", ""))(t)
	check(first, text, "")
	check(first, replacement, accounts.DefaultNamespace)
	check(second, text, "ns")
	require.NoError(t, second.Load(t.Context()))
	check(second, text, "")
	check(second, replacement, accounts.DefaultNamespace)
	// While the store is unavailable, valid keys remain valid and a deleted key does not.
	third := require.Value(first.Create(t.Context(), "third", ""))(t)
	s.err = errors.New("unavailable")
	assert.ErrorIs(t, first.Load(t.Context()), s.err, "Load")
	check(first, replacement, accounts.DefaultNamespace)
	assert.ErrorIs(t, first.Delete(t.Context(), "app"), s.err, "Delete that cannot be read back")
	check(first, replacement, "")
	check(first, third, accounts.DefaultNamespace)
}

// TestScanKeys_RevokedDuringChanges verifies that Check rejects a revoked key during concurrent loads.
func TestScanKeys_RevokedDuringChanges(t *testing.T) {
	s := &scanKeyStore{}
	k := newScanKeys(t, s)
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
		text := require.Value(k.Create(t.Context(), "app", ""))(t)
		require.NoErrorf(t, assert.ErrorOf(k.Check(t.Context(), text)), "a new key")
		require.NoError(t, k.Delete(t.Context(), "app"))
		require.ErrorIs(t, assert.ErrorOf(k.Check(t.Context(), text)), accounts.ErrNoScanKey, "Check of a revoked key")
	}
	stop()
	loads.Wait()
}
