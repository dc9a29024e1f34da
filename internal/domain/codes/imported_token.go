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

// Codes from any other system are imported with a template that contains {token:N} or {token:MIN-MAX}: a URL whose token may have any
// characters. The row of such a code contains two values: the keyed hash of the whole text, by which scans find the code, and the encrypted
// token. The hash is the synthetic IV of the encryption (SIV, RFC 5297).

const (
	// maxToken is the maximum number of characters of a token.
	maxToken = 64
	// tokenBits is the assumed cost, in bits, of guessing one character of a token. The other system's alphabet is unknown, so 36
	// characters are assumed: the digits, and letters of one case.
	tokenBits = 5.17
	// tokenHashKey, tokenKey and tokenCodeKey are the labels from which the keys for tokens are derived. These labels never change.
	tokenHashKey, tokenKey, tokenCodeKey = "texts of other systems", "tokens of other systems", "original codes of other systems"
)

// parseToken parses the length of a token: N, or MIN-MAX.
func parseToken(length string) (part templatePart, err error) {
	least, most, isRange := strings.Cut(length, "-")
	if !isRange {
		most = least
	}
	part = templatePart{field: tokenField}
	part.minLength, err = strconv.Atoi(least)
	size, wrong := strconv.Atoi(most)
	part.size = size
	canonical := strconv.Itoa(part.minLength)
	if isRange {
		canonical += "-" + strconv.Itoa(size)
	}
	if err = cmp.Or(err, wrong); err != nil || part.minLength < 1 || size < part.minLength || size > maxToken || canonical != length {
		return part, fmt.Errorf("{token:%.20s}: want N or MIN-MAX, of 1 to %d characters", length, maxToken)
	}
	return part, nil
}

// checkToken sets the fields "printed" and "canonical"; it returns an error unless the template is a URL with one token after its host.
func (t *Template) checkToken() error {
	literals := []string{""}
	for _, part := range t.parts {
		switch part.field {
		case literal:
			literals[len(literals)-1] += part.text
		case tokenField:
			literals = append(literals, "")
		default:
			return errors.New("{token} cannot be combined with {serial}, {number:…}, {secret} or {digits:N}")
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

// TakesTexts reports whether the codes of an imported batch are imported as a list of texts, one per line: their texts have a token.
func (b Batch) TakesTexts() bool { return b.Imported && strings.Contains(b.Template, "{token:") }

// HasToken reports whether the texts of the template have a token.
func (t Template) HasToken() bool { return t.secret >= 0 && t.parts[t.secret].field == tokenField }

// checkURL returns an error with the reason if a URL cannot contain the text as it is. The error never quotes the text.
func checkURL(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("it is not UTF-8")
	}
	for i, r := range text {
		switch {
		case r == '%' && (i+2 >= len(text) || hexDigit(text[i+1]) == absent || hexDigit(text[i+2]) == absent):
			return errors.New(`it contains a "%" without two hexadecimal digits, which is not allowed in URLs`)
		case r == ' ', strings.ContainsRune(`"<>\^{|}`+"`", r):
			return fmt.Errorf("it contains %q, which must be written as %s in URLs", r, fmt.Sprintf("%%%02X", r))
		case r == utf8.RuneError, unicode.IsSpace(r), !unicode.IsPrint(r):
			return fmt.Errorf("it contains %s, which is not allowed in URLs", fmt.Sprintf("U+%04X", r))
		}
	}
	return nil
}

// canonicalURL returns the form in which URLs are compared: without http:// or https://, with the host in lower case, and with
// canonicalRest applied to the part after the host.
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

// canonicalRest decodes the percent-escapes of characters that need no escape in a URL: letters, digits, "-._~!'()*", and characters beyond
// ASCII. All other percent-escapes stay and are converted to upper case (RFC 3986, section 6.2.2).
func canonicalRest(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	b := make([]byte, 0, len(text))
	for text != "" {
		c, size := firstByte(text)
		if size == 1 || c >= 0x80 || isAlphanumeric(c) || strings.IndexByte("-._~!'()*", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, upperASCII(text[:size])...)
		}
		text = text[size:]
	}
	return string(b)
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= upperByte(c) && upperByte(c) <= 'Z'
}

// tokenOf returns the token of a text in canonical form; ok is false if the text does not match the template.
func (t Template) tokenOf(canonical string) (token string, ok bool) {
	rest, head := strings.CutPrefix(canonical, t.canonical[0])
	token, tail := strings.CutSuffix(rest, t.canonical[1])
	n, part := utf8.RuneCountInString(token), t.parts[t.secret]
	return token, head && tail && part.minLength <= n && n <= part.size
}

// CheckText returns an error with the reason if a text of a list does not match a template with a token. The error never quotes the
// text, because the text is a secret code.
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
		return fmt.Errorf("the token has a length of %d: want %s", n, t.parts[t.secret].length())
	}
	return nil
}

// readToken converts a text of a list to a row.
func (s *Service) readToken(b Batch, t Template, index int64, text string) (row ImportedCode, err error) {
	if err := t.CheckText(text); err != nil {
		return row, err
	}
	for _, prefix := range s.prefixes() {
		for _, end := range possibleTails(prefix, text) {
			if s.canGenerate(string(end[:])) {
				return row, errOwnText
			}
		}
	}
	if _, ours := s.byTemplate(text); ours {
		return row, errOwnText
	}
	if s.MatchRule != nil {
		if prefix, ok := s.MatchRule(text); ok {
			return row, fmt.Errorf("the jump rule %s matches the text too: delete the rule, or leave the text out", prefix)
		}
	}
	iv := s.tokenHash(canonicalURL(text))
	encrypted := []byte(text[len(t.printed[0]) : len(text)-len(t.printed[1])])
	cipher.NewCTR(s.tokenBlock(), iv[:]).XORKeyStream(encrypted, encrypted)
	row = ImportedCode{Batch: b.ID, Index: index, Code: s.tokenCode(b.ID, index), Token: base64.RawURLEncoding.EncodeToString(encrypted)}
	row.TextHi, row.TextLo = int64(binary.BigEndian.Uint64(iv[:8])), int64(binary.BigEndian.Uint64(iv[8:]))
	return row, nil
}

// errOwnText is returned for a text that an import rejects because this server's keys can generate the text.
var errOwnText = errors.New("the text has the format of codes that this server generates")

// length returns the length of a token as it is written in the template.
func (p templatePart) length() string {
	if p.minLength == p.size {
		return fmt.Sprintf("{token:%d}", p.size)
	}
	return fmt.Sprintf("{token:%d-%d}", p.minLength, p.size)
}

// tokenHash returns the first half of the keyed hash of a text in canonical form.
func (s *Service) tokenHash(canonical string) (hash [aes.BlockSize]byte) {
	s.importedBlock() // prepares all keys
	sum := s.tokenHasher.Sum(canonical)
	copy(hash[:], sum[:])
	return hash
}

func (s *Service) tokenBlock() cipher.Block {
	s.importedBlock()
	return s.tokenCipher
}

// tokenCode returns the original code for an index of a batch with tokens: another system made these codes, and they have no original code
// of their own. The counters of a batch are consecutive and start at a keyed hash of the batch ID, so that original codes are distinct
// within a batch and rarely equal in two batches.
func (s *Service) tokenCode(batch, index int64) int64 {
	sum := s.Vault.Hasher(tokenCodeKey).Sum(strconv.FormatInt(batch, 10))
	first := binary.BigEndian.Uint64(sum[:8]) % (Space - maxImported)
	code := s.Keys.Code.Code(first + uint64(index))
	n, _ := packCode(string(code[:]))
	return n
}

// tokenPrint returns the printed text of a row with a token.
func (s *Service) tokenPrint(t Template, row ImportedCode) (text string, ok bool) {
	token, err := base64.RawURLEncoding.DecodeString(row.Token)
	if err != nil {
		return "", false
	}
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[:8], uint64(row.TextHi))
	binary.BigEndian.PutUint64(iv[8:], uint64(row.TextLo))
	cipher.NewCTR(s.tokenBlock(), iv[:]).XORKeyStream(token, token)
	text = t.printed[0] + string(token) + t.printed[1]
	return text, s.tokenHash(canonicalURL(text)) == iv
}

// tokenTemplate returns a template with a token that matches a text.
func (m *Memory) tokenTemplate(text string) (t Template, canonical string, ok bool) {
	if m.tokenTemplateCount.Load() == 0 {
		return t, "", false
	}
	canonical = canonicalURL(text)
	host, _ := cutHost(canonical)
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, t := range m.templates.tokensByHost[host] {
		if _, ok := t.tokenOf(canonical); ok {
			return t, canonical, true
		}
	}
	return t, "", false
}

// byToken finds the imported code of a text with a token. Tokens that differ only in the case of letters belong to different codes.
// ErrUnread.
func (s *Service) byToken(ctx context.Context, text string) (f Found, ok bool, err error) {
	_, canonical, ok := s.Memory.tokenTemplate(text)
	if !ok {
		return f, false, nil
	}
	hash := s.tokenHash(canonical)
	f, ok, err = s.importedRow(ctx, int64(binary.BigEndian.Uint64(hash[:8])), int64(binary.BigEndian.Uint64(hash[8:])))
	return f, ok && f.Batch.TakesTexts(), err
}

// mayContainToken reports whether a text may contain a code with a token.
func (s *Service) mayContainToken(text string) bool {
	if s.Memory.tokenTemplateCount.Load() == 0 {
		return false
	}
	plain, _ := unescape(text)
	return slices.ContainsFunc(s.Memory.allTemplates().tokenTemplates, func(t Template) bool {
		return bytes.Contains(plain, []byte(upperASCII(t.canonical[0])))
	})
}

// unknownToken reports whether a text has the form of a code with a token, and no jump rule matches it.
func (s *Service) unknownToken(text string) bool {
	_, _, ok := s.Memory.tokenTemplate(text)
	if ok && s.MatchRule != nil {
		_, matched := s.MatchRule(text)
		return !matched
	}
	return ok
}

// redactTokens truncates a text before the token of an imported code. The token may be the end of the text, or be followed by a character
// that is neither a letter nor a digit, as in "?from=scan" or a final slash. If the store is unavailable, or after maxCandidates
// candidates, a candidate counts as a token without a check.
func (s *Service) redactTokens(text string) string {
	if s.Memory.tokenTemplateCount.Load() == 0 {
		return text
	}
	plain, ends := unescape(text)
	tried := 0
	for _, t := range s.Memory.allTemplates().tokenTemplates {
		head := []byte(upperASCII(t.canonical[0]))
		for from := 0; ; from++ {
			pos := bytes.Index(plain[from:], head)
			if pos < 0 {
				break
			}
			from += pos
			cutAt := ends[from+len(head)-1]
			for end, c := range []byte(text[cutAt:] + "?") {
				if isAlphanumeric(c) || c >= 0x80 {
					continue
				}
				escaped := text[cutAt : cutAt+end]
				decoded, _ := url.PathUnescape(escaped)
				for _, rest := range []string{escaped, decoded} {
					if _, _, similar := s.Memory.tokenTemplate(t.printed[0] + rest); !similar {
						continue
					}
					_, found, err := s.byToken(context.Background(), t.printed[0]+rest)
					tried++
					if found || err != nil || tried > maxCandidates {
						return text[:cutAt]
					}
				}
			}
		}
	}
	return text
}

// readTexts converts a list with one text a line to rows; start is the index of the first row.
func (s *Service) readTexts(ctx context.Context, b Batch, first, start int64, lines io.Reader) (rows []ImportedCode, err error) {
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return nil, err
	}
	if start < 0 || start >= b.Count {
		return nil, errcode.InvalidArgs.WithDetail(behaviour.CodesRangeBeyond,
			"code_index %d: the application has the indexes 0 to %d", start, b.Count-1)
	}
	return readRows(ctx, b, func(yield func(ImportLine, error) bool) {
		for l, err := range ImportTexts(lines, "", first) {
			if !yield(ImportLine{Number: l.Number, Index: start + l.Number - first, Text: l.Text}, err) {
				return
			}
		}
	}, func(b Batch, l ImportLine) (ImportedCode, error) {
		row, err := s.readToken(b, t, l.Index, l.Text)
		return row, FaultOfLine(l.Number, err)
	}, s.importedWithoutToken)
}

// printedFormWithToken converts a text that a camera read to the printed form of a template with a token.
func (t Template) printedFormWithToken(read string) (printed string, ok bool) {
	token, ok := t.tokenOf(canonicalURL(read))
	if !ok || strings.HasPrefix(read, t.printed[0]) && strings.HasSuffix(read, t.printed[1]) {
		return read, ok
	}
	return t.printed[0] + token + t.printed[1], true
}

// tokenEnding returns the last characters of the token in a text; "" = the token is too short for a part of it to be shown.
func (t Template) tokenEnding(text string, symbols int) string {
	token, ok := t.tokenOf(canonicalURL(text))
	all := []rune(token)
	if !ok || len(all) < 2*symbols {
		return ""
	}
	return string(all[len(all)-symbols:])
}
