package servertest

import (
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
)

// Surface is a way to the operations of the admin API.
type Surface string

// The surfaces. Each is held by a test of its own package, which says what it calls: Parity judges that.
const (
	GoClient    Surface = "the Go client"
	CommandLine Surface = "the command line"
	Console     Surface = "the console"
)

// absent says of each surface why an operation is not on it. A new surface is a new column here.
var absent = map[Surface]map[string]string{
	GoClient: {},
	CommandLine: {
		"grantAuthorization":         "the page of a platform's link does, and component consent with --dev",
		"lookupAuthorization":        "the page of a platform's link does",
		"addGS1Links":                "gs1 set says it with If-None-Match",
		"completeAccounts":           "account list and find show names",
		"completeRules":              "rule list --output json has the numbers beside the prefixes",
		"revokeAccountAuthorization": "component revoke does the same from the platform's side",
		"getPackage":                 "package list has all of them",
		"getScan":                    "scans lists them whole",
		"setVersions":                "account set --version does, with the whole account and its revision",
		"setRulesEnabled":            "account set --rules does, likewise",
		"putMember":                  "account set --member does, likewise",
		"deleteMember":               "account set --member does, likewise",
		"putLink":                    "account set --linked does, likewise",
		"deleteSnapshot":             "qrjump api does",
		"listCases":                  "qrjump api does",
		"createCase":                 "qrjump api does",
		"getCase":                    "qrjump api does",
		"putCase":                    "qrjump api does",
		"getCaseSheet":               "qrjump api does",
		"getSettings":                "setting list calls describeSettings",
		"listFailedAuthentications":  "doctor asks for it, and names what keeps failing",
		"listCodes":                  "batch download brings them, as the account",
		"recountStatistics":          "doctor --deep does",
		"verifyAudit":                "as recountStatistics",
		"verifyLake":                 "as recountStatistics",
		"addRule":                    "rule add does it by the wire, in the account's name",
		"editRule":                   "rule edit does, likewise",
		"publishRule":                "rule publish does, likewise",
		"deleteRule":                 "rule delete does, likewise",
		"checkRule":                  "verify looks for the file from where it runs, and rule plan says what an add would do",
	},
	Console: {
		"exportAll":      "an archive with the keys of everything belongs in no browser's folder of downloads: qrjump export writes it",
		"recordDrill":    "qrjump restore-drill runs where the archive is, and notes what it found; the page of operation shows it",
		"addGS1Links":    "the form of a new key says it with If-None-Match",
		"listSnapshots":  "a snapshot is a test's own: qrjump snapshot, or the client, beside the test that needs it",
		"saveSnapshot":   "as listSnapshots",
		"loadSnapshot":   "as listSnapshots",
		"deleteSnapshot": "as listSnapshots",
		"verifyLake":     "it reads the whole ledger and the whole lake: qrjump doctor --deep waits for that",
	},
}

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
	left := maps.Clone(absent[on])
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
