package gs1

import (
	_ "embed"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"
)

//go:embed lists.txt
var listsText string

// lists maps the name of a list to the values that a check with this list allows.
var lists = sync.OnceValue(func() map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for line := range strings.Lines(listsText) {
		fields := strings.Fields(line)
		if fields[0] == "#" {
			continue
		}
		if all[fields[0]] == nil {
			all[fields[0]] = map[string]bool{}
		}
		for _, value := range fields[1:] {
			all[fields[0]][value] = true
		}
	}
	return all
})

// checks maps the check names of the dictionary to functions that check a part of a value, after its characters have been checked.
var checks = map[string]func(ai, value string) error{
	"csum":          checkDigit,
	"csumalpha":     checkPair,
	"gcppos1":       func(ai, v string) error { return companyPrefix(ai, v) },
	"gcppos2":       func(ai, v string) error { return companyPrefix(ai, v[1:]) },
	"iso3166":       listed("iso3166", "number of a country (ISO 3166)"),
	"iso3166999":    country999,
	"iso3166alpha2": listed("iso3166alpha2", "country of two letters (ISO 3166)"),
	"iso4217":       listed("iso4217", "number of a currency (ISO 4217)"),
	"mediatype":     listed("mediatype", "AIDC media type"),
	"packagetype":   listed("packagetype", "kind of package"),
	"yymmdd":        func(ai, v string) error { return day(ai, "20"+v, false) },
	"yymmd0":        func(ai, v string) error { return day(ai, "20"+v, true) },
	"yyyymmdd":      func(ai, v string) error { return day(ai, v, false) },
	"yyyymmd0":      func(ai, v string) error { return day(ai, v, true) },
	"hh":            atMost(23, "hour"),
	"mi":            atMost(59, "minute"),
	"ss":            atMost(59, "second"),
	"hhmi":          hourMinute,
	"latitude":      atMost(1800000000, "latitude"),
	"longitude":     atMost(3600000000, "longitude"),
	"pieceoftotal":  pieceOfTotal,
	"posinseqslash": positionOfEnd,
	"nonzero":       func(ai, v string) error { return errorUnless(strings.Trim(v, "0") != "", ai, v, "number above 0") },
	"zero":          func(ai, v string) error { return errorUnless(strings.Trim(v, "0") == "", ai, v, "0") },
	"nozeroprefix":  func(ai, v string) error { return errorUnless(v[0] != '0', ai, v, "number without a 0 before it") },
	"yesno":         oneOf("01"),
	"winding":       oneOf("019"),
	"iso5218":       oneOf("0129"),
	"hyphen":        oneOf("-"),
	"hasnondigit": func(ai, v string) error {
		return errorUnless(strings.Trim(v, "0123456789") != "", ai, v, "value with a letter")
	},
	"importeridx":    importer,
	"pcenc":          percents,
	"iban":           iban,
	"couponcode":     coupon,
	"couponposoffer": positiveOffer,
}

func errorUnless(right bool, ai, value, want string) error {
	if right {
		return nil
	}
	return invalidf("AI (%s): %q is no %s", ai, value, want)
}

func listed(name, want string) func(ai, value string) error {
	return func(ai, value string) error { return errorUnless(lists()[name][value], ai, value, want) }
}

func country999(ai, value string) error {
	if value == "999" {
		return nil
	}
	return listed("iso3166", "number of a country (ISO 3166)")(ai, value)
}

func oneOf(set string) func(ai, value string) error {
	return func(ai, value string) error {
		return errorUnless(len(value) == 1 && strings.Contains(set, value), ai, value, "one of "+set)
	}
}

func atMost(limit int, want string) func(ai, value string) error {
	return func(ai, value string) error { return errorUnless(number(value) <= limit, ai, value, want) }
}

func checkDigit(ai, value string) error {
	body, last := value[:len(value)-1], value[len(value)-1]
	if right := CheckDigit(body); last != right {
		return invalidf("AI (%s): %s has the wrong check digit %c: want %c", ai, value, last, right)
	}
	return nil
}

// companyPrefix checks that the value begins with a possible GS1 Company Prefix: at least four digits.
func companyPrefix(ai, value string) error {
	digits := strings.IndexFunc(value+"-", func(r rune) bool { return r < '0' || r > '9' })
	return errorUnless(digits >= 4, ai, value, "value that begins with a GS1 Company Prefix")
}

// set82 and set32 are the character sets of General Specifications, figures 7.11-1 and 7.9.5-2; the index of a character is its value.
const (
	set82 = `!"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz`
	set32 = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
)

// CheckPair returns the pair of check characters of an alphanumeric key (General Specifications, 7.9.5): each character is weighted
// with a prime, the last character with the smallest.
func CheckPair(body string) string {
	sum, prime := 0, 1
	for i := len(body) - 1; i >= 0; i-- {
		for prime++; !big.NewInt(int64(prime)).ProbablyPrime(0); prime++ { // exact below 2^64
		}
		sum += strings.IndexByte(set82, body[i]) * prime
	}
	sum %= 1021
	return string([]byte{set32[sum/32], set32[sum%32]})
}

func checkPair(ai, value string) error {
	body := value[:max(0, len(value)-2)]
	if right := CheckPair(body); value != body+right {
		return invalidf("AI (%s): %s has the wrong pair of check characters: want %s", ai, value, right)
	}
	return nil
}

// day checks a date; if open is true, the day 00 is allowed and means the last day of the month.
func day(ai, value string, open bool) error {
	if open && strings.HasSuffix(value, "00") {
		value = value[:6] + "01"
	}
	_, err := time.Parse("20060102", value)
	return errorUnless(err == nil, ai, value, "day")
}

func hourMinute(ai, value string) error {
	return errorUnless(number(value[:2]) <= 23 && number(value[2:]) <= 59, ai, value, "hour with a minute")
}

func pieceOfTotal(ai, value string) error {
	half := len(value) / 2
	piece, total := number(value[:half]), number(value[half:])
	return errorUnless(0 < piece && piece <= total, ai, value, "piece of a total")
}

func positionOfEnd(ai, value string) error {
	position, end, _ := strings.Cut(value, "/")
	right := position != "" && end != "" && position[0] != '0' && end[0] != '0' && strings.Trim(position+end, "0123456789") == "" &&
		number(position) <= number(end)
	return errorUnless(right, ai, value, "position in a sequence, such as 1/3")
}

func importer(ai, value string) error {
	return errorUnless(len(value) == 1 && strings.IndexFunc(value, func(r rune) bool { return !in('Z', r) || r == '=' }) < 0,
		ai, value, "index of an importer")
}

// percents checks a text that contains percent-encoded characters.
func percents(ai, value string) error {
	_, err := url.PathUnescape(value)
	return errorUnless(err == nil, ai, value, "text in percent-coding")
}

// iban checks an international bank account number: ISO 13616, modulo 97.
func iban(ai, value string) error {
	right := len(value) > 10 && lists()["iso3166alpha2"][value[:2]]
	rest := 0
	for i := 4; right && i < len(value)+4; i++ {
		switch c := value[i%len(value)]; {
		case '0' <= c && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case 'A' <= c && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			right = false
		}
	}
	return errorUnless(right && rest == 1, ai, value, "account number (IBAN)")
}

// ValidGTIN reports whether a text is an EAN-8, UPC-A, EAN-13 or GTIN-14 with a correct check digit.
func ValidGTIN(text string) bool {
	switch n := len(text); n {
	case 8, 12, 13, 14:
		return strings.Trim(text, anyDigit) == "" && CheckDigit(text[:n-1]) == text[n-1]
	}
	return false
}
