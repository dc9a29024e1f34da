package chaos_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// place is a network of its own, with a line to the database and one for callers.
type place struct {
	t               *testing.T
	name, line      string
	database, calls string // addresses: of the near end of the one line, of the far end of the other
}

func newPlace(t *testing.T) *place {
	t.Helper()
	n := rand.IntN(250)
	p := &place{t: t, name: fmt.Sprintf("qrjump-%d", os.Getpid()), line: fmt.Sprintf("qrd%d", os.Getpid()),
		database: fmt.Sprintf("198.18.%d.1", n), calls: fmt.Sprintf("198.18.%d.6", n)} // 198.18.0.0/15 is for tests
	if err := exec.Command("ip", "netns", "add", p.name).Run(); err != nil {
		t.Skipf("a network of its own takes root and ip netns: %v", err)
	}
	t.Cleanup(func() { p.ip("netns", "delete", p.name) })
	callers := fmt.Sprintf("qrc%d", os.Getpid())
	for _, words := range []string{
		"link add " + p.line + " type veth peer name database netns " + p.name,
		"link add " + callers + " type veth peer name callers netns " + p.name,
		"address add " + p.database + "/30 dev " + p.line,
		fmt.Sprintf("address add 198.18.%d.5/30 dev %s", n, callers),
		fmt.Sprintf("-n %s address add 198.18.%d.2/30 dev database", p.name, n),
		fmt.Sprintf("-n %s address add %s/30 dev callers", p.name, p.calls),
		"link set " + p.line + " up", "link set " + callers + " up",
		"-n " + p.name + " link set database up", "-n " + p.name + " link set callers up", "-n " + p.name + " link set lo up",
	} {
		p.ip(strings.Fields(words)...)
	}
	return p
}

func (p *place) ip(words ...string) {
	p.t.Helper()
	if said, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		p.t.Fatalf("ip %s: %v %s", strings.Join(words, " "), err, said)
	}
}

// reaches gives the place a way to a database, and returns its URL from there.
func (p *place) reaches(database string) string {
	p.t.Helper()
	u, err := url.Parse(database)
	require.True(p.t, err == nil, "the URL of the database cannot be read")
	upstream := u.Host
	l, err := net.Listen("tcp", net.JoinHostPort(p.database, "0"))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", upstream)
			if err != nil {
				near.Close()
				continue
			}
			for to, from := range map[net.Conn]net.Conn{near: far, far: near} {
				go func() {
					_, _ = io.Copy(to, from)
					to.Close()
				}()
			}
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

// Issue 29, 2: the line to the database is cut while a commit waits for the replica: nobody says so, and no packet comes any more.
// The caller hears that nobody knows what became of the change, instead of waiting for ever; when the line is there again, the
// node goes on.
func TestCommit_NetworkCutDuringReplication(t *testing.T) {
	testscope.WholeOnly(t, "what a silent line gives is played with a proxy (TestSilentRead_Timeout); that the kernel finds it takes half a minute")
	place := newPlace(t)
	p := newSingle(t)
	c := newCluster(t, p.database("cut"), spaceSeed, 1)
	n := c.nodes[0]
	n.url = place.reaches(c.database)
	child := n.config()
	child.Listen = net.JoinHostPort(place.calls, "0")
	require.NoError(t, os.MkdirAll(child.Data, 0o700))
	node, ready := begin(t, proctest.Command("server", child, "ip", "netns", "exec", place.name), filepath.Dir(child.Data))
	require.True(t, ready, "the node does not start\n%s", node.lastLog())
	n.running.Store(node)
	keeper := newShopkeeper(t, node.URL)
	for range 2 {
		if got := keeper.add(); got != 0 {
			t.Fatal(got)
		}
	}
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	answer := make(chan int, 1)
	go func() {
		code := 0
		for code == 0 { // commits do not wait before the database has applied the setting
			code = keeper.add()
		}
		answer <- code
	}()
	until(t, "a commit to wait for the replica", func() bool {
		return dbtest.Number(t, c.database, `SELECT count(DISTINCT pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
			WHERE wait_event = 'SyncRep' AND relation = 'rules'::regclass AND mode = 'RowExclusiveLock'`) > 0
	})
	place.ip("link", "set", place.line, "down")
	require.Equal(t, <-answer, -1, "errcode of a change whose outcome is unknown")
	dbtest.Exec(t, p.urls[0], `ALTER SYSTEM SET synchronous_standby_names = ''`)
	dbtest.Exec(t, p.urls[0], `SELECT pg_reload_conf()`)
	place.ip("link", "set", place.line, "up")
	until(t, "a change to work again", func() bool { return keeper.add() == 0 })
	keeper.has()
	n.stop()
}
