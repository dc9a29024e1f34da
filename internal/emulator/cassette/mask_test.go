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

// The vocabulary that may be kept of a text is the words of the contract, which are public.
func TestCassetteMask_VocabularyFromContract(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../docs/contract/*.md")
	require.NoError(t, err)
	more, err := filepath.Glob("../../../docs/contract/seen/*")
	require.True(t, err == nil && len(files) != 0 && len(more) != 0, "%v %v %v", files, more, err)
	words := map[string]bool{}
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
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

// chance makes secrets of every kind that the wire has.
type chance struct{ *rand.Rand }

func (c chance) of(alphabet string, n int) string {
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

func (c chance) secret() string {
	return []func() string{
		func() string { return c.of(hexDigits, 32) },                                            // an AppSecret, a code_ticket
		func() string { return "82_" + c.of(base64URL, 130) },                                   // a token
		func() string { return "o" + c.of(base64URL, 27) },                                      // an openid
		func() string { return "wx" + c.of(hexDigits, 16) },                                     // an AppID
		func() string { return "ticket@@@" + c.of(base64URL, 80) },                              // a verify ticket
		func() string { return base64.StdEncoding.EncodeToString([]byte(c.of(base64URL, 16))) }, // a session key
		func() string { return c.of(letters+"0123456789", 43) },                                 // an encoding key
		func() string { return c.of("0123456789", 11+c.IntN(10)) },                              // a telephone number
		func() string { return c.of(base64URL+"!#$%&'()*+,./:;<=>?@[]^`{|}~ \"\\", 24) },        // a password
		func() string { return "密钥" + strings.Repeat("是非", 4) + c.of(letters, 6) },              // a Chinese name
		func() string { return c.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 9) },                // a code
	}[c.IntN(11)]()
}

// numbersOf are the bytes of a text, as some programs write them.
func numbersOf(s string) (list []int) {
	for _, b := range []byte(s) {
		list = append(list, int(b))
	}
	return list
}

// encodings are the forms in which a secret may stand somewhere.
func encodings(secret string) []string {
	escaped, _ := json.Marshal(secret)
	numbers, _ := json.Marshal(numbersOf(secret))
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

// places are fields of calls and answers, those too whose texts keep their form.
var places = []string{"access_token", "secret", "openid", "code_ticket", "appid", "prefix", "path", "debug_url", "prefix_list", "errmsg",
	"grant_type", "action_name", "status", "url", "cgi_path", "lang", "nobody_knows_it", "isv_application_id", "code_count", "expires_in",
	"errcode",
	"session_key", "js_code", "nick_name", "buffer", "is_edit", "ip_list", "create_time"}

// object is a JSON object with a secret somewhere, at any depth.
func (c chance) object(deep int, planted string) map[string]any {
	o := map[string]any{}
	for range 1 + c.IntN(4) {
		o[places[c.IntN(len(places))]] = c.value(deep, planted)
	}
	switch c.IntN(6) {
	case 0:
		o[planted] = 1 // a name
	case 1:
		o["rid/"+planted] = true
	}
	return o
}

func (c chance) value(deep int, planted string) any {
	switch n := c.IntN(10); {
	case n == 0 && deep > 0:
		return c.object(deep-1, planted)
	case n == 1 && deep > 0:
		return []any{c.value(deep-1, planted), c.IntN(100)}
	case n == 2:
		return "invalid credential, access_token " + planted + " rid: 5f87eb8a-6ee66b1b-75f60c88"
	case n == 3:
		return "https://" + planted + ".example/t/?k=" + planted
	case n == 4:
		return "text=" + encodings(planted)[c.IntN(11)] + "&more"
	case n == 5:
		inner, _ := json.Marshal(map[string]string{"secret": planted})
		return string(inner)
	case n == 6:
		return numbersOf(planted)
	case n == 7:
		bytes := map[string]int{} // as JavaScript writes them
		for i, b := range numbersOf(planted) {
			bytes[fmt.Sprintf("%03d", i)] = b
		}
		return bytes
	}
	return planted
}

// body is a call's or an answer's, JSON or not, packed or not.
func (c chance) body(planted string) (body []byte, header http.Header) {
	header = http.Header{}
	body, _ = json.Marshal(c.object(3, planted))
	switch c.IntN(9) {
	case 0:
		body = []byte("a=b&secret=" + url.QueryEscape(planted))
	case 1:
		body = []byte("<html>" + planted + "</html>")
	case 2:
		body = body[:c.IntN(len(body))+1] // cut
	case 3:
		body = append(body, body...)
	case 4:
		body = append([]byte{0xff, 0xfe}, planted...)
	case 5:
		body, _ = json.Marshal(planted)
	case 6:
		if planted != "" && strings.Trim(planted, "0123456789") == "" {
			body = []byte(`{"openid":1` + planted + `,"errcode":1` + planted + `,"expires_in":1` + planted + `e5}`)
		}
	}
	return body, header
}

// Issue 15: whatever is secret in a call or an answer, wherever it stands and however
// it is written, does not stand in the cassette.
func TestCassetteMask_NoSecrets(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		c := chance{rand.New(rand.NewPCG(seed, 15))}
		var planted []string
		plant := func() string {
			planted = append(planted, c.secret())
			return planted[len(planted)-1]
		}
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := c.body(plant())
			w.Header().Set("Content-Type", "application/json; name="+url.QueryEscape(plant()))
			w.Header().Set("Location", "https://x.example/"+url.PathEscape(plant()))
			w.Header().Set("Content-Disposition", "attachment; filename="+url.QueryEscape(plant()))
			w.Header().Set("Set-Cookie", "a="+url.QueryEscape(plant()))
			w.Header().Set("X-Token", url.QueryEscape(plant()))
			if c.IntN(4) == 0 {
				var packed bytes.Buffer
				to := gzip.NewWriter(&packed)
				to.Write(body)
				to.Close()
				body = packed.Bytes()
				w.Header().Set("Content-Encoding", "gzip")
			}
			w.WriteHeader([]int{200, 302, 404, 500}[c.IntN(4)])
			w.Write(body)
		}))
		proxy, _, out := record(t, upstream.URL, time.Now)
		for range 12 {
			body, _ := c.body(plant())
			address := fmt.Sprintf("%s/cgi-bin/%s/token?access_token=%s&%s=%s&lang=", proxy, url.PathEscape(plant()),
				url.QueryEscape(plant()), url.QueryEscape(plant()), url.QueryEscape(plant()))
			value := encodings(plant())[c.IntN(11)]
			if strings.ContainsAny(value, " #&\"<>\\^`{|}\x7f") ||
				strings.ContainsFunc(value, func(r rune) bool { return r > 126 || r < 33 }) {
				value = url.QueryEscape(value) // others are encoded already
			}
			address += value
			method := "POST"
			if c.IntN(8) == 0 {
				method = "X" + c.of(letters, 12)
				planted = append(planted, method[1:])
			}
			req, err := http.NewRequest(method, address, bytes.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "multipart/form-data; boundary="+url.QueryEscape(plant()))
			req.Header.Set("Authorization", "Bearer "+url.QueryEscape(plant()))
			req.Header.Set("Cookie", "c="+url.QueryEscape(plant()))
			req.Header.Set("User-Agent", url.QueryEscape(plant()))
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			require.NoError(t, err)
			resp.Body.Close()
		}
		upstream.Close()
		text := out.String()
		require.Equal(t, len(lines(t, text)), 12, "seed %d", seed)
		lower := strings.ToLower(text)
		pairs := regexp.MustCompile(`"[^",]*":([0-9]+)`).ReplaceAllString(text, "$1") // numbers under whatever names
		for _, secret := range planted {
			for _, form := range encodings(secret) {
				if strings.Contains(text, form) || strings.Contains(pairs, form) || len(form) >= 16 &&
					strings.Contains(lower, strings.ToLower(form)) {
					at := strings.Index(lower, strings.ToLower(form))
					t.Fatalf("seed %d: %q stands in the cassette as %q: …%s…", seed, secret, form,
						text[max(0, at-200):min(len(text), at+100)])
				}
			}
		}
	}
}

// The same value is the same stand-in wherever it stands, so that a reader can see which calls belong together.
func TestCassetteMask_StablePlaceholders(t *testing.T) {
	t.Parallel()
	const token, id = "82_abcdefghijklmnopqrstuvwxyz", "500000001"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q,"errmsg":"seen %s rid: 5f87eb8a-6ee66b1b-75f60c88","application_id":%s,"order":%q}`, token,
			token, id, id)
	}))
	t.Cleanup(upstream.Close)
	proxy, _, out := record(t, upstream.URL, time.Now)
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
