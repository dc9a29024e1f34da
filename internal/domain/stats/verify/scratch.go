package verify

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
)

// scratch sorts many small records into partitions. The records stay in memory until they reach a limit; then they are moved to a file. The
// scratch file is unlinked right after it is created, so that a killed process leaves no file behind.
type scratch struct {
	dir        string // directory of the scratch file; "" = the system's directory for temporary files
	maxBytes   int    // maximum number of bytes in memory
	bytesHeld  int
	file       *os.File
	end        int64  // length of the file
	moved      func() // called after all records in memory were moved to the file
	partitions map[partition]*block
}

// partition identifies a partition by its kind (field "of") and its number within the kind (fields "a" and "b").
type partition struct {
	of   int
	a, b int64
}

func (d partition) compare(o partition) int {
	return cmp.Or(cmp.Compare(d.of, o.of), cmp.Compare(d.a, o.a), cmp.Compare(d.b, o.b))
}

// block holds the records of a partition.
type block struct {
	fresh []byte // not yet written to the file
	size  int64
	parts []scratchPart
}

type scratchPart struct {
	at   int64
	size int
}

// scratchSuffix is the suffix of the names of scratch files.
const scratchSuffix = ".scratch"

// open returns the block of a partition; the caller appends to the block's fresh records and then calls extend.
func (s *scratch) open(d partition) *block {
	blk := s.partitions[d]
	if blk == nil {
		if s.partitions == nil {
			s.partitions = map[partition]*block{}
		}
		blk = &block{}
		s.partitions[d] = blk
	}
	return blk
}

// extend replaces the fresh records of a block by a longer list, and moves all records to the file if the memory limit is reached.
func (s *scratch) extend(to *block, fresh []byte) error {
	n := len(fresh) - len(to.fresh)
	to.fresh, to.size, s.bytesHeld = fresh, to.size+int64(n), s.bytesHeld+n
	if s.bytesHeld < s.maxBytes {
		return nil
	}
	return s.move()
}

// flush moves the remaining records from memory to the file. If all records fit in memory, there is no file, and they stay in memory.
func (s *scratch) flush() error {
	if s.file == nil {
		return nil
	}
	return s.move()
}

// move moves all records from memory to the file.
func (s *scratch) move() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "*"+scratchSuffix)
		if err != nil {
			return fmt.Errorf("creating a temporary file for records: %w", err)
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("unlinking the temporary file for records: %w", err)
		}
	}
	for _, d := range slices.SortedFunc(maps.Keys(s.partitions), partition.compare) {
		blk := s.partitions[d]
		if len(blk.fresh) == 0 {
			continue
		}
		if _, err := s.file.WriteAt(blk.fresh, s.end); err != nil {
			return fmt.Errorf("writing records: %w", err)
		}
		blk.parts = append(blk.parts, scratchPart{s.end, len(blk.fresh)})
		s.end += int64(len(blk.fresh))
		blk.fresh = nil
	}
	s.bytesHeld = 0
	s.moved()
	return nil
}

// read iterates over the records of a partition in order. Each part contains the records that were moved to the file at once, and is valid
// only until the next part is read.
func (s *scratch) read(d partition) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		blk := s.partitions[d]
		if blk == nil {
			return
		}
		var buf []byte
		for _, p := range blk.parts {
			buf = slices.Grow(buf[:0], p.size)[:p.size]
			if _, err := s.file.ReadAt(buf, p.at); err != nil {
				yield(nil, fmt.Errorf("reading records: %w", err))
				return
			}
			if !yield(buf, nil) {
				return
			}
		}
		if len(blk.fresh) > 0 {
			yield(blk.fresh, nil)
		}
	}
}

// list returns the partitions whose kind is total, in the order of partition.compare.
func (s *scratch) list(total int) (list []partition) {
	for d := range s.partitions {
		if d.of == total {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, partition.compare)
	return list
}

func (s *scratch) close() error {
	s.partitions = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
