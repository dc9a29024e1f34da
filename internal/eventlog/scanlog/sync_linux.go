package scanlog

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// sync flushes the content and the length, which is all that reading needs.
func (f realFile) sync() error {
	if k := kernelFlushes(); k != nil && k.mu.TryLock() {
		defer k.mu.Unlock()
		if err := k.flush(f.File); err != errNotTaken {
			return err
		}
	}
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return err
		}
	}
}

// kernelFlush lets the kernel flush a file while this program waits for it as
// for a connection (io_submit with IOCB_CMD_FDSYNC). The flush is the same; but
// a system call that blocks for a millisecond makes the runtime find another
// thread and look every 20 µs whether it needs one, which costs more than the
// flush.
type kernelFlush struct {
	mu      sync.Mutex // one flush at a time
	context uintptr    // aio_context_t
	fd      int
	event   *os.File // of fd: an eventfd, which counts flushes that ended
	last    uint64   // number of the last one
	broken  bool     // it is unknown which flushes ended
}

// errNotTaken is for a flush that did not begin.
var errNotTaken = errors.New("ledger: the kernel took no flush")

// kernelFlushes is the one of this process; nil where the kernel has none, or
// does not let us.
var kernelFlushes = sync.OnceValue(func() *kernelFlush {
	k := &kernelFlush{}
	if _, _, errno := syscall.Syscall(syscall.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&k.context)), 0); errno != 0 {
		return nil
	}
	fd, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		_, _, _ = syscall.Syscall(syscall.SYS_IO_DESTROY, k.context, 0, 0)
		return nil
	}
	k.fd, k.event = int(fd), os.NewFile(fd, "flushes")
	return k
})

// ioCommand is struct iocb of linux/aio_abi.h.
type ioCommand struct {
	data          uint64
	_             [2]uint32 // key and flags of reading and writing
	opcode        uint16
	_             int16
	fd            uint32
	_             [4]uint64 // buffer, length, offset, reserved
	flags, signal uint32
}

// ioEvent is struct io_event.
type ioEvent struct {
	data, _   uint64
	result, _ int64
}

const (
	ioDataSync = 3 // IOCB_CMD_FDSYNC
	ioSignal   = 1 // IOCB_FLAG_RESFD
)

func (k *kernelFlush) flush(f *os.File) error {
	if k.broken {
		return errNotTaken
	}
	k.last++
	list := [1]*ioCommand{{data: k.last, opcode: ioDataSync, fd: uint32(f.Fd()), flags: ioSignal, signal: uint32(k.fd)}}
	n, _, errno := syscall.RawSyscall(syscall.SYS_IO_SUBMIT, k.context, 1, uintptr(unsafe.Pointer(&list)))
	runtime.KeepAlive(list[0])
	runtime.KeepAlive(f)
	if errno != 0 || n != 1 {
		return errNotTaken
	}
	// Until the end of this flush is seen, a later one must not be taken for it.
	k.broken = true
	var count [8]byte
	if _, err := k.event.Read(count[:]); err != nil {
		return err
	}
	var ended ioEvent
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_IO_GETEVENTS, k.context, 1, 1, uintptr(unsafe.Pointer(&ended)), 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		if n != 1 || ended.data != k.last {
			return errors.New("the kernel tells of another flush")
		}
		break
	}
	k.broken = false
	if ended.result < 0 {
		return syscall.Errno(-ended.result)
	}
	return nil
}
