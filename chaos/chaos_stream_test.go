package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// serveStream is a NATS server that flushes what it takes.
func serveStream(ctx context.Context, o natstest.Options) error {
	n, err := natstest.Run(o)
	if err != nil {
		return err
	}
	fmt.Printf("qrjump ready %s\n", n.ClientURL())
	<-ctx.Done()
	return nil
}

// stream is a NATS server in a process of its own, with a folder of its own.
type stream struct {
	natstest.Options
	t       testing.TB
	logs    string
	running *process
}

func newStream(t testing.TB) *stream {
	t.Helper()
	// The address is this test's alone: the port stays free while the server is down.
	l, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	defer l.Close()
	at := l.Addr().(*net.TCPAddr)
	s := &stream{natstest.Options{Host: at.IP.String(), Dir: filepath.Join(t.TempDir(), "stream"), Port: at.Port}, t, t.TempDir(), nil}
	t.Cleanup(func() {
		if s.running != nil {
			s.kill()
		}
	})
	return s
}

func (s *stream) start() {
	s.t.Helper()
	until(s.t, "the stream's server to start", func() (ready bool) {
		s.running, ready = begin(s.t, proctest.Command("stream", s.Options), s.logs)
		return ready
	})
}

func (s *stream) kill() {
	s.running.kill()
	s.running.gone()
	s.running = nil
}

// lose takes the folder of a server that does not run.
func (s *stream) lose() {
	s.t.Helper()
	require.NoError(s.t, os.RemoveAll(s.Dir))
}

// TestChaos_NodesOnStream: three nodes whose scans meet in a stream. While clients scan,
// the stream's server is killed, loses its folder and comes back empty; nodes are
// killed; the clock of a node jumps ahead and is repaired; the reader of webhooks stays
// behind what is counted, and the stream is lost meanwhile. After each round the feed
// has every scan that was acknowledged, once, and a recount finds nothing lacking. In
// the end a webhook was told of every scan of its rule.
//
//	CHAOS_MINUTES=8 QRJUMP_TEST_SEED=1 go test -run 'TestChaos_NodesOnStream$' -timeout 60m ./chaos
func TestChaos_NodesOnStream(t *testing.T) {
	chance := testdiag.Seed(t)
	length := amount(10*time.Second, 0) // one round
	if minutes := number(t, "CHAOS_MINUTES", 0); minutes > 0 {
		length = time.Duration(minutes) * time.Minute / 10
	}
	t.Logf("%v", length)
	s := &streamStorm{t: t, rnd: rand.New(rand.NewPCG(chance, 0)), stream: newStream(t), acked: map[string]bool{}}
	s.stream.start()
	seed := strings.Replace(spaceSeed, "settings: {", "settings: {allow_private_hosts: true, ", 1)
	s.cluster = newCluster(t, ownDatabase(t), seed, 3)
	s.cluster.clocks = true
	s.cluster.events = fmt.Sprintf("nats://%s?flush=vouched", net.JoinHostPort(s.stream.Host, strconv.Itoa(s.stream.Port)))
	for _, n := range s.cluster.nodes {
		n.setClock(0)
	}
	s.cluster.start()
	admin := s.cluster.nodes[0].admin()
	s.key = admin.scanKey("chaos")
	s.cluster.allReady()
	for _, n := range s.cluster.nodes {
		until(t, "the key to be known", func() bool {
			_, err := connect(t, n.running.Load().URL, s.key).scan("https://nowhere.example/")
			s.unsure.Add(1)
			return err == nil
		})
	}
	s.told = hear(t, admin, "https://shop.example/open/")
	end := time.Now().Add(length)
	for s.rounds == 0 || time.Now().Before(end) && !t.Failed() {
		s.round()
	}
	for _, n := range s.cluster.nodes {
		n.setClock(27 * time.Hour) // what a killed node had begun to send is due, also that of one whose clock was ahead
	}
	s.told.hasAll()
	s.cluster.stop()
	t.Logf(
		"%d rounds: the stream lost its folder %d times and was killed %d times, %d times the reader of webhooks was behind; nodes were killed %d times, a clock jumped ahead %d times",
		s.rounds, s.losses, s.streamKills, s.behinds, s.nodeKills, s.jumps)
	t.Logf("%d scans acknowledged, %d sent without an answer, %d in the feed", len(s.acked), s.unsure.Load(), s.fed)
}

// streamStorm is everything that a run of TestChaos_NodesOnStream knows.
type streamStorm struct {
	t       *testing.T
	rnd     *rand.Rand
	cluster *cluster
	stream  *stream
	key     string

	rounds, losses, streamKills, behinds, nodeKills, jumps, fed int

	told *told

	ended  atomic.Bool
	acks   atomic.Int64
	unsure atomic.Int64 // scans without an answer
	mu     sync.Mutex
	acked  map[string]bool // scans by their ids
}

// round lets clients scan while something breaks, and compares.
func (s *streamStorm) round() {
	var ahead *node
	if s.rnd.IntN(4) == 0 {
		ahead = s.jump() // while nobody scans: all that the journals have is counted
	}
	s.ended.Store(false)
	var all sync.WaitGroup
	for range 4 {
		rnd := rand.New(rand.NewPCG(s.rnd.Uint64(), 0))
		all.Go(func() { s.scan(rnd) })
	}
	s.wait(50 + s.rnd.IntN(300))
	catchUp, behind := func() {}, s.rounds == 0 || s.rnd.IntN(3) == 0
	if behind {
		catchUp = s.behind()
		s.wait(50 + s.rnd.IntN(100)) // which are counted, and not told
	}
	var what string
	if s.rounds == 0 { // the worst that can happen to a stream comes in every run
		what = s.lost(false)
	} else {
		what = s.strike()
	}
	if ahead != nil {
		ahead.setClock(0)
		what = fmt.Sprintf("the clock of node %d jumped ahead; %s", ahead.number, what)
	}
	s.wait(50 + s.rnd.IntN(300))
	catchUp()
	s.ended.Store(true)
	all.Wait()
	s.cluster.allReady()
	s.judge()
	s.rounds++
	require.True(s.t, !s.t.Failed(), "round %d: %s", s.rounds, what)
}

// wait until so many scans more were acknowledged.
func (s *streamStorm) wait(more int) {
	want := s.acks.Load() + int64(more)
	until(s.t, "clients to get on", func() bool { return s.acks.Load() >= want || s.t.Failed() })
}

func (s *streamStorm) victim() *node { return s.cluster.nodes[s.rnd.IntN(len(s.cluster.nodes))] }

// strike breaks something and mends it.
func (s *streamStorm) strike() string {
	switch dice := s.rnd.IntN(10); {
	case dice < 5:
		return s.lost(false)
	case dice < 7:
		return s.lost(true)
	case dice < 8:
		return s.killed(s.victim())
	default:
		n := s.jump()
		s.wait(50 + s.rnd.IntN(200))
		what := s.lost(false)
		n.setClock(0)
		return fmt.Sprintf("the clock of node %d was ahead; %s", n.number, what)
	}
}

// lost: the stream's server is killed, and its folder is gone or not. Before it
// comes back, and after it, nodes may be killed.
func (s *streamStorm) lost(kept bool) string {
	s.stream.kill()
	s.streamKills++
	what := "the stream's server was killed"
	if !kept {
		s.stream.lose()
		s.losses++
		what += " and lost its folder"
	}
	when := s.rnd.IntN(4)
	if when == 0 {
		what += "; meanwhile " + s.killed(s.victim())
	}
	s.wait(s.rnd.IntN(200)) // scans wait in the journals
	s.stream.start()
	if when == 1 {
		s.wait(s.rnd.IntN(50))
		what += "; then " + s.killed(s.victim())
	}
	return what
}

// behind keeps the reader of webhooks where it is, until catchUp is called.
func (s *streamStorm) behind() (catchUp func()) {
	s.behinds++
	one := operator(s.t, s.cluster.database)
	does(s.t, one, `BEGIN`)
	does(s.t, one, `SELECT 1 FROM webhook_readers WHERE name = '`+webhooks.ScanSource+`' FOR UPDATE`)
	return func() {
		does(s.t, one, `ROLLBACK`)
		one.Close(s.t.Context())
	}
}

func (s *streamStorm) killed(n *node) string {
	n.kill()
	s.nodeKills++
	n.start()
	return fmt.Sprintf("kill -9 of node %d", n.number)
}

// jump moves the clock of a node ahead, while it runs or is down. It stays so.
func (s *streamStorm) jump() *node {
	n := s.victim()
	restart := s.rnd.IntN(2) == 0
	if restart {
		n.kill()
		s.nodeKills++
	}
	n.setClock(jumps[s.rnd.IntN(len(jumps))])
	s.jumps++
	if restart {
		n.start()
	}
	return n
}

// scan scans on nodes that it chooses, one or many at once.
func (s *streamStorm) scan(rnd *rand.Rand) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for !s.ended.Load() && !s.t.Failed() {
		p := s.cluster.nodes[rnd.IntN(len(s.cluster.nodes))].running.Load()
		if p == nil {
			time.Sleep(time.Millisecond) // the machine is for the node that starts
			continue
		}
		many := 1 + rnd.IntN(20)
		got := s.burst(c, p, many)
		s.unsure.Add(int64(many - got))
		s.acks.Add(int64(got))
		time.Sleep(5 * time.Millisecond) // the machine is for the servers
	}
}

// burst sends scans in one request and returns how many were acknowledged: those
// of an answer that breaks off are too.
func (s *streamStorm) burst(c *http.Client, p *process, many int) (got int) {
	// The first falls on the rule of the webhook.
	lot := `{"text":"https://shop.example/open/x"}` + "\n" + strings.Repeat(`{"text":"https://nowhere.example/"}`+"\n", many-1)
	req, err := http.NewRequest(http.MethodPost, p.URL+"/scan/v1/resolve", strings.NewReader(lot))
	if err != nil {
		s.t.Error(err)
		return 0
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+s.key)
	resp, err := c.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Errorf("scans are answered %s", resp.Status)
		return 0
	}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return got
		}
		var d decision
		if err := json.Unmarshal(line, &d); err != nil || d.ScanID == "" {
			s.t.Errorf("a scan is answered %s", line)
			return got
		}
		s.mu.Lock()
		s.acked[d.ScanID] = true
		s.mu.Unlock()
		if got == 0 {
			s.told.note(d)
		}
		got++
	}
}

// judge compares the feed, the counts and what was acknowledged.
func (s *streamStorm) judge() {
	admin := s.victim().admin()
	var counted struct {
		Scans       int64 `json:"scans"`
		Differences int64 `json:"difference_count"`
		Missing     int64 `json:"missing"`
	}
	// It promises every scan of every node, and is refused while it cannot.
	until(s.t, "a recount of everything", func() bool {
		return admin.do(http.MethodPost, "/admin/v1/statistics/recount", nil, &counted) == nil
	})
	fed := map[string]bool{}
	for after, more := "", true; more; {
		var page struct {
			Scans []struct {
				ScanID string `json:"scan_id"`
			}
			Next string
			More bool
		}
		admin.check(admin.do(http.MethodGet, "/admin/v1/scans?limit=1000&after="+after, nil, &page))
		for _, one := range page.Scans {
			assert.True(s.t, !fed[one.ScanID], "the scan %s is in the feed twice", one.ScanID)
			fed[one.ScanID] = true
		}
		after, more = page.Next, page.More
	}
	missing := 0
	for id := range s.acked {
		if !fed[id] {
			missing++
		}
	}
	s.fed = len(fed)
	assert.True(s.t, missing <= 0, "%d of %d acknowledged scans are not in the feed", missing, len(s.acked))
	if extra := int64(len(fed) + missing - len(s.acked)); extra > s.unsure.Load() {
		s.t.Errorf("%d scans are in the feed that nobody made", extra-s.unsure.Load())
	}
	assert.True(s.t, counted.Scans == int64(len(fed)) && counted.Differences == 0 && counted.Missing == 0,
		"a recount of %d scans: %+v", len(fed), counted)
}
