package store

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// silence is how long PostgreSQL may leave a statement or a commit without a
// word before its connection is given up. Without it a call would wait for ever
// when the network has lost its way, and would hold its connection and its
// locks all that time. It is no statement_timeout: that would also end the wait
// of a commit for the replica, and PostgreSQL calls such a commit a success.
const silence = time.Minute

// connectTime is how long a server may take to let us in, where the URL does
// not say connect_timeout.
const connectTime = 5 * time.Second

// dialer finds dead peers of idle connections within half a minute.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}

// listening is how connections to PostgreSQL are made that end after a silence,
// unless patient is set.
func listening(patient *atomic.Bool) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &impatient{Conn: conn, patient: patient}, nil
	}
}

// impatient is a connection whose reads end after a silence.
type impatient struct {
	net.Conn
	patient *atomic.Bool
	waits   atomic.Bool // for the statement that was sent last, however long it is silent

	mu sync.Mutex
	// until is what the user of the connection wants; zero = no deadline.
	until time.Time
}

func (c *impatient) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetDeadline(t)
}

func (c *impatient) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetReadDeadline(t)
}

func (c *impatient) Read(p []byte) (int, error) {
	ours, err := c.begin()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() && ours {
		err = fmt.Errorf("no answer in %v: %w", silence, err)
	}
	return n, err
}

// begin sets the deadline of one read; ours says that it is not the user's.
func (c *impatient) begin() (ours bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.patient.Load() || c.waits.Load() {
		return false, c.Conn.SetReadDeadline(c.until)
	}
	end := time.Now().Add(silence) // of a socket: real time
	if !c.until.IsZero() && c.until.Before(end) {
		return false, c.Conn.SetReadDeadline(c.until)
	}
	return true, c.Conn.SetReadDeadline(end)
}
