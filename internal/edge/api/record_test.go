package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A long answer is looked at in its beginning only, and shows no more of what is hidden than a short one.
func TestMask_LongResponse(t *testing.T) {
	const secret = "S3CRETS3CRETS3CRET"
	padding := strings.Repeat("x", maxRecorded/2)
	for _, name := range secretNames {
		for _, before := range []string{"", padding, strings.Repeat("x", maxRecorded-40-len(name)), strings.Repeat("x", maxRecorded-20)} {
			body := `{"errcode":0,"before":"` + before + `","` + name + `":"` + secret + `\"` + secret + `","after":"` + padding + padding +
				padding + padding + `"}`
			require.True(t, json.Valid([]byte(body)) && len(body) > 2*maxRecorded, "the test is wrong: %d bytes", len(body))
			shown := maskResponse([]byte(body))
			assert.True(t, !strings.Contains(shown, secret[:4]), "%s is shown: …%s", name, shown[max(0, len(shown)-200):])
			assert.True(t, strings.HasPrefix(shown, `{"errcode":0,`), "it begins %.60s", shown)
		}
	}
}

func TestMask_HiddenNames(t *testing.T) {
	for name, want := range map[string]bool{
		"secret": true, "AppSecret": true, "component_appsecret": true, "access_token": true, "some_new_token": true, "code_ticket": true,
		"TICKET":  true,
		"js_code": true, "auth_code": true, "session_key": true, "code": true, "code_url": true, "buffer": true,
		"openid": false, "appid": false, "errcode": false, "prefix": false, "code_index": false, "rid": false, "scene_str": false,
	} {
		assert.True(t, isSecretName(name) == want, "%s: hidden %t", name, !want)
	}
}

// A body that is no JSON, and a path in which "&" stands for "?", hide no less.
func TestMask_MalformedBodyAndPath(t *testing.T) {
	for _, name := range secretNames {
		if name == "buffer" {
			continue // an answer's only
		}
		for _, body := range []string{`{"x":1,"` + name + `":"S3CRET",}`, `{'` + name + `': 'S3CRET'}`, name + `=S3CRET&x=1`, `{"` + name +
			`":"S3CRET`} {
			shown := maskBody([]byte(body))
			assert.True(t, !strings.Contains(shown, "S3CRET"), "%s is shown as %s", body, shown)
		}
	}
	for n := range 64 { // across the end of what is kept
		body := `{"x":"` + strings.Repeat("y", maxRecorded-50+n) + `","secret":"S3CRET\"S3CRET",` + strings.Repeat(" ", 1<<20)
		if shown := maskBody([]byte(body)); strings.Contains(shown, "S3") || len(shown) > maxRecorded+16 {
			t.Errorf("%d: it ends in %s", n, shown[maxRecorded-40:])
		}
	}
	for path, want := range map[string]string{
		"/cgi-bin/token&grant_type=client_credential&appid=a&secret=S3CRET": "/cgi-bin/token&grant_type=client_credential&appid=a&secret=[masked]",
		"/cgi-bin/wxopen/qrcodejumpget&access_token=S3CRET":                 "/cgi-bin/wxopen/qrcodejumpget&access_token=[masked]",
		"/cgi-bin/token": "/cgi-bin/token",
	} {
		assert.Equal(t, maskPath(path), want, "%s is shown as", path)
	}
}

// Issue 12, 10: of a path in the log only this server's own words are shown.
func TestPathLog_NoSecrets(t *testing.T) {
	for path, want := range map[string]string{
		"/cgi-bin/token":                          "/cgi-bin/token",
		"/cgi-bin/wxopen/qrcodejumpget/S3CRET":    "/cgi-bin/wxopen/qrcodejumpget/[6 bytes]",
		"/cgi-bin/token&appid=a&secret=S3CRET":    "/cgi-bin/[27 bytes]",
		"/S3CRET/S3CRET":                          "/[6 bytes]/[6 bytes]",
		"/" + strings.Repeat("S3CRET/", 1000):     "/" + strings.Repeat("[6 bytes]/", 7) + "[6951 bytes]",
		"":                                        "",
		"/admin/v1/users/u-17/scans":              "/admin/v1/[5 bytes]/[4 bytes]/[5 bytes]",
		"/cgi-bin/component/api_component_token/": "/cgi-bin/component/api_component_token/",
	} {
		assert.Equal(t, LoggedPath(path), want, "%.60s is logged as", path)
	}
}
