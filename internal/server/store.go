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
				return usage("making the data folder: %v", err)
			}
			if err := checkDatabaseExists(s.config); err != nil {
				return err
			}
			if s.chosen.seed, err = readSeed(s.config); err != nil {
				return err
			}
			waits := func(kind string, until time.Time) {
				s.log.WarnContext(ctx, "migration is waiting for a lock", "what", kind, "until", until)
			}
			target := store.Target{URL: s.config.Database, Dir: s.config.Data, Check: s.check, Waits: waits}
			if s.store, err = store.Open(ctx, target); err != nil {
				return usageError{err}
			}
			s.serving.startEnds = context.AfterFunc(ctx, s.store.Abort) // cancelling the start also aborts a commit waiting for a replica
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

// check returns an error for a database that this server cannot work with. check runs before any change, so that a program that
// could use the database still can. schema is the schema version of the database, 0 for an empty database; the tables that check
// reads must be unchanged since that version.
func (s *Server) check(ctx context.Context, db *store.Store, schema int64) error {
	// Unreadable TLS files, too, must make the start fail before the database is changed.
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

// checkKeys returns an error unless the keys of a database can be opened and are the keys that created the database and its codes.
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
	keys, err := ring.codes(ctx) // if batches exist, codes generates no new keys
	if err != nil {
		return err
	}
	return (&codes.Service{Store: db, Keys: keys, Vault: key}).CheckKeys(ctx)
}

// Touched returns the number of pages of the embedded database that were read so far; see store.Store.PageReads.
func (s *Server) Touched(ctx context.Context) (pages int64, err error) { return s.store.PageReads(ctx) }
