package store

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// keptOfAccount lists the tables whose rows an account keeps on reset. Its scans and their statistics are kept too: later batches and rules
// get new ids, so the kept data does not count for them.
var keptOfAccount = []string{"accounts", "code_counts", "code_scans", "gs1_links", "meta", "scan_keys"}

// EmptyAccount deletes the data of an account and its recorded calls; the account itself is kept. The emulator calls EmptyAccount to reset
// an account. After the commit, nodes that follow the audit log reload all data.
func (s *Store) EmptyAccount(ctx context.Context, appid string) error {
	return s.update(ctx, func(tx *Tx) error {
		if err := tx.LockRules(ctx); err != nil {
			return err
		}
		for {
			list, _, err := tx.rules().List(ctx, rules.Query{Owner: appid, Limit: 1000, NoTotal: true})
			if err != nil {
				return err
			}
			for _, r := range list {
				if err := tx.rules().DeleteRule(ctx, r, rules.ChangeMeta{At: s.keeping.clockNow(), Action: "delete"}); err != nil {
					return err
				}
			}
			if len(list) == 0 {
				break
			}
		}
		tx.touched.AddAll()
		// Other tables depend on the batches, which are deleted last.
		for _, batches := range []bool{false, true} {
			for _, table := range schema {
				if table.owned == "" || (table.name == "batches") != batches || slices.Contains(keptOfAccount, table.name) {
					continue
				}
				if err := tx.run(ctx, `DELETE FROM `+table.ownedBy([]string{appid}), appid); err != nil {
					return err
				}
			}
		}
		return tx.noteAfter(ctx, tx.clearCallTexts(ctx, appid), ofEmptied, appid, "reset", nil)
	})
}

// clearCallTexts replaces the lines of an account in the call log by empty lines. The empty lines stay in the log, so that the calls of
// other accounts keep their numbers.
func (t *Tx) clearCallTexts(ctx context.Context, appid string) error {
	type block struct {
		seq  int64
		text string
	}
	name, err := json.Marshal(appid)
	if err != nil {
		return err
	}
	subject := `,"account":` + string(name) + `,`
	for start := int64(0); ; {
		scan := scanner(func(b *block) []any { return []any{&b.seq, &b.text} })
		blocks, err := list(ctx, t, scan, `SELECT seq, text FROM call_blocks WHERE seq > $1 ORDER BY seq LIMIT 32`, start)
		if err != nil || len(blocks) == 0 {
			return err
		}
		for _, b := range blocks {
			start = b.seq
			if !strings.Contains(b.text, subject) {
				continue
			}
			var text strings.Builder
			for line := range strings.Lines(b.text) {
				if strings.Contains(line, subject) {
					line = "\n"
				}
				text.WriteString(line)
			}
			if _, err := t.exec(ctx, `UPDATE call_blocks SET text = $1 WHERE seq = $2`, text.String(), b.seq); err != nil {
				return err
			}
		}
	}
}
