// Package behaviourrefs reads from the source which rows of the table of behaviours a line of the product or of a test names.
package behaviourrefs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
)

// Named lists the places that name a row, each by file and line.
type Named struct {
	Recorded map[string]string // by code: a call that meets them carries them
	Said     map[string]string // by a comment of the product
	Tested   map[string]string // by a comment of a test
	Faults   []string          // comments that name no row, or another mark than the row's
}

var (
	saying = regexp.MustCompile(`\b(Observed|Documented|Inferred|Assumed|Behaviour)\(([a-z_.]+)\)`)
	bare   = regexp.MustCompile(`\b(Assumed|Choice|Inferred):`)
)

// Read reads the module's source below a folder.
func Read(root string) (Named, error) {
	n := Named{Recorded: map[string]string{}, Said: map[string]string{}, Tested: map[string]string{}}
	ids, err := constants(filepath.Join(root, "internal", "contract", "behaviour"))
	if err != nil {
		return n, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".txt") {
			return err
		}
		if d.IsDir() {
			_, module := os.Stat(filepath.Join(path, "go.mod"))
			skip := path != root && module == nil || strings.HasPrefix(d.Name(), ".") && path != root ||
				strings.HasSuffix(path, "internal/contract/behaviour") || strings.HasSuffix(path, "testkit/behaviourrefs")
			if skip {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".txt") {
			return n.transcript(path)
		}
		return n.file(path, ids)
	})
	return n, err
}

// transcript reads the comments of a data file of tests.
func (n *Named) transcript(path string) error {
	text, err := os.ReadFile(path)
	for i, line := range strings.Split(string(text), "\n") {
		if strings.Contains(path, "/testdata/") && strings.HasPrefix(line, "#") {
			n.comment(fmt.Sprintf("%s:%d", path, i+1), line, true)
		}
	}
	return err
}

// comment reads a comment of the product or of a test.
func (n *Named) comment(location, text string, test bool) {
	if bare.MatchString(text) {
		n.Faults = append(n.Faults, location+": a choice or an inference without a row: "+text)
	}
	for _, found := range saying.FindAllStringSubmatch(text, -1) {
		word, id := found[1], found[2]
		row, known := behaviour.ByID(id)
		switch {
		case !known:
			n.Faults = append(n.Faults, location+": there is no row "+id)
		case test != (word == "Behaviour"):
			n.Faults = append(n.Faults, location+": a comment of the product says the mark, one of a test Behaviour("+id+")")
		case test:
			n.Tested[id] = location
		case strings.ToLower(word) != string(row.Get().Evidence):
			n.Faults = append(n.Faults, fmt.Sprintf("%s: %s is %s", location, id, row.Get().Evidence))
		default:
			n.Said[id] = location
		}
	}
}

func (n *Named) file(path string, ids map[string]string) error {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	test := strings.HasSuffix(path, "_test.go")
	for _, group := range f.Comments {
		for _, c := range group.List {
			n.comment(fmt.Sprintf("%s:%d", path, files.Position(c.Pos()).Line), c.Text, test)
		}
	}
	if test {
		return nil
	}
	ast.Inspect(f, func(node ast.Node) bool {
		s, is := node.(*ast.SelectorExpr)
		if !is {
			return true
		}
		if ident, is := s.X.(*ast.Ident); is && ident.Name == "behaviour" && ids[s.Sel.Name] != "" {
			n.Recorded[ids[s.Sel.Name]] = fmt.Sprintf("%s:%d", path, files.Position(s.Pos()).Line)
		}
		return true
	})
	return nil
}

// constants returns the ids of the table by the Go names of their rows.
func constants(folder string) (map[string]string, error) {
	ids := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(folder, "table_*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(node ast.Node) bool {
			v, is := node.(*ast.ValueSpec)
			if !is || len(v.Values) != 1 {
				return true
			}
			if call, is := v.Values[0].(*ast.CallExpr); is {
				if id, is := call.Args[0].(*ast.BasicLit); is {
					ids[v.Names[0].Name] = strings.Trim(id.Value, `"`)
				}
			}
			return true
		})
	}
	return ids, nil
}
