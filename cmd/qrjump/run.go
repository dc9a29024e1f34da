package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/gofrs/flock"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

// exitNoProgram is the exit code if the program cannot be started. If a signal kills the program, the exit code is exitSignal plus the
// number of the signal. Shells use the same codes.
const (
	exitNoProgram = 127
	exitSignal    = 128
)

type runCommand struct {
	serveCommand `embed:""`
	Isolate      bool
	FailOn       string   `placeholder:"LEVEL" enum:",observed,documented,inferred,assumed" default:""`
	Command      []string `arg:"" passthrough:"" name:"cmd"`
}

// Run starts a local server, and a program whose calls to the platform go to this server. Decision 66.
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
	dir, remove, err := makeRunDir()
	if err != nil {
		return fault("run.folder", err)
	}
	defer remove()
	config, err := c.serverConfig(dir, chosen)
	if err != nil {
		return err
	}
	// The child program receives all signals that this program receives; this program ends when the child program ends.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwardedSignals...)
	defer signal.Stop(signals)
	ctx := context.WithoutCancel(s.ctx)
	srv, err := server.Start(ctx, config, &faultLogFilter{to: s.err}, s.testHooks)
	if err != nil {
		return err
	}
	defer srv.Close()
	environ, err := environOf(ctx, srv, dir, os.Environ(), s.err)
	if err != nil {
		return err
	}
	status, err := c.play(s, srv, dir, program, environ, signals)
	if err != nil {
		return err
	}
	minds := c.sayDeviations(ctx, s, srv.URL)
	if arrived := srv.Arrived(); !c.printArrived(s.err, arrived) {
		minds = exitFailed
	}
	if status = cmp.Or(status, minds); status != 0 {
		return exitError{errReported, status}
	}
	return nil
}

// serverConfig returns the configuration of the server: data in dir and a free port, unless the command line sets other values. Environment
// variables that locate other servers or contain their secrets are ignored.
func (c *runCommand) serverConfig(dir string, chosen *kong.Context) (server.Config, error) {
	typed := func(name string) bool {
		return slices.ContainsFunc(chosen.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == name })
	}
	c.Dev = true
	if !typed("config") {
		c.ConfigFile = ""
	}
	if !typed("otlp-endpoint") {
		c.OTLPEndpoint = ""
	}
	if !typed("shutdown-delay") {
		c.Delay = nil
	}
	if typed("tls-dev") || typed("tls-cert") {
		return server.Config{}, misused("run.tls")
	}
	config, err := c.config(chosen)
	if err != nil {
		return config, err
	}
	for name, ownEntry := range map[string]struct {
		field *string
		value string
	}{"data": {&config.Data, filepath.Join(dir, "data")}, "listen": {&config.Listen, "127.0.0.1:0"}, "database": {&config.Database, ""},
		"database-read": {&config.DatabaseRead, ""},
		"scan-stream":   {&config.ScanStream, ""}, "lake": {&config.Lake, ""}, "scan-listen": {&config.ScanListen, ""},
		"admin-listen": {&config.AdminListen, ""}, "admin-token": {&config.AdminToken, ""}, "oidc-issuer": {&config.OIDC.Issuer, ""},
		"oidc-client-id": {&config.OIDC.ClientID, ""}, "oidc-client-secret": {&config.OIDC.ClientSecret, ""}} {
		if !typed(name) {
			*ownEntry.field = ownEntry.value
		}
	}
	config.SeedAllow = server.Loopback
	config.TLSDev, config.TLSCert, config.TLSKey, config.TrustedProxy = false, "", "", nil
	if !typed("data") && !typed("database") {
		config.MasterKey = ""
	}
	return config, nil
}

// noProgram returns the error about a program that cannot be started, with the exit code that shells use for this.
func noProgram(name string, err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	return exitError{fault("run.cannot_start", plain(name), err), exitNoProgram}
}

// noNamespace is the reason why the program could not run in its own namespaces.
type noNamespace struct{ error }

func (e noNamespace) Unwrap() error { return e.error }

// play runs the program until it exits, and returns its exit status.
func (c *runCommand) play(s *session, srv *server.Server, dir, program string, environ []string, signals <-chan os.Signal) (int, error) {
	command := func() *exec.Cmd {
		cmd := exec.Command(program, c.Command[1:]...)
		cmd.Args[0] = c.Command[0]
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, s.in, s.out, s.err
		if f, ok := s.out.(*errWriter); ok {
			cmd.Stdout = f.to // without errWriter, so that a program on a terminal detects the terminal
		}
		if f, ok := fileOf(s.in); ok {
			cmd.Stdin = f
		}
		return cmd
	}
	cmd := command()
	err := c.startLed(cmd, srv, dir)
	if cause, ok := errors.AsType[noNamespace](err); ok {
		if c.Isolate {
			return 0, fault("run.not_isolated", cause.error)
		}
		printMsg(s.err, "run.by_proxy_alone", plain(cause.Error()))
		cmd = command()
		err = cmd.Start()
	}
	if tr, ok := errors.AsType[exitError](err); ok {
		return 0, tr
	} else if err != nil {
		return 0, noProgram(c.Command[0], err)
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case sent := <-signals:
				// If the user types Ctrl-C, the terminal itself sends the signal to the program.
				if sent != os.Interrupt || !fromTerminal(s.in) {
					_ = cmd.Process.Signal(sent) // The process may have exited already.
				}
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return 0, fmt.Errorf("%s: %w", plain(c.Command[0]), err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

func fromTerminal(in io.Reader) bool {
	f, ok := fileOf(in)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// sayDeviations prints the program's deviations from the platform; it returns 1 if a deviation is at least as certain as --fail-on.
func (c *runCommand) sayDeviations(ctx context.Context, s *session, url string) int {
	qrjump, err := client.New(url, client.Options{HTTP: directly()})
	if err != nil {
		fmt.Fprintln(s.err, "qrjump:", err)
		return exitFailed
	}
	list, err := qrjump.Deviations.List(ctx, "")
	if err != nil {
		fmt.Fprintln(s.err, "qrjump:", fault("deviations.deviations", err))
		return exitFailed
	}
	if len(list) > 0 {
		printMsg(s.err, "run.deviated")
		printDeviations(s.err, s.reader, list)
	}
	if c.FailOn != "" && slices.ContainsFunc(list, func(d client.Deviation) bool { return isAtLeastAsCertain(d.EvidenceLevel, c.FailOn) }) {
		return exitFailed
	}
	return 0
}

// printArrived prints the number of calls that the server received, and the hosts that the proxy rejected. With --fail-on, printArrived
// returns false if no call arrived, because a run without calls tests nothing.
func (c *runCommand) printArrived(w io.Writer, got server.Arrived) bool {
	printMsg(w, "run.arrived", counted(int(got.Calls), "call"))
	if len(got.Rejected) > 0 {
		printMsg(w, "run.rejected", plain(strings.Join(got.Rejected, ", ")))
	}
	if got.Calls > 0 || c.FailOn == "" {
		return true
	}
	printMsg(w, "run.nothing_tested")
	return false
}

// runDirs is the name prefix of the directories of qrjump run in the system's temporary directory.
const runDirs = "qrjump-run-"

// makeRunDir creates a directory that stays locked until this process exits, and returns a function that removes the directory.
// makeRunDir first removes the directories of earlier processes that were killed.
func makeRunDir() (dir string, remove func(), err error) {
	list, _ := filepath.Glob(filepath.Join(os.TempDir(), runDirs+"*")) // Only an invalid pattern causes an error.
	for _, dir := range list {
		removeAbandoned(dir)
	}
	if dir, err = os.MkdirTemp("", runDirs); err != nil {
		return "", nil, err
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if err := lock.Lock(); err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	return dir, func() {
		lock.Close() // Windows cannot delete an open file, so the lock file is closed first.
		os.RemoveAll(dir)
	}, nil
}

// removeAbandoned removes a directory of qrjump run if no process holds its lock. A directory that contains at most the lock file stays,
// because another process may be creating the directory at this moment.
func removeAbandoned(dir string) {
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetFlag(os.O_RDONLY)) // Only the owning process creates the lock file.
	free, err := lock.TryLock()
	entries, _ := os.ReadDir(dir)
	lock.Close()
	if err == nil && free && len(entries) > 1 {
		os.RemoveAll(dir)
	}
}

// faultLogFilter forwards the log lines that report a fault of the server.
type faultLogFilter struct {
	to  io.Writer
	cut []byte
}

func (g *faultLogFilter) Write(b []byte) (int, error) {
	g.cut = append(g.cut, b...)
	for {
		line, rest, ok := bytes.Cut(g.cut, []byte("\n"))
		if !ok {
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
