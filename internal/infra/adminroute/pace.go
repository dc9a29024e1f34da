package adminroute

import (
	"errors"
	"net/http"
	"time"
)

const (
	// pieceTimeout is the timeout for sending one part of an export to the client, because the database keeps a snapshot until the
	// export ends.
	pieceTimeout = time.Minute
	// minPace is the minimum transfer rate of an export in bytes per second; a client may be late by one pieceTimeout in total.
	// Without a minimum, a slow client could hold the database snapshot forever.
	minPace = 16 << 10
)

var errTooSlow = errors.New("the client reads slower than 16 KiB a second")

// pacer sends an export in parts, and aborts the export if the client is too slow.
type pacer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sent    int64
	lost    error         // the client's failure: disconnected or too slow
	waited  time.Duration // time spent waiting for the client, without the time to produce the data
}

func newPacer(w http.ResponseWriter) pacer {
	c := http.NewResponseController(w)
	// The read deadline of the request body would abort the request during the export.
	_ = c.SetReadDeadline(time.Time{})
	return pacer{w: w, control: c}
}

func (p *pacer) write(b []byte) (int, error) {
	left := pieceTimeout + time.Duration((p.sent+int64(len(b)))/minPace)*time.Second - p.waited
	if left <= 0 {
		p.lost = errTooSlow
		return 0, errTooSlow
	}
	began := time.Now()
	_ = p.control.SetWriteDeadline(began.Add(min(left, pieceTimeout)))
	n, err := p.w.Write(b)
	p.waited += time.Since(began)
	p.sent += int64(n)
	if err != nil {
		p.lost = err
	}
	return n, err
}

// end removes the write deadline.
func (p *pacer) end() { _ = p.control.SetWriteDeadline(time.Time{}) }
