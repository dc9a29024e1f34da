package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/sealer"
)

// identityFile returns the path of the file that identifies the database of a data folder.
func identityFile(data string) string { return filepath.Join(data, "database") }

// identity derives an identifier from the permanent key of a database. A database and its restored copies have the same identifier; all
// other databases have different identifiers.
func identity(key *sealer.Key) string { return key.Hash("identity of the database", "") }

// checkDatabaseExists returns an error if the data folder was in use but the file of the embedded database is missing. Opening the database
// would create a new file, and would destroy the old data that the file qrjump.db-wal still contains.
func checkDatabaseExists(c Config) error {
	if c.Database != "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.Data, "qrjump.db")); errors.Is(err, fs.ErrNotExist) {
		return refuseEmpty(c, true)
	} else if err != nil {
		return usage("checking for the database file: %w", err)
	}
	return nil
}

// refuseEmpty returns an error if a database is empty although the data folder was used with a database before. Either the address is wrong
// or the database is lost; a new database would have no data and would use different keys for codes and openids.
func refuseEmpty(c Config, empty bool) error {
	if !empty {
		return nil
	}
	trace, err := traceOf(c)
	switch {
	case err != nil:
		return usage("checking which database the data directory %s was used with: %v", c.Data, err)
	case trace == "":
		return nil
	case c.Database == "":
		return usage(
			"%s is missing or empty, but the data directory %s was used with a database (%s exists), and a new database would have none of "+
				"its codes: restore qrjump.db with qrjump.db-wal, "+
				"restore an export into another folder (qrjump import), give --database if it was PostgreSQL, or choose another --data for a new one", filepath.Join(c.Data, "qrjump.db"), c.Data, trace)
	}
	return usage(
		"the database is empty, but the data directory %s was used with another one: give its address with --database, restore it with "+
			"qrjump import, or remove %s to use the new one",
		c.Data, identityFile(c.Data))
}

// traceOf returns the path of a file or folder that only a used data folder contains; "" = none. The files of the master key and the admin
// token do not count, because an operator may put them into a new folder.
func traceOf(c Config) (string, error) {
	traces := []string{identityFile(c.Data)}
	if c.Database == "" { // other files also show that a folder was used: a partial copy of it may lack the identity file
		traces = append(traces, filepath.Join(c.Data, "clock"), filepath.Join(c.Data, "rules.snapshot"), c.scansDir())
	}
	for _, path := range traces {
		if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return "", err
		} else if info.IsDir() {
			if files, err := os.ReadDir(path); err != nil {
				return "", err
			} else if len(files) == 0 {
				continue
			}
		}
		return path, nil
	}
	return "", nil
}

// checkIdentity returns an error if the database is not the one that is recorded in the data folder.
func checkIdentity(c Config, key *sealer.Key) error {
	text, err := os.ReadFile(identityFile(c.Data))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usage("reading which database the data directory %s was used with: %v", c.Data, err)
	case strings.TrimSpace(string(text)) != identity(key):
		return usage(
			"the data directory %s was used with another database: give its address with --database, or remove %s to use this one",
			c.Data, identityFile(c.Data))
	}
	return nil
}

// keepIdentity records the database in the data folder, and returns an error if another database is recorded there.
func keepIdentity(c Config, key *sealer.Key) error {
	if err := checkIdentity(c, key); err != nil {
		return err
	}
	path := identityFile(c.Data)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := writeSecret(path, identity(key)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("recording the identity of the database: %w", err)
	}
	return nil
}
