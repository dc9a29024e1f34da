package scanlog

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// sync flushes the content and the length of a file (fdatasync): reading the file later needs no other metadata.
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

// kernelFlush requests an asynchronous fsync (io_submit with IOCB_CMD_FDSYNC) and waits for it as for network input. A blocking system call
// of a millisecond would cost more than the flush, because during the call the Go runtime starts another thread and polls every 20 µs.
type kernelFlush struct {
	mu      sync.Mutex // serializes flushes
	context uintptr    // aio_context_t
	fd      int
	event   *os.File // the eventfd with descriptor fd; it counts completed flushes
	last    uint64   // number of the last flush
	broken  bool     // set if it is unknown which flushes have completed
}

// errNotTaken is returned if the kernel did not accept a flush.
var errNotTaken = errors.New("scanlog: asynchronous fsync: the kernel did not accept the request")

// kernelFlushes returns the kernelFlush of this process; nil if the kernel does not support or permit asynchronous flushes.
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

// ioCommand mirrors struct iocb of linux/aio_abi.h.
type ioCommand struct {
	data          uint64
	_             [2]uint32 // key and flags, used by reads and writes only
	opcode        uint16
	_             int16
	fd            uint32
	_             [4]uint64 // buffer, length, offset and reserved field, unused by a flush
	flags, signal uint32
}

// ioEvent mirrors struct io_event of linux/aio_abi.h.
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
	// broken stays set until the flush is seen to complete, so that a late completion is not mistaken for that of another flush.
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
			return errors.New("scanlog: asynchronous fsync: unexpected completion event")
		}
		break
	}
	k.broken = false
	if ended.result < 0 {
		return syscall.Errno(-ended.result)
	}
	return nil
}
