package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

type loggedChange struct {
	Seq                                int64
	OccurredAt                         time.Time
	Kind, Key, Actor, Via, RID, Action string
	Detail                             json.RawMessage
}

func changesAfter(t *testing.T, s *servertest.Server, seq int64) []loggedChange {
	t.Helper()
	list := servertest.Decode[struct{ Changes []loggedChange }](t, s.Admin("GET", fmt.Sprintf("/changes?after=%d&limit=1000", seq), ""))
	return list.Changes
}

var everything = brand + `
rules:
  - {owner: shop, prefix: "https://shop.example/seeded/", path: p, published: true}
`

// Each endpoint that changes something is in the transcript audit_log, where what it leaves in the audit log stands.
func TestAuditLog_EveryMutationLogged(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/calls/audit_log.txt")
	require.NoError(t, err)
	calls := servertest.NewCalled()
	wire := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^([A-Z]+) (/[^? \n]*)`).FindAllStringSubmatch(string(text), -1) {
		wire[found[2]] = true
		r, err := http.NewRequestWithContext(t.Context(), found[1], found[2], http.NoBody)
		require.NoError(t, err)
		calls.Note(r, "audit_log")
	}
	done := calls.Callers()
	// Operations that change nothing, or that count, issue and use up at a high rate. An endpoint of the wire says so in its line.
	none := strings.Fields(`explain login resolve lookupCode checkRule createTicket recountStatistics replayPlan verifyAudit
		saveSnapshot deleteSnapshot addFault clearFaults testWebhook replayDelivery reverifyNow resetDeviations createLoginLink lookupAuthorization`)
	// Leaves a change, but not without what the transcript has not: an alarm, another node, a person at a platform's link.
	none = append(none, "acknowledgeAlarm", "dismissAlarm", "createCase", "putCase", "deleteScanNode", "authorize")
	for _, e := range api.Describe() {
		assert.True(t, wire[e.Path] != e.Reads,
			"%s: it is in the transcript: %v, and reads in its line of api/endpoints.go: %v; want one of the two",
			e.Path, wire[e.Path], e.Reads)
	}
	for _, o := range servertest.Operations() {
		assert.True(t, o.Method == http.MethodGet || done[o.ID] != nil || slices.Contains(none, o.ID),
			"%s (%s %s) is not in the transcript", o.ID, o.Method, o.Path)
	}
}
