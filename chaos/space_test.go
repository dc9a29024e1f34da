package chaos_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// smallDisk is a mounted tmpfs of a limited size.
type smallDisk struct {
	t   *testing.T
	dir string
}

// newSmallDisk mounts a tmpfs with size bytes. The test is skipped unless it runs as root.
func newSmallDisk(t *testing.T, size int64) *smallDisk {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "qrjump-disk-")
	require.NoError(t, err)
	if err := syscall.Mount("qrjump", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)); err != nil {
		os.Remove(dir)
		t.Skipf("a small file system cannot be mounted here (root may): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		os.Remove(dir)
	})
	return &smallDisk{t, dir}
}

// fill writes a file that leaves at most the given number of bytes free.
func (d *smallDisk) fill(leave int64) {
	d.t.Helper()
	var s syscall.Statfs_t
	require.NoError(d.t, syscall.Statfs(d.dir, &s))
	free := int64(s.Bavail)*s.Bsize - leave
	if free <= 0 {
		return
	}
	filler := filepath.Join(d.dir, "filler")
	err := os.WriteFile(filler, make([]byte, free), 0o600)
	if errors.Is(err, syscall.ENOSPC) { // a server wrote at the same time
		var got os.FileInfo
		if got, err = os.Stat(filler); err == nil {
			err = os.Truncate(filler, max(0, got.Size()-leave))
		}
	}
	require.NoError(d.t, err)
}

// removeFiller removes the file that fill wrote.
func (d *smallDisk) removeFiller() {
	d.t.Helper()
	require.NoError(d.t, os.Remove(filepath.Join(d.dir, "filler")))
}

// setReadOnly remounts the file system. It needs a stopped server, because a file that is open for writing prevents the remount.
func (d *smallDisk) setReadOnly(readOnly bool) {
	d.t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	require.NoError(d.t, syscall.Mount("qrjump", d.dir, "", flags, ""))
}

var spaceSeed = fmt.Sprintf(`
accounts:
  - {appid: shop, kind: mini_program, secret: %q, versions: [release]}
  - {appid: brand, kind: service_account, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef, secret: %q, linked: [shop]}
rules: [{owner: shop, prefix: "https://shop.example/open/", path: pages/open, published: true}]
settings: {rule_rate_limit: null, verification: trust, rule_limit: 1000000}
`, secretOf("shop"), secretOf("brand"))

// ruleWriter adds rules and remembers the acknowledged ones.
type ruleWriter struct {
	mustConnection
	token string
	added []string
	n     int
}

func newRuleWriter(t *testing.T, base string) *ruleWriter {
	t.Helper()
	w := &ruleWriter{mustConnection: mustConnect(t, base, "")}
	w.token = w.stableToken("shop")
	return w
}

// checkAfterRestart kills and starts the node, checks that it has every acknowledged rule, and stops it.
func (w *ruleWriter) checkAfterRestart(n *node) {
	w.t.Helper()
	n.kill()
	n.start()
	w.base = n.serverURL()
	w.checkRules()
	n.stop()
	w.t.Logf("all of %d acknowledged rules exist", len(w.added))
}

// add adds the next rule and returns the errcode.
func (w *ruleWriter) add() int {
	w.t.Helper()
	w.n++
	prefix := fmt.Sprintf("https://shop.example/%d/", w.n)
	got := w.code("qrcodejumpadd", w.token, add(prefix, "pages/"+strings.Repeat("x", 900)))
	if got.ErrCode == 0 {
		w.added = append(w.added, prefix)
	}
	return got.ErrCode
}

// addSome adds n rules, each of which must be acknowledged.
func (w *ruleWriter) addSome(n int) {
	w.t.Helper()
	for range n {
		require.Equal(w.t, w.add(), 0, "errcode of qrcodejumpadd")
	}
}

// addUntilError adds rules until an add returns -1.
func (w *ruleWriter) addUntilError() {
	w.t.Helper()
	for range 20_000 {
		code := w.add()
		if code == -1 {
			return
		}
		require.Equal(w.t, code, 0, "errcode of qrcodejumpadd")
	}
	w.t.Fatal("20,000 rules were added, want an add that returns -1")
}

// waitForAdd waits until an add succeeds.
func (w *ruleWriter) waitForAdd() {
	w.t.Helper()
	waitFor(w.t, "an add to succeed", func() bool { return w.add() == 0 })
}

// checkRules checks that every acknowledged rule exists.
func (w *ruleWriter) checkRules() {
	w.t.Helper()
	rules := w.rules(w.token)
	for _, prefix := range w.added {
		assert.Equal(w.t, rules[prefix].Prefix, prefix, "an acknowledged rule")
	}
}

// TestEmbeddedDatabase_DiskFull fills the disk of SQLite and of the scan log: changes return -1, no acknowledged change is lost, and when
// the disk has free space again, the server works without a restart.
func TestEmbeddedDatabase_DiskFull(t *testing.T) {
	d := newSmallDisk(t, 48<<20)
	c := newCluster(t, "", spaceSeed, 1)
	c.logDir, c.dir = c.dir, d.dir // the log about the full disk needs space
	n := c.nodes[0]
	n.start()
	admin := n.admin()
	scans := n.connect(admin.scanKey("space"))
	writer := newRuleWriter(t, admin.base)
	writer.addSome(20)

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	operator := &http.Client{Jar: jar}
	signedIn, err := send(operator, http.MethodPost, admin.base+"/console/login", "application/x-www-form-urlencoded",
		"password="+adminToken, "")
	require.True(t, err == nil && signedIn.status == http.StatusOK, "login = %d %s, %v, want 200", signedIn.status, signedIn.body, err)
	d.fill(256 << 10)
	writer.addUntilError()
	for range 20 {
		writer.add() // a small rule may still fit
	}
	ready := n.readyz("")
	assert.True(t, ready.status == http.StatusServiceUnavailable && strings.Contains(ready.body, "full"),
		"GET /readyz on a full disk = %d %s, want 503 and the cause", ready.status, ready.body)
	checkConsoleOnFullDisk(t, admin.base, operator)
	line := `{"owner":"shop","prefix":"https://shop.example/imported/%d/","path":"pages/x"}` + "\n"
	var lines strings.Builder
	for i := range 20_000 { // more than fits
		fmt.Fprintf(&lines, line, i)
	}
	imported := mustSend(t, http.MethodPost, admin.base+"/admin/v1/import/rules", "application/x-ndjson", lines.String(), adminToken)
	assert.True(t, imported.status == http.StatusServiceUnavailable && strings.Contains(imported.body, "no space left on device"),
		"an import on a full disk = %d %s, want 503 and the cause", imported.status, imported.body)
	writer.checkRules() // reads still work
	if log := n.running.Load().readLog(); !strings.Contains(log, "full") && !strings.Contains(log, "no space left") {
		t.Errorf("the log does not report the full disk:\n%s", n.running.Load().logTail())
	}
	// A scan opens the rule or fails with 503.
	switch decided, err := scans.connection.scan("https://shop.example/open/1"); {
	case err == nil && !decided.opens():
		t.Errorf("a scan on a full disk %v, want the rule or 503", decided)
	case err != nil && !strings.Contains(err.Error(), "503"):
		t.Errorf("a scan on a full disk: %v, want the rule or 503", err)
	default:
		t.Logf("a scan on a full disk: %v %v", decided, err)
	}

	d.removeFiller()
	c.waitUntilReady()
	writer.waitForAdd()
	waitFor(t, "a scan to open the rule again", func() bool {
		got, err := scans.connection.scan("https://shop.example/open/1")
		return err == nil && got.opens()
	})
	c.waitUntilReady()
	writer.checkRules()
	writer.checkAfterRestart(n)
}

// checkConsoleOnFullDisk checks that the home page and the health page begin with the fault that /readyz reports, and that the login page
// names no other cause.
func checkConsoleOnFullDisk(t *testing.T, base string, operator *http.Client) {
	t.Helper()
	for language, notReady := range map[string]string{"en": "Not ready: the d", "zh": "服务未就绪：数据"} {
		for _, path := range []string{"/console/home", "/console/health"} {
			r, err := send(operator, http.MethodGet, base+path+"?lang="+language, "", "", "")
			fault, disk, warning := strings.Index(r.body, notReady), strings.Index(r.body, "0.0 kB"), strings.Index(r.body, `"warn"`)
			assert.True(t, err == nil && r.status == http.StatusOK && fault >= 0 && disk >= fault && (warning < 0 || warning >= disk) &&
				!strings.Contains(r.body, "No scans yet") && !strings.Contains(r.body, "还没有扫码记录"),
				"%s in %s on a full disk = %d, %v, want the fault and the disk first: %s", path, language, r.status, err, r.body)
		}
		var r response
		for tries := 0; r.status != http.StatusServiceUnavailable && tries < 200; tries++ { // a session may still fit
			r = mustSend(t, http.MethodPost, base+"/console/login?lang="+language, "application/x-www-form-urlencoded",
				"password="+adminToken, "")
		}
		assert.True(t, r.status == http.StatusServiceUnavailable && !strings.Contains(r.body, "does not respond") &&
			!strings.Contains(r.body, "数据库") && strings.Contains(r.body, "/readyz"),
			"login in %s on a full disk = %d %s, want 503 and the cause", language, r.status, r.body)
	}
}

// TestShutdown_DiskFull stops a server while its disk is full. Everything that was acknowledged survives, so the exit code is 0; the log
// reports the loss of API usage counts and of the request log, for which no caller waits.
func TestShutdown_DiskFull(t *testing.T) {
	for name, postgres := range map[string]bool{"SQLite": false, "data directory with PostgreSQL": true} {
		t.Run(name, func(t *testing.T) {
			database := ""
			if postgres {
				database = newDatabase(t)
			}
			d := newSmallDisk(t, 48<<20)
			c := newCluster(t, database, spaceSeed, 1)
			c.logDir, c.dir = c.dir, d.dir
			n := c.nodes[0]
			n.start()
			admin := n.admin()
			scans := n.connect(admin.scanKey("space"))
			writer := newRuleWriter(t, admin.base)
			acknowledged := 0
			scan := func() bool {
				_, err := scans.connection.scan("https://shop.example/open/1")
				if err == nil {
					acknowledged++
				}
				return err == nil
			}
			for range 20 {
				scan()
			}
			d.fill(0)
			for range 20 { // some writes may still fit
				scan()
				writer.add()
				_, _ = writer.wire("qrcodejumpget", writer.token, map[string]any{"get_type": 0})
			}
			for scan() { // until the preallocated space of the journal is used up
				require.True(t, acknowledged <= 100_000, "%d scans were acknowledged on a full disk, want an error", acknowledged)
			}
			p := n.running.Load()
			n.stop()
			if !postgres {
				assert.Contains(t, p.readLog(), "call statistics not saved", "the log")
			}
			d.removeFiller()
			n.start()
			admin = n.admin()
			writer.base = admin.base
			writer.checkRules()
			var statistics struct{ Counted struct{ Scans int } }
			admin.get("/admin/v1/statistics?wait=true", &statistics)
			assert.True(t, statistics.Counted.Scans >= acknowledged,
				"%d scans were acknowledged, and %d are counted", acknowledged, statistics.Counted.Scans)
			t.Logf("%d scans acknowledged, %d counted", acknowledged, statistics.Counted.Scans)
			n.stop()
		})
	}
}

// TestServerStart_ReadOnlyFolder verifies that a server with a read-only data directory does not start and reports the cause in one line.
func TestServerStart_ReadOnlyFolder(t *testing.T) {
	d := newSmallDisk(t, 48<<20)
	c := newCluster(t, "", spaceSeed, 1)
	logDir := c.dir
	c.dir = d.dir
	n := c.nodes[0]
	n.start()
	n.stop()
	d.setReadOnly(true)
	defer d.setReadOnly(false)
	child := n.config()
	child.logDir = logDir
	p, ready := tryStart(t, child)
	require.True(t, !ready, "the server became ready with a read-only data directory")
	log := strings.TrimSpace(p.logTail())
	assert.True(t, strings.Contains(log, child.Data) && strings.Contains(log, "read-only") && strings.Count(log, "\n") <= 1,
		"the log of the failed start is\n%s\nwant one line with the directory and the cause", log)
	t.Log(log)
}

// TestPostgres_DiskFull fills the disk of PostgreSQL: changes return -1, no acknowledged change is lost, and the node recovers by itself.
func TestPostgres_DiskFull(t *testing.T) {
	dbtest.Server(t)
	d := newSmallDisk(t, 160<<20)
	p := &postgresServers{t: t}
	dir := filepath.Join(d.dir, "postgres")
	database := p.script("start", dir)
	t.Cleanup(func() { p.script("stop", dir) })
	c := newCluster(t, database, spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	writer := newRuleWriter(t, n.serverURL())
	writer.addSome(20)
	d.fill(64 << 10)
	writer.addUntilError()
	assert.Equal(t, n.readyz("").status, http.StatusServiceUnavailable, "status of /readyz while the database is full")
	if log := n.running.Load().readLog(); !strings.Contains(log, "No space left") && !strings.Contains(log, "53100") {
		t.Errorf("the log does not report the full database:\n%s", n.running.Load().logTail())
	}
	d.removeFiller()
	waitFor(t, "the node to be ready again", func() bool {
		// PostgreSQL shuts down when its WAL does not fit, possibly after a delay.
		p.script("again", dir)
		return n.isReady()
	})
	writer.waitForAdd()
	writer.checkRules()
	writer.checkAfterRestart(n)
}

// TestNodeFolder_DiskFullNotReady fills the disk of a node on PostgreSQL: the node makes changes but cannot record scans, so it is not
// ready until the disk has free space again.
func TestNodeFolder_DiskFullNotReady(t *testing.T) {
	d := newSmallDisk(t, 48<<20)
	c := newCluster(t, newDatabase(t), spaceSeed, 1)
	c.logDir, c.dir = c.dir, d.dir
	n := c.nodes[0]
	n.start()
	waitFor(t, "the node to be ready", n.isReady)
	writer := newRuleWriter(t, n.serverURL())
	d.fill(256 << 10)
	waitFor(t, "/readyz to report the full disk", func() bool {
		ready := n.readyz("")
		return ready.status == http.StatusServiceUnavailable && strings.Contains(ready.body, "full or not writable")
	})
	assert.Equal(t, writer.add(), 0, "errcode of a change on a full disk")
	d.removeFiller()
	waitFor(t, "the node to be ready again", n.isReady)
	n.stop()
}

// TestPostgres_ReadOnly makes the database read-only under a node: changes return -1, scans work, and a second node either reports that it
// is not ready or does not start and names the cause; it must not treat the database as empty.
func TestPostgres_ReadOnly(t *testing.T) {
	c := newCluster(t, newDatabase(t), spaceSeed, 2)
	n := c.nodes[0]
	n.start()
	defer n.stop()
	writer := newRuleWriter(t, n.serverURL())
	writer.addSome(1)
	set := func(value string) {
		dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(c.database)+` SET default_transaction_read_only = `+value)
		terminateSessions(t, c.database)
	}
	set("on")
	waitFor(t, "an add to return -1", func() bool {
		if writer.add() == -1 {
			return true
		}
		terminateSessions(t, c.database) // a session that was starting may have read the previous setting
		return false
	})
	for path, want := range map[string]int{"/healthz": 200, "/readyz?for=scan": 200, "/readyz?for=change": 503, "/readyz?for=codes": 400} {
		assert.Equal(t, mustSend(t, http.MethodGet, n.serverURL()+path, "", "", "").status, want,
			"status of %s with a read-only database", path)
	}
	p, ready := tryStart(t, c.nodes[1].config())
	if ready { // it may serve scans
		status := mustSend(t, http.MethodGet, p.URL+"/readyz", "", "", "").status
		assert.True(t, status != http.StatusOK, "GET /readyz with a read-only database = 200, want an error")
		p.stop()
	} else {
		assert.Contains(t, p.logTail(), "read-only", "the log of the failed start")
		t.Log(strings.TrimSpace(p.logTail()))
	}
	dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(c.database)+` SET default_transaction_read_only = off`)
	terminateSessions(t, c.database+"&default_transaction_read_only=off")
	writer.waitForAdd()
	writer.checkRules()
}

// TestPostgres_Unreachable stops the database. The running node serves scans from memory, returns -1 for changes and reports in /readyz
// that it may be stale. A second node does not start and reports the database in one line, without its password.
func TestPostgres_Unreachable(t *testing.T) {
	p := newPrimary(t)
	database := p.createDatabase("down")
	c := newCluster(t, database, spaceSeed, 2)
	n := c.nodes[0]
	n.start()
	admin := n.admin()
	scans := n.connect(admin.scanKey("down"))
	writer := newRuleWriter(t, admin.base)
	scans.scan("https://shop.example/open/1")

	p.script("kill", p.dirs[0])
	assert.Equal(t, writer.add(), -1, "errcode of an add without a database")
	d := scans.scan("https://shop.example/open/1")
	assert.True(t, d.opens(), "a scan without a database %v, want the rule", d)
	waitFor(t, "/readyz to report the database", func() bool { return n.readyz("").status == http.StatusServiceUnavailable })
	for path, want := range map[string]int{"/readyz?for=change": http.StatusServiceUnavailable, "/readyz?for=scan": http.StatusOK,
		"/healthz": http.StatusOK} {
		got := mustSend(t, http.MethodGet, n.serverURL()+path, "", "", "")
		assert.Equal(t, got.status, want, "status of %s without a database: %s", path, got.body)
	}
	second, ready := tryStart(t, c.nodes[1].config())
	require.True(t, !ready, "a node became ready without a database")
	log := strings.TrimSpace(second.logTail())
	password, _ := parseURL(t, p.urls[0]).User.Password()
	assert.True(t, strings.Contains(log, "127.0.0.1") && !strings.Contains(log, password),
		"the log of the failed start is\n%s\nwant the address of the database without the password", log)
	t.Log(log)

	p.script("again", p.dirs[0])
	writer.waitForAdd()
	c.nodes[1].start()
	c.waitUntilReady()
	writer.checkRules()
	c.stop()
}

// TestPostgres_BlackholedNetwork drops all traffic between a node and the database without closing a connection. Changes return -1 after a
// timeout, scans are served from memory without delay, and /readyz reports that the node may be stale.
func TestPostgres_BlackholedNetwork(t *testing.T) {
	if os.Getenv("CHAOS_MINUTES") == "" {
		t.Skip("CHAOS_MINUTES is not set: it takes a minute")
	}
	proxy := newPGProxy(t, newDatabase(t), "127.0.0.1:0")
	c := newCluster(t, proxy.URL, spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	admin := n.admin()
	scans := n.connect(admin.scanKey("silent"))
	writer := newRuleWriter(t, admin.base)
	scans.scan("https://shop.example/open/1")

	proxy.silent.Lock()
	result := make(chan int, 1)
	began := time.Now()
	go func() { result <- writer.add() }()
	for range 10 {
		d := scans.scan("https://shop.example/open/1")
		assert.True(t, d.opens(), "a scan without a database %v, want the rule", d)
	}
	scanned := time.Since(began)
	waitFor(t, "/readyz to report the database", func() bool { return n.readyz("").status == http.StatusServiceUnavailable })
	reported := time.Since(began)
	select {
	case got := <-result:
		assert.Equal(t, got, -1, "errcode of an add without a database")
		t.Logf("ten scans took %v, /readyz reported the database after %v, an add returned -1 after %v", scanned.Round(time.Millisecond),
			reported.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	case <-time.After(2 * time.Minute):
		t.Error("an add without a database has not returned after two minutes")
	}
	proxy.silent.Unlock()
	writer.waitForAdd()
	c.waitUntilReady()
	writer.checkRules()
	n.stop()
}
