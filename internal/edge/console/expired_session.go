package console

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/iam"
)

// maxKeptSize is the maximum size in bytes of a form that is preserved during a sign-in.
const maxKeptSize = 256 << 10

// keptForm is a form that was submitted without a valid session. The sign-in page carries the form in a hidden field, so that only the
// browser of the person has the content of the form until the sign-in succeeds.
type keptForm struct {
	To     string      `json:"to"` // the URL to which the form was submitted
	Fields []keptField `json:"fields"`
}

// keptField is one field of a keptForm.
type keptField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Secret reports whether the page must hide the value of the field.
func (f keptField) Secret() bool {
	secrets := []string{"password", "new-password", "passphrase", "secret", "code", "marketcode_key", "message_token", "encoding_aes_key"}
	return slices.Contains(secrets, f.Name) || strings.HasSuffix(f.Name, "_password")
}

// keep reads the submitted form without its files, or returns false if the request is not a form or is too long.
func keep(w http.ResponseWriter, r *http.Request) (k keptForm, ok bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxKeptSize)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var err error
	switch kind {
	case "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case "multipart/form-data":
		if err = r.ParseMultipartForm(maxKeptSize); err == nil {
			_ = r.MultipartForm.RemoveAll()
		}
	default:
		return k, false
	}
	k.To = r.URL.RequestURI()
	if err != nil || localPath(k.To) != k.To {
		return k, false
	}
	k.Fields = fieldsOf(r.PostForm)
	return k, len(k.Fields) > 0
}

// fieldsOf returns the fields of a form, sorted by name.
func fieldsOf(form url.Values) (list []keptField) {
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			list = append(list, keptField{name, value})
		}
	}
	return list
}

// goOn redirects after a sign-in to the requested page. If a form was submitted without a session, goOn shows the form instead, and the
// visitor submits it again with a button.
func (c *Console) goOn(v *request, form signingIn) error {
	var k keptForm
	if form.Kept == "" || json.Unmarshal([]byte(form.Kept), &k) != nil || localPath(k.To) != k.To {
		return v.redirect(form.Next)
	}
	return v.show(http.StatusOK, "expired-session", k)
}

// expired shows a sign-in page that carries the submitted form; it is called if the form came without a valid session.
func (c *Console) expired(w http.ResponseWriter, r *http.Request) {
	v := c.visit(w, r, iam.Caller{})
	k, ok := keep(w, r)
	if !ok {
		v.fail(http.StatusUnauthorized, v.say("fault.expired"))
		return
	}
	text, _ := json.Marshal(k) // encoding strings cannot fail
	v.show(http.StatusUnauthorized, "login", signingIn{Next: Root + "/", Kept: string(text), Error: v.say("kept.waits"),
		Provider: c.offered()})
}
