package scanlog

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// brokenDisk keeps files in memory and simulates failures. After a power loss, each sector of 512 bytes that was not flushed is either
// old or new. A failed flush loses its writes, and the next flush succeeds.
type brokenDisk struct {
	mu      sync.Mutex
	chance  *rand.Rand
	names   map[string]*brokenNode // as programs see them
	durable map[string]*brokenNode
	steps   []func(map[string]*brokenNode) // changes of names since the last flush of the folder

	ops     int
	crashAt int     // operation at which the power is lost; 0 = none
	failAt  int     // first operation that fails; 0 = none
	failFor int     // number of operations that fail; 0 = one
	with    error   // error of operations that fail
	flaky   float64 // probability that an operation fails
}

type brokenNode struct {
	written []byte // as programs see it
	durable []byte
	pending []brokenWrite
}

type brokenWrite struct {
	offset int64
	data   []byte // nil = truncate to offset
}

var errCrashed = errors.New("power lost")

func newBrokenDisk(chance *rand.Rand) *brokenDisk {
	return &brokenDisk{chance: chance, names: map[string]*brokenNode{}, durable: map[string]*brokenNode{}}
}

// newBrokenDiskWith returns a disk with durable files in the folder scans.
func newBrokenDiskWith(files map[string][]byte) *brokenDisk {
	d := newBrokenDisk(rand.New(rand.NewPCG(1, 1)))
	for name, content := range files {
		node := &brokenNode{written: content, durable: content}
		d.names["scans/"+name], d.durable["scans/"+name] = node, node
	}
	return d
}

// step counts an operation and returns its error.
func (d *brokenDisk) step() error {
	d.ops++
	switch {
	case d.crashAt > 0 && d.ops >= d.crashAt:
		return errCrashed
	case d.failAt > 0 && d.ops >= d.failAt && d.ops < d.failAt+max(1, d.failFor):
		return d.with
	case d.flaky > 0 && d.chance.Float64() < d.flaky:
		return []error{syscall.EIO, syscall.ENOSPC}[d.chance.IntN(2)]
	}
	return nil
}

// apply makes a write durable: completely if chance is nil, otherwise a random part of it.
func (n *brokenNode) apply(w brokenWrite, chance *rand.Rand) {
	if w.data == nil {
		if chance == nil || chance.IntN(2) == 0 {
			n.durable = resize(n.durable, w.offset)
		}
		return
	}
	if chance != nil && chance.IntN(3) == 0 {
		return
	}
	torn := chance != nil && chance.IntN(2) == 0
	for i := 0; i < len(w.data); {
		// A sector ends at a multiple of 512 in the file.
		size := min(len(w.data)-i, 512-int((w.offset+int64(i))%512))
		if !torn || chance.IntN(2) == 0 {
			n.durable = writeAt(n.durable, w.offset+int64(i), w.data[i:i+size])
		}
		i += size
	}
}

func writeAt(b []byte, offset int64, data []byte) []byte {
	if end := offset + int64(len(data)); int64(len(b)) < end {
		b = resize(b, end)
	}
	copy(b[offset:], data)
	return b
}

func resize(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return slices.Clone(b[:size])
	}
	return append(slices.Clip(b), make([]byte, size-int64(len(b)))...)
}

// afterPowerLoss returns the disk as the next start finds it.
func (d *brokenDisk) afterPowerLoss() *brokenDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newBrokenDisk(d.chance)
	for _, step := range d.steps[:d.chance.IntN(len(d.steps)+1)] {
		step(d.durable)
	}
	// In sorted order, so that a seed is reproducible.
	for _, name := range slices.Sorted(maps.Keys(d.durable)) {
		node := d.durable[name]
		for _, w := range node.pending {
			node.apply(w, d.chance)
		}
		node.pending = nil
		n := &brokenNode{written: slices.Clone(node.durable), durable: slices.Clone(node.durable)}
		after.names[name], after.durable[name] = n, n
	}
	return after
}

// afterKill returns the disk as the process after a killed one finds it: with all writes, but without making any of them durable.
func (d *brokenDisk) afterKill() *brokenDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newBrokenDisk(d.chance)
	after.names, after.durable, after.steps = d.names, d.durable, d.steps
	return after
}

func (d *brokenDisk) open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	node, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &brokenFile{d, node}, nil
}

func (d *brokenDisk) create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	node := &brokenNode{}
	d.change(func(names map[string]*brokenNode) { names[name] = node })
	return &brokenFile{d, node}, nil
}

func (d *brokenDisk) change(step func(map[string]*brokenNode)) {
	step(d.names)
	d.steps = append(d.steps, step)
}

func (d *brokenDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		if err != errCrashed && d.chance.IntN(2) == 0 {
			d.change(renameStep(from, to)) // reports a failure, but took effect
		}
		return err
	}
	d.change(renameStep(from, to))
	return nil
}

func renameStep(from, to string) func(map[string]*brokenNode) {
	return func(names map[string]*brokenNode) {
		if node, ok := names[from]; ok {
			names[to] = node
			delete(names, from)
		}
	}
}

func (d *brokenDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	if _, ok := d.names[name]; !ok {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*brokenNode) { delete(names, name) })
	return nil
}

func (d *brokenDisk) list(dir string) (names []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	for name := range d.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *brokenDisk) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	for _, step := range d.steps {
		step(d.durable)
	}
	d.steps = nil
	return nil
}

type brokenFile struct {
	d    *brokenDisk
	node *brokenNode
}

func (f *brokenFile) ReadAt(b []byte, offset int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return 0, err
	}
	return bytes.NewReader(f.node.written).ReadAt(b, offset)
}

func (f *brokenFile) WriteAt(b []byte, offset int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step()
	if err != nil {
		b = b[:f.d.chance.IntN(len(b)+1)]
	}
	if len(b) > 0 {
		w := brokenWrite{offset, slices.Clone(b)}
		f.node.written = writeAt(f.node.written, w.offset, w.data)
		f.node.pending = append(f.node.pending, w)
	}
	return len(b), err
}

func (f *brokenFile) truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return err
	}
	f.node.written = resize(f.node.written, size)
	f.node.pending = append(f.node.pending, brokenWrite{offset: size})
	return nil
}

func (f *brokenFile) size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.node.written)), f.d.step()
}

func (f *brokenFile) sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step()
	if err == errCrashed {
		return err
	}
	chance := f.d.chance
	if err == nil {
		chance = nil
	}
	for _, w := range f.node.pending {
		f.node.apply(w, chance)
	}
	f.node.pending = nil
	return err
}

func (f *brokenFile) Close() error { return nil }
