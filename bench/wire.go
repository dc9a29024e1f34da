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

// bareServer is the anchor of a call of the wire: a net/http handler that reads
// the same body and writes the same answer, and does nothing else.
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

// wireCalls are the calls that an SDK makes in its day, with how many times the bare
// handler's processor time each may take; 0 = no target: it is a write, or may be made
// some times a minute.
var wireCalls = []struct {
	name, path string
	target     float64
	once       bool // each request is made once
}{
	{"tickettocode", "/intp/marketcode/tickettocode", 2, false},
	{"codeactivequery", "/intp/marketcode/codeactivequery", 2, false},
	{"qrcodejumpget", "/cgi-bin/wxopen/qrcodejumpget", 4, false},
	{"qrcodejumpget, get_type 1", "/cgi-bin/wxopen/qrcodejumpget", 4, false},
	{"qrcodejumpget, get_type 2", "/cgi-bin/wxopen/qrcodejumpget", 4, false},
	{"openapi/quota/get", "/cgi-bin/openapi/quota/get", 4, false},
	{"qrcodejumpadd", "/cgi-bin/wxopen/qrcodejumpadd", 0, true},
	{"qrcodejumppublish", "/cgi-bin/wxopen/qrcodejumppublish", 0, true},
	// The last ones: a new token ends the account's others.
	{"token", "/cgi-bin/token", 0, true},
	{"stable_token", "/cgi-bin/stable_token", 0, true},
}

// wireOnce is how many requests are made in a round where each is made once, and
// wireAccounts by how many accounts: a stable token may be asked for 20 times a minute.
const wireOnce, wireAccounts = 400, 400

const wireSeed = `  default_rate_limit: null
  verification: [wire.example]
  token_daily_limit: 1000000
  rule_limit: 1000000
  publish_quota: 1000000
rules:
`

func wireAccount(i int) string { return fmt.Sprintf("wxwire%011d", i) }

// wireRules is how many rules the owner has who asks for them.
const wireRules = 10

// wire measures what a call costs around its answer: token, counts, log of
// calls, log line, metrics.
func (b *bench) wire(ctx context.Context) error {
	b.peer(strings.TrimSpace(version("wrk", "-v")))
	count := b.scaled(20_000, 2_000)
	limits := map[string]bool{}
	for _, call := range wireCalls {
		if !call.once {
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
		for round := range b.rounds + 1 { // the first warms up
			for i := range loads {
				i = (i + round) % len(loads)
				one, err := b.wireCost(ctx, loads[i][c], call.name, call.once)
				if err != nil {
					return fmt.Errorf("%s: %w", call.name, err)
				}
				if round > 0 {
					cost[i] = append(cost[i], one)
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
		wireRules, wireOnce, wireAccounts)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.note("The load average of the machine was %s at the end of the run; it includes the load of the "+
			"benchmark itself.", strings.Join(strings.Fields(string(load))[:3], ", "))
	}
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
		default: // each request is another
			l.path, l.tokens = call.path, tokens
		}
		var answer []byte
		if call.once {
			if answer, err = l.once(ctx, call.name, 0); err != nil {
				return nil, err
			}
			if call.name == "token" { // the account's token from before ends soon
				one := int(wireTurn.Load()) % wireAccounts
				if tokens[one], err = q.wireToken(ctx, one); err != nil {
					return nil, err
				}
			}
		} else {
			if l.file, err = b.linesFile(fmt.Sprintf("wire%d.%d", mode, i), bodies, func(s string) string { return s }); err != nil {
				return nil, err
			}
			// wrk looks at the status alone, and the wire always answers 200.
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

// wireToken is an access token of an account.
func (q *qrjump) wireToken(ctx context.Context, i int) (string, error) {
	var got struct {
		AccessToken string `json:"access_token"`
	}
	path := fmt.Sprintf("/cgi-bin/token?grant_type=client_credential&appid=%s&secret=bench-secret%08d", wireAccount(i), i)
	err := call(ctx, http.MethodGet, q.url+path, "", nil, &got)
	return got.AccessToken, err
}

// wireTurn numbers the requests that are made once.
var wireTurn atomic.Int64

// once makes a request that nobody made before; turn 0 takes a number of its own. Publishes
// are of rules that are there: a turn adds and publishes.
func (l load) once(ctx context.Context, name string, turn int64) ([]byte, error) {
	if turn == 0 {
		turn = wireTurn.Add(1)
	}
	account := int(turn) % len(l.tokens)
	method, path, body := http.MethodPost, l.path, ""
	switch name {
	case "token":
		method = http.MethodGet
		path += fmt.Sprintf("?grant_type=client_credential&appid=%s&secret=bench-secret%08d", wireAccount(account), account)
	case "stable_token":
		body = fmt.Sprintf(`{"grant_type":"client_credential","appid":"%s","secret":"bench-secret%08d"}`, wireAccount(account), account)
	case "qrcodejumpadd":
		path, body = path+"?access_token="+l.tokens[account], wireRule(name, turn)
	case "qrcodejumppublish":
		path, body = path+"?access_token="+l.tokens[account], fmt.Sprintf(`{"prefix":"https://wire.example/%s/%d/"}`, name, turn)
		if l.server != nil && !l.prepared {
			if err := l.addTurn(ctx, name, turn); err != nil {
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

func wireRule(name string, turn int64) string {
	return fmt.Sprintf(`{"prefix":"https://wire.example/%s/%d/","permit_sub_rule":1,"path":"pages/i/i","open_version":3,"is_edit":0}`,
		name, turn)
}

// addTurn adds the rule that a turn publishes.
func (l load) addTurn(ctx context.Context, name string, turn int64) error {
	address := l.url + "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + l.tokens[int(turn)%len(l.tokens)]
	if _, err := wireAnswer(ctx, http.MethodPost, address, wireRule(name, turn)); err != nil {
		return fmt.Errorf("adding what is published: %w", err)
	}
	return nil
}

// wireCost is the processor time of a call, in nanoseconds.
func (b *bench) wireCost(ctx context.Context, l load, name string, once bool) (float64, error) {
	if !once {
		r, err := b.wrkAll(ctx, l)
		return r.cpuPerRequest(), err
	}
	first := wireTurn.Add(wireOnce) - wireOnce + 1
	if name == "qrcodejumppublish" && l.server != nil {
		for i := range int64(wireOnce) { // what is published is there before the clock runs
			if err := l.addTurn(ctx, name, first+i); err != nil {
				return 0, err
			}
		}
	}
	l.prepared = true
	r, err := b.allOf(ctx, l, func() (float64, error) {
		var all sync.WaitGroup
		var failed atomic.Pointer[error]
		for client := range int64(keepAlive) {
			all.Go(func() {
				for i := client; i < wireOnce; i += keepAlive {
					if _, err := l.once(ctx, name, first+i); err != nil {
						failed.Store(&err)
					}
				}
			})
		}
		all.Wait()
		if err := failed.Load(); err != nil {
			return 0, *err
		}
		return wireOnce, nil
	})
	return r.cpuPerRequest(), err
}

// wireAnswer is the answer to a call that must succeed.
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
	var told struct{ ErrCode int }
	if err := json.Unmarshal(answer, &told); err != nil || told.ErrCode != 0 {
		return nil, errors.Join(err, fmt.Errorf("answered %s", bytes.TrimSpace(answer)))
	}
	return answer, nil
}

// wrkAll is wrkFree with the processor time of all that follows: the calls that
// wait for the log are written too.
func (b *bench) wrkAll(ctx context.Context, l load) (wrkResult, error) {
	return b.allOf(ctx, l, func() (float64, error) {
		r, err := b.wrkFree(ctx, l)
		return r.requests, err
	})
}

// allOf is the processor time of so many requests as a function makes, and of all that follows.
func (b *bench) allOf(ctx context.Context, l load, requests func() (float64, error)) (r wrkResult, err error) {
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
