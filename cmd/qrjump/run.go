package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

// exitNoProgram is that of a shell for a program that cannot be started; signals are added to exitSignal.
const (
	exitNoProgram = 127
	exitSignal    = 128
)

type runCommand struct {
	serveCommand `embed:""`
	FailOn       string   `placeholder:"MARK" enum:",seen,page,inferred,choice" default:""`
	Command      []string `arg:"" passthrough:"" name:"cmd"`
}

// Run starts a server of its own, and a program that takes it for the platform. Decision 66.
func (c *runCommand) Run(s *session, chosen *kong.Context) error {
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	if len(c.Command) == 0 {
		return misused("run.which")
	}
	program, err := exec.LookPath(c.Command[0])
	if err != nil {
		return noProgram(c.Command[0], err)
	}
	dir, err := os.MkdirTemp("", "qrjump-run-")
	if err != nil {
		return fault("run.folder", err)
	}
	defer os.RemoveAll(dir)
	config, err := c.own(dir, chosen)
	if err != nil {
		return err
	}
	// The signals that end this program are the other's too, and it says when it ends.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, handedOn...)
	defer signal.Stop(signals)
	ctx := context.WithoutCancel(s.ctx)
	own, err := server.Start(ctx, config, &grave{to: s.err}, s.seams)
	if err != nil {
		return err
	}
	defer own.Close()
	environ, err := environOf(ctx, own, dir, os.Environ(), s.err)
	if err != nil {
		return err
	}
	status, err := c.play(s, program, environ, signals)
	if err != nil {
		return err
	}
	if minds := c.sayDeviations(ctx, s, own.URL); status == 0 {
		status = minds
	}
	if status != 0 {
		return coded{errSaid, status}
	}
	return nil
}

// own is the configuration of the server: everything in dir and on free ports, unless the command line itself says
// otherwise. Variables of a server that runs elsewhere say nothing here.
func (c *runCommand) own(dir string, chosen *kong.Context) (server.Config, error) {
	typed := func(name string) bool {
		return slices.ContainsFunc(chosen.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == name })
	}
	c.Dev = true
	config, err := c.config(chosen)
	if err != nil {
		return config, err
	}
	for name, own := range map[string]struct {
		field *string
		value string
	}{"data": {&config.Data, filepath.Join(dir, "data")}, "listen": {&config.Listen, "127.0.0.1:0"}, "database": {&config.Database, ""},
		"events": {&config.Events, ""}, "lake": {&config.Lake, ""}, "scan-listen": {&config.ScanListen, ""},
		"admin-listen": {&config.AdminListen, ""}, "admin-token": {&config.AdminToken, ""}} {
		if !typed(name) {
			*own.field = own.value
		}
	}
	if c.TLSDev || c.TLSCert != "" {
		return config, misused("run.tls")
	}
	return config, nil
}

// noProgram says that a program cannot be started, as a shell does.
func noProgram(name string, err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	return coded{fault("run.cannot_start", plain(name), err), exitNoProgram}
}

// play runs the program to its end, and returns its status.
func (c *runCommand) play(s *session, program string, environ []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.Command(program, c.Command[1:]...)
	cmd.Args[0] = c.Command[0]
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, s.in, s.out, s.err
	if f, ok := s.out.(*faithful); ok {
		cmd.Stdout = f.to // a terminal stays one
	}
	if err := cmd.Start(); err != nil {
		return 0, noProgram(c.Command[0], err)
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case one := <-signals:
				// A key of the terminal reaches the program by itself.
				if one != os.Interrupt || !fromTerminal(s.in) {
					_ = cmd.Process.Signal(one) // it may have ended by now
				}
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, fmt.Errorf("%s: %w", plain(c.Command[0]), err)
	}
	if by, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && by.Signaled() {
		return exitSignal + int(by.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

func fromTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// sayDeviations tells what the platform would have minded; 1 where it would be at least as sure as --fail-on.
func (c *runCommand) sayDeviations(ctx context.Context, s *session, url string) int {
	qrjump, err := client.New(url, client.Options{HTTP: directly()})
	if err != nil {
		fmt.Fprintln(s.err, "qrjump:", err)
		return exitFailed
	}
	list, err := qrjump.Deviations(ctx, "")
	if err != nil {
		fmt.Fprintln(s.err, "qrjump:", fault("deviations.deviations", err))
		return exitFailed
	}
	if len(list) > 0 {
		tell(s.err, "run.deviated")
		printDeviations(s.err, s.reader, list)
	}
	if c.FailOn != "" && slices.ContainsFunc(list, func(d client.Deviation) bool { return surer(d.Mark, c.FailOn) }) {
		return exitFailed
	}
	return 0
}

// grave passes on the lines of a log that tell of a fault of the server.
type grave struct {
	to  io.Writer
	cut []byte
}

func (g *grave) Write(b []byte) (int, error) {
	g.cut = append(g.cut, b...)
	for {
		line, rest, whole := bytes.Cut(g.cut, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		if bytes.Contains(line, []byte("level=ERROR")) || bytes.Contains(line, []byte(`"level":"ERROR"`)) {
			if _, err := fmt.Fprintf(g.to, "%s\n", line); err != nil {
				return 0, err
			}
		}
		g.cut = rest
	}
}
