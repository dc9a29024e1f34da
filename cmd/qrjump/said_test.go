package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 28: of a void code that comes first, whatever else is said of it.
func TestCodeOutput_VoidFirst(t *testing.T) {
	outputLanguage = "en" // a test before this one may have run a command in Chinese
	var b strings.Builder
	printCode(&b, client.StoredCode{Code: "044GZ*J10", Active: true, Void: true})
	first, _, _ := strings.Cut(b.String(), "\n")
	assert.True(t, first == "this code is void and opens nothing" && strings.Contains(b.String(), "void, active"), "%v", b.String())
}

// Issue 28: QRJUMP_OUTPUT makes an object of an error of usage too, whatever of the command line could be read.
func TestUsageError_JSONByEnvironment(t *testing.T) {
	for _, args := range [][]string{{"no-such-verb"}, {"rule", "list", "--no-such-flag"}, {"rule", "plan"},
		{"serve", "--config", "/none"}} {
		for value, want := range map[string]bool{"json": true, "table": false} {
			environment(t, map[string]string{"OUTPUT": value})
			var errs bytes.Buffer
			code := run(session{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: &errs}, args)
			var tr struct{ Error failure }
			got := json.Unmarshal(errs.Bytes(), &tr) == nil && tr.Error.Kind == "usage"
			assert.True(t, code == exitMisused && got == want, "%q with QRJUMP_OUTPUT=%s: %d %s", args, value, code, errs.String())
		}
	}
}

// layout are the ports of all documents, by what a line says of them.
var layout = []struct {
	what  string
	line  *regexp.Regexp
	ports string
}{
	{"the admin listener", regexp.MustCompile(`(?i)admin[-_]listen\S*[ :=]+\S*?:(\d{4})`), "8082"},
	{"the scan listener", regexp.MustCompile(`(?i)scan[-_]listen\S*[ :=]+\S*?:(\d{4})`), "8081"},
	{"record", regexp.MustCompile(`qrjump cassette record .*--listen \S*?:(\d{4})`), "8090"},
	{"replay", regexp.MustCompile(`qrjump cassette replay .*--listen \S*?:(\d{4})`), "8091"},
	{"a server", regexp.MustCompile(`qrjump serve .*--listen \S*?:(\d{4})`), "8080 8092 8093"},
	{"what is asked", regexp.MustCompile(`(?:127\.0\.0\.1|0\.0\.0\.0|localhost|host\.docker\.internal):(8\d{3})`),
		"8080 8081 8082 8090 8091 8092 8093"},
}

// Issue 28: one layout of ports in all documents: 8080 the wire or everything, 8081 the scan API, 8082 console and
// admin API, 8090 record, 8091 replay, 8092 and 8093 further servers.
func TestDocs_ConsistentPorts(t *testing.T) {
	t.Parallel()
	met := map[string]bool{}
	for _, pattern := range []string{"README*.md", "docs/*.md", "docs/*.yaml", "docs/??/*.md", "docs/??/*/*.md",
		"deploy/*", "deploy/*/*", "release/package/*", "Dockerfile"} {
		names, err := filepath.Glob(filepath.Join("..", "..", pattern))
		require.True(t, err == nil && len(names) != 0, "%v %v %v", pattern, names, err)
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // a folder
			}
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				for _, one := range layout {
					for _, m := range one.line.FindAllStringSubmatch(line, -1) {
						met[one.what] = true
						assert.True(t, strings.Contains(one.ports, m[1]),
							"%s:%d: %s is on port %s, want %s: %s", name, n, one.what, m[1], one.ports, strings.TrimSpace(line))
					}
				}
			}
		}
	}
	assert.True(t, len(met) == len(layout), "met %v", met)
}
