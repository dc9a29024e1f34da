package accounts_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// spellings are the ways in which a secret could stand in a file: as it is,
// hexadecimal, Base64 of either alphabet at each of its three alignments.
func spellings(secret []byte) map[string][]byte {
	list := map[string][]byte{
		"as it is": secret,
		"hex":      []byte(hex.EncodeToString(secret)),
		"HEX":      []byte(strings.ToUpper(hex.EncodeToString(secret))),
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for shift := range 3 {
			text := encoding.EncodeToString(append(make([]byte, shift), secret...))
			// The characters at both ends also hold bits of what stands around.
			text = text[(shift*8+5)/6:]
			if (shift+len(secret))%3 != 0 {
				text = text[:len(text)-1]
			}
			list[name+" "+string(rune('0'+shift))] = []byte(text)
		}
	}
	return list
}

func TestSpellings_MatchAtAnyOffset(t *testing.T) {
	secret := []byte("a secret to find")
	for before := range 4 {
		for after := range 4 {
			hay := []byte(base64.StdEncoding.EncodeToString(bytes.Join([][]byte{bytes.Repeat([]byte("<"), before), secret,
				bytes.Repeat([]byte(">"), after)}, nil)))
			found := false
			for _, needle := range spellings(secret) {
				found = found || bytes.Contains(hay, needle)
			}
			assert.True(t, found, "not found after %d and before %d other bytes", before, after)
		}
	}
}

// A copy of the database without the master key lets nobody in.
func TestDatabaseCopy_NoPlaintextSecrets(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	dataKey, err := sealer.NewSecret(rand.Reader)
	require.NoError(t, err)
	masterKey, err := sealer.NewSecret(rand.Reader)
	require.NoError(t, err)
	master, err := sealer.NewKey(masterKey)
	require.NoError(t, err)
	w.Key, err = sealer.NewKey(dataKey)
	require.NoError(t, err)
	require.NoError(t, assert.ErrorOf(w.store.FirstSealedKey(ctx, "data", master.Seal("sealing_keys/data", dataKey))))

	secrets := map[string]string{"data key": string(dataKey), "master key": string(masterKey)}
	keep := func(name, text string) {
		secrets[name] = text
		// The source of a token or key would do as well.
		if _, drawn, ok := strings.Cut(text, "_"); ok {
			if raw, err := base64.RawURLEncoding.DecodeString(drawn); err == nil {
				secrets[name+", drawn"] = string(raw)
			}
		}
	}
	for _, appid := range []string{"wxa", "wxb"} {
		secret, marketcode := "AppSecret-of-"+appid+"-is-this", "0123456789abcd"+appid[1:]
		w.put(accounts.Registration{Account: accounts.Account{AppID: appid, Name: "this name is no secret"}, Secret: secret,
			MarketcodeKey: marketcode})
		keep("secret of "+appid, secret)
		keep("marketcode key of "+appid, marketcode)
		c := credentials(appid)
		c.Secret = secret
		for range 3 {
			keep("a plain token of "+appid+" "+hex.EncodeToString([]byte{byte(len(secrets))}), w.plain(c).Text)
		}
		keep("the stable token of "+appid, w.stable(c, false).Text)
		keep("the forced token of "+appid, w.stable(c, true).Text)
	}
	const oldSecret = "the-secret-that-was-before"
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxold"}, Secret: oldSecret})
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxold"}, Secret: "the-secret-that-came-after"})
	keep("the replaced secret", oldSecret)
	keep("the replacing secret", "the-secret-that-came-after")
	component := accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxa", PermissionSets: []int{18}}}}
	require.NoError(t, w.PutComponent(ctx, component, "component-secret-0003", "component-message-token", aesKey))
	keep("component secret", "component-secret-0003")
	keep("message token", "component-message-token")
	keep("EncodingAESKey", aesKey)
	raw, err := base64.StdEncoding.DecodeString(aesKey + "=")
	require.NoError(t, err)
	keep("EncodingAESKey, its bytes", string(raw))
	keys := accounts.ScanKeys{Store: w.store, Vault: w.Key, Now: w.Now, Random: rand.Reader}
	for _, name := range []string{"phone", "phone", "other"} {
		text, err := keys.Create(ctx, name, "")
		require.NoError(t, err)
		keep("a scan key of "+name+" "+hex.EncodeToString([]byte{byte(len(secrets))}), text)
	}
	require.True(t, len(secrets) >= 25, "only %d secrets", len(secrets))

	var dump []byte
	files := map[string]bool{}
	err = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[filepath.Base(path)] = len(b) > 0
		dump = append(append(dump, b...), 0)
		return err
	})
	require.NoError(t, err)
	require.True(t, files["qrjump.db"] && files["qrjump.db-wal"], "read %v, want the database and its log", files)
	require.True(t, bytes.Contains(dump, []byte("this name is no secret")),
		"what is stored in the clear is not found: this test finds nothing")
	for name, secret := range secrets {
		for how, needle := range spellings([]byte(secret)) {
			assert.True(t, !bytes.Contains(dump, needle), "%s stands in the database, %s", name, how)
		}
	}
}

// swap exchanges a column of two rows behind the server's back.
func (w *world) swap(table, column, key, a, b string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "qrjump.db")+"?_busy_timeout=10000")
	require.NoError(w.t, err)
	defer db.Close()
	var values [2]string
	for i, row := range []string{b, a} {
		require.NoError(w.t, db.QueryRowContext(w.t.Context(), `SELECT `+column+` FROM `+table+` WHERE `+key+` = $1`, row).Scan(&values[i]))
	}
	for i, row := range []string{a, b} {
		_, err := db.ExecContext(w.t.Context(), `UPDATE `+table+` SET `+column+` = $1 WHERE `+key+` = $2`, values[i], row)
		require.NoError(w.t, err)
	}
}

func TestSealedToken_MovedToOtherRow(t *testing.T) {
	w := newWorld(t)
	a, b := w.mini("wxa"), w.mini("wxb")
	texts := map[string]bool{w.stable(a, false).Text: true, w.stable(b, false).Text: true}
	w.swap("access_tokens", "sealed", "appid", "wxa", "wxb")
	started := &accounts.Service{Store: w.store, Key: w.Key, Settings: w.Settings, Random: w.Random, Now: w.Now} // remembers nothing
	for _, c := range []accounts.Credentials{a, b} {
		issued, err := started.StableToken(t.Context(), c, false)
		if row, _ := errcode.FromError(err); row != errcode.SystemError || issued != (accounts.Issued{}) || texts[issued.Text] {
			t.Errorf("%s got %q, %v", c.AppID, issued.Text, err)
		}
		// A forced refresh helps: it reads no old token.
		w.stable(c, true)
	}
}

func TestSecretHash_MovedToOtherAccount(t *testing.T) {
	w := newWorld(t)
	a, b := w.mini("wxa"), w.mini("wxb")
	w.swap("accounts", "secret_hash", "appid", "wxa", "wxb")
	a.Secret, b.Secret = b.Secret, a.Secret
	for _, c := range []accounts.Credentials{a, b} {
		_, err := w.IssueToken(t.Context(), c)
		same(t, "with the secret whose hash is there", code(err), 40125)
	}
}

func TestSealedKeys_BoundToRowAndColumn(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, appid := range []string{"wxa", "wxb"} {
		w.put(accounts.Registration{Account: accounts.Account{AppID: appid}, MarketcodeKey: "0123456789abcd" + appid[1:]})
	}
	for _, appid := range []string{"wxc", "wxd"} {
		require.NoError(t, w.PutComponent(ctx, accounts.Component{AppID: appid}, "s", "token of "+appid, aesKey))
	}
	places := map[string]string{} // place -> sealed
	err := w.store.ViewAccounts(ctx, func(tx accounts.Tx) error {
		for _, appid := range []string{"wxa", "wxb"} {
			a, err := tx.Account(ctx, appid)
			if err != nil {
				return err
			}
			places["accounts/marketcode_key/"+appid] = a.MarketcodeKey
		}
		for _, appid := range []string{"wxc", "wxd"} {
			c, err := tx.Component(ctx, appid)
			if err != nil {
				return err
			}
			places["components/message_token/"+appid] = c.MessageToken
			places["components/encoding_aes_key/"+appid] = c.EncodingAESKey
		}
		return nil
	})
	require.NoError(t, err)
	for place := range places {
		for from, sealed := range places {
			secret, err := w.Key.Open(place, sealed)
			assert.True(t, place != from || (err == nil && len(secret) != 0), "%s does not open: %v", place, err)
			assert.True(t, place == from || err != nil, "%s opens at %s", from, place)
		}
	}
}
