package safehttp_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

type failingResolver struct{ err error }

func (f failingResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, f.err
}

type hangingResolver struct{}

func (hangingResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// writeSlowly writes text repeatedly, byte by byte, until the peer closes the connection.
func writeSlowly(conn net.Conn, text string) {
	for {
		for i := range len(text) {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
}

// TestSafeHTTP_TotalTimeout verifies that the total timeout of three seconds ends a request in each of its steps. The clock of a synctest
// bubble advances as soon as all goroutines wait, so the seconds take no time.
func TestSafeHTTP_TotalTimeout(t *testing.T) {
	for _, c := range []struct {
		name  string
		url   string
		serve func(net.Conn)
		step  string // in which the timeout expires
	}{
		{"no answer", "http://h.example/", func(conn net.Conn) { io.Copy(io.Discard, conn) }, "answer"},
		{"a server that does not read the request", "http://h.example/", func(net.Conn) { time.Sleep(time.Minute) }, "send"},
		{"a header that drips", "http://h.example/", func(conn net.Conn) {
			readRequest(conn)
			writeSlowly(conn, "HTTP/1.1 200 OK\r\nA: a very long value")
		}, "answer"},
		{"a body that drips", "http://h.example/", func(conn net.Conn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			writeSlowly(conn, "x")
		}, "body"},
		{"chunks that drip", "http://h.example/", func(conn net.Conn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			writeSlowly(conn, "1\r\nx\r\n")
		}, "body"},
		{"a silent TLS server", "https://h.example/", func(conn net.Conn) { io.Copy(io.Discard, conn) }, "tls"},
		{"a TLS handshake that drips", "https://h.example/", func(conn net.Conn) {
			go io.Copy(io.Discard, conn)
			writeSlowly(conn, "\x16\x03\x03\x40\x00"+string(make([]byte, 0x4000)))
		}, "tls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newPipeClient(t, c.serve)
				_, steps, err := client.Do(t.Context(), safehttp.Request{URL: c.url})
				wantFailure(t, steps, err, safehttp.TimedOut, "the time for the whole request is over")
				assert.ErrorIs(t, err, context.DeadlineExceeded, "Do")
				assert.Equal(t, steps[len(steps)-1].Action, c.step, "step in which the timeout expired")
			})
		})
	}

	t.Run("a lookup that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := safehttp.Client{Resolver: hangingResolver{}}
			_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/"})
			wantFailure(t, steps, err, safehttp.TimedOut, "")
		})
	})
}

func TestSafeDial_TimeoutPerAddress(t *testing.T) {
	silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	t.Run("then the next one is tried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := newRawClient(t, "HTTP/1.1 200 OK\r\n\r\nabc")
			client.Resolver = newResolver("h.example", []string{"2606:4700::1", public})
			dial := client.Dial
			client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "[2606:4700::1]:80" {
					return silent(ctx, network, address)
				}
				return dial(ctx, network, address)
			}
			answer, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/"})
			require.True(t, err == nil && string(answer.Body) == "abc", "body %q, %v, want abc", answer.Body, err)
			var got []string
			for _, step := range steps {
				got = append(got, step.Action)
			}
			assert.Equal(t, strings.Join(got, " "), "url resolve connect connect send answer body", "steps")
		})
	})
	expired := func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrDeadlineExceeded }
	for _, c := range []struct {
		name    string
		addrs   []string
		dial    func(context.Context, string, string) (net.Conn, error)
		timeout time.Duration // of the request; 0 = the default
		reason  safehttp.Reason
		errText string
	}{
		{"two silent addresses", []string{"2606:4700::1", public}, silent, 0, safehttp.ConnectFailed,
			"93.184.216.34:80: no connection within 1s"},
		{"the request has less time", []string{"2606:4700::1", public}, silent, 900 * time.Millisecond, safehttp.TimedOut, ""},
		{"the network reports the timeout first", []string{public}, expired, 900 * time.Millisecond, safehttp.TimedOut, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := safehttp.Client{Resolver: newResolver("h.example", c.addrs), Dial: c.dial}
				_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/", Timeout: c.timeout})
				wantFailure(t, steps, err, c.reason, c.errText)
			})
		})
	}
}

func TestSafeHTTP_ContextCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, _ := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, steps, err := client.Do(ctx, safehttp.Request{URL: "http://h.example/", Timeout: time.Hour})
	wantFailure(t, steps, err, safehttp.Canceled, "given up by the caller")
	assert.ErrorIs(t, err, context.Canceled, "Do")
}

// TestSafeHTTP_SlowServerTimeout verifies the timeout on real sockets, where the deadline must interrupt a system call.
func TestSafeHTTP_SlowServerTimeout(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"no header": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"no end of the body": func(rw http.ResponseWriter, r *http.Request) {
			io.WriteString(rw, "abc")
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, w := startServer(t, serve)
			client := &safehttp.Client{AllowPrivate: true}
			_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://" + w.to + "/", Timeout: 100 * time.Millisecond})
			wantFailure(t, steps, err, safehttp.TimedOut, "")
		})
	}
	t.Run("no handshake", func(t *testing.T) {
		listener := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
		defer listener.Close() // never accepts; the kernel completes the connection
		client := safehttp.Client{AllowPrivate: true, Resolver: newResolver("h.example", []string{"127.0.0.1"})}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "https://h.example:" + port + "/", Timeout: 100 * time.Millisecond})
		wantFailure(t, steps, err, safehttp.TimedOut, "")
	})
}

// TestSafeHTTP_CloseWithStalledTLSPeer verifies that Do does not wait for a TLS peer that stops reading: sending close_notify would block.
func TestSafeHTTP_CloseWithStalledTLSPeer(t *testing.T) {
	ca := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		cert := ca.issue(t, certificate{names: []string{"h.example"}, around: started})
		client := newPipeClient(t, func(conn net.Conn) {
			server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			readRequest(server)
			io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
			time.Sleep(time.Minute) // a pipe has no buffer: writes to this peer block
		})
		client.RootCAs = ca.pool
		answer, _, err := client.Do(t.Context(), safehttp.Request{URL: "https://h.example/"})
		require.True(t, err == nil && string(answer.Body) == "abc", "body %q, %v, want abc", answer.Body, err)
		if took := time.Since(started); took != 0 { // exact: the clock of the bubble
			t.Errorf("Do took %s, want 0", took)
		}
	})
}
