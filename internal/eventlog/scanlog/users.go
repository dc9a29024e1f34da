package scanlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Users is a set of users.
type Users map[UserHash]bool

// Beside each sealed segment lies a filter of its users, so that the events of a user are looked
// for only in segments that may have some. It is a Bloom filter in blocks, each of which can be
// read alone.
//
//	header  8 bytes magic, 4 version, 4 checksum of the rest of the header, 16 ledger,
//	        8 first position, 8 position after the last, 8 edition of the segment,
//	        8 how many blocks
//	blocks  60 bytes of bits, 4 checksum of them, of the header's and of the number
//
// A filter answers "maybe" for every user of its segment, and for less than one of a hundred
// others. It has 12 to 20 bits for each user, and a fiftieth of the segment's length. Where a
// filter is lacking or damaged, or is of another edition of the segment, the segment itself is read
// and gets a new filter.
const (
	usersSuffix  = ".users"
	usersMagic   = "qrjusers"
	usersVersion = 1
	// usersBlock is the size of a block in bytes, usersBits how many bits it has.
	usersBlock = 64
	usersBits  = 480
	// usersProbes bits of one block stand for a user.
	usersProbes = 8
	// leastRecord is about the shortest record that has a user.
	leastRecord = 64
)

// userFilter is a filter in memory: its blocks without their checksums.
type userFilter struct{ blocks []byte }

// newUserFilter has room for the users of a segment of so many bytes.
func newUserFilter(segmentSize int64) *userFilter {
	const usersABlock = usersBits / 12
	n := max(1, min(segmentSize/leastRecord/usersABlock, 1<<15))
	return &userFilter{make([]byte, usersBlock<<bits.Len64(uint64(n-1)))}
}

// probe calls f with the bits of a user's block until it returns false. n is how many
// blocks there are, a power of two.
func probe(user *UserHash, n int, f func(block, bit int) bool) {
	h := xxhash.Sum64(user[:])
	block := int(h & uint64(n-1))
	h = bits.RotateLeft64(h*0x9e3779b97f4a7c15, 32)
	pos, step := uint32(h), uint32(h>>32)|1
	for range usersProbes {
		if !f(block, int(pos%usersBits)) {
			return
		}
		pos += step
	}
}

func (f *userFilter) add(user *UserHash) {
	probe(user, len(f.blocks)/usersBlock, func(block, bit int) bool {
		f.blocks[block*usersBlock+bit/8] |= 1 << (bit % 8)
		return true
	})
}

// addRecords adds the users of the records of a group. It stops at damage, as every reader does.
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

// mayHold reports whether one of some users may be in the filter.
func (f *userFilter) mayHold(users Users) bool {
	for user := range users {
		if mayContain(f.blocks, &user) {
			return true
		}
	}
	return false
}

func mayContain(blocks []byte, user *UserHash) (allowed bool) {
	probe(user, len(blocks)/usersBlock, func(block, bit int) bool {
		allowed = blocks[block*usersBlock+bit/8]&(1<<(bit%8)) != 0
		return allowed
	})
	return allowed
}

// fit halves the filter for as long as at most half of its bits are set afterwards. It can be
// halved because the number of blocks is a power of two, and the last bits of a hash tell a user's
// block.
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

// keepUsers writes the filter of a segment. It is not flushed: its checksums tell what a power cut
// damaged. It does no harm if it cannot be written.
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
		_ = j.disk.remove(name + newSuffix) // if that fails, the next start removes it
		j.log.Warn("which users are in a file of scans cannot be noted; it is read where one is looked for", "file", j.path(s.name),
			"error", err)
	}
}

// usersName returns the name of the filter of a segment.
func usersName(segment string) string { return segment[:len(segment)-len(segmentSuffix)] + usersSuffix }

// usersAtOnce is the number of users from which on the whole filter is read, not single blocks.
const usersAtOnce = 32

// mayHold reports whether one of some users may have events in a segment. known is false where
// there is no valid filter, so that they may.
func (j *Journal) mayHold(s *segment, users Users) (allowed, known bool) {
	if !s.sealed {
		return true, false
	}
	f, err := j.disk.open(j.path(usersName(s.name)))
	if err != nil {
		return true, false
	}
	defer f.Close()
	r, header := io.ReaderAt(f), make([]byte, usersBlock)
	if _, err := r.ReadAt(header, 0); err != nil {
		return true, false
	}
	blocks := binary.LittleEndian.Uint64(header[56:])
	if blocks == 0 || blocks > 1<<20 || blocks&(blocks-1) != 0 || !bytes.Equal(header, j.usersHeader(s, int(blocks))) {
		return true, false
	}
	if len(users) >= usersAtOnce {
		all := make([]byte, (blocks+1)*usersBlock)
		if _, err := r.ReadAt(all, 0); err != nil {
			return true, false
		}
		r = bytes.NewReader(all)
	}
	block := make([]byte, usersBlock)
	for user := range users {
		pos, set := -1, true
		probe(&user, int(blocks), func(in, bit int) bool {
			if pos < 0 {
				pos = in
				if _, err := r.ReadAt(block, int64(pos+1)*usersBlock); err != nil ||
					usersChecksum(header, block, pos) != binary.LittleEndian.Uint32(block[usersBlock-4:]) {
					pos = -2
					return false
				}
			}
			set = block[bit/8]&(1<<(bit%8)) != 0
			return set
		})
		if pos == -2 {
			return true, false
		}
		allowed = allowed || set
	}
	return allowed, true
}

// removeUsers removes the filter of a segment that was removed.
func (j *Journal) removeUsers(segment string) error {
	if err := j.disk.remove(j.path(usersName(segment))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// maySegments drops from a list the segments whose filters say that they hold none of some users.
func (j *Journal) maySegments(list []view, users Users) []view {
	return slices.DeleteFunc(list, func(v view) bool {
		allowed, _ := j.mayHold(&v.segment, users)
		return !allowed
	})
}

// usersOf returns the users of a list of erasures.
func usersOf(list map[UserHash]int64) Users {
	users := Users{}
	for user := range maps.Keys(list) {
		users[user] = true
	}
	return users
}
