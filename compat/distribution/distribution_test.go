// Package distribution_test leads what a distribution's packages bring to qrjump by the line of `qrjump run`: curl, PHP with
// EasyWeChat, Ruby.
package distribution_test

import (
	"os/exec"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestTheLine(t *testing.T) {
	led := func(name string, command ...string) {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("not run: %s: not installed here, see scripts/install-test-deps.sh", command[0])
			}
			harness.Line(t, ".", command...)
		})
	}
	const token = "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=$QRJUMP_APPID&secret=$QRJUMP_SECRET"
	led("curl", "sh", "-c", `curl -sf "`+token+`"`)
	led("Ruby", "ruby", "-rnet/http", "-e", `puts Net::HTTP.get(URI("`+
		`https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=#{ENV["QRJUMP_APPID"]}&secret=#{ENV["QRJUMP_SECRET"]}"))`)
	// EasyWeChat keeps its token in the temporary folder: the second run has another server.
	for _, client := range []string{"curl", "symfony", "guzzle", "easywechat", "easywechat", "push"} {
		led("PHP "+client, "php", "led.php", client)
	}
}
