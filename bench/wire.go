package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func init() { workers["bareserver"] = bareServer }

// bareServer is the anchor of an API call: a net/http handler that reads the request body and writes a fixed answer of the
// same content.
func bareServer(ctx context.Context, args []string) error {
	address, folder := args[0], args[1]
	mux := http.NewServeMux()
	for _, call := range wireCalls {
		answer, err := os.ReadFile(filepath.Join(folder, url.PathEscape(call.name)+".answer"))
		if err != nil {
			return err
		}
		mux.HandleFunc("/"+strings.ReplaceAll(url.PathEscape(call.name), "%", "-"), func(w http.ResponseWriter, r *http.Request) {
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

// wireCalls are the API calls that an SDK makes regularly. The target is the maximum ratio to the processor time of the bare
// handler; 0 = no target, because the call writes or is limited to some times a
// minute.
var wireCalls = []struct {
	name, path string
	target     float64
	unique     bool // each request is different and sent once
}{
	{"tickettocode", "/intp/marketcode/tickettocode", 2, false},
	{"codeactivequery", "/intp/marketcode/codeactivequery", 2, false},
	{"qrcodejumpget", "/cgi-bin/wxopen/qrcodejumpget", 4, false},
	{"qrcodejumpget, get_type 1", "/cgi-bin/wxopen/qrcodejumpget", 4, false},
	{"qrcodejumpget, get_type 2", "/cgi-bin/wxopen/qrcodejumpget", 4, false},
	{"openapi/quota/get", "/cgi-bin/openapi/quota/get", 4, false},
	{"qrcodejumpadd", "/cgi-bin/wxopen/qrcodejumpadd", 0, true},
	{"qrcodejumppublish", "/cgi-bin/wxopen/qrcodejumppublish", 0, true},
	// Last, because a new token invalidates the account's other tokens.
	{"token", "/cgi-bin/token", 0, true},
	{"stable_token", "/cgi-bin/stable_token", 0, true},
}

// wireUniqueRequests is the number of requests in a round of a unique call. wireAccounts is the number of accounts that send them:
// a stable token may be requested 20 times a minute.
const wireUniqueRequests, wireAccounts = 400, 400

const wireSeed = `  default_rate_limit: null
  verification: [wire.example]
  token_daily_limit: 1000000
  rule_limit: 1000000
  publish_quota: 1000000
rules:
`

func wireAccount(i int) string { return fmt.Sprintf("wxwire%011d", i) }

// wireRules is the number of rules of the account that lists its rules.
const wireRules = 10

// wire measures the processor time of an API call: token, counters, call log, log line, metrics.
func (b *bench) wire(ctx context.Context) error {
	b.peer(strings.TrimSpace(version("wrk", "-v")))
	count := b.scaled(20_000, 2_000)
	limits := map[string]bool{}
	for _, call := range wireCalls {
		if !call.unique {
			limits[call.path+": 1000000000"] = true
		}
	}
	seed := strings.ReplaceAll(codesSeed, "{/intp/marketcode/tickettocode: 1000000000}",
		"{"+strings.Join(slices.Sorted(maps.Keys(limits)), ", ")+"}")
	var accounts strings.Builder
	for i := range wireAccounts {
		fmt.Fprintf(&accounts, "  - {appid: %s, kind: mini_program, secret: bench-secret%08d, certified: true, versions: [release]}\n",
			wireAccount(i), i)
	}
	seed = strings.Replace(seed, "settings:\n", accounts.String()+"settings:\n", 1)
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
	loads := make([][]load, len(modes)+1) // by mode (the bare handler last), then by call
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
					b.note("In the mode %s, the call log dropped %.0f calls that arrived faster than it could write.", mode.name, n)
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
		loads[len(modes)][c].path = "/" + strings.ReplaceAll(url.PathEscape(call.name), "%", "-")
	}

	for c, call := range wireCalls {
		cost := make([][]float64, len(loads))
		for round := range b.rounds + 1 { // the first round is a warm-up
			for i := range loads {
				i = (i + round) % len(loads)
				cpu, err := b.wireCost(ctx, loads[i][c], call.name, call.unique)
				if err != nil {
					return fmt.Errorf("%s: %w", call.name, err)
				}
				if round > 0 {
					cost[i] = append(cost[i], cpu)
				}
			}
		}
		bare := cost[len(modes)]
		for i, mode := range modes {
			b.row(Row{What: fmt.Sprintf("CPU of %s, %s, %d connections", call.name, mode.name, keepAlive),
				Anchor: "a bare net/http handler, the same body and answer", Target: call.target, Values: ratios(cost[i], bare),
				Main: call.target > 0, Note: fmt.Sprintf("median %.1f µs, the bare handler %.1f µs", quantile(cost[i], 0.5)/1e3,
					quantile(bare, 0.5)/1e3)})
		}
	}
	b.note("The cost is the CPU time of all threads of the server process, from before the load until all consequences of the "+
		"load are written. "+
		"The server uses the embedded SQLite database, which has %d tickets and as many codes; the account that owns rules has "+
		"%d of them. "+
		"All servers and the load generator share all cores. "+
		"The calls token, stable_token, qrcodejumpadd and qrcodejumppublish are made %d times a round, by %d accounts, and no "+
		"request is repeated; they have no target, because each of them waits for its own commit on the disk and the bare handler writes nothing.", count,
		wireRules, wireUniqueRequests, wireAccounts)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.note("The load average of the machine was %s at the end of the run; it includes the load of the "+
			"benchmark itself.", strings.Join(strings.Fields(string(load))[:3], ", "))
	}
	return nil
}

// wireLoads creates the objects that the calls refer to and returns the load of each call.
func (b *bench) wireLoads(ctx context.Context, q *qrjump, mode, count int) ([]load, error) {
	tickets, service, err := b.createTickets(ctx, q, count)
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
	var prefixes []string
	for i := range wireRules {
		prefixes = append(prefixes, fmt.Sprintf("%q", fmt.Sprintf("https://wire.example/%d/", i)))
	}
	tokens := make([]string, wireAccounts)
	for a := range tokens {
		if tokens[a], err = q.wireToken(ctx, a); err != nil {
			return nil, err
		}
	}
	var loads []load
	for i, call := range wireCalls {
		l := load{url: q.url, method: "POST", path: call.path + "?access_token=" + got.AccessToken, pid: q.pid(), server: q,
			connections: keepAlive, duration: 2 * time.Second}
		bodies := queries
		switch call.name {
		case "tickettocode":
			bodies, l.path = tickets, call.path+"?access_token="+service
		case "codeactivequery":
			l.path = call.path + "?access_token=" + service
		case "qrcodejumpget":
			bodies = []string{`{"get_type":0}`}
		case "qrcodejumpget, get_type 1":
			bodies = []string{`{"get_type":1,"prefix_list":[` + strings.Join(prefixes, ",") + `]}`}
		case "qrcodejumpget, get_type 2":
			bodies = []string{`{"get_type":2,"page_num":1,"page_size":20}`}
		case "openapi/quota/get":
			bodies = []string{`{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`}
		default: // each request is different
			l.path, l.tokens = call.path, tokens
		}
		var answer []byte
		if call.unique {
			if answer, err = l.send(ctx, call.name, 0); err != nil {
				return nil, err
			}
			if call.name == "token" { // the previous token of the account expires soon
				account := int(wireNumber.Load()) % wireAccounts
				if tokens[account], err = q.wireToken(ctx, account); err != nil {
					return nil, err
				}
			}
		} else {
			if l.file, err = b.linesFile(fmt.Sprintf("wire%d.%d", mode, i), bodies, func(s string) string { return s }); err != nil {
				return nil, err
			}
			// wrk checks only the HTTP status, and the platform API always returns 200.
			if answer, err = wireAnswer(ctx, http.MethodPost, q.url+l.path, bodies[0]); err != nil {
				return nil, fmt.Errorf("%s: %w", call.name, err)
			}
		}
		if err := os.WriteFile(filepath.Join(b.work, url.PathEscape(call.name)+".answer"), answer, 0o644); err != nil {
			return nil, err
		}
		loads = append(loads, l)
	}
	return loads, nil
}

// wireToken returns an access token of an account.
func (q *qrjump) wireToken(ctx context.Context, i int) (string, error) {
	var got struct {
		AccessToken string `json:"access_token"`
	}
	path := fmt.Sprintf("/cgi-bin/token?grant_type=client_credential&appid=%s&secret=bench-secret%08d", wireAccount(i), i)
	err := call(ctx, http.MethodGet, q.url+path, "", nil, &got)
	return got.AccessToken, err
}

// wireNumber is the number of the last unique request.
var wireNumber atomic.Int64

// send sends a unique request; number 0 uses the next number. For qrcodejumppublish it first adds the rule to publish unless
// the rules exist.
func (l load) send(ctx context.Context, name string, number int64) ([]byte, error) {
	if number == 0 {
		number = wireNumber.Add(1)
	}
	account := int(number) % len(l.tokens)
	method, path, body := http.MethodPost, l.path, ""
	switch name {
	case "token":
		method = http.MethodGet
		path += fmt.Sprintf("?grant_type=client_credential&appid=%s&secret=bench-secret%08d", wireAccount(account), account)
	case "stable_token":
		body = fmt.Sprintf(`{"grant_type":"client_credential","appid":"%s","secret":"bench-secret%08d"}`, wireAccount(account), account)
	case "qrcodejumpadd":
		path, body = path+"?access_token="+l.tokens[account], wireRule(name, number)
	case "qrcodejumppublish":
		path, body = path+"?access_token="+l.tokens[account], fmt.Sprintf(`{"prefix":"https://wire.example/%s/%d/"}`, name, number)
		if l.server != nil && !l.prepared {
			if err := l.addRule(ctx, name, number); err != nil {
				return nil, err
			}
		}
	}
	answer, err := wireAnswer(ctx, method, l.url+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return answer, nil
}

func wireRule(name string, number int64) string {
	return fmt.Sprintf(`{"prefix":"https://wire.example/%s/%d/","permit_sub_rule":1,"path":"pages/i/i","open_version":3,"is_edit":0}`,
		name, number)
}

// addRule adds the rule that request number publishes.
func (l load) addRule(ctx context.Context, name string, number int64) error {
	address := l.url + "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + l.tokens[int(number)%len(l.tokens)]
	if _, err := wireAnswer(ctx, http.MethodPost, address, wireRule(name, number)); err != nil {
		return fmt.Errorf("adding the rule to publish: %w", err)
	}
	return nil
}

// wireCost returns the processor time of a call in nanoseconds.
func (b *bench) wireCost(ctx context.Context, l load, name string, unique bool) (float64, error) {
	if !unique {
		r, err := b.wrkSettled(ctx, l)
		return r.cpuPerRequest(), err
	}
	first := wireNumber.Add(wireUniqueRequests) - wireUniqueRequests + 1
	if name == "qrcodejumppublish" && l.server != nil {
		for i := range int64(wireUniqueRequests) { // add the rules before the measurement
			if err := l.addRule(ctx, name, first+i); err != nil {
				return 0, err
			}
		}
	}
	l.prepared = true
	r, err := b.settledCost(ctx, l, func() (float64, error) {
		var all sync.WaitGroup
		var failed atomic.Pointer[error]
		for client := range int64(keepAlive) {
			all.Go(func() {
				for i := client; i < wireUniqueRequests; i += keepAlive {
					if _, err := l.send(ctx, name, first+i); err != nil {
						failed.Store(&err)
					}
				}
			})
		}
		all.Wait()
		if err := failed.Load(); err != nil {
			return 0, *err
		}
		return wireUniqueRequests, nil
	})
	return r.cpuPerRequest(), err
}

// wireAnswer returns the response of a call that must succeed.
func wireAnswer(ctx context.Context, method, address, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
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
	var response struct{ ErrCode int }
	if err := json.Unmarshal(answer, &response); err != nil || response.ErrCode != 0 {
		return nil, errors.Join(err, fmt.Errorf("answered %s", bytes.TrimSpace(answer)))
	}
	return answer, nil
}

// wrkSettled is like wrkUnpinned, but the processor time includes all consequences of the load: it waits until the call log
// is written.
func (b *bench) wrkSettled(ctx context.Context, l load) (wrkResult, error) {
	return b.settledCost(ctx, l, func() (float64, error) {
		r, err := b.wrkUnpinned(ctx, l)
		return r.requests, err
	})
}

// settledCost runs requests, waits until the call log is written and returns the number of requests and the processor time.
func (b *bench) settledCost(ctx context.Context, l load, requests func() (float64, error)) (r wrkResult, err error) {
	before, err := cpu(l.pid)
	if err != nil {
		return r, err
	}
	r.requests, err = requests()
	for waiting := 1.0; err == nil && l.server != nil && waiting > 0; {
		time.Sleep(50 * time.Millisecond)
		waiting, err = l.server.metric(ctx, "qrjump_call_log_queue_length")
	}
	if err != nil {
		return r, err
	}
	after, err := cpu(l.pid)
	r.cpu = after - before
	return r, err
}
