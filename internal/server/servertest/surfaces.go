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

// Surface is a way to the operations of the admin API.
type Surface string

// The surfaces. Each is held by a test of its own package, which says what it calls: Parity judges that.
const (
	GoClient    Surface = "the Go client"
	CommandLine Surface = "the command line"
	Console     Surface = "the console"
)

//go:embed absent.txt
var absent string

// Operations returns the tables of the admin API in their order.
func Operations() []adminroute.Route {
	return append((&adminapi.Admin{}).Operations(), (&emulator.Control[api.Record]{}).Operations()...)
}

// Called notes which operations are called, and by what.
type Called struct {
	mu    sync.Mutex
	by    map[string][]string
	mux   *http.ServeMux
	names map[string]string // by the pattern of the mux
}

// NewCalled has noted nothing.
func NewCalled() *Called {
	c := &Called{by: map[string][]string{}, mux: http.NewServeMux(), names: map[string]string{}}
	for _, o := range Operations() {
		pattern := o.Method + " " + adminroute.Base + o.Path
		c.names[pattern] = o.ID
		c.mux.Handle(pattern, http.NotFoundHandler())
	}
	return c
}

// Note notes that something made a call.
func (c *Called) Note(r *http.Request, actor string) {
	_, pattern := c.mux.Handler(r)
	id := c.names[pattern]
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != "" && !slices.Contains(c.by[id], actor) {
		c.by[id] = append(c.by[id], actor)
	}
}

// Callers returns the callers of each operation.
func (c *Called) Callers() map[string][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}

// Parity walks the tables: each operation is called on the surface, or it is said why not, never both.
func (c *Called) Parity(t *testing.T, on Surface) {
	t.Helper()
	left := map[string]string{}
	for _, row := range testtable.Parse(t, absent, 3) {
		if Surface(row[0]) == on {
			left[row[1]] = row[2]
		}
	}
	for _, o := range Operations() {
		names, reason := c.Callers()[o.ID], left[o.ID]
		delete(left, o.ID)
		assert.True(t, (len(names) == 0) != (reason == ""),
			"%s (%s %s): %s calls it by %q, and the reason why it does not is %q", o.ID, o.Method, o.Path, on, names, reason)
	}
	for id := range left {
		t.Errorf("there is no operation %s, and a reason why %s has none", id, on)
	}
}
