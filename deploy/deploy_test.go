// Package deploy holds what operators put beside the server.
package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestUnits_Hardened wants every unit to have an exposure of at most 2.0 of 10.
func TestUnits_Hardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	units, err := filepath.Glob("cluster/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range append(units, "systemd/qrjump.service") {
		out, err := exec.Command("systemd-analyze", "--no-pager", "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
		assert.True(t, err == nil, "%s: %v\n%s", unit, err, out)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
}

var (
	metric   = regexp.MustCompile(`\b(?:qrjump|process|go)_[a-z_]+|\bup\b`)
	selector = regexp.MustCompile(`\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|without) *\(([^)]*)\)`)
)

// exposedMetrics are the metrics that a server exposes, with their labels: those of the page that is printed from what a server registers,
// and those of the Go runtime and the process, which TestMetrics_WebhookBacklog reads.
func exposedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	metrics := map[string][]string{"up": nil, "go_memstats_heap_inuse_bytes": nil, "process_cpu_seconds_total": nil, "process_max_fds": nil,
		"process_open_fds": nil, "process_resident_memory_bytes": nil}
	page, err := os.ReadFile("../docs/en/metrics.md")
	require.NoError(t, err)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) <= 4 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		name, labels := strings.Trim(cells[1], " `"), strings.Split(strings.ReplaceAll(cells[3], " ", ""), ",")
		if strings.TrimSpace(cells[2]) == "histogram" {
			name, labels = name+"_bucket", append(labels, "le")
		}
		metrics[name] = labels
	}
	return metrics
}

// labelsOf are the labels that a line of metrics or an expression names.
func labelsOf(text string) (list []string) {
	for _, s := range selector.FindAllStringSubmatch(text, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[1], -1) {
			list = append(list, m[1])
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(text, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			list = append(list, strings.TrimSpace(label))
		}
	}
	return list
}

// checkExpression finds fault with the metrics and labels of an expression.
func checkExpression(t *testing.T, where, expression string, metrics map[string][]string) {
	t.Helper()
	known := []string{"job", "instance"} // of the scrape
	names := metric.FindAllString(grouping.ReplaceAllString(selector.ReplaceAllString(expression, ""), ""), -1)
	assert.True(t, len(names) != 0, "%s: %q names no metric", where, expression)
	for _, name := range names {
		labels, ok := metrics[name]
		assert.True(t, ok, "%s: there is no metric %s", where, name)
		known = append(known, labels...)
	}
	for _, label := range labelsOf(expression) {
		assert.True(t, slices.Contains(known, label), "%s: none of %q has the label %s", where, names, label)
	}
}

// Issue 16, 8: the dashboard and the alerts name what a server exposes.
func TestDashboardAndAlerts_MetricsExist(t *testing.T) {
	metrics := exposedMetrics(t)

	text, err := os.ReadFile("grafana/qrjump.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	shown := 0
	for i, p := range dashboard.Panels {
		assert.True(t, p.ID == i+1, "panel %q has the number %d", p.Title, p.ID)
		for _, target := range p.Targets {
			shown++
			checkExpression(t, "panel "+p.Title, target.Expr, metrics)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if m[1] != "instance" && !slices.Contains(labelsOf(target.Expr), m[1]) {
					t.Errorf("panel %s: its legend names %s, and its expression does not", p.Title, m[1])
				}
			}
		}
	}

	text, err = os.ReadFile("prometheus/alerts.yaml")
	require.NoError(t, err)
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &alerts))
	rules := 0
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			rules++
			checkExpression(t, r.Alert, regexp.MustCompile(`"[^"]*"`).ReplaceAllString(r.Expr, `""`), metrics)
			assert.True(t, r.Annotations["runbook"] != "" && r.Annotations["summary"] != "" && r.Labels["severity"] != "",
				"%s says too little: %q", r.Alert, r.Annotations)
		}
	}
	assert.True(t, shown >= 20 && rules >= 10, "%d expressions are shown and %d rules are there", shown, rules)
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not here to read the rules")
	}
	if out, err := exec.Command("promtool", "check", "rules", "--lint-fatal", "prometheus/alerts.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
