package scanlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Users is a set of user hashes.
type Users map[UserHash]bool

// Each sealed segment has a filter file with its users, so that a user's events are searched only in segments that may contain
// them. The filter is a Bloom filter in blocks, each of which can be read separately.
//
//	header  8 bytes magic, 4 version, 4 checksum of the rest of the header, 16 id of the scan log,
//	        8 first position of the segment, 8 position after its last event, 8 edition of the segment,
//	        8 number of blocks
//	blocks  60 bytes of bits, 4 checksum of the bits, of the header's checksum and of the block number
//
// A filter matches every user of its segment, and less than one percent of other users. A filter has 12 to 20 bits per user, and
// about 2 % of the segment's size. If a filter is absent, damaged, or belongs to another edition of the segment, the segment itself
// is read and a new filter is written.
const (
	usersSuffix  = ".users"
	usersMagic   = "qrjusers"
	usersVersion = 1
	// usersBlock is the size of a block in bytes; usersBits is the number of filter bits in a block.
	usersBlock = 64
	usersBits  = 480
	// usersProbes is the number of bits that a user sets in one block.
	usersProbes = 8
	// minRecord is the approximate minimum length of a record that contains a user.
	minRecord = 64
)

// userFilter is a filter in memory: its blocks, without checksums.
type userFilter struct{ blocks []byte }

// newUserFilter returns an empty filter sized for the users of a segment of the given size.
func newUserFilter(segmentSize int64) *userFilter {
	const usersABlock = usersBits / 12
	n := max(1, min(segmentSize/minRecord/usersABlock, 1<<15))
	return &userFilter{make([]byte, usersBlock<<bits.Len64(uint64(n-1)))}
}

// probe returns the number of the user's block, and the bits that the user sets in the block. n is the number of blocks, a power of two.
func probe(user *UserHash, n int) (block int, set [usersProbes]uint32) {
	h := xxhash.Sum64(user[:])
	block = int(h & uint64(n-1))
	h = bits.RotateLeft64(h*0x9e3779b97f4a7c15, 32)
	pos, step := uint32(h), uint32(h>>32)|1
	for i := range set {
		set[i] = pos % usersBits
		pos += step
	}
	return block, set
}

func (f *userFilter) add(user *UserHash) {
	pos, set := probe(user, len(f.blocks)/usersBlock)
	for _, bit := range set {
		f.blocks[pos*usersBlock+int(bit/8)] |= 1 << (bit % 8)
	}
}

// addRecords adds the users from the records of a group. Like all readers, addRecords stops at a damaged record.
func (f *userFilter) addRecords(records []byte) {
	for len(records) > 0 {
		b, rest, err := record(records)
		if err != nil {
			return
		}
		if user, ok := recordUser(b); ok {
			f.add(&user)
		}
		records = rest
	}
}

// mayHold reports whether the filter may contain one of the users.
func (f *userFilter) mayHold(users Users) bool {
	for user := range users {
		pos, set := probe(&user, len(f.blocks)/usersBlock)
		if hasBits(f.blocks[pos*usersBlock:], set) {
			return true
		}
	}
	return false
}

// hasBits reports whether all bits of a user are set in a block.
func hasBits(block []byte, set [usersProbes]uint32) bool {
	return !slices.ContainsFunc(set[:], func(bit uint32) bool { return block[bit/8]&(1<<(bit%8)) == 0 })
}

// fit halves the filter as often as possible; after each halving, at most half of its bits may be set. Halving works because the number of
// blocks is a power of two, and the lowest bits of a user's hash select the block.
func (f *userFilter) fit() {
	for len(f.blocks) > usersBlock {
		half := len(f.blocks) / 2
		set := 0
		for i, b := range f.blocks[:half] {
			set += bits.OnesCount8(b | f.blocks[half+i])
		}
		if set > half/usersBlock*usersBits/2 {
			return
		}
		for i, b := range f.blocks[half:] {
			f.blocks[i] |= b
		}
		f.blocks = f.blocks[:half]
	}
}

func (j *Journal) usersHeader(s *segment, blocks int) []byte {
	b := append(make([]byte, 0, usersBlock), usersMagic...)
	b = binary.LittleEndian.AppendUint32(b, usersVersion)
	b = append(b, 0, 0, 0, 0)
	b = append(b, j.id[:]...)
	for _, v := range []int64{s.first, s.end, s.edition, int64(blocks)} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
	return b
}

func usersChecksum(header, block []byte, pos int) uint32 {
	var values [12]byte
	copy(values[:], header[12:16])
	binary.LittleEndian.PutUint64(values[4:], uint64(pos))
	return crc32.Update(crc32.Checksum(values[:], castagnoli), castagnoli, block[:usersBlock-4])
}

// keepUsers writes the filter file of a segment. The filter file is not synced, because its checksums reveal damage after a power
// failure. A failed write is harmless, because the filter is optional.
func (j *Journal) keepUsers(s *segment, f *userFilter) {
	f.fit()
	n := len(f.blocks) / usersBlock
	header := j.usersHeader(s, n)
	b := append(bytes.Clone(header), f.blocks...)
	for pos := range n {
		block := b[(pos+1)*usersBlock:][:usersBlock]
		binary.LittleEndian.PutUint32(block[usersBlock-4:], usersChecksum(header, block, pos))
	}
	name := j.path(usersName(s.name))
	to, err := j.disk.create(name + newSuffix)
	if err == nil {
		_, err = to.WriteAt(b, 0)
		if err = errors.Join(err, to.Close()); err == nil {
			err = j.disk.rename(name+newSuffix, name)
		}
	}
	if err != nil {
		_ = j.disk.remove(name + newSuffix) // if the removal fails, the next start removes the file
		j.log.Warn("user index of a journal file not written", "file", j.path(s.name), "error", err)
	}
}

// usersName returns the name of a segment's filter file.
func usersName(segment string) string { return segment[:len(segment)-len(segmentSuffix)] + usersSuffix }

// usersAtOnce is the number of users at which the whole filter is read instead of single blocks.
const usersAtOnce = 32

// errNoFilter means that a segment has no valid filter.
var errNoFilter = errors.New("scanlog: invalid user index")

// mayHold reports whether a segment may contain events of the users. Without a valid filter, it returns true and an error.
func (j *Journal) mayHold(s *segment, users Users) (allowed bool, err error) {
	if !s.sealed {
		return true, errNoFilter
	}
	f, err := j.disk.open(j.path(usersName(s.name)))
	if err != nil {
		return true, err
	}
	defer f.Close()
	r, header := io.ReaderAt(f), make([]byte, usersBlock)
	if _, err := r.ReadAt(header, 0); err != nil {
		return true, err
	}
	blocks := binary.LittleEndian.Uint64(header[56:])
	if blocks == 0 || blocks > 1<<20 || blocks&(blocks-1) != 0 || !bytes.Equal(header, j.usersHeader(s, int(blocks))) {
		return true, errNoFilter
	}
	if len(users) >= usersAtOnce {
		all := make([]byte, (blocks+1)*usersBlock)
		if _, err := r.ReadAt(all, 0); err != nil {
			return true, err
		}
		r = bytes.NewReader(all)
	}
	block := make([]byte, usersBlock)
	for user := range users {
		pos, set := probe(&user, int(blocks))
		if _, err := r.ReadAt(block, int64(pos+1)*usersBlock); err != nil ||
			usersChecksum(header, block, pos) != binary.LittleEndian.Uint32(block[usersBlock-4:]) {
			return true, errNoFilter
		}
		allowed = allowed || hasBits(block, set)
	}
	return allowed, nil
}
