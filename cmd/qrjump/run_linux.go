package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/qrjump/qrjump/internal/server"
)

// For clients that use no proxy, the program runs in a mount namespace whose hosts file maps the platform's host names to an address in
// 127.0.0.0/8; the server listens on port 443 of this address. Decision 66.

// helperName is the name (argument 0) of this executable as the helper, which sets up the namespaces and then executes the program. The
// other arguments are the hosts file, the server's port (with --isolate) or "", and the program with its arguments.
const helperName = "qrjump-run-namespaces"

// If a step fails, the helper sends over its socket a message that begins with one of the following bytes.
const (
	failedNamespace = 'n'
	failedProgram   = 'p'
)

// helperSocket is the file descriptor of the helper's end of the socket.
const helperSocket = 3

func init() {
	if len(os.Args) > 4 && os.Args[0] == helperName {
		kind, err := becomeProgram(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
		_, _ = syscall.Write(helperSocket, append([]byte{kind}, err.Error()...))
		os.Exit(exitNoProgram)
	}
}

// becomeProgram sets up the namespaces of this process and then executes the program in its place. becomeProgram returns only on failure.
func becomeProgram(hosts, port, program string, args []string) (kind byte, err error) {
	unix.CloseOnExec(helperSocket)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return failedNamespace, &os.PathError{Op: "mount", Path: "/", Err: err}
	}
	if err := unix.Mount(hosts, hostsFile, "", unix.MS_BIND, ""); err != nil {
		return failedNamespace, &os.PathError{Op: "mount", Path: hostsFile, Err: err}
	}
	if port != "" {
		if err := passListeners(port); err != nil {
			return failedNamespace, err
		}
	}
	// The program must not inherit the helper's capabilities.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return failedNamespace, err
	}
	return failedProgram, syscall.Exec(program, args, os.Environ())
}

const hostsFile = "/etc/hosts"

// passListeners listens on three ports of this process's network namespace (the server's own port, 443 and 80), and passes the three
// sockets to the server. In the namespace, all ports of 127.0.0.1 are free.
func passListeners(port string) error {
	if err := startLoopback(); err != nil {
		return os.NewSyscallError("ioctl", err)
	}
	var fds []int
	for _, port := range []string{port, "443", "80"} {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return err
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return err
		}
		defer f.Close()
		fds = append(fds, int(f.Fd()))
	}
	return unix.Sendmsg(helperSocket, []byte{0}, unix.UnixRights(fds...), nil, 0)
}

func startLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// startLed starts cmd in namespaces in which the platform's host names resolve to the server, even without a proxy. If cmd cannot run in
// namespaces, startLed returns a noNamespace error, and cmd is not running.
func (c *runCommand) startLed(cmd *exec.Cmd, srv *server.Server, dir string) (err error) {
	address, port := "127.0.0.1", ""
	if c.Isolate {
		if _, port, err = net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://")); err != nil {
			return err
		}
	} else if address, err = listenAsPlatform(srv); err != nil {
		return noNamespace{err}
	}
	old, err := os.ReadFile(hostsFile)
	if err != nil {
		return noNamespace{err}
	}
	hosts := filepath.Join(dir, "hosts")
	text := fmt.Appendf(nil, "%s %s\n%s", address, strings.Join(server.PlatformNames, " "), old)
	if err := os.WriteFile(hosts, text, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return noNamespace{err}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "helper"), os.NewFile(uintptr(pair[1]), "helper")
	defer ours.Close()
	program, args := cmd.Path, cmd.Args
	cmd.Path, cmd.Args = self, append([]string{helperName, hosts, port, program}, args...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if c.Isolate {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	if !mayMount() {
		uid, gid := os.Geteuid(), os.Getegid()
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return noNamespace{err}
	}
	if err := c.awaitHelper(ours, srv); err != nil {
		_ = cmd.Process.Kill() // The process may have exited already.
		_ = cmd.Wait()
		return err
	}
	return nil
}

// awaitHelper serves the listeners that the helper passes, if any, and waits until the helper executes the program or fails.
func (c *runCommand) awaitHelper(from *os.File, srv *server.Server) error {
	message, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(3*4))
	n, m, _, _, err := unix.Recvmsg(int(from.Fd()), message, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	if n == 1 && message[0] == 0 {
		if err := serveListeners(srv, rights[:m]); err != nil {
			return err
		}
		n = 0
	}
	rest, err := io.ReadAll(io.LimitReader(from, 1000))
	if err != nil {
		return err
	}
	told := append(message[:n], rest...)
	switch {
	case len(told) == 0:
		return nil
	case told[0] == failedProgram:
		return noProgram(c.Command[0], errors.New(string(told[1:])))
	}
	return noNamespace{errors.New(string(bytes.TrimLeft(told, string(rune(failedNamespace)))))}
}

// serveListeners makes the server accept connections on the sockets that the helper passed.
func serveListeners(srv *server.Server, rights []byte) error {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return os.NewSyscallError("recvmsg", cmp.Or(err, error(syscall.EBADMSG)))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 3 {
		return os.NewSyscallError("recvmsg", cmp.Or(err, error(syscall.EBADMSG)))
	}
	var list [3]net.Listener
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "listener")
		list[i], err = net.FileListener(f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return srv.ServeAlso(list[0], list[1], list[2])
}

// listenAsPlatform makes the server accept connections as the platform on ports 443 and 80 of a loopback address that no other run uses.
func listenAsPlatform(srv *server.Server) (address string, err error) {
	const tries = 8
	for range tries {
		address = fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
		var secure, plain net.Listener
		if secure, err = net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(443))); err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			return "", err
		}
		if plain, err = net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(80))); err != nil {
			plain = nil // Port 80 is optional, because clients call the platform over TLS.
		}
		return address, srv.ServeAlso(nil, secure, plain)
	}
	return "", err
}

// mayMount reports whether this process can make a mount namespace without a user namespace.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}
