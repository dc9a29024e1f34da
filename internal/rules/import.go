package rules

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/errcode"
)

// Limits of an import.
const (
	// MaxImport is how many rules one import has at most.
	MaxImport = 10_000_000
	// importBatch is how many lines are looked at together.
	importBatch = 500
	// importCache bounds what is remembered of accounts and links while lines
	// are checked.
	importCache = 10_000
	// singlyUpTo is up to how many changed rules Changed is called for each.
	singlyUpTo = 1000
)

// Planned is one line of an import.
type Planned struct {
	Line      int
	Owner     string
	Draft     Draft
	Published bool
	// Fault is why the line says no rule; nil = it does.
	Fault error
}

// Plan yields the lines of an import, the same whenever it is called. An error
// means that they cannot be read to their end.
type Plan func() iter.Seq2[Planned, error]

// Import stores rules that the operator brings, all of them or none: the checks
// of Add but the verification file, the number of rules and the quota. A rule
// that the owner has already becomes what its line says. Rules of one import do
// not occupy against each other: a state in which one lies below another's is
// possible, so it can be moved. Faults names the lines that cannot be. dry only
// checks.
//
// It is one transaction. Meanwhile nobody else changes rules, and while it
// writes nobody changes anything.
func (b *Book) Import(ctx context.Context, plan Plan, dry bool) (done accounts.Imported, err error) {
	// A fault of the lines themselves costs no transaction.
	faults, last, err := checkLines(plan)
	if err != nil {
		return done, err
	}
	if dry || len(faults) > 0 {
		err := b.Store.ViewRules(ctx, func(tx Tx) (err error) {
			done, err = b.checkPlan(ctx, tx, plan, faults, last)
			return err
		})
		return done, err
	}
	var first int64
	var keys []string
	err = b.Store.UpdateRules(ctx, func(tx Tx) (err error) {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		if done, err = b.checkPlan(ctx, tx, plan, nil, last); err != nil {
			return err
		}
		first, keys, err = b.load(ctx, tx, plan, done)
		return err
	})
	if _, refused := errors.AsType[accounts.Faults](err); refused {
		return done, err
	}
	// As in awaitMemory: an error may hide a commit.
	ctx = context.WithoutCancel(ctx)
	switch {
	case first == 0:
	case keys == nil && b.ManyChanged != nil:
		b.ManyChanged(ctx, first, done.Added+done.Changed)
	case b.Changed != nil:
		for _, key := range keys {
			b.Changed(ctx, key)
		}
	}
	return done, err
}

// lineMark remembers a key in 16 bytes: two keys of ten million that look the
// same are as good as impossible.
type lineMark struct {
	sum  [12]byte
	line uint32
}

// checkLines finds what is wrong with lines whatever is stored. last is the line
// up to which it looked.
func checkLines(plan Plan) (faults accounts.Faults, last int, err error) {
	var marks []lineMark
	for p, err := range plan() {
		if err != nil {
			return nil, 0, err
		}
		last = p.Line
		key, why := p.key()
		if why != nil {
			faults = append(faults, accounts.Fault{Line: p.Line, Why: why.Error()})
			if len(faults) == accounts.MaxFaults {
				break
			}
			continue
		}
		if len(marks) == MaxImport {
			return nil, 0, accounts.Invalid(fmt.Sprintf("more than %d rules: bring them in several files", MaxImport))
		}
		sum := sha256.Sum256([]byte(key))
		marks = append(marks, lineMark{[12]byte(sum[:12]), uint32(p.Line)})
	}
	slices.SortFunc(marks, func(a, b lineMark) int {
		return cmp.Or(bytes.Compare(a.sum[:], b.sum[:]), cmp.Compare(a.line, b.line))
	})
	first := 0
	for i := 1; i < len(marks); i++ {
		if marks[i].sum != marks[first].sum {
			first = i
			continue
		}
		// The first of many is enough.
		if faults = append(faults, accounts.Fault{Line: int(marks[i].line),
			Why: fmt.Sprintf("the same prefix is on line %d", marks[first].line)}); len(faults) >= 1000 {
			faults = faults.First()
		}
	}
	return faults.First(), last, nil
}

// key is that of the rule that a line says.
func (p *Planned) key() (string, error) {
	if p.Fault != nil {
		return "", p.Fault
	}
	if p.Owner == "" {
		return "", errors.New("owner is missing")
	}
	if p.Draft.Prefix == "" {
		return "", errors.New("prefix is missing")
	}
	link, ok := ParseLink(p.Draft.Prefix)
	if !ok || !PlainText(p.Draft.Prefix) {
		return "", fmt.Errorf("prefix %.120q: want http:// or https:// and a host", p.Draft.Prefix)
	}
	return link.Key, nil
}

// inBatches yields the lines of a plan that are rules, some at a time, up to a
// line.
func (plan Plan) inBatches(last int) iter.Seq2[[]Planned, error] {
	return func(yield func([]Planned, error) bool) {
		batch := make([]Planned, 0, importBatch)
		for p, err := range plan() {
			if err != nil {
				yield(nil, err)
				return
			}
			if p.Line > last {
				break
			}
			if _, fault := p.key(); fault != nil {
				continue // it was named before
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

// checkPlan holds every line against what is stored: Faults, known ones
// included, or what the import will do.
func (b *Book) checkPlan(ctx context.Context, tx Tx, plan Plan, known accounts.Faults, last int) (done accounts.Imported, err error) {
	c, err := newImportCheck(ctx, tx)
	if err != nil {
		return done, err
	}
	faults := slices.Clone(known)
	for batch, err := range plan.inBatches(last) {
		if err != nil {
			return accounts.Imported{}, err
		}
		if len(faults) >= accounts.MaxFaults && batch[0].Line > faults.First()[accounts.MaxFaults-1].Line {
			break
		}
		above, err := c.above(ctx, batch)
		if err != nil {
			return accounts.Imported{}, err
		}
		for i := range batch {
			rule, stored, err := c.rule(ctx, &batch[i], above)
			code, detail := errcode.Of(err)
			switch {
			case code != errcode.SystemError && err != nil:
				faults = append(faults, accounts.Fault{Line: batch[i].Line, Why: cmp.Or(detail, code.Meaning)})
			case err != nil:
				return accounts.Imported{}, err
			case stored == nil:
				done.Added++
			case same(rule, *stored):
				done.Unchanged++
			default:
				done.Changed++
			}
			done.Lines++
		}
	}
	if len(faults) > 0 {
		return accounts.Imported{}, faults.First()
	}
	return done, nil
}

// load stores what checkPlan found to be right. first is the number of the first
// change that it noted; keys are what changed, nil where that is much.
func (b *Book) load(ctx context.Context, tx Tx, plan Plan, will accounts.Imported) (first int64, keys []string, err error) {
	n := will.Added + will.Changed
	if n == 0 {
		return 0, nil, nil
	}
	c, err := newImportCheck(ctx, tx)
	if err != nil {
		return 0, nil, err
	}
	now := b.Now()
	if first, err = tx.NextChange(ctx); err != nil {
		return 0, nil, err
	}
	for batch, err := range plan.inBatches(int(^uint32(0))) {
		if err != nil {
			return 0, nil, err
		}
		var here map[string]Rule
		if will.Added < will.Lines { // some of them were there
			if here, err = c.here(ctx, batch); err != nil {
				return 0, nil, err
			}
		}
		added := make([]Rule, 0, len(batch))
		for i := range batch {
			rule, err := c.draft(ctx, &batch[i])
			if err != nil {
				return 0, nil, err
			}
			rule.CreatedAt, rule.ChangedAt = now, now
			if rule.Published {
				rule.PublishedAt = now
			}
			old, exists := here[rule.Prefix.Key]
			switch {
			case !exists:
				added = append(added, rule)
			case same(rule, old):
				continue
			default:
				rule.ID, rule.CreatedAt = old.ID, old.CreatedAt
				if old.Published && rule.Published {
					rule.PublishedAt = old.PublishedAt
				}
				if err := tx.PutRule(ctx, rule, Deed{At: now, Did: "edit"}); err != nil {
					return 0, nil, err
				}
			}
			if n <= singlyUpTo {
				keys = append(keys, rule.Prefix.Key)
			}
		}
		if err := tx.AddRules(ctx, added, Deed{At: now, Did: "add"}); err != nil {
			return 0, nil, err
		}
	}
	return first, keys, nil
}

// same reports whether a line asks for what is stored.
func same(r, stored Rule) bool {
	return r.Kind == stored.Kind && r.Owner == stored.Owner && r.Target == stored.Target && r.Prefix.Text == stored.Prefix.Text &&
		r.Path == stored.Path &&
		r.Occupy == stored.Occupy && r.OpenVersion == stored.OpenVersion && r.Published == stored.Published &&
		slices.Equal(r.TestLinks, stored.TestLinks)
}

// importCheck judges lines within one transaction.
type importCheck struct {
	tx       Tx
	domains  bool // the operator said something of some host
	accounts map[string]accounts.Account
	linked   map[[2]string]error
}

func newImportCheck(ctx context.Context, tx Tx) (*importCheck, error) {
	domains, err := tx.Domains(ctx)
	return &importCheck{tx: tx, domains: len(domains) > 0, accounts: map[string]accounts.Account{}, linked: map[[2]string]error{}}, err
}

// above are the stored rules at the ends of every line of a batch, by key.
func (c *importCheck) above(ctx context.Context, batch []Planned) (map[string]Rule, error) {
	return c.stored(ctx, batch, Link.Ends)
}

// here are the stored rules with the keys of a batch.
func (c *importCheck) here(ctx context.Context, batch []Planned) (map[string]Rule, error) {
	return c.stored(ctx, batch, func(l Link) []string { return []string{l.Key} })
}

func (c *importCheck) stored(ctx context.Context, batch []Planned, of func(Link) []string) (map[string]Rule, error) {
	wanted := map[string]bool{}
	var keys []string
	for i := range batch {
		link, _ := ParseLink(batch[i].Draft.Prefix)
		for _, key := range of(link) {
			if !wanted[key] {
				wanted[key] = true
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	list, err := c.tx.RulesAt(ctx, keys)
	found := make(map[string]Rule, len(list))
	for _, r := range list {
		found[r.Prefix.Key] = r
	}
	return found, err
}

// rule is what a line makes, and what it replaces; an error with a code is a
// fault of the line.
func (c *importCheck) rule(ctx context.Context, p *Planned, above map[string]Rule) (rule Rule, stored *Rule, err error) {
	if rule, err = c.draft(ctx, p); err != nil {
		return rule, nil, err
	}
	key := rule.Prefix.Key
	if r, ok := above[key]; ok && r.Owner == rule.Owner {
		return rule, &r, nil
	}
	for _, end := range rule.Prefix.Ends() {
		r, ok := above[end]
		switch {
		case !ok || r.Owner == rule.Owner:
		case end == key:
			return rule, nil, errcode.PrefixOwned.With(behaviour.RulesAddOwned, "prefix %q belongs to %s", r.Prefix.Text, r.Owner)
		case r.Occupy && r.Prefix.Matches(rule.Prefix.Link):
			return rule, nil, errcode.PrefixOwned.With(behaviour.RulesAddOccupied, "prefix %q: %s occupies what lies below %q",
				rule.Prefix.Text, r.Owner,
				r.Prefix.Text)
		}
	}
	if _, err := checkMaker(ctx, c.tx, rule); err != nil {
		return rule, nil, err
	}
	if c.domains && rule.Kind == Ordinary {
		switch status, err := c.tx.Domain(ctx, rule.Prefix.Host); {
		case err != nil:
			return rule, nil, err
		case status == Denied:
			return rule, nil, errcode.PrefixDenied.With(behaviour.RulesAddDenied, "the operator denies rules on %s", rule.Prefix.Host)
		case status == NoICP:
			return rule, nil, errcode.ICPFailed.With(behaviour.RulesAddICP, "the operator has no ICP record for %s", rule.Prefix.Host)
		}
	}
	return rule, nil, nil
}

// draft is the rule that a line says, as far as accounts and its own form tell.
func (c *importCheck) draft(ctx context.Context, p *Planned) (Rule, error) {
	owner, err := c.account(ctx, p.Owner)
	if errors.Is(err, accounts.ErrNoAccount) {
		return Rule{}, errcode.InvalidArgs.With(behaviour.None, "there is no account %.120q", p.Owner)
	}
	if err != nil {
		return Rule{}, err
	}
	d := p.Draft
	if err := checkDraft(owner, d); err != nil {
		return Rule{}, err
	}
	rule := Rule{Kind: kindFor(owner), Owner: owner.AppID, Target: owner.AppID, Path: d.Path, Published: p.Published}
	// The operator brings the host; whether strangers may use such hosts is
	// another question.
	if rule.Prefix, err = ParsePrefix(d.Prefix, rule.Kind, true); err != nil {
		return Rule{}, err
	}
	if rule.Kind == Service {
		if d.Occupy || len(d.TestLinks) > 0 {
			return Rule{}, errcode.InvalidArgs.With(behaviour.None, "occupy and test_links are not for a service account's rule")
		}
		rule.Target = d.AppID
		return rule, c.target(ctx, owner, d.AppID)
	}
	if d.AppID != "" && d.AppID != owner.AppID {
		return Rule{}, errcode.InvalidArgs.With(behaviour.None, "appid: only a service account's rule opens another Mini Program")
	}
	rule.Occupy, rule.OpenVersion, rule.TestLinks = d.Occupy, d.OpenVersion, d.TestLinks
	return rule, checkTestLinks(rule.Prefix, d.TestLinks)
}

func (c *importCheck) account(ctx context.Context, appid string) (accounts.Account, error) {
	a, ok := c.accounts[appid]
	if ok {
		return a, nil
	}
	a, err := c.tx.Account(ctx, appid)
	if err == nil {
		if len(c.accounts) >= importCache {
			clear(c.accounts)
		}
		c.accounts[appid] = a
	}
	return a, err
}

func (c *importCheck) target(ctx context.Context, owner accounts.Account, appid string) error {
	pair := [2]string{owner.AppID, appid}
	err, known := c.linked[pair]
	if !known {
		_, _, err = checkTarget(ctx, c.tx, owner, appid)
		if len(c.linked) >= importCache {
			clear(c.linked)
		}
		c.linked[pair] = err
	}
	return err
}
