package scan_test

import (
	"regexp"
	"strings"
)

// The slow matcher implements the sentences of the contract (rules 2.1, 2.9, 2.10) one after the other with strings. It shares no code with
// the matcher under test.

type slowRule struct {
	prefix, owner string
	published     bool
}

var slowLink = regexp.MustCompile(`^(?i:(https?))://([^/?#]+)((?s).*)$`)

// slowCut returns scheme and host in lower case, and the rest, in which an empty path is "/".
func slowCut(s string) (origin, rest string, hostOnly, ok bool) {
	m := slowLink.FindStringSubmatch(s)
	if m == nil {
		return "", "", false, false
	}
	origin, rest = asciiLower(m[1])+"://"+asciiLower(m[2]), m[3]
	if rest == "" || rest[0] == '?' {
		rest = "/" + rest
	}
	return origin, rest, m[3] == "", true
}

func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

// slowMatches reports whether 1. scheme and host are equal, 2. the path is equal, or below a rule that ends with "/", and 3. the parameters
// match by prefix, with equal paths.
func slowMatches(rule, link string) bool {
	ruleOrigin, ruleRest, hostOnly, ok := slowCut(rule)
	linkOrigin, linkRest, _, ok2 := slowCut(link)
	if !ok || !ok2 {
		return false
	}
	const service = "http://weixin.qq.com/q/"
	if strings.HasPrefix(ruleOrigin+ruleRest, service) || strings.HasPrefix(linkOrigin+linkRest, service) {
		return ruleOrigin+ruleRest == linkOrigin+linkRest
	}
	if ruleOrigin != linkOrigin {
		return false
	}
	rulePath, ruleQuery, hasQuery := strings.Cut(ruleRest, "?")
	linkPath, linkQuery, _ := strings.Cut(linkRest, "?")
	if hasQuery {
		return rulePath == linkPath && strings.HasPrefix(linkQuery, ruleQuery)
	}
	if rulePath == linkPath {
		return true
	}
	return strings.HasSuffix(rulePath, "/") && !hostOnly && strings.HasPrefix(linkPath, rulePath)
}

// slowKey returns the identity of a rule: "https://h" and "https://h/" have the same.
func slowKey(rule string) string {
	origin, rest, _, _ := slowCut(rule)
	return origin + rest
}

// slowOpens implements step 4 of rules 2.9.
func slowOpens(all []slowRule, link string) (winner slowRule, ok bool) {
	longest := map[string]slowRule{}
	for _, r := range all {
		if !slowMatches(r.prefix, link) {
			continue
		}
		if previous, ok := longest[r.owner]; !ok || len(slowKey(r.prefix)) > len(slowKey(previous.prefix)) {
			longest[r.owner] = r
		}
	}
	for _, r := range longest {
		if r.published && (!ok || len(slowKey(r.prefix)) > len(slowKey(winner.prefix))) {
			winner, ok = r, true
		}
	}
	return winner, ok
}
