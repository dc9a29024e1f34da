package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/internal/vault"
)

// identityFile names the database that a data folder works with.
func identityFile(data string) string { return filepath.Join(data, "database") }

// identity is the same for a database and all that was restored from it, and
// another for every other: it follows from its permanent key.
func identity(key *vault.Key) string { return key.Hash("identity of the database", "") }

// refuseEmpty returns an error for a database without any keys where the folder
// knows one with content: the wrong address, or a lost one, and a new one would
// answer as if nothing had ever been.
func refuseEmpty(c Config, empty bool) error {
	if c.Database == "" || !empty {
		return nil
	}
	if _, err := os.Stat(identityFile(c.Data)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return usage("looking for the database that %s worked with: %v", c.Data, err)
	}
	return usage("the database is empty, but %s worked with one that was not: give its address with --database, restore it with qrjump import, or remove %s if a new one is meant",
		c.Data, identityFile(c.Data))
}

// keepIdentity notes which database this folder works with, and refuses another.
func keepIdentity(c Config, key *vault.Key) error {
	if c.Database == "" {
		return nil
	}
	path, id := identityFile(c.Data), identity(key)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := writeSecret(path, id); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("noting which database this is: %w", err)
		}
		return nil
	case err != nil:
		return usage("reading which database %s worked with: %v", c.Data, err)
	case strings.TrimSpace(string(text)) != id:
		return usage("the database is another than the one that %s worked with: give its address with --database, or remove %s if this one is meant", c.Data, path)
	}
	return nil
}
