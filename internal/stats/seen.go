package stats

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/ledger"
)

// seen knows which scans were counted, so that an event that stands in the log
// twice counts once, however late the second one is. The last stretch of the
// log is known id by id. Of every earlier stretch there is a filter, which is
// asked only for ids as old as those of the stretch; where a filter says yes,
// the stretch is read again to be sure.
type seen struct {
	log      ledger.Log
	stretch  int // ids of a stretch
	window   idSet
	after    int64 // where the window begins
	position int64 // how far is counted
	oldest   int64
	newest   int64
	earlier  []*stretch
	until    int64 // the newest of them
	use      int64 // for the least recently used
	// filterOf reads a filter from the store.
	filterOf func(ctx context.Context, after int64) (string, error)
}

// stretch is a part of the log that is counted.
type stretch struct {
	SeenRow
	bits   []byte
	ids    []ledger.ScanID // sorted; read from the log
	usedAt int64
	fresh  bool // not stored yet
}

const (
	// stretchIDs is how many scans a stretch has at least.
	stretchIDs = 250_000
	// Three bytes a scan and 16 probes: a filter errs once in 100,000 questions.
	filterBits   = 24
	filterProbes = 16
	// maxFilters and maxIDLists bound what is kept in memory: 64 MiB and 32 MiB.
	maxFilters = 88
	maxIDLists = 8
)

// load reads what is known up to a position.
func (s *seen) load(ctx context.Context, rows []SeenRow, position int64) error {
	s.window, s.earlier, s.after, s.position = idSet{}, nil, 0, position
	s.oldest, s.newest, s.until = math.MaxInt64, math.MinInt64, math.MinInt64
	for _, row := range rows {
		s.earlier = append(s.earlier, &stretch{SeenRow: row})
		s.after, s.until = max(s.after, row.Position), max(s.until, row.Newest)
	}
	if s.after >= position {
		return nil
	}
	for e, err := range s.log.Read(ctx, s.after) {
		if err != nil {
			return fmt.Errorf("reading which scans were counted: %w", err)
		}
		if e.Position > position {
			break
		}
		s.note(e.ID)
	}
	return nil
}

// note takes an id in.
func (s *seen) note(id ledger.ScanID) {
	s.window.add(id)
	ms := idMillisOf(id)
	s.oldest, s.newest = min(s.oldest, ms), max(s.newest, ms)
}

func idMillisOf(id ledger.ScanID) int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 16) }

// has reports whether an id stands before this place in the log.
func (s *seen) has(ctx context.Context, id ledger.ScanID) (bool, error) {
	if s.window.has(id) {
		return true, nil
	}
	ms := idMillisOf(id)
	if ms > s.until {
		return false, nil // younger than all stretches, as nearly every one
	}
	for _, one := range slices.Backward(s.earlier) {
		if ms < one.Oldest || ms > one.Newest {
			continue
		}
		if err := s.fetch(ctx, one); err != nil {
			return false, err
		}
		if !maybe(one.bits, id) {
			continue
		}
		if err := s.fetchIDs(ctx, one); err != nil {
			return false, err
		}
		if _, have := slices.BinarySearchFunc(one.ids, id, compareIDs); have {
			return true, nil
		}
	}
	return false, nil
}

// full begins a new window where this one is a whole stretch up to a position.
// Its row is to be stored in the transaction that counts.
func (s *seen) full(position int64) (SeenRow, bool) {
	if s.window.n < s.stretch {
		return SeenRow{}, false
	}
	bits := make([]byte, max(1, s.window.n*filterBits/8))
	s.window.each(func(id ledger.ScanID) { enter(bits, id) })
	row := SeenRow{After: s.after, Position: position, Oldest: s.oldest, Newest: s.newest}
	s.use++
	s.earlier = append(s.earlier, &stretch{SeenRow: row, bits: bits, usedAt: s.use, fresh: true})
	s.dropFilters()
	s.after, s.until = position, max(s.until, s.newest)
	s.window.clear()
	s.oldest, s.newest = math.MaxInt64, math.MinInt64
	row.Filter = base64.RawStdEncoding.EncodeToString(bits)
	return row, true
}

// idSet is a set of ids, which are random numbers already.
type idSet struct {
	slots []ledger.ScanID // as many as a power of two; zero = free
	n     int
	zero  bool // has the zero id
}

func (s *idSet) at(id *ledger.ScanID) int {
	h := (binary.LittleEndian.Uint64(id[8:]) ^ binary.LittleEndian.Uint64(id[:8])) * 0x9E3779B97F4A7C15
	mask := len(s.slots) - 1
	i := int(h>>20) & mask
	for s.slots[i] != (ledger.ScanID{}) && s.slots[i] != *id {
		i = (i + 1) & mask
	}
	return i
}

func (s *idSet) has(id ledger.ScanID) bool {
	if id == (ledger.ScanID{}) || s.n == 0 {
		return id == ledger.ScanID{} && s.zero
	}
	return s.slots[s.at(&id)] == id
}

func (s *idSet) add(id ledger.ScanID) {
	if id == (ledger.ScanID{}) {
		if !s.zero {
			s.zero, s.n = true, s.n+1
		}
		if s.slots == nil {
			s.slots = make([]ledger.ScanID, 1024)
		}
		return
	}
	if 4*(s.n+1) > 3*len(s.slots) {
		old := s.slots
		s.slots = make([]ledger.ScanID, max(1024, 2*len(old)))
		for i := range old {
			if old[i] != (ledger.ScanID{}) {
				s.slots[s.at(&old[i])] = old[i]
			}
		}
	}
	if at := &s.slots[s.at(&id)]; *at != id {
		*at = id
		s.n++
	}
}

func (s *idSet) each(visit func(ledger.ScanID)) {
	if s.zero {
		visit(ledger.ScanID{})
	}
	for _, id := range s.slots {
		if id != (ledger.ScanID{}) {
			visit(id)
		}
	}
}

func (s *idSet) clear() {
	clear(s.slots)
	s.n, s.zero = 0, false
}

func compareIDs(a, b ledger.ScanID) int { return slices.Compare(a[:], b[:]) }

// fetch makes sure that a stretch's filter is in memory.
func (s *seen) fetch(ctx context.Context, one *stretch) error {
	s.use++
	one.usedAt = s.use
	if one.bits != nil {
		return nil
	}
	text, err := s.filterOf(ctx, one.After)
	if err != nil {
		return fmt.Errorf("reading the filter of the scans after position %d: %w", one.After, err)
	}
	if one.bits, err = base64.RawStdEncoding.DecodeString(text); err != nil || len(one.bits) == 0 {
		return errors.Join(fmt.Errorf("the filter of the scans after position %d cannot be read", one.After), err)
	}
	s.dropFilters()
	return nil
}

func (s *seen) dropFilters() {
	s.drop(maxFilters, func(t *stretch) bool { return t.bits != nil && !t.fresh }, func(t *stretch) { t.bits = nil })
}

// stored takes in that the rows of all stretches are in the store.
func (s *seen) stored() {
	for _, one := range slices.Backward(s.earlier) {
		if !one.fresh {
			break
		}
		one.fresh = false
	}
}

// fetchIDs makes sure that a stretch's ids are in memory.
func (s *seen) fetchIDs(ctx context.Context, one *stretch) error {
	if one.ids != nil {
		return nil
	}
	ids := make([]ledger.ScanID, 0, s.stretch)
	for e, err := range s.log.Read(ctx, one.After) {
		if err != nil {
			return fmt.Errorf("reading the scans after position %d again: %w", one.After, err)
		}
		if e.Position > one.Position {
			break
		}
		ids = append(ids, e.ID)
	}
	slices.SortFunc(ids, compareIDs)
	one.ids = ids
	s.drop(maxIDLists, func(t *stretch) bool { return t.ids != nil }, func(t *stretch) { t.ids = nil })
	return nil
}

// drop gives up what was used longest ago while there is more than most.
func (s *seen) drop(most int, held func(*stretch) bool, release func(*stretch)) {
	var all []*stretch
	for _, one := range s.earlier {
		if held(one) {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b *stretch) int { return int(a.usedAt - b.usedAt) })
	for _, one := range all[:max(0, len(all)-most)] {
		release(one)
	}
}

// probes are the bits of an id in a filter.
func probes(bits []byte, id ledger.ScanID, visit func(at uint64) bool) bool {
	n := uint64(len(bits)) * 8
	a := xxhash.Sum64(id[:])
	b := a>>32 | a<<32 | 1
	for i := range uint64(filterProbes) {
		if !visit((a + i*b) % n) {
			return false
		}
	}
	return true
}

func enter(bits []byte, id ledger.ScanID) {
	probes(bits, id, func(at uint64) bool {
		bits[at/8] |= 1 << (at % 8)
		return true
	})
}

func maybe(bits []byte, id ledger.ScanID) bool {
	return probes(bits, id, func(at uint64) bool { return bits[at/8]&(1<<(at%8)) != 0 })
}
