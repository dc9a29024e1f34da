package silenceper_test

import (
	"os/exec"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// The lines for this library on the server's first page; the last one gets a token.
func TestStartPage_LibrarySnippet(t *testing.T) {
	harness.PlayStartLines(t, "silenceper", "/cgi-bin/token", func(lines string) *exec.Cmd {
		return exec.Command(harness.GoBuild(t, `package main

import (
	"log"
	"strings"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/miniprogram/config"
	"github.com/silenceper/wechat/v2/util"
)

func main() {
	`+lines+`
	if err != nil || token == "" {
		log.Fatalf("token %q: %v", token, err)
	}
}
`))
	})
}
