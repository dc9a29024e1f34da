package scan

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/qrjump/qrjump/internal/vault"
)

// DefaultNamespace is the namespace of users where nobody named another.
const DefaultNamespace = "default"

// Key lets one app scan. User ids of two namespaces never meet.
type Key struct {
	Hash      string
	Name      string
	Namespace string
	CreatedAt time.Time
}

// ErrNoKey is returned for a text that is no scan key.
var ErrNoKey = errors.New("scan: no such key")

// KeyStore keeps scan keys.
type KeyStore interface {
	// ScanKey returns ErrNoKey where no key has the hash.
	ScanKey(ctx context.Context, hash string) (Key, error)
	ScanKeys(ctx context.Context) ([]Key, error)
	// PutScanKey replaces the key of the same name.
	PutScanKey(ctx context.Context, k Key) error
	DeleteScanKey(ctx context.Context, name string) error
}

// Keys gives out and checks scan keys.
type Keys struct {
	Store  KeyStore
	Vault  *vault.Key
	Now    func() time.Time
	Random io.Reader
}

const keyPurpose = "scan_key"

// Create makes a key and returns its text, which is not kept.
func (k *Keys) Create(ctx context.Context, name, namespace string) (string, error) {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	var raw [24]byte
	if _, err := io.ReadFull(k.Random, raw[:]); err != nil {
		return "", fmt.Errorf("drawing a scan key: %w", err)
	}
	text := "qrs_" + base64.RawURLEncoding.EncodeToString(raw[:])
	return text, k.Store.PutScanKey(ctx, Key{
		Hash: k.Vault.Hash(keyPurpose, text), Name: name, Namespace: namespace, CreatedAt: k.Now(),
	})
}

// Check returns the key behind a text, or ErrNoKey. The look-up is by a keyed
// hash, so its time tells nothing of the text.
func (k *Keys) Check(ctx context.Context, text string) (Key, error) {
	if len(text) > 256 {
		return Key{}, ErrNoKey
	}
	return k.Store.ScanKey(ctx, k.Vault.Hash(keyPurpose, text))
}
