package console_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// startWithRows starts a server with n rows of everything that a page lists, and returns the values of path parameters.
func startWithRows(t *testing.T, n int) (*servertest.Server, *strings.Replacer) {
	t.Helper()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"rule_limit":1000000,"publish_quota":1000000}`)
	importLines := func(kind string, newLine func(i int) string) {
		var b strings.Builder
		for i := range 5 * n {
			b.WriteString(newLine(i) + "\n")
		}
		a := s.Do("POST", "/admin/v1/import/"+kind, b.String(), "Authorization: Bearer "+servertest.AdminToken,
			"Content-Type: application/x-ndjson")
		a.WantStatus(t, http.StatusOK, "%s", kind)
	}
	importLines("accounts", func(i int) string {
		return fmt.Sprintf(`{"appid":"wx%08d","kind":"mini_program","name":"Shop %[1]d","versions":["release"]}`, i)
	})
	importLines("rules", func(i int) string {
		owner := "shop" // owns half of the rules
		if i%2 == 1 {
			owner = fmt.Sprintf("wx%08d", i)
		}
		return fmt.Sprintf(`{"owner":%q,"prefix":"https://shop.example/r%08d/","path":"pages/index/index","published":true}`, owner, i)
	})
	var batch, pkg struct {
		ID      int64 `json:"application_id"`
		Package int64
	}
	for i := range n / 20 {
		batch.ID = 0
		s.Do("POST", "/intp/marketcode/applycode?access_token="+s.Token("press"),
			fmt.Sprintf(`{"code_count":10000,"isv_application_id":"order %d"}`, i)).JSON(t, &batch)
		require.True(t, batch.ID != 0, "applycode returned no application_id")
	}
	id := fmt.Sprint(batch.ID)
	s.Admin("POST", "/batches/"+id+"/activations", `{"code_start":0,"code_end":9999,"binding":{"wxa_appid":"shop","wxa_path":"p",`+
		`"activity_name":"a","product_brand":"b","product_title":"t","product_code":"1"}}`)
	forEach := func(count int, f func(i int)) {
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := worker; i < count; i += 8 {
					f(i)
				}
			})
		}
		group.Wait()
	}
	forEach(n, func(i int) {
		s.Admin("POST", "/batches/"+id+"/states", fmt.Sprintf(`{"action":"freeze","ranges":[{"from":%d,"to":%[1]d}]}`, 2*i))
		s.Admin("PUT", fmt.Sprintf("/domains/h%d.example", i), `{"status":"denied"}`)
	})
	// Members and changes of an account are read with it.
	forEach(150, func(i int) { s.Admin("PUT", fmt.Sprintf("/accounts/shop/members/u%d", i), `{"role":"trial"}`) })
	for i := range n / 2 {
		s.Admin("POST", "/batches/"+id+"/packages",
			fmt.Sprintf(`{"code_start":%d,"code_end":%[1]d,"printer":"Press"}`, 5001+i)).JSON(t, &pkg)
		var key struct{ Key, Secret string }
		s.Admin("POST", "/admin-keys", fmt.Sprintf(`{"name":"ci%d","role":"viewer"}`, i)).JSON(t, &key)
		s.RegisterSecret(key.Key)
		s.Admin("POST", "/scan-keys", fmt.Sprintf(`{"name":"till%d","namespace":"default"}`, i)).JSON(t, &key)
		s.RegisterSecret(key.Key)
		s.Admin("PUT", fmt.Sprintf("/components/plat%d", i), `{"secret":"0123456789abcdef0123456789abcdef","message_token":"tok",`+
			`"encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`)
	}
	var webhook struct{ Secret string }
	for range 90 { // the limit of webhooks is 100
		s.Admin("POST", "/webhooks", `{"url":"https://hooks.example/x","alarms":true}`).JSON(t, &webhook)
		s.RegisterSecret(webhook.Secret)
	}
	for range n {
		s.Admin("POST", "/webhooks/1/test", "")
	}
	s.Admin("PUT", "/webhooks/1", `{"url":"https://hooks.example/x","alarms":true,"enabled":false}`) // keeps the deliveries pending
	// How many calls the log keeps depends on the speed of the machine; these guarantee a minimum.
	for range 300 {
		s.Rule("shop", "get", "{}")
	}
	for i := range n {
		s.Rule("shop", "add", fmt.Sprintf(`{"prefix":"no link %d","path":"p","is_edit":0}`, i))
	}
	var scanned strings.Builder
	for i := range 5 * n {
		text := fmt.Sprintf("https://shop.example/r%08d/", i)
		if i < 100 { // at most 2,000 unmatched locations per day are kept apart
			text = fmt.Sprintf("https://gone%d.example/", i)
		}
		fmt.Fprintf(&scanned, "{\"text\":%q,\"user\":\"u%d\"}\n", text, i%n)
	}
	code := s.Admin("POST", "/codes/lookup", `{"application_id":`+id+`,"code_index":7}`).Text(t, "code_url")
	for i := range 60 {
		fmt.Fprintf(&scanned, "{\"text\":%q,\"user\":\"u%d\",\"ip\":\"10.%d.%d.1\"}\n", code, i, i, i)
	}
	s.Do("POST", "/scan/v1/resolve", scanned.String(), "Content-Type: application/x-ndjson")
	s.Admin("GET", "/statistics?wait=true", "")
	var scans struct {
		Scans []struct {
			ID string `json:"scan_id"`
		}
	}
	s.Admin("GET", "/scans?limit=1", "").JSON(t, &scans)
	rid := s.Rule("shop", "publish", `{"prefix":"https://none.example/"}`).RID(t)
	return s, strings.NewReplacer("RID", rid, "BATCH", id, "SCAN", scans.Scans[0].ID, "PACKAGE", fmt.Sprint(pkg.Package), "TEXT",
		strings.ReplaceAll(code, "/", "%2F"), "STRANGER", "x", "https://shop.example/&", "https://shop.example/r00000000/&")
}

// cost counts the database pages that a request reads, and the bytes of memory that it allocates.
type cost struct{ Pages, Bytes int64 }

// limit returns the highest permitted cost with several times as much of everything: for each of the 50 rows of a page, a search
// descends two levels more in a tree that has grown.
func (c cost) limit() cost { return cost{2*c.Pages + 2*50, 2*c.Bytes + 2<<20} }

// measurePages returns the lowest cost of each page over several requests, on a server with n rows of everything. It repeats requests above
// the limit for the previous cost, because background work of the server is counted too.
func measurePages(t *testing.T, n int, previous map[string]cost) map[string]cost {
	s, fill := startWithRows(t, n)
	v := newVisitor(t, s)
	list := map[string]cost{}
	touched := func() int64 {
		return require.Value(s.Touched(t.Context()))(t)
	}
	for _, p := range openPages {
		if p.form != "" || p.path == "/" {
			continue
		}
		for attempt := range 100 {
			current, limit := list[p.path], previous[p.path].limit()
			if attempt >= testscope.Select(5, 2) && (previous == nil || current.Pages <= limit.Pages && current.Bytes <= limit.Bytes) {
				break
			}
			var before, after runtime.MemStats
			pages := touched()
			runtime.ReadMemStats(&before)
			page := v.get(fill.Replace(p.path))
			runtime.ReadMemStats(&after)
			assert.True(t, page.Status < 500, "%s: %d", p.path, page.Status)
			if attempt == 0 {
				v.checkSize(p.path, page)
			}
			c := cost{touched() - pages, int64(after.TotalAlloc - before.TotalAlloc)}
			if lowest, ok := list[p.path]; ok {
				c = cost{min(lowest.Pages, c.Pages), min(lowest.Bytes, c.Bytes)}
			}
			list[p.path] = c
		}
	}
	return list
}

// TestPages_BoundedRowReads verifies that the cost of a page does not grow with the data: with ten times as many accounts, rules, batches,
// changes, deliveries and scans (five times in make test), a page may read only a few more database pages, for deeper trees.
func TestPages_BoundedRowReads(t *testing.T) {
	if testing.Short() {
		t.Skip("pages that are read one after the other")
	}
	few, many := testscope.Select(100, 60), testscope.Select(1000, 300) // both exceed the rows of a page
	small := measurePages(t, few, nil)
	large := measurePages(t, many, small)
	for path, base := range small {
		current, limit := large[path], base.limit()
		t.Logf("%s: %d and %d pages, %d and %d bytes", path, base.Pages, current.Pages, base.Bytes, current.Bytes)
		assert.True(t, current.Pages <= limit.Pages,
			"%s reads %d database pages, and %d with %d times as much data", path, base.Pages, current.Pages, many/few)
		assert.True(t, current.Bytes <= limit.Bytes,
			"%s uses %d bytes, and %d with %d times as much data", path, base.Bytes, current.Bytes, many/few)
	}
}
