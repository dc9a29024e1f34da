package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCodeOutput_VoidFirst verifies that the first line about a void code states that it is void.
func TestCodeOutput_VoidFirst(t *testing.T) {
	outputLanguage = "en" // an earlier test may have run a command in Chinese
	var b strings.Builder
	printCode(&b, client.StoredCode{Code: "044GZ*J10", Active: true, Void: true})
	first, _, _ := strings.Cut(b.String(), "\n")
	assert.True(t, first == "this code is void and opens nothing" && strings.Contains(b.String(), "void, active"),
		"printCode of a void code prints %s, want void first", b.String())
}

// TestLocalizeOr_WordOfServer verifies that a word of a server that has no text, or one with arguments, is shown as it is.
func TestLocalizeOr_WordOfServer(t *testing.T) {
	outputLanguage = "en"
	for key, want := range map[string]string{"why.of": "word", "why.no_such_reason": "word", "state.active": tr("state.active")} {
		assert.Equal(t, localizeOr(key, "word"), want, "text of %s", key)
	}
}

// TestUsageError_JSONByEnvironment verifies that QRJUMP_OUTPUT=json prints usage errors as JSON, even if the command line is not parsed.
func TestUsageError_JSONByEnvironment(t *testing.T) {
	for _, args := range [][]string{{"no-such-verb"}, {"rule", "list", "--no-such-flag"}, {"rule", "plan"},
		{"serve", "--config", "/none"}} {
		for value, want := range map[string]bool{"json": true, "table": false} {
			setEnvironment(t, map[string]string{"OUTPUT": value})
			code, _, errs := command(t.Context(), args...)
			var response struct{ Error failure }
			got := json.Unmarshal([]byte(errs), &response) == nil && response.Error.Kind == "usage"
			assert.True(t, code == exitMisused && got == want,
				"%q with QRJUMP_OUTPUT=%s: exit %d, want %d; JSON: %v, want %v: %s", args, value, code, exitMisused, got, want, errs)
		}
	}
}

// portRules are the ports that documents use, by the line that contains them.
var portRules = []struct {
	subject string
	line    *regexp.Regexp
	ports   string
}{
	{"the admin listener", regexp.MustCompile(`(?i)admin[-_]listen\S*[ :=]+\S*?:(\d{4})`), "8082"},
	{"the scan listener", regexp.MustCompile(`(?i)scan[-_]listen\S*[ :=]+\S*?:(\d{4})`), "8081"},
	{"record", regexp.MustCompile(`qrjump cassette record .*--listen \S*?:(\d{4})`), "8090"},
	{"replay", regexp.MustCompile(`qrjump cassette replay .*--listen \S*?:(\d{4})`), "8091"},
	{"a server", regexp.MustCompile(`qrjump serve .*--listen \S*?:(\d{4})`), "8080 8092 8093"},
	{"a called address", regexp.MustCompile(`(?:127\.0\.0\.1|0\.0\.0\.0|localhost|host\.docker\.internal):(8\d{3})`),
		"8080 8081 8082 8090 8091 8092 8093"},
}

// TestDocs_ConsistentPorts verifies that all documents use the same ports: 8080 for the platform API or all APIs, 8081 for the scan API,
// 8082 for the console and the admin API, 8090 for record, 8091 for replay, 8092 and 8093 for further servers.
func TestDocs_ConsistentPorts(t *testing.T) {
	t.Parallel()
	matched := map[string]bool{}
	for _, pattern := range []string{"README*.md", "docs/*.md", "docs/*.yaml", "docs/??/*.md", "docs/??/*/*.md",
		"deploy/*", "deploy/*/*", "release/package/*", "Dockerfile"} {
		names, err := filepath.Glob(filepath.Join("..", "..", pattern))
		require.True(t, err == nil && len(names) != 0, "files of %s = %v, %v, want some", pattern, names, err)
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // a folder
			}
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				for _, rule := range portRules {
					for _, m := range rule.line.FindAllStringSubmatch(line, -1) {
						matched[rule.subject] = true
						assert.True(t, strings.Contains(rule.ports, m[1]),
							"%s:%d: %s is on port %s, want %s: %s", name, n, rule.subject, m[1], rule.ports, strings.TrimSpace(line))
					}
				}
			}
		}
	}
	assert.True(t, len(matched) == len(portRules), "the documents have lines for %v, want all %d rules", matched, len(portRules))
}
