package gs1

import "strings"

// identifiers are the symbology identifiers that scanners send before the text of a symbol with GS1 data: GS1 Data Matrix, GS1 QR,
// GS1-128, DataBar, DotCode.
var identifiers = []string{"]d2", "]Q3", "]C1", "]e0", "]J1"}

// ParseElementString reads what a symbol with FNC1 holds, with or without the identifier of its kind before it. A Separator
// stands behind values of no fixed length; one more, at the begin or behind others, is no fault.
func ParseElementString(text string) (Data, error) {
	for _, id := range identifiers {
		if rest, is := strings.CutPrefix(text, id); is {
			text = rest
			break
		}
	}
	text = strings.TrimPrefix(text, Separator)
	var list []Element
	for text != "" {
		a := begins(text)
		if a == nil {
			return Data{}, invalidf("no GS1 data: nothing begins with %.4q", text)
		}
		value, rest, _ := strings.Cut(text[len(a.ai):], Separator)
		if a.fixed && len(value) > a.most {
			value = value[:a.most]
			rest = strings.TrimPrefix(text[len(a.ai)+a.most:], Separator)
		}
		if err := a.check(value); err != nil {
			return Data{}, err
		}
		list, text = append(list, Element{a.ai, value}), rest
	}
	return dataOf(list)
}

// ParseBracketed reads (01)09506000134352(10)LOT; a bracket in a value has a backslash before it.
func ParseBracketed(text string) (Data, error) {
	var list []Element
	for text != "" {
		ai, rest, closed := strings.Cut(strings.TrimPrefix(text, "("), ")")
		if text[0] != '(' || !closed {
			return Data{}, invalidf("%.40q: want AIs in brackets, such as (01)09506000134352(21)1234", text)
		}
		a := lookup(ai)
		if a == nil {
			return Data{}, invalidf("AI (%s) does not exist", ai)
		}
		end := 0
		for end < len(rest) && (rest[end] != '(' || end > 0 && rest[end-1] == '\\') {
			end++
		}
		value := strings.ReplaceAll(rest[:end], `\(`, "(")
		if err := a.check(value); err != nil {
			return Data{}, err
		}
		list, text = append(list, Element{ai, value}), rest[end:]
	}
	return dataOf(list)
}
