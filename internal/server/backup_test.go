package server_test

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/store/archive"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
)

const passphrase = "a passphrase of a test"

//go:embed testdata/seeds/brand.yaml
var brand string

// instance is the state of a server: its data directory and the URL of its PostgreSQL database; "" = the embedded database.
type instance struct{ data, database string }

func (p instance) config() server.Config { return server.Config{Data: p.data, Database: p.database} }

// newSQLite returns a new instance with the embedded database.
func newSQLite(t *testing.T) instance { return instance{data: filepath.Join(t.TempDir(), "data")} }

// newPostgres returns a new instance on a PostgreSQL database that has the tables. Tests of an empty database are in nodes_test.go.
func newPostgres(t *testing.T) instance {
	t.Helper()
	return instance{data: filepath.Join(t.TempDir(), "data"), database: storetest.Postgres(t)}
}

// forEachDatabase runs f as a subtest for the embedded database and for PostgreSQL.
func forEachDatabase(t *testing.T, f func(t *testing.T, newInstance func(*testing.T) instance)) {
	t.Run("sqlite", func(t *testing.T) { f(t, newSQLite) })
	t.Run("postgres", func(t *testing.T) { f(t, newPostgres) })
}

// tryStart starts a production server on the instance and returns the error of the start.
func (p instance) tryStart(t *testing.T, o servertest.Options) (*servertest.Server, error) {
	o.Data, o.Guarded = p.data, true
	configure := o.Config
	o.Config = func(c *server.Config) {
		c.Database, c.CodePrefix = p.database, "C.EXAMPLE/"
		if configure != nil {
			configure(c)
		}
	}
	s, err := servertest.TryStart(t, o)
	if err == nil {
		s.RegisterSecret(passphrase)
	}
	return s, err
}

func (p instance) start(t *testing.T, o servertest.Options) *servertest.Server {
	t.Helper()
	return require.Value(p.tryStart(t, o))(t)
}

// exportArchive writes an archive of a running server to a file.
func exportArchive(t *testing.T, s *servertest.Server) (file string) {
	t.Helper()
	a := s.Admin("POST", "/export", `{"passphrase":"`+passphrase+`"}`)
	require.Equal(t, a.Header.Get("Content-Type"), "application/gzip", "Content-Type of an export")
	file = filepath.Join(t.TempDir(), "export.tar.gz")
	require.NoError(t, os.WriteFile(file, []byte(a.Body), 0o600))
	return file
}

func prompt(passphrase string) func() (string, error) {
	return func() (string, error) { return passphrase, nil }
}

func (p instance) restore(t *testing.T, file string) {
	t.Helper()
	require.NoError(t, assert.ErrorOf(server.Import(t.Context(), p.config(), file, prompt(passphrase))))
}

func openArchive(t *testing.T, file string) *archive.Archive {
	t.Helper()
	b := require.Value(os.ReadFile(file))(t)
	return require.Value(archive.Open(bytes.NewReader(b), int64(len(b))))(t)
}

// tableData is the JSON lines of each table of an archive, by table. It implements the table source of archive.Pack.
type tableData map[string]string

func readTables(t *testing.T, file string) tableData {
	t.Helper()
	tables := tableData{}
	require.NoError(t, openArchive(t, file).EachTable(func(table string, r io.Reader) error {
		b, err := io.ReadAll(r)
		tables[table] = string(b)
		return err
	}))
	return tables
}

func (r tableData) Tables() []string { return slices.Sorted(maps.Keys(r)) }

func (r tableData) WriteRows(_ context.Context, table string, w io.Writer) (int64, error) {
	_, err := io.WriteString(w, r[table])
	return int64(strings.Count(r[table], "\n")), err
}

// fixture is the state that createFixture created on a server: credentials, and responses that an exact copy of the server repeats.
type fixture struct {
	token, scanKey, ticket, jsCode, openid string
	stable                                 string
	batch                                  int64
	codes                                  []string // responses of code look-ups
	segment                                string
	decisions                              []string
}

func (l fixture) scan(t *testing.T, s *servertest.Server, text string) servertest.Answer {
	t.Helper()
	return s.Do("POST", "/scan/v1/resolve", `{"text":"`+text+`","user":"bob"}`, "Authorization: Bearer "+l.scanKey,
		"Content-Type: application/json")
}

func callCodes(t *testing.T, s *servertest.Server, token, call, body string) servertest.Answer {
	t.Helper()
	return s.Do("POST", "/intp/marketcode/"+call+"?access_token="+token, body, "Content-Type: application/json")
}

// activation returns the body of a codeactive call for the codes 0 to last of a batch, with a page of the account shop.
func activation(batch int64, last int, page string) string {
	return fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":%d,"activity_name":"a","product_brand":"b","product_title":"t",`+
		`"product_code":"6901234567892","wxa_appid":"shop","wxa_path":%q}`, batch, last, page)
}

// applyForCodes applies for codes and returns the id of the batch.
func applyForCodes(t *testing.T, s *servertest.Server, token, isv string, count int) int64 {
	t.Helper()
	a := callCodes(t, s, token, "applycode", fmt.Sprintf(`{"code_count":%d,"isv_application_id":"%s"}`, count, isv))
	id := a.Number(t, "application_id")
	require.True(t, a.Code(t) == 0 && id != 0, "applycode of %s = %s, want an application_id", isv, a.Body)
	return id
}

func lookupCode(t *testing.T, s *servertest.Server, batch int64, index int) (code, text, body string) {
	t.Helper()
	a := s.LookupCode(batch, int64(index))
	return a.Text(t, "code"), a.Text(t, "code_url"), a.Body
}

var scannedTexts = []string{"https://shop.example/t/7", "http://weixin.qq.com/q/02AAAAAAAAAAAAAA", "https://gone.example/t/1",
	"https://shop.example/t/x", "(01)09506000134352(21)5"}

var codeIndexes = []int{0, 1, 7, 8, 9, 10, 11, 9_999, 12_345, 19_999}

// createFixture creates rows in every table whose content an export must preserve.
func createFixture(t *testing.T, s *servertest.Server) (l fixture) {
	t.Helper()
	l.token = s.Token("svc")
	s.OK("shop", "add",
		`{"prefix":"https://shop.example/t/","path":"pages/t/t","permit_sub_rule":1,"open_version":3,"is_edit":0,"debug_url":["https://shop.example/t/x"]}`)
	s.OK("shop", "publish", `{"prefix":"https://shop.example/t/"}`)
	s.OK("shop", "add", `{"prefix":"https://gone.example/t/","path":"p","permit_sub_rule":1,"open_version":3,"is_edit":0}`)
	s.OK("shop", "delete", `{"prefix":"https://gone.example/t/"}`)
	s.OK("svc", "add", `{"prefix":"http://weixin.qq.com/q/02AAAAAAAAAAAAAA","appid":"shop","path":"pages/q/q","is_edit":0}`)
	s.OK("svc", "publish", `{"prefix":"http://weixin.qq.com/q/02AAAAAAAAAAAAAA"}`)
	s.Admin("PUT", "/domains/denied.example", `{"status":"denied"}`)
	s.Admin("PUT", "/settings", `{"publish_quota":77}`)
	s.Admin("PUT", "/gs1/links/01/09506000134352",
		`{"owner":"shop","links":[{"linktype":"gs1:pip","href":"https://shop.example/{01}","title":"t","default":true}]}`)
	scanKey := servertest.Decode[struct{ Key string }](t, s.Admin("POST", "/scan-keys", `{"name":"app","namespace":"phones"}`))
	l.scanKey = scanKey.Key
	s.RegisterSecret(l.scanKey)
	l.stable = stableToken(t, s)

	l.batch = applyForCodes(t, s, l.token, "order-1", 20_000)
	a := callCodes(t, s, l.token, "codeactive", activation(l.batch, 9999, "pages/code/code"))
	require.Equal(t, a.Code(t), 0, "%s", a.Body)
	for _, state := range []string{`{"action":"freeze","ranges":[{"from":8,"to":9}],"note":"lost"}`,
		`{"action":"void","ranges":[{"from":10,"to":10}]}`, `{"action":"redeem","ranges":[{"from":11,"to":11}],"actor":"till 4"}`} {
		s.Admin("POST", fmt.Sprintf("/batches/%d/states", l.batch), state)
	}
	for _, i := range codeIndexes {
		_, text, body := lookupCode(t, s, l.batch, i)
		l.codes = append(l.codes, body)
		l.decisions = append(l.decisions, normalizedDecision(t, l.scan(t, s, text)))
	}
	for _, text := range scannedTexts {
		l.decisions = append(l.decisions, normalizedDecision(t, l.scan(t, s, text)))
	}
	_, text, _ := lookupCode(t, s, l.batch, 7)
	_, ticket, found := strings.Cut(l.scan(t, s, text).Body, "code_ticket=")
	require.True(t, found, "no ticket: %s", ticket)
	l.ticket = ticket[:32]
	s.RegisterSecret(l.ticket)
	l.jsCode = s.Do("POST", "/scan/v1/login", `{"user":"bob","appid":"shop"}`, "Authorization: Bearer "+l.scanKey,
		"Content-Type: application/json").Text(t, "js_code")
	l.openid = s.Admin("GET", "/users/bob/openid?appid=shop&namespace=phones", "").Text(t, "openid")
	l.segment = callCodes(t, s, l.token, "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":499}`, l.batch)).Body
	return l
}

func stableToken(t *testing.T, s *servertest.Server) string {
	t.Helper()
	issued := s.Do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"shop","secret":"the-secret-of-shop"}`,
		"Content-Type: application/json").Text(t, "access_token")
	require.True(t, issued != "", "no stable token")
	s.RegisterSecret(issued)
	return issued
}

// normalizedDecision returns the decision of a scan without scan id and ticket, which differ between scans.
func normalizedDecision(t *testing.T, a servertest.Answer) string {
	t.Helper()
	d := servertest.Decode[map[string]any](t, a)
	require.True(t, a.Status == 200, "scan: %d %s", a.Status, a.Body)
	delete(d, "scan_id")
	path, _ := d["path"].(string)
	d["path"], _, _ = strings.Cut(path, "code_ticket=")
	return fmt.Sprint(d)
}

// verify verifies that a server restored from an archive returns the same codes, decisions, tokens and settings as the exported one.
func (l fixture) verify(t *testing.T, s *servertest.Server) {
	t.Helper()
	for _, secret := range []string{l.token, l.scanKey, l.stable, l.ticket} {
		s.RegisterSecret(secret)
	}
	for n, i := range codeIndexes {
		_, text, body := lookupCode(t, s, l.batch, i)
		assert.Equal(t, cmp.Diff(l.codes[n], body), "", "code %d", i)
		assert.Equal(t, normalizedDecision(t, l.scan(t, s, text)), l.decisions[n], "decision for code %d", i)
	}
	for n, text := range scannedTexts {
		assert.Equal(t, normalizedDecision(t, l.scan(t, s, text)), l.decisions[len(codeIndexes)+n], "decision for %s", text)
	}
	assert.Equal(t, callCodes(t, s, l.token, "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":499}`, l.batch)).Body, l.segment, "the downloaded codes")
	assert.Equal(t, stableToken(t, s), l.stable, "the stable token")
	code, _, _ := lookupCode(t, s, l.batch, 7)
	a := callCodes(t, s, l.token, "tickettocode", `{"openid":"`+l.openid+`","code_ticket":"`+l.ticket+`"}`)
	assert.True(t, a.Code(t) == 0 && strings.Contains(a.Body, code), "tickettocode = %s, want code %s", a.Body, code)
	trade := "/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code=" + l.jsCode
	assert.Contains(t, s.Do("GET", trade, "").Body, l.openid, "the login")
	assert.Equal(t, applyForCodes(t, s, l.token, "order-1", 20_000), l.batch, "the batch of the same application")
	s.Do("POST", "/admin/v1/batches/"+fmt.Sprint(l.batch)+"/states", `{"action":"redeem","ranges":[{"from":11,"to":11}]}`,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json").WantStatus(t, 409, "redeemed twice")
	assert.Contains(t, s.Admin("GET", "/settings", "").Body, `"publish_quota":77`, "settings")
	assert.Contains(t, s.Admin("GET", "/gs1/links/01/09506000134352", "").Body, `"owner":"shop"`, "GS1 links")
	assert.Contains(t, s.Admin("GET", "/accounts/shop/quota", "").Body, `76`, "the publish quota")
}

// TestBackup_RoundTripAcrossDatabases exports from SQLite, imports into the other database, and from there into SQLite again, each under a
// new master key. The archives must be equal, and the restored servers must continue the exported one.
func TestBackup_RoundTripAcrossDatabases(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		first, second, third := newSQLite(t), newInstance(t), newSQLite(t)
		s := first.start(t, servertest.Options{Seed: brand})
		l := createFixture(t, s)
		files := []string{exportArchive(t, s)}
		for _, p := range []instance{second, third} {
			p.restore(t, files[len(files)-1])
			s := p.start(t, servertest.Options{})
			files = append(files, exportArchive(t, s))
			s.Stop()
		}
		want := readTables(t, files[0])
		// These tables change with time: positions in the scan log, and the next verification of domains.
		delete(want, "webhook_readers")
		delete(want, "domain_reverifications")
		for _, file := range files[1:] {
			got := readTables(t, file)
			delete(got, "webhook_readers")
			delete(got, "domain_reverifications")
			diff := cmp.Diff(want, got)
			assert.True(t, diff == "", "%v", diff)
		}
		for _, table := range []string{"access_tokens", "accounts", "batches", "audit_log_head", "changes", "code_events", "components",
			"counters", "domains", "grants", "links",
			"logins", "meta", "publishes", "rules", "scan_keys", "seeds", "sequences", "tickets"} {
			assert.True(t, want[table] != "", "table %s is empty, want rows from createFixture", table)
		}
		var masters []string
		for _, p := range []instance{first, second, third} {
			b, err := os.ReadFile(filepath.Join(p.data, "master.key"))
			assert.True(t, err == nil && !slices.Contains(masters, string(b)), "master key: %v, or a duplicate; want a new one", err)
			masters = append(masters, string(b))
		}
		for _, p := range []instance{second, third} {
			l.verify(t, p.start(t, servertest.Options{}))
		}
	})
}

// codeBlock is the range of counters of a batch: start inclusive, end exclusive.
type codeBlock struct{ start, end int64 }

// listBlocks returns the counter ranges of all batches of a server.
func listBlocks(t *testing.T, s *servertest.Server) []codeBlock {
	t.Helper()
	var list []codeBlock
	for line := range strings.Lines(readTables(t, exportArchive(t, s))["batches"]) {
		var b codeBlock
		var count int64
		for field := range strings.SplitSeq(strings.Trim(line, "{}\n"), ",") {
			if text, ok := strings.CutPrefix(field, `"start":`); ok {
				b.start, _ = strconv.ParseInt(text, 10, 64)
			}
			if text, ok := strings.CutPrefix(field, `"codes":`); ok {
				count, _ = strconv.ParseInt(text, 10, 64)
			}
		}
		b.end = b.start + count
		list = append(list, b)
	}
	return list
}

// TestBackup_OlderRestoreNoDuplicateCodes verifies that a server restored from an older backup issues no code of later batches again.
func TestBackup_OlderRestoreNoDuplicateCodes(t *testing.T) {
	t.Parallel()
	for _, first := range []uint64{0, codes.CellCounters} {
		t.Run(fmt.Sprint("a cell that starts at ", first), func(t *testing.T) {
			t.Parallel()
			forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
				t.Parallel()
				testOlderRestore(t, newInstance(t), func(c *server.Config) { c.MinCodeCounter = first })
			})
		})
	}
}

func testOlderRestore(t *testing.T, p instance, cell func(*server.Config)) {
	old := newSQLite(t).start(t, servertest.Options{Seed: brand, Config: cell})
	token := old.Token("svc")
	applyForCodes(t, old, token, "before", 10_000)
	backup := exportArchive(t, old)
	for i := range 3 {
		old.Clock.Step(10 * time.Second)
		applyForCodes(t, old, token, fmt.Sprint("after-", i), 50_000)
	}
	// The 150,000 codes that the old server issued since the backup are 15 seconds of the clock.
	p.restore(t, backup)
	restored := p.start(t, servertest.Options{Config: cell})
	restored.Clock.Step(30*time.Second + 15*time.Second)
	restored.RegisterSecret(token)
	for i := range 3 {
		applyForCodes(t, restored, token, fmt.Sprint("after-", i), 50_000)
		restored.Clock.Step(time.Second)
	}
	blocks := append(listBlocks(t, old), listBlocks(t, restored)[1:]...) // the first is in both
	require.True(t, len(blocks) == 7, "got %d blocks %v, want 7", len(blocks), blocks)
	checkDisjoint(t, blocks)
}

// TestMinCodeCounter_RestoredBackup verifies that --min-code-counter prevents duplicate codes after the old server issued more than 10,000
// codes per second since the backup.
func TestMinCodeCounter_RestoredBackup(t *testing.T) {
	t.Parallel()
	old := newSQLite(t).start(t, servertest.Options{Seed: brand})
	token := old.Token("svc")
	applyForCodes(t, old, token, "before", 10_000)
	backup := exportArchive(t, old)
	applyForCodes(t, old, token, "after", 10_000_000)
	issued := listBlocks(t, old)
	p := newSQLite(t)
	p.restore(t, backup)
	restored := p.start(t, servertest.Options{Config: func(c *server.Config) { c.MinCodeCounter = uint64(issued[1].end) }})
	restored.RegisterSecret(token)
	applyForCodes(t, restored, token, "other", 10_000)
	checkDisjoint(t, append(issued, listBlocks(t, restored)[1:]...))
}

func checkDisjoint(t *testing.T, blocks []codeBlock) {
	t.Helper()
	slices.SortFunc(blocks, func(a, b codeBlock) int { return int(a.start - b.start) })
	for i := range blocks[1:] {
		assert.True(t, blocks[i].start != 0 && blocks[i+1].start >= blocks[i].end, "the blocks %v and %v overlap", blocks[i], blocks[i+1])
	}
}

// TestImportAccounts_UnreadAfterCommit imports accounts while the client disconnects after the commit and the audit log cannot be read. The
// import succeeds, the node is not ready until it has read the accounts, and the platform gets a ticket of this cell, because the old cell
// may have issued one after the export.
func TestImportAccounts_UnreadAfterCommit(t *testing.T) {
	t.Parallel()
	old := newSQLite(t).start(t, servertest.Options{Seed: everythingSeed})
	file := filepath.Join(t.TempDir(), "move.qrjump")
	moved := []byte(old.Admin("POST", "/export", `{"passphrase":"`+passphrase+`","accounts":["shop","svc","isv"]}`).Body)
	require.NoError(t, os.WriteFile(file, moved, 0o600))
	p := newSQLite(t)
	p.restore(t, file)
	cell := p.start(t, servertest.Options{Config: func(c *server.Config) { c.MinCodeCounter = codes.CellCounters }})
	key := cell.NewKey("/scan-keys", `{"name":"app"}`)
	var readable atomic.Bool
	ctx, disconnect := context.WithCancel(t.Context())
	n, err := server.ImportAccounts(ctx, cell.Server, moved, passphrase, func() error {
		disconnect()
		if !readable.Load() {
			return errors.New("the log cannot be read")
		}
		return nil
	})
	assert.True(t, err == nil && n == 3, "ImportAccounts() = %d, %v, want 3", n, err)
	assert.Equal(t, cell.Do("GET", "/readyz", "").Status, 503, "status of /readyz before the accounts are read")
	tickets := func(file string) int { return strings.Count(readTables(t, file)["component_tickets"], "\n") }
	assert.Equal(t, tickets(exportArchive(t, cell)), tickets(file)+1, "tickets of the platform after the import")
	readable.Store(true)
	eventually(t, "the accounts are read", func() bool { return cell.Do("GET", "/readyz", "").Status == 200 })
	assert.Contains(t, cell.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/seeded/1"}`, "Authorization: Bearer "+key).Body,
		`"action":"open_mini_program"`, "the scan of a moved rule")
}

func TestExport_DuringConcurrentChanges(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		s := newInstance(t).start(t, servertest.Options{Seed: brand})
		token := s.Token("svc")
		applyForCodes(t, s, token, "first", 10_000)
		started, stop, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			start := sync.OnceFunc(func() { close(started) })
			defer start()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				// TrySend, because Send calls t.Fatal, which must run on the test's goroutine.
				r := s.Request("POST", "/intp/marketcode/applycode?access_token="+token,
					fmt.Sprintf(`{"code_count":10000,"isv_application_id":"n%d"}`, n))
				a, err := s.TrySend(r)
				if err != nil || !strings.Contains(a.Body, `"errcode":0`) && !strings.Contains(a.Body, "45009") {
					t.Errorf("applycode = %s, %v, want errcode 0 or 45009", a.Body, err)
					return
				}
				start()
			}
		}()
		defer func() {
			close(stop)
			<-done
		}()
		<-started
		for range 5 {
			tables := readTables(t, exportArchive(t, s))
			batches := strings.Count(tables["batches"], "\n")
			if !strings.Contains(tables["sequences"], fmt.Sprintf(`{"name":"application","value":%d}`, 500_000_000+batches)) ||
				!regexp.MustCompile(fmt.Sprintf(`"counter":"/intp/marketcode/applycode","day":\d+,"value":%d}`, batches)).
					MatchString(tables["counters"]) {
				t.Errorf("archive with %d batches has sequences %s and counters %s, want the same number", batches, tables["sequences"],
					tables["counters"])
			}
		}
	})
}

func TestImportCommand_Rejects(t *testing.T) {
	t.Parallel()
	s := newSQLite(t).start(t, servertest.Options{Seed: brand})
	applyForCodes(t, s, s.Token("svc"), "one", 10_000)
	file := exportArchive(t, s)
	body := require.Value(os.ReadFile(file))(t)
	from := openArchive(t, file)
	keys := require.Value(from.Keys(passphrase))(t)
	pack := func(change func(*archive.Contents)) string {
		contents := archive.Contents{Tables: readTables(t, file), Keys: maps.Clone(keys), Schema: from.Manifest.Schema, Engine: "sqlite",
			Program: "test", Passphrase: passphrase, Work: 4}
		change(&contents)
		packed := require.Value(archive.Pack(t.Context(), t.TempDir(), contents))(t)
		defer packed.Close()
		var b bytes.Buffer
		require.NoError(t, assert.ErrorOf(packed.WriteTo(&b)))
		path := filepath.Join(t.TempDir(), "made.tar.gz")
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		return path
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		b, offset := bytes.Clone(body), rng.IntN(len(body))
		b[offset] ^= byte(1 + rng.IntN(255))
		_, err := archive.Open(bytes.NewReader(b), int64(len(b)))
		assert.True(t, err != nil, "Open with a corrupted byte at %d of %d = nil, want an error", offset, len(b))
	}
	damaged := filepath.Join(t.TempDir(), "damaged.tar.gz")
	require.NoError(t, os.WriteFile(damaged, append(bytes.Clone(body[:len(body)/2]), body[len(body)/2+1:]...), 0o600))
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		nonEmpty := newInstance(t)
		nonEmpty.restore(t, file)
		empty, busy := newInstance(t), newInstance(t)
		busy.start(t, servertest.Options{})
		for _, c := range []struct {
			name, file string
			target     instance
			passphrase string
			want       string
			err        error
		}{
			{"no file", file + ".not", empty, passphrase, "no such file", os.ErrNotExist},
			{"a damaged one", damaged, empty, passphrase, "corrupted", archive.ErrDamaged},
			{"another passphrase", file, empty, "another passphrase", "passphrase", archive.ErrPassphrase},
			{"a newer schema", pack(func(c *archive.Contents) { c.Schema = store.NewestSchema() + 1 }), empty, passphrase, "newer",
				archive.ErrNewer},
			{"no keys", pack(func(c *archive.Contents) { delete(c.Keys, "code") }), empty, passphrase, `no key "code"`, nil},
			{"a row that cannot be", pack(func(c *archive.Contents) { c.Tables.(tableData)["tickets"] = `{"hash":1}` + "\n" }), empty,
				passphrase, "tickets", nil},
			{"a table too few", pack(func(c *archive.Contents) { delete(c.Tables.(tableData), "tickets") }), empty,
				passphrase, "tickets", nil},
			{"a server that runs", file, busy, passphrase, "in use", nil},
			{"a full database", file, nonEmpty, passphrase, "not empty", store.ErrNotEmpty},
		} {
			_, err := server.Import(t.Context(), c.target.config(), c.file, prompt(c.passphrase))
			assert.True(t, err != nil && (c.err == nil || errors.Is(err, c.err)) && strings.Contains(err.Error(), c.want) &&
				!strings.Contains(err.Error(), "\n"), "%s: %v", c.name, err)
		}
		// The failed imports left the instance empty.
		empty.restore(t, file)
		restored := empty.start(t, servertest.Options{})
		diff := cmp.Diff(readTables(t, file), readTables(t, exportArchive(t, restored)))
		assert.True(t, diff == "", "%v", diff)
		restored.Stop()

		t.Run("with the keys of another server it does not start", func(t *testing.T) {
			for _, name := range []string{"code", "text.0"} {
				p := newInstance(t)
				p.restore(t, pack(func(c *archive.Contents) { c.Keys[name] = bytes.Repeat([]byte{7}, 32) }))
				_, err := p.tryStart(t, servertest.Options{})
				assert.True(t, err != nil && errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "other code keys"),
					"%s: %v", name, err)
			}
		})
		t.Run("without a key of its codes it does not start", func(t *testing.T) {
			for _, name := range []string{"code", "text.0"} {
				p := newInstance(t)
				p.restore(t, file)
				p.execSQL(t, `DELETE FROM sealing_keys WHERE name = '`+name+`'`)
				_, err := p.tryStart(t, servertest.Options{})
				assert.True(t, err != nil && errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), strconv.Quote(name)),
					"%s: %v", name, err)
			}
		})
	})
}

// execSQL runs a statement on the instance's database without the server.
func (p instance) execSQL(t *testing.T, query string) {
	t.Helper()
	address := p.database
	if address == "" {
		address = "file:" + filepath.Join(p.data, "qrjump.db") + "?_busy_timeout=60000"
	}
	dbtest.Exec(t, address, query)
}

func TestExportEndpoint_Rejects(t *testing.T) {
	t.Parallel()
	s := newSQLite(t).start(t, servertest.Options{Seed: brand})
	for _, c := range []struct {
		body   string
		status int
	}{
		{`{"passphrase":"eleven char"}`, 422}, {`{"passphrase":""}`, 422}, {`{}`, 422}, {``, 400}, {`[]`, 422}, {`{"passphrase":`, 400},
	} {
		a := s.TryAdmin("POST", "/export", c.body)
		assert.True(t, a.Status == c.status && !strings.Contains(a.Body, "eleven char") &&
			a.Header.Get("Content-Type") == "application/problem+json", "%s: %d %s", c.body, a.Status, a.Body)
	}
	s.Do("POST", "/admin/v1/export", `{"passphrase":"`+passphrase+`"}`, "Content-Type: application/json").
		WantStatus(t, 401, "export without a token")
	// An unreadable file is reported before anything is sent.
	p := newSQLite(t)
	s = p.start(t, servertest.Options{Seed: brand})
	p.execSQL(t, `DROP TABLE seeds`)
	a := s.TryAdmin("POST", "/export", `{"passphrase":"`+passphrase+`"}`)
	assert.True(t, a.Status == 500 && a.Header.Get("Content-Type") == "application/problem+json" && !strings.Contains(a.Body, "seeds") &&
		strings.Contains(s.Log(), "inspecting seeds"), "without a table: %d %v %s", a.Status, a.Header, a.Body)
}

// TestBackup_ArchiveWithoutPlainSecrets verifies that an archive contains no secret in plain text.
func TestBackup_ArchiveWithoutPlainSecrets(t *testing.T) {
	t.Parallel()
	s := newSQLite(t).start(t, servertest.Options{Seed: brand})
	l := createFixture(t, s)
	file := exportArchive(t, s)
	keys := require.Value(openArchive(t, file).Keys(passphrase))(t)
	for table, text := range readTables(t, file) {
		for _, secret := range []string{"the-secret-of-shop", "the-secret-of-svc", "the-secret-of-isv", "a-16-byte-secret",
			"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE", l.token, l.stable, l.scanKey, l.ticket, l.jsCode, passphrase} {
			assert.True(t, !strings.Contains(text, secret), "table %s contains the secret %q", table, secret)
		}
	}
	assert.True(t, len(keys) >= 4, "got %d keys, want at least 4", len(keys))
}
