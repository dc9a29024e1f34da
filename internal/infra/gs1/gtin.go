package gs1

import "strings"

// ValidGTIN reports whether a text is an EAN-8, UPC-A, EAN-13 or GTIN-14 with a correct check digit.
func ValidGTIN(text string) bool {
	switch n := len(text); n {
	case 8, 12, 13, 14:
		return strings.Trim(text, anyDigit) == "" && CheckDigit(text[:n-1]) == text[n-1]
	}
	return false
}
