package adminapi_test

import (
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestAbilities_EqualDomain verifies that Abilities reports what the domain decides, for accounts with every combination of properties.
func TestAbilities_EqualDomain(t *testing.T) {
	for bits := range 1 << 6 {
		bit := func(n int) bool { return bits&(1<<n) != 0 }
		for _, kind := range []accounts.Kind{accounts.MiniProgram, accounts.ServiceAccount, accounts.SubscriptionAccount} {
			a := accounts.Account{AppID: "a", Kind: kind, Certified: bit(0), JumpOpen: bit(1), Subject: accounts.Company}
			if bit(2) {
				a.Subject = accounts.Personal
			}
			if bit(3) {
				a.Versions = []accounts.Version{accounts.Release}
			}
			if bit(4) {
				a.Features, a.MarketcodeKey = []string{codes.Feature}, "sealed"
			}
			quota := 0
			if bit(5) {
				quota = 1
			}
			_, publishErr := rules.Rule{Target: "a"}.Publish(a, 1-quota, 1, time.Time{})
			want := map[string]bool{"rules": a.JumpRules() == nil, "codes": codes.CheckPermission(a) == nil, "publish": publishErr == nil}
			for _, ability := range (adminapi.AccountState{a, 1, quota, true}).Abilities() {
				allowed, ok := want[ability.Ability]
				assert.True(t, !ok || allowed == ability.Allowed, "%+v: ability %+v, want allowed %v", a, ability, allowed)
				delete(want, ability.Ability)
			}
			for ability, allowed := range want { // an ability that is not listed is not allowed
				assert.True(t, !allowed || ability == "publish" && kind != accounts.MiniProgram, "%+v: ability %s is missing", a, ability)
			}
			assert.True(t, !slices.ContainsFunc((adminapi.AccountState{a, 0, quota, false}).Abilities(), func(got client.Ability) bool {
				return got.Allowed && (got.Ability == "codes" || got.Ability == "rules" && kind == accounts.ServiceAccount)
			}), "%+v: ability is allowed without a link or a prefix", a)
		}
	}
}
