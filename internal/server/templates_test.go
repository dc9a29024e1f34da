package server_test

import (
	"bytes"
	"encoding/csv"
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

// templateCases are text templates, one of each kind.
var templateCases = []struct {
	name string
	client.OrderPut
	page bool // its texts are links that a browser opens
	weak bool // its codes are guessable
}{
	{name: "prefix and secret", page: true},
	{name: "a link of a host of its own", OrderPut: client.OrderPut{Text: "https://trace.example/产品 A/{serial}/{secret}"}, page: true},
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

var templateHosts = []string{"p.url.cn", "id.brand.example", "trace.example", "weak.example"}

func (w brandServer) order(put client.OrderPut, isv string) (order client.Order) {
	w.t.Helper()
	put.Count, put.ISV = 10_000, isv
	a := w.TryAdmin("POST", "/accounts/brand/orders", toJSON(w.t, put))
	a.JSON(w.t, &order)
	require.True(w.t, order.ApplicationID != 0, "%s: %d %s", isv, a.Status, a.Body)
	return order
}

// packageRow returns the row of a code in the download of applycodedownload.
func packageRow(w brandServer, id, index int64) labels.Row {
	w.t.Helper()
	for row, err := range labels.Rows(strings.NewReader(packageRows(w, id, index, index))) {
		require.NoError(w.t, err)
		return row
	}
	w.t.Fatalf("the download of code %d of %d is empty, want one row", index, id)
	return labels.Row{}
}

// TestTemplateTexts_FullLifecycle verifies that codes with a text template can be ordered, downloaded, looked up, scanned, exchanged and
// shown on the page for buyers, and that a text with one changed character of its secret opens nothing.
func TestTemplateTexts_FullLifecycle(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, database string) {
		w := startBrand(t, servertest.Options{Config: func(c *server.Config) { c.Database, c.DevHost = database, templateHosts }})
		var ids []int64
		for i, c := range templateCases {
			order := w.order(c.OrderPut, fmt.Sprint("order ", i))
			batch := servertest.Decode[client.Batch](t, w.Admin("GET", fmt.Sprintf("/batches/%d", order.ApplicationID), ""))
			assert.True(t, batch.Guessable == c.weak && batch.TextBits == order.TextBits && (batch.TextBits < 40) == c.weak,
				"%s: %+v", c.name, batch)
			w.activate(order.ApplicationID, 0, 99)
			ids = append(ids, order.ApplicationID)
		}
		var texts []string
		for i, c := range templateCases {
			row := packageRow(w, ids[i], 7)
			stored := w.code(ids[i], 7)
			assert.True(t, stored.CodeURL == row.Text && stored.Code == row.Code, "%s: %+v, and %+v in the package", c.name, stored, row)
			texts = append(texts, row.Text)
			w.checkOpens(c.name, row.Text, ids[i], 7)
			if data, err := gs1.Parse(row.Text); err == nil && !data.Key.IsZero() && len(data.Attributes) > 0 {
				w.checkOpens(c.name+" with brackets", data.Bracketed(), ids[i], 7)
				w.checkOpens(c.name+" with a symbology identifier", "]Q3"+data.ElementString(), ids[i], 7)
			}
			d := w.callScan("resolve", "alice", packageRow(w, ids[i], 100).Text)
			assert.True(t, d.Reason == "not_active", "%s: an inactive code: %s, want not_active", c.name, d.summary())
			if c.page {
				w.checkPage(c.name, row.Text, c.weak)
			}
			w.checkForged(c.name, row, c.page)
			w.checkPrinterRun(c.name, ids[i], row.Text)
		}
		w.Admin("PUT", "/settings", `{"apple_app_ids":["ABCDE12345.com.example.app"]}`)
		w.checkCodeHost("id.brand.example", `{"/":"/01/??????????????/21/?????????","?":"98=???????????????????","caseSensitive":false}`)
		w.checkCodeHost("weak.example", `{"/":"/????????????????????","caseSensitive":false}`)
		scans := w.Admin("GET", "/scans?limit=1000", "").Body + w.Log()
		for i, text := range texts {
			if secret := text[len(text)-10:]; !strings.Contains(text, "\n") && strings.Contains(scans, secret) {
				t.Errorf("%s: the scan log or the server log contains its secret", templateCases[i].name)
			}
		}
	})
}

// TestTemplateTexts_ImportIntoOtherServer imports codes with a text template into another server with the same template. They must behave
// as on the first server, and survive an export.
func TestTemplateTexts_ImportIntoOtherServer(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		first, p := startBrand(t, servertest.Options{}), newInstance(t)
		second := startBrand(t, servertest.Options{Data: p.data, Config: func(c *server.Config) {
			c.Database, c.DevHost = p.database, templateHosts
		}})
		var records []codeRecord
		for i, c := range templateCases[1:] {
			id := first.order(c.OrderPut, fmt.Sprint("order ", i)).ApplicationID
			lines := packageRows(first, id, 0, 9)
			order := client.NewImport{ISV: fmt.Sprint("moved ", i), ID: id + 1000, Count: 10, Text: c.Text, GTIN: c.GTIN,
				FixedDigits: c.FixedDigits, AllowGuessable: c.AllowGuessable}
			batch := servertest.Decode[client.Batch](t, second.Admin("POST", "/accounts/brand/imported-batches", toJSON(t, order)))
			require.True(t, batch.ID == id+1000 && batch.Imported && batch.Text != "" && batch.Guessable == c.weak,
				"%s: %+v", c.name, batch)
			first, rest, _ := strings.Cut(lines, "\n")
			// Rows with a wrong serial number or text are rejected.
			columns := strings.Fields(first)
			wrong := map[string]string{"the text is not one of": columns[3] + "0"}
			if strings.Contains(columns[3], columns[1]) {
				wrong["which is column 2"] = strings.Replace(columns[3], columns[1], "000000000", 1)
			}
			for reason, text := range wrong {
				a := importRows(second.Server, batch.ID, 1, strings.Join([]string{columns[0], columns[1], "0", text}, " "))
				assert.True(second.t, a.Status == 422 && strings.Contains(a.Body, reason) && !strings.Contains(a.Body, columns[3]),
					"%s: an invalid row: %d %s, want 422 with %q", c.name, a.Status, a.Body, reason)
			}
			for _, added := range []int{10, 0} {
				a := importRows(second.Server, batch.ID, 1, lines)
				require.Contains(t, a.Body, fmt.Sprintf(`"added":%d`, added), "%s: %d", c.name, a.Status)
			}
			second.activate(batch.ID, 0, 8)
			texts := require.All(t, labels.Rows(strings.NewReader(rest)))
			row := texts[6]
			second.checkOpens(c.name, row.Text, batch.ID, 7)
			if data, err := gs1.Parse(row.Text); err == nil && !data.Key.IsZero() && len(data.Attributes) > 0 {
				second.checkOpens(c.name+" with a symbology identifier", "]Q3"+data.ElementString(), batch.ID, 7)
			}
			if c.page {
				second.checkPage(c.name, row.Text, c.weak)
			}
			second.checkForged(c.name, row, c.page)
			d := second.callScan("resolve", "alice", texts[8].Text)
			assert.True(t, d.Reason == "not_active", "%s: an inactive code: %s, want not_active", c.name, d.summary())
			if stored := second.code(batch.ID, 8); stored.CodeURL != texts[7].Text || stored.Code != texts[7].Code {
				t.Errorf("%s: %+v, and it was %+v", c.name, stored, texts[7])
			}
			ownID := second.order(c.OrderPut, fmt.Sprint("own ", i)).ApplicationID
			refused := importRows(second.Server, batch.ID, 1, packageRows(second, ownID, 0, 0))
			assert.True(t, refused.Status == 422 && strings.Contains(refused.Body, "the format of codes that this server generates"),
				"%s: a row of a generated code: %d %s, want 422", c.name, refused.Status, refused.Body)
			records = append(records, second.code(batch.ID, 8), second.code(ownID, 9_999))
			// A text with additions by a scanner is not a code, but its secret must not be recorded either.
			surrounded := strings.ReplaceAll(row.Text, "\n", "\r\n") + "#x"
			second.callScan("resolve", "alice", "https://elsewhere.example/?q="+surrounded)
			scans := second.Admin("GET", "/scans?limit=1000", "").Body
			assert.True(t, !strings.Contains(scans, row.Text[len(row.Text)-10:]), "%s: the scan log contains its secret", c.name)
		}
		// An archive preserves all codes.
		last := newInstance(t)
		last.restore(t, exportArchive(t, second.Server))
		restored := brandServer{last.start(t, servertest.Options{}), t}
		for _, c := range records {
			var found codeRecord
			restored.Admin("POST", "/codes/lookup", toJSON(t, map[string]string{"code_url": c.CodeURL})).JSON(t, &found)
			assert.True(t, found.ApplicationID == c.ApplicationID && found.CodeIndex == c.CodeIndex && found.CodeURL == c.CodeURL,
				"lookup of %q after the restore = %+v, want %+v", c.CodeURL, found, c)
		}
	})
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	body := require.Value(json.Marshal(v))(t)
	return string(body)
}

func (w brandServer) checkOpens(name, text string, id, index int64) {
	w.t.Helper()
	found := servertest.Decode[codeRecord](w.t, w.Admin("POST", "/codes/lookup", toJSON(w.t, map[string]string{"code_url": text})))
	assert.True(w.t, found.ApplicationID == id && found.CodeIndex == index,
		"%s: lookup of %q = code %d of %d, want %d of %d", name, text, found.CodeIndex, found.ApplicationID, index, id)
	d := w.callScan("resolve", "alice", text)
	got := d.summary()
	require.True(w.t, got == "shop release pages/index/index?code_ticket=T 1124 code" && d.Matched.ApplicationID == id &&
		*d.Matched.CodeIndex == index, "%s: %q opens %s", name, text, got)
	a := w.exchangeTicket(w.openid("default", "shop", "alice"), d.ticket())
	assert.True(w.t, a.Code(w.t) == 0 && strings.Contains(a.Body, fmt.Sprintf(`"code":%q,"application_id":%d,`, found.Code, id)),
		"%s: its ticket is %s", name, a.Body)
}

// checkPrinterRun downloads a printer package and verifies the verdicts of a print run for the texts that a line camera reads.
func (w brandServer) checkPrinterRun(name string, id int64, text string) {
	w.t.Helper()
	operator := require.Value(client.New(w.URL, client.Options{AdminToken: servertest.AdminToken}))(w.t)
	const passphrase = "a long passphrase of words"
	pkg := require.Value(operator.Packages.Create(w.t.Context(), id, client.PackageRequest{From: 7, To: 9, Printer: "acme", Proofs: 1,
		Formats: []string{"csv", "lines"}}))(w.t)
	var file bytes.Buffer
	require.NoError(w.t, operator.Packages.Download(w.t.Context(), pkg.ID, passphrase, &file))
	key := require.Value(printpackage.ByPassphrase(passphrase))(w.t)
	signer := require.Value(operator.Packages.GetSigner(w.t.Context()))(w.t)
	signers := require.Value(printpackage.ParseSigners([]byte(signer.AllowedSigners)))(w.t)
	var run *printpackage.Run
	var texts []string
	_, err := printpackage.Open(&file, key, signers, func(p printpackage.Part, r io.Reader) error {
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
	for _, text := range append(texts, texts[0]) {
		v, index := run.Read(text)
		read = append(read, fmt.Sprint(v, " ", index))
	}
	assert.Equal(w.t, strings.Join(read, ", "), "good 7, good 8, good 9, proof -1, double 7", "%s", name)
}

// fetchPage returns the response to a browser that opens the text of a code.
func (w brandServer) fetchPage(text string) servertest.Answer {
	w.t.Helper()
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	link := require.Value(url.Parse(text))(w.t)
	return w.Do("GET", link.RequestURI(), "", "Host: "+strings.ToLower(link.Host), "Accept: text/html", "Accept-Language: en")
}

// checkCodeHost verifies that the app link file of a host contains line, and that an unknown path returns an HTML page with status 404.
func (w brandServer) checkCodeHost(host, line string) {
	w.t.Helper()
	a := w.Do("GET", "/.well-known/apple-app-site-association", "", "Host: "+host)
	assert.True(w.t, a.Status == 200 && strings.Contains(a.Body, line), "app links of %s: %d %s, want %s", host, a.Status, a.Body, line)
	if a := w.Do("GET", "/nothing", "", "Host: "+host); a.Status != 404 || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
		w.t.Errorf("an unknown path of %s: %d %s, want 404 text/html", host, a.Status, a.Header.Get("Content-Type"))
	}
}

func (w brandServer) checkPage(name, text string, weak bool) {
	w.t.Helper()
	page := w.fetchPage(text)
	genuine := strings.Contains(page.Body, "A genuine code")
	assert.True(w.t, page.Status == 200 && genuine != weak && strings.Contains(page.Body, "the code alone does not prove") == weak &&
		strings.Contains(page.Body, text[len(text)-4:]),
		"%s: the page of %q is %d, genuine: %t; %.3000s", name, text, page.Status, genuine, page.Body)
}

// checkForged verifies that a text with one changed character of its secret, and the serial number alone, open nothing.
func (w brandServer) checkForged(name string, row labels.Row, page bool) {
	w.t.Helper()
	// The secret is at the end of the text, or of the line after the colon.
	line, _, _ := strings.Cut(row.Text[strings.LastIndex(row.Text, "：")+1:], "\n")
	end := strings.LastIndex(row.Text, line) + len(line)
	for _, i := range []int{end - 1, end - 8, end - 14} {
		replacement := byte('7')
		if row.Text[i] == replacement {
			replacement = '8'
		}
		wrong := row.Text[:i] + string(replacement) + row.Text[i+1:]
		assert.Equal(w.t, w.callScan("resolve", "alice", wrong).summary(), "show_message unknown_code",
			"%s: %q in place of %q", name, wrong, row.Text)
		if !page {
			continue
		}
		if a := w.fetchPage(wrong); a.Status != 404 || strings.Contains(a.Body, "A genuine code") {
			w.t.Errorf("%s: the page of %q in place of %q = %d, want 404", name, wrong, row.Text, a.Status)
		}
	}
	assert.Equal(w.t, w.callScan("resolve", "alice", row.Code).summary(), "show_message serial_only", "%s: the serial alone", name)
}

// TestListCodes_QuotesTexts verifies that a text with commas, quotes and line feeds is one column of the list of codes.
func TestListCodes_QuotesTexts(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{})
	id := w.order(client.OrderPut{Text: "https://q.example/a,b/\"{serial}\"\n=1,{secret}"}, "odd").ApplicationID
	list := w.Admin("GET", fmt.Sprintf("/batches/%d/codes?from=7&to=8", id), "").Body
	rows, err := csv.NewReader(strings.NewReader(list)).ReadAll()
	require.True(t, err == nil && len(rows) == 3, "%q: %v", list, err)
	record := w.code(id, 7)
	assert.Equal(t, strings.Join(rows[1], "|"), "7|"+record.Code+"|"+record.CodeURL, "row of code 7")
}

// TestPIN_TypedIntoPage verifies that a text with a serial number and a PIN opens nothing by itself, that the page for buyers confirms only
// the right PIN, and that it accepts no PIN after five wrong ones. The same holds on a host with GS1 links.
func TestPIN_TypedIntoPage(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, database string) {
		w := startBrand(t, servertest.Options{Config: func(c *server.Config) { c.Database, c.DevHost = database, templateHosts }})
		w.Admin("PUT", "/settings", `{"gs1_hosts":["id.brand.example"],"landing_page_rate_limit":100}`)
		for text, scanned := range map[string]string{"https://trace.example/{serial}{digits:4}": "serial_only",
			"https://trace.example/{serial}/{secret}{digits:6}": "", "https://id.brand.example/01/{gtin}/21/{serial}?98={secret}{digits:6}": ""} {
			order := client.OrderPut{Text: text, AllowGuessable: true}
			if strings.Contains(text, "{gtin}") {
				order.GTIN = "9506000134352"
			}
			id := w.order(order, text).ApplicationID
			w.activate(id, 0, 99)
			list := strings.Split(w.Admin("GET", fmt.Sprintf("/batches/%d/codes?from=7&to=8", id), "").Body, "\r\n")
			require.True(t, list[0] == "index,code,code_text,pin", "%q", list)
			page := func(row, typed, language string) servertest.Answer {
				link := require.Value(url.Parse(strings.Split(row, ",")[2]))(t)
				header := []string{"Host: " + link.Host, "Accept-Language: " + language, "Content-Type: application/x-www-form-urlencoded"}
				if typed == "" {
					return w.Do("GET", link.RequestURI(), "", header...)
				}
				return w.Do("POST", link.RequestURI(), "pin="+typed, header...)
			}
			checkPage := func(row, typed, english, chinese string) {
				t.Helper()
				for language, heading := range map[string]string{"en": english, "zh-CN": chinese} {
					a := page(row, typed, language)
					policy := a.Header.Get("Content-Security-Policy")
					form := strings.Contains(a.Body, "<form") && strings.Contains(policy, "form-action 'self'")
					hasForm := heading == english && !strings.Contains(english, "genuine") && !strings.HasPrefix(english, "Too many")
					assert.True(t, a.Status == 200 && strings.Contains(a.Body, ">"+heading+"</h1>") &&
						(language != "en" || form == hasForm), "%s, PIN %q, %s: %d %s", text, typed, language, a.Status, a.Body)
				}
			}
			pin := strings.Split(list[1], ",")[3]
			wrong := string('0'+(pin[0]-'0'+1)%10) + pin[1:]
			scan := w.callScan("resolve", "alice", strings.Split(list[1], ",")[2])
			assert.True(t, scan.Reason == scanned && strings.Contains(scan.Message, "scratch layer") == (scanned != ""),
				"%s: %+v", text, scan)
			host, _, _ := strings.Cut(strings.TrimPrefix(text, "https://"), "/")
			explained := w.Do("POST", "/scan/v1/explain", fmt.Sprintf(`{"text":%q,"assume":[{"owner":"shop","prefix":"https://%s/","path":"p"}]}`,
				strings.Split(list[1], ",")[2], host)).Body
			assert.Contains(t, explained, "It matches, but the text is a code", "%s: explanation of a rule that matches", text)
			checkPage(list[1], "", "Enter the number under the scratch layer", "请输入刮开涂层后的数字")
			checkPage(list[1], pin, "A genuine code", "此码为正品码")
			checkPage(list[1], wrong, "This number is wrong", "数字不正确")
			checkPage(list[1], wrong, "This number is wrong", "数字不正确")
			checkPage(list[1], wrong, "Too many wrong numbers", "输错次数过多") // the fifth
			assert.Contains(t, page(list[1], pin, "en").Body, "Too many wrong numbers", "%s: the right PIN after that", text)
			body := page(list[1], "", "en").Body
			assert.True(t, strings.Contains(body, "Too many wrong numbers") && !strings.Contains(body, "<form"), "%s: %s", text, body)
			assert.True(t, strings.Contains(body, "does not count the scans") == (scanned != "") &&
				strings.Contains(body, "Checked once") == (scanned == ""), "%s: the checks on the page: %s", text, body)
			checkPage(list[2], strings.Split(list[2], ",")[3], "A genuine code", "此码为正品码")
			a := w.Do("POST", "/", "pin=1234", "Host: trace.example")
			assert.True(t, !strings.Contains(a.Body, "genuine"), "a PIN without a code: %d %s", a.Status, a.Body)
		}
	})
}
