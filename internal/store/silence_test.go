package store

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A read ends after a minute without a word, at the deadline of its user if
// that comes first, and never while somebody is patient.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name     string
		patient  bool
		deadline time.Duration // 0 = none
		words    time.Duration // when the other side says something; 0 = never
		after    time.Duration // the read ends
		fault    string
	}{
		{"silence ends it", false, 0, 0, time.Minute, "no answer in 1m0s"},
		{"a word in time is read", false, 0, 59 * time.Second, 59 * time.Second, ""},
		{"the user's deadline comes first", false, time.Second, 0, time.Second, "timeout"},
		{"the user's deadline comes later", false, time.Hour, 0, time.Minute, "no answer in 1m0s"},
		{"who is patient waits", true, 0, time.Hour, time.Hour, ""},
		{"who is patient keeps the user's deadline", true, time.Second, 0, time.Second, "timeout"},
		{"a statement that may read long is waited for", false, 0, time.Hour, time.Hour, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				defer here.Close()
				defer there.Close()
				patient := &atomic.Bool{}
				patient.Store(c.patient)
				conn := &impatient{Conn: here, patient: patient}
				conn.waits.Store(strings.HasPrefix(c.name, "a statement"))
				if c.deadline > 0 {
					if err := conn.SetDeadline(time.Now().Add(c.deadline)); err != nil {
						t.Fatal(err)
					}
				}
				if c.words > 0 {
					go func() {
						time.Sleep(c.words)
						there.Write([]byte("x"))
					}()
				}
				began := time.Now()
				_, err := conn.Read(make([]byte, 1))
				if took := time.Since(began); took != c.after {
					t.Errorf("the read ended after %v, want %v", took, c.after)
				}
				if err == nil && c.fault != "" || err != nil && (c.fault == "" || !strings.Contains(err.Error(), c.fault)) {
					t.Errorf("got %v, want %q", err, c.fault)
				}
			})
		})
	}
}

// The end of a context ends a read that waits already.
func TestSilenceEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		conn := &impatient{Conn: here, patient: &atomic.Bool{}}
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			conn.SetDeadline(time.Now())
		}()
		if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
