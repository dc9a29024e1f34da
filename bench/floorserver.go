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

// floorServer serves scans at the minimum cost that Go allows: one thread in epoll_wait and a map from link to answer.
// The arguments are the address, the file of answers and optionally a log file; with a log file, a scan is answered after
// its record is durable.
func floorServer(ctx context.Context, args []string) error {
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var answers map[string]string // by the link as it is encoded in the request
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
	defer listener.Close() // also keeps the file reachable; its finalizer would close it
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
	file    *os.File // nil = answer immediately
	poll    int
	conns   []*floorConn // by descriptor
	waiting []*floorConn // connections that wait for the next commit
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
		timeout := -1
		if len(f.waiting) > 0 {
			timeout = 0 // a group has only requests that have already arrived
		}
		n, err := unix.EpollWait(f.poll, events, timeout)
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
		return nil // the client has disconnected
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

// read reads from a connection. A complete request is answered immediately or joins the next group commit.
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
	link, complete, ok := floorRequest(c.in[:c.n])
	if !complete && c.n < len(c.in) {
		return
	}
	c.n = 0
	if c.answer = f.answers[string(link)]; !ok || c.answer == nil {
		c.close() // the load generator sends no such request
		return
	}
	if f.file == nil {
		c.write(c.answer)
		return
	}
	f.waiting, f.records = append(f.waiting, c), append(f.records, floorRecord[:]...)
}

var floorRecord [recordSize]byte

// commit makes the records of all waiting connections durable and answers them.
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

// floorRequest returns the link of a request; ok is false if the request is malformed.
func floorRequest(in []byte) (link []byte, complete, ok bool) {
	head, body, complete := bytes.Cut(in, []byte("\r\n\r\n"))
	if !complete {
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
