// Package ceilings holds the size that the project may have.
package ceilings

import "testing"

// A change raises a ceiling in a commit of its own, with the reason; those of commands and methods only go down.
var ceilings = map[string]ceiling{
	"product lines":     {136_591, 1},
	"test lines":        {79_111, 1},
	"packages":          {72, 0},
	"operations":        {164, 0},
	"commands":          {140, 0},
	"flags":             {1753, 1},
	"settings":          {44, 0},
	"metrics":           {44, 0},
	"tables":            {70, 0},
	"methods of a type": {119, 0},
}

// ceiling is a limit, and by how many percent the project may be smaller before it is lowered.
type ceiling struct{ limit, percent int }

// Check fails where n is above the ceiling of a thing, or so far below it that it is to be lowered.
func Check(t testing.TB, thing string, n int) {
	t.Helper()
	c, ok := ceilings[thing]
	switch {
	case !ok:
		t.Errorf("%s: no ceiling", thing)
	case n > c.limit:
		t.Errorf("%s: %d, want at most %d (internal/testkit/ceilings)", thing, n, c.limit)
	case n < c.limit-c.limit*c.percent/100:
		t.Errorf("%s: %d, and at most %d are allowed: lower the ceiling to %d (internal/testkit/ceilings)", thing, n, c.limit, n)
	default:
		t.Logf("%s: %d of %d", thing, n, c.limit)
	}
}
