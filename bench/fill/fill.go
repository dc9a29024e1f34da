// Package fill inserts generated rules directly into a database that qrjump has created: ten million rules
// in minutes.
package fill

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"

	_ "github.com/mattn/go-sqlite3" // twice as fast as the pure Go driver for bulk inserts

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Template is the seed file that the data folder must be created with: an account and a rule whose rows serve as
// templates.
const Template = `accounts:
  - {appid: wxbenchtemplate01, kind: mini_program, name: Bench, secret: bench-secret0001, certified: true, versions: [release]}
rules:
  - {owner: wxbenchtemplate01, prefix: "https://template.bench.example/t/", path: pages/index/index, published: true}
`

const templateApp = "wxbenchtemplate01"

// SQLite fills the embedded database of a data folder that was created with the seed Template. No other process may have
// the database open.
func SQLite(data string, set *rulegen.Set) (err error) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(data, "qrjump.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // pragmas apply to a connection
	// A crash loses only a database that can be filled again.
	for _, pragma := range []string{"journal_mode = DELETE", "journal_mode = OFF", "synchronous = OFF", "cache_size = -4000000", "temp_store = MEMORY", "threads = 2"} {
		if _, err := db.Exec("PRAGMA " + pragma); err != nil {
			return err
		}
	}
	if err := accounts(db, set.Apps()); err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	if err := fillRules(db, set); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	_, err = db.Exec("PRAGMA journal_mode = WAL")
	return err
}

// columns are the columns of a table with the values of the template row.
type columns struct {
	names  []string
	values []any
}

// template reads the template row; columns that this package does not set keep its values.
func template(db *sql.DB, table, where string) (c columns, err error) {
	rows, err := db.Query("SELECT * FROM " + table + " WHERE " + where)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	if c.names, err = rows.Columns(); err != nil {
		return c, err
	}
	if !rows.Next() {
		return c, fmt.Errorf("%s has no row %s: the folder was not created with the seed Template", table, where)
	}
	c.values = make([]any, len(c.names))
	into := make([]any, len(c.names))
	for i := range into {
		into[i] = &c.values[i]
	}
	return c, rows.Scan(into...)
}

// index returns the index of a column, -1 = none.
func (c columns) index(name string) int {
	for i, n := range c.names {
		if n == name {
			return i
		}
	}
	return -1
}

func (c columns) insert(table string) string {
	return "INSERT INTO " + table + " (" + strings.Join(c.names, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(c.names)-1) + ")"
}

func accounts(db *sql.DB, apps int) error {
	c, err := template(db, "accounts", "appid = '"+templateApp+"'")
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	insert, err := tx.Prepare(c.insert("accounts"))
	if err != nil {
		return err
	}
	appid := c.index("appid")
	for i := range apps {
		c.values[appid] = rulegen.AppID(i)
		if _, err := insert.Exec(c.values...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func fillRules(db *sql.DB, set *rulegen.Set) error {
	c, err := template(db, "rules", "owner = '"+templateApp+"'")
	if err != nil {
		return err
	}
	// Indexes are created at the end, from sorted rows.
	indexes, err := texts(db, "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'rules' AND sql IS NOT NULL")
	if err != nil {
		return err
	}
	names, err := texts(db, "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'rules' AND sql IS NOT NULL")
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := db.Exec("DROP INDEX " + name); err != nil {
			return err
		}
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec("DELETE FROM rules WHERE owner = '" + templateApp + "'"); err != nil {
		return err
	}
	insert, err := tx.Prepare(c.insert("rules"))
	if err != nil {
		return err
	}
	// Ids far from those of rules that are added later.
	const first = 1_000_000_000
	var id, key, owner, target, prefix, path, published, publishedAt, host, segment, linkPath = c.index("id"), c.index("key"),
		c.index("owner"), c.index("target"), c.index("prefix"), c.index("path"), c.index("published"), c.index("published_at"),
		c.index("host"), c.index("segment"), c.index("link_path")
	publishedTime := c.values[publishedAt]
	for r := range set.All() {
		link, ok := rules.ParseLink(r.Prefix)
		if !ok {
			return fmt.Errorf("%s is no link", r.Prefix)
		}
		app := rulegen.AppID(r.Owner)
		c.values[id], c.values[key], c.values[owner], c.values[target] = first+int64(r.Number)+1, link.Key, app, app
		c.values[prefix], c.values[path] = r.Prefix, r.Page
		c.values[host], c.values[segment], c.values[linkPath] = link.Host, link.Segment(), link.Path()
		c.values[published], c.values[publishedAt] = 1, publishedTime
		if !r.Published {
			c.values[published], c.values[publishedAt] = 0, 0
		}
		if _, err := insert.Exec(c.values...); err != nil {
			return fmt.Errorf("%s: %w", r.Prefix, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for _, text := range indexes {
		if _, err := db.Exec(text); err != nil {
			return err
		}
	}
	return nil
}

func texts(db *sql.DB, query string) ([]string, error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, rows.Err()
}
