// Package atomicfile knows how a file of the data folder is written so that a crash leaves the old file or the new one.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a text into a file, as Write does.
func Replace(path string, text []byte, mode fs.FileMode) error {
	_, err := Write(path, mode, func(f *os.File) error { _, err := f.Write(text); return err })
	return err
}

// Write writes a file as a whole and returns its size: after a crash there is the old one or the new one, on the disk before anything
// that depends on it. An error of write, which fills a file beside it (path.new-NUMBER), is returned as it is and leaves the old one.
func Write(path string, mode fs.FileMode, write func(f *os.File) error) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // gone already when all is well
	defer f.Close()
	if err := write(f); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("writing %s: %w", path, err)
	}
	return info.Size(), Move(f.Name(), path)
}

// Move renames a file durably.
func Move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return Named(to)
}

// Named makes the name of a file durable, which was just given to it.
func Named(path string) error {
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("making %s durable: %w", path, err)
	}
	return nil
}

// SyncDir makes what was created, renamed and removed in a folder durable. Windows and some file
// systems cannot be asked for that and say so: their refusal is no error.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	return errors.Join(err, f.Close())
}
