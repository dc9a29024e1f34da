package console

import (
	"errors"
	"html/template"
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// selfView contains the data of the page of the signed-in person.
type selfView struct {
	Person  iam.Person
	Named   bool // false for the admin token, which belongs to no person
	Factor  iam.Factor
	Picture template.URL // the QR code of the new second factor for an authenticator app
	Waits   string       // the new second factor until it is confirmed
	Error   string
}

func (pages peoplePages) showSelf(v *request, status int, data selfView) error {
	p, err := v.c.People.PersonOf(v.r.Context(), v.caller)
	if err != nil && !errors.Is(err, iam.ErrNoPerson) {
		return err
	}
	data.Person, data.Named = p, err == nil
	return v.show(status, "profile", data)
}

// changeSelf changes the password or second factor of the signed-in person. The person must authenticate again, and all other
// sessions of the person end.
func (pages peoplePages) changeSelf(v *request) error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 32<<10)
	ctx := accounts.WithActor(v.r.Context(), accounts.Actor{ActorID: v.caller.Actor})
	browser := v.browser()
	proof := iam.Credentials{Password: v.r.PostFormValue("password"), Code: v.r.PostFormValue("code")}
	var text string
	var err error
	var data selfView
	switch v.r.PostFormValue("did") {
	case "password":
		text, err = v.c.People.ChangeOwn(ctx, v.caller, proof, iam.Change{Password: new(v.r.PostFormValue("new-password"))}, browser)
	case "no-factor":
		text, err = v.c.People.ChangeOwn(ctx, v.caller, proof, iam.Change{SecondFactor: new("off")}, browser)
	case "factor":
		if data.Factor, data.Waits, err = v.c.People.EnrollTOTP(ctx, v.caller, proof, browser); err == nil {
			var picture string
			picture, err = symbol.ForScreen(data.Factor.URI)
			data.Picture = template.URL(picture)
		}
	case "confirm":
		text, err = v.c.People.ConfirmTOTP(ctx, v.caller, v.r.PostFormValue("waits"), v.r.PostFormValue("code"), browser)
	default:
		return v.reject("fault.form")
	}
	switch {
	case err == nil && text == "":
		return pages.showSelf(v, http.StatusOK, data)
	case err == nil:
		v.c.setSession(v, text, iam.Longest)
		return v.redirect(Root + "/self?done=self")
	}
	if invalid, is := errors.AsType[accounts.Invalid](err); is {
		return pages.showSelf(v, http.StatusUnprocessableEntity, selfView{Error: string(invalid)})
	}
	status, fault := v.signInFault(err, "self.")
	return pages.showSelf(v, status, selfView{Error: fault})
}

// lacksFactor reports whether the person must first set up a second factor. For federated people the identity provider is
// responsible, and the admin token belongs to no person.
func (v *request) lacksFactor() bool {
	caller := v.caller
	if v.c.Demanded == nil || caller.Session == "" || caller.Name == "" || caller.Issuer != "" || caller.Factor ||
		!v.c.Demanded(caller.Role) {
		return false
	}
	path := v.r.URL.Path
	return path != Root+"/self" && !strings.HasPrefix(path, Root+"/preferences/")
}

// setUp redirects to the page on which a second factor is set up.
func (v *request) setUp(stream bool) {
	switch {
	case stream:
		http.Error(v.w, "set up a second factor first", http.StatusForbidden)
	case v.r.Method == http.MethodGet || v.r.Method == http.MethodHead:
		v.redirect(Root + "/self?done=factor")
	default:
		v.fail(http.StatusForbidden, v.say("self.factor.first"))
	}
}
