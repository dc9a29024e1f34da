package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/webhooks"
)

// journaled is what an archive takes from a journal.
type journaled struct {
	*ledger.Journal
	upTo    int64 // the last scan
	counted int64 // up to here its scans are counted from a stream; 0 = from the journal
}

// journaled reads up to where the scans of a journal belong to a state: up to a
// position, and further where the state counts them or has told of them already.
func (t *Tx) journaled(ctx context.Context, scans *ledger.Journal, before int64) (*journaled, error) {
	end, err := scans.End(ctx) // a position beyond it is of another journal
	if err != nil {
		return nil, err
	}
	p := &journaled{Journal: scans}
	state, err := t.StatisticsState(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading how far scans are counted: %w", err)
	}
	if state.Ledger == scans.ID() || state.Ledger == "" {
		if err := t.row(ctx, `SELECT COALESCE(MAX(position), 0) FROM webhook_readers WHERE name = $1`, webhooks.ScanSource).Scan(&p.upTo); err != nil {
			return nil, fmt.Errorf("reading how far scans were told of: %w", err)
		}
		p.upTo = max(p.upTo, state.Position)
	} else if id, err := ledger.ParseScanID(state.Scan); err == nil {
		if p.counted, err = scans.Find(ctx, id); err != nil && !errors.Is(err, ledger.ErrNoScan) {
			return nil, err
		}
	}
	p.upTo = min(max(before, p.upTo, p.counted), end)
	return p, nil
}

// scanRows writes scans as rows of scan_events.
type scanRows struct {
	lines *json.Encoder
	n     int64
}

func newScanRows(w io.Writer) *scanRows {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	return &scanRows{lines: lines}
}

func (r *scanRows) write(e *ledger.Event, seq int64) error {
	type row struct {
		Action     string `json:"action"`
		Activation int64  `json:"activation"`
		App        string `json:"app"`
		At         int64  `json:"at"`
		Batch      int64  `json:"batch"`
		Client     string `json:"client"`
		Day        int64  `json:"day"`
		ID         string `json:"id"`
		Idx        int64  `json:"idx"`
		Kind       string `json:"kind"`
		Link       string `json:"link"`
		Network    string `json:"network"`
		Reason     string `json:"reason"`
		Region     string `json:"region"`
		Rule       int64  `json:"rule"`
		Seq        int64  `json:"seq"`
		Source     string `json:"source"`
		UserHash   string `json:"user_hash"`
		Version    string `json:"version"`
	}
	args := scanArgs(e)
	user, network := args[2].(string), args[5].(string)
	r.n++
	return r.lines.Encode(row{Action: e.Action, Activation: e.Activation, App: e.App, At: e.At.UnixMilli(), Batch: e.Batch, Client: e.Client, Day: dayOf(e.ID),
		ID: e.ID.String(), Idx: e.Index, Kind: e.Kind, Link: e.Text, Network: network, Reason: e.Reason, Region: e.Region, Rule: e.RuleID, Seq: seq,
		Source: e.Source, UserHash: user, Version: e.Version})
}

// rows writes the journal as the rows of scan_events.
func (p *journaled) rows(ctx context.Context, w io.Writer) (int64, error) {
	rows := newScanRows(w)
	for e, err := range p.Read(ctx, 0) {
		if err != nil {
			return rows.n, err
		}
		if e.Position > p.upTo {
			break
		}
		if err := rows.write(&e.Event, e.Position); err != nil {
			return rows.n, err
		}
	}
	return rows.n, nil
}

// Elsewhere is a log of scans that is neither in files nor in the database.
type Elsewhere interface {
	ledger.Log
	// ID is the ledger's.
	ID() string
}

// streamed is what an archive takes from a stream: its scans stand behind those
// of the table, as if they had been stored there.
type streamed struct {
	log  Elsewhere
	upTo int64  // what is counted of it
	base int64  // the last number of the table
	id   string // of the table
}

// KeepScansInStream says that scans are in a stream: an archive has them as rows,
// behind those that are in the table from the time before.
func (s *Store) KeepScansInStream(log Elsewhere) { s.stream = log }

// streamed reads up to where the stream is counted.
func (t *Tx) streamed(ctx context.Context, log Elsewhere) (*streamed, error) {
	if _, err := log.End(ctx); err != nil {
		return nil, fmt.Errorf("the scans are in a stream that does not answer; export again when it does: %w", err)
	}
	p := &streamed{log: log}
	state, err := t.StatisticsState(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading how far scans are counted: %w", err)
	}
	if state.Ledger == log.ID() {
		p.upTo = state.Position
	}
	if p.base, err = t.scansEnd(ctx); err != nil {
		return nil, fmt.Errorf("reading the number of the last scan: %w", err)
	}
	if err := t.row(ctx, `SELECT scan FROM ledger_nodes WHERE node = $1`, ledgerNode).Scan(&p.id); err != nil {
		return nil, fmt.Errorf("reading the id of the ledger: %w", err)
	}
	return p, nil
}

// end is the number of the last scan of the archive.
func (p *streamed) end() int64 { return p.base + p.upTo }

// rows writes what is counted of the stream: each scan once, and none that is in
// the table.
func (p *streamed) rows(ctx context.Context, tx *Tx, w io.Writer) (int64, error) {
	rows := newScanRows(w)
	var some []ledger.Entry
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		twice, err := tx.Duplicates(ctx, some[0].Position-1, some[len(some)-1].Position)
		if err != nil {
			return err
		}
		known, err := tx.knownScans(ctx, some)
		if err != nil {
			return err
		}
		for i := range some {
			e := &some[i]
			if _, again := slices.BinarySearch(twice, e.Position); again || known[e.ID.String()] {
				continue
			}
			if err := rows.write(&e.Event, p.base+e.Position); err != nil {
				return err
			}
		}
		some = some[:0]
		return nil
	}
	for e, err := range p.log.Read(ctx, 0) {
		if err != nil {
			return rows.n, fmt.Errorf("reading the stream of scans: %w", err)
		}
		if e.Position > p.upTo {
			break
		}
		if some = append(some, e); len(some) == scansAtOnce {
			if err := flush(); err != nil {
				return rows.n, err
			}
		}
	}
	return rows.n, flush()
}

// knownScans are the ids of those that are in the table.
func (t *Tx) knownScans(ctx context.Context, some []ledger.Entry) (map[string]bool, error) {
	first, last := dayOf(some[0].ID), dayOf(some[0].ID)
	args := []any{nil, nil}
	for i := range some {
		day := dayOf(some[i].ID)
		first, last = min(first, day), max(last, day)
		args = append(args, some[i].ID.String())
	}
	args[0], args[1] = first, last
	ids, err := list(ctx, t, scanText, `SELECT id FROM scan_events WHERE day >= $1 AND day <= $2 AND id IN (`+placeholders(3, len(some))+`)`, args...)
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		known[id] = true
	}
	return known, err
}
