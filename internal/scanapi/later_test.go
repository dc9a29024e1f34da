package scanapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/ledger"
)

// slowLedger makes scans durable when a test says so.
type slowLedger struct {
	came chan *slowGroup
}

type slowGroup struct {
	mu    sync.Mutex
	then  func(error)
	done  chan struct{}
	err   error
	asked chan struct{} // closed when somebody waits
	once  sync.Once
}

func (l *slowLedger) record(*ledger.Event) (Durable, error) {
	g := &slowGroup{done: make(chan struct{}), asked: make(chan struct{})}
	l.came <- g
	return g, nil
}

func (g *slowGroup) Wait(ctx context.Context) error {
	g.once.Do(func() { close(g.asked) })
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *slowGroup) Then(f func(error)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.then = f
	g.once.Do(func() { close(g.asked) })
	return true
}

// end makes it durable, or not.
func (g *slowGroup) end(err error) {
	<-g.asked
	g.err = err
	close(g.done)
	g.mu.Lock()
	then := g.then
	g.mu.Unlock()
	if then != nil {
		then(err)
	}
}

func slowLane(t *testing.T) (*Lane, *slowLedger, func() *net.TCPConn) {
	ledger := &slowLedger{came: make(chan *slowGroup, 100)}
	a := fuzzedAPI(t)
	a.Record = ledger.record
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lane := (&Lane{API: a, AnswerTime: time.Minute, IdleTime: time.Minute}).Listen(l)
	t.Cleanup(func() { lane.Close() })
	return lane, ledger, func() *net.TCPConn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn.(*net.TCPConn)
	}
}

func plainScan(text string) string {
	body := `{"text":"` + text + `"}`
	return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

func nextAnswer(t *testing.T, in *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// Nothing leaves before its scan is durable, answers keep their order, and a
// scan that the disk does not take is refused on a connection that goes on.
func TestAnswersLeaveWhenDurable(t *testing.T) {
	t.Parallel()
	lane, ledger, dial := slowLane(t)
	conn := dial()
	in := bufio.NewReader(conn)
	ask := func(text string) { io.WriteString(conn, plainScan(text)) }
	for _, text := range []string{"a", "b"} {
		ask(text)
		g := <-ledger.came
		<-g.asked
		sent := false
		lane.each(func(c *laneConn) { sent = c.stage.Load() != waits })
		if sent {
			t.Fatal("the answer left before its scan was durable")
		}
		g.end(nil)
		if resp, body := nextAnswer(t, in); resp.StatusCode != 200 || !strings.Contains(body, `"text":"`+text+`"`) {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	ask("c")
	(<-ledger.came).end(errors.New("no space left on device"))
	if resp, body := nextAnswer(t, in); resp.StatusCode != 503 || resp.Close || !strings.Contains(body, "try again") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	// The second comes while the first one waits.
	ask("d")
	first := <-ledger.came
	<-first.asked
	ask("e")
	first.end(nil)
	(<-ledger.came).end(nil)
	// Two at once.
	io.WriteString(conn, plainScan("f")+plainScan("g"))
	(<-ledger.came).end(nil)
	(<-ledger.came).end(nil)
	for _, text := range []string{"d", "e", "f", "g"} {
		if resp, body := nextAnswer(t, in); resp.StatusCode != 200 || !strings.Contains(body, `"text":"`+text+`"`) {
			t.Fatalf("%s: %d %s", text, resp.StatusCode, body)
		}
	}
}

// A stop waits for the scan that waits for the disk; a cut does not.
func TestADrainWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	lane, ledger, dial := slowLane(t)
	conn := dial()
	io.WriteString(conn, plainScan("a"))
	g := <-ledger.came
	<-g.asked
	drained := make(chan error)
	go func() { drained <- lane.Drain(context.Background()) }()
	for !lane.draining.Load() {
		runtime.Gosched()
	}
	g.end(nil)
	if resp, body := nextAnswer(t, bufio.NewReader(conn)); resp.StatusCode != 200 || !strings.Contains(body, `"text":"a"`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	// Somebody else may have the port by now, so it is not dialed.
	if conn, err := lane.inner.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the drain it still listens: %v %v", conn, err)
	}

	lane, ledger, dial = slowLane(t)
	io.WriteString(dial(), plainScan("a"))
	g = <-ledger.came
	<-g.asked
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lane.Drain(ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	g.end(nil) // to a connection that is gone
}

// A client that does not read holds up nobody: what it does not take at once is
// sent when it does.
func TestAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	lane, ledger, dial := slowLane(t)
	conn := dial()
	io.WriteString(conn, plainScan("a"))
	g := <-ledger.came
	<-g.asked
	// The way to the client is filled up.
	filler, filled := make([]byte, 64<<10), int64(0)
	lane.each(func(c *laneConn) {
		for n := len(filler); n == len(filler); {
			n = c.direct.send(filler)
			filled += int64(n)
		}
	})
	g.end(nil) // it returns, or this test does not end
	in := bufio.NewReader(conn)
	if n, err := io.CopyN(io.Discard, in, filled); err != nil {
		t.Fatal(n, err)
	}
	if resp, body := nextAnswer(t, in); resp.StatusCode != 200 || !strings.Contains(body, `"text":"a"`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	// The connection goes on.
	io.WriteString(conn, plainScan("b"))
	(<-ledger.came).end(nil)
	if resp, body := nextAnswer(t, in); resp.StatusCode != 200 || !strings.Contains(body, `"text":"b"`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
}

// piped is a listener of connections in memory.
type piped chan net.Conn

func (l piped) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l piped) Close() error { close(l); return nil }
func (piped) Addr() net.Addr { return nil }

// Plain requests are the lane's also when they come in pieces, as long as they
// are there in time; others are handed over with every byte.
func TestPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := make(piped)
		var handed atomic.Int32
		lane := (&Lane{API: fuzzedAPI(t), AnswerTime: time.Minute, IdleTime: time.Minute, Handed: func() { handed.Add(1) }}).Listen(inner)
		client, server := net.Pipe()
		defer client.Close()
		inner <- server
		in := bufio.NewReader(client)
		whole := plainScan("a")
		at := strings.Index(whole, "{")
		for _, cuts := range [][]int{{}, {at}, {7, 50, at, at + 1}, {1, 2, 3, len(whole) - 1}, {}} {
			from := 0
			for _, to := range append(cuts, len(whole)) {
				io.WriteString(client, whole[from:to])
				if from = to; to < len(whole) {
					time.Sleep(patience/4 - 1)
				}
			}
			if resp, body := nextAnswer(t, in); resp.StatusCode != 200 || !strings.Contains(body, `"text":"a"`) {
				t.Fatalf("%v: %d %s", cuts, resp.StatusCode, body)
			}
			time.Sleep(time.Minute - time.Second) // nearly as long as it may be idle
		}
		if n := handed.Load(); n > 0 {
			t.Errorf("%d were handed over", n)
		}
		io.WriteString(client, whole[:at])
		other, err := lane.Accept()
		synctest.Wait()
		if err != nil || handed.Load() != 1 {
			t.Fatal(handed.Load(), err)
		}
		go io.WriteString(client, whole[at:])
		if got := make([]byte, len(whole)); true {
			if _, err := io.ReadFull(other, got); err != nil || string(got) != whole {
				t.Errorf("handed over: %q %v", got, err)
			}
		}
		other.Close()
		if err := lane.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
