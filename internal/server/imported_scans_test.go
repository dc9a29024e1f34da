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

// printedElsewhere is the text of a code of fromElsewhere.
func printedElsewhere(index int) string { return fmt.Sprintf("OLD.EXAMPLE/0$%017d", index) }

// oldHost is whom --dev has to know for their pages.
var oldHost = []string{"old.example"}

// fromElsewhere imports a batch of ten codes that no server of ours made.
func fromElsewhere(w works) (id int64) {
	w.t.Helper()
	var batch client.Batch
	w.Admin("POST", "/accounts/brand/imported-batches",
		`{"isv_application_id":"old","code_count":10,"prefix":"OLD.EXAMPLE/"}`).JSON(w.t, &batch)
	var lines strings.Builder
	for i := range 10 {
		fmt.Fprintf(&lines, "%s OLD%06d %d %s\n", strings.Repeat("0", 361), i, i, printedElsewhere(i))
	}
	a := bring(w.Server, batch.ID, 1, lines.String())
	require.True(w.t, a.Status == http.StatusOK, "%d %s", a.Status, a.Body)
	return batch.ID
}

// Imported codes are counted as ours are: two batches that are scanned alike have the same statistics, feed and alarm.
func TestImportedCodes_Statistics(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p := where(t)
		w := brew(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.Database = p.database }})
		ask := func(method, path, body string, into any) {
			t.Helper()
			a := w.Admin(method, path, body)
			require.True(t, a.Status/100 == 2, "%s %s: %d %s", method, path, a.Status, a.Body)
			if into != nil {
				a.JSON(t, into)
			}
		}
		ours, theirs := w.apply("new", 10_000), fromElsewhere(w)
		batches := []struct {
			id   int64
			text func(int) string
		}{{ours, func(i int) string { return w.code(ours, int64(i)).CodeURL }}, {theirs, printedElsewhere}}
		const crowd = 40
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
			scan(6, "alice", "192.0.2.1", opens) // its first scan was the one before
			scan(3, "alice", "192.0.2.1", opens)
			scan(3, "alice", "192.0.2.1", opens)
			scan(3, "bob", "192.0.2.2", opens)
			w.ask("explain", "carol", b.text(4)) // is no scan
			for n := range crowd {
				scan(5, fmt.Sprint("user", n), fmt.Sprintf("10.%d.1.1", n), opens)
			}
		}

		for _, b := range batches {
			// Two of code 6, three of code 3, the crowd's of code 5; alice and bob besides the crowd.
			for _, c := range []struct {
				count, field string
				want         int64
			}{{"scans", "scans", crowd + 5}, {"first", "first_scans", 3}, {"users", "users", crowd + 2}} {
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

// Where the store cannot say whether a text is an imported code, nobody hears that it
// is none: a scan is 503, and a browser sees the page that says so.
func TestImportedCodes_StoreUnavailable(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		p := onPostgres(t)
		w := brew(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.Database, c.DevHost = p.database, oldHost }})
		w.activate(fromElsewhere(w), 0, 9)
		wantHere(w)
		back := p.goAway(t)
		wantAway(w)
		back()
		// Every connection that was cut shows itself once.
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() { w.Do("PUT", "/admin/v1/settings", `{"rule_rate_limit":null}`) })
		}
		all.Wait()
		wantHere(w)
	})
	// The file of the embedded database does not go away; its rows can be unreadable.
	t.Run("sqlite", func(t *testing.T) {
		p := onSQLite(t)
		w := brew(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.DevHost = oldHost }})
		w.activate(fromElsewhere(w), 0, 9)
		own := w.apply("new", 10_000)
		w.activate(own, 0, 9)
		wantHere(w)
		rename := func(from, to string) {
			dbtest.Exec(t, "file:"+filepath.Join(p.data, "qrjump.db")+"?_pragma=busy_timeout(600000)", `ALTER TABLE `+from+` RENAME TO `+to)
		}
		rename("imported_codes", "unreadable")
		wantAway(w)
		d := w.ask("resolve", "u", w.code(own, 7).CodeURL)
		assert.True(t, d.Matched != nil && d.Matched.ApplicationID == own, "a code of ours: %+v", d)
		rename("unreadable", "imported_codes")
		wantHere(w)
	})
}

func pageOfImported(w works, text string) servertest.Answer {
	host, path, _ := strings.Cut(text, "/")
	return w.Do("GET", "/"+path, "", "Host: "+strings.ToLower(host), "Accept-Language: en")
}

func wantHere(w works) {
	w.t.Helper()
	assert.Equal(w.t, w.ask("resolve", "u", printedElsewhere(3)).Action, "open_mini_program", "a scan")
	a := pageOfImported(w, printedElsewhere(3))
	assert.True(w.t, a.Status == http.StatusOK && strings.Contains(a.Body, "0003"), "its page: %d %s", a.Status, a.Body)
	a = pageOfImported(w, printedElsewhere(11))
	assert.True(w.t, a.Status == http.StatusNotFound, "the page of a text that nobody made: %d %s", a.Status, a.Body)
}

func wantAway(w works) {
	w.t.Helper()
	// A text that nobody made is told from none of theirs.
	for _, text := range []string{printedElsewhere(3), "https://" + printedElsewhere(4), printedElsewhere(11)} {
		calls := []string{"resolve", "explain"}
		if strings.HasPrefix(text, "https:") {
			calls = calls[:1] // what else a link could be has to be read for an explain, and fails as well
		}
		for _, call := range calls {
			a := w.Do("POST", "/scan/v1/"+call, fmt.Sprintf(`{"user":"u","text":%q}`, text))
			assert.True(w.t, a.Status == http.StatusServiceUnavailable && a.Header.Get("Content-Type") == "application/problem+json" &&
				strings.Contains(a.Body, "the code lookup failed"), "%s of %s: %d %s", call, text, a.Status, a.Body)
		}
		a := pageOfImported(w, strings.TrimPrefix(text, "https://"))
		assert.True(w.t, a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" &&
			strings.Contains(a.Body, "Not available at the moment"), "the page of %s: %d %s", text, a.Status, a.Body)
	}
	for _, body := range []string{fmt.Sprintf(`{"code_url":%q}`, printedElsewhere(3)), `{"code":"OLD000003"}`} {
		a := w.Do("POST", "/intp/marketcode/codeactivequery?access_token="+w.Token("brand"), body)
		assert.True(w.t, a.Status != http.StatusOK || a.Code(w.t) == -1, "codeactivequery %s: %s", body, a.Body)
	}
	assert.Equal(w.t, w.ask("resolve", "u", "https://p.url.cn/x").Action, "open_mini_program", "a rule")
}
