package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/qrjump/qrjump/bench/rulegen"
)

// start measures the time from process start until the server is ready with many rules, against HAProxy loading the same rules.
// All files are in the page cache.
func (b *bench) start(ctx context.Context) error {
	b.peer(version("haproxy", "-v"))
	rounds := min(b.rounds, 5)
	for _, n := range sizes[1:] {
		if float64(n) > float64(sizes[len(sizes)-1])*b.scale {
			continue
		}
		if n == sizes[len(sizes)-1] {
			rounds = min(rounds, 3) // HAProxy needs 15 s to load ten million rules
		}
		if err := b.startWith(ctx, n, rounds); err != nil {
			return fmt.Errorf("%s rules: %w", sizeName(n), err)
		}
	}
	b.note("HAProxy's time ends with its first accepted connection, qrjump's time with the log line \"qrjump ready\"; both begin " +
		"with the start of the process. " +
		"For the rows \"from the store\", the snapshot file is removed before each start.")
	return nil
}

func (b *bench) startWith(ctx context.Context, n, rounds int) error {
	set := rulegen.New(n, 1)
	mapFile, err := b.haproxyMap(set)
	if err != nil {
		return err
	}
	kept, err := b.dataFolder(ctx, set)
	if err != nil {
		return err
	}
	var proxy, proxyMemory, fromStore, fromSnapshot, memories []float64
	reference := newOracle(rulegen.Take(set.Links(true, 51), 1000))
	if err := reference.addSet(set); err != nil {
		return err
	}
	measure := func(checked bool) (float64, error) {
		began := time.Now()
		q, err := b.serve(ctx, serve{data: kept, fast: true, core: -1})
		if err != nil {
			return 0, err
		}
		defer q.stop()
		took := time.Since(began).Seconds()
		if !checked {
			return took, nil
		}
		memories = append(memories, memory(q.pid(), "VmRSS"))
		key, err := q.scanKey(ctx)
		if err != nil {
			return 0, err
		}
		return took, equalOurs(ctx, q.scanURL, key, set, reference)
	}
	for round := range rounds {
		began := time.Now()
		p, _, err := b.haproxy(ctx, mapFile)
		if err != nil {
			return err
		}
		proxy = append(proxy, time.Since(began).Seconds())
		proxyMemory = append(proxyMemory, memory(p.pid(), "VmRSS"))
		p.stop()
		if round == 0 || n <= 1_000_000 {
			for _, file := range snapshotFiles(kept) {
				if err := os.Remove(file); err != nil {
					return err
				}
			}
			took, err := measure(round == 0)
			if err != nil {
				return err
			}
			fromStore = append(fromStore, took)
		}
		if len(snapshotFiles(kept)) == 0 {
			continue
		}
		took, err := measure(round == 0)
		if err != nil {
			return err
		}
		fromSnapshot = append(fromSnapshot, took)
	}
	name := sizeName(n)
	b.check("With %s rules, the server answered %d links exactly as the slow reference matcher does, after each "+
		"kind of start.", name, len(reference.texts))
	last := n == sizes[len(sizes)-1]
	b.row(Row{What: name + " rules ready after start, from the store", Anchor: "HAProxy's load of the same", Values: ratios(fromStore, proxy), Main: last, Target: target(last && len(fromSnapshot) == 0, 0.25)})
	b.point("start", "qrjump, from the store", "rules", "time until ready / HAProxy's load", float64(n), quantile(ratios(fromStore, proxy), 0.5))
	if len(fromSnapshot) > 0 {
		b.row(Row{What: name + " rules ready after start, from the snapshot file", Anchor: "HAProxy's load of the same", Values: ratios(fromSnapshot, proxy), Main: last, Target: target(last, 0.25)})
		b.point("start", "qrjump, from the snapshot file", "rules", "time until ready / HAProxy's load", float64(n), quantile(ratios(fromSnapshot, proxy), 0.5))
	} else {
		b.missing("%s rules ready after start, from the snapshot file: the server writes none", name)
	}
	b.row(Row{What: "resident memory after start, " + name + " rules", Anchor: "HAProxy with the same",
		Values: ratios(memories, proxyMemory)})
	return nil
}
