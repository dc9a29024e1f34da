package gs1

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// random returns a random value that is valid for the AI.
func (a *application) random(r *rand.Rand) string {
	for {
		var b strings.Builder
		for _, p := range a.parts {
			if p.optional && r.IntN(2) == 0 {
				break
			}
			b.WriteString(p.random(r))
		}
		if value := b.String(); a.check(value) == nil {
			return value
		}
	}
}

// random returns a random value with the format of the part, valid for most of its checks.
func (p part) random(r *rand.Rand) string {
	set := map[byte]string{'N': anyDigit, 'X': set82, 'Y': anyDigit + "ABCDEFGHIJKLMNOPQRSTUVWXYZ#-/",
		'Z': anyDigit + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"}[p.set]
	n := p.min + r.IntN(p.max-p.min+1)
	has := func(name string) bool { return slices.Contains(p.checks, name) }
	text := make([]byte, n)
	for i := range text {
		text[i] = set[r.IntN(len(set))]
	}
	for i := 0; i < min(n, 5) && (has("gcppos1") || has("gcppos2")); i++ {
		text[i] = anyDigit[r.IntN(10)]
	}
	digits := func(format string, limits ...int) string {
		args := make([]any, len(limits))
		for i, limit := range limits {
			args[i] = r.IntN(limit)
		}
		return fmt.Sprintf(format, args...)
	}
	switch {
	case has("csum"):
		text[n-1] = CheckDigit(string(text[:n-1]))
	case has("csumalpha") && n > 2:
		return string(text[:n-2]) + CheckPair(string(text[:n-2]))
	case has("pieceoftotal"):
		return digits("%02d", 9) + "99"
	case has("posinseqslash"):
		return digits("%d/9", 10)
	case has("iban"):
		body := fmt.Sprintf("%018d", r.Int64N(1e18))
		for check := range 98 {
			if text := fmt.Sprintf("DE%02d%s", check, body); iban("8007", text) == nil {
				return text
			}
		}
		return ""
	case has("couponcode"):
		return digits("0%06d%06d1%d1%d0%03d", 1e6, 1e6, 10, 10, 1000)
	case has("couponposoffer"):
		return digits("00%06d%06d0%06d", 1e6, 1e6, 1e6)
	case has("hhmi"):
		return digits("%02d%02d", 24, 60)
	case has("yymmdd"), has("yymmd0"):
		return fmt.Sprintf("%02d%02d%02d", r.IntN(100), 1+r.IntN(12), 1+r.IntN(28))
	case has("yyyymmdd"):
		return fmt.Sprintf("%04d%02d%02d", 1900+r.IntN(200), 1+r.IntN(12), 1+r.IntN(28))
	case has("latitude"):
		return digits("%010d", 1800000001)
	case has("longitude"):
		return digits("%010d", 3600000001)
	case has("hyphen"):
		return "-"
	}
	for _, name := range []string{"iso3166", "iso3166999", "iso3166alpha2", "iso4217", "mediatype", "packagetype"} {
		if has(name) {
			list := slices.Sorted(maps.Keys(lists()[strings.TrimSuffix(name, "999")]))
			return list[r.IntN(len(list))]
		}
	}
	return string(text)
}

// randomData returns random valid data: a primary key, some of its qualifiers, and attributes that may be combined with them.
func randomData(r *rand.Rand) Data {
	keys := PrimaryKeys()
	primary := lookup(keys[r.IntN(len(keys))])
	list := []Element{{primary.ai, primary.random(r)}}
	order := primary.qualifiers[r.IntN(len(primary.qualifiers))]
	for _, ai := range order {
		if r.IntN(2) == 0 {
			list = append(list, Element{ai, lookup(ai).random(r)})
		}
	}
	all, key := slices.Sorted(maps.Keys(dictionary())), keyOf(list)
	for range r.IntN(5) {
		a := lookup(all[r.IntN(len(all))])
		more := append(slices.Clone(list), Element{a.ai, a.random(r)})
		if _, found := find(list, a.ai); found || !a.data || attribute(a.ai, key) != nil || checkCombination(more) != nil {
			continue
		}
		list = more
	}
	if checkCombination(list) != nil { // 415 requires 8020
		return randomData(r)
	}
	n := len(key.elements)
	return Data{Key: key, Attributes: list[n:]}
}
