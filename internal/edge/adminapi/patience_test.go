package adminapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// deadlineRecorder records the write deadline of a response.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (d *deadlineRecorder) SetWriteDeadline(t time.Time) error { d.deadline = t; return nil }

// TestLongOperations_NoWriteDeadline verifies that operations that read a whole log or run many transactions have no write deadline.
func TestLongOperations_NoWriteDeadline(t *testing.T) {
	t.Parallel()
	mux := newHandler(&adminapi.Admin{})
	deadlines := map[string]bool{"replayPlan": false, "verifyAudit": false, "forceDeleteRules": false, "eraseUser": false,
		"recountStatistics": false, "putAccount": true}
	for _, o := range (&adminapi.Admin{}).Operations() {
		want, listed := deadlines[o.ID]
		if !listed {
			continue
		}
		delete(deadlines, o.ID)
		w := &deadlineRecorder{httptest.NewRecorder(), time.Now().Add(time.Hour)}
		r := httptest.NewRequest(o.Method, adminroute.Base+o.Path, nil)
		r.Header.Set("If-None-Match", "refused after the deadline is set, before the operation runs")
		mux.ServeHTTP(w, r)
		assert.Equal(t, w.Code, http.StatusBadRequest, "%s: status", o.ID)
		assert.Equal(t, !w.deadline.IsZero(), want, "%s has a write deadline", o.ID)
	}
	assert.Equal(t, len(deadlines), 0, "operations that do not exist: %v", deadlines)
}
