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

// routes returns the handlers of the page on which a person lets a platform act for an account.
func (pages agreePages) routes() map[string]func(*request) {
	return map[string]func(*request){"GET " + agreePath: pages.agree, "POST " + agreePath: pages.decideAgreement}
}

const agreePath = Root + "/agree"

// AgreePage returns the page of a reference that the authorisation page hands over.
func AgreePage(reference string) string {
	return agreePath + "?" + url.Values{"ref": {reference}}.Encode()
}

// searchFrom is the number of accounts from which the page offers a search.
const searchFrom = 10

type agreeView struct {
	client.AuthorizationRequest
	Reference, Part, AppID string
	Sets                   []int // that are ticked
	Search                 bool
	Faults                 map[string]string // by field: appid, sets
	Taken                  bool              // another platform has an exclusive set
	Done                   bool
}

// Ticked reports whether a set is to be granted.
func (a agreeView) Ticked(id int) bool { return slices.Contains(a.Sets, id) }

// Exclusive reports whether one platform at a time may have a set.
func (agreeView) Exclusive(id int) bool { return id == exclusiveSet }

// exclusiveSet is the one that a single platform may have of an account.
const exclusiveSet = 18

func (pages agreePages) agree(v *request) {
	pages.showAgreement(v, agreeView{Reference: v.r.URL.Query().Get("ref")}, http.StatusOK, true)
}

// showAgreement asks whether a platform shall act for an account. A browser holds form-action against the redirect after the form
// too: the policy names where the person is sent back.
func (pages agreePages) showAgreement(v *request, data agreeView, status int, first bool) {
	if !(view{request: v}).May("operator") {
		v.fault(http.StatusForbidden, v.say("agree.role", v.say("role.operator")))
		return
	}
	asked, err := v.api.Consents.Get(v.ctx(), client.AuthorizationQuestion{Reference: data.Reference, Part: data.Part})
	if said, is := refused(err, http.StatusUnprocessableEntity); is {
		v.fault(http.StatusUnprocessableEntity, v.say("agree.gone", strings.TrimPrefix(said.Detail, "reference: ")))
		return
	}
	if v.failed(err) {
		return
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
		v.fault(http.StatusUnprocessableEntity, v.say("agree.none", asked.Component))
		return
	}
	// What was chosen stays while others are searched for.
	if data.AppID != "" && !slices.ContainsFunc(asked.Accounts, func(a client.AskedAccount) bool { return a.AppID == data.AppID }) {
		if account, err := v.api.Accounts.Get(v.ctx(), data.AppID); err == nil {
			data.Accounts = append([]client.AskedAccount{{AppID: account.AppID, Name: account.Name, Kind: account.Kind}}, data.Accounts...)
		}
	}
	v.w.Header().Set("Content-Security-Policy", strings.Replace(policy, "form-action 'self'", "form-action 'self' "+asked.ReturnTo, 1))
	v.show(status, "agree", data)
}

// decideAgreement does what the person decided.
func (pages agreePages) decideAgreement(v *request) {
	text := func(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }
	data := agreeView{Reference: text("ref"), Part: text("part"), AppID: text("appid"), Faults: map[string]string{}}
	for _, item := range v.r.PostForm["set"] {
		if id, err := strconv.Atoi(item); err == nil {
			data.Sets = append(data.Sets, id)
		}
	}
	switch v.r.FormValue("did") {
	case "find":
		pages.showAgreement(v, data, http.StatusOK, false)
		return
	case "refuse":
		v.show(http.StatusOK, "agree", agreeView{Done: true})
		return
	case "agree":
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	if data.AppID == "" {
		data.Faults["appid"] = v.say("agree.choose.account")
	}
	if len(data.Sets) == 0 {
		data.Faults["sets"] = v.say("agree.choose.set")
	}
	if len(data.Faults) > 0 {
		pages.showAgreement(v, data, http.StatusUnprocessableEntity, false)
		return
	}
	location, err := v.api.Consents.Create(v.ctx(), client.AuthorizationAgreed{Reference: data.Reference, AppID: data.AppID,
		PermissionSets: data.Sets, Move: text("move") != ""})
	if said, is := refused(err, http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity); is {
		switch {
		case said.Status == http.StatusConflict:
			data.Taken = true
		case strings.HasPrefix(said.Detail, "permission_sets: "):
			data.Faults["sets"] = v.say("agree.choose.set")
		case strings.HasPrefix(said.Detail, "appid: "):
			data.Faults["appid"], data.AppID = v.say("agree.choose.account"), ""
		}
		pages.showAgreement(v, data, said.Status, false) // a reference that was used meanwhile says so there
		return
	}
	if !v.failed(err) {
		v.redirect(location)
	}
}

// arrives shows a page from which a browser goes on to the same address: a session's strict cookie does not come along with a link of
// another site. False: it came from that page, or from another one of this origin.
func (c *Console) arrives(w http.ResponseWriter, r *http.Request) bool {
	q := r.URL.Query()
	if r.URL.Path != agreePath || q.Has("here") {
		return false
	}
	v := c.visit(w, r, iam.Caller{})
	v.show(http.StatusOK, "arrive", q.Get("ref"))
	return true
}
