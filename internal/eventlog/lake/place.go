package lake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// Place is the storage of the files of a lake. Names have slashes.
type Place interface {
	// Get returns a file; an error that is fs.ErrNotExist where there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Open reads parts of a file of a size.
	Open(ctx context.Context, name string) (r io.ReaderAt, size int64, end io.Closer, err error)
	// Put writes a file durably. A reader finds the file from before or the new one, and never a
	// part of it.
	Put(ctx context.Context, name string, content []byte) error
	// List returns the names that begin with a text, in order.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Parse reads the value of --lake: a folder, or s3://BUCKET/PREFIX.
func Parse(text string) (Place, error) {
	if scheme, _, found := strings.Cut(text, "://"); found {
		if scheme != "s3" {
			return nil, fmt.Errorf("%q is no lake: want a folder, or s3://BUCKET/PREFIX", scheme+"://…")
		}
		return parseBucket(text)
	}
	return folder(text), nil
}

// folder is a Place on a disk.
type folder string

// unfinished is the folder in which files are written before they are moved into place: no reader of scans looks there.
const unfinished = "unfinished"

func (f folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

func (f folder) Get(_ context.Context, name string) ([]byte, error) { return os.ReadFile(f.path(name)) }

func (f folder) Open(_ context.Context, name string) (io.ReaderAt, int64, io.Closer, error) {
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, 0, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, nil, errors.Join(err, file.Close())
	}
	return file, info.Size(), file, nil
}

func (f folder) Put(_ context.Context, name string, content []byte) error {
	to, from := f.path(name), f.path(unfinished+"/"+strings.ReplaceAll(name, "/", "_"))
	if err := f.makeFolders(filepath.Dir(to)); err != nil {
		return err
	}
	if err := f.makeFolders(filepath.Dir(from)); err != nil {
		return err
	}
	file, err := os.Create(from)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(to))
}

// makeFolders makes a folder and those above it, so that they outlive a power cut.
func (f folder) makeFolders(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	text := filepath.Dir(path)
	if text != path {
		if err := f.makeFolders(text); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(text)
}

func (f folder) List(_ context.Context, prefix string) (names []string, err error) {
	top := f.path(prefix)
	if !strings.HasSuffix(prefix, "/") {
		top = filepath.Dir(top)
	}
	err = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(string(f), path)
		if name = filepath.ToSlash(name); err == nil && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
		return err
	})
	slices.Sort(names)
	return names, err
}
