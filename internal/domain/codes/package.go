package codes

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

const (
	// pieceSize is the number of bytes of rows that are created, encrypted and written at a time: a multiple of the AES block size
	// and of the Base64 group size, so that each encoded piece has 32 KiB.
	pieceSize = 24 << 10
	// rowSize is the length of a row in bytes without its prefix and its index.
	rowSize = fieldLength + 1 + CodeLength + 1 + 1 + TailLength + 1
	// longestRow is an upper bound of the row length for any prefix and any index.
	longestRow = rowSize + MaxPrefix + 20
)

// PackageRange is a range of codes of a batch, with the keys and templates needed to write the codes.
type PackageRange struct {
	// Start is the counter of the batch's index 0.
	Start uint64
	// From and To are the first and the last index, both inclusive.
	From, To uint64
	Code     *CodeKey
	Text     *TextKey // the text key that Printed.Version identifies
	Printed  Printed
	// Template is the template of the texts; "" = the texts have the format in Printed.
	Template string
	// PIN returns the digits under the scratch layer of a code; nil = the codes have none.
	PIN func(index uint64) string
}

// check returns an error if the range cannot be written.
func (p PackageRange) check() error {
	switch {
	case p.Code == nil || p.Text == nil:
		return fmt.Errorf("codes: a package needs both keys")
	case p.From > p.To:
		return fmt.Errorf("codes: invalid package range %d to %d", p.From, p.To)
	case p.Start >= Space || p.To >= Space-p.Start:
		return errCounter
	}
	if p.Template != "" {
		if _, err := ParseTemplate(p.Template); err != nil {
			return err
		}
	}
	return p.Printed.Check()
}

// rowsSize returns the exact length in bytes of the output of WriteRows for a valid range.
func rowsSize(p PackageRange) int64 {
	count := int64(p.To - p.From + 1)
	text := len(p.Printed.Prefix) + TailLength
	if t, err := ParseTemplate(p.Template); err == nil {
		text = t.size + strings.Count(t.text, "\n") + strings.Count(t.text, " ") // rowEscaper adds a byte to each
	}
	size := count * int64(rowSize-TailLength+text+1)
	// From each power of ten on, the indexes have one more digit.
	for power := uint64(10); power <= p.To && power < Space; power *= 10 {
		size += int64(p.To - max(p.From, power) + 1)
	}
	return size
}

// PackageSize returns the exact length in bytes of the output of WritePackage, for a Content-Length header.
func PackageSize(p PackageRange) int64 {
	encrypted := (rowsSize(p)/aes.BlockSize + 1) * aes.BlockSize
	return (encrypted + 2) / 3 * 4
}

// WriteRows writes the rows of a range in index order: dot matrix, original code, index, code text, separated by single spaces,
// with LF after each row. WriteRows writes pieces of at most 24 KiB and keeps little more than one piece in memory. WriteRows
// returns the error of the writer or of ctx, or an error for an invalid range. Contract: marketcode §4.2.
func WriteRows(ctx context.Context, w io.Writer, p PackageRange) error {
	chunk := make([]byte, 0, pieceSize+longestRow+2*MaxText)
	var field [fieldLength]byte
	blank(&field)
	err := p.EachCode(ctx, func(index uint64, code, text []byte) error {
		draw(&field, (*[CodeLength]byte)(code))
		if p.Template != "" {
			text = []byte(rowEscaper.Replace(string(text)))
		}
		// Assumed(codes.separator): columns are separated by one space, and the last line also ends with a line feed.
		chunk = append(append(chunk, field[:]...), ' ')
		chunk = append(append(chunk, code...), ' ')
		chunk = append(strconv.AppendUint(chunk, index, 10), ' ')
		chunk = append(append(chunk, text...), '\n')
		if len(chunk) < pieceSize {
			return nil
		}
		_, err := w.Write(chunk[:pieceSize])
		chunk = chunk[:copy(chunk, chunk[pieceSize:])]
		return err
	})
	if err = cmp.Or(err, ctx.Err()); err == nil && len(chunk) > 0 {
		_, err = w.Write(chunk)
	}
	return err
}

// WritePackage writes the rows of a range as a package in the wire format: PKCS#7 padding, AES-128 in CBC mode, Base64. The account's key
// is both the AES key and the initialisation vector. PackageSize returns the exact length of the output. WritePackage writes pieces of at
// most 32 KiB; it writes the first piece as soon as 24 KiB of rows exist. WritePackage needs less than 192 KiB of memory and creates rows
// concurrently with the encryption. WritePackage returns the errors of WriteRows; after an error the output is not a valid package.
// Contract: marketcode §3.3, §4.1.
func WritePackage(ctx context.Context, w io.Writer, p PackageRange, key [aes.BlockSize]byte) error {
	if err := p.check(); err != nil {
		return err
	}
	rows := newRelay()
	var maker sync.WaitGroup
	maker.Go(func() { rows.finish(WriteRows(ctx, rows, p)) })
	defer maker.Wait()
	defer close(rows.stopped) // further writes fail
	return seal(ctx, w, rows, key)
}

// relay passes pieces from the goroutine that creates them to the goroutine that encrypts them. Unlike io.Pipe, relay buffers
// several pieces, so that the goroutines need not wait for each other at every piece.
type relay struct {
	free, full chan []byte
	stopped    chan struct{} // closed when the reader has stopped
	err        error         // error of the goroutine that writes, set before the channel "full" is closed
	chunk      []byte        // being read
	unread     []byte        // the unread rest of the current piece
}

// relayDepth is the maximum number of pieces that wait to be encrypted. Measurements with three pieces showed that the two
// goroutines waited for each other.
const relayDepth = 4

var errAbandoned = errors.New("codes: the reader of the rows has stopped")

func newRelay() *relay {
	r := &relay{free: make(chan []byte, relayDepth), full: make(chan []byte, relayDepth), stopped: make(chan struct{})}
	for range relayDepth {
		r.free <- make([]byte, pieceSize)
	}
	return r
}

// Write accepts one piece of at most pieceSize bytes.
func (r *relay) Write(b []byte) (int, error) {
	select {
	case <-r.stopped:
		return 0, errAbandoned
	case piece := <-r.free:
		n := copy(piece[:pieceSize], b)
		r.full <- piece[:n] // never blocks: the channel has room for all pieces
		return n, nil
	}
}

// finish makes the reader return err, or io.EOF if err is nil.
func (r *relay) finish(err error) {
	r.err = err
	close(r.full)
}

func (r *relay) Read(b []byte) (int, error) {
	if len(r.unread) == 0 {
		piece, ok := <-r.full
		switch {
		case !ok && r.err != nil:
			return 0, r.err
		case !ok:
			return 0, io.EOF
		}
		r.chunk, r.unread = piece, piece
	}
	n := copy(b, r.unread)
	if r.unread = r.unread[n:]; len(r.unread) == 0 {
		r.free <- r.chunk
	}
	return n, nil
}

// seal encrypts everything that it reads from r. seal writes the final padding only after r returned io.EOF, so that output
// truncated by an error is recognisably incomplete.
func seal(ctx context.Context, w io.Writer, r io.Reader, key [aes.BlockSize]byte) error {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return err
	}
	var (
		cbc   = cipher.NewCBCEncrypter(block, key[:])
		plain = make([]byte, pieceSize)
		text  = make([]byte, base64.StdEncoding.EncodedLen(pieceSize))
	)
	for {
		n, err := io.ReadFull(r, plain)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return err
		}
		if last {
			// n is less than pieceSize, and pieceSize is a multiple of the block size, so the padding fits.
			padding := aes.BlockSize - n%aes.BlockSize
			for range padding {
				plain[n], n = byte(padding), n+1
			}
		}
		cbc.CryptBlocks(plain[:n], plain[:n])
		encode(text, plain[:n])
		if err := ctx.Err(); err != nil {
			return err // checked for each piece, because the relay may still have pieces buffered after ctx is done
		}
		if _, err := w.Write(text[:base64.StdEncoding.EncodedLen(n)]); err != nil {
			return err
		}
		if last {
			return nil
		}
	}
}

// pairs maps twelve bits to two Base64 characters.
var pairs = func() (t [1 << 12]uint16) {
	var text [4]byte
	for v := range t {
		base64.StdEncoding.Encode(text[:], []byte{byte(v >> 4), byte(v << 4), 0})
		t[v] = binary.LittleEndian.Uint16(text[:])
	}
	return t
}()

// encode is base64.StdEncoding.Encode, but processes six bytes at a time, which halves the cost. dst must have the encoded length.
func encode(dst, src []byte) {
	for len(src) >= 8 && len(dst) >= 8 {
		v := binary.BigEndian.Uint64(src) // the last two of the eight bytes are read again in the next iteration
		binary.LittleEndian.PutUint64(dst, uint64(pairs[v>>52])|uint64(pairs[v>>40&0xfff])<<16|
			uint64(pairs[v>>28&0xfff])<<32|uint64(pairs[v>>16&0xfff])<<48)
		src, dst = src[6:], dst[8:]
	}
	base64.StdEncoding.Encode(dst, src)
}
