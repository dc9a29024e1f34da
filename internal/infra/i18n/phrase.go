// Package i18n knows the texts that people read, each in the language that its reader
// prefers. Decision 59.
package i18n

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Language is a language of pages, as HTML names it.
type Language string

const (
	English Language = "en"
	Chinese Language = "zh-CN"
)

// Languages are all there are, each with the end of the names of the files that hold its
// texts: en.json, and rules.en.json beside it.
var Languages = map[Language]string{English: "en.json", Chinese: "zh.json"}

// Folder is the folder of a package's texts.
const Folder = "locale"

// Catalog holds the texts of one package, in every language.
type Catalog struct {
	texts func() map[Language]map[string]string
}

// Open returns the book of a package, whose files have the folder "locale". It is read when the first text is wanted: commands that say
// none do not wait for it. A book that lacks a text panics then; TestEveryTextIsSaid reads each before that.
func Open(files fs.FS) *Catalog {
	return &Catalog{texts: sync.OnceValue(func() map[Language]map[string]string {
		texts, faults := Read(files)
		if len(faults) > 0 {
			panic(strings.Join(faults, "\n"))
		}
		return texts
	})}
}

// Read returns the texts of a package in each language, and what is wrong with them.
func Read(files fs.FS) (texts map[Language]map[string]string, faults []string) {
	texts = map[Language]map[string]string{}
	for language, end := range Languages {
		texts[language] = map[string]string{}
		names, err := fs.Glob(files, Folder+"/*"+end)
		if err != nil || len(names) == 0 {
			faults = append(faults, fmt.Sprintf("no file is named …%s: %v", end, err))
		}
		for _, name := range names {
			faults = append(faults, read(texts[language], files, name)...)
		}
	}
	return texts, append(faults, compared(texts)...)
}

// read takes in a file, which says nothing that another one says.
func read(texts map[string]string, files fs.FS, name string) (faults []string) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return []string{err.Error()}
	}
	said := map[string]string{}
	if err := json.Unmarshal(content, &said); err != nil {
		return []string{fmt.Sprintf("%s: %v", name, err)}
	}
	for key, text := range said {
		if _, duplicate := texts[key]; duplicate {
			faults = append(faults, fmt.Sprintf("%s: another file has %s too", name, key))
		}
		texts[key] = text
	}
	return faults
}

// verb is a place in a text that an argument fills, as fmt knows them.
var verb = regexp.MustCompile(`%[-+#0-9.]*(?:\[(\d+)\])?([a-zA-Z])|%%`)

// compared returns the texts that one language has and the other lacks, that are empty,
// or that have other places to fill in.
func compared(all map[Language]map[string]string) (faults []string) {
	for language, texts := range all {
		for key, text := range texts {
			if strings.TrimSpace(text) == "" {
				faults = append(faults, fmt.Sprintf("%s: %s is empty", language, key))
			}
			for otherLanguage, otherNames := range all {
				equal, ok := otherNames[key]
				// Chinese has one form for any number.
				if !ok && !strings.HasSuffix(key, oneSuffix) {
					faults = append(faults, fmt.Sprintf("%s: %s is missing", otherLanguage, key))
				}
				if ok && !alike(places(text), places(equal)) {
					faults = append(faults, fmt.Sprintf("%s has other places to fill in %s than %s", key, language, otherLanguage))
				}
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// silent is the place of an argument that a language does not speak of, whatever its kind.
const silent = "%.0s"

// places returns the verbs of a text by the number of the argument that each says, from 0; "" where it is silent.
func places(text string) map[int]string {
	list, pos := map[int]string{}, 0
	for _, found := range verb.FindAllStringSubmatch(text, -1) {
		if found[0] == "%%" {
			continue
		}
		if found[1] != "" {
			pos, _ = strconv.Atoi(found[1])
			pos--
		}
		if list[pos] = found[2]; found[0] == silent {
			list[pos] = ""
		}
		pos++
	}
	return list
}

// alike reports whether two texts say the same arguments in the same way, or one is silent about them.
func alike(a, b map[int]string) bool {
	for pos, verb := range a {
		if peer, ok := b[pos]; !ok || verb != "" && peer != "" && verb != peer {
			return false
		}
	}
	return len(a) == len(b)
}

// Localizer says the texts of a book in one language.
type Localizer struct {
	Language Language
	book     *Catalog
}

// In returns the book in a language.
func (b *Catalog) In(l Language) Localizer { return Localizer{l, b} }

// Chinese reports whether the language is Chinese.
func (s Localizer) Chinese() bool { return s.Language == Chinese }

// Say returns a text with its places filled in; an error for a key that the book lacks, and for
// arguments that are more or fewer than its places.
func (s Localizer) Say(key string, values ...any) (string, error) {
	if err := s.book.fault(key, len(values)); err != nil {
		return "", err
	}
	return s.fill(key, values), nil
}

// Has reports whether the book has a text.
func (s Localizer) Has(key string) bool { return s.book.Has(key) }

// Count returns a text that speaks of n things.
func (s Localizer) Count(key string, n int) (string, error) { return s.Say(key, n) }

// one ends the key of a text that speaks of one thing, where that is not said like any number.
const oneSuffix = ".one"

// Errorf returns a text as an error; %w in it is an error that errors.Is finds in it. It panics like Book.Text.
func (s Localizer) Errorf(key string, values ...any) error {
	if err := s.book.fault(key, len(values)); err != nil {
		panic(err)
	}
	text, said := s.form(key, values)
	if len(said) == 0 {
		return errors.New(text)
	}
	return fmt.Errorf(text, said...)
}

// fill says a text that is there.
func (s Localizer) fill(key string, values []any) string {
	text, said := s.form(key, values)
	if len(said) == 0 {
		return text
	}
	return fmt.Sprintf(text, said...)
}

// form returns a text that is there and what it speaks of, as the language says these. Of one thing it is key.one, where the language has it.
func (s Localizer) form(key string, values []any) (text string, said []any) {
	text = s.book.texts()[s.Language][key]
	if len(values) == 0 {
		return text, nil
	}
	if single, ok := s.book.texts()[s.Language][key+oneSuffix]; ok && fmt.Sprint(values[0]) == "1" {
		if text = single; len(places(single)) == 0 {
			return text, nil
		}
	}
	verbs := places(text)
	for i, arg := range values {
		switch inner, is := arg.(Message); {
		case verbs[i] == "":
			said = append(said, "")
		case is:
			said = append(said, inner.In(s.Language))
		default:
			said = append(said, arg)
		}
	}
	return text, said
}

// Has reports whether the book has a text.
func (b *Catalog) Has(key string) bool { _, ok := b.texts()[English][key]; return ok }

// fault returns the reason for which a text cannot take so many arguments.
func (b *Catalog) fault(key string, value int) error {
	text, ok := b.texts()[English][key]
	if !ok {
		return fmt.Errorf("no text is called %q", key)
	}
	if want := len(places(text)); want != value {
		return fmt.Errorf("%q speaks of %d things, and was given %d", key, want, value)
	}
	return nil
}

// Message is a key with its arguments, in no language yet. The zero Text says nothing.
type Message struct {
	book  *Catalog
	key   string
	with  []any
	plain string
}

// Text returns the text of a key. A thing that it speaks of may be a Text itself. It panics on a key that the
// book lacks and on a wrong number of things: TestEveryTextIsSaid finds these in the code.
func (b *Catalog) Text(key string, values ...any) Message {
	if err := b.fault(key, len(values)); err != nil {
		panic(err)
	}
	return Message{book: b, key: key, with: values}
}

// Literal returns a text from elsewhere, in whatever language: a system, a database, an error.
func Literal(text string) Message { return Message{plain: text} }

// In returns the text in a language.
func (t Message) In(l Language) string {
	if t.book == nil {
		return t.plain
	}
	return t.book.In(l).fill(t.key, t.with)
}

// String returns the text in English, as programs and logs have it.
func (t Message) String() string { return t.In(English) }

// English and Chinese are the text in these languages, for answers and pages that have both.
func (t Message) English() string { return t.In(English) }
func (t Message) Chinese() string { return t.In(Chinese) }

// IsZero reports whether the text says nothing.
func (t Message) IsZero() bool { return t.book == nil && t.plain == "" }

// MarshalText writes English: programs read one language.
func (t Message) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Cookie is the cookie with the language that the reader chose.
const Cookie = "qrjump_lang"

// Parse returns the language that a short name means: zh and en, with or without a
// region.
func Parse(name string) (Language, bool) {
	primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(name)), "-")
	switch primary {
	case "zh":
		return Chinese, true
	case "en":
		return English, true
	}
	return English, false
}

// Preferred returns the language of a request: what ?lang= asks for, else what the
// browser keeps, else what it prefers, else English.
func Preferred(r *http.Request) Language {
	if l, ok := Parse(r.URL.Query().Get("lang")); ok {
		return l
	}
	if c, err := r.Cookie(Cookie); err == nil {
		if l, ok := Parse(c.Value); ok {
			return l
		}
	}
	return ParseAcceptLanguage(r.Header.Get("Accept-Language"))
}

// ParseAcceptLanguage returns the language of ours with the highest weight in an Accept-Language, of
// equal ones the first; English where it names none.
func ParseAcceptLanguage(header string) Language {
	best, chosen := 0.0, English
	for name := range strings.SplitSeq(header[:min(len(header), 1024)], ",") {
		tag, parameters, _ := strings.Cut(name, ";")
		language, isOurs := Parse(tag)
		if !isOurs {
			continue
		}
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.ToLower(strings.Join(strings.Fields(parameters), "")), "q="); ok {
			n, err := strconv.ParseFloat(q, 64)
			if err != nil || !(n >= 0 && n <= 1) {
				continue
			}
			weight = n
		}
		if weight > best {
			best, chosen = weight, language
		}
	}
	return chosen
}

// Grouped returns a number with its thousands apart.
func Grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
