package labels

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"os"
)

// Permutation is a pseudo-random order of the numbers from 0 to count-1, determined by a seed. Permutation needs no memory: it is a
// Feistel network over AES on the smallest sufficient even number of bits, applied repeatedly until the result is less than count.
type Permutation struct {
	count uint64
	half  int
	block cipher.Block
}

// rounds is the number of rounds of the Feistel network; four rounds look random, eight are secure.
const rounds = 8

// NewPermutation returns the permutation for a seed.
func NewPermutation(count uint64, seed string) Permutation {
	key := sha256.Sum256([]byte("qrjump labels: shuffle\n" + seed))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // unreachable: 32 bytes are a valid AES key length
	}
	return Permutation{count: count, half: (bits.Len64(max(count, 2)-1) + 1) / 2, block: block}
}

// Number returns the number at position place of the permutation; place must be less than count.
func (p Permutation) Number(place uint64) uint64 {
	for {
		if place = p.round(place); place < p.count {
			return place
		}
	}
}

func (p Permutation) round(v uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	left, right := v>>p.half, v&mask
	var b [aes.BlockSize]byte
	for round := range byte(rounds) {
		b = [aes.BlockSize]byte{round}
		binary.BigEndian.PutUint64(b[8:], right)
		p.block.Encrypt(b[:], b[:])
		left, right = right, left^binary.BigEndian.Uint64(b[:])&mask
	}
	return left<<p.half | right
}

// recordSize is the size in bytes of a row in the temporary file: matrix, index, PIN, code, text.
const recordSize = (matrixLength+7)/8 + 8 + 1 + longestPIN + 1 + longestCode + 2 + longestText

// Shuffled returns the rows in the order determined by a seed, starting at the position from in this order. Shuffled needs no
// memory for the rows, because it first writes them to a temporary file, recordSize bytes per row. The caller deletes the temporary
// file after the rows are read.
func Shuffled(spool *os.File, rows iter.Seq2[Row, error], count int64, seed string, from int64) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if err := fill(spool, rows, count); err != nil {
			yield(Row{}, err)
			return
		}
		order := NewPermutation(uint64(count), seed)
		var record [recordSize]byte
		for place := from; place < count; place++ {
			if _, err := spool.ReadAt(record[:], int64(order.Number(uint64(place)))*recordSize); err != nil {
				yield(Row{}, fmt.Errorf("reading %s: %w", spool.Name(), err))
				return
			}
			if !yield(unpack(record), nil) {
				return
			}
		}
	}
}

func fill(spool io.Writer, rows iter.Seq2[Row, error], count int64) error {
	w := bufio.NewWriterSize(spool, 256<<10)
	n := int64(0)
	for r, err := range rows {
		if err != nil {
			return err
		}
		record := pack(r)
		if _, err := w.Write(record[:]); err != nil {
			return err
		}
		n++
	}
	if n != count {
		return fmt.Errorf("got %d rows, want %d", n, count)
	}
	return w.Flush()
}

func pack(r Row) (record [recordSize]byte) {
	for i := range len(r.Matrix) {
		record[i/8] |= (r.Matrix[i] - '0') << (7 - i%8)
	}
	rest := record[(matrixLength+7)/8:]
	binary.BigEndian.PutUint64(rest, uint64(r.Index))
	rest[8] = byte(copy(rest[9:9+longestPIN], r.PIN))
	rest = rest[1+longestPIN:]
	rest[8] = byte(copy(rest[9:9+longestCode], r.Code))
	binary.BigEndian.PutUint16(rest[9+longestCode:], uint16(copy(rest[11+longestCode:], r.Text)))
	return record
}

// unpack decodes a record to a row. If a record contains no black dots, its row has an empty dot matrix.
func unpack(record [recordSize]byte) Row {
	matrix := make([]byte, matrixLength)
	black := false
	for i := range matrix {
		matrix[i] = '0' + record[i/8]>>(7-i%8)&1
		black = black || matrix[i] == '1'
	}
	if !black {
		matrix = nil
	}
	rest := record[(matrixLength+7)/8:]
	index, pin := int64(binary.BigEndian.Uint64(rest)), string(rest[9:9+rest[8]])
	rest = rest[1+longestPIN:]
	return Row{Matrix: string(matrix), Index: index, PIN: pin, Code: string(rest[9 : 9+rest[8]]),
		Text: string(rest[11+longestCode:][:binary.BigEndian.Uint16(rest[9+longestCode:])])}
}
