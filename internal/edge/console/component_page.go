package console

import (
	"net/http"
	"time"

	"github.com/qrjump/qrjump/client"
)

// componentRow is a row of a sample table.
type componentRow struct {
	Name, Kind, State string
	Scans             int64 `json:"scans"`
}

// components shows every user interface component, for developers of this server.
func (operatePages) components(v *request) error {
	if !v.c.Emulates {
		return v.nowhere()
	}
	return v.show(http.StatusOK, "components", struct {
		Numbers []number
		Rows    []componentRow
		Hook    client.Webhook
	}{[]number{{Name: "home.today", Value: "1,003", Beside: v.say("home.week", "870"), Trend: []int64{3, 5, 4, 8, 7, 9, 12}},
		{Kind: "warn", Name: "home.misses", Value: "5"}, {Kind: "bad", Name: "home.alarms", Value: "1"}},
		[]componentRow{{"Tea", "good", "rules.published", 1003}, {"Coffee", "", "rules.draft", 12}},
		client.Webhook{URL: "https://hooks.example/scans", Alarms: true, Enabled: true, CreatedAt: time.Now()}})
}
