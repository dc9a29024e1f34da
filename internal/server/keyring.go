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
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
)

// keyring opens the keys in the database, which are sealed with the master key. The master key is outside the database, so a copy of the
// database alone grants no access. The keys survive a rotation of the master key, so hashes and codes stay valid.
type keyring struct {
	store  *store.Store
	random io.Reader
	master *sealer.Key
	source string // source of the master key, for log messages
	// finished reports that this start has completed an interrupted rotation of the master key.
	finished bool
	// fresh reports that the database has no keys yet.
	fresh bool
}

func openKeyring(ctx context.Context, c Config, s *store.Store, random io.Reader) (*keyring, error) {
	sealed, err := s.SealedKey(ctx, dataKey)
	if err != nil {
		return nil, fmt.Errorf("reading the data key: %w", err)
	}
	if err := refuseEmpty(c, sealed == ""); err != nil {
		return nil, err
	}
	k := &keyring{store: s, random: random, fresh: sealed == ""}
	if sealed != "" && c.MasterKey == "" {
		if k.finished, err = finishTurn(c, sealed); err != nil {
			return nil, err
		}
	}
	k.master, k.source, err = masterKey(c, random, sealed == "")
	return k, err
}

// secrets holds the keys of this database, the admin token, and the state for counting wrong credentials.
type secrets struct {
	ring       *keyring
	vault      *sealer.Key
	openIDs    *accounts.OpenIDs
	adminToken string
	newToken   bool              // the admin token was generated at this start
	guesses    accounts.Throttle // counts failed attempts with credentials that this package compares
	refusals   refusals
	oidcSecret string // client secret of this server at the OpenID Connect provider
}

// keysComponent returns the component that opens the keys of the database, records the database's identity in the data folder, and starts
// the audit log.
func (s *Server) keysComponent() component {
	return component{name: "keys", start: func(ctx context.Context) (err error) {
		if s.secrets.ring, err = s.openKeyring(ctx, s.store); err != nil {
			return err
		}
		s.warnOfReadable("master.key", "admin-token", oidcSecretFile, "qrjump.db", "qrjump.db-wal")
		if s.secrets.vault, err = s.secrets.ring.vault(ctx); err != nil {
			return err
		}
		if err := keepIdentity(s.config, s.secrets.vault); err != nil {
			return err
		}
		s.keepChanges()
		if s.secrets.oidcSecret, err = oidcSecret(s.config); err != nil {
			return err
		}
		s.secrets.adminToken, s.secrets.newToken, err = adminToken(s.config, s.random)
		return err
	}}
}

// openKeyring opens the keys of a database.
func (s *Server) openKeyring(ctx context.Context, db *store.Store) (*keyring, error) {
	ring, err := openKeyring(ctx, s.config, db, s.random)
	if err == nil && ring.finished {
		s.log.WarnContext(ctx, "interrupted master key rotation completed", "file", ring.source)
	}
	return ring, err
}

// The names of the keys in the database.
const (
	dataKey   = "data"   // permanent: hashes values that are compared and never decrypted
	sealKey   = "seal"   // encrypts values that are decrypted later; replaced at each rotation of the master key
	openidKey = "openid" // permanent: derives the openid of every user
	codeKey   = "code"   // permanent: derives all original codes
	textKey   = "text.0" // derives the code texts of version 0
	signKey   = "sign"   // permanent: signs packages for printers
)

func place(name string) string { return "sealing_keys/" + name }

// hashing returns the key with which an existing database makes keyed hashes.
func (k *keyring) hashing(ctx context.Context) (*sealer.Key, error) {
	secret, err := k.secret(ctx, dataKey)
	if err != nil {
		return nil, err
	}
	return sealer.NewKey(secret)
}

// secret returns a stored key; if the key does not exist, secret generates and stores it.
func (k *keyring) secret(ctx context.Context, name string) ([]byte, error) {
	sealed, err := k.store.SealedKey(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", name, err)
	}
	if sealed == "" {
		secret, err := sealer.NewSecret(k.random)
		if err != nil {
			return nil, err
		}
		// If another process stored a key first, that key is used.
		if sealed, err = k.store.FirstSealedKey(ctx, name, k.master.Seal(place(name), secret)); err != nil {
			return nil, fmt.Errorf("storing the key %s: %w", name, err)
		}
	}
	secret, err := k.master.Open(place(name), sealed)
	if err != nil {
		return nil, usage("the keys of this database are not encrypted with this master key (%s); "+
			"if the master key was rotated, use the new one", k.source)
	}
	if name == sealKey {
		k.store.Fence(name, sealed)
	}
	return secret, nil
}

// vault returns the key that encrypts and hashes values in the database.
func (k *keyring) vault(ctx context.Context) (*sealer.Key, error) {
	var keys [2]*sealer.Key
	for i, name := range []string{dataKey, sealKey} {
		secret, err := k.secret(ctx, name)
		if err != nil {
			return nil, err
		}
		if keys[i], err = sealer.NewKey(secret); err != nil {
			return nil, err
		}
	}
	return keys[0].SealingWith(keys[1]), nil
}

// openIDs returns the key that derives users' openids.
func (k *keyring) openIDs(ctx context.Context) (*accounts.OpenIDs, error) {
	secret, err := k.secret(ctx, openidKey)
	return accounts.NewOpenIDs(secret), err
}

// anyBatch returns the id of any batch of codes; 0 = there is no batch.
func (k *keyring) anyBatch(ctx context.Context) (int64, error) {
	for batch, err := range k.store.Batches(ctx) {
		if err != nil {
			return 0, fmt.Errorf("listing batches: %w", err)
		}
		return batch.ID, nil
	}
	return 0, nil
}

// codes returns the keys that derive codes. If the database has batches but not their keys, codes returns an error instead of making new
// keys, which would derive different codes.
func (k *keyring) codes(ctx context.Context) (codes.Keys, error) {
	batch, err := k.anyBatch(ctx)
	if err != nil {
		return codes.Keys{}, err
	}
	var secrets [2][]byte
	for i, name := range []string{codeKey, textKey} {
		sealed, err := k.store.SealedKey(ctx, name)
		if err != nil {
			return codes.Keys{}, fmt.Errorf("reading the key %s: %w", name, err)
		}
		if batch != 0 && sealed == "" {
			return codes.Keys{}, usage("the database has codes (application %d) but not the key %q that they were generated with: "+
				"restore the keys from an export", batch, name)
		}
		if secrets[i], err = k.secret(ctx, name); err != nil {
			return codes.Keys{}, err
		}
	}
	code, err := codes.NewCodeKey(secrets[0])
	if err != nil {
		return codes.Keys{}, err
	}
	text, err := codes.NewTextKey(secrets[1])
	return codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion}, err
}

func masterFile(data string) string { return filepath.Join(data, "master.key") }

// masterKey reads the master key, or generates it if the database is new.
func masterKey(c Config, random io.Reader, fresh bool) (key *sealer.Key, location string, err error) {
	if c.MasterKey != "" {
		location = "QRJUMP_MASTER_KEY"
		key, err = parseKey(c.MasterKey, location)
		return key, location, err
	}
	location = masterFile(c.Data)
	text, exists, err := readSecret(location, "master key")
	switch {
	case err != nil:
		return nil, location, err
	case !exists && !fresh:
		return nil, location, usage("the master key %s is missing, and the database has secrets encrypted with it: restore it; "+
			"another node of the same database needs the key of the first: its file master.key, or QRJUMP_MASTER_KEY", location)
	case !exists:
		secret, err := sealer.NewSecret(random)
		if err != nil {
			return nil, location, err
		}
		text = hex.EncodeToString(secret)
		if err := writeSecret(location, text); err != nil {
			return nil, location, err
		}
	}
	key, err = parseKey(text, location)
	return key, location, err
}

// readSecret reads the secret in a file; name names the secret in an error. exists is false if there is no such file.
func readSecret(path, name string) (secret string, exists bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, usage("reading the %s: %v", name, err)
	}
	return strings.TrimSpace(string(text)), true, nil
}

func parseKey(text, location string) (*sealer.Key, error) {
	secret, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(secret) != sealer.KeySize {
		return nil, usage("the master key (%s) is not %d hexadecimal digits", location, 2*sealer.KeySize)
	}
	return sealer.NewKey(secret)
}

// writeSecret creates a file that only its owner can read, and syncs it to disk before it returns. The file has a temporary name until it
// is complete; otherwise a crash could leave an empty key file, which would block the next start.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = io.WriteString(f, text+"\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	// Unlike a rename, a hard link never replaces a file that another process created.
	if err := os.Link(f.Name(), path); err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	return atomicfile.Named(path)
}

// minSecret returns the minimum length in bytes of an account's secret that a person chooses: 16, or 0 with --dev.
func (c Config) minSecret() int {
	if c.Dev {
		return 0
	}
	return 16
}

// minAdminToken is the minimum number of characters of an admin token that a person chose. The server does not delay callers with a wrong
// token, so the token must be long.
const minAdminToken = 20

// checkAdminToken returns an error if a token is too short. Accepted are "" (no token yet) and, with --dev, any token.
func (c Config) checkAdminToken(token, location string) error {
	n := utf8.RuneCountInString(token)
	if token == "" || c.Dev || n >= minAdminToken {
		return nil
	}
	return usage("the admin token (%s) has %d characters: without --dev it needs at least %d; openssl rand -hex 24 generates one", location,
		n, minAdminToken)
}

// adminToken returns the token of the admin API, which is generated at the first start.
func adminToken(c Config, random io.Reader) (token string, first bool, err error) {
	if c.AdminToken != "" {
		return c.AdminToken, false, nil
	}
	path := filepath.Join(c.Data, "admin-token")
	token, exists, err := readSecret(path, "admin token")
	switch {
	case err != nil:
		return "", false, err
	case exists && token == "":
		return "", false, usage("%s is empty: delete it, and the next start creates a new token", path)
	case exists:
		return token, false, c.checkAdminToken(token, path)
	}
	var raw [24]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", false, fmt.Errorf("generating the admin token: %w", err)
	}
	token = "qra_" + base64.RawURLEncoding.EncodeToString(raw[:])
	return token, true, writeSecret(path, token)
}

const oidcSecretFile = "oidc-client-secret"

// oidcSecret returns this server's client secret at the OpenID Connect provider; "" = none.
func oidcSecret(c Config) (string, error) {
	if c.OIDC.Issuer == "" || c.OIDC.ClientSecret != "" {
		return c.OIDC.ClientSecret, nil
	}
	path := filepath.Join(c.Data, oidcSecretFile)
	secret, exists, err := readSecret(path, "client secret of the identity provider")
	if exists && secret == "" {
		return "", usage("%s is empty: write the client's secret into it, or delete it", path)
	}
	return secret, err
}

// sameSecret compares two secrets in constant time, even if their lengths differ.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// warnOfReadable logs a warning for secret files that other users can read.
func (s *Server) warnOfReadable(names ...string) {
	for _, name := range names {
		path := filepath.Join(s.config.Data, name)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			s.log.Warn("secret file is readable by other users", "hint", "chmod 600", "file", path, "mode", info.Mode().Perm().String())
		}
	}
}
