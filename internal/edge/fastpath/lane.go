// Package fastpath answers plain HTTP/1.1 requests on a listener that net/http serves in all other cases.
//
// A request is plain when it asks for the lane's one path with a head in a small, strict subset of HTTP/1.1 (head.go). With the
// first that is not, the connection goes to net/http with every byte that was read of that request, for the rest of its life: so
// all that is not plain has one definition, and none of it is here. The text of an answer is the caller's (Begin, Answer).
//
// A connection that waits for its next request has no goroutine: it is parked with a loop (park.go), which answers what needs
// no waiting (Try), and gives the connection a goroutine again for everything else.
//
// Its failures, their outcome, and the test that shows it:
//
//   - a request that stops in the middle, or comes slower than Patience: net/http goes on with it, and has its own times for heads
//     and bodies (TestPieces, TestHalfARequestIsHandedOver)
//   - a head or a body that is too long, a head that is not plain, a host or a key that is refused: net/http says what is wrong
//     (TestWhatIsNotPlainIsHandedOver)
//   - several requests at once: answered one after the other, each before the next is begun (TestAnswersLeaveWhenTheyHold)
//   - a client that sends nothing: its connection ends after IdleTime, a new one after firstTime (TestPieces,
//     TestHowParkedConnectionsEnd)
//   - a client that does not read: no other client waits for it; after AnswerTime its connection ends (TestAClientThatDoesNotRead,
//     TestALongAnswerOfALoop)
//   - a client that leaves before its answer: what was begun ends all the same (TestAClientThatLeaves)
//   - TLS: the handshake is made here within firstTime; HTTP/2 is handed over, and so is a client that speaks no TLS (TestTLS)
//   - a panic in Begin or in an Answer: it is logged, and ends its own connection (TestAPanicEndsOneConnection)
//   - no more files: net/http waits and tries again, as on its own listeners (TestTooManyOpenFiles)
//   - a stop: nothing new is accepted, idle connections end, what was begun is answered, what is slow is handed over; when the
//     time is up the rest is cut (TestADrainWaitsForAnswers, TestADrainHandsOver in package scanapi)
package fastpath

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Listener is a listener that net/http serves.
type Listener struct {
	// Path is that of the plain requests, which are POSTs. A body that is longer than MaxBody, or whose Content-Type has the
	// word Streams in it, is net/http's.
	Path    string
	MaxBody int
	Streams string
	// KnownHost reports whether a Host is one of ours; nil = every one. Key says whose a key is, or that net/http is to judge
	// it; nil lets everybody ask.
	KnownHost func(host string) bool
	Key       func(ctx context.Context, key string) (who string, ok bool)
	// Begin begins the answer to a body, which it may not use once it returned.
	Begin func(ctx context.Context, who string, body []byte) Response
	// Try is Begin where that waits for nothing, and whose answer is there or will be told of by Then; nil, without any effect,
	// in all other cases. Without Try idle connections keep their goroutines.
	Try func(ctx context.Context, who string, body []byte) Response
	// TLS is nil on a plain listener.
	TLS *tls.Config
	// ReadTimeout is the time that the rest of a request may take here; 0 = a second. IdleTime is how long a connection may be
	// without one, AnswerTime how long a client may take to read an answer.
	ReadTimeout, IdleTime, AnswerTime time.Duration
	// Answered counts answers, Handed the connections that went to net/http; both may be nil.
	Answered, OnHandoff func()
	Log                 *slog.Logger

	requestLine string
	inner       net.Listener
	others      chan net.Conn
	broken      chan error
	shut, ended chan struct{} // net/http takes nothing any more; nothing is accepted any more
	once        sync.Once

	mu       sync.Mutex
	conns    map[*conn]struct{}
	looping  bool // loops were made, or could not be
	loops    []*loop
	turn     int
	draining atomic.Bool
	running  sync.WaitGroup
	late     sync.WaitGroup // connections that were handed over in a drain
	cut      context.CancelFunc
	life     context.Context
}

// Response is the answer to one request. It ends with Sent or Wait, and is not used any more then.
type Response interface {
	// Draft appends what the answer is unless something fails; false where Wait alone can say.
	Draft(to []byte) (doc []byte, kind string, ok bool)
	// OnDurable calls f, which does not block, once it is known whether the draft holds; false if f will not be called.
	OnDurable(f func(error)) bool
	// Sent says that the draft held and is on its way.
	Sent()
	// Wait waits until the answer is known and appends it.
	Wait(ctx context.Context, to []byte) (doc []byte, kind string, status int)
}

// ConnState is a connection that wants to know what becomes of it.
type ConnState interface {
	// Asks says that a request is being served, or none.
	Asks(now bool)
	// Proven says that a request showed a key.
	Proven()
}

// Listen begins to accept.
func (l *Listener) Listen(inner net.Listener) *Listener {
	l.requestLine = "POST " + l.Path + " HTTP/1.1\r\n"
	l.inner, l.others, l.broken, l.conns = inner, make(chan net.Conn), make(chan error), map[*conn]struct{}{}
	l.shut, l.ended = make(chan struct{}), make(chan struct{})
	l.life, l.cut = context.WithCancel(context.Background())
	go l.accept()
	return l
}

// Accept implements net.Listener: it returns what is not the lane's.
func (l *Listener) Accept() (net.Conn, error) {
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
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close implements net.Listener: nothing new is accepted or handed over.
func (l *Listener) Close() error {
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
func (l *Listener) Drain(ctx context.Context) error {
	l.draining.Store(true)
	_ = l.inner.Close()
	l.visit(func(c *conn) {
		if c.idle.Load() {
			_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		}
		c.unpark()
	})
	l.mu.Lock()
	for _, p := range l.loops {
		p.stop()
	}
	l.mu.Unlock()
	localCh, done := make(chan struct{}), make(chan struct{})
	go func() {
		<-l.ended // or a connection that came just now would not be waited for
		l.running.Wait()
		close(localCh)
		l.late.Wait()
		close(done)
	}()
	defer l.cut()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	l.cut()
	l.visit(func(c *conn) { _ = c.conn.Close() })
	<-localCh // net/http cuts what it has
	return ctx.Err()
}

func (l *Listener) visit(f func(*conn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		f(c)
	}
}

func (l *Listener) accept() {
	defer close(l.ended)
	for {
		conn, err := l.inner.Accept()
		switch {
		case err == nil:
			l.begin(conn)
			continue
		case l.draining.Load() && errors.Is(err, net.ErrClosed):
			return // net/http still takes what the lane hands over, until it is shut down
		}
		// net/http judges it: it ends, or asks again after a pause.
		select {
		case l.broken <- err:
		case <-l.shut:
			return
		}
	}
}

func (l *Listener) begin(inner net.Conn) {
	c := newConn(l, inner)
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	l.running.Go(c.serve)
}

// hand gives a connection to net/http, or ends it if that takes none any more.
func (l *Listener) hand(conn net.Conn) {
	select {
	case l.others <- conn:
		if l.OnHandoff != nil {
			l.OnHandoff()
		}
	case <-l.shut:
		_ = conn.Close()
	}
}

// replayed is a connection of which something was read already.
type replayed struct {
	net.Conn
	all    io.Reader
	closed func()
}

func (c *replayed) Read(b []byte) (int, error) { return c.all.Read(b) }

func (c *replayed) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// NetConn returns the connection itself.
func (c *replayed) NetConn() net.Conn { return c.Conn }

// CloseWrite lets net/http say that nothing more comes, so that a client reads
// the last answer before the connection ends.
func (c *replayed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
