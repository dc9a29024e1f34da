package store

import (
	"bytes"
	"context"
	goflag "flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var rewrite = goflag.Bool("update", false, "rewrite the tables of docs/en/handbook.md")

func TestEveryTableIsListed(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var listed []string
		for _, table := range schema {
			listed = append(listed, table.name)
		}
		// In the order of their names: they are looked up by it.
		want(t, "tables", listed, slices.Sorted(slices.Values(tables(t, s))))
	})
}

// aboutUsers are names of columns that could hold a user. Each such column is judged
// in the list.
var aboutUsers = regexp.MustCompile(`user|openid|member|sketch|body|request|response|query`)

func TestEveryColumnThatCouldHoldAUserIsJudged(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, table := range schema {
			var columns []string
			for _, c := range columnsOf(t, s, table.name) {
				name, _, _ := strings.Cut(c, " ")
				columns = append(columns, name)
				judged := slices.ContainsFunc(table.users, func(u userColumn) bool { return u.name == name })
				if aboutUsers.MatchString(name) && !judged {
					t.Errorf("%s.%s may say something of a user: judge it in tables.go", table.name, name)
				}
			}
			for _, u := range table.users {
				if !slices.Contains(columns, u.name) || u.account != "" && !slices.Contains(columns, u.account) {
					t.Errorf("%s has no columns %s and %s", table.name, u.name, u.account)
				}
				if (u.is == openID || u.is == openIDText) != (u.account != "") {
					t.Errorf("%s.%s: an openid has an account, and nothing else has", table.name, u.name)
				}
			}
		}
	})
}

// An erased user is in no table, but where the list says so.
func TestAnErasedUserIsInNoTable(t *testing.T) {
	const account, mine, hash = "wxa", "openid-of-the-erased", "0123456789abcdef0123456789abcdef"
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		for _, table := range schema {
			for _, u := range table.users {
				value := map[whatOfUsers]string{openID: mine, openIDText: "<xml>" + mine + "</xml>", userHash: hash}[u.is]
				if value == "" {
					continue
				}
				var names, values []string
				for _, c := range columnsOf(t, s, table.name) {
					name, kind, _ := strings.Cut(c, " ")
					is := "''"
					switch {
					case name == u.name:
						is = "'" + value + "'"
					case name == u.account:
						is = "'" + account + "'"
					case strings.EqualFold(kind, "bigint"):
						is = "1"
					}
					names, values = append(names, name), append(values, is)
				}
				if _, err := s.write.ExecContext(ctx, `INSERT INTO `+table.name+` (`+strings.Join(names, ", ")+`) VALUES (`+
					strings.Join(values, ", ")+`)`); err != nil {
					t.Fatal(err)
				}
			}
		}
		found := func() (where []string) {
			for _, table := range schema {
				for _, c := range columnsOf(t, s, table.name) {
					name, kind, _ := strings.Cut(c, " ")
					if strings.EqualFold(kind, "text") &&
						number(t, s, `SELECT COUNT(*) FROM `+table.name+` WHERE REPLACE(REPLACE(`+name+`, $1, ''), $2, '') <> `+name, mine,
							hash) > 0 {
						where = append(where, table.name+"."+name)
					}
				}
			}
			return where
		}
		want(t, "before", found(), []string{"code_scans.first_user", "followers.openid", "logins.openid", "messages.body",
			"scan_events.user_hash", "tickets.app_user_id"})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.EraseFirstScans(ctx, hash); err != nil {
				return err
			}
			return tx.EraseOpenIDs(ctx, func(of string) string {
				want(t, "account", of, account)
				return mine
			})
		})
		// The ledger erases its own.
		want(t, "after", found(), []string{"scan_events.user_hash"})
	})
}

func TestTheHandbookShowsTheTables(t *testing.T) {
	var b bytes.Buffer
	const file, begin = "../../docs/en/handbook.md", "| table | in an export, in the order of | reset of the emulator | of users |\n"
	b.WriteString("| --- | --- | --- | --- |\n")
	for _, table := range schema {
		order, reset, users := table.order, "emptied", []string{}
		if order == "" {
			order = "no export has it"
		}
		if table.kept {
			reset = "kept"
		}
		for _, u := range table.users {
			users = append(users, fmt.Sprintf("`%s`: %s", u.name, u.is))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", table.name, order, reset, strings.Join(users, "; "))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(text), begin)
	if !found {
		t.Fatal("the handbook does not end with the tables")
	}
	fresh := before + begin + b.String()
	if *rewrite {
		if err := os.WriteFile(file, []byte(fresh), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if fresh != string(text) {
		t.Error("the tables of docs/en/handbook.md are not those of tables.go: run the test with -update")
	}
}
