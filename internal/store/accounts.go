package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
)

var accountRows = mapper[accounts.Account]{table: "accounts", key: "appid", notFound: accounts.ErrNoAccount,
	columns: "appid, kind, name, subject, certified, versions, jump_open, features, members, message_url, ip_allowlist, " +
		"secret_hash, secret_frozen, marketcode_key, verification_file_name, verification_file_content, created_at, url_scheme, " +
		"options, pages, open_platform",
	targets: func(a *accounts.Account) []any {
		return []any{&a.AppID, &a.Kind, &a.Name, &a.Subject, &a.Certified, inJSON(&a.Versions), &a.JumpOpen, inJSON(&a.Features),
			inJSON(&a.Members), &a.MessageURL, inJSON(&a.IPAllowlist), &a.SecretHash, &a.SecretFrozen, &a.MarketcodeKey, &a.Confirm.Name,
			&a.Confirm.Content, moment{&a.CreatedAt}, &a.URLScheme, inJSON(&a.Options), inJSON(&a.Pages), &a.OpenPlatform}
	}}

// Account implements accounts.Tx and rules.Tx.
func (t accountQueries) Account(ctx context.Context, appid string) (accounts.Account, error) {
	return accountRows.find(ctx, t.Tx, `appid = $1`, appid)
}

// LockAndCount implements accounts.Tx.
func (t accountQueries) LockAndCount(ctx context.Context, appid, kind string, day int64) (a accounts.Account, n int, err error) {
	if query, args := t.engine.lock(allAccounts, "account "+appid); query != "" {
		if err := t.execQueued(ctx, nil, query, args...); err != nil {
			return a, 0, err
		}
	}
	account := t.queue(ctx, accountRows.query(`WHERE appid = $1`), appid)
	if n, err = t.AddCount(ctx, appid, kind, day); err != nil {
		return a, 0, err
	}
	a, err = accountRows.scan(account().Scan)
	return a, n, err
}

// KeepAccount implements accounts.Tx. On PostgreSQL, KeepAccount takes a shared lock on the row of the account; a transaction that
// calls LockOwnedObjects for this account waits for this lock.
func (t accountQueries) KeepAccount(ctx context.Context, appid string) (accounts.Account, error) {
	switch {
	case t.groupChange != nil:
		// A deletion that has locked the row waits for the newest entry of the audit log, which the group has locked.
		a, err := accountRows.find(ctx, t.Tx, `appid = $1 FOR KEY SHARE SKIP LOCKED`, appid)
		if errors.Is(err, accounts.ErrNoAccount) && !t.recording {
			err = t.groupChange.rejectGrouping()
		}
		return a, err
	case t.engine.sharesRows:
		return accountRows.find(ctx, t.Tx, `appid = $1 FOR KEY SHARE`, appid)
	}
	return t.Account(ctx, appid)
}

func (t accountQueries) Accounts(ctx context.Context, rest string, limit int) ([]accounts.Account, error) {
	return accountRows.all(ctx, t.Tx, `WHERE appid > $1 ORDER BY appid LIMIT $2`, rest, limit)
}

func (t accountQueries) AccountsAt(ctx context.Context, appids []string) ([]accounts.Account, error) {
	return listAt(ctx, t.Tx, accountRows.scan, accountRows.query(`WHERE appid IN`), ``, appids)
}

func (t accountQueries) PutAccount(ctx context.Context, a accounts.Account) error {
	t.touched.Add(a.AppID)
	old, err := t.Account(ctx, a.AppID)
	did := "edit"
	if errors.Is(err, accounts.ErrNoAccount) {
		did, err = "add", nil
	}
	if err != nil {
		return err
	}
	if err := t.note(ctx, ofAccount, a.AppID, did, accountRecordOf(old, a)); err != nil {
		return err
	}
	if did == "edit" || !t.engine.sharesRows {
		return accountRows.put(ctx, t.Tx, a)
	}
	// If an uncommitted bulk import has written the same AppID, the INSERT waits for the import, so the lock timeout is short.
	if err := t.execQueued(ctx, nil, shortLockTimeout); err != nil {
		return err
	}
	if err := accountRows.put(ctx, t.Tx, a); err != nil {
		return err
	}
	return t.execQueued(ctx, nil, defaultLockTimeout)
}

func (t accountQueries) AddAccounts(ctx context.Context, all []accounts.Account) error {
	for _, a := range all {
		t.touched.Add(a.AppID)
		if err := t.note(ctx, ofAccount, a.AppID, "add", accountRecordOf(accounts.Account{}, a)); err != nil {
			return err
		}
	}
	columns := strings.Count(accountRows.columns, ",") + 1
	n, err := t.addMany(ctx, `INSERT INTO accounts (`+accountRows.columns+`)`, ` ON CONFLICT (appid) DO NOTHING`, columns, len(all),
		func(i int) []any { return accountRows.args(&all[i]) })
	if err == nil && n != int64(len(all)) {
		return accounts.ErrConflict
	}
	return err
}

// accountRecord is an account in the audit log, without its secrets. JSON field names must never change, because old audit log
// entries keep them.
type accountRecord struct {
	Kind          accounts.Kind            `json:"kind"`
	Name          string                   `json:"name"`
	Subject       accounts.Subject         `json:"subject"`
	Certified     bool                     `json:"certified"`
	Versions      []accounts.Version       `json:"versions"`
	JumpOpen      bool                     `json:"jump_open"`
	Features      []string                 `json:"features"`
	Members       map[string]accounts.Role `json:"members"`
	MessageURL    string                   `json:"message_url"`
	URLScheme     string                   `json:"url_scheme,omitempty"`
	Options       map[string]string        `json:"options,omitempty"`
	OpenPlatform  string                   `json:"open_platform,omitempty"`
	Pages         []string                 `json:"pages,omitempty"`
	IPAllowlist   []string                 `json:"ip_allowlist"`
	SecretFrozen  bool                     `json:"secret_frozen"`
	NewSecret     bool                     `json:"new_secret,omitempty"`
	NewPackageKey bool                     `json:"new_marketcode_key,omitempty"`
	CreatedAt     int64                    `json:"created_at"`
}

func accountRecordOf(old, a accounts.Account) accountRecord {
	// The audit record omits empty fields, while the table has {} and [] for empty fields.
	if len(a.Options) == 0 {
		a.Options = nil
	}
	if len(a.Pages) == 0 {
		a.Pages = nil
	}
	return accountRecord{Kind: a.Kind, Name: a.Name, Subject: a.Subject, Certified: a.Certified, Versions: a.Versions, JumpOpen: a.JumpOpen,
		Features: a.Features, Members: a.Members, MessageURL: a.MessageURL, URLScheme: a.URLScheme, IPAllowlist: a.IPAllowlist,
		SecretFrozen: a.SecretFrozen, Options: a.Options, Pages: a.Pages, OpenPlatform: a.OpenPlatform,
		NewSecret: a.SecretHash != old.SecretHash, NewPackageKey: a.MarketcodeKey != old.MarketcodeKey, CreatedAt: millis(a.CreatedAt)}
}

func (t accountQueries) DeleteAccount(ctx context.Context, appid string) error {
	t.touched.Add(appid)
	links, err := list(ctx, t.Tx, linkRows.scan, `DELETE FROM links WHERE service = $1 OR mini_program = $1 RETURNING `+linkRows.columns,
		appid)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := t.note(ctx, ofLink, linkKey(l.Service, l.MiniProgram), "delete", nil); err != nil {
			return err
		}
	}
	for _, query := range []string{
		`DELETE FROM access_tokens WHERE appid = $1`,
		`DELETE FROM grants WHERE appid = $1`,
		`DELETE FROM qrcodes WHERE account = $1`,
		`DELETE FROM followers WHERE account = $1`,
		`DELETE FROM messages WHERE account = $1`,
		`DELETE FROM appearances WHERE appid = $1`,
	} {
		if _, err := t.exec(ctx, query, appid); err != nil {
			return err
		}
	}
	return t.remove(ctx, nil, ofAccount, appid, `DELETE FROM accounts WHERE appid = $1`, appid)
}

func (t accountQueries) LockOwnedObjects(ctx context.Context, appid string) error {
	if err := t.LockOwner(ctx, appid); err != nil {
		return err
	}
	if err := t.gs1().LockGS1(ctx, ""); err != nil || !t.engine.sharesRows {
		return err
	}
	return t.run(ctx, `SELECT 1 FROM accounts WHERE appid = $1 FOR UPDATE`, appid)
}

// ownedObjects lists the kinds of objects that an account may have, with a query that counts them ($1 is the AppID, $2 the time). Objects
// with blocks = true block the deletion of the account; all other objects are deleted with the account.
var ownedObjects = []struct {
	kind, query string
	blocks      bool
}{
	{"rules", `SELECT COALESCE(SUM(rules), 0) FROM rule_counts WHERE owner = $1 AND target = ''`, true},
	{"rules_that_open_it", `SELECT COALESCE(SUM(rules), 0) FROM rule_counts WHERE owner = '' AND target = $1`, true},
	{"applications", `SELECT COUNT(*) FROM batches WHERE account = $1`, true},
	{"gs1_keys", `SELECT COUNT(*) FROM gs1_links WHERE owner = $1 OR app = $1`, true},
	{"permanent_qrcodes", `SELECT COUNT(*) FROM qrcodes WHERE account = $1 AND expires_at = 0`, true},
	{"links", `SELECT COUNT(*) FROM links WHERE service = $1 OR mini_program = $1`, false},
	{"authorizations", `SELECT COUNT(*) FROM grants WHERE appid = $1`, false},
	{"tokens", `SELECT COUNT(*) FROM access_tokens WHERE appid = $1 AND expires_at > $2 AND (superseded_at = 0 OR superseded_at > $2)`, false},
	{"temporary_qrcodes", `SELECT COUNT(*) FROM qrcodes WHERE account = $1 AND expires_at > $2`, false},
	{"followers", `SELECT COUNT(*) FROM followers WHERE account = $1`, false},
}

// maxOrphans is the maximum length of the list that Orphans returns.
const maxOrphans = 1000

// Orphans implements auditlog.Store.
func (s *Store) Orphans(ctx context.Context, active map[string]int) ([]auditlog.Orphan, error) {
	return viewed(ctx, s, func(tx *Tx) ([]auditlog.Orphan, error) {
		scan := scanner(func(o *auditlog.Orphan) []any { return []any{&o.Kind, &o.Account, &o.Count} })
		orphans, err := list(ctx, tx, scan, `SELECT what, account, SUM(rules) FROM (
			SELECT 'rules' AS what, owner AS account, SUM(rules) AS rules FROM rule_counts WHERE owner <> '' AND target = '' GROUP BY owner
			UNION ALL SELECT 'rules_that_open_it', target, SUM(rules) FROM rule_counts WHERE owner = '' GROUP BY target
			UNION ALL SELECT 'applications', account, COUNT(*) FROM batches WHERE account <> '' GROUP BY account
			UNION ALL SELECT 'gs1_keys', owner, COUNT(*) FROM gs1_links WHERE owner <> '' GROUP BY owner
			UNION ALL SELECT 'gs1_keys', app, COUNT(*) FROM gs1_links WHERE app NOT IN ('', owner) GROUP BY app
			UNION ALL SELECT 'links', service, COUNT(*) FROM links GROUP BY service
			UNION ALL SELECT 'links', mini_program, COUNT(*) FROM links GROUP BY mini_program) AS o
			WHERE rules > 0 AND NOT EXISTS (SELECT 1 FROM accounts WHERE appid = o.account)
			GROUP BY what, account ORDER BY what, account LIMIT $1`, maxOrphans)
		if err != nil {
			return nil, err
		}
		opened := slices.Sorted(maps.Keys(active))
		storedAccounts, err := tx.accounts().AccountsAt(ctx, opened)
		exists := make(map[string]bool, len(storedAccounts))
		for _, a := range storedAccounts {
			exists[a.AppID] = true
		}
		for _, appid := range opened {
			if !exists[appid] && len(orphans) < maxOrphans {
				orphans = append(orphans, auditlog.Orphan{Account: appid, Kind: "active_codes", Count: active[appid]})
			}
		}
		return orphans, err
	})
}

func (t accountQueries) OwnedObjects(ctx context.Context, appid string, now time.Time) (accounts.Dependencies, error) {
	var has accounts.Dependencies
	for _, belonging := range ownedObjects {
		n, args := 0, []any{appid, millis(now)}
		if !strings.Contains(belonging.query, "$2") {
			args = args[:1]
		}
		if err := t.row(ctx, belonging.query, args...).Scan(&n); err != nil {
			return has, err
		}
		switch amount := (accounts.Count{Kind: belonging.kind, Count: n}); {
		case n == 0:
		case belonging.blocks:
			has.Blocking = append(has.Blocking, amount)
		default:
			has.Deleted = append(has.Deleted, amount)
		}
	}
	return has, nil
}

// Linked implements accounts.Tx and rules.Tx.
func (t accountQueries) Linked(ctx context.Context, service, miniProgram string) (bool, error) {
	n, err := scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM links WHERE service = $1 AND mini_program = $2 AND status = 1`, service,
		miniProgram)
	return n > 0, err
}

func (t accountQueries) Links(ctx context.Context, service string) ([]string, error) {
	return list(ctx, t.Tx, scanText, `SELECT mini_program FROM links WHERE service = $1 AND status = 1 ORDER BY created_at, mini_program`,
		service)
}

func (t accountQueries) LinksAt(ctx context.Context, services []string) (map[string][]string, error) {
	all, err := listAt(ctx, t.Tx, scanTwoTexts, `SELECT service, mini_program FROM links WHERE service IN`,
		` AND status = 1 ORDER BY created_at, mini_program`, services)
	if err != nil {
		return nil, err
	}
	names := map[string][]string{}
	for _, l := range all {
		names[l[0]] = append(names[l[0]], l[1])
	}
	return names, nil
}

// scanText and scanTwoTexts read rows with one and with two columns of text.
var (
	scanText     = scanner(func(s *string) []any { return []any{s} })
	scanTwoTexts = scanner(func(s *[2]string) []any { return []any{&s[0], &s[1]} })
)

func (t accountQueries) PutLink(ctx context.Context, service, miniProgram string, instant time.Time) error {
	_, err := t.exec(ctx, `INSERT INTO links (service, mini_program, created_at) VALUES ($1, $2, $3)
		ON CONFLICT (service, mini_program) DO UPDATE SET status = 1, unlinking = 0, approval_skipped = 0`, service, miniProgram, millis(instant))
	if err != nil {
		return err
	}
	return t.note(ctx, ofLink, linkKey(service, miniProgram), "put", linkRecord{Status: accounts.LinkDone})
}

func (t accountQueries) PutLinks(ctx context.Context, all []accounts.Link) error {
	_, err := t.addMany(ctx, `INSERT INTO links (service, mini_program, created_at)`,
		` ON CONFLICT (service, mini_program) DO UPDATE SET status = 1, unlinking = 0, approval_skipped = 0`, 3, len(all), func(i int) []any {
			return []any{all[i].Service, all[i].MiniProgram, millis(all[i].CreatedAt)}
		})
	if err != nil {
		return err
	}
	for _, l := range all {
		if err := t.note(ctx, ofLink, linkKey(l.Service, l.MiniProgram), "put", linkRecord{Status: accounts.LinkDone}); err != nil {
			return err
		}
	}
	return nil
}

// linkKey returns the key of a link; AppIDs contain no spaces.
func linkKey(service, miniProgram string) string { return service + " " + miniProgram }

// linkRecord is a link in the audit log. JSON field names must never change, because old audit log entries keep them.
type linkRecord struct {
	Status      accounts.LinkStatus `json:"status"`
	Unlinking   bool                `json:"unlinking,omitempty"`
	NotifyUsers bool                `json:"notify_users,omitempty"`
	ShowProfile bool                `json:"show_profile,omitempty"`
	AtOnce      bool                `json:"approval_skipped,omitempty"`
}

func (t accountQueries) DeleteLink(ctx context.Context, service, miniProgram string) error {
	return t.remove(ctx, nil, ofLink, linkKey(service, miniProgram),
		`DELETE FROM links WHERE service = $1 AND mini_program = $2`, service, miniProgram)
}

func (t accountQueries) Component(ctx context.Context, appid string) (accounts.Component, error) {
	c, err := t.ComponentWithoutGrants(ctx, appid)
	if err != nil {
		return c, err
	}
	c.Grants, err = grantRows.all(ctx, t.Tx, `WHERE component = $1 ORDER BY appid`, appid)
	return c, err
}

func (t accountQueries) PutComponent(ctx context.Context, c accounts.Component) error {
	t.touched.Add(c.AppID)
	if err := t.PutComponentWithoutGrants(ctx, c); err != nil {
		return err
	}
	gone, err := list(ctx, t.Tx, scanText, `DELETE FROM grants WHERE component = $1 RETURNING appid`, c.AppID)
	if err != nil {
		return err
	}
	slices.Sort(gone)
	for _, appid := range gone {
		if slices.ContainsFunc(c.Grants, func(g accounts.Grant) bool { return g.AppID == appid }) {
			continue
		}
		if err := t.note(ctx, ofGrant, linkKey(c.AppID, appid), "delete", nil); err != nil {
			return err
		}
	}
	for _, g := range c.Grants {
		if err := t.PutGrant(ctx, c.AppID, g); err != nil {
			return err
		}
	}
	return nil
}

var tokenRows = mapper[accounts.Token]{table: "access_tokens", notFound: accounts.ErrNoToken,
	columns: "hash, appid, component, kind, sealed, force_refreshed, issued_at, expires_at, superseded_at",
	targets: func(k *accounts.Token) []any {
		return []any{&k.Hash, &k.AppID, &k.Component, &k.Kind, &k.Sealed, &k.ForceRefreshed, moment{&k.IssuedAt}, moment{&k.ExpiresAt},
			moment{&k.SupersededAt}}
	}}

func (t accountQueries) Token(ctx context.Context, hash string) (accounts.Token, error) {
	return tokenRows.find(ctx, t.Tx, `hash = $1`, hash)
}

// bearer selects an access token together with the account that the token belongs to.
var bearer = `SELECT ` + qualified("t", tokenRows.columns) + `, ` + qualified("a", accountRows.columns) + `
	FROM access_tokens t JOIN accounts a ON a.appid = t.appid WHERE t.hash = $1 AND t.component = '' AND t.kind <> $2`

func scanBearer(row row) (k accounts.Token, a accounts.Account, err error) {
	err = row.Scan(slices.Concat(tokenRows.targets(&k), accountRows.targets(&a))...)
	return k, a, replaceNoRows(err, accounts.ErrNoToken)
}

func (t accountQueries) Bearer(ctx context.Context, hash, appid string, r *accounts.Rate) (accounts.Token, accounts.Account, error) {
	if t.pipe == nil || !t.pipe.unbegun() || t.pipe.errLate() != nil {
		return scanBearer(t.row(ctx, bearer, hash, string(accounts.Platform)))
	}
	token := &question{statement: statement{query: bearer, args: []any{hash, string(accounts.Platform)}}}
	if appid == "" {
		return scanBearer(token.first(t.tokens.ask(ctx, t.Tx, token)))
	}
	count := &question{statement: statement{query: allow, args: []any{r.Key(appid), r.Limit}}}
	err := t.queryOutside(ctx, token, count)
	if err == nil {
		r.Counted, r.Allowed = true, count.rows[0][0] == int64(1)
	}
	return scanBearer(token.first(err))
}

func (t accountQueries) LatestToken(ctx context.Context, appid string, series accounts.TokenKind) (accounts.Token, error) {
	// A token that no later token has superseded comes first, even if the clock was set back after this token was issued.
	return tokenRows.find(ctx, t.Tx, `appid = $1 AND kind = $2 ORDER BY CASE WHEN superseded_at = 0 THEN 0 ELSE 1 END, issued_at DESC LIMIT 1`,
		appid, string(series))
}

func (t accountQueries) PutToken(ctx context.Context, k accounts.Token) error {
	t.touched.Add(k.AppID)
	args := tokenRows.args(&k)
	return t.execQueued(ctx, nil, `INSERT INTO access_tokens (`+tokenRows.columns+`) VALUES (`+placeholders(1, len(args))+`)`, args...)
}

func (t accountQueries) ShortenTokens(ctx context.Context, k accounts.Token, instant time.Time) error {
	t.touched.Add(k.AppID)
	return t.execQueued(ctx, nil, `UPDATE access_tokens SET superseded_at = $4
		WHERE appid = $1 AND kind = $2 AND component = $5 AND (superseded_at = 0 AND expires_at > $3 OR superseded_at > $4)`,
		k.AppID, string(k.Kind), millis(k.IssuedAt), millis(instant), k.Component)
}

func (t accountQueries) ExpireTokens(ctx context.Context, appid string, instant time.Time) error {
	t.touched.Add(appid)
	if _, err := t.exec(ctx, `UPDATE access_tokens SET superseded_at = $2 WHERE appid = $1
		AND (superseded_at = 0 AND expires_at > $2 OR superseded_at > $2)`, appid, millis(instant)); err != nil {
		return err
	}
	return t.note(ctx, ofTokens, appid, "end", nil)
}

func (t accountQueries) ForgetTokens(ctx context.Context, appid string, before time.Time) error {
	t.touched.Add(appid)
	return t.execQueued(ctx, nil, `DELETE FROM access_tokens WHERE appid = $1 AND expires_at < $2`, appid, millis(before))
}

func (t accountQueries) Count(ctx context.Context, appid, kind string, day int64) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT COALESCE(SUM(value), 0) FROM counters WHERE appid = $1 AND counter = $2 AND day = $3`,
		appid, kind, day)
}

func (t accountQueries) AddCount(ctx context.Context, appid, kind string, day int64) (int, error) {
	return scalar[int](ctx, t.Tx, `INSERT INTO counters (appid, counter, day, value) VALUES ($1, $2, $3, 1)
		ON CONFLICT (appid, counter, day) DO UPDATE SET value = counters.value + 1 RETURNING value`, appid, kind, day)
}

var noticeRows = mapper[accounts.Notice]{table: "notifications", columns: "id, account, created_at, kind, prefix, reason",
	targets: func(n *accounts.Notice) []any {
		return []any{&n.ID, &n.Account, moment{&n.At}, &n.Kind, &n.Prefix, &n.Reason}
	}}

func (t accountQueries) AddNotice(ctx context.Context, n accounts.Notice) error {
	var err error
	if n.ID, err = t.next(ctx, "notification"); err != nil {
		return err
	}
	return noticeRows.add(ctx, t.Tx, n)
}

func (t accountQueries) Notices(ctx context.Context, account string, limit int) ([]accounts.Notice, error) {
	return noticeRows.all(ctx, t.Tx, `WHERE account = $1 ORDER BY id DESC LIMIT $2`, account, limit)
}

var linkRows = mapper[accounts.Link]{table: "links", key: "service, mini_program", notFound: accounts.ErrNoLink,
	columns: "service, mini_program, status, unlinking, notify_users, show_profile, created_at, approval_skipped",
	targets: func(l *accounts.Link) []any {
		return []any{&l.Service, &l.MiniProgram, &l.Status, &l.Unlinking, &l.NotifyUsers, &l.ShowProfile, moment{&l.CreatedAt},
			&l.ApprovalSkipped}
	}}

func (t accountQueries) Link(ctx context.Context, service, miniProgram string) (accounts.Link, error) {
	return linkRows.find(ctx, t.Tx, `service = $1 AND mini_program = $2`, service, miniProgram)
}

func (t accountQueries) LinksOf(ctx context.Context, service string) ([]accounts.Link, error) {
	return linkRows.all(ctx, t.Tx, `WHERE service = $1 ORDER BY created_at, mini_program`, service)
}

func (t accountQueries) SaveLink(ctx context.Context, l accounts.Link) error {
	if err := linkRows.put(ctx, t.Tx, l); err != nil {
		return err
	}
	return t.note(ctx, ofLink, linkKey(l.Service, l.MiniProgram), "put", linkRecordOf(l))
}

func linkRecordOf(l accounts.Link) linkRecord {
	return linkRecord{Status: l.Status, Unlinking: l.Unlinking, NotifyUsers: l.NotifyUsers, ShowProfile: l.ShowProfile,
		AtOnce: l.ApprovalSkipped}
}

func (t accountQueries) CountLinks(ctx context.Context, appid string) (int, error) {
	return scalar[int](ctx, t.Tx, `SELECT COUNT(*) FROM links WHERE (service = $1 OR mini_program = $1) AND status IN (1, 2, 12)`, appid)
}
