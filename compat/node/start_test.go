package node_test

import (
	"os/exec"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// The lines for this library on the server's first page; the last one lists the rules.
func TestStartPage_LibrarySnippet(t *testing.T) {
	modules := modules(t)
	harness.PlayStartLines(t, "node-easywechat", "/cgi-bin/wxopen/qrcodejumpget", func(lines string) *exec.Cmd {
		node := exec.Command("node", "-e", lines)
		node.Env = []string{"NODE_PATH=" + modules}
		return node
	})
}
