package server_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var (
	metric   = regexp.MustCompile(`\b(?:qrjump|process|go)_[a-z_]+|\bup\b`)
	selector = regexp.MustCompile(`\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|without) *\(([^)]*)\)`)
)

// exposedMetrics are the metrics of a server that did something, with their labels.
func exposedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	s := servertest.Start(t, servertest.Options{Seed: `
accounts: [{appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release]}]
`})
	s.OK("shop", "get", "{}")
	s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/t/7"}`)
	metrics := map[string][]string{"up": nil}
	for line := range strings.Lines(s.Do("GET", "/metrics", "").Body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := metric.FindString(line)
		metrics[name] = append(metrics[name], labelsOf(line)...)
	}
	// A metric without a value before something happens is on the page that is printed from what a
	// server registers.
	page, err := os.ReadFile("../../docs/en/metrics.md")
	require.NoError(t, err)
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 4 && strings.HasPrefix(cells[1], " `") {
			name := strings.Trim(cells[1], " `")
			for label := range strings.SplitSeq(cells[3], ",") {
				metrics[name] = append(metrics[name], strings.TrimSpace(label))
			}
		}
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

	text, err := os.ReadFile("../../deploy/grafana/qrjump.json")
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

	text, err = os.ReadFile("../../deploy/prometheus/alerts.yaml")
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
	out, err := exec.Command("promtool", "check", "rules", "--lint-fatal", "../../deploy/prometheus/alerts.yaml").CombinedOutput()
	assert.True(t, err == nil, "%v\n%s", err, out)
}
