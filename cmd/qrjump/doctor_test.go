package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
)

// wordsOf finds the texts that a file of Go says by say or Say, the names of what
// was looked at, and the texts of its table of metrics.
func wordsOf(t *testing.T, file string) (texts, abouts []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	literal := func(e ast.Expr) (string, bool) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(lit.Value)
		return text, err == nil
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			if len(n.Args) == 0 {
				return true
			}
			text, ok := literal(n.Args[0])
			switch {
			case ok && (name == "say" || name == "Say"):
				texts = append(texts, text)
			case ok && slices.Contains([]string{"pass", "warn", "fail", "well", "bad"}, name):
				abouts = append(abouts, text)
			}
		case *ast.KeyValueExpr:
			key, _ := n.Key.(*ast.Ident)
			if text, ok := literal(n.Value); ok && key != nil && (key.Name == "says" || key.Name == "next") {
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts, abouts
}

var blank = regexp.MustCompile(`%(?:\.\d+)?(?:\[\d+\])?([a-z])`)

// Issue 16: what doctor says, it says in Chinese too, with the same things filled in.
func TestDoctorKnowsChinese(t *testing.T) {
	said := map[string]bool{}
	for _, file := range []string{"doctor.go", "../../internal/server/examine.go"} {
		texts, abouts := wordsOf(t, file)
		if len(texts) < 15 || len(abouts) < 5 {
			t.Fatalf("%s: only %d texts about %d things were found", file, len(texts), len(abouts))
		}
		for _, text := range texts {
			said[text] = true
			chinese, ok := doctorChinese[text]
			if !ok && strings.Trim(blank.ReplaceAllString(text, ""), ": ") != "" {
				t.Errorf("%s: %q has no Chinese", file, text)
			}
			if ok && len(blank.FindAllString(text, -1)) != len(blank.FindAllString(chinese, -1)) {
				t.Errorf("%q fills in others than %q", chinese, text)
			}
		}
		for _, about := range abouts {
			if aboutChinese[about] == "" {
				t.Errorf("%s: %q has no Chinese", file, about)
			}
		}
	}
	for text := range doctorChinese {
		if !said[text] && !slices.Contains([]string{writeHTTPS, writeHTTP, unknownAuthority, maybeTLS, hangs, "check " + whereFlags,
			"start one with: qrjump serve --dev, or say where it is: " + whereFlags,
			"name the server as its certificate does: " + whereFlags}, text) {
			t.Errorf("doctor never says %q", text)
		}
	}
}

// Numbers stand where Chinese has them, and words within words are said in Chinese.
func TestDoctorsWordsAreFilledIn(t *testing.T) {
	chinese := languageFlags{Lang: "zh"}
	for want, words := range map[string]server.Words{
		"data 所在磁盘剩余 1.5 GB":   server.Say("%.1f GB are free where %s is", 1.5, "data"),
		"共检查 12 项，其中 1 项有问题":   say("%d of %s found something wrong", 1, amount{12, "check"}),
		"http://a：没有回答：x":      say("%s: %s", "http://a", say("it does not answer: %s", "x")),
		"disk full 100%":       server.Said("disk full 100%"),
		"已知 2 个节点，最落后的差 0 次扫码": say("%s known, the furthest behind by %s", amount{2, "node"}, amount{0, "scan"}),
		"请指明目录：--backups DIR；请做一份：qrjump export FILE --passphrase-file FILE": say("name the folder: --backups DIR; %s",
			say("make one: qrjump export FILE --passphrase-file FILE")),
	} {
		if got := chinese.words(words); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
