package codes

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Imported codes with a template are stored as rows like other imported codes. A row contains only the encrypted secret instead of the
// text: the serial number in the text is the original code, and the template contains the other parts.

// encryptSecret returns the encrypted form of a secret. A secret of symbols is encrypted like a tail. For a secret of digits, the first bit
// of the plain block is 1, and the block also contains the number of digits.
func (s *Service) encryptSecret(secret string, f field) (hi, lo int64) {
	if f != digitsField {
		return s.encryptTail(tail([]byte(secret)))
	}
	n := uint64(len(secret))
	pair, _ := readDigits(secret)
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], 1<<63|n&7<<60|pair.a) // each half has at most 18 digits, which fit into 60 bits
	binary.BigEndian.PutUint64(b[8:], n>>3<<60|pair.b)
	s.importedBlock().Encrypt(b[:], b[:])
	return int64(binary.BigEndian.Uint64(b[:8])), int64(binary.BigEndian.Uint64(b[8:]))
}

// decryptSecret is the inverse of encryptSecret; ok is false for a value encrypted with another key.
func (s *Service) decryptSecret(row ImportedCode, part templatePart) (secret string, ok bool) {
	if part.field != digitsField {
		t, ok := s.decryptTail(row.TextHi, row.TextLo)
		return string(t[:]), ok
	}
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], uint64(row.TextHi))
	binary.BigEndian.PutUint64(b[8:], uint64(row.TextLo))
	s.importedBlock().Decrypt(b[:], b[:])
	const half = 1<<60 - 1
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	digits := digitPair{high & half, low & half}.append(nil, part.size)
	return string(digits), high>>60 == 8|uint64(part.size)&7 && low>>60 == uint64(part.size)>>3
}

// importedPrint returns the printed text of an imported code.
func (s *Service) importedPrint(b Batch, row ImportedCode) (text string, err error) {
	foreign := fmt.Errorf("code %d of application %d was stored with another key", row.Index, b.ID)
	if b.Template == "" {
		t, ok := s.decryptTail(row.TextHi, row.TextLo)
		if !ok {
			return "", foreign
		}
		return b.Prefix + string(t[:]), nil
	}
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return "", err
	}
	if t.HasToken() {
		if text, ok := s.tokenPrint(t, row); ok {
			return text, nil
		}
		return "", foreign
	}
	secret, ok := s.decryptSecret(row, t.parts[t.secret])
	if !ok {
		return "", foreign
	}
	return t.fill(variableParts{unpackCode(row.Code), secret, t.number(row.Index)}), nil
}

// variableParts holds the parts of a text that the template leaves open.
type variableParts struct{ serial, secret, number string }

// number returns the brand's own serial number of an index; "" = the texts have no such number.
func (t Template) number(index int64) string {
	for _, part := range t.parts {
		if part.field == numberField {
			return part.number(uint64(index))
		}
	}
	return ""
}

// fill returns the text of the template with the given variable parts.
func (t Template) fill(v variableParts) string {
	b := make([]byte, 0, t.size)
	for _, part := range t.parts {
		switch part.field {
		case literal:
			b = append(b, part.text...)
		case serialField:
			b = append(b, v.serial...)
		case numberField:
			b = append(b, v.number...)
		default:
			b = append(b, v.secret...)
		}
	}
	return string(b)
}

// cutVariables extracts the variable parts from a text that consists of the given template parts.
func cutVariables(parts []templatePart, text string) (v variableParts) {
	for _, part := range parts {
		switch piece := text[:part.size]; part.field {
		case literal:
		case serialField:
			v.serial = piece
		case numberField:
			v.number = piece
		default:
			v.secret = piece
		}
		text = text[part.size:]
	}
	return v
}

// importedByTemplate finds the imported code of a text made from a template. ErrUnread.
func (s *Service) importedByTemplate(ctx context.Context, text string) (f Found, ok bool, err error) {
	if s.Memory.importedTemplateCount.Load() == 0 {
		return f, false, nil
	}
	bare := cutScheme(normalizeNewlines(text))
	if t, similar := s.Memory.template(bare, true); similar {
		printed, _ := t.asPrinted(bare)
		return s.importedPrinted(ctx, t, printed)
	}
	data, _, ok := s.Memory.elements(text)
	if !ok {
		return f, false, nil
	}
	for _, t := range s.Memory.importedByPrimaryKey(data.Key.Root().String()) {
		if printed, similar := t.fromElements(text); similar {
			if f, ok, err = s.importedPrinted(ctx, t, printed); ok || err != nil {
				return f, ok, err
			}
		}
	}
	return f, false, nil
}

// importedPrinted finds the imported code with the given printed text, which matches template t. ErrUnread.
func (s *Service) importedPrinted(ctx context.Context, t Template, printed string) (f Found, ok bool, err error) {
	v := cutVariables(t.parts, printed)
	hi, lo := s.encryptSecret(v.secret, t.parts[t.secret].field)
	if f, ok, err = s.importedRow(ctx, hi, lo); !ok || err != nil {
		return f, false, err
	}
	// A different text with the same secret belongs to a different code. Texts that differ only in scheme or letter case are equal.
	template, err := ParseTemplate(f.Batch.Template)
	if err != nil {
		return f, false, nil
	}
	made := template.fill(variableParts{f.Code, v.secret, template.number(f.Index)})
	return f, len(cutScheme(made)) == len(cutScheme(printed)) && equalFold(cutScheme(made), cutScheme(printed)), nil
}

// candidate is a possible imported code in a longer text: a substring of the text that matches the template of an imported batch.
type candidate struct {
	template Template
	secret   int // start of the secret in the unescaped text
	printed  string
}

// importedCandidates returns at most limit imported codes that an unescaped text may contain.
func (m *Memory) importedCandidates(plain []byte, limit int) (list []candidate) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, w := range m.templates.groups {
		for from := 0; w.imported && from+w.size <= len(plain) && len(list) < limit; from++ {
			bare := string(plain[from : from+w.size])
			if t, is := w.find(bare); is {
				printed, _ := t.asPrinted(bare)
				list = append(list, candidate{t, from + t.shape(FirstVersion).offset, printed})
			}
		}
	}
	return list
}

// mayContainImported reports whether a text may contain an imported code with a template.
func (s *Service) mayContainImported(text string) bool {
	if s.Memory.importedTemplateCount.Load() == 0 {
		return false
	}
	plain, _ := unescape(text)
	return len(s.Memory.importedCandidates(plain, 1)) > 0
}

// redactImportedTemplates truncates a text before the first secret of an imported code with a template. If the store is unavailable, or
// after maxCandidates candidates, a candidate counts as an imported code without a check.
func (s *Service) redactImportedTemplates(text string) string {
	if s.Memory.importedTemplateCount.Load() == 0 {
		return text
	}
	plain, ends := unescape(text)
	first := len(plain)
	for i, h := range s.Memory.importedCandidates(plain, maxCandidates+1) {
		if h.secret >= first {
			continue
		}
		if _, found, err := s.importedPrinted(context.Background(), h.template, h.printed); found || err != nil || i == maxCandidates {
			first = h.secret
		}
	}
	return cutBefore(text, ends, first)
}

// readByTemplate converts an imported line to a row; the text of the line must match the template.
func (s *Service) readByTemplate(b Batch, t Template, l ImportLine) (row ImportedCode, err error) {
	printed, similar := t.asPrinted(cutScheme(rowUnescaper.Replace(l.Text)))
	if !similar {
		return row, faultAt(l.Number, "the text is not one of %q", t.text)
	}
	v := cutVariables(t.parts, printed)
	switch {
	case v.serial != "" && v.serial != strings.ToUpper(l.Code):
		return row, faultAt(l.Number, "the serial number in the text is not the original code, which is column 2")
	case v.number != t.number(l.Index):
		return row, faultAt(l.Number, "the number in the text is not that of index %d, which is %s", l.Index, t.number(l.Index))
	}
	if _, isOurs := s.byTemplate(printed); isOurs {
		return row, faultAt(l.Number, "the text has the format of codes that this server generates")
	}
	row = ImportedCode{Batch: b.ID, Index: l.Index}
	row.Code, _ = packCode(l.Code)
	row.TextHi, row.TextLo = s.encryptSecret(v.secret, t.parts[t.secret].field)
	return row, nil
}

// template returns the template of an imported batch; "" = the texts consist of prefix and symbols. template returns 40097 for an
// invalid template.
func (n NewImport) template(p *Service) (string, error) {
	n.Text.Count, n.Text.Imported = n.Count, true
	filled, err := p.FillTemplate(n.Text)
	switch {
	case err != nil:
		return "", err
	case filled != "" && n.Prefix != "":
		return "", errcode.InvalidArgs.WithDetail(behaviour.NoRow, "text and prefix cannot be combined: write {prefix} into the template, or leave text out")
	}
	if filled != "" && n.Text.Weak && !strings.Contains(filled, "{weak}") {
		filled += "{weak}" // {weak} is stored, because only the importer knows whether the digits are random or from a counter
	}
	return filled, nil
}
