package api_test

import (
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestCoverage_DistinguishesSameNumber verifies that the coverage tells a pending link from an immediate one, and the ticket of a frozen
// code from an unknown ticket, although their responses have the same number. Behaviours of endpoints that were not called are left out.
func TestCoverage_DistinguishesSameNumber(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	coverage := func() map[string]bool {
		found := servertest.Decode[client.Coverage](t, s.Do("GET", "/admin/v1/deviations/coverage?account=svc", ""))
		occurred, covered := map[string]bool{}, 0
		for _, trial := range found.Trials {
			occurred[trial.Behaviour] = trial.Occurred
			if trial.Occurred {
				covered++
			}
			assert.True(t, trial.English != "" && trial.Chinese != "" && trial.Command != "", "trial lacks a text or command: %+v", trial)
		}
		assert.True(t, found.Total == len(found.Trials) && found.Covered == covered,
			"coverage of %d of %d, want %d of %d", found.Covered, found.Total, covered, len(found.Trials))
		return occurred
	}
	assert.Equal(t, len(coverage()), 0, "trials before any call")
	exchangeTicket := func() {
		post(s, "svc", ticketToCodePath, `{"openid":"x","code_ticket":"0123456789abcdef0123456789abcdef"}`)
	}
	requestLink := func(program string) servertest.Answer {
		return s.RunStory(`admin PUT /settings {"behaviours":{"link.own_token_taken":"allow"}}
POST /cgi-bin/wxopen/wxamplink as=svc {"appid":"`+program+`","notify_users":1,"show_profile":1}`, nil)
	}
	exchangeTicket()
	requestLink("rival")
	first := coverage()
	if _, listed := first["rules.publish.quota"]; listed || len(first) != 7 || first["link.at_once"] || first["codes.ticket.state"] {
		t.Errorf("coverage after an immediate link and an unknown ticket = %v", first)
	}
	s.Admin("PUT", "/settings", `{"link_approval_required":true}`)
	requestLink("person").WantCode(t, 0, "a link that needs approval")
	s.RunStory("fault "+ticketToCodePath+" 40097", nil)
	exchangeTicket()
	if got := coverage(); !got["link.at_once"] || !got["codes.ticket.state"] || got["caller.token.replaced"] {
		t.Errorf("coverage after a pending link and a rejected ticket = %v", got)
	}
}
