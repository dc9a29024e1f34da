package settings

import (
	"fmt"
	"net/netip"
	"strings"
)

// Limits maps an API path to the maximum number of calls per day.
type Limits map[string]int

// UnmarshalJSON replaces the map, so that a path absent from the JSON has no limit.
func (l *Limits) UnmarshalJSON(b []byte) error {
	return renew(b, (*map[string]int)(l), "daily_limits: want an object of numbers by path")
}

func (l Limits) validate(name string) error {
	if len(l) > 1000 {
		return fmt.Errorf("settings: %s has %d entries: want at most 1000", name, len(l))
	}
	for path, n := range l {
		if !strings.HasPrefix(path, "/") || len(path) > 128 {
			return fmt.Errorf("settings: %s names %.130q: want the path of an interface, such as /cgi-bin/stable_token", name, path)
		}
		if n < 1 || n > 1_000_000_000 {
			return fmt.Errorf("settings: %s of %s is %d: want 1 to 1000000000", name, path, n)
		}
	}
	return nil
}

// Prefixes maps a GS1 Company Prefix to the AppID of the account that owns it.
type Prefixes map[string]string

// UnmarshalJSON replaces the map with a newly allocated map.
func (p *Prefixes) UnmarshalJSON(b []byte) error {
	return renew(b, (*map[string]string)(p), "gs1_prefixes: want an object of AppIDs by GS1 Company Prefix")
}

func (p Prefixes) validate(name string) error {
	if len(p) > 10_000 {
		return fmt.Errorf("settings: %s has %d entries: want at most 10000", name, len(p))
	}
	for prefix, appid := range p {
		if !IsPrefix(prefix) {
			return fmt.Errorf("settings: %s names %.40q: want the digits of a GS1 Company Prefix, 4 or more", name, prefix)
		}
		if appid == "" || len(appid) > 128 {
			return fmt.Errorf("settings: %s of %s: want the AppID of who holds it", name, prefix)
		}
	}
	return nil
}

// IsPrefix reports whether text can be a GS1 Company Prefix, optionally followed by the digits of an item number.
func IsPrefix(text string) bool {
	return len(text) >= 4 && len(text) <= 30 && strings.Trim(text, "0123456789") == ""
}

// Holder returns the longest company prefix in the map with which the text in digits begins, and the account of this prefix. An empty appid
// means that the map contains no such prefix.
func (p Prefixes) Holder(digits string) (prefix, appid string) {
	for n := min(len(digits), 30); n >= 4; n-- {
		if appid := p[digits[:n]]; appid != "" {
			return digits[:n], appid
		}
	}
	return "", ""
}

// Addresses is a list of IP addresses and CIDR ranges.
type Addresses []string

// UnmarshalJSON replaces the list with a newly allocated list.
func (a *Addresses) UnmarshalJSON(b []byte) error {
	return renew(b, (*[]string)(a), "want a list of addresses")
}

func (a Addresses) validate(name string) error {
	if len(a) > 256 {
		return fmt.Errorf("settings: %s has %d entries: want at most 256", name, len(a))
	}
	for _, text := range a {
		if _, err := netip.ParseAddr(text); err == nil {
			continue
		}
		if _, err := netip.ParsePrefix(text); err != nil {
			return fmt.Errorf("settings: %s has %.60q: want an address such as 192.0.2.7 or a range such as 192.0.2.0/24", name, text)
		}
	}
	return nil
}
