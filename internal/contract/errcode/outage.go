package errcode

import "strings"

// Unavailable is the fault of something that the server depends on and no caller can
// mend. On the platform's wire it is SystemError, as every error without a row;
// on our own APIs it is 503.
type Unavailable struct {
	Where string // "database db1:5432/qrjump", without a password
	What  string // "is read-only"
	Do    string // what the operator does next
	Err   error  // what was behind it
}

// Error is one line: what happened, where, and what to do.
func (o *Unavailable) Error() string {
	return o.Where + " " + o.What + ": " + o.Do + " (" + strings.Join(strings.Fields(o.Err.Error()), " ") + ")"
}

// Unwrap gives what was behind it.
func (o *Unavailable) Unwrap() error { return o.Err }
