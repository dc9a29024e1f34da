// Package sdnotify knows how systemd is told what state the server is in.
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

// Supervisor is the process that started this one; the zero value receives nothing.
type Supervisor struct {
	socket string
	within time.Duration // how often it wants to hear of us; 0 = it does not mind
}

// Find reads what systemd put into the environment of a service of Type=notify.
func Find() Supervisor {
	s := Supervisor{socket: os.Getenv("NOTIFY_SOCKET")}
	micros, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.within = time.Duration(micros) * time.Microsecond
	}
	return s
}

// Ready says that the service answers, and where.
func (s Supervisor) Ready(status string) error { return s.say("READY=1", "STATUS="+status) }

// Stopping says that the service is about to end.
func (s Supervisor) Stopping(status string) error { return s.say("STOPPING=1", "STATUS="+status) }

// Watch says twice in each interval of the watchdog that the service is alive, as
// long as it is, until ctx ends. A service that stays silent is started again.
func (s Supervisor) Watch(ctx context.Context, alive func(context.Context) error) {
	if s.socket == "" || s.within == 0 {
		return
	}
	beat := time.NewTicker(s.within / 2)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		patience, cancel := context.WithTimeout(ctx, s.within/2)
		if err := alive(patience); err == nil {
			_ = s.say("WATCHDOG=1")
		} else if ctx.Err() == nil {
			_ = s.say("STATUS=not alive: " + err.Error())
		}
		cancel()
	}
}

// say sends lines in one datagram; without a supervisor it does nothing.
func (s Supervisor) say(lines ...string) error {
	if s.socket == "" {
		return nil
	}
	name := s.socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // of the abstract name space
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
