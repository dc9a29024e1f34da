package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

const ruleColumns = `id, key, kind, owner, target, prefix, path, occupy, open_version, test_links, published,
	created_at, updated_at, published_at, host, segment, link_path`

func ruleArgs(r *rules.Rule) []any {
	return []any{r.ID, r.Prefix.Key, string(r.Kind), r.Owner, r.Target, r.Prefix.Text, r.Path, flag(r.Occupy), r.OpenVersion,
		inJSON(&r.TestLinks).text(), flag(r.Published), millis(r.CreatedAt), millis(r.UpdatedAt), millis(r.PublishedAt),
		r.Prefix.Host, r.Prefix.Segment(), r.Prefix.Path()}
}

func scanRule(scan func(...any) error) (rules.Rule, error) {
	var r rules.Rule
	var prefix, ignored string
	err := scan(&r.ID, &ignored, &r.Kind, &r.Owner, &r.Target, &prefix, &r.Path, &r.Occupy, &r.OpenVersion, inJSON(&r.TestLinks),
		&r.Published, moment{&r.CreatedAt}, moment{&r.UpdatedAt}, moment{&r.PublishedAt}, &ignored, &ignored, &ignored)
	if errors.Is(err, sql.ErrNoRows) {
		return r, rules.ErrNoRule
	}
	if err != nil {
		return r, err
	}
	return r, readPrefix(&r, prefix)
}

// readPrefix sets the prefix of a stored rule from its text.
func readPrefix(r *rules.Rule, text string) error {
	var ok bool
	if r.Prefix, ok = rules.StoredPrefix(text); !ok {
		return fmt.Errorf("rule %d is corrupted: %.120q is not a valid prefix", r.ID, text)
	}
	return nil
}

func (t ruleQueries) Rule(ctx context.Context, key string) (rules.Rule, error) {
	return scanRule(t.row(ctx, `SELECT `+ruleColumns+` FROM rules WHERE key = $1`, key).Scan)
}

// chunk is the maximum number of values in one IN list.
const chunk = 512

func (t ruleQueries) RulesAt(ctx context.Context, keys []string) ([]rules.Rule, error) {
	return listAt(ctx, t.Tx, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE key IN`, ``, keys)
}

func (t ruleQueries) RulesBelow(ctx context.Context, key string, limit int) ([]rules.Rule, error) {
	end := strings.TrimSuffix(key, "/") + "0" // "0" follows "/"
	return list(ctx, t.Tx, scanRule, `SELECT `+ruleColumns+` FROM rules WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3`, key, end, limit)
}

// ruleDirectory is the SQL expression (with an index) for the directory of a rule's path; link_path contains "%23" instead of "#".
const ruleDirectory = `REPLACE(RTRIM(link_path, REPLACE(link_path, '/', '')), '%23', '#')`

func (t ruleQueries) RuleIn(ctx context.Context, owner, directory string) (rules.Rule, error) {
	link, ok := rules.ParseLink(directory)
	if !ok {
		return rules.Rule{}, rules.ErrNoRule
	}
	path := strings.ReplaceAll(link.Path(), "%23", "#")
	bare := path
	if path == "/" || strings.HasPrefix(path, "/#") {
		bare = path[1:] // "#" may directly follow the host
	}
	return scanRule(t.row(ctx, `SELECT `+ruleColumns+` FROM rules WHERE host = $1 AND owner = $2 AND `+ruleDirectory+` IN ($3, $4)
		AND SUBSTR(key, 1, 5) = $5 AND kind = $6 LIMIT 1`, link.Host, owner, path, bare, (link.Scheme + ":")[:5], string(rules.Ordinary)).Scan)
}

// placeholders returns n numbered placeholders that start with "$first".
func placeholders(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(first + i))
	}
	return b.String()
}

// Named implements rules.Tx. The id of a rule is the sequence number of the change that added the rule.
func (t ruleQueries) Named(ctx context.Context, ids []int64) ([]rules.Named, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	text := placeholders(1, len(ids))
	scan := scanner(func(n *rules.Named) []any { return []any{&n.ID, &n.Owner, &n.Prefix, &n.Deleted} })
	return list(ctx, t.Tx, scan, `SELECT id, owner, prefix, 0 FROM rules WHERE id IN (`+text+`)
		UNION ALL SELECT seq, `+t.statistics().loggedOwner()+`, `+t.jsonField(`h.detail`, `prefix`)+`, 1 FROM changes h
			WHERE seq IN (`+text+`) AND kind = '`+ofRule+`' AND NOT EXISTS (SELECT 1 FROM rules WHERE id = h.seq)`, appendArgs(nil, ids)...)
}

func (t ruleQueries) List(ctx context.Context, q rules.Query) ([]rules.Rule, int, error) {
	var w criteria
	w.andIf(q.Owner != "", "owner = ?", q.Owner)
	w.andIf(q.Target != "", "target = ?", q.Target)
	// this condition lets the query use an index of service rules
	w.andIf(q.Owner != "" && opened(q) != "", "kind = '"+string(rules.KindService)+"'")
	count := t.total(ctx, w, q)
	if q.AfterID > 0 {
		w.and("id > ?", q.AfterID)
	} else if q.Owner != "" && q.Offset > 0 && !q.Newest && q.Keys == nil {
		first, prev, err := t.bucketAt(ctx, q)
		if err != nil {
			return nil, 0, err
		}
		w.and("id >= ?", first)
		q.Offset -= prev
	}
	if q.Keys != nil && len(q.Keys) == 0 {
		total, err := count()
		return []rules.Rule{}, total, err
	}
	andIn(&w, t.Tx, "key IN (?)", q.Keys)
	order := " ORDER BY id"
	if q.Newest {
		order += " DESC"
	}
	query := `SELECT ` + ruleColumns + ` FROM rules` + w.String() + order + ` LIMIT ` + w.bind(q.Limit) + ` OFFSET ` + w.bind(q.Offset)
	found, err := list(ctx, t.Tx, scanRule, query, w.args...)
	if err != nil {
		return nil, 0, err
	}
	total, err := count()
	return found, total, err
}

// Listing implements rules.Tx.
func (t ruleQueries) Listing(ctx context.Context, q rules.Query, since time.Time) (found []rules.Rule, total, spent int, err error) {
	publishes := t.queue(ctx, `SELECT `+spentSince+` WHERE $1 = 1`, 1, q.Owner, millis(since), nextHour(since))
	if found, total, err = t.List(ctx, q); err == nil {
		err = publishes().Scan(&spent)
	}
	return found, total, spent, err
}

// total queues a query that counts the rules on all pages of the result of q; the returned function returns this count.
func (t ruleQueries) total(ctx context.Context, w criteria, q rules.Query) func() (int, error) {
	if q.NoTotal {
		return func() (int, error) { return 0, nil }
	}
	query, args := `SELECT COUNT(*) FROM rules`+w.String(), w.args
	if q.Owner != "" {
		query, args = ruleCount, []any{q.Owner, opened(q)}
	}
	count := t.queue(ctx, query, slices.Clone(args)...)
	return func() (n int, err error) {
		err = count().Scan(&n)
		return n, replaceNoRows(err, nil)
	}
}

// ruleCount is SQL for the number of rules of an owner and target in rule_counts; triggers update this table (00109_first.sql).
const ruleCount = `SELECT rules FROM rule_counts WHERE owner = $1 AND target = $2`

// opened returns the value of column target in rule_counts and rule_page_buckets for the rules of q; "" = all rules of the owner.
func opened(q rules.Query) string {
	if q.Target == q.Owner {
		return ""
	}
	return q.Target
}

// counted returns the number of rules that have the given owner and target; owner "" = any owner, target "" = any target.
func (t ruleQueries) counted(ctx context.Context, owner, target string) (n int, err error) {
	return scalarOrZero[int](ctx, t.Tx, ruleCount, owner, target)
}

func (t ruleQueries) CountOwned(ctx context.Context, owner string) (int, error) {
	return t.counted(ctx, owner, "")
}

func (t ruleQueries) CountTargeted(ctx context.Context, target string) (int, error) {
	return t.counted(ctx, "", target)
}

// bucketAt finds the bucket that contains the rule at an offset of an owner's list: it returns the first rule id of the bucket, and the
// number of rules before the bucket. bucketAt reads one row per bucket; a new bucket has at most 1,024 rules.
func (t ruleQueries) bucketAt(ctx context.Context, q rules.Query) (first int64, prev int, err error) {
	pieces, err := t.query(ctx, `SELECT first_id, rules FROM rule_page_buckets WHERE owner = $1 AND target = $2 ORDER BY first_id`, q.Owner, opened(q))
	if err != nil {
		return 0, 0, err
	}
	defer pieces.Close()
	for n := 0; pieces.Next(); prev += n {
		if err := pieces.Scan(&first, &n); err != nil || prev+n > q.Offset {
			return first, prev, err
		}
	}
	return math.MaxInt64, q.Offset, pieces.Err()
}

// The queries with which NearestRules finds rules that are similar to a link. The cost of the queries does not depend on the number of
// rules: nearbyAbove and nearbyBelow read no more rows than they return, and nearbyOnOtherHosts reads at most maxNearbyRules rows.
const (
	nearbyAbove = `SELECT ` + ruleColumns + ` FROM rules WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3`
	nearbyBelow = `SELECT ` + ruleColumns + ` FROM rules WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3`
	// If one host has more than maxNearbyRules rules with the same path, less similar rules on other hosts may be missed.
	maxNearbyRules     = 1000
	nearbyOnOtherHosts = `SELECT ` + ruleColumns + ` FROM (SELECT ` + ruleColumns +
		` FROM rules WHERE link_path = $1 ORDER BY id LIMIT $4) AS on_path
		WHERE host <> $2 ORDER BY id LIMIT $3`
)

func (t ruleQueries) NearestRules(ctx context.Context, link rules.Link, size int) ([]rules.Rule, error) {
	var nearRules []rules.Rule
	// Keys are sorted by bytes, so the keys that have the longest common prefix with the link are directly before and after the
	// link. Similar rules may have the other scheme, so the search runs for http and for https.
	for _, scheme := range []string{"http", "https"} {
		pivot := scheme + link.Key[len(link.Scheme):]
		parts := segmentParts(scheme+"://"+link.Host, link.Segment())
		up := make([][2]string, 0, len(parts))
		down := make([][2]string, 0, len(parts))
		for _, p := range parts {
			up = append(up, [2]string{max(p[0], pivot), p[1]})
			down = append([][2]string{{p[0], min(p[1], pivot)}}, down...)
		}
		for _, side := range []struct {
			query string
			parts [][2]string
		}{{nearbyAbove, up}, {nearbyBelow, down}} {
			left := size
			for _, p := range side.parts {
				if p[0] >= p[1] || left == 0 {
					continue
				}
				items, err := list(ctx, t.Tx, scanRule, side.query, p[0], p[1], left)
				if err != nil {
					return nil, err
				}
				nearRules = append(nearRules, items...)
				left -= len(items)
			}
		}
	}
	thisRules, err := list(ctx, t.Tx, scanRule, nearbyOnOtherHosts, link.Path(), link.Host, size, maxNearbyRules)
	return append(nearRules, thisRules...), err
}

// segmentParts returns, in key order, the three key ranges of an origin and a first path segment: the segment itself, the paths below it,
// and the segment with parameters. There are three ranges, because keys with another first segment are sorted between them: "/a-b" between
// "/a" and "/a/b". The bound "\x01" works because no key contains a control character.
func segmentParts(origin, segment string) [3][2]string {
	location := origin + segment
	return [3][2]string{{location, location + "\x01"}, {location + "/", location + "0"}, {location + "?", location + "@"}}
}

// AllRules implements rules.Store.
func (s *Store) AllRules(ctx context.Context) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		stopped := false
		err := s.view(ctx, func(tx *Tx) error {
			return tx.patiently(func() (err error) {
				stopped, err = tx.rules().allRules(ctx, yield)
				return err
			})
		})
		if err != nil && !stopped {
			yield(rules.Rule{}, err)
		}
	}
}

// allRules passes all rules to yield and reports whether yield stopped the iteration. A slow yield may keep the transaction idle for
// minutes while yield handles rows that the server has already sent.
func (t ruleQueries) allRules(ctx context.Context, yield func(rules.Rule, error) bool) (stopped bool, err error) {
	if err := t.lasting(ctx); err != nil {
		return false, err
	}
	rows, err := t.query(ctx, `SELECT id, kind, owner, target, prefix, path, occupy, open_version, test_links, published,
		created_at, updated_at, published_at FROM rules ORDER BY id`)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	// There may be ten million rules, so consecutive rules with equal texts share one string.
	var last rules.Rule
	var kind, owner, target, prefix, path, links sql.RawBytes
	for rows.Next() {
		t.partlyRead = true
		r := last
		var created, changed, published int64
		if err := rows.Scan(&r.ID, &kind, &owner, &target, &prefix, &path, &r.Occupy, &r.OpenVersion, &links, &r.Published, &created,
			&changed, &published); err != nil {
			return false, err
		}
		setText((*string)(&r.Kind), kind)
		setText(&r.Owner, owner)
		setText(&r.Target, target)
		setText(&r.Path, path)
		last = r
		r.CreatedAt, r.UpdatedAt, r.PublishedAt = fromMillis(created), fromMillis(changed), fromMillis(published)
		if text := string(links); text == "[]" {
			r.TestLinks = []string{}
		} else if text != "null" {
			if err := inJSON(&r.TestLinks).Scan(text); err != nil {
				return false, err
			}
		}
		if err := readPrefix(&r, string(prefix)); err != nil {
			return false, err
		}
		if !yield(r, nil) {
			return true, nil
		}
	}
	return false, rows.Err()
}

// setText sets s to b, and allocates no string if s is already equal to b.
func setText(s *string, b sql.RawBytes) {
	if *s != string(b) {
		*s = string(b)
	}
}

func (t ruleQueries) AddRule(ctx context.Context, r rules.Rule, d rules.ChangeMeta) (rules.Rule, error) {
	if t.groupChange != nil {
		t.groupChange.adds = append(t.groupChange.adds, added{r, d})
		return r, nil
	}
	id, err := t.nextChange(ctx)
	if err != nil {
		return r, err
	}
	r.ID = id
	if err := t.insertRules(ctx, []rules.Rule{r}); err != nil {
		return r, err
	}
	return r, t.noteRule(ctx, r, d)
}

// insertRule and freeKey are the SQL before and after the VALUES list of an INSERT of rules; freeKey skips rules whose prefix is taken.
const (
	insertRule = `INSERT INTO rules (` + ruleColumns + `)`
	freeKey    = ` ON CONFLICT (key) DO NOTHING`
)

// errBeingImported is the error for a rule whose prefix an unfinished import has written but not yet published.
var errBeingImported = errors.New("one of the prefixes is locked by a running import; try again")

// insertRules inserts new rules. If an uncommitted import has written one of the prefixes, insertRules waits for at most 200 ms: this
// transaction may have locked the end of the audit log, and all other writers wait for this lock.
func (t ruleQueries) insertRules(ctx context.Context, all []rules.Rule) error {
	for i := range all {
		if i == 0 || all[i].Owner != all[i-1].Owner {
			t.touched.Add(rules.Epoch(all[i].Owner))
		}
	}
	ok := t.engine.sharesRows && t.reservedRange == nil
	if ok {
		if err := t.execQueued(ctx, nil, shortLockTimeout); err != nil {
			return err
		}
	}
	columns := strings.Count(ruleColumns, ",") + 1
	n, err := t.addMany(ctx, insertRule, freeKey, columns, len(all), func(i int) []any { return ruleArgs(&all[i]) })
	switch {
	case isLocked(outageOf(t.engine, err)) && t.reservedRange != nil:
		return fmt.Errorf("one of the prefixes is locked by another change: %w", accounts.ErrConflict)
	case isLocked(outageOf(t.engine, err)):
		return fmt.Errorf("storing rules: %w: %w", errBeingImported, err)
	case err != nil:
		return fmt.Errorf("storing rules: %w", err)
	case n != int64(len(all)):
		return rules.ErrPrefixTaken
	}
	if ok {
		return t.execQueued(ctx, nil, defaultLockTimeout)
	}
	return nil
}

// AddRules implements rules.Tx. AddRules writes its audit log entries at once, so that no rules stay in memory between two calls.
func (t ruleQueries) AddRules(ctx context.Context, all []rules.Rule, d rules.ChangeMeta) error {
	next, err := t.nextChange(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		all[i].ID = next + int64(i)
		if err := t.noteRule(ctx, all[i], d); err != nil {
			return err
		}
	}
	if err := t.insertRules(ctx, all); err != nil {
		return err
	}
	// writeQueued writes all queued changes, including those of edited rules.
	return t.writeQueued(ctx)
}

func (t accountQueries) NextChange(ctx context.Context) (int64, error) { return t.nextChange(ctx) }

func (t ruleQueries) PutRule(ctx context.Context, r rules.Rule, d rules.ChangeMeta) error {
	if r.Kind == rules.KindService && !r.Published { // a new target changes rule counts: lock the end of the audit log first
		if err := t.lockHead(ctx); err != nil {
			return err
		}
	}
	t.touched.Add(rules.Epoch(r.Owner))
	err := t.changeRule(ctx, `UPDATE rules SET target = $2, prefix = $3, path = $4, occupy = $5, open_version = $6, test_links = $7,
		published = $8, updated_at = $9, published_at = $10`,
		r.ID, r.Target, r.Prefix.Text, r.Path, flag(r.Occupy), r.OpenVersion, inJSON(&r.TestLinks).text(),
		flag(r.Published), millis(r.UpdatedAt), millis(r.PublishedAt))
	if err != nil {
		return err
	}
	return t.noteRule(ctx, r, d)
}

// changeRule queues an UPDATE or DELETE of the rule whose id is the first argument; ErrNoRule if the rule does not exist. The caller has
// locked the rule's owner, so only a bulk import can have locked the row. If the row is locked, changeRule returns errBeingImported at
// once: this transaction may have locked the end of the audit log, and all other writers wait for this lock.
func (t ruleQueries) changeRule(ctx context.Context, statement string, args ...any) error {
	missed := false
	location := ` WHERE id = $1`
	if t.engine.sharesRows {
		location = ` WHERE id = (SELECT id FROM rules WHERE id = $1 FOR UPDATE SKIP LOCKED)`
	}
	if t.groupChange != nil { // a division by zero ends the transaction of the group, and each change runs in a separate transaction
		return t.execQueued(ctx, nil, `WITH written AS (`+statement+location+` RETURNING 1) SELECT 1 / COUNT(*) FROM written`, args...)
	}
	err := t.execQueued(ctx, func(n int64) error {
		if missed = n == 0; missed && !t.engine.sharesRows {
			return rules.ErrNoRule
		}
		return nil
	}, statement+location, args...)
	if err != nil || !t.engine.sharesRows {
		return err
	}
	return t.execQueued(ctx, func(existing int64) error {
		switch {
		case !missed:
			return nil
		case existing == 0:
			return rules.ErrNoRule
		}
		return outageOf(t.engine, fmt.Errorf("%w: %w", errBeingImported, &pgconn.PgError{Code: "55P03", Message: "its row is locked"}))
	}, `SELECT id FROM rules WHERE id = $1`, args[0])
}

func (t ruleQueries) DeleteRule(ctx context.Context, r rules.Rule, d rules.ChangeMeta) error {
	// DeleteRule takes locks in the same order as AddRule: first the end of the audit log, then the rows that count rules.
	if err := t.lockHead(ctx); err != nil {
		return err
	}
	t.touched.Add(rules.Epoch(r.Owner))
	if err := t.changeRule(ctx, `DELETE FROM rules`, r.ID); err != nil {
		return err
	}
	return t.noteRule(ctx, r, d)
}

// ruleRecord is a rule in the audit log. JSON field names must never change, because old audit log entries keep them.
type ruleRecord struct {
	ID          int64      `json:"id"`
	Kind        rules.Kind `json:"kind"`
	Owner       string     `json:"owner"`
	Target      string     `json:"target"`
	Prefix      string     `json:"prefix"`
	Path        string     `json:"path"`
	Occupy      bool       `json:"occupy"`
	OpenVersion int        `json:"open_version"`
	TestLinks   []string   `json:"test_links"`
	Published   bool       `json:"published"`
	CreatedAt   int64      `json:"created_at"`
	UpdatedAt   int64      `json:"updated_at"`
	PublishedAt int64      `json:"published_at"`
	Reason      string     `json:"reason,omitempty"` // reason for a forced release
}

func recordOf(r rules.Rule) ruleRecord {
	return ruleRecord{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text, Path: r.Path,
		Occupy: r.Occupy, OpenVersion: r.OpenVersion, TestLinks: r.TestLinks, Published: r.Published,
		CreatedAt: millis(r.CreatedAt), UpdatedAt: millis(r.UpdatedAt), PublishedAt: millis(r.PublishedAt)}
}

// rule converts a record back to a rule; it is the inverse of recordOf.
func (r ruleRecord) rule() (rules.Rule, error) {
	prefix, err := rules.ParsePrefix(r.Prefix, r.Kind, true)
	if err != nil {
		return rules.Rule{}, fmt.Errorf("rule %d: %w", r.ID, err)
	}
	return rules.Rule{ID: r.ID, Kind: r.Kind, Owner: r.Owner, Target: r.Target, Prefix: prefix, Path: r.Path, Occupy: r.Occupy,
		OpenVersion: r.OpenVersion, TestLinks: r.TestLinks, Published: r.Published,
		CreatedAt: fromMillis(r.CreatedAt), UpdatedAt: fromMillis(r.UpdatedAt), PublishedAt: fromMillis(r.PublishedAt)}, nil
}

func (t ruleQueries) noteRule(ctx context.Context, r rules.Rule, d rules.ChangeMeta) error {
	record := recordOf(r)
	record.Reason = d.Reason
	return t.noteAt(ctx, d.At, ofRule, r.Prefix.Key, d.Action, record)
}

func (t ruleQueries) Changes(ctx context.Context, key string, limit int) ([]rules.Change, error) {
	if err := t.writeQueued(ctx); err != nil {
		return nil, err
	}
	return list(ctx, t.Tx, scanRuleChange, `SELECT `+ruleChangeColumns+` FROM changes
		WHERE kind = '`+ofRule+`' AND key = $1 ORDER BY seq DESC LIMIT $2`, key, limit)
}

func scanRuleChange(scan func(...any) error) (c rules.Change, err error) {
	var record ruleRecord
	if err := scan(&c.Seq, moment{&c.At}, &c.ActorID, &c.Via, &c.RID, &c.Action, inJSON(&record)); err != nil {
		return c, err
	}
	c.Reason = record.Reason
	c.Rule, err = record.rule()
	return c, err
}

// spentSince is SQL that counts the publishes of the owner $2 since the time $3. $4 is the first full hour that starts at or after $3. From
// $4 on, hourly counts are added up; between $3 and $4, publishes are counted one by one. If $3 is the start of a month, which is a full
// hour, no publishes are counted one by one.
const spentSince = `(SELECT CAST(COALESCE(SUM(publishes), 0) AS BIGINT) FROM publish_counts WHERE owner = $2 AND hour >= $4)
	+ (SELECT COUNT(*) FROM publishes WHERE owner = $2 AND created_at >= $3 AND created_at < $4 * 3600000)`

// nextHour returns the first full hour that starts at or after t, as a number of hours since 1970.
func nextHour(t time.Time) int64 {
	const hour = int64(time.Hour / time.Millisecond)
	return (millis(t) + hour - 1) / hour
}

func (t ruleQueries) PublishesSince(ctx context.Context, owner string, since time.Time) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT `+spentSince+` WHERE $1 = 1`, 1, owner, millis(since), nextHour(since))
}

func (t ruleQueries) Publishing(ctx context.Context, owner string, link rules.Link, since time.Time) (p rules.Publishing, err error) {
	// The lock statements are sent together with the query. PostgreSQL starts the query after it has acquired the locks, so the
	// query sees all changes of transactions that had these locks before.
	key := link.Key
	for _, part := range []string{ownerPart(owner), originPart(link.Origin())} {
		if t.groupChange != nil {
			if err := t.lock(ctx, allRules, part); err != nil {
				return p, err
			}
		} else if query, args := t.engine.lock(allRules, part); query != "" {
			if err := t.execQueued(ctx, nil, query, args...); err != nil {
				return p, err
			}
		}
	}
	row := t.row(ctx, `SELECT `+qualified("r", ruleColumns)+`, `+qualified("a", accountRows.columns)+`, `+spentSince+`
		FROM rules r JOIN accounts a ON a.appid = r.target WHERE r.key = $1`, key, owner, millis(since), nextHour(since))
	p.Rule, err = scanRule(func(rule ...any) error {
		return row.Scan(slices.Concat(rule, accountRows.targets(&p.Target), []any{&p.Spent})...)
	})
	if !errors.Is(err, rules.ErrNoRule) {
		return p, err
	}
	// The join found no row: either the rule or the account that the rule opens does not exist.
	if p.Rule, err = t.Rule(ctx, key); err != nil {
		return p, err
	}
	p.Target = accounts.Account{}
	p.Spent, err = t.PublishesSince(ctx, owner, since)
	return p, err
}

// qualified prefixes a list of columns with the table name.
func qualified(table, columns string) string {
	names := strings.Split(columns, ",")
	for i, name := range names {
		names[i] = table + "." + strings.TrimSpace(name)
	}
	return strings.Join(names, ", ")
}

func (t ruleQueries) AddPublish(ctx context.Context, owner, key string, instant time.Time) error {
	t.touched.Add(rules.Epoch(owner))
	return t.execQueued(ctx, nil, `INSERT INTO publishes (owner, key, created_at) VALUES ($1, $2, $3)`, owner, key, millis(instant))
}

func (t ruleQueries) Domain(ctx context.Context, host string) (rules.DomainStatus, error) {
	// hosts lists the host and its parent domains, such as a.b.example, b.example and example.
	name, _, _ := strings.Cut(host, ":")
	hosts := []any{host}
	for name != "" {
		if name != host {
			hosts = append(hosts, name)
		}
		_, name, _ = strings.Cut(name, ".")
	}
	found, err := domainRows.all(ctx, t.Tx, `WHERE host IN (`+placeholders(1, len(hosts))+`)`, hosts...)
	if err != nil {
		return "", err
	}
	// The entry with the longest host determines the status; an entry with status Trusted applies only to exactly its own host.
	var best rules.Domain
	for _, d := range found {
		if len(d.Host) > len(best.Host) && (d.Status != rules.Trusted || d.Host == host) {
			best = d
		}
	}
	return best.Status, nil
}

var domainRows = mapper[rules.Domain]{table: "domains", key: "host", columns: "host, status, updated_at",
	targets: func(d *rules.Domain) []any { return []any{&d.Host, &d.Status, moment{&d.At}} }}

func (t ruleQueries) Domains(ctx context.Context, after string, limit int) ([]rules.Domain, error) {
	return domainRows.all(ctx, t.Tx, `WHERE host > $1 ORDER BY host LIMIT $2`, after, cmp.Or(limit, math.MaxInt))
}

func (t ruleQueries) PutDomain(ctx context.Context, d rules.Domain) error {
	return t.noteAfter(ctx, domainRows.put(ctx, t.Tx, d), ofDomain, d.Host, "put", map[string]any{"status": d.Status})
}

func (t ruleQueries) DeleteDomain(ctx context.Context, host string) error {
	return t.remove(ctx, rules.ErrNoDomain, ofDomain, host, `DELETE FROM domains WHERE host = $1`, host)
}

var confirmationRows = mapper[rules.Confirmation]{table: "domain_verifications",
	columns: "rid, created_at, owner, prefix, url, ok, reason, steps",
	targets: func(c *rules.Confirmation) []any {
		return []any{&c.RID, moment{&c.At}, &c.Owner, &c.Prefix, &c.URL, &c.OK, &c.Reason, inJSON(&c.Steps)}
	}}

func (t ruleQueries) PutConfirmation(ctx context.Context, c rules.Confirmation) error {
	row := confirmationRows.args(&c)
	if t.groupChange != nil {
		t.groupChange.confirmations = append(t.groupChange.confirmations, row)
		return nil
	}
	return t.putConfirmations(ctx, [][]any{row})
}

func (t *Tx) putConfirmations(ctx context.Context, rows [][]any) error {
	query, args := t.insertRows(`INSERT INTO domain_verifications (`+confirmationRows.columns+`)`, rows)
	return t.execQueued(ctx, nil, query+` ON CONFLICT (rid) DO NOTHING`, args...)
}

func (t ruleQueries) ForgetConfirmations(ctx context.Context, before time.Time) error {
	return t.run(ctx, `DELETE FROM domain_verifications WHERE created_at < $1`, millis(before))
}

func (t ruleQueries) Confirmations(ctx context.Context, q rules.VerificationQuery) ([]rules.Confirmation, error) {
	var w criteria
	w.andIf(q.RID != "", `rid = ?`, q.RID)
	w.andIf(q.Owner != "", `owner = ?`, q.Owner)
	w.andIf(q.Prefix != "", `prefix = ?`, q.Prefix)
	w.andIf(q.Failed || q.Found, `ok = ?`, flag(q.Found))
	rest := w.String() + ` ORDER BY created_at DESC, rid LIMIT ` + w.bind(q.Limit)
	return confirmationRows.all(ctx, t.Tx, rest, w.args...)
}
