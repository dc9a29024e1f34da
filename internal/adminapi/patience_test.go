package adminapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// deadlined is a connection's end that notes its deadline.
type deadlined struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (d *deadlined) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// A call that reads a whole log, or makes a thousand transactions, lasts longer
// than the time that an answer has.
func TestACallThatLastsHasNoDeadline(t *testing.T) {
	t.Parallel()
	for id, register := range map[string]func(*Admin, huma.API){"replayPlan": (*Admin).registerReplay, "verifyAudit": (*Admin).registerChanges, "releasePrefix": (*Admin).registerRelease,
		"eraseUser": (*Admin).registerScans, "recountStatistics": (*Admin).registerStatistics} {
		api := humago.New(http.NewServeMux(), huma.DefaultConfig("", ""))
		register(&Admin{}, api)
		for _, path := range api.OpenAPI().Paths {
			for _, op := range []*huma.Operation{path.Post, path.Delete} {
				if op == nil || op.OperationID != id {
					continue
				}
				w := &deadlined{httptest.NewRecorder(), time.Now().Add(time.Hour)}
				chain := func(huma.Context) {}
				for _, m := range op.Middlewares {
					next := chain
					chain = func(c huma.Context) { m(c, next) }
				}
				if chain(humago.NewContext(op, httptest.NewRequest(op.Method, "/", nil), w)); !w.write.IsZero() {
					t.Errorf("%s has to be answered within a time", id)
				}
				id = ""
			}
		}
		if id != "" {
			t.Errorf("there is no operation %s", id)
		}
	}
}
