package silenceper_test

import (
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// Every call as its page shows it for this library.
func TestTheSnippetsOfThePages(t *testing.T) {
	imports, list := harness.Snippets(t, "Go: silenceper/wechat")
	program := harness.GoProgram(t, imports, list)
	harness.PlaySnippets(t, "", program, list)
	harness.Line(t, t.TempDir(), program, "call_token")
}
