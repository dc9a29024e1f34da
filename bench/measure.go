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

// process is a server of this run: started here, stopped here, by its id.
type process struct {
	cmd    *exec.Cmd
	log    string
	mu     sync.Mutex
	exited chan struct{}
	err    error
}

// start runs a program with its output in a file. core pins it to one core,
// -1 = no pinning.
func start(ctx context.Context, log string, core int, name string, args ...string) (*process, error) {
	if core >= 0 {
		name, args = "taskset", append([]string{"-c", strconv.Itoa(core), name}, args...)
	}
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(name, args...) // not of ctx: stop ends it in order
	cmd.Stdout, cmd.Stderr = f, f
	// A run that is killed takes its servers along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, exited: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.exited) }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks it to end and waits.
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

// alive returns what the log ends with if the process has ended.
func (p *process) alive() error {
	select {
	case <-p.exited:
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s ended: %v: %s", p.cmd.Path, p.err, bytes.TrimSpace(text[max(0, len(text)-400):]))
	default:
		return nil
	}
}

// until waits until something holds of a running process.
func (p *process) until(ctx context.Context, what string, limit, every time.Duration, holds func() bool) error {
	deadline := time.Now().Add(limit)
	for !holds() {
		if err := p.alive(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s: %s not after %s: %s", p.cmd.Path, what, limit, text[max(0, len(text)-400):])
		}
		time.Sleep(every)
	}
	return nil
}

// listening waits until an address takes connections.
func (p *process) listening(ctx context.Context, address string, limit time.Duration) error {
	return p.until(ctx, "listening on "+address, limit, 2*time.Millisecond, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// cpu is the processor time of a process: all threads, user and system.
// The kernel counts it to the nanosecond in schedstat of each thread.
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
	// Threads that have ended are only in the ticks.
	if coarse, err := ticks(pid); err == nil && coarse > exact {
		return coarse, nil
	}
	return exact, nil
}

// ticks is utime and stime of /proc/PID/stat: hundredths of a second.
func ticks(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in brackets may have spaces.
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

// memory is the resident memory of a process in bytes; peak the largest ever.
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

// freePort is a port of the loopback that nobody listens on.
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
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// ratios divides round by round.
func ratios(values, anchor []float64) []float64 {
	r := make([]float64, min(len(values), len(anchor)))
	for i := range r {
		r[i] = values[i] / anchor[i]
	}
	return r
}

// quantile of unsorted values.
func quantile(values []float64, q float64) float64 {
	v := slices.Clone(values)
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// version is the first line that a program says of itself.
func version(name string, args ...string) string {
	text, err := exec.Command(name, args...).CombinedOutput()
	if err != nil && len(text) == 0 {
		return name
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
