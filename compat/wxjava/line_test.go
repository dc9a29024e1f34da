package wxjava_test

import (
	"os/exec"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// The ways of Java that the page "Test my SDK" names, with a JVM that reads the trust store of the line.
func TestTheLine(t *testing.T) {
	classpath, dir := classpath(t), t.TempDir()
	compile := exec.Command("javac", "-cp", classpath, "-d", dir, "Led.java")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, client := range []string{"connection", "client", "httpclient", "wxjava", "weixin-popular"} {
		t.Run(client, func(t *testing.T) {
			harness.Line(t, dir, "java", "-XX:TieredStopAtLevel=1", "-cp", dir+":"+classpath, "Led", client)
		})
	}
}
