package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// addNode returns an instance for another node on the same database with the same master key.
func (p instance) addNode(t *testing.T) instance {
	t.Helper()
	other := instance{data: filepath.Join(t.TempDir(), "data"), database: p.database}
	key, err := os.ReadFile(filepath.Join(p.data, "master.key"))
	if err == nil {
		err = os.MkdirAll(other.data, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(other.data, "master.key"), key, 0o600)
	}
	require.NoError(t, err)
	return other
}

// waitTimeout limits the wait for a condition. It is much longer than a busy machine needs.
const waitTimeout = 5 * time.Minute

// eventually polls ok until it returns true. It fails the test after waitTimeout.
func eventually(t *testing.T, condition string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); {
		require.True(t, time.Since(start) <= waitTimeout, "%s: not within %v", condition, waitTimeout)
		time.Sleep(5 * time.Millisecond) // between two polls
	}
}

// TestNodes_SharedDatabase verifies that a second node follows every kind of change of the first, including the clock and a reset.
func TestNodes_SharedDatabase(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	o := servertest.Options{Seed: brand, Config: func(c *server.Config) { c.Emulator = true }}
	first := p.start(t, o)
	second := p.addNode(t).start(t, o)
	key := first.NewKey("/scan-keys", `{"name":"app"}`)
	second.RegisterSecret(key)
	scan := func(s *servertest.Server, link string) servertest.Answer {
		return s.Send(s.Request("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link), "Authorization: Bearer "+key))
	}
	eventually(t, "the scan key", func() bool { return scan(second, "x").Status == 200 })
	resolve := func(s *servertest.Server, link string) string {
		a := scan(s, link)
		require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
		d := servertest.Decode[struct{ Action, Path string }](t, a)
		path, _, _ := strings.Cut(d.Path, "?")
		return d.Action + " " + path
	}
	for n := range 20 {
		link := fmt.Sprintf("https://shop.example/%d/", n)
		from, to := first, second
		if n%2 == 1 {
			from, to = second, first
		}
		from.OK("shop", "add", fmt.Sprintf(`{"prefix":%q,"path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`, link))
		from.OK("shop", "publish", fmt.Sprintf(`{"prefix":%q}`, link))
		assert.Equal(t, resolve(from, link), "open_mini_program p", "after the answer")
		eventually(t, "the other node", func() bool { return resolve(to, link) == "open_mini_program p" })
		from.OK("shop", "delete", fmt.Sprintf(`{"prefix":%q}`, link))
		eventually(t, "the other node, deleted", func() bool { return strings.HasPrefix(resolve(to, link), "open_url") })
	}
	first.Admin("PUT", "/settings", `{"publish_quota":7}`)
	second.Admin("PUT", "/settings", `{"rule_limit":9}`)
	for _, s := range []*servertest.Server{first, second} {
		eventually(t, "settings", func() bool {
			body := s.Admin("GET", "/settings", "").Body
			return strings.Contains(body, `"publish_quota":7`) && strings.Contains(body, `"rule_limit":9`)
		})
	}
	first.Admin("PUT", "/accounts/shop/jump", `{"open":false}`)
	eventually(t, "an account", func() bool {
		return strings.Contains(second.Admin("GET", "/accounts/shop", "").Body, `"jump_open":false`)
	})
	// The rate limit counts calls to both nodes: at most one call per elapsed second passes, and one more.
	first.Admin("PUT", "/settings", `{"rule_rate_limit":1}`)
	eventually(t, "the limit", func() bool {
		return strings.Contains(second.Admin("GET", "/settings", "").Body, `"rule_rate_limit":1,`)
	})
	token := first.Token("shop")
	passed, start := 0, time.Now()
	for n := range 40 {
		s := []*servertest.Server{first, second}[n%2]
		if s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t) != 44990 {
			passed++
		}
	}
	maxPassed := int(time.Since(start)/time.Second) + 1
	assert.True(t, passed <= maxPassed, "%d of 40 calls passed, want at most %d", passed, maxPassed)
	var moves sync.WaitGroup
	for _, s := range []*servertest.Server{first, second, first, second} {
		moves.Go(func() { s.Admin("PUT", "/emulator/clock", `{"advance":"1h"}`) })
	}
	moves.Wait()
	eventually(t, "four hours of both nodes", func() bool {
		c := servertest.Decode[struct{ Now time.Time }](t, second.Admin("GET", "/emulator/clock", ""))
		return c.Now.Equal(servertest.Began.Add(4 * time.Hour))
	})
	first.Admin("PUT", "/emulator/clock", `{"now":"2027-01-01T00:00:00Z","freeze":true}`)
	eventually(t, "the clock", func() bool {
		return strings.Contains(second.Admin("GET", "/emulator/clock", "").Body, "2027-01-01T00:00:00Z")
	})
	// The limit per minute counts both as well, by the frozen clock.
	first.Admin("PUT", "/settings", `{"service_rate_limit_per_minute":5,"rule_rate_limit":null}`)
	eventually(t, "the limit a minute", func() bool {
		return strings.Contains(second.Admin("GET", "/settings", "").Body, `"service_rate_limit_per_minute":5,`)
	})
	token, passed = first.Token("svc"), 0
	for n := range 20 {
		s := []*servertest.Server{first, second}[n%2]
		if s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t) == 0 {
			passed++
		}
	}
	assert.Equal(t, passed, 5, "calls of the minute passed")
	var verified struct {
		Fault any `json:"first_error"`
	}
	second.Admin("POST", "/audit/verify", "").JSON(t, &verified)
	assert.True(t, verified.Fault == nil, "audit verify: first_error = %v, want nil", verified.Fault)
	first.Admin("POST", "/emulator/reset", "")
	eventually(t, "the reset", func() bool {
		return strings.Contains(second.Admin("GET", "/settings", "").Body, `"publish_quota":100`) &&
			!strings.Contains(second.Admin("GET", "/emulator/clock", "").Body, "2027") &&
			strings.Contains(second.Admin("GET", "/accounts/shop", "").Body, `"jump_open":true`)
	})
}

// TestNodes_ConcurrentStart starts ten nodes concurrently on an empty database. One node must apply the seed, and all must become ready.
func TestNodes_ConcurrentStart(t *testing.T) {
	t.Parallel()
	p := instance{database: dbtest.DatabaseWithoutTimeouts(t)}
	key := strings.Repeat("5a", 32)
	var starts sync.WaitGroup
	nodes := make([]*servertest.Server, 10)
	for i := range nodes {
		starts.Go(func() {
			nodes[i] = instance{data: filepath.Join(t.TempDir(), "data"), database: p.database}.start(t,
				servertest.Options{Seed: brand, Config: func(c *server.Config) { c.MasterKey = key }})
		})
	}
	starts.Wait()
	list := listChanges(t, nodes[0], 0)
	counts := map[string]int{}
	for _, c := range list {
		counts[c.Kind+" "+c.Key]++
	}
	for _, want := range []string{"account shop", "account svc", "component isv", "link svc shop", "meta settings"} {
		assert.True(t, counts[want] == 1, "%d changes of %s, want 1", counts[want], want)
	}
	for i, s := range nodes {
		eventually(t, fmt.Sprintf("node %d is ready", i), func() bool { return s.Do("GET", "/readyz", "").Status == 200 })
	}
}

// TestNodes_RejectLostDatabase verifies that a start rejects an empty database if the data directory was used with another one, without
// writing to it, and that it rejects the database of another installation and the data directory of a running node.
func TestNodes_RejectLostDatabase(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	p.start(t, servertest.Options{Seed: brand}).Stop()
	emptied := instance{data: p.data, database: dbtest.DatabaseWithoutTimeouts(t)}
	for range 2 {
		_, err := emptied.tryStart(t, servertest.Options{})
		require.True(t, err != nil && strings.Contains(err.Error(), "the database is empty, but") && !strings.Contains(err.Error(), "\n"),
			"an empty one: %v", err)
	}
	other := newPostgres(t)
	other.start(t, servertest.Options{}).Stop()
	mixed := instance{data: filepath.Join(t.TempDir(), "data"), database: p.database}
	for from, to := range map[string]string{filepath.Join(other.data, "database"): "database",
		filepath.Join(p.data, "master.key"): "master.key"} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(mixed.data, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(mixed.data, to), b, 0o600)
		}
		require.NoError(t, err)
	}
	_, err := mixed.tryStart(t, servertest.Options{})
	require.True(t, err != nil && strings.Contains(err.Error(), "was used with another database"), "another's: %v", err)
	// Without the file that identifies the old database, the start uses the empty one.
	require.NoError(t, os.Remove(filepath.Join(emptied.data, "database")))
	emptied.start(t, servertest.Options{})
	_, err = emptied.tryStart(t, servertest.Options{})
	require.True(t, err != nil && strings.Contains(err.Error(), "is in use by another"), "a running node's directory: %v", err)
}

// TestNodes_CodesReadYourWrites verifies that a batch and changes of its codes are visible on every node as soon as they are acknowledged,
// without replication lag, and that the erasure of a user reaches the other node.
func TestNodes_CodesReadYourWrites(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	o := servertest.Options{Seed: brand}
	first := p.start(t, o)
	second := p.addNode(t).start(t, o)
	key := first.NewKey("/scan-keys", `{"name":"app","namespace":"phones"}`)
	token := first.Token("svc")
	for _, s := range []*servertest.Server{first, second} {
		s.RegisterSecret(key)
		s.RegisterSecret(token)
	}
	activate := func(s *servertest.Server, id int64) servertest.Answer {
		return callCodes(t, s, token, "codeactive", activation(id, 9, "p"))
	}
	var id int64
	for n := range 20 {
		writer, reader := first, second
		if n%2 == 1 {
			writer, reader = second, first
		}
		id = applyForCodes(t, writer, token, fmt.Sprint("order-", n), 10_000)
		a := callCodes(t, reader, token, "applycodequery", fmt.Sprintf(`{"application_id":%d}`, id))
		require.True(t, a.Code(t) == 0 && strings.Contains(a.Body, `"FINISH"`), "applycodequery on the other node: %s", a.Body)
		a = activate(reader, id)
		require.True(t, a.Code(t) == 0, "codeactive on the other node: %s", a.Body)
		require.Contains(t, callCodes(t, writer, token, "codeactivequery",
			fmt.Sprintf(`{"application_id":%d,"code_index":9}`, id)).Body, `"wxa_path":"p"`, "codeactivequery")
		writer.Admin("POST", fmt.Sprintf("/batches/%d/states", id), `{"action":"freeze","ranges":[{"from":9,"to":9}]}`)
		_, _, body := lookupCode(t, reader, id, 9)
		require.Contains(t, body, `"frozen":true`, "a look-up")
	}
	_, text, _ := lookupCode(t, first, id, 3)
	ticket := ""
	eventually(t, "a scan", func() bool {
		a := first.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"bob"}`, text), "Authorization: Bearer "+key,
			"Content-Type: application/json")
		_, ticket, _ = strings.Cut(a.Body, "code_ticket=")
		ticket, _, _ = strings.Cut(ticket, `"`)
		return ticket != ""
	})
	openid := servertest.Decode[struct{ OpenID string }](t, first.Admin("GET", "/users/bob/openid?appid=svc&namespace=phones", ""))
	exchangeTicket := func(s *servertest.Server) int {
		return callCodes(t, s, token, "tickettocode", fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid.OpenID, ticket)).Code(t)
	}
	for _, s := range []*servertest.Server{first, second} {
		require.Equal(t, exchangeTicket(s), 0, "tickettocode")
	}
	first.Admin("DELETE", "/users/bob/scans?namespace=phones", "")
	assert.Equal(t, exchangeTicket(first), 40097, "after the erasure")
	eventually(t, "the erasure on the other node", func() bool { return exchangeTicket(second) == 40097 })
}

// TestNodes_ReplicationLag verifies that each node shows its own current replication lag and the last report of the others.
func TestNodes_ReplicationLag(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	o := servertest.Options{Seed: brand, Config: func(c *server.Config) { c.Dev = true }}
	first := p.start(t, o)
	second := p.addNode(t).start(t, o)
	type node struct {
		Name string
		Lag  *struct {
			Changes          int64
			Seconds          *float64
			ReportedAt       time.Time `json:"reported_at"`
			ReportAgeSeconds *float64  `json:"report_age_seconds"`
		}
	}
	lags := func(s *servertest.Server) (list struct{ Nodes []node }) {
		t.Helper()
		s.Admin("GET", "/scan-nodes", "").JSON(t, &list)
		require.Equal(t, len(list.Nodes), 2, "nodes")
		return list
	}
	for _, s := range []*servertest.Server{first, second} {
		eventually(t, "a node shows the lag of both", func() bool {
			list := lags(s)
			return list.Nodes[0].Lag != nil && list.Nodes[1].Lag != nil
		})
		for _, n := range lags(s).Nodes {
			assert.True(t, n.Lag.Seconds != nil && !n.Lag.ReportedAt.IsZero() && n.Lag.ReportAgeSeconds != nil, "%s: %+v", n.Name, n.Lag)
		}
	}
	first.Admin("PUT", "/settings", `{"publish_quota":7}`)
	eventually(t, "no node lags", func() bool {
		for _, n := range lags(second).Nodes {
			if n.Lag.Changes != 0 {
				return false
			}
		}
		return strings.Contains(second.Admin("GET", "/settings", "").Body, `"publish_quota":7`)
	})
	for language, texts := range map[string][]string{"en": {"last in sync", "Reported ", "qrjump doctor --node"},
		"zh": {"秒曾同步", "秒前报告。", "qrjump doctor --node"}} {
		page := second.Send(second.Request("GET", "/console/operate?lang="+language, "")).Body
		for i, text := range texts {
			want := 2 - i/2
			assert.True(t, strings.Count(page, text) == want, "%s: want %q %d times in %s", language, text, want, page)
		}
	}
}
