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

// encodings returns the forms in which a file could contain a secret: unchanged, hexadecimal, and Base64 of either alphabet at each of its
// three alignments.
func encodings(secret []byte) map[string][]byte {
	list := map[string][]byte{
		"as it is": secret,
		"hex":      []byte(hex.EncodeToString(secret)),
		"HEX":      []byte(strings.ToUpper(hex.EncodeToString(secret))),
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for shift := range 3 {
			text := encoding.EncodeToString(append(make([]byte, shift), secret...))
			// The characters at both ends also encode bits of the bytes around the secret.
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
			for _, needle := range encodings(secret) {
				found = found || bytes.Contains(hay, needle)
			}
			assert.True(t, found, "secret after %d and before %d other bytes not found", before, after)
		}
	}
}

// TestDatabaseCopy_NoPlaintextSecrets searches the database files for every secret in every encoding: a copy of the database without the
// master key must be worthless.
func TestDatabaseCopy_NoPlaintextSecrets(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	dataKey := require.Value(sealer.NewSecret(rand.Reader))(t)
	masterKey := require.Value(sealer.NewSecret(rand.Reader))(t)
	master := require.Value(sealer.NewKey(masterKey))(t)
	w.Key = require.Value(sealer.NewKey(dataKey))(t)
	require.NoError(t, assert.ErrorOf(w.store.FirstSealedKey(ctx, "data", master.Seal("sealing_keys/data", dataKey))))

	secrets := map[string]string{"data key": string(dataKey), "master key": string(masterKey)}
	addSecret := func(name, text string) {
		secrets[name] = text
		// The random bytes of a token or key are secret too.
		if _, random, ok := strings.Cut(text, "_"); ok {
			if raw, err := base64.RawURLEncoding.DecodeString(random); err == nil {
				secrets[name+", random bytes"] = string(raw)
			}
		}
	}
	for _, appid := range []string{"wxa", "wxb"} {
		secret, marketcode := "AppSecret-of-"+appid+"-is-this", "0123456789abcd"+appid[1:]
		w.putAccount(accounts.Registration{Account: accounts.Account{AppID: appid, Name: "this name is no secret"}, Secret: secret,
			MarketcodeKey: marketcode})
		addSecret("secret of "+appid, secret)
		addSecret("marketcode key of "+appid, marketcode)
		c := credentials(appid)
		c.Secret = secret
		for range 3 {
			addSecret("a plain token of "+appid+" "+hex.EncodeToString([]byte{byte(len(secrets))}), w.mustIssueToken(c).Text)
		}
		addSecret("the stable token of "+appid, w.mustStableToken(c, false).Text)
		addSecret("the forced token of "+appid, w.mustStableToken(c, true).Text)
	}
	const oldSecret = "the-replaced-secret-of-wxold"
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxold"}, Secret: oldSecret})
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxold"}, Secret: "the-replacing-secret"})
	addSecret("the replaced secret", oldSecret)
	addSecret("the replacing secret", "the-replacing-secret")
	component := accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxa", PermissionSets: []int{18}}}}
	require.NoError(t, w.PutComponent(ctx, component, "component-secret-0003", "component-message-token", aesKey))
	addSecret("component secret", "component-secret-0003")
	addSecret("message token", "component-message-token")
	addSecret("EncodingAESKey", aesKey)
	raw := require.Value(base64.StdEncoding.DecodeString(aesKey + "="))(t)
	addSecret("EncodingAESKey, its bytes", string(raw))
	keys := accounts.ScanKeys{Store: w.store, Vault: w.Key, Now: w.Now, Random: rand.Reader}
	for _, name := range []string{"phone", "phone", "other"} {
		text := require.Value(keys.Create(ctx, name, ""))(t)
		addSecret("a scan key of "+name+" "+hex.EncodeToString([]byte{byte(len(secrets))}), text)
	}
	require.True(t, len(secrets) >= 25, "only %d secrets", len(secrets))

	var dump []byte
	files := map[string]bool{}
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
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
		"the plaintext name is not in the database: the search finds nothing")
	for name, secret := range secrets {
		for encoding, needle := range encodings([]byte(secret)) {
			assert.True(t, !bytes.Contains(dump, needle), "the database contains %s, encoded %s", name, encoding)
		}
	}
}

// swapColumn exchanges a column of two rows without the knowledge of the server.
func (w *fixture) swapColumn(table, column, key, a, b string) {
	w.t.Helper()
	db := require.Value(sql.Open("sqlite", "file:"+filepath.Join(w.dir, "qrjump.db")+"?_busy_timeout=10000"))(w.t)
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
	w := newFixture(t)
	a, b := w.addMiniProgram("wxa"), w.addMiniProgram("wxb")
	texts := map[string]bool{w.mustStableToken(a, false).Text: true, w.mustStableToken(b, false).Text: true}
	w.swapColumn("access_tokens", "sealed", "appid", "wxa", "wxb")
	restarted := &accounts.Service{Store: w.store, Key: w.Key, Settings: w.Settings, Random: w.Random, Now: w.Now} // with empty caches
	for _, c := range []accounts.Credentials{a, b} {
		issued, err := restarted.StableToken(t.Context(), c, false)
		if row, _ := errcode.FromError(err); row != errcode.SystemError || issued != (accounts.Issued{}) || texts[issued.Text] {
			t.Errorf("StableToken of %s = %q, %v, want a system error", c.AppID, issued.Text, err)
		}
		// A forced refresh succeeds, because it reads no stored token.
		w.mustStableToken(c, true)
	}
}

func TestSecretHash_MovedToOtherAccount(t *testing.T) {
	w := newFixture(t)
	a, b := w.addMiniProgram("wxa"), w.addMiniProgram("wxb")
	w.swapColumn("accounts", "secret_hash", "appid", "wxa", "wxb")
	a.Secret, b.Secret = b.Secret, a.Secret
	for _, c := range []accounts.Credentials{a, b} {
		_, err := w.IssueToken(t.Context(), c)
		assertEqual(t, "code with the secret of the other account", code(err), 40125)
	}
}

func TestSealedKeys_BoundToRowAndColumn(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	for _, appid := range []string{"wxa", "wxb"} {
		w.putAccount(accounts.Registration{Account: accounts.Account{AppID: appid}, MarketcodeKey: "0123456789abcd" + appid[1:]})
	}
	for _, appid := range []string{"wxc", "wxd"} {
		require.NoError(t, w.PutComponent(ctx, accounts.Component{AppID: appid}, "s", "token of "+appid, aesKey))
	}
	sealed := map[string]string{} // column and row -> value
	err := w.store.ViewAccounts(ctx, func(tx accounts.Tx) error {
		for _, appid := range []string{"wxa", "wxb"} {
			a, err := tx.Account(ctx, appid)
			if err != nil {
				return err
			}
			sealed["accounts/marketcode_key/"+appid] = a.MarketcodeKey
		}
		for _, appid := range []string{"wxc", "wxd"} {
			c, err := tx.Component(ctx, appid)
			if err != nil {
				return err
			}
			sealed["components/message_token/"+appid] = c.MessageToken
			sealed["components/encoding_aes_key/"+appid] = c.EncodingAESKey
		}
		return nil
	})
	require.NoError(t, err)
	for column := range sealed {
		for from, value := range sealed {
			secret, err := w.Key.Open(column, value)
			assert.True(t, column != from || (err == nil && len(secret) != 0), "%s cannot be opened: %v", column, err)
			assert.True(t, column == from || err != nil, "value of %s can be opened as %s, want an error", from, column)
		}
	}
}
