package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/qrjump/qrjump"

// kind is the kind of change.
type kind string

const (
	negated kind = "negated"
	removed kind = "removed"
)

// mutant is one change of the product, enabled by MUTANT=number.
type mutant struct {
	Number  int
	File    string // relative to the root
	Line    int
	Nth     int // index among the mutants of the same kind on the line
	Kind    kind
	Func    string
	Text    string // the condition or the statement on one line
	from    int    // byte offsets of the wrapped source text
	to      int
	returns bool
	invalid string // reason why the mutant cannot be tested; "" = it can
}

// product returns the folders, relative to root, and files of the packages of the program, the client and the test server.
func product(ctx context.Context, root string) (map[string][]string, error) {
	list, err := output(ctx, root, "go", "list", "-deps", "-f", `{{if not .Standard}}{{.ImportPath}} {{.Dir}} {{join .GoFiles " "}}{{end}}`,
		"./cmd/qrjump", module+"/client", "./qrjumptest")
	if err != nil {
		return nil, err
	}
	files := map[string][]string{}
	for line := range strings.Lines(list) {
		field := strings.Fields(line)
		if !strings.HasPrefix(field[0], module) {
			continue
		}
		folder, err := filepath.Rel(root, field[1])
		if err != nil {
			return nil, err
		}
		files[folder] = field[2:]
	}
	return files, nil
}

// candidates returns all possible mutants of a file in source order.
func candidates(name string, src []byte) ([]mutant, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var found []mutant
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		last := map[ast.Node]bool{}
		tail(f.Body, last)
		add := func(k kind, n ast.Node) {
			from, to := fset.Position(n.Pos()), fset.Position(n.End())
			_, returns := n.(*ast.ReturnStmt)
			if last[n] {
				return
			}
			text := strings.Join(strings.Fields(string(src[from.Offset:to.Offset])), " ")
			found = append(found, mutant{File: name, Line: from.Line, Kind: k, Func: funcName(f), Text: text,
				from: from.Offset, to: to.Offset, returns: returns})
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				tail(n.Body, last)
			case *ast.IfStmt:
				add(negated, n.Cond)
			case *ast.BlockStmt:
				each(n.List, add)
			case *ast.CaseClause:
				each(n.Body, add)
			case *ast.CommClause:
				each(n.Body, add)
			}
			return true
		})
	}
	slices.SortStableFunc(found, func(a, b mutant) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	nth := map[string]int{}
	for i := range found {
		key := fmt.Sprint(found[i].Line, found[i].Kind)
		found[i].Nth = nth[key]
		nth[key]++
	}
	return found, nil
}

// tail adds the final return statements of a function to last: without them the function does not compile or does the same.
func tail(s ast.Stmt, last map[ast.Node]bool) {
	list := func(l []ast.Stmt) {
		if len(l) > 0 {
			tail(l[len(l)-1], last)
		}
	}
	switch s := s.(type) {
	case *ast.ReturnStmt:
		last[s] = true
	case *ast.LabeledStmt:
		tail(s.Stmt, last)
	case *ast.BlockStmt:
		list(s.List)
	case *ast.CaseClause:
		list(s.Body)
	case *ast.CommClause:
		list(s.Body)
	case *ast.IfStmt:
		if s.Else != nil {
			tail(s.Body, last)
			tail(s.Else, last)
		}
	case *ast.SwitchStmt:
		clauses(s.Body, last)
	case *ast.TypeSwitchStmt:
		clauses(s.Body, last)
	case *ast.SelectStmt:
		clauses(s.Body, last)
	}
}

func clauses(b *ast.BlockStmt, last map[ast.Node]bool) {
	for _, clause := range b.List {
		tail(clause, last)
	}
}

// each adds the statements that can be removed; declarations cannot.
func each(list []ast.Stmt, add func(kind, ast.Node)) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				add(removed, s)
			}
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt, *ast.DeferStmt, *ast.ReturnStmt, *ast.BranchStmt:
			add(removed, s)
		}
	}
}

func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	for {
		switch t := receiver.(type) {
		case *ast.StarExpr:
			receiver = t.X
		case *ast.IndexExpr:
			receiver = t.X
		case *ast.IndexListExpr:
			receiver = t.X
		case *ast.Ident:
			return t.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}

// drawCommit draws the mutants of a commit in a separate worktree and stores them in the folder dir of the settings.
func drawCommit(ctx context.Context, s settings) ([]mutant, error) {
	commit, err := output(ctx, s.root, "git", "rev-parse", "--short=12", s.commit)
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(s.dir, fmt.Sprintf("drawn-%s-%d-%d.json", strings.TrimSpace(commit), s.seed, s.count))
	var drawn []mutant
	if text, err := os.ReadFile(kept); err == nil {
		return drawn, json.Unmarshal(text, &drawn)
	}
	tree := filepath.Join(s.dir, "tree")
	if _, err := output(ctx, s.root, "git", "worktree", "add", "--force", "--detach", tree, strings.TrimSpace(commit)); err != nil {
		return nil, err
	}
	defer func() {
		_, err := output(context.WithoutCancel(ctx), s.root, "git", "worktree", "remove", "--force", tree)
		if err != nil {
			log.Print(err)
		}
	}()
	if drawn, err = draw(ctx, s, tree); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(drawn, "", " ")
	if err != nil {
		return nil, err
	}
	return drawn, os.WriteFile(kept, text, 0o644)
}

// draw draws random lines, and one random mutant of each line, until it has count mutants. It replaces mutants that do not
// compile.
func draw(ctx context.Context, s settings, root string) ([]mutant, error) {
	packages, err := product(ctx, root)
	if err != nil {
		return nil, err
	}
	type line struct {
		file string
		line int
	}
	var lines []line
	on := map[line][]mutant{}
	for _, folder := range slices.Sorted(maps.Keys(packages)) {
		for _, name := range packages[folder] {
			name = filepath.Join(folder, name)
			src, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				return nil, err
			}
			found, err := candidates(name, src)
			if err != nil {
				return nil, err
			}
			for _, m := range found {
				on[line{name, m.Line}] = append(on[line{name, m.Line}], m)
			}
			for i := range bytes.Count(src, []byte("\n")) {
				lines = append(lines, line{name, i + 1})
			}
		}
	}
	random := rand.New(rand.NewPCG(s.seed, 0))
	taken := map[string]bool{}
	var drawn []mutant
	for {
		for len(drawn) < s.count {
			place := on[lines[random.IntN(len(lines))]]
			if len(place) == 0 {
				continue
			}
			m := place[random.IntN(len(place))]
			key := fmt.Sprint(m.File, m.from, m.Kind)
			if taken[key] {
				continue
			}
			taken[key] = true
			drawn = append(drawn, m)
		}
		for i := range drawn {
			drawn[i].Number = i + 1
		}
		if err := markUncompilable(ctx, s, root, drawn); err != nil {
			return nil, err
		}
		before := len(drawn)
		drawn = slices.DeleteFunc(drawn, func(m mutant) bool { return m.invalid != "" })
		log.Printf("drew %d of %d lines in %d packages; %d did not compile", len(drawn), len(lines), len(packages), before-len(drawn))
		if len(drawn) == s.count {
			break
		}
	}
	for i := range drawn {
		drawn[i].Number = i + 1
	}
	return drawn, nil
}

var compileError = regexp.MustCompile(`(?m)^(?:\./)?([^\s:]+\.go):(\d+):\d+: `)

// markUncompilable sets invalid for the mutants that do not compile.
func markUncompilable(ctx context.Context, s settings, root string, mutants []mutant) error {
	for {
		overlay, err := schemata(ctx, s, root, mutants, false)
		if err != nil {
			return err
		}
		original, err := originalNames(overlay, root)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-gcflags="+module+"/...=-e", "-overlay", overlay,
			"./cmd/...", module+"/client", "./qrjumptest")
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		bad := map[int]bool{}
		for _, e := range compileError.FindAllSubmatch(out, -1) {
			n, err := strconv.Atoi(string(e[2]))
			if err != nil {
				return err
			}
			name := string(e[1])
			if !filepath.IsAbs(name) {
				name = filepath.Join(root, name)
			}
			blame(mutants, original[name], n, bad)
		}
		if len(bad) == 0 {
			return fmt.Errorf("go build: %w: %.2000s", err, out)
		}
		for i := range mutants {
			if bad[mutants[i].Number] {
				mutants[i].invalid = "does not compile"
			}
		}
	}
}

// originalNames returns the names of the files of an overlay, relative to root, by the paths of their replacements.
func originalNames(overlay, root string) (map[string]string, error) {
	var content struct{ Replace map[string]string }
	text, err := os.ReadFile(overlay)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for from, to := range content.Replace {
		if names[to], err = filepath.Rel(root, from); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// blame marks the mutants that cause a compile error on a line. These are the mutants on the line or, because "missing return" is
// reported at the end of a function, the nearest return above it.
func blame(mutants []mutant, name string, line int, bad map[int]bool) {
	nearest := -1
	found := false
	for i, m := range mutants {
		if m.File != name || m.invalid != "" {
			continue
		}
		if m.Line == line {
			bad[m.Number], found = true, true
		}
		if m.Line < line && m.returns && (nearest < 0 || m.Line > mutants[nearest].Line) {
			nearest = i
		}
	}
	if !found && nearest >= 0 {
		bad[mutants[nearest].Number] = true
	}
}

// schema is added to a package with mutants. If the environment of the process lacks MUTANT, it is read from the parent
// processes.
const schema = `package %s

import (
	mutantio "io"
	mutantos "os"
	mutantconv "strconv"
	mutantstrings "strings"
	mutantsync "sync"
)

var (
	mutantEnv      = mutantEnvironment()
	mutantSelected = func() int { n, _ := mutantconv.Atoi(mutantEnv["MUTANT"]); return n }()
	mutantRecord   = func() *mutantos.File {
		if mutantEnv["MUTANT_RECORD"] == "" {
			return nil
		}
		f, err := mutantos.OpenFile(mutantEnv["MUTANT_RECORD"], mutantos.O_APPEND|mutantos.O_WRONLY|mutantos.O_CREATE, 0o666)
		if err != nil {
			return nil
		}
		return f
	}()
	mutantSeen mutantsync.Map
)

func mutantEnvironment() map[string]string {
	m := map[string]string{}
	add := func(entry string) bool {
		name, value, _ := mutantstrings.Cut(entry, "=")
		if mutantstrings.HasPrefix(name, "MUTANT") {
			m[name] = value
		}
		return name == "MUTANT"
	}
	for _, entry := range mutantos.Environ() {
		add(entry)
	}
	pid := mutantconv.Itoa(mutantos.Getppid())
	for range 4 {
		if m["MUTANT"] != "" {
			break
		}
		env, _ := mutantos.ReadFile("/proc/" + pid + "/environ")
		for entry := range mutantstrings.SplitSeq(string(env), "\x00") {
			add(entry)
		}
		stat, _ := mutantos.ReadFile("/proc/" + pid + "/stat")
		if _, after, found := mutantstrings.Cut(string(stat), ") "); found {
			if f := mutantstrings.Fields(after); len(f) > 1 {
				pid = f[1]
			}
		}
	}
	return m
}

func mutantOn(n int) bool { return n == mutantSelected || mutantRecord != nil && mutantReached(n) }

func mutantReached(n int) bool {
	test, set := mutantos.LookupEnv("MUTANT_TEST")
	if !set {
		f, err := mutantos.Open(mutantEnv["MUTANT_RECORD"] + ".test")
		if err == nil {
			name, _ := mutantio.ReadAll(f)
			f.Close()
			test = string(name)
		}
	}
	key := mutantconv.Itoa(n) + " " + test + "\n"
	if _, seen := mutantSeen.LoadOrStore(key, true); !seen {
		mutantRecord.WriteString(key)
	}
	return false
}
`

// tests is added to a package with tests: it records the name of the running test while reached mutants are recorded.
const tests = `package %s

import (
	mutantos "os"
	mutantstrings "strings"
)

func mutantTest(name string) {
	record := mutantos.Getenv("MUTANT_RECORD")
	if record == "" {
		return
	}
	name, _, _ = mutantstrings.Cut(name, "/")
	mutantos.Setenv("MUTANT_TEST", name)
	mutantos.WriteFile(record+".test", []byte(name), 0o666)
}
`

// schemata writes an overlay that contains all mutants, disabled by default, and returns its path. With withTests, the tests also
// record their names.
func schemata(ctx context.Context, s settings, root string, mutants []mutant, withTests bool) (string, error) {
	dir := filepath.Join(s.dir, "overlay")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	replace := map[string]string{}
	put := func(name string, text []byte) error {
		path := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		replace[filepath.Join(root, name)] = path
		return os.WriteFile(path, text, 0o644)
	}
	byFile := map[string][]mutant{}
	for _, m := range mutants {
		if m.invalid == "" {
			byFile[m.File] = append(byFile[m.File], m)
		}
	}
	packages := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(byFile)) {
		src, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		if err := put(name, wrap(src, byFile[name])); err != nil {
			return "", err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.PackageClauseOnly)
		if err != nil {
			return "", err
		}
		if folder := filepath.Dir(name); !packages[folder] {
			packages[folder] = true
			if err := put(filepath.Join(folder, "zz_mutants.go"), fmt.Appendf(nil, schema, file.Name.Name)); err != nil {
				return "", err
			}
		}
	}
	if withTests {
		if err := nameTests(ctx, root, put); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o644)
}

// insertion is a text to insert before an offset.
type insertion struct {
	offset int
	end    bool // closes the wrapped source text
	length int  // of the wrapped source text
	text   string
}

// insert returns src with the insertions, whose wrapped texts may be nested. Line numbers do not change.
func insert(src []byte, list []insertion) []byte {
	slices.SortStableFunc(list, func(a, b insertion) int {
		if c := cmp.Compare(a.offset, b.offset); c != 0 {
			return c
		}
		if a.end != b.end { // closing texts precede opening ones
			if a.end {
				return -1
			}
			return 1
		}
		if a.end {
			return cmp.Compare(a.length, b.length)
		}
		return cmp.Compare(b.length, a.length)
	})
	var out bytes.Buffer
	last := 0
	for _, i := range list {
		out.Write(src[last:i.offset])
		out.WriteString(i.text)
		last = i.offset
	}
	out.Write(src[last:])
	return out.Bytes()
}

func wrap(src []byte, mutants []mutant) []byte {
	var list []insertion
	for _, m := range mutants {
		before, after := "(", fmt.Sprintf(") != mutantOn(%d)", m.Number)
		if m.Kind == removed {
			before, after = fmt.Sprintf("if !mutantOn(%d) { ", m.Number), " }"
		}
		list = append(list, insertion{offset: m.from, length: m.to - m.from, text: before},
			insertion{offset: m.to, end: true, length: m.to - m.from, text: after})
	}
	return insert(src, list)
}

// nameTests inserts a call of mutantTest at the beginning of each test and after each t.Parallel, where the test is resumed.
func nameTests(ctx context.Context, root string, put func(string, []byte) error) error {
	list, err := output(ctx, root, "go", "list", "-f", `{{.Dir}} {{join .TestGoFiles " "}} {{join .XTestGoFiles " "}}`, "./...")
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		field := strings.Fields(line)
		folder, err := filepath.Rel(root, field[0])
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, name := range field[1:] {
			name = filepath.Join(folder, name)
			src, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				return err
			}
			text, packageName, err := addTestNames(name, src)
			if err != nil {
				return err
			}
			if err := put(name, text); err != nil {
				return err
			}
			if names[packageName] {
				continue
			}
			names[packageName] = true
			if err := put(filepath.Join(folder, "zz_mutants_"+packageName+"_test.go"), fmt.Appendf(nil, tests, packageName)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addTestNames returns a test file with calls of mutantTest, and the name of its package.
func addTestNames(name string, src []byte) ([]byte, string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return nil, "", err
	}
	var list []insertion
	insertBefore := func(pos token.Pos, format string, args ...any) {
		list = append(list, insertion{offset: fset.Position(pos).Offset, text: fmt.Sprintf(format, args...)})
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		if f.Recv == nil && (isTest(f, "Test") || isTest(f, "Fuzz") || isTest(f, "Example")) {
			insertBefore(f.Body.Lbrace+1, " mutantTest(%q);", f.Name.Name)
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			s, ok := n.(*ast.ExprStmt)
			if !ok {
				return true
			}
			if call, ok := s.X.(*ast.CallExpr); ok && len(call.Args) == 0 {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Parallel" {
					if t, ok := sel.X.(*ast.Ident); ok {
						insertBefore(s.End(), "; mutantTest(%s.Name())", t.Name)
					}
				}
			}
			return true
		})
	}
	return insert(src, list), file.Name.Name, nil
}

func isTest(f *ast.FuncDecl, prefix string) bool {
	after, found := strings.CutPrefix(f.Name.Name, prefix)
	return found && f.Name.Name != "TestMain" && (after == "" || after[0] < 'a' || after[0] > 'z')
}
