package chaos_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestServerStart_TenNodesOnEmptyDatabase starts ten nodes (in make test: four) concurrently on an empty database. All must become ready
// with one schema, one seed and one set of keys.
func TestServerStart_TenNodesOnEmptyDatabase(t *testing.T) {
	c := newCluster(t, newEmptyDatabase(t), killTestSeed, choose(10, 4))
	began := time.Now()
	require.NoError(t, errors.Join(dbtest.Race(len(c.nodes), func(i int) error {
		p, ready := tryStart(t, c.nodes[i].config())
		if !ready {
			return fmt.Errorf("node %d did not become ready: %s", i, p.logTail())
		}
		c.nodes[i].running.Store(p)
		return nil
	})...))
	t.Logf("%d nodes on an empty database were ready after %v", len(c.nodes), time.Since(began).Round(time.Millisecond))
	defer c.stop()
	c.waitUntilReady()
	assert.Equal(t, dbtest.QueryInt(t, c.database,
		`SELECT count(*) - count(DISTINCT version_id) FROM goose_db_version WHERE version_id > 0`), 0, "repeated migrations")
	assert.Equal(t, dbtest.QueryInt(t, c.database, `SELECT count(*) FROM accounts`), 5, "accounts")
	// A token of the first node is valid on every other node: the keys are the same.
	first := c.nodes[0].admin()
	token := first.token("mini0")
	first.ok("qrcodejumpadd", token, add("https://ten.example/a/", "pages/a"))
	for _, n := range c.nodes {
		assert.Equal(t, len(n.admin().rules(token)), 1, "rules on node %d", n.number)
	}
}

// storedData is the data of createStoredData as a server returns it.
type storedData struct {
	Rules   map[string][]ruleView // by account
	Left    map[string]int        // publishes left by account
	History map[string][]string   // actions by prefix
	Scans   map[string]string     // results by text
}

// dataKeys are the keys of storedData, which do not change.
type dataKeys struct {
	scanKey string
	tokens  map[string]string // by account
	codes   map[string]int64  // indexes by text
	tickets map[string]string // users by ticket
}

const servicePrefix = "http://weixin.qq.com/q/02storystory"

// createStoredData creates rules, codes and tickets on a server.
func createStoredData(m mustConnection) dataKeys {
	m.freezeClock(m.now().Add(time.Second)) // so that tokens and tickets do not expire
	k := dataKeys{m.scanKey("app"), map[string]string{}, map[string]int64{}, map[string]string{}}
	for _, account := range []string{"mini0", "mini1", "service0"} {
		k.tokens[account] = m.stableToken(account)
	}
	for n := range 12 {
		account := fmt.Sprint("mini", n%2)
		prefix := fmt.Sprintf("https://old.example/%s/%d/", account, n)
		m.ok("qrcodejumpadd", k.tokens[account], add(prefix, fmt.Sprint("pages/", n)))
		if n%3 != 0 {
			m.ok("qrcodejumppublish", k.tokens[account], prefixOnly(prefix))
		}
		if n%5 == 4 {
			m.ok("qrcodejumpdelete", k.tokens[account], prefixOnly(prefix))
		}
	}
	token := k.tokens["service0"]
	body := add(servicePrefix, "pages/service")
	body["appid"] = "mini0"
	m.ok("qrcodejumpadd", token, body)
	m.ok("qrcodejumppublish", token, prefixOnly(servicePrefix))
	batch := m.apply(token, "data", 10_000)
	m.activate(token, batch, 5000, "mini0")
	scans := mustConnect(m.t, m.base, k.scanKey)
	for _, index := range []int64{0, 1, 4999, 5000, 9999} {
		text := m.codeText(batch, index)
		k.codes[text] = index
		if index < 5000 {
			d, err := scans.scanAs(text, "u-1")
			m.check(err)
			k.tickets[d.ticket()] = "u-1"
		}
	}
	return k
}

// read returns the data that a server has, and checks that codes and tickets are valid.
func (k dataKeys) read(m mustConnection) storedData {
	data := storedData{map[string][]ruleView{}, map[string]int{}, map[string][]string{}, map[string]string{}}
	for account, token := range k.tokens {
		got := m.ok("qrcodejumpget", token, map[string]any{})
		slices.SortFunc(got.RuleList, func(a, b ruleView) int { return strings.Compare(a.Prefix, b.Prefix) })
		data.Rules[account], data.Left[account] = got.RuleList, got.QRCodeJumpPubQuota
	}
	texts := map[string]string{servicePrefix: servicePrefix} // scanned texts by prefix
	for n := range 12 {
		prefix := fmt.Sprintf("https://old.example/mini%d/%d/", n%2, n)
		texts[prefix] = prefix + "x"
	}
	scans := mustConnect(m.t, m.base, k.scanKey)
	for prefix, text := range texts {
		var history struct{ Changes []historyEntry }
		m.get("/admin/v1/rules/history?limit=100&prefix="+url.QueryEscape(prefix), &history)
		for _, entry := range history.Changes {
			data.History[prefix] = append(data.History[prefix], entry.Action)
		}
		data.Scans[text] = scans.scan(text).String()
	}
	for text, index := range k.codes {
		var code struct {
			Index int64 `json:"code_index"`
		}
		m.post("/admin/v1/codes/lookup", map[string]any{"code_url": text}, &code)
		assert.Equal(m.t, code.Index, index, "the index of %s", text)
	}
	path := "/intp/marketcode/tickettocode?access_token=" + url.QueryEscape(k.tokens["service0"])
	for ticket, user := range k.tickets {
		var code reply
		m.post(path, map[string]any{"openid": m.openID("mini0", user), "code_ticket": ticket}, &code)
		assert.Equal(m.t, code.ErrCode, 0, "errcode of tickettocode for %s: %s", user, code.ErrMsg)
	}
	return data
}

// check compares the data of a server with want.
func (k dataKeys) check(m mustConnection, want storedData) {
	m.t.Helper()
	if got := k.read(m); !reflect.DeepEqual(got, want) {
		a, _ := json.MarshalIndent(got, "", " ")
		b, _ := json.MarshalIndent(want, "", " ")
		m.t.Errorf("the server has\n%s\nwant\n%s", a, b)
	}
}

// killTestSeedWithCodes is killTestSeed with a first service account that may apply for codes.
var killTestSeedWithCodes = strings.Replace(killTestSeed, "service_account, certified: true",
	"service_account, certified: true, features: [marketcode], marketcode_key: 0123456789abcdef", 1)

// upgradeClients are clients that write while nodes are replaced.
type upgradeClients struct {
	clientGroup
	cluster      *cluster
	acknowledged atomic.Int64
	failed       atomic.Int64 // without a response or with -1
	mu           sync.Mutex
	rules        map[string]string // pages of acknowledged rules by prefix
	unknown      map[string]bool   // prefixes with an unknown outcome
	pause        time.Duration     // the longest time without an acknowledged write
}

// wait waits for n more acknowledged writes.
func (u *upgradeClients) wait(n int) { waitForMore(u.t, &u.acknowledged, n) }

// runOnNodes starts a client that calls f with a connection to each running node in turn.
func (u *upgradeClients) runOnNodes(bearer string, f func(c *connection, i int) error) {
	c, i := connect(u.t, "", bearer), -1
	c.http.Timeout = 20 * time.Second
	u.run(func() {
		i++
		p := u.cluster.nodes[i%len(u.cluster.nodes)].running.Load()
		if p == nil {
			time.Sleep(time.Millisecond) // leaves CPU time to the starting node
			return
		}
		c.base = p.URL
		if f(c, i) != nil {
			time.Sleep(time.Millisecond) // as above
		}
	})
}

// addRules starts clients that add rules of mini2.
func (u *upgradeClients) addRules(clients int) {
	last := time.Now()
	for n := range clients {
		token := ""
		u.runOnNodes("", func(c *connection, i int) (err error) {
			if token == "" {
				if token, err = c.stableToken("mini2"); err != nil {
					return err
				}
			}
			prefix, page := fmt.Sprintf("https://upgrade%d.example/%d/", n, i), fmt.Sprint("pages/", i)
			got, err := c.wire("qrcodejumpadd", token, add(prefix, page))
			u.mu.Lock()
			defer u.mu.Unlock()
			switch {
			case err != nil || got.ErrCode == -1:
				u.failed.Add(1)
				u.unknown[prefix] = true
			case got.ErrCode != 0:
				u.t.Errorf("qrcodejumpadd on %s = %d %s, want 0 or -1", c.base, got.ErrCode, got.ErrMsg)
			default:
				u.rules[prefix] = page
				u.pause = max(u.pause, time.Since(last))
				last = time.Now()
				u.acknowledged.Add(1)
			}
			return nil
		})
	}
}

// checkRules checks that every node has every acknowledged rule and no other rules.
func (u *upgradeClients) checkRules() {
	for _, n := range u.cluster.nodes {
		admin := n.admin()
		rules := admin.rules(admin.stableToken("mini2"))
		for prefix, page := range u.rules {
			assert.Equal(u.t, rules[prefix].Path, page, "the page of the acknowledged rule %s on node %d", prefix, n.number)
		}
		for prefix := range rules {
			assert.True(u.t, u.rules[prefix] != "" || u.unknown[prefix], "node %d has %s, which no client added", n.number, prefix)
		}
	}
	u.t.Logf("%d writes acknowledged during the upgrade, %d failed; the longest time without an acknowledged write was %v",
		u.acknowledged.Load(), u.failed.Load(), u.pause.Round(time.Millisecond))
}

// webhookReceiver receives a webhook for scans.
type webhookReceiver struct {
	t        testing.TB
	mu       sync.Mutex
	expected []string        // ids of acknowledged scans
	received map[string]bool // ids of delivered scans
}

// newWebhookReceiver creates a webhook for the rule of a prefix, and its receiver.
func newWebhookReceiver(t testing.TB, admin mustConnection, prefix string) *webhookReceiver {
	w := &webhookReceiver{t: t, received: map[string]bool{}}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var message struct {
			Data struct {
				ScanID string `json:"scan_id"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			return // the sender was killed, and repeats the delivery
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.received[message.Data.ScanID] = true
	}))
	t.Cleanup(receiver.Close)
	rules, err := adminClient(t, admin.base).Rules.List(t.Context(), api.StoredRuleQuery{Prefix: prefix})
	require.True(t, err == nil && len(rules) == 1, "rules with the prefix %s = %v, %v, want one", prefix, rules, err)
	admin.post("/admin/v1/webhooks", map[string]any{"url": receiver.URL, "rules": []int64{rules[0].ID}}, nil)
	return w
}

// expect adds an acknowledged scan.
func (w *webhookReceiver) expect(d decision) {
	assert.True(w.t, d.opens(), "a scan %s, want the rule", d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected = append(w.expected, d.ScanID)
}

// waitForAll waits until every acknowledged scan is delivered.
func (w *webhookReceiver) waitForAll() {
	waitFor(w.t, "the delivery of every acknowledged scan", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !slices.ContainsFunc(w.expected, func(id string) bool { return !w.received[id] })
	})
	w.t.Logf("%d scans were acknowledged, %d delivered", len(w.expected), len(w.received))
}

// checkOldNode checks that a node of the earlier version serves the calls that the handbook lists ("Upgrade without downtime").
func (u *upgradeClients) checkOldNode(n *node, scanKey string) {
	u.t.Helper()
	admin := n.admin()
	handbook, err := os.ReadFile("../docs/en/handbook.md")
	admin.check(err)
	assert.Contains(u.t, string(handbook), "old nodes continue to work: they answer calls, changes, scans and their console", "handbook.md")
	const prefix, page = "https://beside.example/a/", "pages/beside"
	admin.ok("qrcodejumpadd", admin.stableToken("mini2"), add(prefix, page))
	u.mu.Lock()
	u.rules[prefix] = page
	u.mu.Unlock()
	n.connect(scanKey).scan("https://old.example/mini1/1/y")
	for _, path := range []string{"/admin/v1/statistics", "/admin/v1/accounts/mini0/appearance", "/console"} {
		assert.NoErrorf(u.t, admin.do(http.MethodGet, path, nil, nil), "GET %s on an old node next to a new one", path)
	}
}

// TestRollingUpgrade_UnderWriters replaces three nodes one by one by nodes of a later schema, under writers and a webhook. No acknowledged
// change is lost, the webhook receives every scan, old nodes next to new ones serve what the handbook lists, and a new node loads the
// emulator snapshot of an old one. Then a program must reject a database of a newer or an unknown schema with exit code 2 and one line,
// and change nothing.
func TestRollingUpgrade_UnderWriters(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		nodes := 3
		if database == "" {
			nodes = 1
		}
		seed := strings.Replace(killTestSeedWithCodes, "settings: {", "settings: {rule_limit: 100000, allow_private_hosts: true, ", 1)
		c := newCluster(t, database, seed, nodes)
		c.emulator = true
		c.start()
		admin := c.nodes[0].admin()
		keys := createStoredData(admin)
		want := keys.read(admin)
		admin.check(admin.do(http.MethodPut, "/admin/v1/emulator/snapshots/before", nil, nil))
		u := &upgradeClients{clientGroup: clientGroup{t: t}, cluster: c, rules: map[string]string{}, unknown: map[string]bool{}}
		u.addRules(choose(8, 2))
		const scannedRule = "https://old.example/mini1/1/"
		webhook := newWebhookReceiver(t, admin, scannedRule)
		u.runOnNodes(keys.scanKey, func(c *connection, _ int) error {
			time.Sleep(5 * time.Millisecond) // leaves CPU time to the writers
			d, err := c.scan(scannedRule + "x")
			if err == nil {
				webhook.expect(d)
			}
			return err
		})
		u.wait(50)
		c.laterVersion = true
		for i, n := range c.nodes {
			n.stop()
			n.start()
			u.wait(50)
			if i == 0 && nodes > 1 {
				u.checkOldNode(c.nodes[2], keys.scanKey)
			}
		}
		u.stop()
		c.waitUntilReady()
		for _, n := range c.nodes {
			keys.check(n.admin(), want)
		}
		u.checkRules()
		admin = c.nodes[0].admin()
		admin.freezeClock(admin.now().Add(time.Hour)) // makes the deliveries of stopped nodes due
		webhook.waitForAll()
		assert.True(t, dbtest.QueryInt(t, c.databaseURL(), `SELECT count(later) FROM rules`) != 0, "the later schema has no rules")
		admin.post("/admin/v1/emulator/snapshots/before/load", nil, nil)
		for account, rules := range want.Rules {
			got := admin.ok("qrcodejumpget", admin.stableToken(account), map[string]any{}).RuleList
			slices.SortFunc(got, func(a, b ruleView) int { return strings.Compare(a.Prefix, b.Prefix) })
			assert.True(t, reflect.DeepEqual(got, rules), "rules of %s in a snapshot of the earlier schema: %v, want %v", account, got,
				rules)
		}
		c.stop()
		c.laterVersion = false
		newest := store.NewestSchema()
		c.checkStartRefused(fmt.Sprintf("the database has schema %d, and this qrjump supports up to %d: use a newer qrjump", newest+1,
			newest), nil)
		c.exec(fmt.Sprintf(`UPDATE goose_db_version SET version_id = 107 WHERE version_id >= %d`, newest))
		c.checkStartRefused("the database has schema 107 of a build from before 0.1.0, which this qrjump does not migrate: "+
			"use an empty folder or database", nil)
	})
}

// checkStartRefused checks that the first node with a changed configuration exits with code 2 and a reason in the last line of its log, and
// does not change the database.
func (c *cluster) checkStartRefused(reason string, change func(*childConfig)) {
	c.t.Helper()
	before := c.dumpTables()
	child := c.nodes[0].config()
	if change != nil {
		change(&child)
	}
	p, ready := tryStart(c.t, child)
	if ready {
		p.stop()
		c.t.Fatalf("the server became ready, want an error: %s", reason)
	}
	lines := strings.Split(strings.TrimSpace(p.logTail()), "\n")
	assert.Contains(c.t, lines[len(lines)-1], reason, "the last line of the log")
	assert.Equal(c.t, p.ProcessState.ExitCode(), 2, "exit code: %s", reason)
	after := c.dumpTables()
	assert.True(c.t, slices.Equal(before, after), "%s: the database changed: %d rows and tables, before %d", reason, len(after),
		len(before))
}

// dumpTables returns the name and the rows of every table.
func (c *cluster) dumpTables() (all []string) {
	c.t.Helper()
	tables := `SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`
	if c.database == "" {
		tables = `SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name`
	}
	texts := func(query string) (list []string) {
		dbtest.QueryRows(c.t, c.databaseURL(), query, func(rows *sql.Rows) error {
			columns, err := rows.Columns()
			row, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			err = errors.Join(err, rows.Scan(into...))
			list = append(list, fmt.Sprint(row...))
			return err
		})
		slices.Sort(list)
		return list
	}
	for _, table := range texts(tables) {
		all = append(all, table)
		all = append(all, texts(`SELECT * FROM `+table)...)
	}
	return all
}

func (c *cluster) databaseURL() string { return c.nodes[0].config().databaseURL() }

// exec changes the database without the program.
func (c *cluster) exec(query string) {
	c.t.Helper()
	dbtest.Exec(c.t, c.databaseURL(), query)
}

// TestServerStart_RefusalLeavesSchema verifies that a start which fails because of its keys, its seed or a used port leaves a database of
// an earlier schema unchanged, so that the earlier program can still use it.
func TestServerStart_RefusalLeavesSchema(t *testing.T) {
	runOnEachBackend(t, func(t *testing.T, database string) {
		c := newCluster(t, database, killTestSeedWithCodes, 1)
		c.emulator = true
		c.start()
		createStoredData(c.nodes[0].admin())
		c.stop()
		c.laterVersion = true
		other := strings.Repeat("5a", 32)
		c.checkStartRefused("not encrypted with this master key (QRJUMP_MASTER_KEY)", func(child *childConfig) { child.MasterKey = other })
		c.exec(`INSERT INTO meta (name, value) VALUES ('demo', '1')`)
		c.checkStartRefused("was created by serve --dev", func(child *childConfig) { child.Emulator = false })
		c.exec(`DELETE FROM meta WHERE name = 'demo'`)
		c.exec(`UPDATE batches SET first_text = 'X' || first_text`)
		c.checkStartRefused("was made with other code keys", func(*childConfig) {})
		c.exec(`UPDATE batches SET first_text = SUBSTR(first_text, 2)`)
		c.exec(`UPDATE sealing_keys SET name = 'away' WHERE name = 'code'`)
		c.checkStartRefused(`not the key "code"`, func(*childConfig) {})
		c.exec(`UPDATE sealing_keys SET name = 'code' WHERE name = 'away'`)
		for text, reason := range map[string]string{
			"accounts: {":                        "seed.yaml",
			"nobody: []":                         "line 1",
			"settings: {publish_quota: -1}":      "publish_quota",
			"accounts: [{appid: x, kind: king}]": "kind is \"king\"",
			"accounts: [{appid: x, kind: mini_program}]\nrules: [{owner: x, prefix: nowhere, path: p}]": "rule \"nowhere\" of x",
		} {
			if choose(false, database != "" || reason == "seed.yaml" || reason == "publish_quota" || strings.HasPrefix(reason, "kind ")) {
				continue // make test has an invalid key and an invalid rule, on SQLite
			}
			seed := filepath.Join(t.TempDir(), "seed.yaml")
			require.NoError(t, os.WriteFile(seed, []byte(text), 0o600))
			c.checkStartRefused(reason, func(child *childConfig) { child.Seed = seed })
		}
		c.checkStartRefused("no such file", func(child *childConfig) { child.Seed = filepath.Join(t.TempDir(), "none.yaml") })
		busy, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer busy.Close()
		c.checkStartRefused("cannot listen on", func(child *childConfig) { child.AdminListen = busy.Addr().String() })
		before := c.dumpTables()
		child := c.nodes[0].config()
		newKey := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(newKey, []byte(strings.Repeat("6b", 32)), 0o600))
		rotation := server.KeyRotation{Config: server.Config{Data: child.Data, Database: child.Database, MasterKey: other},
			NewKeyFile: newKey}
		if _, err := rotation.Run(t.Context()); !errors.Is(err, server.ErrUsage) || !strings.Contains(err.Error(), "are not encrypted") {
			t.Errorf("a rotation of another master key: %v, want a usage error", err)
		}
		assert.True(t, slices.Equal(before, c.dumpTables()), "a failed rotation of the master key changed the database")
		c.nodes[0].start()
		c.stop()
	})
}
