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
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// The first scan of a spoiled code, which was printed a second time, raises one alarm; a voided code and an activation of the whole range
// raise none.
func TestSpoiledCode_ScanRaisesOneAlarm(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, url string) {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		batch := s.Apply("wxserviceacct0001", "order", 10_000)
		scan := func(index int64) {
			t.Helper()
			text := s.CodeText(batch, index)
			s.Hide(text)
			assert.Contains(t, s.Do("POST", "/scan/v1/resolve", `{"text":"`+text+`"}`).Body, `"reason":"void"`, "code %d", index)
		}
		s.Admin("POST", fmt.Sprintf("/batches/%d/packages", batch), `{"code_start":0,"code_end":99,"printer":"acme"}`)
		s.Admin("POST", "/packages/1/spoiled", `{"ranges":[{"from":7,"to":9}]}`)
		s.Admin("POST", fmt.Sprintf("/batches/%d/states", batch), `{"action":"void","ranges":[{"from":20,"to":20}]}`)
		s.Activate(batch, 0, 99, "wxminiprogram0001")
		scan(20)
		s.Admin("GET", "/statistics?wait=true", "")
		assert.Equal(t, s.Admin("GET", "/alarms", "").Body, `{"alarms":[],"unacknowledged":0}`+"\n", "before a spoiled code was seen")
		for range 3 {
			scan(8)
			s.Admin("GET", "/statistics?wait=true", "")
		}
		if a := s.Admin("GET", "/alarms?state=open&acknowledged=false", ""); strings.Count(a.Body, `"kind":`) != 1 ||
			!strings.Contains(a.Body, `"kind":"spoiled_code","account":"wxserviceacct0001",`+
				fmt.Sprintf(`"application_id":%d,"code_index":8,`, batch)) {
			t.Errorf("after it: %s", a.Body)
		}
		s.Admin("POST", "/alarms/1/dismiss", `{"note":"read off a photograph of the proof"}`)
		assert.Equal(t, s.Admin("GET", "/alarms?state=open", "").Body, `{"alarms":[],"unacknowledged":0}`+"\n", "dismissed")
		s.Advance(time.Minute)
		scan(8)
		s.Admin("GET", "/statistics?wait=true", "")
		a := s.Admin("GET", "/alarms?state=open", "")
		assert.True(t, strings.Count(a.Body, `"kind":"spoiled_code"`) == 1 && strings.Contains(a.Body, `"id":3,`),
			"a scan after the dismissal: %s", a.Body)
		assert.Contains(t, s.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}
