// Package testscope selects the size of a test run: `make test` runs a sample of the cases, `make test-all` and `make chaos` run all.
package testscope

import (
	"os"
	"testing"
)

// Variable is the environment variable that selects a complete run: any value except "" and "0".
const Variable = "TEST_WHOLE"

// Run reports whether this run is complete.
func Run() bool {
	value := os.Getenv(Variable)
	return value != "" && value != "0"
}

// Choose returns complete in a complete run, otherwise part: a number of rows, codes, rounds or simulations.
func Choose[T any](complete, part T) T {
	if Run() {
		return complete
	}
	return part
}

// WholeOnly skips a test unless the run is complete. The reason names the tests of `make test` that cover the same behaviour.
func WholeOnly(t testing.TB, reason string) {
	t.Helper()
	if !Run() {
		t.Skipf("left to make test-all (%s=1): %s", Variable, reason)
	}
}
