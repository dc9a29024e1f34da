// Package vocabulary counts names and comments that a reader outside the project would not search for.
package vocabulary

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// functionWords are English words that carry no meaning as names. The list omits words that Go itself uses as names (next, last, first,
// all, any, in, out, on, off, no, to, from, left, back).
var functionWords = set(`about above across after again against ahead alone along already also always among another anybody anything apart
	are around as aside at away before behind below beneath beside besides between beyond both by each early either else elsewhere enough
	ever every everybody everything everyone few further here how however inside instead into it its just lack lacking lacks late lately
	later least less like long many may mine more most much must my near nearly never nobody none nor not nothing of often once one only or
	other others otherwise ours outside over own past perhaps same several shall since so some somebody someone something soon still such
	that their theirs them then there these they this those though through till together too toward twice under unless until unto up upon us
	was were what whatever when where whether which while who whoever whole whom whose why will with within without yet you yours`)

// times are function words that name a time as the standard library does.
var times = set("now before after since until")

// persons matches pronouns for persons. The subjects of comments are callers, nodes, transactions and clients.
var persons = regexp.MustCompile(`(?i)\b(nobody|somebody|whoever|whom)\b`)

// definition matches a doc comment that defines its subject by a relative clause instead of saying what a caller gets.
var definition = regexp.MustCompile(`^\w+ (is|are) (what|whose|who|whom|how|where|whether|why|when|which)\b`)

// Place is a finding: a name, or a comment's first words, in a file.
type Place struct {
	File string
	Line int
	Text string
}

// Counts has the findings in a tree, and the numbers of all doc comments and local names.
type Counts struct {
	Docs, Locals int
	Definitions  []Place         // doc comments that define by a relative clause
	Words        []Place         // locals, parameters and results that are function words
	Declared     []Place         // functions, methods, types, constants and variables of a package that are function words
	Persons      []Place         // comments with a person as their subject
	Names        map[string]bool // declared names and fields, in lower case
}

// Count reads the Go files in folders of root, either only tests or only other files, without generated files and testdata. It does not
// resolve types.
func Count(root string, tests bool, folders ...string) (Counts, error) {
	c := Counts{Names: map[string]bool{}}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			if entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") != tests {
				return nil
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil || ast.IsGenerated(file) {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			c.file(files, file, filepath.ToSlash(name))
			return nil
		})
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// file adds the findings of one file.
func (c *Counts) file(files *token.FileSet, file *ast.File, name string) {
	place := func(pos token.Pos, text string) Place { return Place{name, files.Position(pos).Line, text} }
	for _, group := range file.Comments {
		if word := persons.FindString(group.Text()); word != "" {
			c.Persons = append(c.Persons, place(group.Pos(), word))
		}
	}
	doc := func(group *ast.CommentGroup) {
		if group == nil {
			return
		}
		c.Docs++
		if found := definition.FindString(group.Text()); found != "" {
			c.Definitions = append(c.Definitions, place(group.Pos(), found))
		}
	}
	declared := func(id *ast.Ident) {
		c.Names[strings.ToLower(id.Name)] = true
		if isFunctionWord(id.Name) {
			c.Declared = append(c.Declared, place(id.Pos(), id.Name))
		}
	}
	local := func(id *ast.Ident, typ ast.Expr) {
		if len(id.Name) < 2 {
			return
		}
		c.Locals++
		if isFunctionWord(id.Name) && !(times[id.Name] && (typ == nil || isTime(typ))) {
			c.Words = append(c.Words, place(id.Pos(), id.Name))
		}
	}
	c.Names[strings.ToLower(file.Name.Name)] = true
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			doc(decl.Doc)
			declared(decl.Name)
			for _, list := range []*ast.FieldList{decl.Type.Params, decl.Type.Results} {
				if list == nil {
					continue
				}
				for _, field := range list.List {
					for _, id := range field.Names {
						local(id, field.Type)
					}
				}
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					doc(firstDoc(spec.Doc, decl.Doc))
					declared(spec.Name)
				case *ast.ValueSpec:
					doc(firstDoc(spec.Doc, decl.Doc))
					for _, id := range spec.Names {
						declared(id)
					}
				}
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if fields, ok := n.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				for _, id := range field.Names {
					c.Names[strings.ToLower(id.Name)] = true
				}
			}
		}
		if assign, ok := n.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
			for _, left := range assign.Lhs {
				if id, ok := left.(*ast.Ident); ok {
					local(id, nil)
				}
			}
		}
		return true
	})
}

func firstDoc(ownGroup, group *ast.CommentGroup) *ast.CommentGroup {
	if ownGroup != nil {
		return ownGroup
	}
	return group
}

// isTime reports whether a type is of package time.
func isTime(typ ast.Expr) bool {
	selector, ok := typ.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := selector.X.(*ast.Ident)
	return ok && id.Name == "time"
}

func isFunctionWord(name string) bool { return len(name) > 1 && functionWords[strings.ToLower(name)] }

// Declares reports whether a declared name contains a term. It compares letters only, without regard to case.
func (c Counts) Declares(term string) bool {
	term = strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return r
		}
		return -1
	}, term))
	for name := range c.Names {
		if strings.Contains(name, term) {
			return true
		}
	}
	return false
}

// Except returns the places that are not exceptions, and the exceptions without a place. An exception has the form "file name".
func Except(places []Place, exceptions []string) (rest []Place, unused []string) {
	used := map[string]bool{}
	for _, p := range places {
		key := p.File + " " + p.Text
		if slices.Contains(exceptions, key) {
			used[key] = true
		} else {
			rest = append(rest, p)
		}
	}
	for _, key := range exceptions {
		if !used[key] {
			unused = append(unused, key)
		}
	}
	return rest, unused
}

func set(words string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		all[word] = true
	}
	return all
}
