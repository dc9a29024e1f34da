package server_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestDocs_ReferencedNamesExist verifies that the pages for new contributors name only existing files and, in backticks directly after a
// file, only names that the file declares. A file without a directory is in the directory named before it in the same list item or row.
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
	for _, page := range []string{"architecture.md", "flows.md", "guarantees.md", "../CONTRIBUTING.md"} {
		text, err := os.ReadFile(filepath.Join(root, "docs", page))
		require.NoError(t, err)
		files := 0
		for _, item := range items.Split(string(text), -1) {
			folder, file, end := "", "", 0
			for _, loc := range quoted.FindAllStringIndex(item, -1) {
				word, between := item[loc[0]+1:loc[1]-1], item[end:loc[0]]
				if end = loc[1]; goFile.MatchString(word) {
					files++
					if file = path.Join(folder, word); strings.Contains(word, "/") {
						file = word
					}
					found := filepath.Join(root, "internal", file)
					if _, err := os.Stat(found); err != nil {
						found = filepath.Join(root, file)
					}
					if declared[file] == nil {
						declared[file], err = declaredNames(found)
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
					file = "" // the following names do not belong to the file
				} else if !declared[file][is[1]] {
					t.Errorf("docs/%s names %s of %s, which does not declare it", page, word, file)
				}
			}
		}
		assert.True(t, files >= 5, "docs/%s names %d files, want at least 5", page, files)
	}
}

// declaredNames returns the names of a file's functions, methods, types, fields, variables and constants.
func declaredNames(file string) (map[string]bool, error) {
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

// TestDocs_OnAdminListener verifies that the admin listener serves the documents without authentication and with the address of the wire
// API, that the wire listener does not, and that a rule for a link below /docs still matches.
func TestDocs_OnAdminListener(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Config: func(c *server.Config) { c.AdminListen = "127.0.0.1:0" }, Seed: `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release]}
rules:
  - {owner: shop, prefix: "http://shop.example/docs/", path: pages/a/a, published: true}
settings: {verification: trust}
`})
	get := func(base, path, host string) servertest.Answer {
		r := require.Value(http.NewRequestWithContext(t.Context(), "GET", base+path, nil))(t)
		r.Host = cmp.Or(host, r.Host)
		return s.Send(r)
	}
	a := get(s.AdminURL, "/docs/zh/tour", "")
	assert.True(t, a.Status == http.StatusOK && a.Header.Get("Content-Security-Policy") == guide.Policy &&
		strings.Contains(a.Body, s.URL+"/cgi-bin/wxopen/qrcodejumpget"), "the documents: %d %v", a.Status, a.Header)
	for _, found := range regexp.MustCompile(`"(/qrjump/[^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
		asset := get(s.AdminURL, found[1], "")
		assert.True(t, asset.Status == http.StatusOK && strings.Contains(asset.Header.Get("Cache-Control"), "immutable"),
			"%s: %d %v", found[1], asset.Status, asset.Header)
	}
	if a := get(s.URL, "/docs/zh/tour", ""); a.Status != http.StatusMisdirectedRequest || strings.Contains(a.Body, "<html") {
		t.Errorf("the wire's listener answers %d: %.200s", a.Status, a.Body)
	}
	if a := get(s.URL, "/docs/7", "shop.example"); a.Status != http.StatusOK || !strings.Contains(a.Body, "shop.example/docs/7") {
		t.Errorf("a printed link below /docs: %d %.200s", a.Status, a.Body)
	}
}
