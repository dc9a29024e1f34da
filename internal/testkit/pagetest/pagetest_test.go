package pagetest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
)

func TestPageTest_CountsLoadedFiles(t *testing.T) {
	page := `<link rel="icon" href="data:,"><link rel="stylesheet" href="/a.css"><link rel=alternate href="/other">` +
		`<script type="module" src="/b.js"></script><img src="/c.png?x=1&amp;y=2" alt=""><img src='/c.png?x=1&amp;y=2' alt="again">` +
		`<img src="data:image/png;base64,AA=="><a href="/far">far</a>`
	files := map[string]string{"/a.css": `a{fill:url(#b);background:url("data:,")}`, "/b.js": "const imported = 1", "/c.png?x=1&y=2": "PNG"}
	want := len(page)
	for _, body := range files {
		want += len(body)
	}
	bytes, loaded := pagetest.MeasurePage(t, page, func(address string) string { return files[address] })
	if slices.Sort(loaded); bytes != want || strings.Join(loaded, " ") != "/a.css /b.js /c.png?x=1&y=2" {
		t.Errorf("MeasurePage = %d, %q, want %d bytes with each file once", bytes, loaded, want)
	}
}

// errorCounter is a test that counts its failures.
type errorCounter struct {
	testing.TB
	count int
}

func (r *errorCounter) Errorf(string, ...any) { r.count++ }

func TestPageTest_RejectsUncountable(t *testing.T) {
	for page, file := range map[string]string{
		`<link rel="stylesheet" href="/f">`:            `@import "other.css";`,
		`<link rel="stylesheet" href="/f" >`:           `a{background:url(/b.png)}`,
		`<style>a{background:url('dark.png')}</style>`: "",
		`<script src="/f"></script>`:                   `import { a } from "./other.js"`,
		`<script>import("./other.js")</script>`:        "",
		`<img srcset="a.png 1x, b.png 2x">`:            "",
		`<img src="/f">`:                               "",
	} {
		r := &errorCounter{TB: t}
		pagetest.MeasurePage(r, page, func(string) string { return file })
		assert.True(t, r.count == 1, "MeasurePage of %s with %q reports %d errors, want one", page, file, r.count)
	}
}
