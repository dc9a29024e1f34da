package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

func verifyChanges(t *testing.T, s *Store) auditlog.Checked {
	t.Helper()
	return require.Value(s.VerifyChanges(t.Context()))(t)
}

// checkAuditLog reports an error if the audit log does not verify.
func checkAuditLog(t *testing.T, s *Store) {
	t.Helper()
	result := verifyChanges(t, s)
	assert.True(t, result.FirstError == nil, "VerifyChanges() = %+v, want no error", result.FirstError)
}

// writeAllChanges commits changes of every kind.
func writeAllChanges(t *testing.T, s *Store) {
	t.Helper()
	ctx := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "wxa", Via: "wxc", RID: "rid-1"})
	for n := range 4 {
		addRules(t, s, newRule(t, "wxa", fmt.Sprintf("https://h%d.example/", n)))
	}
	require.NoError(t, s.InTx(ctx, func(s *Store) error {
		if err := s.PutMeta(ctx, "settings", `{"rule_rate_limit":7}`); err != nil {
			return err
		}
		if err := s.PutSeeded(ctx, "seed", t0); err != nil {
			return err
		}
		if err := s.PutScanKey(ctx, accounts.ScanKey{Hash: "h", Name: "app", Namespace: "n"}); err != nil {
			return err
		}
		return s.update(ctx, func(tx *Tx) error {
			for _, f := range []func() error{
				func() error { return tx.accounts().PutAccount(ctx, newFilled[accounts.Account](t)) },
				func() error {
					return tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount})
				},
				func() error {
					return tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxs", Kind: accounts.ServiceAccount, SecretHash: "new",
						Pages: []string{}, Options: map[string]string{}})
				},
				func() error { return tx.accounts().PutAccount(ctx, accounts.Account{AppID: "wxgone"}) },
				func() error { return tx.accounts().DeleteAccount(ctx, "wxgone") },
				func() error { return tx.accounts().PutLink(ctx, "wxs", "wxm", t0) },
				func() error {
					return tx.accounts().SaveLink(ctx, accounts.Link{Service: "wxs", MiniProgram: "wxm", Status: accounts.LinkRefused})
				},
				func() error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") },
				func() error {
					return tx.accounts().PutComponent(ctx, accounts.Component{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxs"}}})
				},
				func() error { return tx.accounts().DeleteGrant(ctx, "wxc", "wxs") },
				func() error { return tx.rules().PutDomain(ctx, rules.Domain{Host: "h", Status: rules.Denied}) },
				func() error { return tx.rules().DeleteDomain(ctx, "h") },
				func() error {
					return tx.accounts().AddQRCode(ctx, accounts.QRCode{Code: "02x", Ticket: "t", Account: "wxs",
						Action: accounts.QRTextForEver,
						Scene:  "s"})
				},
			} {
				if err := f(); err != nil {
					return err
				}
			}
			b, err := tx.codes().AddBatch(ctx, codes.Batch{Account: "wxs", Count: 100, Version: '0'})
			if err != nil {
				return err
			}
			for n := range int64(4) {
				if _, err := tx.codes().AddEvent(ctx, codes.Event{Batch: b.ID, Action: codes.Freeze,
					Codes: codes.NewSet(codes.Range{From: n, To: n + 3}), OccurredAt: t0, From: t0, Note: "n"}); err != nil {
					return err
				}
			}
			found, err := tx.rules().RulesAt(ctx, []string{"https://h0.example/", "https://h1.example/"})
			if err != nil {
				return err
			}
			for i, r := range found {
				r.Path = fmt.Sprint(i)
				if err := tx.rules().PutRule(ctx, r, rules.ChangeMeta{At: t0, Action: "edit"}); err != nil {
					return err
				}
			}
			return tx.rules().DeleteRule(ctx, found[0], rules.ChangeMeta{At: t0, Action: "delete"})
		})
	}))
	require.NoError(t, s.DeleteScanKey(ctx, "app"))
}

// TestAuditChain_AlteredByte alters a byte in a random column of a random row of the audit log, its head and the code events. Verification
// must find each alteration, and name the altered change. AUDIT_TRIALS sets the number of alterations.
func TestAuditChain_AlteredByte(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		s.ConfigureChangeLog(nil, func(text string) string { return keeping{}.hash("a key" + text) })
		writeAllChanges(t, s)
		done := verifyChanges(t, s)
		require.True(t, done.FirstError == nil && done.Changes >= 25, "VerifyChanges() = %+v, %v, want 25 changes", done, done.FirstError)
		random := rand.New(rand.NewPCG(uint64(t0.Unix()), 1))
		tables := []struct{ table, key string }{{"changes", "seq"}, {"changes", "seq"}, {"changes", "seq"}, {"changes", "seq"},
			{"audit_log_head", "id"}, {"code_events", "seq"}}
		trials := testscope.Select(1000, 300)
		if s.Engine() == "postgres" {
			trials = testscope.Select(200, 40)
		}
		if text := os.Getenv("AUDIT_TRIALS"); text != "" {
			trials = require.Value(strconv.Atoi(text))(t)
		}
		found := 0
		for n := 0; found < trials; n++ {
			row := tables[random.IntN(len(tables))]
			ids := queryColumn[string](t, s, `SELECT CAST(`+row.key+` AS TEXT) FROM `+row.table)
			id := ids[random.IntN(len(ids))]
			columns := listColumns(t, s, row.table)
			column, kind, _ := strings.Cut(columns[random.IntN(len(columns))], " ")
			old := queryColumn[string](t, s, `SELECT CAST(`+column+` AS TEXT) FROM `+row.table+` WHERE CAST(`+row.key+` AS TEXT) = $1`,
				id)[0]
			altered := mutate(random, old, strings.EqualFold(kind, "bigint"))
			set := `UPDATE ` + row.table + ` SET ` + column + ` = $1 WHERE CAST(` + row.key + ` AS TEXT) = $2`
			value := func(text string) any {
				if !strings.EqualFold(kind, "bigint") {
					return text
				}
				return require.Value(strconv.ParseInt(text, 10, 64))(t)
			}
			newID := id
			if column == row.key {
				if newID = altered; slices.Contains(ids, altered) {
					continue // the primary key is unique
				}
			}
			mustExec(t, s, set, value(altered), id)
			done, err := s.VerifyChanges(t.Context())
			switch {
			case err != nil:
				t.Fatalf("trial %d: %s.%s of %s: %v", n, row.table, column, id, err)
			case done.FirstError == nil:
				t.Errorf("trial %d: VerifyChanges() finds no error after %s.%s of %s changed from %q to %q", n, row.table, column, id, old,
					altered)
			case row.table == "changes" && column != "seq" && fmt.Sprint(done.FirstError.Seq) != id:
				t.Errorf("trial %d: after a change of %s of %s, VerifyChanges() finds the error at %d: %s", n, column, id,
					done.FirstError.Seq, done.FirstError.Text)
			}
			found++
			mustExec(t, s, set, value(old), newID)
		}
		done = verifyChanges(t, s)
		require.True(t, done.FirstError == nil, "VerifyChanges() = %+v after all alterations are undone", done.FirstError)
		t.Log("alterations found:", found)
	})
}

// mutate changes, inserts or removes one byte.
func mutate(random *rand.Rand, old string, number bool) string {
	for {
		b := []byte(old)
		i := random.IntN(len(b) + 1)
		letter := byte(' ' + random.IntN(95))
		if number {
			letter = byte('0' + random.IntN(10))
		}
		switch {
		case i < len(b) && b[i] < 0x80 && random.IntN(3) > 0:
			b[i] = letter
		case i < len(b) && b[i] < 0x80 && random.IntN(2) > 0:
			b = slices.Delete(b, i, i+1)
		case i == len(b) || b[i] < 0x80:
			b = slices.Insert(b, i, letter)
		}
		text := string(b)
		if number {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				continue
			}
			text = strconv.FormatInt(n, 10)
		}
		if text != old {
			return text
		}
	}
}

func TestAuditChain_RowsRemovedSwappedAdded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		writeAllChanges(t, s)
		last := verifyChanges(t, s).Seq
		copyChange := func(seq string) string {
			return `INSERT INTO changes SELECT ` + seq + `, occurred_at, kind, key, actor, via_component, rid, action, detail, hash FROM changes WHERE seq = `
		}
		for name, c := range map[string]struct {
			queries []string
			want    string
		}{
			"a change is deleted":        {[]string{`DELETE FROM changes WHERE seq = 7`}, "change 7: it is missing"},
			"the first is deleted":       {[]string{`DELETE FROM changes WHERE seq = 1`}, "change 2: it is not the first change of a log"},
			"the first ones are deleted": {[]string{`DELETE FROM changes WHERE seq < 9`}, "change 9: it is not the first change of a log"},
			"the last is deleted": {[]string{`DELETE FROM changes WHERE seq = (SELECT seq FROM audit_log_head)`},
				fmt.Sprintf("change %d: it is missing", last)},
			"the last ones are deleted": {[]string{`DELETE FROM changes WHERE seq > 9`}, "change 10: it is missing"},
			"the last ones are deleted and the seq of the head is changed": {[]string{`DELETE FROM changes WHERE seq > 9`,
				`UPDATE audit_log_head SET seq = 9`}, "change 9: it is not the recorded last"},
			"all are deleted":     {[]string{`DELETE FROM changes`}, "change 1: it is missing"},
			"the head is deleted": {[]string{`DELETE FROM audit_log_head`}, "the row with the head of the audit log is missing"},
			"two are swapped": {[]string{`UPDATE changes SET seq = 1000 WHERE seq = 5`, `UPDATE changes SET seq = 5 WHERE seq = 6`,
				`UPDATE changes SET seq = 6 WHERE seq = 1000`}, "change 5: it or its position"},
			"one is repeated": {[]string{copyChange("(SELECT seq + 1 FROM audit_log_head)") + `5`}, "it or its position"},
			"a rule is changed": {[]string{`UPDATE rules SET path = 'evil' WHERE key = 'https://h2.example/'`},
				"change 3: the rule https://h2.example/ differs"},
			"a rule is deleted": {[]string{`DELETE FROM rules WHERE key = 'https://h2.example/'`},
				"change 3: the rule https://h2.example/ is missing"},
			"a rule is added": {[]string{`INSERT INTO rules SELECT 999, 'https://new.example/', kind, owner, target, 'https://new.example/',
				path, occupy, open_version, test_links, published, created_at, updated_at, published_at, host, segment, link_path FROM rules
				WHERE key = 'https://h2.example/'`}, "the rule https://new.example/ is not in the audit log"},
			"an account is changed":     {[]string{`UPDATE accounts SET certified = 1 WHERE appid = 'wxs'`}, "the account wxs differs"},
			"an account is deleted":     {[]string{`DELETE FROM accounts WHERE appid = 'wxs'`}, "the account wxs is missing"},
			"an event is deleted":       {[]string{`DELETE FROM code_events WHERE seq = 2`}, "the code event 2"},
			"the last event is deleted": {[]string{`DELETE FROM code_events WHERE seq = 4`}, "the code event 4"},
			"an event is added": {[]string{`INSERT INTO code_events SELECT 5, batch, action, first_idx, last_idx, codes, binding, occurred_at,
				from_at, actor, rid, note FROM code_events WHERE seq = 1`}, "the code event 5 is not in the audit log"},
			"the hash of the head is changed": {[]string{`UPDATE audit_log_head SET hash = ''`}, "it is not the recorded last change"},
		} {
			before := exportTables(t, s)
			for _, q := range c.queries {
				mustExec(t, s, q)
			}
			done := verifyChanges(t, s)
			assert.True(t, done.FirstError != nil && strings.Contains(done.FirstError.Error(), c.want),
				"%s: VerifyChanges() = %v, want %s", name, done.FirstError, c.want)
			for table := range before {
				mustExec(t, s, `DELETE FROM `+table)
			}
			mustExec(t, s, `DELETE FROM sealing_keys`)
			require.NoErrorf(t, loadTables(t, s, before), "%v", name)
			done = verifyChanges(t, s)
			require.True(t, done.FirstError == nil, "VerifyChanges() = %v after the tables are restored", done.FirstError)
		}
	})
}

// TestAuditChain_ForgedWithoutKey computes all hashes of the chain again without the key, as a thief of the database could.
func TestAuditChain_ForgedWithoutKey(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		s.ConfigureChangeLog(nil, func(text string) string { return keeping{}.hash("a key" + text) })
		writeAllChanges(t, s)
		forger := &Store{database: &database{write: s.write, read: s.read, engine: s.engine}}
		require.NoError(t, forger.update(t.Context(), func(tx *Tx) error {
			ctx, before := t.Context(), ""
			all, err := list(ctx, tx, scanChange, `SELECT `+changeColumns+` FROM changes ORDER BY seq`)
			if err != nil {
				return err
			}
			for _, c := range all {
				before = tx.keeping.hash(c.text(before))
				if _, err := tx.exec(ctx, `UPDATE changes SET hash = $1 WHERE seq = $2`, before, c.seq); err != nil {
					return err
				}
			}
			_, err = tx.exec(ctx, `UPDATE audit_log_head SET hash = $1`, before)
			return err
		}))
		checkAuditLog(t, forger)
		done := verifyChanges(t, s)
		assert.True(t, done.FirstError != nil && done.FirstError.Seq == 1, "VerifyChanges() = %+v, want an error at 1", done)
	})
}

func TestAuditChain_RestartsOnReset(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		writeAllChanges(t, s)
		before := verifyChanges(t, s)
		require.NoError(t, s.Reset(t.Context()))
		writeAllChanges(t, s)
		done := verifyChanges(t, s)
		assert.True(t, done.FirstError == nil && done.FirstSeq == before.Seq+1,
			"VerifyChanges() = %+v, want FirstSeq %d", done, before.Seq+1)
	})
}
