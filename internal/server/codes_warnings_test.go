package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Issue 42, 12: what changes nothing leaves no event, an overlap is named with what is free, and who brings a lost package's file
// back to life is warned.
func TestCodes_RepeatedOverlappingAndRecalledChanges(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		w := works{where(t).start(t, servertest.Options{Seed: brewery}), t}
		id := w.apply("x", 10_000)
		batch := fmt.Sprintf("/batches/%d", id)
		made := servertest.Decode[client.Package](t, w.Admin("POST", batch+"/packages", `{"code_start":0,"code_end":99,"printer":"p"}`))
		events := func() int {
			list := servertest.Decode[struct{ Events []client.CodeEvent }](t, w.Admin("GET", batch+"/events", ""))
			return len(list.Events)
		}
		spoil := func(ranges string, want int) {
			t.Helper()
			before, head := events(), newest(t, w.Server)[0]
			w.Admin("POST", fmt.Sprintf("/packages/%d/spoiled", made.ID), `{"ranges":[`+ranges+`]}`)
			assert.Equal(t, events()-before, want, "spoil %s", ranges)
			assert.Equal(t, newest(t, w.Server)[0] > head, want > 0, "spoil %s: the audit log has a change", ranges)
		}
		spoil(`{"from":7,"to":9}`, 1)
		spoil(`{"from":7,"to":9}`, 0)
		spoil(`{"from":8,"to":8}`, 0)
		spoil(`{"from":5,"to":12}`, 1)

		const binding = `"binding":{"activity_name":"a","product_brand":"b","product_title":"t","product_code":"x","wxa_appid":"shop","wxa_path":"p"}`
		activate := func(from, to int) servertest.Answer {
			return w.Do("POST", "/admin/v1"+batch+"/activations", fmt.Sprintf(`{"code_start":%d,"code_end":%d,%s}`, from, to, binding),
				"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		}
		if a := activate(100, 199); a.Status != 200 || !strings.Contains(a.Body, `"warning":"product_code is no EAN`) {
			t.Errorf("a product code that is no EAN: %d %s, want 200 and a warning", a.Status, a.Body)
		}
		activate(300, 399)
		if a := activate(150, 449); a.Status != 409 || !strings.Contains(a.Body, "overlap: 150-199, 300-399; free: 200-299, 400-449") {
			t.Errorf("an overlapping activation: %d %s, want the overlap and the free ranges", a.Status, a.Body)
		}

		a := w.states(id, `{"action":"unfreeze","ranges":[{"from":0,"to":99}]}`)
		assert.True(t, !strings.Contains(a.Body, "warning"), "unfreeze before the recall: %s, want no warning", a.Body)
		w.Admin("POST", fmt.Sprintf("/packages/%d/recall", made.ID), `{}`)
		if a := w.states(id, `{"action":"unfreeze","ranges":[{"from":99,"to":150}]}`); !strings.Contains(a.Body,
			fmt.Sprintf(`"warning":"package %d is no longer recalled: its file, which may be lost, is valid again"`, made.ID)) {
			t.Errorf("unfreeze after the recall: %d %s, want a warning", a.Status, a.Body)
		}
		a = w.states(id, `{"action":"unfreeze","ranges":[{"from":100,"to":150}]}`)
		assert.True(t, !strings.Contains(a.Body, "warning"), "unfreeze of other codes: %s, want no warning", a.Body)
	})
}
