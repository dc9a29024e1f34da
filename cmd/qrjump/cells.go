package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// movingCell is the name under which a map lists what is being moved between cells.
const movingCell = "moving"

var (
	cellName  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	cellAppID = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,32}$`)
	cellLink  = regexp.MustCompile(`^[a-z0-9_.-]+(:[0-9]+)?(/[!$%&'()*+,./0-9:;=@_a-z~-]*)?$`)
)

type cellsCommand struct {
	Map string `required:"" placeholder:"FILE" file:"in"`
}

// cellMap is the content of the file: Default is the cell of everything that no cell lists.
type cellMap struct {
	Default string                 `yaml:"default"`
	Cells   map[string]cellContent `yaml:"cells"`
}

type cellContent struct {
	Accounts []string `yaml:"accounts"` // AppIDs of accounts and platforms
	Links    []string `yaml:"links"`    // hosts, or prefixes of codes, without scheme
}

// Run prints the map file with which HAProxy finds the cell of a request (decision 0089).
func (c *cellsCommand) Run(s *session) error {
	text, err := os.ReadFile(c.Map)
	if err != nil {
		return usageError(inReader(err).Error())
	}
	var m cellMap
	if err := safeyaml.Check(text); err != nil {
		return misused("batch_download.of", c.Map, err)
	}
	if err := yaml.UnmarshalWithOptions(text, &m, yaml.Strict()); err != nil {
		return yamlFault(c.Map, err)
	}
	lines, mistakes := m.lines()
	switch len(mistakes) {
	case 0:
	case 1:
		return misused("batch_download.of", c.Map, mistakes[0])
	default:
		return hintError{error: misused("ask.nothing_was_done", c.Map, counted(len(mistakes), "mistake")), details: mistakes}
	}
	_, err = fmt.Fprintln(s.out, strings.Join(lines, "\n"))
	return err
}

// lines returns the lines of the map file, or all mistakes of the map.
func (m cellMap) lines() (lines, mistakes []string) {
	report := func(key string, values ...any) { mistakes = append(mistakes, tr(key, values...)) }
	if _, ok := m.Cells[m.Default]; !ok || m.Default == movingCell {
		report("cells.default", m.Default)
	}
	cellOf, links := map[string]string{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(m.Cells)) {
		if !cellName.MatchString(name) {
			report("cells.name", name)
		}
		for _, appid := range m.Cells[name].Accounts {
			key := "appid/" + appid + "/"
			switch other, listed := cellOf[key]; {
			case !cellAppID.MatchString(appid):
				report("cells.appid", name, appid)
			case listed:
				report("cells.twice", appid, other, name)
			default:
				cellOf[key], cellOf["token/"+accounts.TokenMark(appid)] = name, name
			}
		}
		for _, text := range m.Cells[name].Links {
			link := strings.ToLower(text)
			if !strings.Contains(link, "/") {
				link += "/"
			}
			switch other, listed := cellOf["link/"+link]; {
			case !cellLink.MatchString(link):
				report("cells.link", name, text)
			case listed:
				report("cells.twice", text, other, name)
			default:
				cellOf["link/"+link], links = name, append(links, link)
			}
		}
	}
	// In sorted order, the prefixes of a link stand before it.
	slices.Sort(links)
	var prefixes []string
	for _, link := range links {
		for len(prefixes) > 0 && !strings.HasPrefix(link, prefixes[len(prefixes)-1]) {
			prefixes = prefixes[:len(prefixes)-1]
		}
		if n := len(prefixes); n > 0 && cellOf["link/"+prefixes[n-1]] != cellOf["link/"+link] {
			report("cells.overlap", link, cellOf["link/"+link], prefixes[n-1], cellOf["link/"+prefixes[n-1]])
		}
		prefixes = append(prefixes, link)
	}
	for _, kind := range []string{"appid/", "link/", "token/"} {
		cellOf[kind] = m.Default
	}
	// While something moves, HAProxy rejects changes through the admin addresses of the cells: the requests do not identify an account.
	cellOf["admin/"] = "open"
	if moving := m.Cells[movingCell]; len(moving.Accounts)+len(moving.Links) > 0 {
		cellOf["admin/"] = movingCell
	}
	for _, key := range slices.Sorted(maps.Keys(cellOf)) {
		lines = append(lines, key+" "+cellOf[key])
	}
	return lines, mistakes
}
