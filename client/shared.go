package client

import (
	"context"
	"time"
)

// SharedChart is a link to one chart of statistics. Until the link expires, anyone with the link can see the chart without signing
// in. The chart shows the data that the person in SharedBy may see at the time of viewing.
type SharedChart struct {
	ID        string    `json:"id"`
	Title     string    `json:"title,omitempty"`
	Question  string    `json:"question" doc:"query of the chart, as in the URL of the console's statistics page"`
	SharedBy  string    `json:"shared_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	URL       string    `json:"url,omitempty" doc:"link to the chart; returned only once"`
}

// SharedCharts is a list of shared charts.
type SharedCharts struct {
	Charts []SharedChart `json:"charts"`
}

// NewSharedChart is a request for a link to a chart.
type NewSharedChart struct {
	Title    string `json:"title,omitempty" maxLength:"100" doc:"title shown above the chart"`
	Question string `json:"question" maxLength:"2048" doc:"query of the chart, as in the URL of the console's statistics page, such as by=day&days=30&group=rule"`
	Days     int    `json:"days" minimum:"1" maximum:"90" doc:"days until the link expires"`
}

// Create creates a link to a chart.
func (c ChartsService) Create(ctx context.Context, n NewSharedChart) (SharedChart, error) {
	return OpShareChart.call(ctx, c.transport, n)
}

// List lists the charts that are currently shared, newest first: the caller's charts, or all charts for an operator of all accounts.
func (c ChartsService) List(ctx context.Context) ([]SharedChart, error) {
	list, err := OpListSharedCharts.call(ctx, c.transport, Empty{})
	return list.Charts, err
}

// Revoke revokes the link to a shared chart immediately.
func (c ChartsService) Revoke(ctx context.Context, id string) (SharedChart, error) {
	return OpRevokeSharedChart.call(ctx, c.transport, Empty{}, id)
}
