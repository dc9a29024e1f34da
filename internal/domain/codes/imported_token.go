package codes

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Codes of any system have a template with {token:N} or {token:MIN-MAX}: a URL whose token may have any characters. A row stores
// the keyed hash of the whole text, which scans look up, and the token, encrypted with that hash as synthetic IV (SIV, RFC 5297).

const (
	// mostToken is the maximum number of characters of a token.
	mostToken = 64
	// tokenBits is the assumed cost of guessing one character of a token, since the other system's alphabet is unknown: a digit or
	// a letter of one case.
	tokenBits = 5.17
	// tokenHashKey, tokenKey and tokenCodeKey are the purposes of the keys. They never change.
	tokenHashKey, tokenKey, tokenCodeKey = "texts of other systems", "tokens of other systems", "original codes of other systems"
)

// parseToken parses the length of a token: N, or MIN-MAX.
func parseToken(length string) (part templatePart, err error) {
	least, most, isRange := strings.Cut(length, "-")
	if !isRange {
		most = least
	}
	part = templatePart{field: tokenField}
	part.least, err = strconv.Atoi(least)
	size, wrong := strconv.Atoi(most)
	part.size = size
	canonical := strconv.Itoa(part.least)
	if isRange {
		canonical += "-" + strconv.Itoa(size)
	}
	if err = cmp.Or(err, wrong); err != nil || part.least < 1 || size < part.least || size > mostToken || canonical != length {
		return part, fmt.Errorf("{token:%.20s}: want N or MIN-MAX, of 1 to %d characters", length, mostToken)
	}
	return part, nil
}

// checkToken completes a template with a token; it returns an error unless the template is a URL with one token after its host.
func (t *Template) checkToken() error {
	literals := []string{""}
	for _, part := range t.parts {
		switch part.field {
		case literal:
			literals[len(literals)-1] += part.text
		case tokenField:
			literals = append(literals, "")
		default:
			return errors.New("{token} stands alone: want no {serial}, {number:…}, {secret} or {digits:N} beside it")
		}
	}
	before, after := literals[0], literals[1]
	bare := cutScheme(before)
	if host, rest := cutHost(bare); bare == before || host == "" || rest == "" {
		return errors.New("want http:// or https:// and a host before {token}")
	}
	if err := cmp.Or(checkURL(before), checkURL(after)); err != nil {
		return err
	}
	t.printed, t.canonical = [2]string{before, after}, [2]string{canonicalURL(before), canonicalRest(after)}
	return nil
}

// TakesTexts reports whether the codes of an imported batch come as texts, one a line, because they have a token.
func (b Batch) TakesTexts() bool { return b.Imported && strings.Contains(b.Template, "{token:") }

// HasToken reports whether the texts of the template have a token.
func (t Template) HasToken() bool { return t.secret >= 0 && t.parts[t.secret].field == tokenField }

// checkURL returns the reason why a text cannot stand in a URL, as it is or percent-encoded. It never quotes the text.
func checkURL(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("it is not UTF-8")
	}
	for i, r := range text {
		switch {
		case r == '%' && (i+2 >= len(text) || hexDigit(text[i+1]) == absent || hexDigit(text[i+2]) == absent):
			return errors.New(`it has a "%" without two hexadecimal digits, which no URL can hold`)
		case r == ' ', strings.ContainsRune(`"<>\^{|}`+"`", r):
			return fmt.Errorf("it has %q, which a URL holds only as %s", r, fmt.Sprintf("%%%02X", r))
		case r == utf8.RuneError, unicode.IsSpace(r), !unicode.IsPrint(r):
			return fmt.Errorf("it has %s, which no URL can hold", fmt.Sprintf("U+%04X", r))
		}
	}
	return nil
}

// canonicalURL returns the form in which texts of a URL are compared: without http:// or https://, the host in lower case, and
// percent-escapes as in canonicalRest.
func canonicalURL(text string) string {
	host, rest := cutHost(cutScheme(text))
	return strings.ToLower(host) + canonicalRest(rest)
}

// cutHost splits a URL without scheme after its host.
func cutHost(bare string) (host, rest string) {
	end := strings.IndexAny(bare, "/?#")
	if end < 0 {
		end = len(bare)
	}
	return bare[:end], bare[end:]
}

// canonicalRest decodes the percent-escapes of all characters that a URL may hold with and without an escape: letters, digits,
// "-._~!'()*", and all beyond ASCII. The other escapes are in upper case (RFC 3986, section 6.2.2).
func canonicalRest(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if hi, lo := hexDigit(text[i+1]), hexDigit(text[i+2]); hi != absent && lo != absent {
				if c := hi<<4 | lo; c >= 0x80 || isAlphanumeric(c) || strings.IndexByte("-._~!'()*", c) >= 0 {
					b = append(b, c)
				} else {
					b = append(b, capitals(text[i:i+3])...)
				}
				i += 2
				continue
			}
		}
		b = append(b, text[i])
	}
	return string(b)
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= upperByte(c) && upperByte(c) <= 'Z'
}

// tokenOf returns the token of a text in canonical form; ok is false if the text is not one of the template.
func (t Template) tokenOf(canonical string) (token string, ok bool) {
	rest, head := strings.CutPrefix(canonical, t.canonical[0])
	token, tail := strings.CutSuffix(rest, t.canonical[1])
	n, part := utf8.RuneCountInString(token), t.parts[t.secret]
	return token, head && tail && part.least <= n && n <= part.size
}

// CheckText returns the reason why a text of a list is not one of a template with a token. The error never quotes the text, because
// the text is a secret code.
func (t Template) CheckText(text string) error {
	rest, head := strings.CutPrefix(text, t.printed[0])
	token, tail := strings.CutSuffix(rest, t.printed[1])
	if !head || !tail {
		return fmt.Errorf("the text is not one of %q", t.text)
	}
	if err := checkURL(token); err != nil {
		return fmt.Errorf("the token cannot be part of a URL: %w", err)
	}
	canonical := canonicalURL(text)
	if _, ok := t.tokenOf(canonical); !ok {
		n := utf8.RuneCountInString(canonical) - utf8.RuneCountInString(t.canonical[0]+t.canonical[1])
		return fmt.Errorf("the token has %d characters: want %s", n, t.parts[t.secret].length())
	}
	return nil
}

// readToken converts a text of a list to a row.
func (p *Service) readToken(b Batch, t Template, index int64, text string) (row ImportedCode, err error) {
	if err := t.CheckText(text); err != nil {
		return row, err
	}
	for _, prefix := range p.prefixes() {
		for _, end := range tailsUnder(prefix, text) {
			if p.couldBeOurs(string(end[:])) {
				return row, errOurs
			}
		}
	}
	if _, ours := p.byTemplate(text); ours {
		return row, errOurs
	}
	if p.RuleOver != nil {
		if prefix, ok := p.RuleOver(text); ok {
			return row, fmt.Errorf("the jump rule %s matches the text too: delete the rule, or leave the text out", prefix)
		}
	}
	iv := p.tokenHash(canonicalURL(text))
	encrypted := []byte(text[len(t.printed[0]) : len(text)-len(t.printed[1])])
	cipher.NewCTR(p.tokenBlock(), iv[:]).XORKeyStream(encrypted, encrypted)
	row = ImportedCode{Batch: b.ID, Index: index, Code: p.tokenCode(b.ID, index), Token: base64.RawURLEncoding.EncodeToString(encrypted)}
	row.TextHi, row.TextLo = int64(binary.BigEndian.Uint64(iv[:8])), int64(binary.BigEndian.Uint64(iv[8:]))
	return row, nil
}

// errOurs is the reason why an import refuses a text.
var errOurs = errors.New("the text is one that this server makes itself")

// length returns the length of a token as it is written in the template.
func (p templatePart) length() string {
	if p.least == p.size {
		return fmt.Sprintf("{token:%d}", p.size)
	}
	return fmt.Sprintf("{token:%d-%d}", p.least, p.size)
}

// tokenHash returns the first half of the keyed hash of a text in canonical form.
func (p *Service) tokenHash(canonical string) (hash [aes.BlockSize]byte) {
	p.importedBlock() // prepares all keys
	sum := p.tokenHasher.Sum(canonical)
	copy(hash[:], sum[:])
	return hash
}

func (p *Service) tokenBlock() cipher.Block {
	p.importedBlock()
	return p.tokenCipher
}

// tokenCode returns the original code of an index of a batch with tokens, which has none: consecutive counters from a keyed hash of
// the batch on, so that the nine characters of a batch are distinct, and those of two batches seldom equal.
func (p *Service) tokenCode(batch, index int64) int64 {
	sum := p.Vault.Hasher(tokenCodeKey).Sum(strconv.FormatInt(batch, 10))
	first := binary.BigEndian.Uint64(sum[:8]) % (Space - maxImported)
	code := p.Keys.Code.Code(first + uint64(index))
	n, _ := packCode(string(code[:]))
	return n
}

// tokenPrint returns the printed text of a row with a token.
func (p *Service) tokenPrint(t Template, row ImportedCode) (text string, ok bool) {
	token, err := base64.RawURLEncoding.DecodeString(row.Token)
	if err != nil {
		return "", false
	}
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[:8], uint64(row.TextHi))
	binary.BigEndian.PutUint64(iv[8:], uint64(row.TextLo))
	cipher.NewCTR(p.tokenBlock(), iv[:]).XORKeyStream(token, token)
	text = t.printed[0] + string(token) + t.printed[1]
	return text, p.tokenHash(canonicalURL(text)) == iv
}

// tokenTemplate returns a template with a token that matches a text.
func (m *Memory) tokenTemplate(text string) (t Template, canonical string, ok bool) {
	if m.tokens.Load() == 0 {
		return t, "", false
	}
	canonical = canonicalURL(text)
	host, _ := cutHost(canonical)
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, t := range m.templates.tokens[host] {
		if _, ok := t.tokenOf(canonical); ok {
			return t, canonical, true
		}
	}
	return t, "", false
}

// byToken finds the imported code of a text with a token. Letters of the token in another case are another code. ErrUnread.
func (p *Service) byToken(ctx context.Context, text string) (f Found, ok bool, err error) {
	_, canonical, ok := p.Memory.tokenTemplate(text)
	if !ok {
		return f, false, nil
	}
	hash := p.tokenHash(canonical)
	f, ok, err = p.importedRow(ctx, int64(binary.BigEndian.Uint64(hash[:8])), int64(binary.BigEndian.Uint64(hash[8:])))
	return f, ok && f.Batch.TakesTexts(), err
}

// mayHoldToken reports whether a text may contain a code with a token.
func (p *Service) mayHoldToken(text string) bool {
	if p.Memory.tokens.Load() == 0 {
		return false
	}
	plain, _ := unescaped(text)
	return slices.ContainsFunc(p.Memory.allTemplates().tokenList, func(t Template) bool {
		return bytes.Contains(plain, []byte(capitals(t.canonical[0])))
	})
}

// unknownToken reports whether a text has the form of a code with a token, and no jump rule matches it.
func (p *Service) unknownToken(text string) bool {
	_, _, ok := p.Memory.tokenTemplate(text)
	if ok && p.RuleOver != nil {
		_, matched := p.RuleOver(text)
		return !matched
	}
	return ok
}

// withholdTokens truncates a text before the token of an imported code that stands in it, alone or with something behind it that
// begins with neither a letter nor a digit ("?from=scan", a final slash). If the store is unavailable, or after too many
// candidates, everything that may be a token is removed.
func (p *Service) withholdTokens(text string) string {
	if p.Memory.tokens.Load() == 0 {
		return text
	}
	plain, ends := unescaped(text)
	tried := 0
	for _, t := range p.Memory.allTemplates().tokenList {
		head := []byte(capitals(t.canonical[0]))
		for from := 0; ; from++ {
			pos := bytes.Index(plain[from:], head)
			if pos < 0 {
				break
			}
			from += pos
			kept := ends[from+len(head)-1]
			for end, c := range []byte(text[kept:] + "?") {
				if isAlphanumeric(c) || c >= 0x80 {
					continue
				}
				escaped := text[kept : kept+end]
				decoded, _ := url.PathUnescape(escaped)
				for _, rest := range []string{escaped, decoded} {
					if _, _, similar := p.Memory.tokenTemplate(t.printed[0] + rest); !similar {
						continue
					}
					_, found, err := p.byToken(context.Background(), t.printed[0]+rest)
					if tried++; found || err != nil || tried > maxTried {
						return text[:kept]
					}
				}
			}
		}
	}
	return text
}

// readTexts converts a list with one text a line to rows, of which the first has the index start.
func (p *Service) readTexts(ctx context.Context, b Batch, first, start int64, lines io.Reader) (rows []ImportedCode, err error) {
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return nil, err
	}
	if start < 0 || start >= b.Count {
		return nil, errcode.InvalidArgs.WithDetail(behaviour.CodesRangeBeyond,
			"code_index %d: the application has the indexes 0 to %d", start, b.Count-1)
	}
	texts := map[[2]int64]int64{}
	for l, err := range ImportTexts(lines, "", first) {
		if err != nil {
			return nil, err
		}
		index := start + int64(len(rows))
		if len(rows) == MaxImportLines {
			return nil, faultAt(l.Number, "more than %d lines: bring them in several calls", MaxImportLines)
		}
		if index >= b.Count {
			return nil, faultAt(l.Number, "index %d: the application has the indexes 0 to %d", index, b.Count-1)
		}
		row, err := p.readToken(b, t, index, l.Text)
		if err != nil {
			return nil, faultAt(l.Number, "%v", err)
		}
		if f, found, err := p.otherImported(ctx, l.Text); found || err != nil {
			return nil, cmp.Or(err, faultAt(l.Number, "the text is that of code %d of application %d", f.Index, f.Batch.ID))
		}
		key := [2]int64{row.TextHi, row.TextLo}
		if line, duplicate := texts[key]; duplicate {
			return nil, faultAt(l.Number, "the text stands in line %d already", line)
		}
		texts[key] = l.Number
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "there are no lines")
	}
	return rows, nil
}

// readingOf converts a text that a camera read to the printed form of a template with a token.
func (t Template) readingOf(read string) (printed string, ok bool) {
	token, ok := t.tokenOf(canonicalURL(read))
	if !ok || strings.HasPrefix(read, t.printed[0]) && strings.HasSuffix(read, t.printed[1]) {
		return read, ok
	}
	return t.printed[0] + token + t.printed[1], true
}

// tokenEnding returns the last characters of the token in a text; "" = the token is too short to show a part of it.
func (t Template) tokenEnding(text string, symbols int) string {
	token, ok := t.tokenOf(canonicalURL(text))
	all := []rune(token)
	if !ok || len(all) < 2*symbols {
		return ""
	}
	return string(all[len(all)-symbols:])
}
