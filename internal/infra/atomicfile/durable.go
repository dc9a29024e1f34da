// Package atomicfile knows how a file of the data folder is written so that a crash leaves the old file or the new one.
package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file as a whole: after a crash there is the old one or
// the new one, on the disk before anything that depends on it.
func Replace(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all is well
	_, err = f.ReadFrom(bytes.NewReader(text))
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return Move(f.Name(), path)
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
