package chaos_test

import (
	"database/sql"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// guideCommands are the commands of a section of the guide, which a test runs with other directories, addresses and times.
type guideCommands struct {
	t       *testing.T
	blocks  []string // of type text, in order
	replace []string // pairs for strings.NewReplacer
	dir     string
	owner   *syscall.Credential // the user of PostgreSQL; nil = this one
	path    string
}

// newGuideCommands returns the blocks of a section of a page in docs/en/how. The user of PostgreSQL owns dir.
func newGuideCommands(t *testing.T, page, heading, dir string) *guideCommands {
	t.Helper()
	text, err := os.ReadFile("../docs/en/how/" + page)
	require.NoError(t, err)
	_, body, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, "%s has no section %q", page, heading)
	body, _, _ = strings.Cut(body, "\n## ")
	programs, err := exec.Command(postgresScript, "bin").Output()
	require.NoError(t, err)
	b := &guideCommands{t: t, dir: dir, path: strings.TrimSpace(string(programs)) + ":" + os.Getenv("PATH")}
	for _, part := range strings.Split(body, "\n```text\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```")
		require.True(t, closed, "a block of %s has no end", page)
		b.blocks = append(b.blocks, block+"\n")
	}
	info, err := os.Stat(filepath.Join(dir, "a", "data"))
	require.NoError(t, err)
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != os.Getuid() {
		b.owner = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	return b
}

// block returns a block with the replacements, each of which must occur in one of the blocks.
func (b *guideCommands) block(n int) string {
	b.t.Helper()
	require.True(b.t, n < len(b.blocks), "the section has %d blocks", len(b.blocks))
	all := strings.Join(b.blocks, "")
	for i := 0; i < len(b.replace); i += 2 {
		require.True(b.t, strings.Contains(all, b.replace[i]), "no command contains %q", b.replace[i])
	}
	return strings.NewReplacer(b.replace...).Replace(b.blocks[n])
}

// run runs a block as the user of PostgreSQL, and returns its output.
func (b *guideCommands) run(block string) (string, error) {
	b.t.Helper()
	// A server that outlives the commands must not hold the pipe of their output.
	output, err := os.CreateTemp(b.t.TempDir(), "")
	require.NoError(b.t, err)
	defer output.Close()
	cmd := exec.Command("sh", "-e", "-c", block)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", output, output
	cmd.Env = []string{"PATH=" + b.path, "HOME=" + b.dir + "/lib", "TMPDIR=" + b.dir + "/lib", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.owner}
	failed := cmd.Run()
	text, err := os.ReadFile(output.Name())
	require.NoError(b.t, err)
	return string(text), failed
}

// clientChange has the times before the call and after the acknowledgement of a change; zero = not acknowledged.
type clientChange struct{ sent, acknowledged time.Time }

// changeLog has the changes of all clients by name.
type changeLog struct {
	mu           sync.Mutex
	changes      map[string]clientChange
	acknowledged atomic.Int64
}

func (l *changeLog) add(name string, sent time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := clientChange{sent: sent}
	if ok {
		c.acknowledged = time.Now()
		l.acknowledged.Add(1)
	}
	l.changes[name] = c
}

// TestRestoreDrill_PhysicalBackup runs the commands of nodes.md for a physical backup while clients change rules, activate codes and scan
// codes on two nodes, and restores the backup to a time. The restored database must have every change that was acknowledged before that
// time, and none that was sent later. restore-drill --database accepts it, and reports a missing rule and a missing entry of the audit log.
func TestRestoreDrill_PhysicalBackup(t *testing.T) {
	testscope.RequireComplete(t,
		"the drill of an archive in cmd/qrjump checks the same; the commands of a physical backup are those of PostgreSQL")
	p := newPrimary(t)
	dir := filepath.Dir(p.dirs[0])
	page := newGuideCommands(t, "nodes.md", "Physical backup", dir)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(free.Addr().String())
	require.NoError(t, err)
	free.Close()
	password, _ := parseURL(t, p.urls[0]).User.Password()
	page.replace = []string{"/backup", dir + "/backup", "postgres://standby@db1:5432/", p.urls[0], "/var/lib/postgresql", dir + "/lib",
		"127.0.0.1:5433", "127.0.0.1:" + port, "port = 5433", "port = " + port, "-p 5433", "-p " + port,
		"qrjump:PASSWORD", "qrjump:" + password, "/srv/drill", dir + "/drill"}
	for _, d := range []string{"backup", "backup/wal", "lib", "drill"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
		if page.owner != nil {
			require.NoError(t, os.Chown(filepath.Join(dir, d), int(page.owner.Uid), int(page.owner.Gid)))
		}
	}
	settings, err := os.OpenFile(filepath.Join(p.dirs[0], "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = settings.WriteString(page.block(0))
	require.NoError(t, err)
	require.NoError(t, settings.Close())
	p.script("kill", p.dirs[0])
	p.script("again", p.dirs[0])

	// As PostgreSQL stores passwords by default.
	dbtest.Exec(t, p.urls[0], `SET password_encryption = 'scram-sha-256'; ALTER ROLE qrjump PASSWORD '`+password+`'`)

	c := newCluster(t, p.createDatabase("qrjump"), spaceSeed, 2)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "drill", "master.key"), []byte(c.masterKey+"\n"), 0o644))
	page.path = filepath.Dir(program(t)) + ":" + page.path
	c.start()
	c.waitUntilReady()
	w := startBackupClients(t, c)
	waitForMore(t, &w.log.acknowledged, 60)
	if text, err := page.run(page.block(1)); err != nil {
		t.Fatalf("the backup: %v\n%s", err, text)
	}
	waitForMore(t, &w.log.acknowledged, 60)
	before := time.Now()
	var target string
	dbtest.QueryRows(t, p.urls[0], `SELECT clock_timestamp()::text`, func(r *sql.Rows) error { return r.Scan(&target) })
	after := time.Now()
	waitForMore(t, &w.log.acknowledged, 60)
	w.stop()
	// The archive has the WAL of all changes, not only of those before the target time.
	var last string
	dbtest.QueryRows(t, p.urls[0], `SELECT pg_walfile_name(pg_switch_wal())`, func(r *sql.Rows) error { return r.Scan(&last) })
	waitFor(t, "the archive to have "+last, func() bool {
		return dbtest.QueryInt(t, p.urls[0], `SELECT count(*) FROM pg_stat_archiver WHERE last_archived_wal >= '`+last+`'`) == 1
	})
	assert.Equal(t, dbtest.QueryInt(t, p.urls[0], `SELECT failed_count FROM pg_stat_archiver`), 0, "failures of archive_command")
	c.stop()

	page.replace = append(page.replace, "2026-11-28 09:30:00+00", target)
	t.Cleanup(func() { page.run("pg_ctl stop -m immediate -D " + dir + "/lib/restored || true") })
	if text, err := page.run(page.block(2)); err != nil {
		t.Fatalf("the restore: %v\n%s", err, text)
	}
	restored := fmt.Sprintf("postgres://qrjump:%s@127.0.0.1:%s/qrjump", url.PathEscape(password), port)
	w.check(restored, before, after)

	command, stop, _ := strings.Cut(page.block(3), "\n")
	drill := func(want string) {
		t.Helper()
		waitFor(t, "the sessions of the restored database to end", func() bool {
			return dbtest.QueryInt(t, strings.TrimSuffix(restored, "qrjump")+"postgres", `SELECT count(*) FROM pg_stat_activity
				WHERE datname = 'qrjump' AND usesysid IS NOT NULL`) == 0
		})
		text, err := page.run(command)
		t.Logf("restore-drill (%v)\n%s", err, text)
		if (err == nil) != (want == "this database can be used") || !strings.Contains(text, want) {
			t.Errorf("restore-drill = %v\n%s\nwant %q", err, text, want)
		}
	}
	drill("this database can be used")
	var rule string
	dbtest.QueryRows(t, restored, `SELECT prefix FROM rules WHERE published = 0 ORDER BY id LIMIT 1`,
		func(r *sql.Rows) error { return r.Scan(&rule) })
	activation := dbtest.QueryInt(t, restored, `SELECT min(seq) FROM changes WHERE kind = 'codes' AND action = 'activate'`)
	dbtest.Exec(t, restored, `DELETE FROM rules WHERE prefix = '`+rule+`'`)
	drill("the rule " + rule + " is missing, and the audit log has no deletion of it")
	dbtest.Exec(t, restored, fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, activation))
	drill(fmt.Sprintf("change %d: it is missing", activation))
	if text, err := page.run(stop); err != nil {
		t.Errorf("%s: %v\n%s", stop, err, text)
	}
}

// backupClients are clients of two nodes: two add rules, one activates codes, and one scans codes.
type backupClients struct {
	clientGroup
	log   changeLog
	scans atomic.Int64
}

func startBackupClients(t *testing.T, c *cluster) *backupClients {
	t.Helper()
	w := &backupClients{clientGroup: clientGroup{t: t}, log: changeLog{changes: map[string]clientChange{}}}
	admin := c.nodes[0].admin()
	key := admin.scanKey("app")
	brand := admin.stableToken("brand")
	batch := admin.apply(brand, "tea", 10_000)
	activate := func(c *connection, index int64) {
		body := activation(batch, index, index, "shop")
		name, sent := fmt.Sprintf("activity %d", index), time.Now()
		body["activity_name"] = name
		got, err := c.codes("codeactive", brand, body)
		ok := err == nil && got.ErrCode == 0
		assert.True(t, ok, "codeactive(%d) = %d %s, %v, want 0", index, got.ErrCode, got.ErrMsg, err)
		w.log.add(name, sent, ok)
	}
	activate(admin.connection, 0)
	require.True(t, !t.Failed(), "the first activation failed")
	text := admin.codeText(batch, 0)

	for n := range 2 {
		writer := newRuleWriter(t, c.nodes[n].serverURL())
		writer.n = n * 1_000_000
		w.run(func() {
			sent := time.Now()
			ok := writer.add() == 0
			w.log.add(fmt.Sprintf("https://shop.example/%d/", writer.n), sent, ok)
		})
	}
	secondNode, index := connect(t, c.nodes[1].serverURL(), key), int64(0)
	w.run(func() {
		index++
		activate(secondNode, index)
	})
	scanner := connect(t, c.nodes[0].serverURL(), key)
	w.run(func() {
		d, err := scanner.scanAs(text, fmt.Sprint("u-", w.scans.Add(1)%50))
		assert.True(t, err == nil && d.opens(), "a scan of a code %v, %v, want the page", d, err)
	})
	t.Cleanup(w.stop)
	return w
}

// check compares a restored database with the changes that were acknowledged before a time, and those that were sent after a time.
func (w *backupClients) check(database string, before, after time.Time) {
	w.t.Helper()
	found := queryMap[string, bool](w.t, database, `SELECT prefix, true FROM rules WHERE prefix NOT LIKE '%/open/'
		UNION SELECT binding::json ->> 'activity_name', true FROM code_events WHERE action = 'activate'`)
	for name := range found {
		_, ok := w.log.changes[name]
		assert.True(w.t, ok, "the restored database has %q, which no client sent", name)
	}
	kept, dropped, between := 0, 0, 0
	for _, name := range slices.Sorted(maps.Keys(w.log.changes)) {
		switch c := w.log.changes[name]; {
		case !c.acknowledged.IsZero() && c.acknowledged.Before(before):
			kept++
			assert.True(w.t, found[name], "%q was acknowledged before the target time, and is not restored", name)
		case c.sent.After(after):
			dropped++
			assert.True(w.t, !found[name], "%q was sent after the target time, and is restored", name)
		default:
			between++
		}
	}
	assert.True(w.t, kept >= 120 && dropped >= 50, "%d changes before the target time, %d after it, want at least 120 and 50", kept,
		dropped)
	w.t.Logf("restored: all of %d changes that were acknowledged before the target time, none of %d sent after it; %d in between; "+
		"%d scans of a code opened", kept, dropped, between, w.scans.Load())
}
