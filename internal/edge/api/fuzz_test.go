package api

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// bodies are seeds of FuzzDecodeCalls.
var bodies = []string{
	`{}`, `null`, `[]`,
	`{"prefix":"https://h.example/t/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1,"debug_url":["https://h.example/t/1"]}`,
	`{"prefix":"x","path":"p","is_edit":"0","permit_sub_rule":"2","open_version":"3","debug_url":"https://h.example"}`,
	`{"get_type":2,"page_num":1,"page_size":"200","prefix_list":null}`, `{"get_type":1,"prefix_list":["a",null]}`, `{"appid":1}`, `{'a':1}`,
	`{"grant_type":"client_credential","appid":"a","secret":"b","force_refresh":"true"}`, "\xff", `{"is_edit":1e4}`, `{"is_edit":-0}`,
	`{"prefix":"a","prefix":"b"}`,
}

// checkDecoded returns err. It panics with a message if a body was decoded without an error into an invalid value.
func checkDecoded(err error, ok bool, message string) error {
	if err == nil && !ok {
		panic(message)
	}
	return err
}

// readTexts returns a decoder of text fields.
func readTexts(names ...string) func(*fields) error {
	return func(fs *fields) error {
		for _, name := range names {
			fs.text(name)
		}
		return fs.err
	}
}

// fuzzDecoders passes each body to each decoder, which must decode it or return 47001 or 40097 with a reason.
func fuzzDecoders(f *testing.F, bodies []string, decoders map[string]func(*fields) error) {
	for _, b := range bodies {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for name, read := range decoders {
			fs, err := parseFields([]byte(body))
			if err == nil {
				err = read(fs)
			} else if code, _ := errcode.FromError(err); code != errcode.DataFormat {
				t.Fatalf("%s %q: %v, want 47001", name, body, err)
			}
			if err == nil {
				continue
			}
			code, detail := errcode.FromError(err)
			require.True(t, (code == errcode.DataFormat || code == errcode.InvalidArgs) && detail != "",
				"%s %q: %v, want 47001 or 40097 with a reason", name, body, err)
		}
	})
}

// decoders read the bodies of rules and tokens.
var decoders = map[string]func(*fields) error{
	"qrcodejumpadd": func(fs *fields) error {
		req, err := readAddRule(fs, accounts.MiniProgram)
		return checkDecoded(err, req.draft.Prefix != "" && utf8.ValidString(req.draft.Prefix) &&
			(!req.draft.KeepLinks || req.draft.TestLinks == nil), "inconsistent draft")
	},
	"qrcodejumpadd of a service account": func(fs *fields) error {
		_, err := readAddRule(fs, accounts.ServiceAccount)
		return err
	},
	"qrcodejumpget": func(fs *fields) error {
		_, err := readListRules(fs)
		return err
	},
	"qrcodejumpdelete": func(fs *fields) error { // qrcodejumppublish reads a subset
		fs.required("prefix", behaviour.RulesPrefixMissing)
		fs.text("appid")
		return fs.err
	},
	"stable_token": func(fs *fields) error {
		fs.flag("force_refresh")
		return readTexts("grant_type", "appid", "secret")(fs)
	},
}

func FuzzDecodeCalls(f *testing.F) { fuzzDecoders(f, bodies, decoders) }

// FuzzMask verifies that maskBody hides a secret under its field name in any context.
func FuzzMask(f *testing.F) {
	f.Add(`{"a":`, `}`)
	f.Add(`[[`, `]]`)
	f.Add(``, ``)
	f.Add(`{"a":"b",`, ``)
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "S3CRETS3CRETS3CRET"
		for _, name := range []string{"secret", "access_token", "component_appsecret"} {
			body := before + `{"` + name + `":"` + secret + `"}` + after
			if strings.Contains(before+after, secret) || strings.Count(before, `"`)%2 == 1 || strings.Contains(before, `\`) {
				return // the name is part of another string
			}
			masked := maskBody([]byte(body))
			require.True(t, !strings.Contains(masked, secret), "maskBody(%q) = %q, which contains the secret", body, masked)
			require.True(t, utf8.ValidString(masked), "maskBody(%q) = %q, want valid UTF-8", body, masked)
		}
	})
}
