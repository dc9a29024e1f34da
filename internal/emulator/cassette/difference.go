package cassette

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// comparison compares the recorded response of one cassette line with the response of the local server.
type comparison struct {
	*player
	line        *Recorded
	names       []string
	differences []Difference
}

func (c *comparison) differ(kind Kind, location, platform, local string) {
	c.differences = append(c.differences, Difference{Kind: kind, Location: location, Platform: shorten(platform), Server: shorten(local)})
}

// shorten truncates a text for a report.
func shorten(s string) string {
	const maxLength = 300
	if len(s) > maxLength {
		return strings.ToValidUTF8(s[:maxLength], "") + "…"
	}
	return s
}

// all compares the status, the headers and the body of a response.
func (c *comparison) all(got answered) {
	r := c.line
	if r.Status != got.status {
		c.differ(Status, "status", fmt.Sprint(r.Status), fmt.Sprint(got.status))
	}
	for _, name := range headerNames {
		remote, local := r.Headers[name], got.header.Get(name)
		if remote == "" && local == "" {
			continue
		}
		if remote == "" || local == "" || !c.sameText(remote, local, nil) {
			c.differ(Header, name, cmp.Or(remote, "none"), cmp.Or(local, "none"))
		}
	}
	if r.answerRawKind == "" && got.isValue {
		c.slashes(r.answer, got.value)
	}
	switch {
	case r.answer.kind == absent || r.answerRawKind != "":
		remote, local := cmp.Or(r.answerRawKind, "none"), rawKindOf(got)
		if remote != local {
			c.differ(Type, "answer", bodyName(remote), bodyName(local))
		}
	case !got.isValue:
		c.differ(Type, "answer", bodyName("JSON"), bodyName(rawKindOf(got)))
	case r.number() != got.number():
		c.differ(Number, "errcode", errorText(r.answer), errorText(got.value))
	case r.Path == listPath && r.worked():
		c.authorizers(r.answer, got.value)
	default:
		c.value("", "", r.answer, got.value)
	}
}

// slashes compares how the recorded and the local response write slashes in JSON: a JSON encoder escapes all slashes or none.
func (c *comparison) slashes(platform, local value) {
	if c.line.rewritten {
		return
	}
	switch there, here := platform.slashes(), local.slashes(); {
	case there == slashes{escaped: true} && here == slashes{plain: true}:
		c.differ(Slashes, "answer", `\/`, "/")
	case there == slashes{plain: true} && here == slashes{escaped: true}:
		c.differ(Slashes, "answer", "/", `\/`)
	}
}

// slashes reports whether a value contains escaped slashes (\/), and whether it contains plain slashes (/).
type slashes struct{ escaped, plain bool }

// slashes returns which forms of slashes a value contains. A placeholder shows only whether its value contained escaped slashes.
func (v value) slashes() (all slashes) {
	for t := range v.texts {
		if m, _ := wholeMark(t.text); strings.Contains(t.text, "/") {
			escaped := t.escaped || m.slashes
			all = slashes{all.escaped || escaped, all.plain || !escaped}
		}
	}
	return all
}

// errorText returns the errcode and the errmsg of a response as one text.
func errorText(v value) string {
	if v.field("errcode").kind == absent {
		return "success without errcode"
	}
	return strings.TrimSpace(v.field("errcode").text + " " + v.field("errmsg").text)
}

func bodyName(kind string) string {
	if kind == "none" {
		return "no body"
	}
	return "a body of " + kind
}

// rawKindOf returns the kind of body in the local server's response.
func rawKindOf(got answered) string {
	switch {
	case got.isValue:
		return "JSON"
	case len(got.raw) == 0:
		return "none"
	}
	m, _ := wholeMark(strings.Trim(string((&callMask{Mask: &Mask{}}).body(got.raw)), `"`))
	return m.kind
}

// times lists the fields that depend on the clock and may differ by aFewSeconds.
var times = []string{"expires_in", "auth_time", "create_time", "update_time", "invoke_time", "cost_in_ms"}

// aFewSeconds is the tolerance, in seconds, when two time fields are compared.
const aFewSeconds = 5

// value compares two values at the same location in the recorded and the local response; name is the innermost field name of that location.
func (c *comparison) value(location, name string, platform, local value) {
	m, isMark := mark{}, false
	if platform.kind == text {
		m, isMark = wholeMark(platform.text)
	}
	kind := platform.kind
	if isMark && m.number {
		kind = number
	}
	switch {
	case kind != local.kind:
		c.differ(Type, location, kind.String(), local.kind.String())
	case kind == object:
		c.object(location, platform, local)
	case kind == list:
		c.list(location, name, platform, local)
	case isMark && (m.kind == "rid" || m.number && slices.Contains(times, name)):
		c.bind(m.n, local.text)
	case isMark && !slices.Contains(formed, name):
		isToken := m.kind == "token" || m.kind == "refresh"
		if isToken && c.madeUp[m.n] { // a request contained the token before any response contained it, so the player made up its value
			delete(c.back, c.bound[m.n])
			delete(c.bound, m.n)
			delete(c.madeUp, m.n)
		}
		known, length := c.isBound(m), utf8.RuneCountInString(local.text)
		switch {
		case local.text == "":
			c.differ(Value, location, "a text", "an empty text")
		case !c.bind(m.n, local.text):
			c.differ(Value, location, c.previousOf(m), "another")
		case !known && isToken && m.length != length:
			c.differ(Value, location, fmt.Sprintf("%d characters", m.length), fmt.Sprintf("%d characters", length))
		}
	case kind == text && slices.Contains(formed, name):
		item, said := Value, []string(nil)
		if name == "errmsg" {
			item, said = Text, c.names
		}
		if !c.sameText(platform.text, local.text, said) {
			c.differ(item, location, platform.text, (&Mask{}).formText(local.text, said...))
		}
	case kind == number:
		c.number(location, name, platform.text, local.text)
	case platform.text != local.text:
		masked := (&callMask{Mask: &Mask{}}).maskText(name, local.text)
		c.differ(Value, location, cmp.Or(platform.text, "an empty text"), cmp.Or(masked, "an empty text"))
	}
}

// previousOf describes the platform's value in a report: the same value as before, or a new one.
func (c *comparison) previousOf(m mark) string {
	if c.isBound(m) {
		return "the same as before: " + m.String()
	}
	return "a new one: " + m.String()
}

func (c *comparison) number(location, name, remote, local string) {
	a, okA := (value{kind: number, text: remote}).int()
	b, okB := (value{kind: number, text: local}).int()
	if okA && okB && slices.Contains(counters, name) {
		c.counter(location, name, a, b)
		return
	}
	if remote == local {
		return
	}
	if okA && okB && slices.Contains(times, name) && max(a-b, b-a) <= aFewSeconds {
		return
	}
	c.differ(Value, location, remote, local)
}

func (c *comparison) list(location, name string, platform, local value) {
	if name == "ip_list" { // each server has its own addresses, so only the types are compared
		if len(platform.items) > 0 && len(local.items) > 0 && platform.items[0].kind != local.items[0].kind {
			c.differ(Type, location, platform.items[0].kind.String(), local.items[0].kind.String())
		}
		return
	}
	if c.line.Path == linksPath && name == "items" {
		local = c.inOrderOf(platform, local)
	}
	if len(platform.items) != len(local.items) {
		c.differ(Value, location, fmt.Sprintf("%d entries", len(platform.items)), fmt.Sprintf("%d entries", len(local.items)))
	}
	for i := range min(len(platform.items), len(local.items)) {
		c.value(fmt.Sprintf("%s[%d]", location, i), name, platform.items[i], local.items[i])
	}
}

// inOrderOf sorts the local list of accounts in the order of the recorded list, because the platform's order is undocumented.
// Accounts that the recorded list lacks come last.
func (c *comparison) inOrderOf(platform, local value) value {
	rank := func(val value) int {
		i := slices.IndexFunc(platform.items, func(item value) bool {
			return c.text(item.field("appid").text, c.line.OccurredAt) == val.field("appid").text
		})
		if i < 0 {
			return len(platform.items)
		}
		return i
	}
	local.items = slices.Clone(local.items)
	slices.SortStableFunc(local.items, func(a, b value) int { return rank(a) - rank(b) })
	return local
}

func (c *comparison) object(location string, platform, local value) {
	fieldPath := func(name string) string { return strings.TrimPrefix(location+"."+name, ".") }
	var common, order []string
	for _, name := range platform.names {
		if local.field(name).kind == absent {
			c.differ(Field, fieldPath(name), "there", "not there")
		} else if !slices.Contains(common, name) {
			common = append(common, name)
		}
	}
	for _, name := range local.names {
		if slices.Contains(common, name) {
			if !slices.Contains(order, name) {
				order = append(order, name)
			}
		} else if c.isNameOf(platform, name) {
			continue
		} else {
			c.differ(Field, fieldPath((&Mask{}).maskName(name)), "not there", "there")
		}
	}
	if !slices.Equal(common, order) {
		c.differ(Order, cmp.Or(location, "answer"), strings.Join(common, ", "), strings.Join(order, ", "))
	}
	for _, name := range common {
		c.value(fieldPath(name), name, platform.field(name), local.field(name))
	}
}

// isNameOf reports whether the recorded object platform has a field whose name was masked with the placeholder for the local name.
func (c *comparison) isNameOf(platform value, name string) bool {
	n, known := c.back[name]
	return known && slices.ContainsFunc(platform.names, func(masked string) bool {
		m, ok := wholeMark(masked)
		return ok && m.n == n
	})
}

// sameText reports whether the literals and placeholders of a masked text match a text of the local server.
func (c *comparison) sameText(masked, local string, said []string) bool {
	remoteParts, runs := parseMarks(masked), cutRuns(local, said)
	if len(remoteParts) != len(runs) {
		return false
	}
	for i, piece := range remoteParts {
		run := runs[i]
		switch {
		case piece.mark.n == 0 || run.kind == "":
			if piece.mark.n != 0 || run.kind != "" || piece.literal != run.raw {
				return false
			}
		case piece.mark.kind == "hint" || piece.mark.kind == "number":
			if run.kind != piece.mark.kind {
				return false
			}
		case piece.mark.kind == "rid":
			if run.kind != "rid" {
				return false
			}
			c.bind(piece.mark.n, run.raw)
		default:
			if piece.mark.capitals != run.capitals || !c.bind(piece.mark.n, run.raw) {
				return false
			}
		}
	}
	return true
}
