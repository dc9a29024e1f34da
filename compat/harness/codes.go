package harness

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Error codes of the endpoints for product codes only. Contract: marketcode 7.
const (
	NoApplication      = 80300
	ActivationOverlaps = 80302
	CodeNotActive      = 80304
	IndexBeyond        = 80306
	ApplicationExists  = 80307
)

// codeCount is the size of the smallest application: one segment, a package of 5 MB.
const codeCount = 10_000

// codeResponse has the fields of the responses of the six endpoints for product codes.
type codeResponse struct {
	Application int64  `json:"application_id"`
	ISV         string `json:"isv_application_id"`
	Status      string `json:"status"`
	Segments    []struct {
		Start int `json:"code_start"`
		End   int `json:"code_end"`
	} `json:"code_generate_list"`
	CreateTime int64  `json:"create_time"`
	Buffer     string `json:"buffer"`

	Code     string  `json:"code"`
	Activity string  `json:"activity_name"`
	Brand    string  `json:"product_brand"`
	Title    string  `json:"product_title"`
	Product  string  `json:"product_code"`
	AppID    *string `json:"wxa_appid"` // a pointer: absent while the code is not active
	Path     string  `json:"wxa_path"`
	Start    int     `json:"code_start"`
	End      int     `json:"code_end"`
}

// packageRow is a row of the package.
type packageRow struct{ code, text string }

// mustCodes makes a call for product codes like must and returns the fields of the response.
func mustCodes(t testing.TB, call Caller, name string, body object) codeResponse {
	t.Helper()
	var got codeResponse
	raw := must(t, call, name, body, OK).raw
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%v in %.200s", err, raw)
	}
	return got
}

// ProductCodes runs the scenario of the six endpoints for product codes (one item, one code), from the application to the
// ticket. The caller must use the service account's token; its calls are named "applycode" and so on.
func ProductCodes(t *testing.T, s *Server, call Caller) {
	isv := "compat-" + uniqueID()
	id := apply(t, call, isv)
	rows := download(t, call, id)

	// A scan before the activation shows a message.
	must(t, call, "codeactivequery", object{"code_url": rows[150].text}, CodeNotActive)
	inactive := s.Scan(t, "ann", rows[150].text)
	equal(t, "action before the activation", inactive.Action, "show_message")
	equal(t, "reason before the activation", inactive.Reason, "not_active")

	// Three adjacent activations and one that overlaps; an activation of the same range replaces the earlier one.
	activation := func(start, end int, page string) object {
		return object{
			"application_id": id, "code_start": start, "code_end": end,
			"activity_name": "夏天", "product_brand": "Coffee", "product_title": "Beans 250 g", "product_code": "4006381333931",
			"wxa_appid": MiniProgram, "wxa_path": page, "wxa_type": 0,
		}
	}
	must(t, call, "codeactive", activation(0, codeCount, "pages/item/item"), IndexBeyond) // the last index is codeCount - 1
	must(t, call, "codeactive", activation(0, 99, "pages/item/item"), OK)
	must(t, call, "codeactive", activation(100, 149, "pages/old/old"), OK)
	must(t, call, "codeactive", activation(150, 200, "pages/item/item"), OK)
	must(t, call, "codeactive", activation(99, 149, "pages/gift/gift"), ActivationOverlaps)
	must(t, call, "codeactive", activation(100, 149, "pages/gift/gift?from=box"), OK)
	for index, page := range map[int]string{0: "pages/item/item", 99: "pages/item/item", 100: "pages/gift/gift?from=box", 149: "pages/gift/gift?from=box", 150: "pages/item/item", 200: "pages/item/item"} {
		for _, query := range []object{
			{"application_id": id, "code_index": index},
			{"code": rows[index].code},
			{"code_url": rows[index].text},
			{"code_url": "http://" + rows[index].text},
			{"application_id": strconv.FormatInt(id, 10), "code": rows[index].code, "code_url": nil, "code_index": nil},
		} {
			got := mustCodes(t, call, "codeactivequery", query)
			equal(t, fmt.Sprintf("code %d by %v", index, query), got.Code, rows[index].code)
			equal(t, fmt.Sprintf("page of code %d by %v", index, query), got.Path, page)
		}
	}
	must(t, call, "codeactivequery", object{"application_id": id, "code_index": 201}, CodeNotActive)

	// A scan returns a ticket. The user of the scan can exchange it for the code any number of times.
	ticket := scanCode(t, s, "ann", rows[150].text, "pages/item/item", id, 150)
	ann, bob := s.OpenID(t, "ann"), s.OpenID(t, "bob")
	for range 2 {
		got := mustCodes(t, call, "tickettocode", object{"openid": ann, "code_ticket": ticket})
		equal(t, "code of the ticket", got.Code, rows[150].code)
		equal(t, "application_id of the ticket", got.Application, id)
		equal(t, "isv_application_id of the ticket", got.ISV, isv)
		equal(t, "names of the ticket", strings.Join([]string{got.Activity, got.Brand, got.Title, got.Product}, ", "), "夏天, Coffee, Beans 250 g, 4006381333931")
		equal(t, "code_start of the ticket", got.Start, 150)
		equal(t, "code_end of the ticket", got.End, 200)
		if got.AppID == nil || *got.AppID != MiniProgram {
			t.Errorf("got %+v, want wxa_appid %s in it", got, MiniProgram)
		}
	}
	must(t, call, "tickettocode", object{"openid": bob, "code_ticket": ticket}, InvalidArgs)
	must(t, call, "tickettocode", object{"openid": "nobody", "code_ticket": ticket}, InvalidArgs)
	must(t, call, "tickettocode", object{"openid": ann, "code_ticket": strings.Repeat("0", 32)}, InvalidArgs)

	// Every scan has a separate ticket; the query of a page is kept.
	second := scanCode(t, s, "bob", rows[150].text, "pages/item/item", id, 150)
	if second == ticket {
		t.Errorf("got the ticket %s for two scans", ticket)
	}
	mustCodes(t, call, "tickettocode", object{"openid": bob, "code_ticket": second})
	gift := scanCode(t, s, "bob", "HTTP://"+rows[100].text, "pages/gift/gift", id, 100)
	equal(t, "code of the gift", mustCodes(t, call, "tickettocode", object{"openid": bob, "code_ticket": gift}).Code, rows[100].code)
}

// apply applies for codes and waits until they can be downloaded. It returns the application_id.
func apply(t testing.TB, call Caller, isv string) int64 {
	t.Helper()
	must(t, call, "applycode", object{"code_count": codeCount - 1, "isv_application_id": isv}, InvalidArgs)
	application := object{"code_count": codeCount, "isv_application_id": isv}
	id := mustCodes(t, call, "applycode", application).Application
	equal(t, "application_id of the same application", mustCodes(t, call, "applycode", application).Application, id)
	if id <= 0 || id >= 1<<31 {
		t.Fatalf("application_id = %d, want a positive 32-bit number", id)
	}
	must(t, call, "applycode", object{"code_count": 2 * codeCount, "isv_application_id": isv}, ApplicationExists)
	must(t, call, "applycodequery", object{"application_id": 1}, NoApplication)
	must(t, call, "applycodequery", object{}, InvalidArgs)
	for deadline := time.Now().Add(serverTimeout); ; time.Sleep(50 * time.Millisecond) {
		got := mustCodes(t, call, "applycodequery", object{"application_id": id})
		if got.Status == "FINISH" {
			equal(t, "isv_application_id", got.ISV, isv)
			break
		}
		if got.Status != "INIT" && got.Status != "PROCESSING" || time.Now().After(deadline) {
			t.Fatalf("status = %q, want FINISH", got.Status)
		}
	}
	// Clients send numbers as strings, and either id or both.
	for _, key := range []object{{"application_id": strconv.FormatInt(id, 10)}, {"isv_application_id": isv}, {"application_id": id, "isv_application_id": isv}} {
		got := mustCodes(t, call, "applycodequery", key)
		equal(t, fmt.Sprintf("application_id by %v", key), got.Application, id)
		if len(got.Segments) != 1 || got.Segments[0].Start != 0 || got.Segments[0].End != codeCount-1 || got.CreateTime == 0 {
			t.Errorf("got %+v by %v, want one segment from 0 to %d and a create_time", got, key, codeCount-1)
		}
	}
	return id
}

// download returns all codes of an application; it downloads some of them twice to compare them.
func download(t testing.TB, call Caller, id int64) []packageRow {
	t.Helper()
	fetch := func(start, end int) []packageRow {
		body := object{"application_id": id, "code_start": start, "code_end": end}
		return decrypt(t, mustCodes(t, call, "applycodedownload", body).Buffer, start, end)
	}
	rows, part := fetch(0, codeCount-1), fetch(7, 9)
	for i, row := range part {
		equal(t, "row of a second download", row, rows[7+i])
	}
	seen := map[string]bool{}
	for _, row := range rows {
		seen[row.code], seen[row.text] = true, true
	}
	equal(t, "number of distinct codes and texts", len(seen), 2*codeCount)
	must(t, call, "applycodedownload", object{"application_id": id, "code_start": 0, "code_end": codeCount}, IndexBeyond)
	must(t, call, "applycodedownload", object{"application_id": 1, "code_start": 0, "code_end": 9}, NoApplication)
	return rows
}

var rowPattern = regexp.MustCompile(`^[01]{361} ([0-9A-Z]{9}) ([0-9]+) (P\.URL\.CN/0[0-9A-Z$-]{18})$`)

// decrypt returns the rows of a package: Base64, AES-128 in CBC mode with the key as initialisation vector, PKCS#7.
// Contract: marketcode 4.
func decrypt(t testing.TB, buffer string, start, end int) []packageRow {
	t.Helper()
	plain, err := base64.StdEncoding.DecodeString(buffer)
	if err != nil || len(plain) == 0 || len(plain)%aes.BlockSize != 0 {
		t.Fatalf("invalid buffer: %d bytes, %v", len(plain), err)
	}
	block, err := aes.NewCipher([]byte(MarketcodeKey))
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCDecrypter(block, []byte(MarketcodeKey)).CryptBlocks(plain, plain)
	padding := plain[len(plain)-1]
	text, ok := bytes.CutSuffix(plain, bytes.Repeat([]byte{padding}, int(padding)))
	if !ok || padding < 1 || padding > aes.BlockSize {
		t.Fatalf("invalid padding at the end of the package: % x", plain[len(plain)-aes.BlockSize:])
	}
	var rows []packageRow
	for line := range strings.Lines(string(text)) {
		row := rowPattern.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if row == nil || row[2] != strconv.Itoa(start+len(rows)) {
			t.Fatalf("row %d of the package from %d is %q", len(rows), start, line)
		}
		rows = append(rows, packageRow{row[1], row[3]})
	}
	if len(rows) != end-start+1 {
		t.Fatalf("the package from %d to %d has %d rows", start, end, len(rows))
	}
	return rows
}

// scanCode scans a code that must open page, and returns the ticket. Contract: marketcode 6.1.
func scanCode(t testing.TB, s *Server, user, text, page string, application int64, index int) string {
	t.Helper()
	scan := s.Scan(t, user, text)
	equal(t, "action", scan.Action, "open_mini_program")
	equal(t, "appid", scan.AppID, MiniProgram)
	equal(t, "version", scan.Version, "release")
	equal(t, "scene", scan.Scene, 1124)
	equal(t, "matched.kind", scan.Matched.Kind, "code")
	equal(t, "matched.application_id", scan.Matched.Application, application)
	equal(t, "matched.code_index", scan.Matched.Index, index)
	gotPage, query, _ := strings.Cut(scan.Path, "?")
	equal(t, "page", gotPage, page)
	launch, err := url.ParseQuery(query)
	if ticket := launch.Get("code_ticket"); err == nil && regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(ticket) {
		return ticket
	}
	t.Fatalf("path = %q, want a code_ticket of 32 hexadecimal digits in it", scan.Path)
	return ""
}

// OpenID logs a user in to the Mini Program, like its app and its server, and returns the user's OpenID.
func (s *Server) OpenID(t testing.TB, user string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"user": user, "appid": MiniProgram})
	if err != nil {
		t.Fatal(err)
	}
	var login struct {
		Code string `json:"js_code"`
	}
	if err := s.post("/scan/v1/login", body, &login); err != nil {
		t.Fatal(err)
	}
	query := url.Values{"appid": {MiniProgram}, "secret": {MiniProgramSecret}, "js_code": {login.Code}, "grant_type": {"authorization_code"}}
	resp, err := http.Get(s.URL + "/sns/jscode2session?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var session struct {
		OpenID  string `json:"openid"`
		ErrCode int    `json:"errcode"`
		ErrMsg  string `json:"errmsg"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&session); err != nil || session.OpenID == "" {
		t.Fatalf("got %+v, %v from jscode2session, want an openid", session, err)
	}
	return session.OpenID
}
