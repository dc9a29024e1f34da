// Package testdiag prints information for the reproduction of a failed test: the random seed, the machine's load, the end of a log.
package testdiag

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Variable is the environment variable that gives every random test its seed.
const Variable = "QRJUMP_TEST_SEED"

// maxLogBytes is the number of bytes of a log that are printed.
const maxLogBytes = 4000

// Seed returns the seed of a random test: the value of Variable, or a random number. If the test fails, it prints the command that repeats
// the run with this seed.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(rand.Uint32())
	if text := os.Getenv(Variable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s is %q: want a number", Variable, text)
		}
	}
	OnFailure(t, func() string {
		name, _, _ := strings.Cut(t.Name(), "/")
		return fmt.Sprintf("repeat with the same seed: %s=%d go test -count=1 -run '^%s$' in its package", Variable, seed, name)
	})
	return seed
}

// OnFailure prints the machine's load and the result of detail if the test fails. It runs before the cleanup functions that are registered
// so far.
func OnFailure(t testing.TB, detail func() string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("load %s; %s", load(), detail())
		}
	})
}

// Log prints the end of a log if the test fails.
func Log(t testing.TB, subject string, text func() string) {
	t.Helper()
	OnFailure(t, func() string {
		log := text()
		return fmt.Sprintf("the end of the log of %s:\n%s", subject, log[max(0, len(log)-maxLogBytes):])
	})
}

// load returns the load averages of the last 1, 5 and 15 minutes, or "unknown".
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if figures := strings.Fields(string(text)); len(figures) > 3 {
		return strings.Join(figures[:3], " ")
	}
	return "unknown"
}
