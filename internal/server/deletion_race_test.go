package server_test

import (
	"database/sql"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/qrjump/qrjump/internal/domain/auditlog"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/deleted_accounts.yaml
var deletionSeed string

const activationBody = `{"code_start":0,"code_end":9,"binding":{"activity_name":"a","product_brand":"b","product_title":"t",
	"product_code":"4006381333931","wxa_appid":"gone","wxa_path":"p"}}`

// accountBodies are the bodies that create the accounts again that a race has deleted.
var accountBodies = map[string]string{
	"gone": `{"kind":"mini_program","secret":"the-secret-of-gone","versions":["release"]}`,
	"sold": `{"kind":"service_account","secret":"the-secret-of-sold","certified":true,"features":["marketcode"],
		"marketcode_key":"a-16-byte-secret","linked":["kept"]}`,
}

// deletionRaces are calls that need an account, to run concurrently with the deletion of that account. call reports whether the server
// acknowledged the call, and returns the response body.
var deletionRaces = []struct {
	name, deleted string
	call          func(s *servertest.Server, token string, batch int64) (done bool, answer string)
}{
	{"qrcodejumpadd of a Mini Program", "gone", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return callWire(s, "/cgi-bin/wxopen/qrcodejumpadd", token,
			`{"prefix":"https://gone.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
	}},
	{"qrcodejumpadd of a service account", "sold", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return callWire(s, "/cgi-bin/wxopen/qrcodejumpadd", token,
			`{"prefix":"http://weixin.qq.com/q/sold","appid":"kept","path":"p","is_edit":0}`)
	}},
	{"applycode", "sold", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return callWire(s, "/intp/marketcode/applycode", token, `{"code_count":10000,"isv_application_id":"a"}`)
	}},
	{"a permanent QR code", "sold", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return callWire(s, "/cgi-bin/qrcode/create", token, `{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":7}}}`)
	}},
	{"an activation that opens it", "gone", func(s *servertest.Server, _ string, batch int64) (bool, string) {
		return callAdmin(s, "POST", fmt.Sprintf("/batches/%d/activations", batch), activationBody)
	}},
	{"a GS1 key", "gone", func(s *servertest.Server, _ string, _ int64) (bool, string) {
		return callAdmin(s, "PUT", "/gs1/links/01/09506000134352", `{"owner":"gone","wxa_path":"p","links":[]}`)
	}},
	{"a link", "gone", func(s *servertest.Server, _ string, _ int64) (bool, string) {
		return callAdmin(s, "PUT", "/accounts/sold/links/gone", "")
	}},
}

func callWire(s *servertest.Server, path, token, body string) (bool, string) {
	a, err := s.TrySend(s.Request("POST", path+"?access_token="+token, body))
	if err != nil {
		return false, err.Error()
	}
	var answer struct {
		ErrCode int `json:"errcode"`
	}
	return a.Status == 200 && json.Unmarshal([]byte(a.Body), &answer) == nil && answer.ErrCode == 0, a.Body
}

func callAdmin(s *servertest.Server, method, path, body string) (bool, string) {
	a, err := s.TrySend(s.Request(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json"))
	if err != nil {
		return false, err.Error()
	}
	return a.Status/100 == 2, a.Body
}

// waitForLocks blocks until at least this number of sessions of a database wait for locks.
func waitForLocks(t *testing.T, database string, sessions int64) {
	t.Helper()
	eventually(t, fmt.Sprint(sessions, " sessions wait for locks"), func() bool {
		return dbtest.QueryInt(t, database,
			`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= sessions
	})
}

// TestDeletionRaces_TwoNodes locks the head of the audit log, for which each change waits before its commit, so that a deletion and a call
// that needs the account overlap in either order. Only the earlier one may be acknowledged.
func TestDeletionRaces_TwoNodes(t *testing.T) {
	t.Parallel()
	for _, race := range deletionRaces {
		for _, deleteFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, deletion first %v", race.name, deleteFirst), func(t *testing.T) {
				t.Parallel()
				p := newPostgres(t)
				first := p.start(t, servertest.Options{Seed: deletionSeed})
				second := p.addNode(t).start(t, servertest.Options{})
				batch := first.Apply("brand", "b", 10_000)
				token := first.Token(race.deleted)

				db := require.Value(sql.Open("pgx", p.database))(t)
				defer db.Close()
				lock, err := db.BeginTx(t.Context(), nil)
				if err == nil {
					_, err = lock.Exec(`SELECT seq FROM audit_log_head WHERE id = 1 FOR UPDATE`)
				}
				require.NoError(t, err)
				defer lock.Rollback()
				var deleted, done bool
				var refusal, answer string
				calls := []func(){
					func() { deleted, refusal = callAdmin(first, "DELETE", "/accounts/"+race.deleted, "") },
					func() { done, answer = race.call(second, token, batch) },
				}
				if !deleteFirst {
					calls[0], calls[1] = calls[1], calls[0]
				}
				ended := make(chan struct{})
				for n, call := range calls {
					go func() {
						call()
						ended <- struct{}{}
					}()
					waitForLocks(t, p.database, int64(n+1))
				}
				require.NoError(t, lock.Rollback())
				<-ended
				<-ended
				if race.name == "a link" && !deleteFirst {
					if !done || !deleted { // a link goes with the account
						t.Errorf("linked %v (%s), deleted %v (%s), want both true", done, answer, deleted, refusal)
					}
				} else if strings.HasPrefix(race.name, "qrcodejumpadd") && !deleteFirst {
					// An add locks the head of the audit log before the account (decision 90): the deletion may come first.
					assert.True(t, deleted != done, "deleted %v (%s), added %v (%s), want one true", deleted, refusal, done, answer)
				} else if deleted != deleteFirst || done == deleteFirst {
					t.Errorf("deleted %v (%s), the call acknowledged %v (%s), want %v and %v", deleted, refusal, done, answer, deleteFirst,
						!deleteFirst)
				}
				checkNoOrphans(t, second)
			})
		}
	}
}

// TestDeletionRaces_OneNode runs a deletion and a call that needs the account concurrently. At most one may be acknowledged.
func TestDeletionRaces_OneNode(t *testing.T) {
	t.Parallel()
	for _, race := range deletionRaces {
		t.Run(race.name, func(t *testing.T) {
			t.Parallel()
			s := newSQLite(t).start(t, servertest.Options{Seed: deletionSeed})
			batch := s.Apply("brand", "b", 10_000)
			for range 20 {
				token := s.NewToken(race.deleted)
				var deleted, done bool
				begin, ended := make(chan struct{}), make(chan struct{})
				go func() {
					<-begin
					deleted, _ = callAdmin(s, "DELETE", "/accounts/"+race.deleted, "")
					ended <- struct{}{}
				}()
				go func() {
					<-begin
					done, _ = race.call(s, token, batch)
					ended <- struct{}{}
				}()
				close(begin)
				<-ended
				<-ended
				require.True(t, !deleted || !done || race.name == "a link", "both calls were acknowledged, want at most one")
				checkNoOrphans(t, s)
				if !deleted {
					return // the account stays, so that every later deletion fails
				}
				s.Admin("PUT", "/accounts/"+race.deleted, accountBodies[race.deleted])
			}
		})
	}
}

func checkNoOrphans(t *testing.T, s *servertest.Server) {
	t.Helper()
	verified := servertest.Decode[struct {
		Fault   any
		Orphans []any
	}](t, s.Admin("POST", "/audit/verify", ""))
	assert.True(t, verified.Fault == nil && len(verified.Orphans) == 0, "audit verify: %+v", verified)
}

// TestOrphans_Reported deletes account rows in the database and verifies that audit verify and the metrics report the orphans.
func TestOrphans_Reported(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		s := p.start(t, servertest.Options{Seed: deletionSeed})
		batch := s.Apply("brand", "b", 10_000)
		for _, call := range deletionRaces {
			done, answer := call.call(s, s.Token(call.deleted), batch)
			require.True(t, done, "%s: %s", call.name, answer)
		}
		checkNoOrphans(t, s)
		p.execSQL(t, `DELETE FROM accounts WHERE appid IN ('gone', 'sold')`)
		verified := servertest.Decode[struct{ Orphans []auditlog.Orphan }](t, s.Admin("POST", "/audit/verify", ""))
		want := []auditlog.Orphan{{Account: "sold", Kind: "applications", Count: 1}, {Account: "gone", Kind: "gs1_keys", Count: 1},
			{Account: "gone", Kind: "links", Count: 2}, {Account: "sold", Kind: "links", Count: 2},
			{Account: "gone", Kind: "rules", Count: 1}, {Account: "sold", Kind: "rules", Count: 1},
			{Account: "gone", Kind: "active_codes", Count: 10}}
		assert.True(t, slices.Equal(verified.Orphans, want), "orphans = %v, want %v", verified.Orphans, want)
		a := s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken)
		assert.True(t, strings.Contains(a.Body, "\nqrjump_orphans 7\n"), "metrics without qrjump_orphans 7: %d", a.Status)
	})
}
