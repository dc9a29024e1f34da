package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"
)

// view is a segment as a reader found it.
type view struct {
	segment
	path string
}

// views copies what is known of the segments with events after a position.
func (j *Journal) views(after int64) (list []view, end int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.end-1 > after {
			list = append(list, view{*s, j.path(s.name)})
		}
	}
	return list, j.next - 1
}

// Before implements Log: whole files are left out.
func (j *Journal) Before(_ context.Context, moment time.Time) (position int64, err error) {
	list, _ := j.views(0)
	for i := range list {
		if list[i].maxAt >= moment.UnixMilli() {
			break
		}
		position = list[i].end - 1
	}
	return position, nil
}

// Read implements Log. Damaged records are reported and left out.
func (j *Journal) Read(ctx context.Context, after int64) iter.Seq2[Entry, error] {
	return j.read(ctx, after, nil)
}

// Of implements Log: it reads the files that may hold one of the users.
func (j *Journal) Of(ctx context.Context, users Users, after int64) iter.Seq2[Entry, error] {
	return j.read(ctx, after, users)
}

// read is Read, of some users alone where users is not nil.
func (j *Journal) read(ctx context.Context, after int64, users Users) iter.Seq2[Entry, error] {
	upTo := j.end()
	return func(yield func(Entry, error) bool) {
		list, _ := j.views(after)
		if users != nil {
			list = j.maySegments(list, users)
		}
		var in Texts
		buf := []byte(nil)
		for i := range list {
			v := &list[i]
			if v.first > upTo {
				return
			}
			goOn, err := j.readSegment(ctx, v, after, upTo, users, &in, &buf, yield)
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

func (j *Journal) readSegment(ctx context.Context, v *view, after, upTo int64, users Users, in *Texts, buf *[]byte,
	yield func(Entry, error) bool) (bool, error) {
	f, err := j.disk.open(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // forgotten meanwhile
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if v.sealed && after >= v.first {
		v.readFooter(f) // without it, the whole file is read
	}
	g := groupReader{r: f, at: headerSize, limit: v.size, next: v.first, end: v.end, buf: *buf, off: -1}
	g.buf = g.buf[:0]
	defer func() { *buf = g.buf }()
	for _, b := range v.all() {
		if b.first > after+1 {
			break
		}
		g.at, g.next = b.offset, b.first
	}
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		ok, err := g.scan()
		for _, d := range g.damaged {
			j.report(&v.segment, d)
		}
		g.damaged = g.damaged[:0]
		if !ok || err != nil {
			return err == nil, err
		}
		if g.first+int64(g.n)-1 <= after {
			continue
		}
		records := g.records
		for position := g.first; position < g.first+int64(g.n); position++ {
			b, rest, err := record(records)
			if err != nil {
				return false, fmt.Errorf("at offset %d: %w", g.offset, err)
			}
			records = rest
			if position <= after {
				continue
			}
			if position > upTo {
				return false, nil
			}
			if users != nil {
				if user, ok := recordUser(b); !ok || !users[user] {
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

// Find implements Log. It looks where the time in the id may be.
func (j *Journal) Find(ctx context.Context, id ScanID) (int64, error) {
	list, _ := j.views(0)
	ms := idMillis(&id)
	var buf []byte
	for _, v := range slices.Backward(list) {
		if ms < v.minID || ms > v.maxID {
			continue
		}
		position, err := j.findIn(ctx, &v, id, &buf)
		if err != nil {
			return 0, fmt.Errorf("looking for a scan in %s: %w", v.path, err)
		}
		if position > 0 {
			return position, nil
		}
	}
	return 0, ErrNoScan
}

func (j *Journal) findIn(ctx context.Context, v *view, id ScanID, buf *[]byte) (int64, error) {
	f, err := j.disk.open(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if v.sealed && !v.readFooter(f) {
		v.blocks = []block{{offset: headerSize, first: v.first, span: v.span}}
	}
	ms := idMillis(&id)
	blocks := v.all()
	for i, b := range blocks {
		if ms < b.minID || ms > b.maxID {
			continue
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		g := groupReader{r: f, at: b.offset, limit: v.size, next: b.first, buf: (*buf)[:0], off: -1}
		if i+1 < len(blocks) {
			g.limit = blocks[i+1].offset
		}
		for {
			ok, err := g.scan()
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			records := g.records
			for position := g.first; len(records) > 0; position++ {
				b, rest, err := record(records)
				if err != nil {
					return 0, fmt.Errorf("at offset %d: %w", g.offset, err)
				}
				if has, _ := RecordID(b); has == id {
					return position, nil
				}
				records = rest
			}
		}
		*buf = g.buf
	}
	return 0, nil
}
