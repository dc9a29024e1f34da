package codes

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/errcode"
)

// Codes made elsewhere whose texts are by template are rows like the others: the secret alone is kept, encrypted. The serial number is the
// original code, and everything else stands in the template.

// hideSecret is a secret as it is stored: symbols as those of any other code made elsewhere, digits apart from them by the first bit, with
// how many they are.
func (p *Press) hideSecret(secret string, f field) (hi, lo int64) {
	if f != digitsField {
		return p.hideTail(tail([]byte(secret)))
	}
	n := uint64(len(secret))
	pair, _ := readDigits(secret)
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], 1<<63|n&7<<60|pair.a) // a half has at most 18 digits, which are less than 60 bits
	binary.BigEndian.PutUint64(b[8:], n>>3<<60|pair.b)
	p.importedBlock().Encrypt(b[:], b[:])
	return int64(binary.BigEndian.Uint64(b[:8])), int64(binary.BigEndian.Uint64(b[8:]))
}

// showSecret is the reverse of hideSecret; ok is false for what another key encrypted.
func (p *Press) showSecret(row ImportedCode, part templatePart) (secret string, ok bool) {
	if part.field != digitsField {
		t, ok := p.showTail(row.TextHi, row.TextLo)
		return string(t[:]), ok
	}
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], uint64(row.TextHi))
	binary.BigEndian.PutUint64(b[8:], uint64(row.TextLo))
	p.importedBlock().Decrypt(b[:], b[:])
	const half = 1<<60 - 1
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	digits := digitPair{high & half, low & half}.append(nil, part.size)
	return string(digits), high>>60 == 8|uint64(part.size)&7 && low>>60 == uint64(part.size)>>3
}

// importedPrint is the text of a code made elsewhere.
func (p *Press) importedPrint(b Batch, row ImportedCode) (text string, err error) {
	foreign := fmt.Errorf("code %d of application %d was stored under another key", row.Index, b.ID)
	if b.Template == "" {
		t, ok := p.showTail(row.TextHi, row.TextLo)
		if !ok {
			return "", foreign
		}
		return b.Prefix + string(t[:]), nil
	}
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return "", err
	}
	secret, ok := p.showSecret(row, t.parts[t.secret])
	if !ok {
		return "", foreign
	}
	return t.with(unpackCode(row.Code), secret), nil
}

// with writes a text of which serial number and secret are known.
func (t Template) with(serial, secret string) string {
	b := make([]byte, 0, t.size)
	for _, part := range t.parts {
		switch part.field {
		case literal:
			b = append(b, part.text...)
		case serialField:
			b = append(b, serial...)
		default:
			b = append(b, secret...)
		}
	}
	return string(b)
}

// cut takes serial number and secret out of a text as it is printed; a template without a serial number has none.
func (t Template) cut(printed string) (serial, secret string) {
	for _, part := range t.parts {
		switch piece := printed[:part.size]; part.field {
		case literal:
		case serialField:
			serial = piece
		default:
			secret = piece
		}
		printed = printed[part.size:]
	}
	return serial, secret
}

// importedByTemplate finds the code made elsewhere behind a text by template. ErrUnread.
func (p *Press) importedByTemplate(ctx context.Context, text string) (f Found, ok bool, err error) {
	for _, t := range p.Memory.allTemplates().imported {
		printed, like := t.asPrinted(cutScheme(lineFeeds(text)))
		if !like {
			printed, like = t.ofElements(text)
		}
		if like {
			if f, ok, err = p.importedPrinted(ctx, t, printed); ok || err != nil {
				return f, ok, err
			}
		}
	}
	return f, false, nil
}

// importedPrinted finds the code made elsewhere with a text as a template writes it. ErrUnread.
func (p *Press) importedPrinted(ctx context.Context, t Template, printed string) (f Found, ok bool, err error) {
	serial, secret := t.cut(printed)
	hi, lo := p.hideSecret(secret, t.parts[t.secret].field)
	f, ok, err = p.importedRow(ctx, hi, lo)
	return f, ok && f.Batch.Template == t.text && (serial == "" || serial == f.Code), err
}

// elsewhere calls f with what a text may hold of codes made elsewhere whose texts are by template: where the secret begins, in the
// unescaped text, and the text as it would be printed. It stops when f returns false.
func (i templateIndex) elsewhere(plain []byte, f func(t Template, secret int, printed string) bool) {
	for _, t := range i.imported {
		s := t.shape(FirstVersion)
		for from := 0; from+s.size <= len(plain); from++ {
			if printed, like := t.asPrinted(string(plain[from : from+s.size])); like && !f(t, from+max(s.at, 0), printed) {
				return
			}
		}
	}
}

// mayHoldElsewhere reports whether a text may hold a code made elsewhere whose text is by template.
func (p *Press) mayHoldElsewhere(text string) (may bool) {
	index := p.Memory.allTemplates()
	if len(index.imported) == 0 {
		return false
	}
	plain, _ := unescaped(text)
	index.elsewhere(plain, func(Template, int, string) bool {
		may = true
		return false
	})
	return may
}

// withholdElsewhere is a text up to the first secret in it of a code made elsewhere whose text is by template. Where the store cannot say,
// what may be a secret goes.
func (p *Press) withholdElsewhere(text string) string {
	index := p.Memory.allTemplates()
	if len(index.imported) == 0 {
		return text
	}
	plain, ends := unescaped(text)
	first, tried := len(plain), 0
	index.elsewhere(plain, func(t Template, secret int, printed string) bool {
		if secret >= first {
			return true
		}
		_, found, err := p.importedPrinted(context.Background(), t, printed)
		if tried++; found || err != nil || tried > maxTried {
			first = secret
		}
		return true
	})
	switch first {
	case len(plain):
		return text
	case 0:
		return ""
	}
	return text[:ends[first-1]]
}

// readByTemplate makes a row of a line whose text is by template.
func (p *Press) readByTemplate(b Batch, t Template, l ImportLine) (row ImportedCode, err error) {
	printed, like := t.asPrinted(cutScheme(ofRow.Replace(l.Text)))
	if !like {
		return row, faultAt(l.Number, "the text is not one of %q", t.text)
	}
	serial, secret := t.cut(printed)
	if serial != "" && serial != strings.ToUpper(l.Code) {
		return row, faultAt(l.Number, "the serial number in the text is not the original code, which is column 2")
	}
	if _, ours := p.byTemplate(printed); ours {
		return row, faultAt(l.Number, "the text is one that this server makes itself")
	}
	row = ImportedCode{Batch: b.ID, Index: l.Index}
	row.Code, _ = packCode(l.Code)
	row.TextHi, row.TextLo = p.hideSecret(secret, t.parts[t.secret].field)
	return row, nil
}

// template is how the texts of a batch that is imported are written; "" = its prefix, and symbols. 40097.
func (n NewImport) template(p *Press) (string, error) {
	n.Text.Count = n.Count
	filled, err := p.FillTemplate(n.Text)
	switch {
	case err != nil:
		return "", err
	case filled != "" && n.Prefix != "":
		return "", errcode.InvalidArgs.With(behaviour.None, "a text by template has no prefix beside it: write {prefix} into it, or leave text out")
	}
	if filled != "" && n.Text.Weak && !strings.Contains(filled, "{weak}") {
		filled += "{weak}" // how they were made is known to whoever brings them: digits may be those of a counter
	}
	return filled, nil
}
