package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The pages that a stranger reads name only files that exist and, in backticks right after a file, only names that the file
// declares. A file without a folder stands in the folder that the same line of a list or a table named before it.
func TestDocs_ReferencedNamesExist(t *testing.T) {
	const root = "../.."
	var (
		quoted = regexp.MustCompile("`[^`]+`")
		items  = regexp.MustCompile(`\n(?:\d+\. |- |\| |\n)`)
		goFile = regexp.MustCompile(`^[\w/]+\.go$`)
		name   = regexp.MustCompile(`^(?:[A-Za-z]\w*\.)?([A-Za-z]\w*)$`)
		joins  = regexp.MustCompile(`^(?:,| →| and)?\s+$`)
	)
	declared := map[string]map[string]bool{}
	for _, page := range []string{"architecture.md", "flows.md", "guarantees.md"} {
		text, err := os.ReadFile(filepath.Join(root, "docs", page))
		require.NoError(t, err)
		files := 0
		for _, item := range items.Split(string(text), -1) {
			folder, file, end := "", "", 0
			for _, at := range quoted.FindAllStringIndex(item, -1) {
				word, between := item[at[0]+1:at[1]-1], item[end:at[0]]
				if end = at[1]; goFile.MatchString(word) {
					files++
					if file = path.Join(folder, word); strings.Contains(word, "/") {
						file = word
					}
					found := filepath.Join(root, "internal", file)
					if _, err := os.Stat(found); err != nil {
						found = filepath.Join(root, file)
					}
					if declared[file] == nil {
						declared[file], err = declarations(found)
						assert.True(t, err == nil, "docs/%s names %s: %v", page, file, err)
					}
					folder = path.Dir(file)
					continue
				}
				for _, in := range []string{"internal", "."} {
					if is, err := os.Stat(filepath.Join(root, in, word)); err == nil && is.IsDir() {
						folder = word
					}
				}
				is := name.FindStringSubmatch(word)
				if file == "" || is == nil || !joins.MatchString(between) {
					file = "" // what follows is not said of the file
				} else if !declared[file][is[1]] {
					t.Errorf("docs/%s says that %s has %s: it declares no such name", page, file, word)
				}
			}
		}
		assert.True(t, files >= 5, "docs/%s names %d files: the test does not read it", page, files)
	}
}

// declarations are the names of a file's functions, methods, types, fields, variables and constants.
func declarations(file string) (map[string]bool, error) {
	names := map[string]bool{}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return names, err
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		var ids []*ast.Ident
		switch n := n.(type) {
		case *ast.FuncDecl:
			ids = []*ast.Ident{n.Name}
		case *ast.TypeSpec:
			ids = []*ast.Ident{n.Name}
		case *ast.ValueSpec:
			ids = n.Names
		case *ast.Field:
			ids = n.Names
		}
		for _, id := range ids {
			names[id.Name] = true
		}
		return true
	})
	return names, nil
}
