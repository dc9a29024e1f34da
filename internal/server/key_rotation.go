package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/store"
)

// KeyRotation replaces the master key of a database while no server uses the database. A rotation seals all keys with the new master key,
// and all other secrets with a new sealing key. The keys for hashes, codes and openids do not change, so credentials remain valid and
// printed codes remain readable.
type KeyRotation struct {
	Config     Config // only the fields Data, Database and MasterKey are used
	NewKeyFile string // file that contains the new master key; "" = generate a random key
	Random     io.Reader
	Now        func() time.Time // clock for the audit log entry of the rotation
	// Reached is called at every step, for tests; if Reached returns an error, the rotation ends at that step as in a crash.
	Reached func(step string) error
}

// KeyRotationResult is the result of a rotation.
type KeyRotationResult struct {
	Keys int
	store.Resealed
	// Finished reports whether this run only completed an earlier rotation that was interrupted.
	Finished bool
	// File is the file that contains the new master key; "" = the operator must set it in the environment.
	File string
}

// The steps of a rotation. Before the commit, all keys are sealed with the old master key; after the commit, with the new one. The new
// master key is on disk before the commit.
const (
	stepKeyWritten = "the new key is written"
	stepSealing    = "a key is sealed anew"
	stepCommitted  = "the database is sealed anew"
	stepMoved      = "the new key is in its place"
)

func newMasterFile(data string) string { return masterFile(data) + ".new" }

// Run rotates the master key. After an error or a crash at any moment, the next start works with either the old or the new key.
func (t KeyRotation) Run(ctx context.Context) (KeyRotationResult, error) {
	var done KeyRotationResult
	if t.Random == nil {
		t.Random = rand.Reader
	}
	if t.Now == nil {
		t.Now = time.Now
	}
	if t.Reached == nil {
		t.Reached = func(string) error { return nil }
	}
	inEnvironment := t.Config.MasterKey != ""
	if inEnvironment && t.NewKeyFile == "" {
		return done, usage("the master key is in QRJUMP_MASTER_KEY, so qrjump cannot replace it: write the new key to a file " +
			"(openssl rand -hex 32), name that with --new-key-file, and put it into QRJUMP_MASTER_KEY afterwards")
	}
	text, fresh, err := t.newKey()
	if err != nil {
		return done, err
	}
	var ring *keyring
	s, err := t.open(ctx, func(ctx context.Context, db *store.Store, schema int64) error {
		if schema == 0 {
			return errNoKeys
		}
		ring, done.Finished, err = t.check(ctx, db, fresh)
		return err
	})
	if err != nil {
		return done, err
	}
	defer s.Close()
	if !inEnvironment {
		done.File = ring.source
	}
	if done.Finished {
		return done, nil
	}
	old, err := ring.vault(ctx) // ring.vault decrypts a key with the old master key, so ring.vault fails if that key is wrong
	if err != nil {
		return done, err
	}
	s.ConfigureChangeLog(t.Now, func(text string) string { return old.Hash(changePurpose, text) })
	if !inEnvironment {
		if err := atomicfile.Replace(newMasterFile(t.Config.Data), []byte(text+"\n"), 0o600); err != nil {
			return done, fmt.Errorf("writing the new master key: %w", err)
		}
	}
	if err := t.Reached(stepKeyWritten); err != nil {
		return done, err
	}
	if done.Keys, done.Resealed, err = t.reseal(ctx, s, ring.master, fresh, old); err != nil {
		return done, err
	}
	if err := t.Reached(stepCommitted); err != nil {
		return done, err
	}
	if !inEnvironment {
		err := atomicfile.Move(newMasterFile(t.Config.Data), masterFile(t.Config.Data))
		// A server that started after the commit may already have moved the file.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("moving the new master key into place (the next start does it): %w", err)
		}
	}
	return done, t.Reached(stepMoved)
}

// newKey returns the new master key, also in the form of its file.
func (t KeyRotation) newKey() (text string, key *sealer.Key, err error) {
	if t.NewKeyFile == "" {
		secret, err := sealer.NewSecret(t.Random)
		if err != nil {
			return "", nil, err
		}
		text = hex.EncodeToString(secret)
	} else if file, err := os.ReadFile(t.NewKeyFile); err != nil {
		return "", nil, usage("--new-key-file: %v", err)
	} else {
		text = strings.TrimSpace(string(file))
	}
	key, err = parseKey(text, t.NewKeyFile)
	return text, key, err
}

// open opens an existing database: a rotation never creates one.
func (t KeyRotation) open(ctx context.Context, check func(context.Context, *store.Store, int64) error) (*store.Store, error) {
	if t.Config.Data == "" {
		return nil, usage("--data is empty: name a folder")
	}
	need := t.Config.Data
	if t.Config.Database == "" {
		need = filepath.Join(t.Config.Data, "qrjump.db")
	}
	if _, err := os.Stat(need); err != nil {
		return nil, usage("no database found whose master key could be rotated: %v", err)
	}
	s, err := store.OpenAlone(ctx, store.Target{URL: t.Config.Database, Dir: t.Config.Data, Check: check})
	if err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

var errNoKeys = usage("the database has no keys yet: the first start of a server creates them")

// check opens the keys before any change; finished reports that the database is already sealed with the new master key.
func (t KeyRotation) check(ctx context.Context, db *store.Store, fresh *sealer.Key) (ring *keyring, finished bool, err error) {
	sealed, err := db.SealedKey(ctx, dataKey)
	if err != nil {
		return nil, false, err
	}
	if sealed == "" {
		return nil, false, errNoKeys
	}
	if ring, err = openKeyring(ctx, t.Config, db, t.Random); err != nil || ring.finished {
		return ring, err == nil, err
	}
	if _, err := fresh.Open(place(dataKey), sealed); err != nil {
		_, err = ring.hashing(ctx)
		return ring, false, err
	}
	if _, err := ring.master.Open(place(dataKey), sealed); err == nil {
		return nil, false, usage("the key in %s is already the master key: give another key", t.NewKeyFile)
	}
	return ring, true, nil // the rotation is complete, and only the environment variable still has the old key
}

// reseal performs all database changes of a rotation in one transaction.
func (t KeyRotation) reseal(ctx context.Context, s *store.Store, oldMaster, newMaster, old *sealer.Key) (keys int, done store.Resealed,
	err error) {
	sealing, err := sealer.NewSecret(t.Random)
	if err != nil {
		return 0, done, err
	}
	newKey, err := sealer.NewKey(sealing)
	if err != nil {
		return 0, done, err
	}
	names := map[string]bool{} // a set counts each name once, even if the transaction is retried
	done, err = s.Reseal(ctx, func(name, sealed string) (string, error) {
		secret, err := oldMaster.Open(place(name), sealed)
		if err != nil {
			return "", fmt.Errorf("the key %s: %w", name, err)
		}
		if err := t.Reached(stepSealing); err != nil {
			return "", err
		}
		names[name] = true
		if name == sealKey {
			secret = sealing
		}
		return newMaster.Seal(place(name), secret), nil
	}, func(location, sealed string) (string, error) {
		secret, err := old.Open(location, sealed)
		if err != nil {
			// The location may contain the hash of a token, but never a secret.
			return "", fmt.Errorf("%s: %w; nothing was changed", location, err)
		}
		return newKey.Seal(location, secret), nil
	})
	if errors.Is(err, store.ErrInUse) {
		err = usageError{err}
	}
	return len(names), done, err
}

// finishTurn completes an interrupted rotation: if the database is already sealed with the key in the file for the new master key,
// finishTurn moves this file to its final name. If the rotation was not committed, the file stays, because programs must not delete keys.
func finishTurn(c Config, sealed string) (bool, error) {
	text, exists, err := readSecret(newMasterFile(c.Data), "new master key")
	if err != nil || !exists {
		return false, err
	}
	key, err := parseKey(text, newMasterFile(c.Data))
	if err != nil {
		return false, nil
	}
	if _, err := key.Open(place(dataKey), sealed); err != nil {
		return false, nil
	}
	if err := atomicfile.Move(newMasterFile(c.Data), masterFile(c.Data)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("moving the new master key into place: %w", err)
	}
	return true, nil
}
