// Package i18n provides the texts that people read, in the language that the reader prefers. Decision 59.
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

// Language is a language of pages, as an HTML language code.
type Language string

const (
	English Language = "en"
	Chinese Language = "zh-CN"
)

// Languages maps each language to the suffix of its files: "en.json" and "rules.en.json" end in en.json.
var Languages = map[Language]string{English: "en.json", Chinese: "zh.json"}

// Folder is the name of the folder with a package's texts.
const Folder = "locale"

// Catalog holds the texts of one package, in every language.
type Catalog struct {
	texts map[Language]func() map[string]string
}

// Open returns the catalog of a package, whose file system contains the folder "locale". The first use of a text reads the files of
// its language, so that commands start faster; malformed files cause a panic. Only the test TestTranslations_KeysAndArgumentsMatch
// compares the languages: it calls Read for every catalog.
func Open(files fs.FS) *Catalog {
	b := &Catalog{texts: map[Language]func() map[string]string{}}
	for language := range Languages {
		b.texts[language] = sync.OnceValue(func() map[string]string {
			texts, faults := read(files, language)
			if len(faults) > 0 {
				panic(strings.Join(faults, "\n"))
			}
			return texts
		})
	}
	return b
}

// Read returns the texts of a package in each language, and a list of errors in the files.
func Read(files fs.FS) (texts map[Language]map[string]string, faults []string) {
	texts = map[Language]map[string]string{}
	for language := range Languages {
		found, malformed := read(files, language)
		texts[language], faults = found, append(faults, malformed...)
	}
	return texts, append(faults, compared(texts)...)
}

// read returns the texts of one language, and reports malformed files and keys that two files define.
func read(files fs.FS, language Language) (texts map[string]string, faults []string) {
	texts = map[string]string{}
	names, err := fs.Glob(files, Folder+"/*"+Languages[language])
	if err != nil || len(names) == 0 {
		return texts, []string{fmt.Sprintf("no file is named …%s: %v", Languages[language], err)}
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		said := map[string]string{}
		if err == nil {
			err = json.Unmarshal(content, &said)
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", name, err))
		}
		for key, text := range said {
			if _, duplicate := texts[key]; duplicate {
				faults = append(faults, fmt.Sprintf("%s: another file has %s too", name, key))
			}
			texts[key] = text
		}
	}
	return texts, faults
}

// verb matches a formatting verb of package fmt.
var verb = regexp.MustCompile(`%[-+#0-9.]*(?:\[(\d+)\])?([a-zA-Z])|%%`)
var parsed sync.Map // results of places by text

// compared reports texts that are absent or empty in a language, or whose formatting verbs differ between languages.
func compared(all map[Language]map[string]string) (faults []string) {
	for language, texts := range all {
		for key, text := range texts {
			if strings.TrimSpace(text) == "" {
				faults = append(faults, fmt.Sprintf("%s: %s is empty", language, key))
			}
			for otherLanguage, otherNames := range all {
				equal, ok := otherNames[key]
				// Chinese has no separate singular form.
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

// silent is the verb for an argument that the text of a language does not show; the argument may have any type.
const silent = "%.0s"

// places returns the verbs of a text by argument index, starting at 0; "" for an argument that is not shown.
func places(text string) map[int]string {
	if list, known := parsed.Load(text); known {
		return list.(map[int]string)
	}
	list, pos := map[int]string{}, 0
	for _, found := range verb.FindAllStringSubmatch(text, -1) {
		if found[0] == "%%" {
			continue
		}
		if found[1] != "" {
			pos, _ = strconv.Atoi(found[1])
			pos--
		}
		list[pos] = found[2]
		if found[0] == silent {
			list[pos] = ""
		}
		pos++
	}
	parsed.Store(text, list)
	return list
}

// alike reports whether two texts format the same arguments with the same verbs; an argument not shown in one text is allowed.
func alike(a, b map[int]string) bool {
	for pos, verb := range a {
		if peer, ok := b[pos]; !ok || verb != "" && peer != "" && verb != peer {
			return false
		}
	}
	return len(a) == len(b)
}

// Localizer formats the texts of a catalog in one language.
type Localizer struct {
	Language Language
	catalog  *Catalog
}

// In returns a Localizer for the catalog in a language.
func (b *Catalog) In(l Language) Localizer { return Localizer{l, b} }

// Chinese reports whether the language is Chinese.
func (s Localizer) Chinese() bool { return s.Language == Chinese }

// Say formats the text of a key; it returns an error if the key does not exist or the number of arguments is wrong.
func (s Localizer) Say(key string, values ...any) (string, error) {
	if err := s.catalog.checkArgs(key, len(values)); err != nil {
		return "", err
	}
	return s.fill(key, values), nil
}

// Has reports whether the catalog contains a key.
func (s Localizer) Has(key string) bool { return s.catalog.Has(key) }

// oneSuffix is the end of the key of a singular text, which exists if the singular differs from the plural.
const oneSuffix = ".one"

// Errorf returns a text as an error; errors.Is finds an argument that the text formats with %w. Errorf panics if the key does not
// exist or the number of arguments is wrong.
func (s Localizer) Errorf(key string, values ...any) error {
	if err := s.catalog.checkArgs(key, len(values)); err != nil {
		panic(err)
	}
	text, said := s.form(key, values)
	if len(said) == 0 {
		return errors.New(text)
	}
	return fmt.Errorf(text, said...)
}

// fill formats the text of a key that exists.
func (s Localizer) fill(key string, values []any) string {
	text, said := s.form(key, values)
	if len(said) == 0 {
		return text
	}
	return fmt.Sprintf(text, said...)
}

// form returns the text of a key that exists, and its arguments, in the language of the Localizer. If the first argument is 1 and the
// language has a text for key.one, form returns that text.
func (s Localizer) form(key string, values []any) (text string, said []any) {
	text = s.catalog.texts[s.Language]()[key]
	if len(values) == 0 {
		return text, nil
	}
	if single, ok := s.catalog.texts[s.Language]()[key+oneSuffix]; ok && fmt.Sprint(values[0]) == "1" {
		text = single
		if len(places(single)) == 0 {
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

// Has reports whether the catalog contains a key.
func (b *Catalog) Has(key string) bool { _, ok := b.texts[English]()[key]; return ok }

// checkArgs returns an error if the key does not exist or takes a different number of arguments.
func (b *Catalog) checkArgs(key string, value int) error {
	text, ok := b.texts[English]()[key]
	if !ok {
		return fmt.Errorf("unknown message key %q", key)
	}
	if want := len(places(text)); want != value {
		return fmt.Errorf("message %q takes %d arguments, got %d", key, want, value)
	}
	return nil
}

// Message is a text key with its arguments, independent of a language. The zero Message is empty.
type Message struct {
	catalog *Catalog
	key     string
	args    []any
	plain   string
}

// Text returns a Message for a key and its arguments. An argument may be a Message too. Text panics if the key does not exist or
// the number of arguments is wrong: the test TestTranslations_KeysAndArgumentsMatch finds such calls in the code.
func (b *Catalog) Text(key string, values ...any) Message {
	if err := b.checkArgs(key, len(values)); err != nil {
		panic(err)
	}
	return Message{catalog: b, key: key, args: values}
}

// Literal returns a Message with a text from elsewhere that is not translated, such as an operating system or database error.
func Literal(text string) Message { return Message{plain: text} }

// In returns the message in a language.
func (t Message) In(l Language) string {
	if t.catalog == nil {
		return t.plain
	}
	return t.catalog.In(l).fill(t.key, t.args)
}

// String returns the message in English, for programs and logs.
func (t Message) String() string { return t.In(English) }

// English and Chinese return the message in English and in Chinese, for responses and pages with both languages.
func (t Message) English() string { return t.In(English) }
func (t Message) Chinese() string { return t.In(Chinese) }

// IsZero reports whether the message is empty.
func (t Message) IsZero() bool { return t.catalog == nil && t.plain == "" }

// MarshalText returns the message in English, so that programs read only one language.
func (t Message) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Cookie is the name of the cookie with the language that the reader has chosen.
const Cookie = "qrjump_lang"

// Sentences joins sentences of a language into a paragraph.
func Sentences(l Language, list []string) string {
	if l == Chinese {
		return strings.Join(list, "")
	}
	return strings.Join(list, " ")
}

// Parse returns the language for the codes zh and en, with or without a region.
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

// Preferred returns the language of a request: the parameter ?lang=, else the cookie, else Accept-Language, else English.
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

// ParseAcceptLanguage returns the supported language with the highest weight in an Accept-Language header. Among equal weights, the
// first language counts; without a supported language, the result is English.
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

// Grouped returns a number with thousands separators.
func Grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
