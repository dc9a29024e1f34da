package main

import (
	"os"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// createFolders creates ./qrjump-data and ./named in a new working directory. Each has a token and, unless the text is empty, an address
// file with that text.
func createFolders(t *testing.T, defaultAddresses, namedAddresses string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for dir, addresses := range map[string]string{"qrjump-data": defaultAddresses, "named": namedAddresses} {
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
	createFolders(t, `{"wire":"http://127.0.0.1:8080","scan":"http://127.0.0.1:8080","admin":"http://127.0.0.1:8080"}`,
		`{"wire":"http://10.0.0.1:4","scan":"http://10.0.0.1:5","admin":"http://10.0.0.1:6"}`)
	for server, tokens := range map[string][2]string{ // of the default folder and of a named folder
		"http://127.0.0.1:8080": {"from qrjump-data", "from named"}, "http://localhost": {"", "from named"},
		"http://[::1]:1": {"", "from named"}, "http://10.0.0.1:7": {"", "from named"},
		"https://qrjump.example": {}, "http://127.0.0.1.example": {}, "https://10.0.0.1": {},
	} {
		for _, test := range []struct{ data, token, want string }{
			{"", "", tokens[0]}, {"named", "", tokens[1]}, {"named", "given", "given"},
		} {
			admin, got, err := serverFlags{Server: server, Data: test.data}.admin(adminFlags{AdminToken: test.token})
			assert.True(t, err == nil && got == test.want && admin.url == server,
				"%s with %+v: token %q for %s, %v, want %q", server, test, got, admin.url, err, test.want)
		}
	}
}

func TestAdminToken_NotSentToPlatform(t *testing.T) {
	for server, want := range map[string]bool{
		"https://api.weixin.qq.com": true, "https://weixin.qq.com": true, "https://api.weixin.qq.com:443": true,
		"https://notweixin.qq.com": false, "http://127.0.0.1:8080": false,
	} {
		assert.Equal(t, isPlatform(server), want, "isPlatform(%s)", server)
		_, _, err := (serverFlags{Server: server}).admin(adminFlags{AdminToken: "given"})
		assert.True(t, (err != nil) == want, "admin flags for %s: %v, want an error: %v", server, err, want)
	}
}

// TestServerDiscovery_ByDataFolder verifies that the command line finds the listeners of a server through its data folder.
func TestServerDiscovery_ByDataFolder(t *testing.T) {
	fill := strings.NewReplacer(
		"HERE", `{"wire":"http://127.0.0.1:1","scan":"http://127.0.0.1:2","admin":"http://127.0.0.1:3"}`,
		"AWAY", `{"wire":"http://10.0.0.1:4","scan":"http://10.0.0.1:5","admin":"http://10.0.0.1:6"}`)
	for _, row := range testtable.Rows(t, "testdata/discovered.txt", 10) {
		t.Run(row[0], func(t *testing.T) {
			createFolders(t, fill.Replace(row[1]), fill.Replace(row[2]))
			flags := serverFlags{Server: row[3], Data: row[4]}
			wire, wireErr := flags.wire()
			scan, scanErr := flags.scan(row[6])
			admin, _, adminErr := flags.admin(adminFlags{AdminServer: row[5]})
			for _, got := range []struct {
				what, url, want string
				err             error
			}{{"wire", wire.url, row[7], wireErr}, {"scan", scan.url, row[8], scanErr}, {"admin", admin.url, row[9], adminErr}} {
				assert.True(t, got.url == got.want && (got.err != nil) == (got.want == ""),
					"%s: got %q, %v, want %q", got.what, got.url, got.err, got.want)
				assert.True(t, got.err == nil || !strings.Contains(got.err.Error(), "\n"), "%s: %v, want one line", got.what, got.err)
			}
		})
	}
}

func TestFirstLine_RejectsLongSecret(t *testing.T) {
	for n, want := range map[int]bool{1: true, maxSecret: true, maxSecret + 1: false, 3 * maxSecret: false} {
		for _, end := range []string{"", "\n", "\r\n", "\nsecond line\n"} {
			line, err := firstLine(strings.NewReader(strings.Repeat("s", n) + end))
			assert.True(t, (err == nil) == want && (err != nil || len(line) == n),
				"firstLine of %d bytes and %q: %d bytes, %v, want success: %v", n, end, len(line), err, want)
		}
	}
}
