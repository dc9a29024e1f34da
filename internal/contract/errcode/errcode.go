// Package errcode defines every error code that a client of the platform API can receive: its text, its meaning, the recommended
// action and the evidence for it. Package errcode is independent of the packages that return the error codes.
package errcode

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// Code is one row of the error code table in codes.go.
type Code struct {
	Number int
	Text   string // errmsg, without the request ID that follows it
	// Evidence is the level of evidence for the text: Observed in a real response of the platform, Documented but never observed, or
	// Inferred for a text that qrjump chose, because no source gives it.
	Evidence behaviour.Evidence
}

// Error makes *Code an error, so that functions can return a row of the table directly.
func (c *Code) Error() string { return fmt.Sprintf("%d %s", c.Number, c.Text) }

// Meaning describes when the error code is returned, and Cure describes the action for the caller. Meaning and Cure are empty for
// an error number that an emulator fault invents.
func (c *Code) Meaning() i18n.Message { return known(strconv.Itoa(c.Number)) }
func (c *Code) Cure() i18n.Message    { return known(strconv.Itoa(c.Number) + ".do") }

func known(key string) i18n.Message {
	if !book.Has(key) {
		return i18n.Message{}
	}
	return book.Text(key)
}

// WithDetail returns an error with this code, the behaviour that decided the result, and a detail text that names the object and the
// reason. The behaviour and the detail go to the log and to the record of the call; only endpoints of some families also put the detail
// into the response.
func (c *Code) WithDetail(row behaviour.Row, format string, args ...any) error {
	return &Detailed{Code: c, Row: row, Detail: fmt.Sprintf(format, args...)}
}

// WithRow returns an error with this code and a behaviour that explains the error completely, without a detail text.
func (c *Code) WithRow(row behaviour.Row) error { return &Detailed{Code: c, Row: row} }

// Strict returns the error of strict mode for a deviation; the caller must first check that the settings reject the deviation.
func Strict(row behaviour.Row, format string, args ...any) error {
	d, _ := row.Deviation()
	code, known := ByNumber(d.Refusal)
	if !known {
		panic("errcode: strict cannot turn " + row.String())
	}
	return code.WithDetail(row, "strict: "+format, args...)
}

// Reworded returns a copy of the code with another text, for the few error texts that quote request data.
func (c *Code) Reworded(format string, args ...any) *Code {
	copied := *c
	copied.Text = fmt.Sprintf(format, args...)
	return &copied
}

// Addressed returns the code with the caller's IP address in its text, as the platform formats it for 40090, 40164 and 61004.
// Contract: rules §3.1, §3.2.
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

// Is lets errors.Is match a reworded code by its number.
func (c *Code) Is(target error) bool {
	code, ok := target.(*Code)
	return ok && code.Number == c.Number
}

// Detailed is an error code with the behaviour that decided the result and a detail text.
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

// Unwrap lets errors.Is find the error code.
func (d *Detailed) Unwrap() error { return d.Code }

// FromError returns the error code that err carries, and its detail text. For an error without an error code, FromError returns
// SystemError with an empty detail: the cause goes only to the log.
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

// RowOf returns the behaviour that caused the rejection in err; 0 = none.
func RowOf(err error) behaviour.Row {
	if d, ok := errors.AsType[*Detailed](err); ok {
		return d.Row
	}
	return 0
}

// All returns every code in the order of codes.go.
func All() []*Code { return all }

// ByNumber returns the code with the given number; ok is false if the table has none.
func ByNumber(number int) (code *Code, ok bool) {
	for _, c := range all {
		if c.Number == number {
			return c, true
		}
	}
	return nil, false
}

var all []*Code

func define(number int, text string, evidence behaviour.Evidence) *Code {
	c := &Code{Number: number, Text: text, Evidence: evidence}
	all = append(all, c)
	return c
}

// Unavailable is an error of a dependency of the server, such as the database, that no client can fix. On the platform API,
// Unavailable becomes SystemError, like every error without an error code; on the server's own APIs it becomes HTTP 503.
type Unavailable struct {
	Location  string // location of the dependency, without a password: "database db1:5432/qrjump"
	Condition string // "is read-only"
	Do        string // next step for the operator
	Err       error  // underlying error
}

// Error returns one line: the event, its location, and the next step.
func (o *Unavailable) Error() string {
	return o.Location + " " + o.Condition + ": " + o.Do + " (" + strings.Join(strings.Fields(o.Err.Error()), " ") + ")"
}

// Unwrap returns the underlying error.
func (o *Unavailable) Unwrap() error { return o.Err }
