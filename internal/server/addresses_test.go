package server_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// TestListener_WrongAPINotFound verifies that a listener without the requested API names the flag of the right listener, but not its port.
func TestListener_WrongAPINotFound(t *testing.T) {
	t.Parallel()
	var data string
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) {
		c.ScanListen, c.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
		data = c.Data
	}})
	addresses := require.Value(server.ReadAddresses(data))(t)
	listeners := map[string]string{"wire": addresses.Wire, "scan": addresses.Scan, "admin": addresses.Admin}
	for _, row := range testtable.Rows(t, "testdata/wrong_listeners.txt", 4) {
		listener, method, path, flag := listeners[row[0]], row[1], row[2], row[3]
		r, err := http.NewRequest(method, listener+path, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
		a := s.Send(r)
		var problem struct{ Type, Title, Detail string }
		err = json.Unmarshal([]byte(a.Body), &problem)
		status, want := http.StatusMisdirectedRequest, "urn:qrjump:problem:wrong-listener"
		if flag == "" {
			status, want = http.StatusNotFound, "urn:qrjump:problem:no-such-path"
		}
		if err != nil || a.Status != status || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s%s: %d %s, want %d", method, listener, path, a.Status, a.Body, status)
			continue
		}
		assert.True(t, problem.Type == want && strings.Contains(problem.Detail+" ", flag),
			"%s %s%s: %+v, want %s and %s", method, listener, path, problem, want, flag)
		for _, secret := range []string{addresses.Wire, addresses.Scan, addresses.Admin} {
			_, port, _ := strings.Cut(strings.TrimPrefix(secret, "http://"), ":")
			assert.True(t, !strings.Contains(a.Body, port), "%s: the response names the port of another listener: %s", path, a.Body)
		}
	}
	// Other paths of the wire listener return the platform's error.
	for _, path := range []string{"/nothing", "/cgi-bin/nothing", "/administrator"} {
		a := s.Do("POST", path, "")
		assert.True(t, a.Status == http.StatusOK && strings.Contains(a.Body, `"errcode":40066`), "%s: %d %s", path, a.Status, a.Body)
	}
}

func TestServerAddresses_Running(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		listen, scan, admin string
		listeners           int
	}{
		"all on one":               {"127.0.0.1:0", "", "", 1},
		"each on one":              {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 3},
		"the admin API on another": {"127.0.0.1:0", "", "localhost:0", 2},
		"everywhere":               {"0.0.0.0:0", "[::]:0", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			c := server.Config{Data: t.TempDir(), Listen: test.listen, ScanListen: test.scan, AdminListen: test.admin, LogFormat: "text"}
			s := require.Value(server.Start(t.Context(), c, t.Output(), server.TestHooks{}))(t)
			addresses := require.Value(server.ReadAddresses(c.Data))(t)
			urls := map[string]bool{addresses.Wire: true, addresses.Scan: true, addresses.Admin: true}
			assert.True(t, len(urls) == test.listeners, "got %+v, want %d listeners", addresses, test.listeners)
			for url, want := range map[string]int{addresses.Wire + "/cgi-bin/token": 200,
				addresses.Scan + "/scan/v1/resolve": 405, addresses.Admin + "/admin/v1/accounts": 401} {
				resp := require.Value(http.Get(url))(t)
				resp.Body.Close()
				assert.Equal(t, resp.StatusCode, want, "%s", url)
			}
			assert.NoError(t, s.Close())
			_, err := os.Stat(filepath.Join(c.Data, "addresses.json"))
			assert.True(t, os.IsNotExist(err), "Stat(addresses.json) after the stop = %v, want not exist", err)
		})
	}
}

// TestServerAddresses_StaleFile verifies that a start replaces the addresses that a killed server left, that a stop does not remove the
// file of a later server, and that ReadAddresses rejects a corrupted file.
func TestServerAddresses_StaleFile(t *testing.T) {
	t.Parallel()
	c := server.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", LogFormat: "text"}
	file := filepath.Join(c.Data, "addresses.json")
	const dead, later = `{"wire":"http://127.0.0.1:1","scan":"http://127.0.0.1:1","admin":"http://127.0.0.1:1"}`,
		`{"wire":"http://127.0.0.1:2","scan":"http://127.0.0.1:2","admin":"http://127.0.0.1:2"}`
	require.NoError(t, os.WriteFile(file, []byte(dead), 0o600))
	s := require.Value(server.Start(t.Context(), c, t.Output(), server.TestHooks{}))(t)
	addresses, err := server.ReadAddresses(c.Data)
	assert.True(t, err == nil && addresses == (server.Addresses{Wire: s.URL, Scan: s.URL, Admin: s.URL}),
		"ReadAddresses = %+v, %v, want %s", addresses, err, s.URL)
	// The file of a later server.
	require.NoError(t, os.WriteFile(file, []byte(later), 0o600))
	assert.NoError(t, s.Close())
	addresses, err = server.ReadAddresses(c.Data)
	assert.True(t, err == nil && addresses.Wire == "http://127.0.0.1:2", "after the stop: %+v, %v, want the later server's", addresses, err)
	for _, damaged := range []string{"", "{", `{"wire":"http://127.0.0.1:2"}`} {
		require.NoError(t, os.WriteFile(file, []byte(damaged), 0o600))
		assert.True(t, assert.ErrorOf(server.ReadAddresses(c.Data)) != nil, "ReadAddresses of %q = nil, want an error", damaged)
	}
}

// TestRequestBody_FormContentTypeAsJSON verifies that the admin API reads a body with the content type of a form as JSON, because curl -d
// sends that type, but rejects it from a page of another origin.
func TestRequestBody_FormContentTypeAsJSON(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	post := func(header ...string) int {
		header = append(header, "Authorization: Bearer "+servertest.AdminToken)
		return s.Do("POST", "/admin/v1/scan-keys", `{"name":"app"}`, header...).Status
	}
	assert.Equal(t, post("Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: cross-site"), http.StatusForbidden,
		"status of a form from another origin")
	got := post("Content-Type: application/x-www-form-urlencoded")
	assert.True(t, got/100 == 2, "curl -d: status %d, want 2xx", got)
	assert.Equal(t, post("Content-Type: text/csv"), http.StatusUnsupportedMediaType, "status of another content type")
}

// TestReadyLine_WildcardAddress verifies that the URL of a server that listens on all addresses has an address that clients can dial.
func TestReadyLine_WildcardAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{":0", "0.0.0.0:0"} {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Listen, c.DevPublic = address, true }})
		assert.True(t, strings.HasPrefix(s.URL, "http://127.0.0.1:"), "URL of a listener on %s = %s, want 127.0.0.1", address, s.URL)
	}
}
