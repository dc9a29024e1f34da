package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

// probe is a behaviour row with the calls that determine the platform's behaviour. The message probe.asks.ROW describes the tested part of
// the row; for a partial probe, probe.leaves.ROW describes the rest.
type probe struct {
	row       behaviour.Row
	calls     int      // The maximum number of calls, excluding deletions.
	publishes int      // The maximum number of publishes from the monthly quota.
	rules     int      // The maximum number of added rules; each is deleted with one call.
	names     []string // The prefixes that must not exist before the run.
	requires  requirement
	partial   bool
	ask       func(*probeRun) (otherwise bool, err error)
}

// changes reports whether the probe adds a rule or publishes.
func (p probe) changes() bool { return p.rules > 0 || p.publishes > 0 }

const (
	listedOnce = `"page_num":1,"page_size":1`
	listed     = `{"get_type":2,` + listedOnce + `}`
	openLatest = `"is_edit":0,"permit_sub_rule":1,"open_version":3`
)

// probes lists the behaviour rows that a run can test, most valuable first. Each prefix in names belongs to a single probe.
var probes = []probe{
	{row: behaviour.WireBodyEmptyAccepted, calls: 2, ask: func(r *probeRun) (bool, error) {
		d, _ := behaviour.WireBodyEmptyAccepted.Deviation()
		for _, call := range []string{"qrcodejumpget", "qrcodejumpdownload"} {
			refused, err := r.refused(d.Row, r.rule(call, ""))
			if err != nil || refused != d.Closed() {
				return refused != d.Closed(), err
			}
		}
		return false, nil
	}},
	{row: behaviour.RulesPublishAgain, calls: 5, publishes: 2, rules: 1, names: []string{"{below}again"},
		ask: func(r *probeRun) (bool, error) {
			prefix := r.fill("{below}again")
			r.add(prefix, "", "")
			r.requireCall("qrcodejumppublish", `{"prefix":%q}`, prefix)
			prev := r.publishesLeft("")
			if r.err != nil {
				return false, r.err
			}
			if refused, err := r.differs(0, r.rule("qrcodejumppublish", fmt.Sprintf(`{"prefix":%q}`, prefix))); err != nil || refused {
				return refused, err
			}
			return r.publishesLeft("") != prev, r.err
		}},
	{row: behaviour.RulesEditUnchecked, calls: 5, publishes: 2, rules: 1, names: []string{"{below}spent"}, partial: true,
		ask: func(r *probeRun) (bool, error) {
			prefix := r.fill("{below}spent")
			r.add(prefix, "", "")
			r.requireCall("qrcodejumppublish", `{"prefix":%q}`, prefix)
			prev := r.publishesLeft("")
			r.requireCall("qrcodejumpadd", "%s", r.body(prefix, 1, ""))
			return r.publishesLeft("") != prev, r.err
		}},
	{row: behaviour.RulesPublishService, calls: 5, publishes: 1, rules: 1, requires: requireService, partial: true, ask: probePublishAs},
	{row: behaviour.RulesPrefixUnknown, calls: 3, publishes: 1, rules: 1, names: []string{"{below}unknown"}, partial: true,
		ask: func(r *probeRun) (bool, error) {
			prefix := r.fill("{below}unknown")
			if fallback, err := r.differs(40097, r.sendAdd(prefix, "", r.body(prefix, 1, ""))); err != nil || fallback {
				return fallback, err
			}
			return r.anyDiffers(40097, "qrcodejumppublish", `{"prefix":"`+prefix+`"}`, "qrcodejumpdelete", `{"prefix":"`+prefix+`"}`)
		}},
	{row: behaviour.RulesEditKeeps, calls: 5, rules: 1, names: []string{"{below}links/"}, ask: probeEdit},
	{row: behaviour.RulesAddOwned, calls: 4, rules: 2, names: []string{"{below}owned"}, requires: requireSecond,
		ask: func(r *probeRun) (bool, error) {
			prefix := r.fill("{below}owned")
			r.add(prefix, "", "")
			fallback, err := r.secondAdds(prefix)
			if err != nil || fallback {
				return fallback, err
			}
			r.become(r.AppID, r.Secret)
			r.requireCall("qrcodejumpadd", "%s", strings.Replace(r.body(prefix, 1, ""), `"permit_sub_rule":1`, `"permit_sub_rule":2`, 1))
			return r.secondAdds(prefix)
		}},
	{row: behaviour.RulesAddOccupied, calls: 2, rules: 2, names: []string{"{below}occupied/", "{below}occupied/1"}, requires: requireSecond,
		ask: func(r *probeRun) (bool, error) {
			prefix := r.fill("{below}occupied/")
			r.add(prefix, "", strings.Replace(r.body(prefix, 0, ""), `"permit_sub_rule":1`, `"permit_sub_rule":2`, 1))
			return r.secondAdds(prefix + "1")
		}},
	{row: behaviour.RulesPrefixCase, calls: 2, rules: 1, names: []string{"{below}case", "{BELOW}case"},
		ask: func(r *probeRun) (bool, error) {
			return r.addedAs(behaviour.RulesPrefixCase, `{"prefix":"{BELOW}case","path":"{page}",`+openLatest+`}`, 1, "{below}case")
		}},
	{row: behaviour.RulesPrefixEncoded, calls: 2, rules: 1, names: []string{"{below}%7Euser", "{below}%7euser", "{below}~user"},
		ask: func(r *probeRun) (bool, error) {
			return r.addedAs(behaviour.RulesPrefixEncoded, `{"prefix":"{below}%7Euser","path":"{page}",`+openLatest+`}`, 0,
				"{below}%7euser", "{below}~user")
		}},
	{row: behaviour.RulesPathSlash, calls: 1, rules: 1, names: []string{"{below}slash"}, partial: true,
		ask: func(r *probeRun) (bool, error) {
			return r.refused(behaviour.RulesPathSlash, r.sendAdd(r.fill("{below}slash"), "",
				r.fill(`{"prefix":"{below}slash","path":"/{page}",`+openLatest+`}`)))
		}},
	{row: behaviour.RulesPath, calls: 4, rules: 1, names: []string{"{below}path"}, ask: func(r *probeRun) (bool, error) {
		for _, path := range []string{"", strings.Repeat("p", 1025), `pages/\u0001`} {
			fallback, err := r.differs(40097, r.sendAdd(r.fill("{below}path"), "",
				r.fill(`{"prefix":"{below}path","path":"`+path+`",`+openLatest+`}`)))
			if err != nil || fallback {
				return fallback, err
			}
		}
		return r.differs(0, r.sendAdd(r.fill("{below}path"), "",
			r.fill(`{"prefix":"{below}path","path":"pages/probe/none",`+openLatest+`}`)))
	}},
	// The request has two errors: the account has no permission, and the body is invalid JSON.
	{row: behaviour.CodesGate, calls: 1, partial: true, ask: func(r *probeRun) (bool, error) {
		return r.differs(48001, r.call("/intp/marketcode/applycode?access_token="+r.current.token, jsonType, `{"code_count":`))
	}},
	{row: behaviour.WireNumberText, calls: 1, partial: true, ask: probeList(behaviour.WireNumberText,
		`{"get_type":"2","page_num":"1","page_size":"1"}`)},
	{row: behaviour.WireNumberFloat, calls: 1, ask: probeList(behaviour.WireNumberFloat, `{"get_type":2,"page_num":1.0,"page_size":1e0}`)},
	{row: behaviour.WireNumberForm, calls: 2, ask: func(r *probeRun) (bool, error) {
		return r.anyDiffers(40097, "qrcodejumpget", `{"get_type":2,"page_num":"1x","page_size":1}`,
			"qrcodejumpget", `{"get_type":2,"page_num":"0x1","page_size":1}`)
	}},
	{row: behaviour.WireListText, calls: 1, partial: true, ask: probeList(behaviour.WireListText,
		`{"get_type":1,"prefix_list":"{below}one"}`)},
	{row: behaviour.WireFieldUnknown, calls: 1, ask: probeList(behaviour.WireFieldUnknown, `{"get_type":2,`+listedOnce+`,"probe":1}`)},
	{row: behaviour.WireFieldNull, calls: 2, rules: 1, names: []string{"{below}null"}, ask: func(r *probeRun) (bool, error) {
		prefix := r.fill("{below}null")
		refused, err := r.refused(behaviour.WireFieldNull, r.sendAdd(prefix, "", r.body(prefix, 0, `,"debug_url":null`)))
		if err != nil || refused {
			return refused, err
		}
		return r.refused(behaviour.WireFieldNull, r.rule("qrcodejumpadd", r.body(prefix, 1, `,"debug_url":""`)))
	}},
	{row: behaviour.WireFieldQuery, calls: 1, ask: func(r *probeRun) (bool, error) {
		return r.refused(behaviour.WireFieldQuery, r.send("qrcodejumpget", "&get_type=9", jsonType, listed))
	}},
	{row: behaviour.WireBodyType, calls: 2, ask: func(r *probeRun) (bool, error) {
		refused, err := r.refused(behaviour.WireBodyType, r.send("qrcodejumpget", "", "application/x-www-form-urlencoded", listed))
		if err != nil || refused {
			return refused, err
		}
		return r.refused(behaviour.WireBodyType, r.send("qrcodejumpget", "", "", listed))
	}},
	{row: behaviour.WireFieldDoubled, calls: 4, ask: probeDoubled},
	{row: behaviour.TokenStableSoon, calls: 2, requires: requireRefresh, ask: func(r *probeRun) (bool, error) {
		first, err := r.stable(r.current, true)
		if err != nil {
			return false, err
		}
		second, err := r.stable(r.current, true)
		return second != first, err
	}},
}

// probeList returns a function that tests whether the platform rejects a list call with a body that deviates from the documented form.
func probeList(row behaviour.Row, body string) func(*probeRun) (bool, error) {
	return func(r *probeRun) (bool, error) { return r.refused(row, r.rule("qrcodejumpget", r.fill(body))) }
}

// addedAs tests whether the platform rejects an add call. If the platform accepts the call, addedAs tests whether the number of rules that
// get_type 1 finds under the given spellings differs from want.
func (r *probeRun) addedAs(row behaviour.Row, body string, want int, spellings ...string) (bool, error) {
	var sent struct{ Prefix string }
	body = r.fill(body)
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		return false, err
	}
	if refused, err := r.refused(row, r.sendAdd(sent.Prefix, "", body)); err != nil || refused {
		return refused, err
	}
	for i, spelling := range spellings {
		spellings[i] = r.fill(spelling)
	}
	found, err := r.existing(spellings, "")
	return len(found) != want, err
}

// secondAdds tests whether the platform returns an errcode other than 85072 when the second account adds the prefix.
func (r *probeRun) secondAdds(prefix string) (bool, error) {
	r.become(r.SecondAppID, r.SecondSecret)
	if r.err != nil {
		return false, r.err
	}
	return r.differs(85072, r.sendAdd(prefix, "", r.body(prefix, 0, "")))
}

// probeEdit tests whether an edit without debug_url keeps a rule's test links, and whether an edit with an empty debug_url removes them.
func probeEdit(r *probeRun) (bool, error) {
	prefix := r.fill("{below}links/")
	links := func() int {
		rules, err := r.existing([]string{prefix}, "")
		if r.err = errors.Join(r.err, err); r.err == nil && len(rules) != 1 {
			r.err = fault("probe.not_alone", prefix, len(rules))
		}
		if r.err != nil {
			return 0
		}
		return len(rules[0].Links)
	}
	r.add(prefix, "", r.body(prefix, 0, fmt.Sprintf(`,"debug_url":[%q]`, prefix+"1")))
	r.requireCall("qrcodejumpadd", "%s", r.body(prefix, 1, ""))
	if kept := links(); r.err != nil || kept == 0 {
		return kept == 0, r.err
	}
	r.requireCall("qrcodejumpadd", "%s", r.body(prefix, 1, `,"debug_url":[]`))
	return links() != 0, r.err
}

// probePublishAs tests whether publishing a rule of a service account counts against the quota. The rule is for a temporary code that
// expires within a minute.
func probePublishAs(r *probeRun) (bool, error) {
	r.become(r.ServiceAppID, r.ServiceSecret)
	if r.err != nil {
		return false, r.err
	}
	made := r.call("/cgi-bin/qrcode/create?access_token="+r.current.token, jsonType,
		`{"expire_seconds":60,"action_name":"QR_STR_SCENE","action_info":{"scene":{"scene_str":"probe"}}}`)
	var code struct{ URL string }
	if made.err == nil {
		made.err = json.Unmarshal(made.body, &code)
	}
	if made.err != nil || code.URL == "" {
		return false, cmp.Or(made.err, fault("probe.answered", made.path, made.body))
	}
	target := fmt.Sprintf(`,"appid":%q`, r.AppID)
	if err := r.requireAbsent([]string{code.URL}, target); err != nil {
		return false, err
	}
	r.add(code.URL, target, r.body(code.URL, 0, target))
	prev := r.publishesLeft(target)
	r.requireCall("qrcodejumppublish", `{"prefix":%q}`, code.URL)
	return r.publishesLeft(target) != prev, r.err
}

// probeDoubled tests which value the platform uses if a field occurs twice in a body, or a token twice in a query.
func probeDoubled(r *probeRun) (bool, error) {
	d, _ := behaviour.WireFieldDoubled.Deviation()
	refused, err := r.differs(0, r.rule("qrcodejumpget", `{"get_type":9,`+listedOnce+`,"get_type":2}`))
	if err != nil || refused {
		return refused, err
	}
	last := r.rule("qrcodejumpget", `{"get_type":2,`+listedOnce+`,"get_type":9}`)
	if last.err != nil || last.code == 0 || slices.Contains(callerNumbers, last.code) { // The platform may ignore get_type.
		return false, cmp.Or(last.err, fault("probe.answered", last.path, last.body))
	}
	var differs bool
	for _, name := range []string{"access_token", "component_access_token"} {
		token := r.send("qrcodejumpget", "&"+name+"=none", jsonType, listed)
		if token.code == 40001 || token.code == d.Refusal {
			return true, token.err
		}
		if differs, err = r.differs(0, token); differs || err != nil {
			break
		}
	}
	return differs, err
}
