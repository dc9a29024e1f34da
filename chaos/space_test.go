package chaos_test

import (
	"errors"
	"fmt"
	"io"
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

// smallDisk is a file system of its own, in memory, with so many bytes.
type smallDisk struct {
	t   *testing.T
	dir string
}

// newSmallDisk mounts one; only root may, so the test is skipped for others.
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

// fill leaves at most so many bytes free.
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
	if errors.Is(err, syscall.ENOSPC) { // a server wrote something meanwhile
		var got os.FileInfo
		if got, err = os.Stat(filler); err == nil {
			err = os.Truncate(filler, max(0, got.Size()-leave))
		}
	}
	require.NoError(d.t, err)
}

func (d *smallDisk) clear() {
	d.t.Helper()
	require.NoError(d.t, os.Remove(filepath.Join(d.dir, "filler")))
}

// readOnly makes it so, or takes it back. Files that are open for writing stand
// in the way of the first, so it is for a stopped server.
func (d *smallDisk) readOnly(yes bool) {
	d.t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if yes {
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

// shopkeeper adds rules and remembers which were acknowledged.
type shopkeeper struct {
	must
	token string
	added []string
	n     int
}

func newShopkeeper(t *testing.T, base string) *shopkeeper {
	t.Helper()
	s := &shopkeeper{must: must{connect(t, base, ""), t}}
	token := s.stableToken("shop")
	s.token = token
	return s
}

// outlives wants every acknowledged rule to be there after the node was killed
// and started again, and stops it.
func (s *shopkeeper) outlives(n *node) {
	s.t.Helper()
	n.kill()
	n.start()
	s.base = n.running.Load().URL
	s.has()
	n.stop()
	s.t.Logf("%d rules acknowledged, all there", len(s.added))
}

// add returns the errcode of one more rule.
func (s *shopkeeper) add() int {
	s.t.Helper()
	s.n++
	prefix := fmt.Sprintf("https://shop.example/%d/", s.n)
	got := s.code("qrcodejumpadd", s.token, add(prefix, "pages/"+strings.Repeat("x", 900)))
	if got.ErrCode == 0 {
		s.added = append(s.added, prefix)
	}
	return got.ErrCode
}

// until adds until it is answered so.
func (s *shopkeeper) until(code int) {
	s.t.Helper()
	for range 20_000 {
		switch got := s.add(); got {
		case code:
			return
		case 0, -1:
		default:
			s.t.Fatalf("an add is answered %d", got)
		}
	}
	s.t.Fatalf("no add is answered %d", code)
}

// has wants every acknowledged rule to be there.
func (s *shopkeeper) has() {
	s.t.Helper()
	there := map[string]bool{}
	for page := 1; ; page++ {
		list := s.ok("qrcodejumpget", s.token, map[string]any{"get_type": 2, "page_num": page, "page_size": 200}).RuleList
		for _, r := range list {
			there[r.Prefix] = true
		}
		if len(list) == 0 {
			break
		}
	}
	for _, prefix := range s.added {
		assert.True(s.t, there[prefix], "%s was acknowledged and is lost", prefix)
	}
}

// statusOf is the status of a page.
func statusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// TestEmbeddedDatabase_DiskFull: when the disk of the embedded database and the ledger is full,
// changes are answered -1, nothing that was acknowledged is lost, and when
// there is space again the server works on without a start.
func TestEmbeddedDatabase_DiskFull(t *testing.T) {
	d := newSmallDisk(t, 48<<20)
	c := newCluster(t, "", spaceSeed, 1)
	c.logs, c.dir = c.dir, d.dir // what the server says of the full disk must find room
	n := c.nodes[0]
	n.start()
	admin := n.admin()
	key := admin.scanKey("space")
	keeper := newShopkeeper(t, admin.base)
	scans := must{connect(t, admin.base, key), t}
	for range 20 {
		require.Equal(t, keeper.add(), 0, "before")
	}

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	operator := &http.Client{Jar: jar}
	if status, said := sends(t, operator, http.MethodPost, admin.base+"/console/login", "application/x-www-form-urlencoded",
		"password="+adminToken, ""); status != 200 {
		t.Fatalf("signing in = %d %s", status, said)
	}
	d.fill(256 << 10)
	keeper.until(-1)
	for range 20 {
		keeper.add() // a small one may still find room
	}
	if status, said := readiness(t, admin.base); status != http.StatusServiceUnavailable || !strings.Contains(said, "full") {
		t.Errorf("on a full disk /readyz answers %d %s", status, said)
	}
	consoleOnAFullDisk(t, admin.base, operator)
	line := `{"owner":"shop","prefix":"https://shop.example/imported/%d/","path":"pages/x"}` + "\n"
	var lines strings.Builder
	for i := range 20_000 { // more than is free
		fmt.Fprintf(&lines, line, i)
	}
	status, said := sends(t, http.DefaultClient, http.MethodPost, admin.base+"/admin/v1/import/rules", "application/x-ndjson",
		lines.String(), adminToken)
	assert.True(t, status == http.StatusServiceUnavailable && strings.Contains(said, "no space left on device"),
		"an import on a full disk = %d %s, want 503 and the cause", status, said)
	keeper.has() // reading goes on
	if log := string(n.running.Load().wholeLog()); !strings.Contains(log, "full") && !strings.Contains(log, "no space left") {
		t.Errorf("the log does not say that the disk is full:\n%s", n.running.Load().lastLog())
	}
	// A scan is answered rightly, or not at all.
	switch decided, err := scans.connection.scan("https://shop.example/open/1"); {
	case err == nil && !decided.opens():
		t.Errorf("a scan on a full disk %v", decided)
	case err != nil && !strings.Contains(err.Error(), "503"):
		t.Errorf("a scan on a full disk: %v", err)
	default:
		t.Logf("a scan on a full disk: %v %v", decided, err)
	}

	d.clear()
	until(t, "the node to be ready again by itself", n.ready)
	until(t, "an add to work again", func() bool { return keeper.add() == 0 })
	until(t, "a scan to be answered again", func() bool {
		got, err := scans.connection.scan("https://shop.example/open/1")
		return err == nil && got.opens()
	})
	until(t, "the node to be ready again", n.ready)
	keeper.has()
	keeper.outlives(n)
}

// consoleOnAFullDisk wants the home and the operator's page to begin with what /readyz reports, and a visitor who is not signed in to read
// nothing that is false.
func consoleOnAFullDisk(t *testing.T, base string, operator *http.Client) {
	t.Helper()
	for language, not := range map[string]string{"en": "Not ready: the d", "zh": "服务未就绪：数据"} {
		for _, path := range []string{"/console/home", "/console/health"} {
			status, page := sends(t, operator, http.MethodGet, base+path+"?lang="+language, "", "", "")
			fault, disk, warning := strings.Index(page, not), strings.Index(page, "0.0 kB"), strings.Index(page, `"warn"`)
			if status != http.StatusOK || fault < 0 || disk < fault || warning >= 0 && warning < disk ||
				strings.Contains(page, "No scans yet") || strings.Contains(page, "还没有扫码记录") {
				t.Errorf("%s in %s on a full disk = %d, without the fault and the disk before everything else: %s", path, language, status, page)
			}
		}
		status, page := sends(t, http.DefaultClient, http.MethodPost, base+"/console/login?lang="+language,
			"application/x-www-form-urlencoded", "password="+adminToken, "")
		if status != http.StatusServiceUnavailable || strings.Contains(page, "does not respond") || strings.Contains(page, "数据库") ||
			!strings.Contains(page, "/readyz") {
			t.Errorf("signing in on a full disk in %s = %d %s, want 503 and what is true", language, status, page)
		}
	}
}

// sends makes a request with a body of the content type kind, and returns the status and the text of the response.
func sends(t *testing.T, browser *http.Client, method, url, kind, body, bearer string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", kind)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := browser.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(answer)
}

// TestShutdown_DiskFull: issue 28, 9. A stop while the disk is full ended with 1, as if something had been lost. What was
// acknowledged is there after it, so it ends with 0; counts and the log of calls, which no caller waits for, are not, and
// the server's log says so.
func TestShutdown_DiskFull(t *testing.T) {
	for name, postgres := range map[string]bool{"of the embedded database": false, "of the folder beside PostgreSQL": true} {
		t.Run(name, func(t *testing.T) {
			database := ""
			if postgres {
				database = ownDatabase(t)
			}
			d := newSmallDisk(t, 48<<20)
			c := newCluster(t, database, spaceSeed, 1)
			c.logs, c.dir = c.dir, d.dir
			n := c.nodes[0]
			n.start()
			admin := n.admin()
			key := admin.scanKey("space")
			keeper := newShopkeeper(t, admin.base)
			scans := must{connect(t, admin.base, key), t}
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
			for range 20 { // on a full disk some may still find room
				scan()
				keeper.add()
				_, _ = keeper.wire("qrcodejumpget", keeper.token, map[string]any{"get_type": 0})
			}
			for scan() { // until the room that the journal has beforehand is used up
				require.True(t, acknowledged <= 100_000, "scans are answered on a full disk for ever")
			}
			p := n.running.Load()
			n.stop()
			if said := string(p.wholeLog()); !postgres && !strings.Contains(said, "call statistics not saved") {
				t.Errorf("the log does not say what was not kept:\n%s", p.lastLog())
			}
			d.clear()
			n.start()
			admin = n.admin()
			keeper.base = admin.base
			keeper.has()
			var asked struct{ Counted struct{ Scans int } }
			admin.check(admin.do(http.MethodGet, "/admin/v1/statistics?wait=true", nil, &asked))
			assert.True(t, asked.Counted.Scans >= acknowledged,
				"%d scans were answered, and %d are there", acknowledged, asked.Counted.Scans)
			t.Logf("%d scans answered, %d there", acknowledged, asked.Counted.Scans)
			n.stop()
		})
	}
}

// TestServerStart_ReadOnlyFolder: a server whose folder cannot be written does not start,
// and says why in one line.
func TestServerStart_ReadOnlyFolder(t *testing.T) {
	d := newSmallDisk(t, 48<<20)
	c := newCluster(t, "", spaceSeed, 1)
	logs := c.dir
	c.dir = d.dir
	n := c.nodes[0]
	n.start()
	n.stop()
	d.readOnly(true)
	defer d.readOnly(false)
	child := n.config()
	p, ready := tryIn(t, child, logs)
	require.True(t, !ready, "a server started on a read-only folder")
	said := string(p.lastLog())
	if !strings.Contains(said, child.Data) || !strings.Contains(said, "read-only") || strings.Count(strings.TrimSpace(said), "\n") > 1 {
		t.Errorf("it says:\n%s", said)
	}
	t.Log(strings.TrimSpace(said))
}

// TestPostgres_DiskFull: the same on PostgreSQL, whose disk is full.
func TestPostgres_DiskFull(t *testing.T) {
	dbtest.Server(t)
	d := newSmallDisk(t, 160<<20)
	p := &pair{t: t}
	dir := filepath.Join(d.dir, "postgres")
	database := p.script("start", dir)
	t.Cleanup(func() { p.script("stop", dir) })
	c := newCluster(t, database, spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	keeper := newShopkeeper(t, n.running.Load().URL)
	for range 20 {
		require.Equal(t, keeper.add(), 0, "before")
	}
	d.fill(64 << 10)
	keeper.until(-1)
	if status, said := readiness(t, n.running.Load().URL); status != http.StatusServiceUnavailable {
		t.Errorf("while the database is full /readyz answers %d %s", status, said)
	}
	if log := string(n.running.Load().wholeLog()); !strings.Contains(log, "No space left") && !strings.Contains(log, "53100") {
		t.Errorf("the log does not say that the database is full:\n%s", n.running.Load().lastLog())
	}
	d.clear()
	until(t, "the node to be ready again by itself", func() bool {
		// A PostgreSQL that found no room for its log ends itself, now or in a moment.
		p.script("again", dir)
		return n.ready()
	})
	until(t, "an add to work again", func() bool { return keeper.add() == 0 })
	keeper.has()
	keeper.outlives(n)
}

// TestNodeFolder_DiskFullNotReady: issue 12, 10. A node on PostgreSQL whose own disk is full makes
// changes, and cannot write scans down: it says that it is not ready until it can.
func TestNodeFolder_DiskFullNotReady(t *testing.T) {
	d := newSmallDisk(t, 48<<20)
	c := newCluster(t, ownDatabase(t), spaceSeed, 1)
	c.logs, c.dir = c.dir, d.dir
	n := c.nodes[0]
	n.start()
	until(t, "the node to be ready", n.ready)
	keeper := newShopkeeper(t, n.running.Load().URL)
	d.fill(256 << 10)
	until(t, "/readyz to say so", func() bool {
		status, said := readiness(t, keeper.base)
		return status == http.StatusServiceUnavailable && strings.Contains(said, "full or not writable")
	})
	if got := keeper.add(); got != 0 {
		t.Errorf("a change is answered %d", got)
	}
	d.clear()
	until(t, "the node to be ready again by itself", n.ready)
	n.stop()
}

// TestPostgres_ReadOnly: a database that takes no writes is said to be so, not
// taken for an empty one.
func TestPostgres_ReadOnly(t *testing.T) {
	c := newCluster(t, ownDatabase(t), spaceSeed, 2)
	n := c.nodes[0]
	n.start()
	defer n.stop()
	keeper := newShopkeeper(t, n.running.Load().URL)
	require.Equal(t, keeper.add(), 0, "before")
	set := func(value string) {
		dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(c.database)+` SET default_transaction_read_only = `+value)
		endSessions(t, c.database)
	}
	set("on")
	until(t, "an add to be refused", func() bool {
		if keeper.add() == -1 {
			return true
		}
		endSessions(t, c.database) // one that was just beginning may have read what was set before, and was not there yet to be ended
		return false
	})
	for path, want := range map[string]int{"/healthz": 200, "/readyz?for=scan": 200, "/readyz?for=change": 503, "/readyz?for=codes": 400} {
		if got := statusOf(t, n.running.Load().URL+path); got != want {
			t.Errorf("with a database that takes no changes %s answers %d, want %d", path, got, want)
		}
	}
	child := c.nodes[1].config()
	require.NoError(t, os.MkdirAll(filepath.Dir(child.Data), 0o700))
	p, ready := try(t, child)
	switch said := string(p.lastLog()); {
	case ready:
		// It may answer scans; what it cannot do it says.
		if got := statusOf(t, p.URL+"/readyz"); got == http.StatusOK {
			t.Error("a node on a read-only database says that it is ready")
		}
		p.stop()
	case !strings.Contains(said, "read-only"):
		t.Errorf("it says:\n%s", said)
	default:
		t.Log(strings.TrimSpace(said))
	}
	dbtest.Exec(t, dbtest.Server(t), `ALTER DATABASE `+dbtest.Name(c.database)+` SET default_transaction_read_only = off`)
	endSessions(t, c.database+"&default_transaction_read_only=off")
	until(t, "an add to work again", func() bool { return keeper.add() == 0 })
	keeper.has()
}

// TestPostgres_Unreachable: a node that finds no database does not start, and says
// which one in one line, without its password; one that loses it answers scans
// from memory, -1 to changes, and says in /readyz that it may be behind.
func TestPostgres_Unreachable(t *testing.T) {
	p := newSingle(t)
	database := p.database("down")
	c := newCluster(t, database, spaceSeed, 2)
	n := c.nodes[0]
	n.start()
	admin := n.admin()
	key := admin.scanKey("down")
	keeper := newShopkeeper(t, admin.base)
	scans := must{connect(t, admin.base, key), t}
	scans.scan("https://shop.example/open/1")

	for _, dir := range p.dirs {
		p.script("kill", dir)
	}
	if got := keeper.add(); got != -1 {
		t.Errorf("an add without a database is answered %d", got)
	}
	if d := scans.scan("https://shop.example/open/1"); !d.opens() {
		t.Errorf("a scan without a database %v", d)
	}
	until(t, "/readyz to say so", func() bool { return statusOf(t, n.running.Load().URL+"/readyz") == http.StatusServiceUnavailable })
	for kind, want := range map[string]int{"change": http.StatusServiceUnavailable, "scan": http.StatusOK} {
		if got, said := askFor(t, n, kind); got != want {
			t.Errorf("/readyz?for=%s is %d %s", kind, got, said)
		}
	}
	if got := statusOf(t, n.running.Load().URL+"/healthz"); got != http.StatusOK {
		t.Errorf("healthz answers %d", got)
	}
	child := c.nodes[1].config()
	require.NoError(t, os.MkdirAll(filepath.Dir(child.Data), 0o700))
	second, ready := try(t, child)
	require.True(t, !ready, "a node started without a database")
	said := strings.TrimSpace(string(second.lastLog()))
	assert.True(t, strings.Contains(said, "127.0.0.1") && !strings.Contains(said, password(p.urls[0])), "it says:\n%s", said)
	t.Log(said)

	for _, dir := range p.dirs {
		p.script("again", dir)
	}
	until(t, "an add to work again", func() bool { return keeper.add() == 0 })
	c.nodes[1].start()
	c.allReady()
	keeper.has()
	c.stop()
}

// TestPostgres_BlackholedNetwork: the network to the database loses its way. No connection
// ends, and nobody answers. Changes are answered -1 after a while, scans from
// memory at once, and /readyz says that the node may be behind.
func TestPostgres_BlackholedNetwork(t *testing.T) {
	if os.Getenv("CHAOS_MINUTES") == "" {
		t.Skip("CHAOS_MINUTES is not set: it takes a minute")
	}
	proxy := proxyTo(t, ownDatabase(t))
	c := newCluster(t, proxy.URL, spaceSeed, 1)
	n := c.nodes[0]
	n.start()
	admin := n.admin()
	key := admin.scanKey("silent")
	keeper := newShopkeeper(t, admin.base)
	scans := must{connect(t, admin.base, key), t}
	scans.scan("https://shop.example/open/1")

	proxy.silent.Lock()
	answer := make(chan int, 1)
	began := time.Now()
	go func() { answer <- keeper.add() }()
	for range 10 {
		if d := scans.scan("https://shop.example/open/1"); !d.opens() {
			t.Errorf("a scan without a database %v", d)
		}
	}
	scanned := time.Since(began)
	until(t, "/readyz to say so", func() bool { return statusOf(t, n.running.Load().URL+"/readyz") == http.StatusServiceUnavailable })
	said := time.Since(began)
	select {
	case got := <-answer:
		assert.True(t, got == -1, "an add without a database is answered %d", got)
		t.Logf("ten scans took %v, /readyz said so after %v, an add was answered -1 after %v", scanned.Round(time.Millisecond),
			said.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	case <-time.After(2 * time.Minute):
		t.Error("an add without a database is not answered in two minutes")
	}
	proxy.silent.Unlock()
	until(t, "an add to work again", func() bool { return keeper.add() == 0 })
	until(t, "the node to be ready again", n.ready)
	keeper.has()
	n.stop()
}

func password(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	user, _, _ := strings.Cut(rest, "@")
	_, text, _ := strings.Cut(user, ":")
	return text
}
