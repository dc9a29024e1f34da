package scanlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"
)

// Forget implements Log: it removes whole files whose newest event is older than the given time.
func (j *Journal) Forget(ctx context.Context, before time.Time) error {
	ms := before.UnixMilli()
	return j.removeFiles(ctx, func(s *segment) bool { return s.maxAt < ms })
}

// ForgetUpTo removes whole files whose events all have positions up to the given position and are older than the given time.
func (j *Journal) ForgetUpTo(ctx context.Context, position int64, before time.Time) error {
	ms := before.UnixMilli()
	return j.removeFiles(ctx, func(s *segment) bool { return s.end-1 <= position && s.maxAt < ms && s.maxID < ms })
}

func (j *Journal) removeFiles(ctx context.Context, old func(*segment) bool) error {
	j.maintenance.Lock()
	defer j.maintenance.Unlock()
	j.mu.Lock()
	n := len(j.segments)
	all := n > 0 && j.segments[n-1].end > j.segments[n-1].first && old(j.segments[n-1])
	j.mu.Unlock()
	if all {
		// One file must remain, because it contains the next position.
		if _, err := j.renew(); err != nil {
			return fmt.Errorf("creating a journal file in %s: %w", j.dir, err)
		}
	}
	j.mu.Lock()
	var removed []*segment
	kept, first := j.removedBefore, j.removedBefore
	for _, s := range j.segments[:max(0, len(j.segments)-1)] {
		if old(s) {
			removed = append(removed, s)
			kept = max(kept, s.end)
		}
	}
	j.mu.Unlock()
	if kept > first {
		if err := j.keepFrom(kept); err != nil {
			return err
		}
	}
	for _, s := range removed {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// A file that cannot be removed stays registered; otherwise an erasure would skip the file.
		for _, name := range []string{s.name, usersName(s.name)} {
			if err := j.remove(name); err != nil {
				return fmt.Errorf("removing old scans: %w", err)
			}
		}
		j.mu.Lock()
		j.segments = slices.DeleteFunc(slices.Clone(j.segments), func(have *segment) bool { return have == s })
		j.mu.Unlock()
	}
	if len(removed) > 0 {
		return j.disk.syncDir(j.dir)
	}
	return nil
}

// remove removes a file of the journal, if it exists.
func (j *Journal) remove(name string) error {
	if err := j.disk.remove(j.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Clear removes all events that are durable when Clear is called (used by the emulator's reset). Positions go on.
func (j *Journal) Clear(ctx context.Context) error {
	next, err := j.renew()
	if err != nil {
		return fmt.Errorf("creating a journal file in %s: %w", j.dir, err)
	}
	return j.removeFiles(ctx, func(s *segment) bool { return s.first < next })
}

// renew seals the current file and begins the next file. renew returns the first position of the next file.
func (j *Journal) renew() (int64, error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	closed, next := j.closed, j.next
	j.mu.Unlock()
	if closed {
		return 0, ErrClosed
	}
	return next, j.beginFile()
}

// beginFile seals the current file and begins the next file, unless the current file has no events. The caller must hold j.writing.
func (j *Journal) beginFile() error {
	if j.active != nil {
		if last := j.last(); last.end == last.first {
			return nil
		}
		if err := j.seal(); err != nil {
			return err
		}
	}
	return j.start()
}

// Announce implements Log. A journal needs no announcement: all later events come from this process, which knows the erased users.
func (j *Journal) Announce(context.Context, UserHash) error { return nil }

// Erase implements Log.
func (j *Journal) Erase(ctx context.Context, users Users, upTo int64) (int64, error) {
	lastCounts := map[UserHash]int64{}
	for user := range users {
		lastCounts[user] = math.MaxInt64
	}
	return j.eraseAll(ctx, lastCounts, upTo)
}

// eraseAll makes events of users anonymous: the map users contains the time (Unix ms) of each user's last event to change, and events after
// the given position stay unchanged. A file with events of the erased users is rewritten at the same length, and the new file replaces the
// old file atomically. eraseAll releases j.maintenance after each file, so that other goroutines can remove or rewrite files.
func (j *Journal) eraseAll(ctx context.Context, users map[UserHash]int64, position int64) (int64, error) {
	delete(users, UserHash{})
	if len(users) == 0 {
		return 0, nil
	}
	last, item := int64(math.MinInt64), Users{}
	for user, upTo := range users {
		last = max(last, upTo)
		item[user] = true
	}
	if list := j.views(0); !slices.ContainsFunc(list, func(v view) bool { return v.minAt <= last }) {
		return 0, nil // every event is newer than the erasures
	}
	next, err := j.leave(item)
	if err != nil {
		return 0, fmt.Errorf("creating a journal file in %s: %w", j.dir, err)
	}
	// From here on, new events of the erased users are written to a file that the loop below skips.
	list := j.views(0)
	total := int64(0)
	for i := range list {
		if v := &list[i]; v.end <= next && v.minAt <= last && v.first <= position {
			allowed, err := j.mayHold(&v.segment, item)
			if !allowed {
				continue
			}
			n, err := j.eraseSegment(ctx, v, users, position, err != nil)
			total += n
			if err != nil {
				return total, fmt.Errorf("erasing a user in %s: %w", v.path, err)
			}
		}
	}
	// The sync is needed even if nothing was erased, because an earlier attempt may have failed at this point.
	if err := j.disk.syncDir(j.dir); err != nil {
		return total, fmt.Errorf("erasing a user in %s: %w", j.dir, err)
	}
	return total, nil
}

// leave ensures that the current file contains no event of the given users: if they may have events in the file, leave seals it. All
// existing events of the users are before the returned position.
func (j *Journal) leave(users Users) (int64, error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	closed, next := j.closed, j.next
	j.mu.Unlock()
	switch last := j.last(); {
	case closed:
		return 0, ErrClosed
	case j.active != nil && !j.users.mayHold(users):
		return last.first, nil
	}
	return next, j.beginFile()
}

// eraseSegment erases the users' events in one file, while it holds j.maintenance. If note is true, the filter file of the segment is
// written even if nothing was erased.
func (j *Journal) eraseSegment(ctx context.Context, v *view, users map[UserHash]int64, position int64, note bool) (int64, error) {
	j.maintenance.Lock()
	defer j.maintenance.Unlock()
	// The segment's state is read again: the file may have been rewritten or removed.
	j.mu.Lock()
	pos := slices.IndexFunc(j.segments, func(s *segment) bool { return s.name == v.name && s.end == v.end })
	if pos < 0 {
		j.mu.Unlock()
		return 0, nil
	}
	s := j.segments[pos]
	v.segment = *s
	j.mu.Unlock()
	left := newUserFilter(v.size)
	n, complete, err := j.eraseIn(ctx, v, users, position, left)
	if err != nil {
		return 0, err
	}
	if n > 0 {
		j.mu.Lock()
		s.edition++
		v.edition = s.edition
		j.mu.Unlock()
	}
	if complete && v.sealed && (n > 0 || note) {
		j.keepUsers(&v.segment, left)
	}
	return n, nil
}

// eraseIn rewrites a file that contains events of erased users, and fills a filter with the remaining users; complete reports that
// the file has no damage, so that the filter contains all remaining users.
func (j *Journal) eraseIn(ctx context.Context, v *view, users map[UserHash]int64, position int64, left *userFilter) (n int64, complete bool,
	err error) {
	f, err := j.disk.open(v.path)
	if err != nil {
		return 0, false, err
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
			return 0, false, context.Cause(ctx)
		}
		ok, err := g.scan()
		if err != nil {
			return 0, false, err
		}
		if !ok {
			break
		}
		var part int64
		if group, part, err = eraseInGroup(group[:0], &g, users, position); err != nil {
			return 0, false, fmt.Errorf("at offset %d: %w", g.offset, err)
		}
		n += part
		if len(group) == 0 {
			left.addRecords(g.records)
			continue
		}
		left.addRecords(group[groupHeaderSize:])
		if to == nil {
			if to, err = j.copyOf(f, v.name); err != nil {
				return 0, false, err
			}
		}
		sealGroup(group, g.n, g.first, g.skip)
		if _, err := to.WriteAt(group, g.offset); err != nil {
			return 0, false, err
		}
	}
	for _, d := range g.damaged {
		j.report(&v.segment, d)
	}
	complete = len(g.damaged) == 0
	if to == nil {
		return 0, complete, nil
	}
	if _, err := to.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(v.edition+1)), editionAt); err != nil {
		return 0, false, err
	}
	if err := to.sync(); err != nil {
		return 0, false, err
	}
	if err := to.Close(); err != nil {
		return 0, false, err
	}
	to = nil
	if err := j.disk.rename(j.path(v.name+newSuffix), v.path); err != nil {
		return 0, false, errors.Join(err, j.disk.remove(j.path(v.name+newSuffix)))
	}
	return n, complete, nil
}

// eraseInGroup appends to group the space for a header and a copy of g in which the erased users are anonymous, and returns the number of
// changed records; if no record changes, nothing is appended.
func eraseInGroup(group []byte, g *groupReader, users map[UserHash]int64, position int64) (_ []byte, n int64, err error) {
	for pos, current := 0, g.first; pos < len(g.records) && current <= position; current++ {
		b, rest, err := record(g.records[pos:])
		if err != nil {
			return nil, 0, err
		}
		if has, ok := recordUser(b); ok && erasedBy(users, has, b) {
			if len(group) == 0 {
				group = append(append(group, make([]byte, groupHeaderSize)...), g.records...)
			}
			end := len(group) - len(rest)
			if err := eraseRecord(group[end-len(b) : end]); err != nil {
				return nil, 0, err
			}
			n++
		}
		pos = len(g.records) - len(rest)
	}
	return group, n, nil
}

// erasedBy reports whether a user's record has to be made anonymous.
func erasedBy(users map[UserHash]int64, user UserHash, record []byte) bool {
	upTo, ok := users[user]
	if !ok || upTo == math.MaxInt64 {
		return ok
	}
	var in Texts
	e, err := DecodeRecord(record, &in)
	return err != nil || e.OccurredAt.UnixMilli() <= upTo // true for an unreadable record, so that eraseRecord returns the error
}

// copyOf copies a file within its folder.
func (j *Journal) copyOf(from file, name string) (file, error) {
	size, err := from.size()
	if err != nil {
		return nil, err
	}
	to, err := j.disk.create(j.path(name + newSuffix))
	if err != nil {
		return nil, err
	}
	if err := copyPart(to, from, 0, size); err != nil {
		return nil, errors.Join(err, to.Close(), j.disk.remove(j.path(name+newSuffix)))
	}
	return to, nil
}
