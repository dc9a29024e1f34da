package store

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestSilentRead_Timeout verifies that a read without a response ends after a minute or at its deadline, whichever is first. Patient
// connections, commits and long statements have no timeout of a minute.
func TestSilentRead_Timeout(t *testing.T) {
	for _, c := range []struct {
		name     string
		patient  bool
		deadline time.Duration // 0 for none
		response time.Duration // time of the response, 0 for none
		want     time.Duration // duration of the read
		wantErr  string
	}{
		{"no response", false, 0, 0, time.Minute, "no response within 1m0s"},
		{"a response in time", false, 0, 59 * time.Second, 59 * time.Second, ""},
		{"a deadline before the timeout", false, time.Second, 0, time.Second, "timeout"},
		{"a deadline after the timeout", false, time.Hour, 0, time.Minute, "no response within 1m0s"},
		{"a patient connection", true, 0, time.Hour, time.Hour, ""},
		{"a patient connection with a deadline", true, time.Second, 0, time.Second, "timeout"},
		{"a commit", false, 0, time.Hour, time.Hour, ""},
		{"a statement that may read long", false, 0, time.Hour, time.Hour, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer client.Close()
				defer server.Close()
				patient := &deadlines{}
				patient.Store(c.patient)
				conn := &deadlineConn{Conn: client, patience: patient}
				conn.waits.Store(strings.HasPrefix(c.name, "a statement"))
				conn.commits.Store(strings.HasPrefix(c.name, "a commit"))
				if c.deadline > 0 {
					require.NoError(t, conn.SetDeadline(time.Now().Add(c.deadline)))
				}
				if c.response > 0 {
					go func() {
						time.Sleep(c.response)
						server.Write([]byte("x"))
					}()
				}
				began := time.Now()
				_, err := conn.Read(make([]byte, 1))
				assert.Equal(t, time.Since(began), c.want, "duration of the read")
				assert.True(t, (err != nil || c.wantErr == "") &&
					(err == nil || c.wantErr != "" && strings.Contains(err.Error(), c.wantErr)),
					"Read() = %v, want %q", err, c.wantErr)
			})
		})
	}
}

// TestSilentRead_ContextCanceled verifies that a deadline in the past ends a read that waits.
func TestSilentRead_ContextCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		conn := &deadlineConn{Conn: client, patience: &deadlines{}}
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			conn.SetDeadline(time.Now())
		}()
		_, err := conn.Read(make([]byte, 1))
		assert.True(t, err != nil && time.Since(began) == time.Second, "%v after %v", err, time.Since(began))
	})
}

// TestSilentRead_BoundedAtShutdown verifies that, after end(), waiting reads of patient connections end within stopReadTimeout, later reads
// within nextReadTimeout, and new connections are rejected.
func TestSilentRead_BoundedAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient := &deadlines{}
		patient.Store(true)
		conns, took := map[*deadlineConn]struct{}{}, make(chan time.Duration, 2)
		for range 2 {
			client, server := net.Pipe()
			defer server.Close()
			conns[&deadlineConn{Conn: client, patience: patient}] = struct{}{}
		}
		patient.lines = conns
		for conn := range conns {
			go func() {
				began := time.Now()
				assert.True(t, assert.ErrorOf(conn.Read(make([]byte, 1))) != nil, "Read() = nil, want an error")
				took <- time.Since(began)
			}()
		}
		time.Sleep(500 * time.Millisecond)
		patient.end()
		for range 2 {
			assert.Equal(t, (<-took), stopReadTimeout, "duration of a read that began half a second before end()")
		}
		for conn := range conns {
			began := time.Now()
			_, err := conn.Read(make([]byte, 1))
			assert.True(t, err != nil && time.Since(began) == nextReadTimeout,
				"later Read() = %v after %v, want an error after %v", err, time.Since(began), nextReadTimeout)
			conn.Close()
		}
		dial, _ := patient.listening()
		_, err := dial(t.Context(), "tcp", "127.0.0.1:1")
		assert.True(t, err == errStopping, "dial() = %v, want %v", err, errStopping)
		assert.Equal(t, len(patient.lines), 0, "registered connections after all are closed")
	})
}
