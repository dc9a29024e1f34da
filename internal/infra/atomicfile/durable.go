// Package atomicfile writes files of the data folder so that a crash leaves either the old file or the new file.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace replaces the content of a file atomically, as Write does.
func Replace(path string, text []byte, mode fs.FileMode) error {
	_, err := Write(path, mode, func(f *os.File) error { _, err := f.Write(text); return err })
	return err
}

// Write replaces a file atomically and returns its size: after a crash, either the old or the new file exists, and the new file is
// durable when Write returns. If path is a symbolic link, Write replaces the file that the link names. The function write fills a temporary
// file (path.new-NUMBER); an error from it is returned unchanged and the old file stays.
func Write(path string, mode fs.FileMode, write func(f *os.File) error) (size int64, err error) {
	path = Target(path)
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // fails harmlessly after a successful rename
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

// Target returns the file that a path with symbolic links names, or the path itself if it is no link. The file need not exist.
func Target(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	target, err := os.Readlink(path)
	switch {
	case err != nil:
		return path
	case filepath.IsAbs(target):
		return target
	}
	return filepath.Join(filepath.Dir(path), target)
}

// Move renames a file durably.
func Move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return Named(to)
}

// Named makes the directory entry of a newly created or renamed file durable.
func Named(path string) error {
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	return nil
}

// SyncDir makes all created, renamed and removed files of a folder durable. Windows and some file systems cannot sync a folder;
// their error is ignored.
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
