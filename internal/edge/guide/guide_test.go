package guide_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/qrjump/qrjump/docs"
	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

func open(t *testing.T) *guide.Guide {
	t.Helper()
	g, err := guide.New(docs.Pages, "", "test")
	require.NoError(t, err)
	return g
}

func get(t *testing.T, h http.Handler, target string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Result(), string(body)
}

// sources are the texts of a language by their names.
func sources(t *testing.T, language string) map[string][]byte {
	t.Helper()
	texts := map[string][]byte{}
	require.NoError(t, fs.WalkDir(docs.Pages, language, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(docs.Pages, name)
		texts[strings.TrimPrefix(name, language+"/")] = text
		return err
	}))
	return texts
}

// A page of one language has its like in the other: the same headings, tables, rows and blocks, and blocks that
// run are equal. A Chinese page names the English text that it translates.
func TestGuide_TranslationsMatch(t *testing.T) {
	english, chinese := sources(t, "en"), sources(t, "zh")
	for name := range chinese {
		assert.True(t, english[name] != nil, "zh/%s translates no page", name)
	}
	for name, text := range english {
		other := chinese[name]
		if other == nil {
			t.Errorf("en/%s has no page in Chinese", name)
			continue
		}
		got, _, _ := strings.Cut(strings.TrimPrefix(string(other), "<!-- translates "), " ")
		want := guide.Hash(text)
		assert.True(t, got == want,
			"zh/%s translates %q of en/%s, which is now %s: bring it up to date, and put the line\n<!-- translates %s -->\nat its top",
			name, got, name, want, want)
		if a, b := shape(text), shape(guide.Body(other)); !slices.Equal(a, b) {
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s: part %d is %q in English and %q in Chinese", name, i+1, a[i], b[i])
					break
				}
			}
			t.Errorf("%s has %d parts in English, %d in Chinese", name, len(a), len(b))
		}
		han := regexp.MustCompile(`\p{Han}`).FindAll(text, -1)
		assert.True(t, len(han) <= 200, "en/%s has %d characters of Chinese", name, len(han))
	}
}

// shape is what two texts that say the same have in common: the levels of headings, the columns of rows, how a block begins, and
// the commands in it.
func shape(text []byte) (parts []string) {
	block := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			if block == "" {
				block = line
				parts = append(parts, strings.Fields(line)[0])
			} else {
				block = ""
			}
		case strings.HasPrefix(block, "```sh"):
			if code, _, _ := strings.Cut(line, " #"); strings.TrimSpace(code) != "" && !strings.HasPrefix(code, "#") {
				parts = append(parts, strings.TrimSpace(code))
			}
		case block != "":
		case strings.HasPrefix(line, "#"):
			parts = append(parts, line[:strings.IndexByte(line, ' ')])
		case strings.HasPrefix(line, "|"):
			parts = append(parts, fmt.Sprint("row of ", strings.Count(line, "|")))
		}
	}
	return parts
}

var inlined = regexp.MustCompile(`(?i) style=|<style| on[a-z]+=|<script>|<!-- raw HTML`)

var address = regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)

// Every page is small, loads nothing of others, and each of its links leads to a page of the same language or to a heading that is there.
func TestGuide_PagesSelfContained(t *testing.T) {
	g, pages := open(t), linked{}
	for _, language := range []string{"en", "zh"} {
		for name, text := range sources(t, language) {
			at := guide.Root + language + "/" + strings.TrimSuffix(strings.TrimSuffix(name, ".md"), "README")
			answer, body := get(t, g, at)
			most := 150 << 10
			if name == "commands.md" { // it has a line for each flag of each verb, and grows with them
				most = 180 << 10
			}
			assert.True(t, answer.StatusCode == http.StatusOK && len(body) <= most,
				"%s answers %d with %d bytes", at, answer.StatusCode, len(body))
			assert.Equal(t, answer.Header.Get("Content-Security-Policy"), guide.Policy, "%s has the policy", at)
			assert.Equal(t, inlined.FindString(body), "", "%s has something inline, or left HTML out", at)
			assert.True(t, strings.Contains(body, `<html lang="`+map[string]string{"en": "en", "zh": "zh-CN"}[language]+`">`),
				"%s does not say its language", at)
			_, main, _ := strings.Cut(body, "<main")
			for i, found := range address.FindAllStringSubmatch(body, -1) {
				to, err := url.Parse(strings.ReplaceAll(found[1], "&amp;", "&"))
				if err != nil {
					t.Errorf("%s: link %d: %v", at, i, err)
					continue
				}
				inText := strings.Contains(main, found[0])
				switch {
				case found[1] == "data:,", strings.HasPrefix(to.Path, "/qrjump/"), strings.HasSuffix(to.Path, "/search"):
				case to.Host != "":
					assert.True(t, strings.HasPrefix(found[0], "href") && to.Scheme == "https", "%s loads %s", at, found[1])
				case inText && to.Path != "" && strings.HasPrefix(to.Path, guide.Root) && !strings.HasSuffix(to.Path, ".svg") &&
					!strings.HasPrefix(to.Path, guide.Root+language+"/"):
					t.Errorf("%s links %s of another language", at, found[1])
				default:
					target := to.Path
					if target == "" {
						target = at
					}
					page, got := pages[target]
					if !got {
						answer, body := get(t, g, target)
						page.status, page.body = answer.StatusCode, body
						pages[target] = page
					}
					assert.True(t, page.status == http.StatusOK, "%s links %s, which answers %d", at, to, page.status)
					assert.True(t, to.Fragment == "" || strings.Contains(page.body, `id="`+to.Fragment+`"`),
						"%s links %s, which has no such heading", at, to)
				}
			}
			for i, line := range strings.Split(string(text), "\n") {
				n := utf8.RuneCountInString(line)
				assert.True(t, n <= 140 || strings.HasPrefix(line, "|"), "%s/%s:%d has %d columns", language, name, i+1, n)
			}
		}
	}
}

// linked are pages that were got, by their addresses: most links lead to the same few.
type linked map[string]struct {
	status int
	body   string
}

// What no test runs says so, and why, in the reader's language.
func TestGuide_UntestedBlocksGiveReason(t *testing.T) {
	g := open(t)
	for at, want := range map[string]string{"/docs/en/how/nodes": "This command is not tested: it wants two PostgreSQL servers",
		"/docs/zh/how/nodes": "我们的测试没有运行这段命令：需要两台 PostgreSQL"} {
		_, body := get(t, g, at)
		assert.True(t, strings.Contains(body, `<p class="muted">`+want), "%s does not say %q", at, want)
	}
}

// Links of all texts of the repository lead to files beside them, so that they work on a code host as well.
func TestDocs_LinksResolveToFiles(t *testing.T) {
	names, err := filepath.Glob("../../../*.md")
	require.NoError(t, err)
	err = filepath.WalkDir("../../../docs", func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == "docgen" {
			return fs.SkipDir // parts of pages, which are checked where they are printed
		}
		if strings.HasSuffix(name, ".md") {
			names = append(names, name)
		}
		return err
	})
	require.True(t, err == nil && len(names) >= 150, "%v %v", len(names), err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		text = regexp.MustCompile("(?s)\n```.*?\n```").ReplaceAll(text, nil) // programs have such brackets too
		for _, found := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllSubmatch(text, -1) {
			assert.NoErrorf(t, assert.ErrorOf(os.Stat(filepath.Join(filepath.Dir(name), string(found[1])))),
				"%s links %s, which is not there", name, found[1])
		}
	}
}

func TestGuide_AcceptLanguage(t *testing.T) {
	g := open(t)
	for accepted, want := range map[string]string{"": "en", "zh-CN,zh;q=0.9,en;q=0.8": "zh", "de,en;q=0.5": "en", "zh": "zh", "fr": "en"} {
		for _, at := range []string{"/docs", "/docs/"} {
			if answer, _ := get(t, g, at, "Accept-Language", accepted); answer.Header.Get("Location") != guide.Root+want+"/" {
				t.Errorf("%s with %q leads to %q, wanted %s", at, accepted, answer.Header.Get("Location"), want)
			}
		}
	}
	for _, at := range []string{"/docs/en/none", "/docs/zh/none", "/docs/fr/", "/docs/en/../zh", "/docs/en/none.md"} {
		answer, body := get(t, g, at)
		assert.True(t, answer.StatusCode == http.StatusNotFound && strings.Contains(body, "<h1>"), "%s answers %d", at, answer.StatusCode)
	}
}

func TestGuide_PageRenderedOnce(t *testing.T) {
	g := open(t)
	answer, body := get(t, g, "/docs/en/tour")
	tag := answer.Header.Get("ETag")
	if again, rest := get(t, g, "/docs/en/tour", "If-None-Match", tag); again.StatusCode != http.StatusNotModified || rest != "" {
		t.Errorf("the same page again: %d, %d bytes", again.StatusCode, len(rest))
	}
	zipped, short := get(t, g, "/docs/en/tour", "Accept-Encoding", "gzip")
	assert.True(t, zipped.Header.Get("Content-Encoding") == "gzip" && len(short) < len(body)/2,
		"zipped: %v, %d of %d bytes", zipped.Header, len(short), len(body))
	assert.True(t, strings.Contains(body, assets.Sheet.Path()), "the page has not the look of the others")
	text, source := get(t, g, "/docs/en/tour.md")
	assert.True(t, text.Header.Get("Content-Type") == "text/markdown; charset=utf-8" && strings.HasPrefix(source, "# "),
		"as Markdown: %v, %.20q", text.Header, source)
}

// A line that ends in English ends a word, one that ends in Chinese does not.
func TestGuide_LineJoiningByLanguage(t *testing.T) {
	g := open(t)
	_, body := get(t, g, "/docs/en/calls/qrcodejumpadd")
	assert.True(t, !strings.Contains(body, "body.A third"), "two words became one where a line ends")
	_, body = get(t, g, "/docs/zh/how/sdk")
	assert.True(t, !regexp.MustCompile(`\p{Han}[，。]\s+\p{Han}`).MatchString(body), "a line of Chinese ends in a space")
}

// The server's own address stands where the texts have the usual one.
func TestGuide_ServerAddressSubstituted(t *testing.T) {
	g, err := guide.New(docs.Pages, "https://qr.example:8443", "test")
	require.NoError(t, err)
	_, body := get(t, g, "/docs/zh/tour")
	assert.True(t, !strings.Contains(body, guide.Example) && strings.Contains(body, "https://qr.example:8443/cgi-bin/"),
		"the page names another server")
}

func TestGuideSearch_EnglishAndChinese(t *testing.T) {
	g := open(t)
	for _, one := range []struct{ language, asked, want string }{
		{"en", "final slash", "/docs/en/matching#prefixes-that-end-with-a-slash"},
		{"en", "EXPLAIN", "/docs/en/tour"},
		{"en", "wxc0ffee0000000001", "/docs/en/tour"},
		{"zh", "斜杠", "/docs/zh/matching#prefixes-that-end-with-a-slash"},
		{"zh", "启动服务器", "/docs/zh/tour#start-a-server"},
		{"zh", "未发布", "/docs/zh/matching"},
		{"zh", "二维码规则", "/docs/zh/calls/qrcodejumpadd"},
		{"zh", "码包密钥", "/docs/zh/errors#80313"},
		{"zh", "录制 平台", "/docs/zh/commands"},
		{"en", "40164", "/docs/en/errors#40164"},
		{"en", "qrcodejumppublish", "/docs/en/calls/qrcodejumppublish"},
	} {
		answer, body := get(t, g, guide.Root+one.language+"/search?q="+url.QueryEscape(one.asked))
		_, list, _ := strings.Cut(body, `class="found"`)
		assert.True(t, answer.StatusCode == http.StatusOK && strings.Contains(list, `href="`+one.want) && strings.Contains(list, "<mark>"),
			"%s: %q finds not %s:\n%s", one.language, one.asked, one.want, list)
	}
	for _, nothing := range []string{"", "zzzzzz", strings.Repeat("长", 5000), `"><script>alert(1)</script>`, "\xff"} {
		answer, body := get(t, g, "/docs/zh/search?q="+url.QueryEscape(nothing))
		assert.True(t, answer.StatusCode == http.StatusOK && !strings.Contains(body, "<script>alert") && len(body) <= 60<<10,
			"%.20q answers %d with %d bytes", nothing, answer.StatusCode, len(body))
	}
}

// Readers ask in the words of their trade, which are not always those of the page: the first place is the one that they look for.
func TestGuideSearch_Synonyms(t *testing.T) {
	g := open(t)
	place := regexp.MustCompile(`<li><a href="([^"#]*)(#[^"]*)?"`)
	for asked, want := range testtable.Map(t, "testdata/searches.txt") {
		for _, language := range []string{"en", "zh"} {
			_, body := get(t, g, guide.Root+language+"/search?q="+url.QueryEscape(asked))
			_, list, _ := strings.Cut(body, `class="found"`)
			// A short answer may stand before the place, or behind it.
			var found []string
			for _, one := range place.FindAllStringSubmatch(list, 2) {
				if found = append(found, one[1]+one[2]); one[1] != guide.Root+language+"/questions" {
					break
				}
			}
			assert.True(t, slices.Contains(found, guide.Root+language+"/"+want),
				"%s: %q leads to %v, wanted %s", language, asked, found, want)
		}
	}
}

// A synonym of a missing section would lead to an error page.
func TestGuideSearch_SynonymTargetsExist(t *testing.T) {
	g := open(t)
	for name := range guide.Synonyms {
		page, anchor, _ := strings.Cut(name, "#")
		r, body := get(t, g, guide.Root+"en/"+page)
		assert.True(t, r.StatusCode == 200 && (anchor == "" || strings.Contains(body, ` id="`+anchor+`"`)), "nothing is called %q", name)
	}
}

// Pages without a language, and a page that the contents do not name, are found at start.
func TestGuide_RejectsInconsistentPages(t *testing.T) {
	part, err := fs.Sub(docs.Pages, "en")
	require.NoError(t, err)
	assert.True(t, assert.ErrorOf(guide.New(part, "", "")) != nil, "pages without a language were taken")
	more := fstest.MapFS{}
	for _, language := range []string{"en", "zh"} {
		for name, text := range sources(t, language) {
			more[language+"/"+name] = &fstest.MapFile{Data: text}
		}
	}
	assert.NoError(t, assert.ErrorOf(guide.New(more, "", "")))
	more["en/calls/another.md"] = &fstest.MapFile{Data: []byte("# Another\n")}
	more["zh/calls/another.md"] = more["en/calls/another.md"]
	_, err = guide.New(more, "", "")
	assert.True(t, err != nil && strings.Contains(err.Error(), "en/calls/another.md is missing in the contents"),
		"a page that the contents do not name: %v", err)
}

// The two first pages of the repository say the same.
func TestReadme_TranslationsMatch(t *testing.T) {
	shapes := map[string][]string{}
	for _, name := range []string{"README.md", "README.zh.md"} {
		text, err := os.ReadFile("../../../" + name)
		require.NoError(t, err)
		lines := bytes.Count(text, []byte("\n"))
		assert.True(t, lines <= 60, "%s has %d lines, wanted a screen", name, lines)
		shapes[name] = shape(text)
	}
	assert.True(t, slices.Equal(shapes["README.md"], shapes["README.zh.md"]),
		"the first pages differ:\n%q\n%q", shapes["README.md"], shapes["README.zh.md"])
}
