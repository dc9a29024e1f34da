package console

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// share creates a link to the chart of this page.
func (pages numberPages) share(v *request) error {
	asked := v.question()
	if asked.Days > 0 {
		asked.params.Set("days", strconv.Itoa(asked.Days))
	}
	days, err := strconv.Atoi(v.r.FormValue("lasts"))
	if err != nil {
		return v.reject("fault.form")
	}
	sharedChart, err := v.api.Charts.Create(v.ctx(), client.NewSharedChart{Title: strings.TrimSpace(v.r.FormValue("title")),
		Question: asked.params.Encode(), Days: days})
	return afterwards(err, func() error { return pages.showStatistics(v, statisticsView{Link: sharedChart.URL}) })
}

// sharedView is a chart for readers who have its link.
type sharedView struct {
	statisticsView
	Title     string
	ExpiresAt time.Time
}

// sharedPage shows a shared chart without the rest of the console.
func (c *Console) sharedPage(v *request) error {
	r := v.r
	link, caller, err := c.Shared(r.Context(), r.PathValue("text"))
	if err == nil && !adminroute.Role(caller.Role).AtLeast(adminroute.Marketer) {
		err = iam.ErrNoShared // the person who shared the chart has lost the permission to see the numbers
	}
	switch {
	case errors.Is(err, iam.ErrNoShared):
		return v.fail(http.StatusNotFound, v.say("shared.gone"))
	case err != nil:
		c.Log.ErrorContext(r.Context(), "shared chart lookup failed", "error", err)
		return v.fail(http.StatusServiceUnavailable, v.say("fault.store"))
	}
	v.r, v.caller, v.shared = r.Clone(r.Context()), caller, true
	v.r.URL.RawQuery = link.Question
	data := sharedView{Title: link.Title, ExpiresAt: link.ExpiresAt}
	if data.statisticsView, err = v.dated(); err == nil {
		err = v.numbers(&data.statisticsView)
	}
	for _, asked := range data.Only {
		v.know(asked.Name, asked.Value)
	}
	v.r, v.caller = r, iam.Caller{} // not signed in
	if _, lost := refused(err, http.StatusForbidden); lost {
		// The person who shared the chart has lost an account of the chart.
		return v.fail(http.StatusNotFound, v.say("shared.gone"))
	}
	return v.page("shared-chart", data, err)
}
