package codes

// ValidGTIN reports whether a text is an EAN-8, UPC-A, EAN-13 or GTIN-14 with
// a right check digit (GS1 General Specifications, 7.9: weights 3 and 1 from
// the right).
func ValidGTIN(text string) bool {
	switch len(text) {
	case 8, 12, 13, 14:
	default:
		return false
	}
	sum := 0
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return false
		}
		digit := int(c - '0')
		if (len(text)-i)%2 == 0 {
			digit *= 3
		}
		sum += digit
	}
	return sum%10 == 0
}
