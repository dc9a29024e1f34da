package store

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// servers holds the state of the PostgreSQL servers in a URL. A promotion starts a timeline with a higher number. An old primary that keeps
// running after the promotion of a standby continues the old timeline, and the changes that it accepts are lost for the new timeline. A
// connection is used only if no timeline of the same system is known that is later than the server's. Decision 58.
type servers struct {
	configs []*pgx.ConnConfig
	bell    atomic.Pointer[pgx.Conn] // LISTEN connection; nil = none
	// closeTo closes the connections to servers for which "old" returns true; nil = no connections yet. On an old primary, a commit would
	// wait forever if the replica follows the new primary.
	closeTo func(old func(serverStatus) bool)

	mu      sync.Mutex
	highest map[string]int64 // latest timeline ever seen, by system identifier
	tied    map[string]bool  // systems in which two servers accept writes on the same timeline
}

// serverStatus is the state that a server reports about itself. Every database role may query this state.
type serverStatus struct {
	system   string // system identifier, shared by a primary and its replicas; "" = not reported
	timeline int64  // timeline on which the server accepts writes; 0 = read-only
	started  string // start time, which distinguishes two servers from two names of the same server
}

const statusQuery = `SELECT (SELECT system_identifier FROM pg_control_system())::text,
	CASE WHEN current_setting('transaction_read_only')::bool THEN 0
		ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
	pg_postmaster_start_time()::text, to_regclass('timelines') IS NOT NULL`

// queryStatus queries the status of a server. If the server refuses the query, queryStatus returns a zero status, which compare accepts.
func queryStatus(ctx context.Context, c *pgconn.PgConn) (st serverStatus, marks bool, err error) {
	results, err := c.Exec(ctx, statusQuery).ReadAll()
	if sqlState(err) != "" && !c.IsClosed() {
		return serverStatus{}, false, nil
	}
	if err != nil || len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 4 {
		return serverStatus{}, false, err
	}
	row := results[0].Rows[0]
	st = serverStatus{system: string(row[0]), started: string(row[2])}
	st.timeline, err = strconv.ParseInt(string(row[1]), 10, 64)
	return st, string(row[3]) == "t", err
}

// oldPrimaryError is the error for a server that accepts writes although it was replaced.
type oldPrimaryError struct {
	own, highest int64
}

// advice says which server the operator must stop, as part of the error text that rejected clients and the log get.
func (e *oldPrimaryError) advice() string {
	if e.own == e.highest {
		return fmt.Sprintf("%s on timeline %d: stop one of them", tiedDatabase, e.own)
	}
	return fmt.Sprintf("%s: stop it permanently (it is on timeline %d, another server is on %d)", oldDatabase, e.own, e.highest)
}

func (e *oldPrimaryError) Error() string {
	return fmt.Sprintf("timeline %d, but the latest known timeline is %d", e.own, e.highest)
}

// compare returns an oldPrimaryError if a timeline after the server's is known, or if two servers accept writes on the server's timeline.
func (v *servers) compare(st serverStatus) error {
	if v == nil || st.system == "" || st.timeline == 0 {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if highest := v.highest[st.system]; st.timeline < highest || v.tied[st.system] && st.timeline == highest {
		return &oldPrimaryError{st.timeline, highest}
	}
	return nil
}

// raise records the timeline of a system if it is later than the timelines recorded so far.
func (v *servers) raise(system string, timeline int64) {
	if system == "" || timeline == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.highest[system] = max(v.highest[system], timeline)
}

// statusKey is the key of the serverStatus in the CustomData of a connection.
const statusKey = "standing"

// enter returns a function that validates a new connection: it first calls "wanted", the check that the URL requires, and then compares the
// server's timeline. If the validation fails, pgx tries the next server.
func (v *servers) enter(wanted pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if wanted != nil {
			if err := wanted(ctx, c); err != nil {
				return err
			}
		}
		st, _, err := queryStatus(ctx, c)
		if err != nil {
			return err
		}
		c.CustomData()[statusKey] = st
		v.raise(st.system, st.timeline)
		return v.compare(st)
	}
}

// checkPrimary returns an oldPrimaryError if the server of a connection was replaced since the connection was made.
func (v *servers) checkPrimary(c *pgx.Conn) error {
	st, _ := c.PgConn().CustomData()[statusKey].(serverStatus)
	return v.compare(st)
}

// Server is a database server that accepts writes.
type Server struct {
	Name     string // host and port
	Timeline int64
	Old      bool // the server was replaced by a later primary, so no changes are sent to it

	serverStatus
}

// Servers is the result of querying all servers.
type Servers struct {
	Writing []Server // servers that accept writes, sorted by timeline, latest first
	Silent  []string // names of the servers that did not respond
	// Missing is a known timeline that is later than the timelines of all servers that responded.
	Missing int64 // 0 = none
}

// Primaries returns the number of known servers that accept writes.
func (s Servers) Primaries() int {
	if s.Missing > 0 {
		return len(s.Writing) + 1
	}
	return len(s.Writing)
}

// askTime is the timeout for querying whether a server accepts writes. When a node starts, it waits for further responses until startGrace
// after the first response; while the node runs, it queries the servers every ten seconds.
const (
	askTime    = 3 * time.Second
	startGrace = 500 * time.Millisecond
)

// AskServers asks each PostgreSQL server in the URL whether it accepts writes. AskServers records the latest timeline on each writable
// server, so that a node that reaches only the old primary learns of this timeline. An embedded database needs no query.
func (s *Store) AskServers(ctx context.Context) Servers {
	if s.servers == nil {
		return Servers{}
	}
	return s.servers.poll(ctx, askTime)
}

// poll queries all servers; servers that have not responded within grace after the first response count as silent.
func (v *servers) poll(ctx context.Context, grace time.Duration) (found Servers) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	configs := v.addressed(ctx)
	heard := v.hearAll(ctx, configs, grace)
	writing, highest, tied := primaries(heard)
	if len(tied) > 0 {
		// A server with two names may have restarted between its two responses; poll then drops the earlier response.
		for i, h := range heard {
			if h != nil && !h.isRunning(ctx) {
				closeAbruptly(h.conn)
				heard[i] = nil
			}
		}
		writing, highest, tied = primaries(heard)
	}
	found.Writing = writing
	answers := map[string]bool{}
	for _, h := range heard {
		if h != nil {
			answers[h.name] = true
		}
	}
	for _, config := range configs {
		if name := hostOf(config); !answers[name] && !slices.Contains(found.Silent, name) {
			found.Silent = append(found.Silent, name)
		}
	}
	v.mu.Lock()
	v.tied = tied
	known := maps.Clone(v.highest)
	v.mu.Unlock()
	for i := range found.Writing {
		server := &found.Writing[i]
		server.Old = v.compare(server.serverStatus) != nil
		if known[server.system] > highest[server.system] {
			found.Missing = known[server.system]
		}
	}
	slices.SortStableFunc(found.Writing, func(a, b Server) int { return int(b.Timeline - a.Timeline) })
	var all sync.WaitGroup
	for _, h := range heard {
		if h != nil {
			all.Go(func() { h.recordTimeline(ctx, known[h.system]) })
		}
	}
	if v.closeTo != nil {
		v.closeTo(func(st serverStatus) bool { return v.compare(st) != nil })
	}
	all.Wait()
	if c := v.bell.Load(); c != nil && v.checkPrimary(c) != nil {
		c.PgConn().Conn().Close() // the LISTEN connection is closed, so that the listener connects again
	}
	return found
}

// addressed returns a connection configuration per IP address, because the name of a host in the URL may resolve to several servers.
func (v *servers) addressed(ctx context.Context) (configs []*pgx.ConnConfig) {
	for _, config := range v.configs {
		var addresses []string
		if net.ParseIP(config.Host) == nil && !strings.HasPrefix(config.Host, "/") && config.LookupFunc != nil {
			addresses, _ = config.LookupFunc(ctx, config.Host) // a failed lookup is reported when the node connects
		}
		if len(addresses) < 2 {
			configs = append(configs, config)
			continue
		}
		for _, address := range addresses {
			connConfig := config.Copy()
			connConfig.LookupFunc = func(context.Context, string) ([]string, error) { return []string{address}, nil }
			configs = append(configs, connConfig)
		}
	}
	return configs
}

// hearAll queries all servers; nil = no response.
func (v *servers) hearAll(ctx context.Context, configs []*pgx.ConnConfig, grace time.Duration) []*polled {
	ctx, cancelFunc := context.WithCancel(ctx)
	defer cancelFunc()
	var first sync.Once
	heard := make([]*polled, len(configs))
	var all sync.WaitGroup
	for i, config := range configs {
		all.Go(func() {
			if heard[i] = v.hear(ctx, config); heard[i] != nil {
				first.Do(func() { time.AfterFunc(grace, cancelFunc) })
			}
		})
	}
	all.Wait()
	return heard
}

// primaries returns the servers that accept writes, the latest timeline of each system, and the systems with two writable servers
// on the latest timeline.
func primaries(all []*polled) (writing []Server, highest map[string]int64, tied map[string]bool) {
	seen := map[serverStatus]bool{}
	highest, tied = map[string]int64{}, map[string]bool{}
	for _, h := range all {
		if h == nil || h.timeline == 0 || h.system == "" || seen[h.serverStatus] {
			continue
		}
		seen[h.serverStatus] = true
		switch {
		case h.timeline == highest[h.system]:
			tied[h.system] = true
		case h.timeline > highest[h.system]:
			highest[h.system] = h.timeline
			delete(tied, h.system)
		}
		writing = append(writing, Server{Name: h.name, Timeline: h.timeline, serverStatus: h.serverStatus})
	}
	return writing, highest, tied
}

// polled is the response of a server, with the connection that queried it.
type polled struct {
	serverStatus
	name           string
	conn           *pgx.Conn
	hasTimelines   bool  // the table of timelines exists
	latestTimeline int64 // latest timeline in the table of timelines
}

// hear queries a single server; nil = no response.
func (v *servers) hear(ctx context.Context, config *pgx.ConnConfig) *polled {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil
	}
	h := &polled{name: hostOf(config), conn: conn}
	if h.serverStatus, h.hasTimelines, err = queryStatus(ctx, conn.PgConn()); err == nil && h.hasTimelines {
		err = conn.QueryRow(ctx, `SELECT COALESCE(MAX(timeline), 0) FROM timelines WHERE system = $1`, h.system).Scan(&h.latestTimeline)
	}
	if err != nil {
		closeAbruptly(h.conn)
		return nil
	}
	v.raise(h.system, max(h.timeline, h.latestTimeline))
	return h
}

// isRunning reports whether the server still has the status that it reported, and was not restarted since.
func (h *polled) isRunning(ctx context.Context) bool {
	currentStatus, _, err := queryStatus(ctx, h.conn.PgConn())
	return err == nil && currentStatus == h.serverStatus
}

// recordTimeline records the latest timeline on a server whose own timeline is older, and closes the connection. If recording fails, the
// next call of poll tries again.
func (h *polled) recordTimeline(ctx context.Context, highest int64) {
	// The timeout of ctx may have been used up by waiting for a silent server.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if h.hasTimelines && h.timeline > 0 && max(h.timeline, h.latestTimeline) < highest {
		_, _ = h.conn.Exec(ctx, `INSERT INTO timelines (system, timeline) VALUES ($1, $2)
			ON CONFLICT (system) DO UPDATE SET timeline = excluded.timeline WHERE timelines.timeline < excluded.timeline`, h.system, highest)
	}
	closeAbruptly(h.conn)
}

// eachServer returns a connection configuration for each host and port in a URL.
func eachServer(config *pgx.ConnConfig) (all []*pgx.ConnConfig) {
	ways := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, host := range hostsOf(config) {
		connConfig := config.Copy()
		connConfig.ValidateConnect, connConfig.DialFunc = nil, dialer.DialContext
		// Recording the latest timeline on an old primary must not wait for its replica, which may be missing.
		connConfig.RuntimeParams["synchronous_commit"] = "local"
		connConfig.Host, connConfig.Fallbacks = "", nil
		for _, way := range ways {
			switch {
			case net.JoinHostPort(way.Host, strconv.Itoa(int(way.Port))) != host:
			case connConfig.Host == "":
				connConfig.Host, connConfig.Port, connConfig.TLSConfig = way.Host, way.Port, way.TLSConfig
			default:
				connConfig.Fallbacks = append(connConfig.Fallbacks, way) // another way to connect to the same server, such as without TLS
			}
		}
		all = append(all, connConfig)
	}
	return all
}

func hostOf(config *pgx.ConnConfig) string {
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
}
