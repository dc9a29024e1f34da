package api

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// codeBodies are bodies that clients of the code family are known to send, and malformed variants. Contract: marketcode 9, 11.1.
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
		return checkDecoded(err, !strings.Contains(a.ISV, "\x00"), "order number contains NUL")
	},
	"applycodequery": func(fs *fields) error {
		key, err := readBatchKey(fs)
		return checkDecoded(err, key.ID >= 0, "negative application_id")
	},
	"applycodedownload": func(fs *fields) error {
		id, _, err := readDownload(fs)
		return checkDecoded(err, id > 0, "application_id is not positive")
	},
	"codeactive": func(fs *fields) error {
		a, err := readActivation(fs)
		return checkDecoded(err, a.Batch > 0, "application_id is not positive")
	},
	"codeactivequery": func(fs *fields) error {
		name, err := readCodeName(fs)
		return checkDecoded(err, name.ID >= 0 && (name.HasIndex || name.Index == 0), "inconsistent code name")
	},
	"tickettocode":   readTexts("openid", "code_ticket"),
	"jscode2session": readTexts("js_code", "grant_type", "appid", "secret"),
}

func FuzzDecodeCodeCalls(f *testing.F) { fuzzDecoders(f, append(codeBodies, bodies...), codeDecoders) }

// TestCodeName_NumberOrText verifies that a code keeps its leading zeros, and that a client may send its digits as a number.
// Contract: marketcode 2, 3.5.
func TestCodeName_NumberOrText(t *testing.T) {
	for body, want := range map[string]codes.CodeName{
		`{"code":"044GZ0J10"}`: {Code: "044GZ0J10"}, `{"code":"000000001"}`: {Code: "000000001"}, `{"code":123456789}`: {Code: "123456789"},
		`{"code":1}`:    {Code: "1"},
		`{"code":null}`: {}, `{"code":""}`: {}, `{"application_id":"5","code_index":"0"}`: {ID: 5, HasIndex: true},
		`{"application_id":5,"code_index":null}`: {ID: 5}, `{"application_id":5,"index":3}`: {ID: 5},
		`{"code_url":" P.URL.CN/"}`: {URL: " P.URL.CN/"},
	} {
		fs := require.Value(parseFields([]byte(body)))(t)
		fs.settings = settings.NewLive(settings.Defaults())
		got, err := readCodeName(fs)
		assert.True(t, err == nil && got == want, "readCodeName(%s) = %+v, %v, want %+v", body, got, err, want)
	}
}
