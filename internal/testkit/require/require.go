// Package require ends a test at once when something it needs is not so.
package require

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// T is the part of a test that is used; *testing.T, *testing.B and *testing.F implement it.
type T interface {
	Helper()
	Fatal(...any)
}

// NoError ends the test with the error if there is one. Call it on the test's goroutine.
func NoError(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// NoErrorf is NoError that also says what was done.
func NoErrorf(t T, err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Sprintf(format, args...)+":", err)
	}
}

// Equal ends the test if got is not want; the format says what was got.
func Equal[V comparable](t T, got, want V, format string, args ...any) {
	t.Helper()
	if got != want {
		t.Fatal(assert.Difference(got, want, format, args...))
	}
}

// True ends the test with a message if a condition does not hold.
func True(t T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Fatal(fmt.Sprintf(format, args...))
	}
}

// ErrorIs ends the test if errors.Is(err, target) is false; the format says what was done.
func ErrorIs(t T, err, target error, format string, args ...any) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatal(assert.Difference(err, target, format, args...))
	}
}

// Contains ends the test if a text does not have a part; the format says what the text is.
func Contains(t T, text, part, format string, args ...any) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatal(fmt.Sprintf(format, args...), "lacks", part, "in", text)
	}
}

// All returns the values of a sequence, and ends the test with the first error.
func All[V any](t T, seq iter.Seq2[V, error]) (list []V) {
	t.Helper()
	for v, err := range seq {
		NoError(t, err)
		list = append(list, v)
	}
	return list
}
