package adminapi_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const cafe = `
accounts:
  - {appid: cafe, kind: mini_program, name: Cafe, secret: secret-cafe, versions: [release]}
  - {appid: maker, kind: service_account, secret: secret-maker, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef, linked: [cafe]}
rules:
  - {owner: cafe, prefix: "https://cafe.example/t/", path: pages/t, published: true}
settings: {verification: trust, rule_rate_limit: null}
`

// scans makes scans of a link and returns their ids.
func scans(t *testing.T, s *servertest.Server, texts ...string) (ids []string) {
	t.Helper()
	for i, text := range texts {
		var d struct {
			ID string `json:"scan_id"`
		}
		body, err := json.Marshal(map[string]any{"text": text, "user": fmt.Sprintf("u%d", i%3), "ip": "203.0.113.77", "client": "=app/1"})
		require.NoError(t, err)
		s.Do("POST", "/scan/v1/resolve", string(body)).JSON(t, &d)
		require.True(t, d.ID != "", "the scan of %s has no id", text)
		ids = append(ids, d.ID)
	}
	return ids
}

type fedScan struct {
	ID      string `json:"scan_id"`
	Action  string `json:"action"`
	Kind    string `json:"kind"`
	Network string `json:"network"`
	Text    string `json:"text"`
	User    string `json:"user"`
}

type feedPage struct {
	Scans []fedScan `json:"scans"`
	Next  string    `json:"next"`
	More  bool      `json:"more"`
}

func TestScanFeed_ExactlyOnceInOrder(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	var want []string
	for range 5 {
		want = append(want, scans(t, s, "https://cafe.example/t/1", "https://nobody.example/x/y", "a text")...)
	}
	var got []string
	after := ""
	for {
		var p feedPage
		call(t, s, "GET", "/scans?limit=4&after="+after, "").JSON(t, &p)
		for _, one := range p.Scans {
			got = append(got, one.ID)
			assert.True(t, one.Network == "203.0.113.0/24" && len(one.User) == 32, "network %q, user %q", one.Network, one.User)
		}
		if len(p.Scans) == 0 {
			break
		}
		after = p.Next
	}
	assert.True(t, strings.Join(got, " ") == strings.Join(want, " "), "the feed has\n%v, want\n%v", got, want)
	more := scans(t, s, "https://cafe.example/t/2")
	var p feedPage
	call(t, s, "GET", "/scans?after="+after, "").JSON(t, &p)
	if len(p.Scans) != 1 || p.Scans[0].ID != more[0] || p.Scans[0].Kind != "rule" || p.Scans[0].Text != "https://cafe.example/t/2" {
		t.Errorf("after the last scan: %+v, want %s", p, more[0])
	}
	// The newest, and page by page from there. Issue 11, 6.
	want = append(want, more...)
	for _, n := range []int{1, 5, 16, 17, 1000} {
		var page struct {
			feedPage
			Older *bool `json:"older"`
		}
		a := call(t, s, "GET", fmt.Sprintf("/scans?limit=4&newest=%d", n), "")
		a.JSON(t, &page)
		got := page.Scans
		for page.More {
			page.feedPage = feedPage{}
			call(t, s, "GET", "/scans?limit=4&after="+got[len(got)-1].ID, "").JSON(t, &page.feedPage)
			got = append(got, page.Scans...)
		}
		tail := want[max(0, len(want)-n):]
		if page.Older == nil || *page.Older != (n < len(want)) ||
			!slices.EqualFunc(got, tail, func(a fedScan, id string) bool { return a.ID == id }) {
			t.Errorf("the newest %d: %d scans, want %d: %s", n, len(got), len(tail), a.Body)
		}
	}
	if a := call(t, s, "GET", "/scans?newest=1&after="+want[0], ""); a.Status != 422 || !strings.Contains(a.Body, "choose one") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := call(t, s, "GET", "/scans/"+want[1], ""); !strings.Contains(a.Body, `"text":"https://nobody.example/x/y"`) {
		t.Error(a.Body)
	}
}

func TestScanFeed_ForgedID(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	id := scans(t, s, "https://cafe.example/t/1")[0]
	foreign := id[:31] + map[bool]string{true: "0", false: "1"}[id[31] != '0']
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"/scans?after=" + foreign, 404, "no scan with this id"},
		{"/scans/" + foreign, 404, "no scan with this id"},
		{"/scans?after=00000000000000000000000000000000", 200, id}, // before everything
		{"/scans/00000000000000000000000000000000", 404, "no scan"},
		{"/scans?after=ffffffffffffffffffffffffffffffff", 404, "no scan"},
		{"/scans?after=" + strings.ToUpper(id), 422, "no scan id"},
		{"/scans?after=x", 422, "no scan id"},
		{"/scans/..%2f..%2fx", 422, "no scan id"},
		{"/scans/../../x", 404, "no operation has this path"},
		{"/scans?after=%00", 422, "no scan id"},
		{"/scans?limit=1001", 422, "limit"},
		{"/scans/export?format=xls", 422, "format"},
		{"/scans/export?from=yesterday", 422, "from is not a time"},
		{"/statistics?to=2026-13-01", 422, "to is not a time"},
		{"/statistics?from=2026-01-02&to=2025-01-01", 422, "from must be before to"},
		{"/statistics?by=year", 422, "by"},
		{"/statistics?count=users&by=hour", 422, "counted per day"},
		{"/statistics?count=users&group=app&source=scan", 422, "one dimension"},
		{"/alarms/1/acknowledge", 405, ""},
	} {
		if a := call(t, s, "GET", c.path, ""); a.Status != c.status || !strings.Contains(a.Body, c.says) {
			t.Errorf("%s: %d %s, want %d and %q", c.path, a.Status, a.Body, c.status, c.says)
		}
	}
	if a := call(t, s, "POST", "/alarms/7/acknowledge", `{}`); a.Status != 404 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestStatistics_FreshOnRead(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	last := ""
	for n := 1; n <= 3; n++ {
		ids := scans(t, s, "https://cafe.example/t/1", "https://nobody.example/x/y")
		last = ids[1]
		var a struct {
			Rows []struct {
				Value        string
				Scans, Users int
			}
			Counted struct {
				ScanID string `json:"scan_id"`
				Scans  int
			}
		}
		call(t, s, "GET", "/statistics?wait=true&group=result", "").JSON(t, &a)
		if len(a.Rows) != 2 || a.Rows[0].Scans != n || a.Rows[0].Value != "open_mini_program/rule" || a.Counted.ScanID != last ||
			a.Counted.Scans != 2*n {
			t.Errorf("%d: %+v", n, a)
		}
		call(t, s, "GET", "/statistics?count=users", "").JSON(t, &a)
		assert.True(t, len(a.Rows) == 1 && a.Rows[0].Users == 2, "users: %+v", a)
	}
	if a := call(t, s, "GET", "/statistics?by=day&from=2026-01-15&to=2026-01-15&app=cafe&source=scan", ""); !strings.Contains(a.Body,
		`"rows":[{"starts_at":"2026-01-15T00:00:00+08:00","value":"","scans":3,"first_scans":0}]`) {
		t.Error(a.Body)
	}
	a := call(t, s, "GET", "/statistics/unmatched", "")
	if !strings.Contains(a.Body, `{"locations":[{"location":"nobody.example/x","scans":3}]}`) {
		t.Error(a.Body)
	}
	if a := call(t, s, "POST", "/statistics/recount", ""); !strings.Contains(a.Body, `"scans":6`) ||
		!strings.Contains(a.Body, `"difference_count":0`) {
		t.Error(a.Body)
	}
	// A reset leaves neither counts nor scans.
	s.Admin("POST", "/emulator/reset", "")
	for _, path := range []string{"/statistics?wait=true", "/scans", "/statistics/unmatched"} {
		if a := call(t, s, "GET", path, ""); strings.Contains(a.Body, `"scans":3`) || strings.Contains(a.Body, "nobody") {
			t.Errorf("after a reset, %s: %s", path, a.Body)
		}
	}
	scans(t, s, "https://cafe.example/t/1")
	if a := call(t, s, "GET", "/statistics?wait=true", ""); !strings.Contains(a.Body, `"scans":1,"first_scans":0}]`) {
		t.Error(a.Body)
	}
}

func TestEraseUser_NoScanHoldsUser(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	scans(t, s, "https://cafe.example/t/1", "https://cafe.example/t/2", "https://cafe.example/t/3", "https://cafe.example/t/4")
	var p feedPage
	call(t, s, "GET", "/scans", "").JSON(t, &p)
	u0 := p.Scans[0].User
	if a := call(t, s, "DELETE", "/users/u0/scans", ""); a.Body != `{"scans":2}`+"\n" {
		t.Error(a.Body)
	}
	if a := call(t, s, "DELETE", "/users/u0/scans", ""); a.Body != `{"scans":0}`+"\n" {
		t.Error(a.Body)
	}
	for _, path := range []string{"/scans", "/scans/export"} {
		if a := call(t, s, "GET", path, ""); strings.Contains(a.Body, u0) || strings.Count(a.Body, "cafe.example") != 4 {
			t.Errorf("%s: %s", path, a.Body)
		}
	}
	if a := call(t, s, "GET", "/statistics?count=users", ""); !strings.Contains(a.Body, `"users":3`) {
		t.Errorf("the count went with the user: %s", a.Body)
	}
	if a := call(t, s, "POST", "/statistics/recount", ""); !strings.Contains(a.Body, `"difference_count":0`) {
		t.Error(a.Body)
	}
}

func TestScanExport_Complete(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	ids := scans(t, s, "https://cafe.example/t/1", "https://nobody.example/=2", "+49")
	a := call(t, s, "GET", "/scans/export", "")
	assert.True(t, a.Header.Get("Content-Type") == "text/csv; charset=utf-8", "%v", a.Header)
	lines, err := csv.NewReader(strings.NewReader(a.Body)).ReadAll()
	require.NoError(t, err)
	if len(lines) != 4 || lines[1][0] != ids[0] || lines[3][0] != ids[2] || lines[0][4] != "client" || lines[1][4] != "'=app/1" {
		t.Errorf("%v", lines)
	}
	a = call(t, s, "GET", "/scans/export?format=parquet", "")
	rows, err := parquet.Read[struct {
		ID   string    `parquet:"scan_id"`
		At   time.Time `parquet:"occurred_at,timestamp(millisecond)"`
		Text string    `parquet:"text"`
	}](bytes.NewReader([]byte(a.Body)), int64(len(a.Body)))
	require.NoError(t, err)
	if len(rows) != 3 || rows[1].ID != ids[1] || !rows[1].At.Equal(servertest.Began) || rows[1].Text != "https://nobody.example/=2" {
		t.Errorf("%+v", rows)
	}
	rule := lines[1][12]
	for query, want := range map[string]int{"?from=2026-01-16": 1, "?to=2026-01-14": 1, "?user=nobody": 1, "?rule=" + rule: 2,
		"?format=csv&rule=999," + rule: 2, "?application_id=7&code_index=1": 1} {
		if a := call(t, s, "GET", "/scans/export"+query, ""); strings.Count(a.Body, "\n") != want {
			t.Errorf("%s: want %d lines\n%s", query, want, a.Body)
		}
	}
}

// aBatch applies for codes and activates them; it returns the application.
func aBatch(t *testing.T, s *servertest.Server) int64 {
	t.Helper()
	var made struct {
		ID int64 `json:"application_id"`
	}
	s.Do("POST", "/intp/marketcode/applycode?access_token="+s.Token("maker"), `{"code_count":10000,"isv_application_id":"order"}`).JSON(t,
		&made)
	require.True(t, made.ID != 0, "no application")
	a := call(t, s, "POST", fmt.Sprintf("/batches/%d/activations", made.ID), `{"code_start":0,"code_end":99,"binding":{"activity_name":"Spring","product_brand":"Tea","product_title":"Green",
		"product_code":"6901234567892","wxa_appid":"cafe","wxa_path":"pages/item"}}`)
	require.True(t, a.Status == 200, "%v", a.Body)
	return made.ID
}

func codeText(t *testing.T, s *servertest.Server, batch, index int64) string {
	t.Helper()
	var c struct {
		URL string `json:"code_url"`
	}
	call(t, s, "POST", "/codes/lookup", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, batch, index)).JSON(t, &c)
	s.Hide(c.URL)
	return c.URL
}

func TestAlarms_CopiedCodeRaisesOne(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	batch := aBatch(t, s)
	for path, want := range map[string]int{fmt.Sprintf("/batches/%d/codes/9999/scans", batch): 200,
		fmt.Sprintf("/batches/%d/codes/10000/scans", batch): 422, "/batches/7/codes/0/scans": 404} {
		if a := call(t, s, "GET", path, ""); a.Status != want {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	scan := func(index int64, user int) {
		t.Helper()
		body, err := json.Marshal(map[string]any{"text": codeText(t, s, batch, index), "user": fmt.Sprint("u", user),
			"ip": fmt.Sprintf("10.%d.0.1", user)})
		require.NoError(t, err)
		if a := s.Do("POST", "/scan/v1/resolve", string(body)); !strings.Contains(a.Body, `"code_index"`) {
			t.Fatal(a.Body)
		}
	}
	for user := range 2 { // a code in the hands of two
		scan(1, user)
		scan(1, user)
	}
	for user := range 40 { // one that is everywhere
		scan(2, user)
	}
	if a := call(t, s, "GET", "/statistics?wait=true&group=activity&count=first&brand=Tea", ""); !strings.Contains(a.Body,
		`"rows":[{"value":"Spring","scans":44,"first_scans":2}]`) {
		t.Error(a.Body)
	}
	if a := call(t, s, "GET", "/statistics?group=product", ""); !strings.Contains(a.Body,
		`{"value":"6901234567892","scans":44,"first_scans":2}`) {
		t.Error(a.Body)
	}
	if a := call(t, s, "GET", fmt.Sprintf("/batches/%d/codes/1/scans", batch), ""); !strings.Contains(a.Body,
		`"scans":4,"users":2,"first_at":"2026-01-15T02:00:00Z"`) {
		t.Error(a.Body)
	}
	for range 2 { // it stays one
		if a := call(t, s, "GET", "/alarms?state=open&acknowledged=false", ""); strings.Count(a.Body, `"kind":"copied_code"`) != 1 ||
			!strings.Contains(a.Body, `"code_index":2`) {
			t.Error(a.Body)
		}
		scan(2, 99)
		call(t, s, "GET", "/statistics?wait=true", "")
	}
	if a := call(t, s, "POST", "/alarms/1/acknowledge", `{"actor":"eve"}`); !strings.Contains(a.Body, `"acknowledged_by":"admin"`) {
		t.Error(a.Body)
	}
	if a := call(t, s, "POST", "/alarms/1/acknowledge", `{"actor":"mallory"}`); !strings.Contains(a.Body, `"acknowledged_by":"admin"`) {
		t.Error(a.Body)
	}
	if a := call(t, s, "GET", "/alarms?state=open&acknowledged=false", ""); a.Body != `{"alarms":[],"unacknowledged":0}`+"\n" {
		t.Error(a.Body)
	}
	// Issue 28, 2: it stands on the code and in the list of codes until somebody takes it back, and a scan of a later time
	// alarms the code again when there are enough of them.
	at, lookup := fmt.Sprintf("/batches/%d", batch), fmt.Sprintf(`{"application_id":%d,"code_index":2}`, batch)
	says := func(method, path, body, want string) {
		t.Helper()
		if a := call(t, s, method, path, body); !strings.Contains(a.Body, want) {
			t.Errorf("%s %s: %d %s, want %s in it", method, path, a.Status, a.Body, want)
		}
	}
	says("POST", "/codes/lookup", lookup, `"alarms":[{"id":1,"kind":"copied_code"`)
	says("GET", at+"/runs", "", `"open_alarms":[2]`)
	says("GET", at+"/alarm", "", `"threshold":100,"off":false,"overridden":false,"open_alarm_count":1,"revision":"`)
	says("GET", at+"/alarm/replay?threshold=500", "", `"alarms":0,"raised":1,"dismissed":0,`)
	says("PUT", at+"/alarm", `{"threshold":5,"off":true}`, "choose one")
	says("PUT", at+"/alarm", `{"off":true}`, `"off":true,"overridden":true`)
	says("GET", at+"/alarm/replay", "", "give one, such as 100")
	says("PUT", at+"/alarm", `{}`, `"threshold":100,"off":false,"overridden":false`)
	if a := call(t, s, "POST", "/alarms/1/dismiss", `{"note":""}`); a.Status != 422 {
		t.Errorf("without a note: %d %s", a.Status, a.Body)
	}
	says("POST", "/alarms/1/dismiss", `{"note":"on show","actor":"eve"}`, `"dismissed_by":"admin","note":"on show"`)
	says("GET", "/alarms?state=open", "", `{"alarms":[],"unacknowledged":0}`)
	says("GET", at+"/alarm/replay?threshold=90", "", `"alarms":1,"raised":1,"dismissed":1,"still_dismissed":1,"first_alarms":[{"code_index":2,`)
	says("GET", at+"/codes/2/scans", "", `"score":0,"threshold":100,"dismissed_at":`)
	says("GET", "/changes?kind=alarm", "", `"action":"dismiss","detail":{"note":"on show"}`)
	s.Advance(time.Minute)
	for user := range 20 {
		scan(2, user)
	}
	call(t, s, "GET", "/statistics?wait=true", "")
	says("GET", fmt.Sprintf("/alarms?state=open&acknowledged=false&application_id=%d", batch), "", `{"alarms":[{"id":3,`)
	if a := call(t, s, "POST", "/codes/lookup", lookup); strings.Count(a.Body, `"kind":"copied_code"`) != 1 {
		t.Errorf("the code: %s", a.Body)
	}
	if a := call(t, s, "POST", "/statistics/recount", ""); !strings.Contains(a.Body, `"difference_count":0`) {
		t.Error(a.Body)
	}
}

func TestScanFeed_EmulatedClockJump(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	for range 4 {
		scans(t, s, "https://cafe.example/t/1")
		s.Advance(40 * 24 * time.Hour)
	}
	scans(t, s, "https://cafe.example/t/1")
	if a := call(t, s, "GET", "/statistics?wait=true&from=2026-01-01&by=day", ""); strings.Count(a.Body, `"scans":1,`) != 5 {
		t.Error(a.Body)
	}
	var p feedPage
	if call(t, s, "GET", "/scans", "").JSON(t, &p); len(p.Scans) != 5 {
		t.Errorf("%d scans", len(p.Scans))
	}
	// Another zone turns the days, and nothing else.
	call(t, s, "PUT", "/settings", `{"utc_offset_hours":-11}`)
	if a := call(t, s, "GET", "/statistics?wait=true&from=2026-01-01&by=day", ""); strings.Count(a.Body, `"scans":1,`) != 5 ||
		!strings.Contains(a.Body, `"starts_at":"2026-01-14T00:00:00-11:00"`) {
		t.Error(a.Body)
	}
	if a := call(t, s, "POST", "/statistics/recount", ""); !strings.Contains(a.Body, `"difference_count":0`) {
		t.Error(a.Body)
	}
}
