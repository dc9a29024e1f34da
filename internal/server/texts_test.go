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

// textFuncs are the functions with a catalog key as first argument.
var textFuncs = []string{"Text", "Say", "Count", "msg", "localized"}

// commandTextFuncs are further functions of this kind in cmd/qrjump (decision 71).
var commandTextFuncs = []string{"tr", "fault", "wrapped", "misused", "different", "constant"}

// keyReferences are the catalog keys that a package uses: complete keys, and prefixes and suffixes of keys that are computed.
type keyReferences struct {
	keys               map[string]bool
	prefixes, suffixes []string
}

func (m keyReferences) has(key string) bool {
	body := strings.TrimSuffix(key, ".one")
	return m.keys[body] || m.keys[key] ||
		slices.ContainsFunc(m.prefixes, func(affix string) bool { return strings.HasPrefix(body, affix) }) ||
		slices.ContainsFunc(m.suffixes, func(affix string) bool { return strings.HasSuffix(body, affix) })
}

// TestTranslations_KeysAndArgumentsMatch verifies that each text is in both languages with the same placeholders, that each key in code and
// templates exists and has as many arguments as its text has placeholders, and that each text is used (decision 59).
func TestTranslations_KeysAndArgumentsMatch(t *testing.T) {
	t.Parallel()
	folders := 0
	for _, root := range []string{"..", "../../cmd"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == i18n.Folder {
				folders++
				checkCatalog(t, filepath.Dir(path))
				return fs.SkipDir
			}
			return err
		}))
	}
	assert.True(t, folders >= 3, "found %d packages with texts, want at least 3", folders)
}

func checkCatalog(t *testing.T, dir string) {
	files := os.DirFS(dir)
	texts, faults := i18n.Read(files)
	for _, fault := range faults {
		t.Errorf("%s: %s", dir, fault)
	}
	if len(faults) > 0 || filepath.Base(dir) == "errortext" { // the package has a test of its own
		return
	}
	catalog := i18n.Open(files)
	named := keyReferences{keys: map[string]bool{}}
	require.NoError(t, fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		_, noCatalog := fs.Stat(files, name+"/"+i18n.Folder) // a subdirectory with a catalog is checked separately
		switch {
		case err != nil || name == "." || d.IsDir() && d.Name() != i18n.Folder && d.Name() != "testdata" && noCatalog != nil:
			return err
		case d.IsDir():
			return fs.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			addGoFile(t, filepath.Join(dir, name), catalog, texts[i18n.English], &named)
		case strings.HasSuffix(name, ".html"), strings.HasSuffix(name, ".txt"):
			addTemplate(t, filepath.Join(dir, name), texts[i18n.English], &named)
		}
		return nil
	}))
	for key := range texts[i18n.English] {
		assert.True(t, named.has(key), "%s: the key %q is not used", dir, key)
	}
}

// addGoFile adds the keys in a Go file to named, and verifies the keys and arguments of its calls of text functions.
func addGoFile(t *testing.T, path string, catalog *i18n.Catalog, texts map[string]string, named *keyReferences) {
	set := gotoken.NewFileSet()
	file := require.Value(parser.ParseFile(set, path, nil, parser.SkipObjectResolution))(t)
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
				named.keys[n.Value] = true
			}
			if text, ok := literal(n); ok {
				named.keys[text] = true
				if strings.Contains(path, "edge/console") {
					named.addComponent(text)
				}
				if strings.HasSuffix(text, ".") {
					named.prefixes = append(named.prefixes, text)
				}
				if prefix, _, computed := strings.Cut(text, ".%"); computed {
					named.prefixes = append(named.prefixes, prefix+".")
				}
			}
		case *ast.UnaryExpr:
			if lit, ok := n.X.(*ast.BasicLit); ok {
				named.keys[n.Op.String()+lit.Value] = true
			}
		case *ast.BinaryExpr:
			if text, ok := literal(n.Y); ok && n.Op == gotoken.ADD && strings.HasPrefix(text, ".") {
				named.suffixes = append(named.suffixes, text)
			}
		case *ast.CallExpr:
			callee := ""
			switch fun := n.Fun.(type) {
			case *ast.Ident:
				callee = fun.Name
			case *ast.SelectorExpr:
				callee = fun.Sel.Name
			}
			localized := slices.Contains(textFuncs, callee) || strings.Contains(path, "cmd/q") && slices.Contains(commandTextFuncs, callee)
			if len(n.Args) == 0 || !localized {
				return true
			}
			key, ok := literal(n.Args[0])
			if !ok {
				return true
			}
			if _, ok := texts[key]; !ok {
				t.Errorf("%s: the catalog has no key %q", set.Position(n.Pos()), key)
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
	actionPattern   = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	quotedPattern   = regexp.MustCompile("\"([^\"]*)\"|`([^`]*)`")
	textCallPattern = regexp.MustCompile(`(?:\.Say|\.Both|\b(?:say|zh|en)) "([^"]+[^."])"`)
)

// addComponent adds the keys in the arguments of a template component: value=key, #key of a numeric column, and key=name:kind,options of a
// record, where a kind that ends with a dot, with or without an asterisk, is a prefix of keys.
func (m *keyReferences) addComponent(words string) {
	for field := range strings.FieldsFuncSeq(words, func(r rune) bool { return strings.ContainsRune(" ,\n\t", r) }) {
		for part := range strings.FieldsFuncSeq(field, func(r rune) bool { return r == '=' || r == ':' || r == '?' }) {
			m.keys[strings.TrimPrefix(part, "#")] = true
			if prefix := strings.TrimSuffix(part, "*"); strings.HasSuffix(prefix, ".") {
				m.prefixes = append(m.prefixes, prefix)
			}
		}
	}
}

// addTemplate adds the keys in a template to named.
func addTemplate(t *testing.T, path string, texts map[string]string, named *keyReferences) {
	content := require.Value(os.ReadFile(path))(t)
	for _, action := range actionPattern.FindAllString(string(content), -1) {
		for _, found := range quotedPattern.FindAllStringSubmatch(action, -1) {
			key, _, computed := strings.Cut(found[1]+found[2], "%")
			if computed && key != "" || strings.HasSuffix(key, ".") {
				named.prefixes = append(named.prefixes, key)
			}
			named.keys[key] = true
			named.addComponent(key)
		}
		for _, found := range textCallPattern.FindAllStringSubmatch(action, -1) {
			assert.True(t, texts[found[1]] != "", "%s: the catalog has no key %q", path, found[1])
		}
	}
}

// chineseFiles are the files outside catalogs and documents that contain Chinese, each with the reason why it is not a text for users.
var chineseFiles = map[string]string{
	"docs/openapi-wire.json":                "responses of the platform",
	"internal/contract/errcode/codes.go":    "the wire: texts of the platform",
	"internal/domain/codes/ticket.go":       "the wire: a text of the platform",
	"internal/edge/api/link_list.go":        "the wire: names that the platform gives",
	"internal/edge/guide/synonyms.go":       "search words, which are never displayed",
	"internal/edge/guide/search.go":         "stop words of search queries",
	"internal/print/labels/bought.go":       "what may stand behind a number that people type",
	"internal/emulator/cassette/standin.go": "stands in for a name in Chinese",
	"compat/gs1/seed.yaml":                  "titles of links in two languages, which the suite compares",
	"compat/harness/codes.go":               "a name in Chinese that third-party clients send",
	"docs/contract/seen/answers.ndjson":     "responses of the platform",
}

// checkedExtensions are the file extensions of code, templates, scripts and tables.
var checkedExtensions = []string{".go", ".html", ".js", ".mjs", ".css", ".svg", ".txt", ".tmpl", ".sql", ".json", ".ndjson", ".yaml",
	".yml", ".sh", ".py", ".conf", ".service", ".fish", ".zsh"}

// skippedDirs are directories of catalogs, of expected test results, and of files that are not source code.
var skippedDirs = []string{i18n.Folder, "testdata", "node_modules", ".venv", ".git", "bin", "dist", "pages", "qrjump-data"}

// TestTranslations_ChineseOnlyInCatalogs verifies that only catalogs and documents contain Chinese (decision 59).
func TestTranslations_ChineseOnlyInCatalogs(t *testing.T) {
	t.Parallel()
	const root = "../.."
	files, found := 0, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir():
			if slices.Contains(skippedDirs, name) {
				return fs.SkipDir
			}
			return nil
		case !slices.Contains(checkedExtensions, filepath.Ext(name)) || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files++
		content, err := os.ReadFile(path)
		if i := bytes.IndexFunc(content, func(r rune) bool { return unicode.Is(unicode.Han, r) }); err == nil && i >= 0 {
			name, _ := filepath.Rel(root, path)
			found[name] = true
			line := 1 + bytes.Count(content[:i], []byte("\n"))
			assert.True(t, chineseFiles[name] != "", "%s:%d has Chinese, want a key of a catalog (decision 59)", name, line)
		}
		return err
	})
	require.True(t, err == nil && files >= 500, "read %d files, %v, want at least 500", files, err)
	for name := range chineseFiles {
		assert.True(t, found[name], "%s has no Chinese: remove it from chineseFiles", name)
	}
}

// TestTranslations_ChineseTermForResponse verifies that a response of a server is called 响应 or 返回, not 回答 (an answer by a person).
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
				t.Errorf("%s:%d has 回答, want 响应, 返回 or 结果", path, 1+bytes.Count(before, []byte("\n")))
			}
			return err
		})
		assert.True(t, err == nil, "%v", err)
	}
	assert.True(t, files >= 150, "read %d files, want at least 150", files)
}
