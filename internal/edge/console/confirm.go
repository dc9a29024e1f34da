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
	Foreseen                        *impact     // the effect that the change would have had on past scans; nil = not requested
	Rows                            [][2]string // the accounts and prefixes that the action changes
	Fields                          url.Values
}

// confirm shows the page that asks for confirmation of the submitted form.
func (v *request) confirm(status int, data sureView) error {
	data.Fields = url.Values{}
	for field, values := range v.r.PostForm {
		if field != "sure" && (field != "did" || data.Did == "") {
			data.Fields[field] = values
		}
	}
	data.Action, data.Back, data.Button = v.r.URL.RequestURI(), cmp.Or(data.Back, v.formPage()), cmp.Or(data.Button, "codes.do")
	return v.show(status, "confirm", data)
}

// confirmed returns nil if the visitor typed the name of the object that a form destroys, else it shows a page with a text that explains
// the effect and asks for the name. f is the effect that the action would have had on past scans; nil = the page does not show it.
func (v *request) confirmed(text, name string, f *impact) error {
	typed := strings.TrimSpace(v.r.FormValue("sure"))
	if typed == name && name != "" {
		return nil
	}
	status := http.StatusOK
	if typed != "" {
		status = http.StatusUnprocessableEntity
	}
	return v.confirm(status, sureView{Text: text, Name: name, Wrong: typed != "", Foreseen: f})
}

// action contains an API call that a form requests. question is the key of the text that asks the visitor to type name before the call; if
// question is "", the call needs no confirmation.
type action struct {
	question, name string
	call           func() error
}

// errAnswered is returned by functions that have written the response.
var errAnswered = errors.New("console: the response has been written")

// perform executes the action whose key is the form field "did", and then redirects to a page. An unknown action is an error.
func (v *request) perform(to string, actions map[string]action) error {
	a, known := actions[v.r.FormValue("did")]
	if !known {
		return v.reject("fault.form")
	}
	if a.question != "" {
		if err := v.confirmed(v.say(a.question, a.name), a.name, nil); err != nil {
			return err
		}
	}
	return v.done(to, a.call())
}

// reject shows why the submitted form is invalid.
func (v *request) reject(key string) error { return v.fail(http.StatusUnprocessableEntity, v.say(key)) }

// onlyError drops the result of a call.
func onlyError[T any](_ T, err error) error { return err }

// afterwards returns err, or calls next if err is nil.
func afterwards(err error, next func() error) error {
	if err == nil {
		err = next()
	}
	return err
}
