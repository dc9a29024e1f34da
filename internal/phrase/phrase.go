// Package phrase knows the texts of pages, each in the language that its reader
// prefers.
package phrase

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
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

// Book is what one kind of page says, in every language.
type Book struct {
	texts map[Language]map[string]string
}

// Must reads the texts of both languages from a folder. It panics on a book that
// lacks a text or has an empty one: such a program would not have passed its tests.
func Must(folder fs.FS) *Book {
	b := &Book{texts: map[Language]map[string]string{}}
	for language, end := range Languages {
		names, err := fs.Glob(folder, "*"+end)
		if err != nil || len(names) == 0 {
			panic(fmt.Errorf("no file is named …%s: %v", end, err))
		}
		b.texts[language] = map[string]string{}
		for _, name := range names {
			b.read(language, folder, name)
		}
	}
	if faults := b.Faults(); len(faults) > 0 {
		panic(strings.Join(faults, "\n"))
	}
	return b
}

// read takes in a file, which says nothing that another one says.
func (b *Book) read(language Language, folder fs.FS, name string) {
	text, err := fs.ReadFile(folder, name)
	if err != nil {
		panic(err)
	}
	texts := map[string]string{}
	if err := json.Unmarshal(text, &texts); err != nil {
		panic(fmt.Errorf("%s: %w", name, err))
	}
	for key, one := range texts {
		if _, twice := b.texts[language][key]; twice {
			panic(fmt.Sprintf("%s: another file has %s too", name, key))
		}
		b.texts[language][key] = one
	}
}

var verb = regexp.MustCompile(`%(?:\[\d+\])?[a-z]|%%`)

// Faults are the texts that one language has and the other lacks, that are empty,
// or that have other places to fill in.
func (b *Book) Faults() (faults []string) {
	for language, texts := range b.texts {
		for key, text := range texts {
			if strings.TrimSpace(text) == "" {
				faults = append(faults, fmt.Sprintf("%s: %s is empty", language, key))
			}
			for other, others := range b.texts {
				same, ok := others[key]
				// Chinese has one form for any number.
				if !ok && !strings.HasSuffix(key, ".one") {
					faults = append(faults, fmt.Sprintf("%s: %s is missing", other, key))
				}
				if ok && !slices.Equal(places(text), places(same)) {
					faults = append(faults, fmt.Sprintf("%s has other places to fill in %s than %s", key, language, other))
				}
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// places are the places of a text that are filled in, by their number.
func places(text string) (list []string) {
	for i, one := range verb.FindAllString(text, -1) {
		if !strings.Contains(one, "[") && one != "%%" {
			one = "%[" + strconv.Itoa(i+1) + "]" + one[1:]
		}
		list = append(list, one)
	}
	slices.Sort(list)
	return list
}

// Keys are the names of all texts.
func (b *Book) Keys() (keys []string) {
	for key := range b.texts[English] {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Speaker says the texts of a book in one language.
type Speaker struct {
	Language Language
	book     *Book
}

// In is the book in a language.
func (b *Book) In(l Language) Speaker { return Speaker{l, b} }

// Chinese reports whether the language is Chinese.
func (s Speaker) Chinese() bool { return s.Language == Chinese }

// Say is a text with its places filled in; an error for a key that the book lacks.
func (s Speaker) Say(key string, with ...any) (string, error) {
	text, ok := s.book.texts[s.Language][key]
	if !ok {
		return "", fmt.Errorf("no text is called %q", key)
	}
	if len(with) == 0 {
		return text, nil
	}
	return fmt.Sprintf(text, with...), nil
}

// Has reports whether the book has a text.
func (s Speaker) Has(key string) bool { _, ok := s.book.texts[s.Language][key]; return ok }

// Count is a text that speaks of n things: key.one in English where there is one,
// else key.
func (s Speaker) Count(key string, n int) (string, error) {
	if n == 1 && s.Has(key+".one") {
		return s.Say(key + ".one")
	}
	return s.Say(key, n)
}

// Cookie is where a browser keeps the language that its reader chose.
const Cookie = "qrjump_lang"

// Parse is the language that a short name means: zh and en, with or without a
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

// Preferred is the language of a request: what ?lang= asks for, else what the
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
	return Accepted(r.Header.Get("Accept-Language"))
}

// Accepted is the language of ours with the highest weight in an Accept-Language, of
// equal ones the first; English where it names none.
func Accepted(header string) Language {
	best, chosen := 0.0, English
	for one := range strings.SplitSeq(header[:min(len(header), 1024)], ",") {
		tag, parameters, _ := strings.Cut(one, ";")
		language, ours := Parse(tag)
		if !ours {
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
