package accounts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/infra/sealer"
)

// DefaultNamespace is the namespace of users if no other namespace is given.
const DefaultNamespace = "default"

// ScanKey is the API key with which one app reports scans. Namespace separates user IDs: the same ID in two namespaces means two users.
type ScanKey struct {
	Hash      string
	Name      string
	Namespace string
	CreatedAt time.Time
}

// ErrNoScanKey is returned for a text that is not a valid scan key.
var ErrNoScanKey = errors.New("accounts: no such scan key")

// ScanKeyStore stores scan keys.
type ScanKeyStore interface {
	ScanKeys(ctx context.Context) ([]ScanKey, error)
	// PutScanKey stores a key and replaces an existing key of the same name.
	PutScanKey(ctx context.Context, k ScanKey) error
	DeleteScanKey(ctx context.Context, name string) error
}

// ScanKeys issues and checks scan keys. ScanKeys checks a key against a copy of the keys in memory. A change that this node makes is in the
// copy before the change is acknowledged; a change on another node becomes visible at the next Load.
type ScanKeys struct {
	Store  ScanKeyStore
	Vault  *sealer.Key
	Now    func() time.Time
	Random io.Reader

	reading sync.Mutex // held while keys are read: if reads overlapped, an older read could overwrite a newer one
	known   atomic.Pointer[knownScanKeys]
}

const scanKeyPurpose = "scan_key"

// knownScanKeys is a snapshot of the scan keys.
type knownScanKeys struct {
	byHash map[string]ScanKey // by hash
	// verified caches the keys of texts that were checked before, by a salted hash of the text: a repeated check needs no HMAC, and its
	// duration reveals nothing about the text.
	salt     [16]byte
	verified sync.Map // [32]byte -> *ScanKey
}

// Load reads the keys from the store. After an error, the previously loaded keys stay in use.
func (k *ScanKeys) Load(ctx context.Context) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	return k.load(ctx)
}

func (k *ScanKeys) load(ctx context.Context) error {
	all, err := k.Store.ScanKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the scan keys: %w", err)
	}
	keys := make(map[string]ScanKey, len(all))
	for _, key := range all {
		keys[key.Hash] = key
	}
	if oldKeys := k.known.Load(); oldKeys != nil && maps.Equal(oldKeys.byHash, keys) {
		return nil
	}
	return k.swap(keys)
}

func (k *ScanKeys) swap(keys map[string]ScanKey) error {
	next := &knownScanKeys{byHash: keys}
	if _, err := io.ReadFull(k.Random, next.salt[:]); err != nil {
		return fmt.Errorf("generating a salt: %w", err)
	}
	k.known.Store(next)
	return nil
}

// Create creates a key and returns its text, which is not stored. An existing key with the same name becomes invalid.
func (k *ScanKeys) Create(ctx context.Context, name, namespace string) (string, error) {
	var raw [24]byte
	if _, err := io.ReadFull(k.Random, raw[:]); err != nil {
		return "", fmt.Errorf("generating a scan key: %w", err)
	}
	text := "qrs_" + base64.RawURLEncoding.EncodeToString(raw[:])
	key := ScanKey{Hash: k.Vault.Hash(scanKeyPurpose, text), Name: name, Namespace: cmp.Or(namespace, DefaultNamespace), CreatedAt: k.Now()}
	return text, k.change(ctx, name, func(ctx context.Context) error { return k.Store.PutScanKey(ctx, key) })
}

// Delete invalidates a key at once.
func (k *ScanKeys) Delete(ctx context.Context, name string) error {
	return k.change(ctx, name, func(ctx context.Context) error { return k.Store.DeleteScanKey(ctx, name) })
}

// change applies a change to the key with the given name in the store and in memory.
func (k *ScanKeys) change(ctx context.Context, name string, change func(context.Context) error) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	if err := change(ctx); err != nil {
		return err // the next Load shows whether the change was committed
	}
	// The change is committed, so it must become visible even if the client has disconnected.
	if err := k.load(context.WithoutCancel(ctx)); err != nil {
		// If the keys cannot be read now, the next Load reads them. Until the next Load, a deleted key must not be accepted.
		if oldKeys := k.known.Load(); oldKeys != nil {
			left := maps.Clone(oldKeys.byHash)
			maps.DeleteFunc(left, func(_ string, key ScanKey) bool { return key.Name == name })
			return errors.Join(err, k.swap(left))
		}
		return err
	}
	return nil
}

// Check returns the key with the given text, or ErrNoScanKey. Check reads the store only if Load has not succeeded yet.
func (k *ScanKeys) Check(ctx context.Context, text string) (ScanKey, error) {
	if len(text) > 256 {
		return ScanKey{}, ErrNoScanKey
	}
	known := k.known.Load()
	if known == nil {
		if err := k.Load(ctx); err != nil {
			return ScanKey{}, err
		}
		known = k.known.Load()
	}
	var salted [16 + 256]byte
	copy(salted[:], known.salt[:])
	sum := sha256.Sum256(salted[:16+copy(salted[16:], text)])
	if key, ok := known.verified.Load(sum); ok {
		return *key.(*ScanKey), nil
	}
	key, ok := known.byHash[k.Vault.Hash(scanKeyPurpose, text)]
	if !ok {
		return ScanKey{}, ErrNoScanKey // invalid texts are not cached, because attackers could fill the memory
	}
	known.verified.Store(sum, &key)
	return key, nil
}
