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

// fixture is a Service on a real store. serveFile returns the verification file of a URL.
type fixture struct {
	*rules.Service
	t         *testing.T
	store     *store.Store
	now       time.Time
	serveFile func(url string) (string, error)
	fetched   []string
	notified  []string
	calls     int
}

const confirmText = "0123456789abcdef0123456789abcdef"

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s := require.Value(store.Open(t.Context(), store.Target{Dir: storetest.Folder(t)}))(t)
	t.Cleanup(func() { s.Close() })
	return s
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	s := openStore(t)
	d := &fixture{t: t, store: s, now: noon, serveFile: func(string) (string, error) { return confirmText, nil }}
	d.Service = &rules.Service{
		Store: s, Epochs: s.Epochs(), Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return d.now },
		Fetch: func(_ context.Context, url string, _ bool) ([]byte, []rules.FetchStep, error) {
			d.fetched = append(d.fetched, url)
			body, err := d.serveFile(url)
			return []byte(body), []rules.FetchStep{{OccurredAt: d.now, Action: "fetched", Detail: url}}, err
		},
		Changed: func(_ context.Context, key string) { d.notified = append(d.notified, key) },
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
		d.putAccount(a)
	}
	for _, service := range []string{"wxs", "wxs2"} {
		for _, mini := range []string{"wxa", "wxb", "wxpersonal"} {
			d.updateAccounts(func(tx accounts.Tx) error { return tx.PutLink(t.Context(), service, mini, noon) })
		}
	}
	return d
}

// unlink deletes the link of wxs with wxa.
func unlink(d *fixture) {
	d.updateAccounts(func(tx accounts.Tx) error { return tx.DeleteLink(d.t.Context(), "wxs", "wxa") })
}

func (d *fixture) updateAccounts(f func(accounts.Tx) error) {
	d.t.Helper()
	require.NoError(d.t, d.store.UpdateAccounts(d.t.Context(), f))
}

func (d *fixture) putAccount(a accounts.Account) {
	d.t.Helper()
	d.updateAccounts(func(tx accounts.Tx) error { return tx.PutAccount(d.t.Context(), a) })
}

// account reads the stored account.
func (d *fixture) account(appid string) (a accounts.Account) {
	d.t.Helper()
	require.NoError(d.t, d.store.ViewAccounts(d.t.Context(), func(tx accounts.Tx) (err error) {
		a, err = tx.Account(d.t.Context(), appid)
		return err
	}))
	return a
}

// actorContext returns the context of a call by an account, with a unique request id.
func (d *fixture) actorContext(appid string) context.Context {
	d.calls++
	return accounts.WithActor(d.t.Context(), accounts.Actor{ActorID: appid, RID: fmt.Sprint("rid-", d.calls)})
}

func (d *fixture) updateSettings(f func(*settings.Settings)) {
	values := d.Settings.Get()
	f(&values)
	d.Settings.Set(values)
}

// draft returns a valid draft for prefix with the given changes.
func draft(prefix string, change ...func(*rules.Draft)) rules.Draft {
	d := rules.Draft{Prefix: prefix, Path: "pages/index", OpenVersion: rules.OpenRelease}
	if strings.HasPrefix(prefix, codePrefix) {
		d.AppID = "wxa"
	}
	for _, f := range change {
		f(&d)
	}
	return d
}

// codePrefix begins the prefixes of service accounts.
const codePrefix = "http://weixin.qq.com/q/"

func withOccupy(d *rules.Draft) { d.Occupy = true }

func withLinks(links ...string) func(*rules.Draft) {
	return func(d *rules.Draft) { d.TestLinks = links }
}

func withAppID(appid string) func(*rules.Draft) { return func(d *rules.Draft) { d.AppID = appid } }

func withPath(path string) func(*rules.Draft) { return func(d *rules.Draft) { d.Path = path } }

// parseDraft returns the draft of a table: a prefix, then path=PAGE, appid=APPID, links=TEXT,TEXT and occupy where they differ from draft.
func parseDraft(t *testing.T, text string) rules.Draft {
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
			t.Fatalf("%s: unknown key %s", text, key)
		}
	}
	return d
}

func (d *fixture) addRule(appid string, draft rules.Draft) {
	d.t.Helper()
	require.NoError(d.t, d.Add(d.actorContext(appid), d.account(appid), draft))
}

func (d *fixture) publishRule(appid string, draft rules.Draft) {
	d.t.Helper()
	d.addRule(appid, draft)
	require.NoError(d.t, d.Publish(d.actorContext(appid), d.account(appid), draft.Prefix))
}

// rule returns the stored rule with prefix, or nil.
func (d *fixture) rule(prefix string) *rules.Rule {
	d.t.Helper()
	link, _ := rules.ParseLink(prefix)
	for _, r := range d.allRules() {
		if r.Prefix.Key == link.Key {
			return &r
		}
	}
	return nil
}

func (d *fixture) allRules() []rules.Rule {
	d.t.Helper()
	return require.All(d.t, d.store.AllRules(d.t.Context()))
}

func (d *fixture) publishesLeft(appid string) int {
	d.t.Helper()
	return require.Value(d.PublishesLeft(d.t.Context(), d.account(appid)))(d.t)
}

// TestAddRule_ErrorPrecedence corrects one fault from row to row and verifies that the error is that of the first remaining fault.
// Contract: rules 1.8.
func TestAddRule_ErrorPrecedence(t *testing.T) {
	d := newFixture(t)
	d.addRule("wxa", draft("https://full.example/mine"))
	d.addRule("wxb", draft("https://full.example/", withOccupy))
	d.addRule("wxb", draft("https://full.example/theirs"))
	for host, status := range map[string]rules.DomainStatus{"full.example": rules.Denied, "denied.example": rules.Denied,
		"noicp.example": rules.NoICP} {
		require.NoError(t, d.SetDomain(t.Context(), host, status))
	}
	d.serveFile = func(string) (string, error) { return "", errors.New("no file") }
	d.fetched = nil
	d.updateSettings(func(s *settings.Settings) { s.RuleLimit, s.ServiceRuleLimit = 1, 0 })
	before := map[string]func(){
		"a denied host": func() { d.updateSettings(func(s *settings.Settings) { s.RuleLimit = 2 }) },
		"no verification file": func() {
			assert.True(t, len(d.fetched) == 0, "%v was fetched although the draft has another fault, want no fetch", d.fetched)
		},
		"nothing wrong": func() { d.serveFile = func(string) (string, error) { return confirmText, nil } },
	}
	applied := 0
	for _, c := range testtable.Rows(t, "testdata/add_precedence.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			if f := before[c[0]]; f != nil {
				applied++
				f()
			}
			n := len(d.allRules())
			err := d.Add(t.Context(), d.account(c[1]), parseDraft(t, c[2]))
			assertCode(t, err, codeOf(t, c[3]))
			assert.True(t, err == nil || len(d.allRules()) == n, "%d rules after an error, want %d", len(d.allRules()), n)
		})
	}
	assert.Equal(t, applied, len(before), "changes between the rows")
}

// Contract: rules 1.1, 1.8 (40097).
func TestAddRule_FieldValidation(t *testing.T) {
	d := newFixture(t)
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
		{"a service-account rule", "wxs", withAppID("wxa"), errcode.OK},
		{"a service-account rule without a Mini Program", "wxs", withAppID(""), errcode.InvalidArgs},
		{"a service-account rule that opens a service account", "wxs", withAppID("wxs2"), errcode.InvalidWeappAppID},
		{"a service-account rule that opens an unknown account", "wxs", withAppID("wxunknown"), errcode.InvalidWeappAppID},
		{"a service-account rule that opens an AppID with NUL", "wxs", withAppID("wxa\x00"), errcode.InvalidWeappAppID},
		{"a service-account rule ignores the test range", "wxs", func(d *rules.Draft) { d.AppID, d.OpenVersion = "wxa", 0 },
			errcode.OK},
		{"a service-account rule ignores test links", "wxs", func(d *rules.Draft) { d.AppID, d.TestLinks = "wxa", make([]string, 9) },
			errcode.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := fmt.Sprintf("https://h%d.example/", i)
			if c.caller == "wxs" {
				prefix = fmt.Sprint(codePrefix, i)
			}
			draft := draft(prefix, c.change)
			for i, link := range draft.TestLinks {
				draft.TestLinks[i] = prefix + link
			}
			err := d.Add(t.Context(), d.account(c.caller), draft)
			assertCode(t, err, c.want)
			rule := d.rule(prefix)
			require.True(t, (rule != nil) == (err == nil), "stored rule = %v after error %v", rule, err)
			if rule == nil {
				return
			}
			want := rules.Rule{ID: rule.ID, Kind: rules.Ordinary, Owner: c.caller, Target: "wxa", Prefix: rule.Prefix, Path: draft.Path,
				OpenVersion: draft.OpenVersion, TestLinks: draft.TestLinks, CreatedAt: noon, UpdatedAt: noon}
			if c.caller == "wxs" {
				want.Kind, want.OpenVersion, want.TestLinks = rules.KindService, 0, nil
			}
			assertEqual(t, "rule", *rule, want)
			// An edit validates the same.
			assertCode(t, d.Edit(t.Context(), d.account(c.caller), draft), errcode.OK)
			want.TestLinks = slices.Clone(want.TestLinks)
			assertEqual(t, "rule after an edit that changes nothing", *d.rule(prefix), want)
		})
	}
}

// Contract: rules 2.4, 2.10.
func TestAddRule_PrefixOwnership(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/prefix_owners.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			d := newFixture(t)
			add := func(text string) error {
				words := strings.Fields(text)
				return d.Add(d.actorContext(words[0]), d.account(words[0]), draft(words[len(words)-1], withAppID("wxa"),
					func(d *rules.Draft) { d.Occupy = len(words) == 3 }))
			}
			earlier := testtable.List(c[1])
			for _, text := range earlier {
				require.NoError(t, add(text))
			}
			err := add(c[2])
			assertCode(t, err, codeOf(t, c[3]))
			assertEqual(t, "rules", len(d.allRules()), len(earlier)+map[bool]int{true: 1}[err == nil])
		})
	}
}

func TestAddRule_AfterOccupierRemoved(t *testing.T) {
	for name, remove := range map[string]func(d *fixture) error{
		"deleted": func(d *fixture) error { return d.Delete(d.t.Context(), d.account("wxb"), "https://h.example/", "") },
		"edited": func(d *fixture) error {
			return d.Edit(d.t.Context(), d.account("wxb"), draft("https://h.example/"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFixture(t)
			d.addRule("wxb", draft("https://h.example/", withOccupy))
			assertCode(t, d.Add(t.Context(), d.account("wxa"), draft("https://h.example/a")), errcode.PrefixOwned)
			assertCode(t, remove(d), errcode.OK)
			assertCode(t, d.Add(t.Context(), d.account("wxa"), draft("https://h.example/a")), errcode.OK)
		})
	}
}

func TestAddRule_CountLimit(t *testing.T) {
	d := newFixture(t)
	d.updateSettings(func(s *settings.Settings) { s.RuleLimit, s.ServiceRuleLimit = 2, 2 })
	add := func(caller string, draft rules.Draft, want *errcode.Code) {
		t.Helper()
		assertCode(t, d.Add(t.Context(), d.account(caller), draft), want)
	}
	add("wxa", draft("https://h.example/1"), errcode.OK)
	add("wxa", draft("https://h.example/2"), errcode.OK)
	add("wxa", draft("https://h.example/3"), errcode.PrefixLimit)
	add("wxb", draft("https://h.example/4"), errcode.OK)
	// Rules of service accounts count separately, per target Mini Program and for all service accounts together.
	add("wxs", draft(codePrefix+"1", withAppID("wxa")), errcode.OK)
	add("wxs2", draft(codePrefix+"2", withAppID("wxa")), errcode.OK)
	add("wxs", draft(codePrefix+"3", withAppID("wxa")), errcode.PrefixLimit)
	add("wxs", draft(codePrefix+"3", withAppID("wxb")), errcode.OK)
	assertCode(t, d.Edit(t.Context(), d.account("wxs"), draft(codePrefix+"3", withAppID("wxa"))), errcode.PrefixLimit)
	assertCode(t, d.Edit(t.Context(), d.account("wxs"), draft(codePrefix+"1", withAppID("wxa"), withPath("other"))), errcode.OK)
	assertCode(t, d.Delete(t.Context(), d.account("wxa"), "https://h.example/1", ""), errcode.OK)
	add("wxa", draft("https://h.example/3"), errcode.OK)
}

// Contract: rules 1: 100 rules for each Mini Program.
func TestTheNumberOfRulesIsLimited_ByDefault(t *testing.T) {
	d := newFixture(t)
	for n := range 100 {
		assertCode(t, d.Add(t.Context(), d.account("wxa"), draft(fmt.Sprintf("https://h.example/%d", n))), errcode.OK)
	}
	assertCode(t, d.Add(t.Context(), d.account("wxa"), draft("https://h.example/100")), errcode.PrefixLimit)
}

// Contract: rules 2.7.
func TestAddRule_VerificationFile(t *testing.T) {
	for _, c := range []struct {
		name     string
		file     string
		fetchErr error
		want     *errcode.Code
		reason   string
	}{
		{"is in place", confirmText, nil, errcode.OK, "in place"},
		{"may have white space around it", "\r\n " + confirmText + "\n", nil, errcode.OK, "in place"},
		{"may have no other text", confirmText + "0", nil, errcode.ConfirmFileFailed, confirmText},
		{"is case-sensitive", strings.ToUpper(confirmText), nil, errcode.ConfirmFileFailed, "want exactly"},
		{"is empty", "", nil, errcode.ConfirmFileFailed, `the file contains ""`},
		{"is of another account", strings.Repeat("f", 32), nil, errcode.ConfirmFileFailed, "ffff"},
		{"is no text", "\xff\x00", nil, errcode.ConfirmFileFailed, "want exactly"},
		{"cannot be fetched", confirmText, errors.New("status 302"), errcode.ConfirmFileFailed, "status 302"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFixture(t)
			d.serveFile = func(string) (string, error) { return c.file, c.fetchErr }
			ctx := d.actorContext("wxa")
			rid := accounts.ActorFromContext(ctx).RID
			err := d.Add(ctx, d.account("wxa"), draft("https://h.example/sub/page?x=1"))
			assertCode(t, err, c.want)
			assertEqual(t, "fetched", d.fetched, []string{"https://h.example/sub/AbCdEfGhIj.txt"})
			assertEqual(t, "stored", d.rule("https://h.example/sub/page?x=1") != nil, err == nil)
			list, listErr := d.Confirmations(t.Context(), rules.VerificationQuery{RID: rid, Limit: 10})
			require.True(t, listErr == nil && len(list) == 1, "%d records, %v", len(list), listErr)
			got := list[0]
			assert.True(t, strings.Contains(got.Reason, c.reason), "reason of the record = %q, want %q in it", got.Reason, c.reason)
			got.Reason = ""
			assertEqual(t, "record", got, rules.Confirmation{RID: rid, At: noon, Owner: "wxa", Prefix: "https://h.example/sub/page?x=1",
				URL: d.fetched[0], OK: err == nil,
				Steps: []rules.FetchStep{{OccurredAt: noon, Action: "fetched", Detail: d.fetched[0]}}})
		})
	}
}

// Behaviour(rules.confirm.named).
func TestAddRule_VerificationExemptHosts(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/exempt_hosts.txt", 6) {
		t.Run(c[0], func(t *testing.T) {
			d := newFixture(t)
			d.updateSettings(func(s *settings.Settings) {
				s.Verification, s.AllowPrivateHosts = settings.Verification{Mode: settings.Mode(c[2]), Hosts: testtable.List(c[3])}, true
			})
			if c[4] != "" {
				require.NoError(t, d.SetDomain(t.Context(), c[4], rules.Trusted))
			}
			caller := "wxa"
			if strings.HasPrefix(c[1], codePrefix) {
				caller = "wxs"
			}
			d.addRule(caller, draft(c[1]))
			assertEqual(t, "fetched", len(d.fetched) > 0, c[5] == "yes")
		})
	}
}

// TestAddRule_PrefixTakenDuringFetch adds a rule while the verification file of another is fetched, and verifies that the second is
// rejected.
func TestAddRule_PrefixTakenDuringFetch(t *testing.T) {
	d := newFixture(t)
	first := true
	d.serveFile = func(string) (string, error) {
		if first {
			first = false
			d.addRule("wxb", draft("https://h.example/", withOccupy))
		}
		return confirmText, nil
	}
	assertCode(t, d.Add(t.Context(), d.account("wxa"), draft("https://h.example/a")), errcode.PrefixOwned)
	assertEqual(t, "rules", len(d.allRules()), 1)
}

// Contract: rules 1.2.
func TestEditRule_Responses(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/edits.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			d, edit := newFixture(t), parseDraft(t, c[2])
			d.addRule("wxa", draft("https://h.example/draft"))
			d.publishRule("wxa", draft("https://h.example/live"))
			d.addRule("wxs", draft(codePrefix+"draft"))
			d.publishRule("wxs", draft(codePrefix+"live"))
			before, quota := d.allRules(), d.publishesLeft("wxa")
			d.fetched, d.notified, d.now = nil, nil, nextHour
			err := d.Edit(t.Context(), d.account(c[1]), edit)
			assertCode(t, err, codeOf(t, c[3]))
			want := slices.Clone(before)
			if err == nil {
				link, _ := rules.ParseLink(edit.Prefix)
				i := slices.IndexFunc(want, func(r rules.Rule) bool { return r.Prefix.Key == link.Key })
				want[i] = require.Value(before[i].Edit(edit, nextHour))(t)
				assertEqual(t, "notified", d.notified, []string{link.Key})
			} else {
				assertEqual(t, "notified", d.notified, nil)
			}
			assertEqual(t, "rules", d.allRules(), want)
			assertEqual(t, "fetched", d.fetched, nil)
			assertEqual(t, "publishes left", d.publishesLeft("wxa"), quota)
		})
	}
}

// Contract: rules 1.4.
func TestPublishRule_Responses(t *testing.T) {
	for _, c := range []struct {
		name, caller, prefix string
		before               func(d *fixture)
		want                 *errcode.Code
		publishes            int
	}{
		{"a rule of the caller", "wxa", "https://h.example/a", nil, errcode.OK, 1},
		{"by another spelling", "wxa", "HTTPS://H.EXAMPLE/a", nil, errcode.OK, 1},
		{"a published rule again, free of charge", "wxa", "https://h.example/live", nil, errcode.OK, 0},
		{"a published rule again when the quota is spent", "wxa", "https://h.example/live",
			func(d *fixture) { d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 1 }) }, errcode.OK, 0},
		{"a published rule of a Mini Program without release", "wxa", "https://h.example/live",
			func(d *fixture) { d.withdrawRelease("wxa") },
			errcode.OK, 0},
		{"a prefix without a rule", "wxa", "https://h.example/unknown", nil, errcode.InvalidArgs, 0},
		{"a rule of another account", "wxb", "https://h.example/a", nil, errcode.InvalidArgs, 0},
		{"a text that is no link", "wxa", "a", nil, errcode.InvalidArgs, 0},
		{"no text", "wxa", "", nil, errcode.InvalidArgs, 0},
		{"a link with NUL", "wxa", "https://h.example/a\x00", nil, errcode.InvalidArgs, 0},
		{"a Mini Program without release", "wxa", "https://h.example/a", func(d *fixture) { d.withdrawRelease("wxa") }, errcode.NotReleased,
			0},
		{"a Mini Program without release when the quota is spent", "wxa", "https://h.example/a",
			func(d *fixture) {
				d.withdrawRelease("wxa")
				d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 1 })
			}, errcode.NotReleased, 0},
		{"the quota is spent", "wxa", "https://h.example/a",
			func(d *fixture) { d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 1 }) },
			errcode.PublishQuota, 0},
		{"the operator allows no publishes", "wxa", "https://h.example/a",
			func(d *fixture) { d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 0 }) }, errcode.PublishQuota, 0},
		{"a personal Mini Program", "wxpersonal", "https://h.example/a", nil, errcode.PersonalSubject, 0},
		{"a service account without certificate", "wxuncertified", codePrefix + "a", nil, errcode.Unauthorized, 0},
		{"a service-account rule", "wxs", codePrefix + "a", nil, errcode.OK, 1},
		{"a service-account rule whose Mini Program has no release", "wxs", codePrefix + "a", func(d *fixture) { d.withdrawRelease("wxa") },
			errcode.NotReleased, 0},
		{"a service-account rule whose Mini Program was deleted", "wxs", codePrefix + "a",
			func(d *fixture) {
				d.updateAccounts(func(tx accounts.Tx) error { return tx.DeleteAccount(d.t.Context(), "wxa") })
			},
			errcode.InvalidWeappAppID, 0},
		{"a service-account rule whose Mini Program is no longer linked", "wxs", codePrefix + "a", unlink, errcode.InvalidWeappAppID, 0},
		{"a service-account rule whose Mini Program is neither linked nor released", "wxs", codePrefix + "a",
			func(d *fixture) { d.withdrawRelease("wxa"); unlink(d) }, errcode.InvalidWeappAppID, 0},
		{"a published service-account rule whose Mini Program is no longer linked", "wxs", codePrefix + "live",
			func(d *fixture) { d.publishRule("wxs", draft(codePrefix+"live")); unlink(d) }, errcode.InvalidWeappAppID, 1},
		{"a service-account rule when the operator limits them", "wxs", codePrefix + "a", func(d *fixture) {
			d.updateSettings(func(s *settings.Settings) { s.ServicePublishQuota = 1 })
			d.publishRule("wxs", draft(codePrefix+"first"))
		}, errcode.PublishQuota, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFixture(t)
			d.addRule("wxa", draft("https://h.example/a"))
			d.publishRule("wxa", draft("https://h.example/live"))
			d.addRule("wxs", draft(codePrefix+"a"))
			if c.before != nil {
				c.before(d)
			}
			d.now, d.notified = nextHour, nil
			assertCode(t, d.Publish(t.Context(), d.account(c.caller), c.prefix), c.want)
			publishes := 0
			require.NoError(t, d.store.ViewRules(t.Context(), func(tx rules.Tx) (err error) {
				publishes, err = tx.PublishesSince(t.Context(), c.caller, time.Time{})
				return err
			}))
			if c.caller == "wxa" {
				publishes-- // of the rule that was published before
			}
			assertEqual(t, "publishes", publishes, c.publishes)
			rule := d.rule(c.prefix)
			if c.want == errcode.OK && c.publishes == 1 {
				assert.True(t, rule.Published && rule.PublishedAt.Equal(nextHour) && rule.UpdatedAt.Equal(nextHour),
					"rule = %+v, want it published at %s", rule, nextHour)
			}
			// A rule that was published already is notified too: it may have been published on another node.
			var notified []string
			if c.want == errcode.OK {
				notified = []string{rule.Prefix.Key}
			}
			assertEqual(t, "notified", d.notified, notified)
		})
	}
}

// withdrawRelease deletes all versions of an account.
func (d *fixture) withdrawRelease(appid string) {
	a := d.account(appid)
	a.Versions = nil
	d.putAccount(a)
}

// Contract: rules 6, 5: the calendar month at +08:00.
// Behaviour(rules.publish.month).
func TestPublishRule_QuotaResetsMonthly(t *testing.T) {
	d := newFixture(t)
	d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 2 })
	for i := range 20 {
		d.addRule("wxa", draft(fmt.Sprintf("https://h.example/%d", i)))
	}
	february := time.Date(2026, 2, 1, 0, 0, 0, 0, time.FixedZone("", 8*3600))
	next := 0
	publish := func(now time.Time, want *errcode.Code, quota int) {
		t.Helper()
		d.now = now
		err := d.Publish(t.Context(), d.account("wxa"), fmt.Sprintf("https://h.example/%d", next))
		assertCode(t, err, want)
		if err == nil {
			next++
		}
		assertEqual(t, fmt.Sprint("publishes left at ", now), d.publishesLeft("wxa"), quota)
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
	d := newFixture(t)
	d.publishRule("wxa", draft("https://h.example/"))
	assertCode(t, d.Delete(t.Context(), d.account("wxa"), "https://h.example/", ""), errcode.OK)
	assertEqual(t, "publishes left after the delete", d.publishesLeft("wxa"), 99)
	d.publishRule("wxa", draft("https://h.example/"))
	assertEqual(t, "publishes left after the second publish", d.publishesLeft("wxa"), 98)
	d.updateSettings(func(s *settings.Settings) { s.PublishQuota = 1 })
	assertEqual(t, "publishes left with a smaller quota", d.publishesLeft("wxa"), 0)
	assertEqual(t, "publishes left of a service account without a limit", d.publishesLeft("wxs"), 100)
	d.updateSettings(func(s *settings.Settings) { s.ServicePublishQuota = 7 })
	assertEqual(t, "publishes left of a service account with a limit", d.publishesLeft("wxs"), 7)
}

// Contract: rules 1.5.
func TestDeleteRule_Responses(t *testing.T) {
	for _, c := range testtable.Rows(t, "testdata/deletes.txt", 5) {
		t.Run(c[0], func(t *testing.T) {
			caller, prefix := c[1], c[2]
			d := newFixture(t)
			d.addRule("wxa", draft("https://h.example/a"))
			d.publishRule("wxa", draft("https://h.example/live"))
			d.addRule("wxs", draft(codePrefix+"a"))
			d.notified = nil
			err := d.Delete(t.Context(), d.account(caller), prefix, c[3])
			assertCode(t, err, codeOf(t, c[4]))
			if err != nil {
				assertEqual(t, "rules", len(d.allRules()), 3)
				assertEqual(t, "notified", d.notified, nil)
				return
			}
			assertEqual(t, "rules", len(d.allRules()), 2)
			assertEqual(t, "notified", len(d.notified), 1)
			if caller == "wxa" {
				d.addRule("wxb", draft(prefix)) // the prefix is free
			}
		})
	}
}

// Contract: rules 1.3.
func TestListRules_Responses(t *testing.T) {
	d := newFixture(t)
	for i := range 5 {
		d.addRule("wxa", draft(fmt.Sprintf("https://h.example/%d", i)))
	}
	d.addRule("wxb", draft("https://h.example/b"))
	d.addRule("wxs", draft(codePrefix+"a", withAppID("wxa")))
	d.addRule("wxs", draft(codePrefix+"b", withAppID("wxb")))
	prefixes := func(n ...int) (list []string) {
		for _, i := range n {
			list = append(list, fmt.Sprintf("https://h.example/%d", i))
		}
		return list
	}
	firstPrefixes := func(n int) (list []string) {
		for i := range n {
			list = append(list, prefixes(i)...)
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
		{"the newest", "wxa", rules.ListRequest{}, errcode.OK, prefixes(4, 3, 2, 1, 0), 5},
		{"an appid is ignored for a Mini Program", "wxa", rules.ListRequest{AppID: "wxb"}, errcode.OK, prefixes(4, 3, 2, 1, 0), 5},
		{"by prefix", "wxa", rules.ListRequest{Type: rules.ListPrefixes,
			Prefixes: []string{"HTTPS://h.example/1", "https://h.example/b", "x", "https://h.example/9", "https://h.example/\x00"}},
			errcode.OK, prefixes(1), 5},
		{"by 200 prefixes", "wxa", rules.ListRequest{Type: rules.ListPrefixes, Prefixes: firstPrefixes(200)}, errcode.OK,
			prefixes(0, 1, 2, 3, 4), 5},
		{"by a text that is no link", "wxa", rules.ListRequest{Type: rules.ListPrefixes, Prefixes: []string{"x"}}, errcode.OK, nil, 5},
		{"by no prefix", "wxa", rules.ListRequest{Type: rules.ListPrefixes}, errcode.InvalidArgs, nil, 0},
		{"by 201 prefixes", "wxa", rules.ListRequest{Type: rules.ListPrefixes, Prefixes: firstPrefixes(201)}, errcode.InvalidArgs, nil, 0},
		{"the first page", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1, PageSize: 2}, errcode.OK, prefixes(0, 1), 5},
		{"the last page", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 3, PageSize: 2}, errcode.OK, prefixes(4), 5},
		{"a page after the last", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 4, PageSize: 2}, errcode.OK, nil, 5},
		{"a page beyond all numbers", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1<<63 - 1, PageSize: 200}, errcode.OK, nil, 5},
		{"page 0", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 0, PageSize: 2}, errcode.InvalidArgs, nil, 0},
		{"a page of 0", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1}, errcode.InvalidArgs, nil, 0},
		{"a page of 201", "wxa", rules.ListRequest{Type: rules.ListPage, Page: 1, PageSize: 201}, errcode.InvalidArgs, nil, 0},
		{"an unknown type", "wxa", rules.ListRequest{Type: 3}, errcode.InvalidArgs, nil, 0},
		{"an unknown type comes before a personal Mini Program", "wxpersonal", rules.ListRequest{Type: 3}, errcode.InvalidArgs, nil, 0},
		{"a personal Mini Program", "wxpersonal", rules.ListRequest{}, errcode.PersonalSubject, nil, 0},
		{"a service account", "wxs", rules.ListRequest{}, errcode.OK, []string{codePrefix + "b", codePrefix + "a"}, 2},
		{"a service account, by Mini Program", "wxs", rules.ListRequest{AppID: "wxa"}, errcode.OK, []string{codePrefix + "a"}, 1},
		{"a service account, by a Mini Program that is not linked", "wxs", rules.ListRequest{AppID: "wxc"}, errcode.InvalidWeappAppID, nil,
			0},
		{"a Mini Program without rules", "wxc", rules.ListRequest{}, errcode.OK, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := d.List(t.Context(), d.account(c.caller), c.req)
			assertCode(t, err, c.want)
			var list []string
			for _, r := range got.Rules {
				list = append(list, r.Prefix.Text)
			}
			assertEqual(t, "prefixes", list, c.prefixes)
			assertEqual(t, "total", got.Total, c.total)
			if err == nil {
				assertEqual(t, "open", got.Open, true)
				assertEqual(t, "publishes left", got.PublishesLeft, 100)
			}
		})
	}
}

// TestPlantRule_SkipsVerificationAndQuota verifies that Seed needs no verification file, quota or limit, and otherwise validates as Add
// does.
func TestPlantRule_SkipsVerificationAndQuota(t *testing.T) {
	d := newFixture(t)
	d.updateSettings(func(s *settings.Settings) { s.RuleLimit, s.PublishQuota = 0, 0 })
	seed := func(appid string, draft rules.Draft, published bool) error {
		return d.Seed(t.Context(), d.account(appid), draft, published)
	}
	assertCode(t, seed("wxa", draft("http://127.0.0.1:8080/", withOccupy), true), errcode.OK)
	first := d.rule("http://127.0.0.1:8080/")
	assertEqual(t, "published", first.Published, true)
	assertEqual(t, "fetched", d.fetched, nil)
	d.now = nextHour
	assertCode(t, seed("wxa", draft("http://127.0.0.1:8080/", withPath("other"), withLinks("http://127.0.0.1:8080/1")), false), errcode.OK)
	want := *first
	want.Path, want.Occupy, want.TestLinks, want.Published, want.UpdatedAt = "other", false, []string{"http://127.0.0.1:8080/1"}, false,
		nextHour
	assertEqual(t, "rule seeded again", *d.rule("http://127.0.0.1:8080/"), want)
	assertCode(t, seed("wxs", draft(codePrefix+"a"), true), errcode.OK)
	assertCode(t, seed("wxs", draft(codePrefix+"a", withAppID("wxb")), true), errcode.OK)
	assertEqual(t, "retargeted", d.rule(codePrefix+"a").Target, "wxb")

	assertCode(t, seed("wxa", draft("https://occupied.example/", withOccupy), false), errcode.OK)
	for _, c := range testtable.Rows(t, "testdata/invalid_seeds.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			draft := parseDraft(t, c[2])
			err := seed(c[1], draft, true)
			assertCode(t, err, codeOf(t, c[3]))
			assert.True(t, err != nil && strings.Contains(err.Error(), draft.Prefix), "error = %v, want the prefix %s in it", err,
				draft.Prefix)
		})
	}
}

func TestPrefixHistory_NamesActors(t *testing.T) {
	d := newFixture(t)
	d.publishRule("wxa", draft("https://h.example"))
	assertCode(t, d.Edit(d.actorContext("wxa"), d.account("wxa"), draft("https://h.example", withOccupy)), errcode.OK)
	assertCode(t, d.Delete(d.actorContext("wxa"), d.account("wxa"), "https://h.example", ""), errcode.OK)
	d.addRule("wxb", draft("https://h.example/"))
	assertCode(t, d.Seed(d.actorContext("seed"), d.account("wxb"), draft("https://h.example/"), false), errcode.OK)
	changes := require.Value(d.History(t.Context(), "HTTPS://H.example", 100))(t)
	var got []string
	for _, c := range changes {
		got = append(got, c.ActorID+" "+c.Action+" "+c.RID)
	}
	assertEqual(t, "history, newest first", got, []string{"seed edit rid-6", "wxb add rid-5", "wxa delete rid-4", "wxa edit rid-3",
		"wxa publish rid-2", "wxa add rid-1"})
	for _, text := range []string{"x", "https://h.example/\x00"} {
		assert.ErrorIs(t, assert.ErrorOf(d.History(t.Context(), text, 1)), rules.ErrNotLink, "History(%q)", text)
	}
}

func TestOccupier_OfPrefix(t *testing.T) {
	d := newFixture(t)
	d.addRule("wxc", draft("https://h.example/a/b/"))
	d.addRule("wxb", draft("https://h.example/a/b/c"))
	d.addRule("wxb", draft("https://h.example/a", withOccupy))
	d.addRule("wxa", draft("https://h.example/a/", withOccupy))
	occupiers := func(prefix string, want ...string) {
		t.Helper()
		list := require.Value(d.Occupiers(t.Context(), prefix))(t)
		got := []string{}
		for _, r := range list {
			got = append(got, r.Owner+" "+r.Prefix.Text)
		}
		slices.Sort(got)
		assertEqual(t, prefix, got, append([]string{}, want...))
	}
	occupiers("https://h.example/a/b/c", "wxa https://h.example/a/", "wxb https://h.example/a/b/c")
	occupiers("https://h.example/a/b/d", "wxa https://h.example/a/")
	occupiers("https://h.example/a?x=1", "wxb https://h.example/a")
	occupiers("https://h.example/b")
	for _, text := range []string{"x", "https://h.example/\x00"} {
		_, err := d.Occupiers(t.Context(), text)
		assertCode(t, err, errcode.IllegalPrefix)
	}
}

func TestSetDomain_LowercaseAndRevert(t *testing.T) {
	d := newFixture(t)
	for _, host := range []string{"H.Example", "localhost:8080", "[::1]:80", "a_b.example"} {
		assert.NoErrorf(t, d.SetDomain(t.Context(), host, rules.Denied), "%s", host)
	}
	for _, host := range []string{"", "a b", "https://h.example", "h/x", "扫.example", "h\x00", strings.Repeat("x", 256)} {
		_, ok := errors.AsType[accounts.Invalid](d.SetDomain(t.Context(), host, rules.Denied))
		assert.True(t, ok, "SetDomain(%q) returned no Invalid error", host)
	}
	require.NoError(t, d.SetDomain(t.Context(), "h.EXAMPLE", ""))
	list := require.Value(d.Domains(t.Context(), "", 0))(t)
	var got []string
	for _, domain := range list {
		got = append(got, domain.Host)
	}
	assertEqual(t, "domains", got, []string{"[::1]:80", "a_b.example", "localhost:8080"})
}

// retryingStore fails the first run of each transaction with a deadlock, as PostgreSQL may, and runs it again.
type retryingStore struct {
	rules.Store
	locked [][]string // by run
}

var errDeadlock = errors.New("deadlock")

func (l *retryingStore) UpdateRules(ctx context.Context, f func(rules.Tx) error) error {
	for _, fails := range []bool{true, false} {
		err := l.Store.UpdateRules(ctx, func(tx rules.Tx) error {
			l.locked = append(l.locked, nil)
			return f(retryingTx{tx, l, fails})
		})
		if !fails || !errors.Is(err, errDeadlock) {
			return err
		}
	}
	panic("unreachable")
}

func (l *retryingStore) ChangeRules(ctx context.Context, _, _ string, f func(rules.Tx) error) error {
	return l.UpdateRules(ctx, f)
}

type retryingTx struct {
	rules.Tx
	store *retryingStore
	fails bool
}

func (l retryingTx) recordLock(text string) {
	run := &l.store.locked[len(l.store.locked)-1]
	*run = append(*run, text)
}

func (l retryingTx) LockOwner(ctx context.Context, appid string) error {
	l.recordLock("owner " + appid)
	return l.Tx.LockOwner(ctx, appid)
}

func (l retryingTx) LockOrigin(ctx context.Context, origin string) error {
	l.recordLock("origin " + origin)
	return l.Tx.LockOrigin(ctx, origin)
}

func (l retryingTx) Publishing(ctx context.Context, owner string, link rules.Link, since time.Time) (rules.Publishing, error) {
	l.recordLock("owner " + owner)
	l.recordLock("origin " + link.Origin())
	if l.fails {
		return rules.Publishing{}, errDeadlock
	}
	return l.Tx.Publishing(ctx, owner, link, since)
}

func (l retryingTx) RulesAt(ctx context.Context, keys []string) ([]rules.Rule, error) {
	if l.fails {
		return nil, errDeadlock
	}
	return l.Tx.RulesAt(ctx, keys)
}

func (l retryingTx) Rule(ctx context.Context, key string) (rules.Rule, error) {
	if l.fails {
		return rules.Rule{}, errDeadlock
	}
	return l.Tx.Rule(ctx, key)
}

// TestRuleTransaction_RetryIdempotent verifies that a transaction that is run again takes the same locks: a closure must keep no state of
// the failed run.
func TestRuleTransaction_RetryIdempotent(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(d *fixture) error
	}{
		{"add", func(d *fixture) error { return d.Add(d.t.Context(), d.account("wxa"), draft("https://h.example/new")) }},
		{"edit", func(d *fixture) error {
			return d.Edit(d.t.Context(), d.account("wxa"), draft("https://h.example/old", withOccupy))
		}},
		{"publish", func(d *fixture) error { return d.Publish(d.t.Context(), d.account("wxa"), "https://h.example/old") }},
		{"delete", func(d *fixture) error { return d.Delete(d.t.Context(), d.account("wxa"), "https://h.example/old", "") }},
		{"seed", func(d *fixture) error {
			return d.Seed(d.t.Context(), d.account("wxa"), draft("https://h.example/new"), true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFixture(t)
			d.addRule("wxa", draft("https://h.example/old"))
			d.notified = nil
			l := &retryingStore{Store: d.store}
			d.Service.Store = l
			assertCode(t, c.run(d), errcode.OK)
			runs := slices.DeleteFunc(l.locked, func(run []string) bool { return run == nil }) // transactions of records take no locks
			want := []string{"owner wxa", "origin https://h.example"}
			assertEqual(t, "locks", runs, [][]string{want, want})
			assertEqual(t, "notified", len(d.notified), 1)
		})
	}
}

// lastChange returns the newest change of a rule.
func (d *fixture) lastChange(key string) (last rules.Change) {
	d.t.Helper()
	require.NoError(d.t, d.store.ViewRules(d.t.Context(), func(tx rules.Tx) error {
		changes, err := tx.Changes(d.t.Context(), key, 1)
		last = changes[0]
		return err
	}))
	return last
}

// TestUndoRule_CodeOfOtherAccount deletes a rule on a QR code that then belongs to another service account, and verifies that Undo and Add
// return errcode.PrefixOwned; an undo on its own code succeeds.
func TestUndoRule_CodeOfOtherAccount(t *testing.T) {
	d := newFixture(t)
	for text, want := range map[string]error{codePrefix + "02AAAAAAAAAAAAAAanothr": errcode.PrefixOwned,
		codePrefix + "02AAAAAAAAAAAAAAAAAown": nil} {
		d.addRule("wxs", draft(text))
		require.NoError(t, d.Delete(t.Context(), d.account("wxs"), text, "wxa"))
		owner := "wxs"
		if want != nil {
			owner = "wxs2"
		}
		name := strings.TrimPrefix(text, codePrefix)
		d.updateAccounts(func(tx accounts.Tx) error {
			return tx.AddQRCode(t.Context(), accounts.QRCode{Code: name, Ticket: name, Account: owner, Action: accounts.QRTextForEver,
				Scene: name, CreatedAt: noon})
		})
		_, err := d.Undo(t.Context(), d.lastChange(text).Seq)
		assert.ErrorIs(t, err, want, "Undo on %s of %s", text, owner)
		err = d.Add(t.Context(), d.account("wxs"), draft(text))
		assert.True(t, want == nil || errors.Is(err, want), "Add on %s: %v, want %v", text, err, want)
	}
}

// TestUndoRule_TargetChecked verifies that an undo of a change of the target makes the checks of Add for the restored target.
func TestUndoRule_TargetChecked(t *testing.T) {
	d := newFixture(t)
	text := codePrefix + "02AAAAAAAAAAAAAAtarget"
	d.addRule("wxs", draft(text))
	require.NoError(t, d.Edit(t.Context(), d.account("wxs"), draft(text, withAppID("wxb"))))
	unlink(d)
	edited := d.lastChange(text)
	_, err := d.Undo(t.Context(), edited.Seq)
	assert.ErrorIs(t, err, errcode.InvalidWeappAppID, "Undo of an edit whose former target is not linked any more")
	d.updateAccounts(func(tx accounts.Tx) error { return tx.PutLink(t.Context(), "wxs", "wxa", noon) })
	undone, err := d.Undo(t.Context(), edited.Seq)
	assert.True(t, err == nil && undone.Rule.Target == "wxa", "Undo = target %s, %v, want wxa", undone.Rule.Target, err)
}
