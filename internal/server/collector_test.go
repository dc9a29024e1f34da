package server_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// readMetric returns the value of a metric in GET /metrics.
func readMetric(t *testing.T, s *servertest.Server, name string) float64 {
	t.Helper()
	for line := range strings.Lines(s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return require.Value(strconv.ParseFloat(strings.TrimSpace(value), 64))(t)
		}
	}
	t.Fatalf("GET /metrics has no %s", name)
	return 0
}

// wantMetrics compares the values of metrics.
func wantMetrics(t *testing.T, s *servertest.Server, when string, metrics map[string]float64) {
	t.Helper()
	for name, want := range metrics {
		assert.Equal(t, readMetric(t, s, name), want, "%s: %s", when, name)
	}
}

// TestMetrics_WebhookBacklog verifies the metrics of pending deliveries and of their age, and that a disabled webhook has no backlog.
func TestMetrics_WebhookBacklog(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		s := newInstance(t).start(t, servertest.Options{Seed: brand, Outbound: &safehttp.Client{}})
		wantMetrics(t, s, "at the start", map[string]float64{`qrjump_ready{kind="scan"}`: 1, `qrjump_ready{kind="change"}`: 1,
			"qrjump_nodes_unreachable": 0, `qrjump_outbox_pending{queue="deliveries"}`: 0,
			`qrjump_outbox_oldest_age_seconds{queue="pushes"}`: 0})
		for _, name := range []string{"go_memstats_heap_inuse_bytes", "process_cpu_seconds_total", "process_max_fds", "process_open_fds",
			"process_resident_memory_bytes"} { // the dashboard shows them
			assert.True(t, readMetric(t, s, name) > 0, "%s = 0, want more", name)
		}
		maxConnections := readMetric(t, s, "qrjump_db_connections_max")
		assert.True(t, maxConnections >= 2, "qrjump_db_connections_max = %v, want at least 2", maxConnections)
		backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }))
		defer backend.Close()
		s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
		var hook struct {
			Webhook struct{ ID int64 }
			Secret  string
		}
		s.Admin("POST", "/webhooks", fmt.Sprintf(`{"url":%q,"alarms":true}`, backend.URL)).JSON(t, &hook)
		s.RegisterSecret(hook.Secret)
		s.Admin("POST", fmt.Sprintf("/webhooks/%d/test", hook.Webhook.ID), "")
		eventually(t, "a pending delivery", func() bool { return readMetric(t, s, `qrjump_outbox_pending{queue="deliveries"}`) == 1 })
		s.Clock.Step(time.Minute)
		age := readMetric(t, s, `qrjump_outbox_oldest_age_seconds{queue="deliveries"}`)
		assert.True(t, age >= 60, "age of the oldest delivery = %v s, want at least 60", age)
		s.Admin("PUT", fmt.Sprintf("/webhooks/%d", hook.Webhook.ID), fmt.Sprintf(`{"url":%q,"alarms":true,"enabled":false}`, backend.URL))
		wantMetrics(t, s, "switched off", map[string]float64{`qrjump_outbox_pending{queue="deliveries"}`: 0,
			`qrjump_outbox_oldest_age_seconds{queue="deliveries"}`: 0})
	})
}

// TestMetrics_MultipleNodes verifies that a change that times out waiting for a lock counts as a lock error while the node stays ready, and
// that the other nodes count a node that no longer reports as unreachable.
func TestMetrics_MultipleNodes(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	p.database = dbtest.WithOption(p.database, "lock_timeout", "100ms")
	s := p.start(t, servertest.Options{Seed: brand})
	const lockErrors = `qrjump_db_write_errors_total{cause="lock"}`
	before := readMetric(t, s, lockErrors)
	db := require.Value(sql.Open("pgx", p.database))(t)
	defer db.Close()
	tx := require.Value(db.Begin())(t)
	require.NoError(t, assert.ErrorOf(tx.Exec(`SELECT 1 FROM audit_log_head FOR UPDATE`)))
	s.TryAdmin("PUT", "/settings", `{"publish_quota":7}`).WantStatus(t, 503, "a change while the log is locked")
	after := readMetric(t, s, lockErrors)
	assert.True(t, after > before, "%s = %v, want more than %v", lockErrors, after, before)
	wantMetrics(t, s, "while a lock is held", map[string]float64{`qrjump_ready{kind="scan"}`: 1, `qrjump_ready{kind="change"}`: 1})
	require.NoError(t, tx.Rollback())

	second := p.addNode(t).start(t, servertest.Options{Seed: brand})
	wantMetrics(t, s, "with a second node", map[string]float64{"qrjump_nodes_unreachable": 0})
	second.Stop()
	wantMetrics(t, s, "after it stopped cleanly", map[string]float64{"qrjump_nodes_unreachable": 0})
	dbtest.Exec(t, p.database, fmt.Sprintf(`INSERT INTO scan_nodes (node, name, acked_request, last_offset, shipped_offset, stopped_cleanly, last_seen_at)
		SELECT 'dead', 'another', acked_request, last_offset, shipped_offset, 0, last_seen_at - %d FROM scan_nodes`, (6*time.Minute).Milliseconds()))
	wantMetrics(t, s, "after it died", map[string]float64{"qrjump_nodes_unreachable": 1})
}
