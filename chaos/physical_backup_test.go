package chaos_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net"
	"net/http"
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

	"github.com/jackc/pgx/v5"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// commands are the blocks of a section of the guide, which a test runs with other directories, addresses and times.
type commands struct {
	t       *testing.T
	blocks  []string // of type text, in order
	replace []string // pairs for strings.NewReplacer
	dir     string
	owner   *syscall.Credential // the user of PostgreSQL; nil = this one
	path    string
}

// section returns the blocks of a section of a page in docs/en/how. The user of PostgreSQL owns dir.
func section(t *testing.T, page, heading, dir string) *commands {
	t.Helper()
	text, err := os.ReadFile("../docs/en/how/" + page)
	require.NoError(t, err)
	_, body, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, "%s has no section %q", page, heading)
	body, _, _ = strings.Cut(body, "\n## ")
	programs, err := exec.Command(postgresScript, "bin").Output()
	require.NoError(t, err)
	b := &commands{t: t, dir: dir, path: strings.TrimSpace(string(programs)) + ":" + os.Getenv("PATH")}
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
func (b *commands) block(n int) string {
	b.t.Helper()
	require.True(b.t, n < len(b.blocks), "the section has %d blocks", len(b.blocks))
	all := strings.Join(b.blocks, "")
	for i := 0; i < len(b.replace); i += 2 {
		require.True(b.t, strings.Contains(all, b.replace[i]), "no command contains %q", b.replace[i])
	}
	return strings.NewReplacer(b.replace...).Replace(b.blocks[n])
}

// run runs a block as the user of PostgreSQL, and returns its output.
func (b *commands) run(block string) (string, error) {
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

// logged is a change with the times before its call and after its acknowledgement; no acknowledgement is the zero time.
type logged struct{ sent, acknowledged time.Time }

// changeLog contains the changes of all clients by name.
type changeLog struct {
	mu           sync.Mutex
	changes      map[string]logged
	acknowledged atomic.Int64
}

func (l *changeLog) add(name string, sent time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := logged{sent: sent}
	if ok {
		c.acknowledged = time.Now()
		l.acknowledged.Add(1)
	}
	l.changes[name] = c
}

// Issue 48: the commands that nodes.md gives for a physical backup make one while clients change rules, activate codes and scan codes
// on two nodes, and restore it to a time. The restored database has every change that was acknowledged before that time, and none that
// was sent later. restore-drill --database accepts it, and names a rule and an entry of the audit log that are missing from it.
func TestRestoreDrill_PhysicalBackup(t *testing.T) {
	testscope.WholeOnly(t, "the drill of an archive in cmd/qrjump checks the same, and the commands of a physical backup are PostgreSQL's")
	p := newSingle(t)
	dir := filepath.Dir(p.dirs[0])
	page := section(t, "nodes.md", "Physical backup", dir)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(free.Addr().String())
	require.NoError(t, err)
	free.Close()
	password, _ := userOf(t, p.urls[0]).Password()
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

	c := newCluster(t, p.database("qrjump"), spaceSeed, 2)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "drill", "master.key"), []byte(c.master+"\n"), 0o644))
	page.path = filepath.Dir(program(t)) + ":" + page.path
	c.start()
	c.allReady()
	w := startWriters(t, c)
	w.more(60)
	if text, err := page.run(page.block(1)); err != nil {
		t.Fatalf("the backup: %v\n%s", err, text)
	}
	w.more(60)
	before := time.Now()
	var target string
	dbtest.Rows(t, p.urls[0], `SELECT clock_timestamp()::text`, func(r *sql.Rows) error { return r.Scan(&target) })
	after := time.Now()
	w.more(60)
	w.stop()
	// The archive has the WAL of all changes, not only of those before the target time.
	var last string
	dbtest.Rows(t, p.urls[0], `SELECT pg_walfile_name(pg_switch_wal())`, func(r *sql.Rows) error { return r.Scan(&last) })
	until(t, "the archive to have "+last, func() bool {
		return dbtest.Number(t, p.urls[0], `SELECT count(*) FROM pg_stat_archiver WHERE last_archived_wal >= '`+last+`'`) == 1
	})
	assert.Equal(t, dbtest.Number(t, p.urls[0], `SELECT failed_count FROM pg_stat_archiver`), 0, "failures of archive_command")
	c.stop()

	page.replace = append(page.replace, "2026-11-28 09:30:00+00", target)
	t.Cleanup(func() { page.run("pg_ctl stop -m immediate -D " + dir + "/lib/restored || true") })
	if text, err := page.run(page.block(2)); err != nil {
		t.Fatalf("the restore: %v\n%s", err, text)
	}
	restored := fmt.Sprintf("postgres://qrjump:%s@127.0.0.1:%s/qrjump", url.PathEscape(password), port)
	w.compare(restored, before, after)

	command, stop, _ := strings.Cut(page.block(3), "\n")
	drill := func(want string) {
		t.Helper()
		until(t, "the sessions of the restored database to end", func() bool {
			return dbtest.Number(t, strings.TrimSuffix(restored, "qrjump")+"postgres", `SELECT count(*) FROM pg_stat_activity
				WHERE datname = 'qrjump' AND usesysid IS NOT NULL`) == 0
		})
		text, err := page.run(command)
		t.Logf("restore-drill (%v)\n%s", err, text)
		if (err == nil) != (want == "this database can be used") || !strings.Contains(text, want) {
			t.Errorf("restore-drill = %v\n%s\nwant %q", err, text, want)
		}
	}
	drill("this database can be used")
	rule := w.values(restored, `SELECT prefix FROM rules WHERE published = 0 ORDER BY id LIMIT 1`)[0]
	activation := dbtest.Number(t, restored, `SELECT min(seq) FROM changes WHERE kind = 'codes' AND action = 'activate'`)
	dbtest.Exec(t, restored, `DELETE FROM rules WHERE prefix = '`+rule+`'`)
	drill("the rule " + rule + " is missing, and the audit log has no deletion of it")
	dbtest.Exec(t, restored, fmt.Sprintf(`DELETE FROM changes WHERE seq = %d`, activation))
	drill(fmt.Sprintf("change %d: it is missing", activation))
	if text, err := page.run(stop); err != nil {
		t.Errorf("%s: %v\n%s", stop, err, text)
	}
}

// writers are clients of two nodes: two add rules, one activates codes, and one scans codes.
type writers struct {
	t       *testing.T
	log     changeLog
	scans   atomic.Int64
	ended   atomic.Bool
	clients sync.WaitGroup
}

func startWriters(t *testing.T, c *cluster) *writers {
	t.Helper()
	w := &writers{t: t, log: changeLog{changes: map[string]logged{}}}
	admin := c.nodes[0].admin()
	key := admin.scanKey("app")
	brand := admin.stableToken("brand")
	batch := admin.apply(brand, "tea", 10_000)
	activate := func(m *connection, index int64) (name string, ok bool, err error) {
		name = fmt.Sprintf("activity %d", index)
		body := activation(batch, index, index, "shop")
		body["activity_name"] = name
		active, err := m.codes("codeactive", brand, body)
		return name, err == nil && active.ErrCode == 0, err
	}
	began := time.Now()
	name, ok, err := activate(admin.connection, 0)
	admin.check(err)
	require.True(t, ok, "the first activation fails")
	w.log.add(name, began, true)
	text := admin.codeText(batch, 0)

	for n := range 2 {
		keeper := newShopkeeper(t, c.nodes[n].running.Load().URL)
		keeper.n = n * 1_000_000
		w.clients.Go(func() {
			for !w.ended.Load() {
				sent := time.Now()
				ok := keeper.add() == 0
				w.log.add(fmt.Sprintf("https://shop.example/%d/", keeper.n), sent, ok)
			}
		})
	}
	secondNode := connect(t, c.nodes[1].running.Load().URL, key)
	w.clients.Go(func() {
		for index := int64(1); !w.ended.Load(); index++ {
			sent := time.Now()
			name, ok, err := activate(secondNode, index)
			assert.True(t, err == nil && ok, "the activation of code %d: %v, %v", index, ok, err)
			w.log.add(name, sent, ok)
		}
	})
	scanner := connect(t, c.nodes[0].running.Load().URL, key)
	w.clients.Go(func() {
		for n := 0; !w.ended.Load(); n++ {
			var d decision
			err := scanner.do(http.MethodPost, "/scan/v1/resolve", map[string]any{"text": text, "user": fmt.Sprint("u-", n%50)}, &d)
			assert.True(t, err == nil && d.opens(), "a scan of a code is answered %v, %v", d, err)
			w.scans.Add(1)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// more waits for so many more acknowledged changes.
func (w *writers) more(n int64) {
	w.t.Helper()
	want := w.log.acknowledged.Load() + n
	until(w.t, "changes to be acknowledged", func() bool { return w.log.acknowledged.Load() >= want || w.t.Failed() })
}

func (w *writers) stop() {
	w.ended.Store(true)
	w.clients.Wait()
}

// values returns the texts that a query finds.
func (w *writers) values(database, query string) []string {
	w.t.Helper()
	conn := operator(w.t, database)
	defer conn.Close(context.Background())
	rows, err := conn.Query(w.t.Context(), query)
	require.NoErrorf(w.t, err, "%s", query)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoErrorf(w.t, err, "%s", query)
	return list
}

// compare compares a restored database with the changes that were acknowledged before a time, and those that were sent after a time.
func (w *writers) compare(database string, before, after time.Time) {
	w.t.Helper()
	found := map[string]bool{}
	for _, name := range append(w.values(database, `SELECT prefix FROM rules WHERE prefix NOT LIKE '%/open/'`),
		w.values(database, `SELECT binding::json ->> 'activity_name' FROM code_events WHERE action = 'activate'`)...) {
		_, sent := w.log.changes[name]
		assert.True(w.t, sent, "the restored database has %q, which no client sent", name)
		found[name] = true
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
	assert.True(w.t, kept >= 120 && dropped >= 50, "%d changes before the target time, %d after it", kept, dropped)
	w.t.Logf("restored: all of %d changes that were acknowledged before the target time, none of %d that were sent after it; %d were under way; "+
		"%d scans of a code opened", kept, dropped, between, w.scans.Load())
}
