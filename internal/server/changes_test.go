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

type auditEntry struct {
	Seq                                int64
	OccurredAt                         time.Time
	Kind, Key, Actor, Via, RID, Action string
	Detail                             json.RawMessage
}

func listChanges(t *testing.T, s *servertest.Server, seq int64) []auditEntry {
	t.Helper()
	list := servertest.Decode[struct{ Changes []auditEntry }](t, s.Admin("GET", fmt.Sprintf("/changes?after=%d&limit=1000", seq), ""))
	return list.Changes
}

var everythingSeed = brand + `
rules:
  - {owner: shop, prefix: "https://shop.example/seeded/", path: p, published: true}
`

// TestAuditLog_EveryMutationLogged verifies that the transcript audit_log, which shows the audit log entry of each call, contains every
// endpoint and operation that changes something.
func TestAuditLog_EveryMutationLogged(t *testing.T) {
	t.Parallel()
	text := require.Value(os.ReadFile("testdata/calls/audit_log.txt"))(t)
	calls := servertest.NewCalled()
	wire := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^([A-Z]+) (/[^? \n]*)`).FindAllStringSubmatch(string(text), -1) {
		wire[found[2]] = true
		r := require.Value(http.NewRequestWithContext(t.Context(), found[1], found[2], http.NoBody))(t)
		calls.Note(r, "audit_log")
	}
	done := calls.Callers()
	// Operations that change nothing, or that count, issue or consume at a high rate. Wire endpoints have Reads in their row instead.
	none := strings.Fields(`explain login resolve lookupCode checkRule createTicket recountStatistics replayPlan verifyAudit
		saveSnapshot deleteSnapshot addFault clearFaults testWebhook replayDelivery reverifyNow resetDeviations lookupAuthorization`)
	// These are logged, but need what the transcript lacks: an alarm, another node, or a user at the platform's consent link.
	none = append(none, "acknowledgeAlarm", "dismissAlarm", "createCase", "putCase", "deleteScanNode", "authorize")
	for _, e := range api.Describe() {
		assert.True(t, wire[e.Path] != e.Reads,
			"%s: in the transcript: %v, Reads in api/endpoints.go: %v; want exactly one of the two",
			e.Path, wire[e.Path], e.Reads)
	}
	for _, o := range servertest.Operations() {
		assert.True(t, o.Method == http.MethodGet || done[o.ID] != nil || slices.Contains(none, o.ID),
			"%s (%s %s) is not in the transcript", o.ID, o.Method, o.Path)
	}
}
