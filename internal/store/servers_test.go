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
		of  serverStatus
		old bool
	}{
		"the latest timeline":                  {serverStatus{system: "a", timeline: 3}, false},
		"an earlier one":                       {serverStatus{system: "a", timeline: 2}, true},
		"a later one":                          {serverStatus{system: "a", timeline: 4}, false},
		"a replica":                            {serverStatus{system: "a"}, false},
		"one timeline of two servers":          {serverStatus{system: "b", timeline: 1}, true},
		"a later one than that of two servers": {serverStatus{system: "b", timeline: 2}, false},
		"another system":                       {serverStatus{system: "c", timeline: 1}, false},
		"a server that does not say which system it has": {serverStatus{timeline: 1}, false},
	} {
		err := v.compare(c.of)
		_, is := errors.AsType[*oldPrimaryError](err)
		assert.True(t, is == c.old, "%s: %v", name, err)
	}
}

// Two names of one server are one server, and word of a later timeline that somebody left there ends the use of it: word of another
// system, whose rows these are a copy of, does not.
func TestServers_LaterTimelineFences(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	u, err := url.Parse(target.URL)
	require.NoError(t, err)
	u.Host = "127.0.0.1:" + u.Port() + ",localhost:" + u.Port()
	target.URL = u.String()
	s := open(t, target)
	change := func(host string) error {
		return s.update(t.Context(), func(tx *Tx) error {
			return tx.rules().PutDomain(t.Context(), rules.Domain{Host: host, Status: rules.Denied})
		})
	}
	found := s.AskServers(t.Context())
	assert.True(t, len(found.Writing) == 1 && found.Primaries() == 1 && found.Writing[0].Timeline != 0, "%+v", found)
	leave := func(system string) {
		dbtest.Exec(t, target.URL, `INSERT INTO timelines (system, timeline) VALUES (`+system+`, 99)
			ON CONFLICT (system) DO UPDATE SET timeline = 99`)
	}
	leave(`'another'`)
	found = s.AskServers(t.Context())
	assert.True(t, found.Missing == 0 && change("a.example") == nil, "word of another system: %+v", found)
	// Scans that were being stored when a new connection showed a later timeline are not stored here.
	beside := open(t, target)
	ledger, err := beside.OpenScans(t.Context(), ScansOptions{Random: chance(), Now: func() time.Time { return at },
		Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	one := beside.AskServers(t.Context()).Writing[0]
	err = ledger.insert(t.Context(), someScans(0, 3), func(pgx.Tx) error {
		beside.servers.raise(one.system, one.Timeline+1)
		return nil
	})
	_, is := errors.AsType[*oldPrimaryError](err)
	assert.True(t, is, "scans on an old primary: %v", err)
	assert.Equal(t, dbtest.Number(t, target.URL, `SELECT COUNT(*) FROM scan_events`), 0, "scans were stored")
	beside.Close()
	const ours = `(SELECT system_identifier FROM pg_control_system())`
	late := s.update(t.Context(), func(tx *Tx) error {
		leave(ours)
		found := s.AskServers(t.Context())
		assert.True(t, found.Missing == 99 && found.Primaries() == 2 && found.Writing[0].Old, "word of a later timeline: %+v", found)
		return tx.rules().PutDomain(t.Context(), rules.Domain{Host: "b.example", Status: rules.Denied})
	})
	for when, err := range map[string]error{"a change": change("c.example"), "one that had begun": late, "a look": s.Ping(t.Context())} {
		out, is := errors.AsType[*errcode.Unavailable](err)
		assert.True(t, is && strings.HasPrefix(out.Condition, oldDatabase) && causeOf(out.Condition) == "primaries",
			"%s on an old primary: %v", when, err)
	}
	assert.Equal(t, dbtest.Number(t, target.URL, `SELECT COUNT(*) FROM domains`), 1, "changes were made")
	_, err = Open(t.Context(), target)
	assert.True(t, err != nil && strings.Contains(err.Error(), oldDatabase), "a start on an old primary: %v", err)
	// Keys are sealed anew on no old primary, and on none that becomes one meanwhile.
	s.Close()
	_, err = OpenAlone(t.Context(), target)
	assert.True(t, err != nil && strings.Contains(err.Error(), oldDatabase), "a turn of the master key on an old primary: %v", err)
	dbtest.Exec(t, target.URL, `DELETE FROM timelines WHERE timeline = 99`)
	dbtest.Exec(t, target.URL, `INSERT INTO sealing_keys (name, sealed) VALUES ('one', 'old')`)
	alone := openAlone(t, target)
	_, err = alone.Reseal(t.Context(), func(string, string) (string, error) {
		leave(ours)
		alone.AskServers(t.Context())
		return "new", nil
	}, func(_, old string) (string, error) { return old, nil })
	_, is = errors.AsType[*oldPrimaryError](err)
	assert.True(t, is, "a turn of the master key that had begun: %v", err)
	assert.Equal(t, dbtest.Number(t, target.URL, `SELECT COUNT(*) FROM sealing_keys WHERE sealed = 'old'`), 1,
		"a key was sealed anew on an old primary")
	if err := fmt.Sprint(late); len(err) > 0 && strings.Contains(err, "\n") {
		t.Errorf("it is said in several lines: %s", err)
	}
}

func TestServers_SelectPrimary(t *testing.T) {
	at := func(system string, timeline int64, started string) *polled {
		return &polled{serverStatus: serverStatus{system: system, timeline: timeline, started: started}}
	}
	for name, c := range map[string]struct {
		all     []*polled
		writing int
		tied    bool
	}{
		"one":                            {[]*polled{at("a", 1, "x")}, 1, false},
		"one, and one that is silent":    {[]*polled{nil, at("a", 1, "x")}, 1, false},
		"one, and its replica":           {[]*polled{at("a", 1, "x"), at("a", 0, "y")}, 1, false},
		"one by two names":               {[]*polled{at("a", 1, "x"), at("a", 1, "x")}, 1, false},
		"an old one":                     {[]*polled{at("a", 1, "x"), at("a", 2, "y")}, 2, false},
		"two on one timeline":            {[]*polled{at("a", 2, "x"), at("a", 2, "y"), at("a", 1, "z")}, 3, true},
		"two on an old one":              {[]*polled{at("a", 1, "x"), at("a", 1, "y"), at("a", 2, "z")}, 3, false},
		"two that are no copies":         {[]*polled{at("a", 1, "x"), at("b", 1, "y")}, 2, false},
		"two that do not say what it is": {[]*polled{at("", 1, "x"), at("", 1, "y")}, 0, false},
	} {
		writing, highest, tied := primaries(c.all)
		assert.True(t, len(writing) == c.writing && tied["a"] == c.tied && len(tied) <= 1,
			"%s: %v, the latest %v, tied %v", name, writing, highest, tied)
	}
}

// A name may be that of several servers. Each of them is asked, and the name is silent where none of them answers.
func TestServers_NameWithManyAddresses(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	one := s.servers.configs[0]
	addresses := []string{one.Host, "127.0.0.77"} // nothing listens there
	one.Host = "name.example"
	one.LookupFunc = func(context.Context, string) ([]string, error) { return addresses, nil }
	each := s.servers.addressed(t.Context())
	require.Equal(t, len(each), 2, "asked")
	heard := s.servers.hearAll(t.Context(), each, askTime)
	assert.True(t, heard[0] != nil && heard[1] == nil, "not each of the addresses was asked")
	for _, h := range heard {
		if h != nil {
			h.end()
		}
	}
	found := s.AskServers(t.Context())
	assert.True(t, len(found.Writing) == 1 && len(found.Silent) == 0, "%+v", found)
	addresses = addresses[1:]
	found = s.AskServers(t.Context())
	assert.True(t, len(found.Writing) == 0 && len(found.Silent) == 1, "%+v", found)
}

// A start waits for a host that hangs only for as long as it is told to, from when another one has answered.
func TestServers_HangingHostTimeout(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	hangs, err := net.Listen("tcp", "127.0.0.1:0") // it lets everybody in, and never says a word
	require.NoError(t, err)
	defer hangs.Close()
	one := s.servers.configs[0].Copy()
	one.Port, one.ConnectTimeout = uint16(hangs.Addr().(*net.TCPAddr).Port), 0
	heard := s.servers.hearAll(t.Context(), []*pgx.ConnConfig{one, s.servers.configs[0]}, time.Millisecond)
	require.True(t, heard[0] == nil && heard[1] != nil, "a server that hangs answers, or the other one does not")
	heard[1].end()
}

// Between the answers by two names of a server it may be restarted: then two have answered, and one of them is no more.
func TestServers_RestartedBetweenPolls(t *testing.T) {
	t.Parallel()
	target := newPostgres(t)
	s := open(t, target)
	h := s.servers.hear(t.Context(), s.servers.configs[0])
	require.True(t, h != nil && h.isRunning(t.Context()), "a server that goes on is no more")
	defer h.end()
	mustDo(t, admin(t, target), fmt.Sprintf(`SELECT pg_terminate_backend(%d, 600000)`, h.conn.PgConn().PID()))
	assert.True(t, !h.isRunning(t.Context()), "a server that ended goes on")
}

// A connection to a standby says that it takes no writes. It is asked anew when the standby was promoted.
func TestServers_PromotedStandbyRechecked(t *testing.T) {
	t.Parallel()
	s := open(t, newPostgres(t))
	conn, err := pgx.ConnectConfig(t.Context(), s.servers.configs[0])
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for name, c := range map[string]struct {
		said serverStatus
		want error
	}{
		"a standby when it was made, and now a primary": {serverStatus{system: "a"}, driver.ErrBadConn},
		"a primary then and now":                        {serverStatus{system: "a", timeline: 1}, nil},
		"a server that says nothing of itself":          {serverStatus{}, nil},
	} {
		conn.PgConn().CustomData()[statusKey] = c.said
		assert.Equal(t, usable(conn, s.servers), c.want, "%s", name)
	}
}
