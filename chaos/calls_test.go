package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestAPIUsage_KillBetweenWrites kills the server between two flushes of its API usage counts and its request log: flushed values survive,
// later values may be lost, and no call is counted that was never made.
func TestAPIUsage_KillBetweenWrites(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		seed := fmt.Sprintf("accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]\nsettings: {rule_rate_limit: null}\n",
			secretOf("shop"))
		child := newChild(t, database, seed)
		s := start(t, child)
		mustConnect(t, s.URL, adminToken).freezeNextMonth(4)

		flushed, called := 0, 0           // numbers of calls of qrcodejumpget
		var flushedIDs, laterIDs []string // their request ids
		for round := range choose(4, 2) {
			wire := mustConnect(t, s.URL, "")
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
				called++
				flushedIDs = append(flushedIDs, rid)
			}
			waitFor(t, "the request log to be flushed", func() bool {
				text := mustSend(t, http.MethodGet, s.URL+"/metrics", "", "", adminToken).body
				return strings.Contains(text, "\nqrjump_call_log_dropped_total 0\n") &&
					strings.Contains(text, "\nqrjump_call_log_queue_length 0\n")
			})
			// The flush that emptied the queue may have begun before the last count.
			waitFor(t, "the counts to be flushed", func() bool {
				return dbtest.QueryInt(t, child.databaseURL(), `SELECT coalesce(max(value), 0) FROM counters WHERE appid = 'shop'
					AND counter = '/cgi-bin/wxopen/qrcodejumpget'`) >= int64(called)
			})
			flushed = called

			var clients sync.WaitGroup
			var mu sync.Mutex
			for range 4 {
				c := connect(t, s.URL, "")
				clients.Go(func() {
					for {
						rid, err := call(c)
						mu.Lock()
						called++ // a call without a response may be counted, too
						if err == nil {
							laterIDs = append(laterIDs, rid)
						}
						if len(laterIDs) == 40*(round+1) {
							s.kill()
						}
						mu.Unlock()
						if err != nil {
							return
						}
					}
				})
			}
			clients.Wait()
			s = s.restart(child)
			wire = mustConnect(t, s.URL, "")
			token = wire.token("shop")
			var quota struct{ Quota struct{ Used int } }
			wire.check(wire.do(http.MethodPost, "/cgi-bin/openapi/quota/get?access_token="+token,
				map[string]any{"cgi_path": "/cgi-bin/wxopen/qrcodejumpget"}, &quota))
			require.True(t, quota.Quota.Used >= flushed && quota.Quota.Used <= called,
				"round %d: %d calls are counted, want %d (flushed) to %d (made)", round, quota.Quota.Used, flushed, called)
			find := func(rid string) int {
				var r reply
				wire.check(wire.do(http.MethodPost, "/cgi-bin/openapi/rid/get?access_token="+token, map[string]any{"rid": rid}, &r))
				return r.ErrCode
			}
			for _, rid := range flushedIDs {
				require.Equal(t, find(rid), 0, "round %d: errcode of rid/get for the flushed request %s", round, rid)
			}
			found := 0
			for _, rid := range laterIDs {
				switch code := find(rid); code {
				case 0:
					found++
				case 76001:
				default:
					t.Fatalf("round %d: rid/get(%s) = %d, want 0 or 76001", round, rid, code)
				}
			}
			t.Logf("round %d: %d counted of %d to %d, %d of %d in the log", round, quota.Quota.Used, flushed, called,
				len(flushedIDs)+found, len(flushedIDs)+len(laterIDs))
			called = quota.Quota.Used
		}
		s.stop()
	})
}
