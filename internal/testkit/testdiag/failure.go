// Package testdiag prints the information that reproduces a failed test: the seed, the load of the machine, the end of a log.
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

// shown is the number of bytes of a log that are printed.
const shown = 4000

// Seed returns the seed of a random test: drawn, or what the environment says. A failed test prints the command that plays the
// same choices.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(rand.Uint32())
	if text := os.Getenv(Variable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s is %q: want a number", Variable, text)
		}
	}
	Tell(t, func() string {
		name, _, _ := strings.Cut(t.Name(), "/")
		return fmt.Sprintf("the same choices again: %s=%d go test -count=1 -run '^%s$' in its package", Variable, seed, name)
	})
	return seed
}

// Tell prints, where the test fails, how loaded the machine is and what said returns. It runs before what the test has asked to be cleaned
// up until now.
func Tell(t testing.TB, said func() string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("load %s; %s", load(), said())
		}
	})
}

// Log tells the end of a log.
func Log(t testing.TB, subject string, text func() string) {
	t.Helper()
	Tell(t, func() string {
		all := text()
		return fmt.Sprintf("the end of the log of %s:\n%s", subject, all[max(0, len(all)-shown):])
	})
}

// load returns the load averages of the last minute, five and fifteen, if the system reports them.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if figures := strings.Fields(string(text)); len(figures) > 3 {
		return strings.Join(figures[:3], " ")
	}
	return "unknown"
}
