package archive

import (
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// packer compresses texts one after the other; while a goroutine compresses a chunk of a text, the producer of the text writes the
// next chunk. Each compressed text can be placed anywhere in a gzip stream.
type packer struct {
	to    *counting
	flate *flate.Writer
	free  chan []byte
}

// packed describes a text that a packer compressed.
type packed struct {
	from, to int64 // byte range in the packer's output
	plain
}

// plain holds the length and checksums of an uncompressed text, for a gzip header and a manifest.
type plain struct {
	size int64
	crc  uint32
	sum  []byte // SHA-256
}

// append returns the length and the CRC-32 of two joined texts, which p and next describe; the SHA-256 sum of the result is empty.
func (p plain) append(next plain) plain {
	return plain{size: p.size + next.size, crc: crcOfBoth(p.crc, next.crc, next.size)}
}

func (p plain) member(name string, rows int64) Member {
	return Member{Name: name, Rows: rows, Size: p.size, SHA256: hex.EncodeToString(p.sum)}
}

// pieceSize is the size in bytes of the chunks of a text, and maxWaiting the maximum number of chunks that wait for compression.
const (
	pieceSize  = 256 << 10
	maxWaiting = 3
)

func newPacker(w io.Writer) *packer {
	p := &packer{to: &counting{w: w}, free: make(chan []byte, maxWaiting)}
	// The fastest compression level leaves processor time for the scans that the server handles during an export.
	p.flate, _ = flate.NewWriter(p.to, flate.BestSpeed) // the compression level is valid, so there is no error
	for range maxWaiting {
		p.free <- make([]byte, 0, pieceSize)
	}
	return p
}

// pack compresses the text that the callback write produces.
func (p *packer) pack(write func(io.Writer) error) (packed, error) {
	p.flate.Reset(p.to)
	done := packed{from: p.to.n}
	t := &text{packer: p, chunk: <-p.free, full: make(chan []byte, maxWaiting)}
	ended := make(chan error, 1)
	sum := sha256.New()
	go func() { ended <- t.packPieces(&done, sum) }()
	err := write(t)
	if err == nil {
		t.full <- t.chunk
	} else {
		p.free <- t.chunk[:0]
	}
	close(t.full)
	if broken := <-ended; broken != nil && (err == nil || errors.Is(err, errBroken)) {
		err = broken
	}
	done.to, done.sum = p.to.n, sum.Sum(nil)
	return done, err
}

// text is a text that is being compressed.
type text struct {
	packer *packer
	chunk  []byte
	full   chan []byte
	broken atomic.Bool
}

// errBroken stops the producer of a text whose compression failed.
var errBroken = errors.New("an earlier write to the archive failed")

// Write implements io.Writer.
func (t *text) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if len(t.chunk) == pieceSize {
			if t.broken.Load() {
				return n, errBroken
			}
			t.full <- t.chunk
			t.chunk = <-t.packer.free
		}
		part := min(len(b), pieceSize-len(t.chunk))
		t.chunk = append(t.chunk, b[:part]...)
		b, n = b[part:], n+part
	}
	return n, nil
}

// packPieces compresses the chunks that t.full delivers until t.full is closed, and adds their length and checksums to dst and sum.
func (t *text) packPieces(dst *packed, sum hash.Hash) (err error) {
	for piece := range t.full {
		if err == nil {
			sum.Write(piece)
			dst.size += int64(len(piece))
			dst.crc = crc32.Update(dst.crc, crc32.IEEETable, piece)
			if _, err = t.packer.flate.Write(piece); err != nil {
				t.broken.Store(true)
			}
		}
		t.packer.free <- piece[:0]
	}
	if err == nil {
		err = t.packer.flate.Flush() // align the compressed text to a byte boundary
	}
	if err != nil {
		err = fmt.Errorf("compressing the archive: %w", err)
	}
	return err
}

// counting counts the bytes that are written.
type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// crcOfBoth returns the CRC-32 of two concatenated texts, from their CRC-32s and the length of the second text. Each byte of the
// second text multiplies the CRC of the first text, as a polynomial, by x^8.
func crcOfBoth(first, second uint32, length int64) uint32 {
	for power := uint32(1) << 23; length > 0; length >>= 1 { // the polynomial x^8; the lowest bit is the coefficient of the highest power
		if length&1 != 0 {
			first = crcTimes(first, power)
		}
		power = crcTimes(power, power)
	}
	return first ^ second
}

// crcTimes multiplies two polynomials modulo the polynomial of CRC-32.
func crcTimes(a, b uint32) (product uint32) {
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		odd := b & 1
		b >>= 1
		if odd != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}
