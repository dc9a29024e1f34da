package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/vault"
)

// openVault returns the key that seals and hashes. It is random, kept in the
// database and itself sealed by the master key, which is not in the database:
// a copy of the database alone lets nobody in, and turning the master key
// changes no hash.
func openVault(ctx context.Context, c Config, s *store.Store, random io.Reader) (*vault.Key, error) {
	const name, place = "data", "vault_keys/data"
	sealed, err := s.SealedKey(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("reading the data key: %w", err)
	}
	master, where, err := masterKey(c, random, sealed == "")
	if err != nil {
		return nil, err
	}
	if sealed == "" {
		secret, err := vault.NewSecret(random)
		if err != nil {
			return nil, err
		}
		// Another process may have been first; then its key counts.
		if sealed, err = s.FirstSealedKey(ctx, name, master.Seal(place, secret)); err != nil {
			return nil, fmt.Errorf("storing the data key: %w", err)
		}
	}
	secret, err := master.Open(place, sealed)
	if err != nil {
		return nil, usage("the master key (%s) is not the one that this database was made with: put that one back", where)
	}
	return vault.NewKey(secret)
}

// masterKey reads the master key, or makes it where the database is new.
func masterKey(c Config, random io.Reader, fresh bool) (key *vault.Key, where string, err error) {
	if c.MasterKey != "" {
		where = "QRJUMP_MASTER_KEY"
		key, err = parseKey(c.MasterKey, where)
		return key, where, err
	}
	where = filepath.Join(c.Data, "master.key")
	text, err := os.ReadFile(where)
	if errors.Is(err, fs.ErrNotExist) {
		if !fresh {
			return nil, where, usage("the master key %s is missing, and the database has secrets that only it opens: put it back", where)
		}
		secret, err := vault.NewSecret(random)
		if err != nil {
			return nil, where, err
		}
		if err := writeSecret(where, hex.EncodeToString(secret)); err != nil {
			return nil, where, err
		}
		key, err = vault.NewKey(secret)
		return key, where, err
	}
	if err != nil {
		return nil, where, usage("reading the master key: %v", err)
	}
	key, err = parseKey(string(text), where)
	return key, where, err
}

func parseKey(text, where string) (*vault.Key, error) {
	secret, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(secret) != vault.KeySize {
		return nil, usage("the master key (%s) is not %d hexadecimal digits", where, 2*vault.KeySize)
	}
	return vault.NewKey(secret)
}

// writeSecret makes a file that only its owner can read, on the disk before
// anything that depends on it.
func writeSecret(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making %s: %w", path, err)
	}
	_, err = io.WriteString(f, text+"\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("making %s durable: %w", path, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// adminToken returns the token of the admin API, made at the first start.
func adminToken(c Config, random io.Reader) (token string, first bool, err error) {
	if c.AdminToken != "" {
		return c.AdminToken, false, nil
	}
	path := filepath.Join(c.Data, "admin-token")
	text, err := os.ReadFile(path)
	if err == nil {
		token = strings.TrimSpace(string(text))
		if token == "" {
			return "", false, usage("%s is empty: delete it, and the next start makes a new token", path)
		}
		return token, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, usage("reading the admin token: %v", err)
	}
	var raw [24]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", false, fmt.Errorf("drawing the admin token: %w", err)
	}
	token = "qra_" + base64.RawURLEncoding.EncodeToString(raw[:])
	return token, true, writeSecret(path, token)
}

// sameSecret compares in constant time, whatever the lengths.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
