package adminapi

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

func (a serverAPI) listBehaviours(context.Context, *noInput) (client.BehaviourList, error) {
	now := a.Now()
	return client.BehaviourList{Behaviours: mapped(behaviour.All(),
		func(b behaviour.Behaviour) client.Behaviour { return showBehaviour(b, now) })}, nil
}

func showBehaviour(b behaviour.Behaviour, now time.Time) client.Behaviour {
	return client.Behaviour{ID: b.ID, EvidenceLevel: string(b.Evidence), Section: b.Section, English: b.Description().English(),
		Chinese: b.Description().Chinese(), Source: b.Source,
		Date: b.Date, Until: b.Until, Old: b.Stale(now)}
}
