// Package behaviourrefs finds references to rows of the table of behaviours in the source code and in test data.
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

// Named has the location (file and line) of a reference to each row, by the row's id.
type Named struct {
	Recorded map[string]string // references in code: a call with this behaviour records it
	Said     map[string]string // references in comments of the product
	Tested   map[string]string // references in comments of tests
	Faults   []string          // comments without a valid row, or with a mark other than the row's
}

var (
	markPattern = regexp.MustCompile(`\b(Observed|Documented|Inferred|Assumed|Behaviour)\(([a-z_.]+)\)`)
	unnamedMark = regexp.MustCompile(`\b(Assumed|Choice|Inferred):`)
)

// Read reads the module's source and test data below a folder.
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

// transcript reads the comments of a test data file.
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
	if unnamedMark.MatchString(text) {
		n.Faults = append(n.Faults, location+": a mark without a row: "+text)
	}
	for _, match := range markPattern.FindAllStringSubmatch(text, -1) {
		word, id := match[1], match[2]
		row, ok := behaviour.ByID(id)
		switch {
		case !ok:
			n.Faults = append(n.Faults, location+": there is no row "+id)
		case test != (word == "Behaviour"):
			n.Faults = append(n.Faults, location+": want the mark of "+id+" in product code, Behaviour("+id+") in a test")
		case test:
			n.Tested[id] = location
		case strings.ToLower(word) != string(row.Get().Evidence):
			n.Faults = append(n.Faults, fmt.Sprintf("%s: mark of %s is %s, want %s", location, id, word, row.Get().Evidence))
		default:
			n.Said[id] = location
		}
	}
}

// file reads the comments of a Go file and, in product code, the references to the constants of rows.
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
		s, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if ident, ok := s.X.(*ast.Ident); ok && ident.Name == "behaviour" && ids[s.Sel.Name] != "" {
			n.Recorded[ids[s.Sel.Name]] = fmt.Sprintf("%s:%d", path, files.Position(s.Pos()).Line)
		}
		return true
	})
	return nil
}

// constants returns the ids of the rows by the names of their Go constants.
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
			v, ok := node.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			if call, ok := v.Values[0].(*ast.CallExpr); ok {
				if id, ok := call.Args[0].(*ast.BasicLit); ok {
					ids[v.Names[0].Name] = strings.Trim(id.Value, `"`)
				}
			}
			return true
		})
	}
	return ids, nil
}
