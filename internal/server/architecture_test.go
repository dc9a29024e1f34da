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

// mayImport lists the packages of this module that each package may import, a package a line in testdata/may_import.txt. A new package, or
// a new import, is a decision: change this file and docs/architecture.md with it.
func mayImport(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/may_import.txt")
	require.NoError(t, err)
	list := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		names := strings.Fields(line)
		list[names[0]] = names[1:]
	}
	return list
}

// testsOnly says whether a package is there for tests alone.
func testsOnly(name string) bool {
	return name == "chaos/faultfs" || name == "internal/server/servertest" || strings.HasPrefix(name, "internal/testkit/")
}

const module = "github.com/qrjump/qrjump/"

func TestArchitecture_AllowedImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	require.NoError(t, err)
	seen, permitted := 0, mayImport(t)
	for line := range strings.Lines(string(out)) {
		names := strings.Fields(line)
		name := strings.TrimPrefix(names[0], module)
		allowed, listed := permitted[name]
		if !listed {
			t.Errorf("package %s is not in testdata/may_import.txt", name)
			continue
		}
		seen++
		for _, imported := range names[1:] {
			if other, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(allowed, other) {
				t.Errorf("%s must not import %s", name, other)
			} else if ours && testsOnly(other) && !testsOnly(name) {
				t.Errorf("%s is no test, and imports %s", name, other)
			}
		}
		for _, other := range allowed {
			assert.True(t, slices.Contains(names[1:], module+other),
				"%s may import %s and does not: take the permission out of testdata/may_import.txt", name, other)
		}
	}
	assert.True(t, seen == len(permitted), "%d packages were looked at, testdata/may_import.txt has %d", seen, len(permitted))
}

// recompiling lists the packages whose tests compile packages above them again: they have test files in the package, and test files in
// package X_test that import a package which imports X. That costs up to 20 s of processor time each. Do not add one: a test uses the
// exported API, or is a test of the package above.
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
		assert.True(t, slices.Contains(recompiling, tested), "the tests of %s compile %v again, want none", tested, list)
	}
	for _, name := range recompiling {
		assert.True(t, found[name] != nil, "the tests of %s compile no other package again: take it off recompiling", name)
	}
}

// layers lists the directories of internal/ from the lowest layer to the highest; those of one line share a layer.
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
		assert.True(t, from >= 0 || !strings.HasPrefix(name, "internal/") || testsOnly(name),
			"layer(%s) = %d, want a row of layers", name, from)
		for _, other := range imports {
			to := layer(other)
			assert.True(t, from < 0 || testsOnly(name) || to <= from, "%s imports %s, which is in a higher layer", name, other)
		}
	}
}

// Every package stands in the table of docs/architecture.md, and nothing else does.
func TestArchitecture_PageListsPackages(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	rooms := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if name, _, is := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); is && strings.HasPrefix(line, "| `") {
			rooms[name] = true
		}
	}
	for name := range mayImport(t) {
		short := strings.TrimPrefix(name, "internal/")
		other := testsOnly(name) || short == "demo" || short == "chaos"
		assert.True(t, other || rooms[short], "docs/architecture.md has no row for %s", name)
		delete(rooms, short)
	}
	for name := range rooms {
		t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
	}
}

// Every library that is used directly says in go.mod what it is here for.
func TestGoMod_DependenciesCommented(t *testing.T) {
	file, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	_, direct, _ := strings.Cut(string(file), "require (\n")
	direct, _, _ = strings.Cut(direct, "\n)")
	count := 0
	for line := range strings.Lines(direct) {
		count++
		_, words, _ := strings.Cut(line, " // ")
		assert.True(t, len(strings.Fields(words)) >= 3, "go.mod: %s has no words", strings.TrimSpace(line))
	}
	assert.True(t, count >= 20, "%d dependencies were looked at", count)
}
