package console_test

import (
	"bytes"
	"image"
	"image/png"
	"net/http"
	"net/url"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestAppearanceForm_Change changes the appearance of an account with a logo. A rejected form must keep its input and change nothing.
func TestAppearanceForm_Change(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	v := newVisitor(t, s)
	const path = "/console/accounts/shop/appearance"
	p := v.get(path)
	p.wantStatus(t, http.StatusOK, "form")
	p.wantText(t, `enctype="multipart/form-data"`)
	var logo bytes.Buffer
	require.NoError(t, png.Encode(&logo, image.NewGray(image.Rect(0, 0, 30, 20))))
	p = v.upload(path, url.Values{"own_accent": {"yes"}, "accent": {"#7a3e00"}, "help": {"https://help.example/"},
		"landing_en": {`Order "here" <now>`}, "open_at_once": {"yes"}}, "logo", logo.Bytes())
	p.wantStatus(t, http.StatusSeeOther, "change")
	assert.Equal(t, p.Header.Get("Location"), path+"?done=appearance", "redirect of the change")
	v.get(path).wantText(t, `value="#7a3e00"`, `value="https://help.example/"`, "Order &#34;here&#34; &lt;now&gt;",
		`<img src="data:image/png;base64,`, `name="open_at_once" value="yes" checked`)
	p = v.post(path, url.Values{"help": {"http://help.example/"}, "landing_en": {"Half a text"}})
	p.wantStatus(t, http.StatusUnprocessableEntity, "invalid help address")
	p.wantText(t, `role="alert"`, "want https://", `value="http://help.example/"`, "Half a text", `<img src="data:image/png;base64,`)
	v.get(path).wantText(t, `value="#7a3e00"`, "Order &#34;here&#34;")
}
