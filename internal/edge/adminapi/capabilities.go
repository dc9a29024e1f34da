package adminapi

import (
	"context"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// AccountState contains the state that determines the abilities of an account.
type AccountState struct {
	accounts.Account
	Linked        int // number of linked Mini Programs
	PublishesLeft int // number of publishes left this month
	Prefix        bool
}

// Abilities returns the actions that an account of the given kind can perform, with the unmet requirements of each. The domain packages
// check the requirements of abilities independently; a test verifies that both checks agree.
func (s AccountState) Abilities() []client.Ability {
	released := client.Requirement{Requirement: "released", Fulfilled: s.Has(accounts.Release)}
	switched := client.Requirement{Requirement: "switched_on", Fulfilled: s.JumpOpen}
	certified := client.Requirement{Requirement: "certified", Fulfilled: s.Certified}
	list := []client.Ability{{Ability: "tokens", Requirements: []client.Requirement{{Requirement: "secret", Fulfilled: s.SecretHash != ""},
		{Requirement: "secret_active", Fulfilled: !s.SecretFrozen}}}}
	switch s.Kind {
	case accounts.MiniProgram:
		list = append(list,
			client.Ability{Ability: "rules", Requirements: []client.Requirement{{Requirement: "organisation",
				Fulfilled: s.Subject != accounts.Personal}}},
			client.Ability{Ability: "publish", Requirements: []client.Requirement{released, {Requirement: "publishes_left",
				Fulfilled: s.PublishesLeft > 0}}},
			client.Ability{Ability: "open", Requirements: []client.Requirement{released, switched}})
	case accounts.ServiceAccount:
		list = append(list,
			client.Ability{Ability: "rules", Requirements: []client.Requirement{certified, {Requirement: "linked",
				Fulfilled: s.Linked > 0}}},
			client.Ability{Ability: "open", Requirements: []client.Requirement{switched}},
			client.Ability{Ability: "codes", Requirements: []client.Requirement{certified,
				{Requirement: "feature", Fulfilled: slices.Contains(s.Features, codes.Feature)},
				{Requirement: "key", Fulfilled: s.MarketcodeKey != ""}, {Requirement: "prefix", Fulfilled: s.Prefix}}})
	}
	for i, ability := range list {
		list[i].Allowed = !slices.ContainsFunc(ability.Requirements, func(n client.Requirement) bool { return !n.Fulfilled })
	}
	return list
}

func (a accountAPI) listAbilities(ctx context.Context, in *AppIDPath) (client.AbilityList, error) {
	account, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.AbilityList{}, err
	}
	linked, err := a.Accounts.Links(ctx, in.AppID)
	if err != nil {
		return client.AbilityList{}, err
	}
	left, err := a.Rules.PublishesLeft(ctx, account)
	return client.AbilityList{Abilities: AccountState{account, len(linked), left, !a.Codes.Closed}.Abilities()}, err
}
