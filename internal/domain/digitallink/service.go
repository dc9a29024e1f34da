package digitallink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// ErrNone reports that a GS1 key has no entry.
var ErrNone = errors.New("GS1 key not found")

// ErrExists reports that a new entry cannot be created because the GS1 key already has an entry.
var ErrExists = errors.New("this GS1 key already has links: change or delete them")

// Tx is one database transaction on GS1 key entries.
type Tx interface {
	// LockGS1 locks a primary key against changes by other transactions; "" locks all primary keys.
	LockGS1(ctx context.Context, root string) error
	// GS1At returns the stored entries of the given keys; keys without an entry are left out.
	GS1At(ctx context.Context, keys []string) ([]Entry, error)
	// GS1Find returns the entries that a query selects, ordered by key.
	GS1Find(ctx context.Context, q Query) ([]Entry, error)
	// GS1Owners returns, for each primary key and owner, the number of the owner's keys at and below the primary key.
	GS1Owners(ctx context.Context, roots []string) (map[string]map[string]int, error)
	PutGS1(ctx context.Context, list ...Entry) error
	DeleteGS1(ctx context.Context, e Entry) error
	// Account returns an account, or accounts.ErrNoAccount if the account does not exist.
	Account(ctx context.Context, appid string) (accounts.Account, error)
	// Linked reports whether a service account is linked to a Mini Program.
	Linked(ctx context.Context, service, miniProgram string) (bool, error)
}

// Query selects entries.
type Query struct {
	After  string   // key after which the page of results begins; "" = from the first key
	Under  string   // key that limits the results to itself and the keys below it; "" = all keys
	Owners []string // owners whose entries are selected; empty = all owners
	Limit  int      // 0 = all
}

// Service changes the stored links of all GS1 keys, and holds a copy in memory so that a scan needs no database query.
type Service struct {
	Store accounts.Transactions[Tx]
	Now   func() time.Time
	// Hosts returns the host names under which keys are resolved, with a port if the port is not the default of the scheme.
	Hosts func() []string
	// Holder returns the longest assigned GS1 Company Prefix that digits begin with, and its owner; "" = none. If Holder is nil, no prefix
	// is assigned.
	Holder func(digits string) (prefix, owner string)
	// Changed is called with the changed keys after each commit, before a result is returned to the caller. Changed must cause a call of
	// Read. If Changed is nil, Read is called directly.
	Changed func(ctx context.Context, keys ...string)

	reading sync.Mutex // serializes reads, so that the last read sees the last commit
	mu      sync.RWMutex
	entries map[string]*Entry
}

// Load replaces the copy in memory by all entries of the database. During the load, requests are served from the old copy in memory.
func (s *Service) Load(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	known := map[string]*Entry{}
	const page = 1000
	err := s.Store.View(ctx, func(tx Tx) error {
		clear(known)
		for cursor := ""; ; {
			list, err := tx.GS1Find(ctx, Query{After: cursor, Limit: page})
			if err != nil {
				return fmt.Errorf("loading GS1 links: %w", err)
			}
			for i := range list {
				known[list[i].Key] = &list[i]
			}
			if len(list) < page {
				return nil
			}
			cursor = list[page-1].Key
		}
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = known
	return nil
}

// Read reloads the entries of some keys from the database.
func (s *Service) Read(ctx context.Context, keys ...string) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	list, err := accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]Entry, error) { return tx.GS1At(ctx, keys) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(s.entries, key)
	}
	for i := range list {
		if s.entries == nil {
			s.entries = map[string]*Entry{}
		}
		s.entries[list[i].Key] = &list[i]
	}
	return nil
}

// Len returns the number of keys in memory.
func (s *Service) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.entries)
}

// levels returns the entries of a key and of the keys above it, nearest first. archived is true if one of these entries is archived.
func (s *Service) levels(keys []string) (found []*Entry, archived bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found = make([]*Entry, 0, len(keys))
	for _, key := range keys {
		if e := s.entries[key]; e != nil {
			found, archived = append(found, e), archived || e.Archived
		}
	}
	return found, archived
}

func (s *Service) notify(ctx context.Context, keys []string) {
	if len(keys) == 0 {
		return
	}
	if s.Changed == nil {
		_ = s.Read(ctx, keys...)
		return
	}
	s.Changed(context.WithoutCancel(ctx), keys...)
}

// Get returns the entry of a key, or ErrNone if the key has no entry.
func (s *Service) Get(ctx context.Context, key string) (Entry, error) {
	id, err := parseKey(key)
	if err != nil {
		return Entry{}, err
	}
	return accounts.Transact(ctx, s.Store.View, func(tx Tx) (Entry, error) {
		list, err := tx.GS1At(ctx, []string{id.key()})
		if err == nil && len(list) == 0 {
			err = ErrNone
		}
		if err != nil {
			return Entry{}, err
		}
		return list[0], nil
	})
}

// Find lists entries.
func (s *Service) Find(ctx context.Context, q Query) (list []Entry, err error) {
	if q.Under != "" {
		id, err := parseKey(q.Under)
		if err != nil {
			return nil, err
		}
		q.Under = id.key()
	}
	return accounts.Transact(ctx, s.Store.View, func(tx Tx) ([]Entry, error) { return tx.GS1Find(ctx, q) })
}

// Put stores the entry e; with create = true, Put returns ErrExists if the key already has an entry. allowed reports whether the caller
// may act for an owner ("" = for the operator). Put also returns accounts.Invalid, accounts.ErrNoAccount or OwnershipError.
func (s *Service) Put(ctx context.Context, e Entry, create bool, allowed func(owner string) bool) (Entry, error) {
	e, err := e.normalize()
	if err != nil {
		return e, err
	}
	err = s.Store.Update(ctx, func(tx Tx) error {
		id, err := parseKey(e.Key)
		if err == nil {
			err = tx.LockGS1(ctx, id.root())
		}
		if err != nil {
			return err
		}
		known, err := preload(ctx, tx, e.Key)
		if err != nil {
			return err
		}
		if changed, err := s.put(ctx, known, &e, create, allowed); err != nil || !changed {
			return err
		}
		return tx.PutGS1(ctx, e)
	})
	s.notify(ctx, []string{e.Key}) // reload even after an error, because the transaction may have been committed
	return e, err
}

// OwnershipError reports that a key, or a key above or below it, belongs to another account.
type OwnershipError struct {
	Key, Holder string // Holder is the owning account; "" = the operator
	Prefix      string // company prefix that is assigned to Holder; "" = Holder owns entries of the same primary key
}

func (f OwnershipError) Error() string {
	holder := cmp.Or(f.Holder, "the operator")
	if f.Prefix != "" {
		return fmt.Sprintf("%s: %s owns the GS1 Company Prefix %s (setting gs1_prefixes): qrjump gs1 transfer moves a key "+
			"to another account",
			f.Key, holder, f.Prefix)
	}
	return fmt.Sprintf("%s: %s owns this GTIN (or other primary key) with all its entries: qrjump gs1 transfer moves "+
		"it to another account",
		f.Key, holder)
}

func (s *Service) holder(id identifier) (prefix, owner string) {
	if s.Holder == nil {
		return "", ""
	}
	return s.Holder(id.Key.Company())
}

// preloadedTx caches the rows that a transaction needs to check its entries; they are read in advance, so that an import needs few
// queries per line.
type preloadedTx struct {
	Tx
	before   map[string]Entry          // by key
	owners   map[string]map[string]int // number of keys, by primary key and owner
	accounts map[string]accounts.Account
	linked   map[[2]string]bool
}

func preload(ctx context.Context, tx Tx, keys ...string) (preloadedTx, error) {
	k := preloadedTx{Tx: tx, before: map[string]Entry{}, accounts: map[string]accounts.Account{}, linked: map[[2]string]bool{}}
	list, err := tx.GS1At(ctx, keys)
	if err != nil {
		return k, err
	}
	for _, e := range list {
		k.before[e.Key] = e
	}
	roots := map[string]bool{}
	for _, key := range keys {
		id, err := parseKey(key)
		if err != nil {
			return k, err
		}
		roots[id.root()] = true
	}
	k.owners, err = tx.GS1Owners(ctx, slices.Sorted(maps.Keys(roots)))
	return k, err
}

// Account implements Tx.
func (k preloadedTx) Account(ctx context.Context, appid string) (accounts.Account, error) {
	if a, is := k.accounts[appid]; is {
		return a, nil
	}
	a, err := k.Tx.Account(ctx, appid)
	if err == nil {
		k.accounts[appid] = a
	}
	return a, err
}

// Linked implements Tx.
func (k preloadedTx) Linked(ctx context.Context, service, miniProgram string) (bool, error) {
	pair := [2]string{service, miniProgram}
	if is, asked := k.linked[pair]; asked {
		return is, nil
	}
	is, err := k.Tx.Linked(ctx, service, miniProgram)
	k.linked[pair] = is
	return is, err
}

// put checks an entry, fills in its missing fields and adds it to the cache k; changed is false if the stored entry is already equal.
func (s *Service) put(ctx context.Context, k preloadedTx, e *Entry, create bool, allowed func(string) bool) (changed bool, err error) {
	id, err := parseKey(e.Key)
	if err != nil {
		return false, err
	}
	oldEntry, exists := k.before[e.Key]
	if exists {
		switch {
		case !allowed(oldEntry.Owner):
			return false, OwnershipError{Key: e.Key, Holder: oldEntry.Owner}
		case create:
			return false, ErrExists
		case e.Owner == "" && !e.Unowned:
			e.Owner = oldEntry.Owner // an omitted owner keeps the stored owner
		}
	}
	owners := k.owners[id.root()]
	if owners == nil {
		owners = map[string]int{}
		k.owners[id.root()] = owners
	}
	if exists {
		owners[oldEntry.Owner]--
		defer func() {
			if !changed {
				owners[oldEntry.Owner]++
			}
		}()
	}
	for owner, keys := range owners {
		if keys > 0 && e.Owner == "" && !e.Unowned {
			e.Owner = owner
		}
	}
	prefix, holder := s.holder(id)
	if !exists && e.Owner == "" && !e.Unowned {
		e.Owner = holder
	}
	for owner, keys := range owners {
		if keys > 0 && owner != e.Owner {
			return false, OwnershipError{Key: e.Key, Holder: owner}
		}
	}
	if prefix != "" && e.Owner != holder {
		return false, OwnershipError{e.Key, holder, prefix}
	}
	if !allowed(e.Owner) {
		return false, OwnershipError{e.Key, e.Owner, prefix}
	}
	if err := checkAccounts(ctx, k, *e); err != nil {
		return false, err
	}
	if exists && e.equal(oldEntry) {
		e.At = oldEntry.At
		return false, nil
	}
	e.At = s.Now().Truncate(time.Millisecond)
	k.before[e.Key] = *e
	owners[e.Owner]++
	return true, nil
}

// checkAccounts checks the accounts of an entry: the owner may open only its own Mini Program or a Mini Program linked to the owner.
func checkAccounts(ctx context.Context, tx Tx, e Entry) error {
	var owner accounts.Account
	var err error
	if e.Owner != "" {
		if owner, err = tx.Account(ctx, e.Owner); err != nil {
			return err
		}
	}
	if e.Page == "" {
		return nil
	}
	if e.App == "" || e.App == e.Owner {
		if owner.Kind != accounts.MiniProgram {
			return accounts.Invalidf("%s: wxa_path needs wxa_appid: the Mini Program that opens", e.Key)
		}
		return nil
	}
	target, err := tx.Account(ctx, e.App)
	if errors.Is(err, accounts.ErrNoAccount) || err == nil && target.Kind != accounts.MiniProgram {
		return accounts.Invalidf("%s: wxa_appid %.40q is not a Mini Program of this server", e.Key, e.App)
	}
	if err != nil || e.Owner == "" { // a key of the operator may open any Mini Program
		return err
	}
	linked, err := tx.Linked(ctx, e.Owner, e.App)
	if err == nil && !linked {
		return accounts.Invalidf("%s: the owner %s is not linked with the Mini Program %s", e.Key, e.Owner, e.App)
	}
	return err
}

// Delete deletes the entry of a key and returns it; the errors are ErrNone and OwnershipError.
func (s *Service) Delete(ctx context.Context, key string, allowed func(owner string) bool) (deleted Entry, err error) {
	id, err := parseKey(key)
	if err != nil {
		return deleted, err
	}
	err = s.Store.Update(ctx, func(tx Tx) error {
		if err := tx.LockGS1(ctx, id.root()); err != nil {
			return err
		}
		list, err := tx.GS1At(ctx, []string{id.key()})
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return ErrNone
		case !allowed(list[0].Owner):
			return OwnershipError{Key: id.key(), Holder: list[0].Owner}
		}
		deleted = list[0]
		return tx.DeleteGS1(ctx, deleted)
	})
	s.notify(ctx, []string{id.key()})
	return deleted, err
}

// Planned is one parsed line of an import.
type Planned struct {
	Line  int
	Entry Entry
	Err   error // why the line is not a valid entry; nil = valid
}

// maxImportedLinks is the maximum number of entries in one import, which is one transaction.
const maxImportedLinks = 100_000

// Import stores the entries of all lines, or nothing if any line is invalid; the returned RowErrors then name the invalid lines. With
// dry = true, Import checks the lines and stores nothing.
func (s *Service) Import(ctx context.Context, read iter.Seq2[Planned, error], dry bool, allowed func(owner string) bool) (accounts.Imported,
	error) {
	var done accounts.Imported
	var rowErrors accounts.RowErrors
	var lines []Planned
	first := map[string]int{}
	for l, err := range read {
		if err != nil {
			return done, err
		}
		if l.Err == nil {
			l.Entry, l.Err = l.Entry.normalize()
		}
		if earlier, duplicate := first[l.Entry.Key]; l.Err == nil && duplicate {
			l.Err = fmt.Errorf("%s is a duplicate of line %d", l.Entry.Key, earlier)
		}
		if l.Err != nil {
			if rowErrors = append(rowErrors, accounts.RowError{Line: l.Line, Reason: l.Err.Error()}); len(rowErrors) == accounts.MaxFaults {
				break
			}
			continue
		}
		if lines = append(lines, l); len(lines) > maxImportedLinks {
			return done, accounts.Invalidf("%d lines: an import has at most %d", len(lines), maxImportedLinks)
		}
		first[l.Entry.Key] = l.Line
	}
	if len(rowErrors) > 0 {
		return done, rowErrors
	}
	var keys []string
	err := s.Store.Update(ctx, func(tx Tx) error {
		done, rowErrors, keys = accounts.Imported{Lines: len(lines)}, nil, nil
		if err := tx.LockGS1(ctx, ""); err != nil {
			return err
		}
		known, err := preload(ctx, tx, slices.Sorted(maps.Keys(first))...)
		if err != nil {
			return err
		}
		var list []Entry
		for i := range lines {
			e := lines[i].Entry
			_, exists := known.before[e.Key]
			changed, err := s.put(ctx, known, &e, false, allowed)
			if errors.As(err, new(OwnershipError)) || errors.As(err, new(accounts.Invalid)) || errors.Is(err, accounts.ErrNoAccount) {
				rowErrors = append(rowErrors, accounts.RowError{Line: lines[i].Line, Reason: err.Error()})
				if len(rowErrors) == accounts.MaxFaults {
					return rowErrors
				}
				continue
			}
			switch {
			case err != nil:
				return err
			case !changed:
				done.Unchanged++
				continue
			case exists:
				done.Changed++
			default:
				done.Added++
			}
			keys, list = append(keys, e.Key), append(list, e)
		}
		if len(rowErrors) > 0 {
			return rowErrors
		}
		if dry {
			keys = nil
			return nil
		}
		return tx.PutGS1(ctx, list...)
	})
	s.notify(ctx, keys)
	return done, err
}

// Transfer transfers entries to another account: if subject is a key, the entries at and below its primary key; if subject consists of
// digits, the entries of all keys for which holder returns exactly these digits as the prefix. With dry = true, Transfer counts the keys
// and changes nothing. Transfer returns the number of keys whose owner changes; the errors are accounts.Invalid and accounts.ErrNoAccount.
func (s *Service) Transfer(
	ctx context.Context, subject, to string, holder func(digits string) (prefix, owner string), dry bool,
) (int, error) {
	parent, digits := "", subject
	if strings.Contains(subject, "/") {
		id, err := parseKey(subject)
		if err != nil {
			return 0, err
		}
		parent, digits = id.root(), ""
	}
	var keys []string
	err := s.Store.Update(ctx, func(tx Tx) error {
		keys = nil
		if err := tx.LockGS1(ctx, ""); err != nil {
			return err
		}
		k, err := preload(ctx, tx)
		if err != nil {
			return err
		}
		var list []Entry
		for q := (Query{Under: parent, Limit: 1000}); ; {
			page, err := tx.GS1Find(ctx, q)
			if err != nil {
				return err
			}
			for _, e := range page {
				if !e.isTransferred(to, digits, holder) {
					continue
				}
				e.Owner, e.At = to, s.Now().Truncate(time.Millisecond)
				if len(list) == maxImportedLinks {
					return accounts.Invalidf("more than %d keys would change owner at once: give longer prefixes", maxImportedLinks)
				}
				if err := checkAccounts(ctx, k, e); err != nil {
					return err
				}
				list, keys = append(list, e), append(keys, e.Key)
			}
			if len(page) < q.Limit {
				break
			}
			q.After = page[q.Limit-1].Key
		}
		if _, err := k.Account(ctx, to); err != nil || dry {
			return err
		}
		return tx.PutGS1(ctx, list...)
	})
	if !dry {
		s.notify(ctx, keys)
	}
	return len(keys), err
}

// isTransferred reports whether Transfer changes the owner of the entry. digits is the company prefix; "" = a key is transferred.
func (e Entry) isTransferred(to, digits string, holder func(string) (string, string)) bool {
	if e.Owner == to || digits == "" {
		return e.Owner != to
	}
	company, _ := Company(e.Key) // stored keys are always valid, so the error is ignored
	prefix, _ := holder(company)
	return prefix == digits
}

// Company returns the part of a key that begins with the GS1 Company Prefix.
func Company(key string) (string, error) {
	id, err := parseKey(key)
	return id.Key.Company(), err
}

// Found is the result of a scanned text that contains a GS1 key.
type Found struct {
	Key     string
	Owner   string
	Number  int64  // Entry.Number of the nearest key with an entry; the scan is counted under this number
	Address string // web link equivalent to the scanned text, without any secret part
	App     string // AppID of the Mini Program to open; "" = none
	Page    string
	URL     string // default link, used if no Mini Program opens
}

// Scan returns the target of a scanned text: a Digital Link on one of Hosts, an element string, or AIs in brackets. opens reports whether a
// Mini Program can be opened. Scan returns false if the text contains no GS1 key or the key has no entry.
func (s *Service) Scan(text string, t time.Time, opens func(appid string) bool) (Found, bool) {
	var id identifier
	query := ""
	if isAddress(text) {
		path, rest, isOwn := s.parseOwn(text)
		if !isOwn || s.Len() == 0 {
			return Found{}, false
		}
		var err error
		if id, err = readPath(path, rest); err != nil {
			return Found{}, false
		}
		query = rest
	} else {
		if !mayBeElements(text) || s.Len() == 0 {
			return Found{}, false
		}
		data, err := gs1.Parse(text)
		if err != nil || data.Key.IsZero() {
			return Found{}, false
		}
		id = identifier{data}
	}
	levels, archived := s.levels(id.keys())
	if len(levels) == 0 || archived {
		return Found{}, false
	}
	found := Found{Key: id.key(), Owner: levels[0].Owner, Number: levels[0].Number, Address: "https://id.gs1.org/" + id.key()}
	for _, e := range levels {
		if e.Page == "" {
			continue
		}
		if page, err := fill(e.Page, id.Value, gs1.Escape); err == nil {
			if app := cmp.Or(e.App, e.Owner); opens(app) {
				found.App, found.Page = app, page
				return found, true
			}
			break
		}
	}
	if to, delegated := handler(levels, t, id); delegated {
		found.URL = to.delegated(id, query)
		return found, true
	}
	c := newCriteria(query, nil, t)
	switch answers := c.choose(levels, id.Value); {
	case len(answers) == 1:
		found.URL = appendQuery(answers[0].address, query)
	case c.kind != "":
		found.URL = text // the browser gets the linkset, or the error of a type without a link, as the key takes precedence over rules
	}
	return found, found.URL != ""
}

// equal reports whether two entries have the same content.
func (e Entry) equal(other Entry) bool {
	if e.Key != other.Key || e.Owner != other.Owner || e.App != other.App || e.Page != other.Page ||
		e.Archived != other.Archived ||
		len(e.Links) != len(other.Links) {
		return false
	}
	equalTime := func(a, b *time.Time) bool { return a == nil && b == nil || a != nil && b != nil && a.Equal(*b) }
	return slices.EqualFunc(e.Links, other.Links, func(a, b Link) bool {
		return a.Type == b.Type && a.Href == b.Href && a.Title == b.Title && slices.Equal(a.Hreflang, b.Hreflang) && a.Media == b.Media &&
			slices.Equal(a.Context, b.Context) && a.Default == b.Default && equalTime(a.From, b.From) && equalTime(a.Until, b.Until)
	})
}
