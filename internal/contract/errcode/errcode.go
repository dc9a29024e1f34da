// Package errcode knows every number that a caller of the wire can see: its
// text, what it means, what to do about it and how we know. It knows nothing of who returns it.
package errcode

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// Evidence says how we know a code's text.
type Evidence string

const (
	// Observed: quoted from a live answer of the platform.
	Observed Evidence = "observed"
	// Documented: documented, never quoted from a live answer.
	Documented Evidence = "documented"
	// Inferred texts are our choice where every source is silent.
	Inferred Evidence = "inferred"
)

// Code is one row of the list in codes.go.
type Code struct {
	Number   int
	Text     string // errmsg, before the request id
	Evidence Evidence
}

// Error makes a code an error, so that a decision returns the row itself.
func (c *Code) Error() string { return fmt.Sprintf("%d %s", c.Number, c.Text) }

// Meaning returns when the code is answered, and Cure the action for its caller. A number that a fault of the emulator invents has
// neither.
func (c *Code) Meaning() i18n.Message { return known(strconv.Itoa(c.Number)) }
func (c *Code) Cure() i18n.Message    { return known(strconv.Itoa(c.Number) + ".do") }

func known(key string) i18n.Message {
	if !book.Has(key) {
		return i18n.Message{}
	}
	return book.Text(key)
}

// WithDetail returns the code with the row that decided, and a detail that says which
// thing and why. Both go to the log and to the record of the call; whether the
// detail is also shown on the wire is a property of the endpoint's family.
func (c *Code) WithDetail(row behaviour.Row, format string, args ...any) error {
	return &Detailed{Code: c, Row: row, Detail: fmt.Sprintf(format, args...)}
}

// WithRow is With for a row that says all that there is to say.
func (c *Code) WithRow(row behaviour.Row) error { return &Detailed{Code: c, Row: row} }

// Strict returns the refusal of what a row lets pass, where the operator wants it refused.
func Strict(row behaviour.Row, format string, args ...any) error {
	d, _ := row.Deviation()
	code, known := ByNumber(d.Refusal)
	if !known {
		panic("errcode: strict cannot turn " + row.String())
	}
	return code.WithDetail(row, "strict: "+format, args...)
}

// Reworded returns the code with another text on the wire, for the few texts
// that quote the caller.
func (c *Code) Reworded(format string, args ...any) *Code {
	otherCode := *c
	otherCode.Text = fmt.Sprintf(format, args...)
	return &otherCode
}

// Addressed returns the code with the caller's address in its text where the
// platform's text has it: 40090, 40164 and 61004. Contract: rules 3.1, 3.2.
func (c *Code) Addressed(ip netip.Addr) *Code {
	ip = ip.Unmap()
	switch c {
	case InvalidIP:
		return c.Reworded("%s %s ipv6 %s, not in whitelist", c.Text, ip, netip.AddrFrom16(ip.As16()))
	case InvalidSource:
		return c.Reworded("%s, requestIP: %s", c.Text, ip)
	case ComponentIP:
		return c.Reworded("%s requestIP: %s", c.Text, ip)
	}
	return c
}

// Is makes errors.Is find a reworded code by its number.
func (c *Code) Is(target error) bool {
	otherCode, ok := target.(*Code)
	return ok && otherCode.Number == c.Number
}

// Detailed is a code with the behaviour that it is part of and what exactly was wrong.
type Detailed struct {
	Code   *Code
	Row    behaviour.Row
	Detail string
}

func (d *Detailed) Error() string {
	if d.Detail == "" {
		return d.Code.Error()
	}
	return d.Code.Error() + ": " + d.Detail
}

// Unwrap makes errors.Is find the row.
func (d *Detailed) Unwrap() error { return d.Code }

// FromError returns the row that err carries and its detail. An error without a row
// is SystemError with an empty detail: what was behind it is for the log only.
func FromError(err error) (*Code, string) {
	if err == nil {
		return OK, ""
	}
	if d, ok := errors.AsType[*Detailed](err); ok {
		return d.Code, d.Detail
	}
	if c, ok := errors.AsType[*Code](err); ok {
		return c, ""
	}
	return SystemError, ""
}

// RowOf returns the row of the refusal that err carries; 0 = none.
func RowOf(err error) behaviour.Row {
	if d, ok := errors.AsType[*Detailed](err); ok {
		return d.Row
	}
	return 0
}

// All returns every code in the order of codes.go.
func All() []*Code { return all }

// ByNumber returns the row with a number; ok is false where the list has none.
func ByNumber(number int) (code *Code, ok bool) {
	for _, c := range all {
		if c.Number == number {
			return c, true
		}
	}
	return nil, false
}

var all []*Code

func define(number int, text string, evidence Evidence) *Code {
	c := &Code{Number: number, Text: text, Evidence: evidence}
	all = append(all, c)
	return c
}
