package cassette

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// wordsText contains every word of docs/contract, one per line; TestCassetteMask_VocabularyFromContract prints the list.
//
//go:embed words.txt
var wordsText string

// vocabulary returns the public words that a recording may contain unmasked.
var vocabulary = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{}
	for word := range strings.FieldsSeq("emulator clock faults remaining probability delay drop drop_after admin advance utf-8 v1 v2 " +
		"jscode2session BizDomain a q r s " + wordsText) {
		words[word] = true
	}
	codes := []string{errcode.StableTokenAdvice}
	for _, code := range errcode.All() {
		codes = append(codes, code.Text)
	}
	for _, code := range codes {
		for _, found := range wordRun.FindAllString(code, -1) {
			words[found] = true
		}
		for _, found := range foreignRun.FindAllString(code, -1) {
			words[found] = true
		}
	}
	return words
})

var (
	wordRun    = regexp.MustCompile(`(?:[A-Za-z0-9_-]|%[0-9A-Fa-f]{2})+`)
	foreignRun = regexp.MustCompile(`[^\x00-\x7f]+`)
	// runs matches the parts of a text that need masking; each capturing group matches one of runKinds.
	runs = regexp.MustCompile(`([0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8})` + // a request id
		`|hint: (\[[^\]]*\](?:\[[^\]]*\])?)` +
		`|(\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b)` + // an address
		`|((?:[A-Za-z0-9_-]|%[0-9A-Fa-f]{2})+)` +
		`|([^\x00-\x7f]+)` +
		`|([\x00-\x1f\x7f]+)`)
	runKinds = []string{"", "rid", "hint", "ip", "word", "wide", "control"}
	digits   = regexp.MustCompile(`^[0-9]+$`)
	// shortNumber matches numbers that stay unmasked in any field.
	shortNumber = regexp.MustCompile(`^-?[0-9]{1,3}$`)
	aWhile      = regexp.MustCompile(`^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$`)
	longNumber  = regexp.MustCompile(`^-?[0-9]{1,10}(?:\.0{1,3})?(?:[eE]0)?$`)
)

// isPublic reports whether a word is in the vocabulary, or is made of vocabulary words joined by "_" or "-".
func isPublic(word string) bool {
	known := vocabulary()
	fn := func(w string) bool {
		lower := strings.ToLower(w)
		ordinary := w == lower || w == strings.ToUpper(w) || w == strings.ToUpper(w[:1])+lower[1:]
		return known[w] || ordinary && known[lower]
	}
	if fn(word) {
		return true
	}
	parts := strings.FieldsFunc(word, func(r rune) bool { return r == '_' || r == '-' })
	return len(parts) > 1 && len(word) <= 64 && !slices.ContainsFunc(parts, func(p string) bool { return !fn(p) })
}

// formed lists the fields whose texts are masked word by word, so that their form stays visible.
var formed = []string{"errmsg", "prefix", "prefix_list", "debug_url", "path", "wxa_path", "cgi_path", "url", "grant_type", "action_name",
	"status", "lang"}

// numbered lists the fields whose numbers stay unmasked if they have at most ten digits.
var numbered = []string{"errcode", "expires_in", "expire_seconds", "is_edit", "permit_sub_rule", "open_version", "state", "get_type",
	"page_num", "page_size", "total_count", "list_size", "qrcodejump_open", "qrcodejump_pub_quota", "code_count", "code_start", "code_end",
	"code_index", "wxa_type", "offset", "count", "daily_limit", "used", "remain", "remaining", "call_count", "refresh_second",
	"create_time", "update_time", "invoke_time", "force_refresh", "notify_users", "show_profile", "option_value"}

// kindOf returns the placeholder kind for the value of a field.
func kindOf(name string) string {
	name = strings.ToLower(name)
	for _, values := range [][2]string{{"application_id", "id"}, {"appid", "appid"}, {"refresh_token", "refresh"}, {"token", "token"},
		{"ticket", "ticket"}, {"secret", "secret"}, {"js_code", "login"}, {"openid", "openid"}, {"unionid", "unionid"}, {"code", "code"},
		{"key", "key"}, {"buffer", "buffer"}, {"ip_list", "ip"}} {
		if strings.Contains(name, values[0]) {
			return values[1]
		}
	}
	if name == "rid" {
		return "rid"
	}
	return "text"
}

// Mask replaces each value with a placeholder, unless the value is on a list of public values. Equal values get the same placeholder.
// Use one Mask for each cassette. Mask is safe for concurrent use.
type Mask struct {
	mu   sync.Mutex
	seen map[string]mark // maps the result of keyOf to the placeholder
	base int             // offset added to the number of each new placeholder; 0 except in a Player
}

// mark is the placeholder of a value.
type mark struct {
	kind   string
	n      int
	length int // in characters
	number bool
	// slashes reports whether the value contained escaped slashes.
	slashes bool
	// capitals is true if the value is a host name word that was not in lower case; n is then the number of the lower-case word.
	capitals bool
}

func (m mark) String() string {
	sign := ""
	switch {
	case m.number:
		sign = "#"
	case m.slashes:
		sign = "/"
	case m.capitals:
		sign = "^"
	}
	return fmt.Sprintf("{%s%s:%d:%d}", sign, m.kind, m.n, m.length)
}

var markForm = regexp.MustCompile(`\{([#/^]?)([a-z]+):([1-9][0-9]{0,8}):([0-9]{1,9})\}`)

// parseMarks splits a masked text into literals and placeholders.
func parseMarks(masked string) (parts []part) {
	end := 0
	for _, numbers := range markForm.FindAllStringSubmatchIndex(masked, -1) {
		if numbers[0] > end {
			parts = append(parts, part{literal: masked[end:numbers[0]]})
		}
		n, _ := strconv.Atoi(masked[numbers[6]:numbers[7]])
		length, _ := strconv.Atoi(masked[numbers[8]:numbers[9]])
		parts = append(parts, part{mark: mark{kind: masked[numbers[4]:numbers[5]], n: n, length: length,
			number: masked[numbers[2]:numbers[3]] == "#", slashes: masked[numbers[2]:numbers[3]] == "/",
			capitals: masked[numbers[2]:numbers[3]] == "^"}})
		end = numbers[1]
	}
	if end < len(masked) {
		parts = append(parts, part{literal: masked[end:]})
	}
	return parts
}

// expand replaces each placeholder in a masked text with the text that value returns for it.
func expand(masked string, value func(mark) string) string {
	return markForm.ReplaceAllStringFunc(masked, func(placeholder string) string { return value(parseMarks(placeholder)[0].mark) })
}

// part is a piece of a masked text: a literal, or a placeholder (mark.n > 0).
type part struct {
	literal string
	mark    mark
}

// wholeMark returns the placeholder if the masked text consists of one placeholder only.
func wholeMark(masked string) (m mark, ok bool) {
	numbers := markForm.FindStringIndex(masked)
	if numbers == nil || numbers[0] != 0 || numbers[1] != len(masked) {
		return mark{}, false
	}
	return parseMarks(masked)[0].mark, true
}

// keyOf returns the map key of a value: the value, or its SHA-256 if the value is longer than the hash.
func keyOf(raw string) string {
	if len(raw) <= sha256.Size {
		return raw
	}
	sum := sha256.Sum256([]byte(raw))
	return string(sum[:])
}

// replace returns the placeholder of a value.
func (m *Mask) replace(kind, raw string) mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string]mark{}
	}
	key := keyOf(raw)
	item, known := m.seen[key]
	if !known {
		item = mark{kind: kind, n: m.base + len(m.seen) + 1, length: utf8.RuneCountInString(raw)}
		m.seen[key] = item
	}
	return item
}

// formText masks a text word by word and keeps its form; said lists request values that the text may quote.
func (m *Mask) formText(raw string, said ...string) string {
	var b strings.Builder
	for _, run := range cutRuns(raw, said) {
		if run.kind == "" {
			b.WriteString(run.raw)
		} else {
			item := m.replace(run.kind, run.raw)
			item.capitals = run.capitals
			b.WriteString(item.String())
		}
	}
	return b.String()
}

// run is a piece of an unmasked text: a piece to keep (kind ""), or a piece to replace.
type run struct {
	kind, raw string
	capitals  bool // true if raw is a word of a host name that was changed to lower case
}

// origin matches a scheme and a host, which are case-insensitive.
var origin = regexp.MustCompile(`^(?i:https?)://[^/?#]*`)

// shortestSaid is the minimum length, in bytes, of a request value that is searched for in errmsg.
const shortestSaid = 4

func cutRuns(raw string, said []string) (list []run) {
	keep := func(text string) {
		if last := len(list) - 1; last >= 0 && list[last].kind == "" {
			list[last].raw += text
		} else if text != "" {
			list = append(list, run{raw: text})
		}
	}
	for _, name := range said {
		if prev, cursor, ok := strings.Cut(raw, name); ok {
			list = append(cutRuns(prev, said), run{kind: "text", raw: name})
			for _, trailingRun := range cutRuns(cursor, said) {
				if trailingRun.kind == "" {
					keep(trailingRun.raw)
				} else {
					list = append(list, trailingRun)
				}
			}
			return list
		}
	}
	end, host := 0, len(origin.FindString(raw))
	for _, numbers := range runs.FindAllStringSubmatchIndex(raw, -1) {
		for group := 1; group < len(runKinds); group++ {
			if numbers[2*group] < 0 {
				continue
			}
			keep(raw[end:numbers[2*group]])
			end = numbers[2*group+1]
			found, kind := raw[numbers[2*group]:end], runKinds[group]
			small := found
			if end <= host {
				small = strings.ToLower(found)
			}
			switch {
			case (kind == "word" || kind == "wide") && isPublic(found):
				keep(found)
			case kind == "word" && digits.MatchString(found):
				list = append(list, run{kind: "number", raw: found})
			case small != found && isPublic(small):
				keep(strings.ToUpper(found))
			default:
				list = append(list, run{kind, small, small != found})
			}
		}
	}
	keep(raw[end:])
	return list
}

// maskText masks the text of a field.
func (c *callMask) maskText(name, raw string) string {
	switch {
	case raw == "":
		return ""
	case name == "errmsg":
		return c.formText(raw, c.said...)
	case slices.Contains(formed, name):
		return c.formText(raw)
	case slices.Contains(numbered, name) && longNumber.MatchString(raw), kindOf(name) == "text" && isPublic(raw),
		name == "advance" && aWhile.MatchString(raw):
		return raw
	}
	c.quotable(raw)
	if strings.ContainsAny(raw, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x7f") {
		return c.replace("control", raw).String()
	}
	return c.replace(kindOf(name), raw).String()
}

// maskName masks the name of a field.
func (m *Mask) maskName(name string) string {
	if name == "" || isPublic(name) {
		return name
	}
	return m.replace("name", name).String()
}

// callMask masks one call: a request value that the response quotes gets the same placeholder in request and response.
type callMask struct {
	*Mask
	said      []string // the longest first
	answering bool     // true while the response is masked
}

// maxRequestValues limits the number of request values that are searched for in the response.
const maxRequestValues = 64

// quotable records a request value that the response may quote.
func (c *callMask) quotable(raw string) {
	if !c.answering && len(raw) >= shortestSaid && len(c.said) < maxRequestValues {
		c.said = append(c.said, raw)
		slices.SortStableFunc(c.said, func(a, b string) int { return len(b) - len(a) })
	}
}

// maxPlainNumbers is the maximum length of a list whose numbers stay unmasked: a longer list may contain the bytes of a text.
const maxPlainNumbers = 6

// numberMark returns the placeholder of a number.
func (c *callMask) numberMark(name string, v value) value {
	kind := kindOf(name)
	if kind == "text" {
		kind = "number"
	}
	m := c.replace(kind, v.text)
	m.number = true
	return value{kind: text, text: m.String()}
}

// value masks v, the value of the field called name.
func (m *callMask) value(name string, v value) value {
	switch v.kind {
	case text:
		hadSlashes := v.escaped && strings.Contains(v.text, "/")
		v.text = m.maskText(name, v.text)
		if thisMark, ok := wholeMark(v.text); ok && hadSlashes {
			thisMark.slashes = true
			v.text = thisMark.String()
		}
	case number:
		if shortNumber.MatchString(v.text) || slices.Contains(numbered, name) && longNumber.MatchString(v.text) {
			return v
		}
		return m.numberMark(name, v)
	case list, object:
		masked := value{kind: v.kind}
		isLong := len(v.items) > maxPlainNumbers && v.kind == list
		for i, item := range v.items {
			parent := name
			if v.kind == object {
				parent = v.names[i]
				masked.names = append(masked.names, m.maskName(parent))
			}
			if item.kind == number && (isLong || v.kind == object && !isPublic(parent)) {
				masked.items = append(masked.items, m.numberMark(parent, item))
			} else {
				masked.items = append(masked.items, m.value(parent, item))
			}
		}
		return masked
	}
	return v
}

// body masks a request or response body; a body that is not JSON becomes one placeholder whose kind describes the body.
func (m *callMask) body(raw []byte) []byte {
	if len(raw) == 0 {
		return nil
	}
	if utf8.Valid(raw) {
		if v, err := parseValue(raw); err == nil && (v.kind == object || v.kind == list) {
			return m.value("", v).json()
		}
	}
	kind := "bytes"
	switch trimmed := strings.TrimSpace(string(raw[:min(len(raw), 512)])); { // 512 bytes are enough to recognize the kind of body
	case trimmed == "":
		kind = "blank"
	case !utf8.Valid(raw):
	case trimmed[0] == '<':
		kind = "html"
	case trimmed[0] == '{' || trimmed[0] == '[':
		kind = "broken"
	default:
		kind = "plain"
	}
	item := m.replace(kind, string(raw))
	return value{kind: text, text: mark{kind: kind, n: item.n, length: len(raw)}.String()}.json()
}

// query masks the parameters of a URL query, in order.
func (m *callMask) query(raw string) []byte {
	if raw == "" {
		return nil
	}
	masked := value{kind: object}
	for pair := range strings.SplitSeq(raw, "&") {
		name, subject, _ := strings.Cut(pair, "=")
		name, subject = unescape(name), unescape(subject)
		masked.names = append(masked.names, m.maskName(name))
		masked.items = append(masked.items, value{kind: text, text: m.maskText(name, subject)})
	}
	return masked.json()
}

// unescape decodes a query component; a malformed component is returned unchanged.
func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}
