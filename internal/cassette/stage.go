package cassette

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/seedfile"
)

// party is an account or a platform as the lines show it.
type party struct {
	n         int // of the stand-in of its AppID; negative: nobody said it, the token's number
	appID     mark
	secret    mark
	platform  bool
	service   bool
	uncertain bool // 48001 was answered
	verified  bool // the platform says so
	codes     bool // of one item, one code
	personal  bool
	draft     bool // no released version
	released  bool
	linked    []int
	name      string
	grants    map[int]*grant // of a platform, by account
}

// Stage is what a server of ours must have, so that a cassette can be asked of it.
type Stage struct {
	lines   []Recorded
	parties map[int]*party
	owner   map[int]int // of a token's number, the party's
	agent   map[int]int // of the number of a token that a platform has for an account, the platform's
	rules   []seedfile.Rule
	links   map[[2]int]bool // who is linked with whom
	sets    map[int][]int   // of the number of a refresh token, what the account lets the platform do
	touched map[string]bool // owner and prefix, or two accounts: what there was of them before is known
	ownLink bool            // an account's own token made links
	noBody  bool            // rules were given without a body of the call
	private bool            // a prefix with a port or an address was taken
}

// NewStage reads off the lines which accounts, platforms and rules there were.
func NewStage(lines []Recorded) *Stage {
	s := &Stage{lines: lines, parties: map[int]*party{}, owner: map[int]int{}, agent: map[int]int{}, touched: map[string]bool{},
		links: map[[2]int]bool{}, sets: map[int][]int{}}
	for i := range lines {
		s.issued(&lines[i])
	}
	s.fetchedBefore()
	for i := range lines {
		s.learn(&lines[i])
	}
	s.assignExclusiveSet()
	return s
}

// plainText renders a masked text with stand-ins.
func plainText(masked string, at time.Time) string {
	var b strings.Builder
	for _, p := range parseMarks(masked) {
		if p.mark.n > 0 {
			b.WriteString(p.mark.standIn(at))
		} else {
			b.WriteString(p.literal)
		}
	}
	return b.String()
}

// said is a field of the request, in its query or its body.
func (r *Recorded) said(name string) value {
	if v := r.query.field(name); v.kind != absent {
		return v
	}
	return r.request.field(name)
}

// number is the errcode of the answer; none = 0.
func (r *Recorded) number() int {
	n, _ := r.answer.field("errcode").int()
	return n
}

// worked reports whether the platform did what it was asked for.
func (r *Recorded) worked() bool { return r.Fault == "" && r.answer.kind == object && r.number() == 0 }

// whole is the stand-in that a field is; n = 0 where it is none.
func asStandIn(v value) mark {
	if v.kind != text {
		return mark{}
	}
	m, _ := wholeMark(v.text)
	return m
}

// party is whoever an AppID is of, new where it was not met before.
func (s *Stage) party(v value) *party {
	id := asStandIn(v)
	if id.n == 0 {
		return &party{} // nobody: an AppID that is a public word, or none
	}
	p := s.parties[id.n]
	if p == nil {
		p = &party{n: id.n, appID: id, grants: map[int]*grant{}}
		s.parties[id.n] = p
	}
	return p
}

// stranger is whoever has a token that was made before the recording.
func (s *Stage) stranger(token mark) *party {
	p := s.parties[-token.n]
	if p == nil {
		p = &party{n: -token.n, appID: mark{kind: "appid", n: 900_000_000 + token.n%90_000_000, length: 18},
			grants: map[int]*grant{}}
		s.parties[-token.n] = p
	}
	return p
}

const (
	componentPath     = "/cgi-bin/component/"
	platformLoginPath = "/sns/component/jscode2session"
)

// authorizer is the AppID of the account for which a platform calls.
func (r *Recorded) authorizer() value {
	if r.Path == platformLoginPath {
		return r.said("appid")
	}
	return r.said("authorizer_appid")
}

// issued notes whose each token of an answer is.
func (s *Stage) issued(r *Recorded) {
	if !r.worked() {
		return
	}
	give := func(token value, to *party) {
		if m := asStandIn(token); m.n != 0 && to.n != 0 {
			s.owner[m.n] = to.n
		}
	}
	switch r.Path {
	case "/cgi-bin/token", "/cgi-bin/stable_token":
		give(r.answer.field("access_token"), s.party(r.said("appid")))
	case componentPath + "api_component_token":
		give(r.answer.field("component_access_token"), s.party(r.said("component_appid")))
	case componentPath + "api_authorizer_token":
		give(r.answer.field("authorizer_access_token"), s.party(r.said("authorizer_appid")))
		s.agent[asStandIn(r.answer.field("authorizer_access_token")).n] = asStandIn(r.said("component_appid")).n
	case componentPath + "api_query_auth":
		info := r.answer.field("authorization_info")
		give(info.field("authorizer_access_token"), s.party(info.field("authorizer_appid")))
		s.agent[asStandIn(info.field("authorizer_access_token")).n] = asStandIn(r.said("component_appid")).n
	}
}

// noSuchParty are numbers that say nothing of whether an AppID exists.
var noSuchParty = []int{errcode.InvalidAppID.Number, errcode.AppIDMissing.Number, errcode.ComponentMissing.Number,
	errcode.InvalidWeappAppID.Number, errcode.InvalidComponent.Number}

// badToken are numbers that say that a token is of no use.
var badToken = []int{errcode.InvalidCredential.Number, errcode.InvalidAccessToken.Number, errcode.TokenMissing.Number,
	errcode.TokenExpired.Number, errcode.InvalidURL.Number}

// caller is whose token a call came with; nil where the token was of no use.
func (s *Stage) caller(r *Recorded) *party {
	token := asStandIn(r.query.field("access_token"))
	if token.n == 0 || r.Fault != "" || slices.Contains(badToken, r.number()) || r.answer.kind != object {
		return nil
	}
	if n, known := s.owner[token.n]; known {
		return s.parties[n]
	}
	return s.stranger(token)
}

// fetchedBefore gives the tokens from before the recording to the account that fetched another one, where there is one such
// account: a program that refreshes its token uses the old one no more. One that is used on is somebody else's.
func (s *Stage) fetchedBefore() {
	account, fetched := 0, -1
	last := map[int]int{} // the line that used a token last
	for i := range s.lines {
		r := &s.lines[i]
		if strings.HasPrefix(r.Path, componentPath) {
			return // a platform has tokens of many accounts
		}
		if r.Path == "/cgi-bin/token" || r.Path == "/cgi-bin/stable_token" {
			if n := asStandIn(r.said("appid")).n; r.worked() && n != 0 {
				if account != 0 && account != n {
					return
				}
				if account = n; fetched < 0 {
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

// learn notes what a call shows of accounts, platforms and rules.
func (s *Stage) learn(r *Recorded) {
	if r.Fault != "" || r.answer.kind != object {
		return
	}
	if strings.HasPrefix(r.Path, componentPath) || r.Path == platformLoginPath {
		s.learnComponent(r)
		return
	}
	if appID := r.said("appid"); asStandIn(r.said("secret")).n != 0 && !slices.Contains(noSuchParty, r.number()) {
		p := s.party(appID)
		p.platform = p.platform || r.number() == errcode.ComponentToken.Number
		if r.worked() {
			p.secret = asStandIn(r.said("secret"))
		} else if r.number() != errcode.InvalidSecret.Number && p.secret.n == 0 && slices.Contains(afterSecret, r.number()) {
			p.secret = asStandIn(r.said("secret"))
		}
	}
	if p := s.caller(r); p != nil {
		s.learnCall(r, p)
	}
}

// afterSecret are numbers that the platform answers when it has checked the secret.
var afterSecret = []int{errcode.InvalidLoginCode.Number, errcode.LoginCodeUsed.Number, errcode.LoginCodeMissing.Number,
	errcode.ClearLimit.Number}

func (s *Stage) learnComponent(r *Recorded) {
	if slices.Contains(noSuchParty, r.number()) || slices.Contains(badToken, r.number()) {
		if r.number() == errcode.InvalidComponent.Number {
			s.party(r.said("component_appid")) // it is an account's
		}
		return
	}
	p := s.party(r.said("component_appid"))
	if p.n == 0 {
		return
	}
	p.platform = true
	if secret := asStandIn(r.said("component_appsecret")); secret.n != 0 && r.number() != errcode.InvalidSecret.Number {
		p.secret = secret
	}
	if token := asStandIn(r.query.field("component_access_token")); token.n != 0 && s.owner[token.n] == 0 {
		s.owner[token.n] = p.n
	}
	if !r.worked() {
		if r.number() == errcode.NotAuthorizing.Number {
			s.party(r.authorizer())
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
			p.grants[to.n] = &grant{} // authorised in this recording
		} else if to.n != 0 {
			p.grants[to.n].guessed = false // no later answer says what it was before
		}
	case "api_get_authorizer_info":
		to := s.party(r.said("authorizer_appid"))
		about := r.answer.field("authorizer_info")
		to.name = about.field("nick_name").text
		if id, ok := about.at("service_type_info", "id").int(); ok {
			to.service = to.service || id == 2 && about.field("MiniProgramInfo").kind == absent
		}
		if id, ok := about.at("verify_type_info", "id").int(); ok {
			to.verified = id >= 0
			to.uncertain = to.uncertain || id < 0
		}
		p.authorised(to, setsOf(info), r.Number)
	case "api_authorizer_token", "api_get_authorizer_option", "api_set_authorizer_option", platformLoginPath:
		p.authorised(s.party(r.authorizer()), nil, r.Number)
	case "api_get_authorizer_list":
		for _, one := range r.answer.field("list").items {
			p.authorised(s.party(one.field("authorizer_appid")), nil, r.Number)
		}
	}
}

// authorised notes that an account had authorised a platform before; sets are nil where
// the answer does not say them.
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

// usualSets are those of an account that no answer tells the sets of.
var usualSets = []int{3, 18, 33, 46}

// exclusiveSet is the one that one platform at a time may have.
const exclusiveSet = 18

// assignExclusiveSet leaves the exclusive set of an account to the platform that the lines show it
// with first, and to one alone where it is only a guess.
func (s *Stage) assignExclusiveSet() {
	type held struct {
		to int
		*grant
	}
	var all []held
	for _, n := range slices.Sorted(maps.Keys(s.parties)) {
		for _, to := range slices.Sorted(maps.Keys(s.parties[n].grants)) {
			if g := s.parties[n].grants[to]; g.before && slices.Contains(g.sets, exclusiveSet) {
				all = append(all, held{to, g})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b held) int {
		if a.guessed != b.guessed {
			return strings.Compare(fmt.Sprint(a.guessed), fmt.Sprint(b.guessed))
		}
		return a.told - b.told
	})
	taken := map[int]bool{}
	for _, one := range all {
		if taken[one.to] {
			one.sets = withoutExclusive(one.sets)
		}
		taken[one.to] = true
	}
}

func withoutExclusive(sets []int) []int {
	return slices.DeleteFunc(slices.Clone(sets), func(id int) bool { return id == exclusiveSet })
}

// setsOf are the sets that an answer shows, in order; nil = it shows none.
func setsOf(info value) (sets []int) {
	for _, one := range info.field("func_info").items {
		if id, ok := one.at("funcscope_category", "id").int(); ok && id >= 1 && id <= 1000 {
			sets = append(sets, id)
		}
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

const rulePath = "/cgi-bin/wxopen/qrcodejump"

// learnCall notes what a call with a token shows of whose token it is.
func (s *Stage) learnCall(r *Recorded, p *party) {
	refused := r.number() == errcode.Unauthorized.Number
	call, ofRules := strings.CutPrefix(r.Path, rulePath)
	switch {
	case strings.HasPrefix(r.Path, "/intp/marketcode/"):
		p.service, p.codes = p.service || !refused, p.codes || !refused
		if target := r.said("wxa_appid"); r.worked() && asStandIn(target).n != 0 {
			s.link(p, s.party(target))
		}
	case strings.HasPrefix(r.Path, "/cgi-bin/wxopen/wxamp"):
		p.service = p.service || !refused
		s.ownLink = s.ownLink || !refused
		if target := r.said("appid"); asStandIn(target).n != 0 && !slices.Contains(noSuchParty, r.number()) {
			s.learnLink(p, s.party(target), r)
		}
	case r.Path == "/cgi-bin/qrcode/create":
		p.service = p.service || !refused
	case ofRules:
		s.noBody = s.noBody || len(r.Request) == 0 && r.worked()
		s.learnRule(r, p, call)
	}
}

func (s *Stage) link(p, to *party) {
	key := [2]int{p.n, to.n}
	if to.n != 0 && !s.links[key] {
		s.links[key] = true
		p.linked = append(p.linked, to.n)
	}
}

// learnLink notes a link that was there before; one that this recording made is
// none.
func (s *Stage) learnLink(p, to *party, r *Recorded) {
	key := fmt.Sprint(p.n, " with ", to.n)
	had := r.number() == errcode.HasLinked.Number || r.worked() && r.Path == "/cgi-bin/wxopen/wxampunlink"
	if had && !s.touched[key] {
		s.link(p, to)
	}
	s.touched[key] = s.touched[key] || had || r.worked()
}

// privateHost finds a port or an address in a masked prefix.
var privateHost = regexp.MustCompile(`^https?://(\{ip:|[^/]*:\{number:|[^/]*:[0-9])`)

func (s *Stage) learnRule(r *Recorded, p *party, call string) {
	target := p
	if named := r.said("appid"); asStandIn(named).n != 0 && !slices.Contains(noSuchParty, r.number()) {
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
	if !r.worked() {
		return
	}
	prefix := r.said("prefix")
	known := func(masked string) bool {
		key := fmt.Sprint(p.n, " ", masked)
		was := s.touched[key]
		s.touched[key] = true
		return was
	}
	had := seedfile.Rule{Owner: s.appID(p, r.At), Path: "pages/index/index", OpenVersion: new(3)}
	if target != p {
		had.AppID = s.appID(target, r.At)
	}
	switch call {
	case "get":
		for _, one := range slices.Backward(r.answer.field("rule_list").items) { // the newest stands first
			if known(one.field("prefix").text) {
				continue
			}
			state, _ := one.field("state").int()
			occupy, _ := one.field("permit_sub_rule").int()
			had.Prefix, had.Path = plainText(one.field("prefix").text, r.At), plainText(one.field("path").text, r.At)
			version, _ := one.field("open_version").int()
			had.OpenVersion = &version
			had.Published, had.Occupy, had.TestLinks = state == 2, occupy == 2, nil
			for _, link := range one.field("debug_url").items {
				had.TestLinks = append(had.TestLinks, plainText(link.text, r.At))
			}
			s.rules = append(s.rules, had)
		}
	case "publish", "delete", "add":
		target.released = target.released || call == "publish"
		s.private = s.private || privateHost.MatchString(prefix.text)
		if edit, _ := r.said("is_edit").int(); known(prefix.text) || call == "add" && edit == 0 {
			return
		}
		had.Prefix = plainText(prefix.text, r.At)
		s.rules = append(s.rules, had)
	}
}

// appID is a party's on our server.
func (s *Stage) appID(p *party, at time.Time) string { return p.appID.standIn(at) }

// secretOf is a party's on our server.
func (s *Stage) secretOf(p *party, at time.Time) string {
	if p.secret.n == 0 {
		return fmt.Sprintf("nobody-said-the-secret-of-%d", p.n)
	}
	return p.secret.standIn(at)
}

// Began is the time of the first call.
func (s *Stage) Began() time.Time { return s.lines[0].At }

// ForgetRules leaves out the rules from before the recording, and reports whether
// there were any.
func (s *Stage) ForgetRules() bool {
	had := len(s.rules) > 0
	s.rules = nil
	return had
}

// Seed is a seed file for a server on which the cassette can be played.
func (s *Stage) Seed() []byte {
	at := s.Began()
	var seed seedfile.Seed
	for _, n := range slices.Sorted(maps.Keys(s.parties)) {
		p := s.parties[n]
		if p.platform {
			c := seedfile.Component{AppID: s.appID(p, at), Secret: s.secretOf(p, at), MessageToken: "token",
				EncodingAESKey: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"}
			for _, to := range slices.Sorted(maps.Keys(p.grants)) {
				if g := p.grants[to]; g.before && len(g.sets) > 0 && !s.parties[to].platform {
					c.Authorizations = append(c.Authorizations,
						seedfile.Authorization{AppID: s.appID(s.parties[to], at), PermissionSets: g.sets})
				}
			}
			seed.Components = append(seed.Components, c)
			continue
		}
		a := seedfile.Account{AppID: s.appID(p, at), Kind: accounts.MiniProgram, Subject: accounts.Company, Secret: s.secretOf(p, at),
			Certified: !p.uncertain || p.verified, Name: plainText(p.name, at)}
		if p.service {
			a.Kind = accounts.ServiceAccount
			for _, to := range p.linked {
				a.Linked = append(a.Linked, s.appID(s.parties[to], at))
			}
		} else if !p.draft || p.released {
			a.Versions = []accounts.Version{accounts.Release}
		}
		if p.codes {
			a.Features, a.MarketcodeKey = []string{"marketcode"}, "0123456789abcdef"
		}
		if p.personal {
			a.Subject = accounts.Personal
		}
		seed.Accounts = append(seed.Accounts, a)
	}
	seed.Rules = s.rules
	seed.Settings = map[string]any{"verification": "trust", "rate_limit": 0, "links_by_own_token": s.ownLink,
		"allow_private_hosts": s.private}
	if s.noBody {
		seed.Settings["behaviours"] = map[string]string{behaviour.WireBodyEmptyAccepted.String(): "loose"}
	}
	text, err := json.Marshal(seed)
	if err != nil {
		panic(err) // texts and numbers
	}
	return text
}
