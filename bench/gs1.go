package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// gs1Links is the number of GTINs with links, and the number of jump rules on the same server.
const gs1Links = 1000

// resolver measures scans of serial numbers, whose GTINs have a page template, against scans of links that match jump rules.
func (b *bench) resolver(ctx context.Context) error {
	b.peer(strings.TrimSpace(version("wrk", "-v")))
	seed := &strings.Builder{}
	seed.WriteString("accounts:\n  - {appid: brand, kind: mini_program, secret: bench-secret0001, versions: [release]}\n" +
		"settings: {verification: trust, gs1_hosts: [id.example]}\nrules:\n")
	keys := make([]string, gs1Links)
	for i := range keys {
		fmt.Fprintf(seed, "  - {owner: brand, prefix: \"https://id.example/r/%06d/\", path: pages/p/p, published: true}\n", i)
		digits := fmt.Sprintf("0950600%06d", i)
		keys[i] = "01/" + digits + string(gs1.CheckDigit(digits))
	}
	seed.WriteString("gs1:\n")
	for _, key := range keys {
		fmt.Fprintf(seed, "  - {key: %s, owner: brand, wxa_path: \"pages/p/p?g={01}&s={21}\", links: [{linktype: \"gs1:pip\", "+
			"href: \"https://brand.example/{01}/{21}\", title: x, default: true}]}\n", key)
	}
	file := filepath.Join(b.work, "gs1.yaml")
	if err := os.WriteFile(file, []byte(seed.String()), 0o644); err != nil {
		return err
	}
	q, err := b.serve(ctx, serve{data: filepath.Join(b.work, "gs1"), fast: true, core: serverCore, args: []string{"--seed", file}})
	if err != nil {
		return err
	}
	defer q.stop()
	key, err := q.scanKey(ctx)
	if err != nil {
		return err
	}
	links := map[string][]string{}
	for i := range b.scaled(50_000, 5_000) { // each serial occurs once
		gtin := i * 7919 % gs1Links
		links["rule"] = append(links["rule"], fmt.Sprintf("https://id.example/r/%06d/21/S%07d", gtin, i))
		links["gs1"] = append(links["gs1"], fmt.Sprintf("https://id.example/%s/21/S%07d", keys[gtin], i))
	}
	var list []*contender
	for _, kind := range []string{"rule", "gs1"} {
		for _, text := range links[kind][:100] {
			var d struct {
				Action  string
				Matched struct{ Kind string }
			}
			if err := call(ctx, "POST", q.scanURL+"/scan/v1/resolve", key, scanBody(text), &d); err != nil {
				return err
			}
			if d.Action != "open_mini_program" || d.Matched.Kind != kind {
				return fmt.Errorf("%s: %+v, not by %s", text, d, kind)
			}
		}
		bodies, err := b.linesFile("gs1-"+kind, links[kind], scanBody)
		if err != nil {
			return err
		}
		list = append(list, &contender{name: kind, server: q, load: load{url: q.scanURL, file: bodies, method: "POST",
			path: "/scan/v1/resolve", token: key, pid: q.pid(), connections: keepAlive, duration: 2 * time.Second}})
	}
	b.check("100 scans of jump rules and 100 scans of GS1 links opened the Mini Program, each through the expected kind of match.")
	for round := range b.rounds + 1 { // the first round is a warm-up
		for i := range list {
			c := list[(i+round)%len(list)]
			r, err := b.wrk(ctx, c.load)
			if err != nil {
				return err
			}
			if _, err := c.settle(ctx); err != nil { // the aggregation of scans must not overlap the next load
				return err
			}
			if round > 0 {
				c.cpu = append(c.cpu, r.cpuPerRequest())
			}
		}
	}
	rule, product := list[0], list[1]
	b.row(Row{What: "CPU of a scan of a serial by the template of its GTIN", Anchor: "the same request as a link of a jump rule", Target: 1.2,
		Values: ratios(product.cpu, rule.cpu), Main: true,
		Note: fmt.Sprintf("median %.1f µs, the rule %.1f µs", quantile(product.cpu, 0.5)/1e3, quantile(rule.cpu, 0.5)/1e3)})
	b.note("One server has %d jump rules and as many GTINs; each GTIN has a page template and a link template with {01} and {21}. "+
		"Each scan has a different serial number. Scans of GS1 links and of jump rules are recorded durably; "+
		"after each load the benchmark waits until all scans of the load are counted.", gs1Links)
	return nil
}
