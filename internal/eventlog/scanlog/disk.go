package scanlog

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// disk is the part of a file system that a journal uses; tests simulate failures with it.
type disk interface {
	// open opens a file for reading; create creates or truncates a file for reading and writing.
	open(name string) (file, error)
	create(name string) (file, error)
	rename(from, to string) error
	remove(name string) error
	// list returns the names in a folder, sorted.
	list(dir string) ([]string, error)
	// syncDir makes earlier creations, renamings and removals of files in a folder durable.
	syncDir(dir string) error
}

// file is an open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	truncate(size int64) error
	size() (int64, error)
	// sync makes all written data durable.
	sync() error
}

// realDisk implements disk with the files of the operating system.
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

// writeWhole replaces the content of a file as replaceFile does.
func writeWhole(d disk, name string, content []byte) error {
	return replaceFile(d, name, func(f file) error {
		_, err := f.WriteAt(content, 0)
		return err
	})
}

// replaceFile replaces a file durably and atomically by a file that the callback write fills: after a crash, the file has its complete old
// or its complete new content.
func replaceFile(d disk, name string, write func(file) error) error {
	f, err := d.create(name + newSuffix)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
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

// WriteFile replaces a file of the operating system durably and atomically.
func WriteFile(name string, content []byte) error { return writeWhole(realDisk{}, name, content) }

// newSuffix marks a temporary file that is being written; a leftover file was caused by a crash.
const newSuffix = ".new"

// MinFreeSpace is the number of free bytes required in folders where scans and changes are written.
const MinFreeSpace = 1 << 20

// CheckFreeSpace returns an error if MinFreeSpace more bytes cannot be written into a folder. CheckFreeSpace writes MinFreeSpace
// bytes into a temporary file and removes the file.
func CheckFreeSpace(dir string) error {
	f, err := os.CreateTemp(dir, ".room-*")
	if err != nil {
		return err
	}
	removed := os.Remove(f.Name()) == nil // removed while still open, where the system allows that, so that a crash leaves no file behind
	if _, err = f.Write(make([]byte, MinFreeSpace)); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if !removed {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
