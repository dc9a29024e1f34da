package main

import (
	"os"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// folders makes ./qrjump-data and ./named with a token and, where it is not empty, a file of addresses.
func folders(t *testing.T, here, named string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for dir, addresses := range map[string]string{"qrjump-data": here, "named": named} {
		require.NoError(t, os.Mkdir(dir, 0o700))
		files := map[string]string{"admin-token": "from " + dir + "\n"}
		if addresses != "" {
			files["addresses.json"] = addresses
		}
		for name, text := range files {
			require.NoError(t, os.WriteFile(dir+"/"+name, []byte(text), 0o600))
		}
	}
}

func TestAdminToken_NotSentElsewhere(t *testing.T) {
	folders(t, "", "")
	for server, found := range map[string]string{
		"http://127.0.0.1:8080": "from qrjump-data", "http://localhost": "from qrjump-data", "http://[::1]:1": "from qrjump-data",
		"https://qrjump.example": "", "http://127.0.0.1.example": "", "http://10.0.0.1": "",
	} {
		for _, test := range []struct{ data, token, want string }{
			{"", "", found}, {"named", "", "from named"}, {"named", "given", "given"},
		} {
			at, got, err := serverFlags{Server: server, Data: test.data}.admin(adminFlags{AdminToken: test.token})
			assert.True(t, err == nil && got == test.want && at.url == server,
				"%s with %+v: got %q at %s, %v", server, test, got, at.url, err)
		}
	}
}

func TestAdminToken_NotSentToPlatform(t *testing.T) {
	for server, want := range map[string]bool{
		"https://api.weixin.qq.com": true, "https://weixin.qq.com": true, "https://api.weixin.qq.com:443": true,
		"https://notweixin.qq.com": false, "http://127.0.0.1:8080": false,
	} {
		assert.Equal(t, isPlatform(server), want, "%s", server)
		_, _, err := (serverFlags{Server: server}).admin(adminFlags{AdminToken: "given"})
		assert.True(t, (err != nil) == want, "%s: got %v", server, err)
	}
}

// Issue 11, 4: the command line finds the listeners of a server by its folder.
func TestServerDiscovery_ByDataFolder(t *testing.T) {
	const here = `{"wire":"http://127.0.0.1:1","scan":"http://127.0.0.1:2","admin":"http://127.0.0.1:3"}`
	const away = `{"wire":"http://10.0.0.1:4","scan":"http://10.0.0.1:5","admin":"http://10.0.0.1:6"}`
	local := func(port string) string { return "http://127.0.0.1:" + port }
	for name, test := range map[string]struct {
		here, named       string // what the folders say
		flags             serverFlags
		adminURL, scanURL string
		wire, scan, admin string // "" = refused
	}{
		"nothing at all":     {wire: local("8080"), scan: local("8080"), admin: local("8080")},
		"a server runs here": {here: here, wire: local("1"), scan: local("2"), admin: local("3")},
		"one runs in the folder": {here: here, named: away, flags: serverFlags{Data: "named"}, wire: "http://10.0.0.1:4",
			scan: "http://10.0.0.1:5", admin: "http://10.0.0.1:6"},
		"none runs in the folder": {here: here, flags: serverFlags{Data: "named"}},
		"no such folder":          {here: here, flags: serverFlags{Data: "missing"}},
		"one that lies about":     {here: away},
		"a damaged file":          {here: "{"},
		"a named server": {here: here, flags: serverFlags{Server: "http://x"}, wire: "http://x", scan: "http://x",
			admin: "http://x"},
		"and its folder": {named: here, flags: serverFlags{Server: local("1"), Data: "named"}, wire: local("1"),
			scan: local("2"), admin: local("3")},
		"by another name": {here: here, flags: serverFlags{Server: "http://localhost:1/"}, wire: "http://localhost:1/",
			scan: local("2"), admin: local("3")},
		"away, named by its user": {here: away, flags: serverFlags{Server: "http://10.0.0.1:4"}, wire: "http://10.0.0.1:4",
			scan: "http://10.0.0.1:5", admin: "http://10.0.0.1:6"},
		"one that lies about it": {here: strings.Replace(away, "10.0.0.1:6", "10.0.0.2:6", 1),
			flags: serverFlags{Server: "http://10.0.0.1:4"}, wire: "http://10.0.0.1:4", scan: "http://10.0.0.1:5"},
		"another one's folder": {named: here, flags: serverFlags{Server: local("7"), Data: "named"}, wire: local("7"),
			scan: local("7"), admin: local("7")},
		"flags of their own": {here: here, flags: serverFlags{Server: "http://x"}, adminURL: "http://a", scanURL: "http://s",
			wire: "http://x", scan: "http://s", admin: "http://a"},
		"a damaged file, and flags": {here: "{", flags: serverFlags{Server: "http://x"}, adminURL: "http://a", wire: "http://x",
			scan: "http://x", admin: "http://a"},
	} {
		t.Run(name, func(t *testing.T) {
			folders(t, test.here, test.named)
			wire, wireErr := test.flags.wire()
			scan, scanErr := test.flags.scan(test.scanURL)
			admin, _, adminErr := test.flags.admin(adminFlags{AdminServer: test.adminURL})
			for _, got := range []struct {
				what, url, want string
				err             error
			}{{"wire", wire.url, test.wire, wireErr}, {"scan", scan.url, test.scan, scanErr}, {"admin", admin.url, test.admin, adminErr}} {
				assert.True(t, got.url == got.want && (got.err != nil) == (got.want == ""),
					"%s: got %q, %v, want %q", got.what, got.url, got.err, got.want)
				assert.True(t, got.err == nil || !strings.Contains(got.err.Error(), "\n"), "%s: more than a line: %v", got.what, got.err)
			}
		})
	}
}

func TestFirstLine_RejectsLongSecret(t *testing.T) {
	for n, want := range map[int]bool{1: true, maxSecret: true, maxSecret + 1: false, 3 * maxSecret: false} {
		for _, end := range []string{"", "\n", "\r\n", "\nsecond line\n"} {
			line, err := firstLine(strings.NewReader(strings.Repeat("s", n) + end))
			assert.True(t, (err == nil) == want && (err != nil || len(line) == n), "%d bytes and %q: %d bytes, %v", n, end, len(line), err)
		}
	}
}
