package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// summer forwards the written bytes and computes their SHA-256.
type summer struct {
	to   io.Writer
	hash hash.Hash
	size int64
}

func newSummer(to io.Writer) *summer { return &summer{to: to, hash: sha256.New()} }

func (s *summer) Write(b []byte) (int, error) {
	n, err := s.to.Write(b)
	s.hash.Write(b[:n])
	s.size += int64(n)
	return n, err
}

func (s *summer) sum() []byte { return s.hash.Sum(nil) }

func (s *summer) member(name string, rows int64) Member {
	return Member{Name: name, Rows: rows, Size: s.size, SHA256: hex.EncodeToString(s.sum())}
}
