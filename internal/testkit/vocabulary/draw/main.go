// Command draw prints random sentences of comments and documents. Readers mark those that are clear on first read.
//
//	go run ./internal/testkit/vocabulary/draw -seed 46 -comments 200 -documents 100
//
// The same seed and the same tree give the same sentences. Readers last marked the seeds 4231, 4232 and 4233.
package main

import (
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// sentence is a sentence with its location and its context: the line of code or the heading to which it belongs.
type sentence struct{ place, text, context string }

var (
	end       = regexp.MustCompile("[.!?] +[A-Z`\"]")
	generated = regexp.MustCompile(`(^|/)(` +
		`benchmarks|contract|calls|contract-tests\.md|handbook-tests\.md|size\.md|admin\.md|commands\.md|metrics\.md|` +
		`settings\.md|errors\.md|behaviours\.md|zh)(/|$)`)
	prose = regexp.MustCompile(`^[A-Za-z0-9*\[` + "`" + `"(]`)
)

func main() {
	seed := flag.Uint64("seed", 46, "the seed of the draw")
	comments := flag.Int("comments", 200, "the number of sentences of comments")
	documents := flag.Int("documents", 100, "the number of sentences of documents")
	flag.Parse()
	var ofComments, ofDocuments []sentence
	for _, root := range []string{"internal", "cmd", "client", "qrjumptest", "docs"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "testkit" ||
				entry.Name() == "servertest" || entry.Name() == "docgen"):
				return filepath.SkipDir
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				ofComments, err = appendComments(ofComments, path)
			case strings.HasSuffix(path, ".md") && !generated.MatchString(path):
				ofDocuments, err = appendDocument(ofDocuments, path)
			}
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	for _, draw := range []struct {
		from []sentence
		n    int
	}{{ofComments, *comments}, {ofDocuments, *documents}} {
		fmt.Printf("# %d of %d sentences\n", min(draw.n, len(draw.from)), len(draw.from))
		for i, pos := range random.Perm(len(draw.from))[:min(draw.n, len(draw.from))] {
			s := draw.from[pos]
			fmt.Printf("%d. %s\n   < %s\n   (%s)\n", i+1, s.text, s.context, s.place)
		}
	}
}

// split returns the sentences of a text that have at least four words.
func split(text string) (all []string) {
	for len(text) > 0 {
		next := text
		if pos := end.FindStringIndex(text); pos != nil {
			next = text[:pos[0]+1]
		}
		text = strings.TrimSpace(text[len(next):])
		if len(strings.Fields(next)) > 3 {
			all = append(all, next)
		}
	}
	return all
}

func appendComments(all []sentence, path string) ([]sentence, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(source), "\n")
	for _, group := range file.Comments {
		first, last := set.Position(group.Pos()).Line, set.Position(group.End()).Line
		code, _, _ := strings.Cut(lines[first-1], "//")
		if strings.TrimSpace(code) == "" && last < len(lines) {
			code = lines[last]
		}
		for _, text := range split(strings.Join(strings.Fields(group.Text()), " ")) {
			all = append(all, sentence{fmt.Sprintf("%s:%d", path, first), text, strings.TrimSpace(code)})
		}
	}
	return all, nil
}

func appendDocument(all []sentence, path string) ([]sentence, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	heading, paragraph, code := "", "", false
	flush := func() {
		for _, text := range split(paragraph) {
			all = append(all, sentence{path, text, heading})
		}
		paragraph = ""
	}
	for line := range strings.Lines(string(source) + "\n") {
		line = strings.TrimSpace(line)
		item := strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "* ") || regexp.MustCompile(`^\d+\. `).MatchString(line)
		switch {
		case strings.HasPrefix(line, "```"):
			code = !code
			flush()
		case code:
		case strings.HasPrefix(line, "#"):
			flush()
			heading = strings.TrimLeft(line, "# ")
		case item:
			flush()
			_, paragraph, _ = strings.Cut(line, " ")
		case prose.MatchString(line):
			paragraph = strings.TrimSpace(paragraph + " " + line)
		default:
			flush()
		}
	}
	flush()
	return all, nil
}
