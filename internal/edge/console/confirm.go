package console

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
)

// sureView asks the visitor to type the name of the object that would be destroyed.
type sureView struct {
	Text, Name, Action, Back string
	Wrong                    bool
	Foreseen                 *impact // effect on past scans; nil = not requested
	Fields                   url.Values
}

// sure reports whether the visitor typed the name of the object that a form destroys. If the name was not typed, sure shows a page
// that explains the effect and asks for the name.
func (v *request) sure(text, name string) bool { return v.agreed(v.say(text, name), name) }

// agreed is like sure, with a complete text instead of a text key.
func (v *request) agreed(text, name string) bool { return v.asked(text, name, nil) }

// asked is like agreed and also shows the effect that the action would have had on scans.
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
	v.show(status, "confirm", data)
	return false
}
