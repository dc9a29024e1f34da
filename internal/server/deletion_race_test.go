package server_test

import (
	"database/sql"
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
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
var fleeting string

const activationOfGone = `{"code_start":0,"code_end":9,"binding":{"activity_name":"a","product_brand":"b","product_title":"t",
	"product_code":"4006381333931","wxa_appid":"gone","wxa_path":"p"}}`

// again are the accounts that races delete, to be made once more.
var again = map[string]string{
	"gone": `{"kind":"mini_program","secret":"the-secret-of-gone","versions":["release"]}`,
	"sold": `{"kind":"service_account","secret":"the-secret-of-sold","certified":true,"features":["marketcode"],
		"marketcode_key":"a-16-byte-secret","linked":["kept"]}`,
}

// deletionRaces are the calls that need an account, beside DELETE of that account.
var deletionRaces = []struct {
	name, deleted string
	call          func(s *servertest.Server, token string, batch int64) (done bool, answer string)
}{
	{"qrcodejumpadd of a Mini Program", "gone", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return acknowledged(s, "/cgi-bin/wxopen/qrcodejumpadd", token,
			`{"prefix":"https://gone.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
	}},
	{"qrcodejumpadd of a service account", "sold", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return acknowledged(s, "/cgi-bin/wxopen/qrcodejumpadd", token,
			`{"prefix":"http://weixin.qq.com/q/sold","appid":"kept","path":"p","is_edit":0}`)
	}},
	{"applycode", "sold", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return acknowledged(s, "/intp/marketcode/applycode", token, `{"code_count":10000,"isv_application_id":"a"}`)
	}},
	{"a permanent QR code", "sold", func(s *servertest.Server, token string, _ int64) (bool, string) {
		return acknowledged(s, "/cgi-bin/qrcode/create", token, `{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":7}}}`)
	}},
	{"an activation that opens it", "gone", func(s *servertest.Server, _ string, batch int64) (bool, string) {
		return administered(s, "POST", fmt.Sprintf("/batches/%d/activations", batch), activationOfGone)
	}},
	{"a GS1 key", "gone", func(s *servertest.Server, _ string, _ int64) (bool, string) {
		return administered(s, "PUT", "/gs1/links/01/09506000134352", `{"owner":"gone","wxa_path":"p","links":[]}`)
	}},
	{"a link", "gone", func(s *servertest.Server, _ string, _ int64) (bool, string) {
		return administered(s, "PUT", "/accounts/sold/links/gone", "")
	}},
}

func acknowledged(s *servertest.Server, path, token, body string) (bool, string) {
	a, err := s.TrySend(s.Request("POST", path+"?access_token="+token, body))
	if err != nil {
		return false, err.Error()
	}
	var answer struct {
		ErrCode int `json:"errcode"`
	}
	return a.Status == 200 && json.Unmarshal([]byte(a.Body), &answer) == nil && answer.ErrCode == 0, a.Body
}

func administered(s *servertest.Server, method, path, body string) (bool, string) {
	a, err := s.TrySend(s.Request(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json"))
	if err != nil {
		return false, err.Error()
	}
	return a.Status/100 == 2, a.Body
}

// waiting blocks until so many sessions of a database wait for locks.
func waiting(t *testing.T, database string, sessions int64) {
	t.Helper()
	eventually(t, fmt.Sprint(sessions, " sessions that wait"), func() bool {
		return dbtest.Number(t, database,
			`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= sessions
	})
}

// TestDeletionRaces_TwoNodes holds the end of the audit log, at which a change waits before its commit. So a deletion and a call
// that needs the account overlap in either order, and exactly the one that came first may be acknowledged.
func TestDeletionRaces_TwoNodes(t *testing.T) {
	t.Parallel()
	for _, race := range deletionRaces {
		for _, deleteFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, deletion first %v", race.name, deleteFirst), func(t *testing.T) {
				t.Parallel()
				p := onPostgres(t)
				one := p.start(t, servertest.Options{Seed: fleeting})
				two := p.secondOf(t).start(t, servertest.Options{})
				batch := one.Apply("brand", "b", 10_000)
				token := one.Token(race.deleted)

				db, err := sql.Open("pgx", p.database)
				require.NoError(t, err)
				defer db.Close()
				held, err := db.BeginTx(t.Context(), nil)
				if err == nil {
					_, err = held.Exec(`SELECT seq FROM audit_log_head WHERE id = 1 FOR UPDATE`)
				}
				require.NoError(t, err)
				defer held.Rollback()
				var deleted, done bool
				var refusal, answer string
				calls := []func(){
					func() { deleted, refusal = administered(one, "DELETE", "/accounts/"+race.deleted, "") },
					func() { done, answer = race.call(two, token, batch) },
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
					waiting(t, p.database, int64(n+1))
				}
				require.NoError(t, held.Rollback())
				<-ended
				<-ended
				if race.name == "a link" && !deleteFirst {
					if !done || !deleted { // a link goes with the account
						t.Errorf("linked %v (%s), deleted %v (%s), want both", done, answer, deleted, refusal)
					}
				} else if strings.HasPrefix(race.name, "qrcodejumpadd") && !deleteFirst {
					// An add locks the end of the audit log before the account (decision 90): the deletion may come first.
					assert.True(t, deleted != done, "deleted %v (%s), added %v (%s), want one", deleted, refusal, done, answer)
				} else if deleted != deleteFirst || done == deleteFirst {
					t.Errorf("deleted %v (%s), the call acknowledged %v (%s)", deleted, refusal, done, answer)
				}
				noOrphans(t, two)
			})
		}
	}
}

// TestDeletionRaces_OneNode makes both calls at once.
func TestDeletionRaces_OneNode(t *testing.T) {
	t.Parallel()
	for _, race := range deletionRaces {
		t.Run(race.name, func(t *testing.T) {
			t.Parallel()
			s := onSQLite(t).start(t, servertest.Options{Seed: fleeting})
			batch := s.Apply("brand", "b", 10_000)
			for range 20 {
				token := s.NewToken(race.deleted)
				var deleted, done bool
				begin, ended := make(chan struct{}), make(chan struct{})
				go func() {
					<-begin
					deleted, _ = administered(s, "DELETE", "/accounts/"+race.deleted, "")
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
				require.True(t, !deleted || !done || race.name == "a link", "both were acknowledged")
				noOrphans(t, s)
				if !deleted {
					return // it is kept from now on
				}
				s.Admin("PUT", "/accounts/"+race.deleted, again[race.deleted])
			}
		})
	}
}

func noOrphans(t *testing.T, s *servertest.Server) {
	t.Helper()
	verified := servertest.Decode[struct {
		Fault   any
		Orphans []any
	}](t, s.Admin("POST", "/audit/verify", ""))
	assert.True(t, verified.Fault == nil && len(verified.Orphans) == 0, "audit verify: %+v", verified)
}

// tamper changes the database behind the server's back.
func (p place) tamper(t *testing.T, statement string) {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(p.data, "qrjump.db")+"?_busy_timeout=60000"
	if p.database != "" {
		driver, source = "pgx", p.database
	}
	db, err := sql.Open(driver, source)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, assert.ErrorOf(db.Exec(statement)))
}

// TestOrphans_Reported removes account rows behind the server's back.
func TestOrphans_Reported(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		p := where(t)
		s := p.start(t, servertest.Options{Seed: fleeting})
		batch := s.Apply("brand", "b", 10_000)
		for _, call := range deletionRaces {
			done, answer := call.call(s, s.Token(call.deleted), batch)
			require.True(t, done, "%s: %s", call.name, answer)
		}
		noOrphans(t, s)
		p.tamper(t, `DELETE FROM accounts WHERE appid IN ('gone', 'sold')`)
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
