// Package testscope says how much of a test runs: `make test` plays each thing once, `make test-all` and `make chaos` play all of it.
package testscope

import (
	"os"
	"testing"
)

// Variable is the environment variable that asks for the whole: any text but "" and "0" does.
const Variable = "TEST_WHOLE"

// Run reports whether this run is a whole one.
func Run() bool {
	asked := os.Getenv(Variable)
	return asked != "" && asked != "0"
}

// Choose is complete in a whole run and part in any other. Tests choose by it how many rows, codes, rounds or simulated worlds
// they look at.
func Choose[T any](complete, part T) T {
	if Run() {
		return complete
	}
	return part
}

// WholeOnly leaves a test to whole runs. The reason says what the rest of `make test` has seen of the same thing.
func WholeOnly(t testing.TB, reason string) {
	t.Helper()
	if !Run() {
		t.Skipf("left to make test-all (%s=1): %s", Variable, reason)
	}
}
