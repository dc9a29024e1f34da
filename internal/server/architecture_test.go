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

// mayImport lists the packages of this module that each package may import. A new package, or a new import, is a decision: change this map
// and docs/architecture.md with it.
var mayImport = map[string][]string{
	"internal/contract/behaviour":   {"internal/infra/i18n"},
	"internal/contract/unsupported": {"internal/infra/i18n"},
	"internal/contract/errcode":     {"internal/contract/behaviour", "internal/infra/i18n"},
	"internal/infra/sealer":         {},
	"internal/infra/clockguard":     {"internal/infra/atomicfile"},
	"internal/infra/connlimit":      {},
	"internal/infra/certificates":   {"internal/infra/atomicfile"},
	"internal/infra/atomicfile":     {},
	"internal/infra/version":        {},
	"internal/infra/sdnotify":       {},
	"internal/infra/semaphore":      {},
	"internal/infra/ratelimit":      {},
	"internal/contract/settings": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/infra/i18n", "internal/infra/suggest",
	},
	"internal/infra/suggest":       {},
	"internal/infra/safeyaml":      {},
	"internal/domain/ruleplan":     {"client", "internal/domain/rules", "internal/infra/safeyaml", "internal/infra/suggest"},
	"internal/infra/tracing":       {},
	"internal/infra/tracing/otlp":  {"internal/infra/tracing"},
	"internal/infra/safehttp":      {"internal/infra/tracing"},
	"internal/eventlog/outbox":     {"internal/infra/safehttp"},
	"internal/domain/verification": {"internal/domain/rules", "internal/infra/i18n", "internal/infra/safehttp"},
	"internal/store/archive":       {},
	"internal/infra/adminroute":    {"internal/infra/tracing"},
	"internal/print/printpackage":  {"internal/domain/codes"},
	"internal/edge/fastpath":       {},
	"internal/edge/assets":         {},
	"internal/infra/i18n":          {},
	"internal/edge/console": {
		"client", "internal/contract/settings", "internal/domain/accounts", "internal/domain/codes", "internal/domain/iam",
		"internal/domain/ruleplan", "internal/edge/assets", "internal/edge/oidc", "internal/infra/adminroute", "internal/infra/errortext", "internal/infra/gs1",
		"internal/infra/i18n", "internal/infra/semaphore", "internal/print/labels", "internal/print/symbol",
	},
	"internal/infra/errortext": {"internal/infra/i18n"},
	"internal/edge/welcome":    {"internal/edge/assets", "internal/infra/errortext", "internal/infra/i18n"},
	"internal/edge/guide":      {"internal/edge/assets", "internal/infra/i18n"},
	"docs":                     {},
	"docs/docgen": {
		"client", "internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings",
		"internal/contract/unsupported", "internal/domain/accounts", "internal/edge/adminapi", "internal/edge/api",
		"internal/edge/guide", "internal/emulator", "internal/infra/adminroute", "internal/infra/i18n", "internal/server",
	},
	"docs/print": {"docs/docgen"},

	"internal/infra/gs1":    {},
	"internal/print/pdf":    {},
	"internal/print/symbol": {"internal/print/pdf"},
	"internal/print/labels": {"client", "internal/infra/gs1", "internal/infra/safeyaml", "internal/print/pdf", "internal/print/symbol"},

	"internal/domain/accounts": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings", "internal/eventlog/outbox",
		"internal/infra/i18n", "internal/infra/ratelimit", "internal/infra/safehttp", "internal/infra/sealer",
	},
	"internal/domain/rules": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings", "internal/domain/accounts",
		"internal/eventlog/outbox", "internal/infra/semaphore",
	},
	"internal/domain/codes": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings", "internal/domain/accounts",
		"internal/infra/gs1", "internal/infra/sealer",
	},
	"internal/domain/apiusage": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings", "internal/domain/accounts",
		"internal/infra/ratelimit",
	},
	"internal/domain/scan": {
		"internal/domain/accounts", "internal/domain/codes", "internal/domain/digitallink", "internal/domain/rules",
		"internal/infra/i18n",
	},
	"internal/domain/index":     {"internal/domain/accounts", "internal/domain/rules", "internal/infra/atomicfile"},
	"internal/domain/replica":   {"internal/domain/accounts", "internal/domain/codes", "internal/domain/index", "internal/domain/rules"},
	"internal/eventlog/scanlog": {"internal/infra/atomicfile"},
	"internal/eventlog/lake":    {"internal/eventlog/scanlog", "internal/infra/atomicfile"},
	"internal/eventlog/stream":  {"internal/eventlog/scanlog", "internal/infra/atomicfile", "internal/infra/tracing"},
	"internal/domain/alarms": {
		"internal/contract/settings", "internal/domain/accounts", "internal/domain/codes", "internal/domain/stats/hyperloglog",
		"internal/domain/stats/timebucket", "internal/eventlog/scanlog", "internal/infra/i18n",
	},
	"internal/domain/stats": {
		"internal/contract/settings", "internal/domain/accounts", "internal/domain/alarms", "internal/domain/codes",
		"internal/domain/stats/hyperloglog", "internal/domain/stats/timebucket", "internal/eventlog/scanlog", "internal/infra/tracing",
	},
	"internal/domain/stats/timebucket":  {},
	"internal/domain/stats/hyperloglog": {"internal/eventlog/scanlog"},
	"internal/domain/stats/verify": {
		"internal/domain/alarms", "internal/domain/stats", "internal/domain/stats/hyperloglog", "internal/domain/stats/timebucket",
		"internal/eventlog/scanlog",
	},

	"internal/domain/auditlog": {
		"client", "internal/domain/accounts", "internal/domain/codes", "internal/domain/replica", "internal/domain/rules",
		"internal/domain/scan", "internal/eventlog/scanlog",
	},

	"internal/domain/webhooks": {
		"internal/domain/accounts", "internal/eventlog/outbox", "internal/eventlog/scanlog", "internal/infra/safehttp",
		"internal/infra/sealer",
	},

	"internal/domain/iam": {"internal/domain/accounts", "internal/infra/sealer", "internal/infra/semaphore"},
	"internal/edge/oidc":  {"internal/domain/iam", "internal/infra/adminroute", "internal/infra/sealer", "internal/infra/semaphore"},

	"internal/domain/branding":    {"internal/domain/accounts", "internal/infra/semaphore"},
	"internal/domain/digitallink": {"internal/domain/accounts", "internal/infra/gs1"},

	"internal/store": {
		"internal/contract/errcode", "internal/domain/accounts", "internal/domain/alarms", "internal/domain/apiusage",
		"internal/domain/auditlog", "internal/domain/branding", "internal/domain/codes", "internal/domain/digitallink",
		"internal/domain/iam", "internal/domain/replica", "internal/domain/rules", "internal/domain/stats",
		"internal/domain/stats/timebucket", "internal/domain/webhooks", "internal/eventlog/outbox", "internal/eventlog/scanlog",
		"internal/infra/tracing",
	},

	"internal/edge/api": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings", "internal/contract/unsupported",
		"internal/domain/accounts", "internal/domain/apiusage", "internal/domain/codes", "internal/domain/rules",
		"internal/infra/ratelimit", "internal/print/symbol",
		"internal/infra/tracing",
	},
	"internal/edge/adminapi": {
		"client", "internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings", "internal/domain/accounts",
		"internal/domain/alarms", "internal/domain/apiusage", "internal/domain/auditlog", "internal/domain/branding",
		"internal/domain/codes", "internal/domain/digitallink", "internal/domain/iam", "internal/domain/replica",
		"internal/domain/rules", "internal/domain/scan", "internal/domain/stats", "internal/domain/stats/verify",
		"internal/domain/verification", "internal/domain/webhooks", "internal/eventlog/lake", "internal/eventlog/outbox",
		"internal/eventlog/scanlog", "internal/infra/adminroute", "internal/infra/gs1", "internal/infra/i18n",
		"internal/infra/semaphore", "internal/infra/suggest", "internal/print/labels", "internal/print/printpackage",
		"internal/print/symbol", "internal/store/archive",
	},
	"internal/edge/scanapi": {
		"client", "internal/contract/behaviour", "internal/contract/errcode", "internal/domain/accounts", "internal/domain/codes",
		"internal/domain/rules", "internal/domain/scan", "internal/edge/fastpath", "internal/eventlog/scanlog", "internal/infra/i18n",
		"internal/infra/tracing",
	},
	"internal/edge/landing": {
		"internal/contract/settings", "internal/domain/accounts", "internal/domain/branding", "internal/domain/codes",
		"internal/domain/rules", "internal/domain/scan", "internal/infra/i18n", "internal/infra/ratelimit", "internal/infra/semaphore",
		"internal/print/symbol",
	},
	"internal/emulator":     {"client", "internal/infra/adminroute", "internal/infra/suggest"},
	"internal/edge/consent": {"internal/domain/accounts", "internal/edge/assets", "internal/infra/i18n"},

	"internal/server": {
		"client", "docs", "internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings",
		"internal/domain/accounts", "internal/domain/alarms", "internal/domain/apiusage", "internal/domain/auditlog",
		"internal/domain/branding",
		"internal/domain/codes", "internal/domain/digitallink", "internal/domain/iam", "internal/domain/index",
		"internal/domain/replica", "internal/domain/rules", "internal/domain/scan", "internal/domain/stats",
		"internal/domain/verification", "internal/domain/webhooks", "internal/edge/adminapi", "internal/edge/api",
		"internal/edge/assets", "internal/edge/consent", "internal/edge/console", "internal/edge/fastpath", "internal/edge/guide",
		"internal/edge/landing", "internal/edge/oidc", "internal/edge/scanapi", "internal/edge/welcome", "internal/emulator",
		"internal/emulator/seedfile", "internal/eventlog/lake", "internal/eventlog/outbox", "internal/eventlog/scanlog",
		"internal/eventlog/stream", "internal/infra/adminroute", "internal/infra/atomicfile", "internal/infra/certificates",
		"internal/infra/clockguard", "internal/infra/connlimit", "internal/infra/i18n", "internal/infra/ratelimit",
		"internal/infra/safehttp", "internal/infra/safeyaml", "internal/infra/sdnotify", "internal/infra/sealer",
		"internal/infra/suggest", "internal/infra/version", "internal/print/printpackage", "internal/store", "internal/store/archive",
		"internal/infra/tracing",
	},

	"internal/emulator/seedfile": {"internal/domain/accounts", "internal/domain/rules"},
	"internal/emulator/cassette": {
		"internal/contract/behaviour", "internal/contract/errcode", "internal/domain/accounts", "internal/domain/rules",
		"internal/emulator/seedfile", "internal/infra/suggest",
	},

	"client":     {},
	"qrjumptest": {"client", "internal/server"},
	"cmd/qrjump": {
		"client", "internal/contract/behaviour", "internal/contract/errcode", "internal/contract/settings",
		"internal/contract/unsupported", "internal/domain/codes", "internal/domain/digitallink", "internal/domain/index",
		"internal/domain/replica", "internal/domain/ruleplan", "internal/domain/rules", "internal/domain/scan",
		"internal/domain/verification", "internal/emulator/cassette", "internal/infra/atomicfile", "internal/infra/certificates",
		"internal/domain/accounts", "internal/infra/errortext",
		"internal/infra/gs1", "internal/infra/i18n", "internal/infra/safehttp", "internal/infra/safeyaml", "internal/infra/suggest",
		"internal/infra/version", "internal/print/labels", "internal/print/printpackage", "internal/print/symbol", "internal/server",
		"internal/store/archive", "internal/infra/tracing/otlp",
	},
	"demo":   {"internal/infra/i18n"},
	"deploy": {},
	"chaos":  {},

	// Imported by tests only.
	"chaos/faultfs": {},
	"internal/server/servertest": {
		"internal/edge/adminapi", "internal/edge/api", "internal/emulator", "internal/infra/adminroute", "internal/infra/safehttp",
		"internal/server", "internal/store", "internal/testkit/assert", "internal/testkit/dbtest", "internal/testkit/require",
		"internal/testkit/testdiag",
	},
	"internal/testkit/ceilings":        {},
	"internal/testkit/vocabulary":      {},
	"internal/testkit/vocabulary/draw": {},
	"internal/testkit/proctest":        {},
	"internal/testkit/browsertest":     {"internal/testkit/require"},
	"internal/testkit/dbtest":          {"internal/testkit/require"},
	"internal/testkit/testdiag":        {},
	"internal/testkit/natstest":        {"internal/testkit/require"},
	"internal/testkit/pagetest":        {"internal/testkit/assert"},
	"internal/testkit/readtest":        {"internal/testkit/require", "internal/testkit/testscope"},
	"internal/testkit/behaviourrefs":   {"internal/contract/behaviour"},
	"internal/testkit/scantest": {
		"internal/contract/settings", "internal/domain/alarms", "internal/domain/codes", "internal/domain/rules",
		"internal/domain/stats", "internal/eventlog/scanlog", "internal/store", "internal/testkit/dbtest", "internal/testkit/storetest",
		"internal/testkit/assert", "internal/testkit/require", "internal/testkit/testscope",
	},
	"internal/testkit/assert":    {},
	"internal/testkit/require":   {"internal/testkit/assert"},
	"internal/testkit/storetest": {"internal/store", "internal/testkit/dbtest"},
	"internal/testkit/testscope": {},
}

// testsOnly says whether a package is there for tests alone.
func testsOnly(name string) bool {
	return name == "chaos/faultfs" || name == "internal/server/servertest" || strings.HasPrefix(name, "internal/testkit/")
}

const module = "github.com/qrjump/qrjump/"

func TestArchitecture_AllowedImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	require.NoError(t, err)
	seen := 0
	for line := range strings.Lines(string(out)) {
		names := strings.Fields(line)
		name := strings.TrimPrefix(names[0], module)
		allowed, listed := mayImport[name]
		if !listed {
			t.Errorf("package %s is not on the map", name)
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
				"%s may import %s and does not: take the permission off the map", name, other)
		}
	}
	assert.True(t, seen == len(mayImport), "%d packages were looked at, the map has %d", seen, len(mayImport))
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
	for name, imports := range mayImport {
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
	for name := range mayImport {
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
