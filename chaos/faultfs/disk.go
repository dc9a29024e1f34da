// Package faultfs simulates a power failure under SQLite.
//
// A Disk records every write, truncate, sync and delete that SQLite makes. At a chosen operation the simulated power fails: this operation
// and all later operations return an error. Image then returns the files that a restarted machine could find: all synced data, and an
// arbitrary part of the unsynced writes, in any order, with torn blocks.
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

// Disk is a simulation of the durable content of all files that SQLite has open. The zero value is an empty disk without a power failure.
type Disk struct {
	CutAt int // Number of the first operation that fails, counted from 1; 0 means that no operation fails; see CutIn.
	// Cut is called at the first operation without power; if Cut is nil, the operation only fails.
	Cut func()

	mu    sync.Mutex
	ops   int
	files map[string]*file
}

// Put adds a file with durable content.
func (d *Disk) Put(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(name, &file{durable: content})
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

type file struct {
	durable []byte
	pending []change
}

type change struct {
	off  int64
	data []byte // If data is nil, the change truncates the file to off.
}

// record counts an operation on a file and applies it. Without power it calls Cut and returns ErrNoPower; the changes of the first
// operation without power may be stored partially.
func (d *Disk) record(name string, inProgress []change, apply func(f *file)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	f := d.files[name]
	if d.CutAt > 0 && d.ops >= d.CutAt {
		if f != nil && d.ops == d.CutAt {
			f.pending = append(f.pending, inProgress...)
		}
		if d.Cut != nil {
			d.Cut()
		}
		return ErrNoPower
	}
	if f == nil {
		f = new(file)
		d.put(name, f)
	}
	apply(f)
	return nil
}

func (d *Disk) put(name string, f *file) {
	if d.files == nil {
		d.files = map[string]*file{}
	}
	d.files[name] = f
}

// Write records a write that SQLite is about to make; if Write, Truncate, Sync or Delete returns an error, the SQLite operation must fail
// too.
func (d *Disk) Write(name string, p []byte, off int64) error {
	write := change{off, append([]byte{}, p...)}
	return d.record(name, []change{write}, func(f *file) { f.pending = append(f.pending, write) })
}

func (d *Disk) Truncate(name string, size int64) error {
	return d.record(name, nil, func(f *file) { f.pending = append(f.pending, change{off: size}) })
}

func (d *Disk) Sync(name string) error {
	return d.record(name, nil, func(f *file) {
		for _, c := range f.pending {
			f.durable = c.apply(f.durable)
		}
		f.pending = nil
	})
}

func (d *Disk) Delete(name string) error {
	return d.record(name, nil, func(*file) { delete(d.files, name) })
}

// Image writes a possible disk content after the power failure to dir: an arbitrary part of the unsynced writes survives. Only Cut may use
// the disk while Image runs.
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
