// Package axios_test leads libraries for Node.js to qrjump by the line of `qrjump run`.
package axios_test

import (
	"os"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestTheLine(t *testing.T) {
	if _, err := os.Stat("node_modules/nest-wechat"); err != nil {
		t.Skip("not run: nest-wechat: not installed here, see compat/run.sh")
	}
	for _, client := range []string{"nest-wechat", "tnwx", "fetch", "https"} {
		t.Run(client, func(t *testing.T) { harness.Line(t, ".", "node", "led.js", client) })
	}
}
