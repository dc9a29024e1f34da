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

// Error codes of the scenarios.
const (
	OK            = 0
	InvalidArgs   = 40097
	InvalidWeapp  = 40166
	IllegalPrefix = 85066
	NotSubPrefix  = 85068
	AlreadyAdded  = 85071
)

// A Caller makes one call ("qrcodejumpadd", "applycode", ...) with a library and returns the JSON that the server
// returned, even if the library reports an error. A nil body means a request without a body.
type Caller func(t testing.TB, call string, body []byte) []byte

type object = map[string]any

type answer struct {
	ErrCode *int    `json:"errcode"` // a pointer: it is required in all responses of rules
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

// rule is a rule of either kind. Pointers are fields that only ordinary rules have.
type rule struct {
	Prefix        string    `json:"prefix"`
	Path          string    `json:"path"`
	State         int       `json:"state"`
	OpenVersion   *int      `json:"open_version"`
	PermitSubRule *int      `json:"permit_sub_rule"`
	DebugURL      *[]string `json:"debug_url"`
}

// ridSuffix is the end of every error text since about 2020. Contract: rules 0.
var ridSuffix = regexp.MustCompile(`rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)

// must makes a call and fails the test unless the response has the errcode want. A nil body means a request without a body.
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
		t.Fatalf("%s %s: %v in the response %s", name, text, err, raw)
	}
	switch {
	case got.ErrCode == nil || got.ErrMsg == nil:
		t.Fatalf("%s %s: errcode or errmsg is missing in %s", name, text, raw)
	case *got.ErrCode != want:
		t.Fatalf("%s %s: got %s, want errcode %d", name, text, raw, want)
	case want == OK && *got.ErrMsg != "ok":
		t.Errorf("%s: errmsg = %q for errcode 0, want ok", name, *got.ErrMsg)
	case want != OK && !ridSuffix.MatchString(*got.ErrMsg):
		t.Errorf("%s: errmsg = %q, want a rid at its end", name, *got.ErrMsg)
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
		t.Errorf("got %s, want an array rule_list, even an empty one", got.raw)
	}
	if list.Size != len(list.Rules) {
		t.Errorf("got list_size %d for %d rules", list.Size, len(list.Rules))
	}
	return list
}

// onlyRule returns the rule of a list that must have exactly one.
func onlyRule(t testing.TB, list listing) rule {
	t.Helper()
	if len(list.Rules) != 1 {
		t.Fatalf("got %d rules, want 1: %+v", len(list.Rules), list.Rules)
	}
	return list.Rules[0]
}

func equal[T comparable](t testing.TB, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}

// checkMiniProgram checks that the scan opens the Mini Program at page, with the scanned text in the query parameter q.
// Contract: rules 2.8.
func checkMiniProgram(t testing.TB, scan Scan, kind, version, page, text string) {
	t.Helper()
	equal(t, "action", scan.Action, "open_mini_program")
	equal(t, "appid", scan.AppID, MiniProgram)
	equal(t, "version", scan.Version, version)
	equal(t, "scene", scan.Scene, 1011)
	equal(t, "matched.kind", scan.Matched.Kind, kind)
	gotPage, query, _ := strings.Cut(scan.Path, "?")
	equal(t, "page", gotPage, page)
	launch, err := url.ParseQuery(query)
	if err != nil {
		t.Errorf("launch query %q: %v", query, err)
	}
	equal(t, "q", launch.Get("q"), text)
	if launch.Get("scancode_time") == "" {
		t.Errorf("path = %q, want a scancode_time in it", scan.Path)
	}
}

// checkWebPage checks that the scan opens the scanned text as a URL.
func checkWebPage(t testing.TB, scan Scan, text string) {
	t.Helper()
	equal(t, "action", scan.Action, "open_url")
	equal(t, "url", scan.URL, text)
}

// uniqueID returns a part for prefixes that no other run on a shared server (QRJUMP_URL) uses.
func uniqueID() string { return fmt.Sprintf("%x", time.Now().UnixNano()) }

// OrdinaryRules runs the scenario of the five endpoints for ordinary rules. The caller must use the Mini Program's token.
func OrdinaryRules(t *testing.T, s *Server, call Caller) {
	base := "https://coffee.example/" + uniqueID() + "/"
	tables, doors := base+"tables/", base+"doors"
	testLink, printedLink := tables+"1", tables+"7?from=door"

	before := get(t, call, nil) // some clients send no body
	equal(t, "qrcodejump_open", before.Open, 1)

	checkVerificationFile(t, must(t, call, "qrcodejumpdownload", object{}, OK).raw)

	// Invalid arguments: the server returns the error and adds nothing.
	add := object{"prefix": tables, "permit_sub_rule": 1, "path": "pages/table/table", "open_version": 2, "debug_url": []string{testLink}, "is_edit": 0}
	modified := func(key string, value any) object {
		body := maps.Clone(add)
		body[key] = value
		return body
	}
	must(t, call, "qrcodejumpadd", modified("prefix", "coffee.example/tables/"), IllegalPrefix)
	must(t, call, "qrcodejumpadd", modified("debug_url", []string{base + "elsewhere"}), NotSubPrefix)
	must(t, call, "qrcodejumpadd", modified("permit_sub_rule", 3), InvalidArgs)
	must(t, call, "qrcodejumpadd", modified("is_edit", 1), InvalidArgs) // there is no rule to edit
	equal(t, "total_count after rejected adds", get(t, call, nil).Total, before.Total)

	must(t, call, "qrcodejumpadd", add, OK)
	must(t, call, "qrcodejumpadd", add, AlreadyAdded)
	must(t, call, "qrcodejumpadd", object{"prefix": doors, "permit_sub_rule": 1, "path": "pages/door/door", "open_version": 1, "is_edit": 0}, OK)

	// All values of get_type.
	list := get(t, call, object{"get_type": 0})
	equal(t, "total_count", list.Total, before.Total+2)
	if len(list.Rules) < 2 || list.Rules[0].Prefix != doors || list.Rules[1].Prefix != tables {
		t.Errorf("got %+v, want the newest rule first", list.Rules)
	}
	added := onlyRule(t, get(t, call, object{"get_type": 1, "prefix_list": []string{tables}}))
	equal(t, "prefix", added.Prefix, tables)
	equal(t, "path", added.Path, "pages/table/table")
	equal(t, "state of a new rule", added.State, 1)
	checkSettings(t, added, 2, 1, testLink)
	last := get(t, call, object{"get_type": 2, "page_num": before.Total + 2, "page_size": 1})
	equal(t, "prefix on the last page", onlyRule(t, last).Prefix, doors)
	equal(t, "total_count on a page", last.Total, before.Total+2)
	must(t, call, "qrcodejumpget", object{"get_type": 2, "page_num": 0, "page_size": 1}, InvalidArgs)

	// An unpublished rule applies only to scans of its test links by testers.
	checkWebPage(t, s.Scan(t, "visitor", printedLink), printedLink)
	checkMiniProgram(t, s.Scan(t, TrialUser, testLink), "test_link", "trial", "pages/table/table", testLink)

	// An edit without debug_url keeps the test links.
	must(t, call, "qrcodejumpadd", object{"prefix": tables, "permit_sub_rule": 2, "path": "pages/seat/seat", "open_version": 3, "is_edit": 1}, OK)
	edited := onlyRule(t, get(t, call, object{"get_type": 1, "prefix_list": []string{tables}}))
	equal(t, "path after the edit", edited.Path, "pages/seat/seat")
	checkSettings(t, edited, 3, 2, testLink)

	must(t, call, "qrcodejumppublish", object{"prefix": base + "unknown/"}, InvalidArgs)
	must(t, call, "qrcodejumppublish", object{"prefix": tables}, OK)
	published := get(t, call, object{"get_type": 1, "prefix_list": []string{tables}})
	equal(t, "state of a published rule", onlyRule(t, published).State, 2)
	equal(t, "remaining publish quota", published.Quota, before.Quota-1)
	checkMiniProgram(t, s.Scan(t, "visitor", printedLink), "rule", "release", "pages/seat/seat", printedLink)

	// The page of a published rule is immutable, its test settings are not. Contract: rules 1.2.
	must(t, call, "qrcodejumpadd", object{"prefix": tables, "permit_sub_rule": 2, "path": "pages/other/other", "open_version": 3, "is_edit": 1}, InvalidArgs)
	must(t, call, "qrcodejumpadd", object{"prefix": tables, "permit_sub_rule": 2, "path": "pages/seat/seat", "open_version": 3, "debug_url": []string{}, "is_edit": 1}, OK)
	checkSettings(t, onlyRule(t, get(t, call, object{"get_type": 1, "prefix_list": []string{tables}})), 3, 2)

	must(t, call, "qrcodejumpdelete", object{"prefix": base + "unknown/"}, InvalidArgs)
	must(t, call, "qrcodejumpdelete", object{"prefix": tables}, OK)
	checkWebPage(t, s.Scan(t, "visitor", printedLink), printedLink)
	must(t, call, "qrcodejumpdelete", object{"prefix": doors}, OK)
	equal(t, "total_count in the end", get(t, call, object{}).Total, before.Total)
}

// checkSettings compares the fields that only ordinary rules have.
func checkSettings(t testing.TB, got rule, openVersion, permitSubRule int, testLinks ...string) {
	t.Helper()
	if got.OpenVersion == nil || got.PermitSubRule == nil {
		t.Fatalf("got %+v, want open_version and permit_sub_rule in it", got)
	}
	equal(t, "open_version", *got.OpenVersion, openVersion)
	equal(t, "permit_sub_rule", *got.PermitSubRule, permitSubRule)
	var links []string // libraries do not distinguish an absent list from an empty one
	if got.DebugURL != nil {
		links = *got.DebugURL
	}
	if !slices.Equal(links, testLinks) {
		t.Errorf("debug_url = %q, want %q", links, testLinks)
	}
}

func checkVerificationFile(t testing.TB, raw []byte) {
	t.Helper()
	var file struct {
		Name    string `json:"file_name"`
		Content string `json:"file_content"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9A-Za-z]{10}\.txt$`).MatchString(file.Name) || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(file.Content) {
		t.Errorf("got the verification file %+v, want a name of ten characters and .txt, and 32 hex digits in the file", file)
	}
}

// ServiceRules runs the scenario of the five endpoints for the parametric codes of a service account. The caller must use
// the service account's token.
func ServiceRules(t *testing.T, s *Server, call Caller) {
	code := "http://weixin.qq.com/q/02" + uniqueID()
	add := object{"prefix": code, "appid": MiniProgram, "path": "pages/index/index", "is_edit": 0}
	byPrefix := object{"appid": MiniProgram, "get_type": 1, "prefix_list": []string{code}}

	before := get(t, call, object{"appid": MiniProgram})
	get(t, call, nil) // without appid: the rules of all Mini Programs

	must(t, call, "qrcodejumpadd", object{"prefix": code, "appid": "wxnobody", "path": "pages/index/index", "is_edit": 0}, InvalidWeapp)
	must(t, call, "qrcodejumpadd", object{"prefix": "http://weixin.qq.com/r/02profile", "appid": MiniProgram, "path": "pages/index/index", "is_edit": 0}, IllegalPrefix)
	must(t, call, "qrcodejumpadd", add, OK)
	must(t, call, "qrcodejumpadd", add, AlreadyAdded)

	added := onlyRule(t, get(t, call, byPrefix))
	equal(t, "prefix", added.Prefix, code)
	equal(t, "path", added.Path, "pages/index/index")
	equal(t, "state of a new rule", added.State, 1)
	if added.OpenVersion != nil || added.PermitSubRule != nil || added.DebugURL != nil {
		t.Errorf("got %+v, want none of the fields of ordinary rules", added)
	}
	last := get(t, call, object{"appid": MiniProgram, "get_type": 2, "page_num": before.Total + 1, "page_size": 1})
	equal(t, "prefix on the last page", onlyRule(t, last).Prefix, code)
	equal(t, "total_count", last.Total, before.Total+1)

	must(t, call, "qrcodejumpadd", object{"prefix": code, "appid": MiniProgram, "path": "pages/menu/menu", "is_edit": 1}, OK)
	equal(t, "path after the edit", onlyRule(t, get(t, call, byPrefix)).Path, "pages/menu/menu")
	checkWebPage(t, s.Scan(t, "visitor", code), code)

	must(t, call, "qrcodejumppublish", object{"prefix": code + "x"}, InvalidArgs)
	must(t, call, "qrcodejumppublish", object{"prefix": code}, OK)
	equal(t, "state of a published rule", onlyRule(t, get(t, call, byPrefix)).State, 2)
	checkMiniProgram(t, s.Scan(t, "visitor", code), "service_rule", "release", "pages/menu/menu", code)
	must(t, call, "qrcodejumpadd", object{"prefix": code, "appid": MiniProgram, "path": "pages/other/other", "is_edit": 1}, InvalidArgs)

	must(t, call, "qrcodejumpdelete", object{"prefix": code + "x", "appid": MiniProgram}, InvalidArgs)
	must(t, call, "qrcodejumpdelete", object{"prefix": code, "appid": MiniProgram}, OK)
	checkWebPage(t, s.Scan(t, "visitor", code), code)
	equal(t, "total_count in the end", get(t, call, object{"appid": MiniProgram}).Total, before.Total)

	// The file is only for ordinary rules; the contract allows it for a service account too.
	checkVerificationFile(t, must(t, call, "qrcodejumpdownload", object{}, OK).raw)
}
