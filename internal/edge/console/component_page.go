package console

import "net/http"

// componentRow is a row of the sample of a table.
type componentRow struct {
	Name, Kind, State string
	Scans             int64
}

func (pages componentPages) routes() map[string]func(*request) {
	return map[string]func(*request){"GET /console/components": pages.components}
}

// components shows each component of pages, for those who develop with this server.
func (componentPages) components(v *request) {
	if !v.c.Emulates {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	v.show(http.StatusOK, "components", struct {
		Numbers []number
		Rows    []componentRow
	}{[]number{{Name: "home.today", Value: "1,003", Beside: v.say("home.week", "870"), Trend: []int64{3, 5, 4, 8, 7, 9, 12}},
		{Kind: "warn", Name: "home.misses", Value: "5"}, {Kind: "bad", Name: "home.alarms", Value: "1"}},
		[]componentRow{{"Tea", "good", "rules.published", 1003}, {"Coffee", "", "rules.draft", 12}}})
}
