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

// TestMain verifies after a complete run that the calls of this package's tests reached every behaviour row that the code records.
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
		// An override without an error number changes what happens later, so no response carries it.
		row, _ := behaviour.ByID(b.ID)
		if number, ok := row.Rejection(); ok && number == 0 {
			continue
		}
		if position := named.Recorded[b.ID]; position != "" && !servertest.BehaviourReached(b.ID) {
			fmt.Printf("no call of these tests reaches %s, which %s decides\n", b.ID, position)
			code = 1
		}
	}
	os.Exit(code)
}
