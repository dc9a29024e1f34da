package scanlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// identify reads the scan log's id, or creates a new id.
func (j *Journal) identify(names []string, random io.Reader) error {
	if slices.Contains(names, ledgerFile) {
		f, err := j.disk.open(j.path(ledgerFile))
		if err != nil {
			return fmt.Errorf("reading the scan log ID: %w", err)
		}
		defer f.Close()
		text := make([]byte, 32)
		if _, err := f.ReadAt(text, 0); err == nil {
			if _, err = hex.Decode(j.id[:], text); err == nil {
				return nil
			}
		}
		return fmt.Errorf("the file %s is corrupted: restore it, or remove it to use the ID in the journal files",
			j.path(ledgerFile))
	}
	found := false
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) && !found {
			if f, err := j.disk.open(j.path(name)); err == nil {
				j.id, _, err = readHeader(f)
				found = err == nil
				f.Close()
			}
		}
	}
	if !found {
		if random == nil {
			return errors.New("scanlog: no random source for the ID of a new scan log")
		}
		if _, err := io.ReadFull(random, j.id[:]); err != nil {
			return fmt.Errorf("creating the scan log ID: %w", err)
		}
	}
	if err := writeWhole(j.disk, j.path(ledgerFile), []byte(hex.EncodeToString(j.id[:])+"\n")); err != nil {
		return fmt.Errorf("storing the scan log ID: %w", err)
	}
	return nil
}

// load reads the state of all files.
func (j *Journal) load(names []string) error {
	for _, name := range names {
		subject, is := strings.CutSuffix(name, usersSuffix)
		if strings.HasSuffix(name, newSuffix) || is && !slices.Contains(names, subject+segmentSuffix) {
			if err := j.remove(name); err != nil {
				return fmt.Errorf("removing temporary files: %w", err)
			}
			continue
		}
		var first int64
		if n, err := fmt.Sscanf(name, "%d"+segmentSuffix, &first); n != 1 || err != nil || segmentName(first) != name {
			continue // not a file of this journal
		}
		j.segments = append(j.segments, &segment{name: name, first: first, end: first, size: headerSize, span: noSpan})
	}
	for i, s := range j.segments {
		bound := int64(0)
		if i+1 < len(j.segments) {
			bound = j.segments[i+1].first
		}
		if err := j.loadSegment(s, bound); err != nil {
			return fmt.Errorf("journal file %s: %w", j.path(s.name), err)
		}
		if i > 0 && j.next < s.first-s.skip {
			j.log.Error("scans are missing in the journal", "after_file", j.path(j.segments[i-1].name), "from", j.next, "before",
				s.first-s.skip)
		}
		j.next = s.end
	}
	return nil
}

// loadKept reads the position from which on all events should exist. If no file contains the position from which events should
// exist, the first existing position is used.
func (j *Journal) loadKept() error {
	first := int64(1)
	if len(j.segments) > 0 {
		first = j.segments[0].first - j.segments[0].skip
	}
	f, err := j.disk.open(j.path(keptFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return j.keepFrom(first)
	case err != nil:
		return fmt.Errorf("reading the first offset of the journal: %w", err)
	}
	defer f.Close()
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0)
	if _, err := fmt.Sscanf(string(text[:n]), "%d", &j.removedBefore); err != nil {
		return j.keepFrom(first)
	}
	if j.removedBefore < first {
		j.log.Error("scans are missing in the journal", "in", j.dir, "from", j.removedBefore, "before", first)
	}
	return nil
}

// keepFrom records durably that events before a position may be missing.
func (j *Journal) keepFrom(position int64) error {
	if err := writeWhole(j.disk, j.path(keptFile), fmt.Appendf(nil, "%d\n", position)); err != nil {
		return fmt.Errorf("recording the first offset of the journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.removedBefore = position
	return nil
}

// Missing returns the number of positions up to upTo that were assigned but are in no file, except those that this program removed.
// Unreadable ranges within a file are counted by Damaged instead.
func (j *Journal) Missing(upTo int64) (n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := j.removedBefore
	for _, s := range j.segments {
		n += max(0, min(s.first-s.skip, upTo+1)-next)
		next = max(next, s.end)
	}
	return n
}

// loadSegment reads the state of a file; events at or after the position bound are ignored (0 = no bound). A file that was not sealed is
// rewritten and synced, so that all events returned by later reads are durable.
func (j *Journal) loadSegment(s *segment, bound int64) error {
	f, err := j.disk.open(j.path(s.name))
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	switch ledger, head, err := readHeader(f); {
	case errors.Is(err, errHeader):
		j.report(s, damage{offset: 0, length: headerSize})
	case err != nil:
		return err
	case ledger != j.id:
		return fmt.Errorf("it belongs to the scan log %x, but this folder belongs to %x: move the file out of the folder", ledger, j.id)
	case head.first != s.first:
		return fmt.Errorf("it begins at offset %d, but its name says %d: move the file out of the folder", head.first, s.first)
	default:
		s.skip, s.edition = head.skip, head.edition
	}
	if s.readFooter(f) && (bound == 0 || s.end <= bound) {
		s.blocks = nil // the blocks are read again when needed
		return nil
	}
	size, err := f.size()
	if err != nil {
		return err
	}
	*s = segment{name: s.name, first: s.first, skip: s.skip, end: s.first, size: headerSize, span: noSpan}
	users, complete := newUserFilter(size), true
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
		s.addGroup(g.offset, g.at, g.first, g.n, times)
		users.addRecords(g.records)
	}
	for _, d := range g.damaged {
		if d.offset < s.size {
			complete = false
			j.report(s, d)
		} else if d.length > 0 && bound == 0 && !allZero(f, d) {
			j.log.Warn("torn end of a journal file truncated", "file", j.path(s.name), "offset", d.offset, "bytes", d.length)
		}
	}
	if err := j.rewrite(s, f); err != nil {
		// The rewrite can fail, for example if the disk is full. After a failed rewrite the file is read as it is, and the next
		// start tries again.
		j.log.Warn("unsealed journal file not rewritten", "file", j.path(s.name), "error", err)
		if err := f.sync(); err != nil {
			return err
		}
	} else if complete {
		j.keepUsers(s, users)
	}
	return nil
}

// allZero reports whether a damaged range contains only zero bytes.
func allZero(f file, d damage) bool {
	b := make([]byte, min(d.length, readAhead))
	for pos := d.offset; pos < d.offset+d.length; pos += int64(len(b)) {
		n, err := f.ReadAt(b[:min(int64(len(b)), d.offset+d.length-pos)], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		if len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return false
		}
	}
	return true
}

// spanOf returns the time range of the records in a group.
func spanOf(records []byte) (span, error) {
	times := noSpan
	var in Texts
	for len(records) > 0 {
		b, rest, err := record(records)
		if err != nil {
			return times, err
		}
		e, err := DecodeRecord(b, &in)
		if err != nil {
			return times, err
		}
		times.add(e.OccurredAt.UnixMilli(), idMillis(&e.ID))
		records = rest
	}
	return times, nil
}

// copyPart copies the bytes from offset begin to offset end of a file; io.EOF if the file is shorter.
func copyPart(to, from file, begin, end int64) error {
	_, err := io.CopyN(io.NewOffsetWriter(to, begin), io.NewSectionReader(from, begin, end-begin), end-begin)
	return err
}

// rewrite copies the valid events of a file into a new sealed file that replaces the old file.
func (j *Journal) rewrite(s *segment, from file) error {
	err := replaceFile(j.disk, j.path(s.name), func(to file) error {
		if _, err := to.WriteAt(segmentHeader(j.id, s.first, s.skip), 0); err != nil {
			return err
		}
		if err := copyPart(to, from, headerSize, s.size); err != nil {
			return err
		}
		_, err := to.WriteAt(s.footer(), s.size)
		return err
	})
	if err == nil {
		s.sealed, s.blocks, s.tail = true, nil, block{}
	}
	return err
}
