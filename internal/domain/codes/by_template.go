package codes

import (
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// templateIndex indexes the distinct templates of all batches. The slices of the index are append-only, because readers may still use
// an earlier copy of the index. The mutex of the Memory guards the maps and the groups of the index.
type templateIndex struct {
	count, importedCount int // number of templates, and number of templates of imported batches
	shapes               []shape
	links                []Link // distinct patterns of the templates whose texts are links
	groups               []*templateGroup
	byKey                map[string][]Template // by GS1 primary key; only templates of imported batches
	known                map[knownTemplate]bool
	tokensByHost         map[string][]Template // templates with a token
	tokenTemplates       []Template
}

type knownTemplate struct {
	text     string
	version  byte
	imported bool
}

// templateGroup contains templates that differ only in their literal text: their parts have the same kinds and lengths. A look-up among the
// templates for a thousand GTINs therefore costs as much as among the templates for one GTIN.
type templateGroup struct {
	parts     []templatePart // parts of the texts without URL scheme
	size      int
	imported  bool
	byLiteral map[string]Template // templates by their concatenated literal text in upper case
}

// add returns the index extended by the template of a batch.
func (i templateIndex) add(b Batch) templateIndex {
	template := knownTemplate{b.Template, b.Version, b.Imported}
	if b.Template == "" || i.known[template] {
		return i
	}
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return i // a newer program version wrote the template, and this version cannot parse the template
	}
	if i.known == nil {
		i.known, i.byKey, i.tokensByHost = map[knownTemplate]bool{}, map[string][]Template{}, map[string][]Template{}
	}
	i.known[template] = true
	i.count++
	if !t.HasToken() {
		i.addToGroup(t, b.Imported)
	}
	if l, is := t.link(); is && !slices.Contains(i.links, l) {
		i.links = append(i.links, l)
	}
	if b.Imported {
		i.importedCount++
	}
	if t.HasToken() {
		host, _ := cutHost(t.canonical[0])
		i.tokensByHost[host] = append(slices.Clip(i.tokensByHost[host]), t)
		i.tokenTemplates = append(slices.Clip(i.tokenTemplates), t)
		return i
	}
	if s := t.shape(b.Version); !b.Imported && !slices.Contains(i.shapes, s) {
		i.shapes = append(slices.Clone(i.shapes), s)
	}
	if data, err := gs1.Parse(t.sample()); err == nil && !data.Key.IsZero() {
		if _, secret := data.Value(internalAI); secret {
			root := data.Key.Root().String()
			i.byKey[root] = slices.Clip(i.byKey[root])
			if b.Imported {
				i.byKey[root] = append(i.byKey[root], t)
			}
		}
	}
	return i
}

// addToGroup adds a template to the group with equal part lengths, and creates the group if none exists.
func (i *templateIndex) addToGroup(t Template, imported bool) {
	sameShape := func(a, b templatePart) bool { return a.field == b.field && a.size == b.size }
	pos := slices.IndexFunc(i.groups, func(w *templateGroup) bool {
		return w.imported == imported && slices.EqualFunc(w.parts, t.withoutScheme, sameShape)
	})
	if pos < 0 {
		pos = len(i.groups)
		i.groups = append(i.groups, &templateGroup{parts: t.withoutScheme, size: t.bareSize(), imported: imported,
			byLiteral: map[string]Template{}})
	}
	var literals []byte
	for _, part := range t.withoutScheme {
		literals = append(literals, upperASCII(part.text)...)
	}
	i.groups[pos].byLiteral[string(literals)] = t
}

// find returns the template whose literal text matches a text without URL scheme.
func (g *templateGroup) find(bare string) (t Template, ok bool) {
	if len(bare) != g.size {
		return t, false
	}
	var literals [MaxText]byte
	n := 0
	for _, part := range g.parts {
		piece := bare[:part.size]
		bare = bare[part.size:]
		if !part.field.accepts(piece) {
			return t, false
		}
		if part.field == literal {
			for i := range len(piece) {
				literals[n] = upperByte(piece[i])
				n++
			}
		}
	}
	t, ok = g.byLiteral[string(literals[:n])]
	return t, ok
}

// template finds the template, of imported batches if imported is true and of own batches otherwise, that a text without scheme matches.
func (m *Memory) template(bare string, imported bool) (t Template, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, w := range m.templates.groups {
		if w.imported == imported {
			if t, ok = w.find(bare); ok {
				return t, true
			}
		}
	}
	return t, false
}

// templateOf returns the template without a token that a text matches; "" = none.
func (m *Memory) templateOf(text string) string {
	bare := cutScheme(normalizeNewlines(text))
	t, ok := m.template(bare, false)
	if !ok {
		t, _ = m.template(bare, true)
	}
	return t.text
}

// importedByPrimaryKey returns the templates of imported batches whose texts have the given GS1 primary key.
func (m *Memory) importedByPrimaryKey(root string) []Template {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.templates.byKey[root]
}

// internalAI is the GS1 application identifier that holds the secret.
const internalAI = "98"

// allTemplates returns the index of the templates of all batches.
func (m *Memory) allTemplates() templateIndex {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.templates
}

// Links returns the distinct link patterns of templates that are links.
func (m *Memory) Links() []Link { return m.allTemplates().links }

// normalizeNewlines replaces CRLF by LF, the line ending of templates.
func normalizeNewlines(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// byTemplate finds the code of a text made from a template: the secret identifies the code, and then the whole text must equal the
// text of that code.
func (s *Service) byTemplate(text string) (f Found, ok bool) {
	if s.Memory.templateCount.Load() == 0 {
		return f, false
	}
	index := s.Memory.allTemplates()
	bare := cutScheme(normalizeNewlines(text))
	for _, sh := range index.shapes {
		counter, ok := sh.counter(bare, s.Keys)
		if !ok {
			continue
		}
		if f, ok := s.printedByTemplate(counter, sh.version); ok {
			if made := cutScheme(s.Text(f.Batch, f.Index)); len(made) == len(bare) && equalFold(made, bare) {
				return f, true
			}
		}
	}
	return s.byElements(text, index)
}

// printedByTemplate returns the code of a counter; ok is true only if the batch of the code has a template and the given version.
func (s *Service) printedByTemplate(counter uint64, version byte) (f Found, ok bool) {
	f.Batch, f.Index, ok = s.Memory.Find(counter)
	return f, ok && f.Batch.Template != "" && f.Batch.Version == version
}

// elements parses a GS1 element string, raw or with brackets; ok is true only if it contains a secret and the primary key of a template.
func (m *Memory) elements(text string) (data gs1.Data, secret string, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	// URLs are not parsed as GS1 texts. A URL is valid only as printed: the same path on another host may belong to another company.
	if len(m.templates.byKey) == 0 || !strings.Contains(text, internalAI) || len(text) > 4*MaxText || len(cutScheme(text)) != len(text) {
		return data, "", false
	}
	data, err := gs1.Parse(text)
	if err != nil || data.Key.IsZero() {
		return data, "", false
	}
	secret, ok = data.Value(internalAI)
	_, known := m.templates.byKey[data.Key.Root().String()]
	return data, secret, ok && known
}

// byElements finds the code of a GS1 element string: the code whose text has the GS1 key and the secret of the element string.
func (s *Service) byElements(text string, index templateIndex) (f Found, ok bool) {
	data, secret, ok := s.Memory.elements(text)
	if !ok {
		return f, false
	}
	for _, sh := range index.shapes {
		key := s.Keys.Text[sh.version]
		if key == nil || len(secret) != sh.length {
			continue
		}
		counter, ok := sh.secretCounter(secret, key)
		if !ok {
			continue
		}
		if f, ok = s.printedByTemplate(counter, sh.version); !ok {
			continue
		}
		made, err := gs1.Parse(s.Text(f.Batch, f.Index))
		if err != nil || made.Key.String() != data.Key.String() {
			continue
		}
		if local, _ := made.Value(internalAI); len(local) == len(secret) && equalFold(local, secret) {
			return f, true
		}
	}
	return f, false
}

// matchesTemplate reports whether a text matches a template, whether or not its secret is genuine.
func (s *Service) matchesTemplate(text string) bool {
	if s.Memory.templateCount.Load() == 0 {
		return false
	}
	_, _, ok := s.Memory.elements(text)
	return ok || s.Memory.templateOf(text) != ""
}

// Weak reports whether the texts of the batch can be guessed, so that knowing a text proves nothing.
func (b Batch) Weak() bool {
	t, err := ParseTemplate(b.Template)
	return b.Template != "" && (err != nil || t.weak || t.Bits(b.Count) < StrongBits)
}

// TextEnding returns the last symbols of the secret in a text of the batch; "" = the text has another format.
func (b Batch) TextEnding(text string, symbols int) string {
	t, err := ParseTemplate(b.Template)
	if err != nil {
		return ""
	}
	if t.HasToken() {
		return t.tokenEnding(text, symbols)
	}
	s, bare := t.shape(b.Version), cutScheme(normalizeNewlines(text))
	if len(bare) != s.size {
		return ""
	}
	return strings.ToUpper(bare[s.offset+s.length-symbols : s.offset+s.length])
}

// rowEscaper escapes a text as one column of a row, and rowUnescaper unescapes it. Texts made from templates never contain "\".
// labels.Rows depends on the escapes in rowEscaper too.
var (
	rowEscaper   = strings.NewReplacer("\n", `\n`, " ", `\s`)
	rowUnescaper = strings.NewReplacer(`\n`, "\n", `\s`, " ")
)
