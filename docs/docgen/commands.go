package docgen

import (
	"encoding/json"
	"fmt"
	"slices"
)

// commandList is the output of "qrjump help --all --output json" in one language.
type commandList struct {
	Exits []struct {
		Code          int
		Kind, Meaning string
	}
	Flags  []argument // of every verb
	Verbs  []verb
	Probes []probed
}

// probed is a behaviour row that "qrjump probe" can test.
type probed struct {
	Row, Asks, Leaves, Requires string
	Calls, Publishes            int
}

type verb struct {
	Name, Group, Help, Example string
	Arguments                  []argument
	Flags                      []argument
}

type argument struct {
	Name, Help, Default string
	Envs                []string
}

func readCommands(text []byte) (lists map[string]commandList, err error) {
	if err = json.Unmarshal(text, &lists); err != nil || len(lists["en"].Verbs) == 0 {
		err = fmt.Errorf("these are no commands: %.80q (%w)", text, err)
	}
	return lists, err
}

// sharedFlagLimit is the number of commands from which a shared flag is listed once.
const sharedFlagLimit = 15

// taken is an argument or a flag, with the commands of a group that use it with the same meaning.
type taken struct {
	Verbs      []string
	Name, Help string
}

type commandGroup struct {
	Title string
	Verbs []verb
	Takes []*taken
}

func (g *commandGroup) take(verb, name, help string) {
	for _, t := range g.Takes {
		if t.Name == name && t.Help == help {
			t.Verbs = append(t.Verbs, verb)
			return
		}
	}
	g.Takes = append(g.Takes, &taken{[]string{verb}, name, help})
}

// commandsPage returns each group with its commands, followed by their arguments and flags. The flags of serve have a separate
// table, which also applies to run.
func commandsPage(list commandList) any {
	var page struct {
		commandList
		Shared, Serve []argument
		Groups        []*commandGroup
	}
	page.commandList, page.Shared = list, slices.Clone(list.Flags)
	type named struct{ name, help string }
	uses, serve := map[named]int{}, map[named]bool{}
	for _, v := range list.Verbs {
		for _, f := range v.Flags {
			if v.Name == "serve" {
				page.Serve = append(page.Serve, f)
				serve[named{f.Name, f.Help}] = true
			} else {
				uses[named{f.Name, f.Help}]++
			}
		}
	}
	shown, groups := map[named]bool{}, map[string]*commandGroup{}
	for _, v := range list.Verbs {
		g := groups[v.Group]
		if g == nil {
			g = &commandGroup{Title: v.Group}
			groups[v.Group] = g
			page.Groups = append(page.Groups, g)
		}
		g.Verbs = append(g.Verbs, v)
		for _, a := range v.Arguments {
			g.take(v.Name, a.Name, a.Help)
		}
		for _, f := range v.Flags {
			is := named{f.Name, f.Help}
			switch {
			case v.Name == "serve", v.Name == "run" && serve[is]:
			case uses[is] < sharedFlagLimit:
				g.take(v.Name, "--"+f.Name, f.Help)
			case !shown[is]:
				shown[is] = true
				page.Shared = append(page.Shared, f)
			}
		}
	}
	return page
}
