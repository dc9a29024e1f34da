// Package powercut shows that a file layer of our own can be put under SQLite, and cuts its power.
//
// A Disk listens to every write, truncate, sync and delete that SQLite makes. At a chosen operation the
// power goes: that operation and all later ones fail. Image then says what a restarted machine would find:
// everything that was synced, and of the rest any part, in any order, the last block torn.
package powercut

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ErrNoPower is what every operation answers after the cut.
var ErrNoPower = errors.New("no power")

const sector = 512

// A Disk is the durable side of all files below one folder.
type Disk struct {
	CutAt int // number of the operation that fails, counted from 1; 0 is never

	mu    sync.Mutex
	ops   int
	syncs int
	files map[string]*file
}

type file struct {
	durable []byte
	pending []change
}

type change struct {
	off  int64
	data []byte // nil is a truncate to off
}

func (d *Disk) step(name string) (*file, error) {
	d.ops++
	if d.CutAt > 0 && d.ops >= d.CutAt {
		return nil, ErrNoPower
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

func (d *Disk) Write(name string, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		if f := d.files[name]; f != nil && d.ops == d.CutAt { // the write in flight may land in part
			f.pending = append(f.pending, change{off, append([]byte{}, p...)})
		}
		return err
	}
	f.pending = append(f.pending, change{off, append([]byte{}, p...)})
	return nil
}

func (d *Disk) Truncate(name string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err == nil {
		f.pending = append(f.pending, change{off: size})
	}
	return err
}

func (d *Disk) Sync(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		return err
	}
	d.syncs++
	for _, c := range f.pending {
		f.durable = c.apply(f.durable)
	}
	f.pending = nil
	return nil
}

func (d *Disk) Delete(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.step(name); err != nil {
		return err
	}
	delete(d.files, name)
	return nil
}

func (d *Disk) Counts() (ops, syncs int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops, d.syncs
}

// Image writes into dir what the disk holds after the cut: an arbitrary part of what was not synced survives.
func (d *Disk) Image(dir string, r *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.files {
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

func (c change) apply(b []byte) []byte {
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
