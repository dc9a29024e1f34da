package archive

import (
	"bufio"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
)

// packer compresses texts one after the other; while a goroutine compresses a chunk of a text, the producer of the text writes the
// next chunk. Each compressed text can be placed anywhere in a gzip stream.
type packer struct {
	to     *counting
	flate  *flate.Writer
	chunk  *bufio.Writer // chunk that the producer fills
	buffer []byte        // chunk that is compressed
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

// pieceSize is the size in bytes of the chunks of a text.
const pieceSize = 256 << 10

func newPacker(w io.Writer) *packer {
	p := &packer{to: &counting{w: w}, chunk: bufio.NewWriterSize(nil, pieceSize), buffer: make([]byte, pieceSize)}
	// The fastest compression level leaves processor time for the scans that the server handles during an export.
	p.flate, _ = flate.NewWriter(p.to, flate.BestSpeed) // the compression level is valid, so there is no error
	return p
}

// pack compresses the text that the callback write produces. A failed compression stops write with the same error.
func (p *packer) pack(write func(io.Writer) error) (packed, error) {
	done := packed{from: p.to.n}
	chunks, producer := io.Pipe()
	p.flate.Reset(p.to)
	p.chunk.Reset(producer)
	ended := make(chan error, 1)
	go func() {
		var err error
		done.plain, err = p.compress(chunks)
		chunks.CloseWithError(err)
		ended <- err
	}()
	err := write(p.chunk)
	if err == nil {
		err = p.chunk.Flush()
	}
	producer.CloseWithError(err)
	err = cmp.Or(err, <-ended)
	done.to = p.to.n
	return done, err
}

// compress compresses a text up to its end.
func (p *packer) compress(text io.Reader) (plain, error) {
	sum, crc := sha256.New(), crc32.NewIEEE()
	size, err := io.CopyBuffer(io.MultiWriter(sum, crc, p.flate), text, p.buffer)
	if err == nil {
		err = p.flate.Flush() // align the compressed text to a byte boundary
	}
	if err != nil {
		err = fmt.Errorf("compressing the archive: %w", err)
	}
	return plain{size, crc.Sum32(), sum.Sum(nil)}, err
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
