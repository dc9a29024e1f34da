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
	complete := !testing.Short()
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		complete = complete && flag.Lookup(name).Value.String() == ""
	}
	if code != 0 || !complete {
		os.Exit(code)
	}
	named, err := behaviourrefs.Read("../../..")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
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
	os.Exit(code)
}
