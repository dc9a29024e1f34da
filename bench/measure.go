package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child process of this run, stopped by its id.
type process struct {
	cmd    *exec.Cmd
	log    string
	mu     sync.Mutex
	exited chan struct{}
	err    error
}

// start starts a program with its output in the file log. It pins the process to core unless core is -1.
func start(ctx context.Context, log string, core int, name string, args ...string) (*process, error) {
	if core >= 0 {
		name, args = "taskset", append([]string{"-c", strconv.Itoa(core), name}, args...)
	}
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(name, args...) // without ctx: stop shuts it down gracefully
	cmd.Stdout, cmd.Stderr = f, f
	// If this process is killed, the kernel stops its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, exited: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.exited) }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop sends SIGTERM and waits for the exit; after 2 minutes it kills the process.
func (p *process) stop() {
	if p == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(2 * time.Minute):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// checkAlive returns an error with the end of the log if the process has exited.
func (p *process) checkAlive() error {
	select {
	case <-p.exited:
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s ended: %v: %s", p.cmd.Path, p.err, bytes.TrimSpace(text[max(0, len(text)-400):]))
	default:
		return nil
	}
}

// waitUntil polls a condition until it holds, the process exits or the limit expires.
func (p *process) waitUntil(ctx context.Context, description string, limit, every time.Duration, condition func() bool) error {
	deadline := time.Now().Add(limit)
	for !condition() {
		if err := p.checkAlive(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s: %s not after %s: %s", p.cmd.Path, description, limit, text[max(0, len(text)-400):])
		}
		time.Sleep(every)
	}
	return nil
}

// listening waits until address accepts connections.
func (p *process) listening(ctx context.Context, address string, limit time.Duration) error {
	return p.waitUntil(ctx, "listening on "+address, limit, 2*time.Millisecond, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// cpu returns the user and system time of all threads of a process.
// The kernel reports it in nanoseconds in the schedstat of each thread.
func cpu(pid int) (time.Duration, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	var exact time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return ticks(pid)
			}
			return 0, err
		}
		ns, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, err
		}
		exact += time.Duration(n)
	}
	// The time of exited threads is only in /proc/PID/stat.
	if coarse, err := ticks(pid); err == nil && coarse > exact {
		return coarse, nil
	}
	return exact, nil
}

// ticks returns utime plus stime of /proc/PID/stat, with a resolution of 10 ms.
func ticks(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command name in parentheses may contain spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %s", pid, text)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// memory returns a field of /proc/PID/status in bytes: VmRSS is the resident memory, VmHWM its peak.
func memory(pid int, field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024
		}
	}
	return 0
}

// freePort returns an unused port of the loopback interface.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func freePorts(n int) ([]int, error) {
	var ports []int
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// ratios returns the quotients of values and anchor by round.
func ratios(values, anchor []float64) []float64 {
	r := make([]float64, min(len(values), len(anchor)))
	for i := range r {
		r[i] = values[i] / anchor[i]
	}
	return r
}

// quantile returns the q-quantile of unsorted values, 0 if there are none.
func quantile(values []float64, q float64) float64 {
	v := slices.Clone(values)
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// version returns the first line of a program's version output.
func version(name string, args ...string) string {
	text, err := exec.Command(name, args...).CombinedOutput()
	if err != nil && len(text) == 0 {
		return name
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
