package console

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
)

type deviationsView struct {
	Account    string
	Deviations []client.Deviation
	Coverage   client.Coverage
}

// deviations lists deviations: behaviour of callers that the real platform may reject.
func (pages callPages) deviations(v *request) error {
	data := deviationsView{Account: v.narrowed("account")}
	err := cmp.Or(storeResult(&data.Deviations)(v.api.Deviations.List(v.ctx(), data.Account)),
		storeResult(&data.Coverage)(v.api.Deviations.GetCoverage(v.ctx(), data.Account)))
	return v.page("deviations", data, err)
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
}

// behaviours lists the points in which this server might differ from the platform.
func (pages callPages) behaviours(v *request) error {
	q := v.r.URL.Query()
	data := behavioursView{Mark: q.Get("evidence"), Word: strings.TrimSpace(q.Get("word"))}
	list, err := v.api.Behaviours.List(v.ctx())
	word := strings.ToLower(data.Word)
	data.Behaviours = slices.DeleteFunc(list, func(b client.Behaviour) bool {
		return data.Mark != "" && b.EvidenceLevel != data.Mark || !strings.Contains(strings.ToLower(b.ID+" "+b.English+" "+b.Chinese), word)
	})
	return v.page("behaviours", data, err)
}
