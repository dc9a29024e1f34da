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

// deadlined is a connection's end that notes its deadline.
type deadlined struct {
	*httptest.ResponseRecorder
	write time.Time
}

func (d *deadlined) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// A call that reads a whole log, or makes a thousand transactions, lasts longer than the time that an answer has.
func TestLongOperations_NoWriteDeadline(t *testing.T) {
	t.Parallel()
	mux := served(&adminapi.Admin{})
	deadlines := map[string]bool{"replayPlan": false, "verifyAudit": false, "forceDeleteRules": false, "eraseUser": false,
		"recountStatistics": false, "putAccount": true}
	for _, o := range (&adminapi.Admin{}).Operations() {
		want, listed := deadlines[o.ID]
		if !listed {
			continue
		}
		delete(deadlines, o.ID)
		w := &deadlined{httptest.NewRecorder(), time.Now().Add(time.Hour)}
		r := httptest.NewRequest(o.Method, adminroute.Base+o.Path, nil)
		r.Header.Set("If-None-Match", "refused after the deadline is set, before the operation runs")
		mux.ServeHTTP(w, r)
		assert.Equal(t, w.Code, http.StatusBadRequest, "%s: status", o.ID)
		assert.Equal(t, !w.write.IsZero(), want, "%s has a write deadline", o.ID)
	}
	assert.Equal(t, len(deadlines), 0, "operations that do not exist: %v", deadlines)
}
