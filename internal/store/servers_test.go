package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestServers_CompareTimelines(t *testing.T) {
	v := &servers{highest: map[string]int64{"a": 3, "b": 1}, tied: map[string]bool{"b": true}}
	for name, c := range map[string]struct {
		status serverStatus
		old    bool
	}{
		"the latest timeline":                         {serverStatus{system: "a", timeline: 3}, false},
		"an earlier timeline":                         {serverStatus{system: "a", timeline: 2}, true},
		"a later timeline":                            {serverStatus{system: "a", timeline: 4}, false},
		"a replica":                                   {serverStatus{system: "a"}, false},
		"the timeline of two primaries":               {serverStatus{system: "b", timeline: 1}, true},
		"a later timeline than that of two primaries": {serverStatus{system: "b", timeline: 2}, false},
		"another system":                              {serverStatus{system: "c", timeline: 1}, false},
		"a server without a system identifier":        {serverStatus{timeline: 1}, false},
	} {
		err := v.compare(c.status)
		_, old := errors.AsType[*oldPrimaryError](err)
		assert.True(t, old == c.old, "%s: compare() = %v, want an old primary: %v", name, err, c.old)
	}
}

// TestServers_LaterTimelineFences verifies that two names of a server are one server, and that a record of a later timeline fences it. A
// record of another system, from which the rows were copied, does not.
func TestServers_LaterTimelineFences(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	u := require.Value(url.Parse(target.URL))(t)
	u.Host = "127.0.0.1:" + u.Port() + ",localhost:" + u.Port()
	target.URL = u.String()
	s := open(t, target)
	change := func(host string) error {
		return s.update(t.Context(), func(tx *Tx) error {
			return tx.rules().PutDomain(t.Context(), rules.Domain{Host: host, Status: rules.Denied})
		})
	}
	found := s.AskServers(t.Context())
	assert.True(t, len(found.Writing) == 1 && found.Primaries() == 1 && found.Writing[0].Timeline != 0,
		"AskServers() = %+v, want one primary", found)
	recordTimeline := func(system string) {
		dbtest.Exec(t, target.URL, `INSERT INTO timelines (system, timeline) VALUES (`+system+`, 99)
			ON CONFLICT (system) DO UPDATE SET timeline = 99`)
	}
	recordTimeline(`'another'`)
	found = s.AskServers(t.Context())
	assert.True(t, found.Missing == 0 && change("a.example") == nil,
		"servers with a record of another system = %+v, or a change fails", found)
	// Scans are not stored if a new connection has a later timeline before their commit.
	second := open(t, target)
	scans := require.Value(second.OpenScans(t.Context(), ScansOptions{Random: newRandom(), Now: func() time.Time { return t0 },
		Log: slog.New(slog.DiscardHandler)}))(t)
	primary := second.AskServers(t.Context()).Writing[0]
	err := scans.insert(t.Context(), newScans(0, 3), func(pgx.Tx) error {
		second.servers.raise(primary.system, primary.Timeline+1)
		return nil
	})
	_, old := errors.AsType[*oldPrimaryError](err)
	assert.True(t, old, "insert() on an old primary = %v, want an old primary", err)
	assert.Equal(t, dbtest.QueryInt(t, target.URL, `SELECT COUNT(*) FROM scan_events`), 0, "scans on an old primary")
	second.Close()
	const system = `(SELECT system_identifier FROM pg_control_system())`
	late := s.update(t.Context(), func(tx *Tx) error {
		recordTimeline(system)
		found := s.AskServers(t.Context())
		assert.True(t, found.Missing == 99 && found.Primaries() == 2 && found.Writing[0].Old,
			"servers with a record of a later timeline = %+v", found)
		return tx.rules().PutDomain(t.Context(), rules.Domain{Host: "b.example", Status: rules.Denied})
	})
	for name, err := range map[string]error{"a change": change("c.example"), "a change that began before": late,
		"Ping()": s.Ping(t.Context())} {
		outage, ok := errors.AsType[*errcode.Unavailable](err)
		assert.True(t, ok && strings.HasPrefix(outage.Condition, oldDatabase) && causeOf(outage.Condition) == "primaries",
			"%s on an old primary = %v, want an outage", name, err)
	}
	assert.Equal(t, dbtest.QueryInt(t, target.URL, `SELECT COUNT(*) FROM domains`), 1, "changes stored")
	_, err = Open(t.Context(), target)
	assert.True(t, err != nil && strings.Contains(err.Error(), oldDatabase), "Open() on an old primary = %v", err)
	// The master key is not rotated on an old primary, also if the server becomes one meanwhile.
	s.Close()
	_, err = OpenAlone(t.Context(), target)
	assert.True(t, err != nil && strings.Contains(err.Error(), oldDatabase), "OpenAlone() on an old primary = %v", err)
	dbtest.Exec(t, target.URL, `DELETE FROM timelines WHERE timeline = 99`)
	dbtest.Exec(t, target.URL, `INSERT INTO sealing_keys (name, sealed) VALUES ('one', 'old')`)
	alone := openAlone(t, target)
	_, err = alone.Reseal(t.Context(), func(string, string) (string, error) {
		recordTimeline(system)
		alone.AskServers(t.Context())
		return "new", nil
	}, func(_, old string) (string, error) { return old, nil })
	_, old = errors.AsType[*oldPrimaryError](err)
	assert.True(t, old, "Reseal() on a server that becomes an old primary = %v", err)
	assert.Equal(t, dbtest.QueryInt(t, target.URL, `SELECT COUNT(*) FROM sealing_keys WHERE sealed = 'old'`), 1,
		"keys that are not resealed")
	if err := fmt.Sprint(late); len(err) > 0 && strings.Contains(err, "\n") {
		t.Errorf("error = %q, want one line", err)
	}
}

func TestServers_SelectPrimary(t *testing.T) {
	server := func(system string, timeline int64, started string) *polled {
		return &polled{serverStatus: serverStatus{system: system, timeline: timeline, started: started}}
	}
	for name, c := range map[string]struct {
		all     []*polled
		writing int
		tied    bool
	}{
		"one primary":                     {[]*polled{server("a", 1, "x")}, 1, false},
		"a primary and a silent server":   {[]*polled{nil, server("a", 1, "x")}, 1, false},
		"a primary and its replica":       {[]*polled{server("a", 1, "x"), server("a", 0, "y")}, 1, false},
		"a primary with two names":        {[]*polled{server("a", 1, "x"), server("a", 1, "x")}, 1, false},
		"an old primary":                  {[]*polled{server("a", 1, "x"), server("a", 2, "y")}, 2, false},
		"two on one timeline":             {[]*polled{server("a", 2, "x"), server("a", 2, "y"), server("a", 1, "z")}, 3, true},
		"two on an old timeline":          {[]*polled{server("a", 1, "x"), server("a", 1, "y"), server("a", 2, "z")}, 3, false},
		"two systems":                     {[]*polled{server("a", 1, "x"), server("b", 1, "y")}, 2, false},
		"two without a system identifier": {[]*polled{server("", 1, "x"), server("", 1, "y")}, 0, false},
	} {
		writing, highest, tied := primaries(c.all)
		assert.True(t, len(writing) == c.writing && tied["a"] == c.tied && len(tied) <= 1,
			"%s: primaries() = %v, %v, %v, want %d primaries", name, writing, highest, tied, c.writing)
	}
}

// TestServers_NameWithManyAddresses verifies that all addresses of a host name are polled, and that the name is silent if none responds.
func TestServers_NameWithManyAddresses(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	config := s.servers.configs[0]
	addresses := []string{config.Host, "127.0.0.77"} // nothing listens on the second
	config.Host = "name.example"
	config.LookupFunc = func(context.Context, string) ([]string, error) { return addresses, nil }
	configs := s.servers.addressed(t.Context())
	require.Equal(t, len(configs), 2, "addresses")
	responses := s.servers.hearAll(t.Context(), configs, askTime)
	assert.True(t, responses[0] != nil && responses[1] == nil, "responses = %v, want one from the first address", responses)
	for _, h := range responses {
		if h != nil {
			closeAbruptly(h.conn)
		}
	}
	found := s.AskServers(t.Context())
	assert.True(t, len(found.Writing) == 1 && len(found.Silent) == 0, "AskServers() = %+v, want a primary", found)
	addresses = addresses[1:]
	found = s.AskServers(t.Context())
	assert.True(t, len(found.Writing) == 0 && len(found.Silent) == 1, "AskServers() = %+v, want a silent server", found)
}

// TestServers_HangingHostTimeout verifies that a poll waits for a server that hangs only until the timeout after the first response.
func TestServers_HangingHostTimeout(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and sends nothing
	require.NoError(t, err)
	defer hanging.Close()
	config := s.servers.configs[0].Copy()
	config.Port, config.ConnectTimeout = uint16(hanging.Addr().(*net.TCPAddr).Port), 0
	responses := s.servers.hearAll(t.Context(), []*pgx.ConnConfig{config, s.servers.configs[0]}, time.Millisecond)
	require.True(t, responses[0] == nil && responses[1] != nil, "responses = %v, want one from the second server", responses)
	closeAbruptly(responses[1].conn)
}

// TestServers_RestartedBetweenPolls verifies isRunning, which detects a server that restarted between the polls by its two names, after
// which two servers seem to have responded.
func TestServers_RestartedBetweenPolls(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	s := open(t, target)
	h := s.servers.hear(t.Context(), s.servers.configs[0])
	require.True(t, h != nil && h.isRunning(t.Context()), "isRunning() of a running server = false, want true")
	defer closeAbruptly(h.conn)
	mustExecConn(t, connectAdmin(t, target), fmt.Sprintf(`SELECT pg_terminate_backend(%d, 600000)`, h.conn.PgConn().PID()))
	assert.True(t, !h.isRunning(t.Context()), "isRunning() of a server that ended = true, want false")
}

// TestServers_PromotedStandbyRechecked verifies that a connection to a standby is replaced after the standby is promoted.
func TestServers_PromotedStandbyRechecked(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	conn := require.Value(pgx.ConnectConfig(t.Context(), s.servers.configs[0]))(t)
	defer conn.Close(t.Context())
	for name, c := range map[string]struct {
		status serverStatus
		want   error
	}{
		"a standby at the start, now a primary": {serverStatus{system: "a"}, driver.ErrBadConn},
		"a primary at the start and now":        {serverStatus{system: "a", timeline: 1}, nil},
		"a server without a status":             {serverStatus{}, nil},
	} {
		conn.PgConn().CustomData()[statusKey] = c.status
		assert.Equal(t, usable(conn, s.servers), c.want, "usable() of %s", name)
	}
}
