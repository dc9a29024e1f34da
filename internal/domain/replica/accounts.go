package replica

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Accounts holds all accounts and their links in memory. Readers take no lock: each reader uses an immutable map. A writer copies
// one of many small maps, so the cost of a change hardly grows with the number of accounts.
type Accounts struct {
	writing sync.Mutex
	seed    maphash.Seed
	shards  [shards]atomic.Pointer[map[string]*accountLinks]
}

const shards = 4096

// accountLinks is an account with the Mini Programs that it is linked to.
type accountLinks struct {
	account accounts.Account
	text    string // SearchText of the account
	links   []string
}

// NewAccounts returns an empty set of accounts.
func NewAccounts() *Accounts {
	return &Accounts{seed: maphash.MakeSeed()}
}

func (a *Accounts) shard(appid string) *atomic.Pointer[map[string]*accountLinks] {
	return &a.shards[maphash.String(a.seed, appid)%shards]
}

func (a *Accounts) find(appid string) *accountLinks {
	m := a.shard(appid).Load()
	if m == nil {
		return nil
	}
	return (*m)[appid]
}

// change replaces the small map to which an account belongs by a modified copy.
func (a *Accounts) change(appid string, f func(map[string]*accountLinks)) {
	a.writing.Lock()
	defer a.writing.Unlock()
	shard := a.shard(appid)
	next := map[string]*accountLinks{}
	if m := shard.Load(); m != nil {
		next = maps.Clone(*m)
	}
	f(next)
	shard.Store(&next)
}

// Set adds or replaces an account and the list of Mini Programs that it is linked to.
func (a *Accounts) Set(account accounts.Account, links []string) {
	text := account.SearchText()
	a.change(account.AppID, func(m map[string]*accountLinks) { m[account.AppID] = &accountLinks{account, text, links} })
}

// Remove deletes an account.
func (a *Accounts) Remove(appid string) {
	a.change(appid, func(m map[string]*accountLinks) { delete(m, appid) })
}

// adopt replaces all accounts by the accounts in other; other must have no other user.
func (a *Accounts) adopt(other *Accounts) {
	a.writing.Lock()
	defer a.writing.Unlock()
	for i := range a.shards {
		a.shards[i].Store(other.shards[i].Load())
	}
}

// Account implements scan.Accounts.
func (a *Accounts) Account(appid string) (accounts.Account, bool) {
	if found := a.find(appid); found != nil {
		return found.account, true
	}
	return accounts.Account{}, false
}

// Linked implements scan.Accounts.
func (a *Accounts) Linked(service, miniProgram string) bool {
	found := a.find(service)
	return found != nil && slices.Contains(found.links, miniProgram)
}

// All returns the accounts and their SearchText in unspecified order.
func (a *Accounts) All() iter.Seq2[*accounts.Account, string] {
	return func(yield func(*accounts.Account, string) bool) {
		for i := range a.shards {
			m := a.shards[i].Load()
			if m == nil {
				continue
			}
			for _, l := range *m {
				if !yield(&l.account, l.text) {
					return
				}
			}
		}
	}
}
