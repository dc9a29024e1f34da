package api

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// codeBodies are what clients of the code family were seen to send, and worse.
// Contract: marketcode 9, 11.1.
var codeBodies = []string{
	`{"code_count":100000,"isv_application_id":"testid124"}`, `{"code_count":"10000","isv_application_id":20260115}`,
	`{"code_count":1e4,"isv_application_id":null}`,
	`{"application_id":"581865877","isv_application_id":""}`, `{"application_id":9007199254740993}`,
	`{"application_id":-1,"code_start":"0","code_end":49999}`,
	`{"application_id":"000581865877","code_start":0,"code_end":200,"activity_name":"test_name","product_brand":"test_brand","product_title":"test_title","product_code":6901234567892,"wxa_appid":"wx3sxjifjwojfsffef","wxa_path":"pages/index/index","wxa_type":null}`,
	`{"code_url":"P.URL.CN/0U.JYJXP3HJI2C98A9O"}`, `{"application_id":null,"code_index":null,"code_url":null,"code":12345}`,
	`{"application_id":1,"code_index":"0"}`, `{"code":["x"]}`, `{"code":1e400}`, `{"code":-0}`,
	`{"openid":"oiV2luCau8Cx0TMOy9lvZSLqRcKc","code_ticket":"6cb4bc95e1f1abc97034cbe8fd484989"}`, `{"openid":7,"code_ticket":"a\u0000"}`,
}

// codeDecoders read the bodies of the code family.
var codeDecoders = map[string]func(*fields) error{
	"applycode": func(fs *fields) error {
		a, err := readApplyCode(fs)
		return unless(err, !strings.Contains(a.ISV, "\x00"), "an order number that no database keeps")
	},
	"applycodequery": func(fs *fields) error {
		key, err := readBatchKey(fs)
		return unless(err, key.ID >= 0, "a negative application")
	},
	"applycodedownload": func(fs *fields) error {
		id, _, err := readDownload(fs)
		return unless(err, id > 0, "no application")
	},
	"codeactive": func(fs *fields) error {
		a, err := readActivation(fs)
		return unless(err, a.Batch > 0, "no application")
	},
	"codeactivequery": func(fs *fields) error {
		name, err := readCodeName(fs)
		return unless(err, name.ID >= 0 && (name.HasIndex || name.Index == 0), "a name that cannot be")
	},
	"tickettocode":   texts("openid", "code_ticket"),
	"jscode2session": texts("js_code", "grant_type", "appid", "secret"),
}

func FuzzDecodeCodeCalls(f *testing.F) { fuzzDecoders(f, append(codeBodies, bodies...), codeDecoders) }

// Leading zeros matter: a code is a text, also where a client sends its digits as a number. Contract: marketcode 2, 3.5.
func TestCodeName_NumberOrText(t *testing.T) {
	for body, want := range map[string]codes.CodeName{
		`{"code":"044GZ0J10"}`: {Code: "044GZ0J10"}, `{"code":"000000001"}`: {Code: "000000001"}, `{"code":123456789}`: {Code: "123456789"},
		`{"code":1}`:    {Code: "1"},
		`{"code":null}`: {}, `{"code":""}`: {}, `{"application_id":"5","code_index":"0"}`: {ID: 5, HasIndex: true},
		`{"application_id":5,"code_index":null}`: {ID: 5}, `{"application_id":5,"index":3}`: {ID: 5},
		`{"code_url":" P.URL.CN/"}`: {URL: " P.URL.CN/"},
	} {
		fs, err := parseFields([]byte(body))
		require.NoError(t, err)
		fs.settings = settings.NewLive(settings.Defaults())
		got, err := readCodeName(fs)
		assert.True(t, err == nil && got == want, "%s: %+v, %v; want %+v", body, got, err, want)
	}
}
