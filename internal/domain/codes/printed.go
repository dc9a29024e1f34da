package codes

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// DefaultPrefix is the prefix that the Weixin platform uses. Texts with the prefix P.URL.CN/ can be scanned only with the
	// Weixin app. Contract: marketcode §5.4.
	DefaultPrefix = "P.URL.CN/"
	// TailLength is the number of characters of a code text after its prefix: the version character and the symbols.
	TailLength = 1 + symbolsLength
	// MaxPrefix is the maximum length of a prefix in characters, so that a code text has at most the 128 characters that the
	// code_url parameter of codeactivequery accepts. Contract: marketcode §3.5.
	MaxPrefix = 128 - TailLength
)

// Printed describes the format in which the codes of a batch are printed. The format is fixed when the application is created.
type Printed struct {
	// Prefix is the prefix of every text and must be valid for CheckPrefix.
	Prefix string
	// Version identifies the TextKey: one character of Alphabet.
	Version byte
}

// Check returns an error if the prefix or the version character is invalid.
func (p Printed) Check() error {
	if values[p.Version] == absent {
		return fmt.Errorf("version character %q: want one of %s", p.Version, Alphabet)
	}
	return CheckPrefix(p.Prefix)
}

// Text returns the code text of counter c. Text panics if c is not below Space.
func (p Printed) Text(key *TextKey, c uint64) string {
	return CodeText{Printed: p, Symbols: key.Text(c, p.Version)}.String()
}

// isHost reports whether s can be the part of a prefix before the first "/": a host, optionally with a port.
func isHost(s string) bool {
	name, port, hasPort := strings.Cut(s, ":")
	if hasPort && (port == "" || len(port) > 5 || !allOf(port, Alphabet[:10])) {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.Trim(label, "-") != label || !allOf(label, Alphabet[:36]+"-") {
			return false
		}
	}
	return true
}

// allOf reports whether s contains only characters of set.
func allOf(s, set string) bool { return strings.Trim(s, set) == "" }

// CheckPrefix returns an error if prefix is invalid: a valid prefix is a host and a path, with or without a scheme. A valid prefix has at
// most MaxPrefix characters of the QR alphanumeric set, and no space. A single lower-case letter would make the QR code two versions
// larger. Contract: marketcode §5.2, §5.3, §5.4.
//
// Assumed(codes.text): a prefix contains no "%", which could form an unintended percent-escape; no "//", "/./" or "/../", which a
// proxy could normalise; and at least one "/", so that the code does not become part of the host name.
func CheckPrefix(prefix string) error {
	fault := func(reason string) error { return fmt.Errorf("code prefix %.140q: %s", prefix, reason) }
	host, path, slash := strings.Cut(cutScheme(prefix), "/")
	switch {
	case len(prefix) > MaxPrefix:
		return fault(fmt.Sprintf("longer than %d characters", MaxPrefix))
	case strings.ContainsAny(prefix, "abcdefghijklmnopqrstuvwxyz"):
		return fault("lower-case letters need a larger QR code; write it in upper case")
	case !slash:
		return fault(`want a "/" after the host`)
	case !isHost(host):
		return fault("want a host, with or without http:// before it")
	case !allOf(path, Alphabet+"*+./:"):
		return fault("only 0-9 A-Z $ * + - . / : are allowed")
	}
	path = "/" + path
	for _, cleaned := range []string{"//", "/./", "/../"} {
		if strings.Contains(path, cleaned) {
			return fault(fmt.Sprintf("%q would be cleaned away on the way to the server", cleaned))
		}
	}
	return nil
}

// alphanumericQ lists the capacity of QR codes of versions 1, 2, ... at level Q, in characters of the alphanumeric set. Contract:
// marketcode 5.3; ISO/IEC 18004, table 7.
var alphanumericQ = [...]int{16, 29, 47, 67, 87, 108, 125, 157, 189, 221}

// QRVersion returns the smallest QR code version that has room for the texts of a prefix at level Q in alphanumeric mode; 0 = even version
// 10 is too small. Version 1 has 21×21 modules; each further version has 4 more modules per side.
func QRVersion(prefix string) int {
	for i, capacity := range alphanumericQ {
		if len(prefix)+TailLength <= capacity {
			return i + 1
		}
	}
	return 0
}

// CodeText is a code text split into its parts. Its symbols may be invented: only the key shows if a code has these symbols.
type CodeText struct {
	Printed
	Symbols [symbolsLength]byte
}

// String returns the text in its printed form.
func (t CodeText) String() string {
	b := make([]byte, 0, MaxPrefix+TailLength)
	b = append(b, t.Prefix...)
	b = append(b, t.Version)
	return string(append(b, t.Symbols[:]...))
}

var (
	// errNoPrefix is returned by ParseText for a text without a known prefix.
	errNoPrefix = errors.New("codes: the text has no known prefix")
	// errNoText is returned by ParseText for a text that begins with a known prefix but does not have the format of a code text.
	errNoText = errors.New("codes: the text has a known prefix but is not a code text")
)

// HasPrefix reports whether text begins with prefix, ignoring case and ignoring http:// or https://.
func HasPrefix(text, prefix string) bool {
	bare, known := cutScheme(text), cutScheme(prefix)
	return len(bare) >= len(known) && equalFold(bare[:len(known)], known)
}

// HasForm reports whether a text with the prefix has the format of a code text of this server or of the Weixin platform.
func HasForm(text, prefix string) bool {
	_, err := ParseText(text, []string{prefix})
	return err == nil || len(possibleTails(prefix, text)) > 0
}

// ParseText parses a text from a camera, a browser or a client in any of its spellings: any case, with or without http:// or https://,
// symbols as they are or percent-encoded ("%24" for "$"). ParseText normalises nothing else: it rejects a text with "/../". The prefixes
// (the current one, earlier ones and those of batches) must be valid for CheckPrefix. ParseText returns errNoPrefix or errNoText. Contract:
// marketcode 3.5, 11.1.
func ParseText(text string, prefixes []string) (CodeText, error) {
	err := errNoPrefix
	for _, prefix := range prefixes {
		if !HasPrefix(text, prefix) {
			continue
		}
		// If a longer known prefix begins with this prefix, the length of the rest of the text shows which of the two is right.
		if t, ok := parseTail(cutScheme(text)[len(cutScheme(prefix)):]); ok {
			t.Prefix = prefix
			return t, nil
		}
		err = errNoText
	}
	return CodeText{}, err
}

// parseTail parses the text after the prefix, and leaves the field Prefix empty.
func parseTail(rest string) (t CodeText, ok bool) {
	var tail [TailLength]byte
	n := 0
	for ; rest != ""; n++ {
		char, size := firstByte(rest)
		char, rest = upperByte(char), rest[size:]
		if n == TailLength || values[char] == absent {
			return CodeText{}, false
		}
		tail[n] = char
	}
	if n != TailLength {
		return CodeText{}, false
	}
	t.Version, t.Symbols = tail[0], [symbolsLength]byte(tail[1:])
	return t, true
}

// ParseCode parses the nine characters of an original code, as contained in a dot matrix or a serial number; ok is false for any
// other text. Any nine characters of the alphabet are accepted: whether they are an issued code depends on their counter.
func ParseCode(text string) (code [CodeLength]byte, ok bool) {
	if len(text) != CodeLength {
		return code, false
	}
	copy(code[:], text)
	_, _, ok = readCode(&code)
	return code, ok
}

// cutScheme removes a leading http:// or https:// in any case.
func cutScheme(s string) string {
	for _, scheme := range [...]string{"HTTP://", "HTTPS://"} {
		if len(s) >= len(scheme) && equalFold(s[:len(scheme)], scheme) {
			return s[len(scheme):]
		}
	}
	return s
}

// equalFold compares two texts of equal length, ignoring the case of ASCII letters. Other letters are not folded: U+017F (long s)
// does not equal S.
func equalFold(a, b string) bool {
	for i := range len(a) {
		if upperByte(a[i]) != upperByte(b[i]) {
			return false
		}
	}
	return true
}

func upperByte(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// hexDigit returns the value of a hexadecimal digit in any case; other bytes return the marker "absent".
func hexDigit(c byte) byte {
	if v := values[upperByte(c)]; v < 16 {
		return v
	}
	return absent
}
