package store

import (
	"cmp"
	"context"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/iam"
)

var (
	personRows = mapper[iam.Person]{table: "people", key: "name", notFound: iam.ErrNoPerson,
		columns: "name, role, accounts, password, totp, totp_step, recovery, created_at, last_seen_at, issuer, subject",
		targets: func(p *iam.Person) []any {
			return []any{&p.Name, &p.Role, inJSON(&p.Accounts), &p.Password, &p.TOTP, &p.TOTPStep, inJSON(&p.Recovery),
				moment{&p.CreatedAt}, moment{&p.LastSeenAt}, &p.Issuer, &p.Subject}
		}}
	adminKeyRows = mapper[iam.Key]{table: "admin_keys", key: "id", notFound: iam.ErrNoKey,
		columns: "id, hash, name, role, accounts, created_at, expires_at, last_seen_at",
		targets: func(k *iam.Key) []any {
			return []any{&k.ID, &k.Hash, &k.Name, &k.Role, inJSON(&k.Accounts), moment{&k.CreatedAt}, moment{&k.ExpiresAt},
				moment{&k.LastSeenAt}}
		}}
	sessionRows = mapper[iam.Session]{table: "sessions", key: "hash", notFound: iam.ErrNoSession,
		columns: "hash, id, person, created_at, last_seen_at, expires_at, ip, agent",
		targets: func(s *iam.Session) []any {
			return []any{&s.Hash, &s.ID, &s.Person, moment{&s.CreatedAt}, moment{&s.LastSeenAt}, moment{&s.ExpiresAt}, &s.IP, &s.Agent}
		}}
	loginLinkRows = mapper[iam.Link]{table: "login_links", key: "hash", notFound: iam.ErrNoLink,
		columns: "hash, person, expires_at",
		targets: func(l *iam.Link) []any {
			return []any{&l.Hash, &l.Person, moment{&l.ExpiresAt}}
		}}
)

func (t iamQueries) LockPeople(ctx context.Context) error { return t.lock(ctx, "people", "") }

func (t iamQueries) Person(ctx context.Context, name string) (iam.Person, error) {
	return personRows.find(ctx, t.Tx, `name = $1`, name)
}

func (t iamQueries) PersonOf(ctx context.Context, issuer, subject string) (iam.Person, error) {
	return personRows.find(ctx, t.Tx, `issuer = $1 AND subject = $2 AND subject <> ''`, issuer, subject)
}

func (t iamQueries) People(ctx context.Context) ([]iam.Person, error) {
	return personRows.all(ctx, t.Tx, `ORDER BY name`)
}

func (t iamQueries) PutPerson(ctx context.Context, p iam.Person, did string) error {
	if err := personRows.put(ctx, t.Tx, p); err != nil || did == "" {
		return err
	}
	return t.note(ctx, ofPerson, p.Name, did, map[string]any{"role": p.Role, "accounts": p.Accounts, "password": p.Password != "",
		"second_factor": p.TOTP != "", "issuer": p.Issuer})
}

func (t iamQueries) UseCode(ctx context.Context, oldPerson, p iam.Person) error {
	return t.use(ctx, iam.ErrRefused,
		`UPDATE people SET totp_step = $1, recovery = $2 WHERE name = $3 AND totp_step = $4 AND recovery = $5`,
		p.TOTPStep, stored(inJSON(&p.Recovery)), p.Name, oldPerson.TOTPStep, stored(inJSON(&oldPerson.Recovery)))
}

func (t iamQueries) DeletePerson(ctx context.Context, name string) error {
	return t.remove(ctx, iam.ErrNoPerson, ofPerson, name, `DELETE FROM people WHERE name = $1`, name)
}

func (t iamQueries) AdminKeyByHash(ctx context.Context, hash string) (iam.Key, error) {
	return adminKeyRows.find(ctx, t.Tx, `hash = $1`, hash)
}

func (t iamQueries) AdminKeys(ctx context.Context) ([]iam.Key, error) {
	return adminKeyRows.all(ctx, t.Tx, `ORDER BY created_at, id`)
}

func (t iamQueries) PutAdminKey(ctx context.Context, k iam.Key) error {
	if err := adminKeyRows.add(ctx, t.Tx, k); err != nil {
		return err
	}
	return t.note(ctx, ofAdminKey, k.ID, "add", map[string]any{"name": k.Name, "role": k.Role, "accounts": k.Accounts})
}

func (t iamQueries) UseAdminKey(ctx context.Context, hash string, now time.Time) error {
	return t.use(ctx, iam.ErrNoKey, `UPDATE admin_keys SET last_seen_at = $1 WHERE hash = $2`, millis(now), hash)
}

// use runs an update of one row; it returns missing if the row does not exist.
func (t iamQueries) use(ctx context.Context, missing error, query string, args ...any) error {
	n, err := t.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return missing
	}
	return err
}

func (t iamQueries) DeleteAdminKey(ctx context.Context, id string) error {
	return t.remove(ctx, iam.ErrNoKey, ofAdminKey, id, `DELETE FROM admin_keys WHERE id = $1`, id)
}

func (t iamQueries) Session(ctx context.Context, hash string) (iam.Session, error) {
	return sessionRows.find(ctx, t.Tx, `hash = $1`, hash)
}

func (t iamQueries) SessionsOf(ctx context.Context, person string) ([]iam.Session, error) {
	return sessionRows.all(ctx, t.Tx, `WHERE person = $1 ORDER BY created_at, id`, person)
}

func (t iamQueries) PutSession(ctx context.Context, s iam.Session) error {
	return sessionRows.add(ctx, t.Tx, s)
}

func (t iamQueries) UseSession(ctx context.Context, hash string, now time.Time) error {
	return t.use(ctx, iam.ErrNoSession, `UPDATE sessions SET last_seen_at = $1 WHERE hash = $2`, millis(now), hash)
}

func (t iamQueries) DeleteSession(ctx context.Context, id string) error {
	return t.run(ctx, `DELETE FROM sessions WHERE id = $1`, id)
}

func (t iamQueries) DeleteSessionsOf(ctx context.Context, person, but string) error {
	return t.run(ctx, `DELETE FROM sessions WHERE person = $1 AND id <> $2`, person, but)
}

func (t iamQueries) DropEnded(ctx context.Context, ended, seen time.Time) error {
	if err := t.run(ctx, `DELETE FROM login_links WHERE expires_at < $1`, millis(ended)); err != nil {
		return err
	}
	return t.run(ctx, `DELETE FROM sessions WHERE expires_at <= $1 OR last_seen_at <= $2`, millis(ended), millis(seen))
}

func (t iamQueries) TakeLoginLink(ctx context.Context, hash string) (iam.Link, error) {
	l, err := loginLinkRows.scan(t.row(ctx, `DELETE FROM login_links WHERE hash = $1 RETURNING `+loginLinkRows.columns, hash).Scan)
	return l, replaceNoRows(err, iam.ErrNoLink)
}

func (t iamQueries) DeleteLoginLinksOf(ctx context.Context, person string) error {
	return t.run(ctx, `DELETE FROM login_links WHERE person = $1`, person)
}

func (t iamQueries) PutLoginLink(ctx context.Context, l iam.Link, did string) error {
	if err := loginLinkRows.add(ctx, t.Tx, l); err != nil {
		return err
	}
	return t.note(ctx, ofPerson, cmp.Or(l.Person, "admin"), did, map[string]any{"until": l.ExpiresAt.UTC()})
}

var scanKeyRows = mapper[accounts.ScanKey]{table: "scan_keys", key: "name", notFound: accounts.ErrNoScanKey,
	columns: "hash, name, namespace, created_at",
	targets: func(k *accounts.ScanKey) []any {
		return []any{&k.Hash, &k.Name, &k.Namespace, moment{&k.CreatedAt}}
	}}

// ScanKeys implements accounts.ScanKeyStore.
func (s *Store) ScanKeys(ctx context.Context) ([]accounts.ScanKey, error) {
	return viewed(ctx, s, func(tx *Tx) ([]accounts.ScanKey, error) {
		return scanKeyRows.all(ctx, tx, `ORDER BY created_at, hash`)
	})
}

// PutScanKey implements accounts.ScanKeyStore.
func (s *Store) PutScanKey(ctx context.Context, k accounts.ScanKey) error {
	return s.update(ctx, func(tx *Tx) error {
		if err := scanKeyRows.put(ctx, tx, k); err != nil {
			return err
		}
		return tx.note(ctx, ofScanKey, k.Name, "put", map[string]any{"namespace": k.Namespace})
	})
}

// DeleteScanKey implements accounts.ScanKeyStore.
func (s *Store) DeleteScanKey(ctx context.Context, name string) error {
	return s.update(ctx, func(tx *Tx) error {
		return tx.remove(ctx, nil, ofScanKey, name, `DELETE FROM scan_keys WHERE name = $1`, name)
	})
}
