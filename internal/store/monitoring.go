package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/outbox"
)

// Waiting describes the waiting outbox rows of a kind.
type Waiting struct {
	Rows   int64     // at most maxWaiting
	Oldest time.Time // time of the oldest waiting row; zero = no row is waiting
}

// maxWaiting is the maximum number of waiting rows that WaitingRows counts, because counting more rows would be too expensive.
const maxWaiting = 100_000

// WaitingRows returns the waiting rows of each outbox kind. Rows of a disabled webhook are excluded, because they are not sent.
func (s *Store) WaitingRows(ctx context.Context) (map[outbox.Kind]Waiting, error) {
	return viewed(ctx, s, func(tx *Tx) (map[outbox.Kind]Waiting, error) {
		all := map[outbox.Kind]Waiting{}
		for kind, k := range rowTables {
			on := ""
			if kind == outbox.Deliveries {
				on = ` AND {receiver} IN (SELECT id FROM webhooks WHERE enabled = 1)`
			}
			var w Waiting
			if err := tx.row(ctx, k.words.Replace(`SELECT COUNT(*), COALESCE(MIN(created_at), 0) FROM (SELECT created_at FROM {rows}
				WHERE next_attempt_at > 0`+on+` LIMIT $1) AS waiting`), maxWaiting).Scan(&w.Rows, moment{&w.Oldest}); err != nil {
				return nil, err
			}
			all[kind] = w
		}
		return all, nil
	})
}

// Replication reports how many servers store a change before it is acknowledged.
type Replication struct {
	Hosts       int   // number of hosts in the URL; 0 = embedded database
	Synchronous bool  // true if commits wait for a replica
	Replicas    int64 // number of replicas for which commits currently wait
}

// Replication queries the replication state of the database. If the database role may not see which replicas are synchronous, all
// replicas are counted.
func (s *Store) Replication(ctx context.Context) (r Replication, err error) {
	r.Hosts = s.engine.hosts
	if s.engine.replication == "" {
		return r, nil
	}
	err = s.view(ctx, func(tx *Tx) error { return tx.row(ctx, s.engine.replication).Scan(&r.Synchronous, &r.Replicas) })
	return r, err
}

// Connections describes the connections of this process to the database.
type Connections struct {
	InUse, Limit int
	Waited       time.Duration // total time that callers waited for a free connection
}

// Connections returns the current state of the connection pools.
func (s *Store) Connections() (c Connections) {
	pools := []*sql.DB{s.write}
	if s.read != s.write {
		pools = append(pools, s.read)
	}
	for _, pool := range pools {
		stats := pool.Stats()
		c.InUse, c.Limit, c.Waited = c.InUse+stats.InUse, c.Limit+stats.MaxOpenConnections, c.Waited+stats.WaitDuration
	}
	return c
}

// OnWriteError sets the function that the store calls, with a value of Causes, for each change that failed because the database was
// unavailable. OnWriteError must be called once, before other goroutines use the store.
func (s *Store) OnWriteError(f func(cause string)) { s.health.refused = f }
