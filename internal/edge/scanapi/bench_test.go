package scanapi

import (
	"context"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

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
