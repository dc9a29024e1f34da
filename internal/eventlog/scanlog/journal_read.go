package scanlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"slices"
	"time"
)

// view is a reader's copy of the state of a segment.
type view struct {
	segment
	path string
}

// views copies the state of the segments that contain events after a position.
func (j *Journal) views(start int64) (list []view) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.end-1 > start {
			list = append(list, view{*s, j.path(s.name)})
		}
	}
	return list
}

// PositionBefore implements Log with the granularity of whole files.
func (j *Journal) PositionBefore(_ context.Context, moment time.Time) (position int64, err error) {
	list := j.views(0)
	for i := range list {
		if list[i].maxAt >= moment.UnixMilli() {
			break
		}
		position = list[i].end - 1
	}
	return position, nil
}

// reading selects the events that a reader wants.
type reading struct {
	after, upTo int64   // positions
	users       Users   // only events of these users; nil = all users
	from, to    int64   // only blocks with events in this time range, in Unix milliseconds
	id          *ScanID // only the event with this id, without a report of damage; nil = all events
}

// Read implements Log. Damaged records are reported and skipped.
func (j *Journal) Read(ctx context.Context, start int64) iter.Seq2[Entry, error] {
	return j.read(ctx, reading{after: start, from: math.MinInt64, to: math.MaxInt64})
}

// ForUsers implements Log: it reads only files that may contain one of the users.
func (j *Journal) ForUsers(ctx context.Context, users Users, start int64) iter.Seq2[Entry, error] {
	return j.read(ctx, reading{after: start, users: users, from: math.MinInt64, to: math.MaxInt64})
}

// ListRange implements Log: it reads only blocks that overlap the time range.
func (j *Journal) ListRange(ctx context.Context, start int64, from, to time.Time) iter.Seq2[Entry, error] {
	return j.read(ctx, reading{after: start, from: from.UnixMilli(), to: to.UnixMilli()})
}

func (j *Journal) read(ctx context.Context, r reading) iter.Seq2[Entry, error] {
	r.upTo = j.end()
	return func(yield func(Entry, error) bool) {
		list := j.views(r.after)
		if r.users != nil {
			list = slices.DeleteFunc(list, func(v view) bool {
				allowed, _ := j.mayHold(&v.segment, r.users)
				return !allowed
			})
		}
		var in Texts
		buf := []byte(nil)
		for i := range list {
			v := &list[i]
			if v.first > r.upTo {
				return
			}
			if !v.overlaps(&r) {
				continue
			}
			goOn, err := j.readSegment(ctx, v, &r, &in, &buf, yield)
			if err != nil {
				yield(Entry{}, fmt.Errorf("reading scans from %s: %w", v.path, err))
				return
			}
			if !goOn {
				return
			}
		}
	}
}

// overlaps reports whether events in the time range s may be wanted.
func (s *span) overlaps(r *reading) bool {
	if r.id != nil && (idMillis(r.id) < s.minID || idMillis(r.id) > s.maxID) {
		return false
	}
	return s.maxAt >= r.from && s.minAt < r.to
}

// stretches returns the parts of a segment to read. In each part, the field next is a lower bound for the position of the first group, and
// the field end is the position after the last event (0 = unknown).
func (v *view) stretches(r *reading) (list []groupReader) {
	blocks := v.all()
	for i, b := range blocks {
		if i == 0 {
			b.offset, b.first = headerSize, v.first // reading from the header also reports damage before the first group
		}
		end, limit := v.end, v.size
		if i+1 < len(blocks) {
			end, limit = 0, blocks[i+1].offset
			if blocks[i+1].first <= r.after+1 {
				continue
			}
		}
		if !b.overlaps(r) {
			continue
		}
		if n := len(list); n > 0 && list[n-1].limit == b.offset {
			list[n-1].limit, list[n-1].end = limit, end
			continue
		}
		list = append(list, groupReader{at: b.offset, limit: limit, next: b.first, end: end})
	}
	if len(blocks) == 0 {
		list = append(list, groupReader{at: headerSize, limit: v.size, next: v.first, end: v.end})
	}
	return list
}

func (j *Journal) readSegment(ctx context.Context, v *view, r *reading, in *Texts, buf *[]byte,
	yield func(Entry, error) bool) (bool, error) {
	f, err := j.disk.open(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // retention has removed the file in the meantime
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if v.sealed && (r.id != nil || r.after >= v.first || v.minAt < r.from || v.maxAt >= r.to) {
		v.readFooter(f) // if the footer cannot be read, the whole file is read
	}
	for _, g := range v.stretches(r) {
		g.r, g.buf, g.off = f, (*buf)[:0], -1
		goOn, err := j.readStretch(ctx, v, &g, r, in, yield)
		*buf = g.buf
		if !goOn || err != nil {
			return goOn, err
		}
	}
	return true, nil
}

func (j *Journal) readStretch(ctx context.Context, v *view, g *groupReader, r *reading, in *Texts,
	yield func(Entry, error) bool) (bool, error) {
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		ok, err := g.scan()
		for _, d := range g.damaged {
			if r.id == nil {
				j.report(&v.segment, d)
			}
		}
		g.damaged = g.damaged[:0]
		if !ok || err != nil {
			return err == nil, err
		}
		if g.first+int64(g.n)-1 <= r.after {
			continue
		}
		records := g.records
		for position := g.first; position < g.first+int64(g.n); position++ {
			b, rest, err := record(records)
			if err != nil {
				return false, fmt.Errorf("at offset %d: %w", g.offset, err)
			}
			records = rest
			if position <= r.after {
				continue
			}
			if position > r.upTo {
				return false, nil
			}
			if r.id != nil {
				if id, _ := RecordID(b); id != *r.id {
					continue
				}
			}
			if r.users != nil {
				if user, ok := recordUser(b); !ok || !r.users[user] {
					continue
				}
			}
			e, err := DecodeRecord(b, in)
			if err != nil {
				return false, fmt.Errorf("at offset %d: %w", g.offset, err)
			}
			if !yield(Entry{Position: position, Event: e}, nil) {
				return false, nil
			}
		}
	}
}

// Find implements Log. Find searches only the segments and blocks whose time range may include the id's time.
func (j *Journal) Find(ctx context.Context, id ScanID) (position int64, err error) {
	list := j.views(0)
	r := reading{upTo: math.MaxInt64, from: math.MinInt64, to: math.MaxInt64, id: &id}
	var in Texts
	var buf []byte
	for _, v := range slices.Backward(list) {
		if !v.overlaps(&r) {
			continue
		}
		found := func(e Entry, _ error) bool { position = e.Position; return false }
		if _, err := j.readSegment(ctx, &v, &r, &in, &buf, found); err != nil {
			return 0, fmt.Errorf("searching for a scan in %s: %w", v.path, err)
		}
		if position > 0 {
			return position, nil
		}
	}
	return 0, ErrNoScan
}
