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

// metricOf is the value of one line of GET /metrics.
func metricOf(t *testing.T, s *servertest.Server, name string) float64 {
	t.Helper()
	for line := range strings.Lines(s.Do("GET", "/metrics", "", "Authorization: Bearer "+servertest.AdminToken).Body) {
		if value, is := strings.CutPrefix(line, name+" "); is {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// wants compares metrics.
func wants(t *testing.T, s *servertest.Server, when string, metrics map[string]float64) {
	t.Helper()
	for name, want := range metrics {
		assert.Equal(t, metricOf(t, s, name), want, "%s: %s", when, name)
	}
}

// Issue 29, 3: what waits for webhooks, and for how long; a webhook that is off waits for nothing.
func TestMetrics_WebhookBacklog(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		s := where(t).start(t, servertest.Options{Seed: brand, Outbound: &safehttp.Client{}})
		wants(t, s, "at the start", map[string]float64{`qrjump_ready{kind="scan"}`: 1, `qrjump_ready{kind="change"}`: 1,
			"qrjump_nodes_unreachable": 0, `qrjump_outbox_pending{queue="deliveries"}`: 0,
			`qrjump_outbox_oldest_age_seconds{queue="pushes"}`: 0})
		for _, name := range []string{"go_memstats_heap_inuse_bytes", "process_cpu_seconds_total", "process_max_fds", "process_open_fds",
			"process_resident_memory_bytes"} { // the dashboard shows them
			assert.True(t, metricOf(t, s, name) > 0, "%s is 0", name)
		}
		most := metricOf(t, s, "qrjump_db_connections_max")
		assert.True(t, !(most < 2), "at most %v connections", most)
		away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
		defer away.Close()
		s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
		var made struct {
			Webhook struct{ ID int64 }
			Secret  string
		}
		s.Admin("POST", "/webhooks", fmt.Sprintf(`{"url":%q,"alarms":true}`, away.URL)).JSON(t, &made)
		s.Hide(made.Secret)
		s.Admin("POST", fmt.Sprintf("/webhooks/%d/test", made.Webhook.ID), "")
		eventually(t, "a delivery that waits", func() bool { return metricOf(t, s, `qrjump_outbox_pending{queue="deliveries"}`) == 1 })
		s.Clock.Step(time.Minute)
		age := metricOf(t, s, `qrjump_outbox_oldest_age_seconds{queue="deliveries"}`)
		assert.True(t, !(age < 60), "the oldest waits for %v s", age)
		s.Admin("PUT", fmt.Sprintf("/webhooks/%d", made.Webhook.ID), fmt.Sprintf(`{"url":%q,"alarms":true,"enabled":false}`, away.URL))
		wants(t, s, "switched off", map[string]float64{`qrjump_outbox_pending{queue="deliveries"}`: 0,
			`qrjump_outbox_oldest_age_seconds{queue="deliveries"}`: 0})
	})
}

// Issue 29, 3: a change that waits for a lock in vain is counted as such, and the node stays ready; a node that is not heard of
// is counted by the others.
func TestMetrics_MultipleNodes(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	p.database = dbtest.WithOption(p.database, "lock_timeout", "100ms")
	s := p.start(t, servertest.Options{Seed: brand})
	const refused = `qrjump_db_write_errors_total{cause="lock"}`
	before := metricOf(t, s, refused)
	db, err := sql.Open("pgx", p.database)
	require.NoError(t, err)
	defer db.Close()
	tx, err := db.Begin()
	require.NoError(t, err)
	require.NoError(t, assert.ErrorOf(tx.Exec(`SELECT 1 FROM audit_log_head FOR UPDATE`)))
	s.Do("PUT", "/admin/v1/settings", `{"publish_quota":7}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json").WantStatus(t, 503, "a change while the log is locked")
	after := metricOf(t, s, refused)
	assert.True(t, !(after <= before), "%s is %v, it was %v", refused, after, before)
	wants(t, s, "while a lock is held", map[string]float64{`qrjump_ready{kind="scan"}`: 1, `qrjump_ready{kind="change"}`: 1})
	require.NoError(t, tx.Rollback())

	two := p.secondOf(t).start(t, servertest.Options{Seed: brand})
	wants(t, s, "beside another node", map[string]float64{"qrjump_nodes_unreachable": 0})
	two.Stop()
	wants(t, s, "after it stopped in order", map[string]float64{"qrjump_nodes_unreachable": 0})
	dbtest.Exec(t, p.database, fmt.Sprintf(`INSERT INTO scan_nodes (node, name, acked_request, last_offset, shipped_offset, stopped_cleanly, last_seen_at)
		SELECT 'dead', 'another', acked_request, last_offset, shipped_offset, 0, last_seen_at - %d FROM scan_nodes`, (6*time.Minute).Milliseconds()))
	wants(t, s, "after it died", map[string]float64{"qrjump_nodes_unreachable": 1})
}
