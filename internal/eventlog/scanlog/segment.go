package scanlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// A segment is a file of groups. A group is the unit that one fsync makes durable:
//
//	header   8 bytes magic, 4 version, 4 checksum of the 32 bytes after it,
//	         16 id of the scan log, 8 first position, 8 number of never assigned
//	         positions directly before the first position, 8 edition: number of
//	         rewrites of the file by erasures; zeros up to 64 bytes
//	groups   4 bytes mark, 4 checksum of the rest of the group,
//	         4 length of the records, 4 number of records, 8 first position, 8 number of never assigned
//	         positions directly before the first position; then the records, each after its length (a varint)
//	footer   only in a sealed segment: the list of blocks, then the summary of the segment
//
// Numbers are little-endian; checksums are CRC-32C.
const (
	segmentMagic   = "qrjscans"
	segmentVersion = 1
	headerSize     = 64

	groupMark       = 0x9d7a5c31
	groupHeaderSize = 32
	// maxGroup limits the record bytes of one group, so that a damaged length field cannot cause a large allocation.
	maxGroup = 16 << 20

	footerMark  = 0x5c9d317a
	summarySize = 72
	footerMagic = "qrjseal\n"
	// maxFooter is the maximum length, in bytes, that a reader accepts for the list of blocks in a footer.
	maxFooter = 64 << 20

	// blockSize is the approximate number of bytes that one index block covers.
	blockSize = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// span is the time range of a sequence of events.
type span struct {
	minAt, maxAt int64 // range of the times of the events
	minID, maxID int64 // range of the times in the ids of the events
}

var noSpan = span{minAt: math.MaxInt64, maxAt: math.MinInt64, minID: math.MaxInt64, maxID: math.MinInt64}

func (s *span) add(pos, id int64) {
	s.minAt, s.maxAt = min(s.minAt, pos), max(s.maxAt, pos)
	s.minID, s.maxID = min(s.minID, id), max(s.maxID, id)
}

func (s *span) join(o span) {
	s.minAt, s.maxAt = min(s.minAt, o.minAt), max(s.maxAt, o.maxAt)
	s.minID, s.maxID = min(s.minID, o.minID), max(s.maxID, o.maxID)
}

// batch is a group that is being filled in memory. The buffer begins with room for the group's header.
type batch struct {
	buf  []byte
	n    int
	skip int64 // number of positions directly before the group that are never assigned
	span
}

func (b *batch) reset() {
	if cap(b.buf) < groupHeaderSize || cap(b.buf) > 4<<20 {
		b.buf = make([]byte, 0, 4<<10)
	}
	b.buf, b.n, b.skip, b.span = b.buf[:groupHeaderSize], 0, 0, noSpan
}

// add appends an event.
func (b *batch) add(e *Event) {
	start := len(b.buf)
	b.buf = AppendRecord(append(b.buf, 0, 0), e)
	length := len(b.buf) - start - 2
	b.buf[start], b.buf[start+1] = byte(length)|0x80, byte(length>>7)
	b.n++
	b.span.add(e.OccurredAt.UnixMilli(), idMillis(&e.ID))
}

// seal writes the header of the group.
func (b *batch) seal(first int64) []byte {
	sealGroup(b.buf, b.n, first, b.skip)
	return b.buf
}

func sealGroup(b []byte, n int, first, skip int64) {
	binary.LittleEndian.PutUint32(b[0:], groupMark)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-groupHeaderSize))
	binary.LittleEndian.PutUint32(b[12:], uint32(n))
	binary.LittleEndian.PutUint64(b[16:], uint64(first))
	binary.LittleEndian.PutUint64(b[24:], uint64(skip))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
}

func segmentHeader(ledger [16]byte, first, skip int64) []byte {
	b := make([]byte, headerSize)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], segmentVersion)
	copy(b[16:], ledger[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(first))
	binary.LittleEndian.PutUint64(b[40:], uint64(skip))
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:48], castagnoli))
	return b
}

// errHeader is returned for a file that does not begin with a segment header.
var errHeader = errors.New("not a journal file")

// editionAt is the offset of the edition in the header. The checksum of the header does not cover the edition.
const editionAt = 48

func readHeader(r io.ReaderAt) (ledger [16]byte, s segment, err error) {
	b := make([]byte, headerSize)
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return ledger, s, err
	}
	if string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[12:]) != crc32.Checksum(b[16:48], castagnoli) {
		return ledger, s, errHeader
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
		return ledger, s, fmt.Errorf("its format is %d, and this qrjump supports up to %d: use a newer qrjump", v, segmentVersion)
	}
	copy(ledger[:], b[16:])
	s.first, s.skip = int64(binary.LittleEndian.Uint64(b[32:])), int64(binary.LittleEndian.Uint64(b[40:]))
	s.edition = int64(binary.LittleEndian.Uint64(b[editionAt:]))
	return ledger, s, nil
}

// block is the start of a section of a segment and the section's time range.
type block struct {
	offset, first int64
	span
}

// segment holds the metadata of one journal file. The metadata of a sealed file no longer changes.
type segment struct {
	name   string // file name within the folder
	first  int64  // position of the first event
	skip   int64  // number of positions directly before the first event that are never assigned
	end    int64  // position after the last event
	size   int64  // offset after the last group
	sealed bool   // the file has a footer
	// edition counts the rewrites of the file by erasures.
	edition int64
	span
	// A sealed file stores its blocks in the footer. Readers may share the blocks in this list, because they never change; the last block,
	// which still changes, is in the field tail.
	blocks []block
	tail   block
}

// addGroup records a group of n events that lies between two file offsets.
func (s *segment) addGroup(offset, end, first int64, n int, times span) {
	if s.tail.offset > 0 && offset-s.tail.offset >= blockSize {
		s.blocks = append(s.blocks, s.tail)
		s.tail = block{}
	}
	if s.tail.offset == 0 {
		s.tail = block{offset: offset, first: first, span: noSpan}
	}
	s.tail.join(times)
	s.join(times)
	s.size, s.end = end, first+int64(n)
}

// all returns all blocks in order, including the growing last block.
func (s *segment) all() []block {
	if s.tail.offset == 0 {
		return s.blocks
	}
	return append(slices.Clip(s.blocks), s.tail)
}

func (s *segment) footer() []byte {
	var b []byte
	last := block{}
	for _, k := range s.all() {
		for _, v := range []int64{k.offset - last.offset, k.first - last.first, k.minAt, k.maxAt - k.minAt, k.minID, k.maxID - k.minID} {
			b = binary.AppendVarint(b, v)
		}
		last = k
	}
	length := len(b)
	b = binary.LittleEndian.AppendUint32(b, footerMark)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.all())))
	for _, v := range []int64{s.end, s.size, s.minAt, s.maxAt, s.minID, s.maxID} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	b = append(b, footerMagic...)
	binary.LittleEndian.PutUint32(b[length+4:], crc32.Checksum(b[:length], castagnoli)^crc32.Checksum(b[length+8:], castagnoli))
	return b
}

// readFooter reads the footer of a file; it returns false if the footer is absent or incomplete.
func (s *segment) readFooter(f file) bool {
	size, err := f.size()
	if err != nil || size < headerSize+summarySize {
		return false
	}
	sum := make([]byte, summarySize)
	if _, err := f.ReadAt(sum, size-summarySize); err != nil {
		return false
	}
	length := int64(binary.LittleEndian.Uint32(sum[8:]))
	if string(sum[64:]) != footerMagic || binary.LittleEndian.Uint32(sum) != footerMark ||
		length > min(maxFooter, size-headerSize-summarySize) {
		return false
	}
	b := make([]byte, length)
	if _, err := f.ReadAt(b, size-summarySize-length); err != nil {
		return false
	}
	if crc32.Checksum(b, castagnoli)^crc32.Checksum(sum[8:], castagnoli) != binary.LittleEndian.Uint32(sum[4:]) {
		return false
	}
	n := binary.LittleEndian.Uint32(sum[12:])
	values := make([]int64, 6)
	for i := range values {
		values[i] = int64(binary.LittleEndian.Uint64(sum[16+8*i:]))
	}
	if values[1] != size-summarySize-length {
		return false
	}
	blocks := make([]block, 0, min(int(n), len(b)/6))
	last := block{}
	for len(b) > 0 {
		var v [6]int64
		for i := range v {
			x, w := binary.Varint(b)
			if w <= 0 {
				return false
			}
			v[i], b = x, b[w:]
		}
		last = block{offset: last.offset + v[0], first: last.first + v[1], span: span{v[2], v[2] + v[3], v[4], v[4] + v[5]}}
		blocks = append(blocks, last)
	}
	if len(blocks) != int(n) {
		return false
	}
	s.end, s.size, s.span, s.blocks, s.tail, s.sealed = values[0], values[1], span{values[2], values[3], values[4], values[5]}, blocks,
		block{}, true
	return true
}

// damage is an unreadable range of a segment.
type damage struct {
	offset, length int64
	// lost is the number of lost events in the range, as far as the surrounding positions show it.
	lost int64
}

// groupReader iterates over the groups of a segment. groupReader skips damaged ranges and continues after them.
type groupReader struct {
	r     io.ReaderAt
	at    int64 // file offset of the next group
	limit int64 // file offset after the last group
	next  int64 // minimum position of the next group
	end   int64 // position after the last event; 0 = unknown

	buf []byte // read-ahead buffer
	off int64  // file offset of buf

	// file offset of the group that the method scan found
	offset  int64
	first   int64
	skip    int64
	n       int
	records []byte

	damaged []damage
}

// readAhead is the number of bytes read from the file at once; the first read of a reader is shorter, because it may look for one scan.
const readAhead, firstRead = 256 << 10, 16 << 10

// bytes returns n bytes at a file offset, or fewer at the end of the segment. The returned bytes are valid until the next call.
func (g *groupReader) bytes(pos int64, n int) ([]byte, error) {
	n = int(min(int64(n), g.limit-pos))
	if pos < g.off || pos+int64(n) > g.off+int64(len(g.buf)) {
		want := int(min(int64(max(n, firstRead, min(2*cap(g.buf), readAhead))), g.limit-pos))
		if cap(g.buf) < want {
			g.buf = make([]byte, want)
		}
		g.buf = g.buf[:want]
		g.off = pos
		got, err := g.r.ReadAt(g.buf, pos)
		g.buf = g.buf[:got]
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	b := g.buf[pos-g.off:]
	return b[:min(n, len(b))], nil
}

// readGroup reads the group at a file offset; it returns false if there is no valid group.
func (g *groupReader) readGroup(pos int64) (bool, error) {
	b, err := g.bytes(pos, groupHeaderSize)
	if err != nil || len(b) < groupHeaderSize || binary.LittleEndian.Uint32(b) != groupMark {
		return false, err
	}
	length := int64(binary.LittleEndian.Uint32(b[8:]))
	n := int64(binary.LittleEndian.Uint32(b[12:]))
	first, skip := int64(binary.LittleEndian.Uint64(b[16:])), int64(binary.LittleEndian.Uint64(b[24:]))
	if length > maxGroup || length > g.limit-pos-groupHeaderSize || n == 0 || n > length || first < g.next || first > math.MaxInt64-n ||
		skip < 0 || skip > first {
		return false, nil
	}
	if b, err = g.bytes(pos, groupHeaderSize+int(length)); err != nil || int64(len(b)) < groupHeaderSize+length {
		return false, err
	}
	if crc32.Checksum(b[8:], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return false, nil
	}
	g.offset, g.first, g.skip, g.n, g.records = pos, first, skip, int(n), b[groupHeaderSize:]
	return true, nil
}

// scan advances to the next valid group; it returns false at the end of the segment.
func (g *groupReader) scan() (bool, error) {
	begin := g.at
	for g.at < g.limit {
		ok, err := g.readGroup(g.at)
		if err != nil {
			return false, err
		}
		if ok {
			if lost := g.first - g.skip - g.next; g.at > begin || lost > 0 {
				g.damaged = append(g.damaged, damage{offset: begin, length: g.at - begin, lost: max(0, lost)})
			}
			g.at += groupHeaderSize + int64(len(g.records))
			g.next = g.first + int64(g.n)
			return true, nil
		}
		if g.at, err = g.findGroup(g.at + 1); err != nil {
			return false, err
		}
	}
	if begin < g.limit {
		g.damaged = append(g.damaged, damage{offset: begin, length: g.limit - begin, lost: max(0, g.end-g.next)})
	}
	return false, nil
}

// findGroup returns the next file offset at which the bytes look like the start of a group.
func (g *groupReader) findGroup(pos int64) (int64, error) {
	var mark [4]byte
	binary.LittleEndian.PutUint32(mark[:], groupMark)
	for pos < g.limit {
		b, err := g.bytes(pos, readAhead)
		if err != nil {
			return 0, err
		}
		if i := bytes.Index(b, mark[:]); i >= 0 {
			return pos + int64(i), nil
		}
		if len(b) <= len(mark) {
			break
		}
		pos += int64(len(b) - len(mark) + 1)
	}
	return g.limit, nil
}

// record splits the first record from the records of a group.
func record(b []byte) (data, rest []byte, err error) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length > maxRecord || length > uint64(len(b)-n) {
		return nil, nil, errRecord
	}
	return b[n : n+int(length)], b[n+int(length):], nil
}
