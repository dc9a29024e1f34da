package errcode

import "strings"

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
