package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/printpackage"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// trades are texts by template, one of each kind.
var trades = []struct {
	name string
	client.OrderPut
	page bool // its texts are links, so that a browser shows a page
	weak bool
}{
	{name: "prefix and secret", page: true},
	{name: "a link of a host of its own", OrderPut: client.OrderPut{Text: "https://trace.example/p/{serial}/{secret}"}, page: true},
	{name: "GS1", OrderPut: client.OrderPut{Text: "https://id.brand.example/01/{gtin}/21/{serial}?98={secret}", GTIN: "9506000134352"},
		page: true},
	{name: "GS1 with a serial of the brand's own", page: true,
		OrderPut: client.OrderPut{Text: "https://id.brand.example/01/{gtin}/21/{number:0042000}?98={secret}", GTIN: "9506000134369"}},
	{name: "32 digits", OrderPut: client.OrderPut{Text: "{given:11}{digits:21}", FixedDigits: "12345678901"}},
	{name: "32 digits behind an address", page: true,
		OrderPut: client.OrderPut{Text: "https://trace.example/{given:11}{digits:21}", FixedDigits: "12345678901"}},
	{name: "20 digits", OrderPut: client.OrderPut{Text: "{digits:20}"}},
	{name: "several lines", OrderPut: client.OrderPut{Text: "品种 A\n单元识别代码：{digits:20}\nhttps://seed.example/{serial}"}},
	{name: "weak", OrderPut: client.OrderPut{Text: "https://weak.example/{given:5}{digits:15}", FixedDigits: "81234",
		AllowGuessable: true}, page: true,
		weak: true},
}

var tradeHosts = []string{"p.url.cn", "id.brand.example", "trace.example", "weak.example"}

func (w works) order(put client.OrderPut, isv string) (order client.Order) {
	w.t.Helper()
	put.Count, put.ISV = 10_000, isv
	a := w.Do("POST", "/admin/v1/accounts/brand/orders", jsonOf(w.t, put), "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
	a.JSON(w.t, &order)
	require.True(w.t, order.ApplicationID != 0, "%s: %d %s", isv, a.Status, a.Body)
	return order
}

// rowOf is a code as the package has it that applycodedownload hands out.
func rowOf(w works, id, index int64) labels.Row {
	w.t.Helper()
	for row, err := range labels.Rows(strings.NewReader(rowsOfBatch(w, id, index, index))) {
		require.NoError(w.t, err)
		return row
	}
	w.t.Fatal("no row")
	return labels.Row{}
}

// Issue 34, 1: a code whose text is by template is applied for, downloaded, looked up, scanned, traded and shown to a buyer as any other,
// and opens nothing once one character of its secret is another.
func TestTemplateTexts_FullLifecycle(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, database string) {
		w := brew(t, servertest.Options{Config: func(c *server.Config) { c.Database, c.DevHost = database, tradeHosts }})
		var ids []int64
		for i, one := range trades {
			order := w.order(one.OrderPut, fmt.Sprint("order ", i))
			batch := servertest.Decode[client.Batch](t, w.Admin("GET", fmt.Sprintf("/batches/%d", order.ApplicationID), ""))
			assert.True(t, batch.Guessable == one.weak && batch.TextBits == order.TextBits && (batch.TextBits < 40) == one.weak,
				"%s: %+v", one.name, batch)
			w.activate(order.ApplicationID, 0, 99)
			ids = append(ids, order.ApplicationID)
		}
		var texts []string
		for i, one := range trades {
			row := rowOf(w, ids[i], 7)
			stored := w.code(ids[i], 7)
			assert.True(t, stored.CodeURL == row.Text && stored.Code == row.Code, "%s: %+v, and %+v in the package", one.name, stored, row)
			texts = append(texts, row.Text)
			w.opensInTheApp(one.name, row.Text, ids[i], 7)
			if data, err := gs1.Parse(row.Text); err == nil && !data.Key.IsZero() && len(data.Attributes) > 0 {
				w.opensInTheApp(one.name+" with brackets", data.Bracketed(), ids[i], 7)
				w.opensInTheApp(one.name+" as a reader gives it", "]Q3"+data.ElementString(), ids[i], 7)
			}
			d := w.ask("resolve", "alice", rowOf(w, ids[i], 100).Text)
			assert.True(t, d.Reason == "not_active", "%s: one that is not active: %s", one.name, d.short())
			if one.page {
				w.isShown(one.name, row.Text, one.weak)
			}
			w.opensNothingElse(one.name, row, one.page)
			w.isReadByACamera(one.name, ids[i], row.Text)
		}
		w.Admin("PUT", "/settings", `{"apple_app_ids":["ABCDE12345.com.example.app"]}`)
		w.isAHostOfCodes("id.brand.example", `{"/":"/01/??????????????/21/?????????","?":"98=???????????????????","caseSensitive":false}`)
		w.isAHostOfCodes("weak.example", `{"/":"/????????????????????","caseSensitive":false}`)
		scans := w.Admin("GET", "/scans?limit=1000", "").Body + w.Log()
		for i, text := range texts {
			if secret := text[len(text)-10:]; !strings.Contains(text, "\n") && strings.Contains(scans, secret) {
				t.Errorf("%s: its secret is written down", trades[i].name)
			}
		}
	})
}

// Issue 34, 1: what one server printed by a template is imported by another with the same template, and is there what it was.
func TestTemplateTexts_ImportIntoOtherServer(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		first, there := brew(t, servertest.Options{}), where(t)
		moved := brew(t, servertest.Options{Data: there.data, Config: func(c *server.Config) {
			c.Database, c.DevHost = there.database, tradeHosts
		}})
		var known []oneCode
		for i, one := range trades[1:] {
			id := first.order(one.OrderPut, fmt.Sprint("order ", i)).ApplicationID
			lines := rowsOfBatch(first, id, 0, 9)
			begin := client.NewImport{ISV: fmt.Sprint("moved ", i), ID: id + 1000, Count: 10, Text: one.Text, GTIN: one.GTIN,
				FixedDigits: one.FixedDigits, AllowGuessable: one.AllowGuessable}
			batch := servertest.Decode[client.Batch](t, moved.Admin("POST", "/accounts/brand/imported-batches", jsonOf(t, begin)))
			require.True(t, batch.ID == id+1000 && batch.Imported && batch.Text != "" && batch.Guessable == one.weak,
				"%s: %+v", one.name, batch)
			first, rest, _ := strings.Cut(lines, "\n")
			// Rows of another serial and of another template are refused.
			columns := strings.Fields(first)
			wrong := map[string]string{"the text is not one of": columns[3] + "0"}
			if strings.Contains(columns[3], columns[1]) {
				wrong["which is column 2"] = strings.Replace(columns[3], columns[1], "000000000", 1)
			}
			for why, text := range wrong {
				a := bring(moved.Server, batch.ID, 1, strings.Join([]string{columns[0], columns[1], "0", text}, " "))
				assert.True(moved.t, a.Status == 422 && strings.Contains(a.Body, why) && !strings.Contains(a.Body, columns[3]),
					"%s: a row that is wrong since %s: %d %s", one.name, why, a.Status, a.Body)
			}
			for _, added := range []int{10, 0} {
				a := bring(moved.Server, batch.ID, 1, lines)
				require.Contains(t, a.Body, fmt.Sprintf(`"added":%d`, added), "%s: %d", one.name, a.Status)
			}
			moved.activate(batch.ID, 0, 8)
			texts := require.All(t, labels.Rows(strings.NewReader(rest)))
			row := texts[6]
			moved.opensInTheApp(one.name, row.Text, batch.ID, 7)
			if data, err := gs1.Parse(row.Text); err == nil && !data.Key.IsZero() && len(data.Attributes) > 0 {
				moved.opensInTheApp(one.name+" as a reader gives it", "]Q3"+data.ElementString(), batch.ID, 7)
			}
			if one.page {
				moved.isShown(one.name, row.Text, one.weak)
			}
			moved.opensNothingElse(one.name, row, one.page)
			d := moved.ask("resolve", "alice", texts[8].Text)
			assert.True(t, d.Reason == "not_active", "%s: one that is not active: %s", one.name, d.short())
			if stored := moved.code(batch.ID, 8); stored.CodeURL != texts[7].Text || stored.Code != texts[7].Code {
				t.Errorf("%s: %+v, and it was %+v", one.name, stored, texts[7])
			}
			own := moved.order(one.OrderPut, fmt.Sprint("own ", i)).ApplicationID
			refused := bring(moved.Server, batch.ID, 1, rowsOfBatch(moved, own, 0, 0))
			assert.True(t, refused.Status == 422 && strings.Contains(refused.Body, "the format of codes that this server generates"),
				"%s: a row of this server's own: %d %s", one.name, refused.Status, refused.Body)
			known = append(known, moved.code(batch.ID, 8), moved.code(own, 9_999))
			// What a reader adds makes a text no code; its secret is written down all the same as little as that of a code.
			around := strings.ReplaceAll(row.Text, "\n", "\r\n") + "#x"
			moved.ask("resolve", "alice", "https://elsewhere.example/?q="+around)
			scans := moved.Admin("GET", "/scans?limit=1000", "").Body
			assert.True(t, !strings.Contains(scans, row.Text[len(row.Text)-10:]), "%s: its secret is written down", one.name)
		}
		// An archive has them all.
		last := where(t)
		last.restore(t, exported(t, moved.Server))
		restored := works{last.start(t, servertest.Options{}), t}
		for _, one := range known {
			var found oneCode
			restored.Admin("POST", "/codes/lookup", jsonOf(t, map[string]string{"code_url": one.CodeURL})).JSON(t, &found)
			assert.True(t, found.ApplicationID == one.ApplicationID && found.CodeIndex == one.CodeIndex && found.CodeURL == one.CodeURL,
				"restored, %q is %+v, and it was %+v", one.CodeURL, found, one)
		}
	})
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	body, err := json.Marshal(v)
	require.NoError(t, err)
	return string(body)
}

func (w works) opensInTheApp(name, text string, id, index int64) {
	w.t.Helper()
	found := servertest.Decode[oneCode](w.t, w.Admin("POST", "/codes/lookup", jsonOf(w.t, map[string]string{"code_url": text})))
	assert.True(w.t, found.ApplicationID == id && found.CodeIndex == index,
		"%s: %q is looked up as code %d of %d", name, text, found.CodeIndex, found.ApplicationID)
	d := w.ask("resolve", "alice", text)
	got := d.short()
	require.True(w.t, got == "shop release pages/index/index?code_ticket=T 1124 code" && d.Matched.ApplicationID == id &&
		*d.Matched.CodeIndex == index, "%s: %q opens %s", name, text, got)
	a := w.trade(w.openid("default", "shop", "alice"), d.ticket())
	assert.True(w.t, a.Code(w.t) == 0 && strings.Contains(a.Body, fmt.Sprintf(`"code":%q,"application_id":%d,`, found.Code, id)),
		"%s: its ticket is %s", name, a.Body)
}

// isReadByACamera hands codes to a printer, and judges what a camera reads of them.
func (w works) isReadByACamera(name string, id int64, text string) {
	w.t.Helper()
	operator, err := client.New(w.URL, client.Options{AdminToken: servertest.AdminToken})
	require.NoError(w.t, err)
	const word = "a long passphrase of words"
	made, err := operator.Packages.Create(w.t.Context(), id, client.PackageRequest{From: 7, To: 9, Printer: "acme", Proofs: 1,
		Formats: []string{"csv", "lines"}})
	require.NoError(w.t, err)
	var file bytes.Buffer
	require.NoError(w.t, operator.Packages.Download(w.t.Context(), made.ID, word, &file))
	by, err := printpackage.ByPassphrase(word)
	require.NoError(w.t, err)
	signer, err := operator.Packages.GetSigner(w.t.Context())
	require.NoError(w.t, err)
	signers, err := printpackage.ParseSigners([]byte(signer.AllowedSigners))
	require.NoError(w.t, err)
	var run *printpackage.Run
	var texts []string
	_, err = printpackage.Open(&file, by, signers, func(p printpackage.Part, r io.Reader) error {
		if p.Format == "lines" {
			for row, err := range labels.Rows(r) {
				if err != nil {
					return err
				}
				texts = append(texts, row.Text)
			}
			return nil
		}
		if p.Name != printpackage.LineName {
			return nil
		}
		job, err := printpackage.ReadLine(r)
		if err == nil {
			run = printpackage.NewRun(job)
		}
		return err
	})
	require.True(w.t, err == nil && run != nil && len(texts) == 4 && texts[0] == text,
		"%s: the package: %v, %q, not %q", name, err, texts, text)
	var read []string
	for _, one := range append(texts, texts[0]) {
		v, index := run.Read(one)
		read = append(read, fmt.Sprint(v, " ", index))
	}
	assert.Equal(w.t, strings.Join(read, ", "), "good 7, good 8, good 9, proof -1, double 7", "%s", name)
}

// look is what a browser is shown that opens a text.
func (w works) look(text string) servertest.Answer {
	w.t.Helper()
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	link, err := url.Parse(text)
	require.NoError(w.t, err)
	return w.Do("GET", link.RequestURI(), "", "Host: "+strings.ToLower(link.Host), "Accept: text/html", "Accept-Language: en")
}

// isAHostOfCodes wants the file of app links of a host, and a page where it has no code.
func (w works) isAHostOfCodes(host, line string) {
	w.t.Helper()
	a := w.Do("GET", "/.well-known/apple-app-site-association", "", "Host: "+host)
	assert.True(w.t, a.Status == 200 && strings.Contains(a.Body, line), "the app's links of %s: %d %s", host, a.Status, a.Body)
	if a := w.Do("GET", "/nothing", "", "Host: "+host); a.Status != 404 || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
		w.t.Errorf("a page of %s: %d %s", host, a.Status, a.Header.Get("Content-Type"))
	}
}

func (w works) isShown(name, text string, weak bool) {
	w.t.Helper()
	page := w.look(text)
	genuine := strings.Contains(page.Body, "A genuine code")
	assert.True(w.t, page.Status == 200 && genuine != weak && strings.Contains(page.Body, "the code alone does not prove") == weak &&
		strings.Contains(page.Body, text[len(text)-4:]),
		"%s: the page of %q is %d, genuine: %t; %.3000s", name, text, page.Status, genuine, page.Body)
}

// opensNothingElse changes the text of a code, one character of its secret at a time.
func (w works) opensNothingElse(name string, row labels.Row, page bool) {
	w.t.Helper()
	// The secret stands at the end of the text, or of this line.
	line, _, _ := strings.Cut(row.Text[strings.LastIndex(row.Text, "：")+1:], "\n")
	end := strings.LastIndex(row.Text, line) + len(line)
	for _, at := range []int{end - 1, end - 8, end - 14} {
		by := byte('7')
		if row.Text[at] == by {
			by = '8'
		}
		wrong := row.Text[:at] + string(by) + row.Text[at+1:]
		assert.Equal(w.t, w.ask("resolve", "alice", wrong).short(), "show_message unknown_code",
			"%s: %q in place of %q", name, wrong, row.Text)
		if !page {
			continue
		}
		if a := w.look(wrong); a.Status != 404 || strings.Contains(a.Body, "A genuine code") {
			w.t.Errorf("%s: the page of %q in place of %q is %d", name, wrong, row.Text, a.Status)
		}
	}
	assert.Equal(w.t, w.ask("resolve", "alice", row.Code).short(), "show_message serial_only", "%s: the serial alone", name)
}

// A text with a serial number and a PIN opens nothing; the page for buyers says genuine only for the right PIN, and after five wrong ones
// no more.
func TestPIN_TypedIntoPage(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, database string) {
		w := brew(t, servertest.Options{Config: func(c *server.Config) { c.Database, c.DevHost = database, tradeHosts }})
		for text, scanned := range map[string]string{"https://trace.example/{serial}{digits:4}": "serial_only",
			"https://trace.example/{serial}/{secret}{digits:6}": ""} {
			id := w.order(client.OrderPut{Text: text, AllowGuessable: true}, text).ApplicationID
			w.activate(id, 0, 99)
			list := strings.Split(w.Admin("GET", fmt.Sprintf("/batches/%d/codes?from=7&to=8", id), "").Body, "\r\n")
			require.True(t, list[0] == "index,code,code_text,pin", "%q", list)
			page := func(row, typed, language string) servertest.Answer {
				link, err := url.Parse(strings.Split(row, ",")[2])
				require.NoError(t, err)
				header := []string{"Host: trace.example", "Accept-Language: " + language, "Content-Type: application/x-www-form-urlencoded"}
				if typed == "" {
					return w.Do("GET", link.RequestURI(), "", header...)
				}
				return w.Do("POST", link.RequestURI(), "pin="+typed, header...)
			}
			says := func(row, typed, english, chinese string) {
				t.Helper()
				for language, heading := range map[string]string{"en": english, "zh-CN": chinese} {
					a := page(row, typed, language)
					policy := a.Header.Get("Content-Security-Policy")
					form := strings.Contains(a.Body, "<form") && strings.Contains(policy, "form-action 'self'")
					asks := heading == english && !strings.Contains(english, "genuine") && !strings.HasPrefix(english, "Too many")
					assert.True(t, a.Status == 200 && strings.Contains(a.Body, ">"+heading+"</h1>") && (language != "en" || form == asks),
						"%s, PIN %q, %s: %d %s", text, typed, language, a.Status, a.Body)
				}
			}
			pin := strings.Split(list[1], ",")[3]
			wrong := string('0'+(pin[0]-'0'+1)%10) + pin[1:]
			opened := w.ask("resolve", "alice", strings.Split(list[1], ",")[2])
			assert.True(t, opened.Reason == scanned && strings.Contains(opened.Message, "scratch layer") == (scanned != ""),
				"%s: %+v", text, opened)
			says(list[1], "", "Enter the number under the scratch layer", "请输入刮开涂层后的数字")
			says(list[1], pin, "A genuine code", "此码为正品码")
			says(list[1], wrong, "This number is wrong", "数字不正确")
			says(list[1], wrong, "This number is wrong", "数字不正确")
			says(list[1], wrong, "Too many wrong numbers", "输错次数过多") // the fifth
			assert.Contains(t, page(list[1], pin, "en").Body, "Too many wrong numbers", "%s: the right PIN after that", text)
			body := page(list[1], "", "en").Body
			assert.True(t, strings.Contains(body, "Too many wrong numbers") && !strings.Contains(body, "<form"), "%s: %s", text, body)
			assert.True(t, strings.Contains(body, "does not count the scans") == (scanned != "") &&
				strings.Contains(body, "Checked once") == (scanned == ""), "%s: the checks on the page: %s", text, body)
			says(list[2], strings.Split(list[2], ",")[3], "A genuine code", "此码为正品码")
			a := w.Do("POST", "/", "pin=1234", "Host: trace.example")
			assert.True(t, !strings.Contains(a.Body, "genuine"), "a PIN without a code: %d %s", a.Status, a.Body)
		}
	})
}
