package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestReadyz_UnreadableChange corrupts a row while it is written, so that no node can read the change. All nodes must stay ready, follow
// later changes, and report the unreadable change until the row is repaired.
func TestReadyz_UnreadableChange(t *testing.T) {
	t.Parallel()
	for _, damage := range []struct{ table, row, column, method, path, body string }{
		{"rules", "NEW.key LIKE '%/damaged/%'", "prefix", "POST", "/import/rules",
			`{"owner":"gone","prefix":"https://gone.example/damaged/","path":"p","published":true}`},
		{"accounts", "NEW.appid = 'damaged'", "versions", "PUT", "/accounts/damaged", `{"kind":"mini_program","versions":["release"]}`},
		{"gs1_links", "NEW.owner = 'gone'", "links", "PUT", "/gs1/links/01/09506000134352",
			`{"owner":"gone","wxa_path":"p","wxa_appid":"gone","links":[]}`},
	} {
		t.Run(damage.table, func(t *testing.T) {
			t.Parallel()
			p := newPostgres(t)
			nodes := []*servertest.Server{p.start(t, servertest.Options{Seed: deletionSeed})}
			nodes = append(nodes, p.addNode(t).start(t, servertest.Options{}))
			key := nodes[0].NewKey("/scan-keys", `{"name":"app"}`)
			for _, s := range nodes {
				s.RegisterSecret(key)
			}
			p.execSQL(t, fmt.Sprintf(`CREATE TABLE whole AS SELECT %s AS kept FROM %s WHERE false`, damage.column, damage.table))
			p.execSQL(t, fmt.Sprintf(`CREATE FUNCTION damage() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN INSERT INTO whole VALUES (NEW.%[1]s); NEW.%[1]s := ''?''; RETURN NEW; END'`, damage.column))
			p.execSQL(t, fmt.Sprintf(`CREATE TRIGGER damage BEFORE INSERT ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION damage()`,
				damage.table, damage.row))
			put := func(s *servertest.Server, method, path, body string) servertest.Answer {
				kind := "Content-Type: application/json"
				if strings.HasPrefix(path, "/import/") {
					kind = "Content-Type: application/x-ndjson"
				}
				return s.Do(method, "/admin/v1"+path, body, adminAuth, kind)
			}
			// The change is committed, although the response may be an error.
			a := put(nodes[0], damage.method, damage.path, damage.body)
			require.True(t, a.Status/100 != 4, "%d %s", a.Status, a.Body)
			ready := func(s *servertest.Server) servertest.Answer {
				return s.Send(s.Request("GET", "/readyz?for=change", ""))
			}
			for n, s := range nodes {
				eventually(t, fmt.Sprintf("node %d reports the unreadable change", n), func() bool {
					a := ready(s)
					assert.True(t, n != 1 || a.Status == 200, "node %d: %d %s", n, a.Status, a.Body)
					return strings.Contains(a.Body, server.Unreadable+" 1 committed")
				})
			}
			for n, s := range nodes { // a change on each node, which the other one follows
				prefix := fmt.Sprintf("https://kept.example/%d/", n)
				rule := fmt.Sprintf(`{"owner":"kept","prefix":%q,"path":"p","published":true}`, prefix)
				a := put(s, "POST", "/import/rules", rule)
				require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
				other := nodes[1-n]
				eventually(t, "the other node follows", func() bool {
					return strings.Contains(other.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, prefix+"x"),
						"Authorization: Bearer "+key).Body, `"kept"`)
				})
				ready(s).WantStatus(t, 200, "node %d", n)
			}
			for n, s := range nodes {
				s.Clock.Step(10 * time.Second)
				eventually(t, fmt.Sprintf("node %d is ready although its replica is stale", n), func() bool {
					a := ready(s)
					return a.Status == 200 && strings.Contains(a.Body, server.Unreadable)
				})
			}
			p.execSQL(t, `DROP TRIGGER damage ON `+damage.table)
			p.execSQL(t, fmt.Sprintf(`UPDATE %s SET %[2]s = (SELECT kept FROM whole) WHERE %[2]s = '?'`, damage.table, damage.column))
			for n, s := range nodes {
				eventually(t, fmt.Sprintf("node %d has read the change", n), func() bool { return ready(s).Body == "ready\n" })
			}
		})
	}
}
