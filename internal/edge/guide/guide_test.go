package guide_test

import (
	"bytes"
	"cmp"
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

func newGuide(t *testing.T) *guide.Guide {
	t.Helper()
	return require.Value(guide.New(docs.Pages, "", "test"))(t)
}

func get(t *testing.T, h http.Handler, target string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body := require.Value(io.ReadAll(w.Result().Body))(t)
	return w.Result(), string(body)
}

// readSources returns the Markdown texts of a language by file name.
func readSources(t *testing.T, language string) map[string][]byte {
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

// TestGuide_TranslationsMatch verifies that each page exists in both languages with the same headings, tables, rows and code blocks, that
// shell commands are equal, and that the Chinese page names the hash of the English text that it translates.
func TestGuide_TranslationsMatch(t *testing.T) {
	english, chinese := readSources(t, "en"), readSources(t, "zh")
	for name := range chinese {
		assert.True(t, english[name] != nil, "zh/%s exists, en/%s does not", name, name)
	}
	for name, text := range english {
		translation := chinese[name]
		if translation == nil {
			t.Errorf("en/%s exists, zh/%s does not", name, name)
			continue
		}
		got, _, _ := strings.Cut(strings.TrimPrefix(string(translation), "<!-- translates "), " ")
		want := guide.Hash(text)
		assert.True(t, got == want,
			"zh/%s translates %q of en/%s, which is now %s: update the translation and put the line\n<!-- translates %s -->\nat its top",
			name, got, name, want, want)
		if a, b := outline(text), outline(guide.Body(translation)); !slices.Equal(a, b) {
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s: part %d is %q in English and %q in Chinese", name, i+1, a[i], b[i])
					break
				}
			}
			t.Errorf("%s has %d parts in English, %d in Chinese, want equal outlines", name, len(a), len(b))
		}
		han := regexp.MustCompile(`\p{Han}`).FindAll(text, -1)
		assert.True(t, len(han) <= 200, "en/%s has %d Chinese characters, want at most 200", name, len(han))
	}
}

// outline returns the parts of a Markdown text that a translation keeps: heading levels, column counts of table rows, info strings of code
// blocks, and shell commands without their comments.
func outline(text []byte) (parts []string) {
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

// inlineContent matches inline styles, inline scripts, and the comment that goldmark writes in place of raw HTML.
var inlineContent = regexp.MustCompile(`(?i) style=|<style| on[a-z]+=|<script>|<!-- raw HTML`)

var linkAttribute = regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)

// TestGuide_PagesSelfContained verifies that each page has a limited size, loads no resource of another host, and links only to existing
// pages of its language and existing headings.
func TestGuide_PagesSelfContained(t *testing.T) {
	g := newGuide(t)
	type linkedPage struct {
		status int
		body   string
	}
	linkedPages := map[string]linkedPage{} // most links lead to the same few pages
	for _, language := range []string{"en", "zh"} {
		for name, text := range readSources(t, language) {
			path := guide.Root + language + "/" + strings.TrimSuffix(strings.TrimSuffix(name, ".md"), "README")
			answer, body := get(t, g, path)
			maxBytes := 150 << 10
			if name == "commands.md" { // grows with each flag of each verb
				maxBytes = 180 << 10
			}
			assert.True(t, answer.StatusCode == http.StatusOK && len(body) <= maxBytes,
				"%s: status %d, %d bytes; want 200, at most %d bytes", path, answer.StatusCode, len(body), maxBytes)
			assert.Equal(t, answer.Header.Get("Content-Security-Policy"), guide.Policy, "Content-Security-Policy of %s", path)
			assert.Equal(t, inlineContent.FindString(body), "", "inline content or omitted HTML of %s", path)
			assert.True(t, strings.Contains(body, `<html lang="`+map[string]string{"en": "en", "zh": "zh-CN"}[language]+`">`),
				"%s has no lang attribute for %s", path, language)
			_, main, _ := strings.Cut(body, "<main")
			for i, link := range linkAttribute.FindAllStringSubmatch(body, -1) {
				to, err := url.Parse(strings.ReplaceAll(link[1], "&amp;", "&"))
				if err != nil {
					t.Errorf("%s: link %d: %v", path, i, err)
					continue
				}
				inText := strings.Contains(main, link[0])
				switch {
				case link[1] == "data:,", strings.HasPrefix(to.Path, "/qrjump/"), strings.HasSuffix(to.Path, "/search"):
				case to.Host != "":
					assert.True(t, strings.HasPrefix(link[0], "href") && to.Scheme == "https", "%s loads %s", path, link[1])
				case inText && to.Path != "" && strings.HasPrefix(to.Path, guide.Root) && !strings.HasSuffix(to.Path, ".svg") &&
					!strings.HasPrefix(to.Path, guide.Root+language+"/"):
					t.Errorf("%s links to %s of another language", path, link[1])
				default:
					target := cmp.Or(to.Path, path)
					page, ok := linkedPages[target]
					if !ok {
						answer, body := get(t, g, target)
						page = linkedPage{answer.StatusCode, body}
						linkedPages[target] = page
					}
					assert.True(t, page.status == http.StatusOK, "%s links to %s: status %d, want 200", path, to, page.status)
					assert.True(t, to.Fragment == "" || strings.Contains(page.body, `id="`+to.Fragment+`"`),
						"%s links to %s, which has no such heading", path, to)
				}
			}
			for i, line := range strings.Split(string(text), "\n") {
				n := utf8.RuneCountInString(line)
				assert.True(t, n <= 140 || strings.HasPrefix(line, "|"), "%s/%s:%d has %d columns, want 140", language, name, i+1, n)
			}
		}
	}
}

// TestGuide_UntestedBlocksGiveReason verifies that a command that no test runs is marked as such, with the reason, in both languages.
func TestGuide_UntestedBlocksGiveReason(t *testing.T) {
	g := newGuide(t)
	for path, want := range map[string]string{"/docs/en/how/nodes": "This command is not tested: it wants two PostgreSQL servers",
		"/docs/zh/how/nodes": "我们的测试没有运行这段命令：需要两台 PostgreSQL"} {
		_, body := get(t, g, path)
		assert.True(t, strings.Contains(body, `<p class="muted">`+want), "%s does not contain %q", path, want)
	}
}

// TestDocs_LinksResolveToFiles verifies that links in all Markdown files of the repository are relative paths of existing files, so that
// they also work on a code host.
func TestDocs_LinksResolveToFiles(t *testing.T) {
	names, err := filepath.Glob("../../../*.md")
	require.NoError(t, err)
	err = filepath.WalkDir("../../../docs", func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == "docgen" {
			return fs.SkipDir // parts of generated pages, which are checked themselves
		}
		if strings.HasSuffix(name, ".md") {
			names = append(names, name)
		}
		return err
	})
	require.True(t, err == nil && len(names) >= 150, "%d Markdown files, %v; want at least 150", len(names), err)
	for _, name := range names {
		text := require.Value(os.ReadFile(name))(t)
		text = regexp.MustCompile("(?s)\n```.*?\n```").ReplaceAll(text, nil) // program code also contains ](
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllSubmatch(text, -1) {
			assert.NoErrorf(t, assert.ErrorOf(os.Stat(filepath.Join(filepath.Dir(name), string(link[1])))), "%s links to %s", name, link[1])
		}
	}
}

func TestGuide_AcceptLanguage(t *testing.T) {
	g := newGuide(t)
	for accepted, want := range map[string]string{"": "en", "zh-CN,zh;q=0.9,en;q=0.8": "zh", "de,en;q=0.5": "en", "zh": "zh", "fr": "en"} {
		for _, path := range []string{"/docs", "/docs/"} {
			answer, _ := get(t, g, path, "Accept-Language", accepted)
			assert.Equal(t, answer.Header.Get("Location"), guide.Root+want+"/", "redirect of %s with Accept-Language %q", path, accepted)
		}
	}
	for _, path := range []string{"/docs/en/none", "/docs/zh/none", "/docs/fr/", "/docs/en/../zh", "/docs/en/none.md"} {
		answer, body := get(t, g, path)
		assert.True(t, answer.StatusCode == http.StatusNotFound && strings.Contains(body, "<h1>"),
			"%s: status %d, want 404 with a page", path, answer.StatusCode)
	}
}

func TestGuide_PageRenderedOnce(t *testing.T) {
	g := newGuide(t)
	answer, body := get(t, g, "/docs/en/tour")
	etag := answer.Header.Get("ETag")
	if cached, rest := get(t, g, "/docs/en/tour", "If-None-Match", etag); cached.StatusCode != http.StatusNotModified || rest != "" {
		t.Errorf("page with a matching ETag: status %d, %d bytes; want 304 without a body", cached.StatusCode, len(rest))
	}
	compressed, short := get(t, g, "/docs/en/tour", "Accept-Encoding", "gzip")
	assert.True(t, compressed.Header.Get("Content-Encoding") == "gzip" && len(short) < len(body)/2,
		"compressed page: %v, %d of %d bytes; want less than half", compressed.Header, len(short), len(body))
	assert.True(t, strings.Contains(body, assets.Sheet.Path()), "the page does not load the shared style sheet %s", assets.Sheet.Path())
	text, source := get(t, g, "/docs/en/tour.md")
	assert.True(t, text.Header.Get("Content-Type") == "text/markdown; charset=utf-8" && strings.HasPrefix(source, "# "),
		"page as Markdown: %v, %.20q; want text/markdown with a heading", text.Header, source)
}

// TestGuide_LineJoiningByLanguage verifies that a line break is rendered as a space between English words, but not between Chinese ones.
func TestGuide_LineJoiningByLanguage(t *testing.T) {
	g := newGuide(t)
	_, body := get(t, g, "/docs/en/calls/qrcodejumpadd")
	assert.True(t, !strings.Contains(body, "body.A third"), "two English words are joined at a line break without a space")
	_, body = get(t, g, "/docs/zh/how/sdk")
	assert.True(t, !regexp.MustCompile(`\p{Han}[，。]\s+\p{Han}`).MatchString(body), "a space separates two lines of Chinese")
}

// TestGuide_ServerAddressSubstituted verifies that pages show the address of this server instead of the example address of the sources.
func TestGuide_ServerAddressSubstituted(t *testing.T) {
	g := require.Value(guide.New(docs.Pages, "https://qr.example:8443", "test"))(t)
	_, body := get(t, g, "/docs/zh/tour")
	assert.True(t, !strings.Contains(body, guide.Example) && strings.Contains(body, "https://qr.example:8443/cgi-bin/"),
		"the page shows the example address, want https://qr.example:8443")
}

func TestGuideSearch_EnglishAndChinese(t *testing.T) {
	g := newGuide(t)
	for _, c := range []struct{ language, query, want string }{
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
		answer, body := get(t, g, guide.Root+c.language+"/search?q="+url.QueryEscape(c.query))
		_, list, _ := strings.Cut(body, `class="found"`)
		assert.True(t, answer.StatusCode == http.StatusOK && strings.Contains(list, `href="`+c.want) && strings.Contains(list, "<mark>"),
			"%s: search for %q lacks %s:\n%s", c.language, c.query, c.want, list)
	}
	for _, query := range []string{"", "zzzzzz", strings.Repeat("长", 5000), `"><script>alert(1)</script>`, "\xff"} {
		answer, body := get(t, g, "/docs/zh/search?q="+url.QueryEscape(query))
		assert.True(t, answer.StatusCode == http.StatusOK && !strings.Contains(body, "<script>alert") && len(body) <= 60<<10,
			"search for %.20q: status %d, %d bytes; want 200 without the query as HTML", query, answer.StatusCode, len(body))
	}
}

// TestGuideSearch_Synonyms verifies that a search in a reader's own terms, which the page may not use, lists the expected section first.
func TestGuideSearch_Synonyms(t *testing.T) {
	g := newGuide(t)
	result := regexp.MustCompile(`<li><a href="([^"#]*)(#[^"]*)?"`)
	for query, want := range testtable.Map(t, "testdata/searches.txt") {
		for _, language := range []string{"en", "zh"} {
			_, body := get(t, g, guide.Root+language+"/search?q="+url.QueryEscape(query))
			_, list, _ := strings.Cut(body, `class="found"`)
			// An entry of the page of questions may precede the section or follow it.
			var got []string
			for _, match := range result.FindAllStringSubmatch(list, 2) {
				if got = append(got, match[1]+match[2]); match[1] != guide.Root+language+"/questions" {
					break
				}
			}
			assert.True(t, slices.Contains(got, guide.Root+language+"/"+want), "%s: search %q = %v, want %s", language, query, got, want)
		}
	}
}

// TestGuideSearch_SynonymTargetsExist verifies that each synonym names an existing page and section.
func TestGuideSearch_SynonymTargetsExist(t *testing.T) {
	g := newGuide(t)
	for name := range guide.Synonyms {
		page, anchor, _ := strings.Cut(name, "#")
		r, body := get(t, g, guide.Root+"en/"+page)
		assert.True(t, r.StatusCode == 200 && (anchor == "" || strings.Contains(body, ` id="`+anchor+`"`)), "no page or section %q", name)
	}
}

// TestGuide_RejectsInconsistentPages verifies that New rejects pages without language directories and a page that the contents lack.
func TestGuide_RejectsInconsistentPages(t *testing.T) {
	part, err := fs.Sub(docs.Pages, "en")
	require.NoError(t, err)
	assert.True(t, assert.ErrorOf(guide.New(part, "", "")) != nil, "New accepts pages without a language, want an error")
	pages := fstest.MapFS{}
	for _, language := range []string{"en", "zh"} {
		for name, text := range readSources(t, language) {
			pages[language+"/"+name] = &fstest.MapFile{Data: text}
		}
	}
	assert.NoError(t, assert.ErrorOf(guide.New(pages, "", "")))
	pages["en/calls/another.md"] = &fstest.MapFile{Data: []byte("# Another\n")}
	pages["zh/calls/another.md"] = pages["en/calls/another.md"]
	_, err = guide.New(pages, "", "")
	assert.True(t, err != nil && strings.Contains(err.Error(), "en/calls/another.md is missing in the contents"),
		"New with a page that the contents lack: %v, want an error", err)
}

// TestReadme_TranslationsMatch verifies that both READMEs have the same outline.
func TestReadme_TranslationsMatch(t *testing.T) {
	outlines := map[string][]string{}
	for _, name := range []string{"README.md", "README.zh.md"} {
		text := require.Value(os.ReadFile("../../../" + name))(t)
		lines := bytes.Count(text, []byte("\n"))
		assert.True(t, lines <= 60, "%s has %d lines, want at most 60", name, lines)
		outlines[name] = outline(text)
	}
	assert.True(t, slices.Equal(outlines["README.md"], outlines["README.zh.md"]),
		"the outlines of the READMEs differ:\n%q\n%q", outlines["README.md"], outlines["README.zh.md"])
}
