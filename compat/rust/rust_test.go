// Package rust_test leads the Rust library wechat-mp-sdk to qrjump by the line of `qrjump run`.
package rust_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestTheLine(t *testing.T) {
	program, err := filepath.Abs("target/debug/qrjump-compat-rust")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("not run: wechat-mp-sdk: not built here, see compat/run.sh")
	}
	harness.Line(t, t.TempDir(), program)
}
