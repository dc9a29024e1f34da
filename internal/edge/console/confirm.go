package console

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// sureView asks for confirmation of a form: the visitor types Name, or presses a button, which sends Token in the field "sure".
type sureView struct {
	Text, Name, Token, Action, Back string
	Did, Button                     string // value and text key of the button; Did is "" if the form itself has a field "did"
	Warning                         string
	Harmless, Wrong                 bool
	Foreseen                        *impact // the effect that the change would have had on past scans; nil = not requested
	Fields                          url.Values
}

// confirm shows the page that asks for confirmation of the submitted form.
func (v *request) confirm(status int, data sureView) {
	data.Fields = url.Values{}
	for field, values := range v.r.PostForm {
		if field != "sure" && (field != "did" || data.Did == "") {
			data.Fields[field] = values
		}
	}
	data.Action, data.Back, data.Button = v.r.URL.RequestURI(), v.formPage(), cmp.Or(data.Button, "codes.do")
	v.show(status, "confirm", data)
}

// confirmed reports whether the visitor typed the name of the object that a form destroys. If the visitor has not typed the name, confirmed
// shows a page that explains the effect and asks for the name.
func (v *request) confirmed(text, name string) bool { return v.confirmedText(v.say(text, name), name) }

// confirmedText is like confirmed, but text is a complete text instead of a text key.
func (v *request) confirmedText(text, name string) bool { return v.confirmedImpact(text, name, nil) }

// confirmedImpact is like confirmedText and also shows f, the effect that the action would have had on past scans.
func (v *request) confirmedImpact(text, name string, f *impact) bool {
	typed := strings.TrimSpace(v.r.FormValue("sure"))
	if typed == name && name != "" {
		return true
	}
	status := http.StatusOK
	if typed != "" {
		status = http.StatusUnprocessableEntity
	}
	v.confirm(status, sureView{Text: text, Name: name, Wrong: typed != "", Foreseen: f})
	return false
}

// action contains an API call that a form requests. question is the key of the text that asks the visitor to type name before the call; if
// question is "", the call needs no confirmation.
type action struct {
	question, name string
	call           func() error
}

// errAnswered is returned by a call that has written the response.
var errAnswered = errors.New("console: the response has been written")

// perform executes the action whose key is the form field "did", and then redirects to a page. An unknown action is an error.
func (v *request) perform(to string, actions map[string]action) {
	a, known := actions[v.r.FormValue("did")]
	if !known {
		v.fail(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if a.question != "" && !v.confirmed(a.question, a.name) {
		return
	}
	if err := a.call(); err != errAnswered && !v.failed(err) {
		v.redirect(to)
	}
}

// reject shows why the submitted form is invalid and returns errAnswered; functions in the field call of an action return this error.
func (v *request) reject(key string) error {
	v.fail(http.StatusUnprocessableEntity, v.say(key))
	return errAnswered
}

// onlyError drops the result of a call.
func onlyError[T any](_ T, err error) error { return err }

// afterwards returns err; if err is nil, it calls the function show to show a result in place of a redirect, and returns errAnswered.
func afterwards(err error, show func()) error {
	if err == nil {
		show()
		err = errAnswered
	}
	return err
}
