package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// signalError is the error of a command that a signal interrupted.
type signalError struct{ syscall.Signal }

func (s signalError) Error() string { return s.String() }

// untilSignal returns a context that is cancelled by the first signal, with the signal as its cause. A second signal ends the
// program immediately.
func untilSignal() context.Context {
	ctx, stop := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		item := <-signals
		signal.Stop(signals)
		number, _ := item.(syscall.Signal)
		stop(signalError{number})
	}()
	return ctx
}

// during returns the error of an interrupted command, with a list of the changes and output files that the command leaves behind.
func (s signalError) during(chosen *kong.Context, err error) error {
	key, code := "stopped.interrupted", exitInterrupted
	if s.Signal == syscall.SIGTERM {
		key, code = "stopped.terminated", exitTerminated
	}
	left := sent.unsent()
	if chosen != nil && chosen.Selected() != nil {
		left = append(left, outputFilesLeft(chosen.Selected())...)
	}
	if len(left) == 0 {
		left = []string{tr("stopped.nothing")}
	}
	next := ""
	if a, is := errors.AsType[hintError](err); is {
		next = a.next
	}
	return exitError{hintError{error: fault(key, strings.Join(left, tr("stopped.and"))), next: next}, code}
}

// began is the time at which the program was started.
var began = time.Now()

// outputFilesLeft lists the complete and partial output files that the command has written so far.
func outputFilesLeft(node *kong.Node) (left []string) {
	for _, v := range fileValues(node) {
		if kind, _, _ := strings.Cut(v.Tag.Get(fileTag), ","); kind != "out" {
			continue
		}
		for _, text := range texts(v.Target) {
			for _, file := range []string{text.String(), atomicfile.Target(text.String()) + ".part"} {
				if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.ModTime().After(began) {
					left = append(left, tr("stopped.file", plain(file), counted(int(info.Size()), "byte")))
				}
			}
		}
	}
	return left
}

// sent records the changes that the command requests from servers. The variable is global because a process runs a single command.
var sent changesSent

// changesSent is an HTTP transport that records requests that may change something.
type changesSent struct {
	mu        sync.Mutex
	server    string // address of the server to which the command last made a client
	responses int
	open      map[*http.Request]bool // requests without a response yet
}

// reading matches the paths of read-only requests that have a body.
var reading = regexp.MustCompile(`/scan/v1/|token$|/codes/lookup$|/qrcodejump(get|download)$|query$|/applycodedownload$|get$`)

// watch wraps another transport and records its requests.
func (c *changesSent) watch(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead || reading.MatchString(r.URL.Path) ||
			r.URL.Query().Get("dry_run") == "true" {
			return next.RoundTrip(r)
		}
		c.mu.Lock()
		if c.open == nil {
			c.open = map[*http.Request]bool{}
		}
		c.open[r] = true
		c.mu.Unlock()
		answer, err := next.RoundTrip(r)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.open, r)
			c.responses++
		}
		return answer, err
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// unsent describes the requested changes: the number of requests with a response, and each request without a response.
func (c *changesSent) unsent() (unsent []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.responses > 0 {
		unsent = append(unsent, tr("stopped.answered", c.responses))
	}
	for r := range c.open {
		unsent = append(unsent, tr("stopped.open", r.Method+" "+r.URL.Path))
	}
	return unsent
}

// pause sleeps for a time, or returns an error if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err()
}

// standardInput is standard input whose reads return an error when ctx ends.
type standardInput struct {
	ctx  context.Context
	file *os.File
}

func (s standardInput) Read(b []byte) (int, error) {
	data := make([]byte, len(b))
	n, err := unlessEnded(s.ctx, func() (int, error) { return s.file.Read(data) })
	return copy(b, data[:n]), err
}

// unlessEnded returns the result of read, or an error if ctx ends first; the pending read then ends when the program exits.
func unlessEnded[T any](ctx context.Context, read func() (T, error)) (value T, err error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return value, context.Cause(ctx)
	}
}
