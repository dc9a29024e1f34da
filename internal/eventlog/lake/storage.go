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

// Place is the storage for the files of a lake. Names have slashes.
type Place interface {
	// Get returns the content of a file; if the file does not exist, the error is fs.ErrNotExist.
	Get(ctx context.Context, name string) ([]byte, error)
	// Open opens a file for random access and returns the file's size.
	Open(ctx context.Context, name string) (r io.ReaderAt, size int64, end io.Closer, err error)
	// Put writes a file durably. A reader sees the old file or the new file, and never a partial file.
	Put(ctx context.Context, name string, content []byte) error
	// List returns the names that begin with prefix, sorted.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Parse parses the value of the flag --lake: a folder, or s3://BUCKET/PREFIX.
func Parse(text string) (Place, error) {
	if scheme, _, found := strings.Cut(text, "://"); found {
		if scheme != "s3" {
			return nil, fmt.Errorf("%q is not a valid lake: want a folder, or s3://BUCKET/PREFIX", scheme+"://…")
		}
		return parseBucket(text)
	}
	return folder(text), nil
}

// folder is a Place in a local folder.
type folder string

// unfinished is the folder in which files are written before they are renamed into place; readers of scans ignore this folder.
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

// makeFolders creates a folder and its parents durably, so that they survive a power failure.
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
