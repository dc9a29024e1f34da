package accounts

import (
	"cmp"
	"crypto/sha256"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Epochs says whether what a caller's identity was read from can have changed since: the rows of an
// account, its tokens and its grants, and of a platform. The store of the process moves an epoch
// before and after every commit that changes such rows. All AppIDs share 256 epochs, which bounds
// the memory; an account that shares one with a changed account is read again needlessly. What else
// is remembered has names of its own beside the AppIDs, such as rules.Epoch. The zero value is
// ready.
type Epochs struct {
	// The lower half counts the commits under way, the upper half those that
	// ended: no two states of the rows have the same number.
	of [256]atomic.Uint64
}

// epochSeed need not be the same in another process.
var epochSeed = maphash.MakeSeed()

func epochOf(appid string) uint8 { return uint8(maphash.String(epochSeed, appid)) }

// ChangeSet are the AppIDs, and other names, whose rows a transaction changes. The zero value has
// none.
type ChangeSet struct{ set [4]uint64 }

// Add adds an AppID.
func (t *ChangeSet) Add(appid string) { i := epochOf(appid); t.set[i/64] |= 1 << (i % 64) }

// AddAll adds every AppID.
func (t *ChangeSet) AddAll() { t.set = [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)} }

func (t *ChangeSet) visit(f func(epoch int)) {
	for i, word := range t.set {
		for ; word != 0; word &= word - 1 {
			f(64*i + bits.TrailingZeros64(word))
		}
	}
}

// BeginCommit is to be called before a commit and Ended after it, also where the commit failed. In
// between nothing that was read of these names is remembered.
func (e *Epochs) BeginCommit(t *ChangeSet) { t.visit(func(i int) { e.of[i].Add(1) }) }

// EndCommit says that a commit is over. It is called before the caller is told.
func (e *Epochs) EndCommit(t *ChangeSet) { t.visit(func(i int) { e.of[i].Add(1<<32 - 1) }) }

// Lookup returns the epoch of a name; ok is false while a commit is under way, when
// nothing may be remembered. What is read from the store afterwards is at least
// as new.
func (e *Epochs) Lookup(name string) (epoch uint64, ok bool) {
	epoch = e.of[epochOf(name)].Load()
	return epoch, uint32(epoch) == 0
}

// all returns the epochs of now: what is read from the store afterwards is at least
// as new.
func (e *Epochs) all() (all [256]uint64) {
	for i := range e.of {
		all[i] = e.of[i].Load()
	}
	return all
}

// identity is the owner of a valid token at the time it was read.
type identity struct {
	token                 Token
	caller                Caller
	account, platform     string
	accountAt, platformAt uint64
}

// remembered is the capacity of the cache in tokens, and in stable tokens of accounts, about 2 KiB each.
const remembered = 1 << 13

// memory caches values by name. Where it is full, it forgets any one of them for the next; the forgotten one is read again when it
// is asked for. The zero value is empty.
type memory[K comparable, V any] struct {
	mu   sync.RWMutex
	by   map[K]V
	most int // 0 = remembered
}

func (m *memory[K, V]) get(name K) (thing V, known bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	thing, known = m.by[name]
	return thing, known
}

func (m *memory[K, V]) put(name K, thing V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = map[K]V{}
	}
	if _, known := m.by[name]; !known && len(m.by) >= cmp.Or(m.most, remembered) {
		for item := range m.by {
			delete(m.by, item)
			break
		}
	}
	m.by[name] = thing
}

func (m *memory[K, V]) drop(name K) {
	if _, known := m.get(name); known {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.by, name)
	}
}

// identities remembers whose tokens worked, by their keyed hash.
type identities struct {
	memory[[sha256.Size]byte, *identity]
}

// get returns what is remembered of a token, unless it may have changed since.
func (r *identities) get(e *Epochs, hash [sha256.Size]byte) (*identity, bool) {
	i, known := r.memory.get(hash)
	return i, known && e.of[epochOf(i.account)].Load() == i.accountAt && e.of[epochOf(i.platform)].Load() == i.platformAt
}

// remember keeps what was read from the store; began are the epochs from before that reading.
func (r *identities) remember(began *[256]uint64, hash [sha256.Size]byte, i *identity) {
	i.accountAt, i.platformAt = began[epochOf(i.account)], began[epochOf(i.platform)]
	if uint32(i.accountAt) == 0 && uint32(i.platformAt) == 0 { // else a commit was under way
		r.put(hash, i)
	}
}
