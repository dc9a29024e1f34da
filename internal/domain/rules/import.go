package rules

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Limits of an import.
const (
	// MaxImport is the maximum number of rules in one import.
	MaxImport = 10_000_000
	// importBatch is the number of lines that are checked together.
	importBatch = 500
	// importCache limits the number of accounts and links that are cached while lines are checked.
	importCache = 10_000
	// If an import changes at most singlyUpTo rules, Service.Changed is called for each of these rules; a larger import writes hidden rows.
	singlyUpTo = 1000
)

// SeedRule is a rule in the format of imports and of seed files.
type SeedRule struct {
	Owner       string   `json:"owner"`
	Prefix      string   `json:"prefix"`
	Path        string   `json:"path"`
	AppID       string   `json:"appid,omitempty"`
	Published   bool     `json:"published"`
	Occupy      bool     `json:"occupy,omitempty"`
	OpenVersion *int     `json:"open_version,omitempty"` // nil = the released version
	TestLinks   []string `json:"test_links,omitempty"`
}

// Draft returns the content of the rule.
func (r SeedRule) Draft() Draft {
	d := Draft{Prefix: r.Prefix, Path: r.Path, AppID: r.AppID, Occupy: r.Occupy, OpenVersion: OpenRelease, TestLinks: r.TestLinks}
	if r.OpenVersion != nil {
		d.OpenVersion = *r.OpenVersion
	}
	return d
}

// Planned is one line of an import.
type Planned struct {
	Line      int
	Owner     string
	Draft     Draft
	Published bool
	// Err is the reason why the line is not a valid rule; nil = valid.
	Err error
}

// Plan returns an iterator over the lines of an import; every call yields the same lines. An error means that the remaining lines
// cannot be read.
type Plan func() iter.Seq2[Planned, error]

// Import stores the operator's rules, either all of them or none. Import checks the same as Add, except the verification file, the number
// of rules and the quota. If the owner of a line already has a rule with the same prefix, Import updates this rule. Import accepts a rule
// below a prefix that another rule of the import occupies: a server may have such rules of different owners, and an export of these rules
// must be importable. The error lists the lines that cannot be stored (accounts.RowErrors). With dry = true, Import stores nothing.
//
// An import delays other callers no longer than any other change does. While lines are checked, other transactions can change rules; if
// such a change affects the result of the check, the import is repeated. A large import writes hidden rows, which all become visible at one
// moment. Decision 55.
func (s *Service) Import(ctx context.Context, plan Plan, dry bool) (accounts.Imported, error) {
	// Errors within the lines themselves are found without a transaction.
	faults, marks, last, err := checkLines(plan)
	if err != nil {
		return accounts.Imported{}, err
	}
	i := importing{service: s, plan: plan, last: last, marks: marks}
	for try := 1; ; try++ {
		err := s.Store.ViewRules(ctx, func(tx Tx) error { return i.check(ctx, tx, faults) })
		if err != nil || dry {
			return i.done, err
		}
		switch err = i.store(ctx, try > accounts.ImportTries); {
		case errors.Is(err, accounts.ErrConflict) || errors.Is(err, ErrPrefixTaken):
			if ctx.Err() == nil && try <= accounts.ImportTries {
				continue
			}
		case err == nil || i.first > 0:
		default:
			return accounts.Imported{}, err
		}
		// Even if err is not nil, the changes may be committed, so the in-memory index must reload the rules (see awaitMemory).
		ctx = context.WithoutCancel(ctx)
		switch {
		case i.first == 0:
		case i.keys == nil && s.ManyChanged != nil:
			s.ManyChanged(ctx, i.first, i.done.Added+i.done.Changed)
		case s.Changed != nil:
			for _, key := range i.keys {
				s.Changed(ctx, key)
			}
		}
		return i.done, err
	}
}

// importing is the state of one import.
type importing struct {
	service *Service
	plan    Plan
	last    int // number of the last line that was checked
	marks   []lineMark

	// Results of the check:
	done     accounts.Imported
	since    int64 // number of the last change that the check saw
	accounts map[string]bool
	hosts    map[string]bool

	// Results of the last attempt to store:
	first int64    // number of the first change of the attempt; 0 = nothing had to be stored
	keys  []string // keys of the changed rules; nil = too many to list
}

// Edit is a stored rule (Old) and its new version (Now).
type Edit struct{ Now, Old Rule }

// store writes the changes that the check found. With exclusive = true, the lines are checked again while a lock prevents other
// transactions from changing rules.
func (i *importing) store(ctx context.Context, exclusive bool) error {
	i.first, i.keys = 0, nil
	if i.done.Added+i.done.Changed == 0 {
		return nil
	}
	if all := i.done.Added + i.done.Changed; !exclusive && all > singlyUpTo {
		numbers, err := i.service.Store.Reserve(ctx, all)
		if err != nil {
			return err
		}
		if numbers.First > 0 {
			i.first = numbers.First
			return i.service.Store.UpdateRules(ctx, func(tx Tx) error { return i.writeHidden(ctx, tx, numbers) })
		}
	}
	return i.service.Store.UpdateRules(ctx, func(tx Tx) error {
		i.keys = nil
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		start := i.since
		if !exclusive {
			if err := i.checkUnchanged(ctx, tx, &start); err != nil {
				return err
			}
		}
		// From here on, no other transaction can append to the change log.
		first, err := tx.NextChange(ctx)
		if err != nil {
			return err
		}
		if exclusive {
			err = i.check(ctx, tx, nil)
		} else {
			err = i.checkUnchanged(ctx, tx, &start)
		}
		if err != nil {
			return err
		}
		i.first = first
		return i.load(ctx, tx)
	})
}

// writeHidden writes the new rules, and the new versions of edited rules, as hidden rows. Afterwards writeHidden makes all hidden
// rows visible at once.
func (i *importing) writeHidden(ctx context.Context, tx Tx, numbers accounts.SeqRange) error {
	err := i.eachBatch(ctx, tx, func(added []Rule, edits []Edit, now time.Time) error {
		if err := tx.AddHidden(ctx, added, ChangeMeta{At: now, Action: "add"}, numbers); err != nil {
			return err
		}
		return tx.EditHidden(ctx, edits, ChangeMeta{At: now, Action: "edit"}, numbers)
	})
	if err != nil {
		return err
	}
	start := i.since
	if err := i.checkUnchanged(ctx, tx, &start); err != nil {
		return err
	}
	if err := tx.LockForShow(ctx); err != nil {
		return err
	}
	if err := i.checkUnchanged(ctx, tx, &start); err != nil {
		return err
	}
	if err := tx.ShowHidden(ctx); err != nil {
		return err
	}
	// No other transaction can append to the change log here.
	return i.checkUnchanged(ctx, tx, &start)
}

// changesOf returns the new rules of a batch, and the edits of stored rules.
func (i *importing) changesOf(ctx context.Context, c *importCheck, batch []Planned, now time.Time) (added []Rule, edits []Edit, err error) {
	var cached map[string]Rule
	if i.done.Added < i.done.Lines { // if all lines are new rules, no stored rule needs to be read
		if cached, err = c.stored(ctx, batch, func(l Link) []string { return []string{l.Key} }); err != nil {
			return nil, nil, err
		}
	}
	for n := range batch {
		rule, err := c.draft(ctx, &batch[n])
		if err != nil {
			if code, _ := errcode.FromError(err); code != errcode.SystemError {
				return nil, nil, accounts.ErrConflict // the line was valid when it was checked, so the stored data has changed
			}
			return nil, nil, err
		}
		switch old, exists := cached[rule.Prefix.Key]; {
		case !exists:
			added = append(added, rule.madeAt(now))
		case !isStored(rule, old):
			edits = append(edits, Edit{rule.madeAt(now).replacing(old), old})
		}
	}
	return added, edits, nil
}

// madeAt returns the rule with its times set to now, as for a new rule.
func (r Rule) madeAt(now time.Time) Rule {
	r.CreatedAt, r.UpdatedAt = now, now
	if r.Published {
		r.PublishedAt = now
	}
	return r
}

// replacing returns the rule, whose times are set as for a new rule, as the new version of an old rule: with the ID and the time of
// creation of the old version, and with the old time of publication if both versions are published.
func (r Rule) replacing(old Rule) Rule {
	r.ID, r.CreatedAt = old.ID, old.CreatedAt
	if old.Published && r.Published {
		r.PublishedAt = old.PublishedAt
	}
	return r
}

// checkUnchanged returns accounts.ErrConflict if a change with a number above *start affects the check; otherwise it sets *start to the
// number of the last change.
func (i *importing) checkUnchanged(ctx context.Context, tx Tx, start *int64) error {
	return accounts.Revalidate(ctx, tx, start, i.concerns)
}

// concerns reports whether a change may affect the result of the check.
func (i *importing) concerns(ref accounts.ChangeRef) bool {
	if ref.All || ref.Account != "" && i.accounts[ref.Account] {
		return true
	}
	if ref.Rule == "" {
		return false
	}
	mark := markOf(ref.Rule)
	_, found := slices.BinarySearchFunc(i.marks, mark, func(m lineMark, sum [12]byte) int { return bytes.Compare(m.sum[:11], sum[:11]) })
	if found || !ref.Occupies {
		return found
	}
	link, ok := ParseLink(ref.Rule)
	return !ok || i.hosts[link.Host]
}

// lineMark holds the number of a line, the result of markOf for its key and a checksum of its owner, in 20 bytes. owner is 0 if the line's
// prefix matches the links below it, unlike the same prefix with a bare "?".
type lineMark struct {
	sum         [12]byte
	owner, line uint32
}

// markOf returns a truncated hash of a key without a bare "?" at its end, followed by 1 if the key has a bare "?", otherwise by 0: equal
// hashes of two keys are practically impossible.
func markOf(key string) (mark [12]byte) {
	text := key
	if n := strings.IndexByte(key, '?'); n == len(key)-1 {
		text, mark[11] = key[:n], 1
	}
	sum := sha256.Sum256([]byte(text))
	copy(mark[:11], sum[:])
	return mark
}

// checkLines finds errors within the lines themselves, independent of the stored data. marks are sorted by hash; last is the number
// of the last line that was read.
func checkLines(plan Plan) (faults accounts.RowErrors, marks []lineMark, last int, err error) {
	for p, err := range plan() {
		if err != nil {
			return nil, nil, 0, err
		}
		last = p.Line
		key, reason := p.key()
		if reason != nil {
			faults = append(faults, accounts.RowError{Line: p.Line, Reason: reason.Error()})
			if len(faults) == accounts.MaxFaults {
				break
			}
			continue
		}
		if len(marks) == MaxImport {
			return nil, nil, 0, accounts.Invalid(fmt.Sprintf("more than %d rules: split them into several files", MaxImport))
		}
		mark := lineMark{sum: markOf(key), line: uint32(p.Line)}
		if !strings.HasSuffix(p.Draft.Prefix, "/") {
			mark.owner = crc32.ChecksumIEEE([]byte(p.Owner))
		}
		marks = append(marks, mark)
	}
	slices.SortFunc(marks, func(a, b lineMark) int {
		return cmp.Or(bytes.Compare(a.sum[:], b.sum[:]), cmp.Compare(a.line, b.line))
	})
	first := 0
	for i := 1; i < len(marks); i++ {
		a, b, reason := marks[first], marks[i], "the same prefix is on line %d"
		if a.sum != b.sum {
			first = i
			if [11]byte(a.sum[:11]) != [11]byte(b.sum[:11]) || a.owner == 0 || a.owner == b.owner {
				continue
			}
			a.line, b.line = min(a.line, b.line), max(a.line, b.line)
			reason = "the prefix of another account on line %d matches the same links"
		}
		// If there are very many errors, only the first ones are returned.
		if faults = append(faults, accounts.RowError{Line: int(b.line), Reason: fmt.Sprintf(reason, a.line)}); len(faults) >= 1000 {
			faults = faults.First()
		}
	}
	return faults.First(), marks, last, nil
}

// key returns the key of the rule on a line.
func (p *Planned) key() (string, error) {
	if p.Err != nil {
		return "", p.Err
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

// inBatches yields, in batches, the valid lines of a plan up to the line with the number last.
func (plan Plan) inBatches(last int) iter.Seq2[[]Planned, error] {
	return accounts.InBatches(func(yield func(Planned, error) bool) {
		for p, err := range plan() {
			if err == nil && p.Line > last {
				return
			}
			if _, fault := p.key(); err == nil && fault != nil {
				continue // checkLines has already returned this error
			}
			if !yield(p, err) {
				return
			}
		}
	}, importBatch)
}

// check compares every line with the stored rules. It records the changes that the import will make, or returns accounts.RowErrors, which
// include the known errors.
func (i *importing) check(ctx context.Context, tx Tx, known accounts.RowErrors) error {
	i.done, i.accounts, i.hosts = accounts.Imported{}, map[string]bool{}, map[string]bool{}
	done, err := i.checkAll(ctx, tx, known)
	if err == nil {
		i.done = done
	}
	return err
}

func (i *importing) checkAll(ctx context.Context, tx Tx, known accounts.RowErrors) (done accounts.Imported, err error) {
	if i.since, err = tx.LastChange(ctx); err != nil {
		return done, err
	}
	c, err := newImportCheck(ctx, tx)
	if err != nil {
		return done, err
	}
	faults := slices.Clone(known)
	for batch, err := range i.plan.inBatches(i.last) {
		if err != nil {
			return done, err
		}
		if len(faults) >= accounts.MaxFaults && batch[0].Line > faults.First()[accounts.MaxFaults-1].Line {
			break
		}
		ending, err := c.stored(ctx, batch, Link.Ends)
		if err != nil {
			return done, err
		}
		for n := range batch {
			rule, stored, err := c.rule(ctx, &batch[n], ending)
			code, detail := errcode.FromError(err)
			switch {
			case code != errcode.SystemError && err != nil:
				faults = append(faults, accounts.RowError{Line: batch[n].Line, Reason: cmp.Or(detail, code.Meaning().String())})
			case err != nil:
				return done, err
			case stored == nil:
				done.Added++
			case isStored(rule, *stored):
				done.Unchanged++
			default:
				done.Changed++
			}
			i.accounts[rule.Owner], i.accounts[rule.Target], i.hosts[rule.Prefix.Host] = true, true, true
			done.Lines++
		}
	}
	if len(faults) > 0 {
		return done, faults.First()
	}
	return done, nil
}

// load stores the changes of all lines. The caller must hold the lock on all rules.
func (i *importing) load(ctx context.Context, tx Tx) error {
	few := i.done.Added+i.done.Changed <= singlyUpTo
	return i.eachBatch(ctx, tx, func(added []Rule, edits []Edit, now time.Time) error {
		for _, e := range edits {
			if err := tx.PutRule(ctx, e.Now, ChangeMeta{At: now, Action: "edit"}); err != nil {
				return err
			}
			if few {
				i.keys = append(i.keys, e.Now.Prefix.Key)
			}
		}
		for _, r := range added {
			if few {
				i.keys = append(i.keys, r.Prefix.Key)
			}
		}
		return tx.AddRules(ctx, added, ChangeMeta{At: now, Action: "add"})
	})
}

// eachBatch checks the lines batch by batch and calls write with the changes of each batch, up to the first error.
func (i *importing) eachBatch(ctx context.Context, tx Tx, write func(added []Rule, edits []Edit, now time.Time) error) error {
	c, err := newImportCheck(ctx, tx)
	if err != nil {
		return err
	}
	now := i.service.Now()
	for batch, err := range i.plan.inBatches(i.last) {
		if err != nil {
			return err
		}
		added, edits, err := i.changesOf(ctx, c, batch, now)
		if err != nil {
			return err
		}
		if err := write(added, edits, now); err != nil {
			return err
		}
	}
	return nil
}

// isStored reports whether the rule of a line equals the stored rule.
func isStored(r, stored Rule) bool {
	return r.Kind == stored.Kind && r.Owner == stored.Owner && r.Target == stored.Target && r.Prefix.Text == stored.Prefix.Text &&
		r.Path == stored.Path &&
		r.Occupy == stored.Occupy && r.OpenVersion == stored.OpenVersion && r.Published == stored.Published &&
		slices.Equal(r.TestLinks, stored.TestLinks)
}

// importCheck checks lines within one transaction.
type importCheck struct {
	tx       Tx
	domains  bool // the operator's list of hosts is not empty
	accounts map[string]accounts.Account
	linked   map[[2]string]error
}

func newImportCheck(ctx context.Context, tx Tx) (*importCheck, error) {
	domains, err := tx.Domains(ctx, "", 1)
	return &importCheck{tx: tx, domains: len(domains) > 0, accounts: map[string]accounts.Account{}, linked: map[[2]string]error{}}, err
}

// stored returns, by key, the stored rules that have a key that lookup returns for a prefix in the batch: with Link.Ends, the rules that
// may match the prefix.
func (c *importCheck) stored(ctx context.Context, batch []Planned, lookup func(Link) []string) (map[string]Rule, error) {
	wanted := map[string]bool{}
	var keys []string
	for i := range batch {
		link, _ := ParseLink(batch[i].Draft.Prefix)
		for _, key := range lookup(link) {
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

// rule returns the new rule of a line, and the stored rule that it replaces. If the error has an error code, the line is invalid.
func (c *importCheck) rule(ctx context.Context, p *Planned, ending map[string]Rule) (rule Rule, stored *Rule, err error) {
	if rule, err = c.draft(ctx, p); err != nil {
		return rule, nil, err
	}
	key := rule.Prefix.Key
	if r, ok := ending[key]; ok && r.Owner == rule.Owner {
		return rule, &r, nil
	}
	for _, end := range rule.Prefix.Ends() {
		r, ok := ending[end]
		switch {
		case !ok || r.Owner == rule.Owner:
		case end == key, r.Prefix.sameLinks(rule.Prefix):
			return rule, nil, errcode.PrefixOwned.WithDetail(behaviour.RulesAddOwned, "prefix %q belongs to %s", r.Prefix.Text, r.Owner)
		case r.Occupy && r.Prefix.Matches(rule.Prefix.Link):
			return rule, nil, errcode.PrefixOwned.WithDetail(behaviour.RulesAddOccupied, "prefix %q: %s occupies the links below %q",
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
			return rule, nil, errcode.PrefixDenied.WithDetail(behaviour.RulesAddDenied, "the operator denies rules on %s", rule.Prefix.Host)
		case status == NoICP:
			return rule, nil, errcode.ICPFailed.WithDetail(behaviour.RulesAddICP, "the operator has no ICP record for %s", rule.Prefix.Host)
		}
	}
	return rule, nil, nil
}

// draft returns the rule of a line. draft checks the rule itself and its accounts, but compares it with no other rules.
func (c *importCheck) draft(ctx context.Context, p *Planned) (Rule, error) {
	owner, err := c.account(ctx, p.Owner)
	if errors.Is(err, accounts.ErrNoAccount) {
		return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "there is no account %.120q", p.Owner)
	}
	if err != nil {
		return Rule{}, err
	}
	d := p.Draft
	if err := checkDraft(owner, d); err != nil {
		return Rule{}, err
	}
	rule := Rule{Kind: kindFor(owner), Owner: owner.AppID, Target: owner.AppID, Path: d.Path, Published: p.Published}
	// The operator chose the host, so private hosts are allowed in an import even if accounts may not use them.
	if rule.Prefix, err = ParsePrefix(d.Prefix, rule.Kind, true); err != nil {
		return Rule{}, err
	}
	if rule.Kind == KindService {
		if d.Occupy || len(d.TestLinks) > 0 {
			return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "occupy and test_links are not for a service account's rule")
		}
		rule.Target = d.AppID
		return rule, c.target(ctx, owner, d.AppID)
	}
	if d.AppID != "" && d.AppID != owner.AppID {
		return Rule{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "appid: only a service account's rule opens another Mini Program")
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
