package server_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// rowsOfBatch are the lines that applycodedownload hands out, decrypted.
func rowsOfBatch(w works, id, from, to int64) string {
	w.t.Helper()
	var got struct{ Buffer string }
	w.call("applycodedownload", fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d}`, id, from, to), &got)
	rows, err := client.Rows(strings.NewReader(got.Buffer), "0123456789abcdef")
	require.NoError(w.t, err)
	text, err := io.ReadAll(rows)
	require.NoError(w.t, err)
	return string(text)
}

// bring imports lines into a batch; the answer is for the caller to judge.
func bring(s *servertest.Server, id, line int64, lines string) servertest.Answer {
	return s.Do("PUT", fmt.Sprintf("/admin/v1/batches/%d/imported-codes?line=%d", id, line), lines,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: text/plain")
}

// noise matches the parts that differ between equal answers of two servers: request ids, hints, tickets, numbers of scans.
var noise = regexp.MustCompile(
	` rid: [0-9a-f-]{26}|hint: \[[^]]*\]\[[^]]*\]|code_ticket=[0-9a-f]{32}|"scan_id":"[0-9a-f]+"|"seq":\d+|"activation":\d+|"rid":"[^"]*"`)

// Codes that were made at one server and imported into another are answered there as
// they were: by index, text and nine characters, in every state, and by ticket.
func TestImportedCodes_SameAnswersAsOrigin(t *testing.T) {
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		first, there := brew(t, servertest.Options{}), where(t)
		moved := brew(t, servertest.Options{Data: there.data, Config: func(c *server.Config) { c.Database = there.database }})
		const count = 10_000
		id := first.apply("order-7", count)
		lines := rowsOfBatch(first, id, 0, count-1)
		// The other server has given codes out itself, under the same prefix.
		own := moved.apply("own", count)
		begin := fmt.Sprintf(`{"isv_application_id":"order-7","application_id":481865877,"code_count":%d,"prefix":"P.URL.CN/"}`, count)
		batch := servertest.Decode[client.Batch](t, moved.Admin("POST", "/accounts/brand/imported-batches", begin))
		require.True(t, batch.ID == 481865877 && batch.Status == "PROCESSING" && batch.Imported, "%+v", batch)
		for from, rest := 0, strings.SplitAfter(lines, "\n"); from < count; from += 4000 {
			piece := strings.Join(rest[from:min(from+4000, count)], "")
			a := bring(moved.Server, batch.ID, int64(from+1), piece)
			require.True(t, a.Status == http.StatusOK, "%d %s", a.Status, a.Body)
		}
		texts, originals := make([]string, count), make([]string, count)
		for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
			columns := strings.Fields(line)
			originals[i], texts[i] = columns[1], columns[3]
		}

		both := func(what string, ask func(w works, id int64) string) {
			t.Helper()
			plain := func(w works, id int64) string {
				text := noise.ReplaceAllString(ask(w, id), "*")
				return strings.ReplaceAll(text, fmt.Sprint(id), "ID")
			}
			was, is := plain(first, id), plain(moved, batch.ID)
			assert.True(t, was == is, "%s:\nwas %.600s\nis  %.600s", what, was, is)
		}
		wire := func(call, body string) func(works, int64) string {
			return func(w works, id int64) string {
				body := strings.ReplaceAll(body, "ID", fmt.Sprint(id))
				return w.CodeCall("brand", call, body).Body
			}
		}
		active := func(from, to int, page string) string {
			return fmt.Sprintf(`{"application_id":ID,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"b",
				"product_title":"t","product_code":"6901234567892","wxa_appid":"shop","wxa_path":%q}`, from, to, page)
		}
		admin := func(call, body string) func(works, int64) string {
			return func(w works, id int64) string {
				return w.Do("POST", fmt.Sprintf("/admin/v1/batches/%d/%s", id, call), body, "Authorization: Bearer "+servertest.AdminToken,
					"Content-Type: application/json").Body
			}
		}
		both("the application", wire("applycodequery", `{"application_id":ID}`))
		both("the application by its order", wire("applycodequery", `{"isv_application_id":"order-7"}`))
		both("applying again", wire("applycode", fmt.Sprintf(`{"code_count":%d,"isv_application_id":"order-7"}`, count)))
		both("applying for more", wire("applycode", `{"code_count":20000,"isv_application_id":"order-7"}`))
		both("an activation", wire("codeactive", active(0, 4999, "pages/a")))
		both("the same", wire("codeactive", active(0, 4999, "pages/b?x=1")))
		both("one that overlaps", wire("codeactive", active(4999, 5001, "pages/c")))
		both("one past the end", wire("codeactive", active(5000, count, "pages/c")))
		both("another", wire("codeactive", active(6000, count-1, "pages/c")))
		for _, change := range []string{`{"action":"freeze","ranges":[{"from":10,"to":19}]}`,
			`{"action":"void","ranges":[{"from":20,"to":29}]}`,
			`{"action":"redeem","ranges":[{"from":30,"to":30}]}`, `{"action":"redeem","ranges":[{"from":30,"to":30}]}`,
			`{"action":"redeem","ranges":[{"from":10,"to":10}]}`, `{"action":"unfreeze","ranges":[{"from":15,"to":19}]}`} {
			both(change, admin("states", change))
		}
		both("states by text", func(w works, id int64) string {
			return admin("states", fmt.Sprintf(`{"action":"freeze","codes":[%q,%q]}`, texts[40], originals[41]))(w, id)
		})
		both("what is what", func(w works, id int64) string {
			return w.Admin("GET", fmt.Sprintf("/batches/%d/runs?limit=1000", id), "").Body
		})

		seed := testdiag.Seed(t)
		chance := rand.New(rand.NewPCG(seed, 0))
		indexes := []int{0, 9, 10, 14, 15, 19, 20, 29, 30, 31, 40, 41, 4999, 5000, 5999, 6000, count - 1}
		for range 15 {
			indexes = append(indexes, chance.IntN(count))
		}
		for n, i := range indexes {
			both("by index", wire("codeactivequery", fmt.Sprintf(`{"application_id":ID,"code_index":%d}`, i)))
			both("by text", wire("codeactivequery", fmt.Sprintf(`{"code_url":%q}`, texts[i])))
			both("by nine characters", wire("codeactivequery", fmt.Sprintf(`{"code":%q,"application_id":ID}`, originals[i])))
			spellings := []string{texts[i], "http://" + texts[i], strings.ToLower(texts[i]),
				"https://P.URL.CN/" + url.QueryEscape(texts[i][9:]), texts[i] + "0",
				texts[i] + "?x=1", " " + texts[i], "p.url.cn/" + texts[i][9:], originals[i], strings.ToLower(originals[i])}
			for _, text := range []string{texts[i], spellings[n%len(spellings)]} {
				both("a scan of "+text, func(w works, _ int64) string {
					d := w.ask("resolve", "alice", text)
					var said strings.Builder
					said.WriteString(d.short() + d.URL)
					if d.Matched != nil && d.Matched.CodeIndex != nil {
						said.WriteString(fmt.Sprint(" ", d.Matched.ApplicationID, " ", *d.Matched.CodeIndex))
					}
					if ticket := d.ticket(); ticket != "" {
						for _, user := range []string{"alice", "bob"} {
							said.WriteString(w.trade(w.openid("default", "brand", user), ticket).Body)
						}
					}
					return said.String()
				})
			}
			both("what is known", func(w works, _ int64) string {
				c := servertest.Decode[oneCode](t, w.Admin("POST", "/codes/lookup", fmt.Sprintf(`{"code_url":%q}`, texts[i])))
				return fmt.Sprint(c.ApplicationID, c.CodeIndex, c.Code, c.CodeURL, c.Active, c.Frozen, c.Void, c.Redeemed)
			})
		}
		for what, text := range map[string]string{"a made-up text": "P.URL.CN/0AAAAAAAAAAAAAAAAAA",
			"of the platform's symbols": "P.URL.CN/0AAAA%AAA*A/AA+AAAA", "nine other characters": "ZZZZZZZZZ",
			"a link below the prefix": "https://p.url.cn/menu"} {
			both(what, func(w works, _ int64) string { return w.ask("resolve", "alice", text).short() })
		}
		// Ours on the other server are what they were.
		text := moved.code(own, 7).CodeURL
		moved.activate(own, 0, 9)
		d := moved.ask("resolve", "alice", text)
		assert.True(t, d.Matched != nil && d.Matched.ApplicationID == own, "a code of ours: %+v", d)
		// What rows cannot do is said.
		gone := wire("applycodedownload", `{"application_id":ID,"code_start":0,"code_end":9}`)(moved, batch.ID)
		assert.True(t, strings.Contains(gone, `"errcode":80309`), "%v", gone)
		a := moved.Do("POST", "/admin/v1/batches/481865877/packages", `{"code_start":0,"code_end":9,"printer":"p","formats":["lines"]}`,
			"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == http.StatusUnprocessableEntity && strings.Contains(a.Body, "has imported codes"),
			"a package: %d %s", a.Status, a.Body)
		list := moved.Admin("GET", "/batches/481865877/codes?from=30&to=31", "").Body
		assert.Equal(t, list, fmt.Sprintf("index,code,code_text\r\n30,%s,%s\r\n31,%s,%s\r\n", originals[30], texts[30], originals[31],
			texts[31]), "the list")
		// A log of scans has no text of a code, also where an app put something around it.
		moved.ask("resolve", "alice", "https://other.example/?q=http%3A%2F%2F"+url.QueryEscape(texts[50])+"&x=1")
		feed := moved.Admin("GET", "/scans?limit=1000", "").Body
		assert.True(t, !strings.Contains(feed, texts[50][10:]) && !strings.Contains(feed, url.QueryEscape(texts[50])[11:]),
			"a code text is in the feed: %.2000s", feed)
	})
}

// Half an import goes through an export: the restored server is drilled, goes on with it, and then activates it.
func TestImportedCodes_PartialImportRestored(t *testing.T) {
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		first := brew(t, servertest.Options{})
		id := first.apply("order-7", 10_000)
		lines := strings.SplitAfter(rowsOfBatch(first, id, 0, 9), "\n")[:10]
		from := where(t)
		o := servertest.Options{Seed: brewery, Data: filepath.Join(t.TempDir(), "source"),
			Config: func(c *server.Config) { c.Database = from.database }}
		source := servertest.Start(t, o)
		var batch client.Batch
		source.Admin("POST", "/accounts/brand/imported-batches",
			`{"isv_application_id":"order-7","code_count":10,"prefix":"P.URL.CN/"}`).JSON(t, &batch)
		if a := bring(source, batch.ID, 1, strings.Join(lines[:6], "")); a.Status != http.StatusOK {
			t.Fatal(a.Body)
		}
		file := exported(t, source)
		source.Hide(passphrase)
		r, err := server.Drill(t.Context(), file, say(passphrase))
		assert.True(t, err == nil && r.Codes == 2, "drill: %+v, %v", r, err)
		to := where(t)
		to.restore(t, file)
		restored := works{to.start(t, servertest.Options{}), t}
		a := bring(restored.Server, batch.ID, 1, strings.Join(lines, ""))
		require.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, `"added":4`), "%d %s", a.Status, a.Body)
		restored.activate(batch.ID, 0, 9)
		for i, line := range lines {
			var c oneCode
			restored.Admin("POST", "/codes/lookup", fmt.Sprintf(`{"code_url":%q}`, strings.Fields(line)[3])).JSON(t, &c)
			assert.True(t, c.ApplicationID == batch.ID && c.CodeIndex == int64(i) && c.Active, "%+v", c)
		}
	})
}
