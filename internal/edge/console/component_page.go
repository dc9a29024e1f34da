package console

import "net/http"

// componentRow is a row of a sample table.
type componentRow struct {
	Name, Kind, State string
	Scans             int64
}

func (pages componentPages) routes() map[string]func(*request) {
	return map[string]func(*request){"GET /console/components": pages.components}
}

// components shows every user interface component, for developers of this server.
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
