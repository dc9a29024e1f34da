package api_test

import (
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// A link that waits, and the ticket of a frozen code, are told from answers with the same number. What can happen to
// none of the calls that were made is left out.
func TestCoverage_DistinguishesSameNumber(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	met := func() map[string]bool {
		found := servertest.Decode[client.Coverage](t, s.Do("GET", "/admin/v1/deviations/coverage?account=svc", ""))
		list, count := map[string]bool{}, 0
		for _, one := range found.Trials {
			list[one.Behaviour] = one.Occurred
			if one.Occurred {
				count++
			}
			assert.True(t, one.English != "" && one.Chinese != "" && one.Command != "", "%+v", one)
		}
		assert.True(t, found.Total == len(found.Trials) && found.Covered == count,
			"%d of %d, and %d of %d", found.Covered, found.Total, count, len(found.Trials))
		return list
	}
	assert.Equal(t, len(met()), 0, "before any call")
	trade := as("svc", tradePath, `{"openid":"x","code_ticket":"0123456789abcdef0123456789abcdef"}`)
	ask := func(program string) servertest.Answer {
		return s.Tell(`admin PUT /settings {"behaviours":{"link.own_token_taken":"allow"}}
POST /cgi-bin/wxopen/wxamplink as=svc {"appid":"`+program+`","notify_users":1,"show_profile":1}`, nil)
	}
	trade(s)
	ask("rival")
	first := met()
	if _, listed := first["rules.publish.quota"]; listed || len(first) != 7 || first["link.at_once"] || first["codes.ticket.state"] {
		t.Errorf("a link that took effect at once, and an unknown ticket: %v", first)
	}
	s.Admin("PUT", "/settings", `{"link_approval_required":true}`)
	a := ask("person")
	require.True(t, a.Code(t) == 0, "%v", a.Body)
	s.Tell("fault "+tradePath+" 40097", nil)
	trade(s)
	if then := met(); !then["link.at_once"] || !then["codes.ticket.state"] || then["caller.token.replaced"] {
		t.Errorf("a link that waits, and a refused ticket: %v", then)
	}
}
