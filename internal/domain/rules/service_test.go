package rules_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// desk is a book on a real store. Verification files are what serves says.
type desk struct {
	*rules.Service
	t       *testing.T
	store   *store.Store
	now     time.Time
	serves  func(url string) (string, error)
	fetched []string
	told    []string
	calls   int
}

const confirmText = "0123456789abcdef0123456789abcdef"

func newDesk(t *testing.T) *desk {
	t.Helper()
	s, err := store.Open(t.Context(), store.Target{Dir: storetest.Folder(t)})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	d := &desk{t: t, store: s, now: noon, serves: func(string) (string, error) { return confirmText, nil }}
	d.Service = &rules.Service{
		Store: s, Epochs: s.Epochs(), Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return d.now },
		Fetch: func(_ context.Context, url string, _ bool) ([]byte, []rules.FetchStep, error) {
			d.fetched = append(d.fetched, url)
			body, err := d.serves(url)
			return []byte(body), []rules.FetchStep{{OccurredAt: d.now, Action: "asked", Detail: url}}, err
		},
		Changed: func(_ context.Context, key string) { d.told = append(d.told, key) },
	}
	for _, a := range []accounts.Account{
		{AppID: "wxa", Kind: accounts.MiniProgram, Subject: accounts.Company},
		{AppID: "wxb", Kind: accounts.MiniProgram, Subject: accounts.Company},
		{AppID: "wxc", Kind: accounts.MiniProgram, Subject: accounts.Company},
		{AppID: "wxpersonal", Kind: accounts.MiniProgram, Subject: accounts.Personal},
		{AppID: "wxs", Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true},
		{AppID: "wxs2", Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true},
		{AppID: "wxuncertified", Kind: accounts.ServiceAccount, Subject: accounts.Company},
		{AppID: "wxsubscription", Kind: accounts.SubscriptionAccount, Subject: accounts.Company, Certified: true},
	} {
		a.JumpOpen, a.Versions = true, []accounts.Version{accounts.Release}
		a.Confirm = accounts.ConfirmFile{Name: "AbCdEfGhIj.txt", Content: confirmText}
		d.put(a)
	}
	for _, service := range []string{"wxs", "wxs2"} {
		for _, mini := range []string{"wxa", "wxb", "wxpersonal"} {
			d.write(func(tx accounts.Tx) error { return tx.PutLink(t.Context(), service, mini, noon) })
		}
	}
	return d
}

// unlinked ends the link of wxs with wxa.
func unlinked(d *desk) {
	d.write(func(tx accounts.Tx) error { return tx.DeleteLink(d.t.Context(), "wxs", "wxa") })
}

func (d *desk) write(f func(accounts.Tx) error) {
	d.t.Helper()
	require.NoError(d.t, d.store.UpdateAccounts(d.t.Context(), f))
}

func (d *desk) put(a accounts.Account) {
	d.t.Helper()
	d.write(func(tx accounts.Tx) error { return tx.PutAccount(d.t.Context(), a) })
}

// as is an account as it is now.
func (d *desk) as(appid string) (a accounts.Account) {
	d.t.Helper()
	require.NoError(d.t, d.store.ViewAccounts(d.t.Context(), func(tx accounts.Tx) (err error) {
		a, err = tx.Account(d.t.Context(), appid)
		return err
	}))
	return a
}

// by is the context of a call by an account; no two of them have one request id.
func (d *desk) by(appid string) context.Context {
	d.calls++
	return accounts.WithActor(d.t.Context(), accounts.Actor{ActorID: appid, RID: fmt.Sprint("rid-", d.calls)})
}

func (d *desk) set(f func(*settings.Settings)) {
	values := d.Settings.Get()
	f(&values)
	d.Settings.Set(values)
}

// draft is what a caller wants of a prefix, for the rest of no account.
func draft(prefix string, change ...func(*rules.Draft)) rules.Draft {
	d := rules.Draft{Prefix: prefix, Path: "pages/index", OpenVersion: rules.OpenRelease}
	if strings.HasPrefix(prefix, code) {
		d.AppID = "wxa"
	}
	for _, f := range change {
		f(&d)
	}
	return d
}

// code is how prefixes of service accounts begin.
const code = "http://weixin.qq.com/q/"

func occupying(d *rules.Draft) { d.Occupy = true }

func withLinks(links ...string) func(*rules.Draft) {
	return func(d *rules.Draft) { d.TestLinks = links }
}

func opening(appid string) func(*rules.Draft) { return func(d *rules.Draft) { d.AppID = appid } }

func withPath(path string) func(*rules.Draft) { return func(d *rules.Draft) { d.Path = path } }

// drafted returns the draft of a table: a prefix, then path=PAGE, appid=APPID, links=TEXT,TEXT and occupy where they are not the usual.
func drafted(t *testing.T, text string) rules.Draft {
	t.Helper()
	words := strings.Fields(text)
	d := draft(words[0])
	for _, word := range words[1:] {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "path":
			d.Path = value
		case "appid":
			d.AppID = value
		case "links":
			d.TestLinks = strings.Split(value, ",")
		case "occupy":
			d.Occupy = true
		default:
			t.Fatalf("%s: what is %s?", text, key)
		}
	}
	return d
}

// added adds a rule, which must succeed.
func (d *desk) added(appid string, draft rules.Draft) {
	d.t.Helper()
	require.NoError(d.t, d.Add(d.by(appid), d.as(appid), draft))
}

func (d *desk) published(appid string, draft rules.Draft) {
	d.t.Helper()
	d.added(appid, draft)
	require.NoError(d.t, d.Publish(d.by(appid), d.as(appid), draft.Prefix))
}

// rule reads a stored rule; nil = there is none.
func (d *desk) rule(prefix string) *rules.Rule {
	d.t.Helper()
	link, _ := rules.ParseLink(prefix)
	var rule *rules.Rule
	require.NoError(d.t, d.store.ViewRules(d.t.Context(), func(tx rules.Tx) error {
		r, err := tx.Rule(d.t.Context(), link.Key)
		if errors.Is(err, rules.ErrNoRule) {
			return nil
		}
		rule = &r
		return err
	}))
	return rule
}

func (d *desk) all() (list []rules.Rule) {
	d.t.Helper()
	for r, err := range d.store.AllRules(d.t.Context()) {
		require.NoError(d.t, err)
		list = append(list, r)
	}
	return list
}

func (d *desk) left(appid string) int {
	d.t.Helper()
	n, err := d.PublishesLeft(d.t.Context(), d.as(appid))
	require.NoError(d.t, err)
	return n
}

// Contract: rules 1.8. From line to line what stood first is mended, and all
// that comes later is still wrong.
func TestAddRule_ErrorPrecedence(t *testing.T) {
	d := newDesk(t)
	d.added("wxa", draft("https://full.example/mine"))
	d.added("wxb", draft("https://full.example/", occupying))
	d.added("wxb", draft("https://full.example/theirs"))
	for host, status := range map[string]rules.DomainStatus{"full.example": rules.Denied, "denied.example": rules.Denied,
		"noicp.example": rules.NoICP} {
		require.NoError(t, d.SetDomain(t.Context(), host, status))
	}
	d.serves = func(string) (string, error) { return "", errors.New("no file") }
	d.fetched = nil
	d.set(func(s *settings.Settings) { s.RuleLimit, s.ServiceRuleLimit = 1, 0 })
	before := map[string]func(){
		"a denied host": func() { d.set(func(s *settings.Settings) { s.RuleLimit = 2 }) },
		"no verification file": func() {
			assert.True(t, len(d.fetched) == 0, "%v was fetched while something else was wrong", d.fetched)
		},
		"nothing wrong": func() { d.serves = func(string) (string, error) { return confirmText, nil } },
	}
	seen := 0
	for _, c := range testtable.Rows(t, "testdata/add_precedence.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			if f := before[c[0]]; f != nil {
				seen++
				f()
			}
			n := len(d.all())
			err := d.Add(t.Context(), d.as(c[1]), drafted(t, c[2]))
			wantCode(t, err, codeOf(t, c[3]))
			assert.True(t, err == nil || len(d.all()) == n, "a rule was added all the same")
		})
	}
	assert.Equal(t, seen, len(before), "changes between the rows")
}

// Contract: rules 1.1, 1.8 (40097).
func TestAddRule_FieldValidation(t *testing.T) {
	d := newDesk(t)
	for i, c := range []struct {
		name, caller string
		change       func(*rules.Draft)
		want         *errcode.Code
	}{
		{"a page", "wxa", withPath("pages/index/index"), errcode.OK},
		{"a page with a query", "wxa", withPath("pages/index?x=1&y=扫"), errcode.OK},
		{"a page of one byte", "wxa", withPath("p"), errcode.OK},
		{"a page of 1,024 bytes", "wxa", withPath(strings.Repeat("p", rules.MaxPath)), errcode.OK},
		{"no page", "wxa", withPath(""), errcode.InvalidArgs},
		{"a page of 1,025 bytes", "wxa", withPath(strings.Repeat("p", rules.MaxPath+1)), errcode.InvalidArgs},
		{"a page with a newline", "wxa", withPath("pages\nindex"), errcode.InvalidArgs},
		{"a page with NUL", "wxa", withPath("pages\x00index"), errcode.InvalidArgs},
		{"a page that is no text", "wxa", withPath("pages\xff"), errcode.InvalidArgs},
		{"test range 1", "wxa", func(d *rules.Draft) { d.OpenVersion = 1 }, errcode.OK},
		{"test range 2", "wxa", func(d *rules.Draft) { d.OpenVersion = 2 }, errcode.OK},
		{"test range 0", "wxa", func(d *rules.Draft) { d.OpenVersion = 0 }, errcode.InvalidArgs},
		{"test range 4", "wxa", func(d *rules.Draft) { d.OpenVersion = 4 }, errcode.InvalidArgs},
		{"five test links", "wxa", withLinks("1?a", "2", "3/4", "", "6#x"), errcode.OK},
		{"six test links", "wxa", withLinks("1", "2", "3", "4", "5", "6"), errcode.InvalidArgs},
		{"a test link with a control character", "wxa", withLinks("1\t"), errcode.TestLinkNotBelow},
		{"a service-account rule", "wxs", opening("wxa"), errcode.OK},
		{"a service-account rule that opens nothing", "wxs", opening(""), errcode.InvalidArgs},
		{"a service-account rule that opens a service account", "wxs", opening("wxs2"), errcode.InvalidWeappAppID},
		{"a service-account rule that opens nobody", "wxs", opening("wxnobody"), errcode.InvalidWeappAppID},
		{"a service-account rule that opens what no database holds", "wxs", opening("wxa\x00"), errcode.InvalidWeappAppID},
		{"a service-account rule does not mind the test range", "wxs", func(d *rules.Draft) { d.AppID, d.OpenVersion = "wxa", 0 },
			errcode.OK},
		{"a service-account rule does not mind test links", "wxs", func(d *rules.Draft) { d.AppID, d.TestLinks = "wxa", make([]string, 9) },
			errcode.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := fmt.Sprintf("https://h%d.example/", i)
			if c.caller == "wxs" {
				prefix = fmt.Sprint(code, i)
			}
			given := draft(prefix, c.change)
			for i, link := range given.TestLinks {
				given.TestLinks[i] = prefix + link
			}
			err := d.Add(t.Context(), d.as(c.caller), given)
			wantCode(t, err, c.want)
			rule := d.rule(prefix)
			require.True(t, (rule != nil) == (err == nil), "stored: %v", rule)
			if rule == nil {
				return
			}
			want := rules.Rule{ID: rule.ID, Kind: rules.Ordinary, Owner: c.caller, Target: "wxa", Prefix: rule.Prefix, Path: given.Path,
				OpenVersion: given.OpenVersion, TestLinks: given.TestLinks, CreatedAt: noon, UpdatedAt: noon}
			if c.caller == "wxs" {
				want.Kind, want.OpenVersion, want.TestLinks = rules.KindService, 0, nil
			}
			wantEqual(t, "rule", *rule, want)
			// An edit judges the same.
			wantCode(t, d.Edit(t.Context(), d.as(c.caller), given), errcode.OK)
			want.TestLinks = slices.Clone(want.TestLinks)
			wantEqual(t, "rule after an edit that changes nothing", *d.rule(prefix), want)
		})
	}
}

// Contract: rules 2.4, 2.10.
func TestAddRule_PrefixOwnership(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/prefix_owners.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			d := newDesk(t)
			added := func(text string) error {
				words := strings.Fields(text)
				return d.Add(d.by(words[0]), d.as(words[0]), draft(words[len(words)-1], opening("wxa"),
					func(d *rules.Draft) { d.Occupy = len(words) == 3 }))
			}
			earlier := testtable.List(c[1])
			for _, text := range earlier {
				require.NoError(t, added(text))
			}
			err := added(c[2])
			wantCode(t, err, codeOf(t, c[3]))
			wantEqual(t, "rules", len(d.all()), len(earlier)+map[bool]int{true: 1}[err == nil])
		})
	}
}

func TestAddRule_AfterOccupierRemoved(t *testing.T) {
	for name, how := range map[string]func(d *desk) error{
		"deleted": func(d *desk) error { return d.Delete(d.t.Context(), d.as("wxb"), "https://h.example/", "") },
		"edited": func(d *desk) error {
			return d.Edit(d.t.Context(), d.as("wxb"), draft("https://h.example/"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.added("wxb", draft("https://h.example/", occupying))
			wantCode(t, d.Add(t.Context(), d.as("wxa"), draft("https://h.example/a")), errcode.PrefixOwned)
			wantCode(t, how(d), errcode.OK)
			wantCode(t, d.Add(t.Context(), d.as("wxa"), draft("https://h.example/a")), errcode.OK)
		})
	}
}

func TestAddRule_CountLimit(t *testing.T) {
	d := newDesk(t)
	d.set(func(s *settings.Settings) { s.RuleLimit, s.ServiceRuleLimit = 2, 2 })
	add := func(caller string, given rules.Draft, want *errcode.Code) {
		t.Helper()
		wantCode(t, d.Add(t.Context(), d.as(caller), given), want)
	}
	add("wxa", draft("https://h.example/1"), errcode.OK)
	add("wxa", draft("https://h.example/2"), errcode.OK)
	add("wxa", draft("https://h.example/3"), errcode.PrefixLimit)
	add("wxb", draft("https://h.example/4"), errcode.OK)
	// Service-account rules count by the Mini Program that opens, whoever adds them, and apart.
	add("wxs", draft(code+"1", opening("wxa")), errcode.OK)
	add("wxs2", draft(code+"2", opening("wxa")), errcode.OK)
	add("wxs", draft(code+"3", opening("wxa")), errcode.PrefixLimit)
	add("wxs", draft(code+"3", opening("wxb")), errcode.OK)
	wantCode(t, d.Edit(t.Context(), d.as("wxs"), draft(code+"3", opening("wxa"))), errcode.PrefixLimit)
	wantCode(t, d.Edit(t.Context(), d.as("wxs"), draft(code+"1", opening("wxa"), withPath("other"))), errcode.OK)
	wantCode(t, d.Delete(t.Context(), d.as("wxa"), "https://h.example/1", ""), errcode.OK)
	add("wxa", draft("https://h.example/3"), errcode.OK)
}

// Contract: rules 1: 100 rules for each Mini Program.
func TestTheNumberOfRulesIsLimited_ByDefault(t *testing.T) {
	d := newDesk(t)
	for n := range 100 {
		wantCode(t, d.Add(t.Context(), d.as("wxa"), draft(fmt.Sprintf("https://h.example/%d", n))), errcode.OK)
	}
	wantCode(t, d.Add(t.Context(), d.as("wxa"), draft("https://h.example/100")), errcode.PrefixLimit)
}

// Contract: rules 2.7.
func TestAddRule_VerificationFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		serves string
		fails  error
		want   *errcode.Code
		reason string
	}{
		{"is in place", confirmText, nil, errcode.OK, "in place"},
		{"may have white space around it", "\r\n " + confirmText + "\n", nil, errcode.OK, "in place"},
		{"may have no more than its text", confirmText + "0", nil, errcode.ConfirmFileFailed, confirmText},
		{"has the case that it has", strings.ToUpper(confirmText), nil, errcode.ConfirmFileFailed, "want exactly"},
		{"is empty", "", nil, errcode.ConfirmFileFailed, `the file contains ""`},
		{"is another's", strings.Repeat("f", 32), nil, errcode.ConfirmFileFailed, "ffff"},
		{"is no text", "\xff\x00", nil, errcode.ConfirmFileFailed, "want exactly"},
		{"cannot be had", confirmText, errors.New("status 302"), errcode.ConfirmFileFailed, "status 302"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.serves = func(string) (string, error) { return c.serves, c.fails }
			call := d.by("wxa")
			rid := accounts.ActorFromContext(call).RID
			err := d.Add(call, d.as("wxa"), draft("https://h.example/sub/page?x=1"))
			wantCode(t, err, c.want)
			wantEqual(t, "fetched", d.fetched, []string{"https://h.example/sub/AbCdEfGhIj.txt"})
			wantEqual(t, "stored", d.rule("https://h.example/sub/page?x=1") != nil, err == nil)
			list, listErr := d.Confirmations(t.Context(), rules.VerificationQuery{RID: rid, Limit: 10})
			require.True(t, listErr == nil && len(list) == 1, "%d records, %v", len(list), listErr)
			got := list[0]
			assert.True(t, strings.Contains(got.Reason, c.reason), "the record says %q, want %q in it", got.Reason, c.reason)
			got.Reason = ""
			wantEqual(t, "record", got, rules.Confirmation{RID: rid, At: noon, Owner: "wxa", Prefix: "https://h.example/sub/page?x=1",
				URL: d.fetched[0], OK: err == nil,
				Steps: []rules.FetchStep{{OccurredAt: noon, Action: "asked", Detail: d.fetched[0]}}})
		})
	}
}

// Behaviour(rules.confirm.named).
func TestAddRule_VerificationExemptHosts(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/exempt_hosts.txt", 6) {
		t.Run(c[0], func(t *testing.T) {
			d := newDesk(t)
			d.set(func(s *settings.Settings) {
				s.Verification, s.AllowPrivateHosts = settings.Verification{Mode: settings.Mode(c[2]), Hosts: testtable.List(c[3])}, true
			})
			if c[4] != "" {
				require.NoError(t, d.SetDomain(t.Context(), c[4], rules.Trusted))
			}
			caller := "wxa"
			if strings.HasPrefix(c[1], code) {
				caller = "wxs"
			}
			d.added(caller, draft(c[1]))
			wantEqual(t, "fetched", len(d.fetched) > 0, c[5] == "yes")
		})
	}
}

// A change while the file was fetched counts.
func TestAddRule_PrefixTakenDuringFetch(t *testing.T) {
	d := newDesk(t)
	first := true
	d.serves = func(string) (string, error) {
		if first {
			first = false
			d.added("wxb", draft("https://h.example/", occupying))
		}
		return confirmText, nil
	}
	wantCode(t, d.Add(t.Context(), d.as("wxa"), draft("https://h.example/a")), errcode.PrefixOwned)
	wantEqual(t, "rules", len(d.all()), 1)
}

// Contract: rules 1.2.
func TestEditRule_Responses(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/edits.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			d, given := newDesk(t), drafted(t, c[2])
			d.added("wxa", draft("https://h.example/draft"))
			d.published("wxa", draft("https://h.example/live"))
			d.added("wxs", draft(code+"draft"))
			d.published("wxs", draft(code+"live"))
			before, left := d.all(), d.left("wxa")
			d.fetched, d.told, d.now = nil, nil, later
			err := d.Edit(t.Context(), d.as(c[1]), given)
			wantCode(t, err, codeOf(t, c[3]))
			want := slices.Clone(before)
			if err == nil {
				link, _ := rules.ParseLink(given.Prefix)
				i := slices.IndexFunc(want, func(r rules.Rule) bool { return r.Prefix.Key == link.Key })
				want[i], err = before[i].Edit(given, later)
				require.NoError(t, err)
				wantEqual(t, "told", d.told, []string{link.Key})
			} else {
				wantEqual(t, "told", d.told, nil)
			}
			wantEqual(t, "rules", d.all(), want)
			wantEqual(t, "fetched", d.fetched, nil)
			wantEqual(t, "publishes left", d.left("wxa"), left)
		})
	}
}

// Contract: rules 1.4.
func TestPublishRule_Responses(t *testing.T) {
	for _, c := range []struct {
		name, caller, prefix string
		before               func(d *desk)
		want                 *errcode.Code
		spends               int
	}{
		{"a rule of one's own", "wxa", "https://h.example/a", nil, errcode.OK, 1},
		{"by another spelling", "wxa", "HTTPS://H.EXAMPLE/a", nil, errcode.OK, 1},
		{"a published rule again, for nothing", "wxa", "https://h.example/live", nil, errcode.OK, 0},
		{"a published rule again when the quota is spent", "wxa", "https://h.example/live",
			func(d *desk) { d.set(func(s *settings.Settings) { s.PublishQuota = 1 }) }, errcode.OK, 0},
		{"a published rule of a Mini Program without release", "wxa", "https://h.example/live", func(d *desk) { d.release("wxa", false) },
			errcode.OK, 0},
		{"a prefix that is nobody's", "wxa", "https://h.example/nobody", nil, errcode.InvalidArgs, 0},
		{"a rule of another", "wxb", "https://h.example/a", nil, errcode.InvalidArgs, 0},
		{"a text that is no link", "wxa", "a", nil, errcode.InvalidArgs, 0},
		{"no text", "wxa", "", nil, errcode.InvalidArgs, 0},
		{"a link that no database holds", "wxa", "https://h.example/a\x00", nil, errcode.InvalidArgs, 0},
		{"a Mini Program without release", "wxa", "https://h.example/a", func(d *desk) { d.release("wxa", false) }, errcode.NotReleased, 0},
		{"a Mini Program without release when the quota is spent", "wxa", "https://h.example/a",
			func(d *desk) { d.release("wxa", false); d.set(func(s *settings.Settings) { s.PublishQuota = 1 }) }, errcode.NotReleased, 0},
		{"the quota is spent", "wxa", "https://h.example/a", func(d *desk) { d.set(func(s *settings.Settings) { s.PublishQuota = 1 }) },
			errcode.PublishQuota, 0},
		{"the operator allows no publishes", "wxa", "https://h.example/a",
			func(d *desk) { d.set(func(s *settings.Settings) { s.PublishQuota = 0 }) }, errcode.PublishQuota, 0},
		{"a personal Mini Program", "wxpersonal", "https://h.example/a", nil, errcode.PersonalSubject, 0},
		{"a service account without certificate", "wxuncertified", code + "a", nil, errcode.Unauthorized, 0},
		{"a service-account rule", "wxs", code + "a", nil, errcode.OK, 1},
		{"a service-account rule whose Mini Program has no release", "wxs", code + "a", func(d *desk) { d.release("wxa", false) },
			errcode.NotReleased, 0},
		{"a service-account rule whose Mini Program is gone", "wxs", code + "a",
			func(d *desk) { d.write(func(tx accounts.Tx) error { return tx.DeleteAccount(d.t.Context(), "wxa") }) },
			errcode.InvalidWeappAppID, 0},
		{"a service-account rule whose Mini Program is not linked any more", "wxs", code + "a", unlinked, errcode.InvalidWeappAppID, 0},
		{"a service-account rule whose Mini Program is neither linked nor released", "wxs", code + "a",
			func(d *desk) { d.release("wxa", false); unlinked(d) }, errcode.InvalidWeappAppID, 0},
		{"a published service-account rule whose Mini Program is not linked any more", "wxs", code + "live",
			func(d *desk) { d.published("wxs", draft(code+"live")); unlinked(d) }, errcode.InvalidWeappAppID, 1},
		{"a service-account rule when the operator limits them", "wxs", code + "a", func(d *desk) {
			d.set(func(s *settings.Settings) { s.ServicePublishQuota = 1 })
			d.published("wxs", draft(code+"first"))
		}, errcode.PublishQuota, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.added("wxa", draft("https://h.example/a"))
			d.published("wxa", draft("https://h.example/live"))
			d.added("wxs", draft(code+"a"))
			if c.before != nil {
				c.before(d)
			}
			d.now, d.told = later, nil
			wantCode(t, d.Publish(t.Context(), d.as(c.caller), c.prefix), c.want)
			spent := 0
			require.NoError(t, d.store.ViewRules(t.Context(), func(tx rules.Tx) (err error) {
				spent, err = tx.PublishesSince(t.Context(), c.caller, time.Time{})
				return err
			}))
			if c.caller == "wxa" {
				spent-- // the one that is live from the beginning
			}
			wantEqual(t, "publishes spent", spent, c.spends)
			rule := d.rule(c.prefix)
			if c.want == errcode.OK && c.spends == 1 {
				assert.True(t, rule.Published && rule.PublishedAt.Equal(later) && rule.UpdatedAt.Equal(later), "the rule is %+v", rule)
			}
			// Also of one that was published already: perhaps on another node.
			var told []string
			if c.want == errcode.OK {
				told = []string{rule.Prefix.Key}
			}
			wantEqual(t, "told", d.told, told)
		})
	}
}

func (d *desk) release(appid string, exists bool) {
	d.t.Helper()
	a := d.as(appid)
	a.Versions = nil
	if exists {
		a.Versions = []accounts.Version{accounts.Release}
	}
	d.put(a)
}

// Contract: rules 6, 5: the calendar month at +08:00.
// Behaviour(rules.publish.month).
func TestPublishRule_QuotaResetsMonthly(t *testing.T) {
	d := newDesk(t)
	d.set(func(s *settings.Settings) { s.PublishQuota = 2 })
	for i := range 20 {
		d.added("wxa", draft(fmt.Sprintf("https://h.example/%d", i)))
	}
	february := time.Date(2026, 2, 1, 0, 0, 0, 0, time.FixedZone("", 8*3600))
	next := 0
	publish := func(now time.Time, want *errcode.Code, left int) {
		t.Helper()
		d.now = now
		err := d.Publish(t.Context(), d.as("wxa"), fmt.Sprintf("https://h.example/%d", next))
		wantCode(t, err, want)
		if err == nil {
			next++
		}
		wantEqual(t, fmt.Sprint("left at ", now), d.left("wxa"), left)
	}
	publish(february.AddDate(0, -1, 0), errcode.OK, 1)
	publish(february.Add(-3*time.Second), errcode.OK, 0)
	for s := -2; s < 0; s++ {
		publish(february.Add(time.Duration(s)*time.Second), errcode.PublishQuota, 0)
	}
	publish(february.Add(-time.Millisecond), errcode.PublishQuota, 0)
	publish(february, errcode.OK, 1)
	publish(february.Add(time.Second), errcode.OK, 0)
	publish(february.Add(2*time.Second), errcode.PublishQuota, 0)
	publish(february.AddDate(0, 1, 0).Add(-time.Millisecond), errcode.PublishQuota, 0)
	publish(february.AddDate(0, 1, 0), errcode.OK, 1)
}

func TestPublishRule_ReaddSpendsQuota(t *testing.T) {
	d := newDesk(t)
	d.published("wxa", draft("https://h.example/"))
	wantCode(t, d.Delete(t.Context(), d.as("wxa"), "https://h.example/", ""), errcode.OK)
	wantEqual(t, "left after the delete", d.left("wxa"), 99)
	d.published("wxa", draft("https://h.example/"))
	wantEqual(t, "left after the second publish", d.left("wxa"), 98)
	d.set(func(s *settings.Settings) { s.PublishQuota = 1 })
	wantEqual(t, "left is never negative", d.left("wxa"), 0)
	wantEqual(t, "a service account shows 100 while there is no limit", d.left("wxs"), 100)
	d.set(func(s *settings.Settings) { s.ServicePublishQuota = 7 })
	wantEqual(t, "a service account with a limit", d.left("wxs"), 7)
}

// Contract: rules 1.5.
func TestDeleteRule_Responses(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/deletes.txt", 5) {
		t.Run(c[0], func(t *testing.T) {
			caller, prefix := c[1], c[2]
			d := newDesk(t)
			d.added("wxa", draft("https://h.example/a"))
			d.published("wxa", draft("https://h.example/live"))
			d.added("wxs", draft(code+"a"))
			d.told = nil
			err := d.Delete(t.Context(), d.as(caller), prefix, c[3])
			wantCode(t, err, codeOf(t, c[4]))
			if err != nil {
				wantEqual(t, "rules", len(d.all()), 3)
				wantEqual(t, "told", d.told, nil)
				return
			}
			wantEqual(t, "rules", len(d.all()), 2)
			wantEqual(t, "told", len(d.told), 1)
			if caller == "wxa" {
				d.added("wxb", draft(prefix)) // the prefix is free at once
			}
		})
	}
}

// Contract: rules 1.3.
func TestListRules_Responses(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		d.added("wxa", draft(fmt.Sprintf("https://h.example/%d", i)))
	}
	d.added("wxb", draft("https://h.example/b"))
	d.added("wxs", draft(code+"a", opening("wxa")))
	d.added("wxs", draft(code+"b", opening("wxb")))
	prefixes := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("https://h.example/%d", i))
		}
		return list
	}
	h := func(n ...int) (list []string) {
		for _, i := range n {
			list = append(list, fmt.Sprintf("https://h.example/%d", i))
		}
		return list
	}
	for _, c := range []struct {
		name, caller string
		req          rules.ListRequest
		want         *errcode.Code
		prefixes     []string
		total        int
	}{
		{"the newest", "wxa", rules.ListRequest{}, errcode.OK, h(4, 3, 2, 1, 0), 5},
		{"an appid means nothing for a Mini Program", "wxa", rules.ListRequest{AppID: "wxb"}, errcode.OK, h(4, 3, 2, 1, 0), 5},
		{"by prefix", "wxa", rules.ListRequest{Type: rules.ListPrefixes,
			Prefixes: []string{"HTTPS://h.example/1", "https://h.example/b", "x", "https://h.example/9", "https://h.example/\x00"}},
			errcode.OK, h(1), 5},
		{"by 200 prefixes", "wxa", rules.ListRequest{Type: rules.ListPrefixes, Prefixes: prefixes(200)}, errcode.OK, h(0, 1, 2, 3, 4), 5},
		{"by nothing that is a link", "wxa", rules.ListRequest{Type: rules.ListPrefixes, Prefixes: []string{"x"}}, errcode.OK, nil, 5},
		{"by no prefix", "wxa", rules.ListRequest{Type: rules.ListPrefixes}, errcode.InvalidArgs, nil, 0},
		{"by 201 prefixes", "wxa", rules.ListRequest{Type: rules.ListPrefixes, Prefixes: prefixes(201)}, errcode.InvalidArgs, nil, 0},
		{"the first page", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1, PageSize: 2}, errcode.OK, h(0, 1), 5},
		{"the last page", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 3, PageSize: 2}, errcode.OK, h(4), 5},
		{"a page after the last", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 4, PageSize: 2}, errcode.OK, nil, 5},
		{"a page beyond all numbers", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1<<63 - 1, PageSize: 200}, errcode.OK, nil, 5},
		{"page 0", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 0, PageSize: 2}, errcode.InvalidArgs, nil, 0},
		{"a page of 0", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1}, errcode.InvalidArgs, nil, 0},
		{"a page of 201", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1, PageSize: 201}, errcode.InvalidArgs, nil, 0},
		{"an unknown type", "wxa", rules.ListRequest{Type: 3}, errcode.InvalidArgs, nil, 0},
		{"what cannot be asked comes before who asks", "wxpersonal", rules.ListRequest{Type: 3}, errcode.InvalidArgs, nil, 0},
		{"a personal Mini Program", "wxpersonal", rules.ListRequest{}, errcode.PersonalSubject, nil, 0},
		{"a service account", "wxs", rules.ListRequest{}, errcode.OK, []string{code + "b", code + "a"}, 2},
		{"a service account, by Mini Program", "wxs", rules.ListRequest{AppID: "wxa"}, errcode.OK, []string{code + "a"}, 1},
		{"a service account, by one that is not linked", "wxs", rules.ListRequest{AppID: "wxc"}, errcode.InvalidWeappAppID, nil, 0},
		{"a Mini Program without rules", "wxc", rules.ListRequest{}, errcode.OK, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := d.List(t.Context(), d.as(c.caller), c.req)
			wantCode(t, err, c.want)
			var list []string
			for _, r := range got.Rules {
				list = append(list, r.Prefix.Text)
			}
			wantEqual(t, "prefixes", list, c.prefixes)
			wantEqual(t, "total", got.Total, c.total)
			if err == nil {
				wantEqual(t, "open", got.Open, true)
				wantEqual(t, "left", got.PublishesLeft, 100)
			}
		})
	}
}

// The seed: no verification file, no quota, no limit; all else as in Add.
func TestPlantRule_SkipsVerificationAndQuota(t *testing.T) {
	d := newDesk(t)
	d.set(func(s *settings.Settings) { s.RuleLimit, s.PublishQuota = 0, 0 })
	plant := func(appid string, given rules.Draft, published bool) error {
		t.Helper()
		return d.Seed(t.Context(), d.as(appid), given, published)
	}
	wantCode(t, plant("wxa", draft("http://127.0.0.1:8080/", occupying), true), errcode.OK)
	first := d.rule("http://127.0.0.1:8080/")
	wantEqual(t, "published", first.Published, true)
	wantEqual(t, "fetched", d.fetched, nil)
	d.now = later
	wantCode(t, plant("wxa", draft("http://127.0.0.1:8080/", withPath("other"), withLinks("http://127.0.0.1:8080/1")), false), errcode.OK)
	want := *first
	want.Path, want.Occupy, want.TestLinks, want.Published, want.UpdatedAt = "other", false, []string{"http://127.0.0.1:8080/1"}, false,
		later
	wantEqual(t, "planted again", *d.rule("http://127.0.0.1:8080/"), want)
	wantCode(t, plant("wxs", draft(code+"a"), true), errcode.OK)
	wantCode(t, plant("wxs", draft(code+"a", opening("wxb")), true), errcode.OK)
	wantEqual(t, "retargeted", d.rule(code+"a").Target, "wxb")

	wantCode(t, plant("wxa", draft("https://occupied.example/", occupying), false), errcode.OK)
	for _, c := range testtable.Rows(t, "testdata/invalid_seeds.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			given := drafted(t, c[2])
			err := plant(c[1], given, true)
			wantCode(t, err, codeOf(t, c[3]))
			assert.True(t, err != nil && strings.Contains(err.Error(), given.Prefix), "%v does not name the rule", err)
		})
	}
}

func TestPrefixHistory_NamesActors(t *testing.T) {
	d := newDesk(t)
	d.published("wxa", draft("https://h.example"))
	wantCode(t, d.Edit(d.by("wxa"), d.as("wxa"), draft("https://h.example", occupying)), errcode.OK)
	wantCode(t, d.Delete(d.by("wxa"), d.as("wxa"), "https://h.example", ""), errcode.OK)
	d.added("wxb", draft("https://h.example/"))
	wantCode(t, d.Seed(d.by("seed"), d.as("wxb"), draft("https://h.example/"), false), errcode.OK)
	changes, err := d.History(t.Context(), "HTTPS://H.example", 100)
	require.NoError(t, err)
	var got []string
	for _, c := range changes {
		got = append(got, c.ActorID+" "+c.Action+" "+c.RID)
	}
	wantEqual(t, "history, newest first", got, []string{"seed edit rid-6", "wxb add rid-5", "wxa delete rid-4", "wxa edit rid-3",
		"wxa publish rid-2", "wxa add rid-1"})
	for _, text := range []string{"x", "https://h.example/\x00"} {
		assert.ErrorIs(t, assert.ErrorOf(d.History(t.Context(), text, 1)), rules.ErrNotLink, "%q", text)
	}
}

func TestOccupier_OfPrefix(t *testing.T) {
	d := newDesk(t)
	d.added("wxc", draft("https://h.example/a/b/"))
	d.added("wxb", draft("https://h.example/a/b/c"))
	d.added("wxb", draft("https://h.example/a", occupying))
	d.added("wxa", draft("https://h.example/a/", occupying))
	occupiers := func(prefix string, want ...string) {
		t.Helper()
		list, err := d.Occupiers(t.Context(), prefix)
		require.NoError(t, err)
		got := []string{}
		for _, r := range list {
			got = append(got, r.Owner+" "+r.Prefix.Text)
		}
		slices.Sort(got)
		wantEqual(t, prefix, got, append([]string{}, want...))
	}
	occupiers("https://h.example/a/b/c", "wxa https://h.example/a/", "wxb https://h.example/a/b/c")
	occupiers("https://h.example/a/b/d", "wxa https://h.example/a/")
	occupiers("https://h.example/a?x=1", "wxb https://h.example/a")
	occupiers("https://h.example/b")
	for _, text := range []string{"x", "https://h.example/\x00"} {
		_, err := d.Occupiers(t.Context(), text)
		wantCode(t, err, errcode.IllegalPrefix)
	}
}

func TestSetDomain_LowercaseAndRevert(t *testing.T) {
	d := newDesk(t)
	for _, host := range []string{"H.Example", "localhost:8080", "[::1]:80", "a_b.example"} {
		assert.NoErrorf(t, d.SetDomain(t.Context(), host, rules.Denied), "%s", host)
	}
	for _, host := range []string{"", "a b", "https://h.example", "h/x", "扫.example", "h\x00", strings.Repeat("x", 256)} {
		_, ok := errors.AsType[accounts.Invalid](d.SetDomain(t.Context(), host, rules.Denied))
		assert.True(t, ok, "%q was taken", host)
	}
	require.NoError(t, d.SetDomain(t.Context(), "h.EXAMPLE", ""))
	list, err := d.Domains(t.Context(), "", 0)
	require.NoError(t, err)
	var got []string
	for _, domain := range list {
		got = append(got, domain.Host)
	}
	wantEqual(t, "domains", got, []string{"[::1]:80", "a_b.example", "localhost:8080"})
}

// losing is a store whose transactions lose their first run in the middle, as PostgreSQL's do after a deadlock.
type losing struct {
	rules.Store
	locked [][]string // by run
}

var errLost = errors.New("deadlock")

func (l *losing) UpdateRules(ctx context.Context, f func(rules.Tx) error) error {
	for _, loses := range []bool{true, false} {
		err := l.Store.UpdateRules(ctx, func(tx rules.Tx) error {
			l.locked = append(l.locked, nil)
			return f(losingTx{tx, l, loses})
		})
		if !loses || !errors.Is(err, errLost) {
			return err
		}
	}
	panic("unreachable")
}

func (l *losing) ChangeRules(ctx context.Context, _, _ string, f func(rules.Tx) error) error {
	return l.UpdateRules(ctx, f)
}

type losingTx struct {
	rules.Tx
	store *losing
	loses bool
}

func (l losingTx) note(text string) {
	run := &l.store.locked[len(l.store.locked)-1]
	*run = append(*run, text)
}

func (l losingTx) LockOwner(ctx context.Context, appid string) error {
	l.note("owner " + appid)
	return l.Tx.LockOwner(ctx, appid)
}

func (l losingTx) LockOrigin(ctx context.Context, origin string) error {
	l.note("origin " + origin)
	return l.Tx.LockOrigin(ctx, origin)
}

func (l losingTx) Publishing(ctx context.Context, owner string, link rules.Link, since time.Time) (rules.Publishing, error) {
	l.note("owner " + owner)
	l.note("origin " + link.Origin())
	if l.loses {
		return rules.Publishing{}, errLost
	}
	return l.Tx.Publishing(ctx, owner, link, since)
}

func (l losingTx) RulesAt(ctx context.Context, keys []string) ([]rules.Rule, error) {
	if l.loses {
		return nil, errLost
	}
	return l.Tx.RulesAt(ctx, keys)
}

func (l losingTx) Rule(ctx context.Context, key string) (rules.Rule, error) {
	if l.loses {
		return rules.Rule{}, errLost
	}
	return l.Tx.Rule(ctx, key)
}

// A closure keeps nothing from the run that lost: it once locked the origin of an empty rule when it was run again.
func TestRuleTransaction_RetryIdempotent(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(d *desk) error
	}{
		{"add", func(d *desk) error { return d.Add(d.t.Context(), d.as("wxa"), draft("https://h.example/new")) }},
		{"edit", func(d *desk) error {
			return d.Edit(d.t.Context(), d.as("wxa"), draft("https://h.example/old", occupying))
		}},
		{"publish", func(d *desk) error { return d.Publish(d.t.Context(), d.as("wxa"), "https://h.example/old") }},
		{"delete", func(d *desk) error { return d.Delete(d.t.Context(), d.as("wxa"), "https://h.example/old", "") }},
		{"plant", func(d *desk) error {
			return d.Seed(d.t.Context(), d.as("wxa"), draft("https://h.example/new"), true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.added("wxa", draft("https://h.example/old"))
			d.told = nil
			l := &losing{Store: d.store}
			d.Service.Store = l
			wantCode(t, c.run(d), errcode.OK)
			runs := slices.DeleteFunc(l.locked, func(run []string) bool { return run == nil }) // records lock nothing
			want := []string{"owner wxa", "origin https://h.example"}
			wantEqual(t, "locks", runs, [][]string{want, want})
			wantEqual(t, "told", len(d.told), 1)
		})
	}
}

// Issue 12, 12: a code that another service account made since a rule on it was deleted is that account's, as it is for an add.
func TestUndoRule_CodeOfOtherAccount(t *testing.T) {
	d := newDesk(t)
	for text, want := range map[string]error{code + "02AAAAAAAAAAAAAAanothr": errcode.PrefixOwned, code + "02AAAAAAAAAAAAAAAAAown": nil} {
		d.added("wxs", draft(text))
		require.NoError(t, d.Delete(t.Context(), d.as("wxs"), text, "wxa"))
		maker := "wxs"
		if want != nil {
			maker = "wxs2"
		}
		name := strings.TrimPrefix(text, code)
		d.write(func(tx accounts.Tx) error {
			return tx.AddQRCode(t.Context(), accounts.QRCode{Code: name, Ticket: name, Account: maker, Action: accounts.QRTextForEver,
				Scene: name, CreatedAt: noon})
		})
		var deleted rules.Change
		require.NoError(t, d.store.ViewRules(t.Context(), func(tx rules.Tx) error {
			all, err := tx.Changes(t.Context(), text, 1)
			deleted = all[0]
			return err
		}))
		_, err := d.Undo(t.Context(), deleted.Seq)
		assert.ErrorIs(t, err, want, "an undo on %s, which %s made: %v, want %v", text, maker, err, want)
		err = d.Add(t.Context(), d.as("wxs"), draft(text))
		assert.True(t, want == nil || errors.Is(err, want), "an add on %s: %v", text, err)
	}
}
