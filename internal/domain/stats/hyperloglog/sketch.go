// Package hyperloglog counts distinct users in little memory.
package hyperloglog

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Users counts distinct users. Up to the limit Exact the count is exact; above this limit, the error of the count is at most 1 % (three
// standard errors are 0.9 %). The content of a sketch depends only on the set of users, not on their order or on how sketches were merged,
// so that a recount yields identical bytes. The zero value is an empty sketch.
type Users struct {
	exact     []uint64 // sorted; used while registers is nil
	registers []byte
}

const (
	// Exact is the maximum number of users that are stored individually.
	Exact = 2048
	// registerBits is the base-2 logarithm of the number of registers: 2^17 registers have a standard error of 1.04/√2^17 = 0.29 %,
	// so 1 % is more than three standard errors.
	registerBits = 17
)

// Number returns the 64-bit hash that represents a user in a sketch. The zero user hash stands for an anonymous user.
func Number(u scanlog.UserHash) uint64 { return xxhash.Sum64(u[:]) }

// Add adds a user; the zero user hash is anonymous and changes nothing. Add reports whether the sketch changed.
func (s *Users) Add(u scanlog.UserHash) bool {
	if u == (scanlog.UserHash{}) {
		return false
	}
	return s.AddNumber(Number(u))
}

// AddNumber adds a user by the result of Number.
func (s *Users) AddNumber(n uint64) bool {
	if s.registers != nil {
		return s.raise(n)
	}
	i, have := slices.BinarySearch(s.exact, n)
	if have {
		return false
	}
	s.exact = slices.Insert(s.exact, i, n)
	s.compact()
	return true
}

// compact converts the sketch to registers when it has too many users to store individually.
func (s *Users) compact() {
	if len(s.exact) <= Exact {
		return
	}
	s.registers = make([]byte, 1<<registerBits)
	for _, n := range s.exact {
		s.raise(n)
	}
	s.exact = nil
}

// raise records the number of a user in the register that belongs to this number.
func (s *Users) raise(n uint64) bool {
	pos, rank := register(n)
	if s.registers[pos] >= rank {
		return false
	}
	s.registers[pos] = rank
	return true
}

// register returns the index of a number's register, and the rank of the number.
func register(n uint64) (pos uint64, rank byte) {
	return n >> (64 - registerBits), byte(bits.LeadingZeros64(n<<registerBits|1<<(registerBits-1)) + 1)
}

// maxRank is the highest possible rank.
const maxRank = 64 - registerBits + 1

// Size returns the size of the sketch in bytes.
func (s *Users) Size() int { return 8*cap(s.exact) + len(s.registers) }

// Merge adds all users of another sketch.
func (s *Users) Merge(o Users) {
	switch {
	case o.registers == nil:
		if s.registers == nil {
			s.exact = union(s.exact, o.exact)
			s.compact()
			return
		}
		for _, n := range o.exact {
			s.raise(n)
		}
	case s.registers == nil:
		exact := s.exact
		s.exact, s.registers = nil, slices.Clone(o.registers)
		for _, n := range exact {
			s.raise(n)
		}
	default:
		for i, rank := range o.registers {
			s.registers[i] = max(s.registers[i], rank)
		}
	}
}

// Merged returns the union of several sketches; a single sketch is returned unchanged.
func Merged(sketches []*Users) *Users {
	if len(sketches) == 1 {
		return sketches[0]
	}
	s := &Users{}
	var exact []uint64
	for _, o := range sketches {
		if o.registers != nil {
			s.Merge(*o)
		}
		exact = append(exact, o.exact...)
	}
	slices.Sort(exact)
	exact = slices.Compact(exact)
	if s.registers == nil {
		s.exact = exact
		s.compact()
		return s
	}
	for _, n := range exact {
		s.raise(n)
	}
	return s
}

// Entry returns the sketch of a key, and adds an empty sketch to the map if the key has none.
func Entry[K comparable](m map[K]*Users, key K) *Users {
	s := m[key]
	if s == nil {
		s = &Users{}
		m[key] = s
	}
	return s
}

// union returns the sorted union of two lists.
func union(a, b []uint64) []uint64 {
	all := make([]uint64, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		next := min(a[0], b[0])
		if a[0] == next {
			a = a[1:]
		}
		if b[0] == next {
			b = b[1:]
		}
		all = append(all, next)
	}
	return append(append(all, a...), b...)
}

// Replace replaces the number of an erased user by a meaningless number, so that the count stays the same. Replace reports whether
// the user may have been counted: registers store no user numbers, so a sketch with registers may contain any user.
func (s *Users) Replace(u scanlog.UserHash, step uint64) bool {
	i, have := slices.BinarySearch(s.exact, Number(u))
	if !have {
		return s.registers != nil
	}
	s.exact = slices.Delete(s.exact, i, i+1)
	s.AddNumber(step)
	return true
}

// Count returns the number of distinct users. Above the exact limit, Count returns an improved HyperLogLog estimate. The estimate
// follows Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), and needs no correction tables.
func (s *Users) Count() int64 {
	if s.registers == nil {
		return int64(len(s.exact))
	}
	const q, m = 64 - registerBits, 1 << registerBits
	var have [q + 2]float64
	for _, rank := range s.registers {
		have[rank]++
	}
	z := m * tau(1-have[q+1]/m)
	for k := q; k >= 1; k-- {
		z = (z + have[k]) / 2
	}
	z += m * sigma(have[0]/m)
	return int64(math.Round(m * m / (2 * math.Ln2) / z))
}

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for {
		x *= x
		prev := z
		z += x * y
		y += y
		if z == prev {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x <= 0 || x >= 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for {
		x = math.Sqrt(x)
		prev := z
		y /= 2
		z -= (1 - x) * (1 - x) * y
		if z == prev {
			return z / 3
		}
	}
}

// Changes encodes the sketch as a text that contains only the registers raised by the users, and no user numbers. The fewer users, the
// shorter the text.
func (s *Users) Changes() string {
	var b []byte
	put := func(pos uint64, rank byte) {
		pos |= uint64(rank) << registerBits
		if rank > 0 {
			b = append(b, byte(pos>>16), byte(pos>>8), byte(pos))
		}
	}
	for pos, rank := range s.registers {
		put(uint64(pos), rank)
	}
	last, highest := uint64(0), byte(0)
	for _, n := range s.exact {
		pos, rank := register(n)
		if pos != last {
			put(last, highest)
			last, highest = pos, 0
		}
		highest = max(highest, rank)
	}
	put(last, highest)
	return "s" + base64.RawStdEncoding.EncodeToString(b)
}

// MergeText adds all users of an encoded sketch.
func (s *Users) MergeText(text string) error {
	if s.registers == nil || !strings.HasPrefix(text, "s") {
		o, err := Decode(text)
		if err == nil {
			s.Merge(o)
		}
		return err
	}
	b, err := base64.RawStdEncoding.DecodeString(text[1:])
	if err != nil || len(b)%3 != 0 {
		return errSketch
	}
	for ; len(b) > 0; b = b[3:] {
		n := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
		pos, rank := n&(1<<registerBits-1), byte(n>>registerBits)
		if rank > maxRank {
			return errSketch
		}
		s.registers[pos] = max(s.registers[pos], rank)
	}
	return nil
}

// errSketch reports that a stored sketch is invalid.
var errSketch = errors.New("hyperloglog: invalid encoded sketch")

// Encode returns the sketch as text.
func (s *Users) Encode() string {
	if s.registers == nil {
		b := make([]byte, 0, 8*len(s.exact))
		for _, n := range s.exact {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		return "e" + base64.RawStdEncoding.EncodeToString(b)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.HuffmanOnly)
	if err != nil {
		panic(err) // impossible: the compression level is valid
	}
	w.Write(s.registers) // writing to memory never fails
	w.Close()
	return "r" + base64.RawStdEncoding.EncodeToString(b.Bytes())
}

// Decode parses the result of Encode; "" is an empty sketch.
func Decode(text string) (s Users, err error) {
	if text == "" {
		return s, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(text[1:])
	if err != nil {
		return s, errSketch
	}
	switch text[0] {
	case 'e':
		if len(b)%8 != 0 || len(b) > 8*Exact {
			return s, errSketch
		}
		for ; len(b) > 0; b = b[8:] {
			s.exact = append(s.exact, binary.BigEndian.Uint64(b))
		}
		if !slices.IsSorted(s.exact) {
			return s, errSketch
		}
		return s, nil
	case 'r':
		s.registers = make([]byte, 1<<registerBits)
		if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(b)), s.registers); err != nil {
			return Users{}, errSketch
		}
		for _, rank := range s.registers {
			if rank > maxRank {
				return Users{}, errSketch
			}
		}
		return s, nil
	case 's':
		s.registers = make([]byte, 1<<registerBits)
		return s, s.MergeText(text)
	}
	return s, errSketch
}
