package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Clock is a server's clock. Only a server with --dev or --emulator has this clock API.
type Clock struct {
	Now    time.Time `json:"now"`
	Frozen bool      `json:"frozen"`
	// RealTime is the time that the clock would show if it had not been moved; zero if the server does not return this time.
	RealTime time.Time `json:"real_time" answer:"optional" doc:"time of an unmodified clock"`
}

// GetClock returns the server's clock.
func (c EmulatorService) GetClock(ctx context.Context) (Clock, error) {
	return OpGetClock.call(ctx, c.transport, Empty{})
}

// ClockInput is a requested change of the clock; the server applies Now first, then Advance, then Freeze.
type ClockInput struct {
	Now            *time.Time `json:"now,omitempty" doc:"time to set, in RFC 3339"`
	Advance        string     `json:"advance,omitempty" doc:"duration by which to move the clock, for example 36h"`
	Freeze         *bool      `json:"freeze,omitempty" doc:"true stops the clock, false lets it run"`
	FollowRealTime bool       `json:"follow_real_time,omitempty" doc:"return to real time, unless the clock is ahead of it"`
}

// Advance moves the server's clock forward; the clock cannot move back.
func (c EmulatorService) Advance(ctx context.Context, d time.Duration) error {
	return OpSetClock.do(ctx, c.transport, ClockInput{Advance: d.String()})
}

// SetClock sets the server's clock to a later time.
func (c EmulatorService) SetClock(ctx context.Context, now time.Time) error {
	return OpSetClock.do(ctx, c.transport, ClockInput{Now: &now})
}

// FreezeClock stops the server's clock.
func (c EmulatorService) FreezeClock(ctx context.Context) error {
	return OpSetClock.do(ctx, c.transport, ClockInput{Freeze: new(true)})
}

// ResumeClock resumes a frozen clock from its current time.
func (c EmulatorService) ResumeClock(ctx context.Context) error {
	return OpSetClock.do(ctx, c.transport, ClockInput{Freeze: new(false)})
}

// FollowRealTime makes the server's clock follow real time again. If the clock is ahead of real time, the result is a *Problem with
// status 409; only Reset moves the clock back.
func (c EmulatorService) FollowRealTime(ctx context.Context) error {
	return OpSetClock.do(ctx, c.transport, ClockInput{FollowRealTime: true})
}

// Fault makes calls of an endpoint fail for test purposes.
type Fault struct {
	Method string `json:"method,omitempty"` // HTTP method of the calls that get Response; "" = any method
	// Path of the calls that fail, such as /cgi-bin/wxopen/qrcodejumppublish; with Response, any path is valid.
	Path        string   `json:"path"`
	ErrCode     int      `json:"errcode,omitempty"`     // The errcode that the server returns instead of executing the call.
	ErrMsg      string   `json:"errmsg,omitempty"`      // If ErrMsg is "", the text of ErrCode is sent.
	After       bool     `json:"after,omitempty"`       // With ErrCode, the server executes the call and then returns ErrCode nevertheless.
	AppID       string   `json:"appid,omitempty"`       // If AppID is "", the fault applies to all accounts.
	Remaining   *int     `json:"remaining,omitempty"`   // Number of calls affected, in a list of further calls; nil means unlimited.
	Probability *float64 `json:"probability,omitempty"` // nil = always
	Delay       string   `json:"delay,omitempty"`       // for example "3s"
	Drop        bool     `json:"drop,omitempty"`        // The server closes the connection without executing the call.
	DropAfter   bool     `json:"drop_after,omitempty"`  // The server executes the call and then closes the connection.
	// Response is sent for calls of the path before all other processing, whether or not the server has the path.
	Response *FaultResponse `json:"response,omitempty"`
}

// FaultResponse is the HTTP response of a fault.
type FaultResponse struct {
	Status int             `json:"status,omitempty"` // 0 = 200
	Body   json.RawMessage `json:"body,omitempty"`   // Body is JSON, or a JSON string with the literal body.
}

// ActiveFault is an active fault with the number of calls that it affected.
type ActiveFault struct {
	ID int `json:"id"` // for Emulator.DeleteFault
	Fault
	TriggerCount int `json:"trigger_count"`
}

// FaultList is the list of active faults.
type FaultList struct {
	Faults []ActiveFault `json:"faults"`
}

// ListFaults lists the active faults, oldest first.
func (c EmulatorService) ListFaults(ctx context.Context) ([]ActiveFault, error) {
	list, err := OpListFaults.call(ctx, c.transport, Empty{})
	return list.Faults, err
}

// FaultDeletion is a request to delete faults; the zero value deletes all faults.
type FaultDeletion struct {
	ID   int    `query:"id" minimum:"0" doc:"ID of the fault; default: all"`
	Seed uint64 `query:"seed" doc:"seed of a new random sequence; default: restart the present one"`
}

// DeleteFault deletes the fault with an ID. If the fault does not exist, the result is a *Problem with status 404.
func (c EmulatorService) DeleteFault(ctx context.Context, id int) error {
	if id == 0 { // in the call, 0 means all faults
		return &Problem{Title: "Not Found", Status: http.StatusNotFound, Detail: "there is no fault with this id"}
	}
	return OpClearFaults.do(ctx, c.transport, FaultDeletion{ID: id})
}

// CreateFault adds a fault, effective immediately.
func (c EmulatorService) CreateFault(ctx context.Context, f Fault) error {
	return OpAddFault.do(ctx, c.transport, f)
}

// DeleteFaults deletes all faults.
func (c EmulatorService) DeleteFaults(ctx context.Context) error { return c.ReseedFaults(ctx, 0) }

// ReseedFaults deletes all faults and restarts the random sequence for fault probabilities from seed; 0 means the previous seed.
func (c EmulatorService) ReseedFaults(ctx context.Context, seed uint64) error {
	return OpClearFaults.do(ctx, c.transport, FaultDeletion{Seed: seed})
}

// SeedResult is the result of Seed: the numbers of entries in the seed file, and whether the server applied the file.
type SeedResult struct {
	Applied    bool `json:"applied" doc:"whether the seed was applied; false if the same text was applied before"`
	Accounts   int  `json:"accounts" doc:"number of accounts in the seed"`
	Components int  `json:"components" doc:"number of third-party platforms in the seed"`
	Rules      int  `json:"rules" doc:"number of rules in the seed"`
}

// SeedRequest is a request to apply a seed.
type SeedRequest struct {
	Seed string `json:"seed" doc:"text of a seed file, YAML"`
}

// Seed applies the text of a seed file (YAML; the request is at most 1 MiB) to the current state. A *Problem with status 422 names
// the invalid line; in this case, nothing was applied.
func (c EmulatorService) Seed(ctx context.Context, text string) (SeedResult, error) {
	return OpApplySeed.call(ctx, c.transport, SeedRequest{text})
}

// Reset restores the server to its seed file and to real time.
func (c EmulatorService) Reset(ctx context.Context) error {
	_, err := Op[Empty, ResetDone](OpResetEmulator).call(ctx, c.transport, Empty{}) // without a body
	return err
}

// ResetEmulatorRequest is a request to restore the seed file.
type ResetEmulatorRequest struct {
	Accounts *[]string `json:"accounts,omitempty" maxItems:"100" doc:"AppIDs of the accounts to reset; default: everything"`
}

// ResetDone is the response after a reset.
type ResetDone struct {
	Reset bool `json:"reset"`
}

// ResetAccounts restores some accounts to the seed file; other accounts remain unchanged. A *Problem with status 422 names an
// account that does not exist; in this case, nothing was reset.
func (c EmulatorService) ResetAccounts(ctx context.Context, appids []string) error {
	return OpResetEmulator.do(ctx, c.transport, ResetEmulatorRequest{new(append([]string{}, appids...))})
}

// Snapshot is a named saved state of a server with --dev.
type Snapshot struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at" doc:"real time of creation"`
	Program   string    `json:"program" doc:"version of the program that created the snapshot"`
	Accounts  int64     `json:"accounts" doc:"number of accounts"`
	Rules     int64     `json:"rules"`
	Batches   int64     `json:"batches" doc:"number of applications for codes"`
	Bytes     int64     `json:"bytes" doc:"size in the database, in bytes"`
}

// SnapshotList is the list of all snapshots.
type SnapshotList struct {
	Snapshots []Snapshot `json:"snapshots"`
}

// ListSnapshots lists the saved snapshots, sorted by name.
func (c EmulatorService) ListSnapshots(ctx context.Context) ([]Snapshot, error) {
	list, err := OpListSnapshots.call(ctx, c.transport, Empty{})
	return list.Snapshots, err
}

// SaveSnapshot saves the state of the server under a name and replaces an existing snapshot with the same name. A *Problem with
// status 409 means that there are too many snapshots, or that the state is too large.
func (c EmulatorService) SaveSnapshot(ctx context.Context, name string) (Snapshot, error) {
	return OpSaveSnapshot.call(ctx, c.transport, Empty{}, name)
}

// LoadSnapshot restores the server to a snapshot: all later changes are lost, except changes of people and keys. If no snapshot has
// the name, the result is a *Problem with status 404.
func (c EmulatorService) LoadSnapshot(ctx context.Context, name string) (Snapshot, error) {
	return OpLoadSnapshot.call(ctx, c.transport, Empty{}, name)
}

// DeleteSnapshot deletes a snapshot. If no snapshot has the name, the result is a *Problem with status 404.
func (c EmulatorService) DeleteSnapshot(ctx context.Context, name string) error {
	return OpDeleteSnapshot.do(ctx, c.transport, Empty{}, name)
}
