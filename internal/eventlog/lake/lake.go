// Package lake stores scans as Parquet files by day, for external query engines.
package lake

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Lake writes the scans of a journal to a storage place, each scan once. Decision 56.
type Lake struct {
	Place   Place
	Journal *scanlog.Journal
	// Recorder holds acknowledged scans that are not in the journal yet; nil = none.
	Recorder *scanlog.Recorder
	// Name returns this node's name in the lake. No other process uses the same name.
	Name func() string
	// UpTo returns the position up to which the journal may be written to the lake; nil = up to the last durable scan.
	UpTo func() int64
	// Rows converts scans to rows. A row also contains the target that the scan opened, and the owner of the matched rule or code.
	Rows func(ctx context.Context, scans []scanlog.Entry) ([]Row, error)
	// Erased lists the users that were erased after a time in Unix milliseconds.
	Erased func(ctx context.Context, after int64) ([]scanlog.Erasure, error)
	// Others returns the nodes that currently write to the lake, possibly including this node; nil = this is the only node.
	Others func(ctx context.Context) (map[string]bool, error)
	// OffsetHours returns the UTC offset, in hours, at which days begin in a new lake.
	OffsetHours func() int
	Now         func() time.Time // the real time
	Log         *slog.Logger
	// Every is the interval at which scans are written; 0 = 15 s.
	Every time.Duration

	full, atOnce int // maximum number of scans in a file (0 = fullPart), and in a step (0 = stepScans)

	writing  sync.Mutex // held by Flush; guards the fields up to the next empty line
	base     string     // the result of Name when the fields below were loaded
	known    bool       // true if the fields below match the storage
	stored   Manifest   // this node's manifest, as stored in the lake
	offset   scanlog.Offset
	zone     *time.Location
	open     map[string]*scanFile // by day: the file to which scans are still added
	created  map[string]bool      // the names of the files that this process created
	erased   map[scanlog.UserHash]int64
	pending  map[scanlog.UserHash]bool // erased users not yet searched for in the files of the lake
	learned  int64                     // erasures up to this time are in the map erased
	writers  map[string]bool           // the last result of Others
	lookedAt time.Time                 // the time of the last search of all files for erased users
	ahead    checkpoint                // an end of the journal that UpTo has not reached yet; zero = none

	position atomic.Int64
	levelAt  atomic.Int64 // Unix ms: every scan from before this time is in the lake
	last     error        // the error of the last Flush
}

// checkpoint is an end of the journal: every scan that was acknowledged before the time at has at most this position.
type checkpoint struct {
	at       time.Time
	position int64
}

// Manifest records the position up to which a node has written its journal to the lake.
type Manifest struct {
	Format int    `json:"format"`
	Node   string `json:"node"`
	// Position is the journal position of the node's last scan in the lake, and ScanID is the id of that scan. Position and ScanID
	// together show whether the node still has the same journal.
	Position int64  `json:"position"`
	ScanID   string `json:"scan_id,omitempty"`
	// CompleteUntil is a time: every scan that the node recorded before this time is in the lake.
	CompleteUntil time.Time `json:"complete_until"`
	// ErasedUntil is a time in Unix ms: users erased before this time are anonymous in the node's files.
	ErasedUntil int64     `json:"erased_until"`
	WrittenAt   time.Time `json:"written_at"`
}

// Metadata is the content of lake.json, which applies to the whole lake.
type Metadata struct {
	Format         int `json:"format"`
	UTCOffsetHours int `json:"utc_offset_hours"` // the UTC offset at which the days of the folders begin
}

const (
	lakewideName   = "lake.json"
	manifestFolder = "manifest/"
	format         = 1

	usualEvery = 15 * time.Second
	// stepScans is the number of scans that are written in one step while a node catches up.
	stepScans = 50_000
	// idleManifest is the interval at which a manifest is rewritten while no scans arrive.
	idleManifest = 5 * time.Minute
	// erasePause is the minimum time between two searches of all files of the lake for erased users.
	erasePause = time.Minute
	// eraseOverlap is the tolerated clock difference between two nodes: erasures up to eraseOverlap older than the last known
	// erasure are read again.
	eraseOverlap = 10 * time.Minute
	// keptDays is the number of days whose latest file, to which scans are still added, is kept in memory.
	keptDays = 2
	// maxHeldScans is the maximum number of scans that a journal keeps while the lake is unavailable: about 6 GB of journal files.
	maxHeldScans = 50_000_000
)

// Run writes scans at every interval until ctx ends. Scans that cannot be written stay in the journal. A nil Lake writes nothing.
func (l *Lake) Run(ctx context.Context) {
	if l == nil {
		return
	}
	l.levelAt.CompareAndSwap(0, l.Now().UnixMilli())
	interval := cmp.Or(l.Every, usualEvery)
	tick := time.Tick(interval)
	for {
		_ = l.Flush(ctx) // Flush logs its errors
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// Flush writes the scans that were acknowledged before the call.
func (l *Lake) Flush(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	err := l.flush(ctx)
	if err != nil {
		l.known = false // the write may have succeeded although the response was lost
	}
	prevErr := l.last
	l.last = err
	if ctx.Err() == nil && (prevErr != nil) != (err != nil) {
		if err != nil {
			l.Log.WarnContext(ctx, "lake write failed", "will_retry", true, "error", err)
		} else {
			l.Log.InfoContext(ctx, "lake write recovered")
		}
	}
	return err
}

func (l *Lake) flush(ctx context.Context) error {
	now := l.Now()
	if err := l.Recorder.Sync(ctx); err != nil {
		return err
	}
	last, _ := l.Journal.End(ctx) // Journal.End never returns an error
	end := last
	if l.UpTo != nil {
		end = min(end, l.UpTo())
	}
	if err := l.verifyManifest(ctx); err != nil {
		return err
	}
	if !l.known || l.base != l.Name() {
		if err := l.locate(ctx); err != nil {
			return err
		}
	}
	if err := l.learn(ctx); err != nil {
		return err
	}
	wrote, had := false, l.stored
	for hasMore := true; hasMore; {
		from := l.offset.Position
		var err error
		if hasMore, err = l.step(ctx, end); err != nil {
			return err
		}
		wrote = wrote || l.offset.Position > from
		if hasMore {
			if err := l.note(ctx, had); err != nil {
				return err
			}
		}
	}
	next, reached := had, max(end, l.offset.Position) // reached moves past unreadable scans
	until := l.completeUntil(checkpoint{now, last}, reached)
	if !until.IsZero() {
		next.CompleteUntil = until
	}
	if len(l.pending) > 0 && now.Sub(l.lookedAt).Abs() >= erasePause {
		if err := l.erase(ctx); err != nil {
			return err
		}
		next.ErasedUntil, l.lookedAt, wrote = l.learned, now, true
	}
	if wrote || now.Sub(had.WrittenAt).Abs() >= idleManifest {
		if err := l.note(ctx, next); err != nil {
			return err
		}
	}
	l.position.Store(reached)
	if !until.IsZero() {
		l.levelAt.Store(until.UnixMilli())
	}
	return nil
}

// completeUntil returns the time of the newest checkpoint that the lake has reached, current or l.ahead; zero = none. While the lake does
// not reach current, l.ahead keeps an earlier checkpoint, so that the returned time advances although the lake never reaches current.
func (l *Lake) completeUntil(current checkpoint, reached int64) (until time.Time) {
	if l.ahead.position <= reached {
		until, l.ahead = l.ahead.at, current
	}
	if current.position <= reached {
		until, l.ahead = current.at, checkpoint{}
	}
	return until
}

// verifyManifest checks that the manifest this node wrote is unchanged in the lake, and that no other process has written under the same
// name.
func (l *Lake) verifyManifest(ctx context.Context) error {
	if !l.known || l.stored.WrittenAt.IsZero() {
		return nil
	}
	var m Manifest
	err := get(ctx, l.Place, manifestName(l.stored.Node), &m)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.Position != l.stored.Position || m.ScanID != l.stored.ScanID {
		l.known = false
		l.Log.WarnContext(ctx, "lake manifest changed unexpectedly; rewriting from the journal",
			"node", l.stored.Node, "left_at", l.stored.Position, "found_at", m.Position)
	}
	return nil
}

// step writes up to stepScans scans, and reports whether more scans remain to be written.
func (l *Lake) step(ctx context.Context, end int64) (hasMore bool, err error) {
	var entries []scanlog.Entry
	for e, err := range l.Journal.Read(ctx, l.offset.Position) {
		if err != nil {
			return false, fmt.Errorf("reading scans for the lake: %w", err)
		}
		if e.Position > end {
			break
		}
		if entries = append(entries, e); len(entries) == cmp.Or(l.atOnce, stepScans) {
			hasMore = true
			break
		}
	}
	if len(entries) == 0 {
		return false, nil
	}
	rows, err := l.Rows(ctx, entries)
	if err != nil {
		return false, fmt.Errorf("resolving the owners of scans: %w", err)
	}
	days := map[string][]Placed{}
	for i := range rows {
		l.eraseIn(&rows[i])
		day := rows[i].ScannedAt.In(l.zone).Format(time.DateOnly)
		days[day] = append(days[day], Placed{entries[i].Position, rows[i]})
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		if err := l.add(ctx, day, days[day]); err != nil {
			return false, err
		}
	}
	last := entries[len(entries)-1]
	l.offset = scanlog.Offset{Position: last.Position, ID: last.ID}
	for len(l.open) > keptDays {
		delete(l.open, slices.Min(slices.Collect(maps.Keys(l.open))))
	}
	return hasMore, nil
}

// add writes rows into the latest file of their day, and into new files once this file is full.
func (l *Lake) add(ctx context.Context, day string, rows []Placed) error {
	p := l.open[day]
	if p == nil {
		names, err := l.Place.List(ctx, dayFolder(day)+"part-"+l.stored.Node+"-")
		if err != nil {
			return err
		}
		// List also returns files that this node wrote under an earlier name, which is the same name with a number appended. Only the files
		// under the present name are of interest here.
		names = slices.DeleteFunc(names, func(name string) bool { _, node, ok := readPartName(name); return !ok || node != l.stored.Node })
		if n := len(names); n > 0 {
			if p, err = loadPart(ctx, l.Place, names[n-1]); err != nil {
				return err
			}
		}
	}
	if p != nil {
		rows = slices.DeleteFunc(rows, func(r Placed) bool { return r.Position <= p.upTo })
	}
	for full := cmp.Or(l.full, fullPart); len(rows) > 0; {
		if p == nil || p.rows >= full || l.Others != nil && !l.created[p.name] {
			// Files that this node wrote before its restart may be rewritten by other nodes (erase), so this node does not add to them.
			p = &scanFile{name: partName(day, l.stored.Node, rows[0].Position)}
			l.created[p.name] = true
		}
		n := min(len(rows), full-p.rows)
		next, _, err := p.merged(rows[:n], nil)
		if err != nil {
			return err
		}
		if err := l.Place.Put(ctx, next.name, next.content); err != nil {
			return err
		}
		p, rows = next, rows[n:]
	}
	l.open[day] = p
	return nil
}

// note writes the manifest. note is called after the Parquet files are written: if a crash prevents writing the manifest, the scans in the
// files are skipped later.
func (l *Lake) note(ctx context.Context, m Manifest) error {
	m.Format, m.Position, m.WrittenAt = format, l.offset.Position, l.Now().UTC()
	m.CompleteUntil = m.CompleteUntil.UTC()
	if m.Position > 0 {
		m.ScanID = l.offset.ID.String()
	}
	if err := put(ctx, l.Place, manifestName(m.Node), m); err != nil {
		return err
	}
	l.stored = m
	l.position.Store(m.Position)
	return nil
}

func manifestName(node string) string { return manifestFolder + node + ".json" }

func put(ctx context.Context, to Place, name string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return to.Put(ctx, name, append(content, '\n'))
}

func get(ctx context.Context, from Place, name string, v any) error {
	content, err := from.Get(ctx, name)
	if err == nil {
		if err = json.Unmarshal(content, v); err != nil {
			err = fmt.Errorf("%s in the lake cannot be read: %w", name, err)
		}
	}
	return err
}

// locate determines up to which journal position the lake is written. If the lake is empty or lost, it is written from the
// beginning of the journal.
func (l *Lake) locate(ctx context.Context) error {
	var all Metadata
	err := get(ctx, l.Place, lakewideName, &all)
	if errors.Is(err, fs.ErrNotExist) {
		all = Metadata{Format: format, UTCOffsetHours: l.OffsetHours()}
		err = put(ctx, l.Place, lakewideName, all)
	}
	if err != nil {
		return err
	}
	if all.Format != format {
		return fmt.Errorf("the lake has format %d, but this version writes %d: use another folder or prefix", all.Format, format)
	}
	base, renamed := l.Name(), l.base != "" && l.base != l.Name()
	if l.created == nil {
		l.created = map[string]bool{}
	}
	l.zone, l.open = time.FixedZone("", all.UTCOffsetHours*3600), map[string]*scanFile{}
	for n := 1; ; n++ {
		node := base
		if n > 1 {
			node = fmt.Sprintf("%s-%d", base, n)
		}
		m := Manifest{Node: node}
		err := get(ctx, l.Place, manifestName(node), &m)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		equal, mark := true, l.offset
		if err == nil {
			if mark, err = m.offset(); err != nil {
				return err
			}
			if equal, err = l.Journal.Is(ctx, mark); err != nil {
				return err
			}
		} else if !renamed {
			mark = scanlog.Offset{}
			if n > 1 {
				if mark, err = l.Journal.Last(ctx); err != nil {
					return err
				}
				l.Log.WarnContext(ctx, "lake has scans of another journal under this name; journal renamed",
					"hint", "qrjump doctor --deep lists missing scans",
					"before", base, "after", node)
			}
		}
		if !equal {
			continue
		}
		l.stored, l.offset, l.base, l.known = m, mark, base, true
		l.learned, l.erased, l.pending = 0, map[scanlog.UserHash]int64{}, map[scanlog.UserHash]bool{}
		l.position.Store(mark.Position)
		return nil
	}
}

func (m *Manifest) offset() (offset scanlog.Offset, err error) {
	if offset.Position = m.Position; m.Position > 0 {
		if offset.ID, err = scanlog.ParseScanID(m.ScanID); err != nil {
			err = fmt.Errorf("%s in the lake has no scan_id: %w", manifestName(m.Node), err)
		}
	}
	return offset, err
}

// NeededFrom returns the position up to which the lake no longer needs the journal's scans.
func (l *Lake) NeededFrom() int64 {
	end, _ := l.Journal.End(context.Background())
	return max(l.position.Load(), end-maxHeldScans)
}

// Backlog returns the number of durable scans that are not in the lake yet; 0 for a nil Lake.
func (l *Lake) Backlog() int64 {
	if l == nil {
		return 0
	}
	end, _ := l.Journal.End(context.Background())
	return max(0, end-l.position.Load())
}

// Age returns the time since the lake last contained every scan; if it never did, the time since writing began; 0 for a
// nil Lake.
func (l *Lake) Age() time.Duration {
	if l == nil || l.levelAt.Load() == 0 {
		return 0
	}
	return max(0, l.Now().Sub(time.UnixMilli(l.levelAt.Load())))
}

// baseOf returns the name of a node without the appended number.
func baseOf(node string) string {
	base, _, _ := strings.Cut(node, "-")
	return base
}
