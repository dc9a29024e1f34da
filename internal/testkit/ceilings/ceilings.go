// Package ceilings limits the size of the project.
package ceilings

import "testing"

// A ceiling is raised in a separate commit, with the reason. The ceilings of commands and methods are only lowered.
var ceilings = map[string]ceiling{
	"product lines":     {135_700, 1},
	"test lines":        {79_400, 1},
	"packages":          {72, 0},
	"operations":        {164, 0},
	"commands":          {140, 0},
	"flags":             {1753, 1},
	"settings":          {44, 0},
	"metrics":           {44, 0},
	"tables":            {70, 0},
	"methods of a type": {119, 0},
}

// ceiling is a limit. It must be lowered if the actual number is more than percent below it.
type ceiling struct{ limit, percent int }

// Check fails if n is above the ceiling, or so far below it that the ceiling must be lowered.
func Check(t testing.TB, thing string, n int) {
	t.Helper()
	c, ok := ceilings[thing]
	switch {
	case !ok:
		t.Errorf("%s: no ceiling", thing)
	case n > c.limit:
		t.Errorf("%s: %d, want at most %d (internal/testkit/ceilings)", thing, n, c.limit)
	case n < c.limit-c.limit*c.percent/100:
		t.Errorf("%s: %d, far below the ceiling %d: lower the ceiling to %d (internal/testkit/ceilings)", thing, n, c.limit, n)
	default:
		t.Logf("%s: %d of %d", thing, n, c.limit)
	}
}
