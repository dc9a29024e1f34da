package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/qrjump/qrjump/internal/phrase"
)

// Issue 16: the name of each thing that doctor looks at has its Chinese, and each measure its words. The rest of what it says
// TestEveryTextIsSaid finds.
func TestDoctorKnowsChinese(t *testing.T) {
	named := regexp.MustCompile(`\b(?:pass|warn|fail|well|bad)\("(\w+)"|About: "(\w+)"`)
	abouts := 0
	for _, file := range []string{"doctor.go", "../../internal/server/examine.go"} {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range named.FindAllStringSubmatch(string(code), -1) {
			abouts++
			if name := found[1] + found[2]; !book.Has("about." + name) {
				t.Errorf("%s: %q has no name in the book", file, name)
			}
		}
	}
	if abouts < 40 {
		t.Fatalf("only %d things were found", abouts)
	}
	for _, g := range gauges {
		if !book.Has("about."+g.about) || !book.Has("doctor."+g.name) || !book.Has("doctor."+g.name+".next") {
			t.Errorf("%s has no words", g.name)
		}
	}
}

// Numbers stand where Chinese has them, and words within words are said in Chinese.
func TestDoctorsWordsAreFilledIn(t *testing.T) {
	chinese := reader("zh")
	for want, text := range map[string]phrase.Text{
		"共检查 12 项，其中 1 项有问题":   say("doctor.wrong", 1, say("count.check", 12)),
		"http://a：没有回答：x":      say("doctor.of", "http://a", say("doctor.node.silent", "x")),
		"已知 2 个节点，最落后的差 1 次扫码": say("doctor.nodes", say("count.node", 2), say("count.scan", 1)),
		"请指明目录：--backups DIR；请做一份：qrjump export FILE --passphrase-file FILE": say("doctor.backup.where.next",
			say("doctor.backup.next")),
	} {
		if got := chinese.say(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
