package chaos_test

import (
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
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

// TestChaos_NodesOnPostgres: three nodes on a PostgreSQL primary with a synchronous replica.
// While clients write and scan, nodes and the primary are killed at random
// moments, the replica is promoted, a new one is made, nodes are stopped (also
// while everybody waits for them, and in the middle of an import) and go on, sessions
// are ended, two servers take writes, all nodes are replaced one after the other, and
// the clock of a node jumps ahead and is repaired. What every node
// answered is compared with the promises of history_test.go, no batch may
// share a code with another, and every ticket that was handed out is good.
// In make test each fault that is a thing of its own comes once; else all of
// them by chance, as long as the time holds.
//
//	CHAOS_MINUTES=8 QRJUMP_TEST_SEED=1 go test -run 'TestChaos_NodesOnPostgres$' -timeout 60m ./chaos
func TestChaos_NodesOnPostgres(t *testing.T) {
	seed := testdiag.Seed(t)
	length := 25 * time.Second // in a whole run
	if minutes := number(t, "CHAOS_MINUTES", 0); minutes > 0 {
		length = time.Duration(minutes) * time.Minute * 2 / 5 // the rest is for the others
	}
	p := newPair(t)
	s := &storm{t: t, pair: p, rnd: rand.New(rand.NewPCG(seed, 0)), kept: map[string]reply{}, batches: map[string]int64{},
		scanned: map[int64]map[string]bool{}, unsure: map[int64]bool{}, firsts: map[int64]string{}}
	s.long = number(t, "CHAOS_MINUTES", 0) > 0
	s.cluster = newCluster(t, p.database("chaos"), s.seed(length), 3)
	s.cluster.clocks = true
	for _, n := range s.cluster.nodes {
		n.setClock(0)
	}
	t.Logf("%v", length)
	s.prepare()
	end := time.Now().Add(length)
	for s.rounds < s.seeded && time.Now().Before(end) && !t.Failed() && amount(true, false) {
		s.round(s.fault())
	}
	for _, f := range amount(nil, faults) {
		if f.once {
			s.round(f)
		}
	}
	s.last()
	s.cluster.stop()
	t.Logf(
		"%d rounds: nodes killed %d times, the primary %d times; nodes stood still %d times, and %d times while all changes waited for them; all sessions were ended %d times, a clock jumped ahead %d times; %d imports broke off in the middle; all nodes were replaced %d times; %d times two servers took writes",
		s.rounds, s.nodesKilled, s.primariesKilled, s.stops, s.heads, s.sessions, s.jumps, s.imports, s.rolls, s.splits)
	t.Logf("%d calls of %d owners compared (%d without an answer), %d batches of codes, %d tickets, %d first scans, %d scans in the ledger",
		s.compared, len(s.kept), s.lost, len(s.batches), len(s.tickets), len(s.firsts), len(s.ledger))
	t.Logf("slowest answer to a write %v", s.slowest.Round(time.Millisecond))
}

// storm is everything that a run of TestChaos_NodesOnPostgres knows.
type storm struct {
	t       *testing.T
	pair    *pair
	cluster *cluster
	rnd     *rand.Rand
	scanKey string
	texts   []string // code texts that are active

	seeded                               int // for how many rounds there are accounts
	long                                 bool
	rounds, nodesKilled, primariesKilled int
	stops, heads, sessions, jumps        int
	imports, rolls, splits               int
	compared, lost                       int
	slowest                              time.Duration

	// acks counts what the clients of this round got done.
	acks atomic.Int64
	// raging: something is down or was a moment ago.
	raging atomic.Bool
	// moves counts the beginnings and ends of moves of a clock; ahead has one that
	// is wrong. A round in which one jumped has tokens that have ended.
	moves atomic.Int64
	ahead atomic.Pointer[process]
	stale atomic.Bool
	ended atomic.Bool
	// split: two servers take writes, and not every node knows. One that does not reads from the old one meanwhile.
	split   atomic.Bool
	history *history
	ids     atomic.Int64
	scans   atomic.Int64

	mu      sync.Mutex
	kept    map[string]reply // what owners of earlier rounds had at the end
	batches map[string]int64 // application_id by account and isv_application_id
	tickets []ticket
	scanned map[int64]map[string]bool // scan ids of each code, acknowledged
	ledger  []string                  // ids of all scans that were answered
	unsure  map[int64]bool            // codes of which a scan got no answer
	firsts  map[int64]string          // the first scan of each code, as stored
}

type ticket struct {
	text, user string
	index      int64
}

const (
	roundOwners    = 2
	ownerWriters   = 3
	ownerScanners  = 2
	roundPressers  = 2
	ticketScanners = 2
)

// scannedCodes is how many codes are scanned, each by two.
var scannedCodes = amount[int64](1000, 100)

// seed has owners for as many rounds as there can be.
func (s *storm) seed(length time.Duration) string {
	var b strings.Builder
	b.WriteString("accounts:\n")
	s.seeded = int(length/(2*time.Second)) + 2
	for n := range s.seeded * roundOwners {
		fmt.Fprintf(&b, "  - {appid: owner%d, kind: mini_program, secret: %q, versions: [release]}\n", n, secretOf(fmt.Sprint("owner", n)))
	}
	for n := range s.seeded {
		fmt.Fprintf(&b,
			"  - {appid: brand%d, kind: service_account, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef, secret: %q, linked: [owner0]}\n",
			n, secretOf(fmt.Sprint("brand", n)))
	}
	fmt.Fprintf(&b, "  - {appid: importer, kind: mini_program, secret: %q, versions: [release]}\n", secretOf("importer"))
	fmt.Fprintf(&b, "settings: {rule_rate_limit: 900, verification: trust, publish_quota: %d, rule_limit: 1000000}\n", chaosQuota)
	return b.String()
}

// prepare starts the nodes; the first one makes the codes that are scanned.
func (s *storm) prepare() {
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
	s.cluster.allReady()
}

// round lets clients work, kills something under them, mends it, and compares.
func (s *storm) round(f fault) {
	s.history = &history{began: time.Now()}
	s.acks.Store(0)
	s.ended.Store(false)
	s.stale.Store(false)
	for _, n := range s.cluster.nodes {
		p := n.running.Load()
		s.history.add(entry{call: 0, back: s.history.now(), did: "start", life: p.life})
	}
	owners := []string{}
	var all sync.WaitGroup
	work := func(f func(*client)) {
		c := s.client()
		all.Go(func() { f(c) })
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
	for range roundPressers {
		work(func(c *client) { c.press(fmt.Sprint("brand", s.rounds)) })
	}
	for range ticketScanners {
		work(func(c *client) { c.scanCodes() })
	}
	s.wait(30 + s.rnd.IntN(amount(200, 50)))
	s.raging.Store(true)
	from := s.history.now()
	what := f.strike(s)
	s.cluster.allReady() // a node that could not read back what it committed says so
	calm := s.history.now()
	s.raging.Store(false)
	s.wait(40)
	s.ended.Store(true)
	all.Wait()
	s.cluster.allReady()
	quiet(s.t, s.cluster.database)
	s.history.storm(from, calm)
	s.judge(owners)
	s.rounds++
	require.True(s.t, !s.t.Failed(), "round %d: %s", s.rounds, what)
}

// wait until so many calls more were acknowledged.
func (s *storm) wait(more int) {
	want := s.acks.Load() + int64(more)
	until(s.t, "clients to get on", func() bool { return s.acks.Load() >= want || s.t.Failed() })
}

// fault is something that goes wrong under a round, and is mended. It returns
// what it was.
type fault struct {
	weight int
	once   bool // it comes in make test
	strike func(*storm) string
}

// faults are all there are: another one is a line here.
var faults = []fault{
	{3, false, func(s *storm) string { return s.killed(false, 1) }},
	{2, false, func(s *storm) string { return s.killed(false, 2) }},
	{4, false, func(s *storm) string { return s.killed(true, 0) }},
	{1, true, func(s *storm) string { return s.killed(true, 1) }},
	{1, false, (*storm).paused},
	{1, false, (*storm).stuttered},
	{2, true, (*storm).stoppedAtHead},
	{1, true, (*storm).sessionsEnded},
	{3, true, (*storm).jumped},
	{3, true, (*storm).importStopped},
	{1, false, (*storm).replaced},
	{2, false, (*storm).twoPrimaries},
}

// fault is one of the faults, by chance.
func (s *storm) fault() fault {
	all := 0
	for _, f := range faults {
		all += f.weight
	}
	dice := s.rnd.IntN(all)
	for _, f := range faults {
		if dice -= f.weight; dice < 0 {
			return f
		}
	}
	panic("unreachable")
}

// victim is any node.
func (s *storm) victim() *node { return s.cluster.nodes[s.rnd.IntN(len(s.cluster.nodes))] }

// paused: a node stands still for a while.
func (s *storm) paused() string {
	n := s.victim()
	n.running.Load().pause(time.Duration(200+s.rnd.IntN(1500)) * time.Millisecond)
	s.stops++
	return fmt.Sprintf("node %d stood still for a while", n.number)
}

// stuttered: all nodes stand still again and again, at random moments.
func (s *storm) stuttered() string {
	for range 10 + s.rnd.IntN(20) {
		s.victim().running.Load().pause(time.Duration(1+s.rnd.IntN(150)) * time.Millisecond)
		s.stops++
		s.wait(1)
	}
	return "nodes stood still again and again"
}

// stoppedAtHead: the node whose session holds the end of the log of changes stands
// still, for a moment or until PostgreSQL ends the session.
func (s *storm) stoppedAtHead() string {
	number, pid, goOn := holdAtHead(s.t, s.cluster.database, "changes", func() {}) // which every change writes to
	n := s.cluster.nodes[number]
	p := n.running.Load()
	p.signal(syscall.SIGSTOP)
	goOn()
	s.heads++
	what := fmt.Sprintf("node %d stood still while it held the end of the log of changes", n.number)
	if s.long && s.rnd.IntN(2) == 0 {
		what += " until its session was ended"
		until(s.t, "the session to be ended", func() bool {
			return dbtest.Number(s.t, s.cluster.database, fmt.Sprintf(`SELECT count(*) FROM pg_stat_activity WHERE pid = %d`, pid)) == 0
		})
	} else {
		time.Sleep(time.Duration(s.rnd.IntN(1500)) * time.Millisecond) // real time is what is missing to a process that stands still
	}
	p.signal(syscall.SIGCONT)
	return what
}

func (s *storm) sessionsEnded() string {
	endSessions(s.t, s.cluster.database)
	s.sessions++
	return "every session of the database was ended"
}

// killed kills some nodes, and with them the primary or not.
func (s *storm) killed(primary bool, nodes int) (what string) {
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
		s.pair.script("kill", s.pair.dirs[s.pair.primary])
		s.pair.promote() // until heal, the new primary acknowledges no commit
		s.primariesKilled++
		what += "kill -9 of the primary; "
		s.pair.heal()
	}
	for _, n := range dead {
		began := s.history.now()
		n.start()
		s.history.add(entry{call: began, back: s.history.now(), did: "start", life: n.running.Load().life})
	}
	return what
}

// client makes one call after the other, on nodes that it chooses.
type client struct {
	*storm
	rnd  *rand.Rand
	conn *connection
	on   *process
}

func (s *storm) client() *client {
	c := &client{storm: s, rnd: rand.New(rand.NewPCG(s.rnd.Uint64(), 0)), conn: connect(s.t, "", "")}
	c.conn.http.Timeout = 30 * time.Second
	return c
}

// choose returns false when the round is over; else on is a node that runs.
func (c *client) choose() bool {
	for !c.ended.Load() && !c.t.Failed() {
		p := c.cluster.nodes[c.rnd.IntN(len(c.cluster.nodes))].running.Load()
		if p == nil {
			time.Sleep(time.Millisecond) // the machine is for the node that starts
			continue
		}
		if c.on == nil || c.rnd.IntN(8) == 0 || !c.runs(c.on) {
			c.on = p
		}
		c.conn.base = c.on.URL
		return true
	}
	return false
}

func (c *client) runs(p *process) bool {
	return slices.ContainsFunc(c.cluster.nodes, func(n *node) bool { return n.running.Load() == p })
}

// shelter waits until what is down is up again: of a storm each client may
// lose one call, so that the checker has few open ends.
func (c *client) shelter() {
	c.on = nil
	for c.raging.Load() && !c.t.Failed() {
		time.Sleep(5 * time.Millisecond) // a look at real processes, nothing is asserted of the time
	}
}

// token is the stable token of an account; "" when the round is over.
func (c *client) token(account string) string {
	for c.choose() {
		if text, err := c.conn.stableToken(account); err == nil {
			return text
		}
		c.shelter()
	}
	return ""
}

// write changes the rules of an owner, which others change as well.
func (c *client) write(owner string) {
	c.conn.bearer = ""
	token := c.token(owner)
	for token != "" && c.choose() {
		e := entry{owner: owner, prefix: c.rnd.IntN(chaosPrefixes), life: c.on.life, id: c.ids.Add(1)}
		prefix := chaosPrefix(owner, e.prefix)
		var call string
		body := prefixOnly(prefix)
		switch dice := c.rnd.IntN(10); {
		case dice < 3:
			e.did, call, e.path = "add", "qrcodejumpadd", fmt.Sprint("pages/", e.id)
			body = add(prefix, e.path)
		case dice < 6:
			e.did, call = "publish", "qrcodejumppublish"
		case dice < 8:
			e.did, call = "delete", "qrcodejumpdelete"
		default:
			e.did, call, body = "get", "qrcodejumpget", map[string]any{}
		}
		if !c.record(e, call, token, body) {
			token = c.token(owner)
		}
	}
}

func chaosPrefix(owner string, n int) string { return fmt.Sprintf("https://%s.example/p%d/", owner, n) }

// record makes a call and notes it; it returns false for a token that has ended.
func (c *client) record(e entry, call, token string, body any) (inForce bool) {
	e.call = c.history.now()
	split := c.split.Load()
	got, err := c.conn.wire(call, token, body)
	e.back, e.code = c.history.now(), got.ErrCode
	if err != nil || got.ErrCode == -1 {
		e.code, e.back = lost, never
		c.mu.Lock()
		c.lost++
		c.mu.Unlock()
		if e.did != "get" {
			c.history.add(e)
		}
		c.shelter()
		return true
	}
	if c.stale.Load() && isStale(e.code) {
		return false
	}
	switch e.code {
	case done, noSuchRule, addedTwice, quotaSpent:
	default:
		c.t.Errorf("%s of %s on node life %d: %d %s", e.did, e.owner, e.life, got.ErrCode, got.ErrMsg)
		return true
	}
	if split || c.split.Load() {
		// What changed nothing may be of before the promotion: a list, a refusal, a publish of what was published.
		if e.did == "get" || e.code != done {
			return true
		}
		if e.did == "publish" {
			e.code, e.back = lost, never
		}
	}
	if e.did == "get" {
		e.rules, e.left = states(e.owner, got), got.QRCodeJumpPubQuota
	}
	c.history.add(e)
	if e.code == done && e.did != "get" {
		seen := e
		seen.did = "seen"
		c.history.add(seen)
		c.acks.Add(1)
	}
	c.mu.Lock()
	if e.back != never {
		c.slowest = max(c.slowest, time.Duration(e.back-e.call))
	}
	c.mu.Unlock()
	return true
}

// states are the rules of an owner as the models see them.
func states(owner string, r reply) (list [chaosPrefixes]ruleState) {
	for n := range list {
		for _, rule := range r.RuleList {
			if rule.Prefix == chaosPrefix(owner, n) {
				list[n] = ruleState{Living: true, Published: rule.State == 2, Path: rule.Path}
			}
		}
	}
	return list
}

// scan scans the prefixes of an owner.
func (c *client) scan(owner string) {
	c.conn.bearer = c.scanKey
	for c.choose() {
		e := entry{did: "scan", owner: owner, prefix: c.rnd.IntN(chaosPrefixes), life: c.on.life}
		e.call = c.history.now()
		d, err := c.conn.scan(chaosPrefix(owner, e.prefix) + "x")
		if err != nil {
			c.shelter()
			continue
		}
		if e.back = c.history.now(); d.opens() {
			e.shows, _, _ = strings.Cut(d.Path, "?")
			assert.True(c.t, d.AppID == owner, "a scan of rule %d of %s %v", e.prefix, owner, d)
		}
		c.history.add(e)
		c.mu.Lock()
		c.ledger = append(c.ledger, d.ScanID)
		c.mu.Unlock()
		time.Sleep(time.Millisecond) // the machine is for the writers
	}
}

// press applies for codes. Others apply with the same numbers, elsewhere.
func (c *client) press(account string) {
	token := c.token(account)
	for n := 0; token != "" && c.choose(); {
		isv := fmt.Sprint("isv-", n)
		applied, err := c.conn.codes("applycode", token, map[string]any{"code_count": 10_000, "isv_application_id": isv})
		if err != nil || applied.ErrCode == -1 {
			c.shelter() // and again with the same number
			continue
		}
		if c.stale.Load() && isStale(applied.ErrCode) {
			token = c.token(account)
			continue
		}
		if applied.ErrCode != 0 || applied.ApplicationID == 0 {
			c.t.Errorf("applycode of %s %s: %+v", account, isv, applied)
			return
		}
		c.mu.Lock()
		if before, known := c.batches[account+" "+isv]; known && before != applied.ApplicationID {
			c.t.Errorf("%s %s is application %d and %d", account, isv, before, applied.ApplicationID)
		}
		c.batches[account+" "+isv] = applied.ApplicationID
		c.mu.Unlock()
		c.acks.Add(1)
		n++
		time.Sleep(10 * time.Millisecond) // the machine is for the writers of rules
	}
}

// scanCodes scans codes as many users and keeps the tickets.
func (c *client) scanCodes() {
	c.conn.bearer = c.scanKey
	for c.choose() {
		// Two users scan each code, mostly at the same time and on two nodes.
		id := c.scans.Add(1)
		user, index := fmt.Sprint("user-", id), id/2%scannedCodes
		var d decision
		clocks := c.moment()
		err := c.conn.do(http.MethodPost, "/scan/v1/resolve", map[string]any{"text": c.texts[index], "user": user}, &d)
		if err != nil {
			c.mu.Lock()
			c.unsure[index] = true
			c.mu.Unlock()
			c.shelter()
			continue
		}
		_, text, found := strings.Cut(d.Path, "code_ticket=")
		if !found {
			c.t.Errorf("a scan of an active code %v", d)
			return
		}
		text, _, _ = strings.Cut(text, "&")
		c.noteCode(index, d)
		if clocks.moves%2 == 0 && c.moment() == clocks && clocks.ahead != c.on { // no clock has been moved since
			c.mu.Lock()
			c.tickets = append(c.tickets, ticket{text, user, index})
			c.mu.Unlock()
		}
		c.acks.Add(1)
		time.Sleep(5 * time.Millisecond) // the machine is for the writers of rules
	}
}

// noteCode remembers the scan of a code.
func (s *storm) noteCode(index int64, d decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scanned[index] == nil {
		s.scanned[index] = map[string]bool{}
	}
	s.scanned[index][d.ScanID] = true
	s.ledger = append(s.ledger, d.ScanID)
}

// judge compares a round, when nothing is under way any more.
func (s *storm) judge(owners []string) {
	for _, owner := range owners {
		for _, n := range s.cluster.nodes {
			// The last answer of every node belongs to the history too.
			admin := n.admin()
			token := admin.stableToken(owner)
			e := entry{did: "get", owner: owner, life: n.running.Load().life, call: s.history.now()}
			got := admin.ok("qrcodejumpget", token, map[string]any{})
			e.back, e.rules, e.left = s.history.now(), states(owner, got), got.QRCodeJumpPubQuota
			s.history.add(e)
			s.kept[owner] = got
		}
	}
	s.caughtUp(owners)
	wrong, calls := s.history.check(s.pictures())
	s.compared += calls
	for _, w := range wrong {
		s.t.Error(w)
	}
	s.judgeBatches()
	s.judgeFirsts()
	s.exchange(5)
}

// caughtUp wants every node to show the truth, soon after the last write.
func (s *storm) caughtUp(owners []string) {
	for _, n := range s.cluster.nodes {
		scans := must{connect(s.t, n.running.Load().URL, s.scanKey), s.t}
		for _, owner := range owners {
			for prefix, r := range states(owner, s.kept[owner]) {
				want := ""
				if r.Published {
					want = r.Path
				}
				until(s.t, fmt.Sprintf("node %d to show %q for rule %d of %s", n.number, want, prefix, owner), func() bool {
					page, _, _ := strings.Cut(scans.scan(chaosPrefix(owner, prefix)+"x").Path, "?")
					return page == want
				})
			}
		}
	}
}

func (s *storm) pictures() string {
	dir, err := os.MkdirTemp("", "qrjump-history-")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { os.Remove(dir) }) // stays when there is something in it
	return dir
}

// judgeBatches: every acknowledged application is one batch, and no two
// batches of the whole database share a code.
func (s *storm) judgeBatches() {
	database := s.cluster.database
	assert.Equal(s.t, dbtest.Number(s.t, database,
		`SELECT count(*) FROM batches a JOIN batches b ON a.id < b.id AND a.start < b.start + b.codes AND b.start < a.start + a.codes`), 0, "pairs of batches share codes")
	stored := map[string]int64{}
	dbtest.Rows(s.t, database, `SELECT account || ' ' || isv, id FROM batches`, func(rows *sql.Rows) error {
		var name string
		var id int64
		if err := rows.Scan(&name, &id); err != nil {
			return err
		}
		stored[name] = id
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(s.batches)) {
		assert.Equal(s.t, stored[name], s.batches[name], "%s was acknowledged as application %d, and", name, s.batches[name])
	}
}

// judgeFirsts: every code that was scanned has one first scan, one of those
// that were acknowledged or got no answer, and it never changes.
func (s *storm) judgeFirsts() {
	stored := map[int64]string{}
	dbtest.Rows(s.t, s.cluster.database, fmt.Sprintf(`SELECT idx, first_scan FROM code_scans WHERE batch = %d`,
		s.batches["brand0 scanned"]), func(rows *sql.Rows) error {
		var index int64
		var id string
		err := rows.Scan(&index, &id)
		stored[index] = id
		return err
	})
	for index, ids := range s.scanned {
		switch first := stored[index]; {
		case first == "":
			s.t.Errorf("code %d was scanned, and has no first scan", index)
		case s.firsts[index] != "" && s.firsts[index] != first:
			s.t.Errorf("the first scan of code %d was %s, and is %s", index, s.firsts[index], first)
		case !ids[first] && !s.unsure[index]:
			s.t.Errorf("the first scan of code %d is %s, which nobody got", index, first)
		}
	}
	s.firsts = stored
}

// exchange trades some of the tickets on a random node.
func (s *storm) exchange(some int) {
	n := s.victim()
	for range min(some, len(s.tickets)) {
		one := s.tickets[s.rnd.IntN(len(s.tickets))]
		if traded := s.trade(n, one.user, one.text); traded.ErrCode != 0 {
			s.t.Errorf("a ticket that was handed out to %s: %d %s", one.user, traded.ErrCode, traded.ErrMsg)
		}
	}
}

// trade trades a ticket on a node.
func (s *storm) trade(n *node, user, text string) (traded struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	Code    string `json:"code"`
}) {
	s.t.Helper()
	admin := n.admin()
	token := admin.stableToken("brand0")
	var of struct {
		OpenID string `json:"openid"`
	}
	admin.check(admin.do(http.MethodGet, "/admin/v1/users/"+user+"/openid?appid=owner0", nil, &of))
	admin.check(admin.do(http.MethodPost, "/intp/marketcode/tickettocode?access_token="+url.QueryEscape(token),
		map[string]any{"openid": of.OpenID, "code_ticket": text}, &traded))
	assert.True(s.t, traded.ErrCode != 0 || traded.Code != "", "the ticket of %s has no code", user)
	return traded
}

// last compares everything of all rounds once more.
func (s *storm) last() {
	if s.t.Failed() {
		return
	}
	n := s.cluster.nodes[s.rnd.IntN(len(s.cluster.nodes))]
	for _, owner := range slices.Sorted(maps.Keys(s.kept)) {
		admin := n.admin()
		token := admin.stableToken(owner)
		got, want := admin.ok("qrcodejumpget", token, map[string]any{}), s.kept[owner]
		assert.True(s.t, states(owner, got) == states(owner, want) && got.QRCodeJumpPubQuota == want.QRCodeJumpPubQuota,
			"%s had %+v at the end of its round, and now %+v", owner, want, got)
	}
	s.exchange(300)
	s.judgeLedger()
	var verified struct {
		Fault any `json:"first_error"`
	}
	n.admin().check(n.admin().do(http.MethodPost, "/admin/v1/audit/verify", nil, &verified))
	assert.True(s.t, verified.Fault == nil, "the audit log: %v", verified.Fault)
}

// judgeLedger wants every scan that was answered in the ledger, once: nodes
// keep them in journals of their own and bring them there, also after a kill.
func (s *storm) judgeLedger() {
	missing := 0
	until(s.t, "the scans to arrive in the ledger", func() bool {
		times := map[string]int{}
		dbtest.Rows(s.t, s.cluster.database, `SELECT id FROM scan_events`, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			times[id]++
			return err
		})
		missing = 0
		for _, id := range s.ledger {
			if times[id] == 0 {
				missing++
			}
			if times[id] > 1 {
				s.t.Errorf("the scan %s is in the ledger %d times", id, times[id])
			}
		}
		return missing == 0 || s.t.Failed()
	})
}
