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

// Issue 11, 4: a listener without an API says so, and where the API is as far as a stranger may know.
func TestListener_WrongAPINotFound(t *testing.T) {
	t.Parallel()
	var data string
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) {
		c.ScanListen, c.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
		data = c.Data
	}})
	here, err := server.ReadAddresses(data)
	require.NoError(t, err)
	listeners := map[string]string{"wire": here.Wire, "scan": here.Scan, "admin": here.Admin}
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
		for _, secret := range []string{here.Wire, here.Scan, here.Admin} {
			_, port, _ := strings.Cut(strings.TrimPrefix(secret, "http://"), ":")
			assert.True(t, !strings.Contains(a.Body, port), "%s: a stranger reads where another listener is: %s", path, a.Body)
		}
	}
	// The rest of the public listener answers as the platform does.
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
			s, err := server.Start(t.Context(), c, t.Output(), server.TestHooks{})
			require.NoError(t, err)
			here, err := server.ReadAddresses(c.Data)
			require.NoError(t, err)
			different := map[string]bool{here.Wire: true, here.Scan: true, here.Admin: true}
			assert.True(t, len(different) == test.listeners, "got %+v, want %d listeners", here, test.listeners)
			for url, want := range map[string]int{
				here.Wire + "/cgi-bin/token": 200, here.Scan + "/scan/v1/resolve": 405, here.Admin + "/admin/v1/accounts": 401} {
				resp, err := http.Get(url)
				require.NoError(t, err)
				resp.Body.Close()
				assert.Equal(t, resp.StatusCode, want, "%s", url)
			}
			assert.NoError(t, s.Close())
			_, err = os.Stat(filepath.Join(c.Data, "addresses.json"))
			assert.True(t, os.IsNotExist(err), "after the stop: %v", err)
		})
	}
}

// A server that was killed leaves its addresses; the next one writes its own.
func TestServerAddresses_StaleFile(t *testing.T) {
	t.Parallel()
	c := server.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", LogFormat: "text"}
	file := filepath.Join(c.Data, "addresses.json")
	const dead, later = `{"wire":"http://127.0.0.1:1","scan":"http://127.0.0.1:1","admin":"http://127.0.0.1:1"}`,
		`{"wire":"http://127.0.0.1:2","scan":"http://127.0.0.1:2","admin":"http://127.0.0.1:2"}`
	require.NoError(t, os.WriteFile(file, []byte(dead), 0o600))
	s, err := server.Start(t.Context(), c, t.Output(), server.TestHooks{})
	require.NoError(t, err)
	if here, err := server.ReadAddresses(c.Data); err != nil || here != (server.Addresses{Wire: s.URL, Scan: s.URL, Admin: s.URL}) {
		t.Errorf("got %+v, %v, want %s", here, err, s.URL)
	}
	// A later server's are not this one's to remove.
	require.NoError(t, os.WriteFile(file, []byte(later), 0o600))
	assert.NoError(t, s.Close())
	here, err := server.ReadAddresses(c.Data)
	assert.True(t, err == nil && here.Wire == "http://127.0.0.1:2", "got %+v, %v", here, err)
	for _, damaged := range []string{"", "{", `{"wire":"http://127.0.0.1:2"}`} {
		require.NoError(t, os.WriteFile(file, []byte(damaged), 0o600))
		assert.True(t, assert.ErrorOf(server.ReadAddresses(c.Data)) != nil, "%q was taken for addresses", damaged)
	}
}

// Issue 16, 4: curl -d says that it sends a form; what it sends can only be JSON.
func TestRequestBody_FormContentTypeAsJSON(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	post := func(header ...string) int {
		header = append(header, "Authorization: Bearer "+servertest.AdminToken)
		return s.Do("POST", "/admin/v1/scan-keys", `{"name":"app"}`, header...).Status
	}
	assert.Equal(t, post("Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: cross-site"), http.StatusForbidden,
		"a form of a page of another origin")
	got := post("Content-Type: application/x-www-form-urlencoded")
	assert.True(t, got/100 == 2, "curl -d: %d", got)
	assert.Equal(t, post("Content-Type: text/csv"), http.StatusUnsupportedMediaType, "another form")
}

// Issue 16, 4: an address that means all addresses is none that somebody can call.
func TestReadyLine_WildcardAddress(t *testing.T) {
	t.Parallel()
	for _, address := range []string{":0", "0.0.0.0:0"} {
		s := servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Listen, c.DevPublic = address, true }})
		assert.True(t, strings.HasPrefix(s.URL, "http://127.0.0.1:"), "listening on %s it says %s", address, s.URL)
	}
}
