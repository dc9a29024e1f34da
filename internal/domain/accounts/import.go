package accounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
)

// Limits of an import.
const (
	// MaxImport is the maximum number of accounts in one import.
	MaxImport = 100_000
	// MaxFaults is the number of invalid lines after which an import stops.
	MaxFaults = 20
	// lockedSingly is the maximum number of accounts that an import locks one by one; a larger import locks all accounts together.
	// The lock table of PostgreSQL has room for a few thousand locks.
	lockedSingly = 1000
	// importBatch is the number of lines that are looked up, and of links that are stored, per query.
	importBatch = 500
)

// ImportRow is one line of an import.
type ImportRow struct {
	Line int
	Registration
	// Err is the reason why the line is not a valid account; nil = the line is valid.
	Err error
}

// ImportRows yields the lines of an import; every call must yield the same lines. An ImportRows yields an error if the rest of the file
// cannot be read.
type ImportRows func() iter.Seq2[ImportRow, error]

// RowError is an error in one line of an import.
type RowError struct {
	Line   int
	Reason string
}

// RowErrors lists the invalid lines that made an import fail, in file order, at most MaxFaults.
type RowErrors []RowError

func (f RowErrors) Error() string {
	if len(f) == 1 {
		return fmt.Sprintf("line %d cannot be loaded: %s", f[0].Line, f[0].Reason)
	}
	return fmt.Sprintf("%d lines cannot be loaded, the first is line %d: %s", len(f), f[0].Line, f[0].Reason)
}

// First sorts the errors by line and returns the first MaxFaults.
func (f RowErrors) First() RowErrors {
	slices.SortStableFunc(f, func(a, b RowError) int { return cmp.Compare(a.Line, b.Line) })
	return f[:min(len(f), MaxFaults)]
}

// Imported counts the lines of an import and the accounts that it added, changed or left unchanged (in a dry run: would add, and so on).
type Imported struct {
	Lines     int // non-empty lines
	Added     int
	Changed   int
	Unchanged int // the account was already stored with the same values
}

// ErrImporting is returned while another node runs a large import.
var ErrImporting = errors.New("another import is running: wait until it ends")

// ErrConflict is returned if data on which an import depends have changed since the import checked them.
var ErrConflict = errors.New("accounts that the import depends on were changed concurrently several times: try again later")

// ImportTries is the number of attempts after which an import that conflicts with concurrent changes locks out such changes.
const ImportTries = 5

// Revalidate returns ErrConflict if concerns(c) is true for a change c after number *n; otherwise it sets *n to the last change's number.
func Revalidate(ctx context.Context, tx interface {
	ChangedSince(ctx context.Context, start int64, limit int) ([]ChangeRef, error)
}, n *int64, concerns func(ChangeRef) bool) error {
	const page = 1000
	for {
		list, err := tx.ChangedSince(ctx, *n, page)
		if err != nil {
			return err
		}
		for _, ref := range list {
			if concerns(ref) {
				return ErrConflict
			}
			*n = ref.Seq
		}
		if len(list) < page {
			return nil
		}
	}
}

// Import stores accounts from the operator, all or none; each line is stored like a call of Put, and its links may name accounts on later
// lines. The error RowErrors names the invalid lines; with dry = true, Import checks the lines and stores nothing. Other transactions
// continue during the check, and the whole import becomes visible at one moment, as in an import of rules. Decision 55.
func (d *Service) Import(ctx context.Context, plan ImportRows, dry bool) (Imported, error) {
	for try := 1; ; try++ {
		var i importing
		err := d.Store.ViewAccounts(ctx, func(tx Tx) error { return i.check(ctx, d, tx, plan) })
		if err != nil {
			return Imported{}, err
		}
		if dry || len(i.touched) == 0 {
			return i.done, nil
		}
		if err = i.store(ctx, d, plan, try > ImportTries); errors.Is(err, ErrConflict) && try <= ImportTries && ctx.Err() == nil {
			continue
		}
		// The transaction may have committed even if it returned an error.
		d.changed(ctx, slices.Sorted(maps.Keys(i.touched))...)
		return i.done, err
	}
}

// importing is the state of one import.
type importing struct {
	done      Imported
	lines     map[string]int  // by AppID: number of the account's line
	kinds     map[string]Kind // by AppID: kinds of the accounts in the file
	added     map[string]bool // by AppID: accounts that did not exist before the import
	touched   map[string]bool
	linked    map[string]bool // by AppID: Mini Programs that are not in the file, but are linked by one of its lines
	rowErrors RowErrors

	since    int64 // number of the last change that the check has seen
	accounts []Account
	edits    []edit
	newLinks []Link // of new accounts
	links    []Link // of stored accounts
}

// edit contains an account before and after the import.
type edit struct{ now, old Account }

// store writes the result of the check. If exclusive is true, store locks all accounts against other changes and repeats the check.
func (i *importing) store(ctx context.Context, d *Service, plan ImportRows, exclusive bool) error {
	if !exclusive && len(i.accounts) > lockedSingly {
		numbers, err := d.Store.Reserve(ctx, len(i.accounts)+len(i.newLinks))
		if err != nil {
			return err
		}
		if numbers.First > 0 {
			return d.Store.UpdateAccounts(ctx, func(tx Tx) error { return i.writeHidden(ctx, d, tx, numbers) })
		}
	}
	return d.Store.UpdateAccounts(ctx, func(tx Tx) error {
		if err := i.lock(ctx, tx, exclusive); err != nil {
			return err
		}
		// From this point, no other transaction appends to the change log.
		if _, err := tx.NextChange(ctx); err != nil {
			return err
		}
		start, err := i.since, error(nil)
		if exclusive {
			err = i.check(ctx, d, tx, plan)
		} else {
			err = i.checkUnchanged(ctx, tx, &start)
		}
		if err != nil {
			return err
		}
		for accounts := range slices.Chunk(i.accounts, importBatch) {
			if err := tx.AddAccounts(ctx, accounts); err != nil {
				return err
			}
		}
		if err := i.storeEdits(ctx, d, tx); err != nil {
			return err
		}
		return storeLinks(ctx, tx, slices.Concat(i.newLinks, i.links), nil)
	})
}

// lock locks the accounts to be changed, or all accounts if there are more than lockedSingly.
func (i *importing) lock(ctx context.Context, tx Tx, exclusive bool) error {
	if exclusive || len(i.touched) > lockedSingly {
		return tx.LockAccounts(ctx)
	}
	for _, appid := range slices.Sorted(maps.Keys(i.touched)) {
		if err := tx.LockAccount(ctx, appid); err != nil {
			return err
		}
	}
	return nil
}

// writeHidden first writes new accounts and their links as hidden rows, which other transactions do not see. writeHidden then locks all
// accounts, changes visible rows and makes the hidden rows visible; other transactions wait only for these last three steps.
func (i *importing) writeHidden(ctx context.Context, d *Service, tx Tx, numbers SeqRange) error {
	for accounts := range slices.Chunk(i.accounts, importBatch) {
		if err := tx.AddAccounts(ctx, accounts); err != nil {
			return err
		}
		if err := tx.RecordHidden(ctx, numbers); err != nil {
			return err
		}
	}
	if err := storeLinks(ctx, tx, i.newLinks, func() error { return tx.RecordHidden(ctx, numbers) }); err != nil {
		return err
	}
	start := i.since
	if err := i.checkUnchanged(ctx, tx, &start); err != nil {
		return err
	}
	if err := tx.LockAccountsForShow(ctx); err != nil {
		return err
	}
	if err := i.checkUnchanged(ctx, tx, &start); err != nil {
		return err
	}
	if err := i.storeEdits(ctx, d, tx); err != nil {
		return err
	}
	if err := storeLinks(ctx, tx, i.links, nil); err != nil {
		return err
	}
	if err := tx.ShowHidden(ctx); err != nil {
		return err
	}
	// From this point, no other transaction appends to the change log.
	return i.checkUnchanged(ctx, tx, &start)
}

func (i *importing) storeEdits(ctx context.Context, d *Service, tx Tx) error {
	for _, e := range i.edits {
		if err := d.revokeOnSecretChange(ctx, tx, e.old, e.now); err != nil {
			return err
		}
		if err := tx.PutAccount(ctx, e.now); err != nil {
			return err
		}
	}
	return nil
}

// storeLinks stores links in batches of importBatch; next is called after each batch, unless it is nil.
func storeLinks(ctx context.Context, tx Tx, all []Link, next func() error) error {
	for links := range slices.Chunk(all, importBatch) {
		if err := tx.PutLinks(ctx, links); err != nil {
			return err
		}
		if next != nil {
			if err := next(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkUnchanged returns ErrConflict if stored data on which a line of the file may depend have changed since the change number *start.
func (i *importing) checkUnchanged(ctx context.Context, tx Tx, start *int64) error {
	return Revalidate(ctx, tx, start, func(ref ChangeRef) bool {
		return ref.All || i.lines[ref.Account] > 0 || i.linked[ref.Account]
	})
}

func (i *importing) addError(line int, err error) (hasMore bool) {
	i.rowErrors = append(i.rowErrors, RowError{line, err.Error()})
	return len(i.rowErrors) < MaxFaults
}

// check compares every line with the stored data. check returns RowErrors, or fills i with the changes to make.
func (i *importing) check(ctx context.Context, d *Service, tx Tx, plan ImportRows) (err error) {
	*i = importing{lines: map[string]int{}, kinds: map[string]Kind{}, added: map[string]bool{}, touched: map[string]bool{},
		linked: map[string]bool{}}
	if i.since, err = tx.LastChange(ctx); err != nil {
		return err
	}
	var linked []ImportRow // links may name accounts on later lines
	for batch, err := range InBatches(plan(), importBatch) {
		if err != nil {
			return err
		}
		if err := i.checkBatch(ctx, d, tx, batch); err != nil {
			return err
		}
		for _, p := range batch {
			if len(p.Linked) > 0 && p.Err == nil && i.lines[p.AppID] == p.Line {
				row := ImportRow{Line: p.Line}
				row.AppID, row.Linked = p.AppID, p.Linked
				linked = append(linked, row)
			}
		}
		if len(i.rowErrors) >= MaxFaults {
			break
		}
	}
	for _, p := range linked {
		if len(i.rowErrors) >= MaxFaults {
			break
		}
		fault, err := i.link(ctx, d, tx, p)
		if err != nil {
			return err
		}
		if fault != nil {
			i.addError(p.Line, fault)
		}
	}
	if len(i.rowErrors) > 0 {
		return i.rowErrors.First()
	}
	i.done.Lines = len(i.lines)
	i.done.Changed = len(i.touched) - i.done.Added
	i.done.Unchanged = len(i.lines) - len(i.touched)
	return nil
}

// InBatches yields lines in batches of at most size, until the first error. A batch is valid only until the next one.
func InBatches[Line any](lines iter.Seq2[Line, error], size int) iter.Seq2[[]Line, error] {
	return func(yield func([]Line, error) bool) {
		var batch []Line
		for line, err := range lines {
			if err != nil {
				yield(nil, err)
				return
			}
			if batch = append(batch, line); len(batch) == size {
				if !yield(batch, nil) {
					return
				}
				batch = batch[:0]
			}
		}
		if len(batch) > 0 {
			yield(batch, nil)
		}
	}
}

// storedRows contains the stored accounts and components that have the AppIDs of a batch of lines.
type storedRows struct {
	accounts   map[string]Account
	components map[string]bool
}

func (i *importing) loadStored(ctx context.Context, tx Tx, batch []ImportRow) (t storedRows, err error) {
	var appids []string
	for _, p := range batch {
		if p.Err != nil || i.lines[p.AppID] > 0 {
			continue // checkLine does not need the stored account to reject an invalid or duplicate line
		}
		appids = append(appids, p.AppID)
	}
	t = storedRows{map[string]Account{}, map[string]bool{}}
	all, err := tx.AccountsAt(ctx, appids)
	if err != nil {
		return t, err
	}
	for _, a := range all {
		t.accounts[a.AppID] = a
	}
	components, err := tx.ComponentsAt(ctx, appids)
	for _, appid := range components {
		t.components[appid] = true
	}
	return t, err
}

// checkBatch checks one batch of lines.
func (i *importing) checkBatch(ctx context.Context, d *Service, tx Tx, batch []ImportRow) error {
	t, err := i.loadStored(ctx, tx, batch)
	if err != nil {
		return err
	}
	for _, p := range batch {
		fault, err := i.checkLine(d, p, t)
		if err != nil {
			return err
		}
		if fault != nil && !i.addError(p.Line, fault) {
			return nil
		}
	}
	return nil
}

// checkLine computes the account that results from one line; fault is the error in the line.
func (i *importing) checkLine(d *Service, p ImportRow, t storedRows) (fault, err error) {
	if p.Err != nil {
		return p.Err, nil
	}
	if line := i.lines[p.AppID]; line > 0 {
		return fmt.Errorf("account %s is also on line %d", p.AppID, line), nil
	}
	if len(i.lines) == MaxImport {
		return nil, Invalidf("more than %d accounts: split them into several files", MaxImport)
	}
	r, err := d.registration(p.Registration)
	if fault, ok := errors.AsType[Invalid](err); ok {
		return fault, nil
	}
	if err != nil {
		return nil, err
	}
	i.lines[r.AppID], i.kinds[r.AppID] = p.Line, r.Kind
	old, existed := t.accounts[r.AppID]
	a, err := d.merged(r, old, existed, t.components[r.AppID])
	if fault, ok := errors.AsType[Invalid](err); ok {
		return fault, nil
	}
	switch {
	case err != nil:
		return nil, err
	case !existed:
		i.done.Added++
		i.added[a.AppID], i.touched[a.AppID] = true, true
		i.accounts = append(i.accounts, a)
	case !sameAccount(a, old):
		i.touched[a.AppID] = true
		i.edits = append(i.edits, edit{a, old})
	}
	return nil, nil
}

// link adds to i.newLinks or i.links those links of a line that the account of the line does not have yet; fault is the error in the line.
func (i *importing) link(ctx context.Context, d *Service, tx Tx, p ImportRow) (fault, err error) {
	for n, mini := range p.Linked {
		kind, ok := i.kinds[mini]
		if !ok {
			a, err := tx.Account(ctx, mini)
			if errors.Is(err, ErrNoAccount) {
				return fmt.Errorf("linked: account %.120q not found", mini), nil
			}
			if err != nil {
				return nil, err
			}
			kind = a.Kind
			i.linked[mini] = true
		}
		if kind != MiniProgram {
			return fmt.Errorf("linked: %s is a %s, not a %s", mini, kind, MiniProgram), nil
		}
		// If any line is invalid, nothing is stored, so the links need no check.
		if len(i.rowErrors) > 0 {
			continue
		}
		linked := slices.Contains(p.Linked[:n], mini)
		if !linked && !i.added[p.AppID] { // a new account has no stored links, because deleting an account deletes its links
			if linked, err = tx.Linked(ctx, p.AppID, mini); err != nil {
				return nil, err
			}
		}
		if linked {
			continue
		}
		i.touched[p.AppID] = true
		links := &i.links
		if i.added[p.AppID] {
			links = &i.newLinks
		}
		*links = append(*links, Link{Service: p.AppID, MiniProgram: mini, CreatedAt: d.Now()})
	}
	return nil, nil
}

// sameAccount reports whether two accounts have equal fields. An empty list and a nil list are equal.
func sameAccount(a, b Account) bool {
	for _, p := range []*Account{&a, &b} {
		p.CreatedAt = p.CreatedAt.UTC()
		if len(p.Versions) == 0 {
			p.Versions = nil
		}
		if len(p.Features) == 0 {
			p.Features = nil
		}
		if len(p.Members) == 0 {
			p.Members = nil
		}
		if len(p.IPAllowlist) == 0 {
			p.IPAllowlist = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

// ForEach calls f with every account and its links, sorted by AppID, from one snapshot of the store.
func (d *Service) ForEach(ctx context.Context, f func(a Account, linked []string) error) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error {
		if err := tx.DisableTimeout(ctx); err != nil {
			return err
		}
		for cursor := ""; ; {
			page, err := tx.Accounts(ctx, cursor, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, a := range page {
				cursor = a.AppID
				var linked []string
				if a.Kind == ServiceAccount {
					if linked, err = tx.Links(ctx, a.AppID); err != nil {
						return err
					}
				}
				if err := f(a, linked); err != nil {
					return err
				}
			}
		}
	})
}
