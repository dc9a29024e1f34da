package scanlog

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// disk is the part of a file system that a journal uses; tests break it.
type disk interface {
	// open opens a file to read; create makes one to read and write, and empties it.
	open(name string) (file, error)
	create(name string) (file, error)
	rename(from, to string) error
	remove(name string) error
	// list returns the names in a folder, sorted.
	list(dir string) ([]string, error)
	// syncDir makes what was created, renamed and removed in a folder durable.
	syncDir(dir string) error
}

// file is one open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	truncate(size int64) error
	size() (int64, error)
	// sync makes what was written durable.
	sync() error
}

// realDisk is the operating system's.
type realDisk struct{}

type realFile struct{ *os.File }

func (realDisk) open(name string) (file, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

func (realDisk) create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

func (realDisk) rename(from, to string) error { return os.Rename(from, to) }
func (realDisk) remove(name string) error     { return os.Remove(name) }

func (realDisk) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (realDisk) syncDir(dir string) error { return atomicfile.SyncDir(dir) }

func (f realFile) truncate(size int64) error { return f.Truncate(size) }

func (f realFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// writeWhole replaces a file durably and in one step: a crash leaves the whole old file or the
// whole new one.
func writeWhole(d disk, name string, content []byte) error {
	f, err := d.create(name + newSuffix)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.rename(name+newSuffix, name)
	}
	if err != nil {
		return errors.Join(err, d.remove(name+newSuffix))
	}
	return d.syncDir(filepath.Dir(name))
}

// WriteFile is writeWhole of the operating system's files.
func WriteFile(name string, content []byte) error { return writeWhole(realDisk{}, name, content) }

// newSuffix marks a file that is being written; if a start finds one, a crash left it.
const newSuffix = ".new"

// MinFreeSpace is the number of free bytes required where scans and changes are written.
const MinFreeSpace = 1 << 20

// CheckFreeSpace returns why LeastRoom more bytes cannot be written into a folder. It writes them there and
// removes them.
func CheckFreeSpace(dir string) error {
	f, err := os.CreateTemp(dir, ".room-*")
	if err != nil {
		return err
	}
	removed := os.Remove(f.Name()) == nil // at once, where the system lets an open file go: then a crash leaves nothing
	if _, err = f.Write(make([]byte, MinFreeSpace)); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); !removed {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
