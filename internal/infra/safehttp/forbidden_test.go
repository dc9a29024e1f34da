package safehttp_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// canary is a server on loopback that receives every dial of a client, whatever its address, and counts the connections.
type canary struct {
	fakeDialer
	visits atomic.Int64
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	listener := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	c := &canary{fakeDialer: fakeDialer{to: listener.Addr().String()}}
	server := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				c.visits.Add(1)
			}
		},
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return c
}

// wantRefused verifies that a request fails for a reason without a dial.
func (c *canary) wantRefused(t *testing.T, client *safehttp.Client, url string, reason safehttp.Reason, errText string) {
	t.Helper()
	dials, visits := len(c.dialed), c.visits.Load()
	_, steps, err := do(t, client, safehttp.Request{URL: url})
	wantFailure(t, steps, err, reason, errText)
	assert.True(t, len(c.dialed) == dials, "dialed %s, want none", c.dialed[dials:])
	assert.Equal(t, c.visits.Load(), visits, "connections to the canary")
}

// wantVisit verifies that a request reaches the canary by dialing one address.
func (c *canary) wantVisit(t *testing.T, client *safehttp.Client, url, addr string) {
	t.Helper()
	dials, visits := len(c.dialed), c.visits.Load()
	_, _, err := do(t, client, safehttp.Request{URL: url})
	require.NoError(t, err)
	got := c.dialed[dials:]
	assert.True(t, len(got) == 1 && got[0] == addr, "dialed %v, want %s", got, addr)
	assert.Equal(t, c.visits.Load(), visits+1, "connections to the canary")
}

// TestSafeHTTP_AllowedAddresses tests the addresses in testdata/addresses.txt, which are independent of the table of blocks. A line has an
// address, "private" if AllowPrivate permits it, and a part of the error; an address without an error is public.
func TestSafeHTTP_AllowedAddresses(t *testing.T) {
	c := newCanary(t)
	rows := testtable.Rows(t, "testdata/addresses.txt", 3)
	for _, row := range rows {
		addr, private, errText := row[0], row[1] == "private", row[2]
		t.Run(addr, func(t *testing.T) {
			client := &safehttp.Client{Resolver: newResolver("h.example", []string{addr}), Dial: c.dial}
			dialed := netip.AddrPortFrom(netip.MustParseAddr(addr), 80).String()
			if errText == "" {
				c.wantVisit(t, client, "http://h.example/", dialed)
			} else {
				c.wantRefused(t, client, "http://h.example/", safehttp.AddressRefused, addr+" refused: ")
				c.wantRefused(t, client, "https://h.example/", safehttp.AddressRefused, errText)
			}
			client.AllowPrivate = true
			if errText == "" || private {
				c.wantVisit(t, client, "http://h.example/", dialed)
			} else {
				c.wantRefused(t, client, "http://h.example/", safehttp.AddressRefused, errText)
			}
		})
	}
	assert.True(t, len(rows) >= 167, "%d addresses, want at least 167", len(rows))
}

// TestSafeHTTP_RejectsMixedLookup verifies that one special address in a look-up rejects the request. Behaviour(outbound.address.mixed).
func TestSafeHTTP_RejectsMixedLookup(t *testing.T) {
	c := newCanary(t)
	for _, answer := range [][]string{
		{public, "127.0.0.1"},
		{"127.0.0.1", public},
		{"2606:4700::1", public, "10.0.0.1"},
		{public, "::1"},
		{public, "::ffff:127.0.0.1"},
		{"2606:4700::1", "fe80::1%eth0"},
		append(slices.Repeat([]string{public}, 50), "169.254.169.254"),
	} {
		client := &safehttp.Client{Resolver: newResolver("h.example", answer), Dial: c.dial}
		c.wantRefused(t, client, "http://h.example/", safehttp.AddressRefused, "refused: ")
	}
	t.Run("an address that is none", func(t *testing.T) {
		resolver := newResolver("h.example", []string{public})
		resolver.answers["h.example"][0] = append(resolver.answers["h.example"][0], netip.Addr{})
		client := &safehttp.Client{Resolver: resolver, Dial: c.dial}
		c.wantRefused(t, client, "http://h.example/", safehttp.AddressRefused, "not an address")
	})
}

const (
	badURL  = safehttp.BadURL
	port    = safehttp.PortRefused
	address = safehttp.AddressRefused
)

// urls are rejected before a look-up.
var urls = []struct {
	url     string
	reason  safehttp.Reason
	errText string
}{
	{"", badURL, `scheme ""`},
	{"h.example", badURL, "scheme"},
	{"//h.example/", badURL, "scheme"},
	{"/FILE.txt", badURL, "scheme"},
	{"ftp://h.example/", badURL, `"ftp"`},
	{"file:///etc/passwd", badURL, `"file"`},
	{"gopher://h.example/", badURL, "scheme"},
	{"unix:///var/run/docker.sock", badURL, "scheme"},
	{"javascript:alert(1)", badURL, "scheme"},
	{"data:text/plain,x", badURL, "scheme"},
	{"ws://h.example/", badURL, "scheme"},
	{"http:h.example", badURL, "no host"}, {"http:///FILE.txt", badURL, "no host"}, {"http://", badURL, "no host"},
	{"http://:80/", badURL, "no host"}, {"http://?k=v", badURL, "no host"},
	{"http://user@h.example/", badURL, "user name"}, {"http://user:hush@h.example/", badURL, "user name"},
	{"http://@h.example/", badURL, "user name"}, {"http://h.example@127.0.0.1/", badURL, "user name"},
	{"http://h.example%40127.0.0.1/", badURL, ""},
	{`http://h.example\@127.0.0.1/`, badURL, ""},
	{`http:\\h.example/`, badURL, ""},
	{"http://h.example /", badURL, "a space"},
	{" http://h.example/", badURL, "a space"},
	{"http://h.example/a b", badURL, "a space"}, {"http://h.example/?a=b c", badURL, "a space"},
	{"http://h.example/\r\nX: y", badURL, "control character"},
	{"http://h.example/\x00", badURL, "control character"}, {"http://h.example/\x7f", badURL, "control character"},
	{"http://h.example/%zz?hush", badURL, "%zz"},
	{"http://%31%32%37.0.0.1/", badURL, ""},
	{"http://h.example/" + strings.Repeat("a", 2048), badURL, "longer than 2048 bytes"},
	{"http://" + strings.Repeat("a.", 130) + "example/", badURL, "longer than 253"},
	{"http://" + strings.Repeat("a", 64) + ".example/", badURL, "longer than 63"},
	{"http://h.example./", badURL, "empty label"}, {"http://h..example/", badURL, "empty label"},
	{"http://.example/", badURL, "empty label"}, {"http://./", badURL, "empty label"},
	{"http://-h.example/", badURL, "hyphen"}, {"http://h-.example/", badURL, "hyphen"},
	{"http://h!.example/", badURL, "only letters"}, {"http://h*.example/", badURL, "only letters"},
	{"http://例子.example/", badURL, "xn--"}, {"http://127。0。0。1/", badURL, "xn--"},
	{"http://①②⑦.⓪.⓪.①/", badURL, "xn--"}, {"http://１２７.0.0.1/", badURL, "xn--"},
	{"http://\u212aelvin.example/", badURL, "xn--"}, {"http://%E4%BE%8B.example/", badURL, "xn--"},
	{"http://localhost/", badURL, "no dot"}, {"http://metadata/", badURL, "no dot"},
	{"http://hooks.localhost/", address, "this machine"}, {"https://A.B.LOCALHOST/x", address, "this machine"},

	{"http://h.example:0/", port, "port 0 does not exist"},
	{"http://h.example:22/", port, "port 22: only 80 and 443"},
	{"http://h.example:81/", port, "port 81"},
	{"http://h.example:8080/", port, "port 8080"},
	{"https://h.example:8443/", port, "port 8443"},
	{"http://h.example:6379/", port, "port 6379"},
	{"http://h.example:65535/", port, "port 65535"},
	{"http://h.example:65616/", port, "does not exist"}, // 80 modulo 65536
	{"http://h.example:4294967376/", port, "does not exist"},
	{"http://h.example:-80/", badURL, ""}, {"http://h.example:http/", badURL, ""},
	{"http://h.example:80:80/", badURL, ""},

	{"http://93.184.216.34/", address, "a name is needed"},
	{"https://93.184.216.34:443/", address, "a name is needed"},
	{"http://127.0.0.1/", address, "host 127.0.0.1 is an address"},
	{"http://127.0.0.1./", address, ""}, {"http://127.0.0.1../", address, ""}, {"http://127.1/", address, ""},
	{"http://127.0.1/", address, ""}, {"http://127/", address, ""}, {"http://0/", address, ""},
	{"http://2130706433/", address, ""}, {"http://017700000001/", address, ""}, {"http://0x7f000001/", address, ""},
	{"http://0X7F000001/", address, ""}, {"http://0x7f.0.0.1/", address, ""}, {"http://0x7f.1/", address, ""},
	{"http://127.0.0.0x1/", address, ""}, {"http://127.0.0.0x/", address, ""}, {"http://0177.0.0.1/", address, ""},
	{"http://0177.0.0.01/", address, ""}, {"http://00000127.0.0.1/", address, ""},
	{"http://127.000.000.001/", address, ""},
	{"http://383.0.0.1/", address, ""}, // 127 modulo 256
	{"http://4294967297/", address, ""}, {"http://169.254.169.254/latest/meta-data/", address, ""},
	{"http://2852039166/", address, ""}, {"http://0xa9fea9fe/", address, ""},
	{"http://100.100.100.200/", address, ""}, {"http://1.2.3.4.5/", address, ""},
	{"http://h.example.1/", address, ""},
	{"http://[::1]/", address, "host ::1 is an address"},
	{"http://[::]/", address, ""}, {"http://[::1]:443/", address, ""}, {"http://[::ffff:127.0.0.1]/", address, ""},
	{"http://[::ffff:7f00:1]/", address, ""}, {"http://[0:0:0:0:0:0:0:1]/", address, ""},
	{"http://[64:ff9b::7f00:1]/", address, ""}, {"http://[2606:4700::1]/", address, ""},
	{"http://[fe80::1%25eth0]/", address, ""}, {"http://[::1%25lo]/", address, ""}, {"http://[::1", badURL, ""},
	{"http://::1/", badURL, ""}, {"http://[127.0.0.1]/", badURL, ""}, {"http://[h.example]/", badURL, ""},
}

// TestSafeHTTP_RejectsURLs verifies that invalid URLs fail without a look-up. Behaviour(outbound.host.ascii)
// Behaviour(outbound.host.literal).
func TestSafeHTTP_RejectsURLs(t *testing.T) {
	c := newCanary(t)
	for _, row := range urls {
		t.Run(row.url, func(t *testing.T) {
			resolver := newResolver("h.example", []string{public})
			client := &safehttp.Client{Resolver: resolver, Dial: c.dial}
			c.wantRefused(t, client, row.url, row.reason, row.errText)
			assert.True(t, len(resolver.lookups) == 0, "looked up %v, want none", resolver.lookups)
			_, _, err := do(t, client, safehttp.Request{URL: row.url})
			assert.True(t, !strings.Contains(err.Error(), "hush"), "error %q contains the secret", err)
		})
	}
}

func TestSafeHTTP_AcceptsURLs(t *testing.T) {
	for url, want := range map[string]struct{ host, uri string }{
		"http://h.example":                   {"h.example", "/"},
		"http://h.example?k=v":               {"h.example", "/?k=v"},
		"http://h.example:/":                 {"h.example", "/"},
		"http://h.example:080/":              {"h.example", "/"},
		"http://h.example:443/x":             {"h.example:443", "/x"},
		"http://h.example//evil.example/x":   {"h.example", "//evil.example/x"},
		"http://h.example/%E4%BE%8B/a%2Fb":   {"h.example", "/%E4%BE%8B/a%2Fb"},
		"http://h.example/例":                 {"h.example", "/%E4%BE%8B"},
		"http://h.example/../../a/./b":       {"h.example", "/../../a/./b"},
		"http://h.example/#//evil.example/x": {"h.example", "/"},
	} {
		t.Run(url, func(t *testing.T) {
			var host, uri string
			client, _ := startServer(t, func(_ http.ResponseWriter, r *http.Request) { host, uri = r.Host, r.RequestURI })
			_, _, err := do(t, client, safehttp.Request{URL: url})
			require.NoError(t, err)
			assert.True(t, host == want.host && uri == want.uri, "server received %s %s, want %s %s", host, uri, want.host, want.uri)
		})
	}
}

func TestAllowPrivate_PlainLiteralsOnly(t *testing.T) {
	c := newCanary(t)
	client := &safehttp.Client{AllowPrivate: true, Resolver: newResolver("intranet", []string{"10.0.0.1"}), Dial: c.dial}
	for url, addr := range map[string]string{
		"http://127.0.0.1/":          "127.0.0.1:80",
		"http://127.0.0.1:8080/":     "127.0.0.1:8080",
		"http://10.1.2.3:65535/":     "10.1.2.3:65535",
		"http://93.184.216.34/":      "93.184.216.34:80",
		"http://[::1]/":              "[::1]:80",
		"http://[::1]:8080/":         "[::1]:8080",
		"http://[FD00::1]/":          "[fd00::1]:80",
		"http://[::ffff:127.0.0.1]/": "[::ffff:127.0.0.1]:80",
		"http://[64:ff9b::a00:1]/":   "[64:ff9b::a00:1]:80",
		"http://intranet:3000/":      "10.0.0.1:3000",
	} {
		t.Run(url, func(t *testing.T) { c.wantVisit(t, client, url, addr) })
	}
	for _, url := range []string{
		"http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.0.0.1./", "http://127.000.0.1/",
		"http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:7f00:1]/", "http://[::1%25lo]/", "http://[fe80::1%25eth0]/", "http://1.2.3.4.5/",
		"http://0.0.0.0/", "http://[::]/", "http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "http://100.100.100.200/",
		"http://255.255.255.255/", "http://[ff02::1]/", "http://[fd00:ec2::254]/", "http://[fec0::1]/", "http://[::127.0.0.1]/",
	} {
		t.Run(url, func(t *testing.T) { c.wantRefused(t, client, url, safehttp.AddressRefused, "") })
	}
	c.wantRefused(t, client, "http://h.example:0/", safehttp.PortRefused, "")
	c.wantRefused(t, client, "http://user@127.0.0.1/", safehttp.BadURL, "")
}

// TestSafeHTTP_CanaryWithoutDialHook verifies with the standard dialer, which would reach the canary, that the checks reject each host.
func TestSafeHTTP_CanaryWithoutDialHook(t *testing.T) {
	c := newCanary(t)
	_, port, _ := net.SplitHostPort(c.to)

	strict := &safehttp.Client{}
	for _, host := range []string{"localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]"} {
		_, _, err := do(t, strict, safehttp.Request{URL: "http://" + host + ":" + port + "/"})
		assert.True(t, err != nil, "request to %s succeeds, want an error", host)
	}
	open := &safehttp.Client{AllowPrivate: true}
	for _, host := range []string{"0.0.0.0", "[::]", "127.1", "[::ffff:0.0.0.0]"} {
		c.wantRefused(t, open, "http://"+host+":"+port+"/", safehttp.AddressRefused, "")
	}
	require.Equal(t, c.visits.Load(), 0, "connections to the canary")
	for _, url := range []string{"http://127.0.0.1:" + port + "/", "http://[::ffff:127.0.0.1]:" + port + "/"} {
		_, _, err := do(t, open, safehttp.Request{URL: url})
		assert.NoError(t, err)
	}
	assert.Equal(t, c.visits.Load(), 2, "connections to the canary with AllowPrivate")
}

type publicResolver struct{}

func (publicResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(public)}, nil
}

// FuzzURL verifies that any URL leads to no dial other than to the resolved address on port 80 or 443, and to printable steps.
func FuzzURL(f *testing.F) {
	for _, row := range urls {
		f.Add(row.url)
	}
	f.Add("https://h.example:80/a?b#c")
	f.Fuzz(func(t *testing.T, url string) {
		w := &fakeDialer{dead: []string{public + ":80", public + ":443"}}
		client := safehttp.Client{Resolver: publicResolver{}, Dial: w.dial}
		_, steps, err := client.Do(t.Context(), safehttp.Request{URL: url})
		require.True(t, failureReason(t, err) != "" && len(steps) != 0, "Do = %v with %d steps, want an error and steps", err, len(steps))
		for _, dialed := range w.dialed {
			assert.True(t, slices.Contains(w.dead, dialed), "dialed %s, want port 80 or 443 of %s", dialed, public)
		}
		for _, step := range steps {
			assert.True(t, !strings.ContainsAny(step.Detail, "\r\n"), "step %q, want one line", step.Detail)
		}
	})
}
