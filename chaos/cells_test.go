package chaos_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
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

// cells are two cells behind the HAProxy of deploy/cells.
type cells struct {
	clientGroup
	dir     string
	program string // qrjump
	ports   map[string]string
	config  string
	haproxy *exec.Cmd
	log     *os.File

	mu           sync.Mutex
	acknowledged map[string]bool           // prefixes of acknowledged rules of x
	scans        map[string]bool           // ids of acknowledged scans of x
	codes        map[int64]map[string]bool // ids of acknowledged scans of x by code
	count        struct{ scans, changes, codes, held, failed, others atomic.Int64 }
}

// localAddress returns the local address for an address of haproxy.cfg.
func (c *cells) localAddress(address string) string {
	c.t.Helper()
	if c.ports[address] == "" {
		l, err := net.Listen("tcp", loopbackAddress)
		require.NoError(c.t, err)
		c.ports[address] = l.Addr().String()
		l.Close()
	}
	return c.ports[address]
}

// route reloads HAProxy with another map, and waits until the process with the previous map has served its last request.
func (c *cells) route(content string) {
	c.t.Helper()
	file := filepath.Join(c.dir, "cells.yaml")
	require.NoError(c.t, os.WriteFile(file, []byte("default: a\ncells:\n  a: {}\n"+content), 0o600))
	text := c.runCommand("cells", "--map", file)
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, "cells.map"), text, 0o600))
	args := []string{"-db", "-f", c.config}
	before := c.haproxy
	if before != nil {
		args = append(args, "-sf", fmt.Sprint(before.Process.Pid))
	}
	c.haproxy = exec.Command("haproxy", args...)
	c.haproxy.Stdout, c.haproxy.Stderr = c.log, c.log
	// HAProxy ends with this process.
	c.haproxy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(c.t, c.haproxy.Start())
	if before != nil {
		_ = before.Wait()
		return
	}
	waitFor(c.t, "HAProxy to listen", func() bool {
		conn, err := net.Dial("tcp", c.localAddress("10.77.0.10:8080"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// runCommand runs a command of qrjump, which must succeed, and returns its standard output.
func (c *cells) runCommand(args ...string) []byte {
	c.t.Helper()
	text, stderr, err := c.command(args)
	require.True(c.t, err == nil, "qrjump %q: %v\n%s", args, err, stderr)
	return text
}

func (c *cells) command(args []string) (stdout []byte, stderr string, err error) {
	cmd := exec.Command(c.program, args...)
	cmd.Env = append(os.Environ(), "QRJUMP_ADMIN_TOKEN="+adminToken, "QRJUMP_PASSPHRASE=the passphrase of a move", "QRJUMP_LANG=en")
	var text strings.Builder
	cmd.Stderr = &text
	stdout, err = cmd.Output()
	return stdout, text.String(), err
}

// checkFails runs a command of qrjump, which must fail with a reason.
func (c *cells) checkFails(reason string, args ...string) {
	c.t.Helper()
	stdout, stderr, err := c.command(args)
	output := string(stdout) + stderr
	assert.True(c.t, err != nil && strings.Contains(output, reason), "qrjump %q: %v, want %q\n%s", args, err, reason, output)
}

// sendJSON sends a request with a JSON body.
func sendJSON(client *http.Client, method, address, bearer string, body any) (response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return response{}, err
	}
	return send(client, method, "http://"+address, "application/json", string(text), bearer)
}

// runClient calls f until the end of the test. f returns errUnexpected with a wrong response; requests of business x may be held with 503.
func (c *cells) runClient(name string, f func(*http.Client) (response, error)) {
	transport := &http.Transport{}
	c.t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	c.run(func() {
		switch r, err := f(client); {
		case err == nil && name != "x":
			c.count.others.Add(1)
		case err == nil:
		case !errors.Is(err, errUnexpected): // HAProxy closed the connection for the next process
			c.count.failed.Add(1)
		case name == "x" && r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") != "":
			c.count.held.Add(1)
		default:
			c.t.Errorf("a request of business %s = %d (Retry-After %q) %.300s, want success",
				name, r.status, r.header.Get("Retry-After"), r.body)
		}
		time.Sleep(2 * time.Millisecond) // leaves CPU time to the other clients
	})
}

var errUnexpected = errors.New("unexpected response")

// addRules starts a client that adds rules with one token.
func (c *cells) addRules(name, token string, writer int) {
	n, repeated := 0, false
	c.runClient(name, func(client *http.Client) (response, error) {
		prefix := fmt.Sprintf("https://%s.example/w%d/%d/", name, writer, n)
		address := c.localAddress("10.77.0.10:8080") + "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + url.QueryEscape(token)
		resp, err := sendJSON(client, http.MethodPost, address, "", add(prefix, "pages/w"))
		var r reply
		ok := err == nil && resp.status == http.StatusOK && json.Unmarshal([]byte(resp.body), &r) == nil &&
			(r.ErrCode == 0 || repeated && r.ErrCode == 85066)
		repeated = err != nil
		if !ok {
			return resp, cmp.Or(err, errUnexpected)
		}
		n++
		if name == "x" {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.acknowledged[prefix] = true
			c.count.changes.Add(1)
		}
		return resp, nil
	})
}

// scanTexts starts a client that scans texts; index is the number of a code, -1 for a link.
func (c *cells) scanTexts(name, key string, text func() (text string, index int64)) {
	c.runClient(name, func(client *http.Client) (response, error) {
		scanned, index := text()
		resp, err := sendJSON(client, http.MethodPost, c.localAddress("10.77.0.10:8081")+"/scan/v1/resolve", key,
			map[string]any{"user": fmt.Sprint("u", rand.IntN(50)), "text": scanned})
		var d decision
		if err != nil || resp.status != http.StatusOK || json.Unmarshal([]byte(resp.body), &d) != nil || !d.opens() ||
			d.AppID != "shop"+name || (d.Matched.Kind == "code") != (index >= 0) {
			return resp, cmp.Or(err, errUnexpected)
		}
		if name == "x" {
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
		}
		return resp, nil
	})
}

// waitForProgress waits until each kind of work of both businesses has continued.
func (c *cells) waitForProgress() {
	c.t.Helper()
	n := &c.count
	scans, changes, codes, others := n.scans.Load()+100, n.changes.Load()+20, n.codes.Load()+50, n.others.Load()+100
	waitFor(c.t, "clients to make progress", func() bool {
		return c.t.Failed() || n.scans.Load() >= scans && n.changes.Load() >= changes && n.codes.Load() >= codes &&
			n.others.Load() >= others
	})
	require.True(c.t, !c.t.Failed(), "a client received a wrong response")
}

// TestCells_MoveAccountUnderLoad moves a business, its accounts, rules and codes, into a cell that serves another business, while clients
// change rules and scan through HAProxy: no acknowledged change or scan is lost, each code keeps its first scan, requests of the business
// are served correctly or held with 503 and Retry-After, and requests of the other businesses of both cells always succeed.
func TestCells_MoveAccountUnderLoad(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not installed: scripts/install-test-deps.sh installs it where it may")
	}
	testscope.RequireComplete(t, "store tests the parts of the move, and cmd/qrjump the map that the cells are routed by")
	runOnEachBackend(t, func(t *testing.T, database string) {
		c := &cells{clientGroup: clientGroup{t: t}, dir: t.TempDir(), ports: map[string]string{}, acknowledged: map[string]bool{},
			scans: map[string]bool{},
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
			second.Database = newDatabase(t)
		}
		second.Listen = c.localAddress("10.77.1.11:8080")
		text, err := os.ReadFile("../deploy/cells/haproxy.cfg")
		require.NoError(t, err)
		config := regexp.MustCompile(`(?m)^  server node2 .*\n`).ReplaceAllString(string(text), "")
		config = regexp.MustCompile(`10\.77\.0\.11:\d+`).ReplaceAllString(config, strings.TrimPrefix(a.URL, "http://"))
		config = regexp.MustCompile(`10\.77\.1\.11:\d+`).ReplaceAllString(config, second.Listen)
		config = regexp.MustCompile(`10\.77\.0\.10:\d+`).ReplaceAllStringFunc(config, c.localAddress)
		config = strings.ReplaceAll(config, "/etc/qrjump", c.dir)
		require.NoError(t, os.WriteFile(c.config, []byte(config), 0o600))
		c.route("")
		defer func() { _, _ = c.haproxy.Process.Kill(), c.haproxy.Wait() }()

		// Codes of both businesses, whose texts begin with the business's own host.
		key, err := adminClient(t, a.URL).ScanKeys.Create(t.Context(), api.ScanKey{Name: "till"})
		require.NoError(t, err)
		balanced := mustConnect(t, "http://"+c.localAddress("10.77.0.10:8080"), "")
		texts, tokens, batch := map[string][]string{}, map[string]string{}, int64(0)
		for _, name := range businesses {
			order, err := adminClient(t, a.URL).Orders.Create(t.Context(), "brand"+name,
				api.OrderPut{Count: 10_000, ISV: "one", Text: "https://" + name + ".example/c/{secret}"})
			require.NoError(t, err)
			tokens[name] = balanced.token("shop" + name)
			balanced.activate(balanced.token("brand"+name), order.ApplicationID, 10_000, "shop"+name)
			admin := mustConnect(t, a.URL, adminToken)
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
			c.runCommand(args...)
		}
		archive := filepath.Join(c.dir, "y.qrjump")
		move(archive, "shopy", "brandy")
		args := []string{"import", archive, "--data", second.Data}
		if second.Database != "" {
			args = append(args, "--database", second.Database)
		}
		c.runCommand(args...)
		b := start(t, second)
		c.runCommand("account", "import", archive, "--server", b.URL)
		require.NoError(t, adminClient(t, a.URL).Accounts.SetRulesEnabled(t.Context(), "shopy", false))
		c.checkFails("is in this cell already", "account", "import", archive, "--server", b.URL)
		c.checkFails("brandx and shopx are linked", "export", filepath.Join(c.dir, "half"), "--server", a.URL, "--account", "brandx")
		c.checkFails("there is no account", "export", filepath.Join(c.dir, "none"), "--server", a.URL, "--account", "shopz")
		// A server that was not created from an archive has other keys.
		third := second
		third.Data, third.MinCodeCounter, third.Listen = filepath.Join(t.TempDir(), "data"), 0, loopbackAddress
		if third.Database != "" {
			third.Database = newDatabase(t)
		}
		foreign := start(t, third)
		c.checkFails("the cells have different keys", "account", "import", archive, "--server", foreign.URL)
		foreign.stop()
		const inB = "  b:\n    accounts: [shopy, brandy%s]\n    links: [y.example%s]\n"
		c.route(fmt.Sprintf(inB, "", ""))

		var codesTo atomic.Int64 // some codes have their first scan before, some during and some after the move
		codesTo.Store(20)
		for _, name := range businesses {
			for writer := range 2 {
				c.addRules(name, tokens[name], writer)
				c.scanTexts(name, key, func() (string, int64) { return fmt.Sprintf("https://%s.example/open/%d", name, rand.IntN(9)), -1 })
				c.scanTexts(name, key, func() (string, int64) {
					index := rand.Int64N(codesTo.Load())
					return texts[name][index], index
				})
			}
		}
		defer c.stop()
		c.waitForProgress()

		// The move as described in docs/en/how/cells.md.
		began := time.Now()
		c.route(fmt.Sprintf(inB, "", "") + "  moving:\n    accounts: [shopx, brandx]\n    links: [x.example]\n")
		codesTo.Store(40)
		held := c.count.held.Load()
		client := &http.Client{}
		for address, want := range map[string]int{
			c.localAddress("10.77.0.10:8082") + "/admin/v1/accounts/shopx":     http.StatusServiceUnavailable,
			c.localAddress("10.77.0.10:8082") + "/admin/v1/rules?owner=brandx": http.StatusServiceUnavailable,
			c.localAddress("10.77.0.10:8082") + "/admin/v1/accounts/shops":     http.StatusOK,
			c.localAddress("10.77.0.10:8082") + "/admin/v1/settings":           http.StatusMisdirectedRequest,
			c.localAddress("10.77.0.10:8092") + "/admin/v1/settings":           http.StatusOK,
			c.localAddress("10.77.0.10:8080") + "/cgi-bin/token?appid=shopx":   http.StatusServiceUnavailable,
		} {
			got, err := sendJSON(client, http.MethodGet, address, adminToken, nil)
			assert.True(t, err == nil && got.status == want, "GET %s = %d, %v, want %d: %.200s", address, got.status, err, want, got.body)
		}
		got, err := sendJSON(client, http.MethodPut, c.localAddress("10.77.0.10:8092")+"/admin/v1/settings", adminToken,
			map[string]any{"rule_limit": 7})
		assert.True(t, err == nil && got.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "",
			"a change of the cell = %d, %v", got.status, err)
		archive = filepath.Join(c.dir, "x.qrjump")
		move(archive, "shopx", "brandx")
		c.runCommand("account", "import", archive, "--server", b.URL)
		// From here on, the first cell would serve outdated data of the moved account.
		require.NoError(t, adminClient(t, a.URL).Accounts.SetRulesEnabled(t.Context(), "shopx", false))
		waitFor(t, "clients to be held", func() bool { return c.count.held.Load() >= held+100 || t.Failed() })
		c.route(fmt.Sprintf(inB, ", shopx, brandx", ", x.example"))
		took := time.Since(began)
		codesTo.Store(60)
		c.waitForProgress()
		c.waitForProgress()
		c.stop()
		require.True(t, !t.Failed(), "a client received a wrong response")

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
		prefixes, scans := lists(adminClient(t, b.URL))
		oldPrefixes, oldScans := lists(adminClient(t, a.URL))
		missing := func(have, want map[string]bool) (n int) {
			for name := range want {
				if !have[name] {
					n++
				}
			}
			return n
		}
		assert.True(t, missing(prefixes, c.acknowledged) == 0, "%d of %d acknowledged changes are lost", missing(prefixes,
			c.acknowledged), len(c.acknowledged))
		assert.Equal(t, missing(scans, oldScans), len(oldScans), "scans of the first cell that are missing in the second cell")
		maps.Copy(scans, oldScans)
		assert.True(t, missing(scans, c.scans) == 0, "%d of %d acknowledged scans are lost", missing(scans, c.scans), len(c.scans))
		assert.True(t, missing(prefixes, oldPrefixes) == 0, "%d rules are only in the first cell", missing(prefixes, oldPrefixes))
		// Both audit logs agree with the rows, and the cells number their applications differently.
		for _, address := range []string{a.URL, b.URL} {
			checked, err := adminClient(t, address).AuditLog.Verify(t.Context())
			assert.True(t, err == nil && checked.FirstError == nil, "the audit log of %s: %+v, %v", address, checked.FirstError, err)
		}
		// The number of a rule is the number of its first change: names in statistics of deleted rules depend on it.
		unnumbered := queryMap[int64, string](t, second.databaseURL(), `SELECT id, key FROM rules WHERE NOT EXISTS
			(SELECT 1 FROM changes WHERE seq = rules.id AND kind = 'rule' AND changes.key = rules.key)`)
		assert.Equal(t, len(unnumbered), 0, "moved rules whose number is not that of a change")
		order, err := adminClient(t, b.URL).Orders.Create(t.Context(), "brandx", api.OrderPut{Count: 10_000, ISV: "two",
			Text: "https://x.example/c/{secret}"})
		assert.True(t, err == nil && order.ApplicationID > batch+100_000_000, "the next application is %d, %v", order.ApplicationID, err)
		firstScans := func(child childConfig) map[int64]string {
			return queryMap[int64, string](t, child.databaseURL(), fmt.Sprintf(`SELECT idx, first_scan FROM code_scans WHERE batch = %d`,
				batch))
		}
		before, after := firstScans(child), firstScans(second)
		for _, index := range slices.Sorted(maps.Keys(c.codes)) {
			first := after[index]
			assert.True(t, before[index] == "" || before[index] == first,
				"the first scan of code %d changed from %s to %s", index, before[index], first)
			// The first scan may be one whose response was lost with its connection.
			assert.True(t, c.codes[index][first] || first != "" && scans[first],
				"the first scan of code %d is %q, want an acknowledged or recorded one", index, first)
		}
		assert.True(t, len(before) > 10 && len(after) > len(before),
			"%d codes were scanned before the move, %d in total, want more than 10 and more", len(before), len(after))
		require.True(t, !t.Failed(), "the move lost data")
		n := &c.count
		t.Logf("moved in %v under %d changes and %d scans of the business, %d of them of codes: 0 lost, %d codes with one first scan "+
			"(%d before the move), %d held by 503, %d failed; %d requests of the other businesses, none held",
			took.Round(time.Millisecond), n.changes.Load(), n.scans.Load(), n.codes.Load(), len(after), len(before),
			n.held.Load(), n.failed.Load(), n.others.Load())
		a.stop()
		b.stop()
	})
}

// TestCells_ExampleConsistent verifies that HAProxy accepts the configuration of deploy/cells with its map, which is the output of qrjump
// cells (cmd/qrjump, TestCells_ExampleMap).
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
	output, err := exec.Command("haproxy", "-c", "-f", file).CombinedOutput()
	assert.True(t, err == nil && !bytes.Contains(output, []byte("WARNING")), "haproxy -c: %v, want no warning\n%s", err, output)
}
