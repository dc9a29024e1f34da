package api_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Contract: marketcode 3.1, 11.1.
// Behaviour(wire.field.unknown).
func TestApplyCode_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	for _, c := range []struct{ name, body, detail string }{
		{"0", `{"code_count":0,"isv_application_id":"a"}`, "code_count invalid: 0 is not a multiple of 10000 from 10000 to 20000000"},
		{"9999", `{"code_count":9999,"isv_application_id":"a"}`, "code_count invalid: 9999"},
		{"10001", `{"code_count":10001,"isv_application_id":"a"}`, "code_count invalid: 10001"},
		{"20010000", `{"code_count":20010000,"isv_application_id":"a"}`, "code_count invalid: 20010000"},
		{"negative", `{"code_count":-10000,"isv_application_id":"a"}`, "code_count invalid: -10000"},
		{"2^64", `{"code_count":18446744073709551616,"isv_application_id":"a"}`, "code_count: want a whole number"},
		{"a fraction", `{"code_count":10000.5,"isv_application_id":"a"}`, "code_count: want a whole number, got 10000.5"},
		{"words", `{"code_count":"ten thousand","isv_application_id":"a"}`, "code_count: want a whole number"},
		{"a list", `{"code_count":[10000],"isv_application_id":"a"}`, "code_count: want a whole number"},
		{"true", `{"code_count":true,"isv_application_id":"a"}`, "code_count: want a whole number"},
		{"null", `{"code_count":null,"isv_application_id":"a"}`, "code_count is missing"},
		{"no count", `{"isv_application_id":"a"}`, "code_count is missing"},
		{"no id", `{"code_count":10000}`, "isv_application_id invalid: want 1 to 128 characters"},
		{"an empty id", `{"code_count":10000,"isv_application_id":""}`, "isv_application_id invalid"},
		{"129 characters", `{"code_count":10000,"isv_application_id":"` + strings.Repeat("a", 129) + `"}`, "isv_application_id invalid"},
		{"a line feed", `{"code_count":10000,"isv_application_id":"a\nb"}`, "isv_application_id invalid"},
		{"NUL", `{"code_count":10000,"isv_application_id":"a\u0000b"}`, "isv_application_id: want a string without NUL"},
		{"a list as id", `{"code_count":10000,"isv_application_id":["a"]}`, "isv_application_id: want a string"},
		{"{}", `{}`, "code_count is missing"},
	} {
		refused(t, c.name, codeCall(s, "brand", "applycode", c.body), 40097, c.detail)
	}
	next := int64(500_000_001)
	for _, c := range []struct{ name, body string }{
		{"10000", `{"code_count":10000,"isv_application_id":"testid124"}`},
		{"a string", `{"code_count":"10000","isv_application_id":"b"}`},
		{"1e4", `{"code_count":1e4,"isv_application_id":"c"}`},
		{"20000000", `{"code_count":20000000,"isv_application_id":"d"}`},
		{"128 characters", `{"code_count":10000,"isv_application_id":"` + strings.Repeat("a", 128) + `"}`},
		{"128 Chinese characters", `{"code_count":10000,"isv_application_id":"` + strings.Repeat("单", 128) + `"}`},
		{"a number as id", `{"code_count":10000,"isv_application_id":20260115}`},
		{"unknown fields", `{"code_count":10000,"isv_application_id":"e","applyCount":3,"code_type":null}`},
	} {
		assert.Equal(t, works(t, s, "brand", "applycode", c.body).ApplicationID, next, "%s", c.name)
		next++
	}
	// Equal numbers are one application, of one count; another account's are its own.
	if got := works(t, s, "brand", "applycode", `{"code_count":10000,"isv_application_id":"testid124"}`); got.ApplicationID != 500_000_001 {
		t.Errorf("application %d", got.ApplicationID)
	}
	refused(t, "another count", codeCall(s, "brand", "applycode", `{"code_count":50000,"isv_application_id":"testid124"}`), 80307, "")
	if got := works(t, s, "brand", "applycodequery", `{"isv_application_id":"testid124"}`); !slices.Equal(got.CodeGenerateList,
		[]segment{{0, 9_999}}) {
		t.Errorf("a second count changed the application: %+v", got)
	}
	assert.True(t, strings.Contains(s.Log(), "is application 500000001 with 10000 codes, not 50000"),
		"the log does not say which count it was")
	assert.Equal(t, works(t, s, "rival", "applycode", `{"code_count":10000,"isv_application_id":"testid124"}`).ApplicationID, next,
		"another account's number")
	if got := works(t, s, "brand", "applycodequery", `{"isv_application_id":20260115}`); got.ISVApplicationID != "20260115" {
		t.Errorf("%+v", got)
	}
}

// Issue 42, 6: a program cannot make codes without the second person. Behaviour(codes.apply.approval).
func TestApplyCode_WantsApproval(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	call := func(isv string) servertest.Answer {
		t.Helper()
		return codeCall(s, "brand", "applycode", `{"code_count":10000,"isv_application_id":"`+isv+`"}`)
	}
	if a := call("before"); a.Code(t) != 0 {
		t.Fatalf("applycode before: %s", a.Body)
	}
	s.Admin("PUT", "/settings", `{"order_approval_required":true}`)
	a := call("new")
	assert.True(t, a.Code(t) == 48001 && strings.Contains(s.Log(), "order_approval_required") && strings.Contains(s.Log(), a.RID(t)),
		"applycode with order_approval_required: %s, want 48001 and why in the log", a.Body)
	call("before").WantCode(t, 0, "an application that exists")
	s.Admin("PUT", "/settings", `{"allow_unapproved_applycode":true}`)
	call("new").WantCode(t, 0, "applycode with allow_unapproved_applycode")
}

// Contract: marketcode 3.2, 11.1.
// Behaviour(wire.field.null).
func TestApplyCodeQuery_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "order-1", 110_000)
	second := applied(t, s, "brand", "order-2", 10_000)
	theirs := applied(t, s, "rival", "theirs", 10_000)
	want := told{ErrMsg: "ok", Status: "FINISH", ApplicationID: id, ISVApplicationID: "order-1", CreateTime: servertest.Began.Unix(),
		UpdateTime:       servertest.Began.Unix(),
		CodeGenerateList: []segment{{0, 49_999}, {50_000, 99_999}, {100_000, 109_999}}}
	for name, body := range map[string]string{
		"application_id":    `{"application_id":500000001}`,
		"a string":          `{"application_id":"500000001"}`,
		"leading zeros":     `{"application_id":"000500000001"}`,
		"spaces":            `{"application_id":" 500000001 "}`,
		"5.00000001e8":      `{"application_id":5.00000001e8}`,
		"the order number":  `{"isv_application_id":"order-1"}`,
		"both":              `{"application_id":500000001,"isv_application_id":"order-1"}`,
		"both, an unknown":  `{"application_id":"500000001","isv_application_id":"order-9"}`,
		"null beside":       `{"application_id":500000001,"isv_application_id":null}`,
		"null before":       `{"application_id":null,"isv_application_id":"order-1"}`,
		"0 beside":          `{"application_id":0,"isv_application_id":"order-1"}`,
		"empty texts":       `{"application_id":"","isv_application_id":"order-1"}`,
		"a count beside it": `{"code_count":10000,"isv_application_id":"order-1"}`,
	} {
		got := works(t, s, "brand", "applycodequery", body)
		for _, field := range []string{"errcode", "errmsg", "status", "application_id", "isv_application_id", "code_generate_list",
			"create_time", "update_time"} {
			assert.True(t, got.Fields[field] && len(got.Fields) == 8, "%s: %s is missing in %v", name, field, got.Fields)
		}
		if got.Fields = nil; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, c := range []struct {
		name, body string
		number     int
		detail     string
	}{
		{"nothing", `{}`, 40097, "application_id and isv_application_id are both missing"},
		{"0", `{"application_id":0}`, 40097, "application_id and isv_application_id are both missing"},
		{"negative", `{"application_id":-1}`, 40097, "application_id is negative"},
		{"above 2^64", `{"application_id":99999999999999999999}`, 40097, "application_id: want a whole number"},
		{"above 2^53", `{"application_id":9007199254740993}`, 80300, ""},
		{"2^63-1", `{"application_id":"9223372036854775807"}`, 80300, ""},
		{"letters", `{"application_id":"x"}`, 40097, `application_id: want a whole number, got "x"`},
		{"an object", `{"application_id":{}}`, 40097, "application_id: want a whole number"},
		{"a stranger's", fmt.Sprintf(`{"application_id":%d}`, theirs), 80301, ""},
		{"a stranger's order number", `{"isv_application_id":"theirs"}`, 80300, ""},
		{"unknown", `{"application_id":7}`, 80300, ""},
		{"an unknown order number", `{"isv_application_id":"order-9"}`, 80300, ""},
		{"two that do not fit", fmt.Sprintf(`{"application_id":%d,"isv_application_id":"order-1"}`, second), 40097,
			"isv_application_id belongs to another application than application_id"},
		{"a stranger's beside an own", fmt.Sprintf(`{"application_id":%d,"isv_application_id":"order-1"}`, theirs), 80301, ""},
	} {
		refused(t, c.name, codeCall(s, "brand", "applycodequery", c.body), c.number, c.detail)
	}
}

// Contract: marketcode 3.1, 3.2: INIT, PROCESSING, FINISH; downloads and
// activations after FINISH only.
func TestApplyCode_StatusProgress(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/settings", `{"code_finish_delay_seconds":40}`)
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	id := applied(t, s, "brand", "slow", 200_000)
	began := servertest.Began.Unix()
	check := func(status string, ready int, changed int64) {
		t.Helper()
		got := works(t, s, "brand", "applycodequery", `{"isv_application_id":"slow"}`)
		assert.True(t, got.Status == status && len(got.CodeGenerateList) == ready && got.CreateTime == began && got.UpdateTime == changed,
			"%+v, want %s with %d segments, changed at %d", got, status, ready, changed)
		download := codeCall(s, "brand", "applycodedownload", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":1}`, id))
		active := codeCall(s, "brand", "codeactive", binding(id, 0, 1))
		if status == "FINISH" {
			assert.True(t, download.Code(t) == 0 && active.Code(t) == 0, "after FINISH: %.100s %s", download.Body, active.Body)
			return
		}
		refused(t, "a download before FINISH", download, 80308, "")
		refused(t, "an activation before FINISH", active, 80308, "")
	}
	check("INIT", 0, began)
	s.Advance(9 * time.Second)
	check("INIT", 0, began)
	s.Advance(time.Second)
	check("PROCESSING", 0, began+10)
	s.Advance(15 * time.Second)
	check("PROCESSING", 2, began+10)
	s.Advance(14 * time.Second)
	check("PROCESSING", 3, began+10)
	s.Advance(time.Second)
	check("FINISH", 4, began+40)
	// Its code is looked up and answered as not active meanwhile.
	slow := applied(t, s, "brand", "slow 2", 10_000)
	refused(t, "not active", codeCall(s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":0}`, slow)), 80304, "")
}

// decrypted undoes a package as deployed clients do: Base64, AES-128-CBC with
// the key as IV, PKCS#7.
func decrypted(t *testing.T, key, buffer string) (plain []byte) {
	t.Helper()
	sealed, err := base64.StdEncoding.DecodeString(buffer)
	require.NoError(t, err)
	c, err := aes.NewCipher([]byte(key))
	require.NoError(t, err)
	plain = make([]byte, len(sealed))
	cipher.NewCBCDecrypter(c, []byte(key)).CryptBlocks(plain, sealed)
	return plain[:len(plain)-int(plain[len(plain)-1])]
}

func download(t testing.TB, s *servertest.Server, id, from, to int64) string {
	t.Helper()
	return works(t, s, "brand", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d}`, id, from, to)).Buffer
}

// Contract: marketcode 3.3, 4, 11.1.
// Behaviour(codes.range.part) Behaviour(codes.separator).
func TestApplyCodeDownload_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	const key = "0123456789abcdef"
	id := applied(t, s, "brand", "x", 60_000)
	theirs := applied(t, s, "rival", "theirs", 10_000)
	applied(t, s, "keyless", "x", 10_000)
	for _, c := range []struct {
		name, body string
		number     int
		detail     string
	}{
		{"across two segments", `{"application_id":500000001,"code_start":49999,"code_end":50000}`, 80310, ""},
		{"the whole batch", `{"application_id":500000001,"code_start":0,"code_end":59999}`, 80310, ""},
		{"one too far", `{"application_id":500000001,"code_start":50000,"code_end":60000}`, 80306, ""},
		{"start after end", `{"application_id":500000001,"code_start":2,"code_end":1}`, 40097, "code_start 2 is after code_end 1"},
		{"negative", `{"application_id":500000001,"code_start":-1,"code_end":1}`, 40097, "code_start -1"},
		{"no end", `{"application_id":500000001,"code_start":0}`, 40097, "code_start and code_end must both be given"},
		{"null", `{"application_id":500000001,"code_start":null,"code_end":1}`, 40097, "code_start and code_end must both be given"},
		{"no application_id", `{"code_start":0,"code_end":1}`, 40097, "application_id is missing"},
		{"the order number instead", `{"isv_application_id":"x","code_start":0,"code_end":1}`, 40097, "application_id is missing"},
		{"a stranger's", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":1}`, theirs), 80301, ""},
		{"a stranger's, behind its end", fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":99999999}`, theirs), 80301, ""},
		{"unknown", `{"application_id":7,"code_start":0,"code_end":1}`, 80300, ""},
	} {
		refused(t, c.name, codeCall(s, "brand", "applycodedownload", c.body), c.number, c.detail)
	}
	refused(t, "an account without a package key",
		codeCall(s, "keyless", "applycodedownload", `{"application_id":500000003,"code_start":0,"code_end":1}`), 80313, "")

	var rows []string
	for _, r := range []segment{{0, 49_999}, {50_000, 59_999}} {
		text := string(decrypted(t, key, download(t, s, id, r.CodeStart, r.CodeEnd)))
		if !strings.HasSuffix(text, "\n") {
			t.Errorf("the last row does not end: %q", text[max(0, len(text)-50):])
		}
		rows = append(rows, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	require.Equal(t, len(rows), 60_000, "rows")
	seen := map[string]bool{}
	for i, row := range rows {
		column := strings.Split(row, " ")
		require.True(t, len(column) == 4 && len(column[0]) == 361 && strings.Trim(column[0], "01") == "" && len(column[1]) == 9 &&
			column[2] == fmt.Sprint(i) && len(column[3]) == 28 && strings.HasPrefix(column[3], "P.URL.CN/0"), "row %d is %q", i, row)
		require.True(t, !seen[column[1]] && !seen[column[3]], "row %d comes twice: %q", i, row)
		seen[column[1]], seen[column[3]] = true, true
	}
	for _, i := range []int64{0, 7, 49_999, 50_000, 59_999} {
		if text, code := printed(t, s, id, i); rows[i][362:371] != code || !strings.HasSuffix(rows[i], " "+text) {
			t.Errorf("row %d is %q, the code is %s, %s", i, rows[i], code, text)
		}
	}
	// Parts of a segment are the same rows; one whose length is a multiple of 16
	// ends with a whole block of padding.
	for _, r := range []segment{{0, 0}, {5, 20}, {9, 10}, {59_999, 59_999}, {49_998, 49_999}, {0, 15}} {
		want := strings.Join(rows[r.CodeStart:r.CodeEnd+1], "\n") + "\n"
		assert.Equal(t, string(decrypted(t, key, download(t, s, id, r.CodeStart, r.CodeEnd))), want, "%v", r)
	}
	for n := int64(1); ; n++ {
		want := strings.Join(rows[:n], "\n") + "\n"
		if len(want)%16 != 0 {
			continue
		}
		buffer := download(t, s, id, 0, n-1)
		if sealed, err := base64.StdEncoding.DecodeString(buffer); err != nil || len(sealed) != len(want)+16 ||
			string(decrypted(t, key, buffer)) != want {
			t.Errorf("%d rows of %d bytes: %d bytes sealed, %v", n, len(want), len(sealed), err)
		}
		break
	}
	// The same by a program that nobody here wrote.
	if openssl, err := exec.LookPath("openssl"); err == nil {
		sealed, err := base64.StdEncoding.DecodeString(download(t, s, id, 50_000, 59_999))
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "sealed")
		require.NoError(t, os.WriteFile(file, sealed, 0o600))
		hex := fmt.Sprintf("%x", key)
		plain, err := exec.Command(openssl, "enc", "-d", "-aes-128-cbc", "-K", hex, "-iv", hex, "-in", file).Output()
		assert.True(t, err == nil && string(plain) == strings.Join(rows[50_000:], "\n")+"\n", "openssl: %d bytes, %v", len(plain), err)
	}
	// A smaller segment is for new batches; the old one keeps its own.
	s.Admin("PUT", "/settings", `{"code_segment_size":10000}`)
	small := applied(t, s, "brand", "small", 30_000)
	if got := works(t, s, "brand", "applycodequery", `{"isv_application_id":"small"}`).CodeGenerateList; !slices.Equal(got,
		[]segment{{0, 9_999}, {10_000, 19_999}, {20_000, 29_999}}) {
		t.Errorf("%v", got)
	}
	if got := works(t, s, "brand", "applycodequery", `{"isv_application_id":"x"}`).CodeGenerateList; !slices.Equal(got,
		[]segment{{0, 49_999}, {50_000, 59_999}}) {
		t.Errorf("%v", got)
	}
	assert.Equal(t, strings.Count(string(decrypted(t, key, download(t, s, small, 10_000, 19_999))), "\n"), 10_000, "rows")
	refused(t, "across two small segments", codeCall(s, "brand", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":9999,"code_end":10000}`, small)), 80310, "")
	download(t, s, id, 9_999, 10_000)
}

// From line to line what stood first is mended, and all that comes later is still wrong. Contract: marketcode 3.3.
func TestApplyCodeDownload_ErrorPrecedence(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/settings", `{"code_finish_delay_seconds":40}`)
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	id := applied(t, s, "keyless", "slow", 60_000)
	for _, c := range []struct {
		name     string
		from, to int
		number   int
	}{
		{"past the end, across segments, before FINISH, without a key", 0, 60_000, 80306},
		{"across segments, before FINISH, without a key", 49_999, 50_000, 80310},
		{"before FINISH, without a key", 0, 9, 80308},
	} {
		body := fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d}`, id, c.from, c.to)
		refused(t, c.name, codeCall(s, "keyless", "applycodedownload", body), c.number, "")
	}
	s.Advance(40 * time.Second)
	refused(t, "without a key", codeCall(s, "keyless", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":9}`, id)), 80313, "")
}

// Contract: marketcode 3.4, 11.1.
func TestCodeActive_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "x", 60_000)
	theirs := applied(t, s, "rival", "theirs", 10_000)
	long := strings.Repeat("名", 129)
	for _, c := range []struct {
		name, body string
		number     int
		detail     string
	}{
		{"one too far", binding(id, 0, 60_000), 80306, ""},
		{"start after end", binding(id, 5, 4), 40097, "code_start 5 is after code_end 4"},
		{"negative", binding(id, -1, 4), 40097, "code_start -1"},
		{"no range", binding(id, "null", "null"), 40097, "code_start and code_end must both be given"},
		{"no end", binding(id, 0, "null"), 40097, "code_start and code_end must both be given"},
		{"letters", binding(id, `"a"`, 4), 40097, `code_start: want a whole number, got "a"`},
		{"wxa_type 3", binding(id, 0, 0, `"wxa_type":3`), 40097, "wxa_type is 3: want 0, 1 or 2"},
		{"wxa_type -1", binding(id, 0, 0, `"wxa_type":-1`), 40097, "wxa_type is -1"},
		{"wxa_type release", binding(id, 0, 0, `"wxa_type":"release"`), 40097, "wxa_type: want a whole number"},
		{"no application_id", binding(0, 0, 0), 40097, "application_id is missing"},
		{"a negative one", binding(-5, 0, 0), 40097, "application_id is negative"},
		{"a stranger's", binding(theirs, 0, 0), 80301, ""},
		{"a stranger's, behind its end", binding(theirs, 0, 59_999), 80301, ""},
		{"unknown", binding(7, 0, 0), 80300, ""},
		{"no activity_name", binding(id, 0, 0, `"activity_name":""`), 40097, "activity_name invalid: want 1 to 128 characters"},
		{"product_brand null", binding(id, 0, 0, `"product_brand":null`), 40097, "product_brand invalid"},
		{"a long product_title", binding(id, 0, 0, `"product_title":"`+long+`"`), 40097, "product_title invalid"},
		{"no product_code", binding(id, 0, 0, `"product_code":""`), 40097, "product_code invalid"},
		{"product_code true", binding(id, 0, 0, `"product_code":true`), 40097, "product_code: want a string"},
		{"no wxa_path", binding(id, 0, 0, `"wxa_path":""`), 40097, "wxa_path invalid"},
		{"wxa_path null", binding(id, 0, 0, `"wxa_path":null`), 40097, "wxa_path invalid"},
		{"a blank wxa_path", binding(id, 0, 0, `"wxa_path":" \u3000"`), 40097, "wxa_path invalid: it is blank, and names no page"},
		{"a long wxa_path", binding(id, 0, 0, `"wxa_path":"`+strings.Repeat("p", 129)+`"`), 40097, "wxa_path invalid"},
		{"a number as wxa_path", binding(id, 0, 0, `"wxa_path":7`), 40097, "wxa_path: want a string, got 7"},
		{"no wxa_appid", binding(id, 0, 0, `"wxa_appid":""`), 40097, "wxa_appid is missing"},
		{"a malformed wxa_appid", binding(id, 0, 0, `"wxa_appid":"wx 1"`), 40013, ""},
		{"a wxa_appid of 33 characters", binding(id, 0, 0, `"wxa_appid":"`+strings.Repeat("w", 33)+`"`), 40013, ""},
		{"an unknown wxa_appid", binding(id, 0, 0, `"wxa_appid":"wx3sxjifjwojfsffef"`), 40097,
			`wxa_appid "wx3sxjifjwojfsffef" is not a Mini Program`},
		{"a service account as wxa_appid", binding(id, 0, 0, `"wxa_appid":"brand"`), 40097, `wxa_appid "brand" is not a Mini Program`},
	} {
		refused(t, c.name, codeCall(s, "brand", "codeactive", c.body), c.number, c.detail)
	}
	look := func(index int64) told {
		t.Helper()
		return works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, id, index))
	}
	none := func(what string, index int64) {
		t.Helper()
		refused(t, what, codeCall(s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, id, index)), 80304,
			"")
	}
	none("a refused call activates nothing", 0)
	for wxaType, want := range map[string]int{`"wxa_type":0`: 0, `"wxa_type":1`: 1, `"wxa_type":2`: 2, `"wxa_type":null`: 0,
		`"wxa_type":"1"`: 1, `"wxa_type":""`: 0, `"wxa_type":2.0`: 2} {
		works(t, s, "brand", "codeactive", binding(id, 0, 0, wxaType))
		if got := look(0); got.WxaType != want || !got.Fields["wxa_type"] {
			t.Errorf("%s: %+v", wxaType, got)
		}
	}
	works(t, s, "brand", "codeactive", binding(id, 0, 0))
	got := look(0)
	if _, code := printed(t, s, id, 0); got.Code != code {
		t.Errorf("the code is %s, not %s", got.Code, code)
	}
	for _, field := range []string{"errcode", "errmsg", "code", "application_id", "isv_application_id", "activity_name", "product_brand",
		"product_title", "product_code", "wxa_appid", "wxa_path", "wxa_type", "code_start", "code_end"} {
		assert.True(t, got.Fields[field] && len(got.Fields) == 14, "%s is missing in %v", field, got.Fields)
	}
	got.Fields, got.Code = nil, ""
	if want := (told{ErrMsg: "ok", ApplicationID: id, ISVApplicationID: "x", ActivityName: "test_name", ProductBrand: "test_brand",
		ProductTitle: "test_title", ProductCode: "test_code", WxaAppID: "shop",
		WxaPath: "pages/index/index"}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v", got)
	}
	none("its neighbour", 1)
	// A number stays as it came.
	works(t, s, "brand", "codeactive", binding(id, 59_999, 59_999, `"product_code":6901234567892`))
	if got := look(59_999); got.ProductCode != "6901234567892" || got.CodeStart != 59_999 || got.CodeEnd != 59_999 {
		t.Errorf("last..last: %+v", got)
	}
	// wxa_path as sent, whatever the scan makes of it.
	works(t, s, "brand", "codeactive", binding(id, 3, 3, `"wxa_path":"/pages/index?a=1&b=<2>"`))
	assert.Equal(t, look(3).WxaPath, "/pages/index?a=1&b=<2>", "look(3).WxaPath")
}

// Contract: marketcode 3.4: an overlap is refused unless it is the very same
// range; issue 11, 2.
// Behaviour(codes.activate.again).
func TestCodeActive_RejectsOverlap(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "x", 10_000)
	activate := func(from, to int64, extra ...string) servertest.Answer {
		return codeCall(s, "brand", "codeactive", binding(id, from, to, extra...))
	}
	active := func(index int64, want string) {
		t.Helper()
		a := codeCall(s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, id, index))
		got := tellOf(t, a)
		if shown := fmt.Sprintf("%s %d..%d", got.ActivityName, got.CodeStart, got.CodeEnd); shown != want {
			t.Errorf("index %d: %q, want %q: %s", index, shown, want, a.Body)
		}
	}
	works(t, s, "brand", "codeactive", binding(id, 100, 199))
	for _, r := range []segment{{100, 198}, {101, 199}, {99, 199}, {100, 200}, {0, 100}, {199, 300}, {0, 9_999}, {150, 150}} {
		refused(t, fmt.Sprint(r), activate(r.CodeStart, r.CodeEnd), 80302, "")
	}
	active(100, "test_name 100..199")
	refused(t, "its neighbours are not active", codeCall(s, "brand", "codeactivequery",
		fmt.Sprintf(`{"application_id":%d,"code_index":200}`, id)), 80304, "")
	works(t, s, "brand", "codeactive", binding(id, 0, 99))
	works(t, s, "brand", "codeactive", binding(id, 200, 9_999))
	// A shop that sends its ranges again at each edit.
	works(t, s, "brand", "codeactive", binding(id, 100, 199, `"activity_name":"again"`))
	active(100, "again 100..199")
	active(99, "test_name 0..99")
	// The operator still changes what codes open, and takes them back.
	s.Admin("POST", fmt.Sprintf("/batches/%d/retarget", id), `{"code_start":0,"code_end":9999,"wxa_appid":"far","wxa_path":"pages/far"}`)
	works(t, s, "brand", "codeactive", binding(id, 100, 199, `"activity_name":"after"`))
	active(100, "after 100..199")
	s.Admin("POST", fmt.Sprintf("/batches/%d/deactivations", id), `{"ranges":[{"from":100,"to":199}]}`)
	works(t, s, "brand", "codeactive", binding(id, 150, 159))
	refused(t, "of old", activate(100, 199), 80302, "")
}

// Contract: marketcode 3.4: a shop sends its ranges again at each edit, also after
// the operator re-targeted a part of one.
func TestCodeActive_RepeatedAfterRetarget(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "x", 10_000)
	operator := func(what, body string) {
		t.Helper()
		if a := s.Admin("POST", fmt.Sprintf("/batches/%d/%s", id, what), body); a.Status >= 300 {
			t.Fatalf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	retarget := func(from, to int64) {
		t.Helper()
		operator("retarget", fmt.Sprintf(`{"code_start":%d,"code_end":%d,"wxa_appid":"far","wxa_path":"pages/far"}`, from, to))
	}
	active := func(index int64, want string) {
		t.Helper()
		got := works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, id, index))
		assert.Equal(t, fmt.Sprintf("%s %d..%d", got.WxaPath, got.CodeStart, got.CodeEnd), want, "index %d", index)
	}
	works(t, s, "brand", "codeactive", binding(id, 0, 99))
	retarget(0, 49)
	active(0, "pages/far 0..99")
	active(50, "pages/index/index 0..99")
	retarget(40, 59) // and again
	active(45, "pages/far 0..99")
	for _, r := range []segment{{0, 49}, {40, 49}, {50, 99}, {0, 100}} {
		refused(t, fmt.Sprint(r), codeCall(s, "brand", "codeactive", binding(id, r.CodeStart, r.CodeEnd)), 80302, "")
	}
	works(t, s, "brand", "codeactive", binding(id, 0, 99))
	active(45, "pages/index/index 0..99")

	works(t, s, "brand", "codeactive", binding(id, 1_000, 1_099))
	operator("deactivations", `{"ranges":[{"from":1010,"to":1019}]}`)
	retarget(1_000, 1_099)
	active(1_005, "pages/far 1000..1099")
	works(t, s, "brand", "codeactive", binding(id, 1_000, 1_099))
	active(1_015, "pages/index/index 1000..1099")

	// A code that was activated anew inside a withdrawal is another range's, and stays so.
	operator("deactivations", `{"ranges":[{"from":1010,"to":1019}]}`)
	works(t, s, "brand", "codeactive", binding(id, 1_010, 1_014))
	retarget(1_000, 1_099)
	active(1_012, "pages/far 1010..1014")
	refused(t, "around another", codeCall(s, "brand", "codeactive", binding(id, 1_000, 1_099)), 80302, "")
	works(t, s, "brand", "codeactive", binding(id, 1_010, 1_014))
}

// Contract: marketcode 3.4: where a setting lets it, the last call wins index by
// index; code_start and code_end are those of the call, also where later calls
// cover part of it.
func TestCodeActive_ThreeOverlapsLastWins(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow","codes.query.bare":"allow"}}`)
	id := applied(t, s, "brand", "x", 10_000)
	for i, r := range []segment{{0, 200}, {100, 300}, {150, 250}} {
		works(t, s, "brand", "codeactive", binding(id, r.CodeStart, r.CodeEnd, fmt.Sprintf(`"activity_name":"call %d"`, i+1)))
	}
	check := func(index int64, want string) {
		t.Helper()
		got := works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, id, index))
		shown := ""
		if got.Fields["activity_name"] {
			shown = fmt.Sprintf("%s %d..%d", got.ActivityName, got.CodeStart, got.CodeEnd)
		}
		assert.Equal(t, shown, want, "index %d", index)
	}
	for index, want := range map[int64]string{
		0: "call 1 0..200", 99: "call 1 0..200", 100: "call 2 100..300", 149: "call 2 100..300", 150: "call 3 150..250",
		200: "call 3 150..250", 201: "call 3 150..250",
		250: "call 3 150..250", 251: "call 2 100..300", 300: "call 2 100..300", 301: "", 9_999: "",
	} {
		check(index, want)
	}
	works(t, s, "brand", "codeactive", binding(id, 0, 9_999, `"activity_name":"all"`))
	check(0, "all 0..9999")
	check(9_999, "all 0..9999")
}

// Contract: marketcode 3.5, 11.1.
func TestCodeActiveQuery_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "x", 10_000)
	second := applied(t, s, "brand", "y", 10_000)
	theirs := applied(t, s, "rival", "theirs", 10_000)
	works(t, s, "brand", "codeactive", binding(id, 0, 200))
	text, code := printed(t, s, id, 7)
	dollar, zero := text, code
	for i := int64(0); !strings.Contains(dollar, "$"); i++ {
		dollar, _ = printed(t, s, id, i)
	}
	for i := int64(0); !strings.HasPrefix(zero, "0"); i++ {
		_, zero = printed(t, s, id, i)
	}
	theirText, theirCode := printed(t, s, theirs, 7)
	byText := func(text string) string { return fmt.Sprintf(`{"code_url":%s}`, quoted(text)) }
	for name, body := range map[string]string{
		"the text": byText(text), "in lower case": byText(strings.ToLower(text)), "http": byText("http://" + text),
		"https": byText("https://" + text), "HTTP, as scanned in an app": byText("HTTP://" + text),
		"escapes":           byText(strings.ReplaceAll(dollar, "$", "%24")),
		"an escaped letter": byText(text[:20] + fmt.Sprintf("%%%02x", text[20]) + text[21:]),
		"the code":          fmt.Sprintf(`{"code":%q}`, code), "the code in lower case": fmt.Sprintf(`{"code":%q}`, strings.ToLower(code)),
		"a code with leading zeros":    fmt.Sprintf(`{"code":%q}`, zero),
		"application and index":        fmt.Sprintf(`{"application_id":%d,"code_index":7}`, id),
		"as strings":                   fmt.Sprintf(`{"application_id":"%d","code_index":"7"}`, id),
		"index 0":                      fmt.Sprintf(`{"application_id":%d,"code_index":0}`, id),
		"index \"0\"":                  fmt.Sprintf(`{"application_id":%d,"code_index":"0"}`, id),
		"the text, with all else null": fmt.Sprintf(`{"application_id":null,"code_index":null,"code_url":%q,"code":null}`, text),
		"the code, with all else null": fmt.Sprintf(`{"application_id":null,"code_index":null,"code_url":null,"code":%q}`, code),
		"the index, the others null":   fmt.Sprintf(`{"application_id":%d,"code_index":7,"code_url":null,"code":null}`, id),
		"application with the code":    fmt.Sprintf(`{"application_id":"%d","code":%q}`, id, code),
		"the text before the code":     fmt.Sprintf(`{"code_url":%q,"code":"ZZZZZZZZZ"}`, text),
		"the code before the index":    fmt.Sprintf(`{"application_id":%d,"code_index":9999,"code":%q}`, id, code),
	} {
		if got := works(t, s, "brand", "codeactivequery", body); got.ApplicationID != id || got.ActivityName != "test_name" ||
			got.CodeStart != 0 || got.CodeEnd != 200 || len(got.Fields) != 14 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	assert.Equal(t, works(t, s, "brand", "codeactivequery", byText(text)).Code, code, "%s", text)
	for _, c := range []struct {
		name, body string
		number     int
		detail     string
	}{
		{"nothing", `{}`, 40097, "application_id with code_index, code or code_url: one of them must be given"},
		{"all null", `{"application_id":null,"code_index":null,"code_url":null,"code":null}`, 40097, "one of them must be given"},
		{"an index alone", `{"code_index":7}`, 40097, "one of them must be given"},
		{"no index", fmt.Sprintf(`{"application_id":%d}`, id), 40097, "code_index is missing: application_id alone names no code"},
		{"behind the end", fmt.Sprintf(`{"application_id":%d,"code_index":10000}`, id), 80306, ""},
		{"negative", fmt.Sprintf(`{"application_id":%d,"code_index":-1}`, id), 40097, "code_index -1"},
		{"an index of letters", fmt.Sprintf(`{"application_id":%d,"code_index":"a"}`, id), 40097, "code_index: want a whole number"},
		{"a stranger's index", fmt.Sprintf(`{"application_id":%d,"code_index":7}`, theirs), 80301, ""},
		{"a stranger's, behind its end", fmt.Sprintf(`{"application_id":%d,"code_index":10000}`, theirs), 80301, ""},
		{"a stranger's, without an index", fmt.Sprintf(`{"application_id":%d}`, theirs), 80301, ""},
		{"a stranger's text", byText(theirText), 80301, ""},
		{"a stranger's code", fmt.Sprintf(`{"code":%q}`, theirCode), 80301, ""},
		{"an unknown application", `{"application_id":7,"code_index":7}`, 80300, ""},
		{"another application beside the text", fmt.Sprintf(`{"application_id":%d,"code_url":%q}`, second, text), 40097,
			fmt.Sprintf("application_id %d is not that of the code", second)},
		{"/../ inside", byText("http://P.URL.CN/x/../" + text[9:]), 80303, ""},
		{"/./ inside", byText("P.URL.CN/./" + text[9:]), 80303, ""},
		{"a query behind it", byText(text + "?a=1"), 80303, ""},
		{"white space before it", byText(" " + text), 80303, ""},
		{"a character less", byText(text[:27]), 80303, ""},
		{"another host", byText("P.URL.COM/" + text[9:]), 80303, ""},
		{"a forged text", byText(text[:20] + "ZZZZZZZZ"), 80303, ""},
		{"the platform's own", byText("P.URL.CN/0U.JYJXP3HJI2C98A9O"), 80303, ""},
		{"10,000 characters", byText(strings.Repeat("P", 10_000)), 80303, ""},
		{"the code as code_url", byText(code), 80303, ""},
		{"a number as code_url", `{"code_url":7}`, 40097, "code_url: want a string"},
		{"a number as code", `{"code":123456789}`, 80303, ""},
		{"a number that lost its zeros", `{"code":12345}`, 80303, ""},
		{"the platform's own code", `{"code":"044GZ*J10"}`, 80303, ""},
		{"17 characters", `{"code":"12345678901234567"}`, 80303, ""},
		{"a list as code", `{"code":["044GZ0J10"]}`, 40097, "code: want a string"},
	} {
		a := codeCall(s, "brand", "codeactivequery", c.body)
		refused(t, c.name, a, c.number, c.detail)
		assert.True(t, !strings.Contains(a.Body, code) && !strings.Contains(a.Body, text[10:]),
			"%s: the answer quotes the code: %s", c.name, a.Body)
	}
	// Options. Contract: marketcode 3.5, 11.1 (omitempty drops an index of 0).
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.query.index_taken":"allow"}}`)
	if got, want := works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d}`, id)),
		works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":0}`, id)); got.Code != want.Code {
		t.Errorf("%+v, want index 0: %+v", got, want)
	}
	refused(t, "nothing, with the option", codeCall(s, "brand", "codeactivequery", `{}`), 40097, "one of them must be given")
	inactive := fmt.Sprintf(`{"application_id":%d,"code_index":201}`, id)
	refused(t, "not active", codeCall(s, "brand", "codeactivequery", inactive), 80304, "")
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.query.bare":"allow"}}`)
	if got := works(t, s, "brand", "codeactivequery", inactive); len(got.Fields) != 5 || got.ISVApplicationID != "x" || len(got.Code) != 9 {
		t.Errorf("a code that is not active, with the option: %+v", got)
	}
	works(t, s, "brand", "codeactivequery", byText(text))
	// A code is no business of the log.
	for _, hidden := range []string{code, text[10:], zero} {
		assert.True(t, !strings.Contains(s.Log(), hidden), "%s stands in the log", hidden)
	}
}

// Contract: marketcode 3.6, 11.1.
func TestTicketToCode_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	id := applied(t, s, "brand", "x", 10_000)
	works(t, s, "brand", "codeactive", binding(id, 0, 200))
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow"}}`)
	text, code := printed(t, s, id, 7)
	const wrong, badID = "无效的code_ticket或与openid不对应", "openid invalid"
	alice, bob := ticketOf(t, s, "alice", text), ticketOf(t, s, "bob", text)
	if again := ticketOf(t, s, "alice", text); again == alice || alice == bob {
		t.Error("two scans have one ticket")
	} else {
		// Either ticket of one user works.
		works(t, s, "brand", "tickettocode", trade(openid(t, s, "alice", "brand"), again))
	}
	for range 2 { // as often as the user likes
		for _, appid := range []string{"brand", "shop"} {
			got := works(t, s, "brand", "tickettocode", trade(openid(t, s, "alice", appid), alice))
			if got.Code != code || got.ApplicationID != id || got.ISVApplicationID != "x" || got.CodeEnd != 200 || got.WxaAppID != "shop" ||
				len(got.Fields) != 14 {
				t.Errorf("%s: %+v", appid, got)
			}
		}
	}
	for _, c := range []struct {
		name, as, openid, ticket string
		number                   int
		detail                   string
	}{
		{"another user's ticket", "brand", openid(t, s, "alice", "brand"), bob, 40097, wrong},
		{"another user's ticket, the other way", "brand", openid(t, s, "bob", "shop"), alice, 40097, wrong},
		{"the user under an account that has nothing to do with it", "brand", openid(t, s, "alice", "rival"), alice, 40097, wrong},
		{"the user under another Mini Program", "brand", openid(t, s, "alice", "far"), alice, 40097, wrong},
		{"another account's token", "rival", openid(t, s, "alice", "brand"), alice, 40097, wrong},
		{"the Mini Program's token", "shop", openid(t, s, "alice", "shop"), alice, 48001, ""},
		{"a made-up ticket", "brand", openid(t, s, "alice", "brand"), "6cb4bc95e1f1abc97034cbe8fd484989", 40097, wrong},
		{"in upper case", "brand", openid(t, s, "alice", "brand"), strings.ToUpper(alice), 40097, wrong},
		{"257 characters", "brand", openid(t, s, "alice", "brand"), strings.Repeat("a", 257), 40097, wrong},
		{"256 characters", "brand", openid(t, s, "alice", "brand"), strings.Repeat("a", 256), 40097, wrong},
		{"no ticket", "brand", openid(t, s, "alice", "brand"), "", 40097, wrong},
		{"no openid", "brand", "", alice, 40097, badID},
		{"an openid of 27 characters", "brand", openid(t, s, "alice", "brand")[1:], alice, 40097, badID},
		{"the app's own user id", "brand", "alice", alice, 40097, badID},
		{"no openid and no ticket", "brand", "", "", 40097, badID},
	} {
		refused(t, c.name, codeCall(s, c.as, "tickettocode", trade(c.openid, c.ticket)), c.number, c.detail)
	}
	refused(t, "a number as openid", codeCall(s, "brand", "tickettocode", `{"openid":7,"code_ticket":"a"}`), 40097,
		"openid: want a string, got 7")
	refused(t, "a number as ticket", codeCall(s, "brand", "tickettocode",
		`{"openid":"oiV2luCau8Cx0TMOy9lvZSLqRcKc","code_ticket":12345678}`), 40097, "code_ticket: want a string")
	refused(t, "NUL", codeCall(s, "brand", "tickettocode", `{"openid":"oiV2luCau8Cx0TMOy9lvZSLqRcKc","code_ticket":"a\u0000"}`), 40097,
		"code_ticket: want a string without NUL")

	mine := trade(openid(t, s, "alice", "brand"), alice)
	// After a re-activation: the activation of now.
	works(t, s, "brand", "codeactive", binding(id, 7, 7, `"activity_name":"second","wxa_appid":"far","wxa_path":"pages/far"`))
	if got := works(t, s, "brand", "tickettocode", mine); got.ActivityName != "second" || got.WxaAppID != "far" || got.CodeStart != 7 ||
		got.CodeEnd != 7 || got.Code != code {
		t.Errorf("after a re-activation: %+v", got)
	}
	works(t, s, "brand", "tickettocode", trade(openid(t, s, "alice", "shop"), alice)) // the program that the scan opened
	states := fmt.Sprintf("/batches/%d/states", id)
	for _, did := range []string{"freeze", "unfreeze", "redeem"} {
		s.Admin("POST", states, fmt.Sprintf(`{"action":%q,"ranges":[{"from":7,"to":7}]}`, did))
		if a := codeCall(s, "brand", "tickettocode", mine); did == "freeze" {
			refused(t, "after a freeze", a, 40097, wrong)
		} else if a.Code(t) != 0 {
			t.Errorf("after %s: %s", did, a.Body)
		}
	}
	s.Admin("POST", fmt.Sprintf("/batches/%d/deactivations", id), `{"ranges":[{"from":7,"to":7}]}`)
	refused(t, "after a withdrawal", codeCall(s, "brand", "tickettocode", mine), 40097, wrong)
	works(t, s, "brand", "codeactive", binding(id, 7, 7))
	works(t, s, "brand", "tickettocode", mine)
	// 30 minutes to the second.
	s.Advance(30*time.Minute - time.Second)
	works(t, s, "brand", "tickettocode", mine)
	s.Advance(time.Second)
	refused(t, "after 30 minutes", codeCall(s, "brand", "tickettocode", mine), 40097, wrong)
	s.Admin("PUT", "/settings", `{"ticket_ttl_minutes":1}`)
	short := trade(openid(t, s, "alice", "brand"), ticketOf(t, s, "alice", text))
	s.Advance(59 * time.Second)
	works(t, s, "brand", "tickettocode", short)
	s.Advance(time.Second)
	refused(t, "after a minute", codeCall(s, "brand", "tickettocode", short), 40097, wrong)
	// Void is for ever.
	last := trade(openid(t, s, "alice", "brand"), ticketOf(t, s, "alice", text))
	s.Admin("POST", states, `{"action":"void","ranges":[{"from":7,"to":7}]}`)
	refused(t, "after void", codeCall(s, "brand", "tickettocode", last), 40097, wrong)
}

// Contract: marketcode 7, 11.1: what every call of the family answers.
// Behaviour(codes.gate).
func TestCodeCalls_CommonErrors(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "x", 10_000)
	s.Advance(36 * time.Hour) // the time of a hint is the server's, not the world's
	s.NewToken("brand")
	for call, body := range map[string]string{
		"applycode": `{"code_count":10000,"isv_application_id":"y"}`, "applycodequery": fmt.Sprintf(`{"application_id":%d}`, id),
		"applycodedownload": fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":0}`, id),
		"codeactive":        binding(id, 0, 0), "codeactivequery": fmt.Sprintf(`{"application_id":%d,"code_index":0}`, id),
		"tickettocode": trade(openid(t, s, "u", "brand"), "a"),
	} {
		path := codeFamily + call
		refused(t, call+" GET", s.Do("GET", path+"?access_token="+s.Token("brand"), ""), 43002, "")
		refused(t, call+" GET without a token", s.Do("GET", path, ""), 43002, "")
		refused(t, call+" without a token", s.Do("POST", path, body), 41001, "")
		refused(t, call+" with an empty token", s.Do("POST", path+"?access_token=", body), 41001, "")
		refused(t, call+" with a text that is no token", s.Do("POST", path+"?access_token=T", body), 40001, "")
		refused(t, call+" with an unknown token", s.Do("POST", path+"?access_token=109_"+strings.Repeat("x", 128), body), 40001, "")
		refused(t, call+" with an empty body", codeCall(s, "brand", call, ""), 44002, "")
		refused(t, call+" with white space", codeCall(s, "brand", call, "\r\n"), 44002, "")
		for _, broken := range []string{`[]`, `[` + body + `]`, `null`, `7`, `"x"`, `{`, `{'a':1}`, body + body, `{"a":"` + "\xff" + `"}`} {
			refused(t, call+" with "+broken, codeCall(s, "brand", call, broken), 47001, "")
		}
		if a, err := s.TrySend(s.Request("POST", path+"?access_token="+s.Token("brand"), `{"isv_application_id":"`+
			strings.Repeat("x", 10<<20)+`"}`)); err == nil {
			refused(t, call+" with 10 MB", a, 47001, "") // or refused unread
		}
		for _, appid := range []string{"nofeature", "uncertified", "sub", "shop"} {
			// With any body: the method and the token come first. Contract: marketcode 1.
			for _, sent := range []string{body, "", "{", "{}", "[]", `{"application_id":[],"code_count":[],"openid":7}`} {
				refused(t, call+" as "+appid+" with "+sent, codeCall(s, appid, call, sent), 48001, "")
			}
			refused(t, call+" GET as "+appid, s.Do("GET", path+"?access_token="+s.Token(appid), ""), 43002, "")
		}
		s.Admin("PUT", "/settings", `{"default_rate_limit":5}`)
		s.Clock.Step(time.Second)
		for range 5 {
			codeCall(s, "brand", call, "{}")
		}
		refused(t, call+" a sixth time in a second", codeCall(s, "brand", call, body), 44990, "")
		s.Admin("PUT", "/settings", `{"default_rate_limit":null}`)
		for _, number := range append(slices.Sorted(maps.Keys(baseTexts)), -1, 48001) {
			if number == 40097 {
				continue // its detail is the endpoint's
			}
			s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%d,"count":1}`, path, number))
			refused(t, fmt.Sprintf("%s with the fault %d", call, number), codeCall(s, "brand", call, body), number, "")
		}
	}
	// The segments of real life never expire: 80309 is a fault's alone.
	s.Advance(365 * 24 * time.Hour)
	s.NewToken("brand")
	download(t, s, id, 0, 9_999)
}

func TestApplyCode_DailyLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	body := `{"code_count":10000,"isv_application_id":"order"}`
	applied(t, s, "brand", "other", 10_000)
	refused(t, "what is refused does not count", codeCall(s, "brand", "applycode", `{"code_count":1,"isv_application_id":"order"}`), 40097,
		"code_count")
	for range 999 { // the same one counts too: it is calls that are limited
		works(t, s, "brand", "applycode", body)
	}
	refused(t, "a call more", codeCall(s, "brand", "applycode", body), 45009, "")
	refused(t, "and another application", codeCall(s, "brand", "applycode", `{"code_count":10000,"isv_application_id":"new"}`), 45009, "")
	refused(t, "which was not made", codeCall(s, "brand", "applycodequery", `{"isv_application_id":"new"}`), 80300, "")
	applied(t, s, "rival", "order", 10_000)
	// The day of the platform ends at midnight, in its zone.
	s.Admin("PUT", "/emulator/clock", `{"now":"2026-01-15T23:59:59+08:00","freeze":true}`)
	s.NewToken("brand")
	refused(t, "a second before midnight", codeCall(s, "brand", "applycode", body), 45009, "")
	s.Advance(time.Second)
	works(t, s, "brand", "applycode", body)
}

// Settings that an operator may choose. Contract: marketcode 3.1, 3.4.
func TestCodeSettings_Effects(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/settings", `{"max_codes_per_application":200000000}`)
	id := applied(t, s, "brand", "x", 200_000_000)
	refused(t, "more", codeCall(s, "brand", "applycode", `{"code_count":200010000,"isv_application_id":"y"}`), 40097,
		"from 10000 to 200000000")
	got := works(t, s, "brand", "applycodequery", `{"isv_application_id":"x"}`)
	if n := len(got.CodeGenerateList); n != 4_000 || got.CodeGenerateList[n-1] != (segment{199_950_000, 199_999_999}) {
		t.Errorf("%d segments", n)
	}
	works(t, s, "brand", "codeactive", binding(id, 0, 199_999_999))
	text, code := printed(t, s, id, 199_999_999)
	if got := works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"code_url":%q}`, text)); got.Code != code ||
		got.CodeEnd != 199_999_999 {
		t.Errorf("%+v", got)
	}
	refused(t, "an overlap, by default", codeCall(s, "brand", "codeactive", binding(id, 0, 9)), 80302, "")
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow"}}`)
	works(t, s, "brand", "codeactive", binding(id, 0, 9))
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"reject"}}`)
	refused(t, "an overlap", codeCall(s, "brand", "codeactive", binding(id, 5, 15)), 80302, "")
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow","codes.activate.unlinked_taken":"reject"}}`)
	works(t, s, "brand", "codeactive", binding(id, 0, 0))
	refused(t, "no link", codeCall(s, "brand", "codeactive", binding(id, 0, 0, `"wxa_appid":"far"`)), 40097,
		`wxa_appid "far": it is not linked with brand`)
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow"}}`)
	works(t, s, "brand", "codeactive", binding(id, 0, 0, `"wxa_appid":"far"`))
	for _, bad := range []string{`{"code_segment_size":15000}`, `{"code_segment_size":60000}`, `{"max_codes_per_application":1}`,
		`{"behaviours":{"codes.activate.overlap_taken":"maybe"}}`, `{"activation_overlap":"replace"}`,
		`{"ticket_ttl_minutes":0}`, `{"code_finish_delay_seconds":-1}`} {
		s.Do("PUT", "/admin/v1/settings", bad, "Authorization: Bearer "+servertest.AdminToken,
			"Content-Type: application/json").WantStatus(t, 422, "%s", bad)
	}
}
