package stats

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Journal is a Log in files of one folder. One process at a time may have it
// open: the lock of the data folder sees to that.
//
// Events are written in groups, each with one flush to the disk. A file whose
// flush or write failed is never written again: what the disk holds of its end
// is not known, and a second flush may claim success without having written.
// The journal then goes on in a new file, which says at which position it
// begins; whatever stands in the older one from there on does not count.
type Journal struct {
	dir         string
	disk        disk
	log         *slog.Logger
	segmentSize int64
	id          [16]byte

	// writing is held while a group is written, or what is written to changes.
	writing sync.Mutex
	active  file // of the last segment; nil until there is one to write to

	// tending is held by what removes or rewrites files.
	tending sync.Mutex

	mu       sync.Mutex // the rest
	segments []*segment // in order; while active is not nil, the last one is written to
	next     int64      // position of the next event
	skip     int64      // positions before next that are never given out
	closed   bool
	grown    chan struct{} // closed when there is more to read; nil when nobody waits
	reported map[damageAt]bool

	damaged atomic.Int64
}

type damageAt struct {
	name   string
	offset int64
}

// JournalOptions are what a journal may be told. The zero value is ready.
type JournalOptions struct {
	// Log is where damage is reported; nil = nowhere.
	Log *slog.Logger
	// Random makes the id of a new ledger; nil is an error when one is made.
	Random io.Reader
	// SegmentSize is how long a file grows in bytes; 0 = 64 MiB.
	SegmentSize int64

	disk disk
}

// ErrClosed is returned by what was closed.
var ErrClosed = errors.New("stats: the ledger is closed")

const (
	segmentSuffix = ".scans"
	ledgerFile    = "ledger"
)

func segmentName(first int64) string { return fmt.Sprintf("%019d%s", first, segmentSuffix) }

// OpenJournal opens the journal in a folder, which it makes when it is not
// there. What a crash left at the end of the last file is cut off.
func OpenJournal(dir string, o JournalOptions) (*Journal, error) {
	j := &Journal{dir: dir, disk: o.disk, log: o.Log, segmentSize: o.SegmentSize, next: 1, reported: map[damageAt]bool{}}
	if j.disk == nil {
		j.disk = realDisk{}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of scans: %w", err)
		}
		if err := j.disk.syncDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("making the folder of scans: %w", err)
		}
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.segmentSize <= 0 {
		j.segmentSize = 64 << 20
	}
	names, err := j.disk.list(dir)
	if err != nil {
		return nil, fmt.Errorf("looking at the folder of scans: %w", err)
	}
	if err := j.identify(names, o.Random); err != nil {
		return nil, err
	}
	if err := j.load(names); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

// identify reads the ledger's id, or makes one.
func (j *Journal) identify(names []string, random io.Reader) error {
	if slices.Contains(names, ledgerFile) {
		f, err := j.disk.open(j.path(ledgerFile))
		if err != nil {
			return fmt.Errorf("reading the id of the ledger: %w", err)
		}
		defer f.Close()
		text := make([]byte, 32)
		if _, err := f.ReadAt(text, 0); err == nil {
			if _, err = hex.Decode(j.id[:], text); err == nil {
				return nil
			}
		}
		return fmt.Errorf("the file %s is damaged: put back the one of this folder, or remove it to take the id from the files of scans", j.path(ledgerFile))
	}
	found := false
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) && !found {
			if f, err := j.disk.open(j.path(name)); err == nil {
				j.id, _, _, err = readHeader(f)
				found = err == nil
				f.Close()
			}
		}
	}
	if !found {
		if random == nil {
			return errors.New("stats: no source of chance for the id of a new ledger")
		}
		if _, err := io.ReadFull(random, j.id[:]); err != nil {
			return fmt.Errorf("making the id of the ledger: %w", err)
		}
	}
	if err := writeWhole(j.disk, j.path(ledgerFile), []byte(hex.EncodeToString(j.id[:])+"\n")); err != nil {
		return fmt.Errorf("storing the id of the ledger: %w", err)
	}
	return nil
}

// load learns what is in the files.
func (j *Journal) load(names []string) error {
	for _, name := range names {
		if strings.HasSuffix(name, newSuffix) {
			if err := j.disk.remove(j.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing what a crash left over: %w", err)
			}
			continue
		}
		var first int64
		if n, err := fmt.Sscanf(name, "%d"+segmentSuffix, &first); n != 1 || err != nil || segmentName(first) != name {
			continue // not ours
		}
		j.segments = append(j.segments, &segment{name: name, first: first, end: first, size: headerSize, span: noSpan})
	}
	for i, s := range j.segments {
		bound := int64(0)
		if i+1 < len(j.segments) {
			bound = j.segments[i+1].first
		}
		if err := j.loadSegment(s, bound); err != nil {
			return fmt.Errorf("the file of scans %s: %w", j.path(s.name), err)
		}
		if i > 0 && j.next < s.first-s.skip {
			j.log.Error("scans are missing in the ledger", "after file", j.path(j.segments[i-1].name), "from", j.next, "before", s.first-s.skip)
		}
		j.next = s.end
	}
	return nil
}

// loadSegment learns what is in a file; nothing in it from the position bound
// on counts. A file that was not sealed is written anew, so that what is read
// from now on is what the disk holds, and not only what it was last asked to.
func (j *Journal) loadSegment(s *segment, bound int64) error {
	f, err := j.disk.open(j.path(s.name))
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	switch ledger, first, skip, err := readHeader(f); {
	case errors.Is(err, errHeader):
		j.report(s, damage{offset: 0, length: headerSize})
	case err != nil:
		return err
	case ledger != j.id:
		return fmt.Errorf("it belongs to the ledger %x, this folder to %x: move it away", ledger, j.id)
	case first != s.first:
		return fmt.Errorf("it begins at %d, its name says %d: move it away", first, s.first)
	default:
		s.skip = skip
	}
	if s.readFooter(f) && (bound == 0 || s.end <= bound) {
		s.blocks = nil // read again where they are needed
		return nil
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	*s = segment{name: s.name, first: s.first, skip: s.skip, end: s.first, size: headerSize, span: noSpan}
	g := groupReader{r: f, at: headerSize, limit: max(size, headerSize), next: s.first}
	for {
		ok, err := g.scan()
		if err != nil {
			return err
		}
		if !ok || bound > 0 && g.first+int64(g.n) > bound {
			break
		}
		times, err := spanOf(g.records)
		if err != nil {
			return fmt.Errorf("at offset %d: %w", g.offset, err)
		}
		s.note(g.offset, g.at, g.first, g.n, times)
	}
	for _, d := range g.damaged {
		if d.offset < s.size {
			j.report(s, d)
		} else if d.length > 0 && bound == 0 && !allZero(f, d) {
			j.log.Warn("the end of a file of scans was not written whole and is cut off; nothing of it was acknowledged", "file", j.path(s.name), "offset", d.offset, "bytes", d.length)
		}
	}
	if err := j.rewrite(s, f); err != nil {
		// The disk may be full. What is there is read as it is, and the next start tries again.
		j.log.Warn("a file of scans that was not closed cannot be written anew", "file", j.path(s.name), "error", err)
		if err := errors.Join(f.sync()); err != nil {
			return err
		}
	}
	return nil
}

// allZero reports whether nothing but zeros is in a stretch.
func allZero(f file, d damage) bool {
	b := make([]byte, min(d.length, readAhead))
	for at := d.offset; at < d.offset+d.length; at += int64(len(b)) {
		n, err := f.ReadAt(b[:min(int64(len(b)), d.offset+d.length-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		for _, x := range b[:n] {
			if x != 0 {
				return false
			}
		}
	}
	return true
}

// spanOf is the times of the records of a group.
func spanOf(records []byte) (span, error) {
	times := noSpan
	var in interned
	for len(records) > 0 {
		b, rest, err := record(records)
		if err != nil {
			return times, err
		}
		e, err := decodeRecord(b, &in)
		if err != nil {
			return times, err
		}
		times.add(e.At.UnixMilli(), idMillis(&e.ID))
		records = rest
	}
	return times, nil
}

// rewrite copies what counts of a file into a sealed one that takes its place.
func (j *Journal) rewrite(s *segment, from file) error {
	to, err := j.disk.create(j.path(s.name + newSuffix))
	if err != nil {
		return err
	}
	err = func() error {
		if _, err := to.WriteAt(segmentHeader(j.id, s.first, s.skip), 0); err != nil {
			return err
		}
		buf := make([]byte, min(1<<20, s.size))
		for at := int64(headerSize); at < s.size; {
			n, err := from.ReadAt(buf[:min(int64(len(buf)), s.size-at)], at)
			if n == 0 {
				return errors.Join(io.ErrUnexpectedEOF, err)
			}
			if _, err := to.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		if _, err := to.WriteAt(s.footer(), s.size); err != nil {
			return err
		}
		return to.sync()
	}()
	if err = errors.Join(err, to.Close()); err == nil {
		err = j.disk.rename(j.path(s.name+newSuffix), j.path(s.name))
	}
	if err != nil {
		return errors.Join(err, j.disk.remove(j.path(s.name+newSuffix)))
	}
	if err := j.disk.syncDir(j.dir); err != nil {
		return err
	}
	s.sealed, s.blocks, s.tail = true, nil, block{}
	return nil
}

// report says once where a file is damaged.
func (j *Journal) report(s *segment, d damage) {
	j.mu.Lock()
	key := damageAt{s.name, d.offset}
	known := j.reported[key]
	if len(j.reported) < 10_000 {
		j.reported[key] = true
	}
	j.mu.Unlock()
	if !known {
		j.damaged.Add(max(1, d.lost))
		j.log.Error("a file of scans is damaged; what stands behind it is read on", "file", j.path(s.name), "offset", d.offset, "bytes", d.length, "scans lost", d.lost)
	}
}

// Damaged is how many scans were found to be unreadable since the start, as far
// as that can be told; each damaged place counts at least one.
func (j *Journal) Damaged() int64 { return j.damaged.Load() }

// ID is the ledger's, made at random when its folder was: positions mean
// something in it alone.
func (j *Journal) ID() string { return hex.EncodeToString(j.id[:]) }

// start makes the file that is written from now on. writing is held.
func (j *Journal) start() error {
	j.mu.Lock()
	next, skip := j.next, j.skip
	if n := len(j.segments); n > 0 && j.segments[n-1].first == next {
		skip += j.segments[n-1].skip // it is replaced
	}
	j.mu.Unlock()
	name := segmentName(next)
	f, err := j.disk.create(j.path(name + newSuffix))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(segmentHeader(j.id, next, skip), 0)
	if err == nil {
		err = f.sync()
	}
	if err == nil {
		err = j.disk.rename(j.path(name+newSuffix), j.path(name))
	}
	if err != nil {
		return errors.Join(err, f.Close(), j.disk.remove(j.path(name+newSuffix)))
	}
	// From here on a file of this name may be there; the next attempt replaces it.
	if err := j.disk.syncDir(j.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	j.active = f
	j.mu.Lock()
	defer j.mu.Unlock()
	j.skip = 0
	s := &segment{name: name, first: next, skip: skip, end: next, size: headerSize, span: noSpan}
	if n := len(j.segments); n > 0 && j.segments[n-1].first == next {
		j.segments = slices.Clone(j.segments)
		j.segments[n-1] = s // nothing in it was acknowledged
	} else {
		j.segments = append(j.segments, s)
	}
	return nil
}

// abandon gives up the file that is written, whose end is not known any more.
// writing is held.
func (j *Journal) abandon() {
	s := j.last()
	// A help for who looks at the file; that it is forgotten does not matter.
	j.active.truncate(s.size)
	j.active.Close()
	j.active = nil
}

func (j *Journal) last() *segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.segments) == 0 {
		return nil
	}
	return j.segments[len(j.segments)-1]
}

// seal ends the file that is written. writing is held.
func (j *Journal) seal() error {
	s := j.last()
	if _, err := j.active.WriteAt(s.footer(), s.size); err != nil {
		j.abandon()
		return err
	}
	if err := j.active.sync(); err != nil {
		j.abandon()
		return err
	}
	err := j.active.Close()
	j.active = nil
	j.mu.Lock()
	s.sealed, s.blocks, s.tail = true, nil, block{}
	j.mu.Unlock()
	return err
}

// write makes groups durable with one flush. After an error none of them counts
// for this process; a start may find them whole.
func (j *Journal) write(groups ...*batch) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	closed, position := j.closed, j.next
	j.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if j.active == nil {
		if err := j.start(); err != nil {
			return fmt.Errorf("beginning a file of scans in %s: %w", j.dir, err)
		}
	}
	s := j.last()
	at, first := s.size, position
	for _, b := range groups {
		position += b.skip
		n, err := j.active.WriteAt(b.seal(position), at)
		if err == nil && n < len(b.buf) {
			err = io.ErrShortWrite
		}
		if err != nil {
			j.abandon()
			return fmt.Errorf("writing scans to %s: %w", j.path(s.name), err)
		}
		at += int64(len(b.buf))
		position += int64(b.n)
	}
	if err := j.active.sync(); err != nil {
		j.abandon()
		return fmt.Errorf("flushing scans to %s: %w", j.path(s.name), err)
	}
	j.mu.Lock()
	at, position = s.size, first
	for _, b := range groups {
		position += b.skip
		s.note(at, at+int64(len(b.buf)), position, b.n, b.span)
		at += int64(len(b.buf))
		position += int64(b.n)
	}
	j.next = position
	full := s.size >= j.segmentSize
	if j.grown != nil {
		close(j.grown)
		j.grown = nil
	}
	j.mu.Unlock()
	if full {
		if err := j.seal(); err != nil {
			j.log.Warn("a file of scans cannot be closed in order; its scans are safe", "file", j.path(s.name), "error", err)
		}
	}
	return nil
}

// Append implements Log.
func (j *Journal) Append(ctx context.Context, events []Event) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var groups []*batch
	for i := range events {
		if len(groups) == 0 || len(groups[len(groups)-1].buf) > 1<<20 {
			b := &batch{}
			b.reset()
			groups = append(groups, b)
		}
		groups[len(groups)-1].add(&events[i])
	}
	if len(groups) == 0 {
		return nil
	}
	return j.write(groups...)
}

// End implements Log.
func (j *Journal) End(context.Context) (int64, error) { return j.end(), nil }

func (j *Journal) end() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next - 1
}

// Grown is closed once there is something after a position.
func (j *Journal) Grown(after int64) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next-1 > after || j.closed {
		now := make(chan struct{})
		close(now)
		return now
	}
	if j.grown == nil {
		j.grown = make(chan struct{})
	}
	return j.grown
}

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

// Read implements Log. What is damaged is reported and left out.
func (j *Journal) Read(ctx context.Context, after int64) iter.Seq2[Entry, error] {
	upTo := j.end()
	return func(yield func(Entry, error) bool) {
		list, _ := j.views(after)
		var in interned
		buf := []byte(nil)
		for i := range list {
			v := &list[i]
			if v.first > upTo {
				return
			}
			goOn, err := j.readSegment(ctx, v, after, upTo, &in, &buf, yield)
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

func (j *Journal) readSegment(ctx context.Context, v *view, after, upTo int64, in *interned, buf *[]byte, yield func(Entry, error) bool) (bool, error) {
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
			e, err := decodeRecord(b, in)
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
				if has, _ := recordID(b); has == id {
					return position, nil
				}
				records = rest
			}
		}
		*buf = g.buf
	}
	return 0, nil
}

// Forget implements Log: it removes whole files whose newest event is older.
func (j *Journal) Forget(ctx context.Context, before time.Time) error {
	ms := before.UnixMilli()
	return j.forget(ctx, func(s *segment) bool { return s.maxAt < ms })
}

// ForgetUpTo removes whole files whose events are all at a position up to one
// and older than a moment.
func (j *Journal) ForgetUpTo(ctx context.Context, position int64, before time.Time) error {
	ms := before.UnixMilli()
	return j.forget(ctx, func(s *segment) bool { return s.end-1 <= position && s.maxAt < ms && s.maxID < ms })
}

func (j *Journal) forget(ctx context.Context, old func(*segment) bool) error {
	j.tending.Lock()
	defer j.tending.Unlock()
	j.mu.Lock()
	n := len(j.segments)
	all := n > 0 && j.segments[n-1].end > j.segments[n-1].first && old(j.segments[n-1])
	j.mu.Unlock()
	if all {
		// The position must live on in a file.
		if _, err := j.renew(); err != nil {
			return fmt.Errorf("beginning a file of scans in %s: %w", j.dir, err)
		}
	}
	j.mu.Lock()
	var gone []*segment
	for _, s := range j.segments[:max(0, len(j.segments)-1)] {
		if old(s) {
			gone = append(gone, s)
		}
	}
	j.mu.Unlock()
	for _, s := range gone {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// What cannot be removed stays known, or an erasure would not find it.
		if err := j.disk.remove(j.path(s.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing old scans: %w", err)
		}
		j.mu.Lock()
		j.segments = slices.DeleteFunc(slices.Clone(j.segments), func(have *segment) bool { return have == s })
		j.mu.Unlock()
	}
	if len(gone) > 0 {
		return j.disk.syncDir(j.dir)
	}
	return nil
}

// Clear removes every event that is durable when it is called (the emulator's
// reset). Positions go on.
func (j *Journal) Clear(ctx context.Context) error {
	next, err := j.renew()
	if err != nil {
		return fmt.Errorf("beginning a file of scans in %s: %w", j.dir, err)
	}
	return j.forget(ctx, func(s *segment) bool { return s.first < next })
}

// renew seals the file that is written and begins the next. It returns the
// position at which that begins.
func (j *Journal) renew() (int64, error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	closed, next := j.closed, j.next
	j.mu.Unlock()
	if closed {
		return 0, ErrClosed
	}
	if j.active != nil {
		if last := j.last(); last.end == last.first {
			return next, nil
		}
		if err := j.seal(); err != nil {
			return 0, err
		}
	}
	return next, j.start()
}

// Erase implements Log. A file with events of the user is written anew, at the
// same length, and takes the place of the old one at once.
func (j *Journal) Erase(ctx context.Context, user UserHash) (int64, error) {
	if user == (UserHash{}) {
		return 0, nil
	}
	j.tending.Lock()
	defer j.tending.Unlock()
	next, err := j.renew()
	if err != nil {
		return 0, fmt.Errorf("beginning a file of scans in %s: %w", j.dir, err)
	}
	// What comes from here on goes into the new file.
	list, _ := j.views(0)
	total := int64(0)
	for i := range list {
		if v := &list[i]; v.end <= next {
			n, err := j.eraseIn(ctx, v, user)
			total += n
			if err != nil {
				return total, fmt.Errorf("erasing a user in %s: %w", v.path, err)
			}
		}
	}
	// Also when there was nothing: an earlier attempt may have failed just here.
	if err := j.disk.syncDir(j.dir); err != nil {
		return total, fmt.Errorf("erasing a user in %s: %w", j.dir, err)
	}
	return total, nil
}

func (j *Journal) eraseIn(ctx context.Context, v *view, user UserHash) (n int64, err error) {
	f, err := j.disk.open(v.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var to file
	defer func() {
		if to != nil {
			err = errors.Join(err, to.Close(), j.disk.remove(j.path(v.name+newSuffix)))
			n = 0
		}
	}()
	g := groupReader{r: f, at: headerSize, limit: v.size, next: v.first, end: v.end}
	var group []byte
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		ok, err := g.scan()
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		group = group[:0]
		for at := 0; at < len(g.records); {
			b, rest, err := record(g.records[at:])
			if err != nil {
				return 0, fmt.Errorf("at offset %d: %w", g.offset, err)
			}
			if has, _ := recordUser(b); has == user {
				if len(group) == 0 {
					group = append(append(group, make([]byte, groupHeaderSize)...), g.records...)
				}
				end := len(group) - len(rest)
				if err := eraseRecord(group[end-len(b) : end]); err != nil {
					return 0, fmt.Errorf("at offset %d: %w", g.offset, err)
				}
				n++
			}
			at = len(g.records) - len(rest)
		}
		if len(group) == 0 {
			continue
		}
		if to == nil {
			if to, err = j.copyOf(f, v.name); err != nil {
				return 0, err
			}
		}
		sealGroup(group, g.n, g.first, g.skip)
		if _, err := to.WriteAt(group, g.offset); err != nil {
			return 0, err
		}
	}
	for _, d := range g.damaged {
		j.report(&v.segment, d)
	}
	if to == nil {
		return 0, nil
	}
	if err := to.sync(); err != nil {
		return 0, err
	}
	if err := to.Close(); err != nil {
		return 0, err
	}
	to = nil
	if err := j.disk.rename(j.path(v.name+newSuffix), v.path); err != nil {
		return 0, errors.Join(err, j.disk.remove(j.path(v.name+newSuffix)))
	}
	return n, nil
}

// copyOf copies a whole file beside itself.
func (j *Journal) copyOf(from file, name string) (file, error) {
	size, err := from.size()
	if err != nil {
		return nil, err
	}
	to, err := j.disk.create(j.path(name + newSuffix))
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(1<<20, size))
	for at := int64(0); at < size && err == nil; {
		var n int
		n, err = from.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n > 0 {
			_, err = to.WriteAt(buf[:n], at)
		}
		at += int64(n)
	}
	if err != nil {
		return nil, errors.Join(err, to.Close(), j.disk.remove(j.path(name+newSuffix)))
	}
	return to, nil
}

// Close seals the file that is written. Everything that was acknowledged is on
// the disk already.
func (j *Journal) Close() error {
	j.tending.Lock()
	defer j.tending.Unlock()
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	done := j.closed
	j.closed = true
	if j.grown != nil {
		close(j.grown)
		j.grown = nil
	}
	j.mu.Unlock()
	if done || j.active == nil {
		return nil
	}
	if last := j.last(); last.end == last.first {
		err := j.active.Close()
		j.active = nil
		return err
	}
	if err := j.seal(); err != nil {
		return fmt.Errorf("closing the ledger in %s: %w", j.dir, err)
	}
	return nil
}
