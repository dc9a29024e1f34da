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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// decryptPackage decodes a code package as deployed clients do: Base64, AES-128-CBC with the key as IV, PKCS#7 padding.
func decryptPackage(t *testing.T, key, buffer string) (plain []byte) {
	t.Helper()
	sealed := require.Value(base64.StdEncoding.DecodeString(buffer))(t)
	c := require.Value(aes.NewCipher([]byte(key)))(t)
	plain = make([]byte, len(sealed))
	cipher.NewCBCDecrypter(c, []byte(key)).CryptBlocks(plain, sealed)
	return plain[:len(plain)-int(plain[len(plain)-1])]
}

func download(t testing.TB, s *servertest.Server, id, from, to int64) string {
	t.Helper()
	return mustCallCode(t, s, "brand", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":%d,"code_end":%d}`, id, from, to)).Buffer
}

// Contract: marketcode 3.3, 4, 11.1.
// Behaviour(codes.range.part) Behaviour(codes.separator).
func TestApplyCodeDownload_Cases(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	const key = "0123456789abcdef"
	id := s.Apply("brand", "x", 60_000)
	rivalID := s.Apply("rival", "theirs", 10_000)
	s.Apply("keyless", "x", 10_000)
	for _, c := range testtable.Rows(t, "testdata/refused_downloads.txt", 4) {
		number := require.Value(strconv.Atoi(c[2]))(t)
		body := strings.ReplaceAll(c[1], "THEIRS", fmt.Sprint(rivalID))
		wantCodeError(t, c[0], s.CodeCall("brand", "applycodedownload", body), number, c[3])
	}
	wantCodeError(t, "an account without a package key",
		s.CodeCall("keyless", "applycodedownload", `{"application_id":500000003,"code_start":0,"code_end":1}`), 80313, "")

	var rows []string
	for _, r := range []segment{{0, 49_999}, {50_000, 59_999}} {
		text := string(decryptPackage(t, key, download(t, s, id, r.CodeStart, r.CodeEnd)))
		assert.True(t, strings.HasSuffix(text, "\n"), "last row %q has no line feed", text[max(0, len(text)-50):])
		rows = append(rows, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	require.Equal(t, len(rows), 60_000, "rows")
	seen := map[string]bool{}
	for i, row := range rows {
		columns := strings.Split(row, " ")
		require.True(t, len(columns) == 4 && len(columns[0]) == 361 && strings.Trim(columns[0], "01") == "" && len(columns[1]) == 9 &&
			columns[2] == fmt.Sprint(i) && len(columns[3]) == 28 && strings.HasPrefix(columns[3], "P.URL.CN/0"),
			"malformed row %d: %q", i, row)
		require.True(t, !seen[columns[1]] && !seen[columns[3]], "row %d repeats a code: %q", i, row)
		seen[columns[1]], seen[columns[3]] = true, true
	}
	for _, i := range []int64{0, 7, 49_999, 50_000, 59_999} {
		if text, code := lookupCode(t, s, id, i); rows[i][362:371] != code || !strings.HasSuffix(rows[i], " "+text) {
			t.Errorf("row %d = %q, want code %s and text %s", i, rows[i], code, text)
		}
	}
	// Parts of a segment contain the same rows. A part whose length is a multiple of 16 ends with a full block of padding.
	for _, r := range []segment{{0, 0}, {5, 20}, {9, 10}, {59_999, 59_999}, {49_998, 49_999}, {0, 15}} {
		want := strings.Join(rows[r.CodeStart:r.CodeEnd+1], "\n") + "\n"
		assert.Equal(t, string(decryptPackage(t, key, download(t, s, id, r.CodeStart, r.CodeEnd))), want, "rows %v", r)
	}
	for n := int64(1); ; n++ {
		want := strings.Join(rows[:n], "\n") + "\n"
		if len(want)%16 != 0 {
			continue
		}
		buffer := download(t, s, id, 0, n-1)
		sealed, err := base64.StdEncoding.DecodeString(buffer)
		assert.True(t, err == nil && len(sealed) == len(want)+16 && string(decryptPackage(t, key, buffer)) == want,
			"%d rows of %d bytes: package of %d bytes, %v, want one block more", n, len(want), len(sealed), err)
		break
	}
	// openssl is an independent implementation of the decryption.
	if openssl, err := exec.LookPath("openssl"); err == nil {
		sealed := require.Value(base64.StdEncoding.DecodeString(download(t, s, id, 50_000, 59_999)))(t)
		file := filepath.Join(t.TempDir(), "sealed")
		require.NoError(t, os.WriteFile(file, sealed, 0o600))
		hex := fmt.Sprintf("%x", key)
		plain, err := exec.Command(openssl, "enc", "-d", "-aes-128-cbc", "-K", hex, "-iv", hex, "-in", file).Output()
		assert.True(t, err == nil && string(plain) == strings.Join(rows[50_000:], "\n")+"\n", "openssl: %d bytes, %v", len(plain), err)
	}
	// A smaller segment size applies to new applications only.
	s.Admin("PUT", "/settings", `{"code_segment_size":10000}`)
	small := s.Apply("brand", "small", 30_000)
	got := mustCallCode(t, s, "brand", "applycodequery", `{"isv_application_id":"small"}`).CodeGenerateList
	assert.True(t, slices.Equal(got, []segment{{0, 9_999}, {10_000, 19_999}, {20_000, 29_999}}), "segments of the new application: %v", got)
	got = mustCallCode(t, s, "brand", "applycodequery", `{"isv_application_id":"x"}`).CodeGenerateList
	assert.True(t, slices.Equal(got, []segment{{0, 49_999}, {50_000, 59_999}}), "segments of the old application: %v", got)
	assert.Equal(t, strings.Count(string(decryptPackage(t, key, download(t, s, small, 10_000, 19_999))), "\n"), 10_000, "rows")
	wantCodeError(t, "across two small segments", s.CodeCall("brand", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":9999,"code_end":10000}`, small)), 80310, "")
	download(t, s, id, 9_999, 10_000)
}

// TestCodeCalls_CommonErrors verifies the errors that every call of the family returns. Contract: marketcode 7, 11.1.
// Behaviour(codes.gate).
func TestCodeCalls_CommonErrors(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := s.Apply("brand", "x", 10_000)
	s.Advance(36 * time.Hour) // the time in a hint comes from the server's clock
	s.NewToken("brand")
	for call, body := range map[string]string{
		"applycode": `{"code_count":10000,"isv_application_id":"y"}`, "applycodequery": fmt.Sprintf(`{"application_id":%d}`, id),
		"applycodedownload": fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":0}`, id),
		"codeactive":        activationBody(id, 0, 0), "codeactivequery": fmt.Sprintf(`{"application_id":%d,"code_index":0}`, id),
		"tickettocode": fmt.Sprintf(`{"openid":%q,"code_ticket":"a"}`, openIDOf(t, s, "u", "brand")),
	} {
		path := marketcodePath + call
		wantCodeError(t, call+" GET", s.Do("GET", path+"?access_token="+s.Token("brand"), ""), 43002, "")
		wantCodeError(t, call+" GET without a token", s.Do("GET", path, ""), 43002, "")
		wantCodeError(t, call+" without a token", s.Do("POST", path, body), 41001, "")
		wantCodeError(t, call+" with an empty token", s.Do("POST", path+"?access_token=", body), 41001, "")
		wantCodeError(t, call+" with a text that is no token", s.Do("POST", path+"?access_token=T", body), 40001, "")
		wantCodeError(t, call+" with an unknown token", s.Do("POST", path+"?access_token=109_"+strings.Repeat("x", 128), body), 40001, "")
		wantCodeError(t, call+" with an empty body", s.CodeCall("brand", call, ""), 44002, "")
		wantCodeError(t, call+" with white space", s.CodeCall("brand", call, "\r\n"), 44002, "")
		for _, broken := range []string{`[]`, `[` + body + `]`, `null`, `7`, `"x"`, `{`, `{'a':1}`, body + body, `{"a":"` + "\xff" + `"}`} {
			wantCodeError(t, call+" with "+broken, s.CodeCall("brand", call, broken), 47001, "")
		}
		if a, err := s.TrySend(s.Request("POST", path+"?access_token="+s.Token("brand"), `{"isv_application_id":"`+
			strings.Repeat("x", 10<<20)+`"}`)); err == nil {
			wantCodeError(t, call+" with 10 MB", a, 47001, "") // otherwise rejected before it is read
		}
		for _, appid := range []string{"nofeature", "uncertified", "sub", "shop"} {
			// Method and token are checked before the body. Contract: marketcode 1.
			for _, sent := range []string{body, "", "{", "{}", "[]", `{"application_id":[],"code_count":[],"openid":7}`} {
				wantCodeError(t, call+" as "+appid+" with "+sent, s.CodeCall(appid, call, sent), 48001, "")
			}
			wantCodeError(t, call+" GET as "+appid, s.Do("GET", path+"?access_token="+s.Token(appid), ""), 43002, "")
		}
		s.Admin("PUT", "/settings", `{"default_rate_limit":5}`)
		s.Clock.Step(time.Second)
		for range 5 {
			s.CodeCall("brand", call, "{}")
		}
		wantCodeError(t, call+" a sixth time in a second", s.CodeCall("brand", call, body), 44990, "")
		s.Admin("PUT", "/settings", `{"default_rate_limit":null}`)
		for _, number := range append(slices.Sorted(maps.Keys(baseTexts)), -1, 48001) {
			if number == 40097 {
				continue // its detail depends on the endpoint
			}
			s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%d,"remaining":1}`, path, number))
			wantCodeError(t, fmt.Sprintf("%s with the fault %d", call, number), s.CodeCall("brand", call, body), number, "")
		}
	}
	// Segments never expire: only an injected fault produces 80309.
	s.Advance(365 * 24 * time.Hour)
	s.NewToken("brand")
	download(t, s, id, 0, 9_999)
}

func TestApplyCode_DailyLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	body := `{"code_count":10000,"isv_application_id":"order"}`
	s.RunStory("used brand "+marketcodePath+"applycode 997", nil)
	s.Apply("brand", "other", 10_000)
	wantCodeError(t, "a rejected call, which does not count", s.CodeCall("brand",
		"applycode", `{"code_count":1,"isv_application_id":"order"}`), 40097,
		"code_count")
	for range 2 { // repeated applications count as well: the limit is on calls
		mustCallCode(t, s, "brand", "applycode", body)
	}
	wantCodeError(t, "call 1001", s.CodeCall("brand", "applycode", body), 45009, "")
	wantCodeError(t, "another application above the limit", s.CodeCall("brand",
		"applycode", `{"code_count":10000,"isv_application_id":"new"}`), 45009, "")
	wantCodeError(t, "the application that was rejected", s.CodeCall("brand", "applycodequery", `{"isv_application_id":"new"}`), 80300, "")
	s.Apply("rival", "order", 10_000)
	// The day ends at midnight in the platform's time zone.
	s.Admin("PUT", "/emulator/clock", `{"now":"2026-01-15T23:59:59+08:00","freeze":true}`)
	s.NewToken("brand")
	wantCodeError(t, "a second before midnight", s.CodeCall("brand", "applycode", body), 45009, "")
	s.Advance(time.Second)
	mustCallCode(t, s, "brand", "applycode", body)
}

// TestCodeSettings_Effects verifies the settings of the code family, and that invalid values are rejected. Contract: marketcode 3.1, 3.4.
func TestCodeSettings_Effects(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/settings", `{"max_codes_per_application":200000000}`)
	id := s.Apply("brand", "x", 200_000_000)
	wantCodeError(t, "more", s.CodeCall("brand", "applycode", `{"code_count":200010000,"isv_application_id":"y"}`), 40097,
		"from 10000 to 200000000")
	got := mustCallCode(t, s, "brand", "applycodequery", `{"isv_application_id":"x"}`)
	n := len(got.CodeGenerateList)
	assert.True(t, n == 4_000 && got.CodeGenerateList[n-1] == (segment{199_950_000, 199_999_999}),
		"%d segments, want 4000 that end with {199950000 199999999}", n)
	mustCallCode(t, s, "brand", "codeactive", activationBody(id, 0, 199_999_999))
	text, code := lookupCode(t, s, id, 199_999_999)
	got = mustCallCode(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"code_url":%q}`, text))
	assert.True(t, got.Code == code && got.CodeEnd == 199_999_999, "codeactivequery = %+v, want code %s", got, code)
	wantCodeError(t, "an overlap, by default", s.CodeCall("brand", "codeactive", activationBody(id, 0, 9)), 80302, "")
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow"}}`)
	mustCallCode(t, s, "brand", "codeactive", activationBody(id, 0, 9))
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"reject"}}`)
	wantCodeError(t, "an overlap", s.CodeCall("brand", "codeactive", activationBody(id, 5, 15)), 80302, "")
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow","codes.activate.unlinked_taken":"reject"}}`)
	mustCallCode(t, s, "brand", "codeactive", activationBody(id, 0, 0))
	wantCodeError(t, "no link", s.CodeCall("brand", "codeactive", activationBody(id, 0, 0, `"wxa_appid":"far"`)), 40097,
		`wxa_appid "far": it is not linked with brand`)
	s.Admin("PUT", "/settings", `{"behaviours":{"codes.activate.overlap_taken":"allow"}}`)
	mustCallCode(t, s, "brand", "codeactive", activationBody(id, 0, 0, `"wxa_appid":"far"`))
	for _, bad := range []string{`{"code_segment_size":15000}`, `{"code_segment_size":60000}`, `{"max_codes_per_application":1}`,
		`{"behaviours":{"codes.activate.overlap_taken":"maybe"}}`, `{"activation_overlap":"replace"}`,
		`{"ticket_ttl_minutes":0}`, `{"code_finish_delay_seconds":-1}`} {
		s.Do("PUT", "/admin/v1/settings", bad, "Authorization: Bearer "+servertest.AdminToken,
			"Content-Type: application/json").WantStatus(t, 422, "settings %s", bad)
	}
}
