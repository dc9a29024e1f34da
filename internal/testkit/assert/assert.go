// Package assert has checks for tests. A failed check marks the test as failed; the test continues.
package assert

import (
	"errors"
	"fmt"
	"strings"
)

// T is implemented by *testing.T, *testing.B and *testing.F.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Equal fails the test if got is not want. The format describes got.
func Equal[V comparable](t T, got, want V, format string, args ...any) {
	t.Helper()
	if got != want {
		t.Errorf("%s", Difference(got, want, format, args...))
	}
}

// True fails the test with a message if ok is false.
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

// NoErrorf is NoError with a description of the operation.
func NoErrorf(t T, err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// ErrorIs fails the test if errors.Is(err, target) is false. The format describes the operation.
func ErrorIs(t T, err, target error, format string, args ...any) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s", Difference(err, target, format, args...))
	}
}

// Contains fails the test if text does not contain part. The format describes the text.
func Contains(t T, text, part, format string, args ...any) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%s lacks %q:\n%s", fmt.Sprintf(format, args...), part, text)
	}
}

// ErrorOf returns the error of a call that also returns a value.
func ErrorOf[V any](_ V, err error) error { return err }

// Difference returns the failure message of Equal. Strings are quoted.
func Difference[V any](got, want V, format string, args ...any) string {
	verb := "%v"
	if _, ok := any(got).(string); ok {
		verb = "%q"
	}
	return fmt.Sprintf("%s = "+verb+", want "+verb, fmt.Sprintf(format, args...), got, want)
}
