// Package faultfs simulates a power failure under SQLite.
//
// A Disk records every write, truncate, sync and delete that SQLite makes. At a chosen operation the simulated power fails: this
// operation and all later operations return an error. Image then returns the files that a restarted machine could find: all synced
// data, and an arbitrary part of the unsynced writes, in any order, with torn blocks.
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

// ErrNoPower is the error of every operation after the power failure.
var ErrNoPower = errors.New("no power")

const sector = 512

// Disk is a simulation of the durable content of all files that SQLite has open. The zero value is an empty disk without a power
// failure.
type Disk struct {
	CutAt int // Number of the first operation that fails, counted from 1; 0 means that no operation fails; see CutIn.
	// Cut is called at the first operation without power; if Cut is nil, the operation only fails.
	Cut func()

	mu    sync.Mutex
	ops   int
	syncs int
	files map[string]*file
}

// Put adds a file with durable content.
func (d *Disk) Put(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = map[string]*file{}
	}
	d.files[name] = &file{durable: content}
}

// CutIn makes the power fail at the n-th operation from now; 0 means never.
func (d *Disk) CutIn(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.CutAt = 0
	if n > 0 {
		d.CutAt = d.ops + n
	}
}

// Counts returns the number of operations, and the number of syncs among them.
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
	data []byte // If data is nil, the change truncates the file to off.
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

// dark calls Cut while the caller holds the lock.
func (d *Disk) dark(err error) error {
	if d.Cut != nil {
		d.Cut()
	}
	return err
}

// Write records a write that SQLite is about to make; if Write, Truncate, Sync or Delete returns an error, the SQLite operation
// must fail too.
func (d *Disk) Write(name string, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.step(name)
	if err != nil {
		if f := d.files[name]; f != nil && d.ops == d.CutAt { // The write in progress may be stored partially.
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

// Image writes a possible disk content after the power failure to dir: an arbitrary part of the unsynced writes survives. Only Cut
// may use the disk while Image runs.
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
				continue // The write is lost, although later writes may survive.
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
