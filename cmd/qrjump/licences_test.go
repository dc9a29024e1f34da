package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-.].*)?$`)

// Issue 12, 10: qrjump version --licences prints the text of every licence and notice of what is built into the program. New or newer
// modules: go test -run TestLicences ./cmd/qrjump -update
func TestLicences_CoverEveryModule(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the file is made on Linux; other systems need other modules")
	}
	out, err := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}`,
		".").Output()
	require.NoError(t, err)
	modules := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(modules)
	modules = slices.DeleteFunc(slices.Compact(modules), func(s string) bool {
		return s == "" || strings.HasPrefix(s, "github.com/qrjump/qrjump/") // the Go client is a module of its own
	})
	// The standard library is in the program too.
	root, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	modules = append([]string{"Go - " + strings.TrimSpace(string(root))}, modules...)
	var names []string          // of texts, in order
	of := map[string][]string{} // text to modules
	for _, m := range modules {
		fields := strings.SplitN(m, " ", 3)
		name := strings.TrimSuffix(fields[0]+" "+fields[1], " -")
		files, err := os.ReadDir(fields[2])
		require.NoError(t, err)
		found := false
		for _, f := range files {
			if f.IsDir() || !licenceFile.MatchString(f.Name()) || strings.HasSuffix(f.Name(), ".go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(fields[2], f.Name()))
			require.NoError(t, err)
			plain := strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
			if len(of[plain]) == 0 {
				names = append(names, plain)
			}
			of[plain] = append(of[plain], name+" ("+f.Name()+")")
			found = true
		}
		assert.True(t, found, "%s has no file with a licence in %s", name, fields[2])
	}
	// The one file of others that is data and not a module.
	dictionary, err := os.ReadFile("../../internal/infra/gs1/gs1-syntax-dictionary.txt")
	require.NoError(t, err)
	_, notice, _ := strings.Cut(string(dictionary), "# Copyright")
	notice, _, _ = strings.Cut("# Copyright"+notice, "\n\n")
	notice = strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(notice, "# ", ""), "#", ""))
	names, of[notice] = append(names, notice), []string{"GS1 Barcode Syntax Dictionary (gs1-syntax-dictionary.txt)"}
	// The one script of others.
	uplot, err := os.ReadFile("../../internal/edge/console/static/uplot-LICENSE.txt")
	require.NoError(t, err)
	text := strings.TrimSpace(string(uplot))
	names, of[text] = append(names, text), []string{"uPlot 1.6.32 (uplot-LICENSE.txt)"}
	line := strings.Repeat("=", 80)
	var whole strings.Builder
	whole.WriteString("qrjump itself is under the Apache License 2.0. In the program is code of others, under the licences that follow.\n")
	entries := map[string]string{}
	for _, text := range names {
		entry := fmt.Sprintf("\n%s\n%s\n%s\n\n%s\n", line, strings.Join(of[text], "\n"), line, text)
		entries[text] = entry
		whole.WriteString(entry)
	}
	if *update {
		require.NoError(t, os.WriteFile("licences.txt", []byte(whole.String()), 0o644))
		return
	}
	for text, users := range of {
		assert.True(t, strings.Contains(licences, entries[text]),
			"licences.txt lacks the text of %s: run this test with -update", strings.Join(users, ", "))
	}
}
