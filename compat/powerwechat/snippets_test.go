package powerwechat_test

import (
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// Every call with the code for this library on the call's page.
func TestSnippets_EveryCallPage(t *testing.T) {
	imports, list := harness.Snippets(t, "Go: PowerWeChat")
	program := harness.GoProgram(t, imports, list)
	harness.PlaySnippets(t, "", program, list)
	harness.Lines(t, t.TempDir(), harness.Client{Language: "Go", Name: "PowerWeChat", Version: "3.2.54", SDK: true,
		Command: []string{program, "call_token"}})
}
