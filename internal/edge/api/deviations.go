package api

import (
	"cmp"
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
	if a.isAllowed(c, row) {
		return nil
	}
	return errcode.Strict(row, format, args...)
}

// isAllowed does the same as noteOrRefuse but returns a bool, so that an accepted call needs no memory for a message.
func (a *API) isAllowed(c *call, row behaviour.Row) bool {
	c.notes.Add(row)
	return !a.Settings.Refuses(row)
}

// If the operator changed the behaviour behind err to one with another error number, renumber returns err with this other number.
func (a *API) renumber(err error) error {
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
	return code.WithDetail(row, "changed from %d: %s", item.Number, detail)
}

// documentsField reports whether the documentation page of the endpoint lists a field.
func (e *endpoint) documentsField(field []byte) bool {
	return slices.Contains(e.fields, string(field))
}

// isToken reports whether a query parameter with this name contains an access token.
func isToken(name string) bool { return name == "access_token" || name == "component_access_token" }

// checkFields records or rejects bodies with a wrong content type, undocumented fields, and fields in a place where they are ignored.
func (a *API) checkFields(r *http.Request, e endpoint, c *call, f *fields) error {
	inQuery := e.needs&anyMethod != 0
	if !inQuery && len(c.body) > 0 && !isJSON(r.Header.Get("Content-Type")) && !a.isAllowed(c, behaviour.WireBodyType) {
		return errcode.Strict(behaviour.WireBodyType, "the Content-Type is %.60q", r.Header.Get("Content-Type"))
	}
	if f.duplicate == "" && len(c.query["access_token"])+len(c.query["component_access_token"]) > 1 {
		f.duplicate = "access_token"
	}
	if f.duplicate != "" {
		if err := a.noteOrRefuse(c, behaviour.WireFieldDoubled, "%.60q stands twice", f.duplicate); err != nil {
			return err
		}
	}
	for i := range f.list {
		if name := f.list[i].name; !e.documentsField(name) && !(inQuery && isToken(string(name))) {
			if err := a.noteOrRefuse(c, behaviour.WireFieldUnknown, "no page names %.60q", name); err != nil {
				return err
			}
		}
	}
	if inQuery || len(c.query) <= 1 && c.query.Has("access_token") {
		return nil
	}
	for name := range c.query {
		documented := slices.Contains(e.fields, name)
		if isToken(name) || documented && e.needs&queryAllowed != 0 {
			continue
		}
		row := behaviour.WireFieldUnknown
		if documented {
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

// platformRate is the number of calls per second that the platform allows for a jump-rule interface; the settings do not change it.
// Contract: rules §0.
const platformRate = 5

// limitPlatformRate records or rejects calls that exceed the platform's rate limit per second.
func (a *API) limitPlatformRate(c *call, e endpoint, s settings.Settings) error {
	if limit := e.perSecond(s); e.permissionSets != ruleSets || limit <= platformRate ||
		a.platformLimiter.allow(c.account()+" "+e.path, platformRate, a.RealNow()) || a.isAllowed(c, behaviour.WireRateAbove) {
		return nil
	}
	return errcode.Strict(behaviour.WireRateAbove, "%s called %s more than %d times within a second", c.account(), e.path, platformRate)
}

// recentCalls contains recent calls, to detect deviations that a single call cannot show. The zero value of recentCalls is ready to use.
type recentCalls struct {
	logPolicy  sync.Once
	seed       maphash.Seed
	rejections slidingCounter
	tokens     slidingCounter
	tickets    slidingCounter
	resets     sync.Map // number of resets of each account, by AppID; a reset account starts without call history
}

// callerKey returns the key under which recentCalls stores the history of a caller.
func (h *recentCalls) callerKey(caller string) string {
	if n, known := h.resets.Load(caller); known {
		return fmt.Sprint(caller, " ", n)
	}
	return caller
}

// limiters returns all limiters that count calls per second.
func (a *API) limiters() []*limiter {
	return []*limiter{&a.limiter, &a.pictureLimiter, &a.platformLimiter}
}

// Advance makes all counted calls older by d, when an emulated clock is moved forward. Calls also age by the machine's own clock, so that a
// stopped emulated clock does not lock callers out.
func (a *API) Advance(d time.Duration) {
	for _, l := range a.limiters() {
		l.advance(d)
	}
}

// ForgetCaller deletes the recent call history of one account.
func (a *API) ForgetCaller(appid string) {
	for _, l := range a.limiters() {
		l.removeMatching(func(key string) bool { return strings.HasPrefix(key, appid+" ") })
	}
	n, _ := a.recent.resets.LoadOrStore(appid, 0)
	a.recent.resets.Store(appid, n.(int)+1)
}

// ForgetCallers deletes the recent call history of all callers.
func (a *API) ForgetCallers() {
	for _, l := range []*slidingCounter{&a.recent.rejections, &a.recent.tokens, &a.recent.tickets} {
		l.mu.Lock()
		l.current, l.previous = nil, nil
		l.mu.Unlock()
	}
	for _, l := range a.limiters() {
		l.removeMatching(func(string) bool { return true })
	}
}

// slidingCounter counts events by key over the last one to two windows, for at most 2 × maxCountedKeys keys. Keys are hashes: a collision
// of two callers is rare, and its only effect is that a wrong deviation is recorded.
type slidingCounter struct {
	mu                sync.Mutex
	current, previous map[uint64]int
	windowStart       time.Time
}

const maxCountedKeys = 5000

// add counts an event of a key and returns the resulting count.
func (l *slidingCounter) add(key uint64, now time.Time, window time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if elapsed := now.Sub(l.windowStart); elapsed >= window || elapsed < 0 || len(l.current) >= maxCountedKeys || l.current == nil {
		l.previous = l.current
		if elapsed >= 2*window || elapsed < 0 {
			l.previous = nil
		}
		l.current, l.windowStart = map[uint64]int{}, now
	}
	n := cmp.Or(l.current[key], l.previous[key]) + 1
	l.current[key] = n
	return n
}

func (h *recentCalls) key(parts ...string) uint64 {
	h.logPolicy.Do(func() { h.seed = maphash.MakeSeed() })
	var sum maphash.Hash
	sum.SetSeed(h.seed)
	for _, part := range parts {
		sum.WriteString(part)
		sum.WriteByte(0)
	}
	return sum.Sum64()
}

// repeatWindow is the time within which a repeated call, or a repeated token request, counts as a deviation.
const repeatWindow = time.Minute

// permanentErrors is the set of error codes that a retry of the same call gets again: neither time nor other callers change the cause.
var permanentErrors = map[*errcode.Code]bool{
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

// isRepeatedRejection reports whether a caller repeats an unchanged call although a retry cannot succeed.
func (a *API) isRepeatedRejection(r *http.Request, e endpoint, c *call, code *errcode.Code) bool {
	if !permanentErrors[code] {
		return false
	}
	actor, request := c.account(), string(c.body)
	if actor == "" {
		actor = c.ip.String()
	}
	if e.needs&(anyMethod|queryAllowed) != 0 {
		request += "?" + r.URL.RawQuery
	}
	key := a.recent.key(a.recent.callerKey(actor), e.path, fmt.Sprint(code.Number), request)
	return a.recent.rejections.add(key, a.RealNow(), repeatWindow) > 1
}

// noteTokenRequest records a deviation if a caller gets more than two tokens within repeatWindow. A platform fetches tokens of many
// accounts, so for a platform's call the parameter names contains the account.
func (a *API) noteTokenRequest(c *call, err error, names ...string) {
	if err == nil && a.recent.tokens.add(a.recent.key(append(names, a.recent.callerKey(c.account()))...), a.RealNow(), repeatWindow) > 2 {
		c.notes.Add(behaviour.TokenAgain)
	}
}

// noteTicketExchange records a deviation if this process has seen an exchange of the same ticket before.
func (a *API) noteTicketExchange(c *call, openid, ticket string) {
	if a.recent.tickets.add(a.recent.key(openid, ticket), a.RealNow(), 30*repeatWindow) > 1 {
		c.notes.Add(behaviour.CodesTicketAgain)
	}
}
