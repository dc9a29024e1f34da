package api

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// CannedResponse is a response that an operator set for a path, whether or not an endpoint has this path.
type CannedResponse struct {
	Status      int
	Body        []byte
	ContentType string // Content-Type of the response
	Delay       time.Duration
}

// serveCanned responds to a call with a canned response and records the call like any other. The call needs no token and uses no quota.
func (a *API) serveCanned(w http.ResponseWriter, r *http.Request, canned CannedResponse) {
	start, now := a.RealNow(), a.Now()
	e := a.table[r.URL.Path]
	c := a.newCall(r, now)
	c.notes.Add(behaviour.WireCannedResponse)
	// A response recorder in a test has no deadline, so the error is ignored.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.BodyTimeout))
	c.body, _ = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody)) // the record shows the part of the body that arrived
	if canned.Delay > 0 {
		select {
		case <-time.After(canned.Delay):
		case <-r.Context().Done():
		}
	}
	var reply envelope
	_ = json.Unmarshal(canned.Body, &reply)
	code := &errcode.Code{Number: reply.ErrCode}
	took := a.RealNow().Sub(start)
	result := outcome{code: code, detail: cannedDetail, took: took}
	a.log(r, e, c, result)
	if a.Observe != nil {
		a.Observe(e.path, code.Number, took)
	}
	if a.Record != nil {
		a.Record(newRecord(now, r, e, c, canned.Body, result))
	}
	if a.TracePathPrefix != "" {
		w.Header().Set("X-Qrjump-Trace", a.TracePathPrefix+c.rid)
	}
	w.Header().Set("Content-Type", canned.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(canned.Status)
	w.Write(canned.Body)
}

// cannedDetail is the recorded detail of a call that was served by a canned response.
const cannedDetail = "canned response of a fault"
