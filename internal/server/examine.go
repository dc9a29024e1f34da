package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/store"
)

// Finding is one thing that was looked at, with what to do where it is not well.
type Finding struct {
	About  string // configuration, folder, keys, store, disk or certificate
	OK     bool
	Warns  bool // it works now, and may not for long
	Detail Words
	Next   Words
}

// Words are a text with what it speaks of, so that it can be said in another language.
type Words struct {
	Text string // as for fmt.Sprintf
	Of   []any
}

// Say are words of a text and of what it speaks of.
func Say(text string, of ...any) Words { return Words{text, of} }

// Said are words that somebody else has chosen: a system, a database, an error.
func Said(text string) Words { return Words{"%s", []any{text}} }

func (w Words) String() string { return fmt.Sprintf(w.Text, w.Of...) }

const (
	// enoughDisk is how many free bytes are left for some days, and not for a moment.
	enoughDisk = 1 << 30
	// CertificateDays is how many days a certificate must still hold.
	CertificateDays = 14
	// soundTime is how long the file of a database is read to see whether it is sound.
	soundTime = 30 * time.Second
)

// Examine looks at what a server would start from, and changes nothing: the
// folder with its keys, the database and the certificate of a configuration.
// The database of a folder in which a server runs is left to that server.
func Examine(ctx context.Context, c Config, running bool) []Finding {
	e := examination{config: c}
	if info, err := os.Stat(c.Data); err != nil || !info.IsDir() {
		e.bad("folder", Say("%s is not there, or no folder", c.Data), Say("name the data folder of the server: --data DIR"))
		return e.found
	}
	e.folder()
	e.disk()
	e.certificate(c.TLSCert, c.TLSKey)
	if running && c.Database == "" {
		e.well("store", inUse)
		return e.found
	}
	e.store(ctx)
	return e.found
}

type examination struct {
	config Config
	found  []Finding
}

func (e *examination) well(about string, detail Words) {
	e.found = append(e.found, Finding{About: about, OK: true, Detail: detail})
}

func (e *examination) warn(about string, detail, next Words) {
	e.found = append(e.found, Finding{About: about, OK: true, Warns: true, Detail: detail, Next: next})
}

func (e *examination) bad(about string, detail, next Words) {
	e.found = append(e.found, Finding{About: about, Detail: detail, Next: next})
}

// folder looks at who may read what is secret.
func (e *examination) folder() {
	readable := false
	for _, name := range []string{"master.key", "admin-token", "qrjump.db", "qrjump.db-wal"} {
		path := filepath.Join(e.config.Data, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			readable = true
			e.bad("folder", Say("%s can be read by other users of this machine", path), Say("chmod 600 %s", path))
		}
	}
	if !readable {
		e.well("folder", Say("%s: nobody else can read the keys and the database", e.config.Data))
	}
}

func (e *examination) disk() {
	dir := e.config.Data
	free, known := ledger.Free(dir)
	size := Say("%.1f GB are free where %s is", float64(free)/1e9, dir)
	switch err := ledger.Room(dir); {
	case err != nil:
		e.bad("disk", Say("nothing can be written into %s: %v", dir, err), Say("make room there, or let the server's user write"))
	case !known:
		e.well("disk", Say("%s can be written", dir))
	case free < enoughDisk:
		e.warn("disk", size, Say("make room: a server without it records no scans"))
	default:
		e.well("disk", size)
	}
}

// certificate looks at the files of a certificate; "" = there is none.
func (e *examination) certificate(cert, key string) {
	if cert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		e.bad("certificate", Said(err.Error()), Say("give the certificate and its own key: --tls-cert FILE --tls-key FILE"))
		return
	}
	e.found = append(e.found, CertificateFinding(pair.Leaf.NotAfter, cert))
}

// CertificateFinding judges until when a certificate holds.
func CertificateFinding(until time.Time, whose string) Finding {
	f := Finding{About: "certificate", Detail: Say("%s holds until %s", whose, until.UTC().Format("2006-01-02 15:04 UTC"))}
	switch left := time.Until(until); {
	case left <= 0:
		f.Next = Say("renew it: clients refuse it")
	case left < CertificateDays*24*time.Hour:
		f.OK, f.Warns, f.Next = true, true, Say("renew it; the server reads the new one without a restart")
	default:
		f.OK = true
	}
	return f
}

// inUse is said of the database of a server that runs.
var inUse = Say("a server runs in this folder: it looks after the database")

// errSeen ends the opening of a database of which enough was seen.
var errSeen = errors.New("seen")

// store looks into the database without changing it.
func (e *examination) store(ctx context.Context) {
	c := e.config
	if c.Database == "" {
		switch _, err := os.Stat(filepath.Join(c.Data, "qrjump.db")); {
		case errors.Is(err, fs.ErrNotExist):
			if err := refuseLost(c); err != nil {
				e.bad("store", Said(err.Error()), Words{})
				return
			}
			e.well("store", Say("there is no database yet; the first start makes it"))
			return
		case err != nil:
			e.bad("store", Said(err.Error()), Say("let this user read the data folder"))
			return
		}
	}
	switch err := onlyLook(ctx, c, e.database); {
	case errors.Is(err, store.ErrFolderInUse): // by a server that could not be asked
		e.well("store", inUse)
	case !errors.Is(err, errSeen):
		e.bad("store", Said(err.Error()), Words{})
	}
}

// onlyLook opens a database, shows it and closes it as it was.
func onlyLook(ctx context.Context, c Config, look func(ctx context.Context, db *store.Store, schema int64)) error {
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

// database looks at the schema, the keys and whether the file is sound.
func (e *examination) database(ctx context.Context, db *store.Store, schema int64) {
	switch newest := store.NewestSchema(); {
	case schema == 0:
		e.well("store", Say("the database is empty; the first start fills it"))
		return
	case schema < newest:
		e.well("store", Say("the database has schema %d; the next start with this program makes it %d", schema, newest))
	default:
		e.well("store", Say("the database has schema %d, as this program wants it", schema))
	}
	if err := e.keys(ctx, db, schema); err != nil {
		e.bad("keys", Said(err.Error()), Words{})
	} else {
		e.well("keys", Say("the master key opens the database, and codes have the keys that they were made with"))
	}
	if db.Engine() != "sqlite" {
		return // it looks after its own files
	}
	ctx, cancel := context.WithTimeout(ctx, soundTime)
	defer cancel()
	switch fault, err := db.Sound(ctx); {
	case ctx.Err() != nil:
		e.warn("store", Say("the file is too large to be read within %s", soundTime),
			Say("restore the last export beside it: qrjump drill FILE"))
	case err != nil:
		e.bad("store", Said(err.Error()), Words{})
	case fault != "":
		e.bad("store", Say("the file of the database is damaged: %s", fault),
			Say("keep a copy of it, and restore the last export: qrjump import FILE --data NEW"))
	default:
		e.well("store", Say("the database is sound"))
	}
}

// keys returns why the keys of a database do not open; it makes none.
func (e *examination) keys(ctx context.Context, db *store.Store, schema int64) error {
	sealed, err := db.SealedKey(ctx, dataKey)
	if err != nil {
		return fmt.Errorf("reading the data key: %w", err)
	}
	if err := refuseEmpty(e.config, sealed == ""); err != nil || sealed == "" {
		return err
	}
	ring := &keyring{store: db, random: rand.Reader}
	if ring.master, ring.where, err = masterKey(e.config, rand.Reader, false); err != nil {
		return err
	}
	return (&Server{config: e.config}).checkKeys(ctx, db, ring, schema)
}
