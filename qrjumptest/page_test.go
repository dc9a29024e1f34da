package qrjumptest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestCIPage_ShowsShopTest verifies that the page "Tests in CI" has the code of shop_test.go, so that the published example is tested.
func TestCIPage_ShowsShopTest(t *testing.T) {
	source := require.Value(os.ReadFile("shop_test.go"))(t)
	want := strings.Replace(code(string(source)), "package qrjumptest_test", "package shop_test", 1)
	for _, language := range []string{"en", "zh"} {
		page := require.Value(os.ReadFile("../docs/" + language + "/how/ci.md"))(t)
		_, block, _ := strings.Cut(string(page), "\n```go\n")
		block, _, found := strings.Cut(block, "```\n")
		got := code(block)
		assert.True(t, found && got == want, "docs/%s/how/ci.md has\n%s\nwant the code of shop_test.go\n%s", language, got, want)
	}
}

// code returns a program without its comments, which the pages translate.
func code(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "//") {
			b.WriteString(line)
		}
	}
	return b.String()
}
