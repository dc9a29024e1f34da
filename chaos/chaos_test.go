package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// TestChaos_NodesOnPostgres runs three nodes on a PostgreSQL primary with a synchronous replica. While clients write and scan, it kills
// nodes and the primary, promotes the replica, stops nodes (also while they hold a lock or import rules), terminates sessions, lets two
// servers accept writes, replaces all nodes one by one, and moves the clock of a node. The responses of all nodes must satisfy the models
// of history_test.go, no two batches may share a code, and every issued ticket must be valid. make test injects each fault marked always
// once; a complete run chooses faults at random until the time is over.
//
//	CHAOS_MINUTES=8 QRJUMP_TEST_SEED=1 go test -run 'TestChaos_NodesOnPostgres$' -timeout 60m ./chaos
func TestChaos_NodesOnPostgres(t *testing.T) {
	seed := testdiag.Seed(t)
	length := 25 * time.Second // of a complete run
	if minutes := envNumber(t, "CHAOS_MINUTES", 0); minutes > 0 {
		length = time.Duration(minutes) * time.Minute * 2 / 5 // other tests use the rest
	}
	p := newPrimaryWithReplica(t)
	s := &nodeChaos{t: t, dir: keptDir(t), postgres: p, rnd: rand.New(rand.NewPCG(seed, 0)), finalRules: map[string]reply{},
		batches: map[string]int64{}, scanned: map[int64]map[string]bool{}, unknown: map[int64]bool{}, firstScans: map[int64]string{}}
	s.long = envNumber(t, "CHAOS_MINUTES", 0) > 0
	s.cluster = newCluster(t, p.createDatabase("chaos"), s.seed(length), 3)
	s.cluster.movableClocks = true
	for _, n := range s.cluster.nodes {
		n.setClock(0)
	}
	t.Logf("%v", length)
	first := s.cluster.nodes[0]
	first.start()
	admin := first.admin()
	s.scanKey = admin.scanKey("chaos")
	token := admin.stableToken("brand0")
	batch := admin.apply(token, "scanned", 10_000)
	s.batches["brand0 scanned"] = batch
	admin.activate(token, batch, 10_000, "owner0")
	for index := range scannedCodes {
		s.texts = append(s.texts, admin.codeText(batch, index))
	}
	for _, n := range s.cluster.nodes[1:] {
		n.start()
	}
	s.cluster.waitUntilReady()
	end := time.Now().Add(length)
	for s.rounds < s.maxRounds && time.Now().Before(end) && !t.Failed() && choose(true, false) {
		s.round(s.randomFault())
	}
	for _, f := range choose(nil, faults) {
		if f.always {
			s.round(f)
		}
	}
	s.checkFinalState()
	s.cluster.stop()
	t.Logf(
		"%d rounds: nodes killed %d times, the primary %d times; nodes stopped %d times, and %d times with the head lock; all sessions "+
			"terminated %d times, a clock moved %d times; %d imports interrupted; all nodes replaced %d times; two primaries %d times",
		s.rounds, s.nodesKilled, s.primariesKilled, s.stops, s.headStops, s.sessions, s.clockMoves, s.imports, s.replacements, s.splits)
	t.Logf("%d calls of %d owners checked (%d without a response), %d batches, %d tickets, %d first scans, %d scans in the scan log",
		s.checked, len(s.finalRules), s.lost, len(s.batches), len(s.tickets), len(s.firstScans), len(s.scanIDs))
	t.Logf("slowest response to a write %v", s.slowest.Round(time.Millisecond))
}

// nodeChaos is the state of TestChaos_NodesOnPostgres.
type nodeChaos struct {
	t        *testing.T
	postgres *postgresServers
	cluster  *cluster
	rnd      *rand.Rand
	scanKey  string
	dir      string   // of the history if it violates a promise
	texts    []string // texts of active codes

	maxRounds                              int // the number of rounds for which the seed has accounts
	long                                   bool
	rounds, nodesKilled, primariesKilled   int
	stops, headStops, sessions, clockMoves int
	imports, replacements, splits          int
	checked, lost                          int
	slowest                                time.Duration

	// acks counts the acknowledged calls of this round.
	acks atomic.Int64
	// disrupted is true while a server is down and shortly afterwards.
	disrupted atomic.Bool
	// moves counts the beginnings and ends of clock moves; ahead is the process whose clock is wrong. tokensExpired is true in a round with
	// a move, because tokens expire in it.
	moves         atomic.Int64
	ahead         atomic.Pointer[process]
	tokensExpired atomic.Bool
	ended         atomic.Bool
	// split is true while two servers accept writes and some node may still read from the old primary.
	split   atomic.Bool
	history *history
	ids     atomic.Int64
	scans   atomic.Int64

	mu         sync.Mutex
	finalRules map[string]reply // rules of owners of earlier rounds
	batches    map[string]int64 // application_id by account and isv_application_id
	tickets    []ticket
	scanned    map[int64]map[string]bool // ids of the acknowledged scans of each code
	scanIDs    []string                  // ids of all acknowledged scans
	unknown    map[int64]bool            // codes with a scan that had no response
	firstScans map[int64]string          // the stored first scan of each code
}

type ticket struct {
	text, user string
	index      int64
}

const (
	roundOwners     = 2
	ownerWriters    = 3
	ownerScanners   = 2
	roundApplicants = 2
	ticketScanners  = 2
)

// scannedCodes is the number of codes that are scanned, each by two users.
var scannedCodes = choose[int64](1000, 100)

// seed returns a seed with accounts for the maximal number of rounds.
func (s *nodeChaos) seed(length time.Duration) string {
	var b strings.Builder
	b.WriteString("accounts:\n")
	s.maxRounds = int(length/(2*time.Second)) + 2
	for n := range s.maxRounds * roundOwners {
		fmt.Fprintf(&b, "  - {appid: owner%d, kind: mini_program, secret: %q, versions: [release]}\n", n, secretOf(fmt.Sprint("owner", n)))
	}
	for n := range s.maxRounds {
		fmt.Fprintf(&b,
			"  - {appid: brand%d, kind: service_account, certified: true, features: [marketcode], "+
				"marketcode_key: 0123456789abcdef, secret: %q, linked: [owner0]}\n",
			n, secretOf(fmt.Sprint("brand", n)))
	}
	fmt.Fprintf(&b, "  - {appid: importer, kind: mini_program, secret: %q, versions: [release]}\n", secretOf("importer"))
	fmt.Fprintf(&b, "settings: {rule_rate_limit: 900, verification: trust, publish_quota: %d, rule_limit: 1000000}\n", chaosQuota)
	return b.String()
}

// round injects a fault while clients work, and checks the responses.
func (s *nodeChaos) round(f fault) {
	s.history = &history{began: time.Now()}
	s.acks.Store(0)
	s.ended.Store(false)
	s.tokensExpired.Store(false)
	for _, n := range s.cluster.nodes {
		p := n.running.Load()
		s.history.add(entry{call: 0, back: s.history.now(), action: "start", incarnation: p.incarnation})
	}
	owners := []string{}
	var clients sync.WaitGroup
	work := func(f func(*client)) {
		c := s.client()
		clients.Go(func() { f(c) })
	}
	for n := range roundOwners {
		owner := fmt.Sprint("owner", s.rounds*roundOwners+n)
		owners = append(owners, owner)
		for range ownerWriters {
			work(func(c *client) { c.write(owner) })
		}
		for range ownerScanners {
			work(func(c *client) { c.scan(owner) })
		}
	}
	for range roundApplicants {
		work(func(c *client) { c.apply(fmt.Sprint("brand", s.rounds)) })
	}
	for range ticketScanners {
		work(func(c *client) { c.scanCodes() })
	}
	s.wait(30 + s.rnd.IntN(choose(200, 50)))
	s.disrupted.Store(true)
	from := s.history.now()
	what := f.inject(s)
	s.cluster.waitUntilReady() // a node that could not read its commit is not ready
	recovered := s.history.now()
	s.disrupted.Store(false)
	s.wait(40)
	s.ended.Store(true)
	clients.Wait()
	s.cluster.waitUntilReady()
	// Statements of killed processes have either completed or never will.
	waitFor(s.t, "all database sessions to be idle", func() bool {
		return dbtest.QueryInt(s.t, s.cluster.database, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle' AND query NOT LIKE 'LISTEN%'`) == 0
	})
	s.history.allowLateReads(from, recovered)
	s.checkRound(owners)
	s.rounds++
	require.True(s.t, !s.t.Failed(), "round %d: %s", s.rounds, what)
}

// wait waits for n more acknowledged calls.
func (s *nodeChaos) wait(n int) { waitForMore(s.t, &s.acks, n) }

// fault is a fault of a round.
type fault struct {
	weight int
	always bool // part of make test, whose packages store and server have tests of the others alone
	// inject causes the fault, repairs it, and returns a description.
	inject func(*nodeChaos) string
}

var faults = []fault{
	{3, false, func(s *nodeChaos) string { return s.killServers(false, 1) }},
	{2, false, func(s *nodeChaos) string { return s.killServers(false, 2) }},
	{4, false, func(s *nodeChaos) string { return s.killServers(true, 0) }},
	{1, true, func(s *nodeChaos) string { return s.killServers(true, 1) }},
	{1, false, (*nodeChaos).pauseNode},
	{1, false, (*nodeChaos).pauseRepeatedly},
	{2, true, (*nodeChaos).pauseLockHolder},
	{1, false, (*nodeChaos).terminateAllSessions},
	{3, false, (*nodeChaos).moveClock},
	{3, false, (*nodeChaos).interruptImport},
	{1, false, (*nodeChaos).replaceNodes},
	{2, false, (*nodeChaos).splitBrain},
}

// randomFault returns a fault; its probability is proportional to its weight.
func (s *nodeChaos) randomFault() fault {
	var all []fault
	for _, f := range faults {
		all = append(all, slices.Repeat([]fault{f}, f.weight)...)
	}
	return all[s.rnd.IntN(len(all))]
}

func (s *nodeChaos) randomNode() *node { return s.cluster.randomNode(s.rnd) }

// startNode starts a node and records the start.
func (s *nodeChaos) startNode(n *node) {
	began := s.history.now()
	n.start()
	s.history.add(entry{call: began, back: s.history.now(), action: "start", incarnation: n.running.Load().incarnation})
}

// pauseNode stops a node for up to 1.7 seconds.
func (s *nodeChaos) pauseNode() string {
	n := s.randomNode()
	n.running.Load().pause(time.Duration(200+s.rnd.IntN(1500)) * time.Millisecond)
	s.stops++
	return fmt.Sprintf("node %d was stopped for a while", n.number)
}

// pauseRepeatedly stops random nodes many times for a short duration.
func (s *nodeChaos) pauseRepeatedly() string {
	for range 10 + s.rnd.IntN(20) {
		s.randomNode().running.Load().pause(time.Duration(1+s.rnd.IntN(150)) * time.Millisecond)
		s.stops++
		s.wait(1)
	}
	return "nodes were stopped repeatedly"
}

// pauseLockHolder stops the node whose session holds the head of the audit log, shortly or until PostgreSQL ends the session.
func (s *nodeChaos) pauseLockHolder() string {
	number, pid, release := blockHeadHolder(s.t, s.cluster.database, "changes", func() {}) // every change writes to this table
	n := s.cluster.nodes[number]
	p := n.running.Load()
	p.signal(syscall.SIGSTOP)
	release()
	s.headStops++
	what := fmt.Sprintf("node %d was stopped while it held the head of the audit log", n.number)
	if s.long && s.rnd.IntN(2) == 0 {
		what += " until its session ended"
		waitFor(s.t, "the session to end", func() bool {
			return dbtest.QueryInt(s.t, s.cluster.database, fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE pid = %d`, pid)) == 0
		})
	} else {
		time.Sleep(time.Duration(s.rnd.IntN(1500)) * time.Millisecond) // real time passes for the sessions of a stopped process
	}
	p.signal(syscall.SIGCONT)
	return what
}

func (s *nodeChaos) terminateAllSessions() string {
	terminateSessions(s.t, s.cluster.database)
	s.sessions++
	return "all sessions of the database were terminated"
}

// killServers kills some nodes, and the primary if primary is true.
func (s *nodeChaos) killServers(primary bool, nodes int) (what string) {
	var dead []*node
	for _, n := range s.rnd.Perm(len(s.cluster.nodes))[:nodes] {
		dead = append(dead, s.cluster.nodes[n])
	}
	for _, n := range dead {
		n.kill()
		s.nodesKilled++
		what += fmt.Sprintf("kill -9 of node %d; ", n.number)
	}
	if primary {
		s.postgres.script("kill", s.postgres.dirs[s.postgres.primary])
		s.postgres.promote() // the new primary acknowledges no commit without a replica
		s.primariesKilled++
		what += "kill -9 of the primary; "
		s.postgres.rebuildReplica()
	}
	for _, n := range dead {
		s.startNode(n)
	}
	return what
}

// client makes calls sequentially on random nodes.
type client struct {
	*nodeChaos
	rnd  *rand.Rand
	conn *connection
	node *process
}

func (s *nodeChaos) client() *client {
	c := &client{nodeChaos: s, rnd: rand.New(rand.NewPCG(s.rnd.Uint64(), 0)), conn: connect(s.t, "", "")}
	c.conn.http.Timeout = 30 * time.Second
	return c
}

// choose selects a running process for the next call. It returns false when the round is over.
func (c *client) choose() bool {
	for !c.ended.Load() && !c.t.Failed() {
		p := c.cluster.nodes[c.rnd.IntN(len(c.cluster.nodes))].running.Load()
		if p == nil {
			time.Sleep(time.Millisecond) // leaves CPU time to the starting node
			continue
		}
		if c.node == nil || c.rnd.IntN(8) == 0 || !c.runs(c.node) {
			c.node = p
		}
		c.conn.base = c.node.URL
		return true
	}
	return false
}

func (c *client) runs(p *process) bool {
	return slices.ContainsFunc(c.cluster.nodes, func(n *node) bool { return n.running.Load() == p })
}

// waitForRecovery blocks while a server is down: in each round a client loses at most one call, which limits the work of the checker.
func (c *client) waitForRecovery() {
	c.node = nil
	for c.disrupted.Load() && !c.t.Failed() {
		time.Sleep(5 * time.Millisecond) // between two polls of real processes
	}
}

// token returns the stable token of an account; "" when the round is over.
func (c *client) token(account string) string {
	for c.choose() {
		if text, err := c.conn.stableToken(account); err == nil {
			return text
		}
		c.waitForRecovery()
	}
	return ""
}

// write changes the rules of an owner, which other clients change, too.
func (c *client) write(owner string) {
	c.conn.bearer = ""
	token := c.token(owner)
	for token != "" && c.choose() {
		e := entry{owner: owner, prefix: c.rnd.IntN(chaosPrefixes), incarnation: c.node.incarnation, id: c.ids.Add(1)}
		prefix := chaosPrefix(owner, e.prefix)
		var call string
		body := prefixOnly(prefix)
		switch dice := c.rnd.IntN(10); {
		case dice < 3:
			e.action, call, e.path = "add", "qrcodejumpadd", fmt.Sprint("pages/", e.id)
			body = add(prefix, e.path)
		case dice < 6:
			e.action, call = "publish", "qrcodejumppublish"
		case dice < 8:
			e.action, call = "delete", "qrcodejumpdelete"
		default:
			e.action, call, body = "get", "qrcodejumpget", map[string]any{}
		}
		if !c.record(e, call, token, body) {
			token = c.token(owner)
		}
	}
}

func chaosPrefix(owner string, n int) string { return fmt.Sprintf("https://%s.example/p%d/", owner, n) }

// record makes a call and adds it to the history. It returns false if the token is invalid.
func (c *client) record(e entry, call, token string, body any) (valid bool) {
	e.call = c.history.now()
	split := c.split.Load()
	got, err := c.conn.wire(call, token, body)
	e.back, e.code = c.history.now(), got.ErrCode
	if err != nil || got.ErrCode == -1 {
		e.code, e.back = lost, noResponse
		c.mu.Lock()
		c.lost++
		c.mu.Unlock()
		if e.action != "get" {
			c.history.add(e)
		}
		c.waitForRecovery()
		return true
	}
	if c.tokensExpired.Load() && isTokenError(e.code) {
		return false
	}
	switch e.code {
	case done, noSuchRule, duplicateRule, quotaExceeded:
	default:
		c.t.Errorf("%s of %s on incarnation %d = %d %s, want a documented errcode", e.action, e.owner, e.incarnation, got.ErrCode,
			got.ErrMsg)
		return true
	}
	if split || c.split.Load() {
		// A response without a change may come from the old primary: a list, an error, a repeated publish.
		if e.action == "get" || e.code != done {
			return true
		}
		if e.action == "publish" {
			e.code, e.back = lost, noResponse
		}
	}
	if e.action == "get" {
		e.rules, e.left = states(e.owner, got), got.QRCodeJumpPubQuota
	}
	c.history.add(e)
	if e.code == done && e.action != "get" {
		seen := e
		seen.action = "seen"
		c.history.add(seen)
		c.acks.Add(1)
	}
	c.mu.Lock()
	if e.back != noResponse {
		c.slowest = max(c.slowest, time.Duration(e.back-e.call))
	}
	c.mu.Unlock()
	return true
}

// states returns the rules of an owner as the models represent them.
func states(owner string, r reply) (list [chaosPrefixes]ruleState) {
	for n := range list {
		for _, rule := range r.RuleList {
			if rule.Prefix == chaosPrefix(owner, n) {
				list[n] = ruleState{Exists: true, Published: rule.State == 2, Path: rule.Path}
			}
		}
	}
	return list
}

// scan scans the prefixes of an owner.
func (c *client) scan(owner string) {
	c.conn.bearer = c.scanKey
	for c.choose() {
		e := entry{action: "scan", owner: owner, prefix: c.rnd.IntN(chaosPrefixes), incarnation: c.node.incarnation}
		e.call = c.history.now()
		d, err := c.conn.scan(chaosPrefix(owner, e.prefix) + "x")
		if err != nil {
			c.waitForRecovery()
			continue
		}
		if e.back = c.history.now(); d.opens() {
			e.openedPage, _, _ = strings.Cut(d.Path, "?")
			assert.Equal(c.t, d.AppID, owner, "the account that a scan of rule %d opens", e.prefix)
		}
		c.history.add(e)
		c.mu.Lock()
		c.scanIDs = append(c.scanIDs, d.ScanID)
		c.mu.Unlock()
		time.Sleep(time.Millisecond) // leaves CPU time to the writers
	}
}

// apply applies for codes. Other clients apply with the same isv_application_id on other nodes.
func (c *client) apply(account string) {
	token := c.token(account)
	for n := 0; token != "" && c.choose(); {
		isv := fmt.Sprint("isv-", n)
		applied, err := c.conn.codes("applycode", token, map[string]any{"code_count": 10_000, "isv_application_id": isv})
		if err != nil || applied.ErrCode == -1 {
			c.waitForRecovery() // then retries with the same isv_application_id
			continue
		}
		if c.tokensExpired.Load() && isTokenError(applied.ErrCode) {
			token = c.token(account)
			continue
		}
		if applied.ErrCode != 0 || applied.ApplicationID == 0 {
			c.t.Errorf("applycode(%s, %s) = %+v, want an application_id", account, isv, applied)
			return
		}
		c.mu.Lock()
		if before, ok := c.batches[account+" "+isv]; ok && before != applied.ApplicationID {
			c.t.Errorf("application_id of %s %s = %d and %d, want one", account, isv, before, applied.ApplicationID)
		}
		c.batches[account+" "+isv] = applied.ApplicationID
		c.mu.Unlock()
		c.acks.Add(1)
		n++
		time.Sleep(10 * time.Millisecond) // leaves CPU time to the writers of rules
	}
}

// scanCodes scans codes for many users and keeps the tickets.
func (c *client) scanCodes() {
	c.conn.bearer = c.scanKey
	for c.choose() {
		// Two users scan each code, usually concurrently on two nodes.
		id := c.scans.Add(1)
		user, index := fmt.Sprint("user-", id), id/2%scannedCodes
		clocks := c.clockState()
		d, err := c.conn.scanAs(c.texts[index], user)
		if err != nil {
			c.mu.Lock()
			c.unknown[index] = true
			c.mu.Unlock()
			c.waitForRecovery()
			continue
		}
		text := d.ticket()
		if text == "" {
			c.t.Errorf("a scan of an active code %v, want a ticket", d)
			return
		}
		c.recordCodeScan(index, d)
		if clocks.moves%2 == 0 && c.clockState() == clocks && clocks.ahead != c.node { // no clock has moved since
			c.mu.Lock()
			c.tickets = append(c.tickets, ticket{text, user, index})
			c.mu.Unlock()
		}
		c.acks.Add(1)
		time.Sleep(5 * time.Millisecond) // leaves CPU time to the writers of rules
	}
}

// recordCodeScan remembers an acknowledged scan of a code.
func (s *nodeChaos) recordCodeScan(index int64, d decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scanned[index] == nil {
		s.scanned[index] = map[string]bool{}
	}
	s.scanned[index][d.ScanID] = true
	s.scanIDs = append(s.scanIDs, d.ScanID)
}

// checkRound checks a round after all calls have completed.
func (s *nodeChaos) checkRound(owners []string) {
	for _, owner := range owners {
		for _, n := range s.cluster.nodes {
			// The final response of every node is part of the history.
			admin := n.admin()
			token := admin.stableToken(owner)
			e := entry{action: "get", owner: owner, incarnation: n.running.Load().incarnation, call: s.history.now()}
			got := admin.ok("qrcodejumpget", token, map[string]any{})
			e.back, e.rules, e.left = s.history.now(), states(owner, got), got.QRCodeJumpPubQuota
			s.history.add(e)
			s.finalRules[owner] = got
		}
	}
	s.waitForRules(owners)
	violations, calls := s.history.check(s.dir)
	s.checked += calls
	for _, w := range violations {
		s.t.Error(w)
	}
	s.checkBatches()
	s.checkFirstScans()
	s.exchangeTickets(5)
}

// waitForRules waits until scans on every node open the final rules.
func (s *nodeChaos) waitForRules(owners []string) {
	for _, n := range s.cluster.nodes {
		scans := n.connect(s.scanKey)
		for _, owner := range owners {
			for prefix, r := range states(owner, s.finalRules[owner]) {
				want := ""
				if r.Published {
					want = r.Path
				}
				waitFor(s.t, fmt.Sprintf("node %d to show %q for rule %d of %s", n.number, want, prefix, owner), func() bool {
					page, _, _ := strings.Cut(scans.scan(chaosPrefix(owner, prefix)+"x").Path, "?")
					return page == want
				})
			}
		}
	}
}

// checkBatches checks that every acknowledged application is one batch, and that no two batches share a code.
func (s *nodeChaos) checkBatches() {
	assert.Equal(s.t, dbtest.QueryInt(s.t, s.cluster.database, `SELECT count(*) FROM batches a JOIN batches b
		ON a.id < b.id AND a.start < b.start + b.codes AND b.start < a.start + a.codes`), 0, "pairs of batches that share codes")
	stored := queryMap[string, int64](s.t, s.cluster.database, `SELECT account || ' ' || isv, id FROM batches`)
	for name, id := range s.batches {
		assert.Equal(s.t, stored[name], id, "application_id of %s", name)
	}
}

// checkFirstScans checks that every scanned code has a first scan which was acknowledged or had no response, and which never changes.
func (s *nodeChaos) checkFirstScans() {
	stored := queryMap[int64, string](s.t, s.cluster.database,
		fmt.Sprintf(`SELECT idx, first_scan FROM code_scans WHERE batch = %d`, s.batches["brand0 scanned"]))
	for index, ids := range s.scanned {
		first, before := stored[index], s.firstScans[index]
		assert.True(s.t, first != "", "code %d was scanned and has no first scan", index)
		assert.True(s.t, before == "" || before == first, "the first scan of code %d changed from %s to %s", index, before, first)
		assert.True(s.t, ids[first] || s.unknown[index], "the first scan of code %d is %s, which was not acknowledged", index, first)
	}
	s.firstScans = stored
}

// exchangeTickets exchanges n random tickets on a random node.
func (s *nodeChaos) exchangeTickets(n int) {
	node := s.randomNode()
	for range min(n, len(s.tickets)) {
		ticket := s.tickets[s.rnd.IntN(len(s.tickets))]
		got := s.exchangeTicket(node, ticket.user, ticket.text)
		assert.Equal(s.t, got.ErrCode, 0, "errcode of tickettocode with a ticket of %s: %s", ticket.user, got.ErrMsg)
	}
}

// exchangeTicket exchanges a ticket for its code.
func (s *nodeChaos) exchangeTicket(n *node, user, text string) (code struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	Code    string `json:"code"`
}) {
	s.t.Helper()
	admin := n.admin()
	path := "/intp/marketcode/tickettocode?access_token=" + url.QueryEscape(admin.stableToken("brand0"))
	admin.post(path, map[string]any{"openid": admin.openID("owner0", user), "code_ticket": text}, &code)
	assert.True(s.t, code.ErrCode != 0 || code.Code != "", "tickettocode for %s returned no code", user)
	return code
}

// checkFinalState checks the results of all rounds at the end.
func (s *nodeChaos) checkFinalState() {
	if s.t.Failed() {
		return
	}
	admin := s.randomNode().admin()
	for owner, want := range s.finalRules {
		got := admin.ok("qrcodejumpget", admin.stableToken(owner), map[string]any{})
		assert.True(s.t, states(owner, got) == states(owner, want) && got.QRCodeJumpPubQuota == want.QRCodeJumpPubQuota,
			"rules of %s = %+v, want those of the end of its round: %+v", owner, got, want)
	}
	s.exchangeTickets(300)
	s.checkScanLog()
	var verified struct {
		Fault any `json:"first_error"`
	}
	admin.post("/admin/v1/audit/verify", nil, &verified)
	assert.True(s.t, verified.Fault == nil, "audit/verify reports %v, want no error", verified.Fault)
}

// checkScanLog waits until every acknowledged scan is in the shared scan log, and checks that it is there once: nodes copy their journals
// there, also after a kill.
func (s *nodeChaos) checkScanLog() {
	waitFor(s.t, "the scans to arrive in the scan log", func() bool {
		counts := queryMap[string, int](s.t, s.cluster.database, `SELECT id, count(*) FROM scan_events GROUP BY id`)
		missing := 0
		for _, id := range s.scanIDs {
			if counts[id] == 0 {
				missing++
			}
			assert.True(s.t, counts[id] <= 1, "the scan %s is in the scan log %d times, want once", id, counts[id])
		}
		return missing == 0 || s.t.Failed()
	})
}
