package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/infra/errortext"
)

// Health is the state of this node.
type Health struct {
	Fault     string // what GET /readyz reports; "" = ready
	DiskFree  int64  // bytes that can still be written to the data folder; -1 = unknown
	DiskKind  string // bad = scans are refused, warn = little is left, "" = enough
	Memory    int64  // bytes that the process holds
	StartedAt time.Time
}

// healthView is the data of the first lines of the home and of the operator's page.
type healthView struct {
	Fault   string // in the reader's language
	Numbers []number
}

// health returns the fault of this node, which /readyz tells everybody, and its numbers for operators of the whole server.
func (v *request) health() (data healthView) {
	currentHealth := v.c.Health(v.r.Context())
	data.Fault = errortext.In(v.Language, currentHealth.Fault)
	if !(view{request: v}).May("operator") || len(v.caller.Accounts) > 0 {
		return data
	}
	disk := number{Kind: currentHealth.DiskKind, Name: "health.disk", Value: "–"}
	if currentHealth.DiskFree >= 0 {
		disk.Value, disk.Beside = bytesText(currentHealth.DiskFree), v.say("health.free")
	}
	// A database that does not answer leaves the other numbers on the page.
	nodes, hooks := number{Name: "health.nodes", Value: "–"}, number{Name: "health.webhooks", Value: "–"}
	if list, err := v.api.ScanNodes.List(v.ctx()); err == nil {
		running := 0
		for _, n := range list {
			if !n.Stopped {
				running++
			}
		}
		nodes.Value = separated(int64(max(1, running))) // an embedded database lists none
		if stopped := len(list) - running; stopped > 0 {
			nodes.Beside = v.say("health.stopped", stopped)
		}
	}
	if list, err := v.api.Webhooks.List(v.ctx()); err == nil {
		hooks.Value = separated(int64(len(list)))
		off := 0
		for _, h := range list {
			if !h.Enabled {
				off++
			}
		}
		if off > 0 {
			hooks.Kind, hooks.Beside = "warn", v.say("health.webhooks.off", off)
		}
	}
	upperWait := time.Since(currentHealth.StartedAt)
	data.Numbers = []number{disk, {Name: "health.memory", Value: bytesText(currentHealth.Memory)}, nodes, hooks,
		{Name: "health.uptime", Value: v.say("health.days", int(upperWait.Hours()/24), int(upperWait.Hours())%24, int(upperWait.Minutes())%60)},
		{Name: "health.version", Value: v.c.Version}}
	return data
}

// unavailable reports whether an API answered 503.
func unavailable(err error) bool {
	_, is := refused(err, http.StatusServiceUnavailable)
	return is
}

// bytesText returns a size with the unit that people read it in.
func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}
