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

var rewrite = goflag.Bool("update", false, "rewrite the tables of both handbooks")

func TestTables_AllListed(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var listed []string
		for _, table := range schema {
			listed = append(listed, table.name)
		}
		want(t, "tables", slices.Sorted(slices.Values(listed)), slices.Sorted(slices.Values(tables(t, s))))
	})
}

// aboutUsers are names of columns that could hold a user. Each such column is judged in the list.
var aboutUsers = regexp.MustCompile(`user|openid|member|sketch|body|request|response|query`)

func TestTables_UserColumnsClassified(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, table := range schema {
			var columns []string
			for _, c := range columnsOf(t, s, table.name) {
				name, _, _ := strings.Cut(c, " ")
				columns = append(columns, name)
				judged := slices.ContainsFunc(table.users, func(u userColumn) bool { return u.name == name })
				assert.True(t, !aboutUsers.MatchString(name) || judged,
					"%s.%s may say something of a user: judge it in tables.go", table.name, name)
			}
			for _, u := range table.users {
				assert.True(t, slices.Contains(columns, u.name) && (u.account == "" || slices.Contains(columns, u.account)),
					"%s has no columns %s and %s", table.name, u.name, u.account)
				assert.Equal(t, (u.is == openID || u.is == openIDText), (u.account != ""), "%s.%s", table.name, u.name)
			}
		}
	})
}

// An erased user is in no table, but where the list says so.
func TestEraseUser_NoTableHoldsUser(t *testing.T) {
	const account, mine, hash = "wxa", "openid-of-the-erased", "0123456789abcdef0123456789abcdef"
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		for _, table := range schema {
			for _, u := range table.users {
				value := map[erasureAction]string{openID: mine, openIDText: "<xml>" + mine + "</xml>", userHash: hash}[u.is]
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
				_, err := s.write.ExecContext(ctx, `INSERT INTO `+table.name+` (`+strings.Join(names, ", ")+`) VALUES (`+
					strings.Join(values, ", ")+`)`)
				require.NoError(t, err)
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
			if err := tx.codes().EraseFirstScans(ctx, hash); err != nil {
				return err
			}
			return tx.codes().EraseOpenIDs(ctx, func(of string) string {
				want(t, "account", of, account)
				return mine
			})
		})
		// The ledger erases its own.
		want(t, "after", found(), []string{"scan_events.user_hash"})
	})
}

// handbooks are the pages that end with the tables, with the words of each language.
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
	for _, service := range handbooks {
		var b bytes.Buffer
		b.WriteString(service.head + "\n| --- | --- | --- | --- |\n")
		for _, table := range schema {
			order, reset, users := cmp.Or(table.order, service.noExport), service.emptied, []string{}
			if table.keptOnReset {
				reset = service.kept
			}
			for _, u := range table.users {
				is := string(u.is)
				if service.users != nil {
					is = service.users[u.is]
				}
				require.True(t, is != "", "%s has no word for %q", service.file, u.is)
				users = append(users, "`"+u.name+"`"+service.colon+is)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", table.name, order, reset, strings.Join(users, service.semicolon))
		}
		text, err := os.ReadFile(service.file)
		require.NoError(t, err)
		before, _, found := strings.Cut(string(text), service.head+"\n")
		require.True(t, found, "%s does not end with the tables", service.file)
		fresh := before + b.String()
		if *rewrite {
			require.NoError(t, os.WriteFile(service.file, []byte(fresh), 0o600))
		} else if fresh != string(text) {
			t.Errorf("the tables of %s are not those of tables.go: run the test with -update", service.file)
		}
	}
}
