package wechatpy_test

import (
	"os/exec"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// The lines for this library on the server's first page create a client, from which the program gets a token.
func TestStartPage_LibrarySnippet(t *testing.T) {
	python := python(t)
	harness.PlayStartLines(t, "wechatpy", "/cgi-bin/token", func(lines string) *exec.Cmd {
		return exec.Command(python, "-c", lines+"\nassert client.access_token\n")
	})
}
