package server_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestScans_ThousandUsersOneFirstScan verifies that concurrent scans of a code have one first scan and tickets valid per user.
func TestScans_ThousandUsersOneFirstScan(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		w := startBrand(t, servertest.Options{Data: p.data, ScanListener: true, Config: func(c *server.Config) { c.Database = p.database }})
		id := w.apply("x", 10_000)
		w.activate(id, 0, 9)
		body := require.Value(json.Marshal(map[string]string{"text": w.code(id, 3).CodeURL, "user": "%d"}))(t)
		const users = 1000
		tickets, scans := make([]string, users), make([]string, users)
		begin := make(chan struct{})
		var clients sync.WaitGroup
		for n := range users {
			clients.Go(func() {
				client := http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				<-begin // connect after that, because the server closes an idle connection early
				resp, err := client.Post(w.ScanURL+"/scan/v1/resolve", "application/json",
					strings.NewReader(strings.Replace(string(body), "%d", fmt.Sprint("user", n), 1)))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				var d struct {
					decision
					Scan string `json:"scan_id"`
				}
				if err := json.NewDecoder(resp.Body).Decode(&d); err != nil || d.Action != "open_mini_program" {
					t.Errorf("user %d: %d %+v %v", n, resp.StatusCode, d, err)
					return
				}
				tickets[n], scans[n] = d.ticket(), d.Scan
			})
		}
		close(begin)
		clients.Wait()
		if t.Failed() {
			return
		}
		for n := 0; n < users; n += 13 {
			w.exchangeTicket(w.openid("default", "shop", fmt.Sprint("user", n)), tickets[n]).WantCode(t, 0, "user %d", n)
			w.exchangeTicket(w.openid("default", "shop", fmt.Sprint("user", n)), tickets[(n+1)%users]).WantCode(t, 40097,
				"user %d with another's ticket", n)
		}
		distinct := map[string]bool{}
		for _, ticket := range tickets {
			distinct[ticket] = true
		}
		assert.Equal(t, len(distinct), users, "tickets")
		first := strings.Split(strings.TrimSpace(readTables(t, exportArchive(t, w.Server))["code_scans"]), "\n")
		matches := 0
		for _, scan := range scans {
			if strings.Contains(first[0], scan) {
				matches++
			}
		}
		assert.True(t, len(first) == 1 && matches == 1, "first scans: %s, want one of the scans", first)
	})
}

// TestScans_FirstScanCriteria verifies that the first scan by an app of an issued code in any state is recorded, but neither explain calls
// nor scans of the serial number alone.
func TestScans_FirstScanCriteria(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{ScanListener: true})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	code := w.code(id, 3)
	for _, c := range []struct {
		name, call, user, text string
		rows                   int
	}{
		{"explain", "explain", "u", code.CodeURL, 0},
		{"the serial number", "resolve", "u", code.Code, 0},
		{"a text that nobody made", "resolve", "u", code.CodeURL[:len(code.CodeURL)-18] + strings.Repeat("0", 18), 0},
		{"not active", "resolve", "", w.code(id, 10).CodeURL, 1},
		{"anonymous", "resolve", "", code.CodeURL, 2},
		{"again", "resolve", "u", code.CodeURL, 2},
	} {
		w.callScan(c.call, c.user, c.text)
		rows := strings.Count(readTables(t, exportArchive(t, w.Server))["code_scans"], "\n")
		assert.True(t, rows == c.rows, "%s: %d rows, want %d", c.name, rows, c.rows)
	}
}

// TestScans_DatabaseUnavailable verifies that scans of rules work while the database is unavailable, and that scans of codes return 503.
func TestScans_DatabaseUnavailable(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	w := startBrand(t, servertest.Options{Data: p.data, ScanListener: true, Config: func(c *server.Config) { c.Database = p.database }})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	code := w.code(id, 3).CodeURL
	restore := p.rejectConnections(t)
	defer func() {
		restore()
		// Use up the broken connections of the pool, each of which fails once.
		var calls sync.WaitGroup
		for range 32 {
			calls.Go(func() { w.Do("PUT", "/admin/v1/settings", `{"rule_rate_limit":null}`) })
		}
		calls.Wait()
	}()
	assert.Equal(t, w.callScan("resolve", "u", "https://p.url.cn/x").Action, "open_mini_program", "a rule")
	a := w.Do("POST", "/scan/v1/resolve", `{"user":"u","text":"`+code+`"}`)
	assert.True(t, a.Status == 503 && a.Header.Get("Content-Type") == "application/problem+json" &&
		strings.Contains(a.Body, "cannot be stored"), "a code: %d %s", a.Status, a.Body)
	eventually(t, "the replica reports its staleness", func() bool {
		return strings.Contains(w.Do("GET", "/metrics", "").Body, "\nqrjump_replica_staleness_seconds 0.001\n")
	})
}

// rejectConnections makes the database reject connections until accept is called, and terminates existing ones.
func (p instance) rejectConnections(t *testing.T) (accept func()) {
	t.Helper()
	server, name := dbtest.Server(t), dbtest.Name(p.database)
	exec := func(query string) { dbtest.Exec(t, server, query) }
	exec(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS false`)
	// A session that is just connecting holds a lock until pg_stat_activity shows it, and must be terminated as well.
	remaining := fmt.Sprintf(`SELECT (SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '%[1]s' AND backend_type = 'client backend')
		+ (SELECT count(*) FROM pg_locks l JOIN pg_database d ON l.classid = 'pg_database'::regclass AND l.objid = d.oid WHERE l.locktype = 'object' AND d.datname = '%[1]s')`, name)
	for dbtest.QueryInt(t, server, remaining) > 0 {
	}
	return func() { exec(`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS true`) }
}

func TestScanListener_TLS(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	const links = `gs1: [{key: 01/09506000134352, links: [{linktype: "gs1:pip", href: "https://shop.example/tea", title: x, default: true}]}]`
	seed := strings.Replace(shop, "settings: {", links+"\nsettings: {gs1_hosts: [id.example], ", 1)
	s := servertest.Start(t, servertest.Options{Data: data, Seed: seed, ScanListener: true,
		Config: func(c *server.Config) { c.TLSDev = true }})
	for _, h2 := range []bool{false, true} {
		client := http.Client{Transport: &http.Transport{ForceAttemptHTTP2: h2,
			TLSClientConfig: &tls.Config{RootCAs: loadPool(t, certificates.AuthorityFile(data)), Time: s.Clock.Now}}}
		defer client.CloseIdleConnections()
		for range 3 {
			resp := require.Value(client.Post(s.ScanURL+"/scan/v1/resolve", "application/json",
				strings.NewReader(`{"text":"https://shop.example/t/7"}`)))(t)
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			assert.True(t, err == nil && resp.StatusCode == 200 && strings.Contains(string(body), `"appid":"shop"`) &&
				(resp.ProtoMajor == 2) == h2, "h2 %v: %s %s %v", h2, resp.Status, body, err)
		}
		// The same for the resolver of GS1 keys, which every public listener has.
		q := require.Value(http.NewRequestWithContext(t.Context(), http.MethodGet, s.ScanURL+"/01/09506000134352/21/7", nil))(t)
		q.Host = "id.example"
		resp := require.Value(client.Transport.RoundTrip(q))(t)
		resp.Body.Close()
		assert.True(t, resp.StatusCode == 307 && resp.Header.Get("Location") == "https://shop.example/tea" &&
			strings.Contains(resp.Header.Get("Link"), "<https://id.example/01/09506000134352/21/7?linkType=linkset>"),
			"h2 %v: a GS1 key: %s %v", h2, resp.Status, resp.Header)
	}
	plain := require.Value(net.Dial("tcp", strings.TrimPrefix(s.ScanURL, "https://")))(t)
	defer plain.Close()
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if answer, err := io.ReadAll(plain); err != nil || !strings.Contains(string(answer), "Client sent an HTTP request to an HTTPS server") {
		t.Errorf("HTTP to HTTPS: %q %v", answer, err)
	}
}
