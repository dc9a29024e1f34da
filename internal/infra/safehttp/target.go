package safehttp

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// target is a URL that passed all checks.
type target struct {
	url     *url.URL // URL with the host in lower case, without a standard port and without a fragment
	scheme  string
	host    string     // a name, or an IP address without brackets
	literal netip.Addr // valid if the host is an IP address
	port    uint16
}

// aim parses and checks the URL of a request. The reason of an error is BadRequest, BadURL, PortRefused or AddressRefused.
func (t *trip) aim(req Request) (target, error) {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return target{}, t.refuse("url", BadRequest, "method %q is none of GET, HEAD and POST", req.Method)
	}
	if len(req.URL) > maxURL {
		return target{}, t.refuse("url", BadURL, "longer than %d bytes", maxURL)
	}
	if strings.ContainsFunc(req.URL, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return target{}, t.refuse("url", BadURL, "holds a space or a control character")
	}
	u, err := url.Parse(req.URL)
	if err != nil {
		if bad, ok := errors.AsType[*url.Error](err); ok {
			err = bad.Err // the error without the URL, whose query may contain a secret
		}
		return target{}, t.refuse("url", BadURL, "%v", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, t.refuse("url", BadURL, "scheme %q is neither http nor https", u.Scheme)
	case u.User != nil:
		return target{}, t.refuse("url", BadURL, "user name or password before the host")
	case u.Hostname() == "":
		return target{}, t.refuse("url", BadURL, "no host")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x80 }):
		// Assumed(outbound.host.ascii): senders use the xn-- form of a name, and parsers disagree about full-width dots and circled digits.
		return target{}, t.refuse("url", BadURL, "host %q is not ASCII; other scripts are written as xn--", u.Hostname())
	}

	to := target{url: u, scheme: u.Scheme, host: strings.ToLower(u.Hostname())}
	if to.port, err = t.port(u); err != nil {
		return target{}, err
	}
	if to.literal, err = t.literal(to.host); err != nil {
		return target{}, err
	}
	if !to.literal.IsValid() {
		if err := checkHostName(to.host); err != nil {
			return target{}, t.refuse("url", BadURL, "host %q: %s", to.host, err)
		}
		// RFC 6761: every name below localhost means this machine, regardless of the resolver.
		if strings.HasSuffix(to.host, ".localhost") && !t.client.AllowPrivate {
			return target{}, t.refuse("address", AddressRefused, "host %q refused: it is this machine", to.host)
		}
		// A name without a dot is completed by the machine's DNS search list, so that it may resolve differently here than on the internet.
		if !strings.Contains(to.host, ".") && !t.client.AllowPrivate {
			return target{}, t.refuse("url", BadURL, "host %q has no dot", to.host)
		}
	}
	to.tidy()
	t.pass("url", "%s %s://%s%s", req.Method, to.scheme, to.url.Host, to.url.EscapedPath())
	return to, nil
}

// tidy normalizes the URL that is sent.
func (to *target) tidy() {
	host := to.host
	if to.literal.Is6() {
		host = "[" + host + "]"
	}
	if to.port != standardPort(to.scheme) {
		host = net.JoinHostPort(to.host, strconv.Itoa(int(to.port)))
	}
	to.url.Host = host
	to.url.Fragment, to.url.RawFragment = "", ""
}

func standardPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// port returns the port of a URL, or the error PortRefused.
func (t *trip) port(u *url.URL) (uint16, error) {
	text := cmp.Or(u.Port(), strconv.Itoa(int(standardPort(u.Scheme))))
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, t.refuse("url", PortRefused, "port %s does not exist", text)
	}
	if port != 80 && port != 443 && !t.client.AllowPrivate {
		return 0, t.refuse("url", PortRefused, "port %d: only 80 and 443 are used", port)
	}
	return uint16(port), nil
}

// literal returns the IP address that a host consists of, or the zero Addr for a name. literal returns AddressRefused for an
// address that is not allowed as a host.
//
// Assumed(outbound.host.literal): a public IP address in place of a name is rejected, like a private one. The contract requires a
// domain, and no certificate or ICP record is issued for an IP address.
func (t *trip) literal(host string) (netip.Addr, error) {
	if !spellsAddress(host) {
		return netip.Addr{}, nil
	}
	if !t.client.AllowPrivate {
		return netip.Addr{}, t.refuse("url", AddressRefused, "host %s is an address, a name is needed", host)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" || addr.String() != host {
		return netip.Addr{}, t.refuse("url", AddressRefused, "host %s is an address in an unusual spelling", host)
	}
	return addr, nil
}

// spellsAddress reports whether any common parser treats the host as an IP address: every host with a colon, and every host whose
// last label is a decimal, octal or hexadecimal number, such as 127.1, 0177.0.0.1 or 0x7f000001. A host that ends in a number
// cannot be a domain name, because no top-level domain is a number.
func spellsAddress(host string) bool {
	if strings.Contains(host, ":") {
		return true
	}
	host = strings.TrimRight(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// checkHostName returns an error if host is not a valid host name; host must be in lower case.
func checkHostName(host string) error {
	if len(host) > 253 {
		return errors.New("longer than 253 characters")
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return errors.New("empty label")
		case len(label) > 63:
			return errors.New("label longer than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return errors.New("label begins or ends with a hyphen")
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return errors.New("only letters, digits, hyphens and dots")
		}
	}
	return nil
}
