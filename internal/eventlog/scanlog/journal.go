package scanlog

import (
	"cmp"
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

// Journal is a Log stored in the files of one folder. Only one process at a time may open a journal; the lock of the data folder
// ensures that.
//
// Events are written by group commit, with one fsync per group. A file whose write or fsync failed is never written again: the state of its
// end on the disk is unknown, and a second fsync may succeed although the data was lost. After a failed write or fsync the journal
// continues in a new file, whose header contains the new file's first position; events of the older file from that position on are ignored.
type Journal struct {
	dir         string
	disk        disk
	log         *slog.Logger
	segmentSize int64
	id          [16]byte

	// writing is held while a group is written, or while the journal switches to another file.
	writing sync.Mutex
	active  file        // file of the last segment; nil if there is no segment to write to
	users   *userFilter // user filter of the last segment, while active is not nil

	// maintenance is held while files are removed or rewritten; an erasure holds it for one file at a time.
	maintenance sync.Mutex

	mu            sync.Mutex // guards the fields up to the next empty line
	segments      []*segment // in order; while active is not nil, writes go to the last segment
	next          int64      // position of the next event
	removedBefore int64      // no event at or after this position was removed by this program
	skip          int64      // number of never assigned positions directly before the position next
	closed        bool
	grown         chan struct{} // closed when there is more to read; nil if no reader waits
	reported      map[damageAt]bool

	damaged atomic.Int64
}

type damageAt struct {
	name   string
	offset int64
}

// JournalOptions holds the parameters of a journal. The zero value is valid.
type JournalOptions struct {
	// Log receives reports of damaged files; nil = no reports.
	Log *slog.Logger
	// Random provides the random id of a new scan log; if Random is nil, creating a scan log returns an error.
	Random io.Reader
	// SegmentSize is the size, in bytes, at which a file is full; 0 = 64 MiB.
	SegmentSize int64

	disk disk
}

// ErrClosed is returned by a closed journal or recorder.
var ErrClosed = errors.New("scanlog: the log is closed")

const (
	segmentSuffix = ".scans"
	ledgerFile    = "ledger"
	keptFile      = "kept"
)

func segmentName(first int64) string { return fmt.Sprintf("%019d%s", first, segmentSuffix) }

// OpenJournal opens the journal in a folder, and creates the folder if it does not exist. OpenJournal truncates the incomplete end
// that a crash left in the last file.
func OpenJournal(dir string, o JournalOptions) (*Journal, error) {
	j := &Journal{dir: dir, disk: o.disk, log: o.Log, segmentSize: cmp.Or(o.SegmentSize, 64<<20), next: 1,
		reported: map[damageAt]bool{}}
	if j.disk == nil {
		j.disk = realDisk{}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("creating the journal folder: %w", err)
		}
		if err := j.disk.syncDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("creating the journal folder: %w", err)
		}
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	names, err := j.disk.list(dir)
	if err != nil {
		return nil, fmt.Errorf("inspecting the journal folder: %w", err)
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

// report logs each damaged range of a file once.
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
		j.log.Error("journal file is corrupted; reading continues after the corruption", "file", j.path(s.name), "offset", d.offset, "bytes",
			d.length, "scans lost", d.lost)
	}
}

// Damaged returns the number of scans found unreadable since the start, as far as it can be determined; each damaged range counts
// as at least one scan.
func (j *Journal) Damaged() int64 { return j.damaged.Load() }

// ID returns the scan log's random id, which was created with the folder: positions are valid only within one scan log.
func (j *Journal) ID() string { return hex.EncodeToString(j.id[:]) }

// start creates the next file to write to. The caller must hold j.writing.
func (j *Journal) start() error {
	j.mu.Lock()
	next, skip := j.next, j.skip
	if n := len(j.segments); n > 0 && j.segments[n-1].first == next {
		skip += j.segments[n-1].skip // the last segment has no acknowledged events; it is replaced
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
	// If syncDir fails, a file with the new name may exist after a crash; the next attempt replaces the file.
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
		j.segments[n-1] = s // the replaced segment has no acknowledged events
	} else {
		j.segments = append(j.segments, s)
	}
	return nil
}

// abandon stops using the current file, whose end is in an unknown state. The caller must hold j.writing.
func (j *Journal) abandon() {
	s := j.last()
	// Truncating the file helps a person who inspects the damaged file. The error is ignored, because nothing depends on the truncation.
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

// seal completes the current file. The caller must hold j.writing.
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

// write makes the groups durable with one fsync. After an error, this process treats all groups as unwritten; the next start may
// find them complete.
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
			return fmt.Errorf("creating a journal file in %s: %w", j.dir, err)
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
		return fmt.Errorf("syncing scans to %s: %w", j.path(s.name), err)
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
			j.log.Warn("journal file not sealed", "file", j.path(s.name), "error", err)
		}
	}
	return nil
}

// Lost implements Log. If the former log was a journal, it is lost, because its folder was replaced. A former JetStream stream still exists
// on its server; only the id of a stream contains a space.
func (j *Journal) Lost(id string) bool { return id != "" && !strings.Contains(id, " ") }

// Append makes events durable without using a Recorder.
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

// Grown returns a channel that is closed once there is an event after the position start.
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

// Close seals the current file. All acknowledged events are already durable.
func (j *Journal) Close() error {
	j.maintenance.Lock()
	defer j.maintenance.Unlock()
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
		return fmt.Errorf("closing the journal in %s: %w", j.dir, err)
	}
	return nil
}
