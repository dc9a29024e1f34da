package powerwechat_test

import (
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// Every call as its page shows it for this library.
func TestTheSnippetsOfThePages(t *testing.T) {
	imports, list := harness.Snippets(t, "Go: PowerWeChat")
	harness.PlaySnippets(t, "", harness.GoProgram(t, imports, list), list)
}
