package api_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

type listed struct {
	RuleList []struct {
		Prefix        string
		Path          string
		State         int
		PermitSubRule *int      `json:"permit_sub_rule"`
		OpenVersion   *int      `json:"open_version"`
		DebugURL      *[]string `json:"debug_url"`
	} `json:"rule_list"`
	Open  int `json:"qrcodejump_open"`
	Size  int `json:"list_size"`
	Quota int `json:"qrcodejump_pub_quota"`
	Total int `json:"total_count"`
}

func (l listed) prefixes() string {
	var list []string
	for _, r := range l.RuleList {
		list = append(list, r.Prefix[strings.LastIndex(r.Prefix, "/")+1:])
	}
	return strings.Join(list, " ")
}

func list(t *testing.T, s *servertest.Server, appid, body string) listed {
	t.Helper()
	var l listed
	s.OK(appid, "get", body).JSON(t, &l)
	assert.True(t, l.Size == len(l.RuleList), "list_size is %d of %d rules", l.Size, len(l.RuleList))
	return l
}

// Contract: rules 1.3.
// Behaviour(rules.get.order) Behaviour(rules.get.whole) Behaviour(rules.get.own).
func TestQRCodeJumpGet_Lists(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for n := range 5 {
		s.OK("shop", "add", rule(fmt.Sprintf("https://shop.example/%d", n)))
	}
	s.OK("rival", "add", rule("https://rival.example/x"))
	s.OK("svc", "add", code(q+"s1", "shop"))
	s.OK("svc", "add", code(q+"r1", "rival"))
	s.OK("svc", "add", code(q+"s2", "shop"))
	s.OK("svc2", "add", code(q+"other", "shop"))

	for _, c := range []struct {
		name, appid, body, want string
		total                   int
	}{
		{"newest first", "shop", `{}`, "4 3 2 1 0", 5},
		{"get_type 0", "shop", `{"get_type":0}`, "4 3 2 1 0", 5},
		{"pages do not count without get_type 2", "shop", `{"page_num":1,"page_size":1}`, "4 3 2 1 0", 5},
		{"a Mini Program's appid does not count", "shop", `{"appid":"rival"}`, "4 3 2 1 0", 5},
		{"whole prefixes, not what they begin with", "shop",
			`{"get_type":1,"prefix_list":["https://shop.example/","https://shop.example/3"]}`, "3", 5},
		{"scheme and host in capitals", "shop", `{"get_type":1,"prefix_list":["HTTPS://SHOP.EXAMPLE/3"]}`, "3", 5},
		{"a prefix twice", "shop", `{"get_type":1,"prefix_list":["https://shop.example/3","https://shop.example/3"]}`, "3", 5},
		{"another owner's prefix", "shop", `{"get_type":1,"prefix_list":["https://rival.example/x","no link",""]}`, "", 5},
		{"200 prefixes", "shop", `{"get_type":1,"prefix_list":["` + strings.Repeat(`https://shop.example/none","`, 199) +
			`https://shop.example/0"]}`, "0", 5},
		{"pages are oldest first", "shop", `{"get_type":2,"page_num":1,"page_size":2}`, "0 1", 5},
		{"the second page", "shop", `{"get_type":2,"page_num":2,"page_size":2}`, "2 3", 5},
		{"the last page", "shop", `{"get_type":2,"page_num":3,"page_size":2}`, "4", 5},
		{"past the end", "shop", `{"get_type":2,"page_num":4,"page_size":2}`, "", 5},
		{"a page of 200", "shop", `{"get_type":2,"page_num":1,"page_size":200}`, "0 1 2 3 4", 5},
		{"a page far away", "shop", `{"get_type":2,"page_num":9007199254740992,"page_size":200}`, "", 5},
		{"numbers as strings and floats", "shop", `{"get_type":"2","page_num":"+1.0","page_size":2e0}`, "0 1", 5},
		{"a service account's", "svc", `{}`, "s2 r1 s1", 3},
		{"with appid", "svc", `{"appid":"shop"}`, "s2 s1", 2},
		{"with appid, by page", "svc", `{"appid":"shop","get_type":2,"page_num":2,"page_size":1}`, "s2", 2},
		{"with appid, by prefix", "svc", `{"appid":"shop","get_type":1,"prefix_list":["` + q + `s1","` + q + `r1"]}`, "s1", 2},
		{"a linked Mini Program without rules", "svc", `{"appid":"draft"}`, "", 0},
		{"another service account's rules for the same Mini Program", "svc2", `{"appid":"shop"}`, "other", 1},
		{"nobody's", "third", `{}`, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := list(t, s, c.appid, c.body)
			if l.prefixes() != c.want || l.Total != c.total || l.Open != 1 || l.Quota != 100 {
				t.Errorf("got %q, total %d, open %d, quota %d; want %q, total %d", l.prefixes(), l.Total, l.Open, l.Quota, c.want, c.total)
			}
			for _, r := range l.RuleList {
				ordinary := !strings.HasPrefix(r.Prefix, q)
				if (r.PermitSubRule != nil) != ordinary || (r.OpenVersion != nil) != ordinary || (r.DebugURL != nil) != ordinary {
					t.Errorf("fields of the other kind, or a field missing: %+v", r)
				}
			}
		})
	}
}

// Contract: rules 1.3: the 10,000 most recently added. The rules come in one
// transaction below the server, because as many calls would take a minute.
func TestQRCodeJumpGet_NewestTenThousand(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	servertest.Start(t, servertest.Options{Seed: town, Data: data}).Stop()
	kept, err := store.Open(t.Context(), store.Target{Dir: data})
	require.NoError(t, err)
	err = kept.UpdateRules(t.Context(), func(tx rules.Tx) error {
		for n := range 10_001 {
			p, err := rules.ParsePrefix(fmt.Sprint(q, n), rules.KindService, false)
			if err != nil {
				return err
			}
			r := rules.Rule{Kind: rules.KindService, Owner: "svc", Target: "shop", Prefix: p, Path: "p", CreatedAt: servertest.Began,
				UpdatedAt: servertest.Began}
			if _, err := tx.AddRule(t.Context(), r, rules.ChangeMeta{At: servertest.Began, Action: "add"}); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, errors.Join(err, kept.Close()))
	s := servertest.Start(t, servertest.Options{Seed: town, Data: data})
	l := list(t, s, "svc", `{"appid":"shop"}`)
	if l.Size != 10_000 || l.Total != 10_001 || l.RuleList[0].Prefix != q+"10000" || l.RuleList[9_999].Prefix != q+"1" {
		t.Errorf("size %d, total %d, from %s to %s", l.Size, l.Total, l.RuleList[0].Prefix, l.RuleList[len(l.RuleList)-1].Prefix)
	}
	l = list(t, s, "svc", `{"appid":"shop","get_type":2,"page_num":51,"page_size":200}`)
	if l.prefixes() != "10000" || l.Total != 10_001 {
		t.Errorf("the last page has %q of %d", l.prefixes(), l.Total)
	}
}

// Contract: rules 1.2.
func TestQRCodeJumpAdd_Edits(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	const p = "https://shop.example/e/"
	links := `"debug_url":["https://shop.example/e/1","https://shop.example/e/2"]`
	for _, c := range []struct {
		name      string
		published bool
		edit      string
		want      string // path, permit_sub_rule, open_version, links; "" = 40097 and nothing changed
	}{
		{"the page", false, `"path":"pages/new"`, "pages/new 1 3 2"},
		{"the test range", false, `"open_version":1`, "pages/index/index 1 1 2"},
		{"the occupation", false, `"permit_sub_rule":2`, "pages/index/index 2 3 2"},
		{"other links", false, `"debug_url":["https://shop.example/e/3"]`, "pages/index/index 1 3 1"},
		{"a link as a text", false, `"debug_url":"https://shop.example/e/3"`, "pages/index/index 1 3 1"},
		{"no links: absent", false, `"x":1`, "pages/index/index 1 3 2"},
		{"no links: null", false, `"debug_url":null`, "pages/index/index 1 3 2"},
		{"no links: an empty text", false, `"debug_url":""`, "pages/index/index 1 3 2"},
		{"no links: []", false, `"debug_url":[]`, "pages/index/index 1 3 0"},
		{"the prefix in capitals", false, `"prefix":"HTTPS://SHOP.example/e/","path":"pages/new"`, "pages/new 1 3 2"},
		{"published: the same page", true, `"open_version":2,"permit_sub_rule":2,"debug_url":[]`, "pages/index/index 2 2 0"},
		{"published: links stay", true, `"debug_url":null`, "pages/index/index 1 3 2"},
		{"published: another page", true, `"path":"pages/new","open_version":1`, ""},
		{"published: the page with a slash", true, `"path":"/pages/index/index"`, ""},
		{"six links", false,
			`"debug_url":["https://shop.example/e/1","https://shop.example/e/1","https://shop.example/e/1","https://shop.example/e/1","https://shop.example/e/1","https://shop.example/e/1"]`, ""},
		{"no page", false, `"path":""`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Renew(t)
			s.OK("shop", "add", rule(p, links))
			if c.published {
				s.OK("shop", "publish", prefix(p))
			}
			before := list(t, s, "shop", "{}")
			a := s.Rule("shop", "add", rule(p, `"is_edit":1`, c.edit))
			after := list(t, s, "shop", "{}")
			r := after.RuleList[0]
			want := c.want
			if want == "" {
				checkText(t, a, 40097, "invalid args")
				want = "pages/index/index 1 3 2"
			} else if a.Code(t) != 0 {
				t.Fatal(a.Body)
			}
			if got := fmt.Sprintf("%s %d %d %d", r.Path, *r.PermitSubRule, *r.OpenVersion, len(*r.DebugURL)); got != want {
				t.Errorf("after the edit %s, want %s", got, want)
			}
			assert.True(t, r.Prefix == p && r.State == before.RuleList[0].State && after.Total == 1 && after.Quota == before.Quota,
				"an edit changes no prefix, state, number or quota: %+v", after)
		})
	}

	t.Run("a service-account rule: page and Mini Program, until it is published", func(t *testing.T) {
		s.Renew(t)
		s.OK("svc", "add", code(q+"a", "shop"))
		s.OK("svc", "add", code(q+"a", "rival", `"is_edit":1,"path":"pages/new"`))
		if l := list(t, s, "svc", `{"appid":"rival"}`); l.prefixes() != "a" || l.RuleList[0].Path != "pages/new" {
			t.Errorf("after the edit: %+v", l)
		}
		checkText(t, s.Rule("svc", "add", code(q+"a", "third", `"is_edit":1`)), 40166, "invalid weapp appid")
		checkText(t, s.Rule("svc", "add", code(q+"b", "shop", `"is_edit":1`)), 40097, "invalid args")
		checkText(t, s.Rule("svc2", "add", code(q+"a", "shop", `"is_edit":1`)), 40097, "invalid args")
		s.OK("svc", "publish", prefix(q+"a"))
		checkText(t, s.Rule("svc", "add", code(q+"a", "rival", `"is_edit":1,"path":"pages/new"`)), 40097, "invalid args")
	})

	t.Run("another Mini Program's limit holds for an edit that moves a rule there", func(t *testing.T) {
		s.Renew(t)
		s.OK("svc", "add", code(q+"a", "shop"))
		s.OK("svc", "add", code(q+"b", "rival"))
		s.Admin("PUT", "/settings", `{"service_rule_limit":1}`)
		checkText(t, s.Rule("svc", "add", code(q+"b", "shop", `"is_edit":1`)), 85073, "prefix reach limit")
	})

	t.Run("a published rule taken off and added again may have another page", func(t *testing.T) {
		s.Renew(t)
		s.OK("shop", "add", rule(p))
		s.OK("shop", "publish", prefix(p))
		s.OK("shop", "delete", prefix(p))
		s.OK("shop", "add", rule(p, `"path":"pages/new"`))
		s.OK("shop", "publish", prefix(p))
		if l := list(t, s, "shop", "{}"); l.Quota != 98 || l.RuleList[0].Path != "pages/new" {
			t.Errorf("after two publishes: %+v", l)
		}
	})
}

// Contract: rules 2.4, 2.10; 1.4; 1.5.
func TestQRCodeJumpAdd_Owners(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	ok := func(appid, p string, extra ...string) {
		t.Helper()
		s.OK(appid, "add", rule(p, extra...))
	}
	taken := func(appid, p string) {
		t.Helper()
		checkText(t, s.Rule(appid, "add", rule(p)), 85072, "prefix owned by other")
	}
	// An own rule above and below an own occupied one; a broader one above a
	// foreign one; below a foreign one that does not occupy.
	ok("shop", "https://o.example/a/", `"permit_sub_rule":2`)
	ok("shop", "https://o.example/a/b")
	ok("rival", "https://o.example/")
	ok("third", "https://o.example/c")
	taken("rival", "https://o.example/a/")
	taken("rival", "https://o.example/a/c")
	taken("rival", "HTTPS://O.EXAMPLE/a/c?x=1")
	// The form of the stored rule decides: /a/ does not cover /a.
	ok("rival", "https://o.example/a")
	// An edit occupies as well; rules that are there stay.
	s.OK("rival", "add", rule("https://o.example/", `"is_edit":1,"permit_sub_rule":2`))
	taken("third", "https://o.example/d")
	taken("shop", "https://o.example/a/d")
	if l := list(t, s, "third", "{}"); l.Total != 1 {
		t.Errorf("a rule went away: %+v", l)
	}
	// A delete frees what lay below, and the prefix itself.
	s.OK("rival", "delete", prefix("https://o.example/"))
	ok("third", "https://o.example/d")
	ok("shop", "https://o.example/a/d")
	ok("third", "https://o.example")
	var occupiers struct {
		Rules []struct{ Owner, Prefix string }
	}
	s.Admin("GET", "/rules/conflicts?prefix=https://o.example/a/z", "").JSON(t, &occupiers)
	assert.True(t, len(occupiers.Rules) == 1 && occupiers.Rules[0].Owner == "shop", "who occupies: %+v", occupiers)

	// Publishing twice spends once; other months have their own.
	quota := func(want int) {
		t.Helper()
		assert.Equal(t, list(t, s, "shop", "{}").Quota, want, "publishes are left")
	}
	quota(100)
	s.OK("shop", "publish", prefix("https://o.example/a/"))
	s.OK("shop", "publish", prefix("https://O.example/a/"))
	quota(99)
	s.OK("svc", "add", code(q+"a", "shop"))
	s.OK("svc", "publish", prefix(q+"a"))
	quota(99)
	s.Advance(31 * 24 * time.Hour)
	s.NewToken("shop")
	quota(100)
}

// Contract: rules 2.5, design 8: what a prefix may be.
func TestQRCodeJumpAdd_ValidPrefixes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", `{"allow_private_hosts":false}`)
	longest := "https://shop.example/" + strings.Repeat("x", 1024-len("https://shop.example/"))
	for _, p := range []string{
		"http://wx.qq.com", "https://a.example/%E9%A3%9F%E5%A0%82", "https://b.example/?r=1&",
		"https://c.example/sub/dist/index.html#/params",
		"HTTP://D.example/X", "https://e.example/a//b", longest, "https://xn--fiqs8s.example/", "https://weixin.qq.com/qrcodejump",
		"https://f.example/a?b=c?d#e",
	} {
		s.OK("shop", "add", rule(p))
		if l := list(t, s, "shop", "{}"); l.RuleList[0].Prefix != p {
			t.Errorf("added %s, listed %s", p, l.RuleList[0].Prefix)
		}
	}
	s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
	for _, p := range []string{"http://127.0.0.1:9092/a/", "http://localhost/", "https://[::1]:8443/"} {
		s.OK("shop", "add", rule(p))
	}
	// A rule from when private hosts were allowed can be edited and deleted.
	s.Admin("PUT", "/settings", `{"allow_private_hosts":false}`)
	s.OK("shop", "add", rule("http://127.0.0.1:9092/a/", `"is_edit":1,"path":"pages/new"`))
	s.OK("shop", "publish", prefix("http://127.0.0.1:9092/a/"))
	s.OK("shop", "delete", prefix("http://127.0.0.1:9092/a/"))
	if l := list(t, s, "shop", "{}"); strings.Contains(fmt.Sprint(l.RuleList), "9092") {
		t.Error("a deleted rule is listed")
	}
}
