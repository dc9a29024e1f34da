package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"filippo.io/age"
)

// Source is a state that does not change while it is written.
type Source interface {
	// Tables lists what WriteRows knows.
	Tables() []string
	// WriteRows writes the rows of a table, each time the same bytes.
	WriteRows(ctx context.Context, table string, w io.Writer) (rows int64, err error)
}

// Contents is what goes into an archive.
type Contents struct {
	Tables     Source
	Keys       map[string][]byte
	Schema     int64
	Engine     string
	Program    string
	CreatedAt  time.Time
	Passphrase string
	// Work is the logarithm of what one guess at the passphrase costs; 0 = 18,
	// which is about a second and 256 MiB.
	Work int
}

const defaultWork = 18

// Write writes an archive. Nothing is written before all of the source was read
// once, so an error of it leaves w untouched; and memory does not grow with the
// source, because it is read a second time for the writing.
func Write(ctx context.Context, w io.Writer, c Contents) (Manifest, error) {
	if err := CheckPassphrase(c.Passphrase); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Format: Format, Program: c.Program, Schema: c.Schema, Engine: c.Engine, CreatedAt: c.CreatedAt.UTC()}
	var tables []Member
	for _, table := range c.Tables.Tables() {
		sum := newSummer(io.Discard)
		rows, err := c.Tables.WriteRows(ctx, table, sum)
		if err != nil {
			return m, err
		}
		tables = append(tables, sum.member(memberOf(table), rows))
	}
	keys, err := sealKeys(c, tables)
	if err != nil {
		return m, err
	}
	sum := newSummer(io.Discard)
	sum.Write(keys)
	m.Members = append([]Member{sum.member(keysName, 0)}, tables...)
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}

	whole := newSummer(w)
	// A server that answers scans meanwhile has better things to do than to
	// look for the shortest form.
	packed, err := gzip.NewWriterLevel(whole, gzip.BestSpeed)
	if err != nil {
		return m, err
	}
	out := tar.NewWriter(packed)
	put := func(member Member, content func(io.Writer) error) error {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: member.Name, Size: member.Size, Mode: 0o600,
			ModTime: time.Unix(0, 0)}); err != nil {
			return fmt.Errorf("writing %s: %w", member.Name, err)
		}
		if err := content(out); err != nil {
			return fmt.Errorf("writing %s: %w", member.Name, err)
		}
		return nil
	}
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	if err := put(Member{Name: manifestName, Size: int64(len(manifest) + 1)}, bytesOf(append(manifest, '\n'))); err != nil {
		return m, err
	}
	if err := put(m.Members[0], bytesOf(keys)); err != nil {
		return m, err
	}
	for i, table := range c.Tables.Tables() {
		err := put(tables[i], func(w io.Writer) error {
			again := newSummer(w)
			rows, err := c.Tables.WriteRows(ctx, table, again)
			if err == nil && again.member(tables[i].Name, rows) != tables[i] {
				err = fmt.Errorf("the state changed while it was read")
			}
			return err
		})
		if err != nil {
			return m, err
		}
	}
	if err := out.Close(); err != nil {
		return m, err
	}
	if err := packed.Close(); err != nil {
		return m, err
	}
	_, err = w.Write(trailer(whole.sum()))
	return m, err
}

// sealKeys is keys.age.
func sealKeys(c Contents, tables []Member) ([]byte, error) {
	text, err := json.Marshal(secrets{Keys: c.Keys, Schema: c.Schema, Tables: tables})
	if err != nil {
		return nil, err
	}
	recipient, err := age.NewScryptRecipient(c.Passphrase)
	if err != nil {
		return nil, err
	}
	work := cmp.Or(c.Work, defaultWork)
	recipient.SetWorkFactor(work)
	if work >= defaultWork {
		// Otherwise the next export adds its 256 MiB to those of this one.
		defer debug.FreeOSMemory()
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		return nil, fmt.Errorf("sealing the keys: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("sealing the keys: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing the keys: %w", err)
	}
	return sealed.Bytes(), nil
}
