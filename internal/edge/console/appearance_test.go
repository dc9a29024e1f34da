package console_test

import (
	"bytes"
	"image"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 17, 4.
func TestAppearanceForm_Change(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := request(t, s)
	const path = "/console/accounts/shop/appearance"
	p := v.get(path)
	require.True(t, p.Status == http.StatusOK && strings.Contains(p.Body, `enctype="multipart/form-data"`), "%d %s", p.Status, p.Body)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for name, value := range map[string]string{"own_accent": "yes", "accent": "#7a3e00", "help": "https://help.example/",
		"landing_en": `Order "here" <now>`, "open_at_once": "yes"} {
		require.NoError(t, w.WriteField(name, value))
	}
	file, err := w.CreateFormFile("logo", "logo.png")
	require.NoError(t, err)
	require.NoError(t, png.Encode(file, image.NewGray(image.Rect(0, 0, 30, 20))))
	w.Close()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.AdminURL+path, &form)
	require.NoError(t, err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	answer, err := v.http.Do(r)
	require.NoError(t, err)
	answer.Body.Close()
	where := answer.Header.Get("Location")
	require.True(t, answer.StatusCode == http.StatusSeeOther && where == path+"?done=appearance", "%d %q", answer.StatusCode, where)
	says := func(what string, p page, words ...string) {
		t.Helper()
		for _, word := range words {
			assert.Contains(t, p.Body, word, "%s: the form does not have %q", what, word)
		}
	}
	says("changed", v.get(path), `value="#7a3e00"`, `value="https://help.example/"`, "Order &#34;here&#34; &lt;now&gt;",
		`<img src="data:image/png;base64,`, `name="open_at_once" value="yes" checked`)
	// What is refused stands in the form again, and nothing was changed.
	p = v.post(path, url.Values{"help": {"http://help.example/"}, "landing_en": {"Half a text"}})
	assert.Equal(t, p.Status, http.StatusUnprocessableEntity, "p.Status")
	says("refused", p, `role="alert"`, "want https://", `value="http://help.example/"`, "Half a text", `<img src="data:image/png;base64,`)
	says("after a refusal", v.get(path), `value="#7a3e00"`, "Order &#34;here&#34;")
}
