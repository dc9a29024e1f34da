// Package printpackage implements the file in which a printer receives codes: encrypted to the printer, signed by the server, and
// verifiable without a server.
//
// A package is a tar archive encrypted with age: manifest.json, its signature, and the parts that the manifest lists with their
// SHA-256. The manifest comes first, so that each part can be verified against the manifest while it is read.
package printpackage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"filippo.io/age"
)

// Format is the format name in the manifest of a package.
const Format = "qrjump-package/1"

// Names of the two files in a package that the manifest does not list.
const (
	ManifestName  = "manifest.json"
	SignatureName = ManifestName + ".sig"
)

// MaxManifest limits the size of the manifest and of the signature.
const MaxManifest = 1 << 20

// Manifest describes the content of a package.
type Manifest struct {
	Format              string    `json:"format"`
	Package             int64     `json:"package"`
	ApplicationID       int64     `json:"application_id"`
	Account             string    `json:"account"`
	From                int64     `json:"from"` // indexes, both inclusive
	To                  int64     `json:"to"`
	Codes               int64     `json:"codes"`
	Spare               int64     `json:"spare,omitempty"` // number of spare codes at the end of the range, to replace spoiled labels
	Proofs              int64     `json:"proofs,omitempty"`
	OverlappingPackages []int64   `json:"overlapping_packages,omitempty"` // ids of earlier packages that contain some of the same codes
	Prefix              string    `json:"prefix"`
	Printer             string    `json:"printer"`
	CreatedBy           string    `json:"created_by"`
	CreatedAt           time.Time `json:"created_at"`
	// Drawing describes the layout of the labels, for parts that contain labels.
	Drawing json.RawMessage `json:"drawing,omitempty"`
	Parts   []Part          `json:"parts"`
}

// Part is one file of a package.
type Part struct {
	Name   string `json:"name"`
	Holds  string `json:"holds"` // content of the part: codes, proofs or hashes
	Format string `json:"format"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// partName matches safe file names, so that a part cannot be written outside the target folder.
var partName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// check returns an error if the manifest is invalid.
func (m Manifest) check() error {
	if m.Format != Format {
		return fmt.Errorf("its format is %.40q, but this qrjump reads %s: try a newer qrjump", m.Format, Format)
	}
	seen := map[string]bool{ManifestName: true, SignatureName: true}
	for _, p := range m.Parts {
		if !partName.MatchString(p.Name) || seen[p.Name] || p.Bytes < 0 {
			return fmt.Errorf("its part %.70q is invalid or a duplicate", p.Name)
		}
		seen[p.Name] = true
	}
	if m.From < 0 || m.To < m.From || m.Codes != m.To-m.From+1 || m.Spare < 0 || m.Spare > m.Codes || m.Proofs < 0 {
		return errors.New("its numbers of codes are inconsistent")
	}
	return nil
}

// Content is a part of a package with a function that writes the part; the function must write the same bytes each time.
type Content struct {
	Part  // Bytes and SHA256 are computed by Pack
	Write func(ctx context.Context, w io.Writer) error
}

// Pack writes a package: encrypted, signed, and with a checksum for each part. Each content is written twice: once to compute its
// checksum, and once into the package. After an error, the output is not a valid package. All checksums are computed before w
// receives a byte, so an error during their computation leaves w empty.
func Pack(ctx context.Context, w io.Writer, m Manifest, contents []Content, signer *Signer, to []age.Recipient) error {
	m.Format, m.Parts = Format, nil
	for _, c := range contents {
		sum, n := sha256.New(), counter{}
		if err := c.Write(ctx, io.MultiWriter(sum, &n)); err != nil {
			return fmt.Errorf("creating %s: %w", c.Name, err)
		}
		c.Bytes, c.SHA256 = n.n, hex.EncodeToString(sum.Sum(nil))
		m.Parts = append(m.Parts, c.Part)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("printpackage: invalid manifest: %w", err)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	signature, err := signer.Sign(text)
	if err != nil {
		return err
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("printpackage: encrypting: %w", err)
	}
	t := tar.NewWriter(sealed)
	add := func(name string, size int64, write func(io.Writer) error) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: m.CreatedAt.Truncate(time.Second)}); err != nil {
			return err
		}
		return write(t)
	}
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	if err := add(ManifestName, int64(len(text)), bytesOf(text)); err != nil {
		return err
	}
	if err := add(SignatureName, int64(len(signature)), bytesOf(signature)); err != nil {
		return err
	}
	for i, c := range contents {
		err := add(c.Name, m.Parts[i].Bytes, func(w io.Writer) error { return c.Write(ctx, w) })
		if err != nil {
			return fmt.Errorf("writing %s: %w", c.Name, err)
		}
	}
	return errors.Join(t.Close(), sealed.Close())
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// Errors for a package that cannot be opened.
var (
	ErrWrongKey = errors.New("the package is encrypted for another key")
	ErrCut      = errors.New("the package is truncated or corrupted")
	ErrChanged  = errors.New("a part does not match the manifest")
)

// Open decrypts, verifies and reads a package. Open first verifies the manifest, then calls the function part for each file, in the order
// of the manifest. The error is ErrWrongKey, ErrCut, ErrSignature, ErrChanged, or an error of part. Data passed to part must not be trusted
// until Open returns nil.
func Open(r io.Reader, identities []age.Identity, signers Signers, part func(p Part, r io.Reader) error) (m Manifest, err error) {
	plain, err := age.Decrypt(r, identities...)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return m, ErrWrongKey
	}
	if err != nil {
		return m, fmt.Errorf("%w: not an age file: %w", ErrCut, err)
	}
	plain = damageReader{plain}
	t := tar.NewReader(plain)
	member := func(name string, limit int64) (io.Reader, int64, error) {
		h, err := t.Next()
		switch {
		case err != nil:
			return nil, 0, asDamage(err)
		case h.Name != name || h.Typeflag != tar.TypeReg:
			return nil, 0, fmt.Errorf("%w: got %.70q, want %s", ErrChanged, h.Name, name)
		case limit > 0 && h.Size > limit:
			return nil, 0, fmt.Errorf("%w: %s has %d bytes", ErrChanged, name, h.Size)
		}
		return t, h.Size, nil
	}
	var head [2][]byte
	names := [...]string{ManifestName, SignatureName}
	for i, name := range names {
		in, _, err := member(name, MaxManifest)
		if err != nil {
			return m, err
		}
		if head[i], err = io.ReadAll(in); err != nil {
			return m, err
		}
	}
	if m, err = Verify(head[0], head[1], signers); err != nil {
		return m, err
	}
	for i, name := range names {
		if err := part(Part{Name: name}, bytes.NewReader(head[i])); err != nil {
			return m, err
		}
	}
	for _, p := range m.Parts {
		in, size, err := member(p.Name, 0)
		if err != nil {
			return m, err
		}
		if size != p.Bytes {
			return m, fmt.Errorf("%w: %s has %d bytes, not %d", ErrChanged, p.Name, size, p.Bytes)
		}
		if err := p.Check(in, func(in io.Reader) error { return part(p, in) }); err != nil {
			return m, err
		}
	}
	if h, err := t.Next(); err == nil {
		return m, fmt.Errorf("%w: unexpected part %.70q", ErrChanged, h.Name)
	} else if err != io.EOF {
		return m, asDamage(err)
	}
	// The encrypted stream must end after the tar archive; age reports truncation only at the end of the stream.
	if n, err := io.Copy(io.Discard, plain); err != nil {
		return m, err
	} else if n > 0 {
		return m, fmt.Errorf("%w: %d unexpected bytes after the last part", ErrChanged, n)
	}
	return m, nil
}

// damageReader converts every read error to ErrCut: age returns only authenticated data, so a read error means a damaged file.
type damageReader struct{ io.Reader }

func (w damageReader) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = asDamage(err)
	}
	return n, err
}

func asDamage(err error) error {
	if errors.Is(err, ErrCut) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCut, err)
}

// Verify checks the signature of a manifest text and returns the manifest; the error is ErrSignature if no signer matches.
func Verify(text, signature []byte, signers Signers) (m Manifest, err error) {
	if err := signers.Verify(text, signature); err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("the manifest is signed, but cannot be read: %w", err)
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("the manifest is signed, but invalid: %w", err)
	}
	return m, nil
}

// Check calls the function use with the content of a part, and returns ErrChanged if the content differs from the manifest.
func (p Part) Check(in io.Reader, use func(io.Reader) error) error {
	sum, n := sha256.New(), counter{}
	src := io.TeeReader(in, io.MultiWriter(sum, &n))
	err := use(src)
	if err == nil {
		_, err = io.Copy(io.Discard, src) // the bytes that the function use did not read
	}
	switch {
	case err != nil:
		return err
	case n.n != p.Bytes:
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrChanged, p.Name, n.n, p.Bytes)
	case hex.EncodeToString(sum.Sum(nil)) != p.SHA256:
		return fmt.Errorf("%w: %s has a different SHA-256", ErrChanged, p.Name)
	}
	return nil
}
