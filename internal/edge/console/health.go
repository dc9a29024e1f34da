package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/infra/errortext"
)

// Health holds the health data of this node.
type Health struct {
	Fault     string // the error that GET /readyz reports; "" = ready
	DiskFree  int64  // free bytes on the volume of the data folder; -1 = unknown
	DiskKind  string // bad = scans are rejected, warn = nearly full, "" = enough space
	Memory    int64  // memory of the process in bytes
	StartedAt time.Time
}

// healthView holds the health lines at the top of the home page and of the operator's page.
type healthView struct {
	Fault   string // translated to the reader's language
	Numbers []number
}

// health returns the fault of this node, as in /readyz, and, for operators of all accounts, the node's metrics.
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
	// If the database is unavailable, only the numbers of nodes and webhooks are missing from the health lines.
	nodes, hooks := number{Name: "health.nodes", Value: "–"}, number{Name: "health.webhooks", Value: "–"}
	if list, err := v.api.ScanNodes.List(v.ctx()); err == nil {
		running := 0
		for _, n := range list {
			if !n.Stopped {
				running++
			}
		}
		nodes.Value = separated(int64(max(1, running))) // with an embedded database the list of nodes is empty
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
		{Name: "health.uptime", Value: v.say("health.days", int(upperWait.Hours()/24), int(upperWait.Hours())%24,
			int(upperWait.Minutes())%60)},
		{Name: "health.version", Value: v.c.Version}}
	return data
}

// unavailable reports whether an API returned status 503.
func unavailable(err error) bool {
	_, is := refused(err, http.StatusServiceUnavailable)
	return is
}

// bytesText formats a size with a suitable unit.
func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}
