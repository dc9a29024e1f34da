// Package sdnotify reports the state of the server to systemd.
package sdnotify

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Supervisor is the service manager that started this process; the zero value ignores all reports.
type Supervisor struct {
	socket string
	within time.Duration // the watchdog interval; 0 = no watchdog
}

// Find reads the environment that systemd sets for a service of Type=notify.
func Find() Supervisor {
	s := Supervisor{socket: os.Getenv("NOTIFY_SOCKET")}
	micros, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.within = time.Duration(micros) * time.Microsecond
	}
	return s
}

// Ready reports that the service is ready, with a status text.
func (s Supervisor) Ready(status string) error { return s.notify("READY=1", "STATUS="+status) }

// Stopping reports that the service is shutting down.
func (s Supervisor) Stopping(status string) error { return s.notify("STOPPING=1", "STATUS="+status) }

// Watch sends a keep-alive twice per watchdog interval while alive succeeds, until ctx ends. systemd restarts a service that sends
// no keep-alive.
func (s Supervisor) Watch(ctx context.Context, alive func(context.Context) error) {
	if s.socket == "" || s.within == 0 {
		return
	}
	beat := time.Tick(s.within / 2)
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat:
		}
		patience, cancel := context.WithTimeout(ctx, s.within/2)
		if err := alive(patience); err == nil {
			_ = s.notify("WATCHDOG=1")
		} else if ctx.Err() == nil {
			_ = s.notify("STATUS=not alive: " + err.Error())
		}
		cancel()
	}
}

// notify sends lines in one datagram; without a supervisor, notify does nothing.
func (s Supervisor) notify(lines ...string) error {
	if s.socket == "" {
		return nil
	}
	name := s.socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // the prefix @ means a socket name in the abstract namespace of Linux
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(line, "\n", " ")
	}
	_, err = c.Write([]byte(strings.Join(lines, "\n")))
	return errors.Join(err, c.Close())
}
