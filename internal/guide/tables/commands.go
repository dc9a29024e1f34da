package tables

import (
	"encoding/json"
	"fmt"
	"slices"
)

// commandList is what "qrjump __commands" prints.
type commandList struct {
	Exits []struct {
		Code          int
		Kind, Meaning string
	}
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

func readCommands(text []byte) (list commandList, err error) {
	if err = json.Unmarshal(text, &list); err != nil || len(list.Verbs) == 0 {
		err = fmt.Errorf("these are no commands: %.80q (%w)", text, err)
	}
	return list, err
}

// commandTexts is docs/commands.yaml: the Chinese of what the commands say in English.
type commandTexts struct{ Groups, Exits, Verbs, Serve, Flags map[string]string }

// inLanguage is a text of the commands in the language of the page.
func (p *press) inLanguage(l language, chinese map[string]string, name, english string) string {
	if !l.chinese {
		return english
	}
	if chinese[name] == "" {
		p.lacks("docs/commands.yaml lacks the Chinese of %q: %s", name, english)
	}
	return chinese[name]
}

// many are how many commands share a flag that stands on the page once.
const many = 15

// commandsPage is each group with its commands, then with what they take. The flags of serve have a table of their own.
func (p *press) commandsPage(l language, list commandList) any {
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
	page.commandList = list
	page.Exits = slices.Clone(list.Exits)
	for i, one := range page.Exits {
		page.Exits[i].Meaning = p.inLanguage(l, p.commands.Exits, one.Kind, one.Meaning)
	}
	type named struct{ name, help string }
	uses, said := map[named]int{}, map[string]bool{}
	for _, v := range list.Verbs {
		for _, one := range v.Arguments {
			said[one.Help] = true
		}
		for _, f := range v.Flags {
			if v.Name != "serve" {
				uses[named{f.Name, f.Help}]++
				said[f.Help] = true
			}
		}
	}
	for text := range p.commands.Flags {
		if !said[text] && l.chinese {
			p.lacks("docs/commands.yaml has the Chinese of %q, which no flag says", text)
		}
	}
	shown, groups := map[named]bool{}, map[string]*group{}
	for _, v := range list.Verbs {
		g := groups[v.Group]
		if g == nil {
			g = &group{Title: p.inLanguage(l, p.commands.Groups, v.Group, v.Group)}
			groups[v.Group] = g
			page.Groups = append(page.Groups, g)
		}
		v.Help = p.inLanguage(l, p.commands.Verbs, v.Name, v.Help)
		g.Verbs = append(g.Verbs, v)
		for _, one := range v.Arguments {
			g.Takes = append(g.Takes, taken{v.Name, one.Name, p.inLanguage(l, p.commands.Flags, one.Help, one.Help)})
		}
		for _, f := range v.Flags {
			is := named{f.Name, f.Help}
			switch {
			case v.Name == "serve":
				f.Help = p.inLanguage(l, p.commands.Serve, f.Name, f.Help)
				page.Serve = append(page.Serve, f)
			case uses[is] < many:
				g.Takes = append(g.Takes, taken{v.Name, "--" + f.Name, p.inLanguage(l, p.commands.Flags, f.Help, f.Help)})
			case !shown[is]:
				shown[is] = true
				f.Help = p.inLanguage(l, p.commands.Flags, f.Help, f.Help)
				page.Shared = append(page.Shared, f)
			}
		}
	}
	return page
}
