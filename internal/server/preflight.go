package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/i18n"
	"github.com/qrjump/qrjump/internal/store"
)

// Finding is the result of one check and, if the check failed, the operator's next step.
type Finding struct {
	About  string // area of the check: configuration, folder, keys, store, disk or certificate
	OK     bool
	Warns  bool // true = OK now, but the operator should act soon
	Detail i18n.Message
	Next   i18n.Message
}

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// localized returns a text of this package's catalogue, filled with values.
func localized(key string, values ...any) i18n.Message { return catalog.Text(key, values...) }

const (
	// enoughDisk is the free disk space in bytes that suffices for some days of operation.
	enoughDisk = 1 << 30
	// CertificateDays is the number of days before the expiry of a certificate in which the certificate causes a warning.
	CertificateDays = 14
	// integrityTimeout is the timeout for reading a database file to check its integrity.
	integrityTimeout = 30 * time.Second
)

// Preflight checks, without changing anything, whether a server could start with the data folder, its keys, the database and the
// certificate. If a server is running with the data folder, Preflight does not check the database.
func Preflight(ctx context.Context, c Config, running bool) []Finding {
	e := examination{config: c}
	if info, err := os.Stat(c.Data); err != nil || !info.IsDir() {
		e.Fail("folder", localized("folder.none", c.Data), localized("folder.none.next"))
		return e.List
	}
	e.folder()
	e.disk()
	e.certificate(c.TLSCert, c.TLSKey)
	if running && c.Database == "" {
		e.Pass("store", localized("database.used"))
		return e.List
	}
	e.store(ctx)
	return e.List
}

// Findings collects the results of checks.
type Findings struct{ List []Finding }

// Pass, Warn and Fail add the result of a check.
func (f *Findings) Pass(topic string, detail i18n.Message) {
	f.List = append(f.List, Finding{About: topic, OK: true, Detail: detail})
}

func (f *Findings) Warn(topic string, detail, next i18n.Message) {
	f.List = append(f.List, Finding{About: topic, OK: true, Warns: true, Detail: detail, Next: next})
}

func (f *Findings) Fail(topic string, detail, next i18n.Message) {
	f.List = append(f.List, Finding{About: topic, Detail: detail, Next: next})
}

// FailError adds an error as the result of a check, without a next step.
func (f *Findings) FailError(topic string, err error) {
	f.Fail(topic, i18n.Literal(err.Error()), i18n.Message{})
}

type examination struct {
	Findings
	config Config
}

// folder checks the permissions of the data folder and of the secret files.
func (e *examination) folder() {
	readable := false
	for _, name := range []string{"master.key", "admin-token", "qrjump.db", "qrjump.db-wal"} {
		path := filepath.Join(e.config.Data, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			readable = true
			e.Fail("folder", localized("folder.open", path), localized("folder.open.next", path))
		}
	}
	if !readable {
		e.Pass("folder", localized("folder.closed", e.config.Data))
	}
}

func (e *examination) disk() {
	dir := e.config.Data
	free, known := scanlog.FreeSpace(dir)
	size := localized("disk.free", float64(free)/1e9, dir)
	switch err := scanlog.CheckFreeSpace(dir); {
	case err != nil:
		e.Fail("disk", localized("disk.closed", dir, err), localized("disk.closed.next"))
	case !known:
		e.Pass("disk", localized("disk.open", dir))
	case free < enoughDisk:
		e.Warn("disk", size, localized("disk.full.next"))
	default:
		e.Pass("disk", size)
	}
}

// certificate checks the files of a TLS certificate; "" = no certificate.
func (e *examination) certificate(cert, key string) {
	if cert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		e.Fail("certificate", i18n.Literal(err.Error()), localized("certificate.next"))
		return
	}
	e.List = append(e.List, CertificateFinding(pair.Leaf.NotAfter, cert))
}

// CertificateFinding checks how long a certificate remains valid.
func CertificateFinding(until time.Time, owner string) Finding {
	f := Finding{About: "certificate", Detail: localized("certificate", owner, until.UTC().Format("2006-01-02 15:04 UTC"))}
	switch left := time.Until(until); {
	case left <= 0:
		f.Next = localized("certificate.over.next")
	case left < CertificateDays*24*time.Hour:
		f.OK, f.Warns, f.Next = true, true, localized("certificate.soon.next")
	default:
		f.OK = true
	}
	return f
}

// errSeen is the error by which inspectDatabase makes store.Open return before store.Open changes the database.
var errSeen = errors.New("seen")

// store checks the database without changing it.
func (e *examination) store(ctx context.Context) {
	c := e.config
	if c.Database == "" {
		switch _, err := os.Stat(filepath.Join(c.Data, "qrjump.db")); {
		case errors.Is(err, fs.ErrNotExist):
			if err := checkDatabaseExists(c); err != nil {
				e.FailError("store", err)
				return
			}
			e.Pass("store", localized("database.none"))
			return
		case err != nil:
			e.Fail("store", i18n.Literal(err.Error()), localized("database.closed.next"))
			return
		}
	}
	switch err := inspectDatabase(ctx, c, e.database); {
	case errors.Is(err, store.ErrFolderInUse): // a server has the database open, although it did not respond before
		e.Pass("store", localized("database.used"))
	case !errors.Is(err, errSeen):
		e.FailError("store", err)
	}
}

// inspectDatabase opens a database, calls the function look with it, and closes it unchanged; it returns errSeen if look was called.
func inspectDatabase(ctx context.Context, c Config, look func(ctx context.Context, db *store.Store, schema int64)) error {
	check := func(ctx context.Context, db *store.Store, schema int64) error {
		look(ctx, db, schema)
		return errSeen
	}
	opened, err := store.Open(ctx, store.Target{URL: c.Database, Dir: c.Data, Check: check})
	if err == nil { // it never is
		return opened.Close()
	}
	return err
}

// database checks the schema, the keys and the integrity of the database file.
func (e *examination) database(ctx context.Context, db *store.Store, schema int64) {
	switch newest := store.NewestSchema(); {
	case schema == 0:
		e.Pass("store", localized("database.empty"))
		return
	case schema < newest:
		e.Pass("store", localized("database.older", schema, newest))
	default:
		e.Pass("store", localized("database.schema", schema))
	}
	if err := e.keys(ctx, db); err != nil {
		e.FailError("keys", err)
	} else {
		e.Pass("keys", localized("keys.open"))
	}
	if _, _, err := db.ChangeHead(ctx); err != nil && schema == store.NewestSchema() {
		e.FailError("audit", err)
	}
	if db.Engine() != "sqlite" {
		return // only the file of the embedded database is checked
	}
	ctx, cancel := context.WithTimeout(ctx, integrityTimeout)
	defer cancel()
	switch fault, err := db.IntegrityCheck(ctx); {
	case ctx.Err() != nil:
		e.Warn("store", localized("database.large", integrityTimeout), localized("database.large.next"))
	case err != nil:
		e.FailError("store", err)
	case fault != "":
		e.Fail("store", localized("database.damaged", fault), localized("database.damaged.next"))
	default:
		e.Pass("store", localized("database.sound"))
	}
}

// keys returns an error if the keys of a database cannot be opened; it never creates keys.
func (e *examination) keys(ctx context.Context, db *store.Store) error {
	sealed, err := db.SealedKey(ctx, dataKey)
	if err != nil {
		return fmt.Errorf("reading the data key: %w", err)
	}
	if err := refuseEmpty(e.config, sealed == ""); err != nil || sealed == "" {
		return err
	}
	ring := &keyring{store: db, random: rand.Reader}
	if ring.master, ring.source, err = masterKey(e.config, rand.Reader, false); err != nil {
		return err
	}
	return (&Server{deps: deps{config: e.config}}).checkKeys(ctx, db, ring)
}
