package losses

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver"
	_ "modernc.org/sqlite"

	"github.com/qrjump/qrjump/endurance/powercut"
)

var candidates = []struct {
	name     string // as database/sql knows it
	register func(*powercut.Disk) (string, error)
}{
	{"sqlite", func(d *powercut.Disk) (string, error) { return powercut.RegisterModernc(d, false) }},
	{"sqlite3", func(d *powercut.Disk) (string, error) { return RegisterNcruces(d), nil }},
}

func open(t *testing.T, driver, path, vfs, sync string) *sql.DB {
	t.Helper()
	dsn := "file:" + path + "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(" + sync + ")"
	if vfs != "" {
		dsn += "&vfs=" + vfs
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// In WAL mode a writer and four readers work at once through our file layer, and every commit is synced.
func TestWALWorksUnderOurFileLayer(t *testing.T) {
	for _, c := range candidates {
		t.Run(c.name, func(t *testing.T) {
			disk := &powercut.Disk{}
			vfs, err := c.register(disk)
			if err != nil {
				t.Fatal(err)
			}
			db := open(t, c.name, filepath.Join(t.TempDir(), "p.db"), vfs, "full")
			db.SetMaxOpenConns(5)
			var mode string
			if err := db.QueryRow(`PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
				t.Fatal(mode, err)
			}
			if _, err := db.Exec(`CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT)`); err != nil {
				t.Fatal(err)
			}
			_, before := disk.Counts()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					last := 0
					for last < 100 {
						var n int
						if err := db.QueryRow(`SELECT count(*) FROM t`).Scan(&n); err != nil || n < last {
							t.Error(n, last, err)
							return
						}
						last = n
					}
				})
			}
			for i := range 100 {
				if _, err := db.Exec(`INSERT INTO t (id, x) VALUES (?1, ?2)`, i, "x"); err != nil {
					t.Fatal(err)
				}
			}
			wg.Wait()
			ops, after := disk.Counts()
			if after-before < 100 {
				t.Errorf("%d syncs for 100 commits", after-before)
			}
			t.Logf("%d operations, %d syncs for 100 commits", ops, after-before)
		})
	}
}

// With synchronous FULL no acknowledged commit is lost and the file is whole; with NORMAL and OFF
// this very test sees losses, so it can see them.
func TestPowerCut(t *testing.T) {
	for _, c := range candidates {
		for sync, seeds := range map[string]int{"full": 60, "normal": 30, "off": 30} {
			t.Run(c.name+"/"+sync, func(t *testing.T) {
				lost, broken, cut := 0, 0, 0
				for seed := range seeds {
					l, b, k := powerCut(t, c.name, c.register, sync, uint64(seed))
					lost, broken, cut = lost+l, broken+b, cut+k
				}
				t.Logf("%d seeds, %d cuts: %d lost something acknowledged, %d broke the file", seeds, cut, lost, broken)
				if sync == "full" && lost+broken > 0 {
					t.Error("an acknowledged commit was lost")
				}
				if sync == "normal" && broken > 0 {
					t.Error("NORMAL may lose the last commits, but must not break the file")
				}
				if sync != "full" && lost+broken == 0 {
					t.Error("the power cut has no teeth")
				}
			})
		}
	}
}

func powerCut(t *testing.T, driver string, register func(*powercut.Disk) (string, error), sync string, seed uint64) (lost, broken, cut int) {
	r := rand.New(rand.NewPCG(seed, 1))
	disk := &powercut.Disk{CutAt: 20 + r.IntN(400)}
	vfs, err := register(disk)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acknowledged := -1
	func() {
		db := open(t, driver, filepath.Join(dir, "p.db"), vfs, sync)
		defer db.Close()
		db.SetMaxOpenConns(1)
		ctx := context.Background()
		if _, err := db.Exec(`PRAGMA wal_autocheckpoint = 20; CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY, x BLOB)`); err != nil {
			return
		}
		for i := range 200 {
			err := func() error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				if _, err := tx.Exec(`INSERT INTO t (id, x) VALUES (?1, randomblob(?2))`, i, 100+r.IntN(3000)); err != nil {
					return err
				}
				return tx.Commit()
			}()
			if err != nil {
				cut = 1
				return
			}
			acknowledged = i
		}
	}()
	after := t.TempDir()
	if err := disk.Image(after, r); err != nil {
		t.Fatal(err)
	}
	db := open(t, driver, filepath.Join(after, "p.db"), "", "full")
	defer db.Close()
	var check string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
		return 0, 1, cut
	}
	var n, top sql.NullInt64
	err = db.QueryRow(`SELECT count(*), max(id) FROM t`).Scan(&n, &top)
	if acknowledged >= 0 && (err != nil || int(top.Int64) < acknowledged || n.Int64 != top.Int64+1) {
		if sync == "full" {
			t.Logf("seed %d: acknowledged %d, found %v %v %v", seed, acknowledged, n, top, err)
		}
		return 1, 0, cut
	}
	return 0, 0, cut
}
