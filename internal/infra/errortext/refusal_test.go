package errortext_test

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/errortext"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestErrorText_Localized(t *testing.T) {
	t.Parallel()
	for _, text := range [][2]string{
		{"account wx1 was deleted", "账号 wx1 已不存在"},
		{`prefix "https://a.example/" belongs to wx1`, `前缀 "https://a.example/" 属于 wx1`},
		{"accounts: there is no account wx1: did you mean wx2?", "账号：没有 wx1 这个账号：是不是 wx2？"},
		{"accounts: there is no account wx1", "账号：没有 wx1 这个账号"},
		{"3 of the 9 codes of application 7 are imported: import the rest first", "申请单 7 的 9 个码中这里只有 3 个：请先把其余的导入"},
		{"serials[2]: code_index 9: the application has the indexes 0 to 3", "第 2 个序列号：序号 9：这个申请单的序号是 0 到 3"},
		{`text "{secret}{digits:20}": has two secret parts: want one of {secret}, {digits:N} and {token:N}`,
			`文本 "{secret}{digits:20}"：有两处密文：{secret}、{digits:N}、{token:N} 只能用一个`},
		{"line 3 cannot be loaded: the row has 2 columns, and the first row has 3: it is cut off, or has an extra comma",
			"第 3 行：该行有 2 列，而第一行有 3 列：该行不完整，或多了逗号"},
		{"none of these codes was imported; line 1 cannot be loaded: the text is that of code 0 of application 7",
			"这些码一个也没有导入；第 1 行：该文本已是申请单 7 中第 0 个码"},
		{"the database is not empty: table a has rows: specify a new data directory or an empty database",
			"数据库不是空的：表 a 有数据：请指定新的数据目录或空的数据库"},
		{"not in the catalogue", "not in the catalogue"},
	} {
		got := errortext.In(i18n.Chinese, text[0])
		assert.True(t, got == text[1], "In(Chinese, %q) = %q, want %q", text[0], got, text[1])
		got = errortext.In(i18n.English, text[0])
		assert.True(t, got == text[0], "In(English, %q) = %q, want it unchanged", text[0], got)
	}
}

// errorFuncs are the functions that create errors for callers, each with the index of the text among its arguments.
var errorFuncs = map[string]int{"WithDetail": 1, "Strict": 1, "Invalid": 0, "invalidf": 0, "BadQuestion": 0, "Conflict": 0, "refused": 0,
	"required":     2,
	"WriteProblem": 2, "writeProblemType": 3,
	"NewError": 1, "Error400BadRequest": 0, "Error403Forbidden": 0, "Error404NotFound": 0, "Error409Conflict": 0,
	"Error415UnsupportedMediaType": 0, "Error422UnprocessableEntity": 0, "Error500InternalServerError": 0, "Error503ServiceUnavailable": 0}

// huma matches texts of the library that validates requests.
var huma = regexp.MustCompile(`^(validation failed|unexpected property|unknown query parameter|expected .*)$`)

var (
	verb   = regexp.MustCompile(`%[-+#0-9.]*[a-z]`)
	letter = regexp.MustCompile(`[a-z]{3}`)
)

// TestErrorText_CatalogComplete verifies that the catalog has every error text in the source and no other (decision 64).
func TestErrorText_CatalogComplete(t *testing.T) {
	t.Parallel()
	texts, faults := i18n.Read(os.DirFS("."))
	require.True(t, len(faults) == 0, "Read reports %v", faults)
	catalog := map[string]bool{}
	for key, text := range texts[i18n.English] {
		assert.True(t, !catalog[text], "text of %s is in the catalog twice", key)
		catalog[text] = true
	}
	used, calls := map[string]bool{}, 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.HasPrefix(path, "../../testkit") {
			return err
		}
		set := gotoken.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if text, ok := constantText(e); ok {
					used[text] = true
				}
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			i, ok := errorFuncs[calleeName(call)]
			if !ok || len(call.Args) <= i {
				return true
			}
			text, ok := constantText(call.Args[i])
			if !ok || !letter.MatchString(strings.ReplaceAll(text, "%s", "")) {
				return true
			}
			if calls++; !catalog[text] {
				t.Errorf("%s: internal/infra/errortext/locale lacks %q", set.Position(call.Pos()), text)
			}
			return true
		})
		return nil
	})
	require.True(t, err == nil && calls >= 300, "%d error texts in the source, %v, want at least 300", calls, err)
	for text := range catalog {
		assert.True(t, used[text] || huma.MatchString(text), "catalog has %q, which the source does not use", text)
	}
}

func calleeName(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// constantText returns the text of an expression with %s for its variable parts.
func constantText(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != gotoken.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return verb.ReplaceAllString(text, "%s"), err == nil
	case *ast.BinaryExpr:
		left, leftOK := constantText(e.X)
		right, rightOK := constantText(e.Y)
		if !leftOK {
			left = "%s"
		}
		if !rightOK {
			right = "%s"
		}
		return left + right, leftOK || rightOK
	case *ast.CallExpr:
		if calleeName(e) == "Sprintf" {
			return constantText(e.Args[0])
		}
	}
	return "", false
}
