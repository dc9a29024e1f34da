package chaos_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// TestServerKill_AcknowledgedWritesSurvive kills a server again and again while many write to it, starts it
// on the same data and compares it with what it had acknowledged. Of the one
// call of each writer that was under way, all or nothing must be there.
func TestServerKill_AcknowledgedWritesSurvive(t *testing.T) {
	seed := testdiag.Seed(t)
	eachBackend(t, func(t *testing.T, database string) {
		rounds := amount(20, 4)
		if database != "" {
			rounds = amount(10, 3)
		}
		newChaos(t, database, seed).run(another(t, "KILL_ROUNDS", rounds, 5))
	})
}

// another says whether there is one more round: as many as an environment
// variable says, else for a share of CHAOS_MINUTES, in percent, else as many as
// in a short run.
func another(t testing.TB, name string, short, percent int) func(round int) bool {
	minutes := number(t, "CHAOS_MINUTES", 0)
	if rounds := number(t, name, 0); rounds > 0 || minutes == 0 {
		short = cmp.Or(rounds, short)
		return func(round int) bool { return round < short }
	}
	end := time.Now().Add(time.Duration(minutes) * time.Minute * time.Duration(percent) / 100)
	return func(int) bool { return time.Now().Before(end) }
}

// amount is complete in a whole run and in make chaos, and part in make test.
func amount[T any](complete, part T) T {
	if os.Getenv("CHAOS_MINUTES") != "" {
		return complete
	}
	return testscope.Choose(complete, part)
}

// number is an environment variable that holds a number.
func number(t testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.True(t, err == nil && n >= 0, "%s is %q: want a number", name, text)
	return n
}

const (
	adminToken  = "the token of the chaos tests"
	writerCount = 8
	// prefixCount is how many prefixes a writer uses: two writers of one Mini
	// Program stay far below its 100 rules.
	prefixCount = 12
	quota       = 100
	// monthEvery rounds the clock goes on to the next month.
	monthEvery = 20
)

// chaosSeed: writers 0 to 5 work in pairs for Mini Programs, 6 and 7 for
// service accounts that are linked with all of them.
var chaosSeed = fmt.Sprintf(`
accounts:
  - {appid: mini0, kind: mini_program, secret: %q, versions: [release]}
  - {appid: mini1, kind: mini_program, secret: %q, versions: [release]}
  - {appid: mini2, kind: mini_program, secret: %q, versions: [release]}
  - {appid: service0, kind: service_account, certified: true, secret: %q, linked: [mini0, mini1, mini2]}
  - {appid: service1, kind: service_account, certified: true, secret: %q, linked: [mini0, mini1, mini2]}
settings: {rule_rate_limit: null, verification: trust, service_publish_quota: %d, token_daily_limit: 1000000}
`, secretOf("mini0"), secretOf("mini1"), secretOf("mini2"), secretOf("service0"), secretOf("service1"), quota)

// chaos is a server, its writers, and all that it acknowledged.
type chaos struct {
	t        *testing.T
	database string
	child    childConfig
	rnd      *rand.Rand
	writers  []*writer
	scanKey  string
	month    time.Time // the middle of the month that the server's clock shows
	server   *process
	// again starts the server after it was killed; nil = start.
	again func() *process
	// writes is after how many acknowledgements the server is killed; nil = 30 to 329.
	writes func() int

	left  atomic.Int64 // acknowledgements until the kill
	acked atomic.Int64
	mu    sync.Mutex
	// stable is the stable token of each account, this month.
	stable map[string]string

	underway, landed, spent int // calls without an answer, those that took effect, quotas that were used up
}

// account is what two writers may share.
func (c *chaos) account(n int) string {
	if n < 6 {
		return fmt.Sprintf("mini%d", n/2)
	}
	return fmt.Sprintf("service%d", n-6)
}

func newChaos(t *testing.T, database string, seed uint64) *chaos {
	dir, err := os.MkdirTemp("", "qrjump-kill-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data and log are kept in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	c := &chaos{t: t, database: database, rnd: rand.New(rand.NewPCG(seed, 0)), stable: map[string]string{}}
	c.child.Data, c.child.Database, c.child.Listen, c.child.LogFormat = filepath.Join(dir, "data"), database, anyPort, "text"
	c.child.Emulator, c.child.AdminToken, c.child.Seed = true, adminToken, filepath.Join(dir, "seed.yaml")
	require.NoError(t, os.WriteFile(c.child.Seed, []byte(chaosSeed), 0o600))
	for n := range writerCount {
		w := &writer{chaos: c, name: fmt.Sprintf("w%d", n), account: c.account(n), service: n >= 6,
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

func (c *chaos) run(another func(round int) bool) {
	c.server = start(c.t, c.child)
	admin := c.admin()
	c.scanKey = admin.scanKey("chaos")
	rounds := 0
	for round := 0; another(round); round++ {
		rounds++
		if round%monthEvery == 0 {
			c.nextMonth()
		}
		writes := 30 + c.rnd.IntN(300)
		if c.writes != nil {
			writes = c.writes()
		}
		c.round(writes)
		if c.t.Failed() {
			c.t.Fatalf("round %d; the server's log ends:\n%s", round, c.server.lastLog())
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
		"%d rounds: %d writes acknowledged, all there; %d were under way at a kill, %d of them took effect; %d times a spent quota was exact",
		rounds, c.acked.Load(), c.underway, c.landed, c.spent)
}

func (c *chaos) admin() must { return must{connect(c.t, c.server.URL, adminToken), c.t} }

// nextMonth moves the server's clock to the middle of the next month, which
// gives the quotas back and ends all tokens.
func (c *chaos) nextMonth() {
	admin := c.admin()
	now := admin.now()
	c.month = time.Date(now.Year(), now.Month()+1, 15, 12, 0, 0, 0, time.UTC)
	// Standing still: tokens that others replaced must not end on a slow machine.
	admin.setClock(c.month, true)
	c.stable = map[string]string{}
	for _, w := range c.writers {
		w.token, w.tokens, w.refused = "", nil, false
	}
}

// round lets everybody write until so many writes are acknowledged, kills the
// server, starts it again and compares.
func (c *chaos) round(writes int) {
	c.left.Store(int64(writes))
	if c.child.PowerCut != nil {
		c.server.arm()
	}
	var all sync.WaitGroup
	for _, w := range c.writers {
		w.pending = nil
		w.connection = connect(c.t, c.server.URL, "")
		all.Go(w.write)
	}
	all.Wait()
	if c.left.Load() > 0 {
		c.server.kill() // all writers found something wrong
	}
	c.server.gone()
	endSessions(c.t, c.database)
	if c.again != nil {
		c.server = c.again()
	} else {
		c.server = start(c.t, c.child)
	}
	c.check()
}

// acknowledged counts an acknowledgement; the last one kills the server while
// the other writers are somewhere in a call.
func (c *chaos) acknowledged() {
	c.acked.Add(1)
	if c.left.Add(-1) == 0 {
		c.server.kill()
	}
}

// writer makes calls one after the other for an account. Nobody else touches
// its rules.
type writer struct {
	*chaos
	name       string
	account    string
	service    bool
	rnd        *rand.Rand
	connection *connection
	token      string
	tokens     []string // acknowledged lately: all must work
	rules      []*ruleModel
	published  map[time.Time]int // publishes by month
	refused    bool              // a publish was refused this month: the quota is spent
	pending    *change           // the call that was not answered
}

// ruleModel is all that is known of a prefix.
type ruleModel struct {
	prefix  string
	living  *ruleView // nil = there is no rule
	target  string
	did     []string // its whole history, oldest first
	touched bool     // by a call since the last comparison
}

// change is a call and what it makes of a rule.
type change struct {
	rule   *ruleModel
	did    string
	after  *ruleView
	target string
}

func (w *writer) apply(c change) {
	c.rule.living, c.rule.target = c.after, c.target
	c.rule.did = append(c.rule.did, c.did)
	if c.did == "publish" {
		w.published[w.month]++
	}
}

// write makes calls until one is not answered.
func (w *writer) write() {
	for step := 0; !w.t.Failed(); step++ {
		var err error
		switch {
		case w.token == "" || w.rnd.IntN(20) == 0:
			err = w.fetchToken()
		case w.rnd.IntN(20) == 0:
			err = w.fetchStable()
		default:
			err = w.changeRule()
		}
		if err != nil {
			return // killed
		}
	}
}

func (w *writer) fetchToken() error {
	text, err := w.connection.token(w.account)
	if err != nil {
		return err
	}
	w.token = text
	w.tokens = append(w.tokens, text)
	w.tokens = w.tokens[max(0, len(w.tokens)-4):]
	w.acknowledged()
	return nil
}

func (w *writer) fetchStable() error {
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
	w.acknowledged()
	return nil
}

// changeRule makes one call on one rule: mostly one that succeeds.
func (w *writer) changeRule() error {
	r := w.rules[w.rnd.IntN(len(w.rules))]
	r.touched = true
	switch dice := w.rnd.IntN(100); {
	case r.living == nil && dice < 90:
		after, body := w.draft(r, nil)
		return w.call("qrcodejumpadd", body, 0, &change{r, "add", after, body["appid"].(string)})
	case r.living == nil:
		return w.call("qrcodejumppublish", prefixOnly(r.prefix), 40097, nil)
	case dice < 60 && r.living.State == 1:
		after := *r.living
		after.State = 2
		return w.call("qrcodejumppublish", prefixOnly(r.prefix), 0, &change{r, "publish", &after, r.target})
	case dice < 10:
		// Publishing again is free.
		return w.call("qrcodejumppublish", prefixOnly(r.prefix), 0, nil)
	case dice < 40 && r.living.State == 2 && w.service:
		_, body := w.draft(r, r.living)
		return w.call("qrcodejumpadd", body, 40097, nil)
	case dice < 40 || dice < 65 && r.living.State == 1:
		after, body := w.draft(r, r.living)
		return w.call("qrcodejumpadd", body, 0, &change{r, "edit", after, body["appid"].(string)})
	default:
		return w.call("qrcodejumpdelete", map[string]any{"prefix": r.prefix, "appid": r.target}, 0, &change{r, "delete", nil, ""})
	}
}

// draft draws what a rule shall be, new or changed, and the body that says so.
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

// call makes a call of the wire. c is what it changes; nil = nothing.
func (w *writer) call(call string, body any, want int, c *change) error {
	got, err := w.connection.wire(call, w.token, body)
	switch {
	case err != nil:
		w.pending = c
		return err
	case got.ErrCode == 886000 && c != nil && c.did == "publish":
		w.refused = true
		return nil
	case got.ErrCode != want:
		w.t.Errorf("%s: %s %v: %d %s, want %d", w.account, call, body, got.ErrCode, got.ErrMsg, want)
		return nil
	case c != nil:
		w.apply(*c)
		w.acknowledged()
	}
	return nil
}

// check compares the server with all that was acknowledged, and learns which
// of the calls under way took effect.
func (c *chaos) check() {
	admin := c.admin()
	if now := admin.now(); !c.month.IsZero() && !now.Equal(c.month) {
		c.t.Errorf("the clock shows %v, it was set to %v and stopped", now, c.month)
	}
	for _, w := range c.writers {
		for _, r := range w.rules {
			if r.touched {
				c.checkHistory(admin, w, r)
			}
		}
	}
	scans := must{connect(c.t, c.server.URL, c.scanKey), c.t}
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

// historyEntry is one change of a rule as the operator sees it.
type historyEntry struct {
	Seq  int64     `json:"seq"`
	At   time.Time `json:"occurred_at"`
	Did  string    `json:"action"`
	Rule struct {
		Owner       string   `json:"owner"`
		Target      string   `json:"target"`
		Path        string   `json:"path"`
		Occupy      bool     `json:"occupy"`
		OpenVersion int      `json:"open_version"`
		TestLinks   []string `json:"test_links"`
		Published   bool     `json:"published"`
	} `json:"rule"`
}

// checkHistory wants exactly the acknowledged changes, and at most the one
// that was under way; then the model takes that in.
func (c *chaos) checkHistory(admin must, w *writer, r *ruleModel) {
	var history struct{ Changes []historyEntry }
	admin.check(admin.do(http.MethodGet, "/admin/v1/rules/history?limit=1000&prefix="+url.QueryEscape(r.prefix), nil, &history))
	slices.Reverse(history.Changes) // oldest first
	var did []string
	for i, entry := range history.Changes {
		did = append(did, entry.Did)
		if i > 0 && entry.Seq <= history.Changes[i-1].Seq {
			c.t.Errorf("%s: change %d comes after %d", r.prefix, entry.Seq, history.Changes[i-1].Seq)
		}
	}
	if w.pending != nil && w.pending.rule == r {
		c.underway++
		if len(did) == len(r.did)+1 {
			c.landed++
			w.apply(*w.pending)
		}
		w.pending = nil
	}
	require.True(c.t, len(did) <= 1000-prefixCount, "%s: the history is too long for one page", r.prefix)
	if !slices.Equal(did, r.did) {
		c.t.Errorf("%s: the history is %q, want %q", r.prefix, did, r.did)
		return
	}
	if len(did) == 0 || r.living == nil {
		return
	}
	last, want := history.Changes[len(did)-1].Rule, *r.living
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
	target := r.target
	if !w.service {
		target = w.account
	}
	if !reflect.DeepEqual(got, want) || last.Owner != w.account || last.Target != target {
		c.t.Errorf("%s: the last change left %+v of %s for %s, want %+v of %s for %s", r.prefix, got, last.Owner, last.Target, want,
			w.account, target)
	}
}

// checkAccount wants the rules and the quota of an account to be what they
// were acknowledged to be.
func (c *chaos) checkAccount(account string) {
	var want []ruleView
	var token string
	published, refused := 0, false
	for _, w := range c.writers {
		if w.account != account {
			continue
		}
		for _, r := range w.rules {
			if r.living != nil {
				want = append(want, *r.living)
			}
		}
		published += w.published[c.month]
		refused = refused || w.refused
		token = w.token
	}
	if token == "" {
		return // killed before the first token
	}
	wire := must{connect(c.t, c.server.URL, ""), c.t}
	got := wire.ok("qrcodejumpget", token, map[string]any{})
	byPrefix := func(a, b ruleView) int { return strings.Compare(a.Prefix, b.Prefix) }
	slices.SortFunc(want, byPrefix)
	slices.SortFunc(got.RuleList, byPrefix)
	if !slices.EqualFunc(got.RuleList, want, func(a, b ruleView) bool { return reflect.DeepEqual(a, b) }) {
		c.t.Errorf("%s has the rules\n%+v, want\n%+v", account, got.RuleList, want)
	}
	if got.TotalCount != len(want) || got.QRCodeJumpPubQuota != quota-published {
		c.t.Errorf("%s: total_count %d, want %d; %d publishes left, want %d - %d", account, got.TotalCount, len(want),
			got.QRCodeJumpPubQuota, quota, published)
	}
	if refused {
		c.spent++
		assert.True(c.t, published == quota, "%s was refused a publish after %d", account, published)
	}
}

// checkScan wants a scan to open what the rule says.
func (c *chaos) checkScan(scans must, r *ruleModel) {
	got := scans.scan(r.prefix)
	if r.living == nil || r.living.State == 1 {
		assert.True(c.t, !got.opens(), "a scan of %s %v", r.prefix, got)
		return
	}
	assert.True(c.t, got.opens() && strings.HasPrefix(got.Path, r.living.Path+"?q=") && (r.target == "" || got.AppID == r.target),
		"a scan of %s %v, want %s", r.prefix, got, r.living.Path)
}

// checkTokens wants every acknowledged token to work, and the stable token to
// be the one that it was.
func (c *chaos) checkTokens(w *writer) {
	wire := must{connect(c.t, c.server.URL, ""), c.t}
	for _, token := range w.tokens {
		wire.ok("qrcodejumpget", token, map[string]any{"get_type": 2, "page_num": 1, "page_size": 1})
	}
	if known := c.stable[w.account]; known != "" {
		text := wire.stableToken(w.account)
		assert.True(c.t, text == known, "the stable token of %s is another one after the kill", w.account)
	}
}

// TestFirstStart_KillAtEachRandomDraw kills a new server at every draw of random bytes on its
// way to being ready (make test: at some of them): while it makes its keys and
// stores its seed. The next start goes on from there.
func TestFirstStart_KillAtEachRandomDraw(t *testing.T) {
	dbtest.OnEach(t, emptyDatabase, func(t *testing.T, database string) {
		c := newChaos(t, database, 1)
		kills := 0
		for draws := 1; ; draws += amount(1, 4) {
			c.child.DrawsToLive = draws
			p, ready := try(t, c.child)
			if ready {
				c.server = p
				break
			}
			if !strings.Contains(p.ProcessState.String(), "killed") {
				t.Fatalf("after %d kills: %v\n%s", kills, p.ProcessState, p.lastLog())
			}
			kills++
			endSessions(t, database)
		}
		c.server.kill()
		c.server.gone()
		c.child.DrawsToLive = 0
		c.server = start(t, c.child)
		for _, w := range c.writers {
			wire := must{connect(t, c.server.URL, ""), t}
			w.token = wire.token(w.account)
		}
		c.check()
		c.server.stop()
		t.Logf("%d kills before the first ready", kills)
	})
}

// TestMasterKey_KillDuringWrite: a process that dies with the file of its master
// key made but not written leaves nothing behind that stops the next start.
func TestMasterKey_KillDuringWrite(t *testing.T) {
	c := newChaos(t, ownDatabase(t), 1) // the embedded database would be the first to write
	c.child.NoFiles = true
	if _, ready := try(t, c.child); ready {
		t.Fatal("the server became ready without a master key")
	}
	endSessions(t, c.database)
	c.child.NoFiles = false
	c.server = start(t, c.child)
	c.server.stop()
}
