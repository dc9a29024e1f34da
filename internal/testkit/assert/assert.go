// Package assert compares what a test got with what it wants, and lets the test go on.
package assert

import (
	"errors"
	"fmt"
	"strings"
)

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

// NoError fails the test with the error if there is one.
func NoError(t T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%v", err)
	}
}

// NoErrorf is NoError that also says what was done.
func NoErrorf(t T, err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// ErrorIs fails the test if errors.Is(err, target) is false; the format says what was done.
func ErrorIs(t T, err, target error, format string, args ...any) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s", Difference(err, target, format, args...))
	}
}

// Contains fails the test if a text does not have a part; the format says what the text is.
func Contains(t T, text, part, format string, args ...any) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%s lacks %q:\n%s", fmt.Sprintf(format, args...), part, text)
	}
}

// ErrorOf returns the error of a call that returns a value too.
func ErrorOf[V any](_ V, err error) error { return err }

// Difference returns the message of Equal, with texts in quotes.
func Difference[V any](got, want V, format string, args ...any) string {
	verb := "%v"
	if _, ok := any(got).(string); ok {
		verb = "%q"
	}
	return fmt.Sprintf("%s = "+verb+", want "+verb, fmt.Sprintf(format, args...), got, want)
}
