package chaos_test

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	api "github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// cellSettings are the settings of both cells.
const cellSettings = "settings: {rule_rate_limit: null, verification: trust, rule_limit: 1000000}\n"

// cellSeed has three businesses: y is moved first, x is moved under load into the cell of y, s stays.
var cellSeed = func() string {
	var text, rules strings.Builder
	text.WriteString(cellSettings + "accounts:\n")
	rules.WriteString("rules:\n")
	for _, name := range businesses {
		fmt.Fprintf(&text, "  - {appid: shop%s, kind: mini_program, secret: %q, versions: [release]}\n", name, secretOf("shop"+name))
		fmt.Fprintf(&text, "  - {appid: brand%s, kind: service_account, certified: true, features: [marketcode], "+
			"marketcode_key: 0123456789abcdef, secret: %q, linked: [shop%s]}\n", name, secretOf("brand"+name), name)
		fmt.Fprintf(&rules, "  - {owner: shop%s, prefix: %q, path: pages/open, published: true}\n", name, "https://"+name+".example/open/")
	}
	return text.String() + rules.String()
}()

var businesses = []string{"x", "s", "y"}

// cells are two cells behind the HAProxy of deploy/cells, which this test moves an account between.
type cells struct {
	t       *testing.T
	dir     string
	program string // qrjump
	ports   map[string]string
	config  string
	balance *exec.Cmd // HAProxy
	log     *os.File

	ended atomic.Bool
	all   sync.WaitGroup
	mu    sync.Mutex
	acked map[string]bool           // prefixes of x whose rule was acknowledged
	scans map[string]bool           // ids of acknowledged scans of x
	codes map[int64]map[string]bool // the same by code of x
	count struct{ scans, changes, codes, held, unanswered, others atomic.Int64 }
}

// at returns the address here for an address of haproxy.cfg.
func (c *cells) local(address string) string {
	c.t.Helper()
	if c.ports[address] == "" {
		l, err := net.Listen("tcp", anyPort)
		require.NoError(c.t, err)
		c.ports[address] = l.Addr().String()
		l.Close()
	}
	return c.ports[address]
}

// route has HAProxy use another map, and waits until the process with the map before it has answered its last request.
func (c *cells) route(content string) {
	c.t.Helper()
	file := filepath.Join(c.dir, "cells.yaml")
	require.NoError(c.t, os.WriteFile(file, []byte("default: a\ncells:\n  a: {}\n"+content), 0o600))
	text := c.run("cells", "--map", file)
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, "cells.map"), text, 0o600))
	args := []string{"-db", "-f", c.config}
	before := c.balance
	if before != nil {
		args = append(args, "-sf", fmt.Sprint(before.Process.Pid))
	}
	c.balance = exec.Command("haproxy", args...)
	c.balance.Stdout, c.balance.Stderr = c.log, c.log
	// It ends with this process.
	c.balance.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(c.t, c.balance.Start())
	if before != nil {
		_ = before.Wait()
		return
	}
	until(c.t, "HAProxy to listen", func() bool {
		conn, err := net.Dial("tcp", c.local("10.77.0.10:8080"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// run is a command of qrjump.
func (c *cells) run(args ...string) []byte {
	c.t.Helper()
	cmd := exec.Command(c.program, args...)
	cmd.Env = append(os.Environ(), "QRJUMP_ADMIN_TOKEN="+adminToken, "QRJUMP_PASSPHRASE=the passphrase of a move")
	var said strings.Builder
	cmd.Stderr = &said
	text, err := cmd.Output()
	require.True(c.t, err == nil, "qrjump %q: %v\n%s", args, err, said.String())
	return text
}

// refused runs a command of qrjump that fails with a reason.
func (c *cells) refused(reason string, args ...string) {
	c.t.Helper()
	cmd := exec.Command(c.program, args...)
	cmd.Env = append(os.Environ(), "QRJUMP_ADMIN_TOKEN="+adminToken, "QRJUMP_PASSPHRASE=the passphrase of a move", "QRJUMP_LANG=en")
	said, err := cmd.CombinedOutput()
	assert.True(c.t, err != nil && bytes.Contains(said, []byte(reason)), "qrjump %q: %v, want %q\n%s", args, err, reason, said)
}

// answer holds the status and the body of a response.
type answer struct {
	status int
	retry  string // Retry-After
	body   []byte
}

func ask(client *http.Client, method, address, bearer string, body any) (a answer, err error) {
	send, err := json.Marshal(body)
	if err != nil {
		return a, err
	}
	req, err := http.NewRequest(method, "http://"+address, bytes.NewReader(send))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status, a.retry = resp.StatusCode, resp.Header.Get("Retry-After")
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

// client runs f again and again until the end. f reports whether the answer was the right one; business x may be held.
func (c *cells) client(may string, f func(*http.Client) (answer, error, bool)) {
	c.all.Go(func() {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		for !c.ended.Load() {
			switch a, err, right := f(client); {
			case err != nil: // a connection that HAProxy closed for the next process
				c.count.unanswered.Add(1)
			case right:
			case may == "x" && a.status == http.StatusServiceUnavailable && a.retry != "":
				c.count.held.Add(1)
			default:
				c.t.Errorf("business %s is answered %d (Retry-After %q) %.300s", may, a.status, a.retry, a.body)
				return
			}
			time.Sleep(2 * time.Millisecond) // a client's own pace, so that the machine has time for the others
		}
	})
}

// changes adds rules one after the other, with one token.
func (c *cells) changes(name, token string, writer int) {
	n, unsure := 0, false
	c.client(name, func(client *http.Client) (answer, error, bool) {
		prefix := fmt.Sprintf("https://%s.example/w%d/%d/", name, writer, n)
		address := c.local("10.77.0.10:8080") + "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + url.QueryEscape(token)
		a, err := ask(client, http.MethodPost, address, "", add(prefix, "pages/w"))
		var r reply
		right := err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &r) == nil &&
			(r.ErrCode == 0 || unsure && r.ErrCode == 85066)
		unsure = err != nil
		if !right {
			return a, err, false
		}
		n++
		if name != "x" {
			c.count.others.Add(1)
			return a, err, true
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.acked[prefix] = true
		c.count.changes.Add(1)
		return a, err, true
	})
}

// scanning scans texts; index is the number of a code, -1 for a link.
func (c *cells) scanning(name, key string, text func() (text string, index int64)) {
	c.client(name, func(client *http.Client) (answer, error, bool) {
		scanned, index := text()
		a, err := ask(client, http.MethodPost, c.local("10.77.0.10:8081")+"/scan/v1/resolve", key,
			map[string]any{"user": fmt.Sprint("u", rand.IntN(50)), "text": scanned})
		var d decision
		right := err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &d) == nil && d.opens() && d.AppID == "shop"+name &&
			(d.Matched.Kind == "code") == (index >= 0)
		if !right {
			return a, err, false
		}
		if name != "x" {
			c.count.others.Add(1)
			return a, err, true
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.scans[d.ScanID] = true
		c.count.scans.Add(1)
		if index >= 0 {
			if c.codes[index] == nil {
				c.codes[index] = map[string]bool{}
			}
			c.codes[index][d.ScanID] = true
			c.count.codes.Add(1)
		}
		return a, err, true
	})
}

// more waits until each kind of work of both businesses went on.
func (c *cells) more() {
	c.t.Helper()
	n := &c.count
	scans, changes, codes, others := n.scans.Load()+100, n.changes.Load()+20, n.codes.Load()+50, n.others.Load()+100
	until(c.t, "clients to get on", func() bool {
		return c.t.Failed() || n.scans.Load() >= scans && n.changes.Load() >= changes && n.codes.Load() >= codes &&
			n.others.Load() >= others
	})
	require.True(c.t, !c.t.Failed(), "a client was answered wrongly")
}

// TestCells_MoveAccountUnderLoad moves a business, its accounts, rules and codes, into a cell that another business works in, while
// clients change rules and scan through HAProxy: no acknowledged change and no acknowledged scan is lost, each code keeps its first scan,
// scans of the business are answered correctly or with 503 and Retry-After, and the other businesses of both cells notice nothing.
func TestCells_MoveAccountUnderLoad(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not installed: scripts/install-test-deps.sh installs it where it may")
	}
	testscope.WholeOnly(t, "store tests the parts of the move, and cmd/qrjump the map that the cells are routed by")
	eachBackend(t, func(t *testing.T, database string) {
		c := &cells{t: t, dir: t.TempDir(), ports: map[string]string{}, acked: map[string]bool{}, scans: map[string]bool{},
			codes: map[int64]map[string]bool{}}
		c.program, c.config = program(t), filepath.Join(c.dir, "haproxy.cfg")
		var err error
		c.log, err = os.Create(filepath.Join(c.dir, "haproxy.log"))
		require.NoError(t, err)
		defer c.log.Close()
		testdiag.Log(t, "haproxy", func() string { text, _ := os.ReadFile(c.log.Name()); return string(text) })

		// The first cell; each cell has one node with one listener here.
		child := newChild(t, database, cellSeed)
		child.Emulator, child.CodePrefix = false, "C.EXAMPLE/"
		a := start(t, child)
		second := child
		second.Data, second.MinCodeCounter = filepath.Join(t.TempDir(), "data"), 10_000_000_000_000
		second.Seed = filepath.Join(t.TempDir(), "settings.yaml")
		require.NoError(t, os.WriteFile(second.Seed, []byte(cellSettings), 0o600))
		if database != "" {
			second.Database = ownDatabase(t)
		}
		second.Listen = c.local("10.77.1.11:8080")
		text, err := os.ReadFile("../deploy/cells/haproxy.cfg")
		require.NoError(t, err)
		config := regexp.MustCompile(`(?m)^  server node2 .*\n`).ReplaceAllString(string(text), "")
		config = regexp.MustCompile(`10\.77\.0\.11:\d+`).ReplaceAllString(config, strings.TrimPrefix(a.URL, "http://"))
		config = regexp.MustCompile(`10\.77\.1\.11:\d+`).ReplaceAllString(config, second.Listen)
		config = regexp.MustCompile(`10\.77\.0\.10:\d+`).ReplaceAllStringFunc(config, c.local)
		config = strings.ReplaceAll(config, "/etc/qrjump", c.dir)
		require.NoError(t, os.WriteFile(c.config, []byte(config), 0o600))
		c.route("")
		defer func() { _, _ = c.balance.Process.Kill(), c.balance.Wait() }()

		// Codes of both businesses, whose texts begin with the business's own host.
		operator := func(address string) *api.Client {
			client, err := api.New(address, api.Options{AdminToken: adminToken})
			require.NoError(t, err)
			return client
		}
		key, err := operator(a.URL).ScanKeys.Create(t.Context(), api.ScanKey{Name: "till"})
		require.NoError(t, err)
		through := must{connect(t, "http://"+c.local("10.77.0.10:8080"), ""), t}
		texts, tokens, batch := map[string][]string{}, map[string]string{}, int64(0)
		for _, name := range businesses {
			order, err := operator(a.URL).Orders.Create(t.Context(), "brand"+name,
				api.OrderPut{Count: 10_000, ISV: "one", Text: "https://" + name + ".example/c/{secret}"})
			require.NoError(t, err)
			tokens[name] = through.token("shop" + name)
			through.activate(through.token("brand"+name), order.ApplicationID, 10_000, "shop"+name)
			admin := must{connect(t, a.URL, adminToken), t}
			for index := range int64(60) {
				texts[name] = append(texts[name], admin.codeText(order.ApplicationID, index))
			}
			if name == "x" {
				batch = order.ApplicationID
			}
		}

		// y moves into the second cell, which is new: it has the keys of the first one and no accounts.
		move := func(archive string, appids ...string) {
			args := []string{"export", archive, "--server", a.URL}
			for _, appid := range appids {
				args = append(args, "--account", appid)
			}
			c.run(args...)
		}
		archive := filepath.Join(c.dir, "y.qrjump")
		move(archive, "shopy", "brandy")
		args := []string{"import", archive, "--data", second.Data}
		if second.Database != "" {
			args = append(args, "--database", second.Database)
		}
		c.run(args...)
		b := start(t, second)
		c.run("account", "import", archive, "--server", b.URL)
		require.NoError(t, operator(a.URL).Accounts.SetRulesEnabled(t.Context(), "shopy", false))
		c.refused("is in this cell already", "account", "import", archive, "--server", b.URL)
		c.refused("brandx and shopx are linked", "export", filepath.Join(c.dir, "half"), "--server", a.URL, "--account", "brandx")
		c.refused("there is no account", "export", filepath.Join(c.dir, "none"), "--server", a.URL, "--account", "shopz")
		// A server that was not made from an archive has keys of its own.
		third := second
		third.Data, third.MinCodeCounter, third.Listen = filepath.Join(t.TempDir(), "data"), 0, anyPort
		if third.Database != "" {
			third.Database = ownDatabase(t)
		}
		foreign := start(t, third)
		c.refused("the cells have different keys", "account", "import", archive, "--server", foreign.URL)
		foreign.stop()
		const inB = "  b:\n    accounts: [shopy, brandy%s]\n    links: [y.example%s]\n"
		c.route(fmt.Sprintf(inB, "", ""))

		var codesTo atomic.Int64 // some codes are scanned first before, during and after the move
		codesTo.Store(20)
		for _, name := range businesses {
			for writer := range 2 {
				c.changes(name, tokens[name], writer)
				c.scanning(name, key, func() (string, int64) { return fmt.Sprintf("https://%s.example/open/%d", name, rand.IntN(9)), -1 })
				c.scanning(name, key, func() (string, int64) {
					index := rand.Int64N(codesTo.Load())
					return texts[name][index], index
				})
			}
		}
		defer c.all.Wait()
		defer c.ended.Store(true)
		c.more()

		// The move, as docs/en/how/cells.md has it.
		began := time.Now()
		c.route(fmt.Sprintf(inB, "", "") + "  moving:\n    accounts: [shopx, brandx]\n    links: [x.example]\n")
		codesTo.Store(40)
		held := c.count.held.Load()
		client := &http.Client{}
		for address, want := range map[string]int{
			c.local("10.77.0.10:8082") + "/admin/v1/accounts/shopx":     http.StatusServiceUnavailable,
			c.local("10.77.0.10:8082") + "/admin/v1/rules?owner=brandx": http.StatusServiceUnavailable,
			c.local("10.77.0.10:8082") + "/admin/v1/accounts/shops":     http.StatusOK,
			c.local("10.77.0.10:8082") + "/admin/v1/settings":           http.StatusMisdirectedRequest,
			c.local("10.77.0.10:8092") + "/admin/v1/settings":           http.StatusOK,
			c.local("10.77.0.10:8080") + "/cgi-bin/token?appid=shopx":   http.StatusServiceUnavailable,
		} {
			got, err := ask(client, http.MethodGet, address, adminToken, nil)
			assert.True(t, err == nil && got.status == want, "GET %s = %d, %v, want %d: %.200s", address, got.status, err, want, got.body)
		}
		got, err := ask(client, http.MethodPut, c.local("10.77.0.10:8092")+"/admin/v1/settings", adminToken,
			map[string]any{"rule_limit": 7})
		assert.True(t, err == nil && got.status == http.StatusServiceUnavailable && got.retry != "",
			"a change of the cell = %d, %v", got.status, err)
		archive = filepath.Join(c.dir, "x.qrjump")
		move(archive, "shopx", "brandx")
		c.run("account", "import", archive, "--server", b.URL)
		// From here on, the first cell would answer a request of the moved account wrongly.
		require.NoError(t, operator(a.URL).Accounts.SetRulesEnabled(t.Context(), "shopx", false))
		until(t, "clients to be held, and the others to go on", func() bool { return c.count.held.Load() >= held+100 || t.Failed() })
		c.route(fmt.Sprintf(inB, ", shopx, brandx", ", x.example"))
		took := time.Since(began)
		codesTo.Store(60)
		c.more()
		c.more()
		c.ended.Store(true)
		c.all.Wait()
		require.True(t, !t.Failed(), "a client was answered wrongly")

		// Every acknowledged change is in the second cell, and every acknowledged scan in one of both; the first one got nothing after the
		// export.
		lists := func(client *api.Client) (prefixes, scans map[string]bool) {
			prefixes, scans = map[string]bool{}, map[string]bool{}
			var lines bytes.Buffer
			require.NoError(t, client.Rules.Export(t.Context(), &lines))
			for line := range strings.Lines(lines.String()) {
				var rule struct{ Owner, Prefix string }
				require.NoError(t, json.Unmarshal([]byte(line), &rule))
				if rule.Owner == "shopx" {
					prefixes[rule.Prefix] = true
				}
			}
			for scan, err := range client.Scans.List(t.Context(), "") {
				require.NoError(t, err)
				if scan.AppID == "shopx" {
					assert.True(t, !scans[scan.ScanID], "the scan %s is recorded twice", scan.ScanID)
					scans[scan.ScanID] = true
				}
			}
			return prefixes, scans
		}
		prefixes, scans := lists(operator(b.URL))
		oldPrefixes, oldScans := lists(operator(a.URL))
		missing := func(have, want map[string]bool) (n int) {
			for name := range want {
				if !have[name] {
					n++
				}
			}
			return n
		}
		assert.True(t, missing(prefixes, c.acked) == 0, "%d of %d acknowledged changes are lost", missing(prefixes, c.acked), len(c.acked))
		assert.Equal(t, missing(scans, oldScans), len(oldScans), "the scans of the first cell that are not in the second one")
		maps.Copy(scans, oldScans)
		assert.True(t, missing(scans, c.scans) == 0, "%d of %d acknowledged scans are lost", missing(scans, c.scans), len(c.scans))
		assert.True(t, missing(prefixes, oldPrefixes) == 0, "%d rules are in the first cell alone", missing(prefixes, oldPrefixes))
		// Both audit logs agree with the rows, and the cells number their applications differently.
		for _, address := range []string{a.URL, b.URL} {
			checked, err := operator(address).AuditLog.Verify(t.Context())
			assert.True(t, err == nil && checked.FirstError == nil, "the audit log of %s: %+v, %v", address, checked.FirstError, err)
		}
		order, err := operator(b.URL).Orders.Create(t.Context(), "brandx", api.OrderPut{Count: 10_000, ISV: "two",
			Text: "https://x.example/c/{secret}"})
		assert.True(t, err == nil && order.ApplicationID > batch+100_000_000, "the next application is %d, %v", order.ApplicationID, err)
		firsts := func(child childConfig) map[int64]string {
			first := map[int64]string{}
			address := cmp.Or(child.Database, "file:"+filepath.Join(child.Data, "qrjump.db")+"?mode=ro&_pragma=busy_timeout(600000)")
			query := fmt.Sprintf(`SELECT idx, first_scan FROM code_scans WHERE batch = %d`, batch)
			dbtest.Rows(t, address, query, func(rows *sql.Rows) error {
				var index int64
				var id string
				err := rows.Scan(&index, &id)
				first[index] = id
				return err
			})
			return first
		}
		before, after := firsts(child), firsts(second)
		for _, index := range slices.Sorted(maps.Keys(c.codes)) {
			first := after[index]
			assert.True(t, before[index] == "" || before[index] == first,
				"the first scan of code %d was %s and is %s", index, before[index], first)
			// A scan whose answer was lost with its connection may be the first.
			assert.True(t, c.codes[index][first] || first != "" && scans[first], "the first scan of code %d is %q", index, first)
		}
		assert.True(t, len(before) > 10 && len(after) > len(before),
			"%d codes were scanned before the move, %d afterwards", len(before), len(after))
		require.True(t, !t.Failed(), "the move lost something")
		n := &c.count
		t.Logf("moved in %v under %d changes and %d scans of the business, %d of them of codes: 0 lost, %d codes with one first scan "+
			"(%d before the move), %d held by 503, %d unanswered; %d requests of the other businesses, none held",
			took.Round(time.Millisecond), n.changes.Load(), n.scans.Load(), n.codes.Load(), len(after), len(before),
			n.held.Load(), n.unanswered.Load(), n.others.Load())
		a.stop()
		b.stop()
	})
}

// TestCells_ExampleConsistent wants HAProxy to take the configuration of deploy/cells with its map, which is what qrjump cells prints
// (cmd/qrjump, TestCells_ExampleMap).
func TestCells_ExampleConsistent(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not installed: scripts/install-test-deps.sh installs it where it may")
	}
	dir := t.TempDir()
	stored, err := os.ReadFile("../deploy/cells/cells.map")
	require.NoError(t, err)
	config, err := os.ReadFile("../deploy/cells/haproxy.cfg")
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		for _, backend := range []string{"calls-", "scans-", "admin-"} {
			assert.True(t, bytes.Contains(config, []byte("\nbackend "+backend+name+"\n")), "haproxy.cfg has no backend %s%s", backend, name)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cells.map"), stored, 0o600))
	file := filepath.Join(dir, "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(config, []byte("/etc/qrjump"), []byte(dir)), 0o600))
	if said, err := exec.Command("haproxy", "-c", "-f", file).CombinedOutput(); err != nil || bytes.Contains(said, []byte("WARNING")) {
		t.Errorf("%v\n%s", err, said)
	}
}
