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

// brewery makes bottles with codes.
//
//go:embed testdata/seeds/brewery.yaml
var brewery string

// works is a server with its codes, as brand sees it.
type works struct {
	*servertest.Server
	t testing.TB
}

func brew(t *testing.T, o servertest.Options) works {
	t.Helper()
	if o.Seed == "" {
		o.Seed = brewery
	}
	return works{servertest.Start(t, o), t}
}

// call is a wire call of brand that must succeed.
func (w works) call(name, body string, into any) {
	w.t.Helper()
	a := w.CodeCall("brand", name, body)
	require.True(w.t, a.Code(w.t) == 0, "%s %s: %s", name, body, a.Body)
	if into != nil {
		a.JSON(w.t, into)
	}
}

func (w works) apply(isv string, count int64) (id int64) {
	w.t.Helper()
	return w.Apply("brand", isv, count)
}

func (w works) activate(id, from, to int64, extra ...string) {
	w.t.Helper()
	fields := append(
		[]string{fmt.Sprintf(
			`"application_id":%d,"code_start":%d,"code_end":%d,"activity_name":"a","product_brand":"b","product_title":"t","product_code":"6901234567892","wxa_appid":"shop","wxa_path":"pages/index/index"`, id, from, to)}, extra...)
	w.call("codeactive", "{"+strings.Join(fields, ",")+"}", nil)
}

type oneCode struct {
	ApplicationID                  int64 `json:"application_id"`
	CodeIndex                      int64 `json:"code_index"`
	Code                           string
	CodeURL                        string `json:"code_url"`
	Active, Frozen, Void, Redeemed bool
	Activation                     *oneEvent
	History                        []oneEvent
}

type oneEvent struct {
	Seq                               int64
	Action, Actor, RID, Note, Warning string
	Ranges                            []struct{ From, To int64 }
	Codes                             int64
	OccurredAt                        time.Time `json:"occurred_at"`
	EffectiveAt                       time.Time `json:"effective_at"`
}

func (w works) code(id, index int64) oneCode {
	w.t.Helper()
	return servertest.Decode[oneCode](w.t, w.LookupCode(id, index))
}

// states changes codes of a batch; the answer is for the caller to judge.
func (w works) states(id int64, body string) servertest.Answer {
	w.t.Helper()
	return w.Do("POST", fmt.Sprintf("/admin/v1/batches/%d/states", id), body, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
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

// short is a decision in a few words, its ticket as T.
func (d decision) short() string {
	if d.Action != "open_mini_program" {
		return strings.TrimSpace(d.Action + " " + d.Reason)
	}
	return fmt.Sprintf("%s %s %s %d %s", d.AppID, d.Version, aTicket.ReplaceAllString(d.Path, "code_ticket=T"), d.Scene, d.Matched.Kind)
}

var aTicket = regexp.MustCompile(`code_ticket=([0-9a-f]{32})$`)

func (d decision) ticket() string {
	if m := aTicket.FindStringSubmatch(d.Path); m != nil {
		return m[1]
	}
	return ""
}

func (w works) ask(call, user, text string, header ...string) (d decision) {
	w.t.Helper()
	return w.askFrom(call, user, text, "", header...)
}

func (w works) askFrom(call, user, text, source string, header ...string) (d decision) {
	w.t.Helper()
	body, err := json.Marshal(map[string]string{"text": text, "user": user, "source": source})
	require.NoError(w.t, err)
	a := w.Do("POST", "/scan/v1/"+call, string(body), header...)
	require.True(w.t, a.Status == http.StatusOK, "%s: %d %s", text, a.Status, a.Body)
	a.JSON(w.t, &d)
	return d
}

// trade is tickettocode by an openid.
func (w works) trade(openid, ticket string) servertest.Answer {
	w.t.Helper()
	w.Hide(ticket)
	return w.Do("POST", "/intp/marketcode/tickettocode?access_token="+w.Token("brand"),
		fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid, ticket))
}

func (w works) openid(namespace, appid, user string) string {
	w.t.Helper()
	var got struct{ OpenID string }
	w.Admin("GET", "/users/"+user+"/openid?appid="+appid+"&namespace="+namespace, "").JSON(w.t, &got)
	return got.OpenID
}

// Contract: marketcode 6; rules 2.10.
// Behaviour(scan.code.scene) Behaviour(scan.code.first).
func TestCodes_ScanVerdicts(t *testing.T) {
	t.Parallel()
	w := brew(t, servertest.Options{})
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
		d := w.askFrom("resolve", c.user, c.text, c.source)
		assert.Equal(t, d.short(), c.want, "%s", c.name)
		assert.True(t, !strings.HasPrefix(c.want, "show_message") ||
			d.Message != "" && regexp.MustCompile(`[a-z]+.*\p{Han}`).MatchString(d.Message) && d.Matched == nil && d.Path == "" &&
				d.AppID == "", "%s: %+v", c.name, d)
		assert.True(t, (d.ticket() != "") == (c.user != "" && d.Action == "open_mini_program"), "%s: a ticket in %q", c.name, d.Path)
		// explain decides the same, and makes no ticket.
		e := w.askFrom("explain", c.user, c.text, c.source)
		want := strings.NewReplacer("?code_ticket=T", "", "&code_ticket=T", "").Replace(c.want)
		assert.True(t, e.short() == want && e.ticket() == "" && e.ScanID == "", "%s: explained as %s, want %s", c.name, e.short(), want)
	}
	for _, other := range []string{"https://p.url.cn/0" + text(0)[9:], "https://p.url.cn/x/../" + text(0)[9:], "https://p.url.cn/",
		"https://p.url.cn/" + text(0)[9:] + "?a=1"} {
		d := w.ask("resolve", "u", other)
		assert.True(t, d.Matched != nil && d.Matched.Kind == "rule", "%s: %s, want the rule", other, d.short())
	}
	// The match names the batch and the index, never the code.
	a := w.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u"}`, text(7)))
	assert.True(t, strings.Contains(a.Body, fmt.Sprintf(`"matched":{"kind":"code","application_id":%d,"code_index":7}`, id)) &&
		!strings.Contains(a.Body, w.code(id, 7).Code), "%s", a.Body)
	a = w.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u"}`, text(0)))
	assert.Contains(t, a.Body, `"code_index":0`, "index 0 is left out")
	// Every scan has another ticket.
	seen := map[string]bool{}
	for range 20 {
		ticket := w.ask("resolve", "u", text(0)).ticket()
		w.Hide(ticket)
		assert.True(t, !seen[ticket], "%s comes twice", ticket)
		seen[ticket] = true
	}
}

// Two users scan one code: each ticket works for its own user alone.
func TestCodes_TicketPerUser(t *testing.T) {
	t.Parallel()
	w := brew(t, servertest.Options{})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	text := w.code(id, 3).CodeURL
	users := []string{"alice", "bob", "carol", "dave"}
	tickets := make([]string, len(users))
	var wg sync.WaitGroup
	for i, user := range users {
		wg.Go(func() { tickets[i] = w.ask("resolve", user, text).ticket() })
	}
	wg.Wait()
	for i, ticket := range tickets {
		for j, user := range users {
			for _, appid := range []string{"brand", "shop", "bare"} {
				want := 40097
				if i == j && appid != "bare" {
					want = 0
				}
				w.trade(w.openid("default", appid, user), ticket).WantCode(t, want, "%s's ticket by %s under %s", users[i], user, appid)
			}
		}
	}
}

// Design 4: user ids of two namespaces never meet.
func TestNamespaces_UserIDsDisjoint(t *testing.T) {
	t.Parallel()
	w := brew(t, servertest.Options{Guarded: true, Emulator: true, Config: func(c *server.Config) { c.CodePrefix = "B.EXAMPLE/" }})
	key := func(name, namespace string) string {
		var made struct{ Key string }
		w.Admin("POST", "/scan-keys", fmt.Sprintf(`{"name":%q,"namespace":%q}`, name, namespace)).JSON(t, &made)
		w.Hide(made.Key)
		return "Authorization: Bearer " + made.Key
	}
	first, second, third := key("first", ""), key("second", "alpha"), key("third", "beta")
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	w.activate(id, 10, 19, `"wxa_type":1`)
	w.activate(id, 20, 29, `"wxa_type":2`)
	text := w.code(id, 3).CodeURL
	// One user id, three people: each has openids of his own.
	for namespace, auth := range map[string]string{"default": first, "alpha": second, "beta": third} {
		ticket := w.ask("resolve", "u-1", text, auth).ticket()
		for _, other := range []string{"default", "alpha", "beta"} {
			want := 40097
			if other == namespace {
				want = 0
			}
			w.trade(w.openid(other, "shop", "u-1"), ticket).WantCode(t, want, "a ticket of %s by u-1 of %s", namespace, other)
		}
		a := w.Do("POST", "/scan/v1/login", `{"user":"u-1","appid":"shop"}`, auth)
		made := a.Text(t, "js_code")
		w.Hide(made)
		a = w.Do("GET", "/sns/jscode2session?grant_type=authorization_code&appid=shop&secret=the-secret-of-shop&js_code="+made, "")
		assert.Contains(t, a.Body, w.openid(namespace, "shop", "u-1"), "%s", namespace)
	}
	// Members are named with their namespace: "dev" is one of the default
	// namespace, "beta/dev" a tester of beta, and no user id makes one the other.
	development, trial := w.code(id, 10).CodeURL, w.code(id, 20).CodeURL
	for _, c := range []struct {
		auth, user, text string
		opens            bool
	}{
		{first, "dev", development, true}, {second, "dev", development, false}, {third, "dev", development, false},
		{first, "dev", trial, true}, {second, "dev", trial, false}, {third, "dev", trial, true},
		{first, "beta/dev", trial, false}, {second, "beta/dev", trial, false}, {third, "beta/dev", trial, false},
	} {
		d := w.ask("resolve", c.user, c.text, c.auth)
		assert.True(t, (d.Action == "open_mini_program") == c.opens, "%s of %.20s…: %s", c.user, c.auth, d.short())
	}
	for _, header := range []string{"X: y", "Authorization: Bearer qrs_nothing", "Authorization: Bearer "} {
		for _, call := range []string{"resolve", "login"} {
			assert.Equal(t, w.Do("POST", "/scan/v1/"+call, `{"user":"u-1","appid":"shop","text":"x"}`,
				header).Status, http.StatusUnauthorized, "%s with %q", call, header)
		}
	}
}

// One till wins; the others are told who was first, and when.
func TestCodes_RedeemedOnceOverHTTP(t *testing.T) {
	t.Parallel()
	w := brew(t, servertest.Options{})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	answers := make([]servertest.Answer, 32)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answers[i] = w.states(id, fmt.Sprintf(`{"action":"redeem","ranges":[{"from":3,"to":3}],"actor":"till %d"}`, i))
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
	// It opens all the same: whether a prize is given again is the brand's.
	d := w.ask("resolve", "u", w.code(id, 3).CodeURL)
	a := w.trade(w.openid("default", "shop", "u"), d.ticket())
	assert.True(t, a.Code(t) == 0, "%s", a.Body)
	c := w.code(id, 3)
	assert.True(t, c.Redeemed && len(c.History) == 2, "%+v", c)
}

// Former prefixes stay resolvable, codes and tickets survive a restart, and a
// server that may not give codes out still knows those of before.
func TestCodes_AfterRestart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	w := brew(t, servertest.Options{Data: data})
	id := w.apply("x", 10_000)
	w.activate(id, 0, 9)
	w.states(id, `{"action":"freeze","ranges":[{"from":4,"to":4}]}`)
	old := w.code(id, 3)
	ticket := w.ask("resolve", "alice", old.CodeURL).ticket()
	w.Stop()

	const opens = "shop release pages/index/index 1124 code"
	w = brew(t, servertest.Options{Data: data, Config: func(c *server.Config) { c.CodePrefix = "HTTPS://B.EXAMPLE/C/" }})
	got := w.code(id, 3)
	assert.True(t, got.CodeURL == old.CodeURL && got.Code == old.Code, "%+v, want %+v", got, old)
	young := w.apply("young", 10_000)
	w.activate(young, 0, 9)
	text := w.code(young, 3).CodeURL
	assert.True(t, strings.HasPrefix(text, "HTTPS://B.EXAMPLE/C/0"), "%s", text)
	for spelling, want := range map[string]string{
		old.CodeURL: opens, "http://" + old.CodeURL: opens, text: opens, strings.ToLower(text): opens,
		strings.TrimPrefix(text, "HTTPS://"): opens,
		w.code(id, 4).CodeURL:                "show_message frozen", "https://b.example/c/0" +
			strings.Repeat("A", 18): "show_message unknown_code",
		old.CodeURL[:20] + "AAAAAAAA": "show_message unknown_code",
	} {
		assert.Equal(t, w.ask("resolve", "", spelling).short(), want, "%s", spelling)
	}
	a := w.trade(w.openid("default", "brand", "alice"), ticket)
	assert.True(t, a.Code(t) == 0 && strings.Contains(a.Body, old.Code), "a ticket of before: %s", a.Body)
	w.Stop()

	key := func(w works) string {
		return "Authorization: Bearer " + w.NewKey("/scan-keys", `{"name":"app"}`)
	}
	w = brew(t, servertest.Options{Data: data, Guarded: true})
	auth := key(w)
	for _, spelling := range []string{old.CodeURL, text} {
		assert.Equal(t, w.ask("resolve", "", spelling, auth).short(), opens, "closed: %s", spelling)
	}
	w.activate(young, 10, 19)
	a = w.CodeCall("brand", "applycode", `{"code_count":10000,"isv_application_id":"new"}`)
	assert.True(t, a.Code(t) == 48001, "%s", a.Body)
}

// Design 9: outside --dev no codes are given out until the operator names a prefix of his own, and the log says why.
func TestCodes_RequirePrefix(t *testing.T) {
	t.Parallel()
	w := brew(t, servertest.Options{Guarded: true})
	a := w.CodeCall("brand", "applycode", `{"code_count":10000,"isv_application_id":"x"}`)
	assert.True(t, a.Code(t) == 48001 && !strings.Contains(a.Body, "prefix"), "%s", a.Body)
	if log := w.Log(); !regexp.MustCompile(
		`errcode=48001 .*codes cannot be downloaded until --code-prefix is a prefix of your own: P\.URL\.CN/ is resolved by Weixin only`).MatchString(log) {
		t.Error("the log does not say why")
	}
	key := w.NewKey("/scan-keys", `{"name":"app"}`)
	// The platform's texts are no business of a server without codes.
	d := w.ask("resolve", "u", "http://P.URL.CN/0U.JYJXP3HJI2C98A9O", "Authorization: Bearer "+key)
	assert.True(t, d.Action == "open_url", "%s", d.short())
	w.Stop()
	for prefix, want := range map[string]string{"b.example/": "upper case", "B.EXAMPLE": "want a", "B.EXAMPLE/%24": "allowed",
		"B.EXAMPLE//": "cleaned away"} {
		_, err := servertest.Try(t, servertest.Options{Seed: brewery, Config: func(c *server.Config) { c.CodePrefix = prefix }})
		assert.True(t, err != nil && strings.Contains(err.Error(), want), "%s: %v", prefix, err)
	}
	w = brew(t, servertest.Options{Guarded: true, Config: func(c *server.Config) { c.CodePrefix = "B.EXAMPLE/" }})
	id := w.apply("x", 10_000)
	// The block begins where the time is, so that an older backup gives no code twice.
	first := w.code(id, 0)
	assert.True(t, strings.HasPrefix(first.CodeURL, "B.EXAMPLE/0"), "%+v", first)
}

// Issue 42, 12: what changes nothing leaves no event, an overlap is named with what is free, and who brings a lost package's file
// back to life is warned.
func TestCodes_RepeatedOverlappingAndRecalledChanges(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		w := works{where(t).start(t, servertest.Options{Seed: brewery}), t}
		id := w.apply("x", 10_000)
		batch := fmt.Sprintf("/batches/%d", id)
		made := servertest.Decode[client.Package](t, w.Admin("POST", batch+"/packages", `{"code_start":0,"code_end":99,"printer":"p"}`))
		events := func() int {
			list := servertest.Decode[struct{ Events []client.CodeEvent }](t, w.Admin("GET", batch+"/events", ""))
			return len(list.Events)
		}
		spoil := func(ranges string, want int) {
			t.Helper()
			before, head := events(), newest(t, w.Server)[0]
			w.Admin("POST", fmt.Sprintf("/packages/%d/spoiled", made.ID), `{"ranges":[`+ranges+`]}`)
			assert.Equal(t, events()-before, want, "spoil %s", ranges)
			assert.Equal(t, newest(t, w.Server)[0] > head, want > 0, "spoil %s: the audit log has a change", ranges)
		}
		spoil(`{"from":7,"to":9}`, 1)
		spoil(`{"from":7,"to":9}`, 0)
		spoil(`{"from":8,"to":8}`, 0)
		spoil(`{"from":5,"to":12}`, 1)

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

		a := w.states(id, `{"action":"unfreeze","ranges":[{"from":0,"to":99}]}`)
		assert.True(t, !strings.Contains(a.Body, "warning"), "unfreeze before the recall: %s, want no warning", a.Body)
		w.Admin("POST", fmt.Sprintf("/packages/%d/recall", made.ID), `{}`)
		if a := w.states(id, `{"action":"unfreeze","ranges":[{"from":99,"to":150}]}`); !strings.Contains(a.Body,
			fmt.Sprintf(`"warning":"package %d is no longer recalled: its file, which may be lost, is valid again"`, made.ID)) {
			t.Errorf("unfreeze after the recall: %d %s, want a warning", a.Status, a.Body)
		}
		a = w.states(id, `{"action":"unfreeze","ranges":[{"from":100,"to":150}]}`)
		assert.True(t, !strings.Contains(a.Body, "warning"), "unfreeze of other codes: %s, want no warning", a.Body)
	})
}
