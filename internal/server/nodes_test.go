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

// secondOf is another node on the same database, with the same master key.
func (p place) secondOf(t *testing.T) place {
	t.Helper()
	other := place{data: filepath.Join(t.TempDir(), "data"), database: p.database}
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

// patience is how long tests wait for what may never come: so long that no busy machine needs it.
const patience = 5 * time.Minute

// eventually asks until the answer is right.
func eventually(t *testing.T, what string, right func() bool) {
	t.Helper()
	for began := time.Now(); !right(); {
		require.True(t, time.Since(began) <= patience, "%s: not within %v", what, patience)
		time.Sleep(5 * time.Millisecond) // between two looks, for what it waits for
	}
}

// The other node knows all that one does: rules, accounts, codes, settings, scan keys, the clock; and a reset.
func TestNodes_SharedDatabase(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	o := servertest.Options{Seed: brand, Config: func(c *server.Config) { c.Emulator = true }}
	one := p.start(t, o)
	two := p.secondOf(t).start(t, o)
	made := one.NewKey("/scan-keys", `{"name":"app"}`)
	two.Hide(made)
	scanned := func(s *servertest.Server, link string) servertest.Answer {
		return s.Send(s.Request("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link), "Authorization: Bearer "+made))
	}
	eventually(t, "the scan key", func() bool { return scanned(two, "x").Status == 200 })
	seeds := 0
	for _, c := range changesAfter(t, one, 0) {
		if c.Kind == "seed" {
			seeds++
		}
	}
	assert.True(t, seeds == 1, "the seed was applied %d times", seeds)
	opens := func(s *servertest.Server, link string) string {
		a := scanned(s, link)
		require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
		d := servertest.Decode[struct{ Action, Path string }](t, a)
		path, _, _ := strings.Cut(d.Path, "?")
		return d.Action + " " + path
	}
	for n := range 20 {
		link := fmt.Sprintf("https://shop.example/%d/", n)
		from, to := one, two
		if n%2 == 1 {
			from, to = two, one
		}
		from.OK("shop", "add", fmt.Sprintf(`{"prefix":%q,"path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`, link))
		from.OK("shop", "publish", fmt.Sprintf(`{"prefix":%q}`, link))
		assert.Equal(t, opens(from, link), "open_mini_program p", "after the answer")
		eventually(t, "the other node", func() bool { return opens(to, link) == "open_mini_program p" })
		from.OK("shop", "delete", fmt.Sprintf(`{"prefix":%q}`, link))
		eventually(t, "the other node, deleted", func() bool { return strings.HasPrefix(opens(to, link), "open_url") })
	}
	one.Admin("PUT", "/settings", `{"publish_quota":7}`)
	two.Admin("PUT", "/settings", `{"rule_limit":9}`)
	for _, s := range []*servertest.Server{one, two} {
		eventually(t, "settings", func() bool {
			body := s.Admin("GET", "/settings", "").Body
			return strings.Contains(body, `"publish_quota":7`) && strings.Contains(body, `"rule_limit":9`)
		})
	}
	one.Admin("PUT", "/accounts/shop/jump", `{"open":false}`)
	eventually(t, "an account", func() bool { return strings.Contains(two.Admin("GET", "/accounts/shop", "").Body, `"jump_open":false`) })
	// The limit of calls a second counts on both together: in any time as many pass as it has seconds, and one more.
	one.Admin("PUT", "/settings", `{"rule_rate_limit":1}`)
	eventually(t, "the limit", func() bool { return strings.Contains(two.Admin("GET", "/settings", "").Body, `"rule_rate_limit":1,`) })
	token := one.Token("shop")
	passed, began := 0, time.Now()
	for n := range 40 {
		s := []*servertest.Server{one, two}[n%2]
		if s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t) != 44990 {
			passed++
		}
	}
	most := int(time.Since(began)/time.Second) + 1
	assert.True(t, passed <= most, "%d of 40 calls passed, want at most %d", passed, most)
	one.Admin("PUT", "/emulator/clock", `{"now":"2027-01-01T00:00:00Z","freeze":true}`)
	eventually(t, "the clock", func() bool {
		return strings.Contains(two.Admin("GET", "/emulator/clock", "").Body, "2027-01-01T00:00:00Z")
	})
	// So does that of calls a minute, by the clock that stands still.
	one.Admin("PUT", "/settings", `{"service_rate_limit_per_minute":5,"rule_rate_limit":null}`)
	eventually(t, "the limit a minute", func() bool {
		return strings.Contains(two.Admin("GET", "/settings", "").Body, `"service_rate_limit_per_minute":5,`)
	})
	token, passed = one.Token("svc"), 0
	for n := range 20 {
		s := []*servertest.Server{one, two}[n%2]
		if s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").Code(t) == 0 {
			passed++
		}
	}
	assert.Equal(t, passed, 5, "calls of the minute passed")
	var verified struct {
		Fault any `json:"first_error"`
	}
	two.Admin("POST", "/audit/verify", "").JSON(t, &verified)
	assert.True(t, verified.Fault == nil, "%v", verified.Fault)
	one.Admin("POST", "/emulator/reset", "")
	eventually(t, "the reset", func() bool {
		return strings.Contains(two.Admin("GET", "/settings", "").Body, `"publish_quota":100`) &&
			!strings.Contains(two.Admin("GET", "/emulator/clock", "").Body, "2027") &&
			strings.Contains(two.Admin("GET", "/accounts/shop", "").Body, `"jump_open":true`)
	})
}

// Ten nodes start on an empty database at once: one plants the seed, all serve.
func TestNodes_ConcurrentStart(t *testing.T) {
	t.Parallel()
	p := place{database: dbtest.Patient(t)}
	key := strings.Repeat("5a", 32)
	var all sync.WaitGroup
	nodes := make([]*servertest.Server, 10)
	for i := range nodes {
		all.Go(func() {
			nodes[i] = place{data: filepath.Join(t.TempDir(), "data"), database: p.database}.start(t,
				servertest.Options{Seed: brand, Config: func(c *server.Config) { c.MasterKey = key }})
		})
	}
	all.Wait()
	list := changesAfter(t, nodes[0], 0)
	counts := map[string]int{}
	for _, c := range list {
		counts[c.Kind+" "+c.Key]++
	}
	for _, want := range []string{"account shop", "account svc", "component isv", "link svc shop", "meta settings"} {
		assert.True(t, counts[want] == 1, "%d changes of %s", counts[want], want)
	}
	for i, s := range nodes {
		eventually(t, fmt.Sprintf("node %d is ready", i), func() bool { return s.Do("GET", "/readyz", "").Status == 200 })
	}
}

// An empty database where the folder knows one with content is refused, and nothing is written to it; so is another's.
func TestNodes_RejectLostDatabase(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	p.start(t, servertest.Options{Seed: brand}).Stop()
	lost := place{data: p.data, database: dbtest.Patient(t)}
	for range 2 {
		_, err := lost.try(t, servertest.Options{})
		require.True(t, err != nil && strings.Contains(err.Error(), "the database is empty, but") && !strings.Contains(err.Error(), "\n"),
			"an empty one: %v", err)
	}
	other := onPostgres(t)
	other.start(t, servertest.Options{}).Stop()
	mixed := place{data: filepath.Join(t.TempDir(), "data"), database: p.database}
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
	_, err := mixed.try(t, servertest.Options{})
	require.True(t, err != nil && strings.Contains(err.Error(), "was used with another database"), "another's: %v", err)
	// The calls that were meant go on.
	require.NoError(t, os.Remove(filepath.Join(lost.data, "database")))
	lost.start(t, servertest.Options{})
}

// A batch and changes of its codes are visible on every node at once, without waiting for replication. After a node erased a user, no other
// node knows the user.
func TestNodes_CodesReadYourWrites(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	o := servertest.Options{Seed: brand}
	one := p.start(t, o)
	two := p.secondOf(t).start(t, o)
	key := one.NewKey("/scan-keys", `{"name":"app","namespace":"phones"}`)
	token := one.Token("svc")
	for _, s := range []*servertest.Server{one, two} {
		s.Hide(key)
		s.Hide(token)
	}
	active := func(s *servertest.Server, id int64) servertest.Answer {
		return codesCall(t, s, token, "codeactive", activation(id, 9, "p"))
	}
	var id int64
	for n := range 20 {
		here, there := one, two
		if n%2 == 1 {
			here, there = two, one
		}
		id = apply(t, here, token, fmt.Sprint("order-", n), 10_000)
		a := codesCall(t, there, token, "applycodequery", fmt.Sprintf(`{"application_id":%d}`, id))
		require.True(t, a.Code(t) == 0 && strings.Contains(a.Body, `"FINISH"`), "applycodequery on the other node: %s", a.Body)
		a = active(there, id)
		require.True(t, a.Code(t) == 0, "codeactive on the other node: %s", a.Body)
		require.Contains(t, codesCall(t, here, token, "codeactivequery",
			fmt.Sprintf(`{"application_id":%d,"code_index":9}`, id)).Body, `"wxa_path":"p"`, "codeactivequery")
		here.Admin("POST", fmt.Sprintf("/batches/%d/states", id), `{"action":"freeze","ranges":[{"from":9,"to":9}]}`)
		_, _, whole := look(t, there, id, 9)
		require.Contains(t, whole, `"frozen":true`, "a look-up")
	}
	_, text, _ := look(t, one, id, 3)
	ticket := ""
	eventually(t, "a scan", func() bool {
		a := one.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"bob"}`, text), "Authorization: Bearer "+key,
			"Content-Type: application/json")
		_, ticket, _ = strings.Cut(a.Body, "code_ticket=")
		ticket, _, _ = strings.Cut(ticket, `"`)
		return ticket != ""
	})
	openid := servertest.Decode[struct{ OpenID string }](t, one.Admin("GET", "/users/bob/openid?appid=svc&namespace=phones", ""))
	trade := func(s *servertest.Server) int {
		return codesCall(t, s, token, "tickettocode", fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid.OpenID, ticket)).Code(t)
	}
	for _, s := range []*servertest.Server{one, two} {
		require.Equal(t, trade(s), 0, "tickettocode")
	}
	one.Admin("DELETE", "/users/bob/scans?namespace=phones", "")
	assert.Equal(t, trade(one), 40097, "after the erasure")
	eventually(t, "the erasure on the other node", func() bool { return trade(two) == 40097 })
}

// Each node says how far it is behind the log of changes, and every node shows it of all: its own as it is now, of the others what
// they said last.
func TestNodes_ReplicationLag(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	o := servertest.Options{Seed: brand, Config: func(c *server.Config) { c.Dev = true }}
	one := p.start(t, o)
	two := p.secondOf(t).start(t, o)
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
	for _, s := range []*servertest.Server{one, two} {
		eventually(t, "a node shows what both said", func() bool {
			list := lags(s)
			return list.Nodes[0].Lag != nil && list.Nodes[1].Lag != nil
		})
		for _, n := range lags(s).Nodes {
			assert.True(t, n.Lag.Seconds != nil && !n.Lag.ReportedAt.IsZero() && n.Lag.ReportAgeSeconds != nil, "%s: %+v", n.Name, n.Lag)
		}
	}
	one.Admin("PUT", "/settings", `{"publish_quota":7}`)
	eventually(t, "two is level", func() bool {
		for _, n := range lags(two).Nodes {
			if n.Lag.Changes != 0 {
				return false
			}
		}
		return strings.Contains(two.Admin("GET", "/settings", "").Body, `"publish_quota":7`)
	})
	for language, localized := range map[string][]string{"en": {"last in sync", "Reported ", "qrjump doctor --node"},
		"zh": {"秒曾同步", "秒前报告。", "qrjump doctor --node"}} {
		page := two.Send(two.Request("GET", "/console/operate?lang="+language, "")).Body
		for i, text := range localized {
			want := 2 - i/2
			assert.True(t, strings.Count(page, text) == want, "%s: want %q %d times in %s", language, text, want, page)
		}
	}
}
