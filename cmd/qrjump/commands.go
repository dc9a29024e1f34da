package main

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// commandsCommand prints the table of commands for the program that prints the documents (docs/print).
type commandsCommand struct{}

// Run writes the table as JSON.
func (c *commandsCommand) Run(s *session) error { return writeCommands(s.out, s.everything()) }

func writeCommands(w io.Writer, model *kong.Application) error {
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
		Verbs []verb
	}
	for code, one := range exits {
		list.Exits = append(list.Exits, exit{code, one.kind, one.meaning})
	}
	for _, leaf := range model.Leaves(true) {
		v := verb{Name: strings.TrimPrefix(leaf.FullPath(), "qrjump "), Group: leaf.Group.Title, Help: leaf.Help,
			Example: leaf.Tag.Get("example")}
		for _, p := range leaf.Positional {
			v.Arguments = append(v.Arguments, argument{Name: p.Summary(), Help: p.Help})
		}
		for _, f := range flagsOf(leaf) {
			v.Flags = append(v.Flags, argument{f.Name, f.Help, f.Default, f.Envs})
		}
		list.Verbs = append(list.Verbs, v)
	}
	return json.NewEncoder(w).Encode(list)
}
