package chaos_test

import (
	"cmp"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestAPIUsage_KillBetweenWrites kills the server between the writes of its counts
// and of its log of calls: what was written stays, what came since then may be
// lost, and nothing is counted that was not called.
func TestAPIUsage_KillBetweenWrites(t *testing.T) {
	eachBackend(t, func(t *testing.T, database string) {
		seed := fmt.Sprintf("accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]\nsettings: {rule_rate_limit: null}\n",
			secretOf("shop"))
		child := newChild(t, database, seed)
		s := start(t, child)
		// In the middle of a day, and standing still: the end of the real day
		// must not come in between.
		admin := must{connect(t, s.URL, adminToken), t}
		now := admin.now()
		admin.setClock(time.Date(now.Year(), now.Month()+1, 15, 4, 0, 0, 0, time.UTC), true)

		written, made := 0, 0     // calls of qrcodejumpget that count
		var kept, unsure []string // their request ids
		for round := range amount(4, 2) {
			wire := must{connect(t, s.URL, ""), t}
			token := wire.token("shop")
			call := func(c *connection) (rid string, err error) {
				r, err := c.wire("qrcodejumpget", token, map[string]any{"get_type": 9})
				if err == nil && r.ErrCode != 40097 {
					err = fmt.Errorf("%d %s", r.ErrCode, r.ErrMsg)
				}
				_, rid, _ = strings.Cut(r.ErrMsg, " rid: ")
				return rid, err
			}
			for range 30 {
				rid, err := call(wire.connection)
				wire.check(err)
				made++
				kept = append(kept, rid)
			}
			waitUntilWritten(t, s.URL)
			// The write that emptied the log may have begun before the last count.
			until(t, "the counts to be written", func() bool {
				database := cmp.Or(child.Database, "file:"+filepath.Join(child.Data, "qrjump.db")+"?mode=ro&_pragma=busy_timeout(600000)")
				return dbtest.Number(t, database, `SELECT coalesce(max(value), 0) FROM counters WHERE appid = 'shop'
					AND counter = '/cgi-bin/wxopen/qrcodejumpget'`) >= int64(made)
			})
			written = made

			var all sync.WaitGroup
			var mu sync.Mutex
			for range 4 {
				c := connect(t, s.URL, "")
				all.Go(func() {
					for {
						rid, err := call(c)
						mu.Lock()
						made++ // the one without an answer may count too
						if err == nil {
							unsure = append(unsure, rid)
						}
						if len(unsure) == 40*(round+1) {
							s.kill()
						}
						mu.Unlock()
						if err != nil {
							return
						}
					}
				})
			}
			all.Wait()
			s.gone()
			endSessions(t, database)

			s = start(t, child)
			wire = must{connect(t, s.URL, ""), t}
			token = wire.token("shop")
			var quota struct{ Quota struct{ Used int } }
			wire.check(wire.do(http.MethodPost, "/cgi-bin/openapi/quota/get?access_token="+token,
				map[string]any{"cgi_path": "/cgi-bin/wxopen/qrcodejumpget"}, &quota))
			require.True(t, quota.Quota.Used >= written && quota.Quota.Used <= made,
				"round %d: %d calls are counted: %d were written and %d made", round, quota.Quota.Used, written, made)
			find := func(rid string) int {
				var r reply
				wire.check(wire.do(http.MethodPost, "/cgi-bin/openapi/rid/get?access_token="+token, map[string]any{"rid": rid}, &r))
				return r.ErrCode
			}
			for _, rid := range kept {
				if code := find(rid); code != 0 {
					t.Fatalf("round %d: %s was written, and is answered %d", round, rid, code)
				}
			}
			found := 0
			for _, rid := range unsure {
				switch code := find(rid); code {
				case 0:
					found++
				case 76001:
				default:
					t.Fatalf("round %d: %s: %d", round, rid, code)
				}
			}
			t.Logf("round %d: %d counted of %d to %d, %d of %d in the log", round, quota.Quota.Used, written, made, len(kept)+found,
				len(kept)+len(unsure))
			made = quota.Quota.Used
		}
		s.stop()
	})
}

// waitUntilWritten asks until no call waits to be written.
func waitUntilWritten(t *testing.T, base string) {
	t.Helper()
	for {
		_, text := sends(t, http.DefaultClient, http.MethodGet, base+"/metrics", "", "", adminToken)
		if strings.Contains(text, "\nqrjump_call_log_dropped_total 0\n") && strings.Contains(text, "\nqrjump_call_log_queue_length 0\n") {
			return
		}
	}
}
