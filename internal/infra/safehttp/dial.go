package safehttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// connect dials a checked address, and a second address if the first does not accept the connection. It returns ConnectFailed.
func (t *trip) connect(ctx context.Context, to target, addrs []netip.Addr) (net.Conn, error) {
	var last error
	for i, addr := range candidates(addrs) {
		if i > 0 {
			t.pass("connect", "%v; trying the next address", last)
		}
		port := netip.AddrPortFrom(addr, to.port)
		conn, err := t.client.dial(ctx, port)
		if err == nil {
			t.pass("connect", "connected to %s", port)
			return conn, nil
		}
		last = fmt.Errorf("%s: %w", port, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, t.lose(ctx, "connect", ConnectFailed, last)
}

func (c *Client) dial(ctx context.Context, port netip.AddrPort) (net.Conn, error) {
	parent, cancel := context.WithTimeout(ctx, perAddressTimeout)
	defer cancel()

	dial := c.Dial
	if dial == nil {
		dialer := net.Dialer{KeepAlive: -1, FallbackDelay: -1, Control: c.control(port)}
		dial = dialer.DialContext
	}
	conn, err := dial(parent, "tcp", port.String())
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		<-parent.Done() // wait for the context to end: the network timer may fire shortly before the context's timer
	}
	if err != nil && parent.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("no connection within %s: %w", perAddressTimeout, err)
	}
	return conn, err
}

// control returns a function that runs after the socket is created and before it connects: the function accepts only the address
// that was checked, and checks that address again.
func (c *Client) control(want netip.AddrPort) func(network, address string, _ syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		got, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("dial blocked: invalid address %q: %w", address, err)
		}
		if network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("dial blocked: unexpected network %s", network)
		}
		if got.Addr().Unmap() != want.Addr().Unmap() || got.Port() != want.Port() {
			return fmt.Errorf("dial blocked: %s is not the checked address %s", got, want)
		}
		if err := checkAddress(got.Addr(), c.AllowPrivate); err != nil {
			return fmt.Errorf("%s refused at dial: %w", got.Addr(), err)
		}
		return nil
	}
}

// secure performs the TLS handshake and verifies the certificate for the host of the URL. It returns TLSFailed.
func (t *trip) secure(ctx context.Context, conn net.Conn, to target) (net.Conn, error) {
	secured := tls.Client(conn, &tls.Config{
		ServerName: to.host,
		RootCAs:    t.client.RootCAs,
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, t.lose(ctx, "tls", TLSFailed, err)
	}
	state := secured.ConnectionState()
	t.pass("tls", "%s, certificate for %s valid until %s", tls.VersionName(state.Version),
		to.host, state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
	return secured, nil
}
