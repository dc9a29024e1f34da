package adminapi

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
)

func (a serverAPI) listDeviations(ctx context.Context, in *client.DeviationQuery) (client.DeviationList, error) {
	list, err := a.Calls.Deviations(ctx, in.Account)
	return client.DeviationList{Deviations: mapped(list, showDeviation)}, err
}

// getDeviationCoverage lists the behaviours that every client program triggers sooner or later, and reports which of them the calls of an
// account have triggered.
func (a serverAPI) getDeviationCoverage(ctx context.Context, in *client.DeviationQuery) (client.Coverage, error) {
	list, looked, err := a.Calls.Coverage(ctx, in.Account)
	shown := client.Coverage{Total: len(list), SearchRange: showSearched(looked), Trials: mapped(list, showTrial)}
	for _, trial := range shown.Trials {
		if trial.Occurred {
			shown.Covered++
		}
	}
	return shown, err
}

func showTrial(c apiusage.Covered) client.CoverageItem {
	shown := client.CoverageItem{ErrCode: c.Code.Number, Occurred: c.Met(), Calls: c.Calls, Count: c.Times, LastRID: c.Last,
		Command: c.Command}
	shown.English, shown.Chinese = c.Description()
	if c.Row != behaviour.NoRow {
		shown.Behaviour = c.Row.String()
	}
	return shown
}

func showDeviation(d apiusage.Deviation) client.Deviation {
	shown := client.Deviation{Behaviour: d.Behaviour, Account: d.Account, Endpoint: d.Endpoint, Count: d.Times,
		FirstRID: d.FirstRID, FirstAt: d.FirstAt, LastRID: d.LastRID, LastAt: d.LastAt}
	if row, known := behaviour.ByID(d.Behaviour); known { // a behaviour is unknown if a node of another version recorded the deviation
		deviation, _ := row.Deviation()
		shown.EvidenceLevel, shown.Advice, shown.Chinese = string(deviation.Minds), deviation.Advice().English(),
			deviation.Advice().Chinese()
	}
	return shown
}

func (a serverAPI) resetDeviations(ctx context.Context, in *client.DeviationQuery) (client.DeviationList, error) {
	return readAfter(ctx, a.Calls.ForgetDeviations(ctx, in.Account), a.listDeviations, &client.DeviationQuery{})
}

func (a serverAPI) listBehaviours(context.Context, *client.Empty) (client.BehaviourList, error) {
	now := a.Now()
	return client.BehaviourList{Behaviours: mapped(behaviour.All(),
		func(b behaviour.Behaviour) client.Behaviour { return showBehaviour(b, now) })}, nil
}

func showBehaviour(b behaviour.Behaviour, now time.Time) client.Behaviour {
	return client.Behaviour{ID: b.ID, EvidenceLevel: string(b.Evidence), Section: b.Section, English: b.Description().English(),
		Chinese: b.Description().Chinese(), Source: b.Source,
		Date: b.Date, Until: b.Until, Old: b.Stale(now)}
}
