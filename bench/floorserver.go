package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

func init() { workers["floorserver"] = floorServer }

// floorServer is what a scan costs at least in Go: one thread that waits for
// all connections at once, and a map with the answer to each link. With a
// third argument, a file, it answers once a record of each scan is on the disk.
func floorServer(ctx context.Context, args []string) error {
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var answers map[string]string // by the link as it stands in the request
	if err := json.Unmarshal(text, &answers); err != nil {
		return err
	}
	f := &floorLoop{answers: make(map[string][]byte, len(answers))}
	for link, answer := range answers {
		f.answers[link] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			len(answer), answer)
	}
	if len(args) > 2 {
		if f.file, err = os.OpenFile(args[2], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	listener, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer listener.Close() // a file that nothing refers to any more is closed by the garbage collector
	failed := make(chan error, 1)
	go func() { failed <- f.run(int(listener.Fd())) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

type floorLoop struct {
	answers map[string][]byte
	file    *os.File // nil = it answers at once
	poll    int
	conns   []*floorConn // by descriptor
	waiting []*floorConn // for the disk
	records []byte
}

type floorConn struct {
	fd     int // -1 = closed
	in     [4096]byte
	n      int
	answer []byte
}

func (f *floorLoop) run(listener int) (err error) {
	runtime.LockOSThread()
	if f.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := f.watch(listener); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 1024)
	for {
		patience := -1
		if len(f.waiting) > 0 {
			patience = 0 // a group takes what is there already, not what may come
		}
		n, err := unix.EpollWait(f.poll, events, patience)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) != listener {
				f.read(f.conns[e.Fd])
			} else if err := f.accept(listener); err != nil {
				return err
			}
		}
		if n <= 0 && len(f.waiting) > 0 {
			if err := f.commit(); err != nil {
				return err
			}
		}
	}
}

func (f *floorLoop) watch(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return unix.EpollCtl(f.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (f *floorLoop) accept(listener int) error {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return nil // the client has left again
	}
	for len(f.conns) <= fd {
		f.conns = append(f.conns, nil)
	}
	f.conns[fd] = &floorConn{fd: fd}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return f.watch(fd)
}

func (c *floorConn) close() {
	unix.Close(c.fd)
	c.fd = -1
}

func (c *floorConn) write(answer []byte) {
	if n, err := unix.Write(c.fd, answer); err != nil || n < len(answer) {
		c.close()
	}
}

// read takes what has come; a whole request is answered, or waits for the disk.
func (f *floorLoop) read(c *floorConn) {
	n, err := unix.Read(c.fd, c.in[c.n:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		c.close()
		return
	}
	c.n += n
	link, whole, ok := floorRequest(c.in[:c.n])
	if !whole && c.n < len(c.in) {
		return
	}
	c.n = 0
	if c.answer = f.answers[string(link)]; !ok || c.answer == nil {
		c.close() // no request of the load is like that
		return
	}
	if f.file == nil {
		c.write(c.answer)
		return
	}
	f.waiting, f.records = append(f.waiting, c), append(f.records, floorRecord[:]...)
}

var floorRecord [recordSize]byte

// commit puts the records of all who wait on the disk and answers them.
func (f *floorLoop) commit() error {
	if _, err := f.file.Write(f.records); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(f.file.Fd())); err != nil {
		return err
	}
	for _, c := range f.waiting {
		if c.fd >= 0 {
			c.write(c.answer)
		}
	}
	f.waiting, f.records = f.waiting[:0], f.records[:0]
	return nil
}

// floorRequest finds the link in a request of the load, once it is whole.
func floorRequest(in []byte) (link []byte, whole, ok bool) {
	head, body, whole := bytes.Cut(in, []byte("\r\n\r\n"))
	if !whole {
		return nil, false, false
	}
	_, after, _ := bytes.Cut(head, []byte("\r\nContent-Length: "))
	number, _, _ := bytes.Cut(after, []byte("\r\n"))
	length, err := strconv.Atoi(string(number))
	if err != nil || !bytes.HasPrefix(head, []byte("POST /scan/v1/resolve ")) {
		return nil, true, false
	}
	if len(body) < length {
		return nil, false, false
	}
	_, link, _ = bytes.Cut(body, []byte(`{"text":"`))
	link, _, ok = bytes.Cut(link, []byte(`","user"`))
	return link, true, ok
}
