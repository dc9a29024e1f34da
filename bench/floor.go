package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/bench/rulegen"
)

// floors are the two ways to answer a scan. The target is the upper limit of the ratio of the scan listener's cost to the cost of
// the floor.
var floors = []struct {
	name       string
	durability string // of the scan listener
	args       []string
	target     float64
}{
	{"after a group commit", "sync", []string{"floor.log"}, 1.15},
	{"at once", "async", nil, 1.4},
}

// floor measures the scan listener against the floor, a bare event loop that reads the same requests and writes the same answers.
func (b *bench) floor(ctx context.Context) error {
	b.peer(strings.TrimSpace(version("wrk", "-v")))
	set := rulegen.New(b.scaled(1_000_000, 10_000), 1)
	kept, err := b.dataFolder(ctx, set)
	if err != nil {
		return err
	}
	reference := newOracle(rulegen.Take(set.Links(false, 31), 10_000))
	if err := reference.addSet(set); err != nil {
		return err
	}
	bodies, err := b.linesFile("floor-bodies", reference.texts, scanBody)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}

	var list []*contender // pairs of qrjump and floor, in the order of floors
	for i, way := range floors {
		v := variant{name: "scan listener, " + way.durability, durability: way.durability, fast: true}
		ours, err := b.startVariant(ctx, kept, fmt.Sprintf("floor-%d", i), v, set, reference, bodies)
		if err != nil || ours == nil {
			return err
		}
		defer ours.server.stop()
		answers, err := b.floorAnswers(ctx, ours.load, reference.texts)
		if err != nil {
			return err
		}
		port, err := freePort()
		if err != nil {
			return err
		}
		address := "127.0.0.1:" + strconv.Itoa(port)
		args := []string{"floorserver", address, answers}
		for _, name := range way.args {
			args = append(args, filepath.Join(b.work, name))
		}
		p, err := start(ctx, filepath.Join(b.work, "floorserver-"+strconv.Itoa(i)), serverCore, self, args...)
		if err != nil {
			return err
		}
		defer p.stop()
		if err := p.listening(ctx, address, time.Minute); err != nil {
			return err
		}
		floor := &contender{name: "floor, " + way.name, load: ours.load}
		floor.load.url, floor.load.pid = "http://"+address, p.pid()
		if err := equalOneByOne(ctx, floor.load.url, floor.load.token, set, reference, 1000); err != nil {
			return fmt.Errorf("%s: %w", floor.name, err)
		}
		b.check("For 1000 links, the bare event loop that answers %s gave the same answers as the slow reference matcher.", way.name)
		list = append(list, ours, floor)
	}
	for _, connections := range []int{64, 256, 1024} {
		if err := b.floorRows(ctx, list, connections); err != nil {
			return fmt.Errorf("%d connections: %w", connections, err)
		}
	}
	b.note("The bare event loop (also called the floor) is one thread in epoll_wait. "+
		"The event loop reads the same POST request as qrjump, finds the link between two fixed texts, looks it up in a map of %d links "+
		"and writes the answer that qrjump gave, with a precomputed header and length. "+
		"The event loop checks no key, creates no scan id and counts nothing. "+
		"In the variant with a group commit, the event loop reads until no request is left, appends %d bytes a scan to a file, "+
		"calls fdatasync and answers all requests. The qrjump server has %s rules. The server and the load generator have a core each. "+
		"The ratio compares CPU time while the load runs; the row below each target also includes the CPU time that qrjump "+
		"spends until the last scan is counted.", len(reference.texts), recordSize, sizeName(set.N))
	return nil
}

// floorAnswers writes a JSON file with qrjump's answer to each link, keyed by the link as it is encoded in a request, and returns
// its path.
func (b *bench) floorAnswers(ctx context.Context, l load, links []string) (string, error) {
	answers := make(map[string]string, len(links))
	i := 0
	err := stream(ctx, l.url, l.token, links, func(line []byte) error {
		quoted, err := json.Marshal(links[i])
		answers[string(quoted[1:len(quoted)-1])] = string(line)
		i++
		return err
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(answers)
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.work, "floor-answers.json")
	return file, os.WriteFile(file, text, 0o644)
}

// floorRows measures all contenders with a number of connections.
func (b *bench) floorRows(ctx context.Context, list []*contender, connections int) error {
	for _, c := range list {
		c.cpu, c.cpuTotal = nil, nil
	}
	for round := range min(b.rounds, 5) + 1 { // the first round is a warm-up
		for i := range list {
			c := list[(i+round)%len(list)]
			l := c.load
			l.connections, l.duration = connections, 2*time.Second
			if round == 0 {
				l.duration = time.Second
			}
			before, err := cpu(l.pid)
			if err != nil {
				return err
			}
			r, err := b.wrk(ctx, l)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			after := before + r.cpu
			if c.server != nil {
				if after, err = c.settle(ctx); err != nil {
					return err
				}
			}
			if round > 0 {
				c.cpu = append(c.cpu, r.cpuPerRequest())
				c.cpuTotal = append(c.cpuTotal, float64((after-before).Nanoseconds())/r.requests)
			}
		}
	}
	for i, way := range floors {
		ours, floor := list[2*i], list[2*i+1]
		anchor := "a bare event loop that answers " + way.name
		note := fmt.Sprintf("median %.1f µs, the floor %.1f µs", quantile(ours.cpu, 0.5)/1e3, quantile(floor.cpu, 0.5)/1e3)
		b.row(Row{What: fmt.Sprintf("CPU of a scan, %d connections, scan_commit %s", connections, way.durability),
			Anchor: anchor, Target: way.target, Values: ratios(ours.cpu, floor.cpu), Main: true, Note: note})
		b.row(Row{What: fmt.Sprintf("the same, %d connections, until the last scan is counted, %s", connections, way.durability),
			Anchor: anchor, Values: ratios(ours.cpuTotal, floor.cpu)})
	}
	return nil
}
