package store

import (
	"bytes"
	"cmp"
	"context"
	goflag "flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var updateHandbooks = goflag.Bool("update", false, "rewrite the tables of both handbooks")

func TestTables_AllListed(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		var listed []string
		for _, table := range schema {
			listed = append(listed, table.name)
		}
		check(t, "listed tables", slices.Sorted(slices.Values(listed)), slices.Sorted(slices.Values(tableNames(t, s))))
	})
}

// userColumnNames matches names of columns that could hold data of a user. Each such column must be classified in the list.
var userColumnNames = regexp.MustCompile(`user|openid|member|sketch|body|request|response|query`)

func TestTables_UserColumnsClassified(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, table := range schema {
			var columns []string
			for _, c := range listColumns(t, s, table.name) {
				name, _, _ := strings.Cut(c, " ")
				columns = append(columns, name)
				classified := slices.ContainsFunc(table.users, func(u userColumn) bool { return u.name == name })
				assert.True(t, !userColumnNames.MatchString(name) || classified,
					"column %s.%s may hold data of a user and is not classified in tables.go", table.name, name)
			}
			for _, u := range table.users {
				assert.True(t, slices.Contains(columns, u.name) && (u.account == "" || slices.Contains(columns, u.account)),
					"table %s has no columns %s and %s", table.name, u.name, u.account)
				assert.Equal(t, (u.is == openID || u.is == openIDText), (u.account != ""),
					"column %s.%s holds an OpenID, and has an account column:", table.name, u.name)
			}
		}
	})
}

// TestEraseUser_NoTableHoldsUser verifies that an erased user is in no table except for the scan log, which erases its own users.
func TestEraseUser_NoTableHoldsUser(t *testing.T) {
	const account, user, hash = "wxa", "openid-of-the-erased", "0123456789abcdef0123456789abcdef"
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, table := range schema {
			for _, u := range table.users {
				value := map[erasureAction]string{openID: user, openIDText: "<xml>" + user + "</xml>", userHash: hash}[u.is]
				if value == "" {
					continue
				}
				var names, values []string
				for _, c := range listColumns(t, s, table.name) {
					name, kind, _ := strings.Cut(c, " ")
					literal := "''"
					switch {
					case name == u.name:
						literal = "'" + value + "'"
					case name == u.account:
						literal = "'" + account + "'"
					case strings.EqualFold(kind, "bigint"):
						literal = "1"
					}
					names, values = append(names, name), append(values, literal)
				}
				mustExec(t, s, `INSERT INTO `+table.name+` (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(values, ", ")+`)`)
			}
		}
		columnsWithUser := func() (columns []string) {
			for _, table := range schema {
				for _, c := range listColumns(t, s, table.name) {
					name, kind, _ := strings.Cut(c, " ")
					query := `SELECT COUNT(*) FROM ` + table.name + ` WHERE REPLACE(REPLACE(` + name + `, $1, ''), $2, '') <> ` + name
					if strings.EqualFold(kind, "text") && queryInt(t, s, query, user, hash) > 0 {
						columns = append(columns, table.name+"."+name)
					}
				}
			}
			return columns
		}
		check(t, "columns with the user before", columnsWithUser(),
			[]string{"code_scans.first_user", "followers.openid", "logins.openid", "messages.body",
				"scan_events.user_hash", "tickets.app_user_id"})
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.codes().EraseFirstScans(ctx, hash); err != nil {
				return err
			}
			return tx.codes().EraseOpenIDs(ctx, func(appid string) string {
				check(t, "account", appid, account)
				return user
			})
		})
		check(t, "columns with the user after", columnsWithUser(), []string{"scan_events.user_hash"})
	})
}

// handbooks are the documents that end with the list of tables, and the terms of each language.
var handbooks = []struct {
	file, head, noExport, emptied, kept, colon, semicolon string
	users                                                 map[erasureAction]string
}{
	{file: "../../docs/en/handbook.md", head: "| table | in an export, in the order of | reset of the emulator | of users |",
		noExport: "no export has it", emptied: "emptied", kept: "kept", colon: ": ", semicolon: "; "},
	{file: "../../docs/zh/handbook.md", head: "| 表 | 导出中的顺序 | 模拟器重置 | 用户信息 |",
		noExport: "不导出", emptied: "清空", kept: "保留", colon: "：", semicolon: "；", users: map[erasureAction]string{
			openID: "openid，删除该行", openIDText: "含有 openid 的内容，删除该行", userHash: "用户的哈希，清空",
			erasedHash: "已抹除用户的哈希，使之后到达的扫码同样匿名", noUser: "与用户无关：数字、标志、草图，或不含用户的扫码",
			testers: "该账号的成员", aged: "调用的内容，七天后删除", received: "接收方返回的内容，随该行保留",
			saved: "保存的内容：请删除快照，或在载入后再次抹除"}},
}

func TestTables_HandbookUpToDate(t *testing.T) {
	for _, handbook := range handbooks {
		var b bytes.Buffer
		b.WriteString(handbook.head + "\n| --- | --- | --- | --- |\n")
		for _, table := range schema {
			order, reset, users := cmp.Or(table.order, handbook.noExport), handbook.emptied, []string{}
			if table.keptOnReset {
				reset = handbook.kept
			}
			for _, u := range table.users {
				action := string(u.is)
				if handbook.users != nil {
					action = handbook.users[u.is]
				}
				require.True(t, action != "", "%s has no translation of %q", handbook.file, u.is)
				users = append(users, "`"+u.name+"`"+handbook.colon+action)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", table.name, order, reset, strings.Join(users, handbook.semicolon))
		}
		text := require.Value(os.ReadFile(handbook.file))(t)
		before, _, found := strings.Cut(string(text), handbook.head+"\n")
		require.True(t, found, "%s does not end with the list of tables", handbook.file)
		fresh := before + b.String()
		if *updateHandbooks {
			require.NoError(t, os.WriteFile(handbook.file, []byte(fresh), 0o600))
		} else if fresh != string(text) {
			t.Errorf("the tables of %s differ from those of tables.go: run the test with -update", handbook.file)
		}
	}
}
