package scanapi

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var plainRequests = []string{
	`{"text":"https://shop.example/t/7","user":"u-1","source":"scan","ip":"192.0.2.7","client":"app/1"}`,
	" {\r\n\t\"text\" : \"a\" , \"user\" : \"\" } \n",
	`{"text":"\"\\\/\b\f\n\r\t\u0041\u98df\uFFFD\u2028"}`,
	`{"text":"食\u0026"}`, `{"user":"u"}`, `{"text":""}`,
}

var fallbackRequests = []string{
	`{}`, `{"Text":"a"}`, `{"text":"a","text":"b"}`, `{"text":null}`, `{"text":7}`, `{"text":"a"}x`, `{"text":"a"}{}`, `{"text":"a",}`,
	`{,}`, `{"text":"a" "user":"b"}`,
	`{"text":"\ud83d\ude00"}`, `{"text":"\ud800"}`, `{"text":"\x"}`, `{"text":"\u12"}`, `{"text":"\u+123"}`, `{"text":"` + "\x01" + `"}`,
	"{\"text\":\"\xff\"}", `{"text":"a","more":{}}`,
	`{"text":"a","at":"2026-01-01T00:00:00Z"}`, `{"te\u0078t":"a"}`, `{"text":"a`, `{"text`, `{`, ``, `[]`, `{"text":"a"]`,
	"\ufeff{\"text\":\"a\"}", `{"text":"\uFFFD\ud800"}`, "{\"user\":\"\xff\",\"text\":\"a\"}",
	`{"text":"a","user":"\ud800"}`, `{"text":"\ufffd","user":"\ud800"}`, `{"text":"a","user":"\ufffd"}`,
	`{"text":"a","user":"\ud83d\ude00\uFFFD"}`,
}

func TestQuick_PlainRequests(t *testing.T) {
	for _, body := range plainRequests {
		_, ok := parseRequest(body)
		assert.True(t, ok, "parseRequest(%s) leaves a plain request to encoding/json", body)
	}
}

// FuzzQuick verifies that parseRequest, where it succeeds, reads what encoding/json reads.
func FuzzQuick(f *testing.F) {
	for _, body := range append(plainRequests, fallbackRequests...) {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, ok := parseRequest(string(body))
		if !ok {
			return
		}
		var want parsedRequest
		err := unmarshal(body, &want.Request)
		require.True(t, err == nil, "parseRequest(%q) = %+v, want the error %v", body, q, err)
		if want.Text != nil {
			want.text, want.hasText, want.Text = *want.Text, true, nil
		}
		want.replaced, want.userReplaced = replaced(body, want.text), userReplaced(body, want.User)
		require.True(t, q == want, "parseRequest(%q)\ngot  %+v\nwant %+v", body, q, want)
	})
}

// FuzzAppendDecision verifies that appendDecision writes what encoding/json writes.
func FuzzAppendDecision(f *testing.F) {
	f.Add("open_mini_program", "wx1", "release", "pages/t?q=https%3A", 1011, "rule", "https://a.example/", int64(0), int64(0), "", "", "")
	f.Add("open_mini_program", "wx1", "release", "p", 1124, "code", "", int64(500000001), int64(0), "", "", "")
	f.Add("open_url", "", "", "", 0, "", "", int64(0), int64(0), "", "https://x.example/?a=1&b=<2>", "")
	f.Add("show_text", "", "", "", 0, "", "", int64(0), int64(0), "", "", "a\"\\\b\f\n\r\t\x00\x1f\x7f\u2028\u2029食\U0001F600\xff\xc3(")
	f.Add("show_message", "", "", "", 0, "", "", int64(500000001), int64(9), "void", "", "")
	f.Fuzz(func(t *testing.T, action, appid, version, path string, scene int, kind, prefix string, batch, index int64, reason, url,
		text string) {
		d := scan.Decision{Action: scan.Action(action), AppID: appid, Path: path, Scene: scene, Kind: scan.MatchKind(kind),
			Reason: codes.Reason(reason), URL: url, Text: text}
		d.Version = accounts.Version(version)
		d.Matched.Prefix = prefix
		d.Code.Batch.ID, d.Code.Index = batch, index
		got := appendDecision(nil, "0123", &d)
		decision := newDecision(d)
		decision.ScanID = "0123"
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(decision))
		require.True(t, bytes.Equal(got, want.Bytes()), "got  %q\nwant %q", got, want.Bytes())
	})
}

func TestScanAPI_ClientNameSanitized(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"qr/1.2 (安卓)":                  "qr/1.2 (安卓)",
		"a\x1b[31mred\nb\x00":          "a [31mred b ",
		"\xff\xfe":                     "  ",
		strings.Repeat("a", 65):        strings.Repeat("a", 64),
		strings.Repeat("食", 30):        strings.Repeat("食", 21),
		strings.Repeat("食", 30) + "\n": strings.Repeat("食", 21),
		"a\u202eb":                     "a b",
	} {
		assert.Equal(t, cleanClient(in), want, "cleanClient(%q)", in)
	}
}

func TestScanAPI_ClientNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"": "invalid Prefix", "192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
		"fe80::1%eth0": "fe80::/48", "x": "invalid Prefix",
	} {
		assert.Equal(t, network(in).String(), want, "network(%q)", in)
	}
}
