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

// TestLicences_CoverEveryModule verifies that qrjump version --licences prints every licence and notice of the code in the program. After
// a change of modules: go test -run TestLicences ./cmd/qrjump -update
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
		return s == "" || strings.HasPrefix(s, "github.com/qrjump/qrjump/") // the Go client is a separate module
	})
	// The program contains the standard library too.
	root := require.Value(exec.Command("go", "env", "GOROOT").Output())(t)
	modules = append([]string{"Go - " + strings.TrimSpace(string(root))}, modules...)
	var licenceTexts []string      // in order
	users := map[string][]string{} // text to modules
	for _, m := range modules {
		fields := strings.SplitN(m, " ", 3)
		name := strings.TrimSuffix(fields[0]+" "+fields[1], " -")
		files := require.Value(os.ReadDir(fields[2]))(t)
		found := false
		for _, f := range files {
			if f.IsDir() || !licenceFile.MatchString(f.Name()) || strings.HasSuffix(f.Name(), ".go") {
				continue
			}
			text := require.Value(os.ReadFile(filepath.Join(fields[2], f.Name())))(t)
			plain := strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
			if len(users[plain]) == 0 {
				licenceTexts = append(licenceTexts, plain)
			}
			users[plain] = append(users[plain], name+" ("+f.Name()+")")
			found = true
		}
		assert.True(t, found, "%s has no licence file in %s", name, fields[2])
	}
	// Third-party data outside of modules.
	dictionary := require.Value(os.ReadFile("../../internal/infra/gs1/gs1-syntax-dictionary.txt"))(t)
	_, notice, _ := strings.Cut(string(dictionary), "# Copyright")
	notice, _, _ = strings.Cut("# Copyright"+notice, "\n\n")
	notice = strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(notice, "# ", ""), "#", ""))
	licenceTexts, users[notice] = append(licenceTexts, notice), []string{"GS1 Barcode Syntax Dictionary (gs1-syntax-dictionary.txt)"}
	// Third-party JavaScript.
	uplot := require.Value(os.ReadFile("../../internal/edge/console/static/uplot-LICENSE.txt"))(t)
	text := strings.TrimSpace(string(uplot))
	licenceTexts, users[text] = append(licenceTexts, text), []string{"uPlot 1.6.32 (uplot-LICENSE.txt)"}
	line := strings.Repeat("=", 80)
	var file strings.Builder
	file.WriteString("qrjump itself is under the Apache License 2.0. In the program is code of others, under the licences that follow.\n")
	for _, text := range licenceTexts {
		entry := fmt.Sprintf("\n%s\n%s\n%s\n\n%s\n", line, strings.Join(users[text], "\n"), line, text)
		file.WriteString(entry)
		assert.True(t, *update || strings.Contains(licences, entry),
			"licences.txt lacks the text of %s: run this test with -update", strings.Join(users[text], ", "))
	}
	if *update {
		require.NoError(t, os.WriteFile("licences.txt", []byte(file.String()), 0o644))
	}
}
