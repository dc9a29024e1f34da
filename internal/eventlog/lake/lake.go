// Package lake keeps scans as Parquet files by day, for the engines of others.
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

// Lake writes what a journal has recorded to a place, each scan once. Decision 56.
type Lake struct {
	Place   Place
	Journal *scanlog.Journal
	// Name is that of this node in the lake: no other process has it.
	Name func() string
	// UpTo is the position up to which the journal may be written to the lake; nil = all that is
	// durable.
	UpTo func() int64
	// Rows makes rows of scans: with what each opened and whose it is.
	Rows func(ctx context.Context, scans []scanlog.Entry) ([]Row, error)
	// Erased lists users that were erased after a moment in Unix milliseconds.
	Erased func(ctx context.Context, after int64) ([]scanlog.Erasure, error)
	// Others are the nodes that write parts now; this one may be among them. nil = this is the only
	// node.
	Others func(ctx context.Context) (map[string]bool, error)
	// OffsetHours is the zone of days in a new lake, in hours east of UTC.
	OffsetHours func() int
	Now         func() time.Time // the real time
	Log         *slog.Logger
	// Every is the interval at which scans are written; 0 = 15 s.
	Every time.Duration

	full, atOnce int // 0 = fullPart, stepScans

	writing  sync.Mutex // held by Flush; it guards what follows, up to the empty line
	base     string     // Name, when the fields below were read
	known    bool       // the fields below are what the place has
	had      Manifest   // as it stands there
	mark     scanlog.Offset
	zone     *time.Location
	open     map[string]*part // the growing part of each day
	begun    map[string]bool  // the names of parts that this process began
	erased   map[scanlog.UserHash]int64
	pending  map[scanlog.UserHash]bool // erased users that the parts were not searched for yet
	learned  int64                     // erasures up to this moment are in erased
	lookedAt time.Time                 // for users who were erased

	position atomic.Int64
	levelAt  atomic.Int64 // Unix ms: every scan from before is in the lake
	last     error        // of the last Flush
}

// Manifest says up to where a node has written its journal.
type Manifest struct {
	Format int    `json:"format"`
	Node   string `json:"node"`
	// Position is that of the last scan of the node's journal that is in the lake, and ScanID its
	// id. Together they show whether the journal is still the same one.
	Position int64  `json:"position"`
	ScanID   string `json:"scan_id,omitempty"`
	// CompleteUntil: every scan that the node recorded before this moment is in the lake.
	CompleteUntil time.Time `json:"complete_until"`
	// ErasedUntil: users who were erased before this moment are anonymous in the node's parts; Unix
	// ms.
	ErasedUntil int64     `json:"erased_until"`
	WrittenAt   time.Time `json:"written_at"`
}

// Metadata is the common part of all files of a lake.
type Metadata struct {
	Format         int `json:"format"`
	UTCOffsetHours int `json:"utc_offset_hours"` // where the days of its folders begin
}

const (
	lakewideName   = "lake.json"
	manifestFolder = "manifest/"
	format         = 1

	usualEvery = 15 * time.Second
	// stepScans is the number of scans that are written at once while a node catches up.
	stepScans = 50_000
	// idleManifest is after how long a manifest is written again while no scan comes.
	idleManifest = 5 * time.Minute
	// erasePause is the least time between two searches of all parts.
	erasePause = time.Minute
	// eraseOverlap is the tolerated difference between the clocks of two nodes: erasures so much older are read again.
	eraseOverlap = 10 * time.Minute
	// keptDays is of how many days the growing parts are held in memory.
	keptDays = 2
	// mostHeld is the number of scans that a journal keeps while the lake is unavailable: about 6 GB.
	mostHeld = 50_000_000
)

// Run writes until ctx ends. What cannot be written stays in the journal.
func (l *Lake) Run(ctx context.Context) {
	l.levelAt.CompareAndSwap(0, l.Now().UnixMilli())
	interval := cmp.Or(l.Every, usualEvery)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		_ = l.Flush(ctx) // it says in the log that it failed
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Flush writes what was durable when it was called.
func (l *Lake) Flush(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	err := l.flush(ctx)
	if err != nil {
		l.known = false // the write may have succeeded although its answer was lost
	}
	prevErr := l.last
	l.last = err
	if ctx.Err() == nil && (prevErr != nil) != (err != nil) {
		if err != nil {
			l.Log.WarnContext(ctx, "scans cannot be written to the lake; they stay in the journal until they can", "error", err)
		} else {
			l.Log.InfoContext(ctx, "scans are written to the lake again")
		}
	}
	return err
}

func (l *Lake) flush(ctx context.Context) error {
	now, end := l.Now(), l.end(ctx)
	if err := l.look(ctx); err != nil {
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
	wrote, had := false, l.had
	for hasMore := true; hasMore; {
		from := l.mark.Position
		var err error
		if hasMore, err = l.step(ctx, end); err != nil {
			return err
		}
		wrote = wrote || l.mark.Position > from
		if hasMore {
			if err := l.note(ctx, had); err != nil {
				return err
			}
		}
	}
	next := had
	next.CompleteUntil = now
	if len(l.pending) > 0 && now.Sub(l.lookedAt).Abs() >= erasePause {
		if err := l.erase(ctx); err != nil {
			return err
		}
		next.ErasedUntil, l.lookedAt, wrote = l.learned, now, true
	}
	if wrote || now.Sub(had.CompleteUntil).Abs() >= idleManifest {
		if err := l.note(ctx, next); err != nil {
			return err
		}
	}
	l.position.Store(max(end, l.mark.Position)) // unreadable scans are skipped
	l.levelAt.Store(now.UnixMilli())
	return nil
}

// look checks that what this node wrote is still in the lake, and that no other node wrote under
// its name.
func (l *Lake) look(ctx context.Context) error {
	if !l.known || l.had.WrittenAt.IsZero() {
		return nil
	}
	var m Manifest
	err := get(ctx, l.Place, manifestName(l.had.Node), &m)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.Position != l.had.Position || m.ScanID != l.had.ScanID {
		l.known = false
		l.Log.WarnContext(ctx, "the lake is not as this node left it: it is lost, or another process writes under this node's name; "+
			"what is lost is written again from the journal", "node", l.had.Node, "left at", l.had.Position, "is at", m.Position)
	}
	return nil
}

func (l *Lake) end(ctx context.Context) int64 {
	end, _ := l.Journal.End(ctx) // a journal always knows
	if l.UpTo != nil {
		end = min(end, l.UpTo())
	}
	return end
}

// step writes some scans, and says whether there are more.
func (l *Lake) step(ctx context.Context, end int64) (hasMore bool, err error) {
	var entries []scanlog.Entry
	for e, err := range l.Journal.Read(ctx, l.mark.Position) {
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
		return false, fmt.Errorf("finding out what scans count for: %w", err)
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
	l.mark = scanlog.Offset{Position: last.Position, ID: last.ID}
	for len(l.open) > keptDays {
		delete(l.open, slices.Min(slices.Collect(maps.Keys(l.open))))
	}
	return hasMore, nil
}

// add writes rows of a day into its growing part, and into new parts where that is full.
func (l *Lake) add(ctx context.Context, day string, rows []Placed) error {
	p := l.open[day]
	if p == nil {
		names, err := l.Place.List(ctx, dayFolder(day)+"part-"+l.had.Node+"-")
		if err != nil {
			return err
		}
		// The list also has the parts of this node's other lives: their names go on with a number.
		names = slices.DeleteFunc(names, func(name string) bool { _, node, ok := readPartName(name); return !ok || node != l.had.Node })
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
		if p == nil || p.rows >= full || l.Others != nil && !l.begun[p.name] {
			// Another node may erase users in parts that this node wrote before it was started
			// again, so it begins new ones.
			p = &part{name: partName(day, l.had.Node, rows[0].Position)}
			l.begun[p.name] = true
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

// note writes the manifest, after the parts. After a crash in between, the scans that the parts
// have already are skipped.
func (l *Lake) note(ctx context.Context, m Manifest) error {
	m.Format, m.Position, m.WrittenAt = format, l.mark.Position, l.Now().UTC()
	m.CompleteUntil = m.CompleteUntil.UTC()
	if m.Position > 0 {
		m.ScanID = l.mark.ID.String()
	}
	if err := put(ctx, l.Place, manifestName(m.Node), m); err != nil {
		return err
	}
	l.had = m
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

// locate finds out up to which position the journal is in the lake. An empty or lost lake is
// written from the beginning of the journal.
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
		return fmt.Errorf("the lake has format %d, this program writes %d: name another folder or prefix", all.Format, format)
	}
	base, renamed := l.Name(), l.base != "" && l.base != l.Name()
	if l.begun == nil {
		l.begun = map[string]bool{}
	}
	l.zone, l.open = time.FixedZone("", all.UTCOffsetHours*3600), map[string]*part{}
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
		equal, mark := true, l.mark
		if err == nil {
			if mark, err = m.mark(); err != nil {
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
				l.Log.WarnContext(ctx, "the lake has scans of another journal under this one's name, perhaps of a copy or a later one: "+
					"it gets a new name there, and is written from its end; qrjump doctor --deep says what is missing",
					"was", base, "is", node)
			}
		}
		if !equal {
			continue
		}
		l.had, l.mark, l.base, l.known = m, mark, base, true
		l.learned, l.erased, l.pending = 0, map[scanlog.UserHash]int64{}, map[scanlog.UserHash]bool{}
		l.position.Store(mark.Position)
		return nil
	}
}

func (m *Manifest) mark() (mark scanlog.Offset, err error) {
	if mark.Position = m.Position; m.Position > 0 {
		if mark.ID, err = scanlog.ParseScanID(m.ScanID); err != nil {
			err = fmt.Errorf("%s in the lake has no scan_id: %w", manifestName(m.Node), err)
		}
	}
	return mark, err
}

// Held returns the position up to which the journal may forget scans, for all the lake needs.
func (l *Lake) Held() int64 {
	end, _ := l.Journal.End(context.Background())
	return max(l.position.Load(), end-mostHeld)
}

// Backlog returns the number of scans that are durable and not in the lake.
func (l *Lake) Backlog() int64 {
	end, _ := l.Journal.End(context.Background())
	return max(0, end-l.position.Load())
}

// Age returns the time since the lake had every scan; if it never had, the time since writing began.
func (l *Lake) Age() time.Duration {
	pos := l.levelAt.Load()
	if pos == 0 {
		return 0
	}
	return max(0, l.Now().Sub(time.UnixMilli(pos)))
}

// baseOf returns the name of a node without the number of its life.
func baseOf(node string) string {
	base, _, _ := strings.Cut(node, "-")
	return base
}
