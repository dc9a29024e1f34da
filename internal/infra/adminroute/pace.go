package adminroute

import (
	"errors"
	"net/http"
	"time"
)

const (
	// pieceTimeout is the time that a client may take for one piece of an export: the database keeps the state of that moment until
	// it has it all.
	pieceTimeout = time.Minute
	// leastPace is the minimum rate in bytes a second of a client, beside pieceTimeout in all: else it could hold that state for
	// ever, a byte a minute.
	leastPace = 16 << 10
)

var errTooSlow = errors.New("the client reads slower than 16 KiB a second")

// pacer sends an export piece by piece, and ends it where its client is too slow.
type pacer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sent    int64
	lost    error         // of the client: it hung up, or is too slow
	waited  time.Duration // for the client; what the server takes to make a piece does not count
}

func newPacer(w http.ResponseWriter) pacer {
	c := http.NewResponseController(w)
	// The deadline of the body would end the request in the middle.
	_ = c.SetReadDeadline(time.Time{})
	return pacer{w: w, control: c}
}

func (p *pacer) write(b []byte) (int, error) {
	left := pieceTimeout + time.Duration((p.sent+int64(len(b)))/leastPace)*time.Second - p.waited
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

// end gives what is sent afterwards its time.
func (p *pacer) end() { _ = p.control.SetWriteDeadline(time.Time{}) }
