package scanapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
)

// Lane is a listener in front of net/http that answers plain resolve requests
// itself, at less than half the cost. A request is plain when its head is
// written in a small, strict subset of HTTP/1.1 (head.go); with the first one
// that is not, the connection goes to net/http with everything that was read
// of that request, for the rest of its life. So there is one definition of
// everything that is not plain, and none of it is here.
type Lane struct {
	API *API
	// TLS is nil on a plain listener.
	TLS *tls.Config
	// KnownHost reports whether a Host is one of ours; nil = every one.
	KnownHost func(host string) bool
	// AnswerTime is how long a client may take to read an answer.
	AnswerTime time.Duration
	// Answered counts what the lane answered, Handed the connections that went to
	// net/http; both may be nil.
	Answered, Handed func()
	// IdleTime is how long a connection may be without a request.
	IdleTime time.Duration
	// Patience is how long the rest of a request may take here; 0 = a second. What
	// is slower is net/http's, which has its own times for heads and bodies.
	Patience time.Duration

	inner  net.Listener
	others chan net.Conn
	broken chan error
	shut   chan struct{}
	ended  chan struct{} // nothing is accepted any more
	once   sync.Once

	mu       sync.Mutex
	conns    map[*laneConn]struct{}
	draining atomic.Bool
	running  sync.WaitGroup
	late     sync.WaitGroup // connections that were handed over in a drain
	cut      context.CancelFunc
	life     context.Context
	date     atomic.Pointer[dateLine]
}

const (
	// firstTime is how long a new connection may take to its first byte, and to
	// the end of its TLS handshake.
	firstTime = 10 * time.Second
	// patience is Lane.Patience where nobody says otherwise.
	patience = time.Second
	// grace is how long a drain looks whether a request arrived just now.
	grace = 5 * time.Millisecond
	// laneBuffer holds a head and what most bodies need.
	laneBuffer = 4 << 10
	// maxHead is how long a plain head may be.
	maxHead = 4 << 10
	// maxBlank is how many bytes of empty lines may stand before a request.
	maxBlank = 4
	// coarse is how exact the long deadlines are: moving one costs as much as
	// reading a request.
	coarse = 10 * time.Second
)

// Listen begins to accept. The lane is what net/http serves.
func (l *Lane) Listen(inner net.Listener) *Lane {
	l.inner, l.others, l.broken, l.shut, l.conns = inner, make(chan net.Conn), make(chan error, 1), make(chan struct{}), map[*laneConn]struct{}{}
	l.ended = make(chan struct{})
	l.life, l.cut = context.WithCancel(context.Background())
	go l.accept()
	return l
}

// Accept implements net.Listener: it returns what is not the lane's.
func (l *Lane) Accept() (net.Conn, error) {
	select {
	case c := <-l.others:
		return c, nil
	case err := <-l.broken:
		return nil, err
	case <-l.shut:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *Lane) Addr() net.Addr { return l.inner.Addr() }

// Close implements net.Listener: nothing new is accepted or handed over.
func (l *Lane) Close() error {
	err := l.inner.Close()
	l.once.Do(func() { close(l.shut) })
	if errors.Is(err, net.ErrClosed) {
		return nil // Drain closed it already
	}
	return err
}

// Drain accepts nothing new, lets the requests that run end and closes their
// connections; what is slow still goes to net/http, whose keep-alives are off
// and which is shut down after the lane. When ctx ends the rest is cut.
func (l *Lane) Drain(ctx context.Context) error {
	l.draining.Store(true)
	_ = l.inner.Close()
	l.each(func(c *laneConn) {
		if c.idle.Load() {
			_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		}
	})
	mine, done := make(chan struct{}), make(chan struct{})
	go func() {
		<-l.ended // or a connection that came just now would not be waited for
		l.running.Wait()
		close(mine)
		l.late.Wait()
		close(done)
	}()
	select {
	case <-done:
		l.cut()
		return nil
	case <-ctx.Done():
	}
	l.cut()
	l.each(func(c *laneConn) { _ = c.conn.Close() })
	<-mine // net/http cuts what it has
	return ctx.Err()
}

func (l *Lane) each(f func(*laneConn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		f(c)
	}
}

func (l *Lane) accept() {
	defer close(l.ended)
	for wait := time.Duration(0); ; {
		conn, err := l.inner.Accept()
		if err == nil {
			wait = 0
			l.begin(conn)
			continue
		}
		// As net/http does: too many open files pass.
		//lint:ignore SA1019 there is no other way to tell
		if temporary, ok := errors.AsType[net.Error](err); ok && temporary.Temporary() {
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(wait):
			case <-l.shut:
			}
			continue
		}
		if l.draining.Load() && errors.Is(err, net.ErrClosed) {
			return // net/http still takes what the lane hands over, until it is shut down
		}
		l.broken <- err
		return
	}
}

func (l *Lane) begin(conn net.Conn) {
	c := &laneConn{lane: l, conn: conn, watched: unwatched{}}
	if w, ok := conn.(Watched); ok {
		c.watched = w
	}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	l.running.Go(func() {
		defer func() {
			l.mu.Lock()
			delete(l.conns, c)
			l.mu.Unlock()
		}()
		c.serve()
	})
}

// Watched is a connection that wants to know what becomes of it.
type Watched interface {
	// Asks says that a request is being served, or none.
	Asks(now bool)
	// Proven says that a request showed a key.
	Proven()
}

// unwatched is for connections that do not.
type unwatched struct{}

func (unwatched) Asks(bool) {}
func (unwatched) Proven()   {}

// laneConn is one connection on the lane.
type laneConn struct {
	lane    *Lane
	conn    net.Conn
	watched Watched
	proven  bool        // and that it is
	idle    atomic.Bool // it waits for the first byte of a request

	in       []byte // in[r:w] was read and not used
	r, w     int
	out, doc []byte

	// The answer that leaves when its scan is durable: until then out and doc are
	// not the connection's. direct is nil where answers are waited for.
	direct  *direct
	scan    *scanned
	stage   atomic.Int32
	settled chan struct{}
	durable func(error) // told; made once

	readUntil, writeUntil time.Time // the deadlines as they are set
}

func (c *laneConn) serve() {
	kept := true // the connection is ours to close
	defer func() {
		if fault := recover(); fault != nil {
			c.failed(fault)
		}
		if kept {
			_ = c.conn.Close()
		}
	}()
	if c.lane.TLS != nil {
		secure := tls.Server(c.conn, c.lane.TLS)
		_ = c.conn.SetDeadline(time.Now().Add(firstTime))
		if err := secure.HandshakeContext(c.lane.life); err != nil {
			if wrong, ok := errors.AsType[tls.RecordHeaderError](err); ok && wrong.Conn != nil && looksLikeHTTP(wrong.RecordHeader) {
				_, _ = io.WriteString(wrong.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
			}
			return
		}
		_ = c.conn.SetDeadline(time.Time{})
		c.mine(secure)
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			kept = !c.lane.hand(secure)
			return
		}
	}
	if c.lane.TLS == nil {
		c.direct = newDirect(c.conn)
		c.settled, c.durable = make(chan struct{}, 1), c.told
	}
	c.in = make([]byte, laneBuffer)
	for first := true; ; first = false {
		done, ok := c.one(first)
		if !ok {
			if done {
				return
			}
			_ = c.conn.SetDeadline(time.Time{})
			other := &replayed{Conn: c.conn, read: c.in[c.r:c.w]}
			if c.lane.draining.Load() {
				// net/http, once it is shut down, takes no request that it has not read.
				c.lane.late.Add(1)
				other.closed = sync.OnceFunc(c.lane.late.Done)
			}
			if kept = !c.lane.hand(other); kept && other.closed != nil {
				other.closed()
			}
			return
		}
		if done {
			return
		}
	}
}

func (c *laneConn) failed(fault any) {
	c.lane.API.Log.Error("a request failed inside the server", "path", resolvePath, "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
}

// mine puts another connection in place, where Drain finds it.
func (c *laneConn) mine(conn net.Conn) {
	c.lane.mu.Lock()
	defer c.lane.mu.Unlock()
	c.conn = conn
}

// hand gives a connection to net/http; false if that takes none any more.
func (l *Lane) hand(conn net.Conn) bool {
	select {
	case l.others <- conn:
		if l.Handed != nil {
			l.Handed()
		}
		return true
	case <-l.shut:
		return false
	}
}

// looksLikeHTTP: the same courtesy that net/http has for clients that forgot
// the s.
func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	read   []byte
	closed func() // may be nil
}

func (c *replayed) Close() error {
	if c.closed != nil {
		defer c.closed()
	}
	return c.Conn.Close()
}

func (c *replayed) Read(b []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.read)
	if c.read = c.read[n:]; len(c.read) == 0 {
		c.read = nil
	}
	return n, nil
}

// NetConn is the connection itself.
func (c *replayed) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http say that nothing more comes, so that a client reads
// the last answer before the connection ends.
func (c *replayed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// one answers the next request. ok is false where it is not ours: the
// connection goes to net/http, unless done says that there is nothing left.
func (c *laneConn) one(first bool) (done, ok bool) {
	h, state := c.await(first)
	if !c.settle() {
		return true, true
	}
	switch state {
	case gone:
		return true, false
	case foreign:
		return false, false
	}
	api := c.lane.API
	namespace := accounts.DefaultNamespace
	if c.lane.KnownHost != nil && !c.lane.KnownHost(string(h.host)) {
		return false, false
	}
	if api.Key != nil {
		key, err := api.Key(c.lane.life, string(h.key))
		if err != nil || len(h.key) == 0 {
			return false, false // net/http says what is wrong with it
		}
		namespace = key.Namespace
		if !c.proven {
			c.proven = true
			c.watched.Proven()
		}
	}
	c.watched.Asks(true)
	body := c.in[c.r+h.size : c.r+h.size+h.length]
	scanned := api.begin(c.lane.life, namespace, body)
	c.r += h.size + h.length
	if c.lane.Answered != nil {
		c.lane.Answered()
	}
	closing := h.last || c.lane.draining.Load()
	if !closing && c.later(scanned) {
		return false, true
	}
	return c.reply(scanned, closing) != nil || closing, true
}

// reply waits for the scan and sends its answer.
func (c *laneConn) reply(s *scanned, closing bool) error {
	status, kind := http.StatusOK, jsonType
	doc, err := c.lane.API.finish(c.lane.life, s, c.doc[:0])
	if err != nil {
		p := c.lane.API.problemOf(err)
		status, kind, doc = p.status, problemType, append(doc[:0], p.document()...)
	}
	c.doc = doc
	c.compose(status, kind, closing)
	_, err = c.conn.Write(c.out)
	c.shrink()
	return err
}

// The stages of an answer that leaves later.
const (
	none    int32 = iota // there is none
	waits                // for the ledger
	awaited              // and the connection for it
)

// later lets whoever makes the scan durable send the answer, so that this
// goroutine need not wake for it. False where it has to be waited for: nothing
// is to be waited for, or more was asked already and answers keep their order.
func (c *laneConn) later(s *scanned) bool {
	if c.direct == nil || s.err != nil || s.group == nil || s.soon || c.r < c.w {
		return false
	}
	group, ok := s.group.(teller)
	if !ok {
		return false
	}
	c.doc = s.append(c.doc[:0])
	c.compose(http.StatusOK, jsonType, false)
	c.scan = s
	c.stage.Store(waits)
	if !group.Then(c.durable) {
		c.stage.Store(none)
		return false
	}
	return true
}

// told sends the answer that waited. It does not block: what the client does not
// take at once, and what went wrong, has a goroutine of its own.
func (c *laneConn) told(err error) {
	n := 0
	if err == nil {
		n = c.direct.send(c.out)
	}
	if err == nil && n == len(c.out) {
		c.tell(nil, n)
	} else {
		go c.tell(err, n)
	}
}

// tell ends what told began with n bytes.
func (c *laneConn) tell(err error, n int) {
	defer c.sent()
	if err != nil {
		err = c.reply(c.scan, false)
	} else {
		c.lane.API.observe(c.scan)
		c.scan.release()
		if n < len(c.out) {
			_, err = c.conn.Write(c.out[n:])
		}
	}
	if err != nil {
		_ = c.conn.Close()
	}
}

// sent gives out and doc back to the connection.
func (c *laneConn) sent() {
	if fault := recover(); fault != nil {
		c.failed(fault)
		_ = c.conn.Close()
	}
	c.scan = nil
	c.watched.Asks(false)
	if !c.stage.CompareAndSwap(waits, none) {
		c.settled <- struct{}{}
	}
}

// settle waits until an answer that leaves later has left; false if the
// connection is cut before.
func (c *laneConn) settle() bool {
	if c.stage.Load() == none {
		return true
	}
	if c.stage.CompareAndSwap(waits, awaited) {
		select {
		case <-c.settled:
			c.stage.Store(none)
		case <-c.lane.life.Done():
			return false
		}
	}
	c.shrink()
	return true
}

// The states of what was read.
type arrival int

const (
	plain   arrival = iota // a whole plain request is there
	foreign                // it is not plain, or not there in time
	gone                   // nothing more comes
)

// await reads until a whole request is there.
func (c *laneConn) await(first bool) (h head, state arrival) {
	var until time.Time
	last := false // nothing more is waited for
	blank := 0    // bytes of empty lines that were skipped
	if len(c.in) > 4*laneBuffer && c.r == c.w {
		c.in, c.r, c.w = make([]byte, laneBuffer), 0, 0
	}
	for {
		var verdict verdict
		// As net/http: some old clients send an empty line behind a body.
		for !first && c.r < c.w && blank < maxBlank && (c.in[c.r] == '\r' || c.in[c.r] == '\n') {
			c.r++
			blank++
		}
		if c.r < c.w {
			if h.size == 0 {
				h, verdict = readHead(c.in[c.r:c.w])
			}
			switch {
			case verdict == notPlain && !first && blank+c.w-c.r < maxBlank:
				// Fewer bytes before the end of a connection are no request, as in net/http.
			case verdict == notPlain || h.size == 0 && c.w-c.r > maxHead:
				return h, foreign
			case h.size > 0 && c.w-c.r >= h.size+h.length:
				return h, plain
			}
			if until.IsZero() {
				until = time.Now().Add(min(cmp.Or(c.lane.Patience, patience), c.lane.API.BodyTimeout))
				c.readUntil = until
				_ = c.conn.SetReadDeadline(until)
			}
		} else {
			c.r, c.w = 0, 0
			c.longDeadline(first)
			c.idle.Store(true)
			if c.stage.Load() == none {
				c.watched.Asks(false)
			}
			if c.lane.draining.Load() {
				// A request that arrived already is still answered.
				c.readUntil = time.Now().Add(grace)
				_ = c.conn.SetReadDeadline(c.readUntil)
				last = true
			}
		}
		c.room(h)
		at := h.size // the head points into what room may have moved: read it again
		n, err := c.conn.Read(c.in[c.w:])
		c.idle.Store(false)
		c.w += n
		if n > 0 {
			if at > 0 {
				h = head{}
			}
			continue
		}
		switch {
		case err == nil:
		case !first && err == io.EOF && blank+c.w-c.r < maxBlank:
			return h, gone
		case c.r < c.w && (err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded)):
			return h, foreign
		case c.r == c.w && !last && c.lane.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded):
			// Woken by Drain.
		default:
			return h, gone
		}
	}
}

// room makes place for more of a request.
func (c *laneConn) room(h head) {
	if c.w < len(c.in) && (h.size == 0 || c.r+h.size+h.length <= len(c.in)) {
		return
	}
	if c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	if need := max(h.size+h.length, c.w+1); need > len(c.in) {
		grown := make([]byte, max(need, 2*len(c.in)))
		copy(grown, c.in[:c.w])
		c.in = grown
	}
}

// longDeadline is for the wait between two requests.
func (c *laneConn) longDeadline(first bool) {
	now := time.Now()
	wanted := c.lane.IdleTime
	if first {
		wanted = firstTime
	}
	until := now.Add(wanted)
	if ahead := until.Sub(c.readUntil); ahead > coarse || ahead < 0 {
		c.readUntil = until
		_ = c.conn.SetReadDeadline(until)
	}
}

// dateLine is the Date of one second, with its line.
type dateLine struct {
	second int64
	line   []byte
}

func (l *Lane) dated(now time.Time) []byte {
	d := l.date.Load()
	if d == nil || d.second != now.Unix() {
		line := append(now.UTC().AppendFormat([]byte("Date: "), http.TimeFormat), '\r', '\n')
		d = &dateLine{now.Unix(), line}
		l.date.Store(d)
	}
	return d.line
}

// compose puts doc behind the head that net/http would give it.
func (c *laneConn) compose(status int, kind string, closing bool) {
	now := time.Now()
	b := append(c.out[:0], "HTTP/1.1 "...)
	if status == http.StatusOK {
		b = append(b, "200 OK"...)
	} else {
		b = strconv.AppendInt(b, int64(status), 10)
		b = append(append(b, ' '), http.StatusText(status)...)
	}
	b = append(b, "\r\nCache-Control: no-store\r\nContent-Type: "...)
	b = append(append(b, kind...), "\r\n"...)
	b = append(b, c.lane.dated(now)...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(c.doc)), 10)
	if closing {
		b = append(b, "\r\nConnection: close"...)
	}
	b = append(append(b, "\r\n\r\n"...), c.doc...)
	c.out = b
	until := now.Add(c.lane.AnswerTime)
	if until.Sub(c.writeUntil) > coarse {
		c.writeUntil = until
		_ = c.conn.SetWriteDeadline(until)
	}
}

// shrink gives up what a large answer needed: it must not be held for ever.
func (c *laneConn) shrink() {
	if cap(c.out) > 4*laneBuffer {
		c.out, c.doc = nil, nil
	}
}
