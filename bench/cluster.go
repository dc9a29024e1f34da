package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// clusterClients is the number of concurrent clients that add rules. clusterOwners lists the numbers of accounts that share
// them; all clients of an account add rules on one host.
const clusterClients = 24

var clusterOwners = []int{24, 6, 1}

// clusterTarget is a cluster that the clients add rules to.
type clusterTarget struct {
	name   string
	nodes  []*qrjump
	tokens []string // access tokens by owner number
	added  atomic.Int64
}

func changeOwner(i int) string { return fmt.Sprintf("wxchanges%08d", i) }

// cluster measures adding rules through one node and through three nodes against plain inserts of the same rows, each committed
// separately, with the same number of sessions. It then measures idle nodes.
func (b *bench) cluster(ctx context.Context) error {
	address, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	seed := "settings: {rule_rate_limit: null, default_rate_limit: null, verification: trust, rule_limit: 1000000}\naccounts:\n"
	for i := range clusterClients {
		seed += fmt.Sprintf("  - {appid: %s, kind: mini_program, secret: bench-secret%08d, certified: true, versions: [release]}\n",
			changeOwner(i), i)
	}
	file := filepath.Join(b.work, "changes.yaml")
	if err := os.WriteFile(file, []byte(seed), 0o644); err != nil {
		return err
	}
	var clusters []*clusterTarget
	defer func() {
		for _, c := range clusters {
			for _, q := range c.nodes {
				q.stop()
			}
		}
	}()
	var databases []string
	for _, kind := range []struct {
		name  string
		nodes int
	}{{"one node", 1}, {"three nodes", 3}} {
		c := &clusterTarget{name: kind.name}
		clusters = append(clusters, c)
		database, err := newDatabase(ctx, address, fmt.Sprint("of", kind.nodes))
		if err != nil {
			return err
		}
		databases = append(databases, database)
		for i := range kind.nodes {
			if err := c.start(ctx, b, file, database, i); err != nil {
				return err
			}
		}
		for i := range clusterClients {
			var got struct {
				AccessToken string `json:"access_token"`
			}
			path := fmt.Sprintf("/cgi-bin/token?grant_type=client_credential&appid=%s&secret=bench-secret%08d", changeOwner(i), i)
			if err := call(ctx, http.MethodGet, c.nodes[0].url+path, "", nil, &got); err != nil {
				return err
			}
			c.tokens = append(c.tokens, got.AccessToken)
		}
	}
	plain, err := newPlainChanges(ctx, databases[0], clusterClients)
	if err != nil {
		return err
	}
	defer plain.close()
	for _, owners := range clusterOwners {
		if err := b.measureAdds(ctx, owners, clusters, plain, databases); err != nil {
			return err
		}
	}
	for _, c := range clusters {
		if err := c.check(ctx, b); err != nil {
			return err
		}
	}
	b.note("Each rule is added by a call of qrcodejumpadd with an access token, which is answered after its commit. " +
		"The clients of an account add rules on one host, and the clients are spread evenly over the nodes. " +
		"The plain inserts write a row of the table of rules and a row of the change log, with the same indexes but without triggers. " +
		"All servers, the database (fsync on) and the clients share all cores.")
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.note("The load average of the machine was %s after the changes; it includes the load of the "+
			"benchmark itself.", strings.Join(strings.Fields(string(load))[:3], ", "))
	}
	return clusters[1].measureIdle(ctx, b, databases[1])
}

// measureAdds measures adding rules for a number of owners.
func (b *bench) measureAdds(ctx context.Context, owners int, clusters []*clusterTarget, plain *plainChanges, databases []string) error {
	const duration = 2 * time.Second
	adders := []func(context.Context, int) error{plain.insert}
	for _, c := range clusters {
		// The clients of an account are spread over the nodes.
		adders = append(adders, func(ctx context.Context, client int) error { return c.add(ctx, client+client/owners, client%owners) })
	}
	rates := make([][]float64, len(adders))
	for round := range b.rounds + 1 { // the first round is a warm-up
		for _, database := range databases { // autovacuum runs only a minute later
			if err := analyze(ctx, database); err != nil {
				return err
			}
		}
		for i := range adders {
			i = (i + round) % len(adders)
			var failed atomic.Pointer[error]
			value := rate(clusterClients, duration, func(client int) {
				if err := adders[i](ctx, client); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			})
			if err := failed.Load(); err != nil {
				return *err
			}
			if round > 0 {
				rates[i] = append(rates[i], value)
			}
		}
	}
	goals := map[int]float64{24: 0.3, 6: 0.2}
	for i, c := range clusters {
		ours, inserts := rates[i+1], rates[0]
		b.row(Row{What: fmt.Sprintf("rules added a second, %d clients of %d accounts, %s", clusterClients, owners, c.name),
			Anchor: fmt.Sprintf("the same rows inserted and committed one by one, %d sessions", clusterClients),
			Target: target(goals[owners] > 0, goals[owners]), AtLeast: goals[owners] > 0, Values: ratios(ours, inserts), Main: true,
			Note: fmt.Sprintf("median %.0f a second, the inserts %.0f", quantile(ours, 0.5), quantile(inserts, 0.5))})
	}
	return nil
}

// analyze updates the planner statistics of a database.
func analyze(ctx context.Context, database string) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "ANALYZE")
	return err
}

// newDatabase creates a database on the server at address and returns its URL.
func newDatabase(ctx context.Context, address, name string) (string, error) {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// start starts node i of the cluster; the first node seeds the database, the others get its master key.
func (c *clusterTarget) start(ctx context.Context, b *bench, seed, database string, i int) error {
	data := filepath.Join(b.work, fmt.Sprintf("changes %s %d", c.name, i))
	args := []string{"--database", database, "--seed", seed}
	if i > 0 {
		master, err := os.ReadFile(filepath.Join(c.nodes[0].data, "master.key"))
		if err == nil {
			err = os.MkdirAll(data, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(data, "master.key"), master, 0o600)
		}
		if err != nil {
			return err
		}
		args = args[:2]
	}
	q, err := b.serve(ctx, serve{data: data, core: -1, args: args})
	if err == nil {
		c.nodes = append(c.nodes, q)
	}
	return err
}

// add adds a rule of an owner through a node.
func (c *clusterTarget) add(ctx context.Context, node, owner int) error {
	body := fmt.Sprintf(`{"prefix":"https://h%d.changes.example/%d/","permit_sub_rule":1,"path":"pages/i/i","open_version":3,"is_edit":0}`,
		owner, c.added.Add(1))
	var response struct {
		ErrCode int
		ErrMsg  string
	}
	address := c.nodes[node%len(c.nodes)].url + "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + c.tokens[owner]
	if err := call(ctx, http.MethodPost, address, "", body, &response); err != nil {
		return err
	}
	if response.ErrCode != 0 {
		return fmt.Errorf("%s: qrcodejumpadd: %d %s", c.name, response.ErrCode, response.ErrMsg)
	}
	return nil
}

// check verifies that the number of rules of all owners equals the number of acknowledged adds.
func (c *clusterTarget) check(ctx context.Context, b *bench) error {
	rules := int64(0)
	for i := range c.tokens {
		var got struct {
			Total   int64 `json:"total_count"`
			ErrCode int
			ErrMsg  string
		}
		address := c.nodes[len(c.nodes)-1].url + "/cgi-bin/wxopen/qrcodejumpget?access_token=" + c.tokens[i]
		err := call(ctx, http.MethodPost, address, "", `{"get_type":2,"page_num":1,"page_size":1}`, &got)
		if err == nil && got.ErrCode != 0 {
			err = fmt.Errorf("%d %s", got.ErrCode, got.ErrMsg)
		}
		if err != nil {
			return fmt.Errorf("counting the rules of %s: %w", changeOwner(i), err)
		}
		rules += got.Total
	}
	if rules != c.added.Load() {
		return fmt.Errorf("%s: %d rules after %d adds that were acknowledged", c.name, rules, c.added.Load())
	}
	b.check("In the cluster \"%s\", each of the %d acknowledged calls of qrcodejumpadd created a rule of the "+
		"calling account.", c.name, rules)
	return nil
}

// plainChanges inserts the rows that an add stores.
type plainChanges struct {
	sessions []*pgx.Conn
	n        atomic.Int64
}

const (
	plainRule = `INSERT INTO plain_rules (id, key, kind, owner, target, prefix, path, occupy, open_version, test_links, published,
		created_at, updated_at, published_at, host, segment, link_path)
		VALUES ($1, $2, 'rule', $3, $3, $2, 'pages/i/i', 1, 3, 'null', 0, 1, 1, 0, $4, '', $5)`
	plainChange = `INSERT INTO plain_changes (seq, occurred_at, kind, key, actor, via_component, rid, action, detail, hash)
		VALUES ($1, 1, 'rule', $2, $3, 'wire', $4, 'add', $6, $5)`
)

// newPlainChanges creates empty copies of the tables rules and changes and opens the sessions.
func newPlainChanges(ctx context.Context, address string, sessions int) (*plainChanges, error) {
	p := &plainChanges{}
	for range sessions {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.sessions = append(p.sessions, conn)
	}
	first := p.sessions[0]
	_, err := first.Exec(ctx, `CREATE TABLE plain_rules (LIKE rules INCLUDING ALL);
		CREATE TABLE plain_changes (LIKE changes INCLUDING ALL)`)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *plainChanges) close() error {
	var errs []error
	for _, conn := range p.sessions {
		errs = append(errs, conn.Close(context.Background()))
	}
	return errors.Join(errs...)
}

// rows returns the arguments of both statements.
func (p *plainChanges) rows(client int) (rule, change []any) {
	n := p.n.Add(1)
	host := fmt.Sprintf("h%d.changes.example", client)
	path := fmt.Sprintf("/%d/", n)
	owner, key := changeOwner(client), "https://"+host+path
	detail := fmt.Sprintf(`{"id":%d,"kind":"rule","owner":%q,"target":%q,"prefix":%q,"path":"pages/i/i","occupy":true,"open_version":3,`+
		`"test_links":null,"published":false,"created_at":1785000000000,"changed_at":1785000000000,"published_at":0}`, n, owner, owner, key)
	return []any{n, key, owner, host, path}, []any{n, key, owner, fmt.Sprintf("rid%029d", n), fmt.Sprintf("%064x", n), detail}
}

func (p *plainChanges) insert(ctx context.Context, client int) error {
	rule, change := p.rows(client)
	var batch pgx.Batch // one implicit transaction, one round trip
	batch.Queue(plainRule, rule...)
	batch.Queue(plainChange, change...)
	return p.sessions[client].SendBatch(ctx, &batch).Close()
}

// measureIdle measures the transactions and the processor time of nodes that receive no calls.
func (c *clusterTarget) measureIdle(ctx context.Context, b *bench, database string) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	transactions := func() (n int64, err error) {
		// PostgreSQL publishes the statistics of a session with a delay of up to a second.
		err = conn.QueryRow(ctx, `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`).Scan(&n)
		return n, err
	}
	used := func() (sum time.Duration, err error) {
		for _, q := range c.nodes {
			used, err := cpu(q.pid())
			if err != nil {
				return 0, err
			}
			sum += used
		}
		return sum, nil
	}
	time.Sleep(10 * time.Second) // wait until work triggered by the start has ended
	var rates, busy []float64
	for range b.rounds {
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
		spentAfter, err := used()
		if err != nil {
			return err
		}
		nodeSeconds := time.Since(began).Seconds() * float64(len(c.nodes))
		rates, busy = append(rates, float64(after-before)/nodeSeconds), append(busy, (spentAfter-spent).Seconds()*1000/nodeSeconds)
	}
	var connections int64
	err = conn.QueryRow(ctx, `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(
		&connections)
	if err != nil {
		return err
	}
	b.row(Row{What: "transactions of a node at rest", Unit: "a second", Values: rates, Main: true})
	b.row(Row{What: "processor of a node at rest", Unit: "ms a second", Values: busy})
	b.row(Row{What: "connections of a node to the database, at rest", Unit: "connections",
		Values: []float64{float64(connections) / float64(len(c.nodes))}})
	return nil
}
