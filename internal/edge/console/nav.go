package console

import (
	"strings"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// entry is a page in the navigation with the minimum role that may open the page.
type entry struct {
	name, path string
	also       string // path of another page of the entry; tabs lead to it
	least      adminroute.Role
	all        bool // only for callers who may see all accounts
	emulates   bool // only on an emulator
	kept       bool // an emulator stores calls without accounts, so it shows the page only to callers with access to all accounts
}

// group is a group of navigation entries. The group's name is a text key; the last group is shown behind a gear icon.
type group struct {
	name    string
	entries []entry
}

const gear = "gear"

var navigation = []group{
	{"overview", []entry{
		{name: "home", path: "/home", least: adminroute.Viewer},
	}}, {"rules", []entry{
		{name: "rules", path: "/rules", least: adminroute.Viewer},
		{name: "scan", path: "/scan", least: adminroute.Viewer},
		{name: "gs1", path: "/gs1", least: adminroute.Viewer},
		{name: "checks", path: "/operate/checks", least: adminroute.Viewer, all: true},
	}}, {"codes", []entry{
		{name: "codes", path: "/codes", also: "/orders", least: adminroute.Viewer},
		{name: "packages", path: "/packages", least: adminroute.Viewer},
	}}, {"scans", []entry{
		{name: "statistics", path: "/statistics", least: adminroute.Viewer},
		{name: "scans", path: "/statistics/scans", least: adminroute.Viewer},
		{name: "alarms", path: "/alarms", also: "/cases", least: adminroute.Viewer},
	}}, {"developer", []entry{
		{name: "calls", path: "/calls", least: adminroute.Viewer, kept: true},
		{name: "deviations", path: "/calls/deviations", also: "/calls/behaviours", least: adminroute.Viewer},
		{name: "emulator", path: "/emulator", least: adminroute.Viewer, all: true, emulates: true},
	}}, {gear, []entry{
		{name: "accounts", path: "/accounts", least: adminroute.Viewer},
		{name: "platforms", path: "/platforms", least: adminroute.Viewer, all: true},
		{name: "people", path: "/people", least: adminroute.Admin},
		{name: "settings", path: "/operate/settings", least: adminroute.Viewer, all: true},
		{name: "apps", path: "/operate/apps", least: adminroute.Operator, all: true},
		{name: "webhooks", path: "/operate/webhooks", least: adminroute.Operator, all: true},
		{name: "bulk", path: "/operate/bulk", least: adminroute.Viewer},
		{name: "health", path: "/health", least: adminroute.Operator, all: true},
		{name: "nodes", path: "/operate", least: adminroute.Operator, all: true},
		{name: "audit", path: "/operate/audit", least: adminroute.Operator, all: true},
	}},
}

// opens reports whether a caller may open the page of the entry.
func (e entry) opens(caller iam.Caller, emulates bool) bool {
	limited := len(caller.Accounts) > 0
	return adminroute.Role(caller.Role).AtLeast(e.least) && (emulates || !e.emulates) && !(limited && (e.all || e.kept && emulates))
}

// section is a navigation group as shown to a person.
type section struct {
	Name    string
	Gear    bool
	Current bool // the current page belongs to the section
	Places  []place
}

// place is a navigation entry as shown to a person.
type place struct {
	Name, Path string
	Current    bool
	Count      string // number of waiting items; "" = none
}

// Sections returns the navigation entries that the reader may open. The highlighted entry is the entry whose path is the longest
// prefix of the current path.
func (v view) Sections() []section {
	if v.sections != nil { // a page calls Sections several times
		return v.sections
	}
	var list []section
	values, longest := [2]int{}, 0
	for _, g := range navigation {
		s := section{Name: g.name, Gear: g.name == gear}
		for _, e := range g.entries {
			if !e.opens(v.caller, v.c.Emulates) {
				continue
			}
			for _, path := range []string{e.path, e.also} {
				if path != "" && isBelowPage(v.r.URL.Path, Root+path) && len(path) > longest {
					values, longest = [2]int{len(list), len(s.Places)}, len(path)
				}
			}
			s.Places = append(s.Places, place{Name: e.name, Path: Root + e.path, Count: v.waiting(e.name)})
		}
		if len(s.Places) > 0 {
			list = append(list, s)
		}
	}
	if longest > 0 {
		list[values[0]].Current, list[values[0]].Places[values[1]].Current = true, true
	}
	v.sections = list
	return list
}

// waiting returns the number of open alarms for the entry of the alarms page. An error page skips the query, because the database
// may be the cause of the error.
func (v view) waiting(entry string) string {
	if entry != "alarms" || v.Name == "error" {
		return ""
	}
	open, err := v.api.Alarms.CountUnacknowledged(v.ctx(), v.Account())
	switch {
	case err != nil || open == 0: // on an error the page is shown without the number of open alarms
		return ""
	case open >= maxAlarms:
		return separated(maxAlarms) + "+"
	}
	return separated(open)
}

// maxAlarms is the number at which the server stops counting alarms.
const maxAlarms = 1000

// isBelowPage reports whether a path is the path of a page or lies below that path.
func isBelowPage(address, page string) bool {
	return address == page || strings.HasPrefix(address, page+"/")
}
