//go:build ignore

// Command common_generate generates common.txt.gz from the password list of zxcvbn-ts (MIT, common.LICENSE.txt): the passwords without
// the digits and signs at their ends, and the complete passwords that are long enough for this server.
//
//	npm pack @zxcvbn-ts/language-common@4.1.3 && tar xzf zxcvbn-ts-language-common-4.1.3.tgz
//	go run common_generate.go package/src/passwords.json
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"log"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var list []string
	if err := json.Unmarshal(text, &list); err != nil {
		log.Fatal(err)
	}
	var kept []string
	for _, word := range list {
		word = strings.ToLower(word)
		core := strings.TrimFunc(word, func(r rune) bool { return !unicode.IsLetter(r) })
		if utf8.RuneCountInString(core) >= 6 {
			kept = append(kept, core)
		}
		if utf8.RuneCountInString(word) >= 12 {
			kept = append(kept, word)
		}
	}
	slices.Sort(kept)
	kept = slices.Compact(kept)
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		log.Fatal(err)
	}
	w.Write([]byte(strings.Join(kept, "\n")))
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("common.txt.gz", b.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
	log.Println(len(kept), "entries,", b.Len(), "bytes")
}
