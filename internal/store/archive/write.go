package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime/debug"
	"time"

	"filippo.io/age"
)

// Source is a state of the data that does not change while it is read.
type Source interface {
	// Tables lists the valid table names for WriteRows.
	Tables() []string
	// WriteRows writes the rows of a table.
	WriteRows(ctx context.Context, table string, w io.Writer) (rows int64, err error)
}

// Contents holds the parts of an archive.
type Contents struct {
	Tables     Source
	Keys       map[string][]byte
	Schema     int64
	Engine     string
	Program    string
	CreatedAt  time.Time
	Accounts   []string
	Passphrase string
	// Work is the base-2 logarithm of the cost of one guess at the passphrase; 0 = 18, about one second and 256 MiB.
	Work int
}

const defaultWork = 18

// Packed is an archive whose rows are compressed and whose keys are sealed; WriteTo writes it.
type Packed struct {
	Manifest Manifest

	keys   []byte
	tables []packed // byte ranges of the compressed tables in rows
	rows   *os.File
	named  bool // true if the temporary file of rows still has a name; Close removes the file
}

// Pack reads each table of the source c.Tables once. Pack stores the compressed rows in an unnamed file in dir, because they follow the
// manifest in the archive, and the manifest contains the checksums of all rows. Memory use is independent of the number of rows.
func Pack(ctx context.Context, dir string, c Contents) (*Packed, error) {
	if err := CheckPassphrase(c.Passphrase); err != nil {
		return nil, err
	}
	keys := beginSealing(c) // the key derivation starts first, because it takes a second
	p, err := packRows(ctx, dir, c)
	if err != nil {
		keys.end(nil) // ends the derivation of the key, so that no background work continues after Pack returns
		return nil, err
	}
	if err := p.describe(c, keys); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func packRows(ctx context.Context, dir string, c Contents) (p *Packed, err error) {
	f, err := os.CreateTemp(dir, ".export-*") // with file mode 0600
	if err != nil {
		return nil, fmt.Errorf("creating a temporary file for rows: %w", err)
	}
	// An unnamed file does not outlive the process; some operating systems cannot remove the name of an open file.
	p = &Packed{rows: f, named: os.Remove(f.Name()) != nil}
	p.Manifest = Manifest{Format: Format, Program: c.Program, Schema: c.Schema, Engine: c.Engine, CreatedAt: c.CreatedAt.UTC(),
		Accounts: c.Accounts, Members: []Member{{Name: keysName}}}
	packer := newPacker(f)
	for _, table := range c.Tables.Tables() {
		var rows int64
		file, err := packer.pack(func(w io.Writer) (err error) {
			rows, err = c.Tables.WriteRows(ctx, table, w)
			return err
		})
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.tables = append(p.tables, file)
		p.Manifest.Members = append(p.Manifest.Members, file.member(memberOf(table), rows))
	}
	return p, nil
}

// describe completes the manifest of p and seals the keys in one encrypted text with the checksums of the tables.
func (p *Packed) describe(c Contents, keys *sealing) error {
	text, err := json.Marshal(secrets{Keys: c.Keys, Schema: c.Schema, Accounts: c.Accounts, Tables: p.Manifest.Members[1:]})
	if err != nil {
		return errors.Join(err, keys.end(nil))
	}
	if err := keys.end(text); err != nil {
		return fmt.Errorf("encrypting the keys: %w", err)
	}
	p.keys = keys.sealed.Bytes()
	sum := newSummer(io.Discard)
	sum.Write(p.keys)
	p.Manifest.Members[0] = sum.member(keysName, 0)
	return nil
}

// Close deletes the temporary file of rows.
func (p *Packed) Close() error {
	err := p.rows.Close()
	if p.named {
		err = errors.Join(err, os.Remove(p.rows.Name()))
	}
	return err
}

// WriteTo writes the archive.
func (p *Packed) WriteTo(w io.Writer) (int64, error) {
	fullSummer := newSummer(w)
	g := &packedGzip{total: fullSummer, packer: newPacker(fullSummer)}
	err := g.write(p)
	if err == nil {
		_, err = w.Write(trailer(fullSummer.sum()))
	}
	return fullSummer.size + trailerSize, err
}

// packedGzip is a gzip stream in which some of the texts are already compressed.
type packedGzip struct {
	total  *summer
	packer *packer
	all    plain
	waits  bytes.Buffer // texts that are not compressed yet
}

func (g *packedGzip) write(p *Packed) error {
	const fastest, unknownSystem = 4, 0xff
	if _, err := g.total.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, fastest, unknownSystem}); err != nil {
		return err
	}
	manifest, err := json.MarshalIndent(p.Manifest, "", "  ")
	if err != nil {
		return err
	}
	manifest = append(manifest, '\n')
	if err := g.text(Member{Name: manifestName, Size: int64(len(manifest))}, manifest); err != nil {
		return err
	}
	if err := g.text(p.Manifest.Members[0], p.keys); err != nil {
		return err
	}
	for i, table := range p.tables {
		if err := g.table(p.Manifest.Members[1+i], table, p.rows); err != nil {
			return err
		}
	}
	g.waits.Write(make([]byte, 2*tarBlock)) // two empty blocks mark the end of the tar file
	if err := g.flush(); err != nil {
		return err
	}
	tail := binary.LittleEndian.AppendUint32([]byte{3, 0}, g.all.crc) // an empty final DEFLATE block, then the CRC-32 of the data
	_, err = g.total.Write(binary.LittleEndian.AppendUint32(tail, uint32(g.all.size)))
	return err
}

// tarBlock is the block size of a tar file.
const tarBlock = 512

func (g *packedGzip) pad(size int64) { g.waits.Write(make([]byte, -size&(tarBlock-1))) }

func (g *packedGzip) head(m Member) error {
	return tar.NewWriter(&g.waits).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: m.Name, Size: m.Size, Mode: 0o600,
		ModTime: time.Unix(0, 0)})
}

// text adds a member that is not compressed yet to the buffer g.waits.
func (g *packedGzip) text(m Member, content []byte) error {
	if err := g.head(m); err != nil {
		return fmt.Errorf("writing %s: %w", m.Name, err)
	}
	g.waits.Write(content)
	g.pad(m.Size)
	return nil
}

// table adds a member whose content a packer has already compressed into rows.
func (g *packedGzip) table(m Member, table packed, rows io.ReaderAt) error {
	err := g.head(m)
	if err == nil {
		err = g.flush()
	}
	if err == nil {
		_, err = io.Copy(g.total, io.NewSectionReader(rows, table.from, table.to-table.from))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", m.Name, err)
	}
	g.all = g.all.append(table.plain)
	g.pad(m.Size)
	return nil
}

// flush compresses the texts in the buffer g.waits and writes them to the archive.
func (g *packedGzip) flush() error {
	file, err := g.packer.pack(func(w io.Writer) error {
		_, err := g.waits.WriteTo(w)
		return err
	})
	g.all = g.all.append(file.plain)
	return err
}

// sealing makes keys.age.
type sealing struct {
	sealed bytes.Buffer
	w      io.WriteCloser
	err    error
	ready  chan struct{}
}

// beginSealing starts to derive a key from the passphrase. The derivation runs in the background, because it takes a second and does not
// depend on the text that is to be encrypted.
func beginSealing(c Contents) *sealing {
	s := &sealing{ready: make(chan struct{})}
	go func() {
		defer close(s.ready)
		var recipient *age.ScryptRecipient
		if recipient, s.err = age.NewScryptRecipient(c.Passphrase); s.err != nil {
			return
		}
		work := cmp.Or(c.Work, defaultWork)
		recipient.SetWorkFactor(work)
		s.w, s.err = age.Encrypt(&s.sealed, recipient)
		if work >= defaultWork {
			// The memory of the key derivation is released now: otherwise the next export needs another 256 MiB.
			debug.FreeOSMemory()
		}
	}()
	return s
}

// end waits for the derived key and encrypts text with it.
func (s *sealing) end(text []byte) error {
	<-s.ready
	if s.err != nil {
		return s.err
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.w.Close()
}

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
