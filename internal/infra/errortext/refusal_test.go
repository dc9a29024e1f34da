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
		{"not in the catalogue", "not in the catalogue"},
	} {
		got := errortext.In(i18n.Chinese, text[0])
		assert.True(t, got == text[1], "%q is %q in Chinese, want %q", text[0], got, text[1])
		got = errortext.In(i18n.English, text[0])
		assert.True(t, got == text[0], "%q is %q in English", text[0], got)
	}
}

// refusing are the functions that make refusals, each with the place of the text among its arguments.
var refusing = map[string]int{"WithDetail": 1, "Strict": 1, "Invalid": 0, "invalidf": 0, "BadQuestion": 0, "Conflict": 0, "refused": 0,
	"required":     2,
	"WriteProblem": 2, "writeProblemType": 3,
	"NewError": 1, "Error400BadRequest": 0, "Error403Forbidden": 0, "Error404NotFound": 0, "Error409Conflict": 0,
	"Error415UnsupportedMediaType": 0, "Error422UnprocessableEntity": 0, "Error500InternalServerError": 0, "Error503ServiceUnavailable": 0}

// huma are texts of the library that checks the form of a request.
var huma = regexp.MustCompile(`^(validation failed|unexpected property|unknown query parameter|expected .*)$`)

var (
	place  = regexp.MustCompile(`%[-+#0-9.]*[a-z]`)
	letter = regexp.MustCompile(`[a-z]{3}`)
)

// Decision 64: whoever writes a refusal writes it into the book too, and takes it out with it.
func TestErrorText_CatalogComplete(t *testing.T) {
	t.Parallel()
	texts, faults := i18n.Read(os.DirFS("."))
	require.True(t, len(faults) == 0, "%v", faults)
	in := map[string]bool{}
	for key, text := range texts[i18n.English] {
		assert.True(t, !in[text], "%s stands there twice", key)
		in[text] = true
	}
	written, refusals := map[string]bool{}, 0
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
			if e, is := n.(ast.Expr); is {
				if text, ok := textOf(e); ok {
					written[text] = true
				}
			}
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			at, is := refusing[nameOf(call)]
			if !is || len(call.Args) <= at {
				return true
			}
			text, ok := textOf(call.Args[at])
			if !ok || !letter.MatchString(strings.ReplaceAll(text, "%s", "")) {
				return true
			}
			if refusals++; !in[text] {
				t.Errorf("%s: no text of internal/infra/errortext/locale is %q", set.Position(call.Pos()), text)
			}
			return true
		})
		return nil
	})
	require.True(t, err == nil && refusals >= 300, "%d refusals were found: %v", refusals, err)
	for text := range in {
		assert.True(t, written[text] || huma.MatchString(text), "nothing says %q any more", text)
	}
}

func nameOf(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// textOf is a text of the code, with %s for whatever is put into it.
func textOf(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != gotoken.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return place.ReplaceAllString(text, "%s"), err == nil
	case *ast.BinaryExpr:
		left, some := textOf(e.X)
		right, more := textOf(e.Y)
		if !some {
			left = "%s"
		}
		if !more {
			right = "%s"
		}
		return left + right, some || more
	case *ast.CallExpr:
		if nameOf(e) == "Sprintf" {
			return textOf(e.Args[0])
		}
	}
	return "", false
}
