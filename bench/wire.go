package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func init() { workers["bareserver"] = bareServer }

// bareServer is the anchor of a call of the wire: a net/http handler that reads
// the same body and writes the same answer, and does nothing else.
func bareServer(ctx context.Context, args []string) error {
	address, folder := args[0], args[1]
	mux := http.NewServeMux()
	for _, call := range wireCalls {
		answer, err := os.ReadFile(filepath.Join(folder, call.name+".answer"))
		if err != nil {
			return err
		}
		mux.HandleFunc("POST "+call.path, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				return
			}
			w.Header().Set("Content-Type", "application/json; encoding=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			w.Write(answer)
		})
	}
	server := &http.Server{Addr: address, Handler: mux}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

// wireCalls are the calls that are measured, with how many times the bare
// handler's processor time each may take.
var wireCalls = []struct {
	name, path string
	target     float64
}{
	{"tickettocode", "/intp/marketcode/tickettocode", 2},
	{"codeactivequery", "/intp/marketcode/codeactivequery", 2},
	{"qrcodejumpget", "/cgi-bin/wxopen/qrcodejumpget", 4},
}

const wireSeed = `  other_rate_limit: 0
  verification: [wire.example]
rules:
`

// wireRules is how many rules the owner has who asks for them.
const wireRules = 10

// wire measures what a call costs around its answer: token, counts, log of
// calls, log line, metrics.
func (b *bench) wire(ctx context.Context) error {
	b.peer(strings.TrimSpace(version("wrk", "-v")))
	count := b.scaled(20_000, 2_000)
	seed := strings.ReplaceAll(codesSeed, "{/intp/marketcode/tickettocode: 1000000000}",
		"{/intp/marketcode/tickettocode: 1000000000, /intp/marketcode/codeactivequery: 1000000000, /cgi-bin/wxopen/qrcodejumpget: 1000000000}")
	seed += wireSeed
	for i := range wireRules {
		seed += fmt.Sprintf(
			"  - {owner: wxminiprogram0001, prefix: \"https://wire.example/%d/\", path: pages/table/table, published: true}\n", i)
	}
	file := filepath.Join(b.work, "wire.yaml")
	if err := os.WriteFile(file, []byte(seed), 0o644); err != nil {
		return err
	}

	modes := []struct {
		name string
		args []string
	}{{"production", nil}, {"--dev", []string{"--dev"}}}
	loads := make([][]load, len(modes)+1) // by mode, the bare handler last; then by call
	for i, mode := range modes {
		q, err := b.serve(ctx, serve{data: filepath.Join(b.work, "wire"+strconv.Itoa(i)), core: -1,
			args: append([]string{"--seed", file, "--code-prefix", "BENCH.EXAMPLE/"}, mode.args...)})
		if err != nil {
			return err
		}
		defer q.stop()
		if loads[i], err = b.wireLoads(ctx, q, i, count); err != nil {
			return err
		}
		defer func() {
			for _, name := range []string{"qrjump_call_log_dropped_total"} {
				if n, err := q.metric(ctx, name); err == nil {
					b.note("%s: calls that came too fast for the log of calls: %.0f.", mode.name, n)
				}
			}
		}()
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	bare, err := start(ctx, filepath.Join(b.work, "bareserver.log"), -1, self, "bareserver", address, b.work)
	if err != nil {
		return err
	}
	defer bare.stop()
	if err := bare.listening(ctx, address, time.Minute); err != nil {
		return err
	}
	for _, l := range loads[0] {
		l.url, l.pid, l.server = "http://"+address, bare.pid(), nil
		loads[len(modes)] = append(loads[len(modes)], l)
	}

	for c, call := range wireCalls {
		cost := make([][]float64, len(loads))
		for round := range b.rounds + 1 { // the first warms up
			for i := range loads {
				i = (i + round) % len(loads)
				r, err := b.wrkAll(ctx, loads[i][c])
				if err != nil {
					return err
				}
				if round > 0 {
					cost[i] = append(cost[i], r.cpuPerRequest())
				}
			}
		}
		bare := cost[len(modes)]
		for i, mode := range modes {
			b.row(Row{What: fmt.Sprintf("CPU of %s, %s, %d connections", call.name, mode.name, keepAlive),
				Anchor: "a bare net/http handler, the same body and answer", Target: call.target, Values: ratios(cost[i], bare), Main: true,
				Note: fmt.Sprintf("median %.1f µs, the bare handler %.1f µs", quantile(cost[i], 0.5)/1e3, quantile(bare, 0.5)/1e3)})
		}
	}
	b.note("Processor time of the server process, all its threads, from before the load until everything that follows from it is written. "+
		"The embedded store; %d tickets and as many codes; an owner of %d rules. All servers and the load share all cores.", count,
		wireRules)
	return nil
}

// wireLoads makes what the calls ask for and returns the load of each.
func (b *bench) wireLoads(ctx context.Context, q *qrjump, mode, count int) ([]load, error) {
	tickets, service, err := b.someTickets(ctx, q, count)
	if err != nil {
		return nil, err
	}
	var got struct {
		AccessToken string `json:"access_token"`
	}
	err = call(ctx, http.MethodGet, q.url+"/cgi-bin/token?grant_type=client_credential&appid=wxminiprogram0001&secret=bench-secret0001", "",
		nil, &got)
	if err != nil {
		return nil, err
	}
	var code struct {
		Batch int64 `json:"application_id"`
	}
	if err := q.wire(ctx, "tickettocode", service, tickets[0], &code); err != nil {
		return nil, err
	}
	queries := make([]string, count)
	for i := range queries {
		queries[i] = fmt.Sprintf(`{"application_id":%d,"code_index":%d}`, code.Batch, i)
	}
	var loads []load
	for i, bodies := range [][]string{tickets, queries, {`{"get_type":0}`}} {
		name, path, token := wireCalls[i].name, wireCalls[i].path, service
		if name == "qrcodejumpget" {
			token = got.AccessToken
		}
		path += "?access_token=" + token
		file, err := b.linesFile(fmt.Sprintf("wire%d.%s", mode, name), bodies, func(s string) string { return s })
		if err != nil {
			return nil, err
		}
		// wrk looks at the status alone, and the wire always answers 200.
		answer, err := wireAnswer(ctx, q.url+path, bodies[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(b.work, name+".answer"), answer, 0o644); err != nil {
			return nil, err
		}
		loads = append(loads, load{url: q.url, file: file, method: "POST", path: path, pid: q.pid(), server: q,
			connections: keepAlive, duration: 2 * time.Second})
	}
	return loads, nil
}

// wireAnswer is the answer to a call that must succeed.
func wireAnswer(ctx context.Context, address, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var told struct{ ErrCode int }
	if err := json.Unmarshal(answer, &told); err != nil || told.ErrCode != 0 {
		return nil, errors.Join(err, fmt.Errorf("answered %s", bytes.TrimSpace(answer)))
	}
	return answer, nil
}

// wrkAll is wrkFree with the processor time of all that follows: the calls that
// wait for the log are written too.
func (b *bench) wrkAll(ctx context.Context, l load) (wrkResult, error) {
	before, err := cpu(l.pid)
	if err != nil {
		return wrkResult{}, err
	}
	r, err := b.wrkFree(ctx, l)
	for waiting := 1.0; err == nil && l.server != nil && waiting > 0; {
		time.Sleep(50 * time.Millisecond)
		waiting, err = l.server.metric(ctx, "qrjump_call_log_waiting")
	}
	if err != nil {
		return r, err
	}
	after, err := cpu(l.pid)
	r.cpu = after - before
	return r, err
}
