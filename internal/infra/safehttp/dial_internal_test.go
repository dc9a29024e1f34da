package safehttp

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSafeDial_SocketAddressRechecked calls the check at the socket directly: no request reaches a rejection there, because the check
// after the look-up rejects the same addresses.
func TestSafeDial_SocketAddressRechecked(t *testing.T) {
	for _, c := range []struct {
		name, network, address string
		checked                string
		allowPrivate           bool
		errText                string
	}{
		{name: "the address that was checked", network: "tcp4", address: "93.184.216.34:80", checked: "93.184.216.34:80"},
		{name: "the same in IPv6", network: "tcp6", address: "[2606:4700::1]:443", checked: "[2606:4700::1]:443"},
		{name: "a mapped address is dialed as IPv4", network: "tcp4", address: "127.0.0.1:80", checked: "[::ffff:127.0.0.1]:80",
			allowPrivate: true},
		{name: "another address", network: "tcp4", address: "93.184.216.35:80", checked: "93.184.216.34:80",
			errText: "is not the checked address 93.184.216.34:80"},
		{name: "another port", network: "tcp4", address: "93.184.216.34:81", checked: "93.184.216.34:80",
			errText: "not the checked address"},
		{name: "a special address", network: "tcp4", address: "127.0.0.1:80", checked: "127.0.0.1:80",
			errText: "refused at dial: Loopback"},
		{name: "a closed address in spite of AllowPrivate", network: "tcp4", address: "169.254.169.254:80", checked: "169.254.169.254:80",
			allowPrivate: true, errText: "Link Local"},
		{name: "a name", network: "tcp4", address: "localhost:80", checked: "127.0.0.1:80", errText: "invalid address"},
		{name: "another protocol", network: "udp4", address: "93.184.216.34:80", checked: "93.184.216.34:80", errText: "udp4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := Client{AllowPrivate: c.allowPrivate}
			err := client.control(netip.MustParseAddrPort(c.checked))(c.network, c.address, nil)
			switch {
			case c.errText == "" && err != nil:
				t.Error(err)
			case c.errText != "" && (err == nil || !strings.Contains(err.Error(), c.errText)):
				t.Errorf("control = %v, want an error with %q", err, c.errText)
			}
		})
	}
}

func TestSafeDial_StandardDialerControl(t *testing.T) {
	listener := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer listener.Close()
	addr := netip.MustParseAddrPort(listener.Addr().String())

	var strict Client
	if conn, err := strict.dial(t.Context(), addr); err == nil {
		conn.Close()
		t.Error("dial of loopback succeeds, want an error")
	} else if !strings.Contains(err.Error(), "127.0.0.1 refused at dial: Loopback") {
		t.Error(err)
	}
	open := Client{AllowPrivate: true}
	conn := require.Value(open.dial(t.Context(), addr))(t)
	conn.Close()
}

func TestSafeDial_BlockedPrefixTable(t *testing.T) {
	seen := make(map[netip.Prefix]bool)
	for _, b := range blocks {
		assert.True(t, b.prefix == b.prefix.Masked(), "prefix of %s has host bits", b)
		assert.True(t, !seen[b.prefix], "%s is listed twice", b)
		seen[b.prefix] = true
		assert.True(t, b.name != "" && b.source != "", "%s has no name or no source", b.prefix)
		assert.True(t, checkAddress(b.prefix.Addr(), false) != nil, "checkAddress allows an address of %s", b)
	}
}

// FuzzCheckAddress verifies that checkAddress rejects all addresses that the standard library classifies as special.
func FuzzCheckAddress(f *testing.F) {
	for _, b := range blocks {
		f.Add(b.prefix.Addr().AsSlice())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		special := !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.Is4In6()
		assert.True(t, !special || checkAddress(addr, false) != nil, "checkAddress(%s) allows a special address", addr)
		never := addr.IsMulticast() || addr.IsUnspecified() || addr.IsLinkLocalUnicast()
		assert.True(t, !never || checkAddress(addr, true) != nil, "checkAddress(%s) allows it with AllowPrivate", addr)
		if inner := addr.Unmap(); inner != addr && (checkAddress(inner, true) == nil) != (checkAddress(addr, true) == nil) {
			t.Errorf("checkAddress of %s and %s differ, want the same", inner, addr)
		}
	})
}
