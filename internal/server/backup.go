package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/store/archive"
)

// export writes an archive of all data, or of the given accounts and platforms, as of a single moment, while the server continues to run.
// The archive is packed completely before the first byte is written to w.
func (s *Server) export(ctx context.Context, w io.Writer, passphrase string, appids []string) error {
	if err := s.domain.usage.Flush(ctx); err != nil {
		return err
	}
	if err := s.collectScans(ctx); err != nil {
		return err
	}
	packed, err := s.pack(ctx, passphrase, appids)
	if err != nil {
		return err
	}
	_, err = packed.WriteTo(w)
	if err = errors.Join(err, packed.Close()); err != nil {
		return err
	}
	rows, schema := packed.Manifest.Rows(), packed.Manifest.Schema
	s.log.InfoContext(ctx, "export completed", "rows", rows, "schema", schema)
	// The audit entry is written after the export, so the archive does not contain it.
	return s.store.Note(ctx, "export", "", "export", map[string]any{"rows": rows, "schema": schema, "accounts": appids})
}

// collectScans brings every acknowledged scan to a place that pack reads. From a shared stream, pack reads counted scans only; uncounted
// scans of the scan table or of the only node's journal are in the archive too, and are counted after a restore.
func (s *Server) collectScans(ctx context.Context) (err error) {
	counter, log := s.scanning.counter, s.scanning.scanLog
	if counter.Nodes != nil && log.stream != nil {
		err = counter.CatchUpAll(ctx)
	} else if counter.Nodes != nil {
		err = errors.Join(counter.Nodes.SyncAll(ctx), log.flush(ctx))
	}
	if err != nil {
		return err
	}
	if err := counter.CatchUpAndSave(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "export continues with uncounted scans", "error", err)
	}
	return nil
}

// pack packs all data as of a single moment. The database snapshot is closed when pack returns, so a slow download does not keep it open.
func (s *Server) pack(ctx context.Context, passphrase string, appids []string) (packed *archive.Packed, err error) {
	err = s.store.Snapshot(ctx, func(p *store.Snapshot) error {
		if len(appids) > 0 {
			if err := p.Select(ctx, appids); err != nil {
				return err
			}
		}
		keys := map[string][]byte{}
		for name, sealed := range p.Keys {
			secret, err := s.secrets.ring.master.Open(place(name), sealed)
			if err != nil {
				return fmt.Errorf("the key %s was not sealed by the master key (%s)", name, s.secrets.ring.source)
			}
			keys[name] = secret
		}
		packed, err = archive.Pack(ctx, s.config.Data, archive.Contents{Tables: p, Keys: keys, Schema: p.Schema, Engine: s.store.Engine(),
			Program: "qrjump " + version.Number(), CreatedAt: s.realNow(), Accounts: appids, Passphrase: passphrase,
			Work: s.testHooks.PassphraseWork})
		return err
	})
	if err != nil && packed != nil {
		err = errors.Join(err, packed.Close())
	}
	return packed, err
}

// importAccounts adds the accounts of an archive to this cell, which has the same keys except the one that seals texts.
func (s *Server) importAccounts(ctx context.Context, file io.ReaderAt, size int64, passphrase string) (n int, err error) {
	a, err := archive.Open(file, size)
	if err != nil {
		return 0, accounts.Invalid(err.Error())
	}
	keys, err := a.Keys(passphrase)
	if err != nil {
		return 0, accounts.Invalid(err.Error())
	}
	if len(a.Manifest.Accounts) == 0 || a.Manifest.Schema != store.NewestSchema() {
		return 0, accounts.Invalid("the archive must be an account archive created by the version of this server")
	}
	for _, name := range []string{dataKey, openidKey, codeKey, textKey} {
		if have, err := s.secrets.ring.secret(ctx, name); err != nil || !bytes.Equal(have, keys[name]) {
			return 0, errors.Join(err,
				accounts.Invalid("the cells have different keys: set up a new cell with qrjump import of this archive"))
		}
	}
	foreign, err := sealer.NewKey(keys[sealKey])
	if err != nil {
		return 0, err
	}
	first := s.config.MinCodeCounter
	m := store.Move{AppIDs: a.Manifest.Accounts, Tables: a.EachTable, FirstCounter: first,
		EndCounter: first - first%codes.CellCounters + codes.CellCounters, Reseal: func(from, location, sealed string) (string, error) {
			secret, err := foreign.Open(from, sealed)
			if err != nil {
				return "", err
			}
			return s.secrets.vault.Seal(location, secret), nil
		}}
	if err := m.Load(ctx, s.store); err != nil {
		return 0, err
	}
	ctx = context.WithoutCancel(ctx) // the rows are committed
	s.domain.current.FollowOwn(ctx, "import of "+m.AppIDs[0])
	for _, appid := range m.AppIDs {
		// The old cell may have issued a ticket after the export.
		if _, err := s.domain.accounts.NewTicket(ctx, appid); err != nil && !errors.Is(err, accounts.ErrNoComponent) {
			s.log.WarnContext(ctx, "verify ticket delayed", "appid", appid, "error", err)
		}
	}
	return len(m.AppIDs), nil
}

// Import loads an archive file into an empty database, in one transaction; of an archive of accounts only the keys. The archive's keys are
// sealed with the master key of c, which Import creates if it does not exist. Import calls passphrase only if the archive is readable and
// its schema is supported.
func Import(ctx context.Context, c Config, file string, passphrase func() (string, error)) (archive.Manifest, error) {
	f, err := os.Open(file)
	if err != nil {
		return archive.Manifest{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return archive.Manifest{}, err
	}
	a, err := archive.Open(f, info.Size())
	if err != nil {
		return archive.Manifest{}, err
	}
	m := a.Manifest
	if newest := store.NewestSchema(); m.Schema > newest {
		return m, fmt.Errorf("%w: it has schema %d, and this qrjump supports up to %d", archive.ErrNewer, m.Schema, newest)
	}
	if err := store.Imports(m.Schema); err != nil {
		return m, fmt.Errorf("the archive cannot be imported: %w", err)
	}
	word, err := passphrase()
	if err != nil {
		return m, err
	}
	keys, err := a.Keys(word)
	if err != nil {
		return m, err
	}
	for _, name := range []string{dataKey, sealKey, openidKey, codeKey, textKey} {
		if len(keys[name]) == 0 {
			return m, fmt.Errorf("the archive has no key %q", name)
		}
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return m, fmt.Errorf("creating the data directory: %w", err)
	}
	s, err := store.OpenEmpty(ctx, store.Target{URL: c.Database, Dir: c.Data}, m.Schema)
	if err != nil {
		return m, err
	}
	defer s.Close()
	if c.Database == "" {
		s.ScansDestination(scanlog.RestoreInto(c.scansDir(), rand.Reader))
	}
	err = s.Load(ctx, func(l *store.Restore) error {
		// Load checks first that the database is empty, so a new master key replaces no key that is in use.
		master, _, err := masterKey(c, rand.Reader, true)
		if err != nil {
			return err
		}
		for name, secret := range keys {
			if err := l.Key(ctx, name, master.Seal(place(name), secret)); err != nil {
				return fmt.Errorf("storing the key %s: %w", name, err)
			}
		}
		if l.KeysOnly = len(m.Accounts) > 0; l.KeysOnly {
			return nil
		}
		return a.EachTable(func(table string, rows io.Reader) error {
			_, err := l.LoadRows(ctx, table, rows)
			return err
		})
	})
	if err != nil {
		return m, err
	}
	// The data folder now belongs to the restored database, so the file that identifies the previous database is removed.
	if err := os.Remove(identityFile(c.Data)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("removing the identity of the previous database from the folder: %w", err)
	}
	return m, s.Migrate(ctx)
}
