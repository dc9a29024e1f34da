package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// planSize is more rules than an import writes in a transaction that blocks other changes.
const planSize = 2300

// interruptPlan returns a plan that calls f once: near the end of the third read, during which the import writes the rules.
func interruptPlan(plan rules.Plan, f func()) rules.Plan {
	reads := 0
	return func() iter.Seq2[rules.Planned, error] {
		reads++
		third := reads == 3
		return func(yield func(rules.Planned, error) bool) {
			for p, err := range plan() {
				if p.Line == planSize-100 && third {
					third = false
					f()
				}
				if !yield(p, err) {
					return
				}
			}
		}
	}
}

// openTwoNodes returns two stores of a PostgreSQL database with the accounts wxa, wxb and wxc, and their rule services.
func openTwoNodes(t *testing.T) (target Target, nodes [2]*Store, b [2]*rules.Service, owner, third accounts.Account) {
	t.Helper()
	target = newPostgres(t)
	nodes = [2]*Store{open(t, target), open(t, target)}
	owner, third = addMiniProgram(t, nodes[0], "wxa"), addMiniProgram(t, nodes[0], "wxc")
	addMiniProgram(t, nodes[0], "wxb")
	return target, nodes, newRuleServices(nodes, nil), owner, third
}

// checkStore reports an error if the audit log does not verify or a count is wrong.
func checkStore(t *testing.T, s *Store) {
	t.Helper()
	checkAuditLog(t, s)
	checkCounts(t, s, "of the store")
}

func mustAddRule(t *testing.T, b *rules.Service, owner accounts.Account, prefix string) {
	t.Helper()
	assert.NoErrorf(t, addRule(t.Context(), b, owner, "r", prefix, false), "%v", prefix)
}

// TestImportRules_DoesNotBlockOthers commits changes of other rules, also of the same origins and owners, while an import writes its rules.
// The imported rules become visible together at the end of the import.
func TestImportRules_DoesNotBlockOthers(t *testing.T) {
	target, nodes, b, wxa, wxc := openTwoNodes(t)
	ctx := t.Context()
	mustAddRule(t, b[0], wxa, "https://before.example/")
	follows := newReplica(t, nodes[1])
	readAt, called := int64(0), 0
	done, err := b[0].Import(ctx, interruptPlan(newPlan(planSize, nil), func() {
		called++
		for i := range 3 {
			mustAddRule(t, b[i%2], wxc, fmt.Sprintf("https://elsewhere.example/%d/", i))
			mustAddRule(t, b[1], wxc, fmt.Sprintf("https://h%d.example/x/%d/", i, i))
			mustAddRule(t, b[1], wxa, fmt.Sprintf("https://own.example/%d/", i))
		}
		assert.NoError(t, b[1].Publish(ctx, wxa, "https://before.example/"))
		assert.NoError(t, b[1].Delete(ctx, wxc, "https://elsewhere.example/0/", ""))
		check(t, "rules visible during the import", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules`), 9)
		catchUp(t, follows)
		check(t, "rules that scans of the other node see", follows.Rules.Len(), 9)
		checkStore(t, nodes[1])

		// A rule with a prefix of the import is rejected with a retryable error, and does not delay other changes.
		err := addRule(ctx, b[1], wxc, "r", "https://h1.example/1/", false)
		assert.True(t, isLocked(err) && strings.Contains(err.Error(), "locked by a running import"),
			"adding a prefix of the import: error = %v, want a lock", err)
		assert.True(t, !nodes[1].committer.separate[ownerPart(wxc.AppID)].IsZero(),
			"the next change of the owner joins a group commit, which it would break up again")
		// A second large import is rejected; a short import does not wait.
		assert.ErrorIs(t, assert.ErrorOf(b[1].Import(ctx, newPlan(planSize, nil), false)), accounts.ErrImporting, "a second import")
		_, err = b[1].Import(ctx, newPlan(5, func(p *rules.Planned) { p.Draft.Prefix += "short/" }), false)
		assert.NoErrorf(t, err, "a short import")
		readAt = queryInt(t, nodes[1], `SELECT seq FROM audit_log_head`)
	}), false)
	if check(t, "import", done, accounts.Imported{Lines: planSize, Added: planSize}); err != nil || called != 1 {
		t.Fatal(called, err)
	}
	check(t, "rules", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules`), planSize+9+5)
	check(t, "rules whose ID is the seq of their change", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules r JOIN changes c
		ON c.seq = r.id AND c.kind = 'rule' AND c.key = r.key AND c.action = 'add'`), planSize+9+5)
	checkStore(t, nodes[0])
	catchUp(t, follows)
	check(t, "rules that scans of the other node see", follows.Rules.Len(), planSize+9+5)
	check(t, "path of an imported rule", matchingPath(follows, "https://h1.example/1/x"), "p")
	assert.True(t, addRule(ctx, b[1], wxc, "r", "https://h1.example/1/", false) != nil, "adding a prefix of another owner succeeds")
	// A precondition that was read before the import ended does not hold, although the seq of the rules is lower.
	key := "https://h1.example/1/"
	since := auditlog.WithPrecondition(ctx, readAt, auditlog.Name{Kind: ofRule, Key: key})
	wxb := accounts.Account{AppID: "wxb", Kind: accounts.MiniProgram, Subject: accounts.Company, JumpOpen: true,
		Versions: []accounts.Version{accounts.Release}, CreatedAt: t0}
	assert.ErrorIs(t, b[1].Delete(since, wxb, key, ""), auditlog.ErrMoved, "a delete with a precondition from before the import")
	// Pages of an owner's rules depend on the counts.
	require.NoError(t, nodes[1].view(ctx, func(tx *Tx) error {
		list, _, err := tx.rules().List(ctx, rules.Query{Owner: "wxa", Offset: planSize / 2, Limit: 2})
		assert.True(t, len(list) == 2, "page at offset %d = %v, want 2 rules", planSize/2, list)
		return err
	}))
	check(t, "rules of a replica that starts", newReplica(t, open(t, target)).Rules.Len(), planSize+9+5)
}

// TestImportRules_RecheckAfterConcurrentChange changes rules, accounts and domains while an import writes its rules. The import is checked
// again, as if the change had been committed before.
func TestImportRules_RecheckAfterConcurrentChange(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, s *Store, b *rules.Service, owner accounts.Account)
		reason string // of the first row error; "" if the import succeeds
	}{
		"one of the prefixes is added": {func(t *testing.T, _ *Store, b *rules.Service, owner accounts.Account) {
			mustAddRule(t, b, owner, fmt.Sprintf("https://h%d.example/%d/", (planSize-1)%100, planSize-1))
		}, "belongs to wxc"},
		"a rule above a prefix occupies": {func(t *testing.T, _ *Store, b *rules.Service, owner accounts.Account) {
			assert.NoError(t, addRule(t.Context(), b, owner, "r", "https://h7.example/", true))
		}, "wxc occupies the links below"},
		"an owner is deleted": {func(t *testing.T, s *Store, _ *rules.Service, _ accounts.Account) {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxb") })
		}, "there is no account"},
		"a host is denied": {func(t *testing.T, s *Store, _ *rules.Service, _ accounts.Account) {
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.rules().PutDomain(ctx, rules.Domain{Host: "h8.example", Status: rules.Denied, At: t0})
			})
		}, "the operator denies"},
		"a rule on another host occupies": {func(t *testing.T, _ *Store, b *rules.Service, owner accounts.Account) {
			assert.NoError(t, addRule(t.Context(), b, owner, "r", "https://elsewhere.example/", true))
		}, ""},
		"a prefix is added and deleted": {func(t *testing.T, _ *Store, b *rules.Service, owner accounts.Account) {
			prefix := fmt.Sprintf("https://h%d.example/%d/", (planSize-1)%100, planSize-1)
			mustAddRule(t, b, owner, prefix)
			assert.NoError(t, b.Delete(t.Context(), owner, prefix, ""))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, nodes, b, _, owner := openTwoNodes(t)
			plan := interruptPlan(newPlan(planSize, nil), func() { c.change(t, nodes[1], b[1], owner) })
			_, err := b[0].Import(t.Context(), plan, false)
			if c.reason == "" {
				assert.NoError(t, err)
				check(t, "rules of the import", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE owner <> 'wxc'`), planSize)
			} else {
				rowErrors, _ := errors.AsType[accounts.RowErrors](err)
				assert.True(t, len(rowErrors) != 0 && strings.Contains(rowErrors[0].Reason, c.reason),
					"Import() = %v, want %q", err, c.reason)
				check(t, "rules of the import", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE owner <> 'wxc'`), 0)
			}
			if name != "an owner is deleted" { // this test deletes the row without its rules
				checkStore(t, nodes[0])
			}
		})
	}
}

// TestImportRules_MixedNewChangedUnchanged imports plans in which rules are new, changed and unchanged.
func TestImportRules_MixedNewChangedUnchanged(t *testing.T) {
	_, nodes, b, _, _ := openTwoNodes(t)
	run := func(name string, n int, change func(*rules.Planned), done accounts.Imported) {
		t.Helper()
		got, err := b[0].Import(t.Context(), newPlan(n, change), false)
		require.NoErrorf(t, err, "%s", name)
		check(t, name, got, done)
		checkStore(t, nodes[1])
	}
	run("new", planSize, nil, accounts.Imported{Lines: planSize, Added: planSize})
	second := func(p *rules.Planned) { p.Draft.Path = "second" }
	run("changed", planSize, second, accounts.Imported{Lines: planSize, Changed: planSize})
	third := func(p *rules.Planned) {
		if second(p); p.Line%2 == 0 {
			p.Draft.Path = "third"
		}
	}
	run("mixed", 2*planSize, third,
		accounts.Imported{Lines: 2 * planSize, Added: planSize, Changed: planSize / 2, Unchanged: planSize / 2})
	run("unchanged", 2*planSize, third, accounts.Imported{Lines: 2 * planSize, Unchanged: 2 * planSize})
	check(t, "rules", queryInt(t, nodes[0], `SELECT COUNT(*) FROM rules WHERE path = 'third'`), planSize)
}

// beforeShowRules is a store that calls f after an import has written its rules and before they become visible.
type beforeShowRules struct {
	*Store
	f func()
}

func (s beforeShowRules) UpdateRules(ctx context.Context, f func(rules.Tx) error) error {
	return s.Store.UpdateRules(ctx, func(tx rules.Tx) error { return f(beforeShowRulesTx{tx.(ruleQueries), s.f}) })
}

type beforeShowRulesTx struct {
	ruleQueries
	f func()
}

func (t beforeShowRulesTx) LockForShow(ctx context.Context) error {
	if err := t.storeEdits(ctx); err != nil {
		return err
	}
	t.f()
	return t.ruleQueries.LockForShow(ctx)
}

// TestImportRules_UpdatesDoNotBlockOthers imports changes of existing rules. Before they become visible the import holds no lock that
// changes of other rules need, and changes of the same rules are rejected with a retryable error.
func TestImportRules_UpdatesDoNotBlockOthers(t *testing.T) {
	target, nodes, b, wxa, wxc := openTwoNodes(t)
	ctx := t.Context()
	require.NoError(t, assert.ErrorOf(b[0].Import(ctx, newPlan(planSize, func(p *rules.Planned) { p.Published = p.Line > 1 }), false)))
	mustAddRule(t, b[0], wxa, "https://before.example/")
	follows := newReplica(t, nodes[1])
	conn := connectAdmin(t, target)
	changed := func(p *rules.Planned) {
		p.Draft.Path, p.Draft.TestLinks, p.Published = `"second" \ <页>`, []string{p.Draft.Prefix + "?a=<&>码"}, p.Line > 1
	}
	called := 0
	b[0].Store = beforeShowRules{nodes[0], func() {
		called++
		for name, query := range map[string]string{
			"the head of the audit log": `SELECT seq FROM audit_log_head FOR UPDATE NOWAIT`,
			"the rule counts":           `SELECT rules FROM rule_counts FOR UPDATE NOWAIT`,
			"another rule":              `SELECT id FROM rules WHERE key = 'https://before.example/' FOR UPDATE NOWAIT`,
			"the lock of all rules": fmt.Sprintf(`SELECT 1 / CASE WHEN pg_try_advisory_xact_lock(%d) THEN 1 ELSE 0 END`,
				lockNumber(allRules)),
		} {
			assert.NoErrorf(t, assert.ErrorOf(conn.Exec(ctx, query)), "%s", name)
		}
		mustAddRule(t, b[1], wxc, "https://elsewhere.example/")
		mustAddRule(t, b[1], wxa, "https://own.example/")
		assert.NoError(t, b[1].Publish(ctx, wxa, "https://before.example/"))
		for name, err := range map[string]error{
			"edit":   b[1].Edit(ctx, wxa, rules.Draft{Prefix: "https://h0.example/0/", Path: "mine", OpenVersion: rules.OpenRelease}),
			"delete": b[1].Delete(ctx, wxa, "https://h2.example/2/", ""),
		} {
			assert.True(t, isLocked(err) && strings.Contains(err.Error(), "locked by a running import"),
				"%s of a rule of the import: error = %v, want a lock", name, err)
		}
		check(t, "changed rules visible during the import", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules WHERE test_links <> 'null'`),
			0)
		catchUp(t, follows)
		check(t, "what scans of the other node see", matchingPath(follows, "https://h1.example/1/x"), "p")
		checkStore(t, nodes[1])
	}}
	done, err := b[0].Import(ctx, newPlan(planSize, changed), false)
	if check(t, "import", done, accounts.Imported{Lines: planSize, Changed: planSize}); err != nil || called != 1 {
		t.Fatal(called, err)
	}
	check(t, "rules", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules WHERE path LIKE '"second" %' AND test_links <> 'null'`), planSize)
	catchUp(t, follows)
	check(t, "what scans of the other node see", matchingPath(follows, "https://h1.example/1/x"), `"second" \ <页>`)
	checkStore(t, nodes[0])
	// Changes made by an import can be followed by a delete, and can be undone.
	assert.NoError(t, b[1].Delete(ctx, wxa, "https://h2.example/2/", ""))
	edit := queryInt(t, nodes[1], `SELECT MAX(seq) FROM changes WHERE key = 'https://h4.example/4/' AND action = 'edit'`)
	assert.NoError(t, assert.ErrorOf(b[1].Undo(ctx, edit)))
	check(t, "rules with the original path", queryInt(t, nodes[1],
		`SELECT COUNT(*) FROM rules WHERE path = 'p' AND key = 'https://h4.example/4/'`), 1)
	checkStore(t, nodes[1])
}

// TestImportRules_CountsRulesToOtherApps verifies that an import updates the counts by target when its rules become visible.
func TestImportRules_CountsRulesToOtherApps(t *testing.T) {
	target := newPostgres(t)
	s := open(t, target)
	bulkAddRules(t, s, newRules(t, 1500))
	var moved []rules.Edit
	view(t, s, func(ctx context.Context, tx *Tx) error {
		all, err := queryRules(ctx, tx, `WHERE owner = $1 AND id % 4 <> 0`, "wxs")
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
	numbers := require.Value(s.Reserve(t.Context(), len(moved)))(t)
	conn := connectAdmin(t, target)
	update(t, s, func(ctx context.Context, tx *Tx) error {
		if err := tx.accounts().EditHidden(ctx, moved, rules.ChangeMeta{At: t0, Action: "edit"}, numbers); err != nil {
			return err
		}
		if err := tx.accounts().LockForShow(ctx); err != nil {
			return err
		}
		mustExecConn(t, conn, `SELECT rules FROM rule_counts FOR UPDATE NOWAIT`)
		mustExecConn(t, conn, `SELECT rules FROM rule_page_buckets FOR UPDATE NOWAIT`)
		return tx.accounts().ShowHidden(ctx)
	})
	checkStore(t, s)
	check(t, "rules of a Mini Program that had none", queryInt(t, s, `SELECT COUNT(*) FROM rules WHERE target = 'wxnew0'`),
		queryInt(t, s, `SELECT rules FROM rule_counts WHERE owner = 'wxs' AND target = 'wxnew0'`))
	// A count is removed with its last rule.
	check(t, "counts of 0", queryInt(t, s, `SELECT (SELECT COUNT(*) FROM rule_counts WHERE rules = 0) +
		(SELECT COUNT(*) FROM rule_page_buckets WHERE rules = 0)`), 0)
}

// TestImportRules_NodeDies cancels an import. Only its reserved seq range remains, and no lock: the import succeeds on the other node as
// soon as PostgreSQL has ended the session.
func TestImportRules_NodeDies(t *testing.T) {
	_, nodes, b, _, _ := openTwoNodes(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b[0].Import(ctx, interruptPlan(newPlan(planSize, nil), cancel), false)
	require.ErrorIs(t, err, context.Canceled, "a canceled import")
	check(t, "rules", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules`), 0)
	check(t, "reserved seq ranges", queryInt(t, nodes[1], `SELECT COUNT(*) FROM changes WHERE kind = 'numbers'`), 1)
	checkStore(t, nodes[1])
	for {
		_, err := b[1].Import(t.Context(), newPlan(planSize, nil), false)
		if err == nil {
			break
		}
		if !errors.Is(err, accounts.ErrImporting) { // PostgreSQL may not have ended the session yet
			t.Fatal(err)
		}
	}
	check(t, "rules of the second import", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules`), planSize)
	checkStore(t, nodes[1])
}

// TestImportRules_SessionTerminated terminates the session of an import, as PostgreSQL does if a node stalls. The import is repeated.
func TestImportRules_SessionTerminated(t *testing.T) {
	target, nodes, b, _, _ := openTwoNodes(t)
	_, err := b[0].Import(t.Context(), interruptPlan(newPlan(planSize, nil), func() {
		mustExecConn(t, connectAdmin(t, target), `SELECT pg_terminate_backend(pid, 600000) FROM pg_locks WHERE locktype = 'advisory'
			AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	}), false)
	require.NoError(t, err)
	check(t, "rules", queryInt(t, nodes[1], `SELECT COUNT(*) FROM rules`), planSize)
	checkStore(t, nodes[1])
}

// TestImportRules_ReclaimedIDs verifies that an import writes no rules if its seq range is reserved for something else, as after a failover
// to a server that lost the reservation.
func TestImportRules_ReclaimedIDs(t *testing.T) {
	_, nodes, _, owner, _ := openTwoNodes(t)
	reserved, err := nodes[0].Reserve(t.Context(), 1)
	require.True(t, err == nil && reserved.First != 0, "Reserve(1) = %v, %v", reserved, err)
	prefix := require.Value(rules.ParsePrefix("https://a.example/", rules.Ordinary, false))(t)
	addHidden := func(seqs accounts.SeqRange) error {
		return nodes[0].UpdateRules(t.Context(), func(tx rules.Tx) error {
			r := rules.Rule{Owner: owner.AppID, Prefix: prefix, Kind: rules.Ordinary, CreatedAt: t0, UpdatedAt: t0}
			return tx.AddHidden(t.Context(), []rules.Rule{r}, rules.ChangeMeta{At: t0, Action: "add"}, seqs)
		})
	}
	for name, seqs := range map[string]accounts.SeqRange{
		"another change has the seq": {First: reserved.First, Last: reserved.Last, Hash: "another"},
		"no change has the seq":      {First: reserved.First + 1, Last: reserved.Last + 1, Hash: reserved.Hash},
	} {
		assert.ErrorIs(t, addHidden(seqs), accounts.ErrConflict, "%s", name)
	}
	assert.NoError(t, addHidden(reserved))
}

// TestImportRules_AuditChainVerified alters and deletes audit log entries of an import, which verification must find.
func TestImportRules_AuditChainVerified(t *testing.T) {
	target, nodes, b, _, owner := openTwoNodes(t)
	require.NoError(t, assert.ErrorOf(b[0].Import(t.Context(), newPlan(planSize, nil), false)))
	mustAddRule(t, b[0], owner, "https://after.example/")
	reserved := queryInt(t, nodes[0], `SELECT seq FROM changes WHERE kind = 'numbers'`)
	first := reserved - planSize
	conn := connectAdmin(t, target)
	for name, c := range map[string]struct {
		query string
		seq   int64 // of the first error, 0 for any
	}{
		"an entry is altered":        {fmt.Sprintf(`UPDATE changes SET actor = 'x' WHERE seq = %d`, reserved-5), reserved - 5},
		"an entry is deleted":        {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, reserved-5), reserved - 5},
		"the first is deleted":       {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, first), first},
		"the last is deleted":        {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, reserved-1), reserved - 1},
		"all are deleted":            {fmt.Sprintf(`DELETE FROM changes WHERE seq >= %d AND seq < %d`, first, reserved), first},
		"the reservation is altered": {fmt.Sprintf(`UPDATE changes SET kind = 'meta' WHERE seq = %d`, reserved), 0},
		"the reservation is deleted": {fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, reserved), 0},
		"the import is deleted":      {`DELETE FROM changes WHERE kind = 'import'`, reserved + 1},
		"the import is altered":      {`UPDATE changes SET key = '1-2' WHERE kind = 'import'`, reserved + 1},
	} {
		mustExecConn(t, conn, `CREATE TABLE kept AS SELECT * FROM changes`)
		mustExecConn(t, conn, c.query)
		result, err := nodes[0].VerifyChanges(t.Context())
		assert.True(t, err == nil && result.FirstError != nil && (c.seq <= 0 || result.FirstError.Seq == c.seq),
			"VerifyChanges() after %s = %+v, %v, want an error at %d", name, result.FirstError, err, c.seq)
		mustExecConn(t, conn, `TRUNCATE changes`)
		mustExecConn(t, conn, `INSERT INTO changes SELECT * FROM kept`)
		mustExecConn(t, conn, `DROP TABLE kept`)
	}
	checkStore(t, nodes[0])
}

// newAccountRows returns n rows of an import: pairs of a Mini Program and a service account that is linked to it.
func newAccountRows(n int) accounts.ImportRows {
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

// TestImportAccounts_DoesNotBlockOthers commits changes of other accounts while an import writes its accounts, which become visible
// together at the end.
func TestImportAccounts_DoesNotBlockOthers(t *testing.T) {
	target := newPostgres(t)
	nodes := [2]*Store{open(t, target), open(t, target)}
	ctx, second := t.Context(), newAccountService(t, nodes[1])
	put := func(appid, name string, linked ...string) error {
		kind := accounts.MiniProgram
		if len(linked) > 0 {
			kind = accounts.ServiceAccount
		}
		return second.Put(ctx, accounts.Registration{Account: accounts.Account{AppID: appid, Kind: kind, Name: name}, Linked: linked})
	}
	require.NoError(t, put("wxold", "old"))
	follows := newReplica(t, nodes[1])
	called := 0
	importRows := func(n int, f func()) (accounts.Imported, error) {
		called = 0
		return newAccountService(t, accountHooks{Store: nodes[0], beforeShow: func() {
			if called++; called == 1 {
				f()
			}
		}}).Import(ctx, newAccountRows(n), false)
	}
	const n = 2000
	done, err := importRows(n, func() {
		for _, err := range []error{put("wxnew", "new"), put("wxold", "changed"), put("wxservice", "s", "wxold")} {
			assert.NoErrorf(t, err, "a change of another account")
		}
		check(t, "accounts visible during the import", queryInt(t, nodes[1], `SELECT COUNT(*) FROM accounts`), 3)
		err := put("im7", "mine")
		assert.True(t, isLocked(err), "a change of an account of the import: error = %v, want a lock", err)
		catchUp(t, follows)
		checkStore(t, nodes[1])
	})
	if check(t, "import", done, accounts.Imported{Lines: n, Added: n}); err != nil || called != 1 {
		t.Fatal(called, err)
	}
	checkStore(t, nodes[1])
	catchUp(t, follows)
	for i := range n {
		appid := fmt.Sprintf("im%d", i)
		if _, found := follows.Accounts.Account(appid); !found || i%2 == 1 && !follows.Accounts.Linked(appid, fmt.Sprintf("im%d", i-1)) {
			t.Fatalf("account %s or its link is missing on the other node", appid)
		}
	}
	// A concurrent change of an account of the import, which is then checked again.
	done, err = importRows(2*n, func() { assert.NoError(t, put("im1", "changed", "im0", "wxold")) })
	check(t, "second import", done, accounts.Imported{Lines: 2 * n, Added: n, Changed: 1, Unchanged: n - 1})
	require.True(t, err == nil && called == 2, "second import: %d attempts, error = %v", called, err)
	checkStore(t, nodes[0])
}
