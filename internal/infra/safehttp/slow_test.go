package safehttp_test

import (
	"context"
	"crypto/tls"
	"errors"
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

type failing struct{ err error }

func (f failing) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, f.err
}

type hanging struct{}

func (hanging) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// drip writes one byte after the other, slowly, until the peer is gone.
func drip(conn net.Conn, text string) {
	for {
		for i := range len(text) {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
}

// These tests use the clock of a synctest bubble, which jumps as soon as all goroutines wait, so the three seconds take no time.
func TestSafeHTTP_TotalTimeout(t *testing.T) {
	for _, c := range []struct {
		name  string
		url   string
		serve func(net.Conn)
		last  string // the step at which the time was over
	}{
		{"no answer", "http://h.example/", func(conn net.Conn) { io.Copy(io.Discard, conn) }, "answer"},
		{"nobody reads the request", "http://h.example/", func(net.Conn) { time.Sleep(time.Minute) }, "send"},
		{"a header that drips", "http://h.example/", func(conn net.Conn) {
			readRequest(conn)
			drip(conn, "HTTP/1.1 200 OK\r\nA: a very long value")
		}, "answer"},
		{"a body that drips", "http://h.example/", func(conn net.Conn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			drip(conn, "x")
		}, "body"},
		{"chunks that drip", "http://h.example/", func(conn net.Conn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			drip(conn, "1\r\nx\r\n")
		}, "body"},
		{"a silent TLS server", "https://h.example/", func(conn net.Conn) { io.Copy(io.Discard, conn) }, "tls"},
		{"a TLS handshake that drips", "https://h.example/", func(conn net.Conn) {
			go io.Copy(io.Discard, conn)
			drip(conn, "\x16\x03\x03\x40\x00"+string(make([]byte, 0x4000)))
		}, "tls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := piped(t, c.serve)
				_, steps, err := client.Do(t.Context(), safehttp.Request{URL: c.url})
				wantFailure(t, steps, err, safehttp.TimedOut, "the time for the whole request is over")
				assert.True(t, errors.Is(err, context.DeadlineExceeded), "%v is not context.DeadlineExceeded", err)
				assert.Equal(t, steps[len(steps)-1].Action, c.last, "over at")
			})
		})
	}

	t.Run("a lookup that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := safehttp.Client{Resolver: hanging{}}
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
			client := raw(t, "HTTP/1.1 200 OK\r\n\r\nabc")
			client.Resolver = knows("h.example", []string{"2606:4700::1", public})
			answers := client.Dial
			client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "[2606:4700::1]:80" {
					return silent(ctx, network, address)
				}
				return answers(ctx, network, address)
			}
			answer, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/"})
			require.True(t, err == nil && string(answer.Body) == "abc", "%q, %v", answer.Body, err)
			var got []string
			for _, step := range steps {
				got = append(got, step.Action)
			}
			assert.Equal(t, strings.Join(got, " "), "url resolve connect connect send answer body", "steps")
		})
	})
	t.Run("two silent addresses leave no connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := safehttp.Client{Resolver: knows("h.example", []string{"2606:4700::1", public}), Dial: silent}
			_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/"})
			wantFailure(t, steps, err, safehttp.ConnectFailed, "93.184.216.34:80: no connection within 1s")
		})
	})
	t.Run("less when the whole request has less", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := safehttp.Client{Resolver: knows("h.example", []string{"2606:4700::1", public}), Dial: silent}
			_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/", Timeout: 900 * time.Millisecond})
			wantFailure(t, steps, err, safehttp.TimedOut, "")
		})
	})
	t.Run("also when the network notices first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			early := func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrDeadlineExceeded }
			client := safehttp.Client{Resolver: knows("h.example", []string{public}), Dial: early}
			_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://h.example/", Timeout: 900 * time.Millisecond})
			wantFailure(t, steps, err, safehttp.TimedOut, "")
		})
	})
}

func TestSafeHTTP_ContextCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, _ := site(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, steps, err := client.Do(ctx, safehttp.Request{URL: "http://h.example/", Timeout: time.Hour})
	wantFailure(t, steps, err, safehttp.Canceled, "given up by the caller")
	assert.True(t, errors.Is(err, context.Canceled), "%v is not context.Canceled", err)
}

// The same on real sockets, where the deadline has to wake a system call.
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
			_, w := site(t, serve)
			client := &safehttp.Client{AllowPrivate: true}
			_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "http://" + w.to + "/", Timeout: 100 * time.Millisecond})
			wantFailure(t, steps, err, safehttp.TimedOut, "")
		})
	}
	t.Run("no handshake", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close() // never accepts; the kernel completes the connection
		client := safehttp.Client{AllowPrivate: true, Resolver: knows("h.example", []string{"127.0.0.1"})}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		_, steps, err := client.Do(t.Context(), safehttp.Request{URL: "https://h.example:" + port + "/", Timeout: 100 * time.Millisecond})
		wantFailure(t, steps, err, safehttp.TimedOut, "")
	})
}

// A TLS peer that stops reading must not hold us when we close: the goodbye of TLS would wait for it.
func TestSafeHTTP_CloseWithStalledTLSPeer(t *testing.T) {
	ca := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		cert := ca.issue(t, certificate{names: []string{"h.example"}, around: started})
		client := piped(t, func(conn net.Conn) {
			server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			readRequest(server)
			io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
			time.Sleep(time.Minute) // a pipe holds nothing: whoever writes to us waits
		})
		client.RootCAs = ca.pool
		answer, _, err := client.Do(t.Context(), safehttp.Request{URL: "https://h.example/"})
		require.True(t, err == nil && string(answer.Body) == "abc", "%q, %v", answer.Body, err)
		if took := time.Since(started); took != 0 { // exact: the clock of the bubble
			t.Errorf("closing took %s", took)
		}
	})
}
