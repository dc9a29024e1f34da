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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// a place is where a server keeps its state: a data folder and, maybe, a database on PostgreSQL.
type place struct{ data, database string }

func (p place) config() server.Config { return server.Config{Data: p.data, Database: p.database} }

// onSQLite and onPostgres are new places.
func onSQLite(t *testing.T) place { return place{data: filepath.Join(t.TempDir(), "data")} }

// onPostgres has the tables already. The tests of an empty database are in nodes_test.go.
func onPostgres(t *testing.T) place {
	t.Helper()
	return place{data: filepath.Join(t.TempDir(), "data"), database: storetest.Postgres(t)}
}

// eachPlace runs f on both databases.
func eachPlace(t *testing.T, f func(t *testing.T, where func(*testing.T) place)) {
	t.Run("sqlite", func(t *testing.T) { f(t, onSQLite) })
	t.Run("postgres", func(t *testing.T) { f(t, onPostgres) })
}

// try starts a production server there.
func (p place) try(t *testing.T, o servertest.Options) (*servertest.Server, error) {
	o.Data, o.Guarded = p.data, true
	floor := o.Config
	o.Config = func(c *server.Config) {
		c.Database, c.CodePrefix = p.database, "C.EXAMPLE/"
		if floor != nil {
			floor(c)
		}
	}
	s, err := servertest.Try(t, o)
	if err == nil {
		s.Hide(passphrase)
	}
	return s, err
}

func (p place) start(t *testing.T, o servertest.Options) *servertest.Server {
	t.Helper()
	s, err := p.try(t, o)
	require.NoError(t, err)
	return s
}

// exported writes an archive of a running server to a file.
func exported(t *testing.T, s *servertest.Server) (file string) {
	t.Helper()
	a := s.Admin("POST", "/export", `{"passphrase":"`+passphrase+`"}`)
	require.True(t, a.Header.Get("Content-Type") == "application/gzip", "got %v", a.Header)
	file = filepath.Join(t.TempDir(), "export.tar.gz")
	require.NoError(t, os.WriteFile(file, []byte(a.Body), 0o600))
	return file
}

func say(word string) func() (string, error) { return func() (string, error) { return word, nil } }

func (p place) restore(t *testing.T, file string) {
	t.Helper()
	require.NoError(t, assert.ErrorOf(server.Import(t.Context(), p.config(), file, say(passphrase))))
}

func opened(t *testing.T, file string) *archive.Archive {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	a, err := archive.Open(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	return a
}

// rows is a source of tables that were read from an archive.
type rows map[string]string

func rowsIn(t *testing.T, file string) rows {
	t.Helper()
	all := rows{}
	require.NoError(t, opened(t, file).EachTable(func(table string, r io.Reader) error {
		b, err := io.ReadAll(r)
		all[table] = string(b)
		return err
	}))
	return all
}

func (r rows) Tables() []string { return slices.Sorted(maps.Keys(r)) }

func (r rows) WriteRows(_ context.Context, table string, w io.Writer) (int64, error) {
	_, err := io.WriteString(w, r[table])
	return int64(strings.Count(r[table], "\n")), err
}

// life is what a server did before it was exported.
type life struct {
	token, scanKey, ticket, jsCode, openid string
	stable                                 string
	batch                                  int64
	codes                                  []string // answers of look-ups
	segment                                string
	decisions                              []string
}

func (l life) scan(t *testing.T, s *servertest.Server, text string) servertest.Answer {
	t.Helper()
	return s.Do("POST", "/scan/v1/resolve", `{"text":"`+text+`","user":"bob"}`, "Authorization: Bearer "+l.scanKey,
		"Content-Type: application/json")
}

func codesCall(t *testing.T, s *servertest.Server, token, call, body string) servertest.Answer {
	t.Helper()
	return s.Do("POST", "/intp/marketcode/"+call+"?access_token="+token, body, "Content-Type: application/json")
}

// activation returns the body of a call that activates the codes of a batch from the first one to last, with a page of shop.
func activation(batch int64, last int, page string) string {
	return fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":%d,"activity_name":"a","product_brand":"b","product_title":"t",`+
		`"product_code":"6901234567892","wxa_appid":"shop","wxa_path":%q}`, batch, last, page)
}

// apply applies for codes and returns the batch.
func apply(t *testing.T, s *servertest.Server, token, isv string, count int) int64 {
	t.Helper()
	var applied struct {
		ErrCode int
		ID      any `json:"application_id"`
	}
	a := codesCall(t, s, token, "applycode", fmt.Sprintf(`{"code_count":%d,"isv_application_id":"%s"}`, count, isv))
	a.JSON(t, &applied)
	require.True(t, applied.ErrCode == 0, "applying: %s", a.Body)
	id, err := strconv.ParseFloat(strings.Trim(fmt.Sprint(applied.ID), `"`), 64)
	require.True(t, err == nil, "applying: %s", a.Body)
	return int64(id)
}

func look(t *testing.T, s *servertest.Server, batch int64, index int) (code, text, whole string) {
	t.Helper()
	a := s.LookupCode(batch, int64(index))
	return a.Text(t, "code"), a.Text(t, "code_url"), a.Body
}

var scannedTexts = []string{"https://shop.example/t/7", "http://weixin.qq.com/q/02AAAAAAAAAAAAAA", "https://gone.example/t/1",
	"https://shop.example/t/x", "(01)09506000134352(21)5"}

var indexes = []int{0, 1, 7, 8, 9, 10, 11, 9_999, 12_345, 19_999}

// live gives a server a past with something in every table that matters.
func live(t *testing.T, s *servertest.Server) (l life) {
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
	made := servertest.Decode[struct{ Key, Token, Ticket string }](t, s.Admin("POST", "/scan-keys", `{"name":"app","namespace":"phones"}`))
	l.scanKey = made.Key
	s.Hide(l.scanKey)
	l.stable = stableToken(t, s)

	l.batch = apply(t, s, l.token, "order-1", 20_000)
	a := codesCall(t, s, l.token, "codeactive", activation(l.batch, 9999, "pages/code/code"))
	require.Equal(t, a.Code(t), 0, "%s", a.Body)
	for _, state := range []string{`{"action":"freeze","ranges":[{"from":8,"to":9}],"note":"lost"}`,
		`{"action":"void","ranges":[{"from":10,"to":10}]}`, `{"action":"redeem","ranges":[{"from":11,"to":11}],"actor":"till 4"}`} {
		s.Admin("POST", fmt.Sprintf("/batches/%d/states", l.batch), state)
	}
	for _, i := range indexes {
		_, text, whole := look(t, s, l.batch, i)
		l.codes = append(l.codes, whole)
		l.decisions = append(l.decisions, decided(t, l.scan(t, s, text)))
	}
	for _, text := range scannedTexts {
		l.decisions = append(l.decisions, decided(t, l.scan(t, s, text)))
	}
	_, text, _ := look(t, s, l.batch, 7)
	_, ticket, found := strings.Cut(l.scan(t, s, text).Body, "code_ticket=")
	require.True(t, found, "no ticket: %s", ticket)
	l.ticket = ticket[:32]
	s.Hide(l.ticket)
	login := s.Do("POST", "/scan/v1/login", `{"user":"bob","appid":"shop"}`, "Authorization: Bearer "+l.scanKey,
		"Content-Type: application/json").Text(t, "js_code")
	l.jsCode = login
	openid := servertest.Decode[struct{ OpenID string }](t, s.Admin("GET", "/users/bob/openid?appid=shop&namespace=phones", ""))
	l.openid = openid.OpenID
	l.segment = codesCall(t, s, l.token, "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":499}`, l.batch)).Body
	return l
}

func stableToken(t *testing.T, s *servertest.Server) string {
	t.Helper()
	issued := s.Do("POST", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"shop","secret":"the-secret-of-shop"}`,
		"Content-Type: application/json").Text(t, "access_token")
	require.True(t, issued != "", "no stable token")
	s.Hide(issued)
	return issued
}

// decided is a decision without what is another each time.
func decided(t *testing.T, a servertest.Answer) string {
	t.Helper()
	d := servertest.Decode[map[string]any](t, a)
	require.True(t, a.Status == 200, "scan: %d %s", a.Status, a.Body)
	delete(d, "scan_id")
	path, _ := d["path"].(string)
	d["path"], _, _ = strings.Cut(path, "code_ticket=")
	return fmt.Sprint(d)
}

// goesOn checks that a server goes on where another one was exported.
func (l life) goesOn(t *testing.T, s *servertest.Server) {
	t.Helper()
	for _, secret := range []string{l.token, l.scanKey, l.stable, l.ticket} {
		s.Hide(secret)
	}
	for n, i := range indexes {
		_, text, whole := look(t, s, l.batch, i)
		assert.Equal(t, cmp.Diff(l.codes[n], whole), "", "code %d", i)
		got := decided(t, l.scan(t, s, text))
		assert.True(t, got == l.decisions[n], "code %d opens %s, opened %s", i, got, l.decisions[n])
	}
	for n, text := range scannedTexts {
		got, want := decided(t, l.scan(t, s, text)), l.decisions[len(indexes)+n]
		assert.True(t, got == want, "%s opens %s, opened %s", text, got, want)
	}
	assert.Equal(t, codesCall(t, s, l.token, "applycodedownload",
		fmt.Sprintf(`{"application_id":%d,"code_start":0,"code_end":499}`, l.batch)).Body, l.segment, "the package is another")
	assert.Equal(t, stableToken(t, s), l.stable, "the stable token is another")
	code, _, _ := look(t, s, l.batch, 7)
	a := codesCall(t, s, l.token, "tickettocode", `{"openid":"`+l.openid+`","code_ticket":"`+l.ticket+`"}`)
	assert.True(t, a.Code(t) == 0 && strings.Contains(a.Body, code), "the ticket: %s", a.Body)
	trade := "/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code=" + l.jsCode
	assert.Contains(t, s.Do("GET", trade, "").Body, l.openid, "the login")
	id := apply(t, s, l.token, "order-1", 20_000)
	assert.True(t, id == l.batch, "the same application is now %d, was %d", id, l.batch)
	s.Do("POST", "/admin/v1/batches/"+fmt.Sprint(l.batch)+"/states", `{"action":"redeem","ranges":[{"from":11,"to":11}]}`,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json").WantStatus(t, 409, "redeemed twice")
	assert.Contains(t, s.Admin("GET", "/settings", "").Body, `"publish_quota":77`, "settings")
	assert.Contains(t, s.Admin("GET", "/gs1/links/01/09506000134352", "").Body, `"owner":"shop"`, "GS1 links")
	assert.Contains(t, s.Admin("GET", "/accounts/shop/quota", "").Body, `76`, "the spent publish came back")
}

// The whole way: SQLite, the other database, SQLite; each under a master key of its own.
func TestBackup_RoundTripAcrossDatabases(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		first, second, third := onSQLite(t), where(t), onSQLite(t)
		s := first.start(t, servertest.Options{Seed: brand})
		l := live(t, s)
		files := []string{exported(t, s)}
		for _, p := range []place{second, third} {
			p.restore(t, files[len(files)-1])
			s := p.start(t, servertest.Options{})
			files = append(files, exported(t, s))
			s.Stop()
		}
		want := rowsIn(t, files[0])
		// How far the ledger was read and when files are looked at again moves by itself.
		delete(want, "webhook_readers")
		delete(want, "domain_reverifications")
		for _, file := range files[1:] {
			got := rowsIn(t, file)
			delete(got, "webhook_readers")
			delete(got, "domain_reverifications")
			diff := cmp.Diff(want, got)
			assert.True(t, diff == "", "%v", diff)
		}
		for _, table := range []string{"access_tokens", "accounts", "batches", "audit_log_head", "changes", "code_events", "components",
			"counters", "domains", "grants", "links",
			"logins", "meta", "publishes", "rules", "scan_keys", "seeds", "sequences", "tickets"} {
			assert.True(t, want[table] != "", "%s is empty: the test shows nothing of it", table)
		}
		var masters []string
		for _, p := range []place{first, second, third} {
			b, err := os.ReadFile(filepath.Join(p.data, "master.key"))
			assert.True(t, err == nil && !slices.Contains(masters, string(b)), "master key: %v, or the same again", err)
			masters = append(masters, string(b))
		}
		for _, p := range []place{second, third} {
			l.goesOn(t, p.start(t, servertest.Options{}))
		}
	})
}

// block is the counters of a batch, as stored.
type block struct{ start, end int64 }

func blocks(t *testing.T, s *servertest.Server) []block {
	t.Helper()
	var list []block
	for line := range strings.Lines(rowsIn(t, exported(t, s))["batches"]) {
		var b block
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

// An older backup knows nothing of the batches that came after it.
func TestBackup_OlderRestoreNoDuplicateCodes(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		old := onSQLite(t).start(t, servertest.Options{Seed: brand})
		token := old.Token("svc")
		apply(t, old, token, "before", 10_000)
		backup := exported(t, old)
		for i := range 3 {
			old.Clock.Step(10 * time.Second)
			apply(t, old, token, fmt.Sprint("after-", i), 50_000)
		}
		// The 150,000 codes that the old one gave out are 15 seconds of the clock.
		p := where(t)
		p.restore(t, backup)
		restored := p.start(t, servertest.Options{})
		restored.Clock.Step(30*time.Second + 15*time.Second)
		restored.Hide(token)
		for i := range 3 {
			apply(t, restored, token, fmt.Sprint("after-", i), 50_000)
			restored.Clock.Step(time.Second)
		}
		all := append(blocks(t, old), blocks(t, restored)[1:]...) // the first is in both
		require.True(t, len(all) == 7, "got %v", all)
		apart(t, all)
	})
}

// An operator that gave out more than 10,000 a second says how many with --min-code-counter.
func TestMinCodeCounter_RestoredBackup(t *testing.T) {
	t.Parallel()
	old := onSQLite(t).start(t, servertest.Options{Seed: brand})
	token := old.Token("svc")
	apply(t, old, token, "before", 10_000)
	backup := exported(t, old)
	apply(t, old, token, "after", 10_000_000)
	gone := blocks(t, old)
	p := onSQLite(t)
	p.restore(t, backup)
	restored := p.start(t, servertest.Options{Config: func(c *server.Config) { c.MinCodeCounter = uint64(gone[1].end) }})
	restored.Hide(token)
	apply(t, restored, token, "other", 10_000)
	apart(t, append(gone, blocks(t, restored)[1:]...))
}

func apart(t *testing.T, all []block) {
	t.Helper()
	slices.SortFunc(all, func(a, b block) int { return int(a.start - b.start) })
	for i := range all[1:] {
		assert.True(t, all[i].start != 0 && all[i+1].start >= all[i].end, "the blocks %v and %v overlap", all[i], all[i+1])
	}
}

func TestExport_DuringConcurrentChanges(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		s := where(t).start(t, servertest.Options{Seed: brand})
		token := s.Token("svc")
		apply(t, s, token, "first", 10_000)
		began, stop, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			begin := sync.OnceFunc(func() { close(began) })
			defer begin()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				// Not by t.Fatal: this is another goroutine.
				r := s.Request("POST", "/intp/marketcode/applycode?access_token="+token,
					fmt.Sprintf(`{"code_count":10000,"isv_application_id":"n%d"}`, n))
				a, err := s.TrySend(r)
				if err != nil || !strings.Contains(a.Body, `"errcode":0`) && !strings.Contains(a.Body, "45009") {
					t.Errorf("applying: %v %s", err, a.Body)
					return
				}
				begin()
			}
		}()
		defer func() {
			close(stop)
			<-done
		}()
		<-began
		for range 5 {
			all := rowsIn(t, exported(t, s))
			batches := strings.Count(all["batches"], "\n")
			if !strings.Contains(all["sequences"], fmt.Sprintf(`{"name":"application","value":%d}`, 500_000_000+batches)) ||
				!regexp.MustCompile(fmt.Sprintf(`"counter":"/intp/marketcode/applycode","day":\d+,"value":%d}`, batches)).
					MatchString(all["counters"]) {
				t.Errorf("%d batches, but %s %s", batches, all["sequences"], all["counters"])
			}
		}
	})
}

func TestImportCommand_Rejects(t *testing.T) {
	t.Parallel()
	s := onSQLite(t).start(t, servertest.Options{Seed: brand})
	apply(t, s, s.Token("svc"), "one", 10_000)
	file := exported(t, s)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	from := opened(t, file)
	keys, err := from.Keys(passphrase)
	require.NoError(t, err)
	made := func(change func(*archive.Contents)) string {
		keep := archive.Contents{Tables: rowsIn(t, file), Keys: maps.Clone(keys), Schema: from.Manifest.Schema, Engine: "sqlite",
			Program: "test", Passphrase: passphrase, Work: 4}
		change(&keep)
		packed, err := archive.Pack(t.Context(), t.TempDir(), keep)
		require.NoError(t, err)
		defer packed.Close()
		var b bytes.Buffer
		require.NoError(t, assert.ErrorOf(packed.WriteTo(&b)))
		path := filepath.Join(t.TempDir(), "made.tar.gz")
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		return path
	}
	chance := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		b, at := bytes.Clone(whole), chance.IntN(len(whole))
		b[at] ^= byte(1 + chance.IntN(255))
		_, err := archive.Open(bytes.NewReader(b), int64(len(b)))
		assert.True(t, err != nil, "another byte at %d of %d, and nobody sees it", at, len(b))
	}
	damaged := filepath.Join(t.TempDir(), "damaged.tar.gz")
	require.NoError(t, os.WriteFile(damaged, append(bytes.Clone(whole[:len(whole)/2]), whole[len(whole)/2+1:]...), 0o600))
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		full := where(t)
		full.restore(t, file)
		empty, busy := where(t), where(t)
		busy.start(t, servertest.Options{})
		for _, c := range []struct {
			name, file string
			to         place
			passphrase string
			want       string
			is         error
		}{
			{"no file", file + ".not", empty, passphrase, "no such file", os.ErrNotExist},
			{"a damaged one", damaged, empty, passphrase, "corrupted", archive.ErrDamaged},
			{"another passphrase", file, empty, "another passphrase", "passphrase", archive.ErrPassphrase},
			{"a newer schema", made(func(c *archive.Contents) { c.Schema = store.NewestSchema() + 1 }), empty, passphrase, "newer",
				archive.ErrNewer},
			{"no keys", made(func(c *archive.Contents) { delete(c.Keys, "code") }), empty, passphrase, `no key "code"`, nil},
			{"a row that cannot be", made(func(c *archive.Contents) { c.Tables.(rows)["tickets"] = `{"hash":1}` + "\n" }), empty,
				passphrase, "tickets", nil},
			{"a table too few", made(func(c *archive.Contents) { delete(c.Tables.(rows), "tickets") }), empty, passphrase, "tickets", nil},
			{"a server that runs", file, busy, passphrase, "in use", nil},
			{"a full database", file, full, passphrase, "not empty", store.ErrNotEmpty},
		} {
			_, err := server.Import(t.Context(), c.to.config(), c.file, say(c.passphrase))
			assert.True(t, err != nil && (c.is == nil || errors.Is(err, c.is)) && strings.Contains(err.Error(), c.want) &&
				!strings.Contains(err.Error(), "\n"), "%s: %v", c.name, err)
		}
		// After all this the place is as empty as before.
		empty.restore(t, file)
		restored := empty.start(t, servertest.Options{})
		diff := cmp.Diff(rowsIn(t, file), rowsIn(t, exported(t, restored)))
		assert.True(t, diff == "", "%v", diff)
		restored.Stop()

		t.Run("with the keys of another server it does not start", func(t *testing.T) {
			for _, name := range []string{"code", "text.0"} {
				p := where(t)
				p.restore(t, made(func(c *archive.Contents) { c.Keys[name] = bytes.Repeat([]byte{7}, 32) }))
				_, err := p.try(t, servertest.Options{})
				assert.True(t, err != nil && errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "other code keys"),
					"%s: %v", name, err)
			}
		})
		t.Run("without a key of its codes it does not start", func(t *testing.T) {
			for _, name := range []string{"code", "text.0"} {
				p := where(t)
				p.restore(t, file)
				p.exec(t, `DELETE FROM sealing_keys WHERE name = '`+name+`'`)
				_, err := p.try(t, servertest.Options{})
				assert.True(t, err != nil && errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), strconv.Quote(name)),
					"%s: %v", name, err)
			}
		})
	})
}

// exec changes a database behind the server's back.
func (p place) exec(t *testing.T, query string) {
	t.Helper()
	address := p.database
	if address == "" {
		address = "file:" + filepath.Join(p.data, "qrjump.db") + "?_busy_timeout=10000"
	}
	dbtest.Exec(t, address, query)
}

func TestExportEndpoint_Rejects(t *testing.T) {
	t.Parallel()
	s := onSQLite(t).start(t, servertest.Options{Seed: brand})
	for _, c := range []struct {
		body   string
		status int
	}{
		{`{"passphrase":"eleven char"}`, 422}, {`{"passphrase":""}`, 422}, {`{}`, 422}, {``, 400}, {`[]`, 422}, {`{"passphrase":`, 400},
	} {
		a := s.Do("POST", "/admin/v1/export", c.body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		assert.True(t, a.Status == c.status && !strings.Contains(a.Body, "eleven char") &&
			a.Header.Get("Content-Type") == "application/problem+json", "%s: %d %s", c.body, a.Status, a.Body)
	}
	a := s.Do("POST", "/admin/v1/export", `{"passphrase":"`+passphrase+`"}`, "Content-Type: application/json")
	assert.True(t, a.Status == 401, "a stranger got %d", a.Status)
	// An unreadable file is reported before anything is sent.
	p := onSQLite(t)
	s = p.start(t, servertest.Options{Seed: brand})
	p.exec(t, `DROP TABLE seeds`)
	a = s.Do("POST", "/admin/v1/export", `{"passphrase":"`+passphrase+`"}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
	assert.True(t, a.Status == 500 && a.Header.Get("Content-Type") == "application/problem+json" && !strings.Contains(a.Body, "seeds") &&
		strings.Contains(s.Log(), "inspecting seeds"), "without a table: %d %v %s", a.Status, a.Header, a.Body)
}

// No secret is in the clear in an archive.
func TestBackup_ArchiveWithoutPlainSecrets(t *testing.T) {
	t.Parallel()
	s := onSQLite(t).start(t, servertest.Options{Seed: brand})
	l := live(t, s)
	file := exported(t, s)
	keys, err := opened(t, file).Keys(passphrase)
	require.NoError(t, err)
	for table, text := range rowsIn(t, file) {
		for _, secret := range []string{"the-secret-of-shop", "the-secret-of-svc", "the-secret-of-isv", "a-16-byte-secret",
			"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE", l.token, l.stable, l.scanKey, l.ticket, l.jsCode, passphrase} {
			assert.True(t, !strings.Contains(text, secret), "%s shows %q", table, secret)
		}
	}
	assert.True(t, len(keys) >= 4, "got %d keys", len(keys))
}
