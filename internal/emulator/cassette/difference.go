package cassette

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// comparison is of one line's answer with ours.
type comparison struct {
	*player
	line        *Recorded
	said        []string
	differences []Difference
}

func (c *comparison) differ(kind Kind, where, platform, ours string) {
	c.differences = append(c.differences, Difference{Kind: kind, Where: where, Platform: short(platform), Ours: short(ours)})
}

// short cuts what stands in a report.
func short(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// all compares everything of an answer.
func (c *comparison) all(got answered) {
	r := c.line
	if r.Status != got.status {
		c.differ(Status, "status", fmt.Sprint(r.Status), fmt.Sprint(got.status))
	}
	for _, name := range headerNames {
		theirs, ours := r.Headers[name], got.header.Get(name)
		if theirs == "" && ours == "" {
			continue
		}
		if theirs == "" || ours == "" || !c.sameText(theirs, ours, nil) {
			c.differ(Header, name, orNone(theirs), orNone(ours))
		}
	}
	if r.answerRawKind == "" && got.isValue {
		c.slashes(r.answer, got.value)
	}
	switch {
	case r.answer.kind == absent || r.answerRawKind != "":
		theirs, ours := orNone(r.answerRawKind), rawKindOf(got)
		if theirs != ours {
			c.differ(Type, "answer", bodyName(theirs), bodyName(ours))
		}
	case !got.isValue:
		c.differ(Type, "answer", bodyName("JSON"), bodyName(rawKindOf(got)))
	case r.number() != got.number():
		c.differ(Number, "errcode", numbered1(r.answer), numbered1(got.value))
	case r.Path == listPath && r.worked():
		c.authorizers(r.answer, got.value)
	default:
		c.value("", "", r.answer, got.value)
	}
}

// slashes compares how slashes are written: a writer of JSON escapes all or none.
func (c *comparison) slashes(theirs, ours value) {
	if c.line.rewritten {
		return
	}
	escapedThere, plainThere := theirs.slashes()
	escapedHere, plainHere := ours.slashes()
	switch {
	case escapedThere && !plainThere && plainHere && !escapedHere:
		c.differ(Slashes, "answer", `\/`, "/")
	case plainThere && !escapedThere && escapedHere && !plainHere:
		c.differ(Slashes, "answer", "/", `\/`)
	}
}

// slashes reports whether texts of a value have slashes that are escaped, and such as are
// not. Of a stand-in only the escaped ones are known.
func (v value) slashes() (escaped, plain bool) {
	if v.kind == text && strings.Contains(v.text, "/") {
		m, _ := wholeMark(v.text)
		return v.escaped || m.slashes, !v.escaped && !m.slashes
	}
	for _, item := range v.items {
		e, p := item.slashes()
		escaped, plain = escaped || e, plain || p
	}
	return escaped, plain
}

// numbered1 is an errcode with its text.
func numbered1(v value) string {
	if v.field("errcode").kind == absent {
		return "success without errcode"
	}
	return strings.TrimSpace(v.field("errcode").text + " " + v.field("errmsg").text)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func bodyName(kind string) string {
	if kind == "none" {
		return "no body"
	}
	return "a body of " + kind
}

// rawKindOf returns the kind of body of this server's answer.
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

// times are fields that follow the clock, within a few seconds.
var times = []string{"expires_in", "auth_time", "create_time", "update_time", "invoke_time", "cost_in_ms"}

// aFewSeconds is the tolerance between times.
const aFewSeconds = 5

// value compares two values that stand in the same place; name is the innermost
// name that they stand under.
func (c *comparison) value(where, name string, theirs, ours value) {
	m, isMark := mark{}, false
	if theirs.kind == text {
		m, isMark = wholeMark(theirs.text)
	}
	kind := theirs.kind
	if isMark && m.number {
		kind = number
	}
	switch {
	case kind != ours.kind:
		c.differ(Type, where, kind.String(), ours.kind.String())
	case kind == object:
		c.object(where, theirs, ours)
	case kind == list:
		c.list(where, name, theirs, ours)
	case isMark && (m.kind == "rid" || m.number && slices.Contains(times, name)):
		c.bind(m.n, ours.text)
	case isMark && !slices.Contains(formed, name):
		isToken := m.kind == "token" || m.kind == "refresh"
		if isToken && c.madeUp[m.n] { // a call sent it before an answer showed it
			delete(c.back, c.bound[m.n])
			delete(c.bound, m.n)
			delete(c.madeUp, m.n)
		}
		known, length := c.isBound(m), utf8.RuneCountInString(ours.text)
		switch {
		case ours.text == "":
			c.differ(Value, where, "a text", "an empty text")
		case !c.bind(m.n, ours.text):
			c.differ(Value, where, c.same(m), "another")
		case !known && isToken && m.length != length:
			c.differ(Value, where, fmt.Sprintf("%d characters", m.length), fmt.Sprintf("%d characters", length))
		}
	case kind == text && slices.Contains(formed, name):
		what, said := Value, []string(nil)
		if name == "errmsg" {
			what, said = Text, c.said
		}
		if !c.sameText(theirs.text, ours.text, said) {
			c.differ(what, where, theirs.text, (&Mask{}).formText(ours.text, said...))
		}
	case kind == number:
		c.number(where, name, theirs.text, ours.text)
	case theirs.text != ours.text:
		c.differ(Value, where, orEmpty(theirs.text), orEmpty((&callMask{Mask: &Mask{}}).maskText(name, ours.text)))
	}
}

func orEmpty(s string) string {
	if s == "" {
		return "an empty text"
	}
	return s
}

// same says what a stand-in was before.
func (c *comparison) same(m mark) string {
	if c.isBound(m) {
		return "the same as before: " + m.String()
	}
	return "a new one: " + m.String()
}

func (c *comparison) number(where, name, theirs, ours string) {
	a, okA := (value{kind: number, text: theirs}).int()
	b, okB := (value{kind: number, text: ours}).int()
	if okA && okB && slices.Contains(counters, name) {
		c.counter(where, name, a, b)
		return
	}
	if theirs == ours {
		return
	}
	if okA && okB && slices.Contains(times, name) && max(a-b, b-a) <= aFewSeconds {
		return
	}
	c.differ(Value, where, theirs, ours)
}

func (c *comparison) list(where, name string, theirs, ours value) {
	if name == "ip_list" { // an operator's own
		if len(theirs.items) > 0 && len(ours.items) > 0 && theirs.items[0].kind != ours.items[0].kind {
			c.differ(Type, where, theirs.items[0].kind.String(), ours.items[0].kind.String())
		}
		return
	}
	if c.line.Path == linksPath && name == "items" {
		ours = c.inOrderOf(theirs, ours)
	}
	if len(theirs.items) != len(ours.items) {
		c.differ(Value, where, fmt.Sprintf("%d entries", len(theirs.items)), fmt.Sprintf("%d entries", len(ours.items)))
	}
	for i := range min(len(theirs.items), len(ours.items)) {
		c.value(fmt.Sprintf("%s[%d]", where, i), name, theirs.items[i], ours.items[i])
	}
}

// inOrderOf returns our list of accounts in the order of theirs, as far as both have the same: no page says how the platform orders them.
func (c *comparison) inOrderOf(theirs, ours value) value {
	rank := func(one value) int {
		i := slices.IndexFunc(theirs.items, func(item value) bool {
			return c.text(item.field("appid").text, c.line.OccurredAt) == one.field("appid").text
		})
		if i < 0 {
			return len(theirs.items)
		}
		return i
	}
	ours.items = slices.Clone(ours.items)
	slices.SortStableFunc(ours.items, func(a, b value) int { return rank(a) - rank(b) })
	return ours
}

func (c *comparison) object(where string, theirs, ours value) {
	below := func(name string) string { return strings.TrimPrefix(where+"."+name, ".") }
	var common, order []string
	for _, name := range theirs.names {
		if ours.field(name).kind == absent {
			c.differ(Field, below(name), "there", "not there")
		} else if !slices.Contains(common, name) {
			common = append(common, name)
		}
	}
	for _, name := range ours.names {
		if slices.Contains(common, name) {
			if !slices.Contains(order, name) {
				order = append(order, name)
			}
		} else if c.isNameOf(theirs, name) {
			continue
		} else {
			c.differ(Field, below((&Mask{}).maskName(name)), "not there", "there")
		}
	}
	if !slices.Equal(common, order) {
		c.differ(Order, orWhole(where), strings.Join(common, ", "), strings.Join(order, ", "))
	}
	for _, name := range common {
		c.value(below(name), name, theirs.field(name), ours.field(name))
	}
}

// isNameOf reports whether a name of ours stands there masked: one that the request
// said.
func (c *comparison) isNameOf(theirs value, name string) bool {
	n, known := c.back[name]
	return known && slices.ContainsFunc(theirs.names, func(masked string) bool {
		m, ok := wholeMark(masked)
		return ok && m.n == n
	})
}

func orWhole(where string) string {
	if where == "" {
		return "answer"
	}
	return where
}

// sameText compares a masked text with one of ours, part by part.
func (c *comparison) sameText(masked, ours string, said []string) bool {
	theirs, runs := parseMarks(masked), cutRuns(ours, said)
	if len(theirs) != len(runs) {
		return false
	}
	for i, one := range theirs {
		run := runs[i]
		switch {
		case one.mark.n == 0 || run.kind == "":
			if one.mark.n != 0 || run.kind != "" || one.literal != run.raw {
				return false
			}
		case one.mark.kind == "hint" || one.mark.kind == "number":
			if run.kind != one.mark.kind {
				return false
			}
		case one.mark.kind == "rid":
			if run.kind != "rid" {
				return false
			}
			c.bind(one.mark.n, run.raw)
		default:
			if one.mark.capitals != run.capitals || !c.bind(one.mark.n, run.raw) {
				return false
			}
		}
	}
	return true
}
