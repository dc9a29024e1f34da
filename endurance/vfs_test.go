package endurance_test

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// registerDisk puts d under everything that SQLite opens in this process from
// now on, through the C interface of the translated library: the default VFS
// is copied, and of each opened file the method table, with four methods
// replaced. Locks and shared memory stay those of the default VFS.
func registerDisk(d *disk) error {
	tls := libc.NewTLS()
	defer tls.Close()
	below := sqlite3.Xsqlite3_vfs_find(tls, 0)
	if below == 0 {
		return errors.New("SQLite has no default VFS")
	}
	name, err := libc.CString("disk")
	if err != nil {
		return err
	}
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	if p == 0 {
		return errors.New("out of memory")
	}
	v := vfsAt(p)
	*v = *vfsAt(below)
	v.FpNext, v.FzName = 0, name
	v.FxOpen, v.FxDelete = pointer(diskOpen), pointer(diskDelete)
	under.Lock()
	under.disk, under.vfs = d, below
	under.Unlock()
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 1); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("registering the disk: SQLite says %d", rc)
	}
	return nil
}

type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
	writeFunc    = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
)

type diskFile struct {
	disk  *disk
	name  string
	below *sqlite3.Tsqlite3_io_methods
}

// under maps C addresses, which do not move, to what belongs to them.
var under = struct {
	sync.Mutex
	disk   *disk
	vfs    uintptr // the default VFS
	files  map[uintptr]diskFile
	tables map[uintptr]uintptr // method table of the default VFS to ours
}{files: map[uintptr]diskFile{}, tables: map[uintptr]uintptr{}}

// pointer makes of a function declared at the top level what the translated code takes for a C function pointer.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// function is the reverse.
func function[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

// addressed turns an address of C memory into a Go pointer.
func addressed[T any](p uintptr) *T         { return *(**T)(unsafe.Pointer(&p)) }
func vfsAt(p uintptr) *sqlite3.Tsqlite3_vfs { return addressed[sqlite3.Tsqlite3_vfs](p) }
func methodsOf(file uintptr) *uintptr       { return &addressed[sqlite3.Tsqlite3_file](file).FpMethods }
func fileAt(file uintptr) diskFile {
	under.Lock()
	defer under.Unlock()
	return under.files[file]
}

func diskOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	under.Lock()
	d, below := under.disk, under.vfs
	under.Unlock()
	rc := function[openFunc](vfsAt(below).FxOpen)(tls, vfs, name, file, flags, outFlags)
	if rc != sqlite3.SQLITE_OK || *methodsOf(file) == 0 || name == 0 {
		return rc
	}
	under.Lock()
	defer under.Unlock()
	methods := *methodsOf(file)
	table := under.tables[methods]
	if table == 0 {
		table = libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
		m := addressed[sqlite3.Tsqlite3_io_methods](table)
		*m = *addressed[sqlite3.Tsqlite3_io_methods](methods)
		m.FxClose, m.FxWrite = pointer(diskClose), pointer(diskWrite)
		m.FxTruncate, m.FxSync = pointer(diskTruncate), pointer(diskSync)
		under.tables[methods] = table
	}
	under.files[file] = diskFile{d, libc.GoString(name), addressed[sqlite3.Tsqlite3_io_methods](methods)}
	*methodsOf(file) = table
	return rc
}

func diskDelete(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32 {
	under.Lock()
	d, below := under.disk, under.vfs
	under.Unlock()
	if d.remove(libc.GoString(name)) != nil {
		return sqlite3.SQLITE_IOERR_DELETE
	}
	return function[deleteFunc](vfsAt(below).FxDelete)(tls, vfs, name, syncDir)
}

func diskClose(tls *libc.TLS, file uintptr) int32 {
	f := fileAt(file)
	under.Lock()
	delete(under.files, file)
	under.Unlock()
	return function[closeFunc](f.below.FxClose)(tls, file)
}

func diskWrite(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	f := fileAt(file)
	switch err := f.disk.write(f.name, unsafe.Slice(addressed[byte](buf), n), off); {
	case errors.Is(err, errFull):
		return sqlite3.SQLITE_FULL
	case err != nil:
		return sqlite3.SQLITE_IOERR_WRITE
	}
	return function[writeFunc](f.below.FxWrite)(tls, file, buf, n, off)
}

func diskTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f := fileAt(file)
	if f.disk.truncate(f.name, size) != nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	return function[truncateFunc](f.below.FxTruncate)(tls, file, size)
}

func diskSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := fileAt(file)
	if f.disk.sync(f.name) != nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	return sqlite3.SQLITE_OK // the real disk need not be flushed
}
