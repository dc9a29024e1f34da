package endurance_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// errNoPower is what every operation answers after the cut, and errFull what
// every write answers that has no space.
var (
	errNoPower = errors.New("no power")
	errFull    = errors.New("no space")
)

const sector = 512

// disk is the durable side of all files that SQLite has open. It listens to
// every write, truncate, sync and delete. At a chosen operation the power goes.
// image then says what a restarted machine would find: everything that was
// synced, and of the rest any part, in any order, blocks torn.
type disk struct {
	cutAt int // number of the operation that fails, counted from 1; 0 is never
	// cut is called with the first operation that has no power.
	cut func()
	// full reports that there is no space.
	full func() bool

	mu    sync.Mutex
	ops   int
	files map[string]*file
}

// powerCut says when a child's power goes, and where to put what is left.
type powerCut struct {
	// Starting is the operation that fails while the server starts; 0 = none.
	Starting int
	// At is the operation that fails, counted from the signal SIGUSR1.
	At   int
	Seed uint64
	Into string
}

// putDiskUnder puts a disk under the embedded database of this process. When
// the power goes the process ends as by kill -9.
func putDiskUnder(data string, p powerCut) (*disk, error) {
	d := &disk{cutAt: p.Starting, files: map[string]*file{}}
	d.cut = func() {
		if err := d.image(p.Into, rand.New(rand.NewPCG(p.Seed, 0))); err != nil {
			fmt.Fprintln(os.Stderr, "the image of the disk:", err)
		}
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	}
	for _, name := range sqliteFiles {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err == nil {
			d.files[filepath.Join(data, name)] = &file{durable: text}
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	armed := make(chan os.Signal, 1)
	signal.Notify(armed, syscall.SIGUSR1)
	go func() {
		<-armed
		d.cutIn(p.At)
	}()
	return d, registerDisk(d)
}

// cutIn lets the power go with the n-th operation from now; 0 = never.
func (d *disk) cutIn(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cutAt = 0; n > 0 {
		d.cutAt = d.ops + n
	}
}

// untilReady is standard output, and ends what is planned for the start.
type untilReady struct{ disk *disk }

func (u untilReady) Write(p []byte) (int, error) {
	u.disk.cutIn(0)
	return os.Stdout.Write(p)
}

// sqliteFiles are the files of the embedded database that are on the disk.
var sqliteFiles = []string{"qrjump.db", "qrjump.db-wal", "qrjump.db-journal"}

type file struct {
	durable []byte
	pending []diskChange
}

type diskChange struct {
	off  int64
	data []byte // nil is a truncate to off
}

func (d *disk) step(name string) (*file, error) {
	d.ops++
	if d.cutAt > 0 && d.ops >= d.cutAt {
		return nil, errNoPower
	}
	if d.files == nil {
		d.files = map[string]*file{}
	}
	f := d.files[name]
	if f == nil {
		f = new(file)
		d.files[name] = f
	}
	return f, nil
}

// dark is called with the lock held, which nobody gets any more.
func (d *disk) dark(err error) error {
	if d.cut != nil {
		d.cut()
	}
	return err
}

func (d *disk) write(name string, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		if f := d.files[name]; f != nil && d.ops == d.cutAt { // the write in flight may land in part
			f.pending = append(f.pending, diskChange{off, append([]byte{}, p...)})
		}
		return d.dark(err)
	}
	if d.full != nil && d.full() {
		return errFull
	}
	f.pending = append(f.pending, diskChange{off, append([]byte{}, p...)})
	return nil
}

func (d *disk) truncate(name string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		return d.dark(err)
	}
	f.pending = append(f.pending, diskChange{off: size})
	return nil
}

func (d *disk) sync(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		return d.dark(err)
	}
	for _, c := range f.pending {
		f.durable = c.apply(f.durable)
	}
	f.pending = nil
	return nil
}

func (d *disk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.step(name); err != nil {
		return d.dark(err)
	}
	delete(d.files, name)
	return nil
}

// image writes into dir what the disk holds after the cut: an arbitrary part of what was not synced survives.
func (d *disk) image(dir string, r *rand.Rand) error {
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		if strings.HasSuffix(name, "-shm") {
			continue // memory, not disk
		}
		data := append([]byte{}, f.durable...)
		keep := r.Float64()
		for _, c := range f.pending {
			if r.Float64() > keep {
				continue // lost, although later ones may survive
			}
			if c.data != nil && r.IntN(4) == 0 { // torn
				n := len(c.data) / sector
				c.data = c.data[:r.IntN(n+1)*sector]
			}
			data = c.apply(data)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c diskChange) apply(b []byte) []byte {
	if c.data == nil {
		if c.off < int64(len(b)) {
			return b[:c.off]
		}
		return append(b, make([]byte, c.off-int64(len(b)))...)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.off:], c.data)
	return b
}

// TestDiskForgets: what was not synced can be lost, in part too, and what was
// synced is there.
func TestDiskForgets(t *testing.T) {
	kept, lost, torn := 0, 0, 0
	for seed := range uint64(100) {
		d := &disk{cutAt: 4}
		whole := strings.Repeat("b", 4*sector)
		for _, err := range []error{d.write("f", []byte("aa"), 0), d.sync("f"), d.write("f", []byte(whole), 2)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := d.sync("f"); !errors.Is(err, errNoPower) {
			t.Fatalf("the fourth operation: %v", err)
		}
		dir := t.TempDir()
		if err := d.image(dir, rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || !strings.HasPrefix("aa"+whole, string(got)) || len(got) < 2 {
			t.Fatalf("%q %v", got, err)
		}
		switch len(got) {
		case 2:
			lost++
		case 2 + len(whole):
			kept++
		default:
			torn++
		}
	}
	if kept == 0 || lost == 0 || torn == 0 {
		t.Errorf("%d kept, %d lost, %d torn: the disk has no teeth", kept, lost, torn)
	}
}
