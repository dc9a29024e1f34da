package codes

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/infra/gs1"
)

const (
	// StrongBits is the minimum cost of guessing, in bits, at which a text alone proves that the code is genuine.
	StrongBits = 40
	// MaxText is the maximum length in bytes of a text made from a template.
	MaxText = 512
	// defaultTemplate is the template of texts whose application names no template.
	defaultTemplate = "{prefix}{secret}"
	// minDigits is the number of digits that suffices for every counter; maxDigits is the number of digits that a digitPair can contain.
	minDigits, maxDigits = 15, 36
	// maxNumberDigits is the maximum number of digits of the brand's own serial number.
	maxNumberDigits = 15
)

// field is the kind of a part of a template.
type field byte

const (
	literal     field = iota
	serialField       // the nine characters
	secretField       // version character and symbols, with "." in place of "$", which GS1 forbids
	digitsField       // the counter as digits, encrypted by a keyed permutation
	numberField       // the brand's own serial number: the number of the first code plus the index
	weakField         // produces no text: the importer declared that the texts can be guessed
	tokenField        // characters that another system chose
	pinField          // produces no text: the PIN is printed under a scratch layer, not in the text
)

type templatePart struct {
	field     field
	text      string // of a literal
	size      int    // length in bytes; for a tokenField, the maximum number of characters
	first     uint64 // of a numberField
	minLength int    // for a tokenField, the minimum number of characters
}

// Template is the format of the code texts of an application. All texts of a template without a token have the same length. A template
// never changes.
type Template struct {
	text          string
	parts         []templatePart
	withoutScheme []templatePart // parts of the texts without URL scheme
	size          int
	secret        int // index of the secret in the field "parts", or of the serial number if the text is public; -1 = none
	pin           int // number of digits of the PIN; 0 = none
	weak          bool
	// printed contains the literal texts before and after a token; canonical contains the same texts as normalised by canonicalURL.
	printed, canonical [2]string
}

// TemplateValues holds the values that replace placeholders in the template of an application.
type TemplateValues struct {
	Prefix string
	GTIN   string // 8, 12, 13 or 14 digits
	Digits string // digits
}

// FillTemplate replaces {prefix}, {gtin} and {given:N} in a template, and validates the result. FillTemplate returns "" for the default
// format (prefix and secret).
func FillTemplate(text string, templateValues TemplateValues) (string, error) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if text == "" || text == defaultTemplate {
		if templateValues.GTIN != "" || templateValues.Digits != "" {
			return "", fmt.Errorf("a GTIN or fixed digits were given, but the template has neither {gtin} nor {given:N}")
		}
		return "", nil
	}
	if strings.Contains(text, "{gtin}") != (templateValues.GTIN != "") {
		return "", fmt.Errorf("{gtin} and a GTIN must be given together")
	}
	gtin, err := paddedGTIN(templateValues.GTIN)
	if err != nil {
		return "", err
	}
	given := "{given:" + strconv.Itoa(len(templateValues.Digits)) + "}"
	switch {
	case !allOf(templateValues.Digits, Alphabet[:10]):
		return "", fmt.Errorf("given %.40q: want digits", templateValues.Digits)
	case strings.Contains(text, "{given:") != (templateValues.Digits != ""), strings.Count(text, "{given:") != strings.Count(text, given):
		return "", fmt.Errorf("{given:N} in the text requires N fixed digits: %d are given", len(templateValues.Digits))
	}
	filled := strings.NewReplacer("{prefix}", templateValues.Prefix, "{gtin}", gtin, given, templateValues.Digits).Replace(text)
	t, err := ParseTemplate(filled)
	if err == nil && gtin != "" && cutScheme(filled) != filled && !strings.Contains(filled, "\n") {
		if _, fault := gs1.Parse(t.sample()); fault != nil {
			err = fmt.Errorf("the text is no GS1 Digital Link: %w", fault)
		}
	}
	return filled, err
}

// paddedGTIN returns a GTIN padded to 14 digits.
func paddedGTIN(text string) (string, error) {
	switch len(text) {
	case 0:
		return "", nil
	case 8, 12, 13, 14:
		if !allOf(text, Alphabet[:10]) {
			break
		}
		padded := strings.Repeat("0", 14-len(text)) + text
		if right := gs1.CheckDigit(padded[:13]); padded[13] != right {
			return "", fmt.Errorf("GTIN %s: its check digit is %c, not %c", text, right, padded[13])
		}
		return padded, nil
	}
	return "", fmt.Errorf("GTIN %.20q: want 8, 12, 13 or 14 digits", text)
}

// ParseTemplate parses a template in which {prefix}, {gtin} and {given:N} are already replaced. The template must contain exactly one of
// {secret}, {digits:N} and {token:N}, or {serial} and the digits of a PIN.
func ParseTemplate(text string) (t Template, err error) {
	fault := func(format string, args ...any) (Template, error) {
		return Template{}, fmt.Errorf("text %.80q: %s", text, fmt.Sprintf(format, args...))
	}
	control := func(r rune) bool { return (unicode.IsControl(r) || unicode.IsSpace(r)) && r != '\n' && r != ' ' }
	switch {
	case !utf8.ValidString(text) || strings.ContainsFunc(text, control):
		return fault("want UTF-8 without control characters, and no space but blanks and ends of lines")
	case strings.Contains(text, `\`):
		return fault(`contains a backslash, which is the escape character for line ends and spaces in lists`)
	case strings.TrimSpace(text) != text:
		return fault("begins or ends with space, which a reader may remove")
	}
	t.text, t.secret = text, -1
	serials, numbers, serial := 0, 0, -1
	for rest := text; rest != ""; {
		var part templatePart
		if part, rest, err = nextPart(rest); err != nil {
			return fault("%v", err)
		}
		switch part.field {
		case weakField:
			t.weak = true
			continue
		case pinField:
			if t.pin > 0 {
				return fault("has the digits of a PIN more than once")
			}
			t.pin = part.size
			continue
		case serialField:
			serials++
			serial = len(t.parts)
		case numberField:
			numbers++
		case secretField, digitsField, tokenField:
			if t.secret >= 0 {
				return fault("has two secret parts: want one of {secret}, {digits:N} and {token:N}")
			}
			t.secret = len(t.parts)
		}
		t.parts = append(t.parts, part)
		t.size += part.size
	}
	if t.secret < 0 && t.pin > 0 {
		t.secret = serial
	}
	switch {
	case t.secret < 0:
		return fault("has no {secret} and no {digits:%d} to {digits:%d}, so its texts could be forged", minDigits, maxDigits)
	case serials > 1 || numbers > 1:
		return fault("has {serial} or {number:…} more than once")
	case t.size > MaxText:
		return fault("gives texts of %d bytes, more than %d", t.size, MaxText)
	case t.pin > 0 && t.HasToken():
		return fault("has a PIN: want no {digits:%d} in the texts of another system", t.pin)
	}
	if t.HasToken() {
		if err := t.checkToken(); err != nil {
			return fault("%v", err)
		}
	}
	t.withoutScheme = slices.Clone(t.parts)
	if first := &t.withoutScheme[0]; first.field == literal {
		first.text = cutScheme(first.text)
		first.size = len(first.text)
	}
	return t, nil
}

// nextPart splits the first part off a non-empty template.
func nextPart(text string) (part templatePart, rest string, err error) {
	if i := strings.IndexAny(text, "{}"); i != 0 {
		if i < 0 {
			i = len(text)
		}
		return templatePart{field: literal, text: text[:i], size: i}, text[i:], nil
	}
	name, rest, closed := strings.Cut(text[1:], "}")
	if text[0] == '}' || !closed {
		return part, "", fmt.Errorf("has a brace without a matching one")
	}
	switch name {
	case "serial":
		return templatePart{field: serialField, size: CodeLength}, rest, nil
	case "secret":
		return templatePart{field: secretField, size: TailLength}, rest, nil
	case "weak":
		return templatePart{field: weakField}, rest, nil
	}
	if digits, ok := strings.CutPrefix(name, "digits:"); ok {
		n, err := strconv.Atoi(digits)
		switch {
		case err != nil || strconv.Itoa(n) != digits:
		case minPIN <= n && n <= maxPIN:
			return templatePart{field: pinField, size: n}, rest, nil
		case minDigits <= n && n <= maxDigits:
			return templatePart{field: digitsField, size: n}, rest, nil
		}
		return part, "", fmt.Errorf("{%s}: want %d to %d digits, or %d to %d for a PIN under a scratch layer", name, minDigits, maxDigits,
			minPIN, maxPIN)
	}
	if length, ok := strings.CutPrefix(name, "token:"); ok {
		part, err = parseToken(length)
		return part, rest, err
	}
	if first, ok := strings.CutPrefix(name, "number:"); ok {
		n, err := strconv.ParseUint(first, 10, 64)
		if err != nil || len(first) > maxNumberDigits || !allOf(first, Alphabet[:10]) {
			return part, "", fmt.Errorf("{%s}: want the number of the first code, in 1 to %d digits", name, maxNumberDigits)
		}
		return templatePart{field: numberField, size: len(first), first: n}, rest, nil
	}
	return part, "", fmt.Errorf("{%s} is no part of a text: want {prefix}, {gtin}, {given:N}, {serial}, "+
		"{number:FIRST}, {secret}, {digits:N} or {token:N}", name)
}

// String returns the template text that ParseTemplate parsed.
func (t Template) String() string { return t.text }

// Bits returns the binary logarithm, rounded down, of the average number of attempts that an attacker needs to guess one of "count" texts.
// Bits assumes that the attacker knows all serial numbers of the application.
func (t Template) Bits(count int64) int {
	part := t.parts[t.secret]
	space := symbolsLength * math.Log2(38)
	switch part.field {
	case serialField: // the text is public, and the PIN is no part of it
		return 0
	case digitsField:
		space = float64(part.size) * math.Log2(10)
	case tokenField:
		space = float64(part.minLength) * tokenBits
	}
	for _, p := range t.parts {
		if p.field == serialField || p.field == numberField {
			return int(space) // each attempt is for one known serial number
		}
	}
	return int(space - math.Log2(float64(max(count, 1))))
}

// TextBits returns the result of Bits for a filled template; template "" = the default format.
func TextBits(template string, count int64) int {
	t, err := ParseTemplate(cmp.Or(template, "{secret}"))
	if err != nil {
		return 0
	}
	return t.Bits(count)
}

// sample returns a possible text of the template.
func (t Template) sample() string {
	var code [CodeLength]byte
	var symbols [symbolsLength]byte
	writeCode(&code, 0, 1)
	writeSymbols(&symbols, 0, 1)
	return string(t.append(nil, &code, FirstVersion, &symbols, digitPair{}, 0))
}

// Link is the common pattern of the links of a template: "?" stands for any character, "*" for any number of characters.
type Link struct{ Host, Path, Query string }

// numbers matches digits that differ between applications, such as a GTIN.
var numbers = regexp.MustCompile(`[0-9]{5,}`)

// link returns the pattern of the texts; ok is false if the texts are no links, or if a browser truncates the links before it sends them.
func (t Template) link() (l Link, ok bool) {
	bare := cutScheme(t.text)
	host, _, slash := strings.Cut(bare, "/")
	invalid := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }
	if !slash || !isHost(strings.ToUpper(host)) || bare == t.text && !strings.Contains(host, ".") || strings.ContainsFunc(t.text, invalid) {
		return l, false
	}
	b := make([]byte, 0, t.size)
	query := -1
	for _, part := range t.parts {
		if part.field == tokenField {
			b = append(b, '*')
			continue
		}
		if part.field != literal {
			b = append(b, strings.Repeat("?", part.size)...)
			continue
		}
		if i := strings.IndexByte(part.text, '?'); i >= 0 && query < 0 {
			query = len(b) + i
		}
		b = append(b, strings.ReplaceAll(part.text, "*", "?")...)
	}
	full := string(b)
	if query >= 0 {
		full, l.Query = full[:query], anyNumber(full[query+1:])
	}
	_, path, _ := strings.Cut(cutScheme(full), "/")
	l.Host, l.Path = strings.ToLower(host), anyNumber("/"+path)
	return l, true
}

func anyNumber(text string) string {
	return numbers.ReplaceAllStringFunc(text, func(digits string) string { return strings.Repeat("?", len(digits)) })
}

// SampleText returns an example text of a filled template; "" = the default template. It opens nothing.
func (s *Service) SampleText(template string) string {
	t, err := ParseTemplate(cmp.Or(template, s.Prefix+"{secret}"))
	if err != nil {
		return ""
	}
	return t.sample()
}

// append appends the text of a code to b. digits is the counter after the digit permutation.
func (t Template) append(b []byte, code *[CodeLength]byte, version byte, symbols *[symbolsLength]byte, digits digitPair,
	index uint64) []byte {
	for _, part := range t.parts {
		switch part.field {
		case literal:
			b = append(b, part.text...)
		case serialField:
			b = append(b, code[:]...)
		case secretField:
			b = append(b, plainSymbol(version))
			for _, c := range symbols {
				b = append(b, plainSymbol(c))
			}
		case digitsField:
			b = digits.append(b, part.size)
		case numberField:
			b = append(b, part.number(index)...)
		case tokenField:
			b = append(b, strings.Repeat("x", part.size)...) // of a sample
		}
	}
	return b
}

// number returns the brand's own serial number for an index.
func (p templatePart) number(index uint64) string { return fmt.Sprintf("%0*d", p.size, p.first+index) }

// checkNumberCapacity returns an error if the brand's own serial numbers have too few digits to number that many codes.
func (t Template) checkNumberCapacity(count int64) error {
	for _, p := range t.parts {
		if p.field == numberField && p.first+uint64(max(count, 1))-1 >= pow10(p.size) {
			return fmt.Errorf("{number:%s} has no %d numbers: want more digits", p.number(0), count)
		}
	}
	return nil
}

func plainSymbol(c byte) byte {
	if c == '$' {
		return '.'
	}
	return c
}

// render returns the text of counter c, which belongs to the given index.
func (t Template) render(keys Keys, version byte, c, index uint64) string {
	code, symbols := keys.Code.Code(c), keys.Text[version].Text(c, version)
	return string(t.append(make([]byte, 0, t.size), &code, version, &symbols, t.digits(keys.Text[version], version, c), index))
}

// digits returns the counter after the digit permutation if the template contains {digits:N}, otherwise zero.
func (t Template) digits(key *TextKey, version byte, c uint64) digitPair {
	if part := t.parts[t.secret]; part.field == digitsField {
		k := key.digitsKey(part.size)
		a, b := k.permute(c, version)
		return digitPair{a, b}
	}
	return digitPair{}
}

// shape describes the position and the kind of the secret in a text. With a shape, the secret can be read before the template of the text
// is known. The field "size" is the length of the text without http:// or https://.
type shape struct {
	size, offset, length int
	field                field
	version              byte
}

func (t Template) shape(version byte) shape {
	secret := t.parts[t.secret]
	s := shape{size: t.bareSize(), length: secret.size, field: secret.field, version: version}
	for _, part := range t.withoutScheme[:t.secret] {
		s.offset += part.size
	}
	return s
}

// counter decodes the secret in a text without URL scheme; it does not check the rest of the text.
func (s shape) counter(bare string, keys Keys) (c uint64, ok bool) {
	key := keys.Text[s.version]
	if len(bare) != s.size || key == nil {
		return 0, false
	}
	if s.field == serialField {
		return keys.Code.Counter([CodeLength]byte([]byte(upperASCII(bare[s.offset : s.offset+CodeLength]))))
	}
	return s.secretCounter(bare[s.offset:s.offset+s.length], key)
}

// secretCounter returns the counter of a secret without the surrounding text.
func (s shape) secretCounter(secret string, key *TextKey) (c uint64, ok bool) {
	if s.field == digitsField {
		pair, ok := readDigits(secret)
		if !ok {
			return 0, false
		}
		k := key.digitsKey(s.length)
		return k.counter(pair.a, pair.b, s.version)
	}
	t, ok := parseTail(strings.ReplaceAll(secret, ".", "$"))
	if !ok || t.Version != s.version {
		return 0, false
	}
	return key.Counter(t.Symbols, t.Version)
}

// matchesLiterals reports whether a text without URL scheme matches the template's literal parts, whatever its secret and serial number.
func (t Template) matchesLiterals(bare string) bool {
	if len(bare) != t.bareSize() {
		return false
	}
	for _, part := range t.withoutScheme {
		if piece := bare[:part.size]; part.field == literal && !equalFold(piece, part.text) || !part.field.accepts(piece) {
			return false
		}
		bare = bare[part.size:]
	}
	return true
}

// accepts reports whether a part of a text is valid for a template part of the kind f.
func (f field) accepts(piece string) bool {
	switch f {
	case digitsField, numberField:
		return allOf(piece, Alphabet[:10])
	case serialField, secretField:
		return allOf(piece, Alphabet+".abcdefghijklmnopqrstuvwxyz")
	}
	return true
}

// bareSize returns the length of a text without its URL scheme.
func (t Template) bareSize() int { return t.size - t.parts[0].size + t.withoutScheme[0].size }

// asPrinted converts a text without URL scheme, in any case, to its printed form; ok is false if the text does not match the
// literal parts of the template.
func (t Template) asPrinted(bare string) (printed string, ok bool) {
	if !t.matchesLiterals(bare) {
		return "", false
	}
	w := cutVariables(t.withoutScheme, bare)
	w.serial, w.secret = upperASCII(w.serial), upperASCII(w.secret)
	return t.fill(w), true
}

// upperASCII converts the letters a to z to upper case, and no other characters.
func upperASCII(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = upperByte(b[i])
	}
	return string(b)
}

// PrintedForm converts a text read by a camera to its printed form: the text may be in any case, with or without a scheme, and with any
// line endings. The text may also be escaped as a column of a row, or be a GS1 element string. PrintedForm does not check that a key
// produced the text; ok is false if the text does not match the literal parts of the template.
func (t Template) PrintedForm(read string) (printed string, ok bool) {
	if t.HasToken() {
		return t.printedFormWithToken(read)
	}
	bare := cutScheme(rowUnescaper.Replace(normalizeNewlines(read)))
	if printed, ok = t.asPrinted(bare); ok {
		return printed, true
	}
	return t.fromElements(read)
}

// TrimRead returns the end of a text read by a camera: as many characters as a text of the template has. If the template has a token, the
// end starts at the literal text before the token. ok is false if no characters precede the end.
func (t Template) TrimRead(read string) (end string, ok bool) {
	if t.HasToken() {
		from := strings.LastIndex(read, t.printed[0])
		return read[max(from, 0):], from > 0
	}
	bare := rowUnescaper.Replace(normalizeNewlines(read))
	if len(bare) <= t.bareSize() {
		return "", false
	}
	return bare[len(bare)-t.bareSize():], true
}

// fromElements returns the printed text for a GS1 element string (raw or with brackets) that contains the template's secret and
// serial number.
func (t Template) fromElements(read string) (printed string, ok bool) {
	if !strings.Contains(read, internalAI) || len(read) > 4*MaxText {
		return "", false
	}
	sample, err := gs1.Parse(t.sample())
	if err != nil || sample.Key.IsZero() {
		return "", false
	}
	// URLs are not accepted as GS1 texts. A URL is valid only as printed: the same path on another host may belong to another company.
	data, err := gs1.Parse(read)
	if err != nil || data.Stem != "" {
		return "", false
	}
	pattern, parts := cutVariables(t.parts, t.sample()), variableParts{}
	for _, e := range sample.Elements() {
		value, _ := data.Value(e.AI)
		switch e.Value {
		case "":
		case pattern.serial:
			parts.serial = value
		case pattern.number:
			parts.number = value
		}
	}
	parts.secret, _ = data.Value(internalAI)
	if printed, ok = t.asPrinted(cutScheme(t.fill(parts))); !ok {
		return "", false
	}
	made, err := gs1.Parse(printed)
	return printed, err == nil && made.Key.String() == data.Key.String()
}

// digitsKey returns the cipher that converts counters to numbers of n digits and back. Radix and length are part of the first FF1 block, so
// the digits are independent of the symbols under the same key.
func (k *TextKey) digitsKey(n int) ff1 { return k.derive(10, byte(n), 1) }

// digitPair contains the two halves of a number of up to 36 digits.
type digitPair struct{ a, b uint64 }

func (p digitPair) append(b []byte, n int) []byte {
	pos := len(b)
	b = append(b, make([]byte, n)...)
	for i := n - 1; i >= 0; i-- {
		half := &p.b
		if i < n/2 {
			half = &p.a
		}
		b[pos+i] = '0' + byte(*half%10)
		*half /= 10
	}
	return b
}

func readDigits(s string) (p digitPair, ok bool) {
	if !allOf(s, Alphabet[:10]) {
		return p, false
	}
	p.a, _ = strconv.ParseUint(s[:len(s)/2], 10, 64)
	p.b, _ = strconv.ParseUint(s[len(s)/2:], 10, 64)
	return p, true
}

func pow10(n int) uint64 { return power(10, byte(n)) }

// TemplateOrder holds the parameters of a request for a template.
type TemplateOrder struct {
	Text, GTIN, Digits string
	Weak               bool // true = guessing may cost less than StrongBits
	Count              int64
	Imported           bool // true = the codes were made elsewhere, so their texts may have a token
}

// FillTemplate returns the template for an application with the parameters in o, or 40097.
func (s *Service) FillTemplate(o TemplateOrder) (string, error) {
	filled, err := FillTemplate(o.Text, TemplateValues{Prefix: s.Prefix, GTIN: o.GTIN, Digits: o.Digits})
	token := false
	if t, wrong := ParseTemplate(filled); err == nil && filled != "" && wrong == nil {
		if token = t.HasToken(); token && !o.Imported {
			err = errors.New("{token} is for imported codes: want {secret} or {digits:N}")
		}
		if _, isLink := t.link(); t.pin > 0 && (o.Imported || !isLink) {
			err = errors.New("a PIN requires codes of this server whose texts are links, " +
				"because buyers enter the PIN on the page of the link")
		}
		err = cmp.Or(err, t.checkNumberCapacity(o.Count))
	}
	if err != nil {
		return "", errcode.InvalidArgs.WithDetail(behaviour.NoRow, "%s", err)
	}
	if token {
		return filled, nil // texts with a token are already printed, so StrongBits is not required; see Batch.Weak
	}
	if n := TextBits(filled, o.Count); n < StrongBits && !o.Weak {
		return "", errcode.InvalidArgs.WithDetail(behaviour.NoRow,
			"a code of this template has %d bits of entropy, fewer than %d: use more digits or {secret}, "+
				"or set allow_guessable; guessable codes never prove that a product is genuine",
			n, StrongBits)
	}
	return filled, nil
}
