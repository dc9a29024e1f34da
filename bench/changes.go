package main

import (
	"context"
	"database/sql"
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
	_ "modernc.org/sqlite"
)

// changeClients are how many add rules at once, each for an owner of its own.
var changeClients = []int{1, 8, 24, 96}

// changing is a cluster that rules are added to.
type changing struct {
	name   string
	nodes  []*qrjump
	tokens []string // by owner
	added  atomic.Int64
}

func changeOwner(i int) string { return fmt.Sprintf("wxchanges%08d", i) }

// changes measures adds of many owners, by one node and by three, against plain
// inserts of the same rows that are committed one by one by as many sessions.
func (b *bench) changes(ctx context.Context) error {
	b.peer("modernc.org/sqlite")
	address, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	most := changeClients[len(changeClients)-1]
	seed := "settings: {rule_rate_limit: null, default_rate_limit: null, verification: trust, rule_limit: 1000000}\naccounts:\n"
	for i := range most {
		seed += fmt.Sprintf("  - {appid: %s, kind: mini_program, secret: bench-secret%08d, certified: true, versions: [release]}\n",
			changeOwner(i), i)
	}
	file := filepath.Join(b.work, "changes.yaml")
	if err := os.WriteFile(file, []byte(seed), 0o644); err != nil {
		return err
	}
	var clusters []*changing
	defer func() {
		for _, c := range clusters {
			for _, q := range c.nodes {
				q.stop()
			}
		}
	}()
	databases := map[string]string{}
	for _, kind := range []struct {
		name  string
		nodes int
		on    string // PostgreSQL's database; "" = SQLite
	}{{"one node, PostgreSQL", 1, "alone"}, {"three nodes, PostgreSQL", 3, "shared"}, {"SQLite", 1, ""}} {
		c := &changing{name: kind.name}
		clusters = append(clusters, c)
		if kind.on != "" {
			if databases[kind.on], err = newDatabase(ctx, address, kind.on); err != nil {
				return err
			}
		}
		for i := range kind.nodes {
			if err := c.start(ctx, b, file, databases[kind.on], i); err != nil {
				return err
			}
		}
		for i := range most {
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
	plain, err := newPlainChanges(ctx, databases["alone"], filepath.Join(clusters[2].nodes[0].data, "qrjump.db"), b.work, most)
	if err != nil {
		return err
	}
	defer plain.close()

	duration := 2 * time.Second
	for _, clients := range changeClients {
		ours, inserts, embedded := make([][]float64, len(clusters)), []float64(nil), []float64(nil)
		for round := range b.rounds + 1 { // the first warms up
			rates := make([]float64, len(clusters))
			var bare, bareEmbedded float64
			for i := range len(clusters) + 2 {
				var failed atomic.Pointer[error]
				each, into := plain.insert, &bare
				switch at := (i + round) % (len(clusters) + 2); at {
				case len(clusters):
				case len(clusters) + 1:
					each, into = plain.insertEmbedded, &bareEmbedded
				default:
					each, into = clusters[at].add, &rates[at]
				}
				*into = rate(clients, duration, func(client int) {
					if err := each(ctx, client); err != nil {
						failed.CompareAndSwap(nil, &err)
					}
				})
				if err := failed.Load(); err != nil {
					return *err
				}
			}
			if round == 0 {
				continue
			}
			for i, value := range rates {
				ours[i] = append(ours[i], value)
			}
			inserts, embedded = append(inserts, bare), append(embedded, bareEmbedded)
		}
		for i, c := range clusters {
			anchor, of := inserts, "PostgreSQL"
			if c.name == "SQLite" {
				anchor, of = embedded, "SQLite"
			}
			wanted := clients == 24 && len(c.nodes) > 1
			b.row(Row{What: fmt.Sprintf("rules added a second, %d clients, %s", clients, c.name),
				Anchor: fmt.Sprintf("the same rows inserted and committed one by one, %d sessions, %s", clients, of),
				Target: target(wanted, 0.3), AtLeast: wanted, Values: ratios(ours[i], anchor), Main: wanted,
				Note: fmt.Sprintf("median %.0f a second, the inserts %.0f", quantile(ours[i], 0.5), quantile(anchor, 0.5))})
			b.point("changes", c.name, "clients", "rules added / rows inserted", float64(clients), quantile(ratios(ours[i], anchor), 0.5))
		}
	}
	for _, c := range clusters {
		if err := c.check(ctx, b); err != nil {
			return err
		}
	}
	b.note("Each rule is added by a call of qrcodejumpadd with an access token, which is answered after its commit. " +
		"Each client has an account and a host of its own, and the clients are spread evenly over the nodes. " +
		"The plain inserts write a row of the table of rules and a row of the change log, with the same indexes but without triggers. " +
		"All servers, the database (fsync on) and the clients share all cores.")
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.note("The load average of the machine was %s at the end of the run; it includes the load of the "+
			"benchmark itself.", strings.Join(strings.Fields(string(load))[:3], ", "))
	}
	return nil
}

// newDatabase makes a database of the server at an address.
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

// start starts a node of the cluster.
func (c *changing) start(ctx context.Context, b *bench, seed, database string, i int) error {
	data := filepath.Join(b.work, fmt.Sprintf("changes %s %d", c.name, i))
	args := []string{"--seed", seed}
	if database != "" {
		args = append(args, "--database", database)
	}
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
		args = args[2:]
	}
	q, err := b.serve(ctx, serve{data: data, core: -1, args: args})
	if err == nil {
		c.nodes = append(c.nodes, q)
	}
	return err
}

// add adds a rule of a client.
func (c *changing) add(ctx context.Context, client int) error {
	body := fmt.Sprintf(`{"prefix":"https://h%d.changes.example/%d/","permit_sub_rule":1,"path":"pages/i/i","open_version":3,"is_edit":0}`,
		client, c.added.Add(1))
	var told struct {
		ErrCode int
		ErrMsg  string
	}
	address := c.nodes[client%len(c.nodes)].url + "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + c.tokens[client]
	if err := call(ctx, http.MethodPost, address, "", body, &told); err != nil {
		return err
	}
	if told.ErrCode != 0 {
		return fmt.Errorf("%s: qrcodejumpadd: %d %s", c.name, told.ErrCode, told.ErrMsg)
	}
	return nil
}

// check verifies the log of changes and counts the rules of all owners.
func (c *changing) check(ctx context.Context, b *bench) error {
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

// plainChanges inserts what an add stores.
type plainChanges struct {
	sessions []*pgx.Conn
	lite     *sql.DB
	n        atomic.Int64
}

const (
	plainRule = `INSERT INTO plain_rules (id, key, kind, owner, target, prefix, path, occupy, open_version, test_links, published,
		created_at, changed_at, published_at, host, segment, link_path)
		VALUES ($1, $2, 'rule', $3, $3, $2, 'pages/i/i', 1, 3, 'null', 0, 1, 1, 0, $4, '', $5)`
	plainChange = `INSERT INTO plain_changes (seq, occurred_at, kind, key, actor, via, rid, action, detail, hash)
		VALUES ($1, 1, 'rule', $2, $3, 'wire', $4, 'add', $6, $5)`
)

// newPlainChanges makes empty copies of the two tables: in the database at an address,
// and in a copy of an embedded one.
func newPlainChanges(ctx context.Context, address, embedded, work string, sessions int) (*plainChanges, error) {
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
	if p.lite, err = plainEmbedded(ctx, embedded, filepath.Join(work, "plainchanges.db")); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func plainEmbedded(ctx context.Context, from, to string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+to+"?_txlock=immediate&_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	old, err := sql.Open("sqlite", "file:"+from+"?_query_only=1")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	defer old.Close()
	rows, err := old.QueryContext(ctx, `SELECT sql FROM sqlite_schema WHERE tbl_name IN ('rules', 'changes') AND type IN ('table', 'index')
		AND sql IS NOT NULL ORDER BY type DESC`)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	defer rows.Close()
	for rows.Next() {
		var made string
		err := rows.Scan(&made)
		if err == nil {
			_, err = db.ExecContext(ctx, made)
		}
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	err = rows.Err()
	for _, table := range []string{"rules", "changes"} {
		if err == nil {
			_, err = db.ExecContext(ctx, "ALTER TABLE "+table+" RENAME TO plain_"+table)
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (p *plainChanges) close() error {
	var errs []error
	for _, conn := range p.sessions {
		errs = append(errs, conn.Close(context.Background()))
	}
	if p.lite != nil {
		errs = append(errs, p.lite.Close())
	}
	return errors.Join(errs...)
}

// rows are the arguments of both statements.
func (p *plainChanges) rows(client int) (rule, change []any) {
	n := p.n.Add(1)
	host := fmt.Sprintf("h%d.changes.example", client)
	path := fmt.Sprintf("/%d/", n)
	owner, key := changeOwner(client), "https://"+host+path
	detail := fmt.Sprintf(`{"id":%d,"kind":"rule","owner":%q,"target":%q,"prefix":%q,"path":"pages/i/i","occupy":true,"open_version":3,`+
		`"test_links":null,"published":false,"created_at":1785000000000,"updated_at":1785000000000,"published_at":0}`, n, owner, owner, key)
	return []any{n, key, owner, host, path}, []any{n, key, owner, fmt.Sprintf("rid%029d", n), fmt.Sprintf("%064x", n), detail}
}

func (p *plainChanges) insert(ctx context.Context, client int) error {
	rule, change := p.rows(client)
	var both pgx.Batch // implicitly one transaction, in one round trip
	both.Queue(plainRule, rule...)
	both.Queue(plainChange, change...)
	return p.sessions[client].SendBatch(ctx, &both).Close()
}

func (p *plainChanges) insertEmbedded(ctx context.Context, client int) error {
	rule, change := p.rows(client)
	tx, err := p.lite.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, plainRule, rule...); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, plainChange, change...); err != nil {
		return err
	}
	return tx.Commit()
}
