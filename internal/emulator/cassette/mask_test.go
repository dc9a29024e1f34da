package cassette_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var update = flag.Bool("update", false, "rewrite words.txt")

// TestCassetteMask_VocabularyFromContract verifies that exactly the words of the contract, which are public, stay unmasked in texts.
func TestCassetteMask_VocabularyFromContract(t *testing.T) {
	t.Parallel()
	files := require.Value(filepath.Glob("../../../docs/contract/*.md"))(t)
	more, err := filepath.Glob("../../../docs/contract/seen/*")
	require.True(t, err == nil && len(files) != 0 && len(more) != 0, "files of the contract = %v %v, %v, want some", files, more, err)
	words := map[string]bool{}
	for _, name := range append(files, more...) {
		text := require.Value(os.ReadFile(name))(t)
		for _, run := range regexp.MustCompile(`[A-Za-z0-9_-]+`).FindAllString(string(text), -1) {
			if strings.ContainsAny(run, "0123456789") {
				continue
			}
			for _, word := range strings.FieldsFunc(run, func(r rune) bool { return r == '_' || r == '-' }) {
				words[word] = len(word) >= 2 && len(word) <= 24
			}
		}
	}
	var list []string
	for word, keep := range words {
		if keep {
			list = append(list, word)
		}
	}
	slices.Sort(list)
	want := strings.Join(list, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("words.txt", []byte(want), 0o644))
	}
	if have, err := os.ReadFile("words.txt"); err != nil || string(have) != want {
		t.Errorf("words.txt is not the words of docs/contract (%v): run go test ./internal/emulator/cassette -run Words -update", err)
	}
}

// generator generates random secrets of all kinds that calls contain, and bodies that contain them.
type generator struct{ *rand.Rand }

func (c generator) text(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[c.IntN(len(alphabet))]
	}
	return string(b)
}

const (
	hexDigits = "0123456789abcdef"
	letters   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	base64URL = letters + "0123456789-_"
)

func (c generator) secret() string {
	return []func() string{
		func() string { return c.text(hexDigits, 32) },                                            // an AppSecret, a code_ticket
		func() string { return "82_" + c.text(base64URL, 130) },                                   // a token
		func() string { return "o" + c.text(base64URL, 27) },                                      // an openid
		func() string { return "wx" + c.text(hexDigits, 16) },                                     // an AppID
		func() string { return "ticket@@@" + c.text(base64URL, 80) },                              // a verify ticket
		func() string { return base64.StdEncoding.EncodeToString([]byte(c.text(base64URL, 16))) }, // a session key
		func() string { return c.text(letters+"0123456789", 43) },                                 // an encoding key
		func() string { return c.text("0123456789", 11+c.IntN(10)) },                              // a telephone number
		func() string { return c.text(base64URL+"!#$%&'()*+,./:;<=>?@[]^`{|}~ \"\\", 24) },        // a password
		func() string { return "密钥" + strings.Repeat("是非", 4) + c.text(letters, 6) },              // a Chinese name
		func() string { return c.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 9) },                // a code
	}[c.IntN(11)]()
}

// byteValues returns the bytes of a text as numbers, as some programs write them.
func byteValues(s string) (list []int) {
	for _, b := range []byte(s) {
		list = append(list, int(b))
	}
	return list
}

// encodings returns the forms in which a secret may be written.
func encodings(secret string) []string {
	escaped, _ := json.Marshal(secret)
	numbers, _ := json.Marshal(byteValues(secret))
	var unicode, percent strings.Builder
	for _, b := range []byte(secret) {
		fmt.Fprintf(&percent, "%%%02X", b)
		fmt.Fprintf(&unicode, `\u%04x`, b)
	}
	return []string{secret, url.QueryEscape(secret), url.PathEscape(secret), percent.String(), unicode.String(),
		string(escaped[1 : len(escaped)-1]),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		strings.Trim(string(numbers), "[]"), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}
}

// fields are fields of requests and responses, also those whose texts stay unmasked.
var fields = []string{"access_token", "secret", "openid", "code_ticket", "appid", "prefix", "path", "debug_url", "prefix_list", "errmsg",
	"grant_type", "action_name", "status", "url", "cgi_path", "lang", "nobody_knows_it", "isv_application_id", "code_count", "expires_in",
	"errcode",
	"session_key", "js_code", "nick_name", "buffer", "is_edit", "ip_list", "create_time"}

// object returns a JSON object with a secret at a random place and depth.
func (c generator) object(depth int, secret string) map[string]any {
	o := map[string]any{}
	for range 1 + c.IntN(4) {
		o[fields[c.IntN(len(fields))]] = c.value(depth, secret)
	}
	switch c.IntN(6) {
	case 0:
		o[secret] = 1 // as the name of a field
	case 1:
		o["rid/"+secret] = true
	}
	return o
}

func (c generator) value(depth int, secret string) any {
	switch n := c.IntN(10); {
	case n == 0 && depth > 0:
		return c.object(depth-1, secret)
	case n == 1 && depth > 0:
		return []any{c.value(depth-1, secret), c.IntN(100)}
	case n == 2:
		return "invalid credential, access_token " + secret + " rid: 5f87eb8a-6ee66b1b-75f60c88"
	case n == 3:
		return "https://" + secret + ".example/t/?k=" + secret
	case n == 4:
		return "text=" + encodings(secret)[c.IntN(11)] + "&more"
	case n == 5:
		inner, _ := json.Marshal(map[string]string{"secret": secret})
		return string(inner)
	case n == 6:
		return byteValues(secret)
	case n == 7:
		bytes := map[string]int{} // as JavaScript writes byte arrays
		for i, b := range byteValues(secret) {
			bytes[fmt.Sprintf("%03d", i)] = b
		}
		return bytes
	}
	return secret
}

// body returns the body of a request or response, which may be invalid JSON or another format.
func (c generator) body(secret string) []byte {
	body, _ := json.Marshal(c.object(3, secret))
	switch c.IntN(9) {
	case 0:
		return []byte("a=b&secret=" + url.QueryEscape(secret))
	case 1:
		return []byte("<html>" + secret + "</html>")
	case 2:
		return body[:c.IntN(len(body))+1] // truncated
	case 3:
		return append(body, body...)
	case 4:
		return append([]byte{0xff, 0xfe}, secret...)
	case 5:
		body, _ = json.Marshal(secret)
	case 6:
		if secret != "" && strings.Trim(secret, "0123456789") == "" {
			return []byte(`{"openid":1` + secret + `,"errcode":1` + secret + `,"expires_in":1` + secret + `e5}`)
		}
	}
	return body
}

// TestCassetteMask_NoSecrets verifies that no secret of a request or response is in the cassette, wherever it is and however it is encoded.
func TestCassetteMask_NoSecrets(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		c := generator{rand.New(rand.NewPCG(seed, 15))}
		var secrets []string
		newSecret := func() string {
			secrets = append(secrets, c.secret())
			return secrets[len(secrets)-1]
		}
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := c.body(newSecret())
			w.Header().Set("Content-Type", "application/json; name="+url.QueryEscape(newSecret()))
			w.Header().Set("Location", "https://x.example/"+url.PathEscape(newSecret()))
			w.Header().Set("Content-Disposition", "attachment; filename="+url.QueryEscape(newSecret()))
			w.Header().Set("Set-Cookie", "a="+url.QueryEscape(newSecret()))
			w.Header().Set("X-Token", url.QueryEscape(newSecret()))
			if c.IntN(4) == 0 {
				var compressed bytes.Buffer
				gz := gzip.NewWriter(&compressed)
				gz.Write(body)
				gz.Close()
				body = compressed.Bytes()
				w.Header().Set("Content-Encoding", "gzip")
			}
			w.WriteHeader([]int{200, 302, 404, 500}[c.IntN(4)])
			w.Write(body)
		}))
		proxy, out := record(t, upstream.URL, time.Now)
		for range 12 {
			body := c.body(newSecret())
			address := fmt.Sprintf("%s/cgi-bin/%s/token?access_token=%s&%s=%s&lang=", proxy, url.PathEscape(newSecret()),
				url.QueryEscape(newSecret()), url.QueryEscape(newSecret()), url.QueryEscape(newSecret()))
			value := encodings(newSecret())[c.IntN(11)]
			if strings.ContainsAny(value, " #&\"<>\\^`{|}\x7f") ||
				strings.ContainsFunc(value, func(r rune) bool { return r > 126 || r < 33 }) {
				value = url.QueryEscape(value) // other forms are escaped already
			}
			address += value
			method := "POST"
			if c.IntN(8) == 0 {
				method = "X" + c.text(letters, 12)
				secrets = append(secrets, method[1:])
			}
			req := require.Value(http.NewRequest(method, address, bytes.NewReader(body)))(t)
			req.Header.Set("Content-Type", "multipart/form-data; boundary="+url.QueryEscape(newSecret()))
			req.Header.Set("Authorization", "Bearer "+url.QueryEscape(newSecret()))
			req.Header.Set("Cookie", "c="+url.QueryEscape(newSecret()))
			req.Header.Set("User-Agent", url.QueryEscape(newSecret()))
			resp := require.Value((&http.Transport{DisableKeepAlives: true}).RoundTrip(req))(t)
			resp.Body.Close()
		}
		upstream.Close()
		text := out.String()
		require.Equal(t, len(lines(t, text)), 12, "number of lines with seed %d", seed)
		lower := strings.ToLower(text)
		pairs := regexp.MustCompile(`"[^",]*":([0-9]+)`).ReplaceAllString(text, "$1") // numbers under whatever names
		for _, secret := range secrets {
			for _, form := range encodings(secret) {
				if strings.Contains(text, form) || strings.Contains(pairs, form) || len(form) >= 16 &&
					strings.Contains(lower, strings.ToLower(form)) {
					i := strings.Index(lower, strings.ToLower(form))
					t.Fatalf("seed %d: the cassette contains %q as %q, want it masked: …%s…", seed, secret, form,
						text[max(0, i-200):min(len(text), i+100)])
				}
			}
		}
	}
}

// TestCassetteMask_StablePlaceholders verifies that a value has the same placeholder everywhere, which shows which calls belong together.
func TestCassetteMask_StablePlaceholders(t *testing.T) {
	t.Parallel()
	const token, id = "82_abcdefghijklmnopqrstuvwxyz", "500000001"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q,"errmsg":"seen %s rid: 5f87eb8a-6ee66b1b-75f60c88","application_id":%s,"order":%q}`, token,
			token, id, id)
	}))
	t.Cleanup(upstream.Close)
	proxy, out := record(t, upstream.URL, time.Now)
	for range 2 {
		resp, err := http.Post(proxy+"/a/b?access_token="+token, "application/json", strings.NewReader(`{"application_id":"`+id+`"}`))
		require.NoError(t, err)
		resp.Body.Close()
	}
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		for _, want := range []string{`"query":{"access_token":"{token:2:29}"}`, `"request":{"application_id":"{id:3:9}"}`,
			`"response":{"access_token":"{token:2:29}","errmsg":"seen {token:2:29} rid: {rid:4:26}","application_id":"{#id:3:9}","order":"{id:3:9}"}`} {
			assert.True(t, strings.Contains(line, want), "line %d is %s, want %s in it", i+1, line, want)
		}
	}
}
