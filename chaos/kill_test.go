package chaos_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// TestServerKill_AcknowledgedWritesSurvive kills a server repeatedly while clients write, restarts it on the same data and compares the
// data with the acknowledged writes. The one interrupted call of each writer must have taken effect completely or not at all.
func TestServerKill_AcknowledgedWritesSurvive(t *testing.T) {
	seed := testdiag.Seed(t)
	runOnEachBackend(t, func(t *testing.T, database string) {
		rounds := choose(20, 4)
		if database != "" {
			rounds = choose(10, 3)
		}
		newKillTest(t, database, seed).run(moreRounds(t, "KILL_ROUNDS", rounds, 5))
	})
}

// moreRounds returns a function that reports whether there is another round: the number of rounds is in an environment variable, otherwise
// the rounds take a percentage of CHAOS_MINUTES, otherwise there are defaultRounds.
func moreRounds(t testing.TB, name string, defaultRounds, percent int) func(round int) bool {
	minutes := envNumber(t, "CHAOS_MINUTES", 0)
	if rounds := envNumber(t, name, 0); rounds > 0 || minutes == 0 {
		defaultRounds = cmp.Or(rounds, defaultRounds)
		return func(round int) bool { return round < defaultRounds }
	}
	end := time.Now().Add(time.Duration(minutes) * time.Minute * time.Duration(percent) / 100)
	return func(int) bool { return time.Now().Before(end) }
}

// choose returns full in a complete run and in make chaos, otherwise reduced.
func choose[T any](full, reduced T) T {
	if os.Getenv("CHAOS_MINUTES") != "" {
		return full
	}
	return testscope.Select(full, reduced)
}

// envNumber returns the number in an environment variable, or a default.
func envNumber(t testing.TB, name string, defaultValue int) int {
	text := os.Getenv(name)
	if text == "" {
		return defaultValue
	}
	n, err := strconv.Atoi(text)
	require.True(t, err == nil && n >= 0, "%s = %q, want a number", name, text)
	return n
}

const (
	adminToken = "the token of the chaos tests"
	// prefixCount is the number of prefixes of a writer: two writers of a Mini Program stay far below its limit of 100 rules.
	prefixCount = 12
	quota       = 100
	// monthEvery is the number of rounds after which the clock advances to the next month.
	monthEvery = 20
)

// writerAccounts has the account of each writer: two writers share each Mini Program.
var writerAccounts = []string{"mini0", "mini0", "mini1", "mini1", "mini2", "mini2", "service0", "service1"}

// killTestSeed has the accounts of the writers; the service accounts are linked with all Mini Programs.
var killTestSeed = fmt.Sprintf(`
accounts:
  - {appid: mini0, kind: mini_program, secret: %q, versions: [release]}
  - {appid: mini1, kind: mini_program, secret: %q, versions: [release]}
  - {appid: mini2, kind: mini_program, secret: %q, versions: [release]}
  - {appid: service0, kind: service_account, certified: true, secret: %q, linked: [mini0, mini1, mini2]}
  - {appid: service1, kind: service_account, certified: true, secret: %q, linked: [mini0, mini1, mini2]}
settings: {rule_rate_limit: null, verification: trust, service_publish_quota: %d, token_daily_limit: 1000000}
`, secretOf("mini0"), secretOf("mini1"), secretOf("mini2"), secretOf("service0"), secretOf("service1"), quota)

// killTest is a server, its writers, and everything that it acknowledged.
type killTest struct {
	t        *testing.T
	database string
	child    childConfig
	rnd      *rand.Rand
	writers  []*writer
	scanKey  string
	month    time.Time // the server's frozen clock
	server   *process
	// beforeRestart is called before the killed server is restarted, unless it is nil.
	beforeRestart func()
	// killAfter is the number of acknowledgements until the kill; 0 = 30 to 329.
	killAfter int

	remaining    atomic.Int64 // acknowledgements until the kill
	acknowledged atomic.Int64
	mu           sync.Mutex
	// stable is the stable token of each account, this month.
	stable map[string]string

	interrupted, effective, exhausted int // calls without a response, those that took effect, exhausted quotas
}

func newKillTest(t *testing.T, database string, seed uint64) *killTest {
	c := &killTest{t: t, database: database, child: newChild(t, database, killTestSeed), rnd: rand.New(rand.NewPCG(seed, 0)),
		stable: map[string]string{}}
	for n, account := range writerAccounts {
		w := &writer{killTest: c, name: fmt.Sprintf("w%d", n), account: account, service: strings.HasPrefix(account, "service"),
			rnd: rand.New(rand.NewPCG(seed, uint64(n+1))), published: map[time.Time]int{}}
		for p := range prefixCount {
			prefix := fmt.Sprintf("https://%s.example/p%d/", w.name, p)
			if w.service {
				prefix = fmt.Sprintf("http://weixin.qq.com/q/%sp%d", w.name, p)
			}
			w.rules = append(w.rules, &ruleModel{prefix: prefix})
		}
		c.writers = append(c.writers, w)
	}
	return c
}

func (c *killTest) run(more func(round int) bool) {
	c.server = start(c.t, c.child)
	admin := c.admin()
	c.scanKey = admin.scanKey("chaos")
	rounds := 0
	for round := 0; more(round); round++ {
		rounds++
		if round%monthEvery == 0 {
			// The next month resets quotas and expires all tokens. The clock is frozen: replaced tokens do not expire on a slow machine.
			c.month = c.admin().freezeNextMonth(12)
			c.stable = map[string]string{}
			for _, w := range c.writers {
				w.token, w.tokens, w.quotaError = "", nil, false
			}
		}
		c.round(cmp.Or(c.killAfter, 30+c.rnd.IntN(300)))
		if c.t.Failed() {
			c.t.Fatalf("round %d failed; the server's log ends with:\n%s", round, c.server.logTail())
		}
	}
	for _, w := range c.writers {
		for _, r := range w.rules {
			r.touched = true
		}
	}
	c.check()
	c.server.stop()
	c.t.Logf(
		"%d rounds: all of %d acknowledged writes survived; %d calls were interrupted, %d took effect; %d exhausted quotas were exact",
		rounds, c.acknowledged.Load(), c.interrupted, c.effective, c.exhausted)
}

func (c *killTest) admin() mustConnection { return mustConnect(c.t, c.server.URL, adminToken) }

// round runs all writers until the given number of writes is acknowledged, kills the server, restarts it and compares the data.
func (c *killTest) round(writes int) {
	c.remaining.Store(int64(writes))
	if c.child.PowerCut != nil {
		c.server.signal(syscall.SIGUSR1) // arms the power failure
	}
	var clients sync.WaitGroup
	for _, w := range c.writers {
		w.pending = nil
		w.connection = connect(c.t, c.server.URL, "")
		clients.Go(w.write)
	}
	clients.Wait()
	if c.remaining.Load() > 0 {
		c.server.kill() // all writers have failed
	}
	c.server.wait()
	if c.beforeRestart != nil {
		c.beforeRestart()
	}
	c.server = c.server.restart(c.child)
	c.check()
}

// acknowledge counts an acknowledgement; the last one kills the server while the other writers make calls.
func (c *killTest) acknowledge() {
	c.acknowledged.Add(1)
	if c.remaining.Add(-1) == 0 {
		c.server.kill()
	}
}

// writer makes calls sequentially for an account. No other writer uses its rules.
type writer struct {
	*killTest
	name       string
	account    string
	service    bool
	rnd        *rand.Rand
	connection *connection
	token      string
	tokens     []string // the latest acknowledged tokens, which must be valid
	rules      []*ruleModel
	published  map[time.Time]int // publishes by month
	quotaError bool              // a publish of this month failed because of the quota
	pending    *change           // the call without a response
}

// ruleModel is the expected state of a prefix.
type ruleModel struct {
	prefix  string
	current *ruleView // nil = there is no rule
	target  string
	actions []string // its complete history, oldest first
	touched bool     // by a call since the last check
}

// change is a call and its effect on a rule.
type change struct {
	rule   *ruleModel
	action string
	after  *ruleView
	target string
}

func (w *writer) apply(c change) {
	c.rule.current, c.rule.target = c.after, c.target
	c.rule.actions = append(c.rule.actions, c.action)
	if c.action == "publish" {
		w.published[w.month]++
	}
}

// write makes calls until one has no response.
func (w *writer) write() {
	for step := 0; !w.t.Failed(); step++ {
		var err error
		switch {
		case w.token == "" || w.rnd.IntN(20) == 0:
			err = w.fetchToken()
		case w.rnd.IntN(20) == 0:
			err = w.fetchStableToken()
		default:
			err = w.changeRule()
		}
		if err != nil {
			return // killed
		}
	}
}

func (w *writer) fetchToken() error {
	token, err := w.connection.token(w.account)
	if err != nil {
		return err
	}
	w.token = token
	w.tokens = append(w.tokens, token)
	w.tokens = w.tokens[max(0, len(w.tokens)-4):]
	w.acknowledge()
	return nil
}

func (w *writer) fetchStableToken() error {
	text, err := w.connection.stableToken(w.account)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := w.stable[w.account]; known != "" && known != text {
		w.t.Errorf("the stable token of %s changed", w.account)
	}
	w.stable[w.account] = text
	w.acknowledge()
	return nil
}

// changeRule makes a call on a random rule, usually a successful one.
func (w *writer) changeRule() error {
	r := w.rules[w.rnd.IntN(len(w.rules))]
	r.touched = true
	switch dice := w.rnd.IntN(100); {
	case r.current == nil && dice < 90:
		after, body := w.draft(r, nil)
		return w.call("qrcodejumpadd", body, 0, &change{r, "add", after, body["appid"].(string)})
	case r.current == nil:
		return w.call("qrcodejumppublish", prefixOnly(r.prefix), 40097, nil)
	case dice < 60 && r.current.State == 1:
		after := *r.current
		after.State = 2
		return w.call("qrcodejumppublish", prefixOnly(r.prefix), 0, &change{r, "publish", &after, r.target})
	case dice < 10:
		// A repeated publish is free.
		return w.call("qrcodejumppublish", prefixOnly(r.prefix), 0, nil)
	case dice < 40 && r.current.State == 2 && w.service:
		_, body := w.draft(r, r.current)
		return w.call("qrcodejumpadd", body, 40097, nil)
	case dice < 40 || dice < 65 && r.current.State == 1:
		after, body := w.draft(r, r.current)
		return w.call("qrcodejumpadd", body, 0, &change{r, "edit", after, body["appid"].(string)})
	default:
		return w.call("qrcodejumpdelete", map[string]any{"prefix": r.prefix, "appid": r.target}, 0, &change{r, "delete", nil, ""})
	}
}

// draft returns a random rule, new or changed, and the body of the call for it.
func (w *writer) draft(r *ruleModel, now *ruleView) (*ruleView, map[string]any) {
	after := &ruleView{Prefix: r.prefix, Path: fmt.Sprintf("pages/%x", w.rnd.Uint64()), State: 1}
	body := map[string]any{"prefix": r.prefix, "is_edit": 0, "appid": ""}
	if now != nil {
		body["is_edit"] = 1
		if after.State = now.State; now.State == 2 {
			after.Path = now.Path
		}
	}
	body["path"] = after.Path
	if w.service {
		body["appid"] = fmt.Sprintf("mini%d", w.rnd.IntN(3))
		return after, body
	}
	after.PermitSubRule, after.OpenVersion, after.DebugURL = 1+w.rnd.IntN(2), 1+w.rnd.IntN(3), []string{}
	for n := range w.rnd.IntN(6) {
		after.DebugURL = append(after.DebugURL, fmt.Sprintf("%s%d-%x", r.prefix, n, w.rnd.Uint32()))
	}
	body["permit_sub_rule"], body["open_version"], body["debug_url"] = after.PermitSubRule, after.OpenVersion, after.DebugURL
	return after, body
}

// call makes a call of the rule API, which must return errcode want. c is its effect; nil = none.
func (w *writer) call(call string, body any, want int, c *change) error {
	got, err := w.connection.wire(call, w.token, body)
	switch {
	case err != nil:
		w.pending = c
		return err
	case got.ErrCode == 886000 && c != nil && c.action == "publish":
		w.quotaError = true
		return nil
	case got.ErrCode != want:
		w.t.Errorf("%s: %s(%v) = %d %s, want %d", w.account, call, body, got.ErrCode, got.ErrMsg, want)
		return nil
	case c != nil:
		w.apply(*c)
		w.acknowledge()
	}
	return nil
}

// check compares the server with everything that was acknowledged, and finds which of the interrupted calls took effect.
func (c *killTest) check() {
	admin := c.admin()
	if now := admin.now(); !c.month.IsZero() && !now.Equal(c.month) {
		c.t.Errorf("the frozen clock shows %v, want %v", now, c.month)
	}
	for _, w := range c.writers {
		for _, r := range w.rules {
			if r.touched {
				c.checkHistory(admin, w, r)
			}
		}
	}
	scans := mustConnect(c.t, c.server.URL, c.scanKey)
	for n, w := range c.writers {
		for _, r := range w.rules {
			if r.touched {
				c.checkScan(scans, r)
				r.touched = false
			}
		}
		if n == 0 || c.writers[n-1].account != w.account {
			c.checkAccount(w.account)
		}
		c.checkTokens(w)
	}
}

// historyEntry is a change of a rule in the audit log.
type historyEntry struct {
	Seq    int64     `json:"seq"`
	At     time.Time `json:"occurred_at"`
	Action string    `json:"action"`
	Rule   struct {
		Owner       string   `json:"owner"`
		Target      string   `json:"target"`
		Path        string   `json:"path"`
		Occupy      bool     `json:"occupy"`
		OpenVersion int      `json:"open_version"`
		TestLinks   []string `json:"test_links"`
		Published   bool     `json:"published"`
	} `json:"rule"`
}

// checkHistory checks that the audit log has exactly the acknowledged changes and possibly the interrupted one, which is then applied to
// the model.
func (c *killTest) checkHistory(admin mustConnection, w *writer, r *ruleModel) {
	var history struct{ Changes []historyEntry }
	admin.get("/admin/v1/rules/history?limit=1000&prefix="+url.QueryEscape(r.prefix), &history)
	slices.Reverse(history.Changes) // oldest first
	var actions []string
	for i, entry := range history.Changes {
		actions = append(actions, entry.Action)
		if i > 0 && entry.Seq <= history.Changes[i-1].Seq {
			c.t.Errorf("%s: change %d follows change %d, want ascending numbers", r.prefix, entry.Seq, history.Changes[i-1].Seq)
		}
	}
	if w.pending != nil && w.pending.rule == r {
		c.interrupted++
		if len(actions) == len(r.actions)+1 {
			c.effective++
			w.apply(*w.pending)
		}
		w.pending = nil
	}
	require.True(c.t, len(actions) <= 1000-prefixCount, "%s: the history exceeds one page", r.prefix)
	if !slices.Equal(actions, r.actions) {
		c.t.Errorf("%s: the actions of the history are %q, want %q", r.prefix, actions, r.actions)
		return
	}
	if len(actions) == 0 || r.current == nil {
		return
	}
	last, want := history.Changes[len(actions)-1].Rule, *r.current
	got := ruleView{Prefix: r.prefix, Path: last.Path, State: 1}
	if last.Published {
		got.State = 2
	}
	if !w.service {
		got.PermitSubRule, got.OpenVersion, got.DebugURL = 1, last.OpenVersion, last.TestLinks
		if last.Occupy {
			got.PermitSubRule = 2
		}
	}
	target := cmp.Or(r.target, w.account)
	if !reflect.DeepEqual(got, want) || last.Owner != w.account || last.Target != target {
		c.t.Errorf("%s: the rule after the last change is %+v of %s for %s, want %+v of %s for %s", r.prefix, got, last.Owner,
			last.Target, want,
			w.account, target)
	}
}

// checkAccount compares the rules and the quota of an account with the acknowledged changes.
func (c *killTest) checkAccount(account string) {
	var want []ruleView
	var token string
	published, quotaError := 0, false
	for _, w := range c.writers {
		if w.account != account {
			continue
		}
		for _, r := range w.rules {
			if r.current != nil {
				want = append(want, *r.current)
			}
		}
		published += w.published[c.month]
		quotaError = quotaError || w.quotaError
		token = w.token
	}
	if token == "" {
		return // killed before the first token
	}
	wire := mustConnect(c.t, c.server.URL, "")
	got := wire.ok("qrcodejumpget", token, map[string]any{})
	byPrefix := func(a, b ruleView) int { return strings.Compare(a.Prefix, b.Prefix) }
	slices.SortFunc(want, byPrefix)
	slices.SortFunc(got.RuleList, byPrefix)
	if !slices.EqualFunc(got.RuleList, want, func(a, b ruleView) bool { return reflect.DeepEqual(a, b) }) {
		c.t.Errorf("%s has the rules\n%+v, want\n%+v", account, got.RuleList, want)
	}
	if got.TotalCount != len(want) || got.QRCodeJumpPubQuota != quota-published {
		c.t.Errorf("%s: total_count %d, want %d; %d publishes left, want %d", account, got.TotalCount, len(want),
			got.QRCodeJumpPubQuota, quota-published)
	}
	if quotaError {
		c.exhausted++
		assert.Equal(c.t, published, quota, "publishes of %s before a publish failed because of the quota", account)
	}
}

// checkScan checks that a scan opens the rule if it is published.
func (c *killTest) checkScan(scans mustConnection, r *ruleModel) {
	got := scans.scan(r.prefix)
	if r.current == nil || r.current.State == 1 {
		assert.True(c.t, !got.opens(), "a scan of %s %v, want no rule", r.prefix, got)
		return
	}
	assert.True(c.t, got.opens() && strings.HasPrefix(got.Path, r.current.Path+"?q=") && (r.target == "" || got.AppID == r.target),
		"a scan of %s %v, want %s", r.prefix, got, r.current.Path)
}

// checkTokens checks that every acknowledged token is valid, and that the stable token has not changed.
func (c *killTest) checkTokens(w *writer) {
	wire := mustConnect(c.t, c.server.URL, "")
	for _, token := range w.tokens {
		wire.ok("qrcodejumpget", token, map[string]any{"get_type": 2, "page_num": 1, "page_size": 1})
	}
	if known := c.stable[w.account]; known != "" {
		text := wire.stableToken(w.account)
		assert.True(c.t, text == known, "the stable token of %s changed after the kill", w.account)
	}
}

// TestFirstStart_KillAtEachRandomDraw kills a new server at every read of random bytes before it is ready (in make test: at every fourth),
// while it creates its keys and stores its seed. The next start must continue from there.
func TestFirstStart_KillAtEachRandomDraw(t *testing.T) {
	dbtest.ForEachDatabase(t, newEmptyDatabase, func(t *testing.T, database string) {
		c := newKillTest(t, database, 1)
		kills := 0
		for reads := 1; ; reads += choose(1, 4) {
			c.child.ReadsUntilKill = reads
			p, ready := tryStart(t, c.child)
			if ready {
				c.server = p
				break
			}
			if !strings.Contains(p.ProcessState.String(), "killed") {
				t.Fatalf("after %d kills: %v\n%s", kills, p.ProcessState, p.logTail())
			}
			kills++
			terminateSessions(t, database)
		}
		c.server.kill()
		c.child.ReadsUntilKill = 0
		c.server = c.server.restart(c.child)
		for _, w := range c.writers {
			w.token = c.admin().token(w.account)
		}
		c.check()
		c.server.stop()
		t.Logf("%d kills before the first ready", kills)
	})
}

// TestMasterKey_KillDuringWrite kills a process after it has created the file of its master key and before it has written it. The next
// start must succeed.
func TestMasterKey_KillDuringWrite(t *testing.T) {
	c := newKillTest(t, newDatabase(t), 1) // SQLite would write before
	c.child.NoFiles = true
	if _, ready := tryStart(t, c.child); ready {
		t.Fatal("the server became ready although it could not write its master key")
	}
	terminateSessions(t, c.database)
	c.child.NoFiles = false
	c.server = start(t, c.child)
	c.server.stop()
}
