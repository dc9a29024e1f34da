package stats_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/stream"
	"github.com/qrjump/qrjump/internal/testkit/natstest"
)

// A message of a stream cannot be changed, and still an erasure there is what it
// is in a journal: every scan stays in its place, and what is counted is what a
// recount finds, for a counter that begins anew too.
func TestAnErasureInAStreamLeavesTheCounts(t *testing.T) {
	o, err := stream.Parse(natstest.Start(t, natstest.Options{}).Events())
	if err != nil {
		t.Fatal(err)
	}
	o.Marks = t.TempDir()
	o.Patience = time.Hour
	l, err := stream.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := openStore(t, store.Target{Dir: t.TempDir()})
	c := newCounter(s, l)
	c.Random = rand.NewChaCha8([32]byte{1})
	events, sum := &traffic{r: rand.New(rand.NewPCG(6, 7)), now: began, users: 20}, newNaive(8)
	come := func() {
		t.Helper()
		list := events.take(200)
		for _, e := range list {
			sum.add(e)
		}
		if err := l.Append(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if err := c.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	feed := func() (list []ledger.ScanID) {
		t.Helper()
		for e, err := range c.All(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, e.ID)
		}
		return list
	}
	come()
	before := feed()
	user := events.sent[0].User
	if n, err := c.Erase(t.Context(), user); err != nil || n < 3 {
		t.Fatalf("%d scans were erased: %v", n, err)
	}
	if got := fmt.Sprint(feed()); got != fmt.Sprint(before) {
		t.Errorf("the feed was\n%v, and is\n%s", before, got)
	}
	noDifference(t, c)
	come()
	c = newCounter(s, l)
	come()
	if n := int64(len(feed())); n != sum.scans {
		t.Errorf("%d scans in the feed, want %d", n, sum.scans)
	}
	noDifference(t, c)
}
