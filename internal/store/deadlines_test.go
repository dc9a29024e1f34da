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

// A read without a response ends after a minute or at its deadline; patient connections, commits and long statements have no such minute.
func TestSilentRead_Timeout(t *testing.T) {
	for _, c := range []struct {
		name     string
		patient  bool
		deadline time.Duration // 0 = none
		words    time.Duration // when the other side says something; 0 = never
		after    time.Duration // the read ends
		fault    string
	}{
		{"silence ends it", false, 0, 0, time.Minute, "no response within 1m0s"},
		{"a word in time is read", false, 0, 59 * time.Second, 59 * time.Second, ""},
		{"the user's deadline comes first", false, time.Second, 0, time.Second, "timeout"},
		{"the user's deadline comes later", false, time.Hour, 0, time.Minute, "no response within 1m0s"},
		{"who is patient waits", true, 0, time.Hour, time.Hour, ""},
		{"who is patient keeps the user's deadline", true, time.Second, 0, time.Second, "timeout"},
		{"a commit is waited for", false, 0, time.Hour, time.Hour, ""},
		{"a statement that may read long is waited for", false, 0, time.Hour, time.Hour, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				defer here.Close()
				defer there.Close()
				patient := &deadlines{}
				patient.Store(c.patient)
				conn := &deadlineConn{Conn: here, patience: patient}
				conn.waits.Store(strings.HasPrefix(c.name, "a statement"))
				conn.commits.Store(strings.HasPrefix(c.name, "a commit"))
				if c.deadline > 0 {
					require.NoError(t, conn.SetDeadline(time.Now().Add(c.deadline)))
				}
				if c.words > 0 {
					go func() {
						time.Sleep(c.words)
						there.Write([]byte("x"))
					}()
				}
				began := time.Now()
				_, err := conn.Read(make([]byte, 1))
				assert.Equal(t, time.Since(began), c.after, "the read ended after")
				assert.True(t, (err != nil || c.fault == "") && (err == nil || c.fault != "" && strings.Contains(err.Error(), c.fault)),
					"got %v, want %q", err, c.fault)
			})
		})
	}
}

// The end of a context ends a read that waits already.
func TestSilentRead_ContextCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		conn := &deadlineConn{Conn: here, patience: &deadlines{}}
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			conn.SetDeadline(time.Now())
		}()
		_, err := conn.Read(make([]byte, 1))
		assert.True(t, err != nil && time.Since(began) == time.Second, "%v after %v", err, time.Since(began))
	})
}

// When the process ends, nobody waits for longer than a second, and the next for less; those that wait already are bounded too, and
// nobody connects.
func TestSilentRead_BoundedAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient := &deadlines{}
		patient.Store(true)
		lines, took := map[*deadlineConn]struct{}{}, make(chan time.Duration, 2)
		for range 2 {
			here, there := net.Pipe()
			defer there.Close()
			lines[&deadlineConn{Conn: here, patience: patient}] = struct{}{}
		}
		patient.lines = lines
		for one := range lines {
			go func() {
				began := time.Now()
				assert.True(t, assert.ErrorOf(one.Read(make([]byte, 1))) != nil, "a word came")
				took <- time.Since(began)
			}()
		}
		time.Sleep(500 * time.Millisecond)
		patient.end()
		for range 2 {
			assert.Equal(t, (<-took), stopReadTimeout, "a read that waited for half a second ended after")
		}
		for one := range lines {
			began := time.Now()
			_, err := one.Read(make([]byte, 1))
			assert.True(t, err != nil && time.Since(began) == nextReadTimeout, "the next one: %v after %v", err, time.Since(began))
			one.Close()
		}
		dial, _ := patient.listening()
		_, err := dial(t.Context(), "tcp", "127.0.0.1:1")
		assert.True(t, err == errStopping, "a new connection: %v", err)
		assert.Equal(t, len(patient.lines), 0, "connections that are closed are remembered")
	})
}
