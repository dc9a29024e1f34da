// Package losses compares what the drivers keep when the power goes.
package losses

import (
	"fmt"
	"sync/atomic"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/qrjump/qrjump/endurance/powercut"
)

// RegisterNcruces puts d under the ncruces driver and returns the name for ?vfs=.
// The package has interfaces for this; nothing of it is internal.
func RegisterNcruces(d *powercut.Disk) (name string) {
	name = fmt.Sprint("powercut", registered.Add(1))
	vfs.Register(name, ncrucesVFS{vfs.Find("").(vfs.VFSFilename), d})
	return name
}

var registered atomic.Int64

type ncrucesVFS struct {
	vfs.VFSFilename
	disk *powercut.Disk
}

func (v ncrucesVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := v.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return nil, flags, err
	}
	return ncrucesFile{f, v.disk, name.String()}, flags, nil
}

func (v ncrucesVFS) Delete(name string, syncDir bool) error {
	if err := v.disk.Delete(name); err != nil {
		return sqlite3.IOERR_DELETE
	}
	return v.VFSFilename.Delete(name, syncDir)
}

type ncrucesFile struct {
	vfs.File
	disk *powercut.Disk
	name string
}

// SharedMemory is what makes WAL work: the shared memory of the file below is used as it is.
func (f ncrucesFile) SharedMemory() vfs.SharedMemory {
	if s, ok := f.File.(vfs.FileSharedMemory); ok {
		return s.SharedMemory()
	}
	return nil
}

func (f ncrucesFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.Write(f.name, p, off); err != nil {
		return 0, sqlite3.IOERR_WRITE
	}
	return f.File.WriteAt(p, off)
}

func (f ncrucesFile) Truncate(size int64) error {
	if err := f.disk.Truncate(f.name, size); err != nil {
		return sqlite3.IOERR_TRUNCATE
	}
	return f.File.Truncate(size)
}

func (f ncrucesFile) Sync(flags vfs.SyncFlag) error {
	if err := f.disk.Sync(f.name); err != nil {
		return sqlite3.IOERR_FSYNC
	}
	return nil // the real disk need not be flushed
}
