package accounts

import (
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

// DefaultNamespace is the namespace of users without a namespace of their own.
const DefaultNamespace = "default"

// ScanKey lets one app scan. User ids of two namespaces never meet.
type ScanKey struct {
	Hash      string
	Name      string
	Namespace string
	CreatedAt time.Time
}

// ErrNoScanKey is returned for a text that is no scan key.
var ErrNoScanKey = errors.New("accounts: no such scan key")

// ScanKeyStore keeps scan keys.
type ScanKeyStore interface {
	// ScanKey returns ErrNoScanKey where no key has the hash.
	ScanKey(ctx context.Context, hash string) (ScanKey, error)
	ScanKeys(ctx context.Context) ([]ScanKey, error)
	// PutScanKey replaces the key of the same name.
	PutScanKey(ctx context.Context, k ScanKey) error
	DeleteScanKey(ctx context.Context, name string) error
}

// ScanKeys gives out and checks scan keys. They are checked in memory: Load fills
// it, every change made here is in it before it is acknowledged, and changes
// of other nodes are seen at the next Load.
type ScanKeys struct {
	Store  ScanKeyStore
	Vault  *sealer.Key
	Now    func() time.Time
	Random io.Reader

	reading sync.Mutex // reads follow each other, so that the last of them sees the last commit
	known   atomic.Pointer[knownScanKeys]
}

const scanKeyPurpose = "scan_key"

// knownScanKeys are the keys of one moment.
type knownScanKeys struct {
	by map[string]ScanKey // by hash
	// seen are texts that were checked before, by a hash with this process's salt: a check costs no
	// HMAC, and how long it takes tells nothing of the text.
	salt [16]byte
	seen sync.Map // [32]byte -> *ScanKey
}

// Load reads the keys again. After an error those known before stay.
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
	if oldKeys := k.known.Load(); oldKeys != nil && maps.Equal(oldKeys.by, keys) {
		return nil
	}
	return k.swap(keys)
}

func (k *ScanKeys) swap(keys map[string]ScanKey) error {
	next := &knownScanKeys{by: keys}
	if _, err := io.ReadFull(k.Random, next.salt[:]); err != nil {
		return fmt.Errorf("drawing a salt: %w", err)
	}
	k.known.Store(next)
	return nil
}

// Create makes a key and returns its text, which is not kept. A key of the
// same name ends.
func (k *ScanKeys) Create(ctx context.Context, name, namespace string) (string, error) {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	var raw [24]byte
	if _, err := io.ReadFull(k.Random, raw[:]); err != nil {
		return "", fmt.Errorf("drawing a scan key: %w", err)
	}
	text := "qrs_" + base64.RawURLEncoding.EncodeToString(raw[:])
	key := ScanKey{Hash: k.Vault.Hash(scanKeyPurpose, text), Name: name, Namespace: namespace, CreatedAt: k.Now()}
	return text, k.change(ctx, name, func(ctx context.Context) error { return k.Store.PutScanKey(ctx, key) })
}

// Delete ends a key at once.
func (k *ScanKeys) Delete(ctx context.Context, name string) error {
	return k.change(ctx, name, func(ctx context.Context) error { return k.Store.DeleteScanKey(ctx, name) })
}

// change changes the key of a name in the store and in memory.
func (k *ScanKeys) change(ctx context.Context, name string, change func(context.Context) error) error {
	k.reading.Lock()
	defer k.reading.Unlock()
	if err := change(ctx); err != nil {
		return err // another Load shows what became of it
	}
	// The change is committed, even if the caller went away.
	if err := k.load(context.WithoutCancel(ctx)); err != nil {
		// Where keys cannot be read now, the next Load reads them. Until then a key that ended must
		// not let anybody in.
		if oldKeys := k.known.Load(); oldKeys != nil {
			left := maps.Clone(oldKeys.by)
			maps.DeleteFunc(left, func(_ string, key ScanKey) bool { return key.Name == name })
			return errors.Join(err, k.swap(left))
		}
		return err
	}
	return nil
}

// Check returns the key of a text, or ErrNoScanKey. It asks the store only before the first Load.
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
	if key, ok := known.seen.Load(sum); ok {
		return *key.(*ScanKey), nil
	}
	key, ok := known.by[k.Vault.Hash(scanKeyPurpose, text)]
	if !ok {
		return ScanKey{}, ErrNoScanKey // never remembered: strangers could fill the memory
	}
	known.seen.Store(sum, &key)
	return key, nil
}
