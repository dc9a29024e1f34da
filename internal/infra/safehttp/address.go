package safehttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const maxShown = 8 // number of addresses that one diagnostic step lists

// resolve looks up the host once and checks every address. resolve returns an error with the reason NotResolved or AddressRefused.
//
// Assumed(outbound.address.mixed): one special-purpose address invalidates the whole DNS response. A name with both public and
// special-purpose addresses is an attack or a mistake, and chance must not decide which address is dialled.
func (t *trip) resolve(ctx context.Context, to target) ([]netip.Addr, error) {
	addrs := []netip.Addr{to.literal}
	if !to.literal.IsValid() {
		var err error
		if addrs, err = t.client.lookup(ctx, to.host); err != nil {
			return nil, t.lose(ctx, "resolve", NotResolved, err)
		}
		if len(addrs) == 0 {
			return nil, t.lose(ctx, "resolve", NotResolved, errors.New("no address for "+to.host))
		}
		t.pass("resolve", "%s is %s", to.host, list(addrs))
	}
	for _, addr := range addrs {
		if err := checkAddress(addr, t.client.AllowPrivate); err != nil {
			return nil, t.refuse("address", AddressRefused, "%s refused: %s", addr, err)
		}
	}
	return addrs, nil
}

// lookup resolves a name to its addresses.
func (c *Client) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	var standard *net.Resolver
	switch r := c.Resolver.(type) {
	case nil:
		standard = net.DefaultResolver
	case *net.Resolver:
		standard = r
	default:
		return r.LookupNetIP(ctx, "ip", host)
	}

	// The final dot disables the machine's DNS search list: an untrusted name a.example must not resolve as a.example.corp.example.
	// Private installations (AllowPrivate) depend on the machine's DNS search list.
	if !c.AllowPrivate {
		host += "."
	}
	addrs, err := standard.LookupNetIP(ctx, "ip", host)
	// For some sources, such as the hosts file, the standard resolver returns IPv4 addresses in IPv4-mapped IPv6 form.
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// checkAddress returns an error with the reason if an address is not allowed.
func checkAddress(addr netip.Addr, allowPrivate bool) error {
	if !addr.IsValid() {
		return errors.New("not an address")
	}
	if addr.Zone() != "" {
		return errors.New("IPv6 zone (RFC 4007)")
	}
	b, special := blockOf(addr)
	switch {
	case !special, b.kind == private && allowPrivate:
		return nil
	case b.kind == wraps:
		last := addr.As16()
		inner := netip.AddrFrom4([4]byte(last[12:]))
		err := checkAddress(inner, allowPrivate)
		switch {
		case err != nil:
			return fmt.Errorf("%s around %s: %w", b, inner, err)
		case allowPrivate:
			return nil
		}
		return fmt.Errorf("%s around %s", b, inner)
	}
	return errors.New(b.String())
}

// blockOf returns the special-purpose block with the longest prefix that contains an address.
func blockOf(addr netip.Addr) (found block, ok bool) {
	for _, b := range blocks {
		if b.prefix.Contains(addr) && (!ok || b.prefix.Bits() > found.prefix.Bits()) {
			found, ok = b, true
		}
	}
	return found, ok
}

func (b block) String() string { return fmt.Sprintf("%s (%s), %s", b.name, b.source, b.prefix) }

// candidates returns one or two addresses to dial: the first IPv6 and the first IPv4 address, or the first two if there is only one family.
func candidates(addrs []netip.Addr) []netip.Addr {
	var v6, v4 []netip.Addr
	for _, addr := range addrs {
		family := &v6
		if addr.Is4() {
			family = &v4
		}
		if len(*family) < 2 && !slices.Contains(*family, addr) {
			*family = append(*family, addr)
		}
	}
	if len(v6) > 0 && len(v4) > 0 {
		return []netip.Addr{v6[0], v4[0]}
	}
	return append(v6, v4...)
}

func list(addrs []netip.Addr) string {
	var texts []string
	for _, addr := range addrs[:min(len(addrs), maxShown)] {
		texts = append(texts, addr.String())
	}
	text := strings.Join(texts, ", ")
	if more := len(addrs) - maxShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Check reports, without connecting, whether Do would accept a URL: nil, or the [*Error] of Do. A name that does not resolve at
// present is not an error, because it may resolve later.
func (c *Client) Check(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	t := trip{client: c}
	to, err := t.aim(Request{Method: http.MethodPost, URL: url})
	if err != nil {
		return err
	}
	_, err = t.resolve(ctx, to)
	if e, ok := errors.AsType[*Error](err); ok && e.Reason != AddressRefused {
		return nil
	}
	return err
}
