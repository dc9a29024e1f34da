package scanlog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Journal is a Log in files of one folder. One process at a time may have it
// open: the lock of the data folder sees to that.
//
// Events are written in groups, each with one flush to the disk. A file whose flush or write failed is never written again: the
// content of its end on the disk is unknown, and a second flush may claim success without having written. The journal then goes on
// in a new file, which says at which position it begins; what the older file has from that position on does not count.
type Journal struct {
	dir         string
	disk        disk
	log         *slog.Logger
	segmentSize int64
	id          [16]byte

	// writing is held while a group is written, or while another file becomes the one that is
	// written.
	writing sync.Mutex
	active  file        // of the last segment; nil until there is one to write to
	users   *userFilter // of the last segment, while active is not nil

	// tending is held by what removes or rewrites files, of an erasure for one file at
	// a time.
	tending sync.Mutex

	mu       sync.Mutex // the rest
	segments []*segment // in order; while active is not nil, the last one is written to
	next     int64      // position of the next event
	kept     int64      // this program removed nothing from here on
	skip     int64      // positions before next that are never given out
	closed   bool
	grown    chan struct{} // closed when there is more to read; nil without a waiting reader
	reported map[damageAt]bool

	damaged atomic.Int64
}

type damageAt struct {
	name   string
	offset int64
}

// JournalOptions are the parameters of a journal. The zero value works.
type JournalOptions struct {
	// Log receives reports of damage; nil = none.
	Log *slog.Logger
	// Random makes the id of a new ledger; nil is an error when one is made.
	Random io.Reader
	// SegmentSize is the size in bytes at which a file is full; 0 = 64 MiB.
	SegmentSize int64

	disk disk
}

// ErrClosed is returned by a journal or a recorder that was closed.
var ErrClosed = errors.New("ledger: the ledger is closed")

const (
	segmentSuffix = ".scans"
	ledgerFile    = "ledger"
	keptFile      = "kept"
)

func segmentName(first int64) string { return fmt.Sprintf("%019d%s", first, segmentSuffix) }

// OpenJournal opens the journal in a folder, which it makes when it is not
// there. The torn end that a crash left in the last file is cut off.
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
	if err := j.loadKept(); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

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
		j.log.Error("a file of scans is damaged; what stands behind it is read on", "file", j.path(s.name), "offset", d.offset, "bytes",
			d.length, "scans lost", d.lost)
	}
}

// Damaged returns the number of scans that were found to be unreadable since the start, as far as that can be told; each damaged
// place counts at least one.
func (j *Journal) Damaged() int64 { return j.damaged.Load() }

// ID returns the ledger's, made at random when its folder was: positions mean
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
	j.active, j.users = f, newUserFilter(j.segmentSize)
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
	// This helps a person who looks at the file. Nothing depends on it, so its error does not
	// matter.
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
	if err == nil {
		j.keepUsers(s, j.users)
	}
	return err
}

// write makes groups durable with one flush. After an error none of them counts for this process;
// the next start may find them complete.
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
	pos, first := s.size, position
	for _, b := range groups {
		position += b.skip
		n, err := j.active.WriteAt(b.seal(position), pos)
		if err == nil && n < len(b.buf) {
			err = io.ErrShortWrite
		}
		if err != nil {
			j.abandon()
			return fmt.Errorf("writing scans to %s: %w", j.path(s.name), err)
		}
		pos += int64(len(b.buf))
		position += int64(b.n)
	}
	if err := j.active.sync(); err != nil {
		j.abandon()
		return fmt.Errorf("flushing scans to %s: %w", j.path(s.name), err)
	}
	for _, b := range groups {
		j.users.addRecords(b.buf[groupHeaderSize:])
	}
	j.mu.Lock()
	pos, position = s.size, first
	for _, b := range groups {
		position += b.skip
		s.addGroup(pos, pos+int64(len(b.buf)), position, b.n, b.span)
		pos += int64(len(b.buf))
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

// Lost implements Log. The former log is lost if it was a journal: its folder was replaced. A
// stream still exists elsewhere; its id has a space.
func (j *Journal) Lost(id string) bool { return id != "" && !strings.Contains(id, " ") }

// Append makes events durable without a recorder.
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
func (j *Journal) Grown(start int64) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next-1 > start || j.closed {
		wake := make(chan struct{})
		close(wake)
		return wake
	}
	if j.grown == nil {
		j.grown = make(chan struct{})
	}
	return j.grown
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
