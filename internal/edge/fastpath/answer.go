package fastpath

import (
	"net/http"
	"strconv"
	"time"
)

// reply waits for a response and sends it.
func (c *conn) reply(a Response, last bool) error {
	doc, contentType, status := a.Wait(c.listener.ctx, c.doc[:0])
	c.doc = doc
	c.compose(status, contentType, last)
	n := 0
	if c.direct != nil {
		n = c.direct.write(c.out)
	}
	var err error
	if n < len(c.out) {
		_, err = c.conn.Write(c.out[n:])
	}
	return err
}

// sendLater lets the goroutine that completes the response also send the response; the connection's own goroutine need not wake up.
// sendLater returns false if the caller must wait for the response: Draft cannot provide the response, or the next request has already
// arrived and must be answered after this one.
func (c *conn) sendLater(a Response) bool {
	if c.direct == nil || c.r < c.w {
		return false
	}
	doc, contentType, ok := a.Draft(c.doc[:0])
	c.doc = doc
	if !ok {
		return false
	}
	c.compose(http.StatusOK, contentType, false)
	c.pending = a
	return a.OnDurable(c.sendFunc)
}

// sendPending sends the pending response once its result is known. sendPending does not block: if the result is an error, or the client
// does not accept all bytes at once, a separate goroutine completes the response.
func (c *conn) sendPending(err error) {
	n := 0
	if err == nil {
		n = c.direct.write(c.out)
	}
	if err == nil && n == len(c.out) {
		c.finish(nil, n)
	} else {
		go c.finish(err, n)
	}
}

// finish completes the response of which sendPending has sent n bytes, and frees the connection for the next response.
func (c *conn) finish(err error, n int) {
	defer func() {
		if fault := recover(); fault != nil || err != nil {
			c.logPanic(fault)
			_ = c.conn.Close()
		}
		c.pending = nil
		c.setBusy(false)
		c.release()
	}()
	if err != nil {
		err = c.reply(c.pending, false)
		return
	}
	c.pending.Sent()
	if n < len(c.out) {
		_, err = c.conn.Write(c.out[n:])
	}
}

// compose writes the response into c.out: the header that net/http would send, followed by the document in c.doc.
func (c *conn) compose(status int, contentType string, last bool) {
	now := time.Now()
	if second := now.Unix(); second != c.second {
		c.second, c.date = second, now.UTC().AppendFormat(c.date[:0], http.TimeFormat)
	}
	b := strconv.AppendInt(append(c.out[:0], "HTTP/1.1 "...), int64(status), 10)
	b = append(append(b, ' '), http.StatusText(status)...)
	b = append(append(b, "\r\nCache-Control: no-store\r\nContent-Type: "...), contentType...)
	b = append(append(b, "\r\nDate: "...), c.date...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(c.doc)), 10)
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	c.out = append(append(b, "\r\n\r\n"...), c.doc...)
	if until := now.Add(c.listener.AnswerTime); until.Sub(c.writeUntil) > deadlineTolerance {
		c.writeUntil = until
		_ = c.conn.SetWriteDeadline(until)
	}
}

// release frees the connection for the next response and releases a large buffer, because no connection may hold large memory for long.
func (c *conn) release() {
	if cap(c.out) > 4*bufferSize {
		c.out, c.doc = nil, nil
	}
	c.free <- struct{}{}
}
