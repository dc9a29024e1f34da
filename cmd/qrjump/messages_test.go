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

// sentence are two words behind each other, as texts for people have them.
var sentence = regexp.MustCompile(`[A-Za-z]{2,}[,;:]? [a-z]{2,}`)

// unspoken are the files whose words no person reads on a terminal, and the texts of others that are looked for, typed or written to files.
var unspoken = []string{"man.go", "commands.go"}

var unspokenTexts = []string{" --output json", "(no document of its operations)",
	"HTTP request to an HTTPS server", "server gave HTTP response to HTTPS client", `must be one of "",`, "must be one of ",
	`expected string value but got "EOL" (<EOL>)`, "qrjump ready http://%s", `,"" but got`, " but got",
	"--output lines", "clock set", "unknown flag -", "one of ", `must be one of (.*) but got "(.*)"$`}

// Decision 71: what the command line says to people stands in its book: an English sentence in code lacks its Chinese.
func TestCommandTexts_HaveTranslationKey(t *testing.T) {
	t.Parallel()
	texts, _ := i18n.Read(os.DirFS("."))
	heads := regexp.MustCompile(`^[A-Z][A-Z0-9 ]+$`)
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || slices.Contains(unspoken, name) {
			continue
		}
		set := gotoken.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if n.Tag != nil { // how a flag is read
					return false
				}
			case *ast.CompositeLit:
				for _, head := range headsOf(n) {
					if heads.MatchString(head) && texts[i18n.English]["head."+head] == "" {
						t.Errorf("%s: the book does not say the head %q: add head.%s", set.Position(n.Pos()), head, head)
					}
				}
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				english := texts[i18n.English]
				if n.Kind == gotoken.STRING && err == nil && sentence.MatchString(text) && !strings.HasPrefix(text, "qrjump ") &&
					!strings.HasPrefix(text, "^") && english["field."+text] == "" && english["count."+text] == "" &&
					english["thing."+text] == "" && !slices.Contains(unspokenTexts, text) {
					t.Errorf("%s: %q has one language: let a key of the book say it (decision 71)", set.Position(n.Pos()), text)
				}
			}
			return true
		})
	}
}

// headsOf are the texts of a list of heads.
func headsOf(list *ast.CompositeLit) (heads []string) {
	if of, ok := list.Type.(*ast.ArrayType); !ok || of.Len != nil {
		return nil
	}
	for _, one := range list.Elts {
		if lit, ok := one.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			text, _ := strconv.Unquote(lit.Value)
			heads = append(heads, text)
		}
	}
	return heads
}

// Chinese is two columns wide: what stands behind it stands below what stands behind Latin letters.
func TestColumns_WideCharacters(t *testing.T) {
	t.Parallel()
	got, want := columns([][]string{{"名称", "x"}, {"tea", "y"}, {"", ""}}), "名称  x\ntea   y\n\n"
	assert.True(t, got == want, "%q, want %q", got, want)
	got, want = folded("  --a=B    一二三四五六，七八九十\n", 26), "  --a=B    一二三四五六，\n           七八九十\n"
	assert.True(t, got == want, "%q, want %q", got, want)
}
