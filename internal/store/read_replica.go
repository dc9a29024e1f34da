package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// replicaRetry is the time for which reads use the primary after a read replica failed.
const replicaRetry = 10 * time.Second

// readReplica is a PostgreSQL server that replicates the primary and serves reads that may be stale.
type readReplica struct {
	db     *sql.DB
	skip   atomic.Int64 // time in Unix nanoseconds until which reads use the primary
	failed func(error)  // called when the replica fails; nil = no call
}

// errBehind reports that a read replica lacks a change that was committed on this node.
var errBehind = errors.New("the read replica is behind the latest change of this node")

// openReplica prepares connections to a read replica; it does not connect.
func (way connecting) openReplica(address string, pool int, failed func(error)) (*readReplica, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, unreadURL(address, err)
	}
	limitSessions(config, false)
	config.ConnectTimeout = connectTime
	way.servers = &servers{highest: map[string]int64{}}
	return &readReplica{db: way.openPool(config, pool), failed: failed}, nil
}

// replicaReads collects how stale the reads of one request are.
type replicaReads struct {
	mu   sync.Mutex
	asOf time.Time
}

// add records a read of data that is complete up to asOf.
func (r *replicaReads) add(asOf time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asOf.IsZero() || asOf.Before(r.asOf) {
		r.asOf = asOf
	}
}

type replicaKey struct{}

// WithReplica returns a context whose read transactions may run on the read replica. A read transaction runs on the primary if there is no
// replica, if the replica does not respond, or if it lacks a change that was committed on this node.
func WithReplica(ctx context.Context) context.Context {
	return context.WithValue(ctx, replicaKey{}, &replicaReads{})
}

// AsOf returns the time up to which the reads with a context of WithReplica contain all changes; zero = all reads ran on the primary.
func AsOf(ctx context.Context) time.Time {
	reads, _ := ctx.Value(replicaKey{}).(*replicaReads)
	if reads == nil {
		return time.Time{}
	}
	reads.mu.Lock()
	defer reads.mu.Unlock()
	return reads.asOf
}

// view runs f on the read replica if ctx allows it; done is false if f must run on the primary.
func (r *readReplica) view(ctx context.Context, s *Store, f func(*Tx) error) (done bool, err error) {
	reads, _ := ctx.Value(replicaKey{}).(*replicaReads)
	if reads == nil || time.Now().UnixNano() < r.skip.Load() {
		return false, nil
	}
	began, partly := false, false
	err = s.run(ctx, r.db, true, func(tx *Tx) error {
		var seq int64
		var replayed time.Time
		if err := tx.row(ctx, `SELECT seq, CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_xact_replay_timestamp(), 'epoch')
			ELSE now() END FROM audit_log_head WHERE id = 1`).Scan(&seq, &replayed); err != nil {
			return err
		}
		// A standby that was restarted and has replayed no commit since may have data of any age.
		if replayed.Unix() == 0 || seq < s.committed.Load() {
			return errBehind
		}
		reads.add(replayed.UTC())
		began = true
		err := f(tx)
		partly = tx.partlyRead
		return err
	})
	switch {
	case ctx.Err() != nil:
		return true, err
	case errors.Is(err, errBehind):
		return false, nil
	case err != nil && !partly && (!began || s.engine.retryable(err) || s.engine.lost(err)):
		r.skip.Store(time.Now().Add(replicaRetry).UnixNano())
		if r.failed != nil {
			r.failed(err)
		}
		return false, nil
	}
	return true, err
}
