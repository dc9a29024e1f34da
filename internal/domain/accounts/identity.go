package accounts

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Epochs shows whether the rows from which a cached identity was read may have changed: the rows of an account, of its tokens and grants,
// and of a component. The store changes an epoch before and after every commit that changes such rows. All AppIDs share 256 epochs, which
// limits the memory; an unchanged account that shares an epoch with a changed account is read again unnecessarily. Other cached data has a
// name in place of the AppID: for the rules of an account, rules.Epoch returns the name. The zero value of Epochs is ready to use.
type Epochs struct {
	// The lower 32 bits of an epoch count the commits in progress, the upper 32 bits the finished commits. The number of finished commits
	// only increases, so an epoch never returns to an earlier value.
	byEpoch [256]atomic.Uint64
}

// epochSeed may differ between processes.
var epochSeed = maphash.MakeSeed()

func epochOf(appid string) uint8 { return uint8(maphash.String(epochSeed, appid)) }

// ChangeSet is the set of names in Epochs, such as AppIDs, whose rows a transaction changes. The zero value of ChangeSet is empty.
type ChangeSet struct{ set [4]uint64 }

// Add adds an AppID to the set.
func (t *ChangeSet) Add(appid string) { i := epochOf(appid); t.set[i/64] |= 1 << (i % 64) }

// AddAll adds all AppIDs to the set.
func (t *ChangeSet) AddAll() { t.set = [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)} }

func (t *ChangeSet) visit(f func(epoch int)) {
	for i, word := range t.set {
		for ; word != 0; word &= word - 1 {
			f(64*i + bits.TrailingZeros64(word))
		}
	}
}

// BeginCommit marks the start of a commit; the store must call EndCommit after the commit, even if it failed. Between BeginCommit and
// EndCommit, data read for the names in the ChangeSet are not cached.
func (e *Epochs) BeginCommit(t *ChangeSet) { t.visit(func(i int) { e.byEpoch[i].Add(1) }) }

// EndCommit marks the end of a commit. EndCommit must be called before the operation that made the commit returns to its caller.
func (e *Epochs) EndCommit(t *ChangeSet) { t.visit(func(i int) { e.byEpoch[i].Add(1<<32 - 1) }) }

// Lookup returns the epoch of a name; ok is false while a commit is in progress: then data of this name must not be cached. Data read from
// the store after Lookup are at least as new as the returned epoch.
func (e *Epochs) Lookup(name string) (epoch uint64, ok bool) {
	epoch = e.byEpoch[epochOf(name)].Load()
	return epoch, uint32(epoch) == 0
}

// all returns all current epochs; data that are read from the store after the call are at least as new.
func (e *Epochs) all() (all [256]uint64) {
	for i := range e.byEpoch {
		all[i] = e.byEpoch[i].Load()
	}
	return all
}

// identity is a cached token with its owner and the epochs at which the token and the owner were read.
type identity struct {
	token                 Token
	caller                Caller
	account, platform     string
	accountAt, platformAt uint64
}

// remembered is the capacity of the token cache and of the stable token cache, in entries of about 2 KiB each.
const remembered = 1 << 13

// cache maps names to values. A full cache evicts an arbitrary entry to make room for a new entry; the evicted value is read from the store
// again when needed. The zero value of cache is an empty cache.
type cache[K comparable, V any] struct {
	mu      sync.RWMutex
	entries map[K]V
}

func (m *cache[K, V]) get(name K) (thing V, known bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	thing, known = m.entries[name]
	return thing, known
}

func (m *cache[K, V]) put(name K, thing V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = map[K]V{}
	}
	if _, known := m.entries[name]; !known && len(m.entries) >= remembered {
		for item := range m.entries {
			delete(m.entries, item)
			break
		}
	}
	m.entries[name] = thing
}

func (m *cache[K, V]) drop(name K) {
	if _, known := m.get(name); known {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.entries, name)
	}
}

// identities caches the owners of valid tokens by the keyed hash of the token.
type identities struct {
	cache[[sha256.Size]byte, *identity]
}

// get returns the cached identity of a token; the second result is false if the identity is absent or may have changed.
func (r *identities) get(e *Epochs, hash [sha256.Size]byte) (*identity, bool) {
	i, known := r.cache.get(hash)
	return i, known && e.byEpoch[epochOf(i.account)].Load() == i.accountAt && e.byEpoch[epochOf(i.platform)].Load() == i.platformAt
}

// putRead caches an identity that was read from the store; the argument "began" contains the epochs from before the read.
func (r *identities) putRead(began *[256]uint64, hash [sha256.Size]byte, i *identity) {
	i.accountAt, i.platformAt = began[epochOf(i.account)], began[epochOf(i.platform)]
	if uint32(i.accountAt) == 0 && uint32(i.platformAt) == 0 { // no commit was in progress when the epochs were read
		r.put(hash, i)
	}
}

// OpenIDs derives the openid of a user for an account. A user's openid never changes and differs between accounts, so the key is permanent.
type OpenIDs struct{ secret []byte }

// NewOpenIDs returns an OpenIDs that uses the given permanent key.
func NewOpenIDs(secret []byte) *OpenIDs { return &OpenIDs{secret: secret} }

// OpenID returns 28 characters that begin with "o", as on the Weixin platform. The openid is an HMAC-SHA-256 over namespace,
// account and user, so only the holder of the key can correlate the users of two accounts.
func (o *OpenIDs) OpenID(namespace, appid, user string) string {
	return o.derive("openid v1", namespace, appid, user)
}

// UnionID returns the ID of a user, which is the same in all accounts of one open-platform account; "" if openPlatform is empty.
func (o *OpenIDs) UnionID(namespace, openPlatform, user string) string {
	if openPlatform == "" {
		return ""
	}
	return o.derive("unionid v1", namespace, openPlatform, user)
}

func (o *OpenIDs) derive(kind, namespace, subject, user string) string {
	m := hmac.New(sha256.New, o.secret)
	// The length prefixes separate the three values unambiguously.
	fmt.Fprintf(m, "%s %d:%s %d:%s %d:%s", kind, len(namespace), namespace, len(subject), subject, len(user), user)
	return "o" + base64.RawURLEncoding.EncodeToString(m.Sum(nil))[:27]
}
