package api

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
)

// noteOrRefuse records that a call depends on a documented behaviour, given as a row of the behaviour table. If the operator
// disabled the lenient behaviour of the row, noteOrRefuse returns the error of the row. Decision 37.
func (a *API) noteOrRefuse(c *call, row behaviour.Row, format string, args ...any) error {
	if a.lets(c, row) {
		return nil
	}
	return errcode.Strict(row, format, args...)
}

// lets is noteOrRefuse without a message, for places where an accepted call must not cost an allocation.
func (a *API) lets(c *call, row behaviour.Row) bool {
	c.notes.Add(row)
	return !a.Settings.Refuses(row)
}

// renumbered returns err with another error number if the operator configured another number for its behaviour.
func (a *API) renumbered(err error) error {
	row := errcode.RowOf(err)
	number, _ := row.Rejection()
	if number == 0 || !a.Settings.Refuses(row) {
		return err
	}
	item, detail := errcode.FromError(err)
	code, known := errcode.ByNumber(number)
	if !known {
		panic("api: no number to turn " + row.String() + " to")
	}
	return code.WithDetail(row, "turned from %d: %s", item.Number, detail)
}

// names reports whether the documentation page of the endpoint lists a field.
func (e *endpoint) names(field []byte) bool {
	return slices.Contains(e.fields, string(field))
}

// isToken reports whether a query parameter name is that of an access token.
func isToken(name string) bool { return name == "access_token" || name == "component_access_token" }

// passFields notes or rejects a body of a wrong content type, undocumented fields, and fields in a place where they are ignored.
func (a *API) passFields(r *http.Request, e endpoint, c *call, f *fields) error {
	inQuery := e.needs&anyMethod != 0
	if !inQuery && len(c.body) > 0 && !isJSON(r.Header.Get("Content-Type")) && !a.lets(c, behaviour.WireBodyType) {
		return errcode.Strict(behaviour.WireBodyType, "the Content-Type is %.60q", r.Header.Get("Content-Type"))
	}
	if f.doubled == "" && len(c.query["access_token"])+len(c.query["component_access_token"]) > 1 {
		f.doubled = "access_token"
	}
	if f.doubled != "" {
		if err := a.noteOrRefuse(c, behaviour.WireFieldDoubled, "%.60q stands twice", f.doubled); err != nil {
			return err
		}
	}
	for i := range f.list {
		if name := f.list[i].name; !e.names(name) && !(inQuery && isToken(string(name))) {
			if err := a.noteOrRefuse(c, behaviour.WireFieldUnknown, "no page names %.60q", name); err != nil {
				return err
			}
		}
	}
	if inQuery || len(c.query) <= 1 && c.query.Has("access_token") {
		return nil
	}
	for name := range c.query {
		named := slices.Contains(e.fields, name)
		if isToken(name) || named && e.needs&queryToo != 0 {
			continue
		}
		row := behaviour.WireFieldUnknown
		if named {
			row = behaviour.WireFieldQuery
		}
		if err := a.noteOrRefuse(c, row, "%.60q is in the query", name); err != nil {
			return err
		}
	}
	return nil
}

// isJSON reports whether a Content-Type denotes JSON.
func isJSON(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

// platformPace is the number of calls per second that the platform allows for a jump-rule interface, whatever limit the settings
// allow. Contract: rules 0.
const platformPace = 5

// keepPace notes or rejects calls that exceed the platform's rate limit per second.
func (a *API) keepPace(c *call, e endpoint, s settings.Settings) error {
	if limit := e.perSecond(s); e.sets != ruleSets || limit <= platformPace ||
		a.pace.allow(c.account()+" "+e.path, platformPace, a.RealNow()) || a.lets(c, behaviour.WireRateAbove) {
		return nil
	}
	return errcode.Strict(behaviour.WireRateAbove, "%s called %s more than %d times within a second", c.account(), e.path, platformPace)
}

// recentCalls holds recent calls, to detect deviations that a single call cannot show. The zero value of recentCalls is ready to
// use.
type recentCalls struct {
	once    sync.Once
	seed    maphash.Seed
	refused slidingCounter
	tokens  slidingCounter
	tickets slidingCounter
	resets  sync.Map // number of resets of each account, by AppID; a reset account starts without call history
}

// callerKey returns the key under which recentCalls stores the history of a caller.
func (h *recentCalls) callerKey(caller string) string {
	if n, known := h.resets.Load(caller); known {
		return fmt.Sprint(caller, " ", n)
	}
	return caller
}

// limiters returns all limiters that count calls per second.
func (a *API) limiters() []*limiter { return []*limiter{&a.limiter, &a.pictures, &a.pace} }

// Advance makes all counted calls older by d, when an emulated clock is moved forward. Calls also age by the machine's own clock,
// so that a stopped emulated clock locks no caller out.
func (a *API) Advance(d time.Duration) {
	for _, l := range a.limiters() {
		l.advance(d)
	}
}

// ForgetCaller deletes the recent call history of one account.
func (a *API) ForgetCaller(appid string) {
	for _, l := range a.limiters() {
		l.forget(func(key string) bool { return strings.HasPrefix(key, appid+" ") })
	}
	n, _ := a.habits.resets.LoadOrStore(appid, 0)
	a.habits.resets.Store(appid, n.(int)+1)
}

// ForgetCallers deletes the recent call history of all callers.
func (a *API) ForgetCallers() {
	for _, l := range []*slidingCounter{&a.habits.refused, &a.habits.tokens, &a.habits.tickets} {
		l.mu.Lock()
		l.young, l.old = nil, nil
		l.mu.Unlock()
	}
	for _, l := range a.limiters() {
		l.forget(func(string) bool { return true })
	}
}

// slidingCounter counts events by key over the last one to two windows, for at most 2 × latelyMax keys. Keys are hashes: a
// collision of two callers is rare and costs only a wrong deviation note.
type slidingCounter struct {
	mu         sync.Mutex
	young, old map[uint64]int
	since      time.Time
}

const latelyMax = 5000

// times counts an event of a key and returns the resulting count.
func (l *slidingCounter) times(key uint64, now time.Time, window time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.since); passed >= window || passed < 0 || len(l.young) >= latelyMax || l.young == nil {
		l.old = l.young
		if passed >= 2*window || passed < 0 {
			l.old = nil
		}
		l.young, l.since = map[uint64]int{}, now
	}
	n := l.young[key]
	if n == 0 {
		n = l.old[key]
	}
	n++
	l.young[key] = n
	return n
}

func (h *recentCalls) key(texts ...string) uint64 {
	h.once.Do(func() { h.seed = maphash.MakeSeed() })
	var sum maphash.Hash
	sum.SetSeed(h.seed)
	for _, text := range texts {
		sum.WriteString(text)
		sum.WriteByte(0)
	}
	return sum.Sum64()
}

// habit is the window for detecting repeated calls and tokens that a caller fails to cache.
const habit = time.Minute

// incurable is the set of error codes that a retry of the same call always gets again, regardless of waiting time and of other
// callers.
var incurable = map[*errcode.Code]bool{
	errcode.InvalidArgs: true, errcode.DataFormat: true, errcode.EmptyPostData: true, errcode.RequirePost: true,
	errcode.InvalidGrantType: true, errcode.AppIDMissing: true, errcode.SecretMissing: true, errcode.InvalidAppID: true,
	errcode.InvalidSecret: true, errcode.ComponentToken: true, errcode.ComponentMissing: true, errcode.InvalidComponent: true,
	errcode.TokenMissing: true, errcode.LoginCodeMissing: true, errcode.InvalidLoginCode: true, errcode.LoginCodeUsed: true,
	errcode.WantsComponent: true, errcode.GrantCodeInvalid: true, errcode.GrantCodeExpired: true, errcode.InvalidRefresh: true,
	errcode.TicketExpired: true, errcode.TicketInvalid: true, errcode.TooManyListed: true,
	errcode.Unauthorized: true, errcode.PersonalSubject: true, errcode.IllegalPrefix: true, errcode.TestLinkNotBelow: true,
	errcode.PrefixAdded: true, errcode.PrefixOwned: true, errcode.PublishQuota: true,
	errcode.InvalidActionName: true, errcode.InvalidActionInfo: true,
	errcode.RIDInvalid: true, errcode.RIDForbidden: true, errcode.RIDTooOld: true, errcode.PathNotFound: true,
	errcode.PathNotPermitted: true,
	errcode.NoApplication:    true, errcode.NotOwnApplication: true, errcode.IndexBeyond: true, errcode.ApplicationExists: true,
	errcode.NoSegment: true, errcode.CodeMalformed: true,
}

// repeatsRefusal reports whether a caller repeats an unchanged call although a retry cannot succeed.
func (a *API) repeatsRefusal(r *http.Request, e endpoint, c *call, code *errcode.Code) bool {
	if !incurable[code] {
		return false
	}
	actor, kind := c.account(), string(c.body)
	if actor == "" {
		actor = c.ip.String()
	}
	if e.needs&(anyMethod|queryToo) != 0 {
		kind += "?" + r.URL.RawQuery
	}
	return a.habits.refused.times(a.habits.key(a.habits.callerKey(actor), e.path, fmt.Sprint(code.Number), kind), a.RealNow(), habit) > 1
}

// madeToken notes a token that was requested soon after the previous tokens; names identifies the account if a platform fetches
// tokens of many accounts.
func (a *API) madeToken(c *call, err error, names ...string) {
	if err == nil && a.habits.tokens.times(a.habits.key(append(names, a.habits.callerKey(c.account()))...), a.RealNow(), habit) > 2 {
		c.notes.Add(behaviour.TokenAgain)
	}
}

// traded notes a ticket that is exchanged a second time, as far as this process knows.
func (a *API) traded(c *call, openid, ticket string) {
	if a.habits.tickets.times(a.habits.key(openid, ticket), a.RealNow(), 30*habit) > 1 {
		c.notes.Add(behaviour.CodesTicketAgain)
	}
}
