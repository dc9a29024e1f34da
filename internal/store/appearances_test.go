package store

import (
	"errors"
	"reflect"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/branding"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestAppearance_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		want := branding.Appearance{AppID: "shop", Accent: "#0b6b45", Help: "https://help.example/", OpenAtOnce: true,
			Texts: map[branding.Language]branding.Texts{branding.Chinese: {Landing: "点单"}},
			Logo:  branding.Logo{Hash: "aa", Width: 3, Height: 2, Bytes: 4}}
		checkStored := func(name string, want branding.Appearance, png string, none error) {
			t.Helper()
			require.NoError(t, s.Appearances().View(ctx, func(tx branding.Tx) error {
				got, err := tx.Appearance(ctx, "shop")
				assert.True(t, errors.Is(err, none) && (none != nil || reflect.DeepEqual(got, want)),
					"%s: Appearance() = %+v, %v, want %+v, %v", name, got, err, want, none)
				file, err := tx.Logo(ctx, "aa")
				assert.True(t, (png == "") == errors.Is(err, branding.ErrNone) && string(file) == png,
					"%s: Logo() = %q, %v, want %q", name, file, err, png)
				assert.ErrorIs(t, assert.ErrorOf(tx.Logo(ctx, "")), branding.ErrNone, "%s: Logo() without a hash", name)
				return nil
			}))
		}
		put := func(a branding.Appearance, png []byte) {
			t.Helper()
			require.NoError(t, s.Appearances().Update(ctx, func(tx branding.Tx) error { return tx.PutAppearance(ctx, a, png) }))
		}
		checkStored("before PutAppearance", want, "", branding.ErrNone)
		put(want, []byte("\x89P\x00\xff"))
		checkStored("after PutAppearance", want, "\x89P\x00\xff", nil)
		plain := branding.Appearance{AppID: "shop", Texts: map[branding.Language]branding.Texts{}}
		put(plain, nil)
		checkStored("after an update", plain, "", nil)
		put(want, []byte("png"))
		require.NoError(t, s.UpdateAccounts(ctx, func(tx accounts.Tx) error { return tx.DeleteAccount(ctx, "shop") }))
		checkStored("after the account is deleted", want, "", branding.ErrNone)
	})
}
