package server_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// byDoubt are the rows, the least sure first.
func byDoubt() []behaviour.Behaviour {
	list := slices.Clone(behaviour.All())
	slices.SortFunc(list, func(a, b behaviour.Behaviour) int {
		return cmp.Or(-cmp.Compare(slices.Index(behaviour.Marks, a.Mark), slices.Index(behaviour.Marks, b.Mark)),
			strings.Compare(a.ID, b.ID))
	})
	return list
}

// known is a row's evidence as the pages show it.
func known(b behaviour.Behaviour) (source, date string) {
	if date = b.Date; b.Stale(behaviour.Newest()) {
		date += ", older than three years"
	}
	return b.Source, date
}

// behavioursPage is docs/reference/behaviours.md.
func behavioursPage() string {
	counts := map[behaviour.Mark]int{}
	for _, b := range behaviour.All() {
		counts[b.Mark]++
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		"# What the server does, and how sure that is\n\nPrinted from `internal/behaviour` by `make update`; `GET /admin/v1/behaviours` answers the same. "+
			"A line a behaviour, the least sure first:\n%d of %d are our choice, %d are inferred, %d stand on a page of the platform, %d were seen in live answers. "+
			"The marks are those of\n[the contract](../contract/README.md). A name never changes. The log of a server has the names of those that decided a call: `behaviours=`.\n\n"+
			"| behaviour | mark | what the server does | 服务器的行为 | contract | evidence | newest |\n| --- | --- | --- | --- | --- | --- | --- |\n",
		counts[behaviour.Choice], len(behaviour.All()), counts[behaviour.Inferred], counts[behaviour.Page], counts[behaviour.Seen])
	for _, one := range byDoubt() {
		source, date := known(one)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", one.ID, one.Mark, one.English, one.Chinese, one.Section, source, date)
	}
	return b.String()
}

// The admin API answers the whole table, and says which evidence is old by the
// server's clock.
func TestTheTableOfBehavioursIsAnswered(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Emulator: true})
	c, err := client.New(s.URL, client.Options{AdminToken: servertest.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	old := func() (ids []string) {
		list, err := c.Behaviours(t.Context())
		if err != nil || len(list) != len(behaviour.All()) {
			t.Fatalf("%d behaviours, %v", len(list), err)
		}
		for i, one := range list {
			if want := behaviour.All()[i]; one.ID != want.ID || one.Mark != string(want.Mark) || one.English != want.English ||
				one.Chinese != want.Chinese || one.Source != want.Source || one.Date != want.Date || one.Section != want.Section {
				t.Errorf("got %+v, want %+v", one, want)
			}
			if one.Old {
				ids = append(ids, one.ID)
			}
		}
		return ids
	}
	before := old()
	s.Admin("PUT", "/emulator/clock", `{"now":"2040-01-01T00:00:00Z"}`)
	if after := old(); len(after) <= len(before) || slices.Contains(before, "wire.method.post") ||
		!slices.Contains(after, "wire.method.post") {
		t.Errorf("old in 2026: %q, in 2040: %q", before, after)
	}
}
