package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestMask_LongResponse verifies that a response longer than maxRecorded, of which only the beginning is scanned, reveals no secret.
func TestMask_LongResponse(t *testing.T) {
	const secret = "S3CRETS3CRETS3CRET"
	padding := strings.Repeat("x", maxRecorded/2)
	for _, name := range secretNames {
		for _, before := range []string{"", padding, strings.Repeat("x", maxRecorded-40-len(name)), strings.Repeat("x", maxRecorded-20)} {
			body := `{"errcode":0,"before":"` + before + `","` + name + `":"` + secret + `\"` + secret + `","after":"` + padding + padding +
				padding + padding + `"}`
			require.True(t, json.Valid([]byte(body)) && len(body) > 2*maxRecorded, "invalid test body of %d bytes", len(body))
			masked := maskResponse([]byte(body))
			assert.True(t, !strings.Contains(masked, secret[:4]), "%s is not masked: …%s", name, masked[max(0, len(masked)-200):])
			assert.True(t, strings.HasPrefix(masked, `{"errcode":0,`), "maskResponse = %.60s, want the errcode first", masked)
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
		assert.True(t, isSecretName(name) == want, "isSecretName(%s) = %t, want %t", name, !want, want)
	}
}

// TestMask_MalformedBodyAndPath verifies that secrets are masked in bodies that are not JSON and in paths with "&" in place of "?".
func TestMask_MalformedBodyAndPath(t *testing.T) {
	for _, name := range secretNames {
		if name == "buffer" {
			continue // occurs in responses only
		}
		for _, body := range []string{`{"x":1,"` + name + `":"S3CRET",}`, `{'` + name + `': 'S3CRET'}`, name + `=S3CRET&x=1`, `{"` + name +
			`":"S3CRET`} {
			masked := maskBody([]byte(body))
			assert.True(t, !strings.Contains(masked, "S3CRET"), "maskBody(%s) = %s, which contains the secret", body, masked)
		}
	}
	for n := range 64 { // the secret crosses the end of the recorded part
		body := `{"x":"` + strings.Repeat("y", maxRecorded-50+n) + `","secret":"S3CRET\"S3CRET",` + strings.Repeat(" ", 1<<20)
		if masked := maskBody([]byte(body)); strings.Contains(masked, "S3") || len(masked) > maxRecorded+16 {
			t.Errorf("%d bytes before the secret: masked body ends in %s", n, masked[maxRecorded-40:])
		}
	}
	for path, want := range map[string]string{
		"/cgi-bin/token&grant_type=client_credential&appid=a&secret=S3CRET": "/cgi-bin/token&grant_type=client_credential&appid=a&secret=[masked]",
		"/cgi-bin/wxopen/qrcodejumpget&access_token=S3CRET":                 "/cgi-bin/wxopen/qrcodejumpget&access_token=[masked]",
		"/cgi-bin/token": "/cgi-bin/token",
	} {
		assert.Equal(t, maskPath(path), want, "maskPath(%s)", path)
	}
}

// TestPathLog_NoSecrets verifies that a logged path shows only the segments that this server knows.
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
		assert.Equal(t, LoggedPath(path), want, "LoggedPath(%.60s)", path)
	}
}
