package scan

import (
	"slices"
	"sync"

	"github.com/qrjump/qrjump/internal/accounts"
)

// Directory keeps every account and its links in memory.
type Directory struct {
	mu       sync.RWMutex
	accounts map[string]accounts.Account
	links    map[string][]string // service account -> Mini Programs
}

// NewDirectory is empty.
func NewDirectory() *Directory {
	return &Directory{accounts: map[string]accounts.Account{}, links: map[string][]string{}}
}

// Set adds or replaces an account with the Mini Programs it is linked with.
func (d *Directory) Set(a accounts.Account, links []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accounts[a.AppID] = a
	d.links[a.AppID] = links
}

// Remove forgets an account.
func (d *Directory) Remove(appid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.accounts, appid)
	delete(d.links, appid)
}

// Clear forgets every account.
func (d *Directory) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.accounts)
	clear(d.links)
}

// Account implements Accounts.
func (d *Directory) Account(appid string) (accounts.Account, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a, ok := d.accounts[appid]
	return a, ok
}

// Linked implements Accounts.
func (d *Directory) Linked(service, miniProgram string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Contains(d.links[service], miniProgram)
}
