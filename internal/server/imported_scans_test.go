package server_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// importedText returns the text of a code of the batch of importBatch.
func importedText(index int) string { return fmt.Sprintf("OLD.EXAMPLE/0$%017d", index) }

// oldHosts are the hosts of imported codes, which --dev must allow for their pages.
var oldHosts = []string{"old.example"}

// importBatch imports a batch of ten codes in the format of another system.
func importBatch(w brandServer) (id int64) {
	w.t.Helper()
	var batch client.Batch
	w.Admin("POST", "/accounts/brand/imported-batches",
		`{"isv_application_id":"old","code_count":10,"prefix":"OLD.EXAMPLE/"}`).JSON(w.t, &batch)
	var lines strings.Builder
	for i := range 10 {
		fmt.Fprintf(&lines, "%s OLD%06d %d %s\n", strings.Repeat("0", 361), i, i, importedText(i))
	}
	a := importRows(w.Server, batch.ID, 1, lines.String())
	require.True(w.t, a.Status == http.StatusOK, "%d %s", a.Status, a.Body)
	return batch.ID
}

// TestImportedCodes_Statistics verifies that imported and generated codes with the same scans have the same statistics and alarms.
func TestImportedCodes_Statistics(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		w := startBrand(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.Database = p.database }})
		ask := func(method, path, body string, into any) {
			t.Helper()
			a := w.Admin(method, path, body)
			require.True(t, a.Status/100 == 2, "%s %s: %d %s", method, path, a.Status, a.Body)
			if into != nil {
				a.JSON(t, into)
			}
		}
		generated, imported := w.apply("new", 10_000), importBatch(w)
		batches := []struct {
			id   int64
			text func(int) string
		}{{generated, func(i int) string { return w.code(generated, int64(i)).CodeURL }}, {imported, importedText}}
		const users = 40
		for _, b := range batches {
			scan := func(i int, user, ip, want string) {
				t.Helper()
				a := w.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":%q,"ip":%q}`, b.text(i), user, ip))
				assert.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, want),
					"code %d of %d: %d %s", i, b.id, a.Status, a.Body)
			}
			const opens = `"action":"open_mini_program"`
			scan(6, "alice", "192.0.2.1", `"reason":"not_active"`)
			w.activate(b.id, 0, 9)
			ask("PUT", fmt.Sprintf("/batches/%d/serials", b.id),
				fmt.Sprintf(`{"serials":[{"code_index":3,"serial":"bottle 3 of %d"}]}`, b.id), nil)
			scan(6, "alice", "192.0.2.1", opens) // the second scan of the code
			scan(3, "alice", "192.0.2.1", opens)
			scan(3, "alice", "192.0.2.1", opens)
			scan(3, "bob", "192.0.2.2", opens)
			w.callScan("explain", "carol", b.text(4)) // does not count as a scan
			for n := range users {
				scan(5, fmt.Sprint("user", n), fmt.Sprintf("10.%d.1.1", n), opens)
			}
		}

		for _, b := range batches {
			// Two of code 6, three of code 3, one per numbered user of code 5; alice and bob are additional users.
			for _, c := range []struct {
				count, field string
				want         int64
			}{{"scans", "scans", users + 5}, {"first", "first_scans", 3}, {"users", "users", users + 2}} {
				var got struct{ Rows []map[string]any }
				ask("GET", fmt.Sprintf("/statistics?wait=true&batch=%d&count=%s", b.id, c.count), "", &got)
				assert.True(t, len(got.Rows) == 1 && got.Rows[0][c.field] == float64(c.want),
					"batch %d has %v, want %d %s", b.id, got.Rows, c.want, c.field)
			}
		}
		var alarms struct {
			Alarms []struct {
				Kind  string
				Batch int64 `json:"application_id"`
				Index int64 `json:"code_index"`
				Score int64
				Why   struct{ Scans, Users, Networks int64 }
			}
		}
		ask("GET", "/alarms", "", &alarms)
		require.True(t, len(alarms.Alarms) == 2, "alarms: %+v", alarms)
		for i, b := range batches {
			a := alarms.Alarms[i]
			assert.True(t, a.Kind == "copied" && a.Batch == b.id && a.Index == 5 && a.Score == alarms.Alarms[0].Score &&
				a.Why == alarms.Alarms[0].Why, "an alarm is %+v, want one as %+v for code 5 of %d", a, alarms.Alarms[0], b.id)
		}
		var feed client.ScanPage
		ask("GET", "/scans?limit=1000", "", &feed)
		serials := map[string]int{}
		for _, s := range feed.Scans {
			if s.CodeIndex == nil {
				continue
			}
			assert.True(t, (*s.CodeIndex == 3) == (s.Serial == fmt.Sprintf("bottle 3 of %d", s.ApplicationID)), "in the feed: %s", s.Raw)
			serials[fmt.Sprint(s.ApplicationID, " ", s.Serial)]++
		}
		for _, b := range batches {
			n := serials[fmt.Sprintf("%d bottle 3 of %d", b.id, b.id)]
			assert.True(t, n == 3, "the feed has %d scans with the serial number of %d: %v", n, b.id, serials)
		}
		assert.Contains(t, w.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}

// TestImportedCodes_StoreUnavailable verifies that a scan returns 503, and a browser gets an error page, while the database cannot be read:
// the server must not treat a text as unknown without a look-up of imported codes.
func TestImportedCodes_StoreUnavailable(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		p := newPostgres(t)
		w := startBrand(t, servertest.Options{Data: p.data, Config: func(c *server.Config) {
			c.Database, c.DevHost = p.database, oldHosts
		}})
		w.activate(importBatch(w), 0, 9)
		wantAvailable(w)
		restore := p.rejectConnections(t)
		wantUnavailable(w)
		restore()
		// Use up the broken connections of the pool, each of which fails once.
		var calls sync.WaitGroup
		for range 32 {
			calls.Go(func() { w.Do("PUT", "/admin/v1/settings", `{"rule_rate_limit":null}`) })
		}
		calls.Wait()
		wantAvailable(w)
	})
	// The embedded database cannot be disconnected, but its rows can be unreadable.
	t.Run("sqlite", func(t *testing.T) {
		p := newSQLite(t)
		w := startBrand(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.DevHost = oldHosts }})
		w.activate(importBatch(w), 0, 9)
		own := w.apply("new", 10_000)
		w.activate(own, 0, 9)
		wantAvailable(w)
		rename := func(from, to string) {
			dbtest.Exec(t, "file:"+filepath.Join(p.data, "qrjump.db")+"?_pragma=busy_timeout(600000)", `ALTER TABLE `+from+` RENAME TO `+to)
		}
		rename("imported_codes", "unreadable")
		wantUnavailable(w)
		d := w.callScan("resolve", "u", w.code(own, 7).CodeURL)
		assert.True(t, d.Matched != nil && d.Matched.ApplicationID == own, "a generated code: %+v, want a match", d)
		rename("unreadable", "imported_codes")
		wantAvailable(w)
	})
}

func fetchImportedPage(w brandServer, text string) servertest.Answer {
	host, path, _ := strings.Cut(text, "/")
	return w.Do("GET", "/"+path, "", "Host: "+strings.ToLower(host), "Accept-Language: en")
}

func wantAvailable(w brandServer) {
	w.t.Helper()
	assert.Equal(w.t, w.callScan("resolve", "u", importedText(3)).Action, "open_mini_program", "a scan")
	a := fetchImportedPage(w, importedText(3))
	assert.True(w.t, a.Status == http.StatusOK && strings.Contains(a.Body, "0003"), "its page: %d %s", a.Status, a.Body)
	a = fetchImportedPage(w, importedText(11))
	assert.True(w.t, a.Status == http.StatusNotFound, "the page of an unknown text: %d %s, want 404", a.Status, a.Body)
}

func wantUnavailable(w brandServer) {
	w.t.Helper()
	// An unknown text cannot be distinguished from an imported one.
	for _, text := range []string{importedText(3), "https://" + importedText(4), importedText(11)} {
		calls := []string{"resolve", "explain"}
		if strings.HasPrefix(text, "https:") {
			calls = calls[:1] // explain of a link reads more tables, and fails at those first
		}
		for _, call := range calls {
			a := w.Do("POST", "/scan/v1/"+call, fmt.Sprintf(`{"user":"u","text":%q}`, text))
			assert.True(w.t, a.Status == http.StatusServiceUnavailable && a.Header.Get("Content-Type") == "application/problem+json" &&
				strings.Contains(a.Body, "the code lookup failed"), "%s of %s: %d %s", call, text, a.Status, a.Body)
		}
		a := fetchImportedPage(w, strings.TrimPrefix(text, "https://"))
		assert.True(w.t, a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" &&
			strings.Contains(a.Body, "Not available at the moment"), "the page of %s: %d %s", text, a.Status, a.Body)
	}
	for _, body := range []string{fmt.Sprintf(`{"code_url":%q}`, importedText(3)), `{"code":"OLD000003"}`} {
		a := w.Do("POST", "/intp/marketcode/codeactivequery?access_token="+w.Token("brand"), body)
		assert.True(w.t, a.Status != http.StatusOK || a.Code(w.t) == -1, "codeactivequery %s: %s", body, a.Body)
	}
	assert.Equal(w.t, w.callScan("resolve", "u", "https://p.url.cn/x").Action, "open_mini_program", "a rule")
}
