package cassette

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// party is an account or a platform that the recorded lines mention.
type party struct {
	n            int // placeholder number of the AppID; negative: the AppID is unknown, and n is the negated token number
	appID        mark
	secret       mark
	platform     bool
	service      bool
	follower     bool // a subscription account
	uncertain    bool // a response, such as errcode 48001, shows that the account may be unverified
	verified     bool // a response shows that the account is verified
	codes        bool // the account may use one-code-per-item codes
	personal     bool
	draft        bool // no released version
	released     bool
	linked       []int
	name         string
	openPlatform string            // "open" if the platform returns a unionid for users
	options      map[string]string // options that the account had before the recording, if recorded calls show them
	grants       map[int]*grant    // maps an account's number to its grant to this platform
}

// Fixture is the initial state that the local server needs to play a cassette.
type Fixture struct {
	lines   []Recorded
	parties map[int]*party
	owner   map[int]int // maps a token number to the number of the account or platform that owns the token
	agent   map[int]int // maps the number of an authorizer token to the number of the platform that received it
	rules   []rules.SeedRule
	keys    []string          // keys of the rules in the field rules, in the same order
	busy    map[string]int    // maps the key of a rule to the line of an "add" or "delete" call that returned a system error
	done    map[int]bool      // lines of the "add" and "delete" calls that took effect despite a system error
	early   []earlyToken      // stable tokens that were fetched before the recording
	vague   map[string]bool   // keys of rules of which only the prefix is known so far
	links   map[[2]int]bool   // pairs of linked accounts
	odd     map[int][]oddLink // maps the line number of a recorded link list to the links in the list that a seed file cannot express
	foreign map[string]bool   // prefixes that belong to another account
	owners  map[string]int    // for rules that open their owner's pages: maps the prefix to the last owner's number; -1 = deleted
	sets    map[int][]int     // maps the number of a refresh token to the permission sets that the account grants
	touched map[string]bool   // keys of rules, links and options whose state before the recording is known
	ownLink bool              // an account called the link endpoints with its own token
	private bool              // the platform accepted a prefix with a port or an IP address
}

// NewStage derives from the lines of a cassette which accounts, platforms and rules existed before the recording.
func NewStage(lines []Recorded) *Fixture {
	s := &Fixture{lines: lines, parties: map[int]*party{}, owner: map[int]int{}, agent: map[int]int{}, touched: map[string]bool{},
		busy: map[string]int{}, done: map[int]bool{}, vague: map[string]bool{}, links: map[[2]int]bool{}, odd: map[int][]oddLink{},
		foreign: map[string]bool{}, owners: map[string]int{}, sets: map[int][]int{}}
	for i := range lines {
		s.issued(&lines[i])
	}
	s.fetchedBefore()
	for i := range lines {
		s.learn(&lines[i])
	}
	s.assignExclusiveSet()
	s.addForeignRules()
	return s
}

// recorded returns a field of the request, from its query or its body.
func (r *Recorded) recorded(name string) value {
	if v := r.query.field(name); v.kind != absent {
		return v
	}
	return r.request.field(name)
}

// secret returns the placeholder of the app secret in the request; n is 0 if the request contains no secret.
func (r *Recorded) secret() (secret mark) {
	for _, name := range []string{"secret", "appsecret", "component_appsecret", "component_secret"} {
		if secret = asStandIn(r.recorded(name)); secret.n != 0 {
			break
		}
	}
	return secret
}

// number returns the errcode of the response; 0 if the response has none.
func (r *Recorded) number() int {
	n, _ := r.answer.field("errcode").int()
	return n
}

// worked reports whether the platform processed the call successfully.
func (r *Recorded) worked() bool { return r.Error == "" && r.answer.kind == object && r.number() == 0 }

// asStandIn returns the placeholder if v consists of one placeholder only; otherwise, its n is 0.
func asStandIn(v value) mark {
	if v.kind != text {
		return mark{}
	}
	m, _ := wholeMark(v.text)
	return m
}

// party returns the account or platform with an AppID, and creates the party at the first use of the AppID.
func (s *Fixture) party(v value) *party {
	id := asStandIn(v)
	if id.n == 0 {
		return &party{} // no placeholder: the AppID is a public word or empty
	}
	p := s.parties[id.n]
	if p == nil {
		p = &party{n: id.n, appID: id, grants: map[int]*grant{}}
		s.parties[id.n] = p
	}
	return p
}

// unknownParty returns the party, with an unknown AppID, that owns a token issued before the recording began.
func (s *Fixture) unknownParty(token mark) *party {
	p := s.parties[-token.n]
	if p == nil {
		p = &party{n: -token.n, appID: mark{kind: "appid", n: 900_000_000 + token.n%90_000_000, length: 18}, grants: map[int]*grant{}}
		s.parties[-token.n] = p
	}
	return p
}

const (
	componentPath     = "/cgi-bin/component/"
	platformLoginPath = "/sns/component/jscode2session"
)

// authorizer returns the AppID of the account on whose behalf a platform calls.
func (r *Recorded) authorizer() value {
	if r.Path == platformLoginPath {
		return r.recorded("appid")
	}
	return r.recorded("authorizer_appid")
}

// platformToken returns the platform's token in a request; the newest API documentation calls the parameter access_token.
func (r *Recorded) platformToken() mark {
	token := asStandIn(r.query.field("component_access_token"))
	if token.n == 0 && asStandIn(r.recorded("component_appid")).n != 0 {
		token = asStandIn(r.query.field("access_token"))
	}
	return token
}

// issued records the owner of each token in a response.
func (s *Fixture) issued(r *Recorded) {
	if !r.worked() {
		return
	}
	give := func(token value, to *party) {
		if m := asStandIn(token); m.n != 0 && to.n != 0 {
			s.owner[m.n] = to.n
		}
	}
	if r.Path == "/cgi-bin/stable_token" {
		s.learnStable(r)
	}
	switch r.Path {
	case "/cgi-bin/clear_quota":
		give(r.query.field("access_token"), s.party(r.recorded("appid")))
	case "/cgi-bin/token", "/cgi-bin/stable_token":
		give(r.answer.field("access_token"), s.party(r.recorded("appid")))
	case componentPath + "api_component_token":
		give(r.answer.field("component_access_token"), s.party(r.recorded("component_appid")))
	case componentPath + "api_authorizer_token":
		give(r.answer.field("authorizer_access_token"), s.party(r.recorded("authorizer_appid")))
		s.agent[asStandIn(r.answer.field("authorizer_access_token")).n] = asStandIn(r.recorded("component_appid")).n
	case componentPath + "api_query_auth":
		info := r.answer.field("authorization_info")
		give(info.field("authorizer_access_token"), s.party(info.field("authorizer_appid")))
		s.agent[asStandIn(info.field("authorizer_access_token")).n] = asStandIn(r.recorded("component_appid")).n
	}
}

// noSuchParty lists the errcodes that can mean, among other things, that the AppID in the request does not exist.
var noSuchParty = []int{errcode.InvalidAppID.Number, errcode.AppIDMissing.Number, errcode.ComponentMissing.Number,
	errcode.InvalidWeappAppID.Number, errcode.InvalidComponent.Number}

// badToken lists the errcodes that mean that a token is invalid.
var badToken = []int{errcode.InvalidCredential.Number, errcode.InvalidAccessToken.Number, errcode.TokenMissing.Number,
	errcode.TokenExpired.Number, errcode.InvalidURL.Number}

// caller returns the owner of a call's token; nil if the token was invalid.
func (s *Fixture) caller(r *Recorded) *party {
	token := asStandIn(r.query.field("access_token"))
	if token.n == 0 || r.Error != "" || slices.Contains(badToken, r.number()) || r.answer.kind != object {
		return nil
	}
	if n, known := s.owner[token.n]; known {
		return s.parties[n]
	}
	return s.unknownParty(token)
}

// If only one account fetched tokens, fetchedBefore assigns to this account the tokens last used before the first fetch. A token
// that was issued earlier but is used later may belong to another client: a client stops using a token when it fetches a new one.
func (s *Fixture) fetchedBefore() {
	account, fetched := 0, -1
	last := map[int]int{} // maps a token number to the index of the last line that used the token
	for i := range s.lines {
		r := &s.lines[i]
		if strings.HasPrefix(r.Path, componentPath) {
			return // a platform holds tokens of many accounts, so the old token cannot be assigned to one of them
		}
		if r.Path == "/cgi-bin/token" || r.Path == "/cgi-bin/stable_token" {
			if n := asStandIn(r.recorded("appid")).n; r.worked() && n != 0 {
				if account != 0 && account != n {
					return
				}
				account = n
				if fetched < 0 {
					fetched = i
				}
			}
			continue
		}
		if token := asStandIn(r.query.field("access_token")).n; token != 0 {
			last[token] = i
		}
	}
	for token, line := range last {
		if _, known := s.owner[token]; !known && line < fetched {
			s.owner[token] = account
		}
	}
}

// learn records the facts that a call reveals about accounts, platforms and rules.
func (s *Fixture) learn(r *Recorded) {
	if r.Error != "" || r.answer.kind != object {
		return
	}
	if r.answer.field("unionid").kind == text {
		s.party(r.recorded("appid")).openPlatform = "open"
	}
	if strings.HasPrefix(r.Path, componentPath) || r.Path == platformLoginPath {
		s.learnComponent(r)
		return
	}
	if secret := r.secret(); secret.n != 0 && !slices.Contains(noSuchParty, r.number()) {
		p := s.party(r.recorded("appid"))
		p.platform = p.platform || r.number() == errcode.ComponentToken.Number
		if r.worked() || p.secret.n == 0 && slices.Contains(afterSecret, r.number()) {
			p.secret = secret
		}
	}
	if p := s.caller(r); p != nil {
		s.learnCall(r, p)
	}
}

// afterSecret lists the errcodes that the platform returns only after it has checked the secret.
var afterSecret = []int{errcode.InvalidLoginCode.Number, errcode.LoginCodeUsed.Number, errcode.LoginCodeMissing.Number,
	errcode.ClearLimit.Number}

func (s *Fixture) learnComponent(r *Recorded) {
	if slices.Contains(noSuchParty, r.number()) || slices.Contains(badToken, r.number()) {
		if r.number() == errcode.InvalidComponent.Number {
			s.party(r.recorded("component_appid")) // the platform returns this errcode if component_appid belongs to an account
		}
		return
	}
	p, authorizer := s.party(r.recorded("component_appid")), s.party(r.authorizer())
	if token := asStandIn(r.query.field("access_token")).n; p.n == 0 && s.agent[token] != 0 {
		p, authorizer = s.parties[s.agent[token]], s.parties[s.owner[token]]
	}
	if p.n == 0 {
		return
	}
	p.platform = true
	if secret := r.secret(); secret.n != 0 && r.number() != errcode.InvalidSecret.Number {
		p.secret = secret
	}
	if token := r.platformToken(); token.n != 0 && s.owner[token.n] == 0 {
		s.owner[token.n] = p.n
	}
	if !r.worked() {
		if r.number() == errcode.NotComponentSet.Number {
			p.authorised(authorizer, nil, r.Number)
		}
		return
	}
	info := r.answer.field("authorization_info")
	if refresh := asStandIn(info.field("authorizer_refresh_token")); refresh.n != 0 && s.sets[refresh.n] == nil {
		s.sets[refresh.n] = setsOf(info)
	}
	switch strings.TrimPrefix(r.Path, componentPath) {
	case "api_query_auth":
		if to := s.party(info.field("authorizer_appid")); to.n != 0 && p.grants[to.n] == nil {
			p.grants[to.n] = &grant{} // the authorization was made during the recording
		} else if to.n != 0 {
			p.grants[to.n].guessed = false // later responses do not show the permission sets from before the recording
		}
	case "api_get_authorizer_info":
		to := s.party(r.recorded("authorizer_appid"))
		val := r.answer.field("authorizer_info")
		to.name = val.field("nick_name").text
		if id, ok := val.lookup("service_type_info", "id").int(); ok {
			official := val.field("MiniProgramInfo").kind == absent
			to.service, to.follower = to.service || id == 2 && official, id != 2 && official
		}
		if id, ok := val.lookup("verify_type_info", "id").int(); ok {
			to.verified = id >= 0
			to.uncertain = to.uncertain || id < 0
		}
		p.authorised(to, setsOf(info), r.Number)
	case "api_authorizer_token", "api_get_authorizer_option", "api_set_authorizer_option", "get_authorizer_option",
		"set_authorizer_option", platformLoginPath:
		to := authorizer
		p.authorised(to, nil, r.Number)
		if set := accounts.OptionSet(r.recorded("option_name").text); set != 0 && to.n != 0 {
			to.service = true
			if g := p.grants[to.n]; g.guessed && !slices.Contains(g.sets, set) {
				g.sets = append(slices.Clone(g.sets), set)
			}
		}
		s.learnOption(to, r.recorded("option_name").text, r.answer.field("option_value"))
	case "clear_quota/v2":
		if to := s.party(r.recorded("appid")); to != p {
			p.authorised(to, nil, r.Number)
		}
	case "api_get_authorizer_list":
		for _, item := range r.answer.field("list").items {
			p.authorised(s.party(item.field("authorizer_appid")), nil, r.Number)
		}
	}
}

// authorised records that an account had authorized the platform before the recording; sets is nil if the response does not show
// the permission sets.
func (p *party) authorised(to *party, sets []int, line int) {
	if to.n == 0 {
		return
	}
	if p.grants[to.n] == nil {
		p.grants[to.n] = &grant{before: true, guessed: true, sets: usualSets}
	}
	if g := p.grants[to.n]; g.guessed && sets != nil {
		g.guessed, g.sets, g.told = false, sets, line
	}
}

// usualSets lists the permission sets that are assumed if no response shows the permission sets of an account.
var usualSets = []int{3, 18, 33, 46}

// exclusiveSet is the permission set that an account can grant to only one platform at a time.
const exclusiveSet = 18

// assignExclusiveSet ensures that only one platform has an account's exclusive set: the first platform that the lines show with the
// set, or any platform if no line shows the set.
func (s *Fixture) assignExclusiveSet() {
	type storedGrant struct {
		to int
		*grant
	}
	var all []storedGrant
	for _, n := range slices.Sorted(maps.Keys(s.parties)) {
		for _, to := range slices.Sorted(maps.Keys(s.parties[n].grants)) {
			if g := s.parties[n].grants[to]; g.before && slices.Contains(g.sets, exclusiveSet) {
				all = append(all, storedGrant{to, g})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b storedGrant) int {
		if a.guessed != b.guessed {
			return strings.Compare(fmt.Sprint(a.guessed), fmt.Sprint(b.guessed))
		}
		return a.told - b.told
	})
	taken := map[int]bool{}
	for _, h := range all {
		if taken[h.to] {
			h.sets = withoutExclusive(h.sets)
		}
		taken[h.to] = true
	}
}

func withoutExclusive(sets []int) []int {
	return slices.DeleteFunc(slices.Clone(sets), func(id int) bool { return id == exclusiveSet })
}

// setsOf returns the permission sets that a response shows, sorted; nil = the response shows none.
func setsOf(info value) (sets []int) {
	for _, item := range info.field("func_info").items {
		if id, ok := item.lookup("funcscope_category", "id").int(); ok && id >= 1 && id <= 1000 {
			sets = append(sets, id)
		}
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

// learnCall records the facts that a call with a token reveals about the token's owner.
func (s *Fixture) learnCall(r *Recorded, p *party) {
	refused := r.number() == errcode.Unauthorized.Number
	call, ofRules := strings.CutPrefix(r.Path, rulePath)
	switch {
	case strings.HasPrefix(r.Path, "/intp/marketcode/"):
		p.service, p.codes = p.service || !refused, p.codes || !refused
		if target := r.recorded("wxa_appid"); r.worked() && asStandIn(target).n != 0 {
			s.link(p, s.party(target))
		}
	case strings.HasPrefix(r.Path, "/cgi-bin/wxopen/wxamp"):
		p.service = p.service || !refused
		s.ownLink = s.ownLink || !refused
		if r.Path == linksPath && r.worked() {
			s.learnLinks(p, r)
		}
		if target := r.recorded("appid"); asStandIn(target).n != 0 && !slices.Contains(noSuchParty, r.number()) {
			s.learnLink(p, s.party(target), r)
		}
	case r.Path == "/cgi-bin/qrcode/create":
		p.service = p.service || !refused
	case ofRules:
		s.learnRule(r, p, call)
	}
}

func (s *Fixture) link(p, to *party) {
	key := [2]int{p.n, to.n}
	if to.n != 0 && !s.links[key] {
		s.links[key] = true
		p.linked = append(p.linked, to.n)
	}
}

const linksPath = "/cgi-bin/wxopen/wxamplinkget"

// oddLink is a link from before the recording that waits for confirmation, was rejected or is not shown on the profile.
type oddLink struct {
	to           *party
	status, show int
}

// learnLinks finds, in a response, the links from before the recording, and records them with the states of the linked Mini Programs.
func (s *Fixture) learnLinks(p *party, r *Recorded) {
	for _, item := range r.answer.lookup("wxopens", "items").items {
		to := s.party(item.field("appid"))
		if to.n == 0 {
			continue
		}
		to.name = item.field("nickname").text
		released, _ := item.field("released").int()
		to.released, to.draft = to.released || released == 1, to.draft || released != 1
		for _, ability := range item.field("func_infos").items {
			if id, _ := ability.field("id").int(); id == 1 {
				status, _ := ability.field("status").int()
				to.verified, to.uncertain = to.verified || status == 1, to.uncertain || status != 1
			}
		}
		key := linkKey(p, to)
		if s.touched["new "+key] {
			continue
		}
		s.touched[key], s.touched["new "+key] = true, true
		status, _ := item.field("status").int()
		show, _ := item.field("selected").int()
		if status == 1 {
			s.link(p, to)
		}
		if status != 1 || show != 0 { // a seed file cannot express a link that is unconfirmed, rejected or hidden on the profile
			s.odd[r.Number] = append(s.odd[r.Number], oddLink{to, status, show})
		}
	}
}

// learnOption records an option that an account had before the recording; value is absent for a call that set the option.
func (s *Fixture) learnOption(to *party, name string, value value) {
	key := fmt.Sprint(to.n, " option ", name)
	if m := asStandIn(value); name != "" && value.text != "" && m.n == 0 && !s.touched[key] {
		if to.options == nil {
			to.options = map[string]string{}
		}
		to.options[name] = value.text
	}
	s.touched[key] = s.touched[key] || name != ""
}

func linkKey(p, to *party) string { return fmt.Sprint(p.n, " with ", to.n) }

// learnLink records a link that existed before the recording, and ignores links made during the recording.
func (s *Fixture) learnLink(p, to *party, r *Recorded) {
	key := linkKey(p, to)
	had := r.number() == errcode.HasLinked.Number || r.worked() && r.Path == "/cgi-bin/wxopen/wxampunlink"
	if had && !s.touched[key] {
		s.link(p, to)
	}
	s.touched[key] = s.touched[key] || had || r.worked()
	s.touched["new "+key] = s.touched["new "+key] || r.worked()
}

// merge replaces stranger, a party of which only a token is known, with the party dst.
func (s *Fixture) merge(stranger, dst *party) {
	s.owner[-stranger.n] = dst.n
	for token, n := range s.owner {
		if n == stranger.n {
			s.owner[token] = dst.n
		}
	}
	delete(s.parties, stranger.n)
	dst.service, dst.personal = dst.service || stranger.service, dst.personal || stranger.personal
	dst.draft, dst.released = dst.draft || stranger.draft, dst.released || stranger.released
	dst.uncertain = dst.uncertain || stranger.uncertain
	previous, is := fmt.Sprint(stranger.n, " "), fmt.Sprint(dst.n, " ")
	renamed := func(key string) string {
		if prefix, ok := strings.CutPrefix(key, previous); ok {
			return is + prefix
		}
		return key
	}
	for i := range s.rules {
		if s.keys[i] != renamed(s.keys[i]) {
			s.rules[i].Owner, s.keys[i] = s.appID(dst, s.Began()), renamed(s.keys[i])
		}
	}
	for _, keys := range []map[string]bool{s.touched, s.vague} {
		for key := range maps.Clone(keys) {
			keys[renamed(key)] = keys[key]
			if key, ok := strings.CutPrefix(key, "published "); ok {
				keys["published "+renamed(key)] = true
			}
		}
	}
	for prefix, n := range s.owners {
		if n == stranger.n {
			s.owners[prefix] = dst.n
		}
	}
}
