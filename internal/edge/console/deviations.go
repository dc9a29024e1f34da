package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// maxDeviations is the maximum number of lines of each list on the page.
const maxDeviations = 100

type deviationsView struct {
	Account    string
	Deviations []client.Deviation
	More       int // number of deviations that the page leaves out
	Coverage   client.Coverage
}

// deviations lists deviations: behaviour of callers that the real platform may reject.
func (pages callPages) deviations(v *request) error {
	data := deviationsView{Account: v.narrowed("account")}
	list, err := v.api.Deviations.List(v.ctx(), data.Account)
	if err != nil {
		return err
	}
	data.Deviations = list[:min(len(list), maxDeviations)]
	data.More = len(list) - len(data.Deviations)
	if data.Coverage, err = v.api.Deviations.GetCoverage(v.ctx(), data.Account); err != nil {
		return err
	}
	return v.show(http.StatusOK, "deviations", data)
}

// forgetDeviations clears the list of deviations of one account or of all.
func (pages callPages) forgetDeviations(v *request) error {
	appid, to := v.word("account"), Root+"/calls/deviations"
	if appid != "" {
		to += "?account=" + url.QueryEscape(appid)
	}
	return v.perform(to, map[string]action{"forget": {call: func() error { return onlyError(v.api.Deviations.Reset(v.ctx(), appid)) }}})
}

type behavioursView struct {
	Mark       string `json:"evidence" enum:"observed,documented,inferred,assumed"`
	Word       string
	Behaviours []client.Behaviour
	More       int
}

// behaviours lists the points in which this server might differ from the platform.
func (pages callPages) behaviours(v *request) error {
	q := v.r.URL.Query()
	data := behavioursView{Mark: q.Get("evidence"), Word: strings.TrimSpace(q.Get("word"))}
	list, err := v.api.Behaviours.List(v.ctx())
	if err != nil {
		return err
	}
	word := strings.ToLower(data.Word)
	data.Behaviours = slices.DeleteFunc(list, func(b client.Behaviour) bool {
		return data.Mark != "" && b.EvidenceLevel != data.Mark ||
			!strings.Contains(strings.ToLower(b.ID+" "+b.English+" "+b.Chinese), word)
	})
	all := len(data.Behaviours)
	data.Behaviours = data.Behaviours[:min(all, maxDeviations)]
	data.More = all - len(data.Behaviours)
	return v.show(http.StatusOK, "behaviours", data)
}
