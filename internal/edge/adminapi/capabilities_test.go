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

// What is told of an account is what the domain decides, whatever the account is.
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
			left := 0
			if bit(5) {
				left = 1
			}
			_, published := rules.Rule{Target: "a"}.Publish(a, 1-left, 1, time.Time{})
			want := map[string]bool{"rules": a.JumpRules() == nil, "codes": codes.CheckPermission(a) == nil, "publish": published == nil}
			for _, ability := range (adminapi.AccountState{a, 1, left, true}).Abilities() {
				may, ok := want[ability.Ability]
				assert.True(t, !ok || may == ability.Allowed, "%+v: %+v, and the domain says %v", a, ability, may)
				delete(want, ability.Ability)
			}
			for ability, may := range want { // an ability that is not told of is none
				assert.True(t, !may || ability == "publish" && kind != accounts.MiniProgram, "%+v: %s is not told of", a, ability)
			}
			assert.True(t, !slices.ContainsFunc((adminapi.AccountState{a, 0, left, false}).Abilities(), func(one client.Ability) bool {
				return one.Allowed && (one.Ability == "codes" || one.Ability == "rules" && kind == accounts.ServiceAccount)
			}), "%+v: it may without a link or a prefix", a)
		}
	}
}
