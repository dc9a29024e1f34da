package emulator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Stub answers calls of a path in place of the server, above all of families that
// it does not have.
type Stub struct {
	Method string // "" = any
	Path   string
	Status int
	Body   json.RawMessage // a text is the body itself; nil = none
	Delay  time.Duration
	Times  int // 0 = unlimited
	Served int
}

// Answer is the body as it goes out, and its Content-Type.
func (s Stub) Answer() (body []byte, kind string) {
	var text string
	if len(s.Body) > 0 && json.Unmarshal(s.Body, &text) != nil {
		return s.Body, "application/json; encoding=utf-8"
	}
	switch trimmed := strings.TrimSpace(text); {
	case strings.HasPrefix(trimmed, "{"), strings.HasPrefix(trimmed, "["):
		return []byte(text), "application/json; encoding=utf-8"
	case strings.HasPrefix(trimmed, "<"):
		return []byte(text), "text/html; charset=utf-8"
	}
	return []byte(text), "text/plain; charset=utf-8"
}

// maxStubs bounds the list.
const maxStubs = 1000

// Stubs are the stubs in force. The zero value has none.
type Stubs struct {
	mu   sync.Mutex
	list []Stub
}

// Set puts a list in force in place of the one before, all of it or nothing.
func (s *Stubs) Set(list []Stub) error {
	if len(list) > maxStubs {
		return fmt.Errorf("more than %d stubs", maxStubs)
	}
	for i := range list {
		if err := list[i].check(); err != nil {
			return fmt.Errorf("stubs[%d]: %w", i, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.Clone(list)
	return nil
}

// notStubbed are the paths of what is not the platform's.
var notStubbed = []string{"/admin/", "/scan/", "/console", "/metrics", "/healthz", "/readyz", "/openapi.json", "/openapi-wire.json",
	"/.well-known/"}

func (s Stub) check() error {
	methods := []string{"", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
	switch {
	case !strings.HasPrefix(s.Path, "/") || strings.ContainsAny(s.Path, "?#") || len(s.Path) > 1024:
		return fmt.Errorf("path: want a path such as /cgi-bin/menu/get, without a query")
	case slices.ContainsFunc(notStubbed, func(p string) bool { return strings.HasPrefix(s.Path, p) }):
		return fmt.Errorf("path: %s is this server's own: a stub answers in place of the platform", s.Path)
	case !slices.Contains(methods, s.Method):
		return fmt.Errorf("method: want one of %s, or none for any", strings.Join(methods[1:], ", "))
	case s.Status < 200 || s.Status > 599:
		return fmt.Errorf("status: want 200 to 599")
	case s.Delay < 0 || s.Delay > MaxDelay:
		return fmt.Errorf("delay: want 0s to %s", MaxDelay)
	}
	return nil
}

// List is the stubs in force, with how often each answered.
func (s *Stubs) List() []Stub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// Clear ends all stubs.
func (s *Stubs) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// Next is the stub that answers a call: the first of its path that is not used up.
func (s *Stubs) Next(method, path string) (Stub, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		one := &s.list[i]
		if one.Path == path && (one.Method == "" || one.Method == method) && (one.Times == 0 || one.Served < one.Times) {
			one.Served++
			return *one, true
		}
	}
	return Stub{}, false
}

// stubView is a stub as it is asked for and shown.
type stubView struct {
	Method string          `json:"method,omitempty" doc:"left out: any"`
	Path   string          `json:"path" doc:"any path of the platform, with an endpoint here or not"`
	Status int             `json:"status,omitempty" doc:"left out: 200"`
	Body   json.RawMessage `json:"body,omitempty" doc:"JSON, or the body itself as a text"`
	Delay  string          `json:"delay,omitempty" doc:"before the answer, for example 3s"`
	Times  int             `json:"times,omitempty" minimum:"1" doc:"how often it answers; left out: without end"`
	Served int             `json:"served,omitempty" readOnly:"true" doc:"how often it did"`
}

type stubList struct {
	Stubs []stubView `json:"stubs"`
}

func (c *Control[Call]) listStubs(context.Context, *noInput) (stubList, error) {
	shown := stubList{[]stubView{}}
	for _, s := range c.Stubs.List() {
		v := stubView{Method: s.Method, Path: s.Path, Status: s.Status, Body: s.Body, Times: s.Times, Served: s.Served}
		if s.Delay > 0 {
			v.Delay = s.Delay.String()
		}
		shown.Stubs = append(shown.Stubs, v)
	}
	return shown, nil
}

func (c *Control[Call]) setStubs(ctx context.Context, in *struct{ Body stubList }) (stubList, error) {
	var list []Stub
	for i, v := range in.Body.Stubs {
		s := Stub{Method: v.Method, Path: v.Path, Status: cmp.Or(v.Status, 200), Body: v.Body, Times: v.Times}
		if v.Delay != "" {
			var err error
			if s.Delay, err = time.ParseDuration(v.Delay); err != nil {
				return stubList{}, huma.Error422UnprocessableEntity(fmt.Sprintf("stubs[%d]: delay: want a duration such as 3s", i))
			}
		}
		list = append(list, s)
	}
	if err := c.Stubs.Set(list); err != nil {
		return stubList{}, huma.Error422UnprocessableEntity(err.Error())
	}
	return c.listStubs(ctx, nil)
}

func (c *Control[Call]) clearStubs(ctx context.Context, _ *noInput) (stubList, error) {
	c.Stubs.Clear()
	return c.listStubs(ctx, nil)
}
