package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server"
)

type recordCommand struct {
	Upstream string        `required:"" placeholder:"URL"`
	Listen   string        `default:"127.0.0.1:8090" placeholder:"ADDR"`
	Out      string        `required:"" placeholder:"FILE" file:"out"`
	Timeout  time.Duration `default:"30s" placeholder:"TIME"`
}

// Run forwards calls and records them until a signal arrives.
func (c *recordCommand) Run(s *session) (err error) {
	upstream, err := upstreamOf(c.Upstream)
	if err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return misused("cassette.timeout_want_more_than_0s")
	}
	l, err := listen(c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	out, err := newCassette(c.Out)
	if err != nil {
		return err
	}
	r := &cassette.Recorder{Upstream: upstream, Out: out, Log: slog.New(slog.NewTextHandler(s.err, nil)), Now: time.Now, Timeout: c.Timeout}
	err = serveOn(s, l, r, c.Timeout)
	lines, failed := r.Lines()
	if err = errors.Join(err, failed, out.Sync(), out.Close()); err != nil {
		return fault("cassette.record", err)
	}
	printMsg(s.err, "cassette.recorded_in_read_it_before", counted(lines, "call"), c.Out)
	return nil
}

// upstreamOf reads --upstream.
func upstreamOf(text string) (*url.URL, error) {
	upstream, err := url.Parse(text)
	if err != nil || upstream.Scheme != "http" && upstream.Scheme != "https" || upstream.Host == "" ||
		strings.Trim(upstream.Path, "/") != "" || upstream.RawQuery != "" {
		return nil, misused("cassette.upstream_want_a_scheme_and")
	}
	return upstream, nil
}

// newCassette creates the file of --out. An existing file is rejected: a continued cassette would use the same placeholder for
// different values.
func newCassette(name string) (*os.File, error) {
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, misused("cassette.out_exists", name)
	}
	if err != nil {
		return nil, misused("batch_download.out", err)
	}
	return out, nil
}

func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, misused("cassette.listen", err)
	}
	return l, nil
}

// serveOn serves until a signal arrives, then waits for running requests. After it, the command counts as not interrupted.
func serveOn(s *session, l net.Listener, h http.Handler, patience time.Duration) error {
	serving := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(s.err, nil), slog.LevelWarn)}
	ended := make(chan error, 1)
	go func() { ended <- serving.Serve(l) }()
	printMsg(s.out, "cassette.qrjump_ready_http", l.Addr())
	select {
	case err := <-ended:
		return err
	case <-s.ctx.Done():
	}
	s.ctx = context.WithoutCancel(s.ctx) // the signal is the normal end of the command, whose error therefore is its result
	ctx, end := context.WithTimeout(s.ctx, patience)
	defer end()
	return serving.Shutdown(ctx)
}

type compareCommand struct {
	outputFlags
	File      string `arg:"" file:"in"`
	Behaviour string `placeholder:"ID"`
	Keep      string `placeholder:"DIR" file:"dir"`
}

// Run replays a cassette against a new server and lists the differences.
func (c *compareCommand) Run(s *session) (err error) {
	if c.Behaviour != "" {
		if err := cassette.CheckRow(c.Behaviour); err != nil {
			return misused("cassette.behaviour", err)
		}
	}
	lines, err := readCassette(c.File)
	if err != nil {
		return err
	}
	stage := cassette.NewStage(lines)
	var now atomic.Pointer[time.Time]
	began := stage.Began()
	now.Store(&began)
	clock := func() time.Time { return *now.Load() }
	srv, end, err := server.StartTemp(s.ctx, stage.Seed(), clock, io.Discard)
	if err != nil && stage.ForgetRules() {
		printMsg(s.err, "cassette.the_rules_from_before_the", plain(err.Error()))
		srv, end, err = server.StartTemp(s.ctx, stage.Seed(), clock, io.Discard)
	}
	if err != nil {
		return fault("cassette.compare_a_server_with_what", c.File, err)
	}
	defer func() { err = errors.Join(err, end()) }()
	report, err := cassette.Compare(s.ctx, stage, cassette.Server{URL: srv.URL, Admin: srv.AdminURL,
		Reach: func(t time.Time) {
			if t.After(*now.Load()) {
				now.Store(&t)
			}
		}})
	if err != nil {
		return fault("cassette.compare", c.File, err)
	}
	if c.Keep != "" {
		added, err := cassette.Keep(lines, report, c.Keep, filepath.Base(c.File))
		if err != nil {
			return fault("cassette.compare_keep", c.File, err)
		}
		printMsg(s.err, "cassette.added_to", counted(added, "answer"), c.Keep)
	}
	if c.Behaviour != "" {
		report.Filter(c.Behaviour)
	}
	if err := c.print(s, report, nil, func(w io.Writer) { printComparison(w, report) }); err != nil {
		return err
	}
	if n := report.Unknown(); n > 0 {
		return different("cassette.compare_2", c.File, counted(n, "difference"))
	}
	return nil
}

func readCassette(file string) ([]cassette.Recorded, error) {
	lines, err := cassette.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, misused("cassette.there_is_no_file", file)
	}
	return lines, err
}

func printComparison(w io.Writer, r cassette.Report) {
	for _, d := range r.Differences {
		decided := textOr(len(d.Behaviours) > 0, tr("cassette.evidence_level", strings.Join(d.Behaviours, ", "), d.EvidenceLevel),
			tr("cassette.no_behaviour"))
		if d.Accepted {
			decided += ", known"
		}
		location := tr("cassette.line", d.Line)
		if d.Count > 1 {
			location += tr("cassette.and_more", d.Count-1)
		}
		kind := string(d.Kind)
		if d.Location != kind {
			kind += " " + d.Location
		}
		printMsg(w, "cassette.the_platform_has_we_have", location, plain(orDash(d.Endpoint)), plain(kind),
			plain(d.Platform),
			plain(d.Server), decided)
	}
	for _, skipped := range r.Skipped {
		printMsg(w, "cassette.line_is_not_compared", skipped.Line, plain(skipped.Endpoint), plain(skipped.Reason))
	}
	if len(r.Rewritten) > 0 {
		printMsg(w, "cassette.rewritten", counted(len(r.Rewritten), "line"), r.Rewritten[0])
	}
	printMsg(w, "cassette.of_compared", r.Compared, counted(r.Calls, "call"), counted(len(r.Differences), "difference"))
}

type replayCommand struct {
	File      string `arg:"" file:"in"`
	Listen    string `default:"127.0.0.1:8091" placeholder:"ADDR"`
	ByContent bool
}

// Run serves responses from a cassette until a signal arrives.
func (c *replayCommand) Run(s *session) error {
	lines, err := readCassette(c.File)
	if err != nil {
		return err
	}
	l, err := listen(c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	p := cassette.NewPlayer(lines, c.ByContent)
	if err := serveOn(s, l, p, 10*time.Second); err != nil {
		return fault("cassette.replay", c.File, err)
	}
	wrong, unused := p.Unreplayed()
	if unused > 0 {
		printMsg(s.err, "cassette.of_the_cassette_not_asked", counted(unused, "line"))
	}
	if len(wrong) > 0 {
		return fault("cassette.replay_not_in_the_cassette", c.File, counted(len(wrong), "call"), wrong[0])
	}
	return nil
}
