package server_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the map of the house: arrows point inward. A package that is
// not here, or an arrow that is not, is a decision: change this map and
// docs/architecture.md with it.
var mayImport = map[string][]string{
	"internal/behaviour":    {"internal/phrase"},
	"internal/notoffered":   {"internal/phrase"},
	"internal/errcode":      {"internal/behaviour", "internal/phrase"},
	"internal/vault":        {},
	"internal/wallclock":    {},
	"internal/admission":    {},
	"internal/certificates": {"internal/durable"},
	"internal/durable":      {},
	"internal/version":      {},
	"internal/supervisor":   {},
	"internal/turns":        {},
	"internal/pace":         {},
	"internal/settings":     {"internal/behaviour", "internal/phrase", "internal/spelling"},
	"internal/spelling":     {},
	"internal/yamltext":     {},
	"internal/ruleplan":     {"client", "internal/rules", "internal/spelling", "internal/yamltext"},
	"internal/outbound":     {},
	"internal/outbox":       {"internal/outbound"},
	"internal/verification": {"internal/outbound", "internal/phrase", "internal/rules"},
	"internal/archive":      {},
	"internal/operations":   {},
	"internal/parcel":       {"internal/codes"},
	"internal/lane":         {},
	"internal/look":         {},
	"internal/phrase":       {},
	"internal/console": {"client", "internal/accounts", "internal/look", "internal/operations", "internal/people",
		"internal/gs1", "internal/labels", "internal/phrase", "internal/provider", "internal/refusal",
		"internal/ruleplan", "internal/settings", "internal/symbol", "internal/turns"},
	"internal/refusal": {"internal/phrase"},
	"internal/start":   {"internal/look", "internal/phrase", "internal/refusal"},
	"internal/guide":   {"internal/look", "internal/phrase"},
	"docs":             {},
	"internal/guide/tables": {"client", "internal/accounts", "internal/adminapi", "internal/api", "internal/behaviour",
		"internal/emulator", "internal/errcode", "internal/guide", "internal/notoffered", "internal/operations",
		"internal/phrase", "internal/server", "internal/settings"},
	"docs/print": {"internal/guide/tables"},

	"internal/gs1":    {},
	"internal/pdf":    {},
	"internal/symbol": {"internal/pdf"},
	"internal/labels": {"internal/gs1", "internal/pdf", "internal/symbol", "internal/yamltext"},

	"internal/accounts": {"internal/behaviour", "internal/errcode", "internal/outbound", "internal/outbox", "internal/pace",
		"internal/phrase", "internal/settings", "internal/vault"},
	"internal/rules": {"internal/behaviour", "internal/accounts", "internal/errcode", "internal/outbox", "internal/settings"},
	"internal/codes": {"internal/behaviour", "internal/accounts", "internal/errcode", "internal/gs1",
		"internal/settings", "internal/vault"},
	"internal/calls":  {"internal/behaviour", "internal/errcode", "internal/pace", "internal/settings"},
	"internal/scan":   {"internal/accounts", "internal/codes", "internal/phrase", "internal/rules", "internal/digitallink"},
	"internal/index":  {"internal/accounts", "internal/rules"},
	"internal/live":   {"internal/accounts", "internal/codes", "internal/index", "internal/rules"},
	"internal/ledger": {"internal/durable"},
	"internal/lake":   {"internal/durable", "internal/ledger"},
	"internal/stream": {"internal/durable", "internal/ledger"},
	"internal/alarms": {"internal/codes", "internal/ledger", "internal/phrase", "internal/settings", "internal/stats/calendar",
		"internal/stats/sketch"},
	"internal/stats": {"internal/alarms", "internal/codes", "internal/ledger", "internal/settings", "internal/stats/calendar",
		"internal/stats/sketch"},
	"internal/stats/calendar": {},
	"internal/stats/sketch":   {"internal/ledger"},
	"internal/stats/recount": {"internal/alarms", "internal/ledger", "internal/stats", "internal/stats/calendar",
		"internal/stats/sketch"},

	"internal/history": {"internal/accounts", "internal/codes", "internal/ledger", "internal/live", "internal/rules", "internal/scan"},

	"internal/webhooks": {"internal/accounts", "internal/ledger", "internal/outbound", "internal/outbox", "internal/vault"},

	"internal/people":   {"internal/accounts", "internal/turns", "internal/vault"},
	"internal/provider": {"internal/operations", "internal/people", "internal/turns", "internal/vault"},

	"internal/appearance":  {"internal/accounts", "internal/turns"},
	"internal/digitallink": {"internal/accounts", "internal/gs1"},

	"internal/store": {"internal/alarms", "internal/people", "internal/errcode",
		"internal/accounts", "internal/appearance", "internal/codes", "internal/history", "internal/ledger", "internal/live",
		"internal/outbox", "internal/rules", "internal/calls", "internal/stats", "internal/stats/calendar",
		"internal/webhooks", "internal/digitallink"},

	"internal/api": {"internal/behaviour", "internal/accounts", "internal/codes", "internal/errcode", "internal/rules", "internal/settings",
		"internal/calls", "internal/notoffered", "internal/pace", "internal/symbol"},
	"internal/adminapi": {"internal/alarms", "internal/behaviour", "internal/accounts", "internal/appearance", "internal/archive",
		"internal/calls", "internal/codes",
		"internal/errcode",
		"internal/history",
		"internal/lake", "internal/ledger", "internal/live", "internal/outbox", "internal/rules", "internal/scan", "internal/settings",
		"internal/stats", "internal/stats/recount",
		"internal/webhooks", "client", "internal/labels", "internal/operations", "internal/parcel", "internal/people", "internal/phrase",
		"internal/spelling", "internal/symbol", "internal/turns", "internal/verification", "internal/digitallink", "internal/gs1"},
	"internal/scanapi": {"internal/accounts", "internal/behaviour", "internal/codes", "internal/errcode", "internal/lane",
		"internal/ledger", "internal/phrase", "internal/rules",
		"internal/scan"},
	"internal/gateway": {"internal/accounts", "internal/appearance", "internal/codes", "internal/phrase", "internal/rules", "internal/scan",
		"internal/pace", "internal/settings", "internal/symbol", "internal/turns"},
	"internal/emulator": {"internal/operations", "internal/spelling"},
	"internal/consent":  {"internal/accounts", "internal/look", "internal/phrase"},

	"internal/server": {"internal/accounts", "internal/adminapi", "internal/alarms",
		"internal/appearance", "internal/api", "internal/archive",
		"internal/codes", "internal/consent",
		"internal/emulator", "internal/errcode", "internal/gateway", "internal/history", "internal/index", "internal/lane",
		"internal/lake", "internal/ledger", "internal/live", "internal/outbound", "internal/outbox", "internal/phrase",
		"internal/rules", "internal/scan", "internal/scanapi", "internal/settings", "internal/stats", "internal/store", "internal/stream",
		"internal/version", "internal/supervisor", "internal/wallclock", "internal/admission", "internal/certificates", "internal/durable",
		"internal/behaviour", "internal/calls", "internal/vault", "internal/webhooks", "internal/operations", "internal/spelling",
		"internal/console", "internal/look", "internal/parcel", "internal/people", "internal/provider", "internal/start", "internal/guide",
		"internal/verification", "docs",
		"internal/seedfile", "internal/yamltext", "internal/digitallink", "internal/pace"},

	"internal/seedfile": {"internal/accounts"},
	"internal/cassette": {"internal/accounts", "internal/behaviour", "internal/errcode", "internal/seedfile", "internal/spelling"},

	"client":     {},
	"qrjumptest": {"client", "internal/server"},
	"cmd/qrjump": {"client", "internal/archive", "internal/behaviour", "internal/cassette",
		"internal/certificates", "internal/codes", "internal/digitallink", "internal/errcode", "internal/gs1",
		"internal/index", "internal/labels", "internal/live", "internal/notoffered", "internal/outbound", "internal/parcel",
		"internal/phrase", "internal/refusal", "internal/rules", "internal/scan", "internal/server", "internal/settings",
		"internal/spelling", "internal/symbol", "internal/verification", "internal/version", "internal/ruleplan", "internal/yamltext"},
	"demo":      {"internal/phrase"},
	"deploy":    {},
	"endurance": {},

	// Imported by tests only.
	"endurance/powercut": {},
	"internal/server/servertest": {"internal/adminapi", "internal/api", "internal/emulator", "internal/operations", "internal/outbound",
		"internal/server", "internal/store", "internal/testkit/dbtest", "internal/testkit/failure"},
	"internal/testkit/ceilings":    {},
	"internal/testkit/childtest":   {},
	"internal/testkit/browsertest": {},
	"internal/testkit/dbtest":      {},
	"internal/testkit/failure":     {},
	"internal/testkit/natstest":    {},
	"internal/testkit/pagetest":    {},
	"internal/testkit/readtest":    {"internal/testkit/whole"},
	"internal/testkit/rowtest":     {"internal/behaviour"},
	"internal/testkit/scantest": {"internal/alarms", "internal/codes", "internal/ledger", "internal/rules", "internal/settings",
		"internal/stats", "internal/store", "internal/testkit/dbtest",
		"internal/testkit/storetest", "internal/testkit/whole"},
	"internal/testkit/require":   {},
	"internal/testkit/storetest": {"internal/store", "internal/testkit/dbtest"},
	"internal/testkit/whole":     {},
}

// testsOnly says whether a package is there for tests alone.
func testsOnly(name string) bool {
	return name == "endurance/powercut" || name == "internal/server/servertest" || strings.HasPrefix(name, "internal/testkit/")
}

func TestPackagesImportOnlyWhatTheMapAllows(t *testing.T) {
	const module = "github.com/qrjump/qrjump/"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
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
			if !slices.Contains(names[1:], module+other) {
				t.Errorf("%s may import %s and does not: take the permission off the map", name, other)
			}
		}
	}
	if seen != len(mayImport) {
		t.Errorf("%d packages were looked at, the map has %d", seen, len(mayImport))
	}
}

// Every room stands in the table of docs/architecture.md, and nothing else does.
func TestThePageOfTheArchitectureNamesEveryPackage(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if name, _, is := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); is && strings.HasPrefix(line, "| `") {
			rooms[name] = true
		}
	}
	for name := range mayImport {
		short := strings.TrimPrefix(name, "internal/")
		if other := testsOnly(name) || short == "demo" || short == "endurance"; !other && !rooms[short] {
			t.Errorf("docs/architecture.md has no row for %s", name)
		}
		delete(rooms, short)
	}
	for name := range rooms {
		t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
	}
}

// Every library that is used directly says in go.mod what it is here for.
func TestEveryDependencySaysWhatItIsFor(t *testing.T) {
	file, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, direct, _ := strings.Cut(string(file), "require (\n")
	direct, _, _ = strings.Cut(direct, "\n)")
	count := 0
	for line := range strings.Lines(direct) {
		count++
		if _, words, _ := strings.Cut(line, " // "); len(strings.Fields(words)) < 3 {
			t.Errorf("go.mod: %s has no words", strings.TrimSpace(line))
		}
	}
	if count < 20 {
		t.Errorf("%d dependencies were looked at", count)
	}
}
