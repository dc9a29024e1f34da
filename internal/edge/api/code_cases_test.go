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

// decrypted undoes a package as deployed clients do: Base64, AES-128-CBC with the key as IV, PKCS#7.
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
	for _, c := range testtable.Rows(t, "testdata/refused_downloads.txt", 4) {
		number, err := strconv.Atoi(c[2])
		require.NoError(t, err)
		body := strings.ReplaceAll(c[1], "THEIRS", fmt.Sprint(theirs))
		refused(t, c[0], codeCall(s, "brand", "applycodedownload", body), number, c[3])
	}
	refused(t, "an account without a package key",
		codeCall(s, "keyless", "applycodedownload", `{"application_id":500000003,"code_start":0,"code_end":1}`), 80313, "")

	var rows []string
	for _, r := range []segment{{0, 49_999}, {50_000, 59_999}} {
		text := string(decrypted(t, key, download(t, s, id, r.CodeStart, r.CodeEnd)))
		assert.True(t, strings.HasSuffix(text, "\n"), "the last row does not end: %q", text[max(0, len(text)-50):])
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
	// Parts of a segment are the same rows; one whose length is a multiple of 16 ends with a whole block of padding.
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
		sealed, err := base64.StdEncoding.DecodeString(buffer)
		assert.True(t, err == nil && len(sealed) == len(want)+16 && string(decrypted(t, key, buffer)) == want,
			"%d rows of %d bytes: %d bytes sealed, %v", n, len(want), len(sealed), err)
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
	got := works(t, s, "brand", "applycodequery", `{"isv_application_id":"small"}`).CodeGenerateList
	assert.True(t, slices.Equal(got, []segment{{0, 9_999}, {10_000, 19_999}, {20_000, 29_999}}), "%v", got)
	got = works(t, s, "brand", "applycodequery", `{"isv_application_id":"x"}`).CodeGenerateList
	assert.True(t, slices.Equal(got, []segment{{0, 49_999}, {50_000, 59_999}}), "%v", got)
	assert.Equal(t, strings.Count(string(decrypted(t, key, download(t, s, small, 10_000, 19_999))), "\n"), 10_000, "rows")
	refused(t, "across two small segments", codeCall(s, "brand", "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":9999,"code_end":10000}`, small)), 80310, "")
	download(t, s, id, 9_999, 10_000)
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
			s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%d,"remaining":1}`, path, number))
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
	n := len(got.CodeGenerateList)
	assert.True(t, n == 4_000 && got.CodeGenerateList[n-1] == (segment{199_950_000, 199_999_999}), "%d segments", n)
	works(t, s, "brand", "codeactive", binding(id, 0, 199_999_999))
	text, code := printed(t, s, id, 199_999_999)
	got = works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"code_url":%q}`, text))
	assert.True(t, got.Code == code && got.CodeEnd == 199_999_999, "%+v", got)
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
