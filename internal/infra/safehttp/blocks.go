package safehttp

import "net/netip"

// block is an address range that is not part of the ordinary public internet.
type block struct {
	prefix netip.Prefix
	name   string
	source string // an RFC, or the cloud provider
	kind   kind
}

// kind defines the effect of Client.AllowPrivate on a block.
type kind int

const (
	closed  kind = iota // stays refused
	private             // is reachable
	wraps               // the address contains an IPv4 address in its last 32 bits, and that IPv4 address is checked instead
)

// blocks lists all entries of the IANA IPv4 and IPv6 special-purpose address registries, including globally reachable ones (anycast
// services are not web sites), and further ranges: multicast, retired blocks, space outside 2000::/3, and addresses at which clouds
// serve credentials. If several blocks match, the longest prefix decides.
//
// https://www.iana.org/assignments/iana-ipv4-special-registry https://www.iana.org/assignments/iana-ipv6-special-registry
var blocks = []block{
	// IPv4, IANA registry.
	{cidr("0.0.0.0/8"), "This network", "RFC 791", closed},
	{cidr("0.0.0.0/32"), "This host on this network", "RFC 1122", closed},
	{cidr("10.0.0.0/8"), "Private-Use", "RFC 1918", private},
	{cidr("100.64.0.0/10"), "Shared Address Space", "RFC 6598", private},
	{cidr("127.0.0.0/8"), "Loopback", "RFC 1122", private},
	{cidr("169.254.0.0/16"), "Link Local", "RFC 3927", closed},
	{cidr("172.16.0.0/12"), "Private-Use", "RFC 1918", private},
	{cidr("192.0.0.0/24"), "IETF Protocol Assignments", "RFC 6890", closed},
	{cidr("192.0.0.0/29"), "IPv4 Service Continuity Prefix", "RFC 7335", closed},
	{cidr("192.0.0.8/32"), "IPv4 dummy address", "RFC 7600", closed},
	{cidr("192.0.0.9/32"), "Port Control Protocol Anycast", "RFC 7723", closed},
	{cidr("192.0.0.10/32"), "Traversal Using Relays around NAT Anycast", "RFC 8155", closed},
	{cidr("192.0.0.170/32"), "NAT64/DNS64 Discovery", "RFC 7050", closed},
	{cidr("192.0.0.171/32"), "NAT64/DNS64 Discovery", "RFC 7050", closed},
	{cidr("192.0.2.0/24"), "Documentation (TEST-NET-1)", "RFC 5737", closed},
	{cidr("192.31.196.0/24"), "AS112-v4", "RFC 7535", closed},
	{cidr("192.52.193.0/24"), "AMT", "RFC 7450", closed},
	{cidr("192.88.99.0/24"), "6to4 Relay Anycast, deprecated", "RFC 7526", closed},
	{cidr("192.168.0.0/16"), "Private-Use", "RFC 1918", private},
	{cidr("192.175.48.0/24"), "Direct Delegation AS112 Service", "RFC 7534", closed},
	// Local tunnels assign addresses in 198.18.0.0/15 as placeholders for the host names that the tunnels carry.
	{cidr("198.18.0.0/15"), "Benchmarking", "RFC 2544", private},
	{cidr("198.51.100.0/24"), "Documentation (TEST-NET-2)", "RFC 5737", closed},
	{cidr("203.0.113.0/24"), "Documentation (TEST-NET-3)", "RFC 5737", closed},
	{cidr("240.0.0.0/4"), "Reserved", "RFC 1112", closed},
	{cidr("255.255.255.255/32"), "Limited Broadcast", "RFC 919", closed},

	// IPv4, elsewhere.
	{cidr("224.0.0.0/4"), "Multicast", "RFC 5771", closed},
	{cidr("100.100.100.200/32"), "Cloud metadata", "Alibaba Cloud", closed},
	{cidr("168.63.129.16/32"), "Cloud platform address", "Azure", closed},

	// IPv6, IANA registry.
	{cidr("::1/128"), "Loopback Address", "RFC 4291", private},
	{cidr("::/128"), "Unspecified Address", "RFC 4291", closed},
	{cidr("::ffff:0:0/96"), "IPv4-mapped Address", "RFC 4291", wraps},
	{cidr("64:ff9b::/96"), "IPv4-IPv6 Translation (NAT64)", "RFC 6052", wraps},
	{cidr("64:ff9b:1::/48"), "IPv4-IPv6 Translation (local NAT64)", "RFC 8215", closed},
	{cidr("100::/64"), "Discard-Only Address Block", "RFC 6666", closed},
	{cidr("100:0:0:1::/64"), "Dummy IPv6 Prefix", "RFC 9780", closed},
	{cidr("2001::/23"), "IETF Protocol Assignments", "RFC 2928", closed},
	{cidr("2001::/32"), "Teredo", "RFC 4380", closed},
	{cidr("2001:1::1/128"), "Port Control Protocol Anycast", "RFC 7723", closed},
	{cidr("2001:1::2/128"), "Traversal Using Relays around NAT Anycast", "RFC 8155", closed},
	{cidr("2001:1::3/128"), "DNS-SD Service Registration Protocol Anycast", "RFC 9665", closed},
	{cidr("2001:2::/48"), "Benchmarking", "RFC 5180", closed},
	{cidr("2001:3::/32"), "AMT", "RFC 7450", closed},
	{cidr("2001:4:112::/48"), "AS112-v6", "RFC 7535", closed},
	{cidr("2001:10::/28"), "ORCHID, deprecated", "RFC 4843", closed},
	{cidr("2001:20::/28"), "ORCHIDv2", "RFC 7343", closed},
	{cidr("2001:30::/28"), "Drone Remote ID Protocol Entity Tags", "RFC 9374", closed},
	{cidr("2001:db8::/32"), "Documentation", "RFC 3849", closed},
	{cidr("2002::/16"), "6to4", "RFC 3056", closed},
	{cidr("2620:4f:8000::/48"), "Direct Delegation AS112 Service", "RFC 7534", closed},
	{cidr("3fff::/20"), "Documentation", "RFC 9637", closed},
	{cidr("5f00::/16"), "Segment Routing (SRv6) SIDs", "RFC 9602", closed},
	{cidr("fc00::/7"), "Unique-Local", "RFC 4193", private},
	{cidr("fe80::/10"), "Link-Local Unicast", "RFC 4291", closed},

	// IPv6, elsewhere.
	{cidr("::/96"), "IPv4-compatible Address, deprecated", "RFC 4291", closed},
	{cidr("::ffff:0:0:0/96"), "IPv4-translated Address", "RFC 2765", closed},
	{cidr("3ffe::/16"), "6bone, returned", "RFC 3701", closed},
	{cidr("fec0::/10"), "Site-Local Unicast, deprecated", "RFC 3879", closed},
	{cidr("ff00::/8"), "Multicast", "RFC 4291", closed},
	// The whole range is blocked, because AWS serves not only metadata there, but also time, DNS and pod credentials.
	{cidr("fd00:ec2::/32"), "Cloud services", "AWS", closed},
	{cidr("fd00:c1::/32"), "Cloud services", "Oracle Cloud", closed},
	{cidr("fd20:ce::254/128"), "Cloud metadata", "Google Cloud", closed},
	{cidr("fd00:42::42/128"), "Cloud metadata", "Scaleway", closed},
	// Global unicast is 2000::/3; the next three rows cover all other space.
	{cidr("::/3"), "Not global unicast", "RFC 4291", closed},
	{cidr("4000::/2"), "Not global unicast", "RFC 4291", closed},
	{cidr("8000::/1"), "Not global unicast", "RFC 4291", closed},
}

func cidr(s string) netip.Prefix { return netip.MustParsePrefix(s) }
