package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The numbers that a library's user meets in these stories.
const (
	OK            = 0
	InvalidArgs   = 40097
	InvalidWeapp  = 40166
	IllegalPrefix = 85066
	NotSubPrefix  = 85068
	AlreadyAdded  = 85071
)

// A Caller makes one call ("qrcodejumpadd", "applycode", ...) with a library and returns the JSON that the server
// answered, whatever the library thinks of it. A nil body means a request without a body.
type Caller func(t testing.TB, call string, body []byte) []byte

type object = map[string]any

type answer struct {
	ErrCode *int    `json:"errcode"` // a pointer: rule answers must always carry it
	ErrMsg  *string `json:"errmsg"`
	raw     []byte
}

type listing struct {
	Rules []rule `json:"rule_list"`
	Open  int    `json:"qrcodejump_open"`
	Size  int    `json:"list_size"`
	Quota int    `json:"qrcodejump_pub_quota"`
	Total int    `json:"total_count"`
}

// rule has pointers where the two kinds of rule differ in what they return.
type rule struct {
	Prefix        string    `json:"prefix"`
	Path          string    `json:"path"`
	State         int       `json:"state"`
	OpenVersion   *int      `json:"open_version"`
	PermitSubRule *int      `json:"permit_sub_rule"`
	DebugURL      *[]string `json:"debug_url"`
}

// ridEnd is how every error text ends since about 2020. Contract: rules 0.
var ridEnd = regexp.MustCompile(`rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)

// must makes a call and fails unless the answer has the wanted errcode. A nil body is a request without one.
func must(t testing.TB, call Caller, name string, body any, want int) answer {
	t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	raw := call(t, name, text)
	got := answer{raw: raw}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%s %s: %v in the answer %s", name, text, err, raw)
	}
	switch {
	case got.ErrCode == nil || got.ErrMsg == nil:
		t.Fatalf("%s %s: errcode or errmsg is missing in %s", name, text, raw)
	case *got.ErrCode != want:
		t.Fatalf("%s %s: got %s, want errcode %d", name, text, raw, want)
	case want == OK && *got.ErrMsg != "ok":
		t.Errorf("%s: got errmsg %q of a success, want ok", name, *got.ErrMsg)
	case want != OK && !ridEnd.MatchString(*got.ErrMsg):
		t.Errorf("%s: got errmsg %q, want one that ends with a rid", name, *got.ErrMsg)
	}
	return got
}

func get(t testing.TB, call Caller, body any) listing {
	t.Helper()
	got := must(t, call, "qrcodejumpget", body, OK)
	var list listing
	if err := json.Unmarshal(got.raw, &list); err != nil {
		t.Fatalf("%v in %s", err, got.raw)
	}
	if list.Rules == nil {
		t.Errorf("got %s, want rule_list to be an array even when it is empty", got.raw)
	}
	if list.Size != len(list.Rules) {
		t.Errorf("got list_size %d for %d rules", list.Size, len(list.Rules))
	}
	return list
}

// one returns the only rule of a listing.
func one(t testing.TB, list listing) rule {
	t.Helper()
	if len(list.Rules) != 1 {
		t.Fatalf("got %d rules, want 1: %+v", len(list.Rules), list.Rules)
	}
	return list.Rules[0]
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// opens fails unless the scan opened the Mini Program at page, and handed the scanned text over as the
// parameter q. Contract: rules 2.8.
func opens(t testing.TB, scan Scan, kind, version, page, text string) {
	t.Helper()
	equal(t, "action", scan.Action, "open_mini_program")
	equal(t, "appid", scan.AppID, MiniProgram)
	equal(t, "version", scan.Version, version)
	equal(t, "scene", scan.Scene, 1011)
	equal(t, "matched.kind", scan.Matched.Kind, kind)
	at, query, _ := strings.Cut(scan.Path, "?")
	equal(t, "page", at, page)
	launch, err := url.ParseQuery(query)
	if err != nil {
		t.Errorf("launch query %q: %v", query, err)
	}
	equal(t, "q", launch.Get("q"), text)
	if launch.Get("scancode_time") == "" {
		t.Errorf("got the path %q, want a scancode_time in it", scan.Path)
	}
}

func staysOnTheWeb(t testing.TB, scan Scan, text string) {
	t.Helper()
	equal(t, "action", scan.Action, "open_url")
	equal(t, "url", scan.URL, text)
}

// unique keeps the prefixes of two runs apart on a server that outlives both (QRJUMP_URL).
func unique() string { return fmt.Sprintf("%x", time.Now().UnixNano()) }

// OrdinaryRules lives through the five calls for ordinary rules. The caller must use the Mini Program's token.
func OrdinaryRules(t *testing.T, s *Server, call Caller) {
	base := "https://coffee.example/" + unique() + "/"
	tables, doors := base+"tables/", base+"doors"
	testLink, printed := tables+"1", tables+"7?from=door"

	before := get(t, call, nil) // clients do call it without a body
	equal(t, "qrcodejump_open", before.Open, 1)

	verificationFile(t, must(t, call, "qrcodejumpdownload", object{}, OK).raw)

	// Texts of the kind that people type: what is wrong must be said, and must leave nothing behind.
	add := object{"prefix": tables, "permit_sub_rule": 1, "path": "pages/table/table", "open_version": 2, "debug_url": []string{testLink}, "is_edit": 0}
	with := func(key string, value any) object {
		changed := maps.Clone(add)
		changed[key] = value
		return changed
	}
	must(t, call, "qrcodejumpadd", with("prefix", "coffee.example/tables/"), IllegalPrefix)
	must(t, call, "qrcodejumpadd", with("debug_url", []string{base + "elsewhere"}), NotSubPrefix)
	must(t, call, "qrcodejumpadd", with("permit_sub_rule", 3), InvalidArgs)
	must(t, call, "qrcodejumpadd", with("is_edit", 1), InvalidArgs) // nothing there to edit
	equal(t, "total_count after refused adds", get(t, call, nil).Total, before.Total)

	must(t, call, "qrcodejumpadd", add, OK)
	must(t, call, "qrcodejumpadd", add, AlreadyAdded)
	must(t, call, "qrcodejumpadd", object{"prefix": doors, "permit_sub_rule": 1, "path": "pages/door/door", "open_version": 1, "is_edit": 0}, OK)

	// The three ways to list.
	all := get(t, call, object{"get_type": 0})
	equal(t, "total_count", all.Total, before.Total+2)
	if len(all.Rules) < 2 || all.Rules[0].Prefix != doors || all.Rules[1].Prefix != tables {
		t.Errorf("got %+v, want the newest rule first", all.Rules)
	}
	added := one(t, get(t, call, object{"get_type": 1, "prefix_list": []string{tables}}))
	equal(t, "prefix", added.Prefix, tables)
	equal(t, "path", added.Path, "pages/table/table")
	equal(t, "state of a new rule", added.State, 1)
	settings(t, added, 2, 1, testLink)
	last := get(t, call, object{"get_type": 2, "page_num": before.Total + 2, "page_size": 1})
	equal(t, "prefix on the last page", one(t, last).Prefix, doors)
	equal(t, "total_count on a page", last.Total, before.Total+2)
	must(t, call, "qrcodejumpget", object{"get_type": 2, "page_num": 0, "page_size": 1}, InvalidArgs)

	// Before it is published a rule opens for its testers only.
	staysOnTheWeb(t, s.Scan(t, "visitor", printed), printed)
	opens(t, s.Scan(t, TrialUser, testLink), "test_link", "trial", "pages/table/table", testLink)

	// An edit without debug_url keeps the test links.
	must(t, call, "qrcodejumpadd", object{"prefix": tables, "permit_sub_rule": 2, "path": "pages/seat/seat", "open_version": 3, "is_edit": 1}, OK)
	edited := one(t, get(t, call, object{"get_type": 1, "prefix_list": []string{tables}}))
	equal(t, "path after the edit", edited.Path, "pages/seat/seat")
	settings(t, edited, 3, 2, testLink)

	must(t, call, "qrcodejumppublish", object{"prefix": base + "unknown/"}, InvalidArgs)
	must(t, call, "qrcodejumppublish", object{"prefix": tables}, OK)
	published := get(t, call, object{"get_type": 1, "prefix_list": []string{tables}})
	equal(t, "state of a published rule", one(t, published).State, 2)
	equal(t, "publishes left", published.Quota, before.Quota-1)
	opens(t, s.Scan(t, "visitor", printed), "rule", "release", "pages/seat/seat", printed)

	// Once published, the page is fixed, the test settings are not. Contract: rules 1.2.
	must(t, call, "qrcodejumpadd", object{"prefix": tables, "permit_sub_rule": 2, "path": "pages/other/other", "open_version": 3, "is_edit": 1}, InvalidArgs)
	must(t, call, "qrcodejumpadd", object{"prefix": tables, "permit_sub_rule": 2, "path": "pages/seat/seat", "open_version": 3, "debug_url": []string{}, "is_edit": 1}, OK)
	settings(t, one(t, get(t, call, object{"get_type": 1, "prefix_list": []string{tables}})), 3, 2)

	must(t, call, "qrcodejumpdelete", object{"prefix": base + "unknown/"}, InvalidArgs)
	must(t, call, "qrcodejumpdelete", object{"prefix": tables}, OK)
	staysOnTheWeb(t, s.Scan(t, "visitor", printed), printed)
	must(t, call, "qrcodejumpdelete", object{"prefix": doors}, OK)
	equal(t, "total_count in the end", get(t, call, object{}).Total, before.Total)
}

// settings compares what only ordinary rules have.
func settings(t testing.TB, got rule, openVersion, permitSubRule int, testLinks ...string) {
	t.Helper()
	if got.OpenVersion == nil || got.PermitSubRule == nil {
		t.Fatalf("got %+v, want open_version and permit_sub_rule in it", got)
	}
	equal(t, "open_version", *got.OpenVersion, openVersion)
	equal(t, "permit_sub_rule", *got.PermitSubRule, permitSubRule)
	var links []string // an absent list and an empty one are the same to every library
	if got.DebugURL != nil {
		links = *got.DebugURL
	}
	if !slices.Equal(links, testLinks) {
		t.Errorf("debug_url: got %q, want %q", links, testLinks)
	}
}

func verificationFile(t testing.TB, raw []byte) {
	t.Helper()
	var file struct {
		Name    string `json:"file_name"`
		Content string `json:"file_content"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9A-Za-z]{10}\.txt$`).MatchString(file.Name) || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(file.Content) {
		t.Errorf("got the verification file %+v, want ten characters and .txt, 32 hex digits in it", file)
	}
}

// ServiceRules lives through the five calls for the parametric codes of a service account. The caller must use the
// service account's token.
func ServiceRules(t *testing.T, s *Server, call Caller) {
	code := "http://weixin.qq.com/q/02" + unique()
	add := object{"prefix": code, "appid": MiniProgram, "path": "pages/index/index", "is_edit": 0}
	byPrefix := object{"appid": MiniProgram, "get_type": 1, "prefix_list": []string{code}}

	before := get(t, call, object{"appid": MiniProgram})
	get(t, call, nil) // without appid: every Mini Program's

	must(t, call, "qrcodejumpadd", object{"prefix": code, "appid": "wxnobody", "path": "pages/index/index", "is_edit": 0}, InvalidWeapp)
	must(t, call, "qrcodejumpadd", object{"prefix": "http://weixin.qq.com/r/02profile", "appid": MiniProgram, "path": "pages/index/index", "is_edit": 0}, IllegalPrefix)
	must(t, call, "qrcodejumpadd", add, OK)
	must(t, call, "qrcodejumpadd", add, AlreadyAdded)

	added := one(t, get(t, call, byPrefix))
	equal(t, "prefix", added.Prefix, code)
	equal(t, "path", added.Path, "pages/index/index")
	equal(t, "state of a new rule", added.State, 1)
	if added.OpenVersion != nil || added.PermitSubRule != nil || added.DebugURL != nil {
		t.Errorf("got %+v, want none of the fields of ordinary rules", added)
	}
	last := get(t, call, object{"appid": MiniProgram, "get_type": 2, "page_num": before.Total + 1, "page_size": 1})
	equal(t, "prefix on the last page", one(t, last).Prefix, code)
	equal(t, "total_count", last.Total, before.Total+1)

	must(t, call, "qrcodejumpadd", object{"prefix": code, "appid": MiniProgram, "path": "pages/menu/menu", "is_edit": 1}, OK)
	equal(t, "path after the edit", one(t, get(t, call, byPrefix)).Path, "pages/menu/menu")
	staysOnTheWeb(t, s.Scan(t, "visitor", code), code)

	must(t, call, "qrcodejumppublish", object{"prefix": code + "x"}, InvalidArgs)
	must(t, call, "qrcodejumppublish", object{"prefix": code}, OK)
	equal(t, "state of a published rule", one(t, get(t, call, byPrefix)).State, 2)
	opens(t, s.Scan(t, "visitor", code), "service_rule", "release", "pages/menu/menu", code)
	must(t, call, "qrcodejumpadd", object{"prefix": code, "appid": MiniProgram, "path": "pages/other/other", "is_edit": 1}, InvalidArgs)

	must(t, call, "qrcodejumpdelete", object{"prefix": code + "x", "appid": MiniProgram}, InvalidArgs)
	must(t, call, "qrcodejumpdelete", object{"prefix": code, "appid": MiniProgram}, OK)
	staysOnTheWeb(t, s.Scan(t, "visitor", code), code)
	equal(t, "total_count in the end", get(t, call, object{"appid": MiniProgram}).Total, before.Total)

	// The file belongs to ordinary rules; the contract finds it harmless to give it to a service account too.
	verificationFile(t, must(t, call, "qrcodejumpdownload", object{}, OK).raw)
}
