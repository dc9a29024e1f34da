package guide

import (
	"testing"

	"github.com/qrjump/qrjump/docs"
)

// Words that lead to a place which is not there would lead nobody.
func TestEveryPlaceThatIsSoughtIsThere(t *testing.T) {
	g, err := New(docs.Pages, "", "test")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, p := range g.index["en"]().places {
		there[p.name()] = true
	}
	for name := range sought {
		if !there[name] {
			t.Errorf("nothing is called %q", name)
		}
	}
}
