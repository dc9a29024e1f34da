package guide

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	tables "github.com/yuin/goldmark/extension/ast"
)

const (
	maxAsked = 200 // maximum number of characters of a search text
	maxFound = 30
)

// index finds sections of pages by their words. A word of letters and digits is one term, in lower case; in Chinese each character
// and each pair of adjacent characters is a term, because Chinese text does not mark word boundaries.
type index struct {
	places []place
	terms  map[string][]posting
}

// place is the section of a page under one heading.
type place struct {
	page   *page
	anchor string
	title  string
	text   string
	terms  int
}

// name returns the name of the page with the anchor of the heading.
func (p place) name() string {
	if p.anchor == "" {
		return p.page.name
	}
	return p.page.name + "#" + p.anchor
}

type posting struct {
	place int
	times float64 // weighted number of occurrences; a term in a title counts several times
}

const (
	titleWorth   = 8 // weight of a term in the title of a page, relative to 1 in its text
	headingWorth = 4

	// looked is the weight of a section of a reference page (lookups); a section of any other page has the weight 1.
	looked = 0.5
)

// lookups lists the long reference pages with tables. Each of these pages contains nearly every word.
var lookups = []string{"commands", "settings", "metrics", "behaviours", "handbook#database-tables", "handbook#growth-of-costs-with-data"}

// errorWords are additional search words of each error number.
const errorWords = "errcode errmsg error code 错误码 返回码 报错"

// rank returns the weight of a section relative to other sections with the same words.
func (p place) rank() float64 {
	page, _, _ := strings.Cut(p.name(), "#")
	inCall := strings.HasPrefix(page, "calls/") && strings.Contains(p.title, ": ") && p.anchor != ""
	if slices.Contains(lookups, page) || slices.Contains(lookups, p.name()) || inCall {
		return looked
	}
	return 1
}

var programs = []string{"go", "java", "js", "python"}

// newIndex indexes pages. The parameter first contains the same pages in the first language: search results use the anchors of those pages.
func newIndex(pages, first []*page) *index {
	x := &index{terms: map[string][]posting{}}
	for i, p := range pages {
		x.add(p, anchors(first[i].parse()))
	}
	return x
}

func (x *index) add(p *page, names []string) {
	pos, loc := -1, place{page: p}
	var said strings.Builder
	flush := func() {
		loc.text = strings.Join(strings.Fields(said.String()), " ")
		if pos >= 0 {
			x.put(loc, pos == 0)
		}
		said.Reset()
	}
	tree := p.parse()
	ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Heading:
			if entering {
				flush()
				pos++
				loc = place{page: p, title: plain(n, p.source)}
				if pos < len(names) && pos > 0 {
					loc.anchor = names[pos]
				}
				return ast.WalkSkipChildren, nil
			}
		case *ast.Text:
			if entering {
				said.Write(n.Segment.Value(p.source))
				if n.SoftLineBreak() || n.HardLineBreak() {
					said.WriteByte(' ')
				}
			}
		case *ast.FencedCodeBlock:
			// Example programs are skipped, because they contain the words of the call that they show and would be found instead of
			// the call's page.
			if entering && !slices.Contains(programs, string(n.Language(p.source))) {
				for i := range n.Lines().Len() {
					line := n.Lines().At(i)
					said.Write(line.Value(p.source))
				}
			}
		case *ast.Paragraph, *ast.TextBlock, *tables.TableCell, *ast.ListItem:
			if !entering {
				said.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	flush()
}

func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, is := n.(*ast.Text); is && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

func (x *index) put(loc place, first bool) {
	counts := map[string]float64{}
	for _, term := range terms(loc.text) {
		counts[term]++
		loc.terms++
	}
	if loc.page.name == "errors" {
		if first { // the introduction lists every number, so that it would match each of them
			maps.DeleteFunc(counts, func(term string, _ float64) bool { return strings.Trim(term, "0123456789") == "" })
		}
		for _, term := range terms(errorWords) {
			counts[term]++
		}
	}
	worth := float64(headingWorth)
	if first {
		worth = titleWorth
	}
	for _, term := range append(terms(loc.title), terms(Synonyms[loc.name()])...) {
		counts[term] += worth
	}
	for term, times := range counts {
		x.terms[term] = append(x.terms[term], posting{len(x.places), times})
	}
	x.places = append(x.places, loc)
}

// thousands matches the comma in numbers such as 10,000.
var thousands = regexp.MustCompile(`(\d),(\d{3})`)

// terms returns the search terms of a text.
func terms(text string) (list []string) {
	text = thousands.ReplaceAllString(text, "$1$2")
	word := -1 // start of the current word; -1 = outside a word
	var last rune
	end := func(pos int) {
		if word >= 0 {
			list = append(list, stem(text[word:pos]))
			// A name with several parts can also be found by its parts.
			if parts := strings.FieldsFunc(text[word:pos], func(r rune) bool { return r == '_' }); len(parts) > 1 {
				for _, part := range parts {
					list = append(list, stem(part))
				}
			}
			word = -1
		}
	}
	for i, r := range text {
		switch {
		case unicode.Is(unicode.Han, r):
			end(i)
			list = append(list, string(r))
			if last != 0 {
				list = append(list, string([]rune{last, r}))
			}
			last = r
			continue
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_':
			if word < 0 {
				word = i
			}
		default:
			end(i)
		}
		last = 0
	}
	end(len(text))
	return list
}

// stem returns a word in its search form: in lower case, without a plural "s".
func stem(word string) string {
	word = strings.ToLower(word)
	if len(word) > 3 && strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss") {
		return word[:len(word)-1]
	}
	return word
}

// idle lists words of a search text that carry no meaning for the search.
var idle = strings.Fields("a an and are at can do does for from how i in is it me my of on or our the this to we what when where " +
	"which who why with you your")

// asking removes the words that make a Chinese text a question.
var asking = strings.NewReplacer("请问", " ", "如何", " ", "怎么样", " ", "怎样", " ", "怎么", " ", "为什么", " ", "什么是", " ", "是什么", " ",
	"能不能", " ", "能否", " ", "可以", " ", "吗", " ", "呢", " ")

type found struct {
	Title, Path string
	Words       []fragment
	score       float64
}

type fragment struct {
	Text string
	Hit  bool
}

type results struct{ Found []found }

// find returns the sections that contain every term of the search text, the best first; without such a section, the sections that contain
// some of the terms. A Chinese search text is split into character pairs, because single characters occur in nearly every section.
func (x *index) find(question string) []found {
	if plain := asking.Replace(question); strings.TrimSpace(plain) != "" {
		question = plain
	}
	asked := terms(question)
	if slices.ContainsFunc(asked, func(t string) bool { return utf8.RuneCountInString(t) == 2 && isHan(t) }) {
		asked = slices.DeleteFunc(asked, func(t string) bool { return utf8.RuneCountInString(t) == 1 && isHan(t) })
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if telling := slices.DeleteFunc(slices.Clone(asked), func(t string) bool { return slices.Contains(idle, t) }); len(telling) > 0 {
		asked = telling
	}
	scores, hits := map[int]float64{}, map[int]int{}
	for _, term := range asked {
		list := x.terms[term]
		weight := math.Log(1 + float64(len(x.places))/float64(1+len(list)))
		for _, p := range list {
			length := 0.5 + 0.5*float64(x.places[p.place].terms)/120
			scores[p.place] += weight * p.times / (p.times + 1.2*length) * (1 + min(p.times, 16)/16)
			hits[p.place]++
		}
	}
	var list []found
	best := 0
	for _, n := range hits {
		best = max(best, n)
	}
	for pos, score := range scores {
		if hits[pos] < best {
			continue
		}
		loc := x.places[pos]
		title := loc.page.title
		if loc.anchor != "" {
			title += " · " + loc.title
		}
		list = append(list, found{Title: title, Path: Root + loc.page.language.Code + "/" + loc.name(), score: score * loc.rank(),
			Words: excerpt(loc.text, asked)})
	}
	slices.SortFunc(list, func(a, b found) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.Path, b.Path)) })
	return list[:min(len(list), maxFound)]
}

func isHan(term string) bool {
	r, _ := utf8.DecodeRuneInString(term)
	return unicode.Is(unicode.Han, r)
}

// excerpt returns the part of a text around the first matching term, with the terms marked.
func excerpt(text string, terms []string) []fragment {
	runes := []rune(text)
	lower := make([]rune, len(runes))
	for i, r := range runes {
		lower[i] = unicode.ToLower(r)
	}
	const around = 160
	hit := make([]bool, len(runes))
	first := -1
	for _, term := range terms {
		want := []rune(term)
		for i := 0; i+len(want) <= len(lower); i++ {
			if slices.Equal(lower[i:i+len(want)], want) {
				for j := range want {
					hit[i+j] = true
				}
				if first < 0 || i < first {
					first = i
				}
			}
		}
	}
	from := max(0, first-around/3)
	to := min(len(runes), from+around)
	var list []fragment
	if from > 0 {
		list = append(list, fragment{Text: "… "})
	}
	for i := from; i < to; {
		j := i
		for j < to && hit[j] == hit[i] {
			j++
		}
		list = append(list, fragment{string(runes[i:j]), hit[i]})
		i = j
	}
	if to < len(runes) {
		list = append(list, fragment{Text: " …"})
	}
	return list
}

// search responds to GET /docs/LANGUAGE/search?q=…
func (g *Guide) search(w http.ResponseWriter, r *http.Request, l Language) {
	question := r.URL.Query().Get("q")
	if runes := []rune(question); len(runes) > maxAsked {
		question = string(runes[:maxAsked])
	}
	v := g.view(l, nil)
	v.Query, v.OtherLanguage.Path = question, v.OtherLanguage.Path+"search?"+url.Values{"q": {question}}.Encode()
	v.Title = v.Say("search")
	if question != "" {
		v.Title = v.Say("search.of", question)
	}
	v.Results = &results{Found: g.index[l.Code]().find(question)}
	g.write(w, http.StatusOK, v)
}
