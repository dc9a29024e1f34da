package server

import (
	"context"
	"os"
	"time"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/store"
)

// storeComponent returns the component that opens the database.
func (s *Server) storeComponent() component {
	return component{
		name: "store",
		start: func(ctx context.Context) (err error) {
			if err := os.MkdirAll(s.config.Data, 0o700); err != nil {
				return usage("creating the data directory: %v", err)
			}
			if err := checkDatabaseExists(s.config); err != nil {
				return err
			}
			if s.chosen.seed, err = readSeed(s.config); err != nil {
				return err
			}
			waits := func(kind string, until time.Time) {
				s.log.WarnContext(ctx, "migration is waiting for a lock", "reason", kind, "until", until)
			}
			target := store.Target{URL: s.config.Database, ReadURL: s.config.DatabaseRead, Dir: s.config.Data, LockDir: true,
				Check: s.check, Waits: waits}
			target.ReplicaFailed = func(err error) {
				s.log.WarnContext(ctx, "the read replica failed; reads use the primary for ten seconds", "error", err)
			}
			if s.store, err = store.Open(ctx, target); err != nil {
				return usageError{err}
			}
			s.serving.startEnds = context.AfterFunc(ctx, s.store.Abort) // if the start is cancelled, a commit must not wait for a replica
			s.warnOfNoReplica(ctx)
			return nil
		},
		stop: func(context.Context) error {
			if s.store == nil {
				return nil
			}
			if s.serving.endWaiting != nil {
				s.serving.endWaiting.Stop()
			}
			return s.store.Close()
		},
	}
}

// check returns an error if this server cannot start with the database. check runs before the database is changed, so that the previous
// version of the program can still use the database after an error. schema is the schema version of the database, 0 if it is empty; check
// may read only tables that every version has in the same form.
func (s *Server) check(ctx context.Context, db *store.Store, schema int64) error {
	// Unreadable TLS files are found here, before the database is changed.
	if err := s.openTLS(); err != nil {
		return err
	}
	if err := s.tryListeners(ctx); err != nil {
		return err
	}
	if err := s.checkSeed(ctx, db, schema); err != nil {
		return err
	}
	if schema == 0 {
		return refuseEmpty(s.config, true)
	}
	ring, err := s.openKeyring(ctx, db)
	if err != nil || ring.fresh {
		return err
	}
	if err := s.checkKeys(ctx, db, ring); err != nil {
		return err
	}
	return s.seeder().refuseDemo(ctx, db)
}

// checkSeed returns an error for an invalid seed; a seed that was applied before is not checked again.
func (s *Server) checkSeed(ctx context.Context, db *store.Store, schema int64) error {
	f := s.chosen.seed
	if f == nil {
		return nil
	}
	if schema > 0 {
		if done, err := db.Seeded(ctx, f.hash()); done || err != nil {
			return err
		}
	}
	return f.check()
}

// checkKeys returns an error if the keys of a database cannot be opened, or if its data or codes were made with other keys.
func (s *Server) checkKeys(ctx context.Context, db *store.Store, ring *keyring) error {
	key, err := ring.hashing(ctx)
	if err != nil {
		return err
	}
	if err := checkIdentity(s.config, key); err != nil {
		return err
	}
	if batch, err := ring.anyBatch(ctx); err != nil || batch == 0 {
		return err
	}
	keys, err := ring.codes(ctx) // makes no new keys, because a batch exists
	if err != nil {
		return err
	}
	return (&codes.Service{Store: db, Keys: keys, Vault: key}).CheckKeys(ctx)
}

// Touched returns the number of pages of the embedded database that were read so far; see store.Store.PageReads.
func (s *Server) Touched(ctx context.Context) (pages int64, err error) { return s.store.PageReads(ctx) }
