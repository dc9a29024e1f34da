package server_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// TestAlarms_UnusualState scans codes before their activation and after their redemption: 11 users reach the threshold of 100 points and
// must raise an alarm, 10 users must not.
func TestAlarms_UnusualState(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		w := startBrand(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		id := w.apply("x", 10_000)
		scan := func(index, users int) {
			t.Helper()
			for user := range users {
				w.callScan("resolve", fmt.Sprintf("user %d of %d", user, index), w.code(id, int64(index)).CodeURL)
			}
			w.Admin("GET", "/statistics?wait=true", "")
			w.Advance(time.Minute)
		}
		redeem := func(index int) {
			t.Helper()
			a := w.changeStates(id, fmt.Sprintf(`{"action":"redeem","ranges":[{"from":%d,"to":%[1]d}]}`, index))
			require.True(t, a.Status == http.StatusOK, "redeem code %d: %d %s", index, a.Status, a.Body)
			w.Advance(time.Minute)
		}
		deactivate := func(index int) {
			w.Admin("POST", fmt.Sprintf("/batches/%d/deactivations", id), fmt.Sprintf(`{"ranges":[{"from":%d,"to":%[1]d}]}`, index))
		}
		activate := func(index int) { w.activate(id, int64(index), int64(index)) }
		for i, c := range []struct {
			name string
			do   func(index int)
			want string // the kind of the alarm; "" = none
		}{
			{"11 users before the activation", func(i int) { scan(i, 11) }, "before_activation"},
			{"10 users before the activation", func(i int) { scan(i, 10); activate(i); scan(i, 10) }, ""},
			{"one user eleven times", func(i int) {
				for range 11 {
					scan(i, 1)
				}
			}, ""},
			{"deactivated", func(i int) { activate(i); deactivate(i); scan(i, 12) }, ""},
			{"11 users after the redemption", func(i int) { activate(i); scan(i, 3); redeem(i); scan(i, 11) }, "after_redemption"},
			{"10 users after the redemption", func(i int) { activate(i); redeem(i); scan(i, 10) }, ""},
			{"12 users before the redemption", func(i int) { activate(i); scan(i, 12); redeem(i); scan(i, 2) }, ""},
		} {
			c.do(i)
			body := w.Admin("GET", "/alarms?state=open", "").Body
			found := strings.Count(body, fmt.Sprintf(`"code_index":%d,`, i))
			assert.True(t, (c.want != "" || found == 0) && (c.want == "" || found == 1 &&
				strings.Contains(body, fmt.Sprintf(`"kind":%q,"account":"brand","application_id":%d,"code_index":%d,`, c.want, id, i))),
				"%s: alarms %s, want kind %q for code %d", c.name, body, c.want, i)
		}
		a := w.Admin("GET", "/alarms", "")
		assert.True(t, strings.Contains(a.Body, `"users_before_activation":11`) && strings.Contains(a.Body, `"score":100`) &&
			strings.Contains(a.Body, "11 different people scanned it after it was redeemed."), "the alarms say %s", a.Body)

		// 13 users are more than two thirds of the threshold.
		scan(1, 13)
		for index, stage := range []string{`"stage":"suspicious"`, `"stage":"watch"`, `"threshold":100}`, `"threshold":100}`,
			`"stage":"suspicious"`} {
			a := w.Admin("GET", fmt.Sprintf("/batches/%d/codes/%d/scans", id, index), "")
			assert.True(t, strings.Contains(a.Body, stage), "the scans of code %d: %s, want %s", index, a.Body, stage)
		}

		// Two alarms are open. A dismissal restarts the count: the same ten users and one more are too few for the next alarm.
		w.Admin("POST", "/alarms/1/dismiss", `{"note":"samples at the fair"}`)
		w.Advance(time.Minute)
		scan(0, 10)
		count := func() int { return strings.Count(w.Admin("GET", "/alarms?state=open", "").Body, `"kind":`) }
		assert.Equal(t, count(), 1, "open alarms after the dismissal and ten users")
		scan(0, 11)
		assert.Equal(t, count(), 2, "open alarms after eleven users")

		// Code 30 has the highest score, but its alarm was dismissed; 13 more users bring it near an alarm again.
		activate(30)
		scan(30, 40)
		wantWatched := func(query, want string) {
			t.Helper()
			a := w.Admin("GET", "/alarms?state=watch"+query, "")
			got := strings.Join(regexp.MustCompile(`"code_index":\d+`).FindAllString(a.Body, -1), " ")
			assert.True(t, a.Status == http.StatusOK && got == want &&
				strings.Count(a.Body, `{"id":0,"kind":"copied","account":"brand",`) == strings.Count(a.Body, `"state":"watch"`),
				"codes to watch%s: %d %s, want %s", query, a.Status, a.Body, want)
		}
		wantWatched("", `"code_index":1`)
		w.Admin("POST", fmt.Sprintf("/alarms/%s/dismiss", regexp.MustCompile(`"id":(\d+)`).FindStringSubmatch(
			w.Admin("GET", "/alarms?newest=true", "").Body)[1]), `{"note":"on show"}`)
		w.Advance(time.Minute)
		wantWatched("&limit=1", `"code_index":1`)
		scan(30, 15)
		wantWatched("", `"code_index":30 "code_index":1`)
		wantWatched("&limit=1&owner=brand", `"code_index":30`)
		wantWatched("&acknowledged=true", "")
		wantWatched(fmt.Sprint("&application_id=", id+1), "")
		assert.Contains(t, w.Admin("GET", "/alarms/export?state=watch", "").Body, fmt.Sprintf("\n0,copied,%d,30,", id), "the file")
		w.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", id), `{"threshold":110}`)
		wantWatched("", `"code_index":30`) // 76 points and 69 points
		w.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", id), `{"off":true}`)
		wantWatched("", "")
		scan(20, 12)
		assert.Equal(t, count(), 2, "open alarms after 12 users of a batch without alarms")
		assert.Contains(t, w.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}

// TestAlarms_Window raises the alarms of an hour: 32 unknown texts under a prefix, or 32 codes scanned by a user, have 100 points.
func TestAlarms_Window(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		w := startBrand(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		id := w.apply("x", 10_000)
		alarms := func() string {
			w.Admin("GET", "/statistics?wait=true", "")
			return w.Admin("GET", "/alarms", "").Body
		}
		scan := func(from, to int) {
			text := w.code(id, 0).CodeURL
			for i := from; i < to; i++ {
				w.callScan("resolve", "trader", w.code(id, int64(i)).CodeURL)
				w.callScan("resolve", "", text[:len(text)-2]+codes.Alphabet[i/8:i/8+1]+codes.Alphabet[i%8+8:i%8+9])
				w.callScan("resolve", "", text[:len(text)-2]+"!!") // no text of a code
			}
		}
		watched := func() string { return w.Admin("GET", "/alarms?state=watch", "").Body }
		scan(0, 10)
		assert.True(t, strings.Contains(alarms(), `"alarms":[]`) && strings.Contains(watched(), `"alarms":[]`), "after 10 scans")
		scan(0, 31)
		scan(0, 31)
		assert.Contains(t, alarms(), `{"alarms":[],"unacknowledged":0}`, "31 codes and 31 unknown texts, each twice")
		near := watched()
		assert.True(t, strings.Count(near, `{"id":0,"kind":`) == 2 && strings.Count(near, `"score":99,`) == 2 &&
			strings.Count(near, `"state":"watch"`) == 2 && strings.Contains(near, `"unknown_texts":31`) &&
			strings.Contains(near, `"codes":31`), "near an alarm: %s", near)
		scan(31, 39)
		list := alarms()
		assert.Contains(t, watched(), `"alarms":[]`, "both have an alarm")
		assert.Equal(t, strings.Count(list, `"code_index":-1`), 2, "alarms after 39 codes and 39 unknown texts: %s", list)
		assert.True(t, strings.Contains(list, fmt.Sprintf(" different codes of application %d.", id)) &&
			strings.Contains(list, `"account":"brand"`) && strings.Contains(list, `"unknown_texts":3`) &&
			strings.Contains(list, `"window_start":"2026-01-15T02:00:00Z","prefix":"P.URL.CN/"`), "the alarms say %s", list)
		assert.Contains(t, w.Admin("GET", "/alarms/export?language=zh", "").Body, "个前缀或模板为 P.URL.CN/、却不属于任何码的文本", "CSV")
		for _, id := range regexp.MustCompile(`"id":(\d+)`).FindAllStringSubmatch(list, -1) {
			w.Admin("POST", "/alarms/"+id[1]+"/dismiss", `{"note":"stocktaking"}`)
		}
		scan(39, 45)
		alarms()
		assert.Contains(t, watched(), `"alarms":[]`, "dismissed in this hour")
		w.Advance(time.Hour)
		scan(0, 12)
		alarms()
		assert.Equal(t, strings.Count(watched(), `"score":71,`), 2, "in the next hour: %s", watched())
		w.Advance(time.Hour)
		assert.Contains(t, watched(), `"alarms":[]`, "two hours later")
		assert.Contains(t, w.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}

// TestSpoiledCode_ScanRaisesOneAlarm verifies that scans of a spoiled code raise one alarm, and scans of a voided code none.
func TestSpoiledCode_ScanRaisesOneAlarm(t *testing.T) {
	t.Parallel()
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		batch := s.Apply("wxserviceacct0001", "order", 10_000)
		scan := func(index int64) {
			t.Helper()
			text := s.CodeText(batch, index)
			s.RegisterSecret(text)
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
			!strings.Contains(a.Body, `"kind":"spoiled","account":"wxserviceacct0001",`+
				fmt.Sprintf(`"application_id":%d,"code_index":8,`, batch)) {
			t.Errorf("after it: %s", a.Body)
		}
		s.Admin("POST", "/alarms/1/dismiss", `{"note":"read off a photograph of the proof"}`)
		assert.Equal(t, s.Admin("GET", "/alarms?state=open", "").Body, `{"alarms":[],"unacknowledged":0}`+"\n", "dismissed")
		s.Advance(time.Minute)
		scan(8)
		s.Admin("GET", "/statistics?wait=true", "")
		a := s.Admin("GET", "/alarms?state=open", "")
		assert.True(t, strings.Count(a.Body, `"kind":"spoiled"`) == 1 && strings.Contains(a.Body, `"id":3,`),
			"a scan after the dismissal: %s", a.Body)
		assert.Contains(t, s.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}
