// Package deploy has configuration files for operators: services, monitoring and CI.
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

// TestUnits_Hardened verifies that systemd-analyze rates the exposure of every unit as at most 2.0 of 10.
func TestUnits_Hardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	units, err := filepath.Glob("cluster/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units = %q, %v, want 3", units, err)
	}
	for _, unit := range append(units, "systemd/qrjump.service") {
		out, err := exec.Command("systemd-analyze", "--no-pager", "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
		assert.True(t, err == nil, "systemd-analyze security %s: %v\n%s", unit, err, out)
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

// exposedMetrics returns the metrics of a server, with their labels: those of metrics.md, which is generated from the registered metrics,
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

// parseLabels returns the labels in an expression.
func parseLabels(text string) (list []string) {
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

// checkExpression verifies that the metrics and labels of an expression exist.
func checkExpression(t *testing.T, source, expression string, metrics map[string][]string) {
	t.Helper()
	known := []string{"job", "instance"} // added by the scrape
	names := metric.FindAllString(grouping.ReplaceAllString(selector.ReplaceAllString(expression, ""), ""), -1)
	assert.True(t, len(names) != 0, "%s: %q has no metric", source, expression)
	for _, name := range names {
		labels, ok := metrics[name]
		assert.True(t, ok, "%s: %s is not a metric of the server", source, name)
		known = append(known, labels...)
	}
	for _, label := range parseLabels(expression) {
		assert.True(t, slices.Contains(known, label), "%s: label %s, want one of %q: %q", source, label, names, known)
	}
}

// TestDashboardAndAlerts_MetricsExist verifies that the dashboard and the alerts use only metrics and labels that a server exposes.
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
	expressions := 0
	for i, p := range dashboard.Panels {
		assert.Equal(t, p.ID, i+1, "id of panel %q", p.Title)
		for _, target := range p.Targets {
			expressions++
			checkExpression(t, "panel "+p.Title, target.Expr, metrics)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if m[1] != "instance" && !slices.Contains(parseLabels(target.Expr), m[1]) {
					t.Errorf("panel %s: the legend has the label %s, which its expression lacks", p.Title, m[1])
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
				"%s has the annotations %q and labels %q, want summary, runbook and severity", r.Alert, r.Annotations, r.Labels)
		}
	}
	assert.True(t, expressions >= 20 && rules >= 10, "%d expressions and %d rules, want at least 20 and 10", expressions, rules)
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not here to read the rules")
	}
	if out, err := exec.Command("promtool", "check", "rules", "--lint-fatal", "prometheus/alerts.yaml").CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
