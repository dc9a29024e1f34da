package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
)

// Archive is an archive file whose checksums are valid.
type Archive struct {
	Manifest Manifest

	file io.ReaderAt
	size int64 // bytes of the file before the trailer
	keys []byte
}

// maxHead is the maximum size of the manifest and of the sealed keys, in bytes: a hundred tables need 20 KiB. The size needs a
// maximum because one byte of an untrusted gzip file can expand to a thousand bytes.
const maxHead = 1 << 20

// Open opens an archive and checks the checksum of the whole file. Open does not compare the tables with the manifest; EachTable and Check
// do. ErrNewer, ErrDamaged.
func Open(file io.ReaderAt, size int64) (*Archive, error) {
	a := &Archive{file: file, size: size - trailerSize}
	if a.size <= 0 {
		return nil, damaged("not an archive of qrjump")
	}
	// The manifest is read before the checksum, because an archive in a newer format may end differently.
	if err := a.readHead(); errors.Is(err, ErrNewer) {
		return nil, err
	}
	all, end := newSummer(io.Discard), make([]byte, trailerSize)
	if _, err := io.Copy(all, io.NewSectionReader(file, 0, a.size)); err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	if n, err := file.ReadAt(end, a.size); n < len(end) {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	if !bytes.Equal(end, trailer(all.sum())) {
		return nil, damaged("checksum mismatch")
	}
	if err := a.readHead(); err != nil {
		return nil, err
	}
	return a, nil
}

// Check compares every member with the manifest. ErrDamaged.
func (a *Archive) Check() error { return a.EachTable(func(string, io.Reader) error { return nil }) }

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// unpack returns a reader of the tar file, and a function that reads the rest of the gzip stream and checks its checksum.
func (a *Archive) unpack() (*tar.Reader, func() error, error) {
	packed, err := gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(a.file, 0, a.size), 1<<16))
	if err != nil {
		return nil, nil, damaged("%v", err)
	}
	packed.Multistream(false)
	return tar.NewReader(packed), func() error {
		// gzip.Reader compares the checksum of a gzip stream when a caller has read the stream to its end.
		if _, err := io.Copy(io.Discard, packed); err != nil {
			return damaged("%v", err)
		}
		return nil
	}, nil
}

// readHead reads the first members of an archive: the manifest and the keys.
func (a *Archive) readHead() error {
	members, _, err := a.unpack()
	if err != nil {
		return err
	}
	if err := a.readManifest(members); err != nil {
		return err
	}
	if len(a.Manifest.Members) == 0 || a.Manifest.Members[0].Name != keysName {
		return damaged("%s is not directly after %s", keysName, manifestName)
	}
	want := a.Manifest.Members[0]
	if err := nextIs(members, want); err != nil {
		return err
	}
	a.keys, err = readKeys(members, want)
	return err
}

func (a *Archive) readManifest(members *tar.Reader) error {
	head, err := members.Next()
	if err != nil || head.Name != manifestName || head.Size > maxHead {
		return damaged("the first member is not %s", manifestName)
	}
	// The format version is parsed first, because a manifest in a newer format may lack every other field.
	text, err := io.ReadAll(members)
	var format struct{ Format int }
	if err != nil || json.Unmarshal(text, &format) != nil || format.Format < 1 {
		return damaged("%s cannot be read", manifestName)
	}
	if format.Format > Format {
		return fmt.Errorf("%w: it has format %d, and this qrjump supports up to %d", ErrNewer, format.Format, Format)
	}
	if err := json.Unmarshal(text, &a.Manifest); err != nil {
		return damaged("%s: %v", manifestName, err)
	}
	return nil
}

// nextIs advances to the next member of the tar file, and returns ErrDamaged unless this member has the name and the size of want.
func nextIs(members *tar.Reader, want Member) error {
	if head, err := members.Next(); err != nil || head.Name != want.Name || head.Size != want.Size {
		return damaged("%s is missing or not in the order of the manifest", want.Name)
	}
	return nil
}

func readKeys(r io.Reader, want Member) ([]byte, error) {
	if want.Size > maxHead {
		return nil, damaged("%s is too long", keysName)
	}
	keys, err := io.ReadAll(r)
	if err != nil {
		return nil, damaged("%s: %v", keysName, err)
	}
	sum := newSummer(io.Discard)
	sum.Write(keys)
	if sum.member(want.Name, 0) != want {
		return nil, damaged("%s has a different checksum than in the manifest", want.Name)
	}
	return keys, nil
}

// EachTable calls f with the rows of every table, and checks the checksum of each table after f. A caller must discard the rows if
// EachTable returns an error: the file may have changed since it was opened.
func (a *Archive) EachTable(f func(table string, rows io.Reader) error) error {
	members, end, err := a.unpack()
	if err != nil {
		return err
	}
	if _, err := members.Next(); err != nil { // the manifest
		return damaged("%v", err)
	}
	space := make([]byte, aheadSize)
	for _, want := range a.Manifest.Members {
		if err := nextIs(members, want); err != nil {
			return err
		}
		if want.Name == keysName {
			if _, err := readKeys(members, want); err != nil {
				return err
			}
			continue
		}
		table, ok := tableOf(want.Name)
		if !ok {
			return damaged("%q is not a valid member of an archive", want.Name)
		}
		lines := &lineCounter{}
		sum := newSummer(lines)
		err := readAhead(io.TeeReader(members, sum), space, func(rows io.Reader) error {
			if err := f(table, rows); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, rows); err != nil {
				return damaged("%s: %v", want.Name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if sum.member(want.Name, lines.n) != want {
			return damaged("%s has a different checksum or number of rows than in the manifest", want.Name)
		}
	}
	if _, err := members.Next(); !errors.Is(err, io.EOF) {
		return damaged("it has members that are not in the manifest")
	}
	return end()
}

type lineCounter struct{ n int64 }

func (c *lineCounter) Write(b []byte) (int, error) {
	c.n += int64(bytes.Count(b, []byte{'\n'}))
	return len(b), nil
}

// Keys decrypts the keys, and compares the accounts and the checksums of the tables with those that were encrypted with the keys.
// ErrPassphrase, ErrDamaged.
func (a *Archive) Keys(passphrase string) (map[string][]byte, error) {
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, ErrPassphrase // the passphrase is empty
	}
	// The work factor is limited to that of our archives: a crafted file could require more memory than the machine has.
	identity.SetMaxWorkFactor(defaultWork)
	opened, err := age.Decrypt(bytes.NewReader(a.keys), identity)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, damaged("%s: %v", keysName, err)
	}
	// The decrypted text is read to its end, because only the end proves that the text is not truncated.
	text, err := io.ReadAll(opened)
	if err != nil {
		return nil, damaged("%s: %v", keysName, err)
	}
	var s secrets
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, damaged("%s cannot be read", keysName)
	}
	m := a.Manifest
	if s.Schema != m.Schema || !slices.Equal(s.Accounts, m.Accounts) || !slices.Equal(s.Tables, m.Tables()) {
		return nil, damaged("its accounts or tables do not match those that were encrypted with the keys")
	}
	return s.Keys, nil
}

// aheadSize is the number of bytes that are read ahead.
const aheadSize = 64 << 10

// readAhead copies r in the background while f processes the data that was already copied. space is the buffer of the copy. When readAhead
// returns, the reading of r has ended.
func readAhead(r io.Reader, space []byte, f func(io.Reader) error) error {
	rows, copied := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := io.CopyBuffer(copied, r, space)
		copied.CloseWithError(err)
	}()
	err := f(rows)
	rows.Close()
	<-done
	return err
}
