package i18n_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestI18n_LanguageSelection(t *testing.T) {
	for name, c := range map[string]struct {
		url, cookie, header string
		want                i18n.Language
	}{
		"no preference":                               {"/", "", "", i18n.English},
		"the browser prefers Chinese":                 {"/", "", "zh-CN,zh;q=0.9,en;q=0.8", i18n.Chinese},
		"the browser prefers an unsupported language": {"/", "", "fr, en;q=0.3, zh;q=0.5", i18n.Chinese},
		"an invalid weight counts as zero":            {"/", "", "zh;q=NaN, en;q=0.1", i18n.English},
		"the cookie takes precedence over the header": {"/", "en", "zh", i18n.English},
		"the query takes precedence over the cookie":  {"/?lang=zh", "en", "en", i18n.Chinese},
		"unknown languages are ignored":               {"/?lang=xx", "yy", "zh", i18n.Chinese},
	} {
		r := httptest.NewRequest("GET", c.url, nil)
		r.Header.Set("Accept-Language", c.header)
		r.Header.Set("Cookie", i18n.Cookie+"="+c.cookie)
		assert.Equal(t, i18n.Preferred(r), c.want, "%s: Preferred", name)
	}
}

func TestI18n_AcceptLanguageWeights(t *testing.T) {
	t.Parallel()
	for header, chinese := range map[string]bool{
		"": false, "zh": true, "zh-CN,zh;q=0.9,en;q=0.8": true, "ZH-hant-TW": true, "en-US,en;q=0.9,zh;q=0.8": false,
		"en;q=0.1, zh;q=0.2": true,
		"fr-FR, de":          false, "fr, zh;q=0.1": true, "*": false, "zh;q=0": false, "zh;q=x": false, "zh;Q=0.1, en": false,
		"zh;\tq=0.1,en": false, "zh;q=NaN": false, "zh;q=2, en;q=0.1": false, "zhx": false, ";;;,,,": false,
	} {
		assert.Equal(t, i18n.ParseAcceptLanguage(header) == i18n.Chinese, chinese, "ParseAcceptLanguage(%q) is Chinese", header)
	}
}

func TestI18n_RejectsIncompleteCatalog(t *testing.T) {
	for name, c := range map[string]struct{ en, zh, want string }{
		"a missing text":        {`{"a":"A","b":"B"}`, `{"a":"甲"}`, "b is missing"},
		"an empty text":         {`{"a":" "}`, `{"a":"甲"}`, "a is empty"},
		"another place":         {`{"a":"%d of %s"}`, `{"a":"%s"}`, "other places"},
		"other order of places": {`{"a":"%d of %s"}`, `{"a":"%[2]s的%[1]d"}`, ""},
		"a plural of English":   {`{"a":"%d calls","a.one":"one call"}`, `{"a":"%d 次调用"}`, ""},
	} {
		_, faults := i18n.Read(catalogFiles(c.en, c.zh))
		text := strings.Join(faults, "\n")
		assert.True(t, (text != "") == (c.want != "") && strings.Contains(text, c.want), "%s: Read reports %q, want %q", name, text, c.want)
	}
}

func TestI18n_CatalogInMultipleFiles(t *testing.T) {
	folder := fstest.MapFS{"locale/en.json": {Data: []byte(`{"a":"A"}`)}, "locale/zh.json": {Data: []byte(`{"a":"甲"}`)},
		"locale/more.en.json": {Data: []byte(`{"b":"B"}`)}, "locale/more.zh.json": {Data: []byte(`{"b":"乙"}`)}}
	text, err := i18n.Open(folder).In(i18n.Chinese).Say("b")
	assert.True(t, text == "乙" && err == nil, "Say(b) = %q, %v, want 乙", text, err)
	folder["locale/more.en.json"].Data = []byte(`{"a":"B"}`)
	_, faults := i18n.Read(folder)
	assert.True(t, len(faults) != 0 && faults[0] == "locale/more.en.json: another file has a too",
		"Read reports %q, want the text that two files have", faults)
}

func TestI18n_SingularForm(t *testing.T) {
	b := newCatalog(`{"a":"%d calls","a.one":"one call"}`, `{"a":"%d 次调用"}`)
	for n, want := range map[int][2]string{1: {"one call", "1 次调用"}, 2: {"2 calls", "2 次调用"}} {
		for i, l := range []i18n.Language{i18n.English, i18n.Chinese} {
			got, err := b.In(l).Say("a", n)
			assert.True(t, err == nil && got == want[i], "Say(a, %d) in %s = %q, %v, want %q", n, l, got, err, want[i])
		}
	}
	for _, args := range [][]any{{}, {1, 2}} {
		got, err := b.In(i18n.English).Say("a", args...)
		assert.True(t, err != nil, "Say(a) with the arguments %v = %q, want an error", args, got)
	}
	assert.True(t, assert.ErrorOf(b.In(i18n.English).Say("nothing")) != nil, "Say of an unknown key succeeds, want an error")
}

// TestI18n_NestedTextLocalized verifies that a message and the messages in its arguments are formatted in the language of In.
func TestI18n_NestedTextLocalized(t *testing.T) {
	b := newCatalog(`{"calls":"%d calls","calls.one":"one call","of":"%[2]s of %[1]s, because of %[3]s in %d","bare":"100%"}`,
		`{"calls":"%d 次调用","of":"%s的%s%.0s%.0s","bare":"100%"}`)
	message := b.Text("of", "shop", b.Text("calls", int64(1)), i18n.Literal("50% off"), 7)
	for l, want := range map[i18n.Language]string{i18n.English: "one call of shop, because of 50% off in 7",
		i18n.Chinese: "shop的1 次调用"} {
		assert.Equal(t, message.In(l), want, "message in %s", l)
	}
	encoded, err := json.Marshal(map[string]i18n.Message{"says": b.Text("bare"), "next": {}})
	assert.True(t, err == nil && string(encoded) == `{"next":"","says":"100%"}`, "Marshal = %s, %v, want English texts", encoded, err)
	for key, args := range map[string][]any{"none": {}, "calls": {}, "bare": {1}} {
		func() {
			defer func() {
				assert.True(t, recover() != nil, "Text(%s) with the arguments %v returns, want a panic", key, args)
			}()
			b.Text(key, args...)
		}()
	}
}

func catalogFiles(english, chinese string) fstest.MapFS {
	return fstest.MapFS{"locale/en.json": {Data: []byte(english)}, "locale/zh.json": {Data: []byte(chinese)}}
}

func newCatalog(english, chinese string) *i18n.Catalog {
	return i18n.Open(catalogFiles(english, chinese))
}
