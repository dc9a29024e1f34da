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
	// MaxImport is how many accounts one import has at most.
	MaxImport = 100_000
	// MaxFaults is how many lines an import names as wrong before it stops.
	MaxFaults = 20
	// lockedSingly is up to how many accounts are locked one by one: PostgreSQL has
	// room for some thousand locks.
	lockedSingly = 1000
	// importBatch is how many lines are looked up, and links stored, together.
	importBatch = 500
)

// Planned is one line of an import.
type Planned struct {
	Line int
	Registration
	// Fault is why the line says no account; nil = it does.
	Fault error
}

// Plan yields the lines of an import, the same whenever it is called. An error
// means that they cannot be read to their end.
type Plan func() iter.Seq2[Planned, error]

// Fault is what is wrong with one line of an import.
type Fault struct {
	Line int
	Why  string
}

// Faults are the lines because of which nothing was loaded, in their order, at
// most MaxFaults of them.
type Faults []Fault

func (f Faults) Error() string {
	if len(f) == 1 {
		return fmt.Sprintf("line %d cannot be loaded: %s", f[0].Line, f[0].Why)
	}
	return fmt.Sprintf("%d lines cannot be loaded, the first is line %d: %s", len(f), f[0].Line, f[0].Why)
}

// First are the first MaxFaults in the order of lines.
func (f Faults) First() Faults {
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return f[:min(len(f), MaxFaults)]
}

// Imported says what an import did, or would do.
type Imported struct {
	Lines     int // that are not empty
	Added     int
	Changed   int
	Unchanged int // were there already, exactly so
}

// Import stores accounts that the operator brings, all of them or none; each
// line is a Put, and its links may name accounts further down. Faults names the
// lines that cannot be. dry only checks. While more than a thousand lines are
// stored, nobody else changes an account or fetches a new token.
func (d *Directory) Import(ctx context.Context, plan Plan, dry bool) (Imported, error) {
	var done Imported
	var touched []string
	run := func(tx Tx) error {
		var i importing
		if err := i.run(ctx, d, tx, plan, dry); err != nil {
			return err
		}
		done, touched = i.done, slices.Sorted(maps.Keys(i.touched))
		return nil
	}
	var err error
	if dry {
		err = d.Store.ViewAccounts(ctx, run)
	} else {
		err = d.Store.UpdateAccounts(ctx, run)
	}
	if !dry {
		d.changed(ctx, touched...)
	}
	return done, err
}

// importing is one run of an import.
type importing struct {
	done    Imported
	lines   map[string]int  // of an AppID
	kinds   map[string]Kind // of the accounts of the file
	added   map[string]bool // were not there before
	touched map[string]bool
	faults  Faults
	single  bool   // accounts are locked one by one
	links   []Link // not stored yet
}

func (i *importing) fault(line int, err error) (more bool) {
	i.faults = append(i.faults, Fault{line, err.Error()})
	return len(i.faults) < MaxFaults
}

func (i *importing) run(ctx context.Context, d *Directory, tx Tx, plan Plan, dry bool) error {
	i.lines, i.kinds, i.added, i.touched = map[string]int{}, map[string]Kind{}, map[string]bool{}, map[string]bool{}
	if i.single = !plan.longer(lockedSingly); !i.single && !dry {
		if err := tx.LockAccounts(ctx); err != nil {
			return err
		}
	}
	var linked []Planned // they may name accounts further down
	for batch, err := range plan.inBatches() {
		if err != nil {
			return err
		}
		if err := i.putBatch(ctx, d, tx, batch, dry); err != nil {
			return err
		}
		for _, p := range batch {
			if len(p.Linked) > 0 && p.Fault == nil && i.lines[p.AppID] == p.Line {
				one := Planned{Line: p.Line}
				one.AppID, one.Linked = p.AppID, p.Linked
				linked = append(linked, one)
			}
		}
		if len(i.faults) >= MaxFaults {
			break
		}
	}
	for _, p := range linked {
		if len(i.faults) >= MaxFaults {
			break
		}
		fault, err := i.link(ctx, d, tx, p, dry)
		if err != nil {
			return err
		}
		if fault != nil {
			i.fault(p.Line, fault)
		}
	}
	if err := i.storeLinks(ctx, tx); err != nil {
		return err
	}
	if len(i.faults) > 0 {
		return i.faults.First()
	}
	i.done.Lines = len(i.lines)
	i.done.Changed = len(i.touched) - i.done.Added
	i.done.Unchanged = len(i.lines) - len(i.touched)
	return nil
}

// longer reports whether a plan has more than n lines.
func (plan Plan) longer(n int) bool {
	for range plan() {
		if n--; n < 0 {
			return true
		}
	}
	return false
}

// inBatches yields the lines some at a time.
func (plan Plan) inBatches() iter.Seq2[[]Planned, error] {
	return func(yield func([]Planned, error) bool) {
		var batch []Planned
		for p, err := range plan() {
			if err != nil {
				yield(nil, err)
				return
			}
			if batch = append(batch, p); len(batch) == importBatch {
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

// there is what is stored with the AppIDs of some lines.
type there struct {
	accounts   map[string]Account
	components map[string]bool
}

func (i *importing) there(ctx context.Context, tx Tx, batch []Planned, dry bool) (t there, err error) {
	var appids []string
	for _, p := range batch {
		if p.Fault != nil || i.lines[p.AppID] > 0 {
			continue // it is not looked at
		}
		if i.single && !dry {
			if err := tx.LockAccount(ctx, p.AppID); err != nil {
				return t, err
			}
		}
		appids = append(appids, p.AppID)
	}
	t = there{map[string]Account{}, map[string]bool{}}
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

// putBatch stores some accounts.
func (i *importing) putBatch(ctx context.Context, d *Directory, tx Tx, batch []Planned, dry bool) error {
	t, err := i.there(ctx, tx, batch, dry)
	if err != nil {
		return err
	}
	var added []Account
	for _, p := range batch {
		a, fault, err := i.put(ctx, d, tx, p, t, dry)
		if err != nil {
			return err
		}
		if fault != nil && !i.fault(p.Line, fault) {
			return nil
		}
		if a != nil {
			added = append(added, *a)
		}
	}
	if dry || len(added) == 0 || len(i.faults) > 0 { // with a fault nothing is stored
		return nil
	}
	return tx.AddAccounts(ctx, added)
}

// put stores the account of a line if it is there already, otherwise it returns
// the one to be added; fault is what is wrong with its line.
func (i *importing) put(ctx context.Context, d *Directory, tx Tx, p Planned, t there, dry bool) (added *Account, fault, err error) {
	if p.Fault != nil {
		return nil, p.Fault, nil
	}
	if line := i.lines[p.AppID]; line > 0 {
		return nil, fmt.Errorf("account %s is also on line %d", p.AppID, line), nil
	}
	if len(i.lines) == MaxImport {
		return nil, nil, invalidf("more than %d accounts: bring them in several files", MaxImport)
	}
	r, err := d.registration(p.Registration)
	if fault, ok := errors.AsType[Invalid](err); ok {
		return nil, fault, nil
	}
	if err != nil {
		return nil, nil, err
	}
	i.lines[r.AppID], i.kinds[r.AppID] = p.Line, r.Kind
	old, existed := t.accounts[r.AppID]
	a, err := d.merged(r, old, existed, t.components[r.AppID])
	if fault, ok := errors.AsType[Invalid](err); ok {
		return nil, fault, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if !existed {
		i.done.Added++
		i.added[a.AppID], i.touched[a.AppID] = true, true
		return &a, nil, nil
	}
	if sameAccount(a, old) {
		return nil, nil, nil
	}
	i.touched[a.AppID] = true
	if dry {
		return nil, nil, nil
	}
	if err := d.endBySecret(ctx, tx, old, a); err != nil {
		return nil, nil, err
	}
	return nil, nil, tx.PutAccount(ctx, a)
}

// link adds the links of one account that it has not.
func (i *importing) link(ctx context.Context, d *Directory, tx Tx, p Planned, dry bool) (fault, err error) {
	for n, mini := range p.Linked {
		kind, ok := i.kinds[mini]
		if !ok {
			a, err := tx.Account(ctx, mini)
			if errors.Is(err, ErrNoAccount) {
				return fmt.Errorf("linked: there is no account %.120q", mini), nil
			}
			if err != nil {
				return nil, err
			}
			kind = a.Kind
		}
		if kind != MiniProgram {
			return fmt.Errorf("linked: %s is a %s, not a %s", mini, kind, MiniProgram), nil
		}
		// A link of a line with a fault cannot be stored, and need not be.
		if len(i.faults) > 0 {
			continue
		}
		linked := slices.Contains(p.Linked[:n], mini)
		if !linked && !i.added[p.AppID] { // with its account a link goes
			if linked, err = tx.Linked(ctx, p.AppID, mini); err != nil {
				return nil, err
			}
		}
		if linked {
			continue
		}
		i.touched[p.AppID] = true
		if dry {
			continue
		}
		if i.links = append(i.links, Link{Service: p.AppID, MiniProgram: mini, CreatedAt: d.Now()}); len(i.links) == importBatch {
			if err := i.storeLinks(ctx, tx); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

func (i *importing) storeLinks(ctx context.Context, tx Tx) error {
	if len(i.links) == 0 {
		return nil
	}
	err := tx.PutLinks(ctx, i.links)
	i.links = i.links[:0]
	return err
}

// sameAccount reports whether two accounts are the same; an empty list is none.
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

// Each calls f with every account and its links by AppID, as they are at one
// moment.
func (d *Directory) Each(ctx context.Context, f func(a Account, linked []string) error) error {
	return d.Store.ViewAccounts(ctx, func(tx Tx) error {
		if err := tx.RunsLong(ctx); err != nil {
			return err
		}
		for after := ""; ; {
			page, err := tx.Accounts(ctx, after, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, a := range page {
				after = a.AppID
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
