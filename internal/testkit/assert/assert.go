// Package assert compares what a test got with what it wants, and lets the test go on.
package assert

import "fmt"

// T is the part of a test that is used; *testing.T, *testing.B and *testing.F implement it.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Equal fails the test if got is not want; the format says what was got.
func Equal[V comparable](t T, got, want V, format string, args ...any) {
	t.Helper()
	if got != want {
		t.Errorf("%s", Difference(got, want, format, args...))
	}
}

// True fails the test with a message if a condition does not hold.
func True(t T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}

// Difference returns the message of Equal, with texts in quotes.
func Difference[V any](got, want V, format string, args ...any) string {
	verb := "%v"
	if _, ok := any(got).(string); ok {
		verb = "%q"
	}
	return fmt.Sprintf("%s = "+verb+", want "+verb, fmt.Sprintf(format, args...), got, want)
}
