package gs1

import "strings"

// fields parses the digits of a coupon, field by field. After the first invalid field, invalid stays true and all later fields are empty.
type fields struct {
	digits  string
	invalid bool
}

// take returns the next n digits.
func (f *fields) take(n int) string {
	if f.invalid = f.invalid || len(f.digits) < n; f.invalid {
		return ""
	}
	text := f.digits[:n]
	f.digits = f.digits[n:]
	return text
}

// digitOf returns the next digit, which must be one of the digits in set.
func (f *fields) digitOf(set string) byte {
	digit := f.take(1)
	if f.invalid = f.invalid || !strings.Contains(set, digit); f.invalid {
		return 0
	}
	return digit[0]
}

// sized skips a length digit, which must be one of the digits in set, and the field that follows it. The length of the skipped
// field is the value of the length digit plus extra.
func (f *fields) sized(set string, extra int) {
	if size := f.digitOf(set); size != 0 {
		f.take(int(size-'0') + extra)
	}
}

// begins skips the given digit, which starts an optional field, and reports whether it was present.
func (f *fields) begins(digit string) bool {
	if f.invalid || !strings.HasPrefix(f.digits, digit) {
		return false
	}
	f.digits = f.digits[1:]
	return true
}

const anyDigit = "0123456789"

// purchase parses the purchase requirement: the quantity, its kind, and the product family.
func (f *fields) purchase() {
	f.sized("12345", 0)
	f.digitOf("012349")
	f.take(3)
}

// company parses a company prefix; the digit 9 means the company of the first purchase.
func (f *fields) company() {
	if !f.begins("9") {
		f.sized("0123456", 6)
	}
}

// coupon checks AI 8110 according to the North American Coupon Application Guideline.
func coupon(ai, value string) error {
	f := fields{digits: value, invalid: strings.Trim(value, anyDigit) != ""}
	f.sized("0123456", 6) // company
	f.take(6)             // offer
	f.sized("12345", 0)   // save value
	f.purchase()
	if f.begins("1") {
		f.digitOf("0123")
		f.purchase()
		f.company()
	}
	if f.begins("2") {
		f.purchase()
		f.company()
	}
	var ends, starts string
	if f.begins("3") {
		ends = f.take(6)
		f.invalid = f.invalid || day(ai, "20"+ends, false) != nil
	}
	if f.begins("4") {
		starts = f.take(6)
		f.invalid = f.invalid || day(ai, "20"+starts, false) != nil || ends != "" && starts > ends
	}
	if f.begins("5") {
		f.sized(anyDigit, 6) // serial
	}
	if f.begins("6") {
		f.sized("1234567", 6) // retailer
	}
	if f.begins("9") {
		f.digitOf("01256")
		f.digitOf("012")
		f.digitOf(anyDigit)
		f.digitOf("01")
	}
	return errorUnless(!f.invalid && f.digits == "", ai, value, "coupon")
}

// positiveOffer checks AI 8112: a coupon for an offer in a positive offer file.
func positiveOffer(ai, value string) error {
	f := fields{digits: value, invalid: strings.Trim(value, anyDigit) != ""}
	f.digitOf("01")
	f.sized("0123456", 6) // funder
	f.take(6)             // offer
	f.sized(anyDigit, 6)  // serial
	return errorUnless(!f.invalid && f.digits == "", ai, value, "coupon")
}
