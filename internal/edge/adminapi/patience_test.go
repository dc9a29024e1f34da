package adminapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// deadlined is a connection's end that notes its deadline.
type deadlined struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (d *deadlined) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// A call that reads a whole log, or makes a thousand transactions, lasts longer than the time that an answer has.
func TestLongOperations_NoWriteDeadline(t *testing.T) {
	t.Parallel()
	api, a := humago.New(http.NewServeMux(), huma.DefaultConfig("", "")), &adminapi.Admin{}
	adminroute.Mount(api, "admin", nil, a.Problem, adminroute.Guard{}, a.Operations())
	for id, want := range map[string]bool{"replayPlan": true, "verifyAudit": true, "forceDeleteRules": true, "eraseUser": true,
		"recountStatistics": true, "putAccount": false} {
		var op *huma.Operation
		for _, path := range api.OpenAPI().Paths {
			for _, one := range []*huma.Operation{path.Post, path.Delete, path.Put} {
				if one != nil && one.OperationID == id {
					op = one
				}
			}
		}
		if op == nil {
			t.Errorf("there is no operation %s", id)
			continue
		}
		w := &deadlined{httptest.NewRecorder(), time.Now().Add(time.Hour)}
		r := httptest.NewRequest(op.Method, "/", nil)
		r = r.WithContext(adminroute.WithCaller(r.Context(), adminroute.Caller{Role: adminroute.Admin}))
		op.Middlewares.Handler(func(huma.Context) {})(humago.NewContext(op, r, w))
		assert.Equal(t, w.write.IsZero(), want, "%s may last", id)
	}
}
