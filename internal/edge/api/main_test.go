package api_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/behaviourrefs"
)

// A row that code names is reached when a call of this package's tests met it: a run of all of them says which are not.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && isWhole() {
		code = rowsOutOfReach()
	}
	os.Exit(code)
}

// isWhole reports whether every test of the package was run.
func isWhole() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

func rowsOutOfReach() (code int) {
	named, err := behaviourrefs.Read("../../..")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, b := range behaviour.All() {
		// What the operator turns to be done otherwise says when something happens, and no answer carries it.
		row, _ := behaviour.ByID(b.ID)
		if number, turns := row.Rejection(); turns && number == 0 {
			continue
		}
		if at := named.Recorded[b.ID]; at != "" && !servertest.Reached(b.ID) {
			fmt.Printf("no call of these tests reaches %s, which %s decides\n", b.ID, at)
			code = 1
		}
	}
	return code
}
