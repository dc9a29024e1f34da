package store

import (
	"context"
	"errors"
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

// servers are those that a URL names. A promotion begins a timeline with a higher number. A primary that was not stopped goes
// on with the old one: nothing of what it takes now is on the new one. So a connection is used only where no server of a later
// timeline is known. Decision 58.
type servers struct {
	each []*pgx.ConnConfig
	bell atomic.Pointer[pgx.Conn] // listens; nil = nothing does
	// closeTo ends the connections of a kind, and what waits for a word on them: an old primary whose replica has gone to the new one
	// lets a commit wait for ever. nil = there are none yet.
	closeTo func(old func(serverStatus) bool)

	mu      sync.Mutex
	highest map[string]int64 // the latest timeline that was ever seen, of each system
	tied    map[string]bool  // two servers of a system take writes on one timeline
}

// serverStatus is a server's own report. Every role may ask for it.
type serverStatus struct {
	system   string // a primary and its replicas have the same; "" = it does not say
	timeline int64  // on which it takes writes; 0 = it takes none
	started  string // tells two servers from two names of one
}

const standQuery = `SELECT (SELECT system_identifier FROM pg_control_system())::text,
	CASE WHEN current_setting('transaction_read_only')::bool THEN 0
		ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END,
	pg_postmaster_start_time()::text, to_regclass('timelines') IS NOT NULL`

// standOf asks a server. One that refuses to say is compared with no other.
func standOf(ctx context.Context, c *pgconn.PgConn) (st serverStatus, marks bool, err error) {
	rows, err := rowsFrom(ctx, c, standQuery)
	if _, refused := errors.AsType[*pgconn.PgError](err); refused && !c.IsClosed() {
		return serverStatus{}, false, nil
	}
	if err != nil || len(rows) != 1 || len(rows[0]) != 4 {
		return serverStatus{}, false, err
	}
	st = serverStatus{system: rows[0][0], started: rows[0][2]}
	st.timeline, err = strconv.ParseInt(rows[0][1], 10, 64)
	return st, rows[0][3] == "t", err
}

// rowsFrom returns the rows that a question brings.
func rowsFrom(ctx context.Context, c *pgconn.PgConn, query string) (rows [][]string, err error) {
	results, err := c.Exec(ctx, query).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	for _, row := range results[len(results)-1].Rows {
		var line []string
		for _, value := range row {
			line = append(line, string(value))
		}
		rows = append(rows, line)
	}
	return rows, nil
}

// oldPrimaryError is of a server that takes writes and must not.
type oldPrimaryError struct {
	own, highest int64
}

// advice says what to do as well: all who are refused read it, and not the log alone.
func (e *oldPrimaryError) advice() string {
	if e.own == e.highest {
		return fmt.Sprintf("%s on timeline %d, one of which is to be stopped", tiedDatabase, e.own)
	}
	return fmt.Sprintf("%s that is to be stopped for good (it is on timeline %d, and another server on %d)", oldDatabase, e.own, e.highest)
}

func (e *oldPrimaryError) Error() string {
	return fmt.Sprintf("timeline %d, the latest seen is %d", e.own, e.highest)
}

// compare returns an oldPrimaryError of a server that others took the place of.
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

// raise notes that a timeline was seen.
func (v *servers) raise(system string, timeline int64) {
	if system == "" || timeline == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.highest[system] = max(v.highest[system], timeline)
}

// standing is the key under which a connection keeps its server's report.
const standing = "standing"

// enter lets a new connection in, after what the URL wants of its server; else pgx goes on with the next one.
func (v *servers) enter(wanted pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if wanted != nil {
			if err := wanted(ctx, c); err != nil {
				return err
			}
		}
		st, _, err := standOf(ctx, c)
		if err != nil {
			return err
		}
		c.CustomData()[standing] = st
		v.raise(st.system, st.timeline)
		return v.compare(st)
	}
}

// checkPrimary returns an oldPrimaryError of a connection to a server that others took the place of since.
func (v *servers) checkPrimary(c *pgx.Conn) error {
	st, _ := c.PgConn().CustomData()[standing].(serverStatus)
	return v.compare(st)
}

// Server is one that takes writes.
type Server struct {
	Name     string // host and port
	Timeline int64
	Old      bool // no change goes there

	serverStatus
}

// Servers is the result of asking them.
type Servers struct {
	Writing []Server // the latest timeline first
	Silent  []string // names of those that do not answer
	// Missing: a later timeline was seen than that of any server which answers.
	Missing int64 // 0 = none was
}

// Primaries returns the number of servers that take writes, as far as is known.
func (s Servers) Primaries() int {
	if s.Missing > 0 {
		return len(s.Writing) + 1
	}
	return len(s.Writing)
}

// askTime is the time that a server may take to say whether it takes writes. A start waits for others no longer than startGrace
// after one has answered: it knows of what they say ten seconds later, as a node that runs.
const (
	askTime    = 3 * time.Second
	startGrace = 500 * time.Millisecond
)

// AskServers asks each server of PostgreSQL that the URL names whether it takes writes, and leaves word of the latest timeline on
// each that does: a node that sees the old one alone reads it there. Of an embedded database there is nothing to ask.
func (s *Store) AskServers(ctx context.Context) Servers {
	if s.servers == nil {
		return Servers{}
	}
	return s.servers.ask(ctx, askTime)
}

// ask gives those that are silent no more than grace from when another one has answered.
func (v *servers) ask(ctx context.Context, grace time.Duration) (found Servers) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	configs := v.addressed(ctx)
	heard := v.hearAll(ctx, configs, grace)
	writing, highest, tied := primaries(heard)
	if len(tied) > 0 {
		// A server that was restarted between the answers by two of its names is not there twice.
		for i, h := range heard {
			if h != nil && !h.isRunning(ctx) {
				h.end()
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
			all.Go(func() { h.leaveWord(ctx, known[h.system]) })
		}
	}
	if v.closeTo != nil {
		v.closeTo(func(st serverStatus) bool { return v.compare(st) != nil })
	}
	all.Wait()
	if c := v.bell.Load(); c != nil && v.checkPrimary(c) != nil {
		c.PgConn().Conn().Close() // its listener listens anew
	}
	return found
}

// addressed returns a configuration for each server: a name may be that of several.
func (v *servers) addressed(ctx context.Context) (configs []*pgx.ConnConfig) {
	for _, config := range v.each {
		var addresses []string
		if net.ParseIP(config.Host) == nil && !strings.HasPrefix(config.Host, "/") && config.LookupFunc != nil {
			addresses, _ = config.LookupFunc(ctx, config.Host) // connecting reports an error in a name
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

// hearAll asks all; nil = one does not answer.
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

// primaries returns the servers that take writes, the latest timeline of each system, and the systems of which two servers write on
// the latest one.
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

// polled is a server that answered.
type polled struct {
	serverStatus
	name  string
	conn  *pgx.Conn
	marks bool  // it has the table of timelines
	mark  int64 // the latest that was written down there
}

// hear asks one server; nil = it does not answer.
func (v *servers) hear(ctx context.Context, config *pgx.ConnConfig) *polled {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil
	}
	h := &polled{name: hostOf(config), conn: conn}
	if h.serverStatus, h.marks, err = standOf(ctx, conn.PgConn()); err == nil && h.marks {
		err = conn.QueryRow(ctx, `SELECT COALESCE(MAX(timeline), 0) FROM timelines WHERE system = $1`, h.system).Scan(&h.mark)
	}
	if err != nil {
		h.end()
		return nil
	}
	v.raise(h.system, max(h.timeline, h.mark))
	return h
}

// isRunning reports whether the server goes on that was heard.
func (h *polled) isRunning(ctx context.Context) bool {
	currentStatus, _, err := standOf(ctx, h.conn.PgConn())
	return err == nil && currentStatus == h.serverStatus
}

// leaveWord writes down which timeline is the latest where the server's own is older, and ends the connection. Word that cannot
// be left now is left later.
func (h *polled) leaveWord(ctx context.Context, highest int64) {
	// Another server that is silent may have taken all the time there was.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if h.marks && h.timeline > 0 && max(h.timeline, h.mark) < highest {
		_, _ = h.conn.Exec(ctx, `INSERT INTO timelines (system, timeline) VALUES ($1, $2)
			ON CONFLICT (system) DO UPDATE SET timeline = excluded.timeline WHERE timelines.timeline < excluded.timeline`, h.system, highest)
	}
	h.end()
}

func (h *polled) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.conn.Close(ctx)
}

// eachServer returns a configuration for each server that a URL names.
func eachServer(config *pgx.ConnConfig) (all []*pgx.ConnConfig) {
	ways := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, host := range hostsOf(config) {
		connConfig := config.Copy()
		connConfig.ValidateConnect, connConfig.DialFunc = nil, dialer.DialContext
		// An old primary without its replica must not block a node that writes its fence.
		connConfig.RuntimeParams["synchronous_commit"] = "local"
		connConfig.Host, connConfig.Fallbacks = "", nil
		for _, way := range ways {
			switch {
			case net.JoinHostPort(way.Host, strconv.Itoa(int(way.Port))) != host:
			case connConfig.Host == "":
				connConfig.Host, connConfig.Port, connConfig.TLSConfig = way.Host, way.Port, way.TLSConfig
			default:
				connConfig.Fallbacks = append(connConfig.Fallbacks, way) // the same server, with or without TLS
			}
		}
		all = append(all, connConfig)
	}
	return all
}

func hostOf(config *pgx.ConnConfig) string {
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
}
