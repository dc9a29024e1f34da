package servertest

import (
	_ "embed"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// Surface is an interface through which users call operations of the admin API.
type Surface string

// The surfaces. A test of each surface's package records its calls and checks them with Parity.
const (
	GoClient    Surface = "the Go client"
	CommandLine Surface = "the command line"
	Console     Surface = "the console"
)

//go:embed absent.txt
var exceptionsText string

// Operations returns all routes of the admin API in the order of their tables.
func Operations() []adminroute.Route {
	return append((&adminapi.Admin{}).Operations(), (&emulator.Control[api.Record]{}).Operations()...)
}

// Called records which operations are called, and their callers. It is safe for concurrent use.
type Called struct {
	mu         sync.Mutex
	callers    map[string][]string
	mux        *http.ServeMux
	operations map[string]string // ids by the pattern of the mux
}

// NewCalled returns an empty record.
func NewCalled() *Called {
	c := &Called{callers: map[string][]string{}, mux: http.NewServeMux(), operations: map[string]string{}}
	for _, o := range Operations() {
		pattern := o.Method + " " + adminroute.Base + o.Path
		c.operations[pattern] = o.ID
		c.mux.Handle(pattern, http.NotFoundHandler())
	}
	return c
}

// Note records a call by actor. Requests to other paths are ignored.
func (c *Called) Note(r *http.Request, actor string) {
	_, pattern := c.mux.Handler(r)
	id := c.operations[pattern]
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != "" && !slices.Contains(c.callers[id], actor) {
		c.callers[id] = append(c.callers[id], actor)
	}
}

// Callers returns the callers of each operation, by operation id.
func (c *Called) Callers() map[string][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.callers)
}

// Parity fails the test unless each operation either has a caller or a reason in absent.txt why the surface does not offer it.
func (c *Called) Parity(t *testing.T, surface Surface) {
	t.Helper()
	exceptions := map[string]string{}
	for _, row := range testtable.Parse(t, exceptionsText, 3) {
		if Surface(row[0]) == surface {
			exceptions[row[1]] = row[2]
		}
	}
	for _, o := range Operations() {
		callers, reason := c.Callers()[o.ID], exceptions[o.ID]
		delete(exceptions, o.ID)
		assert.True(t, (len(callers) == 0) != (reason == ""),
			"%s (%s %s) on %s: callers %q, reason for none %q, want exactly one", o.ID, o.Method, o.Path, surface, callers, reason)
	}
	for id := range exceptions {
		t.Errorf("absent.txt has a reason for the operation %s on %s, want only existing operations", id, surface)
	}
}
