// Package require has the checks of package assert. A failed check ends the test.
package require

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// T is implemented by *testing.T, *testing.B and *testing.F.
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

// NoErrorf is NoError with a description of the operation.
func NoErrorf(t T, err error, format string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatal(fmt.Sprintf(format, args...)+":", err)
	}
}

// Equal ends the test if got is not want. The format describes got.
func Equal[V comparable](t T, got, want V, format string, args ...any) {
	t.Helper()
	if got != want {
		t.Fatal(assert.Difference(got, want, format, args...))
	}
}

// True ends the test with a message if ok is false.
func True(t T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Fatal(fmt.Sprintf(format, args...))
	}
}

// ErrorIs ends the test if errors.Is(err, target) is false. The format describes the operation.
func ErrorIs(t T, err, target error, format string, args ...any) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatal(assert.Difference(err, target, format, args...))
	}
}

// Contains ends the test if text does not contain part. The format describes the text.
func Contains(t T, text, part, format string, args ...any) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatal(fmt.Sprintf(format, args...), "lacks", part, "in", text)
	}
}

// Value returns a function that returns the value of a call, or ends the test if the call returned an error:
//
//	text := require.Value(os.ReadFile(name))(t)
func Value[V any](v V, err error) func(T) V {
	return func(t T) V {
		t.Helper()
		NoError(t, err)
		return v
	}
}

// All returns the values of a sequence. It ends the test at the first error.
func All[V any](t T, seq iter.Seq2[V, error]) (list []V) {
	t.Helper()
	for v, err := range seq {
		NoError(t, err)
		list = append(list, v)
	}
	return list
}
