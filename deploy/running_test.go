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
	proctest.Roles{"nats-server": proctest.Role(runNATS)}.Run()
	os.Exit(m.Run())
}

// runNATS runs a NATS server with the command line of nats-server.
func runNATS(ctx context.Context, args []string) error {
	nothing := func() {}
	o, err := nats.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), args, nothing, nothing, nothing)
	if err != nil {
		return err
	}
	o.NoSigs = true // SIGTERM cancels ctx
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

// cluster runs the services of cluster/compose.yaml as processes on free ports of the loopback network.
type cluster struct {
	t         *testing.T
	dir       string
	programs  string // folder of the PostgreSQL programs
	qrjump    string // path of the program
	processes map[string]*process
	addresses map[string]string // addresses of compose.yaml, with the local ones
	network   string            // prefix of local addresses
	secrets   map[string]string
}

// process is a service whose container is replaced by a process and the folder root.
type process struct {
	*cluster
	name, root string
	service    composeService
	owner      *syscall.Credential
	child      *proctest.Child
}

var socket = regexp.MustCompile(`10\.77\.0\.(\d+):(\d+)`)

// localAddress returns the local address for an address of compose.yaml.
func (e *cluster) localAddress(address string) string {
	e.t.Helper()
	if e.addresses[address] == "" {
		host := strings.Replace(address[:strings.Index(address, ":")], "10.77.0.", e.network, 1)
		l, err := net.Listen("tcp", host+":0")
		require.NoError(e.t, err)
		e.addresses[address] = l.Addr().String()
		l.Close()
	}
	return e.addresses[address]
}

// localize returns a text of cluster/ with local addresses, and with the folders of the process.
func (p *process) localize(text string) string {
	text = socket.ReplaceAllStringFunc(text, p.localAddress)
	// The source address of all calls on the loopback network is 127.0.0.1.
	text = strings.NewReplacer("10.77.0.0/24", "127.0.0.0/8", "10.77.0.10/32", "127.0.0.1/32", "10.77.0.", p.network).Replace(text)
	return regexp.MustCompile(`/(etc/qrjump|var/lib|run/postgresql)\b`).ReplaceAllString(text, p.root+"$0")
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not here")
	}
	programs, err := exec.Command("../scripts/postgres.sh", "bin").Output()
	if err != nil {
		t.Skip("PostgreSQL is not here")
	}
	// In /tmp itself: PostgreSQL's user needs access to all parent folders.
	dir, err := os.MkdirTemp("/tmp", "qrjump-copy-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &cluster{t: t, dir: dir, programs: strings.TrimSpace(string(programs)), qrjump: filepath.Join(dir, "qrjump"),
		processes: map[string]*process{}, addresses: map[string]string{},
		network: fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256)),
		secrets: envFile(t)}
	require.NoError(t, os.Chmod(dir, 0o755))
	build := exec.Command("go", "build", "-o", e.qrjump, "../cmd/qrjump")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, service := range parseCompose(t, readClusterFile(t, "compose.yaml"), e.secrets).Services {
		p := &process{cluster: e, name: name, root: filepath.Join(dir, name), service: service}
		e.processes[name] = p
		p.createVolumes()
	}
	return e
}

func (p *process) hasImage(image string) bool { return strings.HasPrefix(p.service.Image, image) }

// createVolumes creates the files and folders of the service's volumes below root.
func (p *process) createVolumes() {
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
		check(os.WriteFile(target, []byte(p.localize(readClusterFile(p.t, fields[0]))), stat.Mode()))
	}
	if !p.hasImage("postgres") || os.Getuid() != 0 {
		return
	}
	// PostgreSQL does not run as root.
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

// command returns the command of the service's container. args, if any, replace the command of compose.yaml.
func (p *process) command(args ...string) *exec.Cmd {
	if len(args) == 0 {
		args = append(append(args, p.service.Entrypoint...), p.service.Command...)
	}
	for i := range args {
		args[i] = p.localize(args[i])
	}
	var cmd *exec.Cmd
	switch {
	case p.hasImage("nats"):
		cmd = proctest.Command("nats-server", args)
	case p.hasImage("qrjump"):
		cmd = exec.Command(p.qrjump, "serve")
		cmd.Env = append(os.Environ(), "QRJUMP_SEED="+filepath.Join(p.dir, "seed.yaml"))
	default:
		cmd = exec.Command(args[0], args[1:]...)
		cmd.Env = []string{"PATH=" + p.programs + ":" + os.Getenv("PATH") + ":/usr/sbin", "LC_ALL=C"}
	}
	for key, value := range p.service.Environment {
		cmd.Env = append(cmd.Env, key+"="+p.localize(value))
	}
	cmd.Dir = p.root
	if p.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner}
	}
	return cmd
}

// start starts the process. The test stops it at its end with the service's stop signal.
func (p *process) start() {
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
	child := proctest.Start(p.t, cmd)
	p.child = child
	p.t.Cleanup(func() {
		if child.ProcessState == nil {
			_ = child.Process.Signal(p.stopSignal())
			_, _ = child.End()
		}
	})
}

func (p *process) stopSignal() os.Signal {
	if p.hasImage("postgres") {
		return syscall.SIGINT // stop_signal in compose.yaml
	}
	return syscall.SIGTERM
}

// stop stops the process gracefully.
func (p *process) stop() {
	p.t.Helper()
	p.child.Signal(p.stopSignal())
	if _, err := p.child.End(); err != nil {
		p.t.Errorf("%s ended with %v, want exit code 0", p.name, err)
	}
}

// run runs a command with the files of the process, as docker compose run or exec does.
func (p *process) run(args ...string) {
	p.t.Helper()
	if out, err := p.command(args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s %q: %v\n%s", p.name, args, err, out)
	}
}

// waitUntil polls done until it is true, at most until shortly before the test's deadline. event describes done.
func (e *cluster) waitUntil(event string, done func() bool) {
	e.t.Helper()
	end := time.Now().Add(time.Hour)
	if deadline, ok := e.t.Deadline(); ok {
		end = deadline.Add(-20 * time.Second)
	}
	for !done() {
		require.True(e.t, !time.Now().After(end), "timeout while waiting for %s", event)
		require.True(e.t, !e.t.Failed(), "the test failed while waiting for %s", event)
		time.Sleep(50 * time.Millisecond) // between two looks at real processes
	}
}

// call makes a call to an address of compose.yaml and decodes the response into result, unless that is nil. A status other than 200 is an
// error.
func (e *cluster) call(client *http.Client, method, address, path, bearer string, body, result any) error {
	send, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, "http://"+e.addresses[address]+path, bytes.NewReader(send))
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
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}

const wireAddress, scanAddress, adminAddress, statsAddress = "10.77.0.10:8080", "10.77.0.10:8081", "10.77.0.10:8082", "10.77.0.10:8404"

// upServers returns the servers that HAProxy reports as up, as "backend node", or nil if HAProxy does not respond.
func (e *cluster) upServers() map[string]bool {
	resp, err := http.Get("http://" + e.addresses[statsAddress] + "/;csv")
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

// allServersUp reports whether both nodes are up in all three backends.
func (e *cluster) allServersUp() bool { return len(e.upServers()) == 6 }

// workload makes scans and changes through HAProxy and counts the acknowledged ones.
type workload struct {
	*cluster
	key, token string
	now        atomic.Value // string: the current operation on the cluster
	ended      atomic.Bool
	clients    sync.WaitGroup
	scanned    atomic.Int64
	unanswered atomic.Int64 // scans without a response: counted or not
	changed    atomic.Int64
	prefixes   []string
}

const shop = "the-secret-of-shop"

func (c *workload) scan(client *http.Client, address string) error {
	var opened struct{ Action string }
	err := c.call(client, http.MethodPost, address, "/scan/v1/resolve", c.key,
		map[string]any{"text": "https://shop.example/open/7"}, &opened)
	switch {
	case err != nil:
		c.unanswered.Add(1)
		return err
	case opened.Action != "open_mini_program":
		return fmt.Errorf("action = %q, want open_mini_program", opened.Action)
	}
	c.scanned.Add(1)
	return nil
}

func (c *workload) callWire(client *http.Client, call string, body, result any) error {
	return c.call(client, http.MethodPost, wireAddress, "/cgi-bin/wxopen/"+call+"?access_token="+url.QueryEscape(c.token), "", body, result)
}

// begin starts two clients that scan and one that adds rules.
func (c *workload) begin() {
	pace := func() { time.Sleep(5 * time.Millisecond) } // a client's own, so that the machine has time for the others
	for range 2 {
		c.clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ; !c.ended.Load(); pace() {
				if err := c.scan(client, scanAddress); err != nil {
					c.t.Errorf("%v: scan: %v", c.now.Load(), err)
					return
				}
			}
		})
	}
	c.clients.Go(func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for n := 0; !c.ended.Load(); n++ {
			pace()
			prefix := fmt.Sprintf("https://shop.example/%d/", n)
			var added struct{ ErrCode int }
			if err := c.callWire(client, "qrcodejumpadd", map[string]any{"prefix": prefix, "path": "pages/open", "permit_sub_rule": 1,
				"open_version": 3, "is_edit": 0}, &added); err == nil && added.ErrCode == 0 {
				c.prefixes = append(c.prefixes, prefix)
				c.changed.Add(1)
			}
		}
	})
}

// awaitProgress waits until further scans and changes are acknowledged.
func (c *workload) awaitProgress(scans, changes int64) {
	c.t.Helper()
	scans, changes = scans+c.scanned.Load(), changes+c.changed.Load()
	c.waitUntil(fmt.Sprintf("%v: %d scans and %d changes", c.now.Load(), scans, changes), func() bool {
		return c.scanned.Load() >= scans && c.changed.Load() >= changes
	})
}

// TestCluster_RollingRestartAndPromotion restarts the nodes of the cluster of compose.yaml one by one, kills the primary, promotes the
// replica, and restarts the NATS servers one by one, while clients scan and change through HAProxy. No scan may fail. At the end, each
// acknowledged change must exist, and each acknowledged scan must be counted once.
func TestCluster_RollingRestartAndPromotion(t *testing.T) {
	testscope.RequireComplete(t, "its files are read by what runs on them, and chaos/ has nodes restarted and replicas promoted")
	e := newCluster(t)
	seed := fmt.Sprintf(`
accounts: [{appid: shop, kind: mini_program, secret: %q, versions: [release]}]
rules: [{owner: shop, prefix: "https://shop.example/open/", path: pages/open, published: true}]
settings: {rule_rate_limit: null, verification: trust, rule_limit: 1000000}
`, shop)
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "seed.yaml"), []byte(seed), 0o600))
	for _, name := range []string{"postgres2", "postgres1", "nats1", "nats2", "nats3", "haproxy"} {
		e.processes[name].start()
	}
	e.waitUntil("PostgreSQL to take connections", func() bool {
		c, err := net.Dial("tcp", e.addresses["10.77.0.32:5432"]) // the replica, which copies the primary first
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	nodes := []string{"node1", "node2"}
	for _, name := range nodes {
		e.processes[name].start()
	}
	e.waitUntil("HAProxy to have both nodes", e.allServersUp)

	c := &workload{cluster: e}
	admin := e.secrets["QRJUMP_ADMIN_TOKEN"]
	var key struct{ Key string }
	require.NoError(t, e.call(http.DefaultClient, http.MethodPost, adminAddress, "/admin/v1/scan-keys", admin,
		map[string]any{"name": "app"}, &key))
	c.key = key.Key
	var token struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, e.call(http.DefaultClient, http.MethodPost, wireAddress, "/cgi-bin/stable_token", "",
		map[string]any{"grant_type": "client_credential", "appid": "shop", "secret": shop}, &token))
	c.token = token.AccessToken
	for _, address := range []string{"10.77.0.11:8081", "10.77.0.12:8081"} {
		e.waitUntil("the scan key on "+address, func() bool { return c.scan(http.DefaultClient, address) == nil })
	}
	c.unanswered.Store(0) // a scan with an unknown key is not counted
	c.now.Store("normal operation")
	c.begin()
	defer func() { c.ended.Store(true); c.clients.Wait() }()
	c.awaitProgress(100, 20)

	for _, name := range nodes {
		c.now.Store("restart of " + name)
		e.processes[name].stop()
		c.awaitProgress(20, 5)
		e.processes[name].start()
		e.waitUntil("HAProxy to have both nodes", e.allServersUp)
		c.awaitProgress(50, 5)
	}

	c.now.Store("the primary was killed")
	first, second := e.processes["postgres1"], e.processes["postgres2"]
	first.child.Signal(syscall.SIGSTOP) // so that it starts no further subprocesses
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// "17 (postgres: writer) S 12": the last number is the parent's process id.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))); fields[1] == strconv.Itoa(first.child.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	first.child.Signal(syscall.SIGKILL)
	_ = first.child.Wait() // not End: a subprocess may still hold the output open
	e.waitUntil("HAProxy to take the nodes out for changes", func() bool {
		up := e.upServers()
		return up != nil && !up["wire node1"] && !up["wire node2"] && !up["admin node1"] && !up["admin node2"]
	})
	c.awaitProgress(100, 0)
	changed := c.changed.Load()
	second.run("pg_ctl", "promote", "-w", "-D", second.service.Environment["PGDATA"])
	c.now.Store("the replica was promoted")
	c.awaitProgress(50, 0)
	assert.Equal(t, c.changed.Load()-changed, 0, "changes acknowledged without a replica")
	first.run(first.service.Entrypoint[0], "copy")
	first.start()
	c.awaitProgress(100, 20)
	e.waitUntil("HAProxy to have both nodes after the promotion", e.allServersUp)

	for _, name := range []string{"nats1", "nats2", "nats3"} {
		c.now.Store("restart of " + name)
		e.processes[name].stop()
		c.awaitProgress(50, 5)
		e.processes[name].start()
		c.awaitProgress(50, 5)
	}

	c.ended.Store(true)
	c.clients.Wait()
	stored := map[string]bool{}
	for page := 1; ; page++ {
		var got struct {
			ErrCode  int
			RuleList []struct{ Prefix string } `json:"rule_list"`
		}
		if err := c.callWire(http.DefaultClient, "qrcodejumpget", map[string]any{"get_type": 2, "page_num": page, "page_size": 200},
			&got); err != nil || got.ErrCode != 0 {
			t.Fatalf("qrcodejumpget = errcode %d, %v, want 0", got.ErrCode, err)
		}
		if len(got.RuleList) == 0 {
			break
		}
		for _, r := range got.RuleList {
			stored[r.Prefix] = true
		}
	}
	for _, prefix := range c.prefixes {
		assert.True(t, stored[prefix], "the acknowledged rule %s is lost", prefix)
	}
	var counted int64
	e.waitUntil("all scans to be counted", func() bool {
		var all struct{ Rows []struct{ Scans int64 } }
		if err := e.call(http.DefaultClient, http.MethodGet, adminAddress, "/admin/v1/statistics?wait=true", admin, nil, &all); err != nil {
			return false // NATS has not elected leaders yet
		}
		counted = 0
		for _, row := range all.Rows {
			counted += row.Scans
		}
		return true
	})
	if acked, unanswered := c.scanned.Load(), c.unanswered.Load(); counted < acked || counted > acked+unanswered {
		t.Errorf("%d scans counted, want %d acknowledged ones and at most %d without a response", counted, acked, unanswered)
	}
	t.Logf("%d scans counted, %d changes stored", counted, len(c.prefixes))
	for _, name := range []string{"node1", "node2", "haproxy", "nats1", "nats2", "nats3", "postgres2", "postgres1"} {
		e.processes[name].stop()
	}
}
