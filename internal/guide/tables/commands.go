package tables

import (
	"encoding/json"
	"fmt"
	"slices"
)

// commandList is what "qrjump __commands" prints in one language.
type commandList struct {
	Exits []struct {
		Code          int
		Kind, Meaning string
	}
	Flags []argument // of every verb
	Verbs []verb
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

// many are how many commands share a flag that stands on the page once.
const many = 15

// commandsPage is each group with its commands, then with what they take. The flags of serve have a table of their own.
func commandsPage(list commandList) any {
	type taken struct{ Verb, Name, Help string }
	type group struct {
		Title string
		Verbs []verb
		Takes []taken
	}
	var page struct {
		commandList
		Shared, Serve []argument
		Groups        []*group
	}
	page.commandList, page.Shared = list, slices.Clone(list.Flags)
	type named struct{ name, help string }
	uses := map[named]int{}
	for _, v := range list.Verbs {
		for _, f := range v.Flags {
			if v.Name != "serve" {
				uses[named{f.Name, f.Help}]++
			}
		}
	}
	shown, groups := map[named]bool{}, map[string]*group{}
	for _, v := range list.Verbs {
		g := groups[v.Group]
		if g == nil {
			g = &group{Title: v.Group}
			groups[v.Group] = g
			page.Groups = append(page.Groups, g)
		}
		g.Verbs = append(g.Verbs, v)
		for _, one := range v.Arguments {
			g.Takes = append(g.Takes, taken{v.Name, one.Name, one.Help})
		}
		for _, f := range v.Flags {
			is := named{f.Name, f.Help}
			switch {
			case v.Name == "serve":
				page.Serve = append(page.Serve, f)
			case uses[is] < many:
				g.Takes = append(g.Takes, taken{v.Name, "--" + f.Name, f.Help})
			case !shown[is]:
				shown[is] = true
				page.Shared = append(page.Shared, f)
			}
		}
	}
	return page
}
