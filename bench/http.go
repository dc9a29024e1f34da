package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/bench/rulegen"
)

const keepAlive = 64 // connections, as in the performance targets

// scanBody returns the request body of one scan.
func scanBody(link string) string {
	text, _ := json.Marshal(link)
	return `{"text":` + string(text) + `,"user":"user-` + fmt.Sprint(len(link)*7919%1000) + `","source":"scan"}`
}

// contender is a server that receives the same load as the others.
type contender struct {
	name string
	load load
	cpu  []float64 // nanoseconds a request, by round
	rate []float64 // requests a second
	p99  []float64
	// cpuTotal includes the aggregation of the scans
	cpuTotal []float64
	// for qrjump only: requests and processor time including the aggregation of the scans
	server         *qrjump
	requests       float64
	before, during time.Duration
}

// settle waits until every scan is aggregated and returns the processor time of the server until then.
func (c *contender) settle(ctx context.Context) (time.Duration, error) {
	if err := c.server.admin(ctx, http.MethodGet, "/statistics?wait=true", nil, nil); err != nil {
		return 0, err
	}
	return cpu(c.load.pid)
}

// http measures resolve against HAProxy and nginx with the same rules.
func (b *bench) http(ctx context.Context) error {
	set := rulegen.New(b.scaled(1_000_000, 10_000), 1)
	b.peer(version("haproxy", "-v"))
	b.peer(version("nginx", "-v"))
	b.peer(strings.TrimSpace(version("wrk", "-v")))

	mapFile, err := b.haproxyMap(set)
	if err != nil {
		return err
	}
	proxy, proxyURL, err := b.haproxy(ctx, mapFile)
	if err != nil {
		return err
	}
	defer proxy.stop()
	web, webURL, err := b.nginx(ctx, set)
	if err != nil {
		return err
	}
	defer web.stop()
	kept, err := b.dataFolder(ctx, set)
	if err != nil {
		return err
	}

	links := rulegen.Take(set.Links(false, 21), 50_000)
	queries, err := b.linesFile("queries", links, queryFor)
	if err != nil {
		return err
	}
	bodies, err := b.linesFile("bodies", links, scanBody)
	if err != nil {
		return err
	}
	exact, err := b.linesFile("exact", exactLinks(set, 50_000), queryFor)
	if err != nil {
		return err
	}
	static, err := b.linesFile("static", []string{""}, func(string) string { return "/static" })
	if err != nil {
		return err
	}

	duration := 3 * time.Second
	list := []*contender{
		{name: "HAProxy map_beg", load: load{url: proxyURL, file: queries, method: "GET", pid: proxy.pid()}},
		{name: "nginx return 302", load: load{url: webURL, file: static, method: "GET", pid: web.pid()}},
		{name: "nginx map, exact keys only", load: load{url: webURL, file: exact, method: "GET", pid: web.pid()}},
	}
	reference := newOracle(rulegen.Take(set.Links(false, 31), 10_000))
	if err := reference.addSet(set); err != nil {
		return err
	}
	if err := equalHAProxy(ctx, proxyURL, set, reference); err != nil {
		return err
	}
	b.check("HAProxy answered %d links, of which %d match a rule, exactly as the slow reference "+
		"matcher does.", len(reference.texts), reference.hits())
	if err := equalNginx(ctx, webURL, set, 2000); err != nil {
		return err
	}
	b.check("nginx answered 2000 requests with exact keys correctly.")

	ours := map[string]*contender{}
	for i, v := range variants {
		c, err := b.startVariant(ctx, kept, fmt.Sprintf("http-%d", i), v, set, reference, bodies)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		defer c.server.stop()
		ours[v.name] = c
		list = append(list, c)
	}
	for round := range b.rounds + 1 { // the first round is a warm-up
		if round == 1 {
			for _, c := range ours {
				if c.before, err = c.settle(ctx); err != nil {
					return err
				}
			}
		}
		for i := range list {
			c := list[(i+round)%len(list)]
			l := c.load
			l.connections, l.duration = keepAlive, duration
			if round == 0 {
				l.duration = time.Second
			}
			r, err := b.wrk(ctx, l)
			if err != nil {
				return err
			}
			if round > 0 {
				c.cpu, c.rate, c.p99 = append(c.cpu, r.cpuPerRequest()), append(c.rate, r.requests/r.seconds), append(c.p99, r.p99)
				c.requests += r.requests
			}
		}
	}
	for _, c := range ours {
		after, err := c.settle(ctx)
		if err != nil {
			return err
		}
		c.during = after - c.before
	}
	anchor := list[0]
	size := sizeName(set.N)
	for i, v := range variants {
		c := ours[v.name]
		if c == nil {
			continue
		}
		row := Row{What: fmt.Sprintf("HTTP resolve, %s rules, CPU a request, %s", size, v.name), Anchor: "HAProxy map_beg, the same rules",
			Values: ratios(c.cpu, anchor.cpu), Main: i == 0}
		if i == 0 {
			row.Target = 0.75
		}
		b.row(row)
		b.point("http", "qrjump, "+v.name, "", "CPU a request / HAProxy map_beg", 0, quantile(ratios(c.cpu, anchor.cpu), 0.5))
	}
	for _, c := range list[1:3] {
		b.row(Row{What: "the same, " + c.name, Anchor: "HAProxy map_beg", Values: ratios(c.cpu, anchor.cpu)})
		b.point("http", c.name, "", "CPU a request / HAProxy map_beg", 0, quantile(ratios(c.cpu, anchor.cpu), 0.5))
	}
	b.point("http", "HAProxy map_beg", "", "CPU a request / HAProxy map_beg", 0, 1)
	first := ours[variants[0].name]
	if first == nil {
		return nil
	}
	b.row(Row{What: "the same with all that follows, the counting of scans too, " + variants[0].name, Anchor: "HAProxy map_beg, its median",
		Values: []float64{float64(first.during.Nanoseconds()) / first.requests / quantile(anchor.cpu, 0.5)}})
	b.row(Row{What: "requests a second on one core, " + variants[0].name, Anchor: "HAProxy map_beg",
		Values: ratios(first.rate, anchor.rate)})
	b.row(Row{What: "p99 at full load, " + variants[0].name, Anchor: "HAProxy map_beg", Values: ratios(first.p99, anchor.p99)})
	b.row(Row{What: "HTTP resolve against a static answer, CPU a request", Anchor: "nginx return 302",
		Values: ratios(first.cpu, list[1].cpu)})
	b.row(Row{What: "resident memory of the server, " + size + " rules", Anchor: "HAProxy with the same rules",
		Values: []float64{memory(first.load.pid, "VmRSS") / memory(proxy.pid(), "VmRSS")}})
	// A stream: many scans in one request.
	var lines []float64
	for range b.rounds {
		cost, err := streamCost(ctx, first.load, links)
		if err != nil {
			return err
		}
		lines = append(lines, cost)
	}
	b.row(Row{What: "one line of an NDJSON stream, CPU", Anchor: "one request", Values: ratios(lines, first.cpu)})
	b.note(
		"HAProxy and nginx receive `GET /?u=<link, percent-encoded>` and answer 302 with a Location header. "+
			"The qrjump server receives `POST /scan/v1/resolve` with a scan key and a JSON body (text, user, source), "+
			"and answers 200 with a JSON body: scan id, page with its query, and the match. "+
			"The load generator keeps %d connections to each program open; the server and the load generator have a core each.", keepAlive)
	return nil
}

// startVariant starts qrjump on a copy of a data folder and verifies its answers; the caller stops it. It returns nil if this qrjump does
// not support the variant.
func (b *bench) startVariant(ctx context.Context, kept, name string, v variant, set *rulegen.Set, reference *oracle,
	bodies string) (*contender, error) {
	data, err := b.copyData(kept, name)
	if err != nil {
		return nil, err
	}
	q, err := b.serve(ctx, serve{data: data, fast: v.fast, core: serverCore, args: v.args})
	if err != nil {
		return nil, err
	}
	// The hosts are invented, so no verification files can be fetched.
	changed := map[string]any{"reverify_domains": false}
	if v.durability != "" {
		changed["scan_commit"] = v.durability
	}
	if err := q.admin(ctx, http.MethodPut, "/settings", changed, nil); err != nil {
		b.missing("qrjump, %s: %v", v.name, oneLine(err.Error()))
		q.stop()
		return nil, nil
	}
	key, err := q.scanKey(ctx)
	if err == nil {
		err = equalOurs(ctx, q.scanURL, key, set, reference)
	}
	if err != nil {
		q.stop()
		return nil, fmt.Errorf("qrjump, %s: %w", v.name, err)
	}
	b.check("qrjump (%s) answered %d links exactly as the slow reference matcher does.", v.name, len(reference.texts))
	return &contender{name: v.name, server: q,
		load: load{url: q.scanURL, file: bodies, method: "POST", path: "/scan/v1/resolve", token: key, pid: q.pid()}}, nil
}

// variant is a configuration of qrjump.
type variant struct {
	name, durability string
	fast             bool
	args             []string
}

func exactLinks(set *rulegen.Set, n int) []string {
	var list []string
	for text := range set.Links(false, 41) {
		if _, query, _ := strings.Cut(text.Text, "?"); query == "" {
			list = append(list, text.Text)
		}
		if len(list) == n {
			break
		}
	}
	return list
}

// want returns the answer that a table of plain prefixes gives to link i of the reference.
func want(set *rulegen.Set, reference *oracle, i int) string {
	number := reference.governing(i)
	if number < 0 {
		return rulegen.Nothing
	}
	r := set.At(number)
	return rulegen.AppID(r.Owner) + "/" + r.Page
}

func get(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode == http.StatusFound {
		location := res.Header.Get("Location")
		if _, rest, ok := strings.Cut(location, "://"); ok { // nginx returns an absolute URL
			_, location, _ = strings.Cut(rest, "/")
		}
		return strings.TrimPrefix(location, "/"), nil
	}
	return string(bytes.TrimSpace(body)), nil
}

func equalHAProxy(ctx context.Context, address string, set *rulegen.Set, reference *oracle) error {
	for i, text := range reference.texts {
		got, err := get(ctx, address+queryFor(text))
		if err != nil {
			return err
		}
		if w := want(set, reference, i); got != w {
			return fmt.Errorf("%s: HAProxy says %q, the slow matcher %q", text, got, w)
		}
	}
	return nil
}

func equalNginx(ctx context.Context, address string, set *rulegen.Set, n int) error {
	for i := range n {
		r := set.At(i * 7919 % set.N)
		if r.Kind != rulegen.Exact {
			continue
		}
		got, err := get(ctx, address+queryFor(r.Prefix))
		if err != nil {
			return err
		}
		if w := set.Answer(r); got != w {
			return fmt.Errorf("%s: nginx says %q, want %q", r.Prefix, got, w)
		}
	}
	return nil
}

// equalOurs sends the links of the reference in one stream, then the first 1000 one by one, and compares the results.
func equalOurs(ctx context.Context, address, key string, set *rulegen.Set, reference *oracle) error {
	i := 0
	err := stream(ctx, address, key, reference.texts, func(line []byte) error {
		var d struct{ Action, AppID, Path, Error string }
		if err := json.Unmarshal(line, &d); err != nil {
			return err
		}
		got := rulegen.Nothing
		if d.Action == "open_mini_program" {
			page, _, _ := strings.Cut(d.Path, "?")
			got = d.AppID + "/" + page
		}
		if w := want(set, reference, i); got != w || d.Error != "" {
			return fmt.Errorf("%s: qrjump says %q (%s), the slow matcher %q", reference.texts[i], got, line, w)
		}
		i++
		return nil
	})
	if err == nil && i != len(reference.texts) {
		err = fmt.Errorf("%d answers to %d lines", i, len(reference.texts))
	}
	if err != nil {
		return err
	}
	// Single requests take another code path in the server.
	return equalOneByOne(ctx, address, key, set, reference, 1000)
}

// equalOneByOne sends the first links in a request each and compares the results.
func equalOneByOne(ctx context.Context, address, key string, set *rulegen.Set, reference *oracle, n int) error {
	for i, text := range reference.texts[:min(n, len(reference.texts))] {
		var d struct{ Action, AppID, Path string }
		if err := call(ctx, http.MethodPost, address+"/scan/v1/resolve", key, scanBody(text), &d); err != nil {
			return err
		}
		got := rulegen.Nothing
		if d.Action == "open_mini_program" {
			page, _, _ := strings.Cut(d.Path, "?")
			got = d.AppID + "/" + page
		}
		if w := want(set, reference, i); got != w {
			return fmt.Errorf("%s: the server says %q, the slow matcher %q", text, got, w)
		}
	}
	return nil
}

// stream sends scans as lines of one request and calls each for every response line.
func stream(ctx context.Context, address, key string, links []string, each func([]byte) error) error {
	bodies := make([]string, len(links))
	for i, text := range links {
		bodies[i] = scanBody(text)
	}
	return streamLines(ctx, address, key, bodies, each)
}

// streamLines sends request bodies as lines of one request and calls each for every response line.
func streamLines(ctx context.Context, address, key string, bodies []string, each func([]byte) error) error {
	r, w := io.Pipe()
	go func() {
		out := bufio.NewWriterSize(w, 64<<10)
		for _, body := range bodies {
			out.WriteString(body)
			out.WriteByte('\n')
		}
		out.Flush()
		w.Close()
	}()
	defer r.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/scan/v1/resolve", r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("stream: %s: %.300s", res.Status, text)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// streamCost returns the processor time of the server in nanoseconds per line.
func streamCost(ctx context.Context, l load, links []string) (float64, error) {
	before, err := cpu(l.pid)
	if err != nil {
		return 0, err
	}
	n := 0
	if err := stream(ctx, l.url, l.token, links, func([]byte) error { n++; return nil }); err != nil {
		return 0, err
	}
	after, err := cpu(l.pid)
	if err != nil {
		return 0, err
	}
	if n != len(links) {
		return 0, fmt.Errorf("%d answers to %d lines", n, len(links))
	}
	return float64((after - before).Nanoseconds()) / float64(n), nil
}
