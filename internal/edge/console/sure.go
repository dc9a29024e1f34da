package console

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
)

// sureView asks for the name of the thing that would be destroyed.
type sureView struct {
	Text, Name, Action, Back string
	Wrong                    bool
	Foreseen                 *impact // nil = not requested
	Fields                   url.Values
}

// sure reports whether the visitor typed the name of the thing that a form destroys. If not, it
// shows a page that says what would happen and asks for the name.
func (v *request) sure(text, name string) bool { return v.agreed(v.say(text, name), name) }

// agreed is sure with a text that says more than the name.
func (v *request) agreed(text, name string) bool { return v.asked(text, name, nil) }

// asked is agreed with what would have become of scans.
func (v *request) asked(text, name string, f *impact) bool {
	typed := strings.TrimSpace(v.r.FormValue("sure"))
	if typed == name && name != "" {
		return true
	}
	fields := url.Values{}
	for field, values := range v.r.PostForm {
		if field != "sure" {
			fields[field] = values
		}
	}
	data := sureView{Text: text, Name: name, Action: v.r.URL.RequestURI(), Wrong: typed != "", Fields: fields, Foreseen: f,
		Back: cmp.Or(localPath(v.r.URL.RequestURI()), Root)}
	status := http.StatusOK
	if data.Wrong {
		status = http.StatusUnprocessableEntity
	}
	v.show(status, "sure", data)
	return false
}
