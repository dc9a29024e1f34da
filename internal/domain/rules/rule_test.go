package rules_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// assertCode fails the test unless err has the error code want.
func assertCode(t *testing.T, err error, want *errcode.Code) {
	t.Helper()
	got, detail := errcode.FromError(err)
	assert.True(t, got.Number == want.Number, "%d %s (%s) %v, want %d %s", got.Number, got.Text, detail, err, want.Number, want.Text)
}

// codeOf returns the error code with a number of a table.
func codeOf(t *testing.T, number string) *errcode.Code {
	t.Helper()
	n, err := strconv.Atoi(number)
	code, ok := errcode.ByNumber(n)
	require.True(t, err == nil && ok, "unknown error code %s in the table", number)
	return code
}

// assertEqual fails the test with a diff unless got equals want.
func assertEqual[T any](t *testing.T, name string, got, want T) {
	t.Helper()
	assert.Equal(t, cmp.Diff(want, got, cmp.AllowUnexported(rules.Link{})), "", "%s (-want +got)", name)
}

var (
	noon     = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	nextHour = noon.Add(time.Hour)
)

func ordinaryRule(published bool) rules.Rule {
	return rules.Rule{ID: 7, Kind: rules.Ordinary, Owner: "wxa", Target: "wxa", Path: "pages/index", Occupy: true,
		OpenVersion: rules.OpenTrial,
		TestLinks:   []string{"https://h.example/1"}, Published: published, CreatedAt: noon, UpdatedAt: noon, PublishedAt: noon}
}

func serviceRule(published bool) rules.Rule {
	return rules.Rule{ID: 7, Kind: rules.KindService, Owner: "wxs", Target: "wxa", Path: "pages/index", Published: published,
		CreatedAt: noon, UpdatedAt: noon}
}

// Contract: rules 1.2.
func TestRuleEdit_AllowedFields(t *testing.T) {
	same := rules.Draft{Path: "pages/index", Occupy: true, OpenVersion: rules.OpenTrial, KeepLinks: true}
	for _, c := range []struct {
		name string
		rule rules.Rule
		d    rules.Draft
		want func(*rules.Rule) // nil: 40097
	}{
		{"everything of an unpublished rule", ordinaryRule(false),
			rules.Draft{Path: "pages/other", OpenVersion: rules.OpenRelease, TestLinks: []string{"https://h.example/2"}},
			func(r *rules.Rule) {
				r.Path, r.Occupy, r.OpenVersion, r.TestLinks = "pages/other", false, rules.OpenRelease, []string{"https://h.example/2"}
			}},
		{"all but the page of a published rule", ordinaryRule(true),
			rules.Draft{Path: "pages/index", OpenVersion: rules.OpenDevelopment, TestLinks: []string{"https://h.example/2"}},
			func(r *rules.Rule) {
				r.Occupy, r.OpenVersion, r.TestLinks = false, rules.OpenDevelopment, []string{"https://h.example/2"}
			}},
		{"the page of a published rule may not change", ordinaryRule(true),
			rules.Draft{Path: "pages/other", Occupy: true, OpenVersion: rules.OpenTrial, KeepLinks: true}, nil},
		{"a draft without changes", ordinaryRule(true), same, func(*rules.Rule) {}},
		{"test links that the draft omits stay", ordinaryRule(false), same, func(*rules.Rule) {}},
		{"no test links clear them", ordinaryRule(true),
			rules.Draft{Path: "pages/index", Occupy: true, OpenVersion: rules.OpenTrial, TestLinks: []string{}},
			func(r *rules.Rule) { r.TestLinks = []string{} }},
		{"page and Mini Program of an unpublished service-account rule", serviceRule(false), rules.Draft{Path: "pages/other", AppID: "wxb"},
			func(r *rules.Rule) { r.Path, r.Target = "pages/other", "wxb" }},
		{"fields that a service-account rule lacks are ignored", serviceRule(false),
			rules.Draft{Path: "pages/index", AppID: "wxa", Occupy: true, OpenVersion: rules.OpenTrial,
				TestLinks: []string{"https://h.example/1"}}, func(*rules.Rule) {}},
		{"a published service-account rule may not change", serviceRule(true), rules.Draft{Path: "pages/other", AppID: "wxa"}, nil},
		{"a published service-account rule may not even stay as it is", serviceRule(true), rules.Draft{Path: "pages/index", AppID: "wxa"},
			nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.rule.Edit(c.d, nextHour)
			if c.want == nil {
				assertCode(t, err, errcode.InvalidArgs)
				return
			}
			assertCode(t, err, errcode.OK)
			want := c.rule
			want.UpdatedAt = nextHour
			c.want(&want)
			assertEqual(t, "rule", got, want)
		})
	}
}

func TestRuleEdit_CopiesTestLinks(t *testing.T) {
	d := rules.Draft{Path: "p", OpenVersion: rules.OpenRelease, TestLinks: []string{"https://h.example/2"}}
	r := require.Value(ordinaryRule(false).Edit(d, nextHour))(t)
	d.TestLinks[0] = "changed"
	assertEqual(t, "test links", r.TestLinks, []string{"https://h.example/2"})
}

// Contract: rules 1.4.
func TestRulePublish_Preconditions(t *testing.T) {
	released := accounts.Account{AppID: "wxa", Versions: []accounts.Version{accounts.Trial, accounts.Release}}
	for _, c := range []struct {
		name         string
		target       accounts.Account
		spent, quota int
		want         *errcode.Code
	}{
		{"a released program may publish", released, 0, 100, errcode.OK},
		{"a released program may publish until the quota is spent", released, 99, 100, errcode.OK},
		{"the quota is spent", released, 100, 100, errcode.PublishQuota},
		{"the quota was lowered", released, 50, 10, errcode.PublishQuota},
		{"a quota of 0 is spent before the first publish", released, 0, 0, errcode.PublishQuota},
		{"an unlimited quota", released, 1 << 30, int(settings.Unlimited), errcode.OK},
		{"a program without release may not", accounts.Account{Versions: []accounts.Version{accounts.Trial, accounts.Development}}, 0, 100,
			errcode.NotReleased},
		{"a program without any version may not", accounts.Account{}, 0, 0, errcode.NotReleased},
		{"no release comes before no quota", accounts.Account{}, 100, 100, errcode.NotReleased},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, rule := range []rules.Rule{ordinaryRule(false), serviceRule(false)} {
				got, err := rule.Publish(c.target, c.spent, c.quota, nextHour)
				assertCode(t, err, c.want)
				if err == nil {
					rule.Published, rule.UpdatedAt, rule.PublishedAt = true, nextHour, nextHour
					assertEqual(t, "rule", got, rule)
				}
			}
		})
	}
}

// Contract: rules 1.1, 2.6.
func TestTestLink_OpenVersion(t *testing.T) {
	for _, c := range []struct {
		name string
		open int
		role accounts.Role
		want accounts.Version // "" = an ordinary user
	}{
		{"development is for developers", rules.OpenDevelopment, accounts.Developer, accounts.Development},
		{"development is not for administrators", rules.OpenDevelopment, accounts.Admin, ""},
		{"development is not for trial users", rules.OpenDevelopment, accounts.TrialUser, ""},
		{"trial is for administrators", rules.OpenTrial, accounts.Admin, accounts.Trial},
		{"trial is for trial users", rules.OpenTrial, accounts.TrialUser, accounts.Trial},
		{"trial is not for developers", rules.OpenTrial, accounts.Developer, ""},
		{"release is for developers", rules.OpenRelease, accounts.Developer, accounts.Release},
		{"release is for administrators", rules.OpenRelease, accounts.Admin, accounts.Release},
		{"release is for trial users", rules.OpenRelease, accounts.TrialUser, accounts.Release},
		{"nothing is for others", rules.OpenRelease, "", ""},
		{"no range opens nothing", 0, accounts.Admin, ""},
		{"an unknown range opens nothing", 4, accounts.Developer, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			version, ok := rules.Rule{OpenVersion: c.open}.TestVersion(c.role)
			if !ok {
				version = ""
			}
			assertEqual(t, "version", version, c.want)
		})
	}
}

func TestRuleState_WireNumbers(t *testing.T) {
	assertEqual(t, "unpublished", ordinaryRule(false).State(), 1)
	assertEqual(t, "published", ordinaryRule(true).State(), 2)
}
