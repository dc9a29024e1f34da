package chaos_test

import (
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

// serveStream runs a NATS server that flushes each write.
func serveStream(ctx context.Context, o natstest.Options) error {
	n, err := natstest.Run(o)
	if err != nil {
		return err
	}
	fmt.Printf("qrjump ready %s\n", n.ClientURL())
	<-ctx.Done()
	return nil
}

// stream is a NATS server that runs as a child process.
type stream struct {
	natstest.Options
	t       testing.TB
	logDir  string
	running *process
}

func newStream(t testing.TB) *stream {
	t.Helper()
	// No other program uses the address, so the port stays free while the server is down.
	l, err := net.Listen("tcp", loopbackAddress)
	require.NoError(t, err)
	defer l.Close()
	address := l.Addr().(*net.TCPAddr)
	s := &stream{natstest.Options{Host: address.IP.String(), Dir: filepath.Join(t.TempDir(), "stream"), Port: address.Port}, t,
		t.TempDir(), nil}
	t.Cleanup(func() {
		if s.running != nil {
			s.kill()
		}
	})
	return s
}

func (s *stream) start() {
	s.t.Helper()
	waitFor(s.t, "the NATS server to start", func() (ready bool) {
		s.running, ready = startCommand(s.t, proctest.Command("stream", s.Options), s.logDir)
		return ready
	})
}

func (s *stream) kill() {
	s.running.kill()
	s.running.wait()
	s.running = nil
}

// TestChaos_NodesOnStream runs three nodes whose scans meet in a stream. While clients scan, it kills the NATS server, deletes its
// directory, kills nodes, moves the clock of a node, and blocks the reader of webhooks while the stream is lost. After each round the feed
// must have every acknowledged scan once, and a recount must find no difference. At the end the webhook must have received every scan of
// its rule.
//
//	CHAOS_MINUTES=8 QRJUMP_TEST_SEED=1 go test -run 'TestChaos_NodesOnStream$' -timeout 60m ./chaos
func TestChaos_NodesOnStream(t *testing.T) {
	seed := testdiag.Seed(t)
	length := choose(10*time.Second, 0) // 0 = one round
	if minutes := envNumber(t, "CHAOS_MINUTES", 0); minutes > 0 {
		length = time.Duration(minutes) * time.Minute / 10
	}
	t.Logf("%v", length)
	s := &streamChaos{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), stream: newStream(t), acked: map[string]bool{}}
	s.stream.start()
	accounts := strings.Replace(spaceSeed, "settings: {", "settings: {allow_private_hosts: true, ", 1)
	s.cluster = newCluster(t, newDatabase(t), accounts, 3)
	s.cluster.movableClocks = true
	s.cluster.scanStream = fmt.Sprintf("nats://%s?flush=vouched", net.JoinHostPort(s.stream.Host, strconv.Itoa(s.stream.Port)))
	for _, n := range s.cluster.nodes {
		n.setClock(0)
	}
	s.cluster.start()
	admin := s.cluster.nodes[0].admin()
	s.key = admin.scanKey("chaos")
	s.cluster.waitUntilReady()
	for _, n := range s.cluster.nodes {
		waitFor(t, "the nodes to know the scan key", func() bool {
			_, err := connect(t, n.serverURL(), s.key).scan("https://nowhere.example/")
			s.unknown.Add(1)
			return err == nil
		})
	}
	s.webhook = newWebhookReceiver(t, admin, "https://shop.example/open/")
	end := time.Now().Add(length)
	for s.rounds == 0 || time.Now().Before(end) && !t.Failed() {
		s.round()
	}
	for _, n := range s.cluster.nodes {
		n.setClock(27 * time.Hour) // makes the deliveries of killed nodes due, also those of a node whose clock was ahead
	}
	s.webhook.waitForAll()
	s.cluster.stop()
	t.Logf(
		"%d rounds: stream data lost %d times, stream killed %d times, reader of webhooks blocked %d times; nodes were killed "+
			"%d times, a clock moved %d times",
		s.rounds, s.losses, s.streamKills, s.blocks, s.nodeKills, s.clockMoves)
	t.Logf("%d scans acknowledged, %d without a response, %d in the feed", len(s.acked), s.unknown.Load(), s.feedLength)
}

// streamChaos is the state of TestChaos_NodesOnStream.
type streamChaos struct {
	t       *testing.T
	rnd     *rand.Rand
	cluster *cluster
	stream  *stream
	key     string

	rounds, losses, streamKills, blocks, nodeKills, clockMoves, feedLength int

	webhook *webhookReceiver

	acks    atomic.Int64
	unknown atomic.Int64 // scans without a response
	mu      sync.Mutex
	acked   map[string]bool // ids of acknowledged scans
}

// round injects a fault while clients scan, and checks the result.
func (s *streamChaos) round() {
	var ahead *node
	if s.rnd.IntN(4) == 0 {
		ahead = s.moveClock() // without concurrent scans: everything in the journals is counted
	}
	clients := &clientGroup{t: s.t}
	for range 4 {
		rnd, client := rand.New(rand.NewPCG(s.rnd.Uint64(), 0)), &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		clients.run(func() { s.scan(client, rnd) })
	}
	s.wait(50 + s.rnd.IntN(300))
	unblock := func() {}
	if s.rounds == 0 || s.rnd.IntN(3) == 0 {
		unblock = s.blockWebhooks()
		s.wait(50 + s.rnd.IntN(100)) // are counted, but not delivered
	}
	var what string
	if s.rounds == 0 { // every run has the worst fault of a stream
		what = s.killStream(false)
	} else {
		what = s.injectFault()
	}
	if ahead != nil {
		ahead.setClock(0)
		what = fmt.Sprintf("the clock of node %d was ahead during the round; %s", ahead.number, what)
	}
	s.wait(50 + s.rnd.IntN(300))
	unblock()
	clients.stop()
	s.cluster.waitUntilReady()
	s.checkRound()
	s.rounds++
	require.True(s.t, !s.t.Failed(), "round %d: %s", s.rounds, what)
}

// wait waits for n more acknowledged scans.
func (s *streamChaos) wait(n int) { waitForMore(s.t, &s.acks, n) }

// injectFault causes a random fault and repairs it.
func (s *streamChaos) injectFault() string {
	switch dice := s.rnd.IntN(10); {
	case dice < 5:
		return s.killStream(false)
	case dice < 7:
		return s.killStream(true)
	case dice < 8:
		return s.killNode()
	default:
		n := s.moveClock()
		s.wait(50 + s.rnd.IntN(200))
		what := s.killStream(false)
		n.setClock(0)
		return fmt.Sprintf("the clock of node %d was ahead; %s", n.number, what)
	}
}

// killStream kills the NATS server, deletes its directory unless keepData is true, and starts it. A node may be killed before or after the
// start.
func (s *streamChaos) killStream(keepData bool) string {
	s.stream.kill()
	s.streamKills++
	what := "the NATS server was killed"
	if !keepData {
		require.NoError(s.t, os.RemoveAll(s.stream.Dir))
		s.losses++
		what += " and lost its data"
	}
	when := s.rnd.IntN(4)
	if when == 0 {
		what += "; meanwhile " + s.killNode()
	}
	s.wait(s.rnd.IntN(200)) // scans wait in the journals
	s.stream.start()
	if when == 1 {
		s.wait(s.rnd.IntN(50))
		what += "; then " + s.killNode()
	}
	return what
}

// blockWebhooks blocks the reader of webhooks until unblock is called.
func (s *streamChaos) blockWebhooks() (unblock func()) {
	s.blocks++
	session := openSession(s.t, s.cluster.database)
	execSQL(s.t, session, `BEGIN`)
	execSQL(s.t, session, `SELECT 1 FROM webhook_readers WHERE name = $1 FOR UPDATE`, webhooks.ScanSource)
	return func() {
		execSQL(s.t, session, `ROLLBACK`)
		session.Close(s.t.Context())
	}
}

// killNode kills a random node and starts it.
func (s *streamChaos) killNode() string {
	n := s.cluster.randomNode(s.rnd)
	n.kill()
	s.nodeKills++
	n.start()
	return fmt.Sprintf("kill -9 of node %d", n.number)
}

// moveClock moves the clock of a random node ahead, while the node runs or is down.
func (s *streamChaos) moveClock() *node {
	n := s.cluster.randomNode(s.rnd)
	restart := s.rnd.IntN(2) == 0
	if restart {
		n.kill()
		s.nodeKills++
	}
	n.setClock(clockJumps[s.rnd.IntN(len(clockJumps))])
	s.clockMoves++
	if restart {
		n.start()
	}
	return n
}

// scan sends up to 20 scans in a request to a random node.
func (s *streamChaos) scan(c *http.Client, rnd *rand.Rand) {
	p := s.cluster.randomNode(rnd).running.Load()
	if p == nil {
		time.Sleep(time.Millisecond) // leaves CPU time to the starting node
		return
	}
	count := 1 + rnd.IntN(20)
	acknowledged := s.sendBatch(c, p, count)
	s.unknown.Add(int64(count - acknowledged))
	s.acks.Add(int64(acknowledged))
	time.Sleep(5 * time.Millisecond) // leaves CPU time to the servers
}

// sendBatch sends scans in one request and returns the number of acknowledged scans, including those of an incomplete response.
func (s *streamChaos) sendBatch(c *http.Client, p *process, count int) (acknowledged int) {
	// The first scan matches the rule of the webhook.
	lines := `{"text":"https://shop.example/open/x"}` + "\n" + strings.Repeat(`{"text":"https://nowhere.example/"}`+"\n", count-1)
	r, err := send(c, http.MethodPost, p.URL+"/scan/v1/resolve", "application/x-ndjson", lines, s.key)
	if err != nil && r.status == 0 {
		return 0
	}
	assert.Equal(s.t, r.status, http.StatusOK, "status of a scan request: %s", r.body)
	for line := range strings.Lines(r.body) {
		if !strings.HasSuffix(line, "\n") {
			return acknowledged
		}
		var d decision
		if err := json.Unmarshal([]byte(line), &d); err != nil || d.ScanID == "" {
			s.t.Errorf("the response to a scan is %s, want a scan_id", line)
			return acknowledged
		}
		s.mu.Lock()
		s.acked[d.ScanID] = true
		s.mu.Unlock()
		if acknowledged == 0 {
			s.webhook.expect(d)
		}
		acknowledged++
	}
	return acknowledged
}

// checkRound compares the feed and the counts with the acknowledged scans.
func (s *streamChaos) checkRound() {
	admin := s.cluster.randomNode(s.rnd).admin()
	var counted struct {
		Scans       int64 `json:"scans"`
		Differences int64 `json:"difference_count"`
		Missing     int64 `json:"missing"`
	}
	// A recount includes every scan of every node, or fails.
	waitFor(s.t, "a recount to succeed", func() bool {
		return admin.do(http.MethodPost, "/admin/v1/statistics/recount", nil, &counted) == nil
	})
	feed := map[string]bool{}
	for scan, err := range adminClient(s.t, admin.base).Scans.List(s.t.Context(), "") {
		require.NoError(s.t, err)
		assert.True(s.t, !feed[scan.ScanID], "the scan %s is in the feed twice", scan.ScanID)
		feed[scan.ScanID] = true
	}
	missing := 0
	for id := range s.acked {
		if !feed[id] {
			missing++
		}
	}
	s.feedLength = len(feed)
	assert.True(s.t, missing == 0, "%d of %d acknowledged scans are missing from the feed", missing, len(s.acked))
	extra := int64(len(feed) + missing - len(s.acked))
	assert.True(s.t, extra <= s.unknown.Load(), "the feed has %d scans that were not acknowledged, want at most %d", extra,
		s.unknown.Load())
	assert.True(s.t, counted.Scans == int64(len(feed)) && counted.Differences == 0 && counted.Missing == 0,
		"a recount = %+v, want %d scans without a difference", counted, len(feed))
}
