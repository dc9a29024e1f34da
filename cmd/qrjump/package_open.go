package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/qrjump/qrjump/internal/print/printpackage"
)

// With the commands in this file, a printing company opens and verifies packages; no server is needed.

// packageReader holds the flags for the decryption and verification of a package.
type packageReader struct {
	passphraseFlags
	Identity string `short:"i" placeholder:"FILE" file:"in"`
	Signer   string `required:"" placeholder:"FILE" file:"in"`
}

// signers reads --signer.
func (c packageReader) signers() (printpackage.Signers, error) {
	text, err := readSmall(c.Signer)
	if err != nil {
		return nil, misused("package_open.signer", err)
	}
	all, err := printpackage.ParseSigners(text)
	if err != nil {
		return nil, misused("package_open.signer_want_the_line_that", plain(c.Signer), err)
	}
	return all, nil
}

func (c packageReader) identities(s *session) ([]age.Identity, error) {
	if c.Identity == "" {
		word, err := c.passphrase(s, false)
		if err != nil {
			return nil, hintError{error: err, next: tr("package_open.a_package_for_a_key")}
		}
		return printpackage.ByPassphrase(word)
	}
	text, err := readSmall(c.Identity)
	if err != nil {
		return nil, misused("package_open.identity", err)
	}
	all, err := printpackage.Identities(text)
	if err != nil {
		return nil, misused("package_open.identity_2", plain(c.Identity), err)
	}
	return all, nil
}

// read opens a package and calls part for each file in the package.
func (c packageReader) read(s *session, file string, part func(p printpackage.Part, r io.Reader) error) (printpackage.Manifest, error) {
	signers, err := c.signers()
	if err != nil {
		return printpackage.Manifest{}, err
	}
	f, err := os.Open(file)
	if err != nil {
		return printpackage.Manifest{}, absent(err)
	}
	defer f.Close()
	identities, err := c.identities(s)
	if err != nil {
		return printpackage.Manifest{}, err
	}
	m, err := printpackage.Open(interruptibleReader{s.ctx, f}, identities, signers, part)
	if s.ctx.Err() != nil {
		return m, fault("package_open.stopped", context.Cause(s.ctx))
	}
	return m, aboutFile(err)
}

// interruptibleReader returns a read error once the program is interrupted; the command then removes its partial output.
type interruptibleReader struct {
	ctx context.Context
	io.Reader
}

func (u interruptibleReader) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(b)
}

// aboutFile adds to an error about a package the next step for the printing company.
func aboutFile(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, printpackage.ErrWrongKey):
		return hintError{error: err, next: tr("package_open.ask_for_one_that_is")}
	case errors.Is(err, printpackage.ErrCut):
		return hintError{error: err, next: tr("package_open.ask_for_the_same_package")}
	case errors.Is(err, printpackage.ErrSignature), errors.Is(err, printpackage.ErrChanged):
		return hintError{error: err, next: tr("package_open.print_nothing_of_it_and")}
	}
	return err
}

type packageOpen struct {
	outputFlags
	packageReader
	File string `arg:"" file:"in"`
	Out  string `required:"" placeholder:"DIR" file:"new"`
}

// Run writes to a temporary folder and renames the folder after all files are verified.
func (c *packageOpen) Run(s *session) error {
	if _, err := os.Lstat(c.Out); err == nil {
		return misused("package_open.out_is_there_already_name", plain(c.Out))
	}
	dir, err := os.MkdirTemp(filepath.Dir(filepath.Clean(c.Out)), "."+filepath.Base(c.Out)+".*") // 0700
	if err != nil {
		return misused("batch_download.out", err)
	}
	defer os.RemoveAll(dir) // Has no effect after the rename, because dir no longer exists.
	m, err := c.read(s, c.File, func(p printpackage.Part, r io.Reader) error {
		f, err := os.OpenFile(filepath.Join(dir, p.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Sync(), f.Close())
	})
	if err == nil {
		err = os.Rename(dir, c.Out)
	}
	return c.print(s, m, wrapped("package_open.open", plain(c.File), err), func(w io.Writer) {
		printMsg(w, "package_open.opened_package_in_the_signature", m.Package, plain(c.Out))
		printManifest(w, m)
	})
}

func printManifest(w io.Writer, m printpackage.Manifest) {
	printFields(w, [2]string{"package", fmt.Sprint(m.Package)},
		[2]string{"codes", tr("package_open.to_of", m.From, m.To, m.ApplicationID)},
		[2]string{"printer", m.Printer}, [2]string{"made", tr("package_open.made_by", formatTime(m.CreatedAt), m.CreatedBy)})
	fmt.Fprintln(w)
	printRows(w, []string{"PART", "ROWS", "BYTES", "SHA256"}, m.Parts, func(p printpackage.Part) []string {
		return []string{p.Name, fmt.Sprint(p.Rows), fmt.Sprint(p.Bytes), p.SHA256}
	})
}

type packageVerify struct {
	outputFlags
	packageReader
	File string `arg:"" file:"in"`
}

// Run verifies a package file or the folder of an opened package.
func (c *packageVerify) Run(s *session) error {
	var m printpackage.Manifest
	info, err := os.Stat(c.File)
	switch {
	case err != nil:
		return absent(err)
	case info.IsDir():
		signers, signersErr := c.signers()
		if signersErr != nil {
			return signersErr
		}
		if m, err = verifyFolder(c.File, signers); err != nil {
			err = aboutFile(err)
		}
	default:
		m, err = c.read(s, c.File, func(printpackage.Part, io.Reader) error { return nil })
	}
	return c.print(s, m, wrapped("package_open.verify", plain(c.File), err), func(w io.Writer) {
		printMsg(w, "package_open.package_is_whole_the_signature", m.Package)
		printManifest(w, m)
	})
}

// verifyFolder verifies the folder of an opened package. An extra file is an error too, because a printing company might print its
// contents.
func verifyFolder(dir string, signers printpackage.Signers) (m printpackage.Manifest, err error) {
	var head [2][]byte
	for i, name := range []string{printpackage.ManifestName, printpackage.SignatureName} {
		if head[i], err = readUpTo(filepath.Join(dir, name), printpackage.MaxManifest); err != nil {
			return m, absent(err)
		}
	}
	if m, err = printpackage.Verify(head[0], head[1], signers); err != nil {
		return m, err
	}
	named := map[string]bool{printpackage.ManifestName: true, printpackage.SignatureName: true}
	for _, p := range m.Parts {
		named[p.Name] = true
		if err := checkPart(dir, p); err != nil {
			return m, err
		}
	}
	storedEntries, err := os.ReadDir(dir)
	if err != nil {
		return m, err
	}
	for _, f := range storedEntries {
		if !named[f.Name()] || !f.Type().IsRegular() {
			return m, fault("package_open.is_no_file_of_it", printpackage.ErrChanged, f.Name())
		}
	}
	return m, nil
}

func checkPart(dir string, p printpackage.Part) error {
	f, err := os.Open(filepath.Join(dir, p.Name))
	if err != nil {
		return fault("package_open.of", printpackage.ErrChanged, err)
	}
	defer f.Close()
	return p.Check(f, func(io.Reader) error { return nil })
}
