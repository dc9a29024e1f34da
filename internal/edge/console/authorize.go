package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/iam"
)

const agreePath = Root + "/agree"

// AgreePage returns the address of the console page on which a signed-in person decides the authorisation request with this reference.
func AgreePage(reference string) string {
	return agreePath + "?" + url.Values{"ref": {reference}}.Encode()
}

// searchFrom is the smallest number of accounts for which the page offers a search field.
const searchFrom = 10

type agreeView struct {
	client.AuthorizationRequest
	Reference, Part, AppID string
	Sets                   []int // the checked permission sets
	Search                 bool
	Faults                 map[string]string // errors by field: appid, sets
	Taken                  bool              // true if another platform already has an exclusive permission set of the account
	Done                   bool
}

// Ticked reports whether the box of a permission set is checked.
func (a agreeView) Ticked(id int) bool { return slices.Contains(a.Sets, id) }

// Exclusive reports whether only one platform at a time can hold a permission set.
func (agreeView) Exclusive(id int) bool { return id == exclusiveSet }

// exclusiveSet is the id of the permission set that only one platform can hold for an account.
const exclusiveSet = 18

func (pages accountPages) agree(v *request) error {
	return pages.showAgreement(v, agreeView{Reference: v.r.URL.Query().Get("ref")}, http.StatusOK, true)
}

// showAgreement shows the form that asks whether a platform may act for an account. Browsers apply form-action also to the redirect
// after a form submission, so the policy includes the redirect target.
func (pages accountPages) showAgreement(v *request, data agreeView, status int, first bool) error {
	if !(view{request: v}).HasRole("operator") {
		return v.fail(http.StatusForbidden, v.say("agree.role", v.say("role.operator")))
	}
	asked, err := v.api.Consents.Get(v.ctx(), client.ConsentQuery{Reference: data.Reference, Part: data.Part})
	if said, is := refused(err, http.StatusUnprocessableEntity); is {
		return v.fail(http.StatusUnprocessableEntity, v.say("agree.gone", strings.TrimPrefix(said.Detail, "reference: ")))
	}
	if err != nil {
		return err
	}
	data.AuthorizationRequest = asked
	data.Search = asked.More || data.Part != "" || len(asked.Accounts) > searchFrom
	if first {
		data.Sets = asked.PermissionSets
		if len(asked.Accounts) == 1 && !asked.More {
			data.AppID = asked.Accounts[0].AppID
		}
	}
	if len(asked.Accounts) == 0 && data.Part == "" {
		return v.fail(http.StatusUnprocessableEntity, v.say("agree.none", asked.Component))
	}
	// The selected account stays in the list while the visitor searches for others.
	if data.AppID != "" && !slices.ContainsFunc(asked.Accounts, func(a client.RequestedAccount) bool { return a.AppID == data.AppID }) {
		if found, err := v.api.Accounts.Get(v.ctx(), data.AppID); err == nil {
			data.Accounts = slices.Insert(data.Accounts, 0, client.RequestedAccount{AppID: found.AppID, Name: found.Name, Kind: found.Kind})
		}
	}
	v.w.Header().Set("Content-Security-Policy", strings.Replace(policy, "form-action 'self'", "form-action 'self' "+asked.ReturnTo, 1))
	return v.show(status, "authorize", data)
}

// decideAgreement executes the decision that the person submitted.
func (pages accountPages) decideAgreement(v *request) error {
	data := agreeView{Reference: v.word("ref"), Part: v.word("part"), AppID: v.word("appid"), Faults: map[string]string{}}
	for _, item := range v.r.PostForm["set"] {
		if id, err := strconv.Atoi(item); err == nil {
			data.Sets = append(data.Sets, id)
		}
	}
	switch v.r.FormValue("did") {
	case "find":
		return pages.showAgreement(v, data, http.StatusOK, false)
	case "refuse":
		return v.show(http.StatusOK, "authorize", agreeView{Done: true})
	case "approve":
	default:
		return v.reject("fault.form")
	}
	if data.AppID == "" {
		data.Faults["appid"] = v.say("agree.choose.account")
	}
	if len(data.Sets) == 0 {
		data.Faults["sets"] = v.say("agree.choose.set")
	}
	if len(data.Faults) > 0 {
		return pages.showAgreement(v, data, http.StatusUnprocessableEntity, false)
	}
	location, err := v.api.Consents.Create(v.ctx(), client.ConsentGrant{Reference: data.Reference, AppID: data.AppID,
		PermissionSets: data.Sets, Move: v.word("force_exclusive") != ""})
	if said, is := refused(err, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity); is {
		switch {
		case said.Status == http.StatusConflict:
			data.Taken = true
		case strings.HasPrefix(said.Detail, "permission_sets: "):
			data.Faults["sets"] = v.say("agree.choose.set")
		case strings.HasPrefix(said.Detail, "appid: "):
			data.Faults["appid"], data.AppID = v.say("agree.choose.account"), ""
		}
		// if the reference has already been used, the page shows the error of the API
		return pages.showAgreement(v, data, said.Status, false)
	}
	return v.done(location, err)
}

// arrives shows an intermediate page that reloads the same address: browsers send the session's SameSite=Strict cookie with this reload,
// but not when a visitor follows a link of another site. arrives returns false if the request already came from the intermediate page or
// from another page of this origin.
func (c *Console) arrives(w http.ResponseWriter, r *http.Request) bool {
	q := r.URL.Query()
	if r.URL.Path != agreePath || q.Has("here") {
		return false
	}
	v := c.visit(w, r, iam.Caller{})
	v.show(http.StatusOK, "authorize-start", q.Get("ref"))
	return true
}
