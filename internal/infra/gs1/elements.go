package gs1

import "strings"

// identifiers lists the symbology identifiers that scanners send before the text of a GS1 symbol: GS1 Data Matrix, GS1 QR, GS1-128,
// DataBar, DotCode.
var identifiers = []string{"]d2", "]Q3", "]C1", "]e0", "]J1"}

// ParseElementString parses the content of a symbol with FNC1, with or without a symbology identifier. A Separator follows each
// value of variable length; an additional Separator at the start or after other values is allowed.
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
			return Data{}, invalidf("not GS1 data: no GS1 format begins with %.4q", text)
		}
		value, rest, _ := strings.Cut(text[len(a.ai):], Separator)
		if a.fixed && len(value) > a.max {
			value = value[:a.max]
			rest = strings.TrimPrefix(text[len(a.ai)+a.max:], Separator)
		}
		if err := a.check(value); err != nil {
			return Data{}, err
		}
		list, text = append(list, Element{a.ai, value}), rest
	}
	return dataOf(list)
}

// ParseBracketed parses a text such as (01)09506000134352(10)LOT; an opening bracket in a value is escaped with a backslash.
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
