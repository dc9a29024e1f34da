package index

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// A snapshot file contains the index in its memory layout, so that a node can start by reading the file instead of building the
// index. The snapshot file begins with a header of one block:
//
//	8 bytes  "qrjrules"
//	4        version of the format
//	4        length of the JSON text
//	4        CRC-32C of the JSON text
//	JSON     of type snapshotHead
//
// The parts that the header lists follow the header, each with the listed length and CRC-32C; the file has no other content. Numbers are
// stored in little-endian order.
const (
	snapshotMagic  = "qrjrules"
	snapshotFormat = 3
	snapshotBlock  = 4096
	// newSnapshot is a suffix for the name of a snapshot file that is being written.
	newSnapshot = ".new-"
)

// Errors for an unusable snapshot file.
var (
	// ErrSnapshotFormat reports that the snapshot file was written by another version of the program.
	ErrSnapshotFormat = errors.New("written by another version of this program")
	// ErrSnapshotDamaged reports that the content of the snapshot file differs from the content that was written.
	ErrSnapshotDamaged = errors.New("damaged")
)

// Checkpoint identifies a state of the store. A snapshot with a Checkpoint contains all changes up to Seq, and possibly later changes.
type Checkpoint struct {
	// Seq is the number of the last change. Identity identifies the history of changes up to Seq, for example by the hash of the last
	// change.
	Seq      int64  `json:"seq"`
	Identity string `json:"identity"`
}

// SnapshotAccount holds the fields of an account that a scan decision needs.
type SnapshotAccount struct {
	AppID    string             `json:"appid"`
	Kind     accounts.Kind      `json:"kind"`
	JumpOpen bool               `json:"jump_open"`
	Versions []accounts.Version `json:"versions"`
	Linked   []string           `json:"linked,omitempty"`
}

type snapshotHead struct {
	Checkpoint
	Rules int            `json:"rules"`
	Parts []snapshotPart `json:"parts"`
}

type snapshotPart struct {
	Name   string `json:"name"`
	Length int64  `json:"length"`
	Sum    uint32 `json:"sum"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The names of the parts of a snapshot file, in file order.
var snapshotParts = []string{"core", "table", "hosts", "texts", "rules", "tests", "changed", "accounts"}

// coreImage holds the numeric fields of a core.
type coreImage struct {
	Machine  string         `json:"machine"` // byte order of a machine word
	Seed     uint64         `json:"seed"`
	Bits     uint           `json:"bits"`
	Rules    int            `json:"rules"`
	Texts    [][2]int32     `json:"texts"` // used and dead bytes of each chunk
	Arena    [][2]int32     `json:"arena"`
	Segments []segmentImage `json:"segments"` // only the non-empty segments
	Hosts    []segmentImage `json:"hosts"`
}

type segmentImage struct {
	At    int    `json:"at"`
	N     uint64 `json:"n"` // buckets or lines
	Used  int32  `json:"used"`
	Spent int32  `json:"spent,omitempty"`
}

// possible reports whether the description of a segment in the snapshot file is plausible. The index s.At must lie between start and count.
// The s.N buckets or hosts of 64 bytes must fit into "left" bytes; "room" is the number of entries per bucket or host.
func (s segmentImage) possible(start, count int, room uint64, left int64) bool {
	return s.At > start && s.At < count && s.N > 0 && s.N <= uint64(left)/64 && s.Used >= 0 && s.Spent >= 0 && uint64(s.Used) <= s.N*room
}

// changedRule is a rule that changed while the snapshot file was being written.
type changedRule struct {
	Key  string      `json:"key"`
	Rule *rules.Rule `json:"rule,omitempty"` // nil = removed
}

// WriteSnapshot writes the state that the index has at one moment during the call. WriteSnapshot first writes a new file to disk; the new
// file then replaces the file at path. Rules may change during the call. The caller must determine mark before the call, because a node
// that loads the file reads only the changes after mark.
func (x *Index) WriteSnapshot(path string, mark Checkpoint, list []SnapshotAccount) error {
	_, err := atomicfile.Write(path, 0o600, func(f *os.File) error { return x.writeSnapshot(f, mark, list) })
	if err != nil {
		return fmt.Errorf("writing the snapshot %s: %w", path, err)
	}
	return nil
}

// TidySnapshots removes incomplete snapshot files that a crash left behind.
func TidySnapshots(path string) {
	dir, name := filepath.Split(path)
	entries, _ := os.ReadDir(cmp.Or(dir, "."))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+newSnapshot) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// partWriter writes the parts of a snapshot file and records their lengths and checksums.
type partWriter struct {
	out  *bufio.Writer
	sum  hash.Hash32
	head snapshotHead
}

func (w *partWriter) Write(b []byte) (int, error) {
	w.sum.Write(b)
	w.head.Parts[len(w.head.Parts)-1].Length += int64(len(b))
	return w.out.Write(b)
}

func (w *partWriter) part(name string, write func() error) error {
	w.sum.Reset()
	w.head.Parts = append(w.head.Parts, snapshotPart{Name: name})
	if err := write(); err != nil {
		return err
	}
	w.head.Parts[len(w.head.Parts)-1].Sum = w.sum.Sum32()
	return nil
}

func (w *partWriter) json(name string, v any) error {
	return w.part(name, func() error { return json.NewEncoder(w).Encode(v) })
}

func (x *Index) writeSnapshot(f io.WriteSeeker, mark Checkpoint, list []SnapshotAccount) error {
	x.snapshots.Lock()
	defer x.snapshots.Unlock()
	w := &partWriter{out: bufio.NewWriterSize(f, 1<<20), sum: crc32.New(castagnoli), head: snapshotHead{Checkpoint: mark}}
	if _, err := w.out.Write(make([]byte, snapshotBlock)); err != nil {
		return err
	}
	var c *core
	x.locked(func() { c, x.changed = x.state.Load(), map[string]struct{}{} }) // from here on, the keys of changed rules are recorded
	defer x.locked(func() { x.changed = nil })
	// Segments are copied one by one; changes are blocked only while a segment is being copied. Changes between the copies of two
	// segments are recorded and written at the end.
	var table, hosts bytes.Buffer
	image := coreImage{Machine: byteOrder, Seed: c.seed, Bits: c.ruleTable.bits}
	table.Grow(int(c.ruleTable.bytes))
	for i := range c.ruleTable.segments {
		x.locked(func() {
			use := c.ruleTable.use[i]
			n := c.ruleTable.segments[i].n.Load()
			if n > 0 {
				image.Segments = append(image.Segments, segmentImage{At: i, N: n, Used: use.used, Spent: use.spent})
			}
			table.Write(words(c.ruleTable.segments[i].buckets.Load(), n))
		})
		x.step("segment copied")
	}
	for i := range c.hosts.segments {
		x.locked(func() {
			n := c.hosts.segments[i].n.Load()
			if n > 0 {
				image.Hosts = append(image.Hosts, segmentImage{At: i, N: n, Used: c.hosts.used[i]})
			}
			hosts.Write(words(c.hosts.segments[i].lines.Load(), n))
		})
	}
	var changed []changedRule
	var tests []string
	var err error
	x.locked(func() {
		// From here on, new records are only added after the records that are written to the file.
		image.Texts, image.Arena = c.texts.image(), c.rules.image()
		changed, tests, w.head.Rules = x.copied(c), c.testKeys(), c.ruleTable.n
		if x.state.Load() != c {
			err = errors.New("the rules were reloaded concurrently")
		}
	})
	if err != nil {
		return err
	}
	for _, s := range image.Segments {
		image.Rules += int(s.Used)
	}
	err = errors.Join(
		w.json("core", image),
		w.part("table", func() error { _, err := w.Write(table.Bytes()); return err }),
		w.part("hosts", func() error { _, err := w.Write(hosts.Bytes()); return err }),
		w.part("texts", func() error { return c.texts.write(w, image.Texts) }),
		w.part("rules", func() error { return c.rules.write(w, image.Arena) }),
		w.json("tests", tests),
		w.json("changed", changed),
		w.json("accounts", list),
		w.out.Flush())
	if err != nil {
		return err
	}
	return w.head.write(f)
}

// write writes the header to the first block of a file; the rest of the block stays zero.
func (h snapshotHead) write(f io.WriteSeeker) error {
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(head) > snapshotBlock-20 {
		return errors.New("the identity of the store is too long")
	}
	block := append([]byte(snapshotMagic), make([]byte, 12)...)
	binary.LittleEndian.PutUint32(block[8:], snapshotFormat)
	binary.LittleEndian.PutUint32(block[12:], uint32(len(head)))
	binary.LittleEndian.PutUint32(block[16:], crc32.Checksum(head, castagnoli))
	block = append(block, head...)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = f.Write(block)
	return err
}

// byteOrder is the byte order of this machine.
var byteOrder = binary.NativeEndian.String()

// words returns the memory of n buckets or hosts as bytes.
func words[T bucket | host](first *T, n uint64) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(first)), n*uint64(unsafe.Sizeof(*first)))
}

func (x *Index) locked(do func()) {
	x.writing.Lock()
	defer x.writing.Unlock()
	do()
}

// copied returns the current versions of the rules that changed since x.changed was set.
func (x *Index) copied(c *core) []changedRule {
	list := []changedRule{}
	for _, key := range slices.Sorted(maps.Keys(x.changed)) {
		entry := changedRule{Key: key}
		if b, i, _ := c.slotOf(key); b != nil {
			entry.Rule = new(c.rule(c.rules.record(addressOf(b[i]))))
		}
		list = append(list, entry)
	}
	return list
}

// testKeys returns the keys of the rules that have test links.
func (c *core) testKeys() []string {
	keys := []string{}
	for _, test := range c.tests {
		keys = append(keys, test...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// image returns the used and dead bytes of each chunk.
func (a *arena) image() [][2]int32 {
	list := make([][2]int32, len(a.chunks))
	for i, use := range a.chunks {
		list[i] = [2]int32{use.used, use.dead}
	}
	return list
}

func (a *arena) write(w io.Writer, image [][2]int32) error {
	for i, use := range image {
		if use[0] > 0 {
			if _, err := w.Write(a.chunk(address(i << chunkBits))[:use[0]]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Snapshot is the content of a snapshot file.
type Snapshot struct {
	Checkpoint
	Rules    *Index
	Accounts []SnapshotAccount
}

// ReadSnapshot reads a snapshot file. ReadSnapshot returns the error of os.Open, ErrSnapshotFormat or ErrSnapshotDamaged.
// ReadSnapshot allocates no more memory than the length of the snapshot file.
func ReadSnapshot(path string) (*Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := readSnapshot(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("the snapshot %s cannot be used: %w", path, err)
	}
	return s, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSnapshotDamaged, fmt.Sprintf(format, args...))
}

func readHead(r io.Reader, size int64) (head snapshotHead, err error) {
	block := make([]byte, snapshotBlock)
	if _, err := io.ReadFull(r, block); err != nil {
		return head, damaged("truncated header")
	}
	if string(block[:8]) != snapshotMagic {
		return head, damaged("not a snapshot file")
	}
	n := binary.LittleEndian.Uint32(block[12:])
	if n > snapshotBlock-20 || crc32.Checksum(block[20:20+n], castagnoli) != binary.LittleEndian.Uint32(block[16:]) ||
		len(bytes.Trim(block[20+n:], "\x00")) > 0 {
		return head, damaged("header checksum mismatch")
	}
	if version := binary.LittleEndian.Uint32(block[8:]); version != snapshotFormat {
		return head, fmt.Errorf("%w (format %d, this version reads %d)", ErrSnapshotFormat, version, snapshotFormat)
	}
	if err := json.Unmarshal(block[20:20+n], &head); err != nil {
		return head, damaged("its head: %v", err)
	}
	total := int64(snapshotBlock)
	for i, part := range head.Parts {
		if i >= len(snapshotParts) || part.Name != snapshotParts[i] || part.Length < 0 || part.Length > size-total {
			return head, damaged("unexpected parts, or truncated")
		}
		total += part.Length
	}
	if len(head.Parts) != len(snapshotParts) || total != size {
		return head, damaged("it has %d bytes, its parts have %d", size, total)
	}
	return head, nil
}

// partReader reads one part of a snapshot file, of which N bytes remain.
type partReader struct{ io.LimitedReader }

// fill reads exactly len(b) bytes of the part.
func (r *partReader) fill(b []byte) error {
	if int64(len(b)) > r.N {
		return damaged("a part is shorter than its content")
	}
	if _, err := io.ReadFull(r, b); err != nil {
		return damaged("it cannot be read: %v", err)
	}
	return nil
}

// partSequence reads the parts of a snapshot file in order.
type partSequence struct {
	in    io.Reader
	parts []snapshotPart // the parts that are not read yet
}

// next calls "read" with the next part, and returns an error if bytes of the part stay unread or if the checksum is wrong.
func (s *partSequence) next(read func(*partReader) error) error {
	p := s.parts[0]
	s.parts = s.parts[1:]
	sum := crc32.New(castagnoli)
	r := &partReader{io.LimitedReader{R: io.TeeReader(s.in, sum), N: p.Length}}
	if err := read(r); err != nil {
		return err
	}
	if r.N != 0 || sum.Sum32() != p.Sum {
		return damaged("checksum mismatch in part %q", p.Name)
	}
	return nil
}

// nextJSON reads the next part, which must be small, verifies its checksum and then parses it.
func (s *partSequence) nextJSON(v any) error {
	var text []byte
	err := s.next(func(r *partReader) error {
		text = make([]byte, r.N)
		return r.fill(text)
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return damaged("a part cannot be read: %v", err)
	}
	return nil
}

func readSnapshot(in io.Reader, size int64) (*Snapshot, error) {
	head, err := readHead(in, size)
	if err != nil {
		return nil, err
	}
	parts := &partSequence{in, head.Parts}
	var image coreImage
	if err := parts.nextJSON(&image); err != nil {
		return nil, err
	}
	if image.Machine != byteOrder {
		return nil, fmt.Errorf("%w for machines of another byte order", ErrSnapshotFormat)
	}
	if image.Bits < minSegmentBits || image.Bits > 24 {
		return nil, damaged("invalid table sizes")
	}
	c := &core{seed: image.Seed, textTable: newTable(0), tests: map[string][]string{}}
	c.ruleTable = table{segments: make([]segment, 1<<image.Bits), use: make([]segmentUse, 1<<image.Bits), bits: image.Bits, n: image.Rules,
		bytes: (16 + 8) << image.Bits}
	var cut blocks
	for _, read := range []func(*partReader) error{
		func(r *partReader) error { return c.ruleTable.read(r, image.Segments, &cut) },
		func(r *partReader) error { return c.hosts.read(r, image.Hosts) },
		func(r *partReader) error { return c.texts.read(r, image.Texts) },
		func(r *partReader) error { return c.rules.read(r, image.Arena) },
	} {
		if err := parts.next(read); err != nil {
			return nil, err
		}
	}
	var tests []string
	var changed []changedRule
	s := &Snapshot{Checkpoint: head.Checkpoint, Rules: &Index{}}
	for _, v := range []any{&tests, &changed, &s.Accounts} {
		if err := parts.nextJSON(v); err != nil {
			return nil, err
		}
	}
	gather(append(cut.pieces, c.rules.pieces()...))
	c.recallTexts()
	c.grownAt = c.texts.bytes
	for _, key := range tests {
		if b, i, _ := c.slotOf(key); b != nil {
			c.retest(key, nil, c.lists(addressOf(b[i])))
		}
	}
	s.Rules.replace(c)
	for _, change := range changed {
		if err := change.apply(s.Rules); err != nil {
			return nil, err
		}
	}
	if s.Rules.Len() != head.Rules {
		return nil, damaged("it holds %d rules, not %d", s.Rules.Len(), head.Rules)
	}
	return s, nil
}

// apply repeats a change that was made while the snapshot file was being written.
func (c changedRule) apply(x *Index) error {
	r := c.Rule
	if r == nil {
		x.Remove(c.Key)
		return nil
	}
	prefix, ok := rules.StoredPrefix(r.Prefix.Text)
	if !ok {
		return damaged("%.120q is not a valid prefix", r.Prefix.Text)
	}
	r.Prefix = prefix
	x.Set(*r)
	return nil
}

func (t *table) read(r *partReader, image []segmentImage, cut *blocks) error {
	last := -1
	cut.remaining = uint64(r.N / 64)
	for _, s := range image {
		if !s.possible(last, len(t.segments), slots, r.N) {
			return damaged("invalid segment size")
		}
		last = s.At
		if err := r.fill(words(t.place(last, s.N, cut), s.N)); err != nil {
			return err
		}
		t.use[last] = segmentUse{s.Used, s.Spent}
	}
	return nil
}

func (t *hostTable) read(r *partReader, image []segmentImage) error {
	last := -1
	for _, s := range image {
		if !s.possible(last, 1<<hostBits, 1, r.N) {
			return damaged("invalid size of a segment of hosts")
		}
		lines := make([]host, s.N)
		if err := r.fill(words(&lines[0], s.N)); err != nil {
			return err
		}
		last = s.At
		t.segments[last].lines.Store(&lines[0])
		t.segments[last].n.Store(s.N)
		t.used[last] = s.Used
		t.bytes += int64(s.N) * 64
	}
	return nil
}

func (a *arena) read(r *partReader, image [][2]int32) error {
	if len(image) > maxChunks {
		return damaged("it has too many chunks")
	}
	full := 0
	for _, use := range image {
		if use[0] > 0 {
			full++
		}
	}
	for i, use := range image {
		if use[0] < 0 || use[0] > chunkSize || use[1] < 0 || use[1] > use[0] || int64(use[0]) > r.N {
			return damaged("invalid chunk size")
		}
		if use[0] == 0 {
			a.enter(nil, int32(max(0, len(a.slabs)-1)))
			continue
		}
		if len(a.slabs) == 0 || len(a.slabs[len(a.slabs)-1].spare) == 0 {
			a.reserve(min(slabMost, full))
		}
		full--
		a.grow()
		if err := r.fill(a.chunk(address(i << chunkBits))[:use[0]]); err != nil {
			return err
		}
		a.chunks[i].used, a.chunks[i].dead = use[0], use[1]
		s := &a.slabs[len(a.slabs)-1]
		s.used += int64(use[0])
		s.dead += int64(use[1])
		a.free = int(use[0])
	}
	if n := len(image); n > 0 && image[n-1][0] == 0 {
		a.free = chunkSize // the last chunk was dropped, so the next record starts a new chunk
	}
	return nil
}

// recallTexts rebuilds the table with which a writer finds stored texts.
func (c *core) recallTexts() {
	for i, use := range c.texts.chunks {
		from := 0
		if i == 0 {
			from = 8
		}
		for from+2 <= int(use.used) {
			addr := address(i<<chunkBits | from)
			text := c.texts.text(addr)
			h := hashText(c.seed, 0, text)
			c.textTable.room(h, &c.unseen)
			c.textTable.insert(h, addr)
			from += 2 + len(text)
		}
	}
}
