package wxjava_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// HTTP clients and SDKs for Java with `qrjump run`, as on the page "Test my SDK": the JVM uses the trust store of `qrjump run`.
func TestHTTPClients_RedirectLine(t *testing.T) {
	classpath, dir := classpath(t), t.TempDir()
	compile := exec.Command("javac", "-cp", classpath, "-d", dir, "Led.java")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const system = "HttpClientBuilder.create().useSystemProperties()"
	var clients []harness.Client
	for _, c := range []struct{ name, jar, line string }{
		{"URLConnection", "", ""},
		{"java.net.http", "", ""},
		{"Apache HttpClient 4", "httpclient", system},
		{"Apache HttpClient 5", "httpclient5", system},
		{"OkHttp", "okhttp", ""},
		{"Hutool", "hutool-http", ""},
		{"WxJava", "weixin-java-miniapp", `config.setHttpProxyHost(System.getProperty("https.proxyHost")); ` +
			`config.setHttpProxyPort(Integer.getInteger("https.proxyPort", 0))`},
		{"weixin-popular", "weixin-popular", `HttpClientFactory.setProxy(new HttpHost(System.getProperty("https.proxyHost"), ` +
			`Integer.getInteger("https.proxyPort")))`},
	} {
		version := "17"
		if c.jar != "" {
			found := regexp.MustCompile(`/` + c.jar + `-([0-9][^/:]*)\.jar`).FindStringSubmatch(classpath)
			if found == nil {
				t.Fatalf("%s is not in the class path %s", c.jar, classpath)
			}
			version = found[1]
		}
		client := harness.Client{Language: "Java", Name: c.name, Version: version, Line: c.line,
			SDK:     strings.HasPrefix(strings.ToLower(c.name), "w"),
			Command: []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", dir + ":" + classpath, "Led", c.name}}
		if c.line != "" {
			client.ByLine = append(client.Command, "line")
		}
		clients = append(clients, client)
	}
	harness.Lines(t, dir, clients...)
}
