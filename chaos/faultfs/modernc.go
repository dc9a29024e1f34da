package faultfs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// RegisterModernc inserts d under the modernc SQLite driver and returns the name for ?vfs=. If first is true, d is also used for all files
// that SQLite later opens in this process without a VFS name.
//
// The package modernc.org/sqlite/vfs is read-only and lacks WAL, so RegisterModernc uses the translated C interface: it copies the default
// VFS and, for each opened file, the method table, in which it replaces four methods. The file structure remains that of the default VFS,
// so locks and shared memory continue to work.
func RegisterModernc(d *Disk, first bool) (name string, err error) {
	tls := libc.NewTLS()
	defer tls.Close()
	lower := sqlite3.Xsqlite3_vfs_find(tls, 0)
	if lower == 0 {
		return "", errors.New("SQLite has no default VFS")
	}
	name = fmt.Sprint("powercut", registered.Add(1))
	cname, err := libc.CString(name)
	if err != nil {
		return "", err
	}
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	if p == 0 {
		return "", errors.New("out of memory")
	}
	v := vfsAt(p)
	*v = *vfsAt(lower)
	v.FpNext, v.FzName = 0, cname
	v.FxOpen, v.FxDelete = pointer(moderncOpen), pointer(moderncDelete)
	modernc.Lock()
	modernc.disks[p] = moderncVFS{d, lower}
	modernc.Unlock()
	makeDefault := int32(0)
	if first {
		makeDefault = 1
	}
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, makeDefault); rc != sqlite3.SQLITE_OK {
		return "", fmt.Errorf("registering the disk: SQLite returned %d", rc)
	}
	return name, nil
}

type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
	writeFunc    = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
)

type moderncVFS struct {
	disk  *Disk
	below uintptr
}

type moderncFile struct {
	disk  *Disk
	name  string
	below *sqlite3.Tsqlite3_io_methods
}

var registered atomic.Int64

// modernc maps C addresses, which do not move, to the Go values for them.
var modernc = struct {
	sync.Mutex
	disks  map[uintptr]moderncVFS
	files  map[uintptr]moderncFile
	tables map[uintptr]uintptr // tables maps each method table of the default VFS to its replacement.
}{disks: map[uintptr]moderncVFS{}, files: map[uintptr]moderncFile{}, tables: map[uintptr]uintptr{}}

// pointer converts a top-level Go function to a C function pointer for the translated code.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// function converts a C function pointer of the translated code to a Go function.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

// pointerAt converts an address in C memory to a Go pointer.
func pointerAt[T any](p uintptr) *T         { return *(**T)(unsafe.Pointer(&p)) }
func vfsAt(p uintptr) *sqlite3.Tsqlite3_vfs { return pointerAt[sqlite3.Tsqlite3_vfs](p) }
func methodsOf(file uintptr) *uintptr       { return &pointerAt[sqlite3.Tsqlite3_file](file).FpMethods }
func moderncFileAt(file uintptr) moderncFile {
	modernc.Lock()
	defer modernc.Unlock()
	return modernc.files[file]
}

func moderncOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	modernc.Lock()
	v := modernc.disks[vfs]
	modernc.Unlock()
	rc := function[openFunc](vfsAt(v.below).FxOpen)(tls, vfs, name, file, flags, outFlags)
	if rc != sqlite3.SQLITE_OK || *methodsOf(file) == 0 || name == 0 {
		return rc
	}
	modernc.Lock()
	defer modernc.Unlock()
	lower := *methodsOf(file)
	table := modernc.tables[lower]
	if table == 0 {
		table = libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
		m := pointerAt[sqlite3.Tsqlite3_io_methods](table)
		*m = *pointerAt[sqlite3.Tsqlite3_io_methods](lower)
		m.FxClose, m.FxWrite = pointer(moderncClose), pointer(moderncWrite)
		m.FxTruncate, m.FxSync = pointer(moderncTruncate), pointer(moderncSync)
		modernc.tables[lower] = table
	}
	modernc.files[file] = moderncFile{v.disk, libc.GoString(name), pointerAt[sqlite3.Tsqlite3_io_methods](lower)}
	*methodsOf(file) = table
	return rc
}

func moderncDelete(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32 {
	modernc.Lock()
	v := modernc.disks[vfs]
	modernc.Unlock()
	if v.disk.Delete(libc.GoString(name)) != nil {
		return sqlite3.SQLITE_IOERR_DELETE
	}
	return function[deleteFunc](vfsAt(v.below).FxDelete)(tls, vfs, name, syncDir)
}

func moderncClose(tls *libc.TLS, file uintptr) int32 {
	f := moderncFileAt(file)
	modernc.Lock()
	delete(modernc.files, file)
	modernc.Unlock()
	return function[closeFunc](f.below.FxClose)(tls, file)
}

func moderncWrite(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	f := moderncFileAt(file)
	if f.disk.Write(f.name, unsafe.Slice(pointerAt[byte](buf), n), off) != nil {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	return function[writeFunc](f.below.FxWrite)(tls, file, buf, n, off)
}

func moderncTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f := moderncFileAt(file)
	if f.disk.Truncate(f.name, size) != nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	return function[truncateFunc](f.below.FxTruncate)(tls, file, size)
}

func moderncSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := moderncFileAt(file)
	if f.disk.Sync(f.name) != nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	return sqlite3.SQLITE_OK // The real disk does not need to be synced.
}
