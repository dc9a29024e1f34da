// Package testscope selects the size of a test run: `make test` runs a sample of the cases, `make test-all` and `make chaos` run all.
package testscope

import (
	"os"
	"testing"
)

// Variable is the environment variable that selects a complete run: any value except "" and "0".
const Variable = "TEST_WHOLE"

// IsComplete reports whether this run is complete.
func IsComplete() bool {
	value := os.Getenv(Variable)
	return value != "" && value != "0"
}

// Select returns complete in a complete run, otherwise part: a number of rows, codes, rounds or simulations.
func Select[T any](complete, part T) T {
	if IsComplete() {
		return complete
	}
	return part
}

// RequireComplete skips a test unless the run is complete. The reason names the tests of `make test` that cover the same behaviour.
func RequireComplete(t testing.TB, reason string) {
	t.Helper()
	if !IsComplete() {
		t.Skipf("left to make test-all (%s=1): %s", Variable, reason)
	}
}
