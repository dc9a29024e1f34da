package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/edge/scanapi"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

func init() { workers["scanserver"] = scanServer }

// scanServer runs the scan listener alone, with or without the scan log, because the server has no setting that disables
// recording.
func scanServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("scanserver", flag.ExitOnError)
	n := flags.Int("n", 10_000, "")
	listen := flags.String("listen", "", "")
	journalDir := flags.String("journal", "", "")
	flags.Parse(args)
	set := rulegen.New(*n, 1)
	index, err := newIndex(set)
	if err != nil {
		return err
	}
	directory := replica.NewAccounts()
	for i := range set.Apps() {
		directory.Set(accounts.Account{AppID: rulegen.AppID(i), Kind: accounts.MiniProgram, Versions: []accounts.Version{accounts.Release}, JumpOpen: true}, nil)
	}
	api := &scanapi.API{Resolver: scan.Resolver{Finder: index.x, Accounts: directory}, Now: time.Now, Random: rand.Reader,
		BodyTimeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
		Key: func(context.Context, string) (accounts.ScanKey, error) {
			return accounts.ScanKey{Namespace: accounts.DefaultNamespace}, nil
		}}
	if *journalDir != "" {
		journal, err := scanlog.OpenJournal(*journalDir, scanlog.JournalOptions{Random: rand.Reader})
		if err != nil {
			return err
		}
		defer journal.Close()
		recorder := scanlog.NewRecorder(journal, scanlog.RecorderOptions{})
		defer recorder.Close()
		api.Record = func(_ context.Context, e *scanlog.Event) (scanapi.Durable, error) {
			group, err := recorder.Enqueue(e)
			if err != nil {
				return nil, err
			}
			return group, nil
		}
		api.IsDiskSlow = recorder.IsLate
		// Two SHA-256 hashes cost as much as the HMAC of the server.
		api.UserHash = func(namespace, user string) (h scanlog.UserHash) {
			inner := sha256.Sum256([]byte(namespace + "\x00" + user))
			outer := sha256.Sum256(inner[:])
			copy(h[:], outer[:])
			return h
		}
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	listener := api.FastPath(time.Second)
	listener.AnswerTime, listener.IdleTime = time.Minute, time.Minute
	listener.Listen(l)
	defer listener.Close()
	failed := make(chan error, 1)
	go func() { failed <- (&http.Server{}).Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// recordingCost measures the processor time that recording adds to a resolve.
func (b *bench) recordingCost(ctx context.Context, self string) error {
	n := b.scaled(1_000_000, 10_000)
	set := rulegen.New(n, 1)
	var hits []string
	for l := range set.Links(false, 81) {
		if !l.Near {
			hits = append(hits, l.Text)
		}
		if len(hits) == 50_000 {
			break
		}
	}
	bodies, err := b.linesFile("recording-bodies", hits, scanBody)
	if err != nil {
		return err
	}
	var cost [2][]float64
	var loads [2]load
	for i, journal := range []string{"", filepath.Join(b.work, "recording")} {
		port, err := freePort()
		if err != nil {
			return err
		}
		address := "127.0.0.1:" + strconv.Itoa(port)
		p, err := start(ctx, filepath.Join(b.work, fmt.Sprintf("scanserver-%d.log", i)), serverCore, self, "scanserver", "-n", strconv.Itoa(n), "-listen", address, "-journal", journal)
		if err != nil {
			return err
		}
		defer p.stop()
		if err := p.listening(ctx, address, 5*time.Minute); err != nil {
			return err
		}
		loads[i] = load{url: "http://" + address, file: bodies, method: "POST", path: "/scan/v1/resolve", token: "key", pid: p.pid(), connections: keepAlive, duration: 2 * time.Second}
	}
	for round := range b.rounds + 1 {
		for i := range loads {
			i = (i + round) % 2
			r, err := b.wrk(ctx, loads[i])
			if err != nil {
				return err
			}
			if round > 0 {
				cost[i] = append(cost[i], r.cpuPerRequest())
			}
		}
	}
	b.row(Row{What: "recording: CPU of a resolve with it, durable", Anchor: "the same listener without the ledger", Target: 1.15, Values: ratios(cost[1], cost[0]), Main: true})
	return nil
}
