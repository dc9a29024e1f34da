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
)

// TestCases_Life creates, fills, empties, reports and closes cases as a caller of the account brand, who has the alarms 1 and 2, and as
// the administrator; alarm 3 is of the account rival.
func TestCases_Life(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, url string) {
		w := brew(t, servertest.Options{Seed: strings.Replace(brewery, "  - {appid: bare", "  - {appid: rival, kind: service_account, "+
			"secret: the-secret-of-rival, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef}\n  - {appid: bare", 1),
			Config: func(c *server.Config) { c.Database = url }})
		for index, batch := range []int64{w.apply("x", 10_000), w.apply("y", 10_000), w.Apply("rival", "x", 10_000)} {
			for user := range 11 {
				w.ask("resolve", fmt.Sprint("user ", user), w.code(batch, int64(index)).CodeURL)
			}
			w.Admin("GET", "/statistics?wait=true", "")
		}
		_, ofBrand := adminKey(t, w.Server, `{"name":"b","role":"marketer","accounts":["brand"]}`)
		_, ofRival := adminKey(t, w.Server, `{"name":"r","role":"marketer","accounts":["rival"]}`)
		admin := func(method, path, body string) servertest.Answer { return matched(w.Server, method, path, body, "") }
		const title, filled, emptied = `"title":"<script>王"`, `"alarms":[{"id":1,`, `"note":"","created_at"`
		for i, c := range []struct {
			call               func(method, path, body string) servertest.Answer
			method, path, body string
			status             int
			want               string // part of the response
		}{
			{ofBrand, "POST", "/cases", `{"title":"x","alarms":[3]}`, 403, "brand only"},
			{ofBrand, "POST", "/cases", `{"title":"x","alarms":[1,3]}`, 404, "no case with this id for this caller and these alarms"},
			{ofBrand, "POST", "/cases", `{"title":"x","account":"rival"}`, 403, "brand only"},
			{admin, "POST", "/cases", `{"title":"x","account":"rival","alarms":[1]}`, 404,
				"no case with this id for this caller and these alarms"},
			{ofBrand, "POST", "/cases", `{"title":"x","alarms":[9]}`, 404, "no alarm with this id"},
			{admin, "GET", "/cases", "", 200, `{"cases":[]}`},
			{admin, "GET", "/alarms?acknowledged=true", "", 200, `"alarms":[]`},
			{ofBrand, "POST", "/cases", `{` + title + `,"assignee":"Li Na","alarms":[1,2,1]}`, 200, filled},
			{ofBrand, "GET", "/cases?state=open&assignee=Li+Na", "", 200, title + `,"state":"open"`},
			{ofBrand, "GET", "/cases?state=closed", "", 200, `{"cases":[]}`},
			{ofRival, "GET", "/cases", "", 200, `{"cases":[]}`},
			{ofRival, "GET", "/cases?owner=brand", "", 403, "rival only"},
			{ofRival, "GET", "/cases/CASE", "", 403, "rival only"},
			{ofRival, "GET", "/cases/CASE/sheet", "", 403, "rival only"},
			{ofRival, "PUT", "/cases/CASE", `{"title":"x"}`, 403, "rival only"},
			{ofRival, "POST", "/alarms/3/acknowledge", `{"case":CASE}`, 404, "no case with this id"},
			{ofRival, "POST", "/alarms/1/acknowledge", `{"case":0}`, 403, "rival only"},
			{ofBrand, "PUT", "/cases/CASE", `{"title":"x","alarms":[1,3]}`, 404, "no case with this id for this caller and these alarms"},
			{ofBrand, "GET", "/alarms?case=CASE", "", 200, `"case_title":"<script>王","assignee":"Li Na"`},
			{ofBrand, "GET", "/alarms/export", "", 200, ",CASE,<script>王,Li Na\n"},
			{ofBrand, "GET", "/cases/CASE/sheet?format=html", "", 200, `<title>Case CASE: &lt;script&gt;王</title>`},
			{ofBrand, "GET", "/cases/CASE/sheet?format=html&language=zh", "", 200, `<html lang="zh">`},
			{ofBrand, "GET", "/cases/CASE/sheet", "", 200, "%PDF-1.6\n"},
			{ofBrand, "GET", "/cases/CASE/sheet?language=zh", "", 200, "/BaseFont/STSong-Light"},
			{ofBrand, "POST", "/alarms/2/acknowledge", `{"case":0}`, 200, `"id":2`},
			{ofBrand, "GET", "/cases/CASE", "", 200, filled},
			{ofBrand, "PUT", "/cases/CASE", `{` + title + `}`, 200, emptied},
			{ofBrand, "PUT", "/cases/CASE", `{"title":"x","alarms":[]}`, 200, `"alarms":[]`},
			{ofBrand, "GET", "/alarms?case=CASE", "", 200, `"alarms":[]`},
			{ofBrand, "PUT", "/cases/CASE", `{"title":"x","state":"closed"}`, 200, `"state":"closed"`},
			{admin, "GET", "/cases?state=closed", "", 200, `"title":"x"`},
			{admin, "GET", "/cases/9", "", 404, "no case"},
			{admin, "POST", "/cases", `{"title":"both","state":"closed","alarms":[1,3]}`, 200,
				`"account":"","title":"both","state":"closed"`},
			{ofBrand, "GET", "/alarms", "", 200, `"acknowledged_by"`},
			{ofBrand, "POST", "/alarms/1/acknowledge", `{"case":1}`, 404, "no case"},
		} {
			fill := strings.NewReplacer("CASE", "1").Replace
			a := c.call(c.method, fill(c.path), fill(c.body))
			assert.True(t, a.Status == c.status && strings.Contains(a.Body, fill(c.want)), "call %d, %s %s %s: %d %s, want %d %s", i,
				c.method,
				c.path, c.body, a.Status, a.Body, c.status, c.want)
		}

		for format, want := range map[string]string{"pdf": `attachment; filename="qrjump-case.pdf"`,
			"html": `inline; filename="qrjump-case.html"`} {
			a := ofBrand("GET", "/cases/1/sheet?format="+format, "")
			policy := a.Header.Get("Content-Security-Policy")
			assert.True(t, a.Header.Get("Content-Disposition") == want && a.Header.Get("X-Content-Type-Options") == "nosniff" &&
				(format == "pdf" || strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") &&
					strings.HasSuffix(policy, "; sandbox")),
				"headers of the %s report: %v", format, a.Header)
		}

		// The client stores a case under the revision that it read, and empties it.
		operator, err := client.New(w.URL, client.Options{AdminToken: servertest.AdminToken})
		require.NoError(t, err)
		made, err := operator.Alarms.CreateCase(t.Context(), client.NewCase{CasePut: client.CasePut{Title: "c", Alarms: []int64{2}}})
		require.NoError(t, err)
		for _, c := range []struct {
			alarms []int64
			want   int
		}{{nil, 1}, {[]int64{2, 3}, 2}, {[]int64{}, 0}} {
			revised := client.IfMatch(t.Context(), made.Revision)
			now, err := operator.Alarms.UpdateCase(revised, made.ID, client.CasePut{Title: made.Title + "+", Alarms: c.alarms})
			assert.True(t, err == nil && len(now.Alarms) == c.want, "UpdateCase with alarms %v = %v, %v, want %d alarms", c.alarms, now,
				err, c.want)
			_, err = operator.Alarms.UpdateCase(revised, made.ID, client.CasePut{Title: "of the revision before"})
			assert.True(t, client.ChangedMeanwhile(err) != nil, "UpdateCase with the revision before: %v, want ChangedMeanwhile", err)
			made = now
		}
		// The alarms of a case belong to its revision, also in lists, whether the case or the alarm was changed.
		for _, id := range []int64{0, made.ID, 1} {
			_, err := operator.Alarms.Acknowledge(t.Context(), 2, client.Acknowledgement{Case: &id})
			require.NoError(t, err)
			_, err = operator.Alarms.UpdateCase(client.IfMatch(t.Context(), made.Revision), made.ID, client.CasePut{Title: "late",
				Alarms: []int64{3}})
			assert.True(t, id == 0 || client.ChangedMeanwhile(err) != nil, "UpdateCase, alarm 2 in case %d: %v, want ChangedMeanwhile",
				id, err)
			made, err = operator.Alarms.GetCase(t.Context(), made.ID)
			require.NoError(t, err)
			list, err := operator.Alarms.ListCases(t.Context(), client.CaseQuery{Limit: 1})
			assert.True(t, err == nil && list[0].Revision == made.Revision, "the revisions of case %d: %+v, %v, want %s",
				made.ID, list, err, made.Revision)
		}
	})
}
