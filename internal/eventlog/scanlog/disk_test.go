package scanlog

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// brokenDisk keeps files in memory and treats them as badly as a machine may: what was not flushed is there in a crash or is not, each 512
// bytes for themselves; a flush that fails loses what it was to write, and the next one says that all is well.
type brokenDisk struct {
	mu      sync.Mutex
	chance  *rand.Rand
	names   map[string]*brokenNode // as a program sees them
	durable map[string]*brokenNode
	steps   []func(map[string]*brokenNode) // what was done to names since the last flush of the folder

	ops     int
	crashAt int // at this operation the machine stops; 0 = never
	failAt  int // this operation fails; 0 = none
	failFor int // so many operations fail; 0 = one
	with    error
	flaky   float64 // the chance that an operation fails
}

type brokenNode struct {
	seen    []byte // with everything that was written
	durable []byte
	pending []brokenWrite
}

type brokenWrite struct {
	at   int64
	data []byte // nil = truncate to at
}

var errCrashed = errors.New("the machine stopped")

func newBrokenDisk(chance *rand.Rand) *brokenDisk {
	return &brokenDisk{chance: chance, names: map[string]*brokenNode{}, durable: map[string]*brokenNode{}}
}

// step counts an operation and says whether it fails.
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

func (n *brokenNode) apply(w brokenWrite, chance *rand.Rand) {
	if w.data == nil {
		if chance == nil || chance.IntN(2) == 0 {
			n.durable = resized(n.durable, w.at)
		}
		return
	}
	if chance != nil && chance.IntN(3) == 0 {
		return
	}
	torn := chance != nil && chance.IntN(2) == 0
	for i := 0; i < len(w.data); {
		// A sector ends at a multiple of 512 in the file.
		size := min(len(w.data)-i, 512-int((w.at+int64(i))%512))
		if !torn || chance.IntN(2) == 0 {
			n.durable = put(n.durable, w.at+int64(i), w.data[i:i+size])
		}
		i += size
	}
}

func put(b []byte, at int64, data []byte) []byte {
	if end := at + int64(len(data)); int64(len(b)) < end {
		b = resized(b, end)
	}
	copy(b[at:], data)
	return b
}

func resized(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return slices.Clone(b[:size])
	}
	return append(slices.Clip(b), make([]byte, size-int64(len(b)))...)
}

// crashed is the disk as the next start finds it.
func (d *brokenDisk) crashed() *brokenDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newBrokenDisk(d.chance)
	for _, step := range d.steps[:d.chance.IntN(len(d.steps)+1)] {
		step(d.durable)
	}
	// In an order, so that a seed is one story.
	for _, name := range slices.Sorted(maps.Keys(d.durable)) {
		node := d.durable[name]
		for _, w := range node.pending {
			node.apply(w, d.chance)
		}
		node.pending = nil
		n := &brokenNode{seen: slices.Clone(node.durable), durable: slices.Clone(node.durable)}
		after.names[name], after.durable[name] = n, n
	}
	return after
}

// killed is the disk as a process finds it that follows a killed one: all that was written is seen, but no more of it is durable.
func (d *brokenDisk) killed() *brokenDisk {
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
			d.change(move(from, to)) // it fails and has happened
		}
		return err
	}
	d.change(move(from, to))
	return nil
}

func move(from, to string) func(map[string]*brokenNode) {
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

func (f *brokenFile) ReadAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return 0, err
	}
	if at >= int64(len(f.node.seen)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.seen[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *brokenFile) WriteAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step()
	if err != nil {
		b = b[:f.d.chance.IntN(len(b)+1)]
	}
	if len(b) > 0 {
		w := brokenWrite{at, slices.Clone(b)}
		f.node.seen = put(f.node.seen, w.at, w.data)
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
	f.node.seen = resized(f.node.seen, size)
	f.node.pending = append(f.node.pending, brokenWrite{at: size})
	return nil
}

func (f *brokenFile) size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.node.seen)), f.d.step()
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
