package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// nodesAtOnce is how many nodes share the database.
const nodesAtOnce = 10

// cluster is ten nodes on one PostgreSQL that has a year of a large brand, at a small
// share of its size.
type cluster struct {
	b        *bench
	url      string
	data     string // of the first node: it has the master key
	g        *grown
	mu       sync.Mutex // guards nodes while scans are made
	nodes    []*qrjump
	key      string // of the scan API
	token    string // of the wire
	proxy    *cutting
	answered atomic.Int64
	failed   atomic.Int64 // scans that no node answered
	turned   atomic.Int64 // tries that another node answered
}

// nodes measures what ten nodes on one database do: at rest, and while nodes are
// restarted, stopped and cut off.
func (b *bench) nodes(ctx context.Context) error {
	url, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	c := &cluster{b: b, url: url, data: filepath.Join(b.work, "node0")}
	if c.g, err = fillGrown(ctx, c.data, url, grownAt(0.001*b.scale), saysIndented); err != nil {
		return err
	}
	if c.proxy, err = newCutting(url); err != nil {
		return err
	}
	defer c.proxy.close()
	defer func() {
		for _, q := range c.nodes {
			if q != nil {
				q.stop()
			}
		}
	}()
	for i := range nodesAtOnce {
		q, err := c.start(ctx, i)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, q)
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	b.note("The %d nodes share one PostgreSQL database with %s scans, %d rules and %d activations; nodes, database and clients "+
		"run on one machine.",
		nodesAtOnce, sizeName(c.g.Scans), c.g.Rules, c.g.Activations)
	for _, part := range []func(context.Context) error{c.atRest, c.everywhere, c.restarts, c.oneStopped, c.oneCutOff, c.together} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start starts a node; the last one reaches the database through the proxy.
func (c *cluster) start(ctx context.Context, i int) (*qrjump, error) {
	data := filepath.Join(c.b.work, fmt.Sprint("node", i))
	if i > 0 {
		master, err := os.ReadFile(filepath.Join(c.data, "master.key"))
		if err == nil {
			err = os.MkdirAll(data, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(data, "master.key"), master, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	url := c.url
	if i == nodesAtOnce-1 {
		url = c.proxy.url
	}
	return c.b.serve(ctx, serve{data: data, core: -1, args: []string{"--database", url, "--code-prefix", "GROWN.EXAMPLE/"}})
}

func (c *cluster) prepare(ctx context.Context) (err error) {
	first := c.nodes[0]
	if c.key, err = first.scanKey(ctx); err != nil {
		return err
	}
	settings := `{"verification":"trust","rule_rate_limit":null,"publish_quota":1000000,"rule_limit":1000000}`
	if err := first.admin(ctx, http.MethodPut, "/settings", settings, nil); err != nil {
		return err
	}
	var got struct {
		AccessToken string `json:"access_token"`
	}
	address := first.url + "/cgi-bin/token?grant_type=client_credential&appid=wxminiprogram0001&secret=bench-secret0001"
	if err := call(ctx, http.MethodGet, address, "", nil, &got); err != nil {
		return err
	}
	c.token = got.AccessToken
	for _, q := range c.nodes {
		if err := q.until(ctx, "knowing the scan key", time.Minute, 50*time.Millisecond, func() bool {
			return call(ctx, http.MethodPost, q.scanURL+"/scan/v1/resolve", c.key, `{"text":"x"}`, nil) == nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// atRest is what the nodes ask the database for while nothing happens.
func (c *cluster) atRest(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	transactions := func() (n int64, err error) {
		// What a session did is seen a second later at most.
		err = conn.QueryRow(ctx, `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`).Scan(&n)
		return n, err
	}
	used := func() (sum time.Duration, err error) {
		for _, q := range c.nodes {
			one, err := cpu(q.pid())
			if err != nil {
				return 0, err
			}
			sum += one
		}
		return sum, nil
	}
	time.Sleep(10 * time.Second) // what began with the start has ended
	var asked, busy []float64
	for range c.b.rounds {
		before, err := transactions()
		if err != nil {
			return err
		}
		spent, err := used()
		if err != nil {
			return err
		}
		began := time.Now()
		time.Sleep(10 * time.Second)
		after, err := transactions()
		if err != nil {
			return err
		}
		more, err := used()
		if err != nil {
			return err
		}
		whole := time.Since(began).Seconds() * nodesAtOnce
		asked, busy = append(asked, float64(after-before)/whole), append(busy, (more-spent).Seconds()*1000/whole)
	}
	var connections int64
	err = conn.QueryRow(ctx, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(
		&connections)
	if err != nil {
		return err
	}
	c.b.row(Row{What: "transactions of a node at rest", Unit: "a second", Values: asked, Main: true})
	c.b.row(Row{What: "processor of a node at rest", Unit: "ms a second", Values: busy})
	c.b.row(Row{What: "connections of a node to the database, at rest", Unit: "connections",
		Values: []float64{float64(connections) / nodesAtOnce}})
	return nil
}

// wire asks a node in the name of the Mini Program.
func (c *cluster) wire(ctx context.Context, q *qrjump, name, body string) error {
	var told struct {
		ErrCode int
		ErrMsg  string
	}
	if err := call(ctx, http.MethodPost, q.url+"/cgi-bin/wxopen/"+name+"?access_token="+c.token, "", body, &told); err != nil {
		return err
	}
	if told.ErrCode != 0 {
		return fmt.Errorf("%s: %d %s", name, told.ErrCode, told.ErrMsg)
	}
	return nil
}

// add adds a rule through a node, not published yet.
func (c *cluster) add(ctx context.Context, q *qrjump, link string) error {
	return c.wire(ctx, q, "qrcodejumpadd", fmt.Sprintf(`{"prefix":%q,"permit_sub_rule":1,"path":"pages/i/i","open_version":3,"is_edit":0}`,
		link))
}

// everywhere is how long a publish takes to be the answer of every node, against an
// insert whose trigger notifies one listener.
func (c *cluster) everywhere(ctx context.Context) error {
	bell, err := newBell(ctx, c.url)
	if err != nil {
		return err
	}
	defer bell.close(ctx)
	const each = 10
	var medians, worst []float64
	for round := range c.b.rounds {
		var ours, anchor []float64
		for i := range each {
			link := fmt.Sprintf("https://everywhere.example/%d-%d/", round, i)
			if err := c.add(ctx, c.nodes[i%nodesAtOnce], link); err != nil {
				return err
			}
			time.Sleep(quiet)
			notified, err := bell.ring(ctx)
			if err != nil {
				return err
			}
			anchor = append(anchor, notified.Seconds())
			took, err := c.publish(ctx, c.nodes[i%nodesAtOnce], link, c.nodes)
			if err != nil {
				return err
			}
			ours = append(ours, took.Seconds())
		}
		medians = append(medians, quantile(ours, 0.5)/quantile(anchor, 0.5))
		worst = append(worst, quantile(ours, 1)/quantile(anchor, 0.5))
	}
	c.b.row(Row{What: "publish → new answer of all ten nodes, median", Anchor: "insert + trigger NOTIFY, median", Values: medians,
		Main: true})
	c.b.row(Row{What: "publish → new answer of all ten nodes, slowest of ten", Anchor: "insert + trigger NOTIFY, median", Values: worst})
	return nil
}

// publish publishes through a node and asks each node until it opens the link.
func (c *cluster) publish(ctx context.Context, through *qrjump, link string, nodes []*qrjump) (time.Duration, error) {
	began := time.Now()
	if err := c.wire(ctx, through, "qrcodejumppublish", fmt.Sprintf(`{"prefix":%q}`, link)); err != nil {
		return 0, err
	}
	for _, q := range nodes {
		w, err := newWatcher(q.scanURL, c.key)
		if err != nil {
			return 0, err
		}
		defer w.conn.Close()
		for open := false; !open; {
			if open, err = w.opens(link); err != nil {
				return 0, err
			}
			if !open {
				time.Sleep(pause)
			}
			if time.Since(began) > time.Minute {
				return 0, fmt.Errorf("a minute after the publish of %s a node does not know it", link)
			}
		}
	}
	return time.Since(began), nil
}

// scanning lets clients scan until the function that it returns is called. A client
// whose node fails asks the next one, as a balancer would.
func (c *cluster) scanning(ctx context.Context, clients, nodes int) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	quick := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: 5 * time.Second}
	c.answered.Store(0)
	c.failed.Store(0)
	c.turned.Store(0)
	var all sync.WaitGroup
	for one := range clients {
		all.Go(func() {
			for n := one; ctx.Err() == nil; n++ {
				link := c.g.Scanned[n%len(c.g.Scanned)].Text
				if c.scan(ctx, quick, n, nodes, link) {
					c.answered.Add(1)
				} else if ctx.Err() == nil {
					c.failed.Add(1)
				}
			}
		})
	}
	return func() { cancel(); all.Wait(); quick.CloseIdleConnections() }
}

func (c *cluster) scan(ctx context.Context, quick *http.Client, n, nodes int, link string) bool {
	for try := range nodes {
		q := c.node((n + try) % nodes)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.scanURL+"/scan/v1/resolve",
			strings.NewReader(fmt.Sprintf(`{"text":%q}`, link)))
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer "+c.key)
		req.Header.Set("Content-Type", "application/json")
		res, err := quick.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if err == nil && res.StatusCode == http.StatusOK {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		c.turned.Add(1)
	}
	return false
}

// restarts ends and starts one node after the other while clients scan.
func (c *cluster) restarts(ctx context.Context) error {
	end := c.scanning(ctx, 8, nodesAtOnce)
	for i, q := range c.nodes {
		q.stop()
		again, err := c.start(ctx, i)
		if err != nil {
			end()
			return err
		}
		c.mu.Lock()
		c.nodes[i] = again
		c.mu.Unlock()
	}
	end()
	c.b.check(
		"During a rolling restart of all ten nodes under the load of 8 clients, %d scans were answered, %d attempts were repeated "+
			"on another node, and %d scans were not answered.",
		c.answered.Load(), c.turned.Load(), c.failed.Load())
	return c.none("a rolling restart")
}

func (c *cluster) node(i int) *qrjump {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i]
}

func (c *cluster) none(what string) error {
	if n := c.failed.Load(); n > 0 {
		return fmt.Errorf("%s: %d scans were not answered by any node", what, n)
	}
	return nil
}

// changes publishes again and again through the first node for a while, and returns
// how long each took.
func (c *cluster) changes(ctx context.Context, name string, n int) (took []float64, err error) {
	for i := range n {
		link := fmt.Sprintf("https://%s.example/%d/", name, i)
		if err := c.add(ctx, c.nodes[0], link); err != nil {
			return nil, err
		}
		one, err := c.publish(ctx, c.nodes[0], link, c.nodes[:nodesAtOnce-1])
		if err != nil {
			return nil, err
		}
		took = append(took, one.Seconds())
	}
	return took, nil
}

// oneStopped is what nine nodes do while one stands still.
func (c *cluster) oneStopped(ctx context.Context) error {
	before, err := c.changes(ctx, "before", 20)
	if err != nil {
		return err
	}
	last := c.nodes[nodesAtOnce-1]
	if err := syscall.Kill(last.pid(), syscall.SIGSTOP); err != nil {
		return err
	}
	while, err := c.changes(ctx, "stopped", 20)
	err = cmp.Or(err, syscall.Kill(last.pid(), syscall.SIGCONT))
	if err != nil {
		return err
	}
	c.b.row(Row{What: "publish → nine nodes while the tenth stands still, median", Anchor: "while it runs, median",
		Values: []float64{quantile(while, 0.5) / quantile(before, 0.5)}})
	return nil
}

// oneCutOff is what a node does that the database cannot be reached from.
func (c *cluster) oneCutOff(ctx context.Context) error {
	last := c.nodes[nodesAtOnce-1]
	c.proxy.cut(true)
	link := "https://cutoff.example/a/"
	err := c.add(ctx, c.nodes[0], link)
	if err == nil {
		_, err = c.publish(ctx, c.nodes[0], link, c.nodes[:nodesAtOnce-1])
	}
	if err != nil {
		return err
	}
	began := time.Now()
	if err := last.until(ctx, "saying that it is not ready", 2*time.Minute, 20*time.Millisecond, func() bool {
		return call(ctx, http.MethodGet, last.url+"/readyz", "", nil, nil) != nil
	}); err != nil {
		return err
	}
	noticed := time.Since(began)
	known := call(ctx, http.MethodPost, last.scanURL+"/scan/v1/resolve", c.key, fmt.Sprintf(`{"text":%q}`, c.g.Scanned[0].Text), nil)
	if known != nil {
		return fmt.Errorf("a node without its database does not answer scans of what it knows: %w", known)
	}
	c.proxy.cut(false)
	began = time.Now()
	w, err := newWatcher(last.scanURL, c.key)
	if err != nil {
		return err
	}
	defer w.conn.Close()
	if err := last.until(ctx, "knowing what was published meanwhile", 2*time.Minute, 5*time.Millisecond, func() bool {
		open, err := w.opens(link)
		return err == nil && open
	}); err != nil {
		return err
	}
	c.b.check(
		"A node that is cut off from the database still answers scans of the rules that it has loaded; its /readyz answered 503 "+
			"%.1f s after the publish that the node missed, and the node had applied that publish %.1f s after it could reach the "+
			"database again.", noticed.Seconds(), time.Since(began).Seconds())
	return nil
}

// together is how many scans ten nodes answer beside one, on the same processors.
func (c *cluster) together(ctx context.Context) error {
	var ratios []float64
	for range c.b.rounds {
		var rates [2]float64
		for i, nodes := range []int{1, nodesAtOnce} {
			end := c.scanning(ctx, 64, nodes)
			time.Sleep(time.Second)
			from, began := c.answered.Load(), time.Now()
			time.Sleep(4 * time.Second)
			rates[i] = float64(c.answered.Load()-from) / time.Since(began).Seconds()
			end()
			if err := c.none("scans"); err != nil {
				return err
			}
		}
		ratios = append(ratios, rates[1]/rates[0])
	}
	c.b.row(Row{What: "scans a second of ten nodes together", Anchor: "of one node on the same processors", Values: ratios})
	return nil
}

// cutting passes connections on to the database, until it is told to let nothing
// through; then bytes wait, as on a network that is cut.
type cutting struct {
	url  string // of the database through here
	to   string
	in   net.Listener
	mu   sync.Mutex
	open chan struct{} // closed = bytes pass
}

func newCutting(url string) (*cutting, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	to := net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if !strings.Contains(url, to) {
		return nil, errors.Join(fmt.Errorf("the address of the database does not name %s", to), in.Close())
	}
	c := &cutting{to: to, in: in, open: make(chan struct{}), url: strings.Replace(url, to, in.Addr().String(), 1)}
	close(c.open)
	go c.serve()
	return c, nil
}

func (c *cutting) serve() {
	for {
		from, err := c.in.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", c.to)
		if err != nil {
			from.Close()
			continue
		}
		go c.pass(from, to)
		go c.pass(to, from)
	}
}

func (c *cutting) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		c.mu.Lock()
		open := c.open
		c.mu.Unlock()
		<-open
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (c *cutting) cut(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off {
		c.open = make(chan struct{})
	} else {
		close(c.open)
	}
}

func (c *cutting) close() { c.in.Close() }
