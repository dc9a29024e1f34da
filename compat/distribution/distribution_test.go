// Package distribution_test runs HTTP clients from packages of the Linux distribution with `qrjump run`: curl and wget, Ruby, Perl,
// PHP with EasyWeChat.
package distribution_test

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestHTTPClients_RedirectLine(t *testing.T) {
	const token = `https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=$QRJUMP_APPID&secret=$QRJUMP_SECRET`
	const script = `ask="$*"; answer=$($ask "` + token + `") && echo "$answer" &&
token=${answer#*:\"} && $ask ${body:---data} '{"get_type":0}' "https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token=${token%%\"*}"`
	clients := []harness.Client{
		{Language: "Shell", Name: "curl", Command: []string{"sh", "-c", script, "sh", "curl", "-sS"}},
		{Language: "Shell", Name: "wget", Command: []string{"env", "body=--post-data", "sh", "-c", script, "sh", "wget", "-qO-"}},
	}
	for _, c := range []struct{ language, program, name, pkg, line string }{
		{"Ruby", "led.rb", "Net::HTTP", "ruby", ""},
		{"Ruby", "led.rb", "http.rb", "ruby-http", `HTTP.via(host, port)`},
		{"Ruby", "led.rb", "Faraday", "ruby-faraday", ""},
		{"Ruby", "led.rb", "HTTParty", "ruby-httparty", ""},
		{"Ruby", "led.rb", "rest-client", "ruby-rest-client", ""},
		{"Ruby", "led.rb", "Excon", "ruby-excon", ""},
		{"Ruby", "led.rb", "HTTPClient", "ruby-httpclient", ""},
		{"Ruby", "led.rb", "Typhoeus", "ruby-typhoeus", "Typhoeus.get(url, cainfo: ENV['SSL_CERT_FILE'])"},
		{"Perl", "led.pl", "LWP", "libwww-perl", ""},
		{"Perl", "led.pl", "HTTP::Tiny", "perl", ""},
		{"Perl", "led.pl", "Mojo::UserAgent", "libmojolicious-perl", ""},
		{"PHP", "led.php", "curl", "php-cli", ""},
		{"PHP", "led.php", "streams", "php-cli", ""},
		{"PHP", "led.php", "Symfony HttpClient", "php-symfony-http-client", ""},
		{"PHP", "led.php", "Symfony NativeHttpClient", "php-symfony-http-client", ""},
		{"PHP", "led.php", "Guzzle", "php-guzzlehttp-guzzle", ""},
		{"PHP", "led.php", "EasyWeChat", "", ""},
		{"PHP", "led.php", "EasyWeChat, a pushed ticket", "", ""},
	} {
		interpreter := map[string]string{"Ruby": "ruby", "Perl": "perl", "PHP": "php"}[c.language]
		client := harness.Client{Language: c.language, Name: c.name, Line: c.line, Command: []string{interpreter, c.program, c.name}}
		if client.Version, client.SDK = version(c.pkg), c.pkg == ""; client.SDK {
			client.Version = "6.19.1"
		}
		if c.line != "" {
			client.ByLine = append(client.Command, "line")
		}
		clients = append(clients, client)
	}
	clients[0].Version, clients[1].Version = version("curl"), version("wget")
	// EasyWeChat stores its token in the temporary folder: the second run has another server.
	harness.Lines(t, ".", clients...)
}

// version returns the upstream version of an installed Debian package, "" if it is not installed.
func version(pkg string) string {
	out, _ := exec.Command("dpkg-query", "-W", "-f", "${Version}", pkg).Output()
	return string(regexp.MustCompile(`^(?:[0-9]+:)?([0-9][0-9.]*[0-9]).*$`).ReplaceAll(out, []byte("$1")))
}
