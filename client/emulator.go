package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Clock is a server's clock. Only a server with --dev or --emulator shows it.
type Clock struct {
	Now    time.Time `json:"now"`
	Frozen bool      `json:"frozen"`
	// RealTime is the time that the clock would show if it had not been moved; zero if the server does not say it.
	RealTime time.Time `json:"real_time,omitzero"`
}

// GetClock returns the server's clock.
func (c EmulatorService) GetClock(ctx context.Context) (Clock, error) {
	return get[Clock](ctx, c.transport, "emulator/clock")
}

// Advance moves the server's clock on; it cannot go back.
func (c EmulatorService) Advance(ctx context.Context, d time.Duration) error {
	return c.moveClock(ctx, map[string]any{"advance": d.String()})
}

// SetClock sets the server's clock to a later time.
func (c EmulatorService) SetClock(ctx context.Context, now time.Time) error {
	return c.moveClock(ctx, map[string]any{"now": now.Format(time.RFC3339Nano)})
}

// FreezeClock stops the server's clock.
func (c EmulatorService) FreezeClock(ctx context.Context) error {
	return c.moveClock(ctx, map[string]any{"freeze": true})
}

// ResumeClock lets a frozen clock run on from where it is.
func (c EmulatorService) ResumeClock(ctx context.Context) error {
	return c.moveClock(ctx, map[string]any{"freeze": false})
}

// FollowRealTime lets the server's clock follow real time again. A *Problem with status 409: the clock
// is ahead of real time, and only Reset takes it back.
func (c EmulatorService) FollowRealTime(ctx context.Context) error {
	return c.moveClock(ctx, map[string]any{"follow_real_time": true})
}

func (c *transport) moveClock(ctx context.Context, move map[string]any) error {
	_, err := put[Clock](ctx, c, "emulator/clock", move)
	return err
}

// Fault makes calls of an endpoint fail on purpose.
type Fault struct {
	Method      string   `json:"method,omitempty"`      // with Response: "" = any
	Path        string   `json:"path"`                  // for example /cgi-bin/wxopen/qrcodejumppublish; with Response any path
	ErrCode     int      `json:"errcode,omitempty"`     // answered instead of the call
	ErrMsg      string   `json:"errmsg,omitempty"`      // "" = the text of ErrCode
	After       bool     `json:"after,omitempty"`       // with ErrCode: do the call, then answer ErrCode all the same
	AppID       string   `json:"appid,omitempty"`       // "" = any account
	Count       int      `json:"count,omitempty"`       // 0 = without end
	Probability *float64 `json:"probability,omitempty"` // nil = always
	Delay       string   `json:"delay,omitempty"`       // for example "3s"
	Drop        bool     `json:"drop,omitempty"`        // close the connection, do nothing
	DropAfter   bool     `json:"drop_after,omitempty"`  // do it, then close the connection
	// Response answers calls of the path before everything else, whether the server has the path or not.
	Response *FaultResponse `json:"response,omitempty"`
}

// FaultResponse is the answer of a fault.
type FaultResponse struct {
	Status int             `json:"status,omitempty"` // 0 = 200
	Body   json.RawMessage `json:"body,omitempty"`   // JSON, or the body itself as a JSON string
}

// FaultInForce is a fault with how often it happened.
type FaultInForce struct {
	ID int `json:"id"` // for Emulator.DeleteFault
	Fault
	TriggerCount int `json:"trigger_count"`
}

type faultList struct {
	Faults []FaultInForce `json:"faults"`
}

// ListFaults lists the faults in force, oldest first.
func (c EmulatorService) ListFaults(ctx context.Context) ([]FaultInForce, error) {
	list, err := get[faultList](ctx, c.transport, "emulator/faults")
	return list.Faults, err
}

// DeleteFault ends the fault with an id. A *Problem with status 404: there is none.
func (c EmulatorService) DeleteFault(ctx context.Context, id int) error {
	_, err := remove[faultList](ctx, c.transport, withQuery("emulator/faults", params{"id": id}))
	return err
}

// CreateFault makes something go wrong from now on.
func (c EmulatorService) CreateFault(ctx context.Context, f Fault) error {
	var added struct {
		ID      int `json:"id"`
		ErrCode int `json:"errcode,omitempty"` // that of the fault
	}
	return c.admin(ctx, http.MethodPost, "emulator/faults", f, &added)
}

// DeleteFaults ends all faults.
func (c EmulatorService) DeleteFaults(ctx context.Context) error { return c.ReseedFaults(ctx, 0) }

// ReseedFaults ends all faults and begins the random sequence of a seed, from which probabilities
// are drawn; 0 = the same sequence again.
func (c EmulatorService) ReseedFaults(ctx context.Context, seed uint64) error {
	_, err := remove[faultList](ctx, c.transport, withQuery("emulator/faults", params{"seed": seed}))
	return err
}

// Planted is the content of a seed, and whether it was applied.
type Planted struct {
	Applied    bool `json:"applied"` // false: this very text was applied before, and nothing was done
	Accounts   int  `json:"accounts"`
	Components int  `json:"components"` // third-party platforms
	Rules      int  `json:"rules"`
}

// Seed applies the text of a seed file (YAML, with its call at most 1 MiB) over what there is. A *Problem with
// status 422 names the line that is wrong, and then nothing was applied.
func (c EmulatorService) Seed(ctx context.Context, text string) (Planted, error) {
	return post[Planted](ctx, c.transport, "emulator/seed", map[string]string{"seed": text})
}

// Reset takes the server back to its seed and to real time.
func (c EmulatorService) Reset(ctx context.Context) error {
	return c.reset(ctx, nil)
}

// ResetAccounts takes some accounts back to the seed: others keep everything. A *Problem with status 422 names an account
// that there is none of, and then nothing was reset.
func (c EmulatorService) ResetAccounts(ctx context.Context, appids []string) error {
	return c.reset(ctx, map[string]any{"accounts": append([]string{}, appids...)})
}

func (c *transport) reset(ctx context.Context, body any) error {
	_, err := post[struct {
		Reset bool `json:"reset"`
	}](ctx, c, "emulator/reset", body)
	return err
}

// Snapshot is the state of a server with --dev under a name.
type Snapshot struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"` // in real time
	Program   string    `json:"program"`    // the version that saved it
	Accounts  int64     `json:"accounts"`
	Rules     int64     `json:"rules"`
	Batches   int64     `json:"batches"`
	Bytes     int64     `json:"bytes"` // that it takes in the database
}

type snapshotList struct {
	Snapshots []Snapshot `json:"snapshots"`
}

func snapshotPath(name string) string { return "emulator/snapshots/" + url.PathEscape(name) }

// ListSnapshots lists the states that are saved, by name.
func (c EmulatorService) ListSnapshots(ctx context.Context) ([]Snapshot, error) {
	list, err := get[snapshotList](ctx, c.transport, "emulator/snapshots")
	return list.Snapshots, err
}

// SaveSnapshot saves the state of the server under a name, in the place of the one before. A *Problem with status 409: there are
// too many, or the state is too large.
func (c EmulatorService) SaveSnapshot(ctx context.Context, name string) (Snapshot, error) {
	return put[Snapshot](ctx, c.transport, snapshotPath(name), nil)
}

// LoadSnapshot takes the server back to a state that was saved: everything since is gone, but people and keys stay. A *Problem
// with status 404: nothing is saved under this name.
func (c EmulatorService) LoadSnapshot(ctx context.Context, name string) (Snapshot, error) {
	return post[Snapshot](ctx, c.transport, snapshotPath(name)+"/load", nil)
}

// DeleteSnapshot removes a saved state. A *Problem with status 404: there is none of this name.
func (c EmulatorService) DeleteSnapshot(ctx context.Context, name string) error {
	_, err := remove[snapshotList](ctx, c.transport, snapshotPath(name))
	return err
}
