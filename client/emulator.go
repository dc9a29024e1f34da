package client

import (
	"context"
	"net/http"
	"time"
)

// Clock is a server's clock. Only a server with --dev or --emulator shows it.
type Clock struct {
	Now    time.Time `json:"now"`
	Frozen bool      `json:"frozen"`
}

// Clock returns the server's clock.
func (c *Client) Clock(ctx context.Context) (Clock, error) {
	var k Clock
	err := c.admin(ctx, http.MethodGet, "emulator/clock", nil, &k)
	return k, err
}

// Advance moves the server's clock on; it cannot go back.
func (c *Client) Advance(ctx context.Context, d time.Duration) error {
	return c.admin(ctx, http.MethodPut, "emulator/clock", map[string]any{"advance": d.String()}, nil)
}

// SetClock sets the server's clock to a later time.
func (c *Client) SetClock(ctx context.Context, now time.Time) error {
	return c.admin(ctx, http.MethodPut, "emulator/clock", map[string]any{"now": now.Format(time.RFC3339Nano)}, nil)
}

// FreezeClock stops the server's clock.
func (c *Client) FreezeClock(ctx context.Context) error {
	return c.admin(ctx, http.MethodPut, "emulator/clock", map[string]any{"freeze": true}, nil)
}

// Fault is something that shall go wrong.
type Fault struct {
	Path        string   `json:"path"` // of the wire, for example /cgi-bin/wxopen/qrcodejumppublish
	ErrCode     int      `json:"errcode,omitempty"`
	AppID       string   `json:"appid,omitempty"`       // "" = any account
	Times       int      `json:"times,omitempty"`       // 0 = without end
	Probability *float64 `json:"probability,omitempty"` // nil = always
	Delay       string   `json:"delay,omitempty"`       // for example "3s"
	Drop        bool     `json:"drop,omitempty"`        // close the connection, do nothing
	DropAfter   bool     `json:"drop_after,omitempty"`  // do it, then close the connection
}

// AddFault makes something go wrong from now on.
func (c *Client) AddFault(ctx context.Context, f Fault) error {
	return c.admin(ctx, http.MethodPost, "emulator/faults", f, nil)
}

// ClearFaults ends all faults.
func (c *Client) ClearFaults(ctx context.Context) error {
	return c.admin(ctx, http.MethodDelete, "emulator/faults", nil, nil)
}

// Reset takes the server back to its seed and to real time.
func (c *Client) Reset(ctx context.Context) error {
	return c.admin(ctx, http.MethodPost, "emulator/reset", nil, nil)
}
