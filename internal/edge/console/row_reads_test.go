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

// filled is a server that holds n of everything that a page lists, and the names of those that addresses name.
func filled(t *testing.T, n int) (*servertest.Server, *strings.Replacer) {
	t.Helper()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"rule_limit":1000000,"publish_quota":1000000}`)
	lines := func(what string, line func(i int) string) {
		var b strings.Builder
		for i := range 5 * n {
			b.WriteString(line(i) + "\n")
		}
		a := s.Do("POST", "/admin/v1/import/"+what, b.String(), "Authorization: Bearer "+servertest.AdminToken,
			"Content-Type: application/x-ndjson")
		require.True(t, a.Status == http.StatusOK, "%s: %d %s", what, a.Status, a.Body)
	}
	lines("accounts", func(i int) string {
		return fmt.Sprintf(`{"appid":"wx%08d","kind":"mini_program","name":"Shop %[1]d","versions":["release"]}`, i)
	})
	lines("rules", func(i int) string {
		owner := "shop" // half are of one account
		if i%2 == 1 {
			owner = fmt.Sprintf("wx%08d", i)
		}
		return fmt.Sprintf(`{"owner":%q,"prefix":"https://shop.example/r%08d/","path":"pages/index/index","published":true}`, owner, i)
	})
	var batch, pack struct {
		ID      int64 `json:"application_id"`
		Package int64
	}
	for i := range n / 20 {
		batch.ID = 0
		s.Do("POST", "/intp/marketcode/applycode?access_token="+s.Token("press"),
			fmt.Sprintf(`{"code_count":10000,"isv_application_id":"order %d"}`, i)).JSON(t, &batch)
		require.True(t, batch.ID != 0, "no application")
	}
	id := fmt.Sprint(batch.ID)
	s.Admin("POST", "/batches/"+id+"/activations", `{"code_start":0,"code_end":9999,"binding":{"wxa_appid":"shop","wxa_path":"p",`+
		`"activity_name":"a","product_brand":"b","product_title":"t","product_code":"1"}}`)
	all := func(count int, do func(i int)) {
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := worker; i < count; i += 8 {
					do(i)
				}
			})
		}
		group.Wait()
	}
	all(n, func(i int) {
		s.Admin("POST", "/batches/"+id+"/states", fmt.Sprintf(`{"action":"freeze","ranges":[{"from":%d,"to":%[1]d}]}`, 2*i))
		s.Admin("PUT", fmt.Sprintf("/domains/h%d.example", i), `{"status":"denied"}`)
	})
	// What one account has of its own is read with it: its members, the changes of itself.
	all(150, func(i int) { s.Admin("PUT", fmt.Sprintf("/accounts/shop/members/u%d", i), `{"role":"trial"}`) })
	for i := range n / 2 {
		s.Admin("POST", "/batches/"+id+"/packages",
			fmt.Sprintf(`{"code_start":%d,"code_end":%[1]d,"printer":"Press"}`, 5001+i)).JSON(t, &pack)
		var made struct{ Key, Secret string }
		s.Admin("POST", "/admin-keys", fmt.Sprintf(`{"name":"ci%d","role":"viewer"}`, i)).JSON(t, &made)
		s.Hide(made.Key)
		s.Admin("POST", "/scan-keys", fmt.Sprintf(`{"name":"till%d","namespace":"default"}`, i)).JSON(t, &made)
		s.Hide(made.Key)
		s.Admin("PUT", fmt.Sprintf("/components/plat%d", i), `{"secret":"0123456789abcdef0123456789abcdef","message_token":"tok",`+
			`"encoding_aes_key":"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}`)
	}
	var hook struct{ Secret string }
	for range 90 { // the limit is 100, so their number does not grow with the rest
		s.Admin("POST", "/webhooks", `{"url":"https://hooks.example/x","alarms":true}`).JSON(t, &hook)
		s.Hide(hook.Secret)
	}
	for range n {
		s.Admin("POST", "/webhooks/1/test", "")
	}
	s.Admin("PUT", "/webhooks/1", `{"url":"https://hooks.example/x","alarms":true,"enabled":false}`) // what waits, waits
	// The number of rows of the call log depends on the speed of the machine: so that it is more than a few in any case.
	for range 300 {
		s.Rule("shop", "get", "{}")
	}
	for i := range n {
		s.Rule("shop", "add", fmt.Sprintf(`{"prefix":"no link %d","path":"p","is_edit":0}`, i))
	}
	all(5*n, func(i int) {
		text := fmt.Sprintf("https://shop.example/r%08d/", i)
		if i < 100 { // of a day 2,000 places that have nothing are kept apart at most
			text = fmt.Sprintf("https://gone%d.example/", i)
		}
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d"}`, text, i%n))
	})
	code := s.Admin("POST", "/codes/lookup", `{"application_id":`+id+`,"code_index":7}`).Text(t, "code_url")
	all(60, func(i int) {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`, code, i, i, i))
	})
	s.Admin("GET", "/statistics?wait=true", "")
	var scans struct {
		Scans []struct {
			ID string `json:"scan_id"`
		}
	}
	s.Admin("GET", "/scans?limit=1", "").JSON(t, &scans)
	rid := s.Rule("shop", "publish", `{"prefix":"https://none.example/"}`).RID(t)
	return s, strings.NewReplacer("RID", rid, "BATCH", id, "SCAN", scans.Scans[0].ID, "PACKAGE", fmt.Sprint(pack.Package), "TEXT",
		strings.ReplaceAll(code, "/", "%2F"), "STRANGER", "x", "https://shop.example/&", "https://shop.example/r00000000/&")
}

// cost counts the database pages that a request reads, and the bytes of memory that it uses.
type cost struct{ Pages, Bytes int64 }

// limit returns the highest permitted cost with several times as much of everything: for each of the 50 rows of a page, a search
// descends two levels more in a tree that has grown.
func (c cost) limit() cost { return cost{2*c.Pages + 2*50, 2*c.Bytes + 2<<20} }

// costs are what each page costs with n of everything, at the least of five times (two in make test); of more times where that is above
// what it may be, because what the server does by itself is counted too.
func costs(t *testing.T, n int, was map[string]cost) map[string]cost {
	s, fill := filled(t, n)
	v := request(t, s)
	list := map[string]cost{}
	touched := func() int64 {
		pages, err := s.Touched(t.Context())
		require.NoError(t, err)
		return pages
	}
	for _, p := range everyPage {
		if p.form != "" || p.path == "/" {
			continue
		}
		for try := range 100 {
			is, most := list[p.path], was[p.path].limit()
			if try >= testscope.Choose(5, 2) && (was == nil || is.Pages <= most.Pages && is.Bytes <= most.Bytes) {
				break
			}
			var before, after runtime.MemStats
			pages := touched()
			runtime.ReadMemStats(&before)
			got := v.get(fill.Replace(p.path))
			runtime.ReadMemStats(&after)
			assert.True(t, got.Status < 500, "%s: %d", p.path, got.Status)
			if try == 0 {
				v.small(p.path, got)
			}
			one := cost{touched() - pages, int64(after.TotalAlloc - before.TotalAlloc)}
			if least, ok := list[p.path]; ok {
				one = cost{min(least.Pages, one.Pages), min(least.Bytes, one.Bytes)}
			}
			list[p.path] = one
		}
	}
	return list
}

// No page reads more because there is more of everything: with ten times as many accounts, rules, batches, changes, deliveries and
// scans (five times in make test) each looks at as many pages of the database as before, and a few for trees that are deeper.
func TestPages_BoundedRowReads(t *testing.T) {
	if testing.Short() {
		t.Skip("pages that are read one after the other")
	}
	few, many := testscope.Choose(100, 60), testscope.Choose(1000, 300) // more than the rows of a page in any case
	small := costs(t, few, nil)
	large := costs(t, many, small)
	for path, was := range small {
		is, most := large[path], was.limit()
		t.Logf("%s: %d and %d pages, %d and %d bytes", path, was.Pages, is.Pages, was.Bytes, is.Bytes)
		assert.True(t, is.Pages <= most.Pages,
			"%s looks at %d pages of the database, and at %d with %d times as much in it", path, was.Pages, is.Pages, many/few)
		assert.True(t, is.Bytes <= most.Bytes, "%s uses %d bytes, and %d with %d times as much", path, was.Bytes, is.Bytes, many/few)
	}
}
