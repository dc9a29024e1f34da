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

// Directory holds all accounts and their links in memory. Readers take no lock: each reader uses an immutable map. A writer copies
// one of many small maps, so the cost of a change hardly grows with the number of accounts.
type Directory struct {
	writing sync.Mutex
	seed    maphash.Seed
	shelves [shelves]atomic.Pointer[map[string]*listed]
}

const shelves = 4096

// listed is an account with the Mini Programs that it is linked to.
type listed struct {
	account accounts.Account
	links   []string
}

// NewDirectory is empty.
func NewDirectory() *Directory {
	return &Directory{seed: maphash.MakeSeed()}
}

func (d *Directory) shelf(appid string) *atomic.Pointer[map[string]*listed] {
	return &d.shelves[maphash.String(d.seed, appid)%shelves]
}

func (d *Directory) find(appid string) *listed {
	m := d.shelf(appid).Load()
	if m == nil {
		return nil
	}
	return (*m)[appid]
}

// change replaces a small map by a modified copy.
func (d *Directory) change(appid string, f func(map[string]*listed)) {
	d.writing.Lock()
	defer d.writing.Unlock()
	shelf := d.shelf(appid)
	next := map[string]*listed{}
	if m := shelf.Load(); m != nil {
		next = maps.Clone(*m)
	}
	f(next)
	shelf.Store(&next)
}

// Set adds or replaces an account and the list of Mini Programs that it is linked to.
func (d *Directory) Set(a accounts.Account, links []string) {
	d.change(a.AppID, func(m map[string]*listed) { m[a.AppID] = &listed{a, links} })
}

// Remove deletes an account from the directory.
func (d *Directory) Remove(appid string) {
	d.change(appid, func(m map[string]*listed) { delete(m, appid) })
}

// newEmpty returns an empty directory with the same seed, so that d can later adopt its accounts.
func (d *Directory) newEmpty() *Directory { return &Directory{seed: d.seed} }

// adopt takes over the accounts of another directory, which must have no other user.
func (d *Directory) adopt(otherDirectory *Directory) {
	d.writing.Lock()
	defer d.writing.Unlock()
	for i := range d.shelves {
		d.shelves[i].Store(otherDirectory.shelves[i].Load())
	}
}

// Account implements scan.Accounts.
func (d *Directory) Account(appid string) (accounts.Account, bool) {
	if found := d.find(appid); found != nil {
		return found.account, true
	}
	return accounts.Account{}, false
}

// Linked implements scan.Accounts.
func (d *Directory) Linked(service, miniProgram string) bool {
	found := d.find(service)
	return found != nil && slices.Contains(found.links, miniProgram)
}

// All returns the accounts in unspecified order.
func (d *Directory) All() iter.Seq[*accounts.Account] {
	return func(yield func(*accounts.Account) bool) {
		for i := range d.shelves {
			m := d.shelves[i].Load()
			if m == nil {
				continue
			}
			for _, l := range *m {
				if !yield(&l.account) {
					return
				}
			}
		}
	}
}
