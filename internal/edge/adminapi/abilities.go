package adminapi

import (
	"context"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// standing is the state on which the abilities of an account depend.
type standing struct {
	accounts.Account
	linked int // Mini Programs that it is linked with
	left   int // publishes of this month
	prefix bool
}

// abilities returns the actions that an account of its kind can perform, with the unmet requirements of each. The domain packages
// decide on their own; a test makes sure that both agree.
func (s standing) abilities() []client.Ability {
	released := client.Need{Need: "released", Met: s.Has(accounts.Release)}
	switched := client.Need{Need: "switched_on", Met: s.JumpOpen}
	certified := client.Need{Need: "certified", Met: s.Certified}
	list := []client.Ability{{Ability: "tokens", Needs: []client.Need{{Need: "secret", Met: s.SecretHash != ""},
		{Need: "secret_active", Met: !s.SecretFrozen}}}}
	switch s.Kind {
	case accounts.MiniProgram:
		list = append(list,
			client.Ability{Ability: "rules", Needs: []client.Need{{Need: "organisation", Met: s.Subject != accounts.Personal}}},
			client.Ability{Ability: "publish", Needs: []client.Need{released, {Need: "publishes_left", Met: s.left > 0}}},
			client.Ability{Ability: "open", Needs: []client.Need{released, switched}})
	case accounts.ServiceAccount:
		list = append(list,
			client.Ability{Ability: "rules", Needs: []client.Need{certified, {Need: "linked", Met: s.linked > 0}}},
			client.Ability{Ability: "open", Needs: []client.Need{switched}},
			client.Ability{Ability: "codes", Needs: []client.Need{certified,
				{Need: "feature", Met: slices.Contains(s.Features, codes.Feature)},
				{Need: "key", Met: s.MarketcodeKey != ""}, {Need: "prefix", Met: s.prefix}}})
	}
	for i, one := range list {
		list[i].May = !slices.ContainsFunc(one.Needs, func(n client.Need) bool { return !n.Met })
	}
	return list
}

func (a accountAPI) listAbilities(ctx context.Context, in *AppIDPath) (client.AbilityList, error) {
	one, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.AbilityList{}, err
	}
	linked, err := a.Accounts.Links(ctx, in.AppID)
	if err != nil {
		return client.AbilityList{}, err
	}
	left, err := a.Rules.PublishesLeft(ctx, one)
	return client.AbilityList{Abilities: standing{one, len(linked), left, !a.Codes.Closed}.abilities()}, err
}
