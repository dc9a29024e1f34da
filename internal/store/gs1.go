package store

import (
	"context"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
)

// gs1Row is an entry for a GS1 key; root is the key's primary identification key, which is indexed for lookups.
type gs1Row struct {
	digitallink.Entry
	root string
}

var gs1Rows = mapper[gs1Row]{table: "gs1_links", key: "key",
	columns: "key, root, owner, app, page, links, archived, updated_at",
	targets: func(r *gs1Row) []any {
		return []any{&r.Key, &r.root, &r.Owner, &r.App, &r.Page, inJSON(&r.Links), &r.Archived, moment{&r.At}}
	}}

// GS1 begins transactions on GS1 links.
func (s *Store) GS1() accounts.Transactions[digitallink.Tx] {
	return transactions[digitallink.Tx]{s, func(tx *Tx) digitallink.Tx { return tx.gs1() }}
}

func (t gs1Queries) LockGS1(ctx context.Context, root string) error {
	if root == "" {
		return t.lock(ctx, allGS1, "")
	}
	return t.lock(ctx, allGS1, "gs1 "+root)
}

func scanGS1(scan func(...any) error) (digitallink.Entry, error) {
	var row gs1Row
	err := scan(append(gs1Rows.targets(&row), &row.Number)...)
	return row.Entry, err
}

// selectGS1 returns the start of a query, up to FROM gs1_links g, whose rows scanGS1 reads as entries with their numbers.
func (t gs1Queries) selectGS1() string {
	return `SELECT ` + gs1Rows.columns + `, ` + t.gs1Number() + ` FROM gs1_links g `
}

// gs1Number returns SQL for the number of the GS1 key in row g: the sequence number of the first change in the audit log in which the key's
// current owner stored the key. The number does not depend on the key's links, and changes when another owner stores the key. The number is
// not stored in a column: older programs would leave the column empty.
func (t gs1Queries) gs1Number() string {
	return `COALESCE((SELECT MIN(h.seq) FROM changes h WHERE h.kind = '` + ofGS1 + `' AND h.key = g.key AND h.action = 'put' AND ` +
		t.statistics().loggedOwner() + ` = g.owner), 0)`
}

func (t gs1Queries) GS1At(ctx context.Context, keys []string) (found []digitallink.Entry, err error) {
	return listAt(ctx, t.Tx, scanGS1, t.selectGS1()+`WHERE key IN`, ``, keys)
}

func (t gs1Queries) GS1Find(ctx context.Context, q digitallink.Query) ([]digitallink.Entry, error) {
	var w criteria
	w.and(`key > ?`, q.After)
	w.andIf(q.Under != "", `(key = ? OR key >= ? AND key < ?)`, q.Under, q.Under+"/", q.Under+"0") // "0" follows "/"
	andIn(&w, t.Tx, `owner IN (?)`, q.Owners)
	query := t.selectGS1() + w.String() + ` ORDER BY key`
	if q.Limit > 0 {
		query += ` LIMIT ` + w.bind(q.Limit)
	}
	return list(ctx, t.Tx, scanGS1, query, w.args...)
}

func (t gs1Queries) GS1Owners(ctx context.Context, roots []string) (map[string]map[string]int, error) {
	type keyCount struct {
		root, owner string
		keys        int
	}
	scan := scanner(func(h *keyCount) []any { return []any{&h.root, &h.owner, &h.keys} })
	counts, err := listAt(ctx, t.Tx, scan, `SELECT root, owner, COUNT(*) FROM gs1_links WHERE root IN`, ` GROUP BY root, owner`, roots)
	found := map[string]map[string]int{}
	for _, h := range counts {
		if found[h.root] == nil {
			found[h.root] = map[string]int{}
		}
		found[h.root][h.owner] = h.keys
	}
	return found, err
}

// rootOf returns the primary key of a GS1 key, for example 01/09506000134352 for 01/09506000134352/10/LOT.
func rootOf(key string) string {
	ai, rest, _ := strings.Cut(key, "/")
	value, _, _ := strings.Cut(rest, "/")
	return ai + "/" + value
}

func (t gs1Queries) PutGS1(ctx context.Context, list ...digitallink.Entry) error {
	rows := make([]gs1Row, len(list))
	for i, e := range list {
		if e.Links == nil {
			e.Links = []digitallink.Link{}
		}
		rows[i] = gs1Row{e, rootOf(e.Key)}
	}
	if err := gs1Rows.putAll(ctx, t.Tx, rows); err != nil {
		return err
	}
	return forEach(slices.Values(rows), func(row gs1Row) error { return t.note(ctx, ofGS1, row.Key, "put", row.Entry) })
}

func (t gs1Queries) DeleteGS1(ctx context.Context, e digitallink.Entry) error {
	err := t.run(ctx, `DELETE FROM gs1_links WHERE key = $1`, e.Key)
	return t.noteAfter(ctx, err, ofGS1, e.Key, "delete", e)
}
