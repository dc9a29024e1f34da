package archive

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"io"
)

// PieceSize is the size of the pieces that are packed at once.
const PieceSize = pieceSize

// PackInto packs one text.
func PackInto(w io.Writer, write func(io.Writer) error) error {
	_, err := newPacker(w).pack(write)
	return err
}

// SwapKeys puts the sealed keys of one archive into another.
func SwapKeys(from, into *Archive) { into.keys = from.keys }

// WithFormat makes an archive say that it has another format.
func WithFormat(format byte, write func() []byte) []byte {
	b := write()
	// The manifest stands at the beginning of what is packed; packed again without its sums, because those of a later format are unknown.
	return repack(b, func(unpacked []byte) []byte {
		return bytes.Replace(unpacked, []byte(`"format": 1,`), []byte(`"format": `+string('0'+rune(format))+`,`), 1)
	})
}

func repack(b []byte, change func([]byte) []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	unpacked, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(change(unpacked)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	sum := sha256.Sum256(packed.Bytes())
	return append(packed.Bytes(), trailer(sum[:])...)
}
