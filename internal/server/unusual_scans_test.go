package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

// TestAlarms_UnusualState scans codes before their activation and after their redemption, with as many users as raise an alarm at 100
// points (11) and with one fewer.
func TestAlarms_UnusualState(t *testing.T) {
	t.Parallel()
	dbtest.OnEach(t, storetest.Postgres, func(t *testing.T, url string) {
		w := brew(t, servertest.Options{Config: func(c *server.Config) { c.Database = url }})
		id := w.apply("x", 10_000)
		scan := func(index, users int) {
			t.Helper()
			for user := range users {
				w.ask("resolve", fmt.Sprintf("user %d of %d", user, index), w.code(id, int64(index)).CodeURL)
			}
			w.Admin("GET", "/statistics?wait=true", "")
			w.Advance(time.Minute)
		}
		redeem := func(index int) {
			t.Helper()
			a := w.states(id, fmt.Sprintf(`{"action":"redeem","ranges":[{"from":%d,"to":%[1]d}]}`, index))
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
		w.Admin("PUT", fmt.Sprintf("/batches/%d/alarm", id), `{"off":true}`)
		scan(20, 12)
		assert.Equal(t, count(), 2, "open alarms after 12 users of a batch without alarms")
		assert.Contains(t, w.Admin("POST", "/statistics/recount", "").Body, `"difference_count":0`, "a recount")
	})
}
