package adminapi

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// chartQuestion returns the query of a statistics page in the form that is stored: only known parameters, and only accounts that
// the caller may see.
func chartQuestion(ctx context.Context, text string) (string, error) {
	asked, err := url.ParseQuery(text)
	if err != nil {
		return "", refused("question: want NAME=VALUE&NAME=VALUE, as in the address of the page of statistics")
	}
	kept := url.Values{}
	for name, values := range asked {
		value := values[0]
		_, group := stats.ParseDim(name)
		known := group || name == "from" || name == "to"
		switch name {
		case "by":
			known = slices.Contains([]string{"", "hour", "day", "week", "month"}, value)
		case "group":
			_, known = stats.ParseDim(value)
			known = known || value == ""
		case "count":
			known = slices.Contains([]string{"", "scans", "first", "users"}, value)
		case "days":
			n, err := strconv.Atoi(value)
			known = err == nil && n >= 1 && n <= 366
		case "owner", "compare":
			known = true
			if _, err := owners(ctx, value); err != nil {
				return "", err
			}
		}
		if !known || len(values) > 1 {
			return "", refused("question: %.40s=%.40s is not a parameter of a chart", name, strings.Join(values, ","))
		}
		kept.Set(name, value)
	}
	return kept.Encode(), nil
}

func showShared(link iam.SharedLink) client.SharedChart {
	return client.SharedChart{ID: link.ID, Title: link.Title, Question: link.Question, SharedBy: link.CreatedBy, CreatedAt: link.CreatedAt,
		ExpiresAt: link.ExpiresAt}
}

// theirShared returns a function that reports whether the caller may list and end the sharing of a chart: the caller may if it shared the
// chart itself, or is an operator of all accounts.
func theirShared(ctx context.Context) func(iam.SharedLink) bool {
	caller, actor := adminroute.CallerFromContext(ctx), accounts.ActorFromContext(ctx).ActorID
	all := caller.Role.AtLeast(adminroute.Operator) && !caller.Scoped()
	return func(link iam.SharedLink) bool { return all || link.CreatedBy == actor }
}

func (a scanAPI) shareChart(ctx context.Context, in *struct{ Body client.NewSharedChart }) (client.SharedChart, error) {
	question, err := chartQuestion(ctx, in.Body.Question)
	if err != nil {
		return client.SharedChart{}, err
	}
	link, text, err := a.Shared.Share(ctx, iam.SharedLink{Title: in.Body.Title, Question: question,
		CreatedBy: accounts.ActorFromContext(ctx).ActorID, Accounts: adminroute.CallerFromContext(ctx).Accounts},
		time.Duration(in.Body.Days)*24*time.Hour)
	shown := showShared(link)
	shown.URL = a.ConsoleURL() + "/shared/" + text
	return shown, err
}

func (a scanAPI) listSharedCharts(ctx context.Context, _ *client.Empty) (client.SharedCharts, error) {
	list, err := a.Shared.List(ctx, theirShared(ctx))
	return client.SharedCharts{Charts: mapped(list, showShared)}, err
}

func (a scanAPI) revokeSharedChart(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64"`
}) (client.SharedChart, error) {
	link, err := a.Shared.End(ctx, in.ID, theirShared(ctx))
	return showShared(link), err
}
