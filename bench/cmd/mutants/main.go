// Command mutants measures which faults the tests detect (mutation testing): it draws mutants of the product (a negated condition or
// a removed statement), runs for each the tests that reach it, and writes a table of the outcomes.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	root     string // of the repository
	dir      string // kept between runs
	out      string
	commit   string
	seed     uint64
	count    int
	first    int
	parallel int
	budget   time.Duration
}

func main() {
	log.SetFlags(log.Ltime)
	var s settings
	flag.Uint64Var(&s.seed, "seed", 44, "the draw; the same seed and commit draw the same mutants")
	flag.IntVar(&s.count, "n", 200, "number of mutants to draw")
	flag.IntVar(&s.first, "first", 0, "test only the first so many mutants; 0 = all")
	flag.StringVar(&s.commit, "commit", "HEAD", "the commit to draw from; git's line mapping carries the mutants to the working tree")
	flag.StringVar(&s.dir, "dir", filepath.Join(os.TempDir(), "qrjump-mutants"), "folder of binaries and records; a later run continues there")
	flag.StringVar(&s.out, "out", "", "the table to write (default: mutants.tsv in -dir)")
	flag.IntVar(&s.parallel, "parallel", 2, "test binaries that run concurrently")
	flag.DurationVar(&s.budget, "budget", 5*time.Minute, "measured time of tests to run per mutant, beyond its own package")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, s settings) error {
	root, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	s.root = strings.TrimSpace(root)
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "records"), 0o755); err != nil {
		return err
	}
	if s.out == "" {
		s.out = filepath.Join(s.dir, "mutants.tsv")
	}
	drawn, err := drawCommit(ctx, s)
	if err != nil {
		return fmt.Errorf("drawing: %w", err)
	}
	mutants, err := carry(ctx, s, drawn)
	if err != nil {
		return fmt.Errorf("carrying the mutants to the working tree: %w", err)
	}
	suite, err := build(ctx, s, mutants)
	if err != nil {
		return fmt.Errorf("building the tests: %w", err)
	}
	if err := suite.record(ctx); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	return suite.judge(ctx, mutants)
}

// output runs a command and returns its standard output; an error includes its standard error.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(exit.Stderr))
	}
	return string(out), err
}
