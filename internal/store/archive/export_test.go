package archive

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"io"
)

// PieceSize is the size of the pieces that are compressed separately.
const PieceSize = pieceSize

// PackInto compresses the output of write.
func PackInto(w io.Writer, write func(io.Writer) error) error {
	_, err := newPacker(w).pack(write)
	return err
}

// SwapKeys copies the sealed keys of an archive into another.
func SwapKeys(from, into *Archive) { into.keys = from.keys }

// WithFormat returns the archive that write returns with another format in its manifest.
func WithFormat(format byte, write func() []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(write()))
	if err != nil {
		panic(err)
	}
	unpacked, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	// The manifest is the first file. The checksums are not updated, because those of a newer format are unknown.
	changed := bytes.Replace(unpacked, []byte(`"format": 1,`), []byte(`"format": `+string('0'+rune(format))+`,`), 1)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(changed); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	sum := sha256.Sum256(packed.Bytes())
	return append(packed.Bytes(), trailer(sum[:])...)
}
