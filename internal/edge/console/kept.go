package console

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/iam"
)

// mostKept is the maximum size in bytes of a form that waits for a sign-in.
const mostKept = 256 << 10

// keptForm is a form that came without a session. The page of signing in carries it, so that only
// the person who sent it has it, until that person is signed in.
type keptForm struct {
	To     string      `json:"to"` // where it goes
	Fields []keptField `json:"fields"`
}

// keptField is one field of it.
type keptField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Secret reports whether the page must not show the field.
func (f keptField) Secret() bool {
	secrets := []string{"password", "secret", "code", "marketcode_key", "message_token", "encoding_aes_key"}
	return slices.Contains(secrets, f.Name) || strings.HasSuffix(f.Name, "_password")
}

// keep reads the form of a request, without files; false where it is no form, or too long.
func keep(w http.ResponseWriter, r *http.Request) (k keptForm, ok bool) {
	r.Body = http.MaxBytesReader(w, r.Body, mostKept)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var err error
	switch kind {
	case "application/x-www-form-urlencoded":
		err = r.ParseForm()
	case "multipart/form-data":
		if err = r.ParseMultipartForm(mostKept); err == nil {
			_ = r.MultipartForm.RemoveAll()
		}
	default:
		return k, false
	}
	k.To = r.URL.RequestURI()
	if err != nil || localPath(k.To) != k.To {
		return k, false
	}
	for name, values := range r.PostForm {
		for _, value := range values {
			k.Fields = append(k.Fields, keptField{name, value})
		}
	}
	slices.SortStableFunc(k.Fields, func(a, b keptField) int { return strings.Compare(a.Name, b.Name) })
	return k, len(k.Fields) > 0
}

// text returns the form as the page of signing in carries it.
func (k keptForm) text() string {
	text, err := json.Marshal(k)
	if err != nil {
		return ""
	}
	return string(text)
}

// goOn redirects after a sign-in: to the requested page, or to the form that waited, which is sent by a button.
func (c *Console) goOn(v *request, form signingIn) {
	var k keptForm
	if form.Kept == "" || json.Unmarshal([]byte(form.Kept), &k) != nil || localPath(k.To) != k.To {
		v.redirect(form.Next)
		return
	}
	v.show(http.StatusOK, "kept", k)
}

// expired answers a form that came without a session, with a page of signing in that carries the
// form.
func (c *Console) expired(w http.ResponseWriter, r *http.Request) {
	v := c.visit(w, r, iam.Caller{})
	k, ok := keep(w, r)
	if !ok {
		v.fault(http.StatusUnauthorized, v.say("fault.expired"))
		return
	}
	v.show(http.StatusUnauthorized, "login", signingIn{Next: Root + "/", Kept: k.text(), Fault: v.say("kept.waits"),
		Provider: c.offered()})
}
