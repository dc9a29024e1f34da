package deploy

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

func TestMain(m *testing.M) {
	proctest.Roles{"nats-server": proctest.Role(serveNATS)}.Play()
	os.Exit(m.Run())
}

// serveNATS is what the program nats-server does with these arguments.
func serveNATS(ctx context.Context, args []string) error {
	nothing := func() {}
	o, err := nats.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), args, nothing, nothing, nothing)
	if err != nil {
		return err
	}
	o.NoSigs = true // the role's context ends
	s, err := nats.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// engine runs the services of cluster/compose.yaml as processes on free ports of the loopback network.
type engine struct {
	t        *testing.T
	dir      string
	programs string // PostgreSQL's
	qrjump   string
	parts    map[string]*part
	ports    map[string]string // an address of compose.yaml: where it is here
	network  string
	secrets  map[string]string
}

// part is a service, with a folder that holds what a container would have.
type part struct {
	*engine
	name, root string
	service    composedService
	owner      *syscall.Credential
	running    *proctest.Child
}

var socket = regexp.MustCompile(`10\.77\.0\.(\d+):(\d+)`)

// at is where an address of compose.yaml is here.
func (e *engine) at(address string) string {
	e.t.Helper()
	if e.ports[address] == "" {
		host := strings.Replace(address[:strings.Index(address, ":")], "10.77.0.", e.network, 1)
		l, err := net.Listen("tcp", host+":0")
		require.NoError(e.t, err)
		e.ports[address] = l.Addr().String()
		l.Close()
	}
	return e.ports[address]
}

// here is a text of cluster/ with other addresses.
func (e *engine) here(text string) string {
	text = socket.ReplaceAllStringFunc(text, e.at)
	// Whatever is called on this network, the caller is 127.0.0.1.
	return strings.NewReplacer("10.77.0.0/24", "127.0.0.0/8", "10.77.0.10/32", "127.0.0.1/32", "10.77.0.", e.network).Replace(text)
}

// inside is a text of cluster/ with other addresses, and with the folders of this part.
func (p *part) inside(text string) string {
	return regexp.MustCompile(`/(etc/qrjump|var/lib|run/postgresql)\b`).ReplaceAllString(p.here(text), p.root+"$0")
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not here")
	}
	programs, err := exec.Command("../scripts/postgres.sh", "bin").Output()
	if err != nil {
		t.Skip("PostgreSQL is not here")
	}
	// Under /tmp itself: PostgreSQL's user must get there.
	dir, err := os.MkdirTemp("/tmp", "qrjump-copy-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &engine{t: t, dir: dir, programs: strings.TrimSpace(string(programs)), qrjump: filepath.Join(dir, "qrjump"),
		parts: map[string]*part{}, ports: map[string]string{}, network: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)),
		secrets: dotEnv(t)}
	require.NoError(t, os.Chmod(dir, 0o755))
	build := exec.Command("go", "build", "-o", e.qrjump, "../cmd/qrjump")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for name, service := range compose(t, clusterFile(t, "compose.yaml"), e.secrets).Services {
		p := &part{engine: e, name: name, root: filepath.Join(dir, name), service: service}
		e.parts[name] = p
		p.furnish()
	}
	return e
}

func (p *part) is(image string) bool { return strings.HasPrefix(p.service.Image, image) }

// furnish makes what the volumes would be.
func (p *part) furnish() {
	p.t.Helper()
	check := func(err error) {
		p.t.Helper()
		require.NoError(p.t, err)
	}
	check(os.MkdirAll(filepath.Join(p.root, "run/postgresql"), 0o755))
	for _, volume := range p.service.Volumes {
		fields := strings.Split(volume, ":")
		target := filepath.Join(p.root, fields[1])
		if !strings.HasPrefix(fields[0], "./") {
			check(os.MkdirAll(target, 0o700))
			continue
		}
		check(os.MkdirAll(filepath.Dir(target), 0o755))
		stat, err := os.Stat(filepath.Join("cluster", fields[0]))
		check(err)
		check(os.WriteFile(target, []byte(p.inside(clusterFile(p.t, fields[0]))), stat.Mode()))
	}
	if !p.is("postgres") || os.Getuid() != 0 {
		return
	}
	// PostgreSQL refuses to run as root.
	owner, err := user.Lookup("postgres")
	if err != nil {
		owner, err = user.Lookup("nobody")
	}
	check(err)
	uid, err := strconv.Atoi(owner.Uid)
	check(err)
	gid, err := strconv.Atoi(owner.Gid)
	check(err)
	p.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	check(filepath.WalkDir(p.root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, gid)
	}))
}

// command is what a container of this part would run: args stand in the place of those of compose.yaml.
func (p *part) command(args ...string) *exec.Cmd {
	if len(args) == 0 {
		args = append(append(args, p.service.Entrypoint...), p.service.Command...)
	}
	for i := range args {
		args[i] = p.inside(args[i])
	}
	var cmd *exec.Cmd
	switch {
	case p.is("nats"):
		cmd = proctest.Command("nats-server", args)
	case p.is("qrjump"):
		cmd = exec.Command(p.qrjump, "serve")
		cmd.Env = append(os.Environ(), "QRJUMP_SEED="+filepath.Join(p.dir, "seed.yaml"))
	default:
		cmd = exec.Command(args[0], args[1:]...)
		cmd.Env = []string{"PATH=" + p.programs + ":" + os.Getenv("PATH") + ":/usr/sbin", "LC_ALL=C"}
	}
	for key, value := range p.service.Environment {
		cmd.Env = append(cmd.Env, key+"="+p.inside(value))
	}
	cmd.Dir = p.root
	if p.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner}
	}
	return cmd
}

// start runs the part; it ends with the test in the way that it ends in.
func (p *part) start() {
	p.t.Helper()
	path := filepath.Join(p.dir, p.name+".log")
	if _, err := os.Stat(path); err != nil {
		testdiag.Log(p.t, p.name, func() string {
			text, _ := os.ReadFile(path)
			return string(text)
		})
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer log.Close()
	cmd := p.command()
	cmd.Stderr = log
	running := proctest.Start(p.t, cmd)
	p.running = running
	p.t.Cleanup(func() {
		if running.ProcessState == nil {
			_ = running.Process.Signal(p.endSignal())
			_, _ = running.End()
		}
	})
}

func (p *part) endSignal() os.Signal {
	if p.is("postgres") {
		return syscall.SIGINT // as stop_signal says
	}
	return syscall.SIGTERM
}

// stop ends the part in order.
func (p *part) stop() {
	p.t.Helper()
	p.running.Signal(p.endSignal())
	if _, err := p.running.End(); err != nil {
		p.t.Errorf("%s ends with %v", p.name, err)
	}
}

// run is docker compose run or exec.
func (p *part) run(args ...string) {
	p.t.Helper()
	if said, err := p.command(args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s %q: %v\n%s", p.name, args, err, said)
	}
}

// until polls for what happens in other processes, as long as the test itself may last.
func (e *engine) until(what string, done func() bool) {
	e.t.Helper()
	end := time.Now().Add(time.Hour)
	if last, bounded := e.t.Deadline(); bounded {
		end = last.Add(-20 * time.Second)
	}
	for !done() {
		require.True(e.t, !time.Now().After(end), "waited in vain for %s", what)
		require.True(e.t, !e.t.Failed(), "failed before %s", what)
		time.Sleep(50 * time.Millisecond) // between two looks at real processes
	}
}

// call is a call through HAProxy's port, or of a part; an error means that no answer came that was meant.
func (e *engine) call(client *http.Client, method, address, path, bearer string, body, into any) error {
	send, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, "http://"+e.ports[address]+path, bytes.NewReader(send))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

const wirePort, scanPort, adminPort, statePort = "10.77.0.10:8080", "10.77.0.10:8081", "10.77.0.10:8082", "10.77.0.10:8404"

// up are the nodes that HAProxy sends something to, as "backend node"; nil = it does not answer.
func (e *engine) up() map[string]bool {
	resp, err := http.Get("http://" + e.ports[statePort] + "/;csv")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	rows, err := csv.NewReader(resp.Body).ReadAll()
	require.NoError(e.t, err)
	up := map[string]bool{}
	for _, row := range rows {
		if row[1] != "FRONTEND" && row[1] != "BACKEND" && row[17] == "UP" {
			up[row[0]+" "+row[1]] = true
		}
	}
	return up
}

// allUp reports whether HAProxy has both nodes for everything.
func (e *engine) allUp() bool { return len(e.up()) == 6 }

// customers scan and change through HAProxy, and remember what was acknowledged.
type customers struct {
	*engine
	key, token string
	now        atomic.Value // what is done to the cluster meanwhile
	ended      atomic.Bool
	all        sync.WaitGroup
	scanned    atomic.Int64
	unanswered atomic.Int64 // scans that may be counted or not
	changed    atomic.Int64
	prefixes   []string
}

const shop = "the-secret-of-shop"

func (c *customers) scan(client *http.Client, address string) error {
	var opened struct{ Action string }
	err := c.call(client, http.MethodPost, address, "/scan/v1/resolve", c.key,
		map[string]any{"text": "https://shop.example/open/7"}, &opened)
	switch {
	case err != nil:
		c.unanswered.Add(1)
		return err
	case opened.Action != "open_mini_program":
		return fmt.Errorf("it is answered %q", opened.Action)
	}
	c.scanned.Add(1)
	return nil
}

func (c *customers) wire(client *http.Client, call string, body, into any) error {
	return c.call(client, http.MethodPost, wirePort, "/cgi-bin/wxopen/"+call+"?access_token="+url.QueryEscape(c.token), "", body, into)
}

// come begins: two scan, one changes.
func (c *customers) come() {
	pace := func() { time.Sleep(5 * time.Millisecond) } // a client's own, so that the machine has time for the others
	for range 2 {
		c.all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ; !c.ended.Load(); pace() {
				if err := c.scan(client, scanPort); err != nil {
					c.t.Errorf("%v: a scan of a rule is refused: %v", c.now.Load(), err)
					return
				}
			}
		})
	}
	c.all.Go(func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for n := 0; !c.ended.Load(); n++ {
			pace()
			prefix := fmt.Sprintf("https://shop.example/%d/", n)
			var added struct{ ErrCode int }
			if err := c.wire(client, "qrcodejumpadd", map[string]any{"prefix": prefix, "path": "pages/open", "permit_sub_rule": 1,
				"open_version": 3, "is_edit": 0}, &added); err == nil && added.ErrCode == 0 {
				c.prefixes = append(c.prefixes, prefix)
				c.changed.Add(1)
			}
		}
	})
}

// more waits until so many scans and changes more were acknowledged.
func (c *customers) more(scans, changes int64) {
	c.t.Helper()
	scans, changes = scans+c.scanned.Load(), changes+c.changed.Load()
	c.until(fmt.Sprintf("%v: %d scans and %d changes", c.now.Load(), scans, changes), func() bool {
		return c.scanned.Load() >= scans && c.changed.Load() >= changes
	})
}

// Issue 29, 8: the cluster as it is to be copied goes through a rolling restart of its nodes, a promotion and a rolling restart of its
// NATS servers, while scans and changes come through HAProxy. No scan of a rule is refused; each acknowledged change is there at the
// end, and each acknowledged scan is counted once.
func TestCluster_RollingRestartAndPromotion(t *testing.T) {
	testscope.WholeOnly(t, "its files are read by what runs on them, and chaos/ has nodes restarted and replicas promoted")
	e := newEngine(t)
	seed := fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
rules: [{owner: shop, prefix: "https://shop.example/open/", path: pages/open, published: true}]
settings: {rule_rate_limit: null, verification: trust, rule_limit: 1000000}
`, shop)
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "seed.yaml"), []byte(seed), 0o600))
	for _, name := range []string{"postgres2", "postgres1", "nats1", "nats2", "nats3", "haproxy"} {
		e.parts[name].start()
	}
	e.until("PostgreSQL to take connections", func() bool {
		c, err := net.Dial("tcp", e.ports["10.77.0.32:5432"]) // the replica, which was made of the other
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	nodes := []string{"node1", "node2"}
	for _, name := range nodes {
		e.parts[name].start()
	}
	e.until("HAProxy to have both nodes", e.allUp)

	c := &customers{engine: e}
	admin := e.secrets["QRJUMP_ADMIN_TOKEN"]
	var key struct{ Key string }
	require.NoError(t, e.call(http.DefaultClient, http.MethodPost, adminPort, "/admin/v1/scan-keys", admin,
		map[string]any{"name": "app"}, &key))
	c.key = key.Key
	var token struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, e.call(http.DefaultClient, http.MethodPost, wirePort, "/cgi-bin/stable_token", "",
		map[string]any{"grant_type": "client_credential", "appid": "shop", "secret": shop}, &token))
	c.token = token.AccessToken
	for _, address := range []string{"10.77.0.11:8081", "10.77.0.12:8081"} {
		e.until("a node to know the key", func() bool { return c.scan(http.DefaultClient, address) == nil })
	}
	c.unanswered.Store(0) // a scan without a key that is known is none
	c.now.Store("all is well")
	c.come()
	defer func() { c.ended.Store(true); c.all.Wait() }()
	c.more(100, 20)

	for _, name := range nodes {
		c.now.Store(name + " is started again")
		e.parts[name].stop()
		c.more(20, 5)
		e.parts[name].start()
		e.until("HAProxy to have it again", e.allUp)
		c.more(50, 5)
	}

	c.now.Store("the primary was killed")
	first, second := e.parts["postgres1"], e.parts["postgres2"]
	p := first
	p.t.Helper()
	p.running.Signal(syscall.SIGSTOP) // it starts no more of them
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(p.t, err)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// 17 (postgres: writer) S 12: the last is its parent.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))); fields[1] == strconv.Itoa(p.running.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	p.running.Signal(syscall.SIGKILL)
	_ = p.running.Wait() // not for the end of its output, which somebody else may hold
	e.until("HAProxy to take the nodes out for changes", func() bool {
		up := e.up()
		return up != nil && !up["wire node1"] && !up["wire node2"] && !up["admin node1"] && !up["admin node2"]
	})
	c.more(100, 0)
	changed := c.changed.Load()
	second.run("pg_ctl", "promote", "-w", "-D", second.service.Environment["PGDATA"])
	c.now.Store("the replica was promoted")
	c.more(50, 0)
	assert.Equal(t, c.changed.Load()-changed, 0, "changes are acknowledged without a replica")
	first.run(first.service.Entrypoint[0], "copy")
	first.start()
	c.more(100, 20)
	e.until("HAProxy to have both nodes after the promotion", e.allUp)

	for _, name := range []string{"nats1", "nats2", "nats3"} {
		c.now.Store(name + " is started again")
		e.parts[name].stop()
		c.more(50, 5)
		e.parts[name].start()
		c.more(50, 5)
	}

	c.ended.Store(true)
	c.all.Wait()
	there := map[string]bool{}
	for page := 1; ; page++ {
		var got struct {
			ErrCode  int
			RuleList []struct{ Prefix string } `json:"rule_list"`
		}
		if err := c.wire(http.DefaultClient, "qrcodejumpget", map[string]any{"get_type": 2, "page_num": page, "page_size": 200},
			&got); err != nil || got.ErrCode != 0 {
			t.Fatal(got.ErrCode, err)
		}
		if len(got.RuleList) == 0 {
			break
		}
		for _, r := range got.RuleList {
			there[r.Prefix] = true
		}
	}
	for _, prefix := range c.prefixes {
		assert.True(t, there[prefix], "the rule %s was acknowledged and is lost", prefix)
	}
	var counted int64
	e.until("all scans to be counted", func() bool {
		var all struct{ Rows []struct{ Scans int64 } }
		if err := e.call(http.DefaultClient, http.MethodGet, adminPort, "/admin/v1/statistics?wait=true", admin, nil, &all); err != nil {
			return false // NATS is choosing leaders still
		}
		counted = 0
		for _, row := range all.Rows {
			counted += row.Scans
		}
		return true
	})
	if acked, unanswered := c.scanned.Load(), c.unanswered.Load(); counted < acked || counted > acked+unanswered {
		t.Errorf("%d scans are counted, %d were acknowledged, and %d were not answered", counted, acked, unanswered)
	}
	t.Logf("%d scans, each counted; %d changes, each there", counted, len(c.prefixes))
	for _, name := range []string{"node1", "node2", "haproxy", "nats1", "nats2", "nats3", "postgres2", "postgres1"} {
		e.parts[name].stop()
	}
}
