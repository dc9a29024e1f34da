package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

type batchDownload struct {
	member
	ID    int64    `arg:"" name:"id"`
	Range []string `arg:"" optional:"" name:"range"`
	Out   string   `required:"" placeholder:"FILE|DIR/" file:"out"`
}

// downloadedFile is one downloaded file.
type downloadedFile struct {
	File  string `json:"file"`
	From  int64  `json:"from"`
	To    int64  `json:"to"`
	Bytes int64  `json:"bytes"`
}

// Run downloads the segments one after the other, as encrypted packages in Base64; batch list-codes decrypts them.
func (c *batchDownload) Run(s *session, wire *client.Client) error {
	part := client.CodeRange{To: math.MaxInt64}
	if len(c.Range) > 0 {
		r, all, err := parseRange(c.Range)
		if err != nil {
			return err
		}
		if !all {
			part = r
		}
	}
	folder, err := c.folder()
	if err != nil {
		return err
	}
	a, err := wire.Wire.GetApplication(s.ctx, client.ApplicationKey{ID: c.ID})
	if err != nil {
		return aboutBatch("download", c.ID, err)
	}
	pieces, err := piecesOf(a, part)
	if err != nil {
		return err
	}
	if !folder && len(pieces) > 1 {
		return misused("batch_download.the_codes_come_in_packages", len(pieces), strings.TrimRight(c.Out, "/"), c.ID,
			cmp.Or(strings.Join(c.Range, " "), "all"))
	}
	total := pieces[len(pieces)-1].To - pieces[0].From + 1
	d := download{session: s, wire: wire, id: c.ID, bar: newBar(s, total, "downloading")}
	defer d.bar.end()
	var files []downloadedFile
	if folder {
		for _, r := range pieces {
			file := filepath.Join(c.Out, fmt.Sprintf("%d-%d-%d.b64", c.ID, r.From, r.To))
			if err := d.file(&files, file, r); err != nil {
				return err
			}
		}
	} else if err := d.file(&files, c.Out, pieces[0]); err != nil {
		return err
	}
	d.bar.end()
	return c.print(s, map[string]any{"application_id": c.ID, "codes": total, "files": files}, nil, func(w io.Writer) {
		var size int64
		for _, f := range files {
			size += f.Bytes
		}
		printMsg(w, "batch_download.wrote_of_to", countedCodes(total), c.ID, plain(c.Out), counted(int(size), "byte"))
	})
}

// keyFile reads a package key from the first line of a file.
func keyFile(flag, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", misused("batch_download.of", flag, err)
	}
	defer f.Close()
	key, err := firstLine(f)
	if err != nil {
		return "", misused("batch_download.of", flag, err)
	}
	return key, checkPackageKey(key)
}

func checkPackageKey(key string) error {
	if len(key) != 16 {
		return misused("batch_download.a_package_key_has_16", len(key))
	}
	return nil
}

// folder reports whether --out is a folder, and creates the folder if its name ends in a slash.
func (c *batchDownload) folder() (bool, error) {
	if !isFolder(c.Out) && strings.HasSuffix(c.Out, "/") {
		if err := os.MkdirAll(c.Out, 0o700); err != nil {
			return false, misused("batch_download.out", err)
		}
	}
	return isFolder(c.Out), nil
}

// piecesOf returns, for each segment that overlaps the requested range, the part that is in this range.
func piecesOf(a client.Application, want client.CodeRange) ([]client.CodeRange, error) {
	if a.Status != client.ApplicationFinished || len(a.Segments) == 0 {
		return nil, fault("batch_download.batch_the_application_is_not", a.ID, plain(a.Status), client.ApplicationFinished, a.ID)
	}
	last := a.Segments[len(a.Segments)-1].To
	if want.To == math.MaxInt64 {
		want.To = last
	}
	if want.To > last {
		return nil, misused("batch_download.application_has_the_indexes_0", rangeText(want), a.ID, last)
	}
	var list []client.CodeRange
	for _, r := range a.Segments {
		if r = (client.CodeRange{From: max(r.From, want.From), To: min(r.To, want.To)}); r.From <= r.To {
			list = append(list, r)
		}
	}
	return list, nil
}

// download is a running download.
type download struct {
	*session
	wire *client.Client
	id   int64
	bar  *bar
}

// file writes a package to a file.
func (d download) file(done *[]downloadedFile, path string, r client.CodeRange) error {
	size, err := replaceFile(path, func(f io.Writer) error {
		pkg, err := d.wire.Wire.DownloadCodes(d.ctx, d.id, r)
		if err == nil {
			defer pkg.Close()
			_, err = io.Copy(f, d.bar.follow(pkg, pkg.Size, r.Len()))
		}
		return aboutBatch("download "+rangeText(r)+" of", d.id, err)
	})
	if err != nil {
		d.bar.end() // the progress bar must be removed before the error is printed
		return err
	}
	*done = append(*done, downloadedFile{File: path, From: r.From, To: r.To, Bytes: size})
	return nil
}

// replaceFile writes a file atomically, readable only by its owner. An error of the function fill is returned unchanged.
func replaceFile(path string, fill func(io.Writer) error) (size int64, err error) {
	var failed error
	size, err = atomicfile.Write(path, 0o600, func(f *os.File) error {
		b := bufio.NewWriterSize(f, 256<<10)
		if failed = fill(b); failed != nil {
			return failed
		}
		return b.Flush()
	})
	if err != nil && failed == nil {
		err = fault("batch_download.writing", path, err)
	}
	return size, err
}

// bar is a progress bar that counts codes; it is hidden unless standard error is a terminal.
type bar struct {
	shown *progressbar.ProgressBar // nil = hidden
	done  int64                    // number of codes in completed packages
}

func newBar(s *session, codes int64, doing string) *bar {
	out, ok := s.err.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return &bar{}
	}
	return &bar{shown: progressbar.NewOptions64(codes, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(doing),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("codes"), progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())}
}

// follow returns a reader of a package of about size bytes; as the package is read, the bar advances by the package's number of codes.
func (b *bar) follow(in io.Reader, size, codes int64) io.Reader {
	if b.shown == nil {
		return in
	}
	return &followed{in: in, bar: b, size: size, codes: codes}
}

// add advances the bar by a number of completed codes.
func (b *bar) add(codes int) {
	if b.shown != nil {
		_ = b.shown.Add(codes) // errors are ignored: the terminal may be gone
	}
}

// end removes the bar from the terminal.
func (b *bar) end() {
	if b.shown != nil {
		_ = b.shown.Clear() // errors are ignored: the terminal may be gone
		b.shown = nil
	}
}

type followed struct {
	in                io.Reader
	bar               *bar
	size, codes, read int64
}

func (f *followed) Read(b []byte) (int, error) {
	n, err := f.in.Read(b)
	f.read += int64(n)
	part := f.codes
	if err == nil && f.size > 0 {
		part = min(f.codes, int64(float64(f.codes)*float64(f.read)/float64(f.size)))
	} else if err == nil {
		part = 0 // if its size is unknown, a package counts only after it is complete
	}
	if f.bar.shown != nil {
		_ = f.bar.shown.Set64(f.bar.done + part)
	}
	if err == io.EOF {
		f.bar.done += f.codes
		f.codes = 0
	}
	return n, err
}
