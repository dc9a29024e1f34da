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

// packageRows returns the decrypted lines of applycodedownload.
func packageRows(w brandServer, id, from, to int64) string {
	w.t.Helper()
	var got struct{ Buffer string }
	w.call("applycodedownload", fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d}`, id, from, to), &got)
	rows := require.Value(client.Rows(strings.NewReader(got.Buffer), "0123456789abcdef"))(w.t)
	text := require.Value(io.ReadAll(rows))(w.t)
	return string(text)
}

// importRows imports lines into a batch, from a line number on, and returns the response, which may be an error.
func importRows(s *servertest.Server, id, line int64, lines string) servertest.Answer {
	return s.Do("PUT", fmt.Sprintf("/admin/v1/batches/%d/imported-codes?line=%d", id, line), lines,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: text/plain")
}

// volatilePattern matches the parts that differ between equal responses of two servers: request ids, hints, tickets, ids of scans.
var volatilePattern = regexp.MustCompile(
	` rid: [0-9a-f-]{26}|hint: \[[^]]*\]\[[^]]*\]|code_ticket=[0-9a-f]{32}|"scan_id":"[0-9a-f]+"|"seq":\d+|"activation":\d+|"rid":"[^"]*"`)

// TestImportedCodes_SameAnswersAsOrigin imports the codes of one server into another. Both must return the same responses for them: by
// index, text and nine characters, in every state, and by ticket.
func TestImportedCodes_SameAnswersAsOrigin(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		first, p := startBrand(t, servertest.Options{}), newInstance(t)
		second := startBrand(t, servertest.Options{Data: p.data, Config: func(c *server.Config) { c.Database = p.database }})
		const count = 10_000
		id := first.apply("order-7", count)
		lines := packageRows(first, id, 0, count-1)
		// The second server has issued codes with the same prefix itself.
		own := second.apply("own", count)
		begin := fmt.Sprintf(`{"isv_application_id":"order-7","application_id":481865877,"code_count":%d,"prefix":"P.URL.CN/"}`, count)
		batch := servertest.Decode[client.Batch](t, second.Admin("POST", "/accounts/brand/imported-batches", begin))
		require.True(t, batch.ID == 481865877 && batch.Status == "PROCESSING" && batch.Imported, "%+v", batch)
		for from, rest := 0, strings.SplitAfter(lines, "\n"); from < count; from += 4000 {
			part := strings.Join(rest[from:min(from+4000, count)], "")
			a := importRows(second.Server, batch.ID, int64(from+1), part)
			require.True(t, a.Status == http.StatusOK, "%d %s", a.Status, a.Body)
		}
		texts, serials := make([]string, count), make([]string, count)
		for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
			columns := strings.Fields(line)
			serials[i], texts[i] = columns[1], columns[3]
		}

		compare := func(name string, call func(w brandServer, id int64) string) {
			t.Helper()
			normalized := func(w brandServer, id int64) string {
				text := volatilePattern.ReplaceAllString(call(w, id), "*")
				return strings.ReplaceAll(text, fmt.Sprint(id), "ID")
			}
			want, got := normalized(first, id), normalized(second, batch.ID)
			assert.True(t, want == got, "%s:\nwas %.600s\nis  %.600s", name, want, got)
		}
		wire := func(call, body string) func(brandServer, int64) string {
			return func(w brandServer, id int64) string {
				body := strings.ReplaceAll(body, "ID", fmt.Sprint(id))
				return w.CodeCall("brand", call, body).Body
			}
		}
		active := func(from, to int, page string) string {
			return fmt.Sprintf(`{"application_id":ID,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"b",
				"product_title":"t","product_code":"6901234567892","wxa_appid":"shop","wxa_path":%q}`, from, to, page)
		}
		admin := func(call, body string) func(brandServer, int64) string {
			return func(w brandServer, id int64) string {
				return w.TryAdmin("POST", fmt.Sprintf("/batches/%d/%s", id, call), body).Body
			}
		}
		compare("the application", wire("applycodequery", `{"application_id":ID}`))
		compare("the application by its order", wire("applycodequery", `{"isv_application_id":"order-7"}`))
		compare("applying again", wire("applycode", fmt.Sprintf(`{"code_count":%d,"isv_application_id":"order-7"}`, count)))
		compare("applying for more", wire("applycode", `{"code_count":20000,"isv_application_id":"order-7"}`))
		compare("an activation", wire("codeactive", active(0, 4999, "pages/a")))
		compare("the same", wire("codeactive", active(0, 4999, "pages/b?x=1")))
		compare("one that overlaps", wire("codeactive", active(4999, 5001, "pages/c")))
		compare("one past the end", wire("codeactive", active(5000, count, "pages/c")))
		compare("another", wire("codeactive", active(6000, count-1, "pages/c")))
		for _, change := range []string{`{"action":"freeze","ranges":[{"from":10,"to":19}]}`,
			`{"action":"void","ranges":[{"from":20,"to":29}]}`,
			`{"action":"redeem","ranges":[{"from":30,"to":30}]}`, `{"action":"redeem","ranges":[{"from":30,"to":30}]}`,
			`{"action":"redeem","ranges":[{"from":10,"to":10}]}`, `{"action":"unfreeze","ranges":[{"from":15,"to":19}]}`} {
			compare(change, admin("states", change))
		}
		compare("states by text", func(w brandServer, id int64) string {
			return admin("states", fmt.Sprintf(`{"action":"freeze","codes":[%q,%q]}`, texts[40], serials[41]))(w, id)
		})
		compare("what is what", func(w brandServer, id int64) string {
			return w.Admin("GET", fmt.Sprintf("/batches/%d/runs?limit=1000", id), "").Body
		})

		seed := testdiag.Seed(t)
		rng := rand.New(rand.NewPCG(seed, 0))
		indexes := []int{0, 9, 10, 14, 15, 19, 20, 29, 30, 31, 40, 41, 4999, 5000, 5999, 6000, count - 1}
		for range 15 {
			indexes = append(indexes, rng.IntN(count))
		}
		for n, i := range indexes {
			compare("by index", wire("codeactivequery", fmt.Sprintf(`{"application_id":ID,"code_index":%d}`, i)))
			compare("by text", wire("codeactivequery", fmt.Sprintf(`{"code_url":%q}`, texts[i])))
			compare("by nine characters", wire("codeactivequery", fmt.Sprintf(`{"code":%q,"application_id":ID}`, serials[i])))
			spellings := []string{texts[i], "http://" + texts[i], strings.ToLower(texts[i]),
				"https://P.URL.CN/" + url.QueryEscape(texts[i][9:]), texts[i] + "0",
				texts[i] + "?x=1", " " + texts[i], "p.url.cn/" + texts[i][9:], serials[i], strings.ToLower(serials[i])}
			for _, text := range []string{texts[i], spellings[n%len(spellings)]} {
				compare("a scan of "+text, func(w brandServer, _ int64) string {
					d := w.callScan("resolve", "alice", text)
					var text strings.Builder
					text.WriteString(d.summary() + d.URL)
					if d.Matched != nil && d.Matched.CodeIndex != nil {
						text.WriteString(fmt.Sprint(" ", d.Matched.ApplicationID, " ", *d.Matched.CodeIndex))
					}
					if ticket := d.ticket(); ticket != "" {
						for _, user := range []string{"alice", "bob"} {
							text.WriteString(w.exchangeTicket(w.openid("default", "brand", user), ticket).Body)
						}
					}
					return text.String()
				})
			}
			compare("what is known", func(w brandServer, _ int64) string {
				c := servertest.Decode[codeRecord](t, w.Admin("POST", "/codes/lookup", fmt.Sprintf(`{"code_url":%q}`, texts[i])))
				return fmt.Sprint(c.ApplicationID, c.CodeIndex, c.Code, c.CodeURL, c.Active, c.Frozen, c.Void, c.Redeemed)
			})
		}
		for name, text := range map[string]string{"a made-up text": "P.URL.CN/0AAAAAAAAAAAAAAAAAA",
			"of the platform's symbols": "P.URL.CN/0AAAA%AAA*A/AA+AAAA", "nine other characters": "ZZZZZZZZZ",
			"a link below the prefix": "https://p.url.cn/menu"} {
			compare(name, func(w brandServer, _ int64) string { return w.callScan("resolve", "alice", text).summary() })
		}
		// The second server's generated codes are unchanged.
		text := second.code(own, 7).CodeURL
		second.activate(own, 0, 9)
		d := second.callScan("resolve", "alice", text)
		assert.True(t, d.Matched != nil && d.Matched.ApplicationID == own, "a generated code: %+v, want a match", d)
		// Imported codes have neither downloads nor packages.
		answer := wire("applycodedownload", `{"application_id":ID,"code_start":0,"code_end":9}`)(second, batch.ID)
		assert.True(t, strings.Contains(answer, `"errcode":80309`), "%v", answer)
		a := second.Do("POST", "/admin/v1/batches/481865877/packages", `{"code_start":0,"code_end":9,"printer":"p","formats":["lines"]}`,
			"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == http.StatusUnprocessableEntity && strings.Contains(a.Body, "has imported codes"),
			"a package of imported codes: %d %s, want 422", a.Status, a.Body)
		list := second.Admin("GET", "/batches/481865877/codes?from=30&to=31", "").Body
		assert.Equal(t, list, fmt.Sprintf("index,code,code_text\r\n30,%s,%s\r\n31,%s,%s\r\n", serials[30], texts[30], serials[31],
			texts[31]), "the list")
		// The scan log contains no code text, also if an app put it into a link.
		second.callScan("resolve", "alice", "https://other.example/?q=http%3A%2F%2F"+url.QueryEscape(texts[50])+"&x=1")
		feed := second.Admin("GET", "/scans?limit=1000", "").Body
		assert.True(t, !strings.Contains(feed, texts[50][10:]) && !strings.Contains(feed, url.QueryEscape(texts[50])[11:]),
			"the feed contains a code text: %.2000s", feed)
	})
}

// TestImportedCodes_PartialImportRestored exports a server in the middle of a code import. The restore drill must pass, and the restored
// server must be able to complete the import and activate its codes.
func TestImportedCodes_PartialImportRestored(t *testing.T) {
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		first := startBrand(t, servertest.Options{})
		id := first.apply("order-7", 10_000)
		lines := strings.SplitAfter(packageRows(first, id, 0, 9), "\n")[:10]
		from := newInstance(t)
		o := servertest.Options{Seed: brewery, Data: filepath.Join(t.TempDir(), "source"),
			Config: func(c *server.Config) { c.Database = from.database }}
		source := servertest.Start(t, o)
		var batch client.Batch
		source.Admin("POST", "/accounts/brand/imported-batches",
			`{"isv_application_id":"order-7","code_count":10,"prefix":"P.URL.CN/"}`).JSON(t, &batch)
		if a := importRows(source, batch.ID, 1, strings.Join(lines[:6], "")); a.Status != http.StatusOK {
			t.Fatal(a.Body)
		}
		file := exportArchive(t, source)
		source.RegisterSecret(passphrase)
		r, err := server.Drill(t.Context(), file, prompt(passphrase))
		assert.True(t, err == nil && r.Codes == 2, "drill: %+v, %v", r, err)
		target := newInstance(t)
		target.restore(t, file)
		restored := brandServer{target.start(t, servertest.Options{}), t}
		a := importRows(restored.Server, batch.ID, 1, strings.Join(lines, ""))
		require.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, `"added":4`), "%d %s", a.Status, a.Body)
		restored.activate(batch.ID, 0, 9)
		for i, line := range lines {
			var c codeRecord
			restored.Admin("POST", "/codes/lookup", fmt.Sprintf(`{"code_url":%q}`, strings.Fields(line)[3])).JSON(t, &c)
			assert.True(t, c.ApplicationID == batch.ID && c.CodeIndex == int64(i) && c.Active, "%+v", c)
		}
	})
}
