package scanapi

import (
	"context"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// countingAccounts counts look-ups of accounts.
type countingAccounts struct {
	shop
	lookups *int
}

func (c countingAccounts) Account(appid string) (accounts.Account, bool) {
	*c.lookups++
	return c.shop.Account(appid)
}

// TestScanAPI_ResolveAllocs verifies that a response allocates at most twice, for the request's text and the page's path, and that it
// looks up each account once.
func TestScanAPI_ResolveAllocs(t *testing.T) {
	a, lookups := newTestAPI(t), 0
	a.Resolver.Accounts = countingAccounts{lookups: &lookups}
	body := []byte(`{"text":"https://shop.example/t/7?from=door","user":"u-1","source":"scan","ip":"192.0.2.7","client":"app/1.2"}`)
	var out []byte
	answer := func() {
		var err error
		if out, err = a.answer(t.Context(), accounts.DefaultNamespace, body, out[:0]); err != nil {
			t.Fatal(err)
		}
	}
	answer()
	assert.Equal(t, lookups, 1, "look-ups of accounts")
	n := testing.AllocsPerRun(1000, answer)
	assert.True(t, n <= 2, "a response allocates %v times, want at most 2", n)
}

// durableEvent is an event that is durable immediately.
type durableEvent struct{}

func (durableEvent) Wait(context.Context) error { return nil }
func (durableEvent) OnDurable(func(error)) bool { return false }

// BenchmarkAnswer measures a scan without network and disk.
func BenchmarkAnswer(b *testing.B) {
	key, err := sealer.NewKey(make([]byte, sealer.KeySize))
	require.NoError(b, err)
	body := []byte(`{"text":"https://shop.example/t/7?from=door","user":"u-1","source":"scan","ip":"192.0.2.7","client":"app/1.2"}`)
	for name, record := range map[string]EnqueueFunc{"alone": nil,
		"recorded": func(context.Context, *scanlog.Event) (Durable, error) { return durableEvent{}, nil }} {
		a := newTestAPI(b)
		a.Record = record
		users := key.Hasher("scan_user")
		a.UserHash = func(namespace, user string) scanlog.UserHash {
			sum := users.Sum(namespace, "\x00", user)
			return scanlog.UserHash(sum[:16])
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				out, err = a.answer(b.Context(), accounts.DefaultNamespace, body, out[:0])
				require.NoError(b, err)
			}
		})
	}
}
