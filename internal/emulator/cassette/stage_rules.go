package cassette

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// foreignOwner is a token number that no recording uses; it identifies the account that owns the rules added by addForeignRules.
const foreignOwner = 89_999_999

// addForeignRules adds a rule for each prefix that the platform rejected because another account owns the prefix, unless that
// account appears in the lines.
func (s *Fixture) addForeignRules() {
	for _, prefix := range slices.Sorted(maps.Keys(s.foreign)) {
		if s.owners[prefix] == 0 {
			s.plant("", rules.SeedRule{Owner: s.appID(s.unknownParty(mark{n: foreignOwner}), s.Began()), Path: "pages/index/index",
				OpenVersion: new(3), Prefix: plainText(prefix, s.Began()), Published: true})
		}
	}
}

const rulePath = "/cgi-bin/wxopen/qrcodejump"

// privateHost matches a port or an IP address in a masked prefix.
var privateHost = regexp.MustCompile(`^https?://(\{ip:|[^/]*:\{number:|[^/]*:[0-9])`)

func (s *Fixture) learnRule(r *Recorded, p *party, call string) {
	p = s.sameAccount(r, p)
	target := p
	if named := r.recorded("appid"); asStandIn(named).n != 0 && !slices.Contains(noSuchParty, r.number()) {
		target = s.party(named)
		if r.worked() {
			p.service = true
			s.link(p, target)
		}
	}
	switch r.number() {
	case errcode.Unauthorized.Number:
		p.service, p.uncertain = true, true
	case errcode.PersonalSubject.Number:
		target.personal = true
	case errcode.NotReleased.Number:
		target.draft = true
	}
	prefix, c := r.recorded("prefix"), ruleCall{s, r, p, target}
	key := c.key(prefix.text)
	had := rules.SeedRule{Owner: s.appID(p, r.OccurredAt), Path: "pages/index/index", OpenVersion: new(3), Prefix: plainText(prefix.text,
		r.OccurredAt)}
	if target != p {
		had.AppID = s.appID(target, r.OccurredAt)
	}
	switch {
	case r.number() == errcode.PrefixAdded.Number && !c.isKnown(prefix.text):
		s.plant(key, had)
		s.vague[key] = true
	case r.number() == errcode.SystemError.Number || r.number() == errcode.Busy.Number:
		if call == "add" && s.busy[key] == 0 && !s.touched[key] {
			s.busy[key] = r.Number
		} else if call == "delete" && s.busy["delete "+key] == 0 {
			s.busy["delete "+key] = r.Number
		}
	case call == "delete" && r.number() == errcode.InvalidArgs.Number && s.busy["delete "+key] > 0:
		s.done[s.busy["delete "+key]] = true // the rule was deleted by the earlier call that returned a system error
	case r.number() == errcode.PrefixOwned.Number && target == p:
		s.foreign[sameHost(prefix.text)] = true
	}
	if !r.worked() {
		return
	}
	switch call {
	case "get":
		c.learnList(had)
	case "publish", "delete", "add":
		target.released = target.released || call == "publish"
		s.private = s.private || privateHost.MatchString(prefix.text)
		edit, _ := r.recorded("is_edit").int()
		if !c.isKnown(prefix.text) && (call != "add" || edit != 0) {
			s.plant(key, had)
			s.vague[key] = true
		}
		if call == "publish" {
			s.touched["published "+key] = true
		} else {
			delete(s.vague, key) // later lists show the rule as this call left it, not as it was before the recording
		}
		if call == "delete" {
			s.owners[sameHost(prefix.text)] = -1
		}
	}
}

// ruleCall is a recorded call of the account p about rules that open the Mini Program target.
type ruleCall struct {
	*Fixture
	r         *Recorded
	p, target *party
}

// key returns the key that the maps of Fixture use for this account's rule with a masked prefix.
func (c ruleCall) key(masked string) string { return fmt.Sprint(c.p.n, " ", sameHost(masked)) }

// isKnown reports whether an earlier call showed that the rule exists, and records that this call shows it.
func (c ruleCall) isKnown(masked string) bool {
	if c.target == c.p {
		c.owners[sameHost(masked)] = c.p.n
	}
	key := c.key(masked)
	known, line := c.touched[key], c.busy[key]
	if !known && line > 0 { // the "add" call that returned a system error took effect: it created the rule
		c.done[line] = true
		known = true
	}
	c.touched[key] = true
	return known
}

// learnList stores the rules that a response lists; the parameter had contains the values of fields that a list does not show.
func (c ruleCall) learnList(had rules.SeedRule) {
	items := slices.Clone(c.r.answer.field("rule_list").items)
	kind, _ := c.r.recorded("get_type").int()
	if kind != 2 { // unless get_type is 2, the list begins with the newest rule
		slices.Reverse(items)
	}
	var listed []string
	for _, item := range items {
		key := c.key(item.field("prefix").text)
		listed = append(listed, key)
		if c.isKnown(item.field("prefix").text) && !c.vague[key] {
			continue
		}
		state, _ := item.field("state").int()
		occupy, _ := item.field("permit_sub_rule").int()
		had.Prefix, had.Path = plainText(item.field("prefix").text, c.r.OccurredAt), plainText(item.field("path").text, c.r.OccurredAt)
		version, _ := item.field("open_version").int()
		had.OpenVersion = &version
		had.Published, had.Occupy, had.TestLinks = state == 2, occupy == 2, nil
		for _, link := range item.field("debug_url").items {
			had.TestLinks = append(had.TestLinks, plainText(link.text, c.r.OccurredAt))
		}
		if i := slices.Index(c.keys, key); i >= 0 {
			had.Published = had.Published && !c.touched["published "+key]
			c.rules[i] = had
			delete(c.vague, key)
		} else {
			c.plant(key, had)
		}
	}
	if kind != 1 {
		c.orderRules(listed)
	}
}

// sameHost returns a masked prefix with its scheme and host in lower case.
func sameHost(masked string) string {
	host := origin.FindString(masked)
	return strings.ReplaceAll(strings.ToLower(host), "{^", "{") + masked[len(host):]
}

// plant records a rule that existed before the recording.
func (s *Fixture) plant(key string, rule rules.SeedRule) {
	s.rules, s.keys = append(s.rules, rule), append(s.keys, key)
}

// orderRules sorts s.rules in the order of listed (keys of rules, oldest first); unlisted rules keep their positions.
func (s *Fixture) orderRules(listed []string) {
	listed = slices.DeleteFunc(listed, func(key string) bool { return !slices.Contains(s.keys, key) })
	rules, keys, next := slices.Clone(s.rules), slices.Clone(s.keys), 0
	for i, key := range keys {
		if slices.Contains(listed, key) {
			s.rules[i], s.keys[i] = rules[slices.Index(keys, listed[next])], listed[next]
			next++
		}
	}
}

// sameAccount returns the account that requested a list of rules. If its token was issued before the recording, the account is the owner
// of any rule in the list, because two accounts never share a prefix.
func (s *Fixture) sameAccount(r *Recorded, p *party) *party {
	if r.Path != rulePath+"get" || !r.worked() || r.recorded("appid").kind != absent {
		return p
	}
	for _, item := range r.answer.field("rule_list").items {
		owner := s.parties[s.owners[sameHost(item.field("prefix").text)]]
		switch {
		case owner == nil || owner == p:
		case p.n < 0:
			s.merge(p, owner)
			p = owner
		case owner.n < 0:
			s.merge(owner, p)
		}
	}
	return p
}
