// Package faultfs cuts the power under SQLite.
//
// A Disk listens to every write, truncate, sync and delete that SQLite makes. At a chosen operation the
// power goes: that operation and all later ones fail. Image then says what a restarted machine would find:
// everything that was synced, and of the rest any part, in any order, blocks torn.
package faultfs

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrNoPower is returned by every operation after the cut.
var ErrNoPower = errors.New("no power")

const sector = 512

// Disk is the durable side of all files that SQLite has open. The zero value is
// empty and has power for ever.
type Disk struct {
	CutAt int // number of the operation that fails, counted from 1; 0 is never; see CutIn
	// Cut is called with the first operation that has no power; nil = it only fails.
	Cut func()

	mu    sync.Mutex
	ops   int
	syncs int
	files map[string]*file
}

// Put lets a file be there from the beginning.
func (d *Disk) Put(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = map[string]*file{}
	}
	d.files[name] = &file{durable: content}
}

// CutIn lets the power go with the n-th operation from now; 0 = never.
func (d *Disk) CutIn(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.CutAt = 0; n > 0 {
		d.CutAt = d.ops + n
	}
}

// Counts returns how many operations there were, and how many of them were syncs.
func (d *Disk) Counts() (ops, syncs int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops, d.syncs
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

// dark is called with the lock held, which is never released.
func (d *Disk) dark(err error) error {
	if d.Cut != nil {
		d.Cut()
	}
	return err
}

// Write, Truncate, Sync and Delete are what SQLite is about to do; where they
// fail, it has to fail too.
func (d *Disk) Write(name string, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		if f := d.files[name]; f != nil && d.ops == d.CutAt { // the write in flight may land in part
			f.pending = append(f.pending, change{off, append([]byte{}, p...)})
		}
		return d.dark(err)
	}
	f.pending = append(f.pending, change{off, append([]byte{}, p...)})
	return nil
}

func (d *Disk) Truncate(name string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		return d.dark(err)
	}
	f.pending = append(f.pending, change{off: size})
	return nil
}

func (d *Disk) Sync(name string) error {
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
	d.syncs++
	return nil
}

func (d *Disk) Delete(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.step(name); err != nil {
		return d.dark(err)
	}
	delete(d.files, name)
	return nil
}

// Image writes into dir what the disk holds after the cut: an arbitrary part of what was not synced survives. Only Cut may use the
// disk meanwhile.
func (d *Disk) Image(dir string, r *rand.Rand) error {
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
