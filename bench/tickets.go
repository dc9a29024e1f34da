package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// tickets measures the exchange of a ticket for its code against a SELECT by primary key in PostgreSQL.
func (b *bench) tickets(ctx context.Context) error {
	url, stop, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	count := b.scaled(100_000, 5_000)
	const clients = 64

	q, err := b.serveCodes(ctx, serve{data: filepath.Join(b.work, "tickets"), core: -1})
	if err != nil {
		return err
	}
	defer q.stop()
	bodies, token, err := b.createTickets(ctx, q, count)
	if err != nil {
		return err
	}
	file, err := b.linesFile("tickets.bodies", bodies, func(s string) string { return s })
	if err != nil {
		return err
	}

	// The same number of rows, with the columns that an exchange returns.
	admin, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, `CREATE TABLE tickets (hash TEXT COLLATE "C" PRIMARY KEY, batch BIGINT NOT NULL, index BIGINT NOT NULL, owner TEXT NOT NULL, app TEXT NOT NULL, at BIGINT NOT NULL, ends BIGINT NOT NULL)`); err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, `INSERT INTO tickets SELECT md5(i::text) || md5((i+1)::text), 1, i, 'oAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'oBBBBBBBBBBBBBBBBBBBBBBBBBBB', 1, 2 FROM generate_series(1, $1) i`, count); err != nil {
		return err
	}
	if _, err := admin.Exec(ctx, `VACUUM ANALYZE tickets`); err != nil {
		return err
	}
	rows, err := admin.Query(ctx, `SELECT hash FROM tickets`)
	if err != nil {
		return err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		if conns[i], err = pgx.Connect(ctx, url); err != nil {
			return err
		}
		defer conns[i].Close(ctx)
		if _, err := conns[i].Prepare(ctx, "by key", `SELECT batch, index, owner, app, ends FROM tickets WHERE hash = $1`); err != nil {
			return err
		}
	}

	var ours, anchor []float64
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for round := range b.rounds + 1 {
		duration := 3 * time.Second
		if round == 0 {
			duration = time.Second
		}
		value := rate(clients, duration, func(client int) {
			var batch, index, ends int64
			var owner, app string
			key := keys[next.Add(7919)%int64(len(keys))]
			if err := conns[client].QueryRow(ctx, "by key", key).Scan(&batch, &index, &owner, &app, &ends); err != nil {
				failed.Store(&err)
			}
		})
		if err := failed.Load(); err != nil {
			return *err
		}
		r, err := b.wrkUnpinned(ctx, load{url: q.url, file: file, method: "POST",
			path:        "/intp/marketcode/tickettocode?access_token=" + token,
			connections: clients, duration: duration, pid: q.pid()})
		if err != nil {
			return err
		}
		if round > 0 {
			ours, anchor = append(ours, r.requests/r.seconds), append(anchor, value)
		}
	}
	// wrk checks only the HTTP status, and the platform API always returns 200.
	if err := q.exchangeAll(ctx, token, bodies[:min(2000, len(bodies))]); err != nil {
		return err
	}
	b.check("Scans created %d tickets of as many codes; %d of the tickets were exchanged one at a time, and each exchange "+
		"returned the code of its ticket.", count, min(2000, len(bodies)))
	b.row(Row{What: fmt.Sprintf("ticket exchanges a second over HTTP, %d clients, %s tickets", clients, sizeName(count)), Anchor: "SELECT by primary key in PostgreSQL (pgx, prepared), the same clients and rows",
		Target: 1, AtLeast: true, Values: ratios(ours, anchor), Main: true})
	b.note("A ticket exchange is an API call with an access token, on the embedded SQLite database. " +
		"qrjump, PostgreSQL and their load generators share the two cores.")
	return nil
}

// createTickets creates a batch, activates it and scans its codes. It returns the bodies of exchange requests and an access
// token.
func (b *bench) createTickets(ctx context.Context, q *qrjump, count int) (bodies []string, token string, err error) {
	if token, err = q.token(ctx); err != nil {
		return nil, "", err
	}
	key, err := q.scanKey(ctx)
	if err != nil {
		return nil, "", err
	}
	segments := (count + segmentSize - 1) / segmentSize
	batch, _, err := q.batch(ctx, token, "tickets", segments*segmentSize)
	if err != nil {
		return nil, "", err
	}
	if err := q.activate(ctx, token, batch, segments*segmentSize); err != nil {
		return nil, "", err
	}
	const users = 100
	openids := make([]string, users)
	for i := range openids {
		var got struct{ OpenID string }
		if err := q.admin(ctx, http.MethodGet, fmt.Sprintf("/users/user-%d/openid?appid=wxminiprogram0001", i), nil, &got); err != nil {
			return nil, "", err
		}
		openids[i] = got.OpenID
	}
	for segment := range segments {
		plain, err := q.plainSegmentAt(ctx, token, batch, segment)
		if err != nil {
			return nil, "", err
		}
		var lines []string
		for row := range strings.Lines(string(plain)) {
			fields := strings.Fields(row)
			user := len(bodies) + len(lines)
			if user == count {
				break
			}
			text, err := json.Marshal(fields[3])
			if err != nil {
				return nil, "", err
			}
			lines = append(lines, fmt.Sprintf(`{"text":%s,"user":"user-%d"}`, text, user%users))
		}
		i := len(bodies)
		err = streamLines(ctx, q.scanURL, key, lines, func(line []byte) error {
			var d struct{ Path, Error string }
			if err := json.Unmarshal(line, &d); err != nil {
				return err
			}
			_, ticket, ok := strings.Cut(d.Path, "code_ticket=")
			if !ok {
				return fmt.Errorf("response without a ticket: %s", line)
			}
			bodies = append(bodies, fmt.Sprintf(`{"openid":"%s","code_ticket":"%s"}`, openids[i%users], ticket))
			i++
			return nil
		})
		if err != nil {
			return nil, "", err
		}
	}
	if len(bodies) != count {
		return nil, "", fmt.Errorf("%d tickets of %d scans", len(bodies), count)
	}
	return bodies, token, nil
}

func (q *qrjump) exchangeAll(ctx context.Context, token string, bodies []string) error {
	codes := map[string]bool{}
	for _, body := range bodies {
		var got struct{ Code string }
		if err := q.wire(ctx, "tickettocode", token, body, &got); err != nil {
			return err
		}
		if got.Code == "" || codes[got.Code] {
			return fmt.Errorf("ticket %s returned the code %q, want a code that no other ticket returned", body, got.Code)
		}
		codes[got.Code] = true
	}
	return nil
}
