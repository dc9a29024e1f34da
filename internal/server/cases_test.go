package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// TestCases_Life creates, fills, empties, reports and closes cases as a caller of the account brand, who has the alarms 1 and 2, and as the
// administrator; alarm 3 is of the account rival.
func TestCases_Life(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		w := startBrand(t, servertest.Options{Seed: strings.Replace(brewery, "  - {appid: bare",
			"  - {appid: rival, kind: service_account, secret: the-secret-of-rival, certified: true, features: [marketcode], "+
				"marketcode_key: 0123456789abcdef}\n  - {appid: bare", 1),
			Config: func(c *server.Config) { c.Database = url }})
		for index, batch := range []int64{w.apply("x", 10_000), w.apply("y", 10_000), w.Apply("rival", "x", 10_000)} {
			for user := range 11 {
				w.callScan("resolve", fmt.Sprint("user ", user), w.code(batch, int64(index)).CodeURL)
			}
			w.Admin("GET", "/statistics?wait=true", "")
		}
		brand := newAdminKey(t, w.Server, `{"name":"b","role":"marketer","accounts":["brand"]}`)
		rival := newAdminKey(t, w.Server, `{"name":"r","role":"marketer","accounts":["rival"]}`)
		admin := func(method, path, body string) servertest.Answer {
			return callIfMatch(w.Server, method, path, body, "")
		}
		callers := map[string]func(method, path, body string) servertest.Answer{"brand": brand, "rival": rival, "admin": admin}
		for i, c := range testtable.Rows(t, "testdata/case_calls.txt", 6) {
			fill := strings.NewReplacer("CASE", "1").Replace
			a := callers[c[0]](c[1], fill(c[2]), fill(c[3]))
			assert.True(t, fmt.Sprint(a.Status) == c[4] && strings.Contains(a.Body, fill(c[5])), "call %d, %q: %d %s", i, c,
				a.Status, a.Body)
		}

		for format, want := range map[string]string{"pdf": `attachment; filename="qrjump-case.pdf"`,
			"html": `inline; filename="qrjump-case.html"`} {
			a := brand("GET", "/cases/1/sheet?format="+format, "")
			policy := a.Header.Get("Content-Security-Policy")
			assert.True(t, a.Header.Get("Content-Disposition") == want && a.Header.Get("X-Content-Type-Options") == "nosniff" &&
				(format == "pdf" || strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") &&
					strings.HasSuffix(policy, "; sandbox")),
				"headers of the %s report: %v", format, a.Header)
		}

		// The client updates a case with If-Match, and removes its alarms at last.
		operator := require.Value(client.New(w.URL, client.Options{AdminToken: servertest.AdminToken}))(t)
		current, err := operator.Alarms.CreateCase(t.Context(), client.NewCase{CasePut: client.CasePut{Title: "c", Alarms: []int64{2}}})
		require.NoError(t, err)
		for _, c := range []struct {
			alarms []int64
			want   int
		}{{nil, 1}, {[]int64{2, 3}, 2}, {[]int64{}, 0}} {
			ifMatch := client.IfMatch(t.Context(), current.Revision)
			now, err := operator.Alarms.UpdateCase(ifMatch, current.ID, client.CasePut{Title: current.Title + "+", Alarms: c.alarms})
			assert.True(t, err == nil && len(now.Alarms) == c.want, "UpdateCase with alarms %v = %v, %v, want %d alarms", c.alarms, now,
				err, c.want)
			_, err = operator.Alarms.UpdateCase(ifMatch, current.ID, client.CasePut{Title: "of the revision before"})
			assert.True(t, client.PreconditionFailed(err) != nil, "UpdateCase with the revision before: %v, want PreconditionFailed", err)
			current = now
		}
		// The revision of a case covers its alarms, also in lists and also if the alarm was changed instead of the case.
		for _, id := range []int64{0, current.ID, 1} {
			_, err := operator.Alarms.Acknowledge(t.Context(), 2, client.Acknowledgement{Case: &id})
			require.NoError(t, err)
			_, err = operator.Alarms.UpdateCase(client.IfMatch(t.Context(), current.Revision), current.ID, client.CasePut{Title: "late",
				Alarms: []int64{3}})
			assert.True(t, id == 0 || client.PreconditionFailed(err) != nil, "UpdateCase, alarm 2 in case %d: %v, want PreconditionFailed",
				id, err)
			current = require.Value(operator.Alarms.GetCase(t.Context(), current.ID))(t)
			list, err := operator.Alarms.ListCases(t.Context(), client.CaseQuery{Limit: 1})
			assert.True(t, err == nil && list[0].Revision == current.Revision, "the revisions of case %d: %+v, %v, want %s",
				current.ID, list, err, current.Revision)
		}
	})
}
