package server_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// brewery is the seed of an account brand with codes, and the account shop that they open.
//
//go:embed testdata/seeds/brewery.yaml
var brewery string

// brandServer is a server with calls of the account brand.
type brandServer struct {
	*servertest.Server
	t testing.TB
}

func startBrand(t *testing.T, o servertest.Options) brandServer {
	t.Helper()
	if o.Seed == "" {
		o.Seed = brewery
	}
	return brandServer{servertest.Start(t, o), t}
}

// call calls an endpoint of the code API as brand, which must return errcode 0, and decodes the response into into, which may be nil.
func (w brandServer) call(name, body string, into any) {
	w.t.Helper()
	a := w.CodeCall("brand", name, body)
	require.True(w.t, a.Code(w.t) == 0, "%s %s: %s", name, body, a.Body)
	if into != nil {
		a.JSON(w.t, into)
	}
}

func (w brandServer) apply(isv string, count int64) (id int64) {
	w.t.Helper()
	return w.Apply("brand", isv, count)
}

func (w brandServer) activate(id, from, to int64, extra ...string) {
	w.t.Helper()
	fields := append(
		[]string{fmt.Sprintf(
			`"application_id":%d,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"b","product_title":"t","product_code":"6901234567892","wxa_appid":"shop","wxa_path":"pages/index/index"`, id, from, to)}, extra...)
	w.call("codeactive", "{"+strings.Join(fields, ",")+"}", nil)
}

type codeRecord struct {
	ApplicationID                  int64 `json:"application_id"`
	CodeIndex                      int64 `json:"code_index"`
	Code                           string
	CodeURL                        string `json:"code_url"`
	Active, Frozen, Void, Redeemed bool
	Activation                     *codeEvent
	History                        []codeEvent
}

type codeEvent struct {
	Seq                               int64
	Action, Actor, RID, Note, Warning string
	Ranges                            []struct{ From, To int64 }
	Codes                             int64
	OccurredAt                        time.Time `json:"occurred_at"`
	EffectiveAt                       time.Time `json:"effective_at"`
}

func (w brandServer) code(id, index int64) codeRecord {
	w.t.Helper()
	return servertest.Decode[codeRecord](w.t, w.LookupCode(id, index))
}

// changeStates changes the state of codes of a batch and returns the response, which may be an error.
func (w brandServer) changeStates(id int64, body string) servertest.Answer {
	w.t.Helper()
	return w.TryAdmin("POST", fmt.Sprintf("/batches/%d/states", id), body)
}

type decision struct {
	ScanID, Action, AppID, Version, Path, Reason, Message, URL string
	Scene                                                      int
	Matched                                                    *struct {
		Kind, Prefix  string
		ApplicationID int64  `json:"application_id"`
		CodeIndex     *int64 `json:"code_index"`
	}
	Error string
	Steps []json.RawMessage
}

// summary returns the decision in one line, with its ticket as T.
func (d decision) summary() string {
	if d.Action != "open_mini_program" {
		return strings.TrimSpace(d.Action + " " + d.Reason)
	}
	return fmt.Sprintf("%s %s %s %d %s", d.AppID, d.Version, ticketParam.ReplaceAllString(d.Path, "code_ticket=T"), d.Scene, d.Matched.Kind)
}

var ticketParam = regexp.MustCompile(`code_ticket=([0-9a-f]{32})$`)

func (d decision) ticket() string {
	if m := ticketParam.FindStringSubmatch(d.Path); m != nil {
		return m[1]
	}
	return ""
}

func (w brandServer) callScan(call, user, text string, header ...string) (d decision) {
	w.t.Helper()
	return w.callScanFrom(call, user, text, "", header...)
}

func (w brandServer) callScanFrom(call, user, text, source string, header ...string) (d decision) {
	w.t.Helper()
	body := require.Value(json.Marshal(map[string]string{"text": text, "user": user, "source": source}))(w.t)
	a := w.Do("POST", "/scan/v1/"+call, string(body), header...)
	require.True(w.t, a.Status == http.StatusOK, "%s: %d %s", text, a.Status, a.Body)
	a.JSON(w.t, &d)
	return d
}

// exchangeTicket calls tickettocode with an openid.
func (w brandServer) exchangeTicket(openid, ticket string) servertest.Answer {
	w.t.Helper()
	w.RegisterSecret(ticket)
	return w.Do("POST", "/intp/marketcode/tickettocode?access_token="+w.Token("brand"),
		fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid, ticket))
}

func (w brandServer) openid(namespace, appid, user string) string {
	w.t.Helper()
	return w.Admin("GET", "/users/"+user+"/openid?appid="+appid+"&namespace="+namespace, "").Text(w.t, "openid")
}

// Contract: marketcode 6; rules 2.10.
// Behaviour(scan.code.scene) Behaviour(scan.code.first).
func TestCodes_ScanVerdicts(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{})
	id := w.apply("x", 10_000)
	for i, binding := range []string{`"wxa_type":0`, `"wxa_path":"/pages/index/index"`, `"wxa_path":"pages/index?from=code"`,
		`"wxa_type":1`, `"wxa_type":2`, `"wxa_appid":"bare"`} {
		w.activate(id, int64(i*10), int64(i*10+9), binding)
	}
	text := func(index int64) string { return w.code(id, index).CodeURL }
	const opens = "shop release pages/index/index?code_ticket=T 1124 code"
	for _, c := range []struct{ name, user, source, text, want string }{
		{"as printed", "u", "", text(0), opens}, {"scan", "u", "scan", text(0), opens},
		{"press", "u", "press", text(0), strings.Replace(opens, "1124", "1125", 1)},
		{"album", "u", "album", text(0), strings.Replace(opens, "1124", "1126", 1)},
		{"http", "u", "", "http://" + text(0), opens}, {"https in lower case", "u", "", "https://" + strings.ToLower(text(0)), opens},
		{"an escape", "u", "", text(0)[:15] + fmt.Sprintf("%%%X", text(0)[15]) + text(0)[16:], opens},
		{"nobody: no ticket", "", "", text(0), "shop release pages/index/index 1124 code"},
		{"a leading slash is dropped", "u", "", text(10), opens},
		{"a query goes on", "u", "", text(20), "shop release pages/index?from=code&code_ticket=T 1124 code"},
		{"a query, nobody", "", "", text(20), "shop release pages/index?from=code 1124 code"},
		{"development for a developer", "dev", "", text(30), "shop development pages/index/index?code_ticket=T 1124 code"},
		{"development for a tester", "tri", "", text(30), "show_message no_release"},
		{"development for anybody", "u", "", text(30), "show_message no_release"},
		{"development for nobody", "", "", text(30), "show_message no_release"},
		{"trial for a tester", "tri", "", text(40), "shop trial pages/index/index?code_ticket=T 1124 code"},
		{"trial for an administrator", "adm", "", text(40), "shop trial pages/index/index?code_ticket=T 1124 code"},
		{"trial for a developer", "dev", "", text(40), "shop trial pages/index/index?code_ticket=T 1124 code"},
		{"trial for anybody", "u", "", text(40), "show_message no_release"},
		{"no release", "u", "", text(50), "show_message no_release"}, {"not active", "u", "", text(60), "show_message not_active"},
		{"forged", "u", "", text(0)[:20] + "AAAAAAAA", "show_message unknown_code"},
		{"of the platform", "u", "", "P.URL.CN/0P$M%LZ4LHSVSDCR2L2", "show_message unknown_code"},
		{"of the platform, as an app reads it", "u", "", "http://P.URL.CN/0FQR/LZ6/0HD0Q7Y3-*", "show_message unknown_code"},
		{"nine characters", "u", "", w.code(id, 0).Code, "show_message serial_only"},
		{"nine characters of a code that is not active", "u", "", w.code(id, 60).Code, "show_message serial_only"},
		{"nine other characters", "u", "", "044GZ*J10", "show_text"},
		// A complete code text wins over a rule, even when it is invalid; any other text under the prefix is the rule's.
		{"a code under a rule's prefix", "u", "", "https://p.url.cn/" + text(0)[9:], opens},
		{"a forged code under a rule's prefix", "u", "", "https://p.url.cn/0" + strings.Repeat("A", 18), "show_message unknown_code"},
	} {
		d := w.callScanFrom("resolve", c.user, c.text, c.source)
		assert.Equal(t, d.summary(), c.want, "%s", c.name)
		assert.True(t, !strings.HasPrefix(c.want, "show_message") ||
			d.Message != "" && regexp.MustCompile(`[a-z]+.*\p{Han}`).MatchString(d.Message) && d.Matched == nil && d.Path == "" &&
				d.AppID == "", "%s: %+v", c.name, d)
		assert.True(t, (d.ticket() != "") == (c.user != "" && d.Action == "open_mini_program"), "%s: a ticket in %q", c.name, d.Path)
		// explain returns the same decision without a ticket.
		e := w.callScanFrom("explain", c.user, c.text, c.source)
		want := strings.NewReplacer("?code_ticket=T", "", "&code_ticket=T", "").Replace(c.want)
		assert.True(t, e.summary() == want && e.ticket() == "" && e.ScanID == "", "%s: explained as %s, want %s", c.name, e.summary(), want)
	}
	for _, other := range []string{"https://p.url.cn/0" + text(0)[9:], "https://p.url.cn/x/../" + text(0)[9:], "https://p.url.cn/",
		"https://p.url.cn/" + text(0)[9:] + "?a=1"} {
		d := w.callScan("resolve", "u", other)
		assert.True(t, d.Matched != nil && d.Matched.Kind == "rule", "%s: %s, want the rule", other, d.summary())
	}
	// The match contains the batch and the index, but not the code.
	a := w.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u"}`, text(7)))
	assert.True(t, strings.Contains(a.Body, fmt.Sprintf(`"matched":{"kind":"code","application_id":%d,"code_index":7}`, id)) &&
		!strings.Contains(a.Body, w.code(id, 7).Code), "%s", a.Body)
	a = w.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u"}`, text(0)))
	assert.Contains(t, a.Body, `"code_index":0`, "the decision of code 0")
	// Each scan gets a new ticket.
	seen := map[string]bool{}
	for range 20 {
		ticket := w.callScan("resolve", "u", text(0)).ticket()
		w.RegisterSecret(ticket)
		assert.True(t, !seen[ticket], "ticket %s was issued twice", ticket)
		seen[ticket] = true
	}
}

// TestCodes_TicketPerUser verifies that the ticket of a scan is valid only for its user, when several users scan the same code.
func TestCodes_TicketPerUser(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	text := w.code(id, 3).CodeURL
	users := []string{"alice", "bob", "carol", "dave"}
	tickets := make([]string, len(users))
	var wg sync.WaitGroup
	for i, user := range users {
		wg.Go(func() { tickets[i] = w.callScan("resolve", user, text).ticket() })
	}
	wg.Wait()
	for i, ticket := range tickets {
		for j, user := range users {
			for _, appid := range []string{"brand", "shop", "bare"} {
				want := 40097
				if i == j && appid != "bare" {
					want = 0
				}
				w.exchangeTicket(w.openid("default", appid, user), ticket).WantCode(t, want, "%s's ticket by %s: %s", users[i], user, appid)
			}
		}
	}
}

// TestNamespaces_UserIDsDisjoint verifies that the same user id in two namespaces has different openids, tickets and memberships.
func TestNamespaces_UserIDsDisjoint(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{Guarded: true, Emulator: true, Config: func(c *server.Config) { c.CodePrefix = "B.EXAMPLE/" }})
	key := func(name, namespace string) string {
		var created struct{ Key string }
		w.Admin("POST", "/scan-keys", fmt.Sprintf(`{"name":%q,"namespace":%q}`, name, namespace)).JSON(t, &created)
		w.RegisterSecret(created.Key)
		return "Authorization: Bearer " + created.Key
	}
	first, second, third := key("first", ""), key("second", "alpha"), key("third", "beta")
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	w.activate(id, 10, 19, `"wxa_type":1`)
	w.activate(id, 20, 29, `"wxa_type":2`)
	text := w.code(id, 3).CodeURL
	// The same user id in three namespaces is three users with different openids.
	for namespace, auth := range map[string]string{"default": first, "alpha": second, "beta": third} {
		ticket := w.callScan("resolve", "u-1", text, auth).ticket()
		for _, other := range []string{"default", "alpha", "beta"} {
			want := 40097
			if other == namespace {
				want = 0
			}
			w.exchangeTicket(w.openid(other, "shop", "u-1"), ticket).WantCode(t, want, "a ticket of %s by u-1 of %s", namespace, other)
		}
		a := w.Do("POST", "/scan/v1/login", `{"user":"u-1","appid":"shop"}`, auth)
		jsCode := a.Text(t, "js_code")
		w.RegisterSecret(jsCode)
		a = w.Do("GET", "/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code="+jsCode, "")
		assert.Contains(t, a.Body, w.openid(namespace, "shop", "u-1"), "%s", namespace)
	}
	// The seed lists members with their namespace: "dev" is a member in the default namespace, "beta/dev" a tester in beta. The user id
	// "beta/dev" of a scan is no member in any namespace.
	development, trial := w.code(id, 10).CodeURL, w.code(id, 20).CodeURL
	for _, c := range []struct {
		auth, user, text string
		opens            bool
	}{
		{first, "dev", development, true}, {second, "dev", development, false}, {third, "dev", development, false},
		{first, "dev", trial, true}, {second, "dev", trial, false}, {third, "dev", trial, true},
		{first, "beta/dev", trial, false}, {second, "beta/dev", trial, false}, {third, "beta/dev", trial, false},
	} {
		d := w.callScan("resolve", c.user, c.text, c.auth)
		assert.True(t, (d.Action == "open_mini_program") == c.opens, "%s of %.20s…: %s", c.user, c.auth, d.summary())
	}
	for _, header := range []string{"X: y", "Authorization: Bearer qrs_nothing", "Authorization: Bearer "} {
		for _, call := range []string{"resolve", "login"} {
			assert.Equal(t, w.Do("POST", "/scan/v1/"+call, `{"user":"u-1","appid":"shop","text":"x"}`,
				header).Status, http.StatusUnauthorized, "%s with %q", call, header)
		}
	}
}

// TestCodes_RedeemedOnceOverHTTP redeems a code 32 times concurrently. The losers must get 409 with the winner's actor and time.
func TestCodes_RedeemedOnceOverHTTP(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	answers := make([]servertest.Answer, 32)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answers[i] = w.changeStates(id, fmt.Sprintf(`{"action":"redeem","ranges":[{"from":3,"to":3}],"actor":"till %d"}`, i))
		})
	}
	wg.Wait()
	winner := -1
	for i, a := range answers {
		if a.Status == http.StatusOK {
			assert.True(t, winner < 0, "%d and %d both won", winner, i)
			winner = i
		}
	}
	for i, a := range answers {
		assert.True(t, i == winner || a.Status == http.StatusConflict &&
			strings.Contains(a.Body, fmt.Sprintf("code 3 was redeemed by till %d at 2026-01-15T02:00:00Z", winner)),
			"%d %s", a.Status, a.Body)
	}
	// A redeemed code still opens: the brand decides whether it gives a prize again.
	d := w.callScan("resolve", "u", w.code(id, 3).CodeURL)
	w.exchangeTicket(w.openid("default", "shop", "u"), d.ticket()).WantCode(t, 0, "tickettocode")
	c := w.code(id, 3)
	assert.True(t, c.Redeemed && len(c.History) == 2, "%+v", c)
}

// TestCodes_AfterRestart verifies that former prefixes still resolve, that codes and tickets survive a restart, and that a server that may
// not issue codes still resolves existing ones.
func TestCodes_AfterRestart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	w := startBrand(t, servertest.Options{Data: data})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	w.changeStates(id, `{"action":"freeze","ranges":[{"from":4,"to":4}]}`)
	old := w.code(id, 3)
	ticket := w.callScan("resolve", "alice", old.CodeURL).ticket()
	w.Stop()

	const opens = "shop release pages/index/index 1124 code"
	w = startBrand(t, servertest.Options{Data: data, Config: func(c *server.Config) { c.CodePrefix = "HTTPS://B.EXAMPLE/C/" }})
	got := w.code(id, 3)
	assert.True(t, got.CodeURL == old.CodeURL && got.Code == old.Code, "%+v, want %+v", got, old)
	newBatch := w.apply("young", 10_000)
	w.activate(newBatch, 0, 9)
	text := w.code(newBatch, 3).CodeURL
	assert.True(t, strings.HasPrefix(text, "HTTPS://B.EXAMPLE/C/0"), "%s", text)
	for spelling, want := range map[string]string{
		old.CodeURL: opens, "http://" + old.CodeURL: opens, text: opens, strings.ToLower(text): opens,
		strings.TrimPrefix(text, "HTTPS://"): opens,
		w.code(id, 4).CodeURL:                "show_message frozen", "https://b.example/c/0" +
			strings.Repeat("A", 18): "show_message unknown_code",
		old.CodeURL[:20] + "AAAAAAAA": "show_message unknown_code",
	} {
		assert.Equal(t, w.callScan("resolve", "", spelling).summary(), want, "%s", spelling)
	}
	a := w.exchangeTicket(w.openid("default", "brand", "alice"), ticket)
	assert.True(t, a.Code(t) == 0 && strings.Contains(a.Body, old.Code), "a ticket from before the restart: %s", a.Body)
	w.Stop()

	key := func(w brandServer) string {
		return "Authorization: Bearer " + w.NewKey("/scan-keys", `{"name":"app"}`)
	}
	w = startBrand(t, servertest.Options{Data: data, Guarded: true})
	auth := key(w)
	for _, spelling := range []string{old.CodeURL, text} {
		assert.Equal(t, w.callScan("resolve", "", spelling, auth).summary(), opens, "without --dev: %s", spelling)
	}
	w.activate(newBatch, 10, 19)
	w.CodeCall("brand", "applycode", `{"code_count":10000,"isv_application_id":"new"}`).WantCode(t, 48001, "applycode without a prefix")
}

// TestCodes_RequirePrefix verifies that without --dev no codes are issued before --code-prefix is set, and that the log says why.
func TestCodes_RequirePrefix(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{Guarded: true})
	a := w.CodeCall("brand", "applycode", `{"code_count":10000,"isv_application_id":"x"}`)
	assert.True(t, a.Code(t) == 48001 && !strings.Contains(a.Body, "prefix"), "%s", a.Body)
	if log := w.Log(); !regexp.MustCompile(
		`errcode=48001 .*codes cannot be downloaded until --code-prefix is a prefix of your own: P\.URL\.CN/ is resolved by Weixin only`).MatchString(log) {
		t.Errorf("the log has no reason for errcode 48001: %s", log)
	}
	key := w.NewKey("/scan-keys", `{"name":"app"}`)
	// A server without codes resolves texts with the platform's prefix as links.
	d := w.callScan("resolve", "u", "http://P.URL.CN/0U.JYJXP3HJI2C98A9O", "Authorization: Bearer "+key)
	assert.True(t, d.Action == "open_url", "%s", d.summary())
	w.Stop()
	for prefix, want := range map[string]string{"b.example/": "upper case", "B.EXAMPLE": "want a", "B.EXAMPLE/%24": "allowed",
		"B.EXAMPLE//": "cleaned away"} {
		_, err := servertest.TryStart(t, servertest.Options{Seed: brewery, Config: func(c *server.Config) { c.CodePrefix = prefix }})
		assert.True(t, err != nil && strings.Contains(err.Error(), want), "%s: %v", prefix, err)
	}
	w = startBrand(t, servertest.Options{Guarded: true, Config: func(c *server.Config) { c.CodePrefix = "B.EXAMPLE/" }})
	id := w.apply("x", 10_000)
	// Counters begin at the current time, so that a server restored from an older backup issues no code twice.
	first := w.code(id, 0)
	assert.True(t, strings.HasPrefix(first.CodeURL, "B.EXAMPLE/0"), "%+v", first)
}

// TestCodes_RepeatedOverlappingAndRecalledChanges verifies that a change without effect adds no event, that the error for an overlapping
// activation lists the overlap and the free ranges, and that unfreezing codes of a recalled package returns a warning.
func TestCodes_RepeatedOverlappingAndRecalledChanges(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		w := brandServer{newInstance(t).start(t, servertest.Options{Seed: brewery}), t}
		id := w.apply("x", 10_000)
		batch := fmt.Sprintf("/batches/%d", id)
		pkg := servertest.Decode[client.Package](t, w.Admin("POST", batch+"/packages", `{"code_start":0,"code_end":99,"printer":"p"}`))
		countEvents := func() int {
			list := servertest.Decode[struct{ Events []client.CodeEvent }](t, w.Admin("GET", batch+"/events", ""))
			return len(list.Events)
		}
		reportSpoiled := func(ranges string, want int) {
			t.Helper()
			before, lastSeq := countEvents(), newestIDs(t, w.Server)[0]
			w.Admin("POST", fmt.Sprintf("/packages/%d/spoiled", pkg.ID), `{"ranges":[`+ranges+`]}`)
			assert.Equal(t, countEvents()-before, want, "events after spoiled %s", ranges)
			assert.Equal(t, newestIDs(t, w.Server)[0] > lastSeq, want > 0, "spoiled %s: the audit log has a change", ranges)
		}
		reportSpoiled(`{"from":7,"to":9}`, 1)
		reportSpoiled(`{"from":7,"to":9}`, 0)
		reportSpoiled(`{"from":8,"to":8}`, 0)
		reportSpoiled(`{"from":5,"to":12}`, 1)

		const binding = `"binding":{"activity_name":"a","product_brand":"b","product_title":"t","product_code":"x","wxa_appid":"shop","wxa_path":"p"}`
		activate := func(from, to int) servertest.Answer {
			return w.Do("POST", "/admin/v1"+batch+"/activations", fmt.Sprintf(`{"code_start":%d,"code_end":%d,%s}`, from, to, binding),
				"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		}
		if a := activate(100, 199); a.Status != 200 || !strings.Contains(a.Body, `"warning":"product_code is no EAN`) {
			t.Errorf("a product code that is no EAN: %d %s, want 200 and a warning", a.Status, a.Body)
		}
		activate(300, 399)
		if a := activate(150, 449); a.Status != 409 || !strings.Contains(a.Body, "overlap: 150-199, 300-399; free: 200-299, 400-449") {
			t.Errorf("an overlapping activation: %d %s, want the overlap and the free ranges", a.Status, a.Body)
		}

		a := w.changeStates(id, `{"action":"unfreeze","ranges":[{"from":0,"to":99}]}`)
		assert.True(t, !strings.Contains(a.Body, "warning"), "unfreeze before the recall: %s, want no warning", a.Body)
		w.Admin("POST", fmt.Sprintf("/packages/%d/recall", pkg.ID), `{}`)
		if a := w.changeStates(id, `{"action":"unfreeze","ranges":[{"from":99,"to":150}]}`); !strings.Contains(a.Body,
			fmt.Sprintf(`"warning":"package %d is no longer recalled: its file, which may be lost, is valid again"`, pkg.ID)) {
			t.Errorf("unfreeze after the recall: %d %s, want a warning", a.Status, a.Body)
		}
		a = w.changeStates(id, `{"action":"unfreeze","ranges":[{"from":100,"to":150}]}`)
		assert.True(t, !strings.Contains(a.Body, "warning"), "unfreeze of other codes: %s, want no warning", a.Body)
	})
}
