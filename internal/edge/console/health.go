package console

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/errortext"
)

// Health contains the health data of this node.
type Health struct {
	NotReady  string // the error that GET /readyz reports; "" = ready
	DiskFree  int64  // free bytes on the volume of the data folder; -1 = unknown
	DiskKind  string // bad = scans are rejected, warn = nearly full, "" = enough space
	Memory    int64  // memory of the process in bytes
	StartedAt time.Time
}

// healthView contains the checks of the health page, failures first.
type healthView struct {
	Checks  []check
	Recount *client.Recount
}

// check is the result of a health check. Name with the prefix "health." is a text key, Kind is bad, warn or good, Title describes the
// finding, and Explanation describes how to fix a failure on the page To.
type check struct {
	Name string
	task
}

// recount counts all scans again, which changes nothing but takes long.
func (pages operatePages) recount(v *request) error {
	done, err := v.api.Statistics.Verify(v.ctx())
	return afterwards(err, func() error { return pages.showHealth(v, &done) })
}

func (pages operatePages) showHealth(v *request, recount *client.Recount) error {
	_, err := v.api.ScanNodes.List(v.ctx())
	if _, is := refused(err, http.StatusForbidden); is {
		return err
	}
	return v.show(http.StatusOK, "health", healthView{v.checks(), recount})
}

// notReady returns the fault that GET /readyz reports, in the reader's language.
func (v *request) notReady() string {
	return errortext.In(v.Language, v.c.Health(v.r.Context()).NotReady)
}

// checks returns the results of the health checks, failures first. If the database cannot deliver the data of a check, the check fails.
func (v *request) checks() (list []check) {
	node := v.c.Health(v.r.Context())
	add := func(name, kind, what, why, to string) {
		if kind == "" || kind == "good" {
			kind, why = "good", ""
		}
		list = append(list, check{name, task{kind, what, why, Root + to}})
	}
	failed := func(name string, err error) bool {
		if err != nil {
			add(name, "bad", v.say("health.unknown"), v.Reason(err.Error()), "/health")
		}
		return err != nil
	}
	if fault, up := v.notReady(), int(time.Since(node.StartedAt).Minutes()); fault != "" {
		add("ready", "bad", v.say("health.not", fault), "", "/health")
	} else {
		add("ready", "", v.say("health.days", up/(24*60), up/60%24, up%60), "", "/health")
	}
	if node.DiskFree >= 0 {
		add("disk", node.DiskKind, v.say("health.free", bytesText(node.DiskFree)), v.say("health.disk.why"), "/health")
	}
	add("memory", "", bytesText(node.Memory), "", "/health")
	if nodes, err := v.api.ScanNodes.List(v.ctx()); !failed("nodes", err) {
		stopped, behind := 0, int64(0)
		for _, n := range nodes {
			stopped, behind = stopped+b2i(n.StoppedCleanly), behind+n.Backlog
		}
		add("nodes", wordIf(stopped, "warn"), v.say("health.running", max(1, len(nodes)-stopped), stopped), v.say("health.nodes.why"),
			"/operate#nodes") // with an embedded database the list of nodes is empty, but this node runs
		add("streams", wordIf(behind > maxBacklog, "warn"), v.say("health.behind", behind), v.say("health.streams.why"), "/operate#nodes")
	}
	if hooks, err := v.api.Webhooks.List(v.ctx()); !failed("webhooks", err) {
		off := 0
		for _, h := range hooks {
			if off += b2i(!h.Enabled); h.Enabled && h.FailingSince != nil {
				add("webhooks", "bad", v.say("health.webhooks.failing", h.ID, h.URL, h.FailingSince.UTC().Format(utcMinute)),
					v.say("health.webhooks.failing.why"), fmt.Sprintf("/operate/webhooks?webhook=%d&state=pending#deliveries", h.ID))
			}
		}
		add("webhooks", wordIf(off, "warn"), v.say("health.webhooks.off", len(hooks), off), v.say("health.webhooks.why"),
			"/operate/webhooks")
	}
	if v.c.CertificateEnds != nil {
		if until, ok := v.c.CertificateEnds(); ok {
			now, _ := view{request: v}.pageTime()
			left := until.Sub(now)
			add("certificate", wordIf(left < endsSoon, "bad"), v.say("home.certificate", until.UTC().Format(utcMinute)),
				v.say("home.certificate.why"), "/operate")
		}
	}
	if !v.c.Emulates {
		last, err := v.api.AuditLog.List(v.ctx(), client.ChangesQuery{Newest: true, Limit: 1, Kind: "export"})
		switch {
		case failed("backup", err):
		case len(last) > 0 && time.Since(last[0].OccurredAt) <= backupDue:
			add("backup", "", last[0].OccurredAt.UTC().Format(utcMinute), "", "")
		default:
			add("backup", "warn", v.say("home.backup"), v.say("home.backup.why"), "/operate#backup")
		}
	}
	slices.SortStableFunc(list, func(a, b check) int { return severity(a.Kind) - severity(b.Kind) })
	return list
}

// severity orders states from the most severe on.
func severity(kind string) int { return slices.Index([]string{"bad", "warn", "info", "good"}, kind) }

const (
	maxBacklog = 10_000 // the health page shows a warning above this number of scans in the backlogs of all nodes
	utcMinute  = "2006-01-02 15:04 UTC"
)

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
