package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Waiting says which rows of a kind wait to be sent.
type Waiting struct {
	Rows   int64     // at most mostWaiting
	Oldest time.Time // zero = none waits
}

// mostWaiting is the maximum number of waiting rows that are counted: more would make each look too expensive.
const mostWaiting = 100_000

// WaitingRows returns for each kind which rows wait to be sent. Those of a webhook that is off do
// not count: they are not sent.
func (s *Store) WaitingRows(ctx context.Context) (all map[outbox.Kind]Waiting, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		all = map[outbox.Kind]Waiting{}
		for kind, k := range rowTables {
			on := ""
			if kind == outbox.Deliveries {
				on = ` AND {receiver} IN (SELECT id FROM webhooks WHERE enabled = 1)`
			}
			var w Waiting
			var oldest int64
			if err := tx.row(ctx, k.words.Replace(`SELECT COUNT(*), COALESCE(MIN(created_at), 0) FROM (SELECT created_at FROM {rows}
				WHERE {next} > 0`+on+` LIMIT $1) AS waiting`), mostWaiting).Scan(&w.Rows, &oldest); err != nil {
				return err
			}
			w.Oldest = fromMillis(oldest)
			all[kind] = w
		}
		return nil
	})
	return all, err
}

// Replication says how many servers have a change before it is acknowledged.
type Replication struct {
	Hosts    int   // how many the URL names; 0 = the database is embedded
	Wanted   bool  // commits wait for a replica
	Replicas int64 // how many replicas they wait for now
}

// Replication asks the database. Where the role may not see which replicas are synchronous, all of
// them are counted.
func (s *Store) Replication(ctx context.Context) (r Replication, err error) {
	hosts, query := s.engine.replication()
	r.Hosts = hosts
	if query == "" {
		return r, nil
	}
	err = s.view(ctx, func(tx *Tx) error { return tx.row(ctx, query).Scan(&r.Wanted, &r.Replicas) })
	return r, err
}

// Connections are those of this process to the database.
type Connections struct {
	InUse, Most int
	Waited      time.Duration // how long all callers together waited for a free one
}

// Connections says how many there are now.
func (s *Store) Connections() (c Connections) {
	pools := []*sql.DB{s.write}
	if s.read != s.write {
		pools = append(pools, s.read)
	}
	for _, pool := range pools {
		stats := pool.Stats()
		c.InUse, c.Most, c.Waited = c.InUse+stats.InUse, c.Most+stats.MaxOpenConnections, c.Waited+stats.WaitDuration
	}
	return c
}

// OnWriteError sets the function that is called, with one of Causes, for each change that a fault of
// the database stopped. To be called once, before others use the store.
func (s *Store) OnWriteError(f func(cause string)) { s.trouble.refused = f }
