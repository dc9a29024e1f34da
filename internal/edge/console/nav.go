package console

import (
	"strings"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// entry is a page of the navigation with the roles that may open it.
type entry struct {
	name, path string
	least      adminroute.Role
	all        bool // only for those who may see all accounts
	emulates   bool // only where calls are emulated
	kept       bool // where calls are emulated, only for those who may see all accounts: an emulator keeps no account with a call
}

// group is a group of pages in the navigation. Its name is a text of its own; the last one is behind a gear.
type group struct {
	name    string
	entries []entry
}

const gear = "gear"

var navigation = []group{
	{"overview", []entry{
		{name: "home", path: "/home", least: adminroute.Viewer},
	}},
	{"rules", []entry{
		{name: "rules", path: "/rules", least: adminroute.Viewer},
		{name: "scan", path: "/scan", least: adminroute.Viewer},
		{name: "gs1", path: "/gs1", least: adminroute.Viewer},
		{name: "checks", path: "/operate/checks", least: adminroute.Viewer, all: true},
	}},
	{"codes", []entry{
		{name: "codes", path: "/codes", least: adminroute.Viewer},
		{name: "orders", path: "/orders", least: adminroute.Viewer},
		{name: "packages", path: "/packages", least: adminroute.Viewer},
	}},
	{"scans", []entry{
		{name: "statistics", path: "/statistics", least: adminroute.Viewer},
		{name: "scans", path: "/statistics/scans", least: adminroute.Viewer},
		{name: "alarms", path: "/alarms", least: adminroute.Viewer},
	}},
	{"developer", []entry{
		{name: "calls", path: "/calls", least: adminroute.Viewer, kept: true},
		{name: "deviations", path: "/calls/deviations", least: adminroute.Viewer},
		{name: "behaviours", path: "/calls/behaviours", least: adminroute.Viewer},
		{name: "emulator", path: "/emulator", least: adminroute.Viewer, all: true, emulates: true},
	}},
	{gear, []entry{
		{name: "accounts", path: "/accounts", least: adminroute.Viewer},
		{name: "platforms", path: "/platforms", least: adminroute.Viewer, all: true},
		{name: "people", path: "/people", least: adminroute.Admin},
		{name: "settings", path: "/operate/settings", least: adminroute.Viewer, all: true},
		{name: "apps", path: "/operate/apps", least: adminroute.Operator, all: true},
		{name: "webhooks", path: "/operate/webhooks", least: adminroute.Operator, all: true},
		{name: "bulk", path: "/operate/bulk", least: adminroute.Viewer},
		{name: "nodes", path: "/operate", least: adminroute.Operator, all: true},
		{name: "audit", path: "/operate/audit", least: adminroute.Operator, all: true},
	}},
}

// opens reports whether a caller may open the page.
func (e entry) opens(caller iam.Caller, emulates bool) bool {
	limited := len(caller.Accounts) > 0
	return adminroute.Role(caller.Role).AtLeast(e.least) && (emulates || !e.emulates) && !(limited && (e.all || e.kept && emulates))
}

// section is a group as a person sees it.
type section struct {
	Name   string
	Gear   bool
	Here   bool // the page is one of its places
	Places []place
}

// place is a page of the navigation.
type place struct {
	Name, Path string
	Here       bool
	Count      string // of what waits there; "" = nothing
}

// Sections returns the navigation: what opens for the reader, and nothing else. The place that is marked is the one whose address is the
// longest beginning of this page's.
func (v view) Sections() []section {
	if v.sections != nil { // a page asks more than once
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
			path := Root + e.path
			if isBelowPage(v.r.URL.Path, path) && len(path) > longest {
				values, longest = [2]int{len(list), len(s.Places)}, len(path)
			}
			s.Places = append(s.Places, place{Name: e.name, Path: path, Count: v.waiting(e.name)})
		}
		if len(s.Places) > 0 {
			list = append(list, s)
		}
	}
	if longest > 0 {
		list[values[0]].Here, list[values[0]].Places[values[1]].Here = true, true
	}
	v.sections = list
	return list
}

// waiting returns the number of open alarms for their entry. A page about a fault does not ask: it may be the store's.
func (v view) waiting(entry string) string {
	if entry != "alarms" || v.Name == "fault" {
		return ""
	}
	open, err := v.api.Alarms.CountOpen(v.ctx(), v.account())
	switch {
	case err != nil || open == 0: // the page is shown without the number
		return ""
	case open >= mostAlarms:
		return separated(mostAlarms) + "+"
	}
	return separated(open)
}

// mostAlarms is the number at which the server stops counting.
const mostAlarms = 1000

// isBelowPage reports whether an address is a page's, or one of those below it.
func isBelowPage(address, page string) bool {
	return address == page || strings.HasPrefix(address, page+"/")
}
