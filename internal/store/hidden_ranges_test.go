package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// many is more rules than an import writes while others wait.
const many = 2300

// midway is a plan that calls f once, when it is read to be written and most of it was.
func midway(plan rules.Plan, f func()) rules.Plan {
	reads := 0
	return func() iter.Seq2[rules.Planned, error] {
		reads++
		now := reads == 3
		return func(yield func(rules.Planned, error) bool) {
			for p, err := range plan() {
				if p.Line == many-100 && now {
					now = false
					f()
				}
				if !yield(p, err) {
					return
				}
			}
		}
	}
}

// twoNodes are two stores of one PostgreSQL database with three accounts, and their books.
func twoNodes(t *testing.T) (target Target, nodes [2]*Store, b [2]*rules.Service, own, other accounts.Account) {
	t.Helper()
	target = newPostgres(t)
	nodes = [2]*Store{open(t, target), open(t, target)}
	own, other = miniProgram(t, nodes[0], "wxa"), miniProgram(t, nodes[0], "wxc")
	miniProgram(t, nodes[0], "wxb")
	return target, nodes, books(nodes, nil), own, other
}

// sound wants a log that verifies and counts that are right.
func sound(t *testing.T, s *Store) {
	t.Helper()
	done, err := s.VerifyChanges(t.Context())
	assert.True(t, err == nil && done.FirstError == nil, "the log: %+v, %v", done.FirstError, err)
	assert.NoError(t, s.Snapshot(t.Context(), func(p *Snapshot) error { return p.CheckCounts(t.Context()) }))
}

func mustAdd(t *testing.T, b *rules.Service, owner accounts.Account, prefix string) {
	t.Helper()
	assert.NoErrorf(t, add(t.Context(), b, owner, "r", prefix, false), "%v", prefix)
}

// While an import is written, other changes are committed, also of the same origins and owners. Readers see no part of the import before
// its end, and all of it afterwards.
func TestImportRules_DoesNotBlockOthers(t *testing.T) {
	target, nodes, b, own, other := twoNodes(t)
	ctx := t.Context()
	mustAdd(t, b[0], own, "https://before.example/")
	follows := follower(t, nodes[1])
	readAt, called := int64(0), 0
	done, err := b[0].Import(ctx, midway(planOf(many, nil), func() {
		called++
		for i := range 3 {
			mustAdd(t, b[i%2], other, fmt.Sprintf("https://elsewhere.example/%d/", i))
			mustAdd(t, b[1], other, fmt.Sprintf("https://h%d.example/x/%d/", i, i))
			mustAdd(t, b[1], own, fmt.Sprintf("https://own.example/%d/", i))
		}
		assert.NoError(t, b[1].Publish(ctx, own, "https://before.example/"))
		assert.NoError(t, b[1].Delete(ctx, other, "https://elsewhere.example/0/", ""))
		want(t, "rules that others see", number(t, nodes[1], `SELECT COUNT(*) FROM rules`), 9)
		catchUp(t, follows)
		want(t, "rules that scans of the other node see", follows.Rules.Len(), 9)
		sound(t, nodes[1])

		// The same prefix: whoever adds it is told to try again, and holds up nobody for long.
		err := add(ctx, b[1], other, "r", "https://h1.example/1/", false)
		assert.True(t, isLocked(err) && strings.Contains(err.Error(), "locked by a running import"), "the same prefix: %v", err)
		assert.True(t, !nodes[1].committer.separate[ownerPart(other.AppID)].IsZero(),
			"the next change of that owner is made together with those of others, and breaks them up again")
		// One import at a time is written like this, but a short one waits for none.
		assert.ErrorIs(t, assert.ErrorOf(b[1].Import(ctx, planOf(many, nil), false)), accounts.ErrImporting, "a second import")
		_, err = b[1].Import(ctx, planOf(5, func(p *rules.Planned) { p.Draft.Prefix += "short/" }), false)
		assert.NoErrorf(t, err, "a short import")
		readAt = number(t, nodes[1], `SELECT seq FROM audit_log_head`)
	}), false)
	if want(t, "import", done, accounts.Imported{Lines: many, Added: many}); err != nil || called != 1 {
		t.Fatal(called, err)
	}
	want(t, "rules", number(t, nodes[1], `SELECT COUNT(*) FROM rules`), many+9+5)
	want(t, "rules whose number is that of the change that made them", number(t, nodes[1], `SELECT COUNT(*) FROM rules r JOIN changes c
		ON c.seq = r.id AND c.kind = 'rule' AND c.key = r.key AND c.action = 'add'`), many+9+5)
	sound(t, nodes[0])
	catchUp(t, follows)
	want(t, "rules that scans of the other node see", follows.Rules.Len(), many+9+5)
	want(t, "one of them", pathOf(follows, "https://h1.example/1/x"), "p")
	assert.True(t, add(ctx, b[1], other, "r", "https://h1.example/1/", false) != nil, "a prefix has two owners")
	// Whoever read before the import was shown has not seen its rules, though their numbers are lower.
	key := "https://h1.example/1/"
	since := auditlog.WithPrecondition(ctx, readAt, auditlog.Name{Kind: ofRule, Key: key})
	owner := accounts.Account{AppID: "wxb", Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
		Versions: []accounts.Version{accounts.Release}, CreatedAt: at}
	assert.ErrorIs(t, b[1].Delete(since, owner, key, ""), auditlog.ErrMoved, "a change of what was read before")
	// Pages of an owner's rules hang on what was counted.
	require.NoError(t, nodes[1].view(ctx, func(tx *Tx) error {
		list, _, err := tx.rules().List(ctx, rules.Query{Owner: "wxa", Offset: many / 2, Limit: 2})
		assert.True(t, len(list) == 2, "the page at %d: %v", many/2, list)
		return err
	}))
	third := open(t, target)
	want(t, "rules that a start reads", follower(t, third).Rules.Len(), many+9+5)
}

// What an import depends on may change while it is written. Then it is as if that had come first: it is checked again.
func TestImportRules_RecheckAfterConcurrentChange(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, s *Store, b *rules.Service, other accounts.Account)
		why    string // of the first fault; "" = it is stored
	}{
		"somebody added one of the prefixes": {func(t *testing.T, _ *Store, b *rules.Service, other accounts.Account) {
			mustAdd(t, b, other, fmt.Sprintf("https://h%d.example/%d/", (many-1)%100, many-1))
		}, "belongs to wxc"},
		"somebody occupies above one": {func(t *testing.T, _ *Store, b *rules.Service, other accounts.Account) {
			assert.NoError(t, add(t.Context(), b, other, "r", "https://h7.example/", true))
		}, "wxc occupies the links below"},
		"an owner is gone": {func(t *testing.T, s *Store, _ *rules.Service, _ accounts.Account) {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxb") })
		}, "there is no account"},
		"a host is denied": {func(t *testing.T, s *Store, _ *rules.Service, _ accounts.Account) {
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.rules().PutDomain(ctx, rules.Domain{Host: "h8.example", Status: rules.Denied, At: at})
			})
		}, "the operator denies"},
		"somebody occupies elsewhere": {func(t *testing.T, _ *Store, b *rules.Service, other accounts.Account) {
			assert.NoError(t, add(t.Context(), b, other, "r", "https://elsewhere.example/", true))
		}, ""},
		"a prefix came and went": {func(t *testing.T, _ *Store, b *rules.Service, other accounts.Account) {
			prefix := fmt.Sprintf("https://h%d.example/%d/", (many-1)%100, many-1)
			mustAdd(t, b, other, prefix)
			assert.NoError(t, b.Delete(t.Context(), other, prefix, ""))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, nodes, b, _, other := twoNodes(t)
			_, err := b[0].Import(t.Context(), midway(planOf(many, nil), func() { c.change(t, nodes[1], b[1], other) }), false)
			if c.why == "" {
				assert.True(t, err == nil, "%v", err)
				want(t, "rules of the import", number(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE owner <> 'wxc'`), many)
			} else {
				faults, _ := errors.AsType[accounts.RowErrors](err)
				assert.True(t, len(faults) != 0 && strings.Contains(faults[0].Reason, c.why), "want %q: %v", c.why, err)
				want(t, "rules of the import", number(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE owner <> 'wxc'`), 0)
			}
			if name != "an owner is gone" { // only there a row was deleted behind everybody's back
				sound(t, nodes[0])
			}
		})
	}
}

// An import of rules that are there, are others, or are new does each.
func TestImportRules_MixedNewChangedUnchanged(t *testing.T) {
	_, nodes, b, _, _ := twoNodes(t)
	run := func(what string, n int, change func(*rules.Planned), done accounts.Imported) {
		t.Helper()
		got, err := b[0].Import(t.Context(), planOf(n, change), false)
		if want(t, what, got, done); err != nil {
			t.Fatal(what, err)
		}
		sound(t, nodes[1])
	}
	run("new", many, nil, accounts.Imported{Lines: many, Added: many})
	second := func(p *rules.Planned) { p.Draft.Path = "second" }
	run("others", many, second, accounts.Imported{Lines: many, Changed: many})
	third := func(p *rules.Planned) {
		if second(p); p.Line%2 == 0 {
			p.Draft.Path = "third"
		}
	}
	run("new and others", 2*many, third, accounts.Imported{Lines: 2 * many, Added: many, Changed: many / 2, Unchanged: many / 2})
	run("the same", 2*many, third, accounts.Imported{Lines: 2 * many, Unchanged: 2 * many})
	want(t, "rules", number(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE path = 'third'`), many)
}

// almost calls f when all that an import does is written, and only the showing is left.
type almost struct {
	*Store
	f func(tx *Tx)
}

func (s almost) UpdateRules(ctx context.Context, f func(rules.Tx) error) error {
	return s.Store.UpdateRules(ctx, func(tx rules.Tx) error { return f(almostTx{tx.(rulesTx), s.f}) })
}

type almostTx struct {
	rulesTx
	f func(tx *Tx)
}

func (t almostTx) LockForShow(ctx context.Context) error {
	if err := t.storeEdits(ctx); err != nil {
		return err
	}
	t.f(t.Tx)
	return t.rulesTx.LockForShow(ctx)
}

// Issue 29, 2: nor does an import that changes rules which are there. When they have become others, and nobody sees it yet, it holds
// nothing that a change of another rule wants; who wants to change one of them is told to try again, and holds up nobody.
func TestImportRules_UpdatesDoNotBlockOthers(t *testing.T) {
	target, nodes, b, own, other := twoNodes(t)
	ctx := t.Context()
	require.NoError(t, assert.ErrorOf(b[0].Import(ctx, planOf(many, func(p *rules.Planned) { p.Published = p.Line > 1 }), false)))
	mustAdd(t, b[0], own, "https://before.example/")
	follows := follower(t, nodes[1])
	hands := admin(t, target)
	changed := func(p *rules.Planned) {
		p.Draft.Path, p.Draft.TestLinks, p.Published = `"second" \ <页>`, []string{p.Draft.Prefix + "?a=<&>码"}, p.Line > 1
	}
	called := 0
	b[0].Store = almost{nodes[0], func(*Tx) {
		called++
		for what, query := range map[string]string{
			"the head of the log": `SELECT seq FROM audit_log_head FOR UPDATE NOWAIT`,
			"what counts rules":   `SELECT rules FROM rule_counts FOR UPDATE NOWAIT`,
			"the other rules":     `SELECT id FROM rules WHERE key = 'https://before.example/' FOR UPDATE NOWAIT`,
			"the lock of all rules": fmt.Sprintf(`SELECT 1 / CASE WHEN pg_try_advisory_xact_lock(%d) THEN 1 ELSE 0 END`,
				lockNumber(allRules)),
		} {
			assert.NoErrorf(t, assert.ErrorOf(hands.Exec(ctx, query)), "%s", what)
		}
		mustAdd(t, b[1], other, "https://elsewhere.example/")
		mustAdd(t, b[1], own, "https://own.example/")
		assert.NoError(t, b[1].Publish(ctx, own, "https://before.example/"))
		for what, err := range map[string]error{
			"edit":   b[1].Edit(ctx, own, rules.Draft{Prefix: "https://h0.example/0/", Path: "mine", OpenVersion: rules.OpenRelease}),
			"delete": b[1].Delete(ctx, own, "https://h2.example/2/", ""),
		} {
			assert.True(t, isLocked(err) && strings.Contains(err.Error(), "locked by a running import"),
				"%s of a rule that is being imported: %v", what, err)
		}
		want(t, "rules that others see changed", number(t, nodes[1], `SELECT COUNT(*) FROM rules WHERE test_links <> 'null'`), 0)
		catchUp(t, follows)
		want(t, "what scans of the other node see", pathOf(follows, "https://h1.example/1/x"), "p")
		sound(t, nodes[1])
	}}
	done, err := b[0].Import(ctx, planOf(many, changed), false)
	if want(t, "import", done, accounts.Imported{Lines: many, Changed: many}); err != nil || called != 1 {
		t.Fatal(called, err)
	}
	want(t, "rules", number(t, nodes[1], `SELECT COUNT(*) FROM rules WHERE path LIKE '"second" %' AND test_links <> 'null'`), many)
	catchUp(t, follows)
	want(t, "what scans of the other node see", pathOf(follows, "https://h1.example/1/x"), `"second" \ <页>`)
	sound(t, nodes[0])
	// What comes after an edit of an import, and an undo of it, is as after any other.
	assert.NoError(t, b[1].Delete(ctx, own, "https://h2.example/2/", ""))
	edit := number(t, nodes[1], `SELECT MAX(seq) FROM changes WHERE key = 'https://h4.example/4/' AND action = 'edit'`)
	assert.NoError(t, assert.ErrorOf(b[1].Undo(ctx, edit)))
	want(t, "rules that are as they were", number(t, nodes[1],
		`SELECT COUNT(*) FROM rules WHERE path = 'p' AND key = 'https://h4.example/4/'`), 1)
	sound(t, nodes[1])
}

// Rules that an import makes open other Mini Programs are counted when they are shown.
func TestImportRules_CountsRulesToOtherApps(t *testing.T) {
	target := newPostgres(t)
	s := open(t, target)
	importMany(t, s, someRules(t, 1500))
	var moved []rules.Edit
	view(t, s, func(ctx context.Context, tx *Tx) error {
		all, err := scanAll(ctx, tx, `WHERE owner = $1 AND id % 4 <> 0`, "wxs")
		for i, r := range all {
			now := r
			if now.Target = "wxm1"; i%5 == 0 {
				now.Target = fmt.Sprint("wxnew", i%3)
			}
			if now.Target != r.Target {
				moved = append(moved, rules.Edit{Now: now, Old: r})
			}
		}
		return err
	})
	numbers, err := s.Reserve(t.Context(), len(moved))
	require.NoError(t, err)
	hands := admin(t, target)
	update(t, s, func(ctx context.Context, tx *Tx) error {
		if err := tx.accounts().EditHidden(ctx, moved, rules.ChangeMeta{At: at, Action: "edit"}, numbers); err != nil {
			return err
		}
		if err := tx.accounts().LockForShow(ctx); err != nil {
			return err
		}
		mustDo(t, hands, `SELECT rules FROM rule_counts FOR UPDATE NOWAIT`)
		mustDo(t, hands, `SELECT rules FROM rule_page_buckets FOR UPDATE NOWAIT`)
		return tx.accounts().ShowHidden(ctx)
	})
	sound(t, s)
	want(t, "rules of a Mini Program that had none", number(t, s, `SELECT COUNT(*) FROM rules WHERE target = 'wxnew0'`),
		number(t, s, `SELECT rules FROM rule_counts WHERE owner = 'wxs' AND target = 'wxnew0'`))
	// The last one leaves, and its counts go.
	want(t, "rows that count none", number(t, s, `SELECT (SELECT COUNT(*) FROM rule_counts WHERE rules = 0) + (SELECT COUNT(*) FROM rule_page_buckets
		WHERE rules = 0)`), 0)
}

// A node that dies in the middle of an import leaves nothing of it but the numbers that it
// was given, and no lock: the same can be imported as soon as PostgreSQL has noticed.
func TestImportRules_NodeDies(t *testing.T) {
	_, nodes, b, _, _ := twoNodes(t)
	ctx, die := context.WithCancel(t.Context())
	_, err := b[0].Import(ctx, midway(planOf(many, nil), die), false)
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	want(t, "rules", number(t, nodes[1], `SELECT COUNT(*) FROM rules`), 0)
	want(t, "numbers that were given out", number(t, nodes[1], `SELECT COUNT(*) FROM changes WHERE kind = 'numbers'`), 1)
	sound(t, nodes[1])
	for {
		_, err := b[1].Import(t.Context(), planOf(many, nil), false)
		if err == nil {
			break
		}
		if !errors.Is(err, accounts.ErrImporting) { // PostgreSQL may not have noticed yet
			t.Fatal(err)
		}
	}
	want(t, "rules of the next", number(t, nodes[1], `SELECT COUNT(*) FROM rules`), many)
	sound(t, nodes[1])
}

// A session that is ended in the middle, as a node is that stands still too long and lives on, costs a repetition.
func TestImportRules_SessionTerminated(t *testing.T) {
	target, nodes, b, _, _ := twoNodes(t)
	_, err := b[0].Import(t.Context(), midway(planOf(many, nil), func() {
		mustDo(t, admin(t, target), `SELECT pg_terminate_backend(pid, 600000) FROM pg_locks WHERE locktype = 'advisory'
			AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	}), false)
	require.NoError(t, err)
	want(t, "rules", number(t, nodes[1], `SELECT COUNT(*) FROM rules`), many)
	sound(t, nodes[1])
}

// A server that takes over without the numbers of an import gives them to others: nothing is written under them.
func TestImportRules_ReclaimedIDs(t *testing.T) {
	_, nodes, _, own, _ := twoNodes(t)
	given, err := nodes[0].Reserve(t.Context(), 1)
	require.True(t, err == nil && given.First != 0, "%v %v", given, err)
	prefix, err := rules.ParsePrefix("https://a.example/", rules.Ordinary, false)
	require.NoError(t, err)
	apart := func(under accounts.SeqRange) error {
		return nodes[0].UpdateRules(t.Context(), func(tx rules.Tx) error {
			one := rules.Rule{Owner: own.AppID, Prefix: prefix, Kind: rules.Ordinary, CreatedAt: at, UpdatedAt: at}
			return tx.AddHidden(t.Context(), []rules.Rule{one}, rules.ChangeMeta{At: at, Action: "add"}, under)
		})
	}
	for what, under := range map[string]accounts.SeqRange{
		"another entry stands there": {First: given.First, Last: given.Last, Hash: "another"},
		"no entry stands there":      {First: given.First + 1, Last: given.Last + 1, Hash: given.Hash},
	} {
		assert.ErrorIs(t, apart(under), accounts.ErrConflict, "%s", what)
	}
	assert.NoError(t, apart(given))
}

// What was written apart is as safe from hands as the rest of the log.
func TestImportRules_AuditChainVerified(t *testing.T) {
	target, nodes, b, _, other := twoNodes(t)
	require.NoError(t, assert.ErrorOf(b[0].Import(t.Context(), planOf(many, nil), false)))
	mustAdd(t, b[0], other, "https://after.example/")
	given := number(t, nodes[0], `SELECT seq FROM changes WHERE kind = 'numbers'`)
	hands := admin(t, target)
	for what, c := range map[string]struct {
		do  string
		seq int64
	}{
		"an entry is altered":          {fmt.Sprintf(`UPDATE changes SET actor = 'x' WHERE seq = %d`, given-5), given - 5},
		"an entry is gone":             {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, given-5), given - 5},
		"the first is gone":            {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, given-many), given - many},
		"the last is gone":             {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, given-1), given - 1},
		"all are gone":                 {fmt.Sprintf(`DELETE FROM changes WHERE seq >= %d AND seq < %d`, given-many, given), given - many},
		"what gave the numbers is not": {fmt.Sprintf(`UPDATE changes SET kind = 'meta' WHERE seq = %d`, given), 0},
		"it is missing":                {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, given), 0},
		"what shows them is gone":      {`DELETE FROM changes WHERE kind = 'import'`, given + 1},
		"what shows them is altered":   {`UPDATE changes SET key = '1-2' WHERE kind = 'import'`, given + 1},
	} {
		mustDo(t, hands, `CREATE TABLE kept AS SELECT * FROM changes`)
		mustDo(t, hands, c.do)
		done, err := nodes[0].VerifyChanges(t.Context())
		assert.True(t, err == nil && done.FirstError != nil && (c.seq <= 0 || done.FirstError.Seq == c.seq), "%s: %+v, %v", what,
			done.FirstError, err)
		mustDo(t, hands, `TRUNCATE changes`)
		mustDo(t, hands, `INSERT INTO changes SELECT * FROM kept`)
		mustDo(t, hands, `DROP TABLE kept`)
	}
	sound(t, nodes[0])
}

// amid calls f when accounts that are imported were written, and are not shown yet.
type amid struct {
	*Store
	f func()
}

func (s amid) UpdateAccounts(ctx context.Context, f func(accounts.Tx) error) error {
	return s.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error { return f(amidTx{tx, s.f}) })
}

type amidTx struct {
	accounts.Tx
	f func()
}

func (t amidTx) LockAccountsForShow(ctx context.Context) error {
	t.f()
	return t.Tx.LockAccountsForShow(ctx)
}

// accountsOf is n lines of accounts, every other one a service account that is linked with the one before it.
func accountsOf(n int) accounts.ImportRows {
	return func() iter.Seq2[accounts.ImportRow, error] {
		return func(yield func(accounts.ImportRow, error) bool) {
			for i := range n {
				r := accounts.Registration{Account: accounts.Account{AppID: fmt.Sprintf("im%d", i), Kind: accounts.MiniProgram}}
				if i%2 == 1 {
					r.Kind, r.Linked = accounts.ServiceAccount, []string{fmt.Sprintf("im%d", i-1)}
				}
				if !yield(accounts.ImportRow{Line: i + 1, Registration: r}, nil) {
					return
				}
			}
		}
	}
}

// Issue 29, 2: what holds for an import of rules holds for one of accounts.
func TestImportAccounts_DoesNotBlockOthers(t *testing.T) {
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	key, err := sealer.NewKey([]byte("0123456789abcdef0123456789abcdef"))
	require.NoError(t, err)
	directory := func(s accounts.Store) *accounts.Service {
		return &accounts.Service{Store: s, Key: key, Settings: settings.NewLive(settings.Defaults()),
			Now: func() time.Time { return at }, Random: rand.NewChaCha8([32]byte{})}
	}
	ctx, other := t.Context(), directory(nodes[1])
	put := func(appid, name string, linked ...string) error {
		kind := accounts.MiniProgram
		if len(linked) > 0 {
			kind = accounts.ServiceAccount
		}
		return other.Put(ctx, accounts.Registration{Account: accounts.Account{AppID: appid, Kind: kind, Name: name}, Linked: linked})
	}
	require.NoError(t, put("wxold", "old"))
	follows := follower(t, nodes[1])
	called := 0
	bring := func(n int, f func()) (accounts.Imported, error) {
		called = 0
		return directory(amid{nodes[0], func() {
			if called++; called == 1 {
				f()
			}
		}}).Import(ctx, accountsOf(n), false)
	}
	const n = 2000
	done, err := bring(n, func() {
		for _, err := range []error{put("wxnew", "new"), put("wxold", "changed"), put("wxservice", "s", "wxold")} {
			assert.True(t, err == nil, "a change of another account: %v", err)
		}
		want(t, "accounts that others see", number(t, nodes[1], `SELECT COUNT(*) FROM accounts`), 3)
		err := put("im7", "mine")
		assert.True(t, isLocked(err), "an account that is being imported: %v", err)
		catchUp(t, follows)
		sound(t, nodes[1])
	})
	if want(t, "import", done, accounts.Imported{Lines: n, Added: n}); err != nil || called != 1 {
		t.Fatal(called, err)
	}
	sound(t, nodes[1])
	catchUp(t, follows)
	for i := range n {
		appid := fmt.Sprintf("im%d", i)
		if _, found := follows.Accounts.Account(appid); !found || i%2 == 1 && !follows.Accounts.Linked(appid, fmt.Sprintf("im%d", i-1)) {
			t.Fatalf("%s is not in the memory of the other node, or not its link", appid)
		}
	}
	// More of them, and one that changes meanwhile: it is checked again.
	done, err = bring(2*n, func() { assert.NoError(t, put("im1", "changed", "im0", "wxold")) })
	want(t, "what it did then", done, accounts.Imported{Lines: 2 * n, Added: n, Changed: 1, Unchanged: n - 1})
	require.True(t, err == nil && called == 2, "%v %v", called, err)
	sound(t, nodes[0])
}
