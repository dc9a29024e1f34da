package main

import (
	"encoding/json"

	"github.com/alecthomas/kong"
)

// printTables writes the command reference as JSON, in each language, for the documentation generator (docs/print).
func printTables(s *session) error {
	tr := map[reader]any{}
	for _, r := range []reader{"en", "zh"} {
		item := *s
		item.reader = r
		tr[r] = tableOf(item.fullManual())
	}
	return json.NewEncoder(s.out).Encode(tr)
}

func tableOf(m manual) any {
	type argument struct {
		Name, Help, Default string
		Envs                []string
	}
	type verb struct {
		Name, Group, Help, Example string
		Arguments, Flags           []argument
	}
	type exit struct {
		Code          int
		Kind, Meaning string
	}
	type probed struct {
		Row, Asks, Leaves, Requires string
		Calls, Publishes            int
	}
	var list struct {
		Exits  []exit
		Flags  []argument // of every verb
		Verbs  []verb
		Probes []probed
	}
	arguments := func(flags []*kong.Flag) (list []argument) {
		for _, f := range flags {
			list = append(list, argument{f.Name, f.Help, f.Default, f.Envs})
		}
		return list
	}
	for _, code := range exitCodes {
		list.Exits = append(list.Exits, exit{code, exitKind[code], m.lookup("exit." + exitKind[code])})
	}
	for _, p := range probes {
		item := probed{Row: p.row.String(), Asks: m.lookup("probe.asks." + p.row.String()), Calls: p.calls + p.rules,
			Publishes: p.publishes}
		if p.partial {
			item.Leaves = m.lookup("probe.leaves." + p.row.String())
		}
		switch {
		case p.requires != "":
			item.Requires = map[requirement]string{requireSecond: "--second-appid", requireService: "--service-appid",
				requireRefresh: "--refresh"}[p.requires]
		case !p.changes():
			item.Requires = "--read-only"
		}
		list.Probes = append(list.Probes, item)
	}
	list.Flags = arguments(flagsOf(m.Node))
	for _, leaf := range m.Leaves(true) {
		v := verb{Name: leaf.Path(), Group: leaf.ClosestGroup().Title, Help: leaf.Help, Example: m.example(leaf),
			Flags: arguments(flagsOf(leaf))}
		for _, p := range leaf.Positional {
			v.Arguments = append(v.Arguments, argument{Name: p.Summary(), Help: p.Help})
		}
		list.Verbs = append(list.Verbs, v)
	}
	return list
}
