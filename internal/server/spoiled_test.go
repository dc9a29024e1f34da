package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The first scan of a spoiled code, which was printed a second time, raises one alarm; a voided code and an activation of the whole range
// raise none.
func TestSpoiledCode_ScanRaisesOneAlarm(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, dbtest.Patient, func(t *testing.T, url string) {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		answer := func(method, path, body string) servertest.Answer {
			t.Helper()
			a := s.Admin(method, path, body)
			require.True(t, a.Status/100 == 2, "%s %s: %d %s", method, path, a.Status, a.Body)
			return a
		}
		batch := s.Do("POST", "/intp/marketcode/applycode?access_token="+s.Token("wxserviceacct0001"),
			`{"code_count":10000,"isv_application_id":"order"}`).Number(t, "application_id")
		text := func(index int) string {
			c := answer("POST", "/codes/lookup", fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, batch, index)).Text(t, "code_url")
			s.Hide(c)
			return c
		}
		scan := func(index int) {
			t.Helper()
			assert.Contains(t, s.Do("POST", "/scan/v1/resolve", `{"text":"`+text(index)+`"}`).Body, `"reason":"void"`, "code %d", index)
		}
		answer("POST", fmt.Sprintf("/batches/%d/packages", batch), `{"code_start":0,"code_end":99,"printer":"acme"}`)
		answer("POST", "/packages/1/spoiled", `{"ranges":[{"from":7,"to":9}]}`)
		answer("POST", fmt.Sprintf("/batches/%d/states", batch), `{"action":"void","ranges":[{"from":20,"to":20}]}`)
		answer("POST", fmt.Sprintf("/batches/%d/activations", batch), `{"code_start":0,"code_end":99,"binding":{"activity_name":"a",
			"product_brand":"b","product_title":"t","product_code":"4006381333931","wxa_appid":"wxminiprogram0001","wxa_path":"p"}}`)
		scan(20)
		answer("GET", "/statistics?wait=true", "")
		assert.Equal(t, answer("GET", "/alarms", "").Body, `{"alarms":[],"unacknowledged":0}`+"\n", "before a spoiled code was seen")
		for range 3 {
			scan(8)
			answer("GET", "/statistics?wait=true", "")
		}
		if a := answer("GET", "/alarms?state=open&acknowledged=false", ""); strings.Count(a.Body, `"kind":`) != 1 ||
			!strings.Contains(a.Body, `"kind":"spoiled_code","account":"wxserviceacct0001",`+
				fmt.Sprintf(`"application_id":%d,"code_index":8,`, batch)) {
			t.Errorf("after it: %s", a.Body)
		}
		answer("POST", "/alarms/1/dismiss", `{"note":"read off a photograph of the proof"}`)
		assert.Equal(t, answer("GET", "/alarms?state=open", "").Body, `{"alarms":[],"unacknowledged":0}`+"\n", "dismissed")
		s.Advance(time.Minute)
		scan(8)
		answer("GET", "/statistics?wait=true", "")
		a := answer("GET", "/alarms?state=open", "")
		assert.True(t, strings.Count(a.Body, `"kind":"spoiled_code"`) == 1 && strings.Contains(a.Body, `"id":3,`),
			"a scan after the dismissal: %s", a.Body)
		assert.Contains(t, answer("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}
