package main

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// sentence matches two consecutive words, as in texts for users.
var sentence = regexp.MustCompile(`[A-Za-z]{2,}[,;:]? [a-z]{2,}`)

// exemptFiles are files whose texts are not printed on a terminal. exemptTexts are texts of other files that are parsed, typed, or written
// to files.
var exemptFiles = []string{"man.go", "commands.go"}

var exemptTexts = []string{" --output json", "(no document of its operations)",
	"HTTP request to an HTTPS server", "server gave HTTP response to HTTPS client", `must be one of "",`, "must be one of ",
	`expected string value but got "EOL" (<EOL>)`, "qrjump ready http://%s", `,"" but got`, " but got",
	"--output lines", "clock set", "unknown flag -", "one of ", `must be one of (.*) but got "(.*)"$`}

// TestCommandTexts_HaveTranslationKey verifies that texts for users are in the catalog (decision 71): an English sentence in the code has
// no Chinese translation.
func TestCommandTexts_HaveTranslationKey(t *testing.T) {
	t.Parallel()
	texts, _ := i18n.Read(os.DirFS("."))
	heading := regexp.MustCompile(`^[A-Z][A-Z0-9 ]+$`)
	files := require.Value(filepath.Glob("*.go"))(t)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || slices.Contains(exemptFiles, name) {
			continue
		}
		set := gotoken.NewFileSet()
		file := require.Value(parser.ParseFile(set, name, nil, parser.SkipObjectResolution))(t)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if n.Tag != nil { // the tag of a flag
					return false
				}
			case *ast.CompositeLit:
				for _, text := range headingsOf(n) {
					if heading.MatchString(text) && texts[i18n.English]["head."+text] == "" {
						t.Errorf("%s: the catalog lacks the column heading %q: add head.%s", set.Position(n.Pos()), text, text)
					}
				}
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				english := texts[i18n.English]
				if n.Kind == gotoken.STRING && err == nil && sentence.MatchString(text) && !strings.HasPrefix(text, "qrjump ") &&
					!strings.HasPrefix(text, "^") && english["field."+text] == "" && english["count."+text] == "" &&
					english["thing."+text] == "" && !slices.Contains(exemptTexts, text) {
					t.Errorf("%s: %q has no translation: add a key to the catalog (decision 71)", set.Position(n.Pos()), text)
				}
			}
			return true
		})
	}
}

// headingsOf returns the string literals of a slice literal: column headings are such a list.
func headingsOf(list *ast.CompositeLit) (headings []string) {
	if array, ok := list.Type.(*ast.ArrayType); !ok || array.Len != nil {
		return nil
	}
	for _, element := range list.Elts {
		if lit, ok := element.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			text, _ := strconv.Unquote(lit.Value)
			headings = append(headings, text)
		}
	}
	return headings
}

// TestColumns_WideCharacters verifies that columns and folded lines are aligned by display width: a Chinese character is two columns wide.
func TestColumns_WideCharacters(t *testing.T) {
	t.Parallel()
	assert.Equal(t, columns([][]string{{"名称", "x"}, {"tea", "y"}, {"", ""}}), "名称  x\ntea   y\n\n", "columns")
	assert.Equal(t, folded("  --a=B    一二三四五六，七八九十\n", 26), "  --a=B    一二三四五六，\n           七八九十\n", "folded")
}
