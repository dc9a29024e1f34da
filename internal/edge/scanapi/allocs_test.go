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

// counted counts how often an account is asked for.
type counted struct {
	shop
	asked *int
}

func (c counted) Account(appid string) (accounts.Account, bool) {
	*c.asked++
	return c.shop.Account(appid)
}

// Issue 14: an answer keeps the request's text and makes the page's path; nothing else
// of it is the collector's, and each account is looked up once.
func TestScanAPI_ResolveAllocs(t *testing.T) {
	a, asked := fuzzedAPI(t), 0
	a.Resolver.Accounts = counted{asked: &asked}
	body := []byte(`{"text":"https://shop.example/t/7?from=door","user":"u-1","source":"scan","ip":"192.0.2.7","client":"app/1.2"}`)
	var out []byte
	answer := func() {
		var err error
		if out, err = a.answer(t.Context(), accounts.DefaultNamespace, body, out[:0]); err != nil {
			t.Fatal(err)
		}
	}
	answer()
	assert.Equal(t, asked, 1, "accounts were looked up")
	n := testing.AllocsPerRun(1000, answer)
	assert.True(t, !(n > 2), "an answer allocates %v times, want 2 at most", n)
}

type durableNow struct{}

func (durableNow) Wait(context.Context) error { return nil }
func (durableNow) OnDurable(func(error)) bool { return false }

// BenchmarkAnswer is what one scan costs beside the network and the disk.
func BenchmarkAnswer(b *testing.B) {
	key, err := sealer.NewKey(make([]byte, sealer.KeySize))
	require.NoError(b, err)
	body := []byte(`{"text":"https://shop.example/t/7?from=door","user":"u-1","source":"scan","ip":"192.0.2.7","client":"app/1.2"}`)
	for name, record := range map[string]EnqueueFunc{"alone": nil,
		"recorded": func(context.Context, *scanlog.Event) (Durable, error) { return durableNow{}, nil }} {
		a := fuzzedAPI(b)
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
