package apiusage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Trial is a condition that every client of the platform encounters sooner or later, with the command that triggers it on this server.
type Trial struct {
	Code *errcode.Code // the error code that the call returns; OK = the call succeeds normally
	Row  behaviour.Row // behaviour that identifies the condition; NoRow = only the error code identifies the condition
	// calls lists the calls in which the condition can occur: paths, or prefixes that end in *.
	calls string
	// spared lists the exceptions from the field calls: paths to which the condition does not apply.
	spared string
	// command is the command that triggers the condition; {path} is the path of a call in which the condition can occur, and
	// {appid} the account that makes the call.
	command string
}

const (
	everyPath = "*"
	ruleCalls = "/cgi-bin/wxopen/qrcodejump*"
	addCall   = "/cgi-bin/wxopen/qrcodejumpadd"
	linkCall  = "/cgi-bin/wxopen/wxamplink"
	tradeCall = "/intp/marketcode/tickettocode"
	listCalls = "/cgi-bin/token /cgi-bin/stable_token /cgi-bin/clear_quota/v2 /cgi-bin/qrcode/create /intp/marketcode/*"
	bySecret  = "/cgi-bin/token /cgi-bin/stable_token /cgi-bin/component/* /cgi-bin/clear_quota/v2 /sns/* /cgi-bin/showqrcode"
)

// trials lists the conditions that a client must tolerate, in the order of the report.
var trials = []Trial{
	{Code: errcode.SystemError, calls: everyPath, command: injectOnce},
	{Code: errcode.InvalidCredential, Row: behaviour.CallerTokenReplaced, calls: everyPath, spared: bySecret,
		command: "qrjump api revokeTokens appid={appid} --yes"},
	{Code: errcode.TokenExpired, Row: behaviour.CallerTokenExpired, calls: everyPath, spared: bySecret, command: "qrjump clock set +2h"},
	{Code: errcode.InvalidIP, Row: behaviour.TokenAddress, calls: listCalls, command: injectOnce},
	{Code: errcode.ComponentIP, Row: behaviour.CallerAddress, calls: "/cgi-bin/component/*", command: injectOnce},
	{Code: errcode.TooFrequent, Row: behaviour.WireRateRules, calls: ruleCalls, command: injectOnce},
	{Code: errcode.DailyLimit, Row: behaviour.WireRateDay, calls: everyPath, command: injectOnce},
	{Code: errcode.PublishQuota, Row: behaviour.RulesPublishQuota, calls: "/cgi-bin/wxopen/qrcodejumppublish", command: injectOnce},
	{Code: errcode.PrefixOwned, Row: behaviour.RulesAddOwned, calls: addCall, command: injectOnce},
	{Code: errcode.ConfirmFileFailed, Row: behaviour.RulesConfirm, calls: addCall, command: injectOnce},
	{Code: errcode.OK, Row: behaviour.LinkAtOnce, calls: linkCall, command: "qrjump setting set link_approval_required true"},
	{Code: errcode.InvalidArgs, Row: behaviour.CodesTicketState, calls: tradeCall, command: injectOnce},
}

const injectOnce = "qrjump fault add {path} --errcode={errcode} --times 1"

// Description returns a description of the trial in two languages: the behaviour, or the condition that causes the error code.
func (t Trial) Description() (english, chinese string) {
	text := t.Code.Meaning()
	if t.Row != behaviour.NoRow {
		text = t.Row.Get().Description()
	}
	return text.English(), text.Chinese()
}

// happensTo reports whether the condition that t describes applies to calls of path.
func (t Trial) happensTo(path string) bool {
	return matchesPath(t.calls, path) && !matchesPath(t.spared, path)
}

// matchesPath reports whether path equals one of the paths or starts with a prefix that ends in *.
func matchesPath(paths, path string) bool {
	return slices.ContainsFunc(strings.Fields(paths), func(name string) bool {
		family, isMany := strings.CutSuffix(name, "*")
		return path == name || isMany && strings.HasPrefix(path, family)
	})
}

// met reports whether the condition that t describes occurred in a call. For the behaviour LinkAtOnce, the condition is that a link request
// waits for approval: the call succeeded, and LinkAtOnce is not recorded with it. Several ticket errors share the error code of
// CodesTicketState, so a call with this code counts only if CodesTicketState or an injected fault is recorded with it.
func (t Trial) met(c Call) bool {
	noted := slices.Contains(c.Behaviours, t.Row.String())
	switch t.Row {
	case behaviour.LinkAtOnce:
		return c.ErrCode == errcode.OK.Number && !noted
	case behaviour.CodesTicketState:
		return c.ErrCode == t.Code.Number && (noted || slices.Contains(c.Behaviours, behaviour.WireFault.String()))
	}
	return c.ErrCode == t.Code.Number
}

// Covered contains how often the condition of a Trial occurred in the calls of a client.
type Covered struct {
	Trial
	Calls   int    // number of calls in which the condition of the Trial can occur
	Times   int    // number of calls in which the condition occurred
	Last    string // request ID of the newest call in which the condition occurred
	Command string // command that triggers the condition
}

// Met reports whether the condition of the Trial occurred in at least one call.
func (c Covered) Met() bool { return c.Times > 0 }

// anonymous counts the calls of this process that were rejected before the caller was identified. Calls that were rejected so early are not
// in the call log. The zero value of anonymous is ready to use.
type anonymous struct {
	mu     sync.Mutex
	counts map[rejectionKey]*rejectionCount
}

type rejectionKey struct {
	path    string
	errcode int
}

type rejectionCount struct {
	times int
	last  string
}

func (s *anonymous) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts = nil
}

// beforeKnown lists the error codes of calls rejected before the caller is identified; an injected fault can cause the last two codes.
var beforeKnown = []int{errcode.InvalidCredential.Number, errcode.TokenExpired.Number, errcode.InvalidIP.Number, errcode.ComponentIP.Number}

// RefuseToken counts a call of path whose token or IP address was rejected with the error code.
func (s *Service) RefuseToken(path string, code *errcode.Code, rid string) {
	if !slices.Contains(beforeKnown, code.Number) {
		return
	}
	s.rejected.mu.Lock()
	defer s.rejected.mu.Unlock()
	if s.rejected.counts == nil {
		s.rejected.counts = map[rejectionKey]*rejectionCount{}
	}
	count := s.rejected.counts[rejectionKey{path, code.Number}]
	if count == nil {
		count = &rejectionCount{}
		s.rejected.counts[rejectionKey{path, code.Number}] = count
	}
	count.times, count.last = count.times+1, rid
}

// Coverage counts, for each Trial, the calls of an account in which the condition of the Trial occurred; account "" = all accounts.
// Coverage examines a limited number of logged calls, and includes calls with a rejected token, whose account is unknown. Conditions that
// apply to none of the examined calls are omitted.
func (s *Service) Coverage(ctx context.Context, account string) ([]Covered, Searched, error) {
	all, callsByPath := make([]Covered, len(trials)), make([]map[string]int, len(trials))
	callers := map[string]string{} // by path: an account that called the path
	looked, err := s.search(ctx, Search{Account: account}, func(c Call) bool {
		callers[c.Path] = cmp.Or(callers[c.Path], c.Account)
		for i, t := range trials {
			if !t.happensTo(c.Path) {
				continue
			}
			if callsByPath[i] == nil {
				callsByPath[i] = map[string]int{}
			}
			callsByPath[i][c.Path]++
			all[i].Calls++
			if t.met(c) {
				all[i].Times++
				all[i].Last = cmp.Or(all[i].Last, c.RID)
			}
		}
		return true
	})
	s.rejected.mu.Lock()
	for key, item := range s.rejected.counts {
		for i, t := range trials {
			if t.Code.Number == key.errcode && t.happensTo(key.path) && all[i].Calls > 0 {
				all[i].Calls, all[i].Times, all[i].Last = all[i].Calls+item.times, all[i].Times+item.times, max(all[i].Last, item.last)
			}
		}
	}
	s.rejected.mu.Unlock()
	list := []Covered{}
	for i, covered := range all {
		if covered.Calls > 0 {
			covered.Trial = trials[i]
			path := mostCalled(callsByPath[i])
			covered.Command = strings.NewReplacer("{path}", path, "{appid}", callers[path],
				"{errcode}", fmt.Sprint(covered.Code.Number)).Replace(covered.command)
			list = append(list, covered)
		}
	}
	return list, looked, err
}

// mostCalled returns the path with the most calls; among equals, the first in alphabetical order.
func mostCalled(calls map[string]int) (path string) {
	for name, n := range calls {
		if path == "" || n > calls[path] || n == calls[path] && name < path {
			path = name
		}
	}
	return path
}
