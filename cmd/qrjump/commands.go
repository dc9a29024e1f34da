package main

import (
	"encoding/json"

	"github.com/alecthomas/kong"
)

// commandsCommand prints the table of commands for the program that prints the documents (docs/print).
type commandsCommand struct{}

// Run writes the table as JSON, in each language.
func (c *commandsCommand) Run(s *session) error {
	said := map[reader]any{}
	for _, r := range []reader{"en", "zh"} {
		one := *s
		one.reader = r
		said[r] = tableOf(one.everything())
	}
	return json.NewEncoder(s.out).Encode(said)
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
	var list struct {
		Exits []exit
		Flags []argument // of every verb
		Verbs []verb
	}
	arguments := func(flags []*kong.Flag) (list []argument) {
		for _, f := range flags {
			list = append(list, argument{f.Name, f.Help, f.Default, f.Envs})
		}
		return list
	}
	for code, kind := range exits {
		list.Exits = append(list.Exits, exit{code, kind, m.says("exit." + kind)})
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
