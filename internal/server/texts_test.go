package server_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// saying are the functions whose first argument is a key.
var saying = []string{"Text", "Say", "Count", "msg", "localized"}

// sayingInCommands are more of them, of cmd/qrjump (decision 71).
var sayingInCommands = []string{"tr", "fault", "wrapped", "misused", "different", "constant"}

// mentions are the keys that a package names: whole, or by how they begin or end where the rest is computed.
type mentions struct {
	whole             map[string]bool
	beginnings, tails []string
}

func (m mentions) has(key string) bool {
	whole := strings.TrimSuffix(key, ".one")
	return m.whole[whole] || m.whole[key] ||
		slices.ContainsFunc(m.beginnings, func(one string) bool { return strings.HasPrefix(whole, one) }) ||
		slices.ContainsFunc(m.tails, func(one string) bool { return strings.HasSuffix(whole, one) })
}

// Decision 59: each text is in both languages with the same places, each key that code or a template names is one, with as many
// arguments as the text has places, and each text is named somewhere.
func TestTranslations_KeysAndArgumentsMatch(t *testing.T) {
	t.Parallel()
	folders := 0
	for _, root := range []string{"..", "../../cmd"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == i18n.Folder {
				folders++
				textsOf(t, filepath.Dir(path))
				return fs.SkipDir
			}
			return err
		}))
	}
	assert.True(t, folders >= 3, "only %d packages with texts were found", folders)
}

func textsOf(t *testing.T, dir string) {
	files := os.DirFS(dir)
	texts, faults := i18n.Read(files)
	for _, fault := range faults {
		t.Errorf("%s: %s", dir, fault)
	}
	if len(faults) > 0 || filepath.Base(dir) == "errortext" { // what refuses has that book's English: its own test finds it there
		return
	}
	catalog := i18n.Open(files)
	named := mentions{whole: map[string]bool{}}
	require.NoError(t, fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		_, noBook := fs.Stat(files, name+"/"+i18n.Folder) // whether a folder below is a package with texts of its own
		switch {
		case err != nil || name == "." || d.IsDir() && d.Name() != i18n.Folder && d.Name() != "testdata" && noBook != nil:
			return err
		case d.IsDir():
			return fs.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			inCode(t, filepath.Join(dir, name), catalog, texts[i18n.English], &named)
		case strings.HasSuffix(name, ".html"), strings.HasSuffix(name, ".txt"):
			inTemplate(t, filepath.Join(dir, name), texts[i18n.English], &named)
		}
		return nil
	}))
	for key := range texts[i18n.English] {
		assert.True(t, named.has(key), "%s: nothing says %q", dir, key)
	}
}

// inCode reads which keys a file of Go names.
func inCode(t *testing.T, path string, catalog *i18n.Catalog, texts map[string]string, named *mentions) {
	set := gotoken.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	literal := func(e ast.Expr) (string, bool) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != gotoken.STRING {
			return "", false
		}
		text, err := strconv.Unquote(lit.Value)
		return text, err == nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == gotoken.INT {
				named.whole[n.Value] = true
			}
			if text, ok := literal(n); ok {
				named.whole[text] = true
				if strings.Contains(path, "edge/console") {
					named.component(text)
				}
				if strings.HasSuffix(text, ".") {
					named.beginnings = append(named.beginnings, text)
				}
				if begins, _, computed := strings.Cut(text, ".%"); computed {
					named.beginnings = append(named.beginnings, begins+".")
				}
			}
		case *ast.UnaryExpr:
			if lit, ok := n.X.(*ast.BasicLit); ok {
				named.whole[n.Op.String()+lit.Value] = true
			}
		case *ast.BinaryExpr:
			if text, ok := literal(n.Y); ok && n.Op == gotoken.ADD && strings.HasPrefix(text, ".") {
				named.tails = append(named.tails, text)
			}
		case *ast.CallExpr:
			callee := ""
			switch fun := n.Fun.(type) {
			case *ast.Ident:
				callee = fun.Name
			case *ast.SelectorExpr:
				callee = fun.Sel.Name
			}
			localized := slices.Contains(saying, callee) || strings.Contains(path, "cmd/q") && slices.Contains(sayingInCommands, callee)
			if len(n.Args) == 0 || !localized {
				return true
			}
			key, ok := literal(n.Args[0])
			if !ok {
				return true
			}
			if _, ok := texts[key]; !ok {
				t.Errorf("%s: no text is called %q", set.Position(n.Pos()), key)
			} else if n.Ellipsis == gotoken.NoPos {
				if _, err := catalog.In(i18n.English).Say(key, make([]any, len(n.Args)-1)...); err != nil {
					t.Errorf("%s: %v", set.Position(n.Pos()), err)
				}
			}
		}
		return true
	})
}

var (
	action = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	quoted = regexp.MustCompile("\"([^\"]*)\"|`([^`]*)`")
	spoken = regexp.MustCompile(`(?:\.Say|\.Both|\b(?:say|zh|en)) "([^"]+[^."])"`)
)

// component reads the words of a component: value=key, #key of a column of numbers, and key=name:kind,options of a record, where a kind
// that ends with a dot, with or without an asterisk, is the beginning of keys.
func (m *mentions) component(words string) {
	for word := range strings.FieldsFuncSeq(words, func(r rune) bool { return strings.ContainsRune(" ,\n\t", r) }) {
		for part := range strings.FieldsFuncSeq(word, func(r rune) bool { return r == '=' || r == ':' || r == '?' }) {
			m.whole[strings.TrimPrefix(part, "#")] = true
			if begins := strings.TrimSuffix(part, "*"); strings.HasSuffix(begins, ".") {
				m.beginnings = append(m.beginnings, begins)
			}
		}
	}
}

// inTemplate reads which keys a template names.
func inTemplate(t *testing.T, path string, texts map[string]string, named *mentions) {
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, one := range action.FindAllString(string(content), -1) {
		for _, found := range quoted.FindAllStringSubmatch(one, -1) {
			key, _, computed := strings.Cut(found[1]+found[2], "%")
			if computed && key != "" || strings.HasSuffix(key, ".") {
				named.beginnings = append(named.beginnings, key)
			}
			named.whole[key] = true
			named.component(key)
		}
		for _, found := range spoken.FindAllStringSubmatch(one, -1) {
			assert.True(t, texts[found[1]] != "", "%s: no text is called %q", path, found[1])
		}
	}
}

// chinese are the files outside of books and documents that have Chinese, each with the reason why that is no text for people of ours.
var chinese = map[string]string{
	"docs/openapi-wire.json":                "what the platform answers, in its own words",
	"internal/contract/errcode/codes.go":    "the wire: texts of the platform",
	"internal/domain/codes/ticket.go":       "the wire: a text of the platform",
	"internal/edge/api/link_list.go":        "the wire: names that the platform gives",
	"internal/edge/guide/synonyms.go":       "search words, which are never displayed",
	"internal/edge/guide/search.go":         "words of a question that say nothing of what is sought",
	"internal/print/labels/bought.go":       "what may stand behind a number that people type",
	"internal/emulator/cassette/standin.go": "stands in for a name in Chinese",
	"compat/gs1/seed.yaml":                  "titles of links in two languages, which the suite compares",
	"compat/harness/codes.go":               "a name in Chinese that passes through other people's clients",
	"docs/contract/seen/answers.ndjson":     "answers of the platform",
}

// written are the ends of the names of code, templates, scripts and tables.
var written = []string{".go", ".html", ".js", ".mjs", ".css", ".svg", ".txt", ".tmpl", ".sql", ".json", ".ndjson", ".yaml", ".yml", ".sh",
	".py", ".conf", ".service", ".fish", ".zsh"}

// maxDrained are folders of books, of answers that tests expect, and of what is no part of the sources.
var maxDrained = []string{i18n.Folder, "testdata", "node_modules", ".venv", ".git", "bin", "dist", "pages", "qrjump-data"}

// Decision 59: code, templates, scripts and tables have no Chinese. It stands in books and in documents.
func TestTranslations_ChineseOnlyInCatalogs(t *testing.T) {
	t.Parallel()
	const root = "../.."
	files, found := 0, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir():
			if slices.Contains(maxDrained, name) {
				return fs.SkipDir
			}
			return nil
		case !slices.Contains(written, filepath.Ext(name)) || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files++
		content, err := os.ReadFile(path)
		if at := bytes.IndexFunc(content, func(r rune) bool { return unicode.Is(unicode.Han, r) }); err == nil && at >= 0 {
			name, _ := filepath.Rel(root, path)
			found[name] = true
			line := 1 + bytes.Count(content[:at], []byte("\n"))
			assert.True(t, chinese[name] != "", "%s:%d has Chinese: let a key of a book say it (decision 59)", name, line)
		}
		return err
	})
	require.True(t, err == nil && files >= 500, "%d files were read: %v", files, err)
	for name := range chinese {
		assert.True(t, found[name], "%s has no Chinese any more: take it off the list", name)
	}
}

// What a server or a call says back is 响应 or 返回 in Chinese; 回答 is what people say. Issue 33, 6.
func TestTranslations_ChineseTermForResponse(t *testing.T) {
	t.Parallel()
	files := 0
	for _, folder := range []string{"../../docs/zh", "..", "../../cmd"} {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			inBook := strings.HasSuffix(path, ".json") && filepath.Base(filepath.Dir(path)) == i18n.Folder
			if err != nil || d.IsDir() || !inBook && !strings.HasSuffix(path, ".md") {
				return err
			}
			files++
			text, err := os.ReadFile(path)
			if before, _, ok := bytes.Cut(text, []byte("回答")); ok {
				t.Errorf("%s:%d says 回答: say 响应, 返回 or 结果", path, 1+bytes.Count(before, []byte("\n")))
			}
			return err
		})
		assert.True(t, err == nil, "%v", err)
	}
	assert.True(t, files >= 150, "only %d files were read", files)
}
