package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// propagation measures the time from a publish on one node to the first new answer of another node, against an insert
// with a trigger that notifies.
func (b *bench) propagation(ctx context.Context) error {
	url, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	each := b.scaled(100, 20)
	nodes, tokens, err := b.twoNodes(ctx, url, each)
	if err != nil {
		return err
	}
	defer nodes[0].stop()
	defer nodes[1].stop()
	key, err := nodes[0].scanKey(ctx)
	if err != nil {
		return err
	}
	// The other node learns of the key with a delay.
	deadline := time.Now().Add(time.Minute)
	for call(ctx, http.MethodPost, nodes[1].scanURL+"/scan/v1/resolve", key, `{"text":"x"}`, nil) != nil {
		if time.Now().After(deadline) {
			return fmt.Errorf("the second node does not accept the scan key of the first after one minute")
		}
		time.Sleep(50 * time.Millisecond)
	}
	notifier, err := newNotifier(ctx, url)
	if err != nil {
		return err
	}
	defer notifier.close(ctx)
	watcher, err := newWatcher(nodes[1].scanURL, key)
	if err != nil {
		return err
	}
	defer watcher.conn.Close()

	var medians, p99s, callMedians []float64
	for round := range b.rounds {
		var ours, anchor, calls []float64
		for i := range each {
			// Wait until the scans of the previous round are flushed and stored.
			time.Sleep(quiet)
			notified, err := notifier.notify(ctx)
			if err != nil {
				return err
			}
			anchor = append(anchor, notified.Seconds())
			link := propagationPrefix(round, i)
			latency, callTime, err := watcher.publish(ctx, nodes[0], tokens[round], link)
			if err != nil {
				return err
			}
			ours, calls = append(ours, latency.Seconds()), append(calls, callTime.Seconds())
		}
		medians = append(medians, quantile(ours, 0.5)/quantile(anchor, 0.5))
		p99s = append(p99s, quantile(ours, 0.99)/quantile(anchor, 0.99))
		callMedians = append(callMedians, quantile(calls, 0.5)/quantile(anchor, 0.5))
	}
	b.check("After each of %d publishes, the other node gave 20 more answers after its first new answer, and none of them "+
		"was outdated.", b.rounds*each)
	b.row(Row{What: "publish on a node → new answer on the other, median", Anchor: "insert + trigger NOTIFY, median", Target: 1.5, Values: medians, Main: true})
	b.row(Row{What: "publish on a node → new answer on the other, p99", Anchor: "insert + trigger NOTIFY, p99", Target: 3, Values: p99s, Main: true})
	b.row(Row{What: "the publish call itself, median", Anchor: "insert + trigger NOTIFY, median", Values: callMedians})
	b.note("The measured time begins before the call of qrcodejumppublish and ends when the scan API of the other node first "+
		"answers with the published rule. "+
		"The benchmark calls the scan API of the other node every 0.1 ms over one connection, and this API answers before its scans are flushed. "+
		"Each pair of a publish and an insert begins after 0.2 s without load. Each round has %d publishes and as many "+
		"inserts, in turn.", each)
	return nil
}

func propagationPrefix(round, i int) string {
	return fmt.Sprintf("https://r%d.propagation.example/t/%d/", round, i)
}

// twoNodes starts two nodes on one database and returns an access token for each round. Each round has its own Mini
// Program with unpublished rules, because an account may publish 100 times.
func (b *bench) twoNodes(ctx context.Context, url string, each int) (nodes []*qrjump, tokens []string, err error) {
	var seed strings.Builder
	seed.WriteString("accounts:\n")
	for round := range b.rounds {
		fmt.Fprintf(&seed, "  - {appid: wxpropagation%04d, kind: mini_program, name: Node, secret: bench-secret%04d, certified: true, versions: [release]}\n", round, round)
	}
	seed.WriteString("rules:\n")
	for round := range b.rounds {
		for i := range each {
			fmt.Fprintf(&seed, "  - {owner: wxpropagation%04d, prefix: \"%s\", path: pages/index/index, published: false}\n", round, propagationPrefix(round, i))
		}
	}
	// The polls are scans too: with synchronous commits their flushes would compete with the publish
	// for the disk.
	seed.WriteString("settings:\n  verification: trust\n  rule_rate_limit: null\n  scan_commit: async\n")
	file := filepath.Join(b.work, "propagation.yaml")
	if err := os.WriteFile(file, []byte(seed.String()), 0o644); err != nil {
		return nil, nil, err
	}
	first, err := b.serve(ctx, serve{data: filepath.Join(b.work, "node-0"), fast: true, core: -1, args: []string{"--database", url, "--seed", file}})
	if err != nil {
		return nil, nil, err
	}
	// All nodes need the same master key.
	master, err := os.ReadFile(filepath.Join(first.data, "master.key"))
	if err == nil {
		err = os.MkdirAll(filepath.Join(b.work, "node-1"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(b.work, "node-1", "master.key"), master, 0o600)
	}
	if err != nil {
		first.stop()
		return nil, nil, err
	}
	second, err := b.serve(ctx, serve{data: filepath.Join(b.work, "node-1"), fast: true, core: -1, args: []string{"--database", url}})
	if err != nil {
		first.stop()
		return nil, nil, err
	}
	nodes = []*qrjump{first, second}
	for round := range b.rounds {
		var got struct {
			AccessToken string `json:"access_token"`
		}
		address := fmt.Sprintf("%s/cgi-bin/token?grant_type=client_credential&appid=wxpropagation%04d&secret=bench-secret%04d", first.url, round, round)
		if err := call(ctx, http.MethodGet, address, "", nil, &got); err != nil {
			first.stop()
			second.stop()
			return nil, nil, err
		}
		tokens = append(tokens, got.AccessToken)
	}
	return nodes, tokens, nil
}

// notifier is the anchor: one connection inserts, another one listens.
type notifier struct {
	writer, listener *pgx.Conn
	n                int64
}

func newNotifier(ctx context.Context, url string) (*notifier, error) {
	b := &notifier{}
	var err error
	if b.writer, err = pgx.Connect(ctx, url); err != nil {
		return nil, err
	}
	if b.listener, err = pgx.Connect(ctx, url); err != nil {
		return nil, err
	}
	for _, text := range []string{
		`CREATE TABLE bench_changes (id BIGINT PRIMARY KEY, key TEXT NOT NULL)`,
		`CREATE FUNCTION bench_ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('bench', NEW.id::text); RETURN NULL; END $$`,
		`CREATE TRIGGER bench_ring AFTER INSERT ON bench_changes FOR EACH ROW EXECUTE FUNCTION bench_ring()`,
	} {
		if _, err := b.writer.Exec(ctx, text); err != nil {
			return nil, err
		}
	}
	if _, err := b.writer.Prepare(ctx, "ring", `INSERT INTO bench_changes (id, key) VALUES ($1, $2)`); err != nil {
		return nil, err
	}
	_, err = b.listener.Exec(ctx, `LISTEN bench`)
	return b, err
}

func (b *notifier) notify(ctx context.Context) (time.Duration, error) {
	b.n++
	type notification struct {
		receivedAt time.Time
		err        error
	}
	done := make(chan notification, 1)
	go func() {
		n, err := b.listener.WaitForNotification(ctx)
		receivedAt := time.Now()
		if err == nil && n.Payload != fmt.Sprint(b.n) {
			err = fmt.Errorf("notification %s, not %d", n.Payload, b.n)
		}
		done <- notification{receivedAt, err}
	}()
	began := time.Now()
	if _, err := b.writer.Exec(ctx, "ring", b.n, "https://propagation.example/t/"); err != nil {
		return 0, err
	}
	received := <-done
	return received.receivedAt.Sub(began), received.err
}

func (b *notifier) close(ctx context.Context) {
	b.writer.Close(ctx)
	b.listener.Close(ctx)
}

// pause is the time between two polls of a watcher; without it, the watcher occupies a core that the nodes
// need.
const pause = 100 * time.Microsecond

// quiet is the time without load before each pair of measurements.
const quiet = 200 * time.Millisecond

// watcher polls the scan API of a node over one connection.
type watcher struct {
	conn net.Conn
	in   *bufio.Reader
	key  string
	host string
}

func newWatcher(address, key string) (*watcher, error) {
	host := strings.TrimPrefix(address, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &watcher{conn: conn, in: bufio.NewReader(conn), key: key, host: host}, nil
}

// opens reports whether a link opens a Mini Program now.
func (w *watcher) opens(link string) (bool, error) {
	body := fmt.Sprintf(`{"text":"%sx"}`, link)
	if _, err := fmt.Fprintf(w.conn, "POST /scan/v1/resolve HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", w.host, w.key, len(body), body); err != nil {
		return false, err
	}
	res, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	var d struct{ Action, Detail string }
	if err := json.NewDecoder(res.Body).Decode(&d); err != nil {
		return false, err
	}
	if res.StatusCode != http.StatusOK {
		return false, fmt.Errorf("resolve: %s %s", res.Status, d.Detail)
	}
	return d.Action == "open_mini_program", nil
}

// publish publishes on a node and polls the other node until it returns the new answer.
func (w *watcher) publish(ctx context.Context, node *qrjump, token, link string) (latency, callTime time.Duration, err error) {
	if open, err := w.opens(link); err != nil || open {
		return 0, 0, fmt.Errorf("%s opens before it is published (%w)", link, err)
	}
	type answer struct {
		took time.Duration
		err  error
	}
	done := make(chan answer, 1)
	began := time.Now()
	go func() {
		var response struct {
			ErrCode int
			ErrMsg  string
		}
		err := call(ctx, http.MethodPost, node.url+"/cgi-bin/wxopen/qrcodejumppublish?access_token="+token, "",
			map[string]string{"prefix": link}, &response)
		if err == nil && response.ErrCode != 0 {
			err = fmt.Errorf("publish: %d %s", response.ErrCode, response.ErrMsg)
		}
		done <- answer{time.Since(began), err}
	}()
	var failed <-chan answer = done
	for {
		open, err := w.opens(link)
		if err != nil {
			return 0, 0, err
		}
		if open {
			latency = time.Since(began)
			break
		}
		select {
		case a := <-failed:
			if a.err != nil {
				return 0, 0, a.err
			}
			callTime, failed = a.took, nil
		case <-time.After(pause):
		}
		if time.Since(began) > 30*time.Second {
			return 0, 0, fmt.Errorf("not measured: the other node does not return the published rule after 30 s")
		}
	}
	if failed != nil {
		a := <-done
		if a.err != nil {
			return 0, 0, a.err
		}
		callTime = a.took
	}
	for range 20 {
		if open, err := w.opens(link); err != nil || !open {
			return 0, 0, fmt.Errorf("outdated answer after the first new answer (%w)", err)
		}
	}
	return latency, callTime, nil
}
