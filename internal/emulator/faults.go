package emulator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is one entry of the fault plan: an error, a delay or a lost connection at an endpoint, or a fixed response at a path.
type Fault struct {
	ID           int            `json:"id"`
	Method       string         `json:"method,omitempty"` // "" = any
	Path         string         `json:"path"`
	AppID        string         `json:"appid,omitempty"`
	ErrCode      *int           `json:"errcode,omitempty"`
	ErrMsg       string         `json:"errmsg,omitempty"`
	After        bool           `json:"after,omitempty"` // the call is executed before errcode is returned
	Count        int            `json:"-"`               // number of calls affected; 0 = unlimited
	Probability  float64        `json:"probability"`
	Delay        time.Duration  `json:"-"`
	Drop         bool           `json:"drop,omitempty"`
	DropAfter    bool           `json:"drop_after,omitempty"`
	Response     *FaultResponse `json:"response,omitempty"`
	TriggerCount int            `json:"trigger_count"`
}

// FaultResponse is a fixed response that is sent before any other check: the call needs no token, and the path may be unknown to
// the server.
type FaultResponse struct {
	Status int             `json:"status,omitempty" doc:"HTTP status; default: 200"`
	Body   json.RawMessage `json:"body,omitempty" doc:"JSON value, or the body as a string"`
}

// Text returns the body to send and its Content-Type.
func (r FaultResponse) Text() (body []byte, kind string) {
	var text string
	if len(r.Body) > 0 && json.Unmarshal(r.Body, &text) != nil {
		return r.Body, "application/json; encoding=utf-8"
	}
	switch trimmed := strings.TrimSpace(text); {
	case strings.HasPrefix(trimmed, "{"), strings.HasPrefix(trimmed, "["):
		return []byte(text), "application/json; encoding=utf-8"
	case strings.HasPrefix(trimmed, "<"):
		return []byte(text), "text/html; charset=utf-8"
	}
	return []byte(text), "text/plain; charset=utf-8"
}

// reservedPaths lists the path prefixes that the server handles outside the platform's API, for which a FaultResponse is rejected. The last
// three are those of the authorisation page.
var reservedPaths = []string{"/admin/", "/scan/", "/console", "/metrics", "/healthz", "/readyz", "/openapi.json", "/openapi-wire.json",
	"/.well-known/", "/docs", "/debug/", "/qrjump/", "/cgi-bin/componentloginpage", "/safe/bindcomponent", "/wxaopen/safe/bindcomponent"}

// checkResponse returns an error if the response of a fault is invalid.
func checkResponse(f Fault) error {
	methods := []string{"", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
	switch {
	case !strings.HasPrefix(f.Path, "/") || strings.ContainsAny(f.Path, "?#") || len(f.Path) > 1024:
		return fmt.Errorf("path: want a path such as /cgi-bin/menu/get, without a query")
	case slices.ContainsFunc(reservedPaths, func(p string) bool { return strings.HasPrefix(f.Path, p) }):
		return fmt.Errorf("path: %s is not a path of the platform's API: only responses of the API can be replaced", f.Path)
	case !slices.Contains(methods, f.Method):
		return fmt.Errorf("method: want one of %s, or leave it out for any method", strings.Join(methods[1:], ", "))
	case f.Response.Status < 200 || f.Response.Status > 599:
		return fmt.Errorf("response: status: want 200 to 599")
	case f.ErrCode != nil || f.Drop || f.DropAfter:
		return fmt.Errorf("response cannot be combined with errcode or drop: choose one")
	case f.AppID != "":
		return fmt.Errorf("response is returned before the account is known: remove appid")
	}
	return nil
}

// MaxDelay limits the delay of a fault.
const MaxDelay = time.Minute

// maxFaults limits the number of faults in the plan.
const maxFaults = 1000

// Plan contains the active faults. The same random seed and the same calls produce the same faults.
type Plan struct {
	mu     sync.Mutex
	seed   uint64
	random *rand.Rand
	next   int
	faults []*Fault
}

// NewPlan returns an empty plan with this random seed.
func NewPlan(seed uint64) *Plan {
	p := &Plan{seed: seed}
	p.Clear()
	return p
}

// Clear removes all faults and restarts the random sequence.
func (p *Plan) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.next = nil, 0
	p.random = rand.New(rand.NewPCG(p.seed, 0))
}

// Reseed removes all faults and starts a new random sequence.
func (p *Plan) Reseed(seed uint64) {
	p.mu.Lock()
	p.seed = seed
	p.mu.Unlock()
	p.Clear()
}

// Add activates a fault and returns the fault with its id.
func (p *Plan) Add(f Fault) (Fault, error) {
	if f.Response != nil {
		if err := checkResponse(f); err != nil {
			return f, err
		}
	}
	switch {
	case f.ErrCode == nil && f.Delay == 0 && !f.Drop && !f.DropAfter && f.Response == nil:
		return f, fmt.Errorf("a fault needs at least one of errcode, delay, drop, drop_after, response")
	case f.Method != "" && f.Response == nil:
		return f, fmt.Errorf("method requires response")
	case f.ErrCode != nil && *f.ErrCode == 0:
		return f, fmt.Errorf("errcode 0 is success: a fault needs another")
	case f.After && f.ErrCode == nil:
		return f, fmt.Errorf("after executes the call and then returns errcode: give errcode too")
	case f.ErrCode != nil && (f.Drop || f.DropAfter) || f.Drop && f.DropAfter:
		return f, fmt.Errorf("errcode, drop and drop_after cannot be combined: choose one")
	case f.Probability <= 0 || f.Probability > 1:
		return f, fmt.Errorf("probability is %v: want more than 0 and at most 1", f.Probability)
	case f.Count < 0:
		return f, fmt.Errorf("remaining is %d: want 1 or more; leave it out for no limit", f.Count)
	case f.Delay < 0 || f.Delay > MaxDelay:
		return f, fmt.Errorf("delay is %s: want at most %s", f.Delay, MaxDelay)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.faults) >= maxFaults {
		return f, fmt.Errorf("the maximum of %d faults is reached: delete some", maxFaults)
	}
	p.next++
	f.ID, f.TriggerCount = p.next, 0
	p.faults = append(p.faults, &f)
	return f, nil
}

// Remove deletes one fault; ok is false if no fault has the id.
func (p *Plan) Remove(id int) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	prev := len(p.faults)
	p.faults = slices.DeleteFunc(p.faults, func(f *Fault) bool { return f.ID == id })
	return len(p.faults) < prev
}

// RemoveOf deletes the faults of the given accounts only.
func (p *Plan) RemoveOf(appids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = slices.DeleteFunc(p.faults, func(f *Fault) bool { return slices.Contains(appids, f.AppID) })
}

// List returns the active faults, oldest first.
func (p *Plan) List() []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []Fault{}
	for _, f := range p.faults {
		list = append(list, *f)
	}
	return list
}

// Next returns the fault for a call: the first fault that matches the path and the account, has occurrences left, and is selected by its
// probability. A fault with Count > 0 is used up after Count calls.
func (p *Plan) Next(path, appid string) (Fault, bool) {
	return p.first(path, func(f *Fault) bool { return f.Response == nil && (f.AppID == "" || f.AppID == appid) })
}

// NextResponse is like Next, but considers only the faults with a fixed response for the method and the path.
func (p *Plan) NextResponse(method, path string) (Fault, bool) {
	return p.first(path, func(f *Fault) bool { return f.Response != nil && (f.Method == "" || f.Method == method) })
}

func (p *Plan) first(path string, matches func(*Fault) bool) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.Path != path || !matches(f) || f.Count > 0 && f.TriggerCount >= f.Count {
			continue
		}
		if f.Probability < 1 && p.random.Float64() >= f.Probability {
			continue
		}
		f.TriggerCount++
		return *f, true
	}
	return Fault{}, false
}
