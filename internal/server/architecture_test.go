package server_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// mayImport returns the packages of this module that each package may import, from testdata/may_import.txt. A new package or import is a
// decision: change that file and docs/architecture.md with it.
func mayImport(t *testing.T) map[string][]string {
	t.Helper()
	text := require.Value(os.ReadFile("testdata/may_import.txt"))(t)
	list := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		list[fields[0]] = fields[1:]
	}
	return list
}

// isTestPackage reports whether only tests use a package.
func isTestPackage(name string) bool {
	return name == "chaos/faultfs" || name == "internal/server/servertest" || strings.HasPrefix(name, "internal/testkit/")
}

const module = "github.com/qrjump/qrjump/"

func TestArchitecture_AllowedImports(t *testing.T) {
	out := require.Value(exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output())(t)
	seen, permitted := 0, mayImport(t)
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		name := strings.TrimPrefix(paths[0], module)
		allowed, listed := permitted[name]
		if !listed {
			t.Errorf("package %s is not in testdata/may_import.txt", name)
			continue
		}
		seen++
		for _, imported := range paths[1:] {
			if other, internal := strings.CutPrefix(imported, module); internal && !slices.Contains(allowed, other) {
				t.Errorf("%s must not import %s", name, other)
			} else if internal && isTestPackage(other) && !isTestPackage(name) {
				t.Errorf("%s imports the test package %s, want this only in tests", name, other)
			}
		}
		for _, other := range allowed {
			assert.True(t, slices.Contains(paths[1:], module+other),
				"%s may import %s and does not: take the permission out of testdata/may_import.txt", name, other)
		}
	}
	assert.True(t, seen == len(permitted), "the module has %d packages, testdata/may_import.txt has %d", seen, len(permitted))
}

// recompiling lists the packages whose tests recompile packages that import them: they have test files in package X, and test files in
// package X_test that import a package which imports X. Each costs up to 20 s of processor time. Do not add one: a test either uses the
// exported API, or belongs to the importing package.
var recompiling = []string{
	"internal/domain/codes", "internal/edge/api", "internal/edge/landing", "internal/edge/scanapi", "internal/server",
}

func TestArchitecture_RecompilingTests(t *testing.T) {
	out, err := exec.Command("go", "list", "-test", "-deps", "-f", "{{with .ForTest}}{{$.ImportPath}} {{.}}{{end}}", module+"...").Output()
	require.NoError(t, err)
	found := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(strings.ReplaceAll(line, module, "")) // such as: store [rules.test] rules
		if name, tested := words[0], words[2]; name != tested && name != tested+"_test" {
			found[tested] = append(found[tested], name)
		}
	}
	for tested, list := range found {
		assert.True(t, slices.Contains(recompiling, tested), "the tests of %s recompile %v, want none", tested, list)
	}
	for _, name := range recompiling {
		assert.True(t, found[name] != nil, "the tests of %s recompile no other package: remove it from recompiling", name)
	}
}

// layers lists the directories of internal/ from the lowest layer to the highest; directories in the same slice share a layer.
var layers = [][]string{{"infra"}, {"contract"}, {"eventlog"}, {"domain"}, {"print"}, {"store"}, {"edge", "emulator"}, {"server"}}

// layer returns the position of a package's layer, or -1 for packages outside the layers.
func layer(name string) int {
	dir, _, _ := strings.Cut(strings.TrimPrefix(name, "internal/"), "/")
	if !strings.HasPrefix(name, "internal/") {
		return -1
	}
	return slices.IndexFunc(layers, func(dirs []string) bool { return slices.Contains(dirs, dir) })
}

func TestLayers_NoUpwardImport(t *testing.T) {
	for name, imports := range mayImport(t) {
		from := layer(name)
		assert.True(t, from >= 0 || !strings.HasPrefix(name, "internal/") || isTestPackage(name),
			"layer(%s) = %d, want a row of layers", name, from)
		for _, other := range imports {
			to := layer(other)
			assert.True(t, from < 0 || isTestPackage(name) || to <= from, "%s imports %s, which is in a higher layer", name, other)
		}
	}
}

// TestArchitecture_PageListsPackages verifies that the table of docs/architecture.md has a row for each package and no other rows.
func TestArchitecture_PageListsPackages(t *testing.T) {
	page := require.Value(os.ReadFile("../../docs/architecture.md"))(t)
	rows := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); ok && strings.HasPrefix(line, "| `") {
			rows[name] = true
		}
	}
	for name := range mayImport(t) {
		short := strings.TrimPrefix(name, "internal/")
		other := isTestPackage(name) || short == "demo" || short == "chaos"
		assert.True(t, other || rows[short], "docs/architecture.md has no row for %s", name)
		delete(rows, short)
	}
	for name := range rows {
		t.Errorf("docs/architecture.md has a row for %s, want only packages", name)
	}
}

// TestGoMod_DependenciesCommented verifies that go.mod states the purpose of each direct dependency.
func TestGoMod_DependenciesCommented(t *testing.T) {
	file := require.Value(os.ReadFile("../../go.mod"))(t)
	_, direct, _ := strings.Cut(string(file), "require (\n")
	direct, _, _ = strings.Cut(direct, "\n)")
	count := 0
	for line := range strings.Lines(direct) {
		count++
		_, words, _ := strings.Cut(line, " // ")
		assert.True(t, len(strings.Fields(words)) >= 3, "go.mod: %s has no comment of at least three words", strings.TrimSpace(line))
	}
	assert.True(t, count >= 20, "checked %d dependencies, want at least 20", count)
}
